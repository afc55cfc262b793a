//! [`PageClient`]: page servers as compute sees them, in process or over gRPC.

use async_trait::async_trait;
use bytes::Bytes;
use storage::{BranchId, Lsn, PageNo, ShardId};

use crate::scrub::ScrubReport;

/// How urgent a request is. A page server that has much to do answers the urgent first, and turns the others away sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A statement waits for it.
    #[default]
    Foreground,
    /// A statement will probably want it soon.
    Prefetch,
    /// Nobody is in a hurry: checks and copies.
    Background,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Priority; 3] = [Priority::Foreground, Priority::Prefetch, Priority::Background];

    /// Its place in [`Priority::ALL`].
    pub fn index(self) -> usize {
        match self {
            Priority::Foreground => 0,
            Priority::Prefetch => 1,
            Priority::Background => 2,
        }
    }

    /// As metrics and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Foreground => "foreground",
            Priority::Prefetch => "prefetch",
            Priority::Background => "background",
        }
    }
}

/// Asks for a page as of an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetPage {
    /// The page.
    pub page: PageNo,
    /// The page as of this LSN: every record with a batch end at or below it, none above.
    pub at: Lsn,
    /// The page is known to have no record in `(not_modified_since, at]`: the server need not wait for that
    /// log. Equal to `at` when nothing is known.
    pub not_modified_since: Lsn,
    /// How urgent it is.
    pub priority: Priority,
}

/// A page's bytes and the interval for which they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageImage {
    /// [`storage`]'s page, CRC filled in and checked by the receiver.
    pub bytes: Bytes,
    /// LSN of its last record.
    pub page_lsn: Lsn,
}

/// Why a page was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Never written as of that LSN.
    #[error("page {page} does not exist as of {at}")]
    NotFound { page: PageNo, at: Lsn },
    /// History below `horizon` has been dropped.
    #[error("page {page} as of {at} was asked for, but history before {horizon} is no longer kept")]
    BelowHorizon { page: PageNo, at: Lsn, horizon: Lsn },
    /// The log has not reached the server in time. Retry.
    #[error("page {page} as of {at}: the page server has reached {reached} only")]
    Behind { page: PageNo, at: Lsn, reached: Lsn },
    /// XX001. Stored bytes fail their checksum or cannot be replayed.
    #[error("page {page} is damaged: {reason}")]
    Damaged { page: PageNo, reason: String },
    /// Look up who serves the shard, and ask there.
    #[error("shard {shard} of branch {branch} is not served here")]
    NotServed { branch: BranchId, shard: ShardId },
    /// Retry, here or elsewhere.
    #[error("page server unavailable: {reason}")]
    Unavailable { reason: String },
    /// Retry after a pause: the server has more requests than it takes on. Elsewhere is no better, the shard is served here.
    #[error("page server overloaded: {reason}")]
    Overloaded { reason: String },
}

impl PageError {
    /// Whether asking again, after a pause, may be answered.
    pub fn is_transient(&self) -> bool {
        match self {
            PageError::Behind { .. }
            | PageError::NotServed { .. }
            | PageError::Unavailable { .. }
            | PageError::Overloaded { .. } => true,
            PageError::NotFound { .. } | PageError::BelowHorizon { .. } | PageError::Damaged { .. } => false,
        }
    }
}

/// Where a branch's pages have got to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageServerStatus {
    /// Log received and applied to memory.
    pub ingested_lsn: Lsn,
    /// Everything below is in layers named by the manifest.
    pub durable_lsn: Lsn,
    /// Oldest LSN that can be read.
    pub horizon_lsn: Lsn,
    /// Layers in the manifest.
    pub layers: u64,
}

impl PageServerStatus {
    /// Of this one's shards and another's together.
    #[must_use]
    pub fn beside(self, other: PageServerStatus) -> PageServerStatus {
        PageServerStatus {
            ingested_lsn: self.ingested_lsn.min(other.ingested_lsn),
            durable_lsn: self.durable_lsn.min(other.durable_lsn),
            horizon_lsn: self.horizon_lsn.max(other.horizon_lsn),
            layers: self.layers + other.layers,
        }
    }
}

/// Page servers of a branch.
#[async_trait]
pub trait PageClient: Send + Sync {
    /// Answers every request, in order, each with its own status.
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>>;
    /// Progress.
    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError>;
    /// Checks a whole shard, reading at most so many bytes a second.
    async fn scrub(&self, branch: BranchId, shard: ShardId, _pace: u64) -> Result<ScrubReport, PageError> {
        Err(PageError::NotServed { branch, shard })
    }
    /// The last commit that is known to have been made at or before a time (microseconds since 1970 UTC), to within about
    /// half a second; `None` when history does not reach back so far. Commits that the server has not read yet are not
    /// known to it: [`crate::cluster::branches::find_time`] takes care of that.
    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        let reason = format!("the commit of branch {branch} at {time_us} µs is not known here");
        Err(PageError::Unavailable { reason })
    }
}
