//! From log chunks to whole batches of records by page. Pure.

use bytes::Bytes;
use logstore::client::LogChunk;
use storage::batch::{BatchDecoder, BatchError};
use storage::{Lsn, PageNo};

/// A transaction's records as a page server keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageBatch {
    /// LSN of every page it touches.
    pub end_lsn: Lsn,
    /// Wall clock at its commit, in microseconds since 1970 UTC.
    pub commit_time_us: u64,
    /// In log order. All share one allocation, so that none keeps the log's chunks alive.
    pub records: Vec<(PageNo, Bytes)>,
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

    /// Takes a chunk.
    pub fn feed(&mut self, chunk: LogChunk) -> Result<(), BatchError> {
        self.batches.feed(chunk.start_lsn, chunk.epoch, chunk.bytes)
    }

    /// The next whole batch, of whose records only those of the pages to `keep` are given.
    pub fn next_batch(&mut self, keep: impl Fn(PageNo) -> bool) -> Option<Result<PageBatch, BatchError>> {
        let batch = self.batches.next_batch()?;
        let (mut arena, mut spans) = (Vec::new(), Vec::new());
        let mut records = batch.records();
        while let Some(next) = records.next_with_bytes() {
            let Ok((record, bytes)) = next else {
                let reason = "a record does not decode";
                return Some(Err(BatchError::Damaged { at: batch.start_lsn, reason }));
            };
            if keep(record.page) {
                spans.push((record.page, arena.len()..arena.len() + bytes.len()));
                arena.extend_from_slice(bytes);
            }
        }
        let arena = Bytes::from(arena);
        let records = spans.into_iter().map(|(page, span)| (page, arena.slice(span))).collect();
        Some(Ok(PageBatch { end_lsn: batch.end_lsn, commit_time_us: batch.commit_time_us, records }))
    }
}
