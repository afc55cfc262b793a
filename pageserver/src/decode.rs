//! From log chunks to whole batches of records by page. Pure.

use logstore::filter::{FilteredChunk, StreamPiece};
use storage::batch::{BatchDecoder, BatchError, FilteredLog};
use storage::{Lsn, PageNo};

/// A transaction's records as a page server keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageBatch {
    /// LSN of every page it touches.
    pub end_lsn: Lsn,
    /// Wall clock at its commit, in microseconds since 1970 UTC.
    pub commit_time_us: u64,
    /// The records' bytes.
    bytes: Vec<u8>,
    /// In log order, with where they end in `bytes`.
    ends: Vec<(PageNo, usize)>,
}

impl PageBatch {
    /// The records, in log order.
    pub fn records(&self) -> impl Iterator<Item = (PageNo, &[u8])> {
        let begins = [0].into_iter().chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(begins).map(|((page, end), begin)| (*page, &self.bytes[begin..*end]))
    }
}

/// Decodes a branch's log from a batch boundary on.
#[derive(Debug)]
pub struct LogDecoder {
    batches: BatchDecoder,
}

impl LogDecoder {
    /// From the end of a batch.
    pub fn new(from_lsn: Lsn) -> LogDecoder {
        LogDecoder { batches: BatchDecoder::new(from_lsn) }
    }

    /// Takes a piece of the stream.
    pub fn feed(&mut self, piece: StreamPiece) -> Result<(), BatchError> {
        match piece {
            StreamPiece::Whole(chunk) => self.batches.feed(chunk.start_lsn, chunk.epoch, chunk.bytes),
            StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes }) => {
                self.batches.feed_filtered(&FilteredLog { start_lsn, end_lsn, epoch, bytes })
            }
        }
    }

    /// The next whole batch, of whose records only those of the pages to `keep` are taken, in place of what `taken` holds.
    /// False when there is none.
    pub fn next_batch(&mut self, keep: impl Fn(PageNo) -> bool, taken: &mut PageBatch) -> Result<bool, BatchError> {
        let Some(batch) = self.batches.next_batch() else { return Ok(false) };
        taken.bytes.clear();
        taken.ends.clear();
        let mut records = batch.records();
        while let Some(next) = records.next_with_bytes() {
            let Ok((record, bytes)) = next else {
                return Err(BatchError::Damaged { at: batch.start_lsn, reason: "a record does not decode" });
            };
            if keep(record.page) {
                taken.bytes.extend_from_slice(bytes);
                taken.ends.push((record.page, taken.bytes.len()));
            }
        }
        (taken.end_lsn, taken.commit_time_us) = (batch.end_lsn, batch.commit_time_us);
        Ok(true)
    }
}
