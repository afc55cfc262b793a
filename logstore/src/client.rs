//! [`LogClient`]: the log service as compute and page servers see it, in process or over gRPC.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use storage::{BranchId, Epoch, Lsn};

use crate::filter::{Pieces, StreamFilter, unfiltered};

/// The right to write, and where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochGrant {
    /// Ours until somebody acquires a higher one.
    pub epoch: Epoch,
    /// End of the stream; the first append starts here.
    pub end_lsn: Lsn,
}

/// State of a branch's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchStatus {
    /// Highest epoch granted; zero before the first.
    pub epoch: Epoch,
    /// First LSN that can still be read.
    pub first_lsn: Lsn,
    /// End of what a majority has on disk.
    pub durable_lsn: Lsn,
    /// Who consumes the stream, by name, and below which LSN each holds everything elsewhere: see
    /// [`LogClient::report_consumer`].
    pub consumers: Vec<(String, Lsn)>,
}

/// A contiguous piece of a branch's log: one appended group, as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// LSN of the first byte.
    pub start_lsn: Lsn,
    /// The epoch it was appended under.
    pub epoch: Epoch,
    /// Whole batches (or parts of one that is continued).
    pub bytes: Bytes,
}

/// Why the log refused or could not answer. Named by what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Stop writing: another epoch owns the branch.
    #[error("epoch {epoch} of branch {branch} was fenced by epoch {current}; the stream ends at {end_lsn}")]
    Fenced { branch: BranchId, epoch: Epoch, current: Epoch, end_lsn: Lsn },
    /// Resend from `end_lsn`. If it lies past the group and the epoch is ours, the group is in.
    #[error("append at {start_lsn} to branch {branch}, whose stream ends at {end_lsn}")]
    Gap { branch: BranchId, start_lsn: Lsn, end_lsn: Lsn },
    /// Read from `first_lsn`, or rebuild from pages: what was asked for is no longer in the log.
    #[error("log of branch {branch} before {first_lsn} has been trimmed; {asked} was asked for")]
    Trimmed { branch: BranchId, asked: Lsn, first_lsn: Lsn },
    /// Send smaller pieces.
    #[error("append of {bytes} bytes to branch {branch} exceeds the limit of {limit_bytes} bytes")]
    TooLarge { branch: BranchId, bytes: usize, limit_bytes: usize },
    /// Ask the leader; nothing was done. Only between nodes and their clients: [`crate::grpc::RemoteLog`] follows it.
    #[error("this log node does not lead; leader: {}", leader.as_deref().unwrap_or("none is known"))]
    NotLeader {
        /// Where the leader listens, as far as the node knows.
        leader: Option<String>,
    },
    /// Wait and retry, possibly at another node; the outcome of an append is not known.
    #[error("log service unavailable: {reason}")]
    Unavailable { reason: String },
    /// The log's disk is full; nothing was written.
    #[error("log service has no room: {reason}")]
    NoSpace { reason: String },
    /// Tell the operator: bytes of the log do not match their checksum. Names the file and the offset.
    #[error("log is damaged: {reason}")]
    Corrupt { reason: String },
    /// A defect of the caller: the request makes no sense or exceeds a limit.
    #[error("invalid request to the log service: {reason}")]
    Invalid { reason: String },
}

/// A value of the metadata map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataValue {
    /// Grows with every change of any key; never used twice.
    pub version: u64,
    /// The value.
    pub bytes: Bytes,
}

/// Answer of [`MetadataClient::compare_and_swap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOutcome {
    /// Done; the key now has this version (`None`: it was removed).
    Swapped { version: Option<u64> },
    /// Not done; this is what the key holds.
    Conflict { current: Option<MetadataValue> },
}

/// What the keys with a prefix held at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataSnapshot {
    /// Position in the order of all changes.
    pub index: u64,
    /// The keys in order.
    pub values: Vec<(String, MetadataValue)>,
}

/// A small replicated map with compare-and-swap: the store of the control plane. Reads are linearizable.
#[async_trait]
pub trait MetadataClient: Send + Sync {
    /// A key's value.
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError>;

    /// All keys that begin with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError>;

    /// The keys with `prefix`, now and whenever they change, without end. States never go back, but quick changes may be
    /// seen as one, and a state may be older than what [`MetadataClient::get`] shows.
    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError>;

    /// Sets (or with `None` removes) a key if its version is `expected`; `None` expects that it is absent. After
    /// [`LogError::Unavailable`] the outcome is unknown: read the key again.
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError>;
}

/// The log service. Implementations are cheap to share behind an `Arc`.
#[async_trait]
pub trait LogClient: Send + Sync {
    /// Takes the next epoch of a branch (created on first use) and fences all earlier writers.
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError>;

    /// Appends one group. Resolves with the new durable end once a majority has it on disk. Calls may be
    /// pipelined: several may be outstanding, in order of their `start_lsn`.
    async fn append(&self, branch: BranchId, epoch: Epoch, start_lsn: Lsn, bytes: Bytes) -> Result<Lsn, LogError>;

    /// Committed chunks from `from_lsn` (a group's boundary or inside one: the first chunk may begin earlier),
    /// then new ones as they become durable, without end. Bounded buffering: a slow reader slows only itself.
    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError>;

    /// The same for a reader that wants only some of it: where it costs something to send the rest, it is left out. What comes
    /// says of each piece whether it is whole. `from_lsn` is where a batch, or a part of one, begins.
    async fn subscribe_filtered(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
        filter: &StreamFilter,
    ) -> Result<Pieces, LogError> {
        let _ = filter;
        self.subscribe(branch, from_lsn).await.map(unfiltered)
    }

    /// State of a branch; zeros for one that was never written.
    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError>;

    /// Tells that `consumer` (a shard, the archiver, …) holds everything below `durable_lsn` elsewhere. The
    /// log may be trimmed below the minimum over all consumers; a branch without consumers is never trimmed.
    /// [`Lsn::MAX`] forgets the consumer.
    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError>;
}
