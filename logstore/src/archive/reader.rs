//! Reading a branch's stream back from the archive, piece by piece.

use storage::object::{ObjectError, ObjectStore};
use storage::{BranchId, Lsn};

use super::{
    ArchiveId, ArchivedRange, Piece, STRETCH_BITS, archived_range, parse_piece_key, piece_key, range_key,
    stretch_folder,
};
use crate::client::{LogChunk, LogError, MetadataClient};
use crate::local::LocalClient;

/// Reads one branch.
pub(crate) struct ArchiveReader {
    store: ObjectStore,
    log: LocalClient,
    branch: BranchId,
    /// A piece starts here: where the last one that was read ends.
    next: Option<Lsn>,
}

impl ArchiveReader {
    pub(crate) fn new(store: ObjectStore, log: LocalClient, branch: BranchId) -> ArchiveReader {
        ArchiveReader { store, log, branch, next: None }
    }

    /// Whether the archive reaches back to `position`.
    pub(crate) async fn check(&self, position: Lsn) -> Result<(), LogError> {
        self.range(position).await.map(|_| ())
    }

    /// The groups of the piece that holds `position`, from the one that holds it on.
    pub(crate) async fn read(&mut self, position: Lsn) -> Result<Vec<LogChunk>, LogError> {
        let (mut range, mut hint) = (self.range(position).await?, self.next);
        let piece = loop {
            match find_piece(&self.store, self.branch, &range, position, hint).await {
                Err(ReadError::Missing(key)) => {
                    // What drops out of the archive is taken off the range before it is deleted.
                    let newest = self.newest_range(position).await?;
                    if newest == range && hint.is_none() {
                        break Err(ReadError::Missing(key));
                    }
                    (range, hint) = (newest, None);
                }
                found => break found,
            }
        };
        let piece = piece.map_err(|error| error.into_log_error(self.branch))?;
        metrics::counter!("alluvium_log_archive_read_pieces_total").increment(1);
        self.next = Some(piece.end_lsn());
        let ends_after = |chunk: &LogChunk| chunk.start_lsn.advance(chunk.bytes.len() as u64) > position;
        Ok(piece.chunks.into_iter().filter(ends_after).collect())
    }

    /// The range, as this node has applied it.
    async fn range(&self, position: Lsn) -> Result<ArchivedRange, LogError> {
        self.reaches(position, self.log.archived(self.branch).await?)
    }

    /// The range as a majority knows it. A node that is behind cannot tell what has dropped out from what is lost: its reader is sent
    /// to the others, of whom the leader can.
    async fn newest_range(&self, position: Lsn) -> Result<ArchivedRange, LogError> {
        let key = range_key(self.branch);
        let found = self.log.get(&key).await.map_err(|error| match error {
            LogError::NotLeader { .. } => LogError::Unavailable {
                reason: "a piece of the log's archive is not there; whether it was dropped, the leader knows"
                    .to_owned(),
            },
            error => error,
        })?;
        let found: Vec<_> = found.into_iter().map(|value| (key.clone(), value)).collect();
        self.reaches(position, archived_range(&found)?)
    }

    /// The range, if it holds `position`.
    fn reaches(&self, position: Lsn, range: Option<ArchivedRange>) -> Result<ArchivedRange, LogError> {
        let branch = self.branch;
        let first_lsn = self.log.first_lsn(branch);
        match range {
            Some(range) if range.begin <= position && position < range.end => Ok(range),
            Some(range) if range.end >= first_lsn && position < range.begin => {
                Err(LogError::Trimmed { branch, asked: position, first_lsn: range.begin.min(first_lsn) })
            }
            _ => Err(LogError::Trimmed { branch, asked: position, first_lsn }),
        }
    }
}

/// Why a piece could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The object is not there.
    Missing(String),
    /// The store does not answer, or not for us.
    Object(ObjectError),
    /// The object is not the piece that it should be.
    Damaged(String),
}

impl ReadError {
    pub(super) fn into_log_error(self, branch: BranchId) -> LogError {
        match self {
            ReadError::Missing(key) => {
                LogError::Corrupt { reason: format!("the archive of branch {branch} lacks {key:?}") }
            }
            ReadError::Damaged(reason) => LogError::Corrupt { reason },
            ReadError::Object(error) => LogError::Unavailable { reason: format!("the log's archive: {error}") },
        }
    }
}

/// Reads the piece that starts at `start`.
pub(super) async fn read_piece(
    store: &ObjectStore,
    archive: ArchiveId,
    branch: BranchId,
    start: Lsn,
) -> Result<Piece, ReadError> {
    let key = piece_key(archive, branch, start);
    let bytes = match store.get(&key).await {
        Ok(bytes) => bytes,
        Err(ObjectError::NotFound { .. }) => return Err(ReadError::Missing(key)),
        Err(error) => return Err(ReadError::Object(error)),
    };
    Piece::decode(archive, branch, start, bytes)
        .map_err(|error| ReadError::Damaged(format!("object {key:?} of the log's archive: {error}")))
}

/// Reads the piece that holds `position`, which lies in `range`. `hint`: a piece starts here.
async fn find_piece(
    store: &ObjectStore,
    branch: BranchId,
    range: &ArchivedRange,
    position: Lsn,
    hint: Option<Lsn>,
) -> Result<Piece, ReadError> {
    let mut start = match hint.filter(|hint| *hint <= position && *hint >= range.begin) {
        Some(hint) => hint,
        None => listed_before(store, branch, range, position).await?.unwrap_or(range.begin),
    };
    // A listing that lags behind costs some more steps along the chain.
    loop {
        let piece = read_piece(store, range.archive, branch, start).await?;
        if piece.end_lsn() > position {
            return Ok(piece);
        }
        start = piece.end_lsn();
    }
}

/// The last piece that is listed as starting at or before `position`. A short cut: what is not listed may be there.
async fn listed_before(
    store: &ObjectStore,
    branch: BranchId,
    range: &ArchivedRange,
    position: Lsn,
) -> Result<Option<Lsn>, ReadError> {
    let stretch = |lsn: Lsn| lsn.0 >> STRETCH_BITS;
    // Pieces are much shorter than a stretch: it or the one before holds a start.
    for stretch in (stretch(range.begin)..=stretch(position)).rev().take(2) {
        let folder = stretch_folder(range.archive, branch, stretch);
        let keys = store.list(&folder).await.map_err(ReadError::Object)?;
        let starts = keys.iter().filter_map(|key| parse_piece_key(key));
        if let Some(best) = starts.filter(|start| *start >= range.begin && *start <= position).max() {
            return Ok(Some(best));
        }
    }
    Ok(None)
}
