//! Subscriptions that carry only what a reader wants of a stream.
//!
//! The log knows bytes and positions, not what the bytes mean. What a reader wants, it says in bytes that the log hands to
//! a [`Filtering`] given to it by whoever runs the node; what that makes of the stream is passed on as it is. A node
//! without one, or whose one does not know such filters (yet), sends everything: that is dearer, and never wrong.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use storage::beside::beside;
use storage::{BranchId, Epoch, Lsn};

use crate::client::{LogChunk, LogError};

/// Longest filter.
pub const MAX_FILTER_BYTES: usize = 1024;
/// Bytes of log that readers had no use for, and that were not sent.
const OMITTED_BYTES: &str = "alluvium_log_filter_omitted_bytes_total";
/// Chunks from this length on are filtered beside the runtime's other tasks.
const LONG_CHUNK_BYTES: usize = 128 << 10;

/// What a reader wants of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFilter {
    /// For the [`Filtering`] that understands it. At most [`MAX_FILTER_BYTES`].
    pub bytes: Bytes,
    /// LSN of the stream's first byte: what the filter sees as LSN is this plus the position in the stream.
    pub base_lsn: Lsn,
}

/// A stretch of a stream, of which only what is wanted is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredChunk {
    /// LSN of the stretch's first byte.
    pub start_lsn: Lsn,
    /// LSN after its last byte; higher than the first.
    pub end_lsn: Lsn,
    /// The epoch it was appended under.
    pub epoch: Epoch,
    /// As the [`Filtering`] has made them: how much they are says nothing of how long the stretch is.
    pub bytes: Bytes,
}

/// A piece of a filtered subscription. Pieces follow each other without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPiece {
    /// As it was appended.
    Whole(LogChunk),
    /// What is wanted of it.
    Filtered(FilteredChunk),
}

impl StreamPiece {
    /// LSN after its last byte.
    pub fn end_lsn(&self) -> Lsn {
        match self {
            StreamPiece::Whole(chunk) => chunk.start_lsn.advance(chunk.bytes.len() as u64),
            StreamPiece::Filtered(chunk) => chunk.end_lsn,
        }
    }

    /// Bytes that travel.
    pub fn sent_bytes(&self) -> usize {
        match self {
            StreamPiece::Whole(chunk) => chunk.bytes.len(),
            StreamPiece::Filtered(chunk) => chunk.bytes.len(),
        }
    }

    /// The same with positions counted otherwise.
    pub(crate) fn moved(self, shown: impl Fn(Lsn) -> Lsn) -> StreamPiece {
        match self {
            StreamPiece::Whole(chunk) => StreamPiece::Whole(LogChunk { start_lsn: shown(chunk.start_lsn), ..chunk }),
            StreamPiece::Filtered(chunk) => {
                let (start_lsn, end_lsn) = (shown(chunk.start_lsn), shown(chunk.end_lsn));
                StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, ..chunk })
            }
        }
    }
}

/// Understands what streams hold, and what readers want of them.
pub trait Filtering: Send + Sync {
    /// A filter for one subscription that begins at `from_lsn`. `None`: such filters are not known here. An error: it
    /// cannot be one.
    fn begin(&self, filter: &[u8], from_lsn: Lsn) -> Result<Option<Box<dyn ChunkFilter>>, String>;
}

/// Filters the chunks of one subscription, in order.
pub trait ChunkFilter: Send {
    /// What is wanted of a chunk; `None` while nothing can be said about it before the next one. An error: the chunk is
    /// damaged.
    fn filter(&mut self, chunk: LogChunk) -> Result<Option<StreamPiece>, String>;
}

/// A subscription with a filter.
pub type Pieces = BoxStream<'static, Result<StreamPiece, LogError>>;

/// Everything, for a filter that is not understood.
pub fn unfiltered(chunks: BoxStream<'static, Result<LogChunk, LogError>>) -> Pieces {
    chunks.map(|chunk| chunk.map(StreamPiece::Whole)).boxed()
}

/// The chunks of a subscription to `branch` from `from_lsn` on, filtered.
pub fn filtered(
    chunks: BoxStream<'static, Result<LogChunk, LogError>>,
    filtering: &Arc<dyn Filtering>,
    filter: &StreamFilter,
    branch: BranchId,
    from_lsn: Lsn,
) -> Result<Pieces, LogError> {
    let base = filter.base_lsn;
    let invalid = |reason: String| LogError::Invalid { reason: format!("filter of a subscription: {reason}") };
    if filter.bytes.len() > MAX_FILTER_BYTES {
        return Err(invalid(format!("{} bytes exceed the limit of {MAX_FILTER_BYTES}", filter.bytes.len())));
    }
    let from = from_lsn.0.checked_add(base.0).ok_or_else(|| invalid("its position overflows".to_owned()))?;
    let Some(filter) = filtering.begin(&filter.bytes, Lsn(from)).map_err(invalid)? else {
        return Ok(unfiltered(chunks));
    };
    let state = Some((chunks, filter));
    let pieces = unfold(state, move |state| async move {
        let (mut chunks, mut filter) = state?;
        loop {
            let chunk = match chunks.next().await? {
                Ok(chunk) => LogChunk { start_lsn: chunk.start_lsn.advance(base.0), ..chunk },
                Err(error) => return Some((Err(error), None)),
            };
            let length = chunk.bytes.len();
            let outcome = if length < LONG_CHUNK_BYTES {
                filter.filter(chunk)
            } else {
                let given_up = || LogError::Unavailable { reason: "filtering the log was given up".to_owned() };
                match beside(move || (filter.filter(chunk), filter)).await {
                    Some((outcome, back)) => {
                        filter = back;
                        outcome
                    }
                    None => return Some((Err(given_up()), None)),
                }
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(piece)) => {
                    metrics::counter!(OMITTED_BYTES).increment(length.saturating_sub(piece.sent_bytes()) as u64);
                    return Some((Ok(piece.moved(|lsn| Lsn(lsn.since(base)))), Some((chunks, filter))));
                }
                Err(reason) => {
                    let reason = format!("log of branch {branch}: {reason}");
                    return Some((Err(LogError::Corrupt { reason }), None));
                }
            }
        }
    });
    Ok(pieces.boxed())
}
