//! Filtered log: a stretch of a branch's log with the records of some pages only, for who needs no others.
//!
//! ```text
//!   0  version  u8     1
//!   1  crc      u32    over start LSN, end LSN and epoch (u64 each), the version, and everything after this field
//!   5  time     u64    commit time of the first part, microseconds since 1970 UTC
//!  13  part*
//!        flags    u8      as in a part of a batch · bit 2: none of its records are here
//!        length   varint  bytes of the part in the log, header included
//!        time     varint  commit time less that of the part before, zigzag
//!        records  varint  how many are here                    only without bit 2
//!        bytes    varint  and the records, as in the log       only without bit 2
//! ```
//!
//! Integers are little-endian. Every part of the stretch is there, if only with a few bytes: where batches begin and end,
//! and when they were committed, is the same with and without a filter. The stretch consists of whole parts. Where it lies
//! and its epoch travel beside it, covered by the checksum. Never stored; only sent.

use bytes::{BufMut, Bytes};

use super::part::Part;
use super::{BatchError, FLAG_CONTINUES, FLAG_MORE, HEADER_BYTES, MAX_BATCH_BYTES};
use crate::ids::{Epoch, Lsn};
use crate::varint::{DecodeError, Input, put_varint};

/// The only version so far.
pub const FILTERED_VERSION: u8 = 1;

const CRC: usize = 1;
const CHECKED: usize = 5;
const FILTERED_HEADER_BYTES: usize = 13;
const FLAG_NONE_HERE: u8 = 4;

/// A stretch of log with the records of some pages only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredLog {
    /// LSN of the stretch's first byte.
    pub start_lsn: Lsn,
    /// LSN after its last byte.
    pub end_lsn: Lsn,
    /// Who wrote it.
    pub epoch: Epoch,
    /// As the module says.
    pub bytes: Bytes,
}

/// Writes the parts of a stretch.
pub(super) struct FilteredEncoder {
    start_lsn: Lsn,
    end_lsn: Lsn,
    last_time_us: u64,
    buffer: Vec<u8>,
}

impl FilteredEncoder {
    pub(super) fn new(start_lsn: Lsn, capacity_bytes: usize) -> FilteredEncoder {
        let mut buffer = Vec::with_capacity(capacity_bytes);
        buffer.resize(FILTERED_HEADER_BYTES, 0);
        FilteredEncoder { start_lsn, end_lsn: start_lsn, last_time_us: 0, buffer }
    }

    /// Adds a part of `length` bytes, of whose records these are here.
    pub(super) fn push(&mut self, length: u64, flags: u8, commit_time_us: u64, records: u32, payload: &[u8]) {
        if self.end_lsn == self.start_lsn {
            self.buffer[CHECKED..FILTERED_HEADER_BYTES].copy_from_slice(&commit_time_us.to_le_bytes());
            self.last_time_us = commit_time_us;
        }
        self.buffer.push(if records == 0 { flags | FLAG_NONE_HERE } else { flags });
        put_varint(&mut self.buffer, length);
        put_varint(&mut self.buffer, zigzag(commit_time_us.wrapping_sub(self.last_time_us)));
        if records > 0 {
            put_varint(&mut self.buffer, records.into());
            put_varint(&mut self.buffer, payload.len() as u64);
            self.buffer.put_slice(payload);
        }
        self.last_time_us = commit_time_us;
        self.end_lsn = self.end_lsn.advance(length);
    }

    /// `None` if there was no part.
    pub(super) fn finish(mut self, epoch: Epoch) -> Option<FilteredLog> {
        let FilteredEncoder { start_lsn, end_lsn, .. } = self;
        if end_lsn == start_lsn {
            return None;
        }
        self.buffer[0] = FILTERED_VERSION;
        let crc = checksum(start_lsn, end_lsn, epoch, &self.buffer);
        self.buffer[CRC..CHECKED].copy_from_slice(&crc.to_le_bytes());
        Some(FilteredLog { start_lsn, end_lsn, epoch, bytes: self.buffer.into() })
    }
}

impl FilteredLog {
    /// The parts in order, after everything has been checked that needs no others.
    pub(super) fn parts(&self) -> Result<Vec<Part>, BatchError> {
        let FilteredLog { start_lsn: at, end_lsn, epoch, ref bytes } = *self;
        let damaged = |reason| BatchError::Damaged { at, reason };
        let Some(header) = bytes.get(..FILTERED_HEADER_BYTES) else { return Err(damaged("filtered log ends early")) };
        if header[0] != FILTERED_VERSION {
            return Err(BatchError::Version { at, version: header[0] });
        }
        let mut fixed = Input::new(&header[CRC..]);
        let short = |DecodeError(reason)| damaged(reason);
        let (stored, mut time) = (fixed.u32().map_err(short)?, fixed.u64().map_err(short)?);
        if stored != checksum(at, end_lsn, epoch, bytes) {
            return Err(damaged("checksum of filtered log does not match"));
        }
        let mut input = Input::new(&bytes[FILTERED_HEADER_BYTES..]);
        let (mut parts, mut total) = (Vec::new(), 0_u64);
        while !input.is_empty() {
            let flags = input.byte().map_err(short)?;
            let length = input.varint().map_err(short)?;
            time = time.wrapping_add(unzigzag(input.varint().map_err(short)?));
            if flags & !(FLAG_CONTINUES | FLAG_MORE | FLAG_NONE_HERE) != 0 {
                return Err(damaged("unknown flags"));
            }
            if !(HEADER_BYTES as u64..=MAX_BATCH_BYTES).contains(&length) {
                return Err(damaged("length of a filtered part"));
            }
            let (mut records, mut payload) = (0, Bytes::new());
            if flags & FLAG_NONE_HERE == 0 {
                let count = input.varint().map_err(short)?;
                let taken = input.bytes().map_err(short)?;
                // Records are two bytes or longer.
                let plausible = count > 0 && count <= taken.len() as u64 / 2;
                records =
                    u32::try_from(count).ok().filter(|_| plausible).ok_or(damaged("records of a filtered part"))?;
                if taken.len() as u64 > length - HEADER_BYTES as u64 {
                    return Err(damaged("a filtered part holds more than it had"));
                }
                payload = bytes.slice_ref(taken);
            }
            let flags = flags & !FLAG_NONE_HERE;
            parts.push(Part { length, flags, commit_time_us: time, records, payload });
            total = total.saturating_add(length);
        }
        if parts.is_empty() || at.0.checked_add(total) != Some(end_lsn.0) {
            return Err(damaged("the parts of filtered log do not end where it does"));
        }
        Ok(parts)
    }
}

fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    (signed << 1 ^ signed >> 63) as u64
}

fn unzigzag(word: u64) -> u64 {
    word >> 1 ^ (word & 1).wrapping_neg()
}

fn checksum(start_lsn: Lsn, end_lsn: Lsn, epoch: Epoch, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [start_lsn.0, end_lsn.0, epoch.0] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&bytes[..CRC]);
    hasher.update(&bytes[CHECKED..]);
    hasher.finalize()
}
