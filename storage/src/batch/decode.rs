//! The log's bytes back into batches.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

use super::filtered::FilteredLog;
use super::part::{Part, PartReader};
use super::{FLAG_CONTINUES, FLAG_MORE, MAX_BATCH_BYTES};
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
    parts: PartReader,
    unfinished: Option<Batch>,
    ready: VecDeque<Batch>,
    error: Option<BatchError>,
}

impl BatchDecoder {
    /// Decodes from `from_lsn` on, which must be the end of a batch (or [`Lsn::ZERO`]).
    pub fn new(from_lsn: Lsn) -> Self {
        Self {
            resume_lsn: from_lsn,
            parts: PartReader::new(from_lsn),
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
        self.parts.fed_lsn()
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

    fn accept(&mut self, start_lsn: Lsn, epoch: Epoch, bytes: Bytes) -> Result<(), BatchError> {
        let (at, before) = (self.fed_lsn(), self.parts.epoch());
        if !self.parts.feed(start_lsn, epoch, bytes)? {
            return Ok(());
        }
        self.entered_epoch(before, at);
        loop {
            let start_lsn = self.parts.lsn();
            let Some(part) = self.parts.next(self.held_bytes())? else { return Ok(()) };
            self.join(start_lsn, part)?;
        }
    }

    /// Bytes of the unfinished batch.
    fn held_bytes(&self) -> u64 {
        self.unfinished.as_ref().map_or(0, |batch| batch.end_lsn.since(batch.start_lsn))
    }

    /// What an older writer than that of the bytes from `at` on left unfinished stays so.
    fn entered_epoch(&mut self, before: Epoch, at: Lsn) {
        if self.parts.epoch() > before {
            self.unfinished = None;
            self.resume_lsn = at;
        }
    }

    fn accept_filtered(&mut self, log: &FilteredLog) -> Result<(), BatchError> {
        let (expected, before) = (self.fed_lsn(), self.parts.epoch());
        if log.start_lsn > expected {
            return Err(BatchError::Gap { expected, got: log.start_lsn });
        }
        let parts = log.parts()?;
        if log.end_lsn <= expected {
            return Ok(());
        }
        self.parts.enter_epoch(log.epoch)?;
        self.entered_epoch(before, expected);
        let mut at = log.start_lsn;
        for part in parts {
            let end_lsn = at.advance(part.length);
            if end_lsn > expected {
                if at < expected || self.parts.pending_bytes() > 0 {
                    return Err(BatchError::Damaged { at, reason: "a filtered part begins where none does" });
                }
                if self.held_bytes() + part.length > MAX_BATCH_BYTES {
                    return Err(BatchError::TooLong { at });
                }
                self.parts.pass(part.length);
                self.join(at, part)?;
            }
            at = end_lsn;
        }
        Ok(())
    }

    /// Adds a part that begins at `start_lsn` to its batch.
    fn join(&mut self, start_lsn: Lsn, part: Part) -> Result<(), BatchError> {
        let Part { length, flags, records, commit_time_us, payload } = part;
        let end_lsn = start_lsn.advance(length);
        if (flags & FLAG_CONTINUES != 0) != self.unfinished.is_some() {
            return Err(BatchError::Damaged { at: start_lsn, reason: "parts of a batch do not follow each other" });
        }
        let mut batch = self.unfinished.take().unwrap_or_else(|| Batch {
            start_lsn,
            end_lsn,
            epoch: self.parts.epoch(),
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
