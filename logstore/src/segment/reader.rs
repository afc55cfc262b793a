//! Reading segments from front to back: records, live entries, and one branch's accepted appends.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raft::eraftpb::{Entry, EntryType};
use storage::{BranchId, Epoch, Lsn};

use super::format::{self, Damage, RECORD_HEADER_BYTES, RecordKind, decode_header, record_bytes, split_entry};
use super::{ReadStop, Record, Segment, SegmentSet, StoreError};
use crate::client::LogChunk;
use crate::command::Command;
use crate::disk::DiskFile;
use crate::machine::check_append;

const BLOCK_BYTES: usize = 256 << 10;
const PROBE_BYTES: usize = 16 << 10;
static ZEROS: [u8; PROBE_BYTES] = [0; PROBE_BYTES];

/// Records of one segment in order, read block by block.
pub(super) struct RecordReader {
    file: Arc<dyn DiskFile>,
    sequence: u64,
    length_bytes: u64,
    offset: u64,
    /// Bytes of the file from `block_offset` on.
    block: Bytes,
    block_offset: u64,
}

impl RecordReader {
    pub(super) fn new(file: Arc<dyn DiskFile>, sequence: u64, length_bytes: u64, offset: u64) -> Self {
        RecordReader { file, sequence, length_bytes, offset, block: Bytes::new(), block_offset: offset }
    }

    /// Offset of the next record.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// `length` bytes at the current offset plus `skip`.
    fn bytes(&mut self, skip: usize, length: usize) -> std::io::Result<Bytes> {
        let start = self.offset + skip as u64;
        let end = start + length as u64;
        if start < self.block_offset || end > self.block_offset + self.block.len() as u64 {
            let wanted = (length.max(BLOCK_BYTES) as u64).min(self.length_bytes - start) as usize;
            let mut block = BytesMut::zeroed(wanted);
            self.file.read_at(start, &mut block)?;
            self.block = block.freeze();
            self.block_offset = start;
        }
        let from = (start - self.block_offset) as usize;
        Ok(self.block.slice(from..from + length))
    }

    /// The record at the current offset; moves past it.
    pub(super) fn next(&mut self) -> Result<Record, ReadStop> {
        let offset = self.offset;
        let damaged = |damage| ReadStop::Damaged { offset, damage };
        let available = self.length_bytes.saturating_sub(offset);
        if available < RECORD_HEADER_BYTES as u64 {
            return Err(damaged(Damage::Empty));
        }
        let header = self.bytes(0, RECORD_HEADER_BYTES).map_err(ReadStop::Io)?;
        let header: &[u8; RECORD_HEADER_BYTES] = header.as_ref().try_into().expect("exactly a header was read");
        let header = decode_header(self.sequence, header, available).map_err(damaged)?;
        let payload = self.bytes(RECORD_HEADER_BYTES, header.length_bytes).map_err(ReadStop::Io)?;
        header.check_payload(&payload).map_err(damaged)?;
        self.offset += record_bytes(header.length_bytes) as u64;
        Ok(Record { offset, header, payload })
    }

    /// The next record that is valid, wherever it begins at or after the current offset; moves past it. `None` at the end.
    pub(super) fn resynchronize(&mut self) -> std::io::Result<Option<Record>> {
        const STEP: usize = format::RECORD_ALIGNMENT_BYTES;
        while self.offset + (RECORD_HEADER_BYTES as u64) <= self.length_bytes {
            let length = (self.length_bytes - self.offset).min(PROBE_BYTES as u64) as usize;
            let probe = self.bytes(0, length)?;
            // Almost always what lies behind the end was never written.
            let candidate = if probe[..] == ZEROS[..length] {
                None
            } else {
                probe.chunks(STEP).position(format::looks_like_record)
            };
            let Some(candidate) = candidate else {
                self.offset += (length as u64).next_multiple_of(STEP as u64);
                continue;
            };
            self.offset += (candidate * STEP) as u64;
            match self.next() {
                Ok(record) => return Ok(Some(record)),
                Err(ReadStop::Io(error)) => return Err(error),
                Err(ReadStop::Damaged { .. }) => self.offset += STEP as u64,
            }
        }
        Ok(None)
    }

    /// End of the last block that holds anything but zeros, at or after the current offset.
    pub(super) fn end_of_written(&mut self) -> std::io::Result<u64> {
        let (start, mut end) = (self.offset, self.offset);
        while self.offset < self.length_bytes {
            let length = (self.length_bytes - self.offset).min(PROBE_BYTES as u64) as usize;
            let probe = self.bytes(0, length)?;
            self.offset += length as u64;
            if probe[..] != ZEROS[..length] {
                end = self.offset;
            }
        }
        self.offset = start;
        Ok(end)
    }
}

/// Turns an entry record into the Raft entry; `None` for other records.
pub(super) fn to_entry(record: &Record) -> Result<Option<Entry>, &'static str> {
    let entry_type = match record.header.kind {
        RecordKind::Entry => EntryType::EntryNormal,
        RecordKind::ConfChange => EntryType::EntryConfChange,
        RecordKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
        _ => return Ok(None),
    };
    let (context, data) = split_entry(&record.payload).ok_or("entry context is longer than the entry")?;
    let (index, term) = (record.header.index, record.header.term);
    Ok(Some(Entry { entry_type, index, term, context, data, ..Entry::default() }))
}

/// Live entries from an index on, across segments.
struct EntryReader {
    set: Arc<SegmentSet>,
    segment: Arc<Segment>,
    reader: RecordReader,
    next_index: u64,
}

impl EntryReader {
    /// Reads from `next_index`, which lies at or after `offset` of `segment`.
    fn new(set: Arc<SegmentSet>, segment: Arc<Segment>, offset: u64, next_index: u64) -> Self {
        let reader = segment.reader_at(offset);
        EntryReader { set, segment, reader, next_index }
    }

    /// Returns the next live entry with its segment and offset. The caller knows that one has been written.
    fn next(&mut self) -> Result<(Entry, u64, u64), StoreError> {
        loop {
            let record = self.reader.next().map_err(|stop| self.set.read_error(self.segment.sequence(), stop))?;
            if record.header.kind == RecordKind::Seal {
                let next = self.segment.sequence() + 1;
                self.segment = self.set.get(next).ok_or_else(|| {
                    self.set.corrupt(self.segment.sequence(), record.offset, "sealed, but the next segment is missing")
                })?;
                self.reader = self.segment.reader_at(0);
                continue;
            }
            // Copies of an index that a later leader replaced have another term.
            if record.header.index != self.next_index || self.set.term(record.header.index) != Some(record.header.term)
            {
                continue;
            }
            let sequence = self.segment.sequence();
            if let Some(entry) =
                to_entry(&record).map_err(|reason| self.set.corrupt(sequence, record.offset, reason))?
            {
                self.next_index += 1;
                return Ok((entry, sequence, record.offset));
            }
        }
    }
}

/// Live entries `low..high`, at least one, then as many as fit into `max_bytes`.
pub fn read_entries(set: &Arc<SegmentSet>, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, StoreError> {
    let segment = set.segment_of_entry(low)?;
    let mut reader = EntryReader::new(set.clone(), segment, 0, low);
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while reader.next_index < high && (entries.is_empty() || bytes < max_bytes) {
        let (entry, ..) = reader.next()?;
        bytes += (entry.data.len() + entry.context.len()) as u64;
        entries.push(entry);
    }
    Ok(entries)
}

/// One branch's accepted appends, read from the files by applying the state machine's own rule.
pub struct BranchCursor {
    branch: BranchId,
    entries: EntryReader,
    epoch: Epoch,
    end_lsn: Lsn,
}

impl BranchCursor {
    /// Starts so that the first chunk given contains `from_lsn` or begins there.
    pub fn new(set: &Arc<SegmentSet>, branch: BranchId, from_lsn: Lsn) -> Result<Self, StoreError> {
        let start = set.find(branch, from_lsn)?;
        let entries = EntryReader::new(set.clone(), start.segment, start.offset, start.index);
        let mut cursor = BranchCursor { branch, entries, epoch: start.epoch, end_lsn: start.end_lsn };
        // Positioned at or before the group that holds `from_lsn`; groups before it are skipped.
        cursor.skip_until(from_lsn)?;
        Ok(cursor)
    }

    fn skip_until(&mut self, from_lsn: Lsn) -> Result<(), StoreError> {
        while self.end_lsn < from_lsn {
            let before = (self.end_lsn, self.epoch);
            let (segment, offset, index) =
                (self.entries.segment.clone(), self.entries.reader.offset(), self.entries.next_index);
            let chunk = self.next_chunk()?;
            if chunk.start_lsn.advance(chunk.bytes.len() as u64) > from_lsn {
                // The group that holds `from_lsn`: give it out by reading it once more.
                self.entries = EntryReader::new(self.entries.set.clone(), segment, offset, index);
                (self.end_lsn, self.epoch) = before;
                break;
            }
        }
        Ok(())
    }

    /// End of the last chunk given.
    pub fn position(&self) -> Lsn {
        self.end_lsn
    }

    /// The next chunk. The caller knows from the published durable LSN that there is one.
    pub fn next_chunk(&mut self) -> Result<LogChunk, StoreError> {
        loop {
            let (entry, sequence, offset) = self.entries.next()?;
            if entry.get_entry_type() != EntryType::EntryNormal {
                continue;
            }
            let command = Command::decode(entry.context, entry.data)
                .map_err(|error| self.entries.set.corrupt(sequence, offset, error))?;
            match command {
                Some(Command::AcquireEpoch { branch }) if branch == self.branch => {
                    self.epoch = Epoch(self.epoch.0 + 1);
                }
                Some(Command::Append { branch, epoch, start_lsn, bytes })
                    if branch == self.branch
                        && check_append(branch, epoch, start_lsn, self.epoch, self.end_lsn).is_ok() =>
                {
                    self.end_lsn = self.end_lsn.advance(bytes.len() as u64);
                    return Ok(LogChunk { start_lsn, epoch, bytes });
                }
                _ => {}
            }
        }
    }
}
