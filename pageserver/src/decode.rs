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

    /// The next whole batch.
    pub fn next_batch(&mut self) -> Option<Result<PageBatch, BatchError>> {
        let batch = self.batches.next_batch()?;
        let mut arena = Vec::with_capacity(usize::try_from(batch.end_lsn.since(batch.start_lsn)).unwrap_or(0));
        let mut spans = Vec::with_capacity(usize::try_from(batch.record_count).unwrap_or(0).min(1 << 16));
        let mut records = batch.records();
        while let Some(next) = records.next_with_bytes() {
            let Ok((record, bytes)) = next else {
                let reason = "a record does not decode";
                return Some(Err(BatchError::Damaged { at: batch.start_lsn, reason }));
            };
            spans.push((record.page, arena.len()..arena.len() + bytes.len()));
            arena.extend_from_slice(bytes);
        }
        let arena = Bytes::from(arena);
        let records = spans.into_iter().map(|(page, span)| (page, arena.slice(span))).collect();
        Some(Ok(PageBatch { end_lsn: batch.end_lsn, records }))
    }
}
