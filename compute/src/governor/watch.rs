//! The task that asks the components where they are. It asks the log too, and so finds out that another compute has taken
//! the next epoch, also when nobody writes here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use logstore::archive::ARCHIVE_CONSUMER;
use logstore::client::LogClient;
use metrics::gauge;
use pageserver::client::{PageClient, PageServerStatus};
use sql::store::LogLimit;
use storage::page::PAGE_SIZE_BYTES;
use storage::{BranchId, Epoch, Lsn};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::GovernorConfig;
use super::control::Component;
use crate::engine::Engine;

/// How often, while anybody is behind.
const PERIOD: Duration = Duration::from_millis(100);
/// How often, while nobody is: short against the time in which a lag grows to a quarter of its limit.
const IDLE_PERIOD: Duration = Duration::from_millis(300);
/// Who has not answered by then is taken to be where it was.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Silence that is worth telling.
const SILENCE: Duration = Duration::from_secs(3);
/// Memory for page versions that cannot be dropped yet, in percent of the cache.
const UNDROPPABLE_PERCENT: u64 = 75;

/// The task; ends when dropped.
pub(crate) struct Watch {
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One component with its name and what is wrong when it lags.
struct Named {
    name: &'static str,
    reason: &'static str,
    /// Label of its metrics.
    label: &'static str,
    component: Component,
}

struct Observer {
    log: Arc<dyn LogClient>,
    pages: Arc<dyn PageClient>,
    branch: BranchId,
    epoch: Epoch,
    /// Another compute writes the branch.
    is_fenced: bool,
    began: Instant,
    ingest: Named,
    flush: Named,
    archive: Named,
    undroppable: Named,
    /// Of the log itself: how fast it grows.
    head: Component,
    /// What page servers said last; where this compute began before they said anything.
    reached: PageServerStatus,
    pages_answered: Instant,
    /// Where the archiver is; `None`: there is none.
    archived: Option<Lsn>,
}

impl Watch {
    pub(crate) fn start(
        engine: &Arc<Engine>,
        epoch: Epoch,
        log: Arc<dyn LogClient>,
        pages: Arc<dyn PageClient>,
    ) -> Self {
        let mut observer = Observer::new(engine, epoch, log, pages);
        let weak: Weak<Engine> = Arc::downgrade(engine);
        let task = tokio::spawn(async move {
            loop {
                observer.ask().await;
                let pause = {
                    let Some(engine) = weak.upgrade() else { return };
                    if observer.is_fenced {
                        return engine.shipper.fenced();
                    }
                    if observer.decide(&engine) { PERIOD } else { IDLE_PERIOD }
                };
                tokio::time::sleep(pause).await;
            }
        });
        Self { task }
    }
}

impl Observer {
    fn new(engine: &Engine, epoch: Epoch, log: Arc<dyn LogClient>, pages: Arc<dyn PageClient>) -> Self {
        let GovernorConfig { ingest_lag_bytes, flush_lag_bytes, archive_lag_bytes } = engine.config.governor;
        let cache_bytes = u64::from(engine.cache.capacity_pages()) * PAGE_SIZE_BYTES as u64;
        let undroppable_bytes = cache_bytes * UNDROPPABLE_PERCENT / 100;
        let named = |name, reason, label, limit_bytes, readers_wait| Named {
            name,
            reason,
            label,
            component: Component::new(limit_bytes, readers_wait),
        };
        let opened_at = engine.positions.durable();
        let now = Instant::now();
        Self {
            log,
            pages,
            branch: engine.config.branch,
            epoch,
            is_fenced: false,
            began: now,
            ingest: named("page servers", "log that they have not read yet", "ingest", ingest_lag_bytes, true),
            flush: named(
                "page servers",
                "log that is not in layers on the object store yet",
                "flush",
                flush_lag_bytes,
                false,
            ),
            archive: named("archiver", "log that it has not archived yet", "archive", archive_lag_bytes, false),
            undroppable: named(
                "log",
                "pages in memory whose changes it has not confirmed yet",
                "undroppable",
                undroppable_bytes,
                false,
            ),
            head: Component::new(0, false),
            reached: PageServerStatus { ingested_lsn: opened_at, durable_lsn: opened_at, ..Default::default() },
            pages_answered: now,
            archived: None,
        }
    }

    async fn ask(&mut self) {
        let pages = timeout(ANSWER_WITHIN, self.pages.status(self.branch));
        let log = timeout(ANSWER_WITHIN, self.log.status(self.branch));
        let (pages, log) = tokio::join!(pages, log);
        // Who does not answer has come no further as far as anybody knows; the status page tells why.
        if let Ok(Ok(reached)) = pages {
            self.reached = reached;
            self.pages_answered = Instant::now();
        }
        if let Ok(Ok(status)) = log {
            self.is_fenced = status.epoch > self.epoch;
            let archive = status.consumers.iter().find(|(name, _)| name == ARCHIVE_CONSUMER);
            self.archived = archive.map(|(_, position)| *position);
        }
    }

    /// Looks at everything and tells the governor; true while somebody is behind.
    fn decide(&mut self, engine: &Engine) -> bool {
        let at = self.began.elapsed();
        let head = engine.positions.durable();
        let page_bytes = PAGE_SIZE_BYTES as u64;
        let (made, droppable) = engine.cache.versions_made();
        self.head.observe(at, head.0, u64::MAX);
        self.ingest.component.observe(at, self.reached.ingested_lsn.0, head.0);
        self.flush.component.observe(at, self.reached.durable_lsn.0, head.0);
        self.archive.component.observe(at, self.archived.unwrap_or(head).0, head.0);
        self.undroppable.component.observe(at, droppable * page_bytes, made * page_bytes);
        let append_bytes_per_second = self.head.drain_bytes_per_second().unwrap_or(0);
        let silent = self.pages_answered.elapsed();
        let (mut most_ps, mut limits, mut is_behind) = (0, Vec::new(), false);
        for named in [&self.ingest, &self.flush, &self.archive, &self.undroppable] {
            let component = &named.component;
            let delay_ps = component.delay_ps_per_byte();
            let lag_bytes = component.lag_bytes();
            is_behind |= lag_bytes > component.limit_bytes() / 16;
            most_ps = most_ps.max(delay_ps);
            gauge!("alluvium_governor_lag_bytes", "of" => named.label).set(lag_bytes as f64);
            gauge!("alluvium_governor_limit_bytes", "of" => named.label).set(component.limit_bytes() as f64);
            if delay_ps == 0 {
                continue;
            }
            let quiet = if named.name == self.ingest.name && silent > SILENCE {
                format!("; no answer for {} s", silent.as_secs())
            } else {
                String::new()
            };
            limits.push(LogLimit {
                component: named.name.to_owned(),
                reason: format!("{}{quiet}", named.reason),
                lag_bytes,
                limit_bytes: component.limit_bytes(),
                drain_bytes_per_second: component.drain_bytes_per_second(),
                append_bytes_per_second,
                delay_us_per_kib: delay_ps as f64 * 1024.0 / 1e6,
            });
        }
        engine.governor.decide(most_ps, limits);
        is_behind
    }
}
