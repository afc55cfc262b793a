//! What drops out of the archive: pieces behind the retention that no consumer of the branch needs.
//!
//! The range is shortened before anything is deleted. So a reader that meets a gap finds that the archive begins later
//! now, and what a crash leaves behind is deleted with the next pieces.

use storage::object::ObjectStore;
use storage::{BranchId, Lsn};

use super::archiver::Trouble;
use super::{ARCHIVE_CONSUMER, ArchivedRange, branch_folder, parse_piece_key};
use crate::local::LocalClient;
use crate::node::Read;

/// Listing is worth it when this share of the retention could go.
const SLACK: u64 = 8;

/// Where the archive of a branch may begin; `None` if nothing, or too little to be worth it, may go.
pub(super) async fn drop_pieces(
    store: &ObjectStore,
    log: &LocalClient,
    branch: BranchId,
    range: ArchivedRange,
    retention_bytes: u64,
) -> Result<Option<Lsn>, Trouble> {
    let horizon = range.end.0.saturating_sub(retention_bytes);
    if horizon.saturating_sub(range.begin.0) <= retention_bytes / SLACK {
        return Ok(None);
    }
    let consumers = log.read(|reply| Read::Consumers(branch, reply)).await?;
    let needed = consumers.iter().filter(|(name, _)| name.as_str() != ARCHIVE_CONSUMER).map(|(_, position)| position.0);
    // Without a consumer nobody has said what is not needed.
    let Some(needed) = needed.min() else { return Ok(None) };
    let until = Lsn(horizon.min(needed));
    let starts = listed(store, branch, &range).await?;
    Ok(starts.into_iter().map(|(start, _)| start).filter(|start| *start > range.begin && *start <= until).max())
}

/// Deletes the pieces that lie before the range.
pub(super) async fn delete_before(store: &ObjectStore, branch: BranchId, range: &ArchivedRange) -> Result<(), Trouble> {
    for (start, key) in listed(store, branch, range).await? {
        if start < range.begin {
            store.delete(&key).await?;
        }
    }
    Ok(())
}

async fn listed(store: &ObjectStore, branch: BranchId, range: &ArchivedRange) -> Result<Vec<(Lsn, String)>, Trouble> {
    let keys = store.list(&branch_folder(range.archive, branch)).await?;
    Ok(keys.into_iter().filter_map(|key| Some((parse_piece_key(&key)?, key))).collect())
}
