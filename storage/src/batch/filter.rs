//! Which pages' records somebody wants, and log reduced to them.
//!
//! A filter as bytes, for whoever passes it on without understanding it:
//!
//! ```text
//!   0  version       u8   1
//!   1  stripe_pages  u32  as in the branch's layout
//!   5  shards        u32  of the layout
//!   9  wanted        one bit for each shard, the lowest first, in whole bytes; the bits left over are zero
//! ```

use bytes::Bytes;

use super::BatchError;
use super::filtered::{FilteredEncoder, FilteredLog};
use super::part::{Part, PartReader};
use crate::ids::{Epoch, Lsn, PageNo, ShardId};
use crate::layout::{MAX_SHARDS, ShardLayout};
use crate::record::Record;
use crate::varint::Input;

/// The only version so far.
pub const FILTER_VERSION: u8 = 1;
/// Longest filter as bytes.
pub const MAX_FILTER_BYTES: usize = FILTER_HEADER_BYTES + MAX_SHARDS as usize / 8;
/// Longest part that a filter takes. A part lies within one append, and appends are shorter.
const MAX_PART_BYTES: usize = 128 << 20;

const FILTER_HEADER_BYTES: usize = 9;
const WORDS: usize = MAX_SHARDS as usize / 64;

/// The pages of some shards of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFilter {
    layout: ShardLayout,
    wanted: [u64; WORDS],
}

/// Bytes that are no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Of a newer program.
    #[error("unknown version {0} of a filter")]
    Version(u8),
    /// Not a filter.
    #[error("malformed filter: {0}")]
    Malformed(&'static str),
}

impl PageFilter {
    /// The pages of `shards`, which are shards of the layout.
    pub fn new(layout: ShardLayout, shards: impl IntoIterator<Item = ShardId>) -> PageFilter {
        let mut wanted = [0; WORDS];
        for shard in shards {
            assert!(shard.0 < u64::from(layout.shards()), "shard {shard} of {} shards", layout.shards());
            wanted[shard.0 as usize / 64] |= 1 << (shard.0 % 64);
        }
        PageFilter { layout, wanted }
    }

    /// Whether records of a page are wanted.
    pub fn wants(&self, page: PageNo) -> bool {
        let shard = self.layout.shard_of(page).0;
        self.wanted[shard as usize / 64] & 1 << (shard % 64) != 0
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![FILTER_VERSION];
        bytes.extend_from_slice(&self.layout.stripe_pages().to_le_bytes());
        bytes.extend_from_slice(&self.layout.shards().to_le_bytes());
        let words = self.wanted.iter().flat_map(|word| word.to_le_bytes());
        bytes.extend(words.take(self.layout.shards().div_ceil(8) as usize));
        bytes.into()
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<PageFilter, FilterError> {
        let malformed = FilterError::Malformed;
        let mut input = Input::new(bytes);
        let version = input.byte().map_err(|_| malformed("empty"))?;
        if version != FILTER_VERSION {
            return Err(FilterError::Version(version));
        }
        let mut number = || input.u32().map_err(|_| malformed("ends early"));
        let (stripe_pages, shards) = (number()?, number()?);
        let layout = ShardLayout::new(shards, stripe_pages).ok_or(malformed("no such layout"))?;
        let bits = input.rest();
        if bits.len() != shards.div_ceil(8) as usize {
            return Err(malformed("as many bits as shards are needed"));
        }
        let mut words = [0; WORDS * 8];
        words[..bits.len()].copy_from_slice(bits);
        let (words, _) = words.as_chunks();
        let wanted = std::array::from_fn(|number| u64::from_le_bytes(words[number]));
        let filter = PageFilter { layout, wanted };
        let surplus = (shards..MAX_SHARDS).any(|shard| filter.wanted[shard as usize / 64] & 1 << (shard % 64) != 0);
        if surplus { Err(malformed("wants shards that the layout does not have")) } else { Ok(filter) }
    }
}

/// Reduces a branch's log, chunk by chunk, to the records of some pages. Memory: less than a part between calls.
///
/// Checks every part before it is taken apart: damage must not get a checksum of its own.
#[derive(Debug)]
pub struct BatchFilter {
    filter: PageFilter,
    parts: PartReader,
}

impl BatchFilter {
    /// From `from_lsn` on, where a part of a batch begins.
    pub fn new(filter: PageFilter, from_lsn: Lsn) -> BatchFilter {
        BatchFilter { filter, parts: PartReader::new(from_lsn) }
    }

    /// Takes the next chunk and gives the parts that are complete. Chunks may overlap, but leave no gap. `None`: nothing new,
    /// or not all of a part. After an error nothing more may be fed.
    pub fn feed(&mut self, start_lsn: Lsn, epoch: Epoch, bytes: Bytes) -> Result<Option<FilteredLog>, BatchError> {
        if !self.parts.feed(start_lsn, epoch, bytes)? {
            return Ok(None);
        }
        let mut encoder = FilteredEncoder::new(self.parts.lsn(), self.parts.pending_bytes() / 2 + 64);
        let mut kept = Vec::new();
        loop {
            let at = self.parts.lsn();
            let Some(Part { length, flags, commit_time_us, payload, .. }) = self.parts.next(0)? else { break };
            let records = self.keep(at, &payload, &mut kept)?;
            encoder.push(length, flags, commit_time_us, records, &kept);
        }
        if self.parts.pending_bytes() > MAX_PART_BYTES {
            return Err(BatchError::TooLong { at: self.parts.lsn() });
        }
        Ok(encoder.finish(epoch))
    }

    /// The wanted ones of the records of the part at `at` into `kept`; how many they are.
    fn keep(&self, at: Lsn, payload: &[u8], kept: &mut Vec<u8>) -> Result<u32, BatchError> {
        kept.clear();
        let (mut input, mut records) = (Input::new(payload), 0);
        while !input.is_empty() {
            let before = input.rest();
            let record = Record::decode(&mut input)
                .map_err(|_| BatchError::Damaged { at, reason: "a record does not decode" })?;
            if self.filter.wants(record.page) {
                kept.extend_from_slice(&before[..before.len() - input.rest().len()]);
                records += 1;
            }
        }
        Ok(records)
    }
}

const _: () = assert!(MAX_SHARDS.is_multiple_of(64));
