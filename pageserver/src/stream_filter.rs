//! What a shard wants of its branch's log, for both ends of the stream: [`filter_of`] says it, [`PageFiltering`] is what
//! log nodes are given to act on it, without knowing what a page is.

use logstore::client::LogChunk;
use logstore::filter::{ChunkFilter, FilteredChunk, Filtering, StreamFilter, StreamPiece};
use storage::batch::{BatchFilter, FilterError, FilteredLog, PageFilter};
use storage::layout::ShardLayout;
use storage::{Lsn, ShardId};

/// Every layout's filter fits.
const _: () = assert!(storage::batch::MAX_FILTER_BYTES <= logstore::filter::MAX_FILTER_BYTES);

/// The records of a shard's pages; `None` where these are all.
pub fn filter_of(layout: ShardLayout, shard: ShardId) -> Option<StreamFilter> {
    let wanted = || PageFilter::new(layout, [shard]).encode();
    (layout.shards() > 1).then(|| StreamFilter { bytes: wanted(), base_lsn: Lsn::ZERO })
}

/// Filters a branch's log by the shards that its pages belong to.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageFiltering;

impl Filtering for PageFiltering {
    fn begin(&self, filter: &[u8], from_lsn: Lsn) -> Result<Option<Box<dyn ChunkFilter>>, String> {
        match PageFilter::decode(filter) {
            Ok(filter) => Ok(Some(Box::new(Filter(BatchFilter::new(filter, from_lsn))))),
            // Of a page server that is newer than this node.
            Err(FilterError::Version(_)) => Ok(None),
            Err(error @ FilterError::Malformed(_)) => Err(error.to_string()),
        }
    }
}

struct Filter(BatchFilter);

impl ChunkFilter for Filter {
    fn filter(&mut self, chunk: LogChunk) -> Result<Option<StreamPiece>, String> {
        let chunk_end = chunk.start_lsn.advance(chunk.bytes.len() as u64);
        let found =
            self.0.feed(chunk.start_lsn, chunk.epoch, chunk.bytes.clone()).map_err(|error| error.to_string())?;
        let Some(FilteredLog { start_lsn, end_lsn, epoch, bytes }) = found else { return Ok(None) };
        // Where nearly everything is wanted, saying what is costs more than it saves.
        let as_long = bytes.len() >= chunk.bytes.len() && start_lsn >= chunk.start_lsn && end_lsn == chunk_end;
        if as_long {
            return Ok(Some(StreamPiece::Whole(chunk)));
        }
        Ok(Some(StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes })))
    }
}
