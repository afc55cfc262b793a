//! From chunks of log, cut anywhere, to whole parts of batches. Pure.

use bytes::{Bytes, BytesMut};

use super::{BATCH_VERSION, BatchError, CRC, FLAG_CONTINUES, FLAG_MORE, HEADER_BYTES, MAX_BATCH_BYTES, checksum};
use crate::ids::{Epoch, Lsn};
use crate::varint::Input;

/// A part of a batch, checked, with its records as far as they are here.
pub(super) struct Part {
    /// Bytes in the log, header included.
    pub length: u64,
    pub flags: u8,
    pub records: u32,
    pub commit_time_us: u64,
    pub payload: Bytes,
}

/// Puts chunks together. Memory: less than a part between calls.
#[derive(Debug)]
pub(super) struct PartReader {
    /// Where the next part begins: LSN of `pending`'s first byte.
    lsn: Lsn,
    /// Fed, not yet taken.
    pending: Bytes,
    epoch: Epoch,
}

impl PartReader {
    /// From `lsn` on, where a part begins.
    pub(super) fn new(lsn: Lsn) -> PartReader {
        PartReader { lsn, pending: Bytes::new(), epoch: Epoch(0) }
    }

    /// Where the next part begins.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Of the bytes fed last.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Of the beginning of a part that is not all there.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// LSN after the last byte fed.
    pub(super) fn fed_lsn(&self) -> Lsn {
        self.lsn.advance(self.pending.len() as u64)
    }

    /// Takes the next chunk. It may repeat what was fed before, which is skipped, but not leave a gap. False: nothing of it
    /// is new.
    pub(super) fn feed(&mut self, start_lsn: Lsn, epoch: Epoch, mut bytes: Bytes) -> Result<bool, BatchError> {
        let expected = self.fed_lsn();
        if start_lsn > expected {
            return Err(BatchError::Gap { expected, got: start_lsn });
        }
        let repeated = expected.since(start_lsn);
        if repeated >= bytes.len() as u64 {
            return Ok(false);
        }
        let _ = bytes.split_to(usize::try_from(repeated).expect("less than the chunk"));
        self.enter_epoch(epoch)?;
        self.pending = if self.pending.is_empty() {
            bytes
        } else {
            let mut joined = BytesMut::with_capacity(self.pending.len() + bytes.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&bytes);
            joined.freeze()
        };
        Ok(true)
    }

    /// Bytes that come next are of `epoch`, which only grows, and only between parts.
    pub(super) fn enter_epoch(&mut self, epoch: Epoch) -> Result<(), BatchError> {
        if epoch < self.epoch {
            return Err(BatchError::Epoch { at: self.fed_lsn(), current: self.epoch, got: epoch });
        }
        if epoch > self.epoch && !self.pending.is_empty() {
            return Err(BatchError::Damaged { at: self.lsn, reason: "epoch changes within a part" });
        }
        self.epoch = epoch;
        Ok(())
    }

    /// The next part, once all of it is there. `held_bytes`: of its batch, before it.
    pub(super) fn next(&mut self, held_bytes: u64) -> Result<Option<Part>, BatchError> {
        let Some(part) = next_part(self.lsn, &self.pending, held_bytes)? else { return Ok(None) };
        let length = usize::try_from(part.length).expect("it is in memory");
        let payload = self.pending.split_to(length).slice(HEADER_BYTES..);
        self.pass(part.length);
        Ok(Some(Part { payload, ..part }))
    }

    /// A part of that length came by itself.
    pub(super) fn pass(&mut self, length: u64) {
        self.lsn = self.lsn.advance(length);
    }
}

/// The part that `pending` begins with, without its records.
fn next_part(at: Lsn, pending: &[u8], held_bytes: u64) -> Result<Option<Part>, BatchError> {
    let mut input = Input::new(pending);
    let Ok(length) = input.u32() else { return Ok(None) };
    let length = length as usize;
    let damaged = |reason| BatchError::Damaged { at, reason };
    if length < HEADER_BYTES {
        return Err(damaged("length is less than the header"));
    }
    if held_bytes + length as u64 > MAX_BATCH_BYTES {
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
    Ok(Some(Part { length: length as u64, flags, records, commit_time_us, payload: Bytes::new() }))
}
