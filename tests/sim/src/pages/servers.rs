//! Page servers: started, ended and started again, each with the page server's own host and agent; and how they are reached.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use pageserver::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use pageserver::cluster::agent::{Agent, Identity};
use pageserver::cluster::descendants::RegisteredDescendants;
use pageserver::cluster::directory::Directory;
use pageserver::compaction::{CompactionSettings, Retention};
use pageserver::{PageHost, PageServerConfig};
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::Plane;
use super::log::SimLog;
use super::process::Process;
use crate::world::MAIN;

/// How long history is kept where clocks jump.
const RETENTION_US: u64 = 2_000_000;

/// A server whose process runs.
pub struct Server {
    pub process: Arc<Process>,
    pub host: Arc<PageHost>,
    pub stop: watch::Sender<bool>,
}

impl Plane {
    /// A server that was not there before.
    pub fn add_server(self: &Arc<Plane>) {
        let id = self.next_server.fetch_add(1, Ordering::Relaxed);
        self.sim.with(|world| world.others.push(id));
        tokio::spawn(supervise(self.clone(), id));
    }

    fn config(
        &self,
        process: &Arc<Process>,
        directory: &Directory,
        cache: Option<&tempfile::TempDir>,
    ) -> PageServerConfig {
        let store = self.store.client(process);
        let clock = self.clock(process.id);
        self.sim.with(|world| {
            let options = world.options.pages.as_ref().expect("there are page servers");
            let cache_bytes = if options.caches { 256 << 20 } else { 0 };
            let defaults = PageServerConfig::new(MAIN, 64 << 20);
            PageServerConfig {
                cache_dir: cache.map(|directory| directory.path().to_owned()),
                cache_disk_bytes: 1 << 30,
                buffer_bytes: options.buffer_bytes,
                frozen_bytes: options.buffer_bytes * 2,
                buffer_age: Duration::from_millis(options.buffer_age_ms),
                page_cache_bytes: cache_bytes,
                block_cache_bytes: cache_bytes,
                wait_timeout: Duration::from_secs(3),
                retry_pause: Duration::from_millis(200),
                clock,
                scrub_pause: Duration::from_millis(world.random.between(1_000, 20_000)),
                compaction: CompactionSettings {
                    hot_page_records: 24,
                    image_job_bytes: options.layer_target_bytes * 3,
                    layer_target_bytes: options.layer_target_bytes,
                    retention: Retention {
                        bytes: options.retention_bytes,
                        time_us: if options.clock_jumps() { RETENTION_US } else { 0 },
                    },
                    ..defaults.compaction
                },
                descendants: Some(Arc::new(RegisteredDescendants::new(directory.clone(), store))),
                ..defaults
            }
        })
    }

    /// Starts a server's process.
    fn start_server(&self, id: u64, cache: Option<&tempfile::TempDir>) -> Arc<Process> {
        let process = Process::new(&self.sim, id);
        let log = SimLog::new(process.clone());
        let directory = Directory::new(log.clone());
        let config = self.config(&process, &directory, cache);
        let host = Arc::new(PageHost::new(config, self.store.client(&process), log));
        let (incarnation, layout) = self.sim.with(|world| {
            let options = world.options.pages.as_ref().expect("there are page servers");
            let layout = ShardLayout::new(options.shards, options.stripe_pages).expect("within the limits");
            (Uuid::from_u64_pair(world.random.next_u64(), world.random.next_u64()), layout)
        });
        let identity = Identity { id: format!("server-{id}"), address: id.to_string(), incarnation };
        let agent = Agent::new(identity, directory, host.clone());
        let (stop, stopped) = watch::channel(false);
        let running = process.clone();
        process.spawn(async move {
            let outcome = agent.run(layout, stopped).await;
            assert!(outcome.is_ok(), "nobody else has the server's name: {outcome:?}");
            running.end();
        });
        self.sim.note("server starts", &[id]);
        self.servers.lock().insert(id, Server { process: process.clone(), host, stop });
        process
    }
}

/// Starts a server whenever it has ended.
async fn supervise(plane: Arc<Plane>, id: u64) {
    let sim = plane.sim.clone();
    let has_cache = sim.with(|world| world.options.pages.as_ref().is_some_and(|pages| pages.cache_directory));
    let new_cache = || tempfile::tempdir().expect("a temporary directory can be made");
    let mut cache = has_cache.then(new_cache);
    loop {
        let pause = sim.random(|random| random.between(20, 1_500));
        sim.sleep(pause).await;
        let process = plane.start_server(id, cache.as_ref());
        // Also while it starts: a second crash before the first is repaired.
        let (points, again) = sim.with(|world| {
            let crashes = world.faulty && world.options.pages.as_ref().is_some_and(|pages| pages.crash_points);
            (world.random.between(1, 12), crashes && world.random.percent(25))
        });
        if again {
            process.crash_in(points);
        }
        process.ended().await;
        let gone = plane.servers.lock().remove(&id);
        drop(gone);
        sim.note("server ended", &[id]);
        let loses = sim.with(|world| world.options.pages.as_ref().is_some_and(|pages| pages.lost_directories));
        if has_cache && loses && sim.random(|random| random.percent(50)) {
            cache = Some(new_cache());
        }
    }
}

/// A client of the server at an address, in a process.
pub fn connect(plane: Weak<Plane>, from: Arc<Process>, address: &str) -> Arc<dyn PageClient> {
    let id = address.parse().expect("addresses here are numbers");
    Arc::new(Reached { plane, from, id })
}

/// Reaches one server over the network.
pub struct Reached {
    plane: Weak<Plane>,
    /// Who asks.
    from: Arc<Process>,
    id: u64,
}

fn unavailable(reason: &str) -> PageError {
    PageError::Unavailable { reason: reason.to_owned() }
}

impl Reached {
    async fn call<T: Send + 'static, A: Future<Output = T> + Send + 'static>(
        &self,
        call: impl FnOnce(Arc<PageHost>) -> A + Send,
    ) -> Result<T, PageError> {
        let plane = self.plane.upgrade().ok_or_else(|| unavailable("the end"))?;
        self.from.gate().await;
        let sim = plane.sim.clone();
        let way = |from, to| {
            sim.with(|world| {
                let lost = !world.links.carry(from, to) || world.random.percent(world.options.loss);
                (!lost).then(|| world.delay())
            })
        };
        let Some(there_ms) = way(self.from.id, self.id) else {
            sim.sleep(1_000).await;
            return Err(unavailable("the request was lost"));
        };
        sim.sleep(there_ms).await;
        let (reply, answer) = oneshot::channel();
        let handled = {
            let servers = plane.servers.lock();
            servers.get(&self.id).filter(|server| server.process.is_alive()).map(|server| {
                let process = server.process.clone();
                let answering = call(server.host.clone());
                server.process.spawn(async move {
                    process.gate().await;
                    let done = answering.await;
                    process.gate().await;
                    // The caller may have gone.
                    let _ = reply.send(done);
                });
            })
        };
        handled.ok_or_else(|| unavailable("the server does not run"))?;
        let done = answer.await.map_err(|_| unavailable("the server has ended"))?;
        let Some(back_ms) = way(self.id, self.from.id) else {
            sim.sleep(1_000).await;
            return Err(unavailable("the answer was lost"));
        };
        sim.sleep(back_ms).await;
        self.from.gate().await;
        Ok(done)
    }
}

#[async_trait]
impl PageClient for Reached {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        let wanted = requests.to_vec();
        let answers = self.call(|host| async move { host.get_pages(branch, &wanted).await }).await;
        answers.unwrap_or_else(|error| vec![Err(error); requests.len()])
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        self.call(|host| async move { host.lsn_at(branch, time_us).await }).await?
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.call(|host| async move { host.status(branch).await }).await?
    }
}
