//! The log's bytes back into batches.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{BATCH_VERSION, CRC, FLAG_CONTINUES, FLAG_MORE, HEADER_BYTES, MAX_BATCH_BYTES, checksum};
use crate::ids::{Epoch, Lsn};
use crate::record::Record;
use crate::varint::{DecodeError, Input};

/// The log cannot be decoded from here on. Nothing after it may be applied: stop, and read the log
/// elsewhere or report XX001.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Bytes are missing between what was fed and what came now.
    #[error("log continues at {got}, {expected} was expected")]
    Gap { expected: Lsn, got: Lsn },
    /// Bytes of an older writer came after those of a newer one.
    #[error("log of epoch {got} at {at} follows epoch {current}")]
    Epoch { at: Lsn, current: Epoch, got: Epoch },
    /// Checksum, length or flags are wrong.
    #[error("batch at {at} is damaged: {reason}")]
    Damaged { at: Lsn, reason: &'static str },
    /// Written by a newer program.
    #[error("batch at {at} has format version {version}, not known to this program")]
    Version { at: Lsn, version: u8 },
    /// Longer than [`MAX_BATCH_BYTES`].
    #[error("batch at {at} exceeds {MAX_BATCH_BYTES} bytes")]
    TooLong { at: Lsn },
}

/// One transaction's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// LSN of its first byte.
    pub start_lsn: Lsn,
    /// LSN after its last byte: the LSN of every page it touches.
    pub end_lsn: Lsn,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Wall clock at commit, microseconds since 1970 UTC.
    pub commit_time_us: u64,
    /// Records in all parts.
    pub record_count: u64,
    /// Payloads of the parts.
    payloads: SmallVec<[Bytes; 1]>,
}

impl Batch {
    /// The records in log order. Ends after the first error.
    pub fn records(&self) -> Records<'_> {
        Records { payloads: &self.payloads, input: Input::new(&[]), position: 0, failed: false }
    }
}

/// Iterator over a batch's records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payloads: &'a [Bytes],
    input: Input<'a>,
    position: usize,
    failed: bool,
}

impl<'a> Records<'a> {
    /// The next record together with its own bytes within the log, as layers keep them.
    pub fn next_with_bytes(&mut self) -> Option<Result<(Record<'a>, &'a [u8]), DecodeError>> {
        while self.input.is_empty() && !self.failed {
            self.input = Input::new(self.payloads.get(self.position)?);
            self.position += 1;
        }
        if self.failed {
            return None;
        }
        let before = self.input.rest();
        let record = Record::decode(&mut self.input);
        self.failed = record.is_err();
        Some(record.map(|record| (record, &before[..before.len() - self.input.rest().len()])))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with_bytes().map(|next| next.map(|(record, _)| record))
    }
}

/// Turns chunks of log, cut anywhere, into complete batches.
///
/// Holds back a continued batch until its last part has come, and drops it when a new epoch begins
/// before that: its writer died. Memory: the unfinished batch (at most [`MAX_BATCH_BYTES`]) and the chunks
/// that finished but untaken batches point into. After an error it stays at that error.
#[derive(Debug)]
pub struct BatchDecoder {
    /// Nothing before this is decoded: a batch boundary.
    resume_lsn: Lsn,
    /// LSN of `pending`'s first byte.
    pending_lsn: Lsn,
    /// Fed, not yet decoded: less than a part, between calls.
    pending: Bytes,
    epoch: Epoch,
    unfinished: Option<Batch>,
    ready: VecDeque<Batch>,
    error: Option<BatchError>,
}

struct Part {
    length: usize,
    flags: u8,
    records: u32,
    commit_time_us: u64,
}

impl BatchDecoder {
    /// Decodes from `from_lsn` on, which must be the end of a batch (or [`Lsn::ZERO`]).
    pub fn new(from_lsn: Lsn) -> Self {
        Self {
            resume_lsn: from_lsn,
            pending_lsn: from_lsn,
            pending: Bytes::new(),
            epoch: Epoch(0),
            unfinished: None,
            ready: VecDeque::new(),
            error: None,
        }
    }

    /// End of the last complete batch: where a decoder that takes over must begin.
    pub fn resume_lsn(&self) -> Lsn {
        self.resume_lsn
    }

    /// LSN after the last byte fed.
    pub fn fed_lsn(&self) -> Lsn {
        self.pending_lsn.advance(self.pending.len() as u64)
    }

    /// Takes the next chunk, then decodes what is complete. A chunk may repeat what was fed before, which
    /// is skipped; it may not leave a gap.
    pub fn feed(&mut self, start_lsn: Lsn, epoch: Epoch, bytes: Bytes) -> Result<(), BatchError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.accept(start_lsn, epoch, bytes).inspect_err(|error| self.error = Some(error.clone()))
    }

    /// The next complete batch.
    pub fn next_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    fn accept(&mut self, start_lsn: Lsn, epoch: Epoch, mut bytes: Bytes) -> Result<(), BatchError> {
        let expected = self.fed_lsn();
        if start_lsn > expected {
            return Err(BatchError::Gap { expected, got: start_lsn });
        }
        let repeated = expected.since(start_lsn);
        if repeated >= bytes.len() as u64 {
            return Ok(());
        }
        let _ = bytes.split_to(usize::try_from(repeated).expect("less than the chunk"));
        if epoch < self.epoch {
            return Err(BatchError::Epoch { at: expected, current: self.epoch, got: epoch });
        }
        if epoch > self.epoch {
            if !self.pending.is_empty() {
                return Err(BatchError::Damaged { at: self.pending_lsn, reason: "epoch changes within a part" });
            }
            self.epoch = epoch;
            self.unfinished = None;
            self.resume_lsn = expected;
        }
        self.pending = if self.pending.is_empty() {
            bytes
        } else {
            let mut joined = BytesMut::with_capacity(self.pending.len() + bytes.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&bytes);
            joined.freeze()
        };
        while let Some(part) = self.peek()? {
            self.consume(&part)?;
        }
        Ok(())
    }

    /// The next part, once all of it is there.
    fn peek(&self) -> Result<Option<Part>, BatchError> {
        let at = self.pending_lsn;
        let mut input = Input::new(&self.pending);
        let Ok(length) = input.u32() else { return Ok(None) };
        let length = length as usize;
        let damaged = |reason| BatchError::Damaged { at, reason };
        if length < HEADER_BYTES {
            return Err(damaged("length is less than the header"));
        }
        let held = self.unfinished.as_ref().map_or(0, |batch| batch.end_lsn.since(batch.start_lsn));
        if held + length as u64 > MAX_BATCH_BYTES {
            return Err(BatchError::TooLong { at });
        }
        if self.pending.len() > 8 && self.pending[8] != BATCH_VERSION {
            return Err(BatchError::Version { at, version: self.pending[8] });
        }
        let Some(bytes) = self.pending.get(..length) else { return Ok(None) };
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
        if (flags & FLAG_CONTINUES != 0) != self.unfinished.is_some() {
            return Err(damaged("parts of a batch do not follow each other"));
        }
        Ok(Some(Part { length, flags, records, commit_time_us }))
    }

    fn consume(&mut self, part: &Part) -> Result<(), BatchError> {
        let start_lsn = self.pending_lsn;
        let end_lsn = start_lsn.advance(part.length as u64);
        let payload = self.pending.split_to(part.length).slice(HEADER_BYTES..);
        self.pending_lsn = end_lsn;
        let mut batch = self.unfinished.take().unwrap_or_else(|| Batch {
            start_lsn,
            end_lsn,
            epoch: self.epoch,
            commit_time_us: part.commit_time_us,
            record_count: 0,
            payloads: SmallVec::new(),
        });
        if batch.commit_time_us != part.commit_time_us {
            return Err(BatchError::Damaged { at: start_lsn, reason: "parts of a batch differ in commit time" });
        }
        batch.end_lsn = end_lsn;
        batch.record_count += u64::from(part.records);
        batch.payloads.push(payload);
        if part.flags & FLAG_MORE != 0 {
            self.unfinished = Some(batch);
        } else {
            self.resume_lsn = end_lsn;
            self.ready.push_back(batch);
        }
        Ok(())
    }
}
