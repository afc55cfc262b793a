//! One part of a batch as it lies in the log. Pure.

use super::{BATCH_VERSION, BatchError, CRC, FLAG_CONTINUES, FLAG_MORE, HEADER_BYTES, MAX_BATCH_BYTES, checksum};
use crate::ids::Lsn;
use crate::varint::Input;

/// A part's header, checked.
pub(super) struct Part {
    /// Bytes, header included.
    pub length: usize,
    pub flags: u8,
    pub records: u32,
    pub commit_time_us: u64,
}

/// The part that begins at `at`, once all of it is there. `held`: bytes of its batch that lie before it.
pub(super) fn next_part(at: Lsn, pending: &[u8], held: u64) -> Result<Option<Part>, BatchError> {
    let mut input = Input::new(pending);
    let Ok(length) = input.u32() else { return Ok(None) };
    let length = length as usize;
    let damaged = |reason| BatchError::Damaged { at, reason };
    if length < HEADER_BYTES {
        return Err(damaged("length is less than the header"));
    }
    if held + length as u64 > MAX_BATCH_BYTES {
        return Err(BatchError::TooLong { at });
    }
    if pending.len() > 8 && pending[8] != BATCH_VERSION {
        return Err(BatchError::Version { at, version: pending[8] });
    }
    let Some(bytes) = pending.get(..length) else { return Ok(None) };
    let mut header = Input::new(&bytes[CRC..HEADER_BYTES]);
    let short = |_| damaged("header ends early");
    let stored = header.u32().map_err(short)?;
    if stored != checksum(at, bytes) {
        return Err(damaged("checksum does not match"));
    }
    header.byte().map_err(short)?;
    let flags = header.byte().map_err(short)?;
    let records = header.u32().map_err(short)?;
    let commit_time_us = header.u64().map_err(short)?;
    if flags & !(FLAG_CONTINUES | FLAG_MORE) != 0 {
        return Err(damaged("unknown flags"));
    }
    Ok(Some(Part { length, flags, records, commit_time_us }))
}
