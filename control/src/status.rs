//! What the tiers say of themselves. LSNs are given as text, as everywhere, and lags in bytes beside them, so that
//! nobody has to subtract hexadecimal numbers.

use async_trait::async_trait;
use serde::Serialize;

/// Every tier that this process runs or talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Version of the program.
    pub version: String,
    /// True when reads and writes are served.
    pub healthy: bool,
    /// Why it is not, or what will become a problem: one sentence each. Empty when all is well.
    pub reasons: Vec<String>,
    /// The SQL tier; absent in a process that has none.
    pub compute: Option<ComputeStatus>,
    /// The log service; absent when there is none to ask, or it does not answer.
    pub log: Option<LogStatus>,
    /// The page server; absent when there is none to ask, or it does not answer.
    pub page_server: Option<PageServerStatus>,
}

/// A compute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComputeStatus {
    /// `PRIMARY`; replicas will say `READ_POOL`.
    pub role: String,
    /// The branch it serves.
    pub branch: u64,
    /// End of the last commit applied in memory.
    pub applied_lsn: String,
    /// End of the last group handed to the log.
    pub sealed_lsn: String,
    /// End of what the log has confirmed: what new snapshots read.
    pub durable_lsn: String,
    /// Applied and not confirmed, in bytes.
    pub unconfirmed_bytes: u64,
    /// Who is so far behind that writers are slowed. Empty when nobody is.
    pub limits: Vec<LimitStatus>,
}

/// Somebody who follows the log and slows writers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitStatus {
    /// Who.
    pub component: String,
    /// Of what it is behind.
    pub reason: String,
    /// How far, in bytes.
    pub lag_bytes: u64,
    /// How far it should be at most.
    pub limit_bytes: u64,
    /// For how long a writer waits for each MiB that it appends.
    pub delay_ms_per_mib: u64,
}

/// The log of the branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// The highest writer generation granted.
    pub epoch: u64,
    /// First LSN that can still be read.
    pub first_lsn: String,
    /// End of what a majority has on disk.
    pub durable_lsn: String,
    /// Log that is kept, in bytes.
    pub kept_bytes: u64,
}

/// The page server of the branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PageServerStatus {
    /// End of the log that it has read.
    pub ingested_lsn: String,
    /// Everything below is in layers on the object store.
    pub durable_lsn: String,
    /// Oldest LSN that can be read.
    pub horizon_lsn: String,
    /// Durable in the log and not yet read by it, in bytes.
    pub ingest_lag_bytes: u64,
    /// Read and not yet on the object store, in bytes of log.
    pub flush_lag_bytes: u64,
    /// Layers that the manifest names.
    pub layers: u64,
}

/// Whoever can tell how the tiers are. Answers within about a second: a tier that does not answer is left out and named
/// in the reasons.
#[async_trait]
pub trait StatusSource: Send + Sync {
    /// The state now.
    async fn status(&self) -> ClusterStatus;
}
