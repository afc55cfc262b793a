//! The log's bytes back into batches.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::filtered::{FilteredLog, FilteredPart};
use super::part::{Part, next_part};
use super::{FLAG_CONTINUES, FLAG_MORE, HEADER_BYTES, MAX_BATCH_BYTES};
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
    /// Records in all parts, as far as they are here: log may be filtered.
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

    /// Takes the next stretch of filtered log: batches then have the records that are there. May alternate with
    /// [`BatchDecoder::feed`], whose rules hold.
    pub fn feed_filtered(&mut self, log: &FilteredLog) -> Result<(), BatchError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.accept_filtered(log).inspect_err(|error| self.error = Some(error.clone()))
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
        self.enter_epoch(expected, epoch)?;
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
        next_part(self.pending_lsn, &self.pending, self.held_bytes())
    }

    /// Bytes of the unfinished batch.
    fn held_bytes(&self) -> u64 {
        self.unfinished.as_ref().map_or(0, |batch| batch.end_lsn.since(batch.start_lsn))
    }

    /// Bytes that come next are of `epoch`: what an older writer left unfinished stays so.
    fn enter_epoch(&mut self, at: Lsn, epoch: Epoch) -> Result<(), BatchError> {
        if epoch < self.epoch {
            return Err(BatchError::Epoch { at, current: self.epoch, got: epoch });
        }
        if epoch > self.epoch {
            if !self.pending.is_empty() {
                return Err(BatchError::Damaged { at: self.pending_lsn, reason: "epoch changes within a part" });
            }
            self.epoch = epoch;
            self.unfinished = None;
            self.resume_lsn = at;
        }
        Ok(())
    }

    fn accept_filtered(&mut self, log: &FilteredLog) -> Result<(), BatchError> {
        let expected = self.fed_lsn();
        if log.start_lsn > expected {
            return Err(BatchError::Gap { expected, got: log.start_lsn });
        }
        let parts = log.parts()?;
        if log.end_lsn <= expected {
            return Ok(());
        }
        self.enter_epoch(expected, log.epoch)?;
        let mut at = log.start_lsn;
        for FilteredPart { length, flags, commit_time_us, records, payload } in parts {
            let end_lsn = at.advance(length);
            if end_lsn > expected {
                if at < expected || !self.pending.is_empty() {
                    return Err(BatchError::Damaged { at, reason: "a filtered part begins where none does" });
                }
                if self.held_bytes() + length > MAX_BATCH_BYTES {
                    return Err(BatchError::TooLong { at });
                }
                self.pending_lsn = end_lsn;
                self.join(at, flags, commit_time_us, records, payload)?;
            }
            at = end_lsn;
        }
        Ok(())
    }

    fn consume(&mut self, part: &Part) -> Result<(), BatchError> {
        let start_lsn = self.pending_lsn;
        let payload = self.pending.split_to(part.length).slice(HEADER_BYTES..);
        self.pending_lsn = start_lsn.advance(part.length as u64);
        self.join(start_lsn, part.flags, part.commit_time_us, part.records, payload)
    }

    /// Adds the part from `start_lsn` to `pending_lsn` to its batch.
    fn join(
        &mut self,
        start_lsn: Lsn,
        flags: u8,
        commit_time_us: u64,
        records: u32,
        payload: Bytes,
    ) -> Result<(), BatchError> {
        let end_lsn = self.pending_lsn;
        if (flags & FLAG_CONTINUES != 0) != self.unfinished.is_some() {
            return Err(BatchError::Damaged { at: start_lsn, reason: "parts of a batch do not follow each other" });
        }
        let mut batch = self.unfinished.take().unwrap_or_else(|| Batch {
            start_lsn,
            end_lsn,
            epoch: self.epoch,
            commit_time_us,
            record_count: 0,
            payloads: SmallVec::new(),
        });
        if batch.commit_time_us != commit_time_us {
            return Err(BatchError::Damaged { at: start_lsn, reason: "parts of a batch differ in commit time" });
        }
        batch.end_lsn = end_lsn;
        batch.record_count += u64::from(records);
        if !payload.is_empty() {
            batch.payloads.push(payload);
        }
        if flags & FLAG_MORE != 0 {
            self.unfinished = Some(batch);
        } else {
            self.resume_lsn = end_lsn;
            self.ready.push_back(batch);
        }
        Ok(())
    }
}
