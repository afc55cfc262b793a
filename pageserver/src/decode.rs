//! From log chunks to whole batches of records by page. Pure.

use logstore::filter::{FilteredChunk, StreamPiece};
use storage::batch::{BatchDecoder, BatchError, FilteredLog};
use storage::{Lsn, PageNo};

/// Batches taken together: no more than this many, and none after so many bytes.
const MOST_BATCHES: usize = 64;
const ENOUGH_BYTES: usize = 64 << 10;

/// Records of some transactions as a page server keeps them, in memory that is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageBatches {
    /// The records' bytes.
    bytes: Vec<u8>,
    /// In log order, with where they end in `bytes`.
    records: Vec<(PageNo, usize)>,
    /// In log order: LSN and commit time, and where its records and their bytes end.
    ends: Vec<(Lsn, u64, usize, usize)>,
}

/// A transaction's records.
#[derive(Clone, Copy, Debug)]
pub struct PageBatch<'a> {
    /// LSN of every page it touches.
    pub end_lsn: Lsn,
    /// Wall clock at its commit, in microseconds since 1970 UTC.
    pub commit_time_us: u64,
    bytes: &'a [u8],
    begin: usize,
    ends: &'a [(PageNo, usize)],
}

impl<'a> PageBatch<'a> {
    /// The records, in log order.
    pub fn records(self) -> impl Iterator<Item = (PageNo, &'a [u8])> {
        let begins = [self.begin].into_iter().chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(begins).map(move |((page, end), begin)| (*page, &self.bytes[begin..*end]))
    }
}

impl PageBatches {
    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.ends.clear();
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= MOST_BATCHES || self.bytes.len() >= ENOUGH_BYTES
    }

    /// The batches, in log order.
    pub fn batches(&self) -> impl Iterator<Item = PageBatch<'_>> {
        let begins = [(0, 0)].into_iter().chain(self.ends.iter().map(|(.., records, bytes)| (*records, *bytes)));
        self.ends.iter().zip(begins).map(|(&(end_lsn, commit_time_us, records, _), (first, begin))| PageBatch {
            end_lsn,
            commit_time_us,
            bytes: &self.bytes,
            begin,
            ends: &self.records[first..records],
        })
    }
}

/// Decodes a branch's log from a batch boundary on.
#[derive(Debug)]
pub struct LogDecoder {
    batches: BatchDecoder,
    /// Told once what came before it has been taken.
    failed: Option<BatchError>,
}

impl LogDecoder {
    /// From the end of a batch.
    pub fn new(from_lsn: Lsn) -> LogDecoder {
        LogDecoder { batches: BatchDecoder::new(from_lsn), failed: None }
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

    /// The next whole batches up to an LSN, of whose records only those of the pages to `keep` are taken, in place of what
    /// `taken` holds. False when there are no more.
    pub fn next_batches(
        &mut self,
        keep: impl Fn(PageNo) -> bool,
        until: Option<Lsn>,
        taken: &mut PageBatches,
    ) -> Result<bool, BatchError> {
        taken.clear();
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !taken.is_full() {
            let next = self.batches.next_batch();
            let Some(batch) = next.filter(|batch| until.is_none_or(|until| batch.end_lsn <= until)) else {
                return Ok(false);
            };
            let mut records = batch.records();
            while let Some(next) = records.next_with_bytes() {
                let Ok((record, bytes)) = next else {
                    self.failed = Some(BatchError::Damaged { at: batch.start_lsn, reason: "a record does not decode" });
                    return Ok(true);
                };
                if keep(record.page) {
                    taken.bytes.extend_from_slice(bytes);
                    taken.records.push((record.page, taken.bytes.len()));
                }
            }
            taken.ends.push((batch.end_lsn, batch.commit_time_us, taken.records.len(), taken.bytes.len()));
        }
        Ok(true)
    }
}
