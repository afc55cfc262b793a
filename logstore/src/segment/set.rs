//! The segments that exist, shared between the one writer and many readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use storage::{BranchId, Epoch, Lsn};

use super::checkpoint::Checkpoint;
use super::format::RecordKind;
use super::reader::RecordReader;
use super::{ReadStop, StoreError};
use crate::core::TermRuns;
use crate::disk::{Disk, DiskFile};
use crate::machine::StateMachine;

/// An accepted append whose place is remembered, so that a reader need not scan from the segment's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The branch it belongs to.
    pub branch: BranchId,
    /// Where the group starts in the stream.
    pub start_lsn: Lsn,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its Raft index.
    pub index: u64,
    /// Its record in the segment.
    pub offset: u64,
}

/// What a segment begins with, kept in memory in short form.
#[derive(Debug)]
pub struct Head {
    /// Index of the first entry that the segment was opened for.
    pub first_index: u64,
    /// The checkpoint's index.
    pub applied_index: u64,
    branches: BTreeMap<BranchId, (Epoch, Lsn)>,
}

impl Head {
    /// Short form of a checkpoint.
    pub(super) fn new(first_index: u64, applied_index: u64, machine: &StateMachine) -> Head {
        let branches = machine.branches().map(|(id, state)| (id, (state.epoch, state.end_lsn))).collect();
        Head { first_index, applied_index, branches }
    }

    /// Epoch and end of a branch at the checkpoint.
    pub fn branch(&self, branch: BranchId) -> (Epoch, Lsn) {
        self.branches.get(&branch).copied().unwrap_or_default()
    }

    /// Where each branch ended at the checkpoint.
    pub fn ends(&self) -> impl Iterator<Item = (BranchId, Lsn)> {
        self.branches.iter().map(|(&branch, &(_, end))| (branch, end))
    }
}

/// One segment file.
pub struct Segment {
    sequence: u64,
    length_bytes: u64,
    file: Arc<dyn DiskFile>,
    head: Mutex<Option<Arc<Head>>>,
    marks: Mutex<Vec<Mark>>,
}

impl Segment {
    pub(super) fn new(sequence: u64, length_bytes: u64, file: Arc<dyn DiskFile>, head: Option<Head>) -> Arc<Segment> {
        let head = Mutex::new(head.map(Arc::new));
        Arc::new(Segment { sequence, length_bytes, file, head, marks: Mutex::default() })
    }

    /// Its place in the order of segments.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Size of the file.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub(super) fn reader_at(&self, offset: u64) -> RecordReader {
        RecordReader::new(self.file.clone(), self.sequence, self.length_bytes, offset)
    }

    /// Remembers an accepted append.
    pub fn add_mark(&self, mark: Mark) {
        self.marks.lock().push(mark);
    }

    /// Reads the checkpoint that the segment begins with.
    pub(super) fn read_checkpoint(&self) -> Result<(u64, Checkpoint), ReadStop> {
        let mut reader = self.reader_at(0);
        let header = reader.next()?;
        let unexpected = |offset| ReadStop::Damaged { offset, damage: super::format::Damage::Kind(0) };
        if header.header.kind != RecordKind::Header {
            return Err(unexpected(0));
        }
        let record = reader.next()?;
        if record.header.kind != RecordKind::Checkpoint {
            return Err(unexpected(record.offset));
        }
        let checkpoint = Checkpoint::decode(record.header.index, record.header.term, record.payload)
            .map_err(|_| unexpected(record.offset))?;
        Ok((header.header.index, checkpoint))
    }
}

/// Where a reader of a branch begins, and the branch's state there.
pub(super) struct Start {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) index: u64,
    pub(super) epoch: Epoch,
    pub(super) end_lsn: Lsn,
}

/// All segments, contiguous in sequence.
pub struct SegmentSet {
    disk: Arc<dyn Disk>,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    terms: RwLock<TermRuns>,
}

impl SegmentSet {
    pub(super) fn new(disk: Arc<dyn Disk>, terms: TermRuns) -> Arc<SegmentSet> {
        Arc::new(SegmentSet { disk, segments: RwLock::default(), terms: RwLock::new(terms) })
    }

    pub(super) fn insert(&self, segment: Arc<Segment>) {
        self.segments.write().insert(segment.sequence, segment);
    }

    pub(super) fn remove(&self, sequence: u64) -> Option<Arc<Segment>> {
        self.segments.write().remove(&sequence)
    }

    /// The segment with this sequence number.
    pub fn get(&self, sequence: u64) -> Option<Arc<Segment>> {
        self.segments.read().get(&sequence).cloned()
    }

    /// All segments, oldest first.
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }

    /// Bytes of all segment files.
    pub fn total_bytes(&self) -> u64 {
        self.segments.read().values().map(|segment| segment.length_bytes).sum()
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        self.terms.read().term(index)
    }

    /// Changes the published terms.
    pub(crate) fn update_terms(&self, update: impl FnOnce(&mut TermRuns)) {
        update(&mut self.terms.write());
    }

    pub(super) fn corrupt(&self, sequence: u64, offset: u64, reason: impl ToString) -> StoreError {
        StoreError::corrupt(&*self.disk, sequence, offset, reason)
    }

    pub(super) fn read_error(&self, sequence: u64, stop: ReadStop) -> StoreError {
        match stop {
            ReadStop::Io(source) => StoreError::io(&*self.disk, "reading a segment")(source),
            ReadStop::Damaged { offset, damage } => self.corrupt(sequence, offset, damage),
        }
    }

    /// What a segment begins with; read from the file the first time.
    pub fn head(&self, segment: &Segment) -> Result<Arc<Head>, StoreError> {
        if let Some(head) = &*segment.head.lock() {
            return Ok(head.clone());
        }
        let (first_index, checkpoint) = self.checkpoint(segment)?;
        let machine =
            StateMachine::decode(checkpoint.machine).map_err(|error| self.corrupt(segment.sequence, 0, error))?;
        let head = Arc::new(Head::new(first_index, checkpoint.index, &machine));
        *segment.head.lock() = Some(head.clone());
        Ok(head)
    }

    /// First entry index and checkpoint of a segment, from its file.
    pub fn checkpoint(&self, segment: &Segment) -> Result<(u64, Checkpoint), StoreError> {
        segment.read_checkpoint().map_err(|stop| self.read_error(segment.sequence, stop))
    }

    /// The last segment that was opened for an entry at or before `index`, so that the entry lies in it or later.
    pub(super) fn segment_of_entry(&self, index: u64) -> Result<Arc<Segment>, StoreError> {
        let segments = self.all();
        let mut below = segments.len();
        // Entries may have been replaced after a segment was opened, so first_index is not quite monotonic; walking
        // back from the binary search's answer keeps this right.
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.head(&segments[middle])?.first_index <= index {
                low = middle + 1;
            } else {
                high = middle;
            }
            below = low;
        }
        while below > 1 && self.head(&segments[below - 1])?.first_index > index {
            below -= 1;
        }
        let position = below.max(1) - 1;
        segments.get(position).cloned().ok_or_else(|| self.corrupt(0, 0, "the log has no segment"))
    }

    /// Sequence number of the segment from which on entry `index` and all later ones are found.
    pub fn holding_entry(&self, index: u64) -> Result<u64, StoreError> {
        Ok(self.segment_of_entry(index)?.sequence)
    }

    /// Where to begin reading `branch` so that the group holding `lsn` is met.
    pub(super) fn find(&self, branch: BranchId, lsn: Lsn) -> Result<Start, StoreError> {
        let segments = self.all();
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.head(&segments[middle])?.branch(branch).1 <= lsn {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let segment = &segments[low.max(1) - 1];
        let head = self.head(segment)?;
        let marked = segments[low.max(1) - 1..]
            .iter()
            .take(2)
            .flat_map(|segment| {
                let marks = segment.marks.lock();
                let best = marks.iter().rev().find(|mark| mark.branch == branch && mark.start_lsn <= lsn).copied();
                best.map(|mark| (segment.clone(), mark))
            })
            .max_by_key(|(_, mark)| mark.start_lsn);
        let (epoch, end_lsn) = head.branch(branch);
        if let Some((segment, mark)) = marked.filter(|(_, mark)| mark.start_lsn >= end_lsn) {
            let (offset, index) = (mark.offset, mark.index);
            return Ok(Start { segment, offset, index, epoch: mark.epoch, end_lsn: mark.start_lsn });
        }
        let index = head.applied_index + 1;
        // Entries right after the checkpoint may still lie in the segment before.
        let segment = if head.first_index > index { self.segment_of_entry(index)? } else { segment.clone() };
        Ok(Start { segment, offset: 0, index, epoch, end_lsn })
    }
}
