//! Commit batches: all records of one transaction, the atomic unit of the log.
//!
//! ```text
//!   0  length   u32   bytes of this part, header included
//!   4  crc      u32   over the part's start LSN (u64) and everything after this field
//!   8  version  u8    1
//!   9  flags    u8    bit 0: an earlier part exists · bit 1: a later part follows
//!  10  records  u32   in this part
//!  14  time     u64   commit time, microseconds since 1970 UTC; the same in all parts
//!  22  records, each as in module `record`
//! ```
//!
//! A batch larger than the part limit becomes several parts, cut between records; only the last one lacks
//! bit 1. A page's LSN after a batch is the batch's end: the end of its last part. The checksum covers the
//! start LSN, so bytes that land at another place of the log are noticed.

mod decode;
mod filter;
#[cfg(test)]
mod filter_tests;
mod filtered;
mod part;
#[cfg(test)]
mod tests;

use crate::ids::{Lsn, PageNo};
use crate::record::{Record, RedoOp};

pub use decode::{Batch, BatchDecoder, BatchError, Records};
pub use filter::{BatchFilter, FILTER_VERSION, FilterError, MAX_FILTER_BYTES, PageFilter};
pub use filtered::{FILTERED_VERSION, FilteredLog};

/// Part limit unless the caller has another.
pub const DEFAULT_PART_BYTES: usize = 4 << 20;
/// Lowest part limit: several of the largest records.
pub const MIN_PART_BYTES: usize = 64 << 10;
/// Longest batch, all parts together. A writer bounds its transaction before applying it; a reader
/// refuses more, so that its memory is bounded by this plus one chunk.
pub const MAX_BATCH_BYTES: u64 = 1 << 30;

/// The only format version so far.
pub const BATCH_VERSION: u8 = 1;

const HEADER_BYTES: usize = 22;
const CRC: usize = 4;
const CHECKED: usize = 8;
const FLAG_CONTINUES: u8 = 1;
const FLAG_MORE: u8 = 2;

/// Where a finished batch lies in the log and in the encoder's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSpan {
    /// LSN of its first byte.
    pub start_lsn: Lsn,
    /// LSN after its last byte: the new LSN of every page it touched.
    pub end_lsn: Lsn,
    /// Its parts.
    pub parts: usize,
}

/// Encodes batches one after another into a buffer that stands for a stretch of the log.
///
/// Between [`BatchEncoder::begin`] and [`BatchEncoder::finish`] records are pushed as they are applied.
/// [`BatchEncoder::take`] hands out the finished bytes: a group for the log.
#[derive(Clone, Debug)]
pub struct BatchEncoder {
    buffer: Vec<u8>,
    /// LSN of the buffer's first byte.
    base_lsn: Lsn,
    part_limit_bytes: usize,
    /// Start of each finished part since the last take, for cutting a group between appends.
    part_starts: Vec<usize>,
    /// Parts of the batch being encoded, the last one open: start and records.
    open: Vec<(usize, u32)>,
}

impl BatchEncoder {
    /// Starts at `base_lsn`, the end of the log.
    pub fn new(base_lsn: Lsn, part_limit_bytes: usize) -> Self {
        assert!(part_limit_bytes >= MIN_PART_BYTES, "part limit of {part_limit_bytes} bytes is too small");
        Self { buffer: Vec::new(), base_lsn, part_limit_bytes, part_starts: Vec::new(), open: Vec::new() }
    }

    /// Opens a batch.
    pub fn begin(&mut self) {
        assert!(self.open.is_empty(), "a batch is open already");
        self.open_part();
    }

    /// Adds a record to the open batch.
    pub fn push(&mut self, page: PageNo, op: &RedoOp<'_>) {
        let before = self.buffer.len();
        let &(start, records) = self.open.last().expect("a batch is open");
        Record { page, op: *op }.encode(&mut self.buffer);
        if self.buffer.len() - start > self.part_limit_bytes && records > 0 {
            let record = self.buffer.split_off(before);
            self.open_part();
            self.buffer.extend_from_slice(&record);
        }
        self.open.last_mut().expect("a batch is open").1 += 1;
    }

    /// True when the open batch has no record yet.
    pub fn is_empty_batch(&self) -> bool {
        self.open.iter().all(|&(_, records)| records == 0)
    }

    /// Bytes of the open batch so far.
    pub fn open_bytes(&self) -> usize {
        self.open.first().map_or(0, |&(start, _)| self.buffer.len() - start)
    }

    /// Closes the open batch.
    pub fn finish(&mut self, commit_time_us: u64) -> BatchSpan {
        let parts = std::mem::take(&mut self.open);
        let first = parts.first().expect("a batch is open").0;
        for (number, &(start, records)) in parts.iter().enumerate() {
            let next = parts.get(number + 1).map(|&(start, _)| start);
            let end = next.unwrap_or(self.buffer.len());
            let continues = if number > 0 { FLAG_CONTINUES } else { 0 };
            let more = if next.is_some() { FLAG_MORE } else { 0 };
            let length = u32::try_from(end - start).expect("a part is far below 4 GiB");
            let lsn = self.base_lsn.advance(start as u64);
            let part = &mut self.buffer[start..end];
            part[..4].copy_from_slice(&length.to_le_bytes());
            part[8] = BATCH_VERSION;
            part[9] = continues | more;
            part[10..14].copy_from_slice(&records.to_le_bytes());
            part[14..22].copy_from_slice(&commit_time_us.to_le_bytes());
            let crc = checksum(lsn, part);
            part[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
            self.part_starts.push(start);
        }
        BatchSpan {
            start_lsn: self.base_lsn.advance(first as u64),
            end_lsn: self.base_lsn.advance(self.buffer.len() as u64),
            parts: parts.len(),
        }
    }

    /// Drops the open batch. Only for batches whose records have not been applied to any page.
    pub fn abandon(&mut self) {
        if let Some(&(start, _)) = self.open.first() {
            self.buffer.truncate(start);
        }
        self.open.clear();
    }

    /// LSN after the last finished batch (while none is open).
    pub fn end_lsn(&self) -> Lsn {
        self.base_lsn.advance(self.buffer.len() as u64)
    }

    /// Bytes not taken yet.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Hands out all finished batches: their bytes, the LSN of the first byte, and the offset of every
    /// part, where an append may be cut. `spare` becomes the next buffer, so that two take turns.
    pub fn take(&mut self, mut spare: Vec<u8>) -> (Lsn, Vec<u8>, Vec<usize>) {
        assert!(self.open.is_empty(), "a batch is open");
        spare.clear();
        let start_lsn = self.base_lsn;
        self.base_lsn = self.end_lsn();
        (start_lsn, std::mem::replace(&mut self.buffer, spare), std::mem::take(&mut self.part_starts))
    }

    fn open_part(&mut self) {
        self.open.push((self.buffer.len(), 0));
        self.buffer.resize(self.buffer.len() + HEADER_BYTES, 0);
    }
}

fn checksum(start_lsn: Lsn, part: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&start_lsn.0.to_le_bytes());
    hasher.update(&part[CHECKED..]);
    hasher.finalize()
}
