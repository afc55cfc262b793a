//! Joins what the tiers say into one status.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compute::Compute;
use control::status::{ClusterStatus, ComputeStatus, LimitStatus, LogStatus, PageServerStatus, StatusSource};
use logstore::client::LogClient;
use pageserver::client::PageClient;
use sql::store::LogLimit;
use storage::{BranchId, Lsn};
use tokio::time::timeout;

/// A tier that has not answered by then is left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A page server this far behind makes reads of new pages wait: say so.
const LAG_WORTH_SAYING_BYTES: u64 = 256 << 20;

/// What a process runs or talks to.
pub struct Tiers {
    /// The branch to tell about.
    pub branch: BranchId,
    pub compute: Option<Arc<Compute>>,
    pub log: Option<Arc<dyn LogClient>>,
    pub pages: Option<Arc<dyn PageClient>>,
    /// What is wrong with the page server that runs in this process, by its own account.
    pub page_problems: Option<Box<dyn Fn() -> Vec<String> + Send + Sync>>,
}

#[async_trait]
impl StatusSource for Tiers {
    async fn status(&self) -> ClusterStatus {
        let branch = self.branch;
        let (mut problems, mut remarks) = (Vec::new(), Vec::new());
        let positions = self.compute.as_ref().map(|compute| compute.positions());
        let log = async { Some(settle(timeout(ANSWER_WITHIN, self.log.as_ref()?.status(branch)).await)) };
        let pages = async { Some(settle(timeout(ANSWER_WITHIN, self.pages.as_ref()?.status(branch)).await)) };
        let (log, pages) = tokio::join!(log, pages);
        let mut take = |who: &str, reason: String| problems.push(format!("{who} does not answer: {reason}"));
        let log = log.and_then(|log| log.map_err(|reason| take("the log service", reason)).ok());
        let pages = pages.and_then(|pages| pages.map_err(|reason| take("the page server", reason)).ok());
        if let Some(reason) = self.compute.as_ref().and_then(|compute| compute.failure()) {
            problems.push(format!("the compute does not write any more: {reason}"));
        }
        problems.extend(self.page_problems.iter().flat_map(|told| told()));
        let limits = self.compute.as_ref().map(|compute| compute.log_limits()).unwrap_or_default();
        for limit in &limits {
            remarks.push(format!(
                "writers are slowed by {}: {} bytes of {}",
                limit.component, limit.lag_bytes, limit.reason
            ));
        }
        let log_end = log.as_ref().map(|log| log.durable_lsn).or(positions.map(|(_, _, durable)| durable));
        let page_server = pages.map(|pages| PageServerStatus {
            ingested_lsn: pages.ingested_lsn.to_string(),
            durable_lsn: pages.durable_lsn.to_string(),
            horizon_lsn: pages.horizon_lsn.to_string(),
            ingest_lag_bytes: log_end.map_or(0, |end| bytes_between(pages.ingested_lsn, end)),
            flush_lag_bytes: bytes_between(pages.durable_lsn, pages.ingested_lsn),
            layers: pages.layers,
        });
        if let Some(pages) = page_server.as_ref().filter(|pages| pages.ingest_lag_bytes > LAG_WORTH_SAYING_BYTES) {
            remarks.push(format!("the page server is {} bytes behind the log", pages.ingest_lag_bytes));
        }
        if let Some(pages) = page_server.as_ref().filter(|pages| pages.flush_lag_bytes > LAG_WORTH_SAYING_BYTES) {
            remarks.push(format!("{} bytes of log are not on the object store yet", pages.flush_lag_bytes));
        }
        ClusterStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            healthy: problems.is_empty(),
            reasons: problems.into_iter().chain(remarks).collect(),
            compute: positions.map(|(applied, sealed, durable)| ComputeStatus {
                role: "PRIMARY".to_owned(),
                branch: branch.0,
                applied_lsn: applied.to_string(),
                sealed_lsn: sealed.to_string(),
                durable_lsn: durable.to_string(),
                unconfirmed_bytes: bytes_between(durable, applied),
                limits: limits.iter().map(limit_status).collect(),
            }),
            log: log.map(|log| LogStatus {
                epoch: log.epoch.0,
                first_lsn: log.first_lsn.to_string(),
                durable_lsn: log.durable_lsn.to_string(),
                kept_bytes: bytes_between(log.first_lsn, log.durable_lsn),
            }),
            page_server,
        }
    }
}

fn limit_status(limit: &LogLimit) -> LimitStatus {
    LimitStatus {
        component: limit.component.clone(),
        reason: limit.reason.clone(),
        lag_bytes: limit.lag_bytes,
        limit_bytes: limit.limit_bytes,
        // A microsecond a KiB is a millisecond a MiB, nearly.
        delay_ms_per_mib: (limit.delay_us_per_kib * 1.024) as u64,
    }
}

/// The two are read at different moments, so the later one may come out behind.
fn bytes_between(earlier: Lsn, later: Lsn) -> u64 {
    later.0.saturating_sub(earlier.0)
}

fn settle<T, E: std::fmt::Display>(answer: Result<Result<T, E>, tokio::time::error::Elapsed>) -> Result<T, String> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing came within {} s", ANSWER_WITHIN.as_secs())),
    }
}
