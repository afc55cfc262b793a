//! The archive: the committed streams as objects, so that the log's disks need to hold only what is young.
//!
//! ```text
//!   leader ── archiver ──► log/<archive>/<branch>/<stretch>/<start>   pieces, each written once
//!      │           └─────► metadata map: from where to where the archive of a branch reaches
//!      │           └─────► consumer "archive": the log is trimmed below what the archive and all other consumers hold
//!   any node ── subscription below its own log ──► pieces
//! ```
//!
//! A piece holds whole groups of one branch and is named by where it starts; the next one starts where it ends. So the
//! pieces of a branch are a chain that is found without LIST, which is only a short cut. Pieces are created by
//! conditional PUT and never changed. Whoever archives makes them of committed groups only; so of two nodes that both
//! believe to lead, each can only add what is true, and the second to create a link takes over the first one's.
//!
//! Order, for each piece: object durable → range in the metadata map (compare and swap) → report as consumer. The log is
//! trimmed by that report alone, so a crash anywhere between leaves more in the log than is needed, never less.
//!
//! Absent: a lease. Raft's leader archives; correctness does not rest on there being one.

mod archiver;
mod piece;
mod range;
mod reader;
mod retention;

use std::time::Duration;

use storage::object::ObjectStore;
use storage::{BranchId, Lsn};

use crate::client::{LogClient, LogError, MetadataClient};

pub use archiver::Archiver;
pub use piece::{MAX_PIECE_BYTES, Piece, PieceError};
pub(crate) use range::archived_range;
pub use range::{ArchiveId, ArchivedRange, archived_ranges};
pub(crate) use reader::ArchiveReader;

/// The archive's name among the consumers of a branch.
pub const ARCHIVE_CONSUMER: &str = "archive";
/// Metadata key that exists while the log is archived: names the archive.
pub const ARCHIVE_KEY: &str = "log/archive";
/// Where in the metadata map it stands how far the archive of each branch reaches.
pub const RANGE_PREFIX: &str = "log/archive/";

/// Log bytes of a piece: it is closed once it holds this much.
const PIECE_BYTES: usize = 8 << 20;
/// Pieces are grouped in folders by this many bytes of the stream, which bounds what one LIST gives.
const STRETCH_BITS: u32 = 30;

/// Settings of the archive.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// Where the objects are. What it acknowledges is durable.
    pub store: ObjectStore,
    /// Names the archive if it is this node that begins it: drawn at random by the caller, since no two logs may share
    /// one.
    pub new_id: u64,
    /// What drops out of the archive: pieces that lie further behind the end than this and that no consumer needs.
    /// `None` keeps everything.
    pub retention_bytes: Option<u64>,
    /// Below this key conditional PUT is tried out before anything is archived. `None` for a store that is known to honour
    /// it.
    pub probe_key: Option<String>,
    /// Between two looks at whether there is something to archive.
    pub pause: Duration,
    /// Longest pause while the object store does not answer.
    pub longest_pause: Duration,
    /// A piece is closed once it holds this much.
    pub piece_bytes: usize,
}

impl ArchiveConfig {
    /// An archive in `store` that keeps everything.
    pub fn new(store: ObjectStore, new_id: u64) -> ArchiveConfig {
        ArchiveConfig {
            store,
            new_id,
            retention_bytes: None,
            probe_key: None,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            piece_bytes: PIECE_BYTES,
        }
    }
}

/// Metadata key of a branch's range.
pub(crate) fn range_key(branch: BranchId) -> String {
    format!("{RANGE_PREFIX}{:016x}", branch.0)
}

/// The object that proves that a store holds this archive.
fn identity_key(archive: ArchiveId) -> String {
    format!("log/{archive}/identity")
}

fn branch_folder(archive: ArchiveId, branch: BranchId) -> String {
    format!("log/{archive}/{branch}")
}

fn stretch_folder(archive: ArchiveId, branch: BranchId, stretch: u64) -> String {
    format!("log/{archive}/{branch}/{stretch:09x}")
}

fn piece_key(archive: ArchiveId, branch: BranchId, start_lsn: Lsn) -> String {
    format!("{}/{:016x}", stretch_folder(archive, branch, start_lsn.0 >> STRETCH_BITS), start_lsn.0)
}

/// Start of the piece that an object is, by its key.
fn parse_piece_key(key: &str) -> Option<Lsn> {
    let (_, name) = key.rsplit_once('/')?;
    if name.len() != 16 {
        return None;
    }
    u64::from_str_radix(name, 16).ok().map(Lsn)
}

/// Gives the archive up: the log is trimmed without it from now on. No node may archive any more, or it begins a new one.
/// The objects stay.
pub async fn give_up(log: &dyn LogClient, metadata: &dyn MetadataClient) -> Result<(), LogError> {
    // The ranges last: a repetition finds them again. `ARCHIVE_KEY` is a prefix of all keys.
    if let Some(noted) = metadata.get(ARCHIVE_KEY).await? {
        metadata.compare_and_swap(ARCHIVE_KEY, Some(noted.version), None).await?;
    }
    for found in archived_ranges(&metadata.list(RANGE_PREFIX).await?) {
        let (branch, _, version) = found.map_err(|error| LogError::Corrupt { reason: error.to_string() })?;
        log.report_consumer(branch, ARCHIVE_CONSUMER, Lsn::MAX).await?;
        metadata.compare_and_swap(&range_key(branch), Some(version), None).await?;
    }
    Ok(())
}
