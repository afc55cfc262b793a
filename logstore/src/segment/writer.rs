//! The one writer of the segment files.
//!
//! Invariants: `synced_bytes <= written_bytes` of the active segment; `synced_bytes` is zero until all of the segment before
//! is durable; the segment before that one is durable, and the name of the active one as well. So a change of segments
//! syncs nothing, except where a whole segment was filled before the last change was durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft::eraftpb::{Entry, EntryType, HardState};
use storage::{BranchId, Epoch, Lsn};

use super::checkpoint::Checkpoint;
use super::format::{RECORD_HEADER_BYTES, RecordKind, put_record, record_bytes};
use super::set::{Head, Mark, Segment, SegmentSet};
use super::spare::Spare;
use super::{StoreError, file_name};
use crate::disk::{Disk, DiskFile};
use crate::machine::StateMachine;

/// Kept free at a segment's end for its seal and a mark.
const RESERVED_BYTES: u64 = 4 * RECORD_HEADER_BYTES as u64;
/// A branch's appends are marked about this often.
const MARK_EVERY_BYTES: u64 = 256 << 10;
/// Header flag: nothing before this segment belongs to the log.
pub(super) const FLAG_RESTARTED: u8 = 1;

/// Where an entry that is not yet applied was written.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    /// Raft index.
    pub index: u64,
    /// Segment.
    pub sequence: u64,
    /// Offset of the record.
    pub offset: u64,
}

/// A complete segment whose end is not known to be durable.
pub(super) struct Before {
    segment: Arc<Segment>,
    unsynced_bytes: u64,
}

/// Sizes, and whose log it is.
#[derive(Clone, Copy, Debug)]
pub struct SegmentConfig {
    /// Size of segment files that are begun from now on, unless what is written needs more. Those that exist keep theirs.
    pub segment_bytes: u64,
    /// A checkpoint is written this often, which bounds what is read again at a start.
    pub checkpoint_every_bytes: u64,
    /// Raft's id of the node, for a log that is begun; one that exists has it in every header, and only the node's
    /// number must agree.
    pub raft_id: u64,
}

/// See the module.
pub struct SegmentLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) set: Arc<SegmentSet>,
    pub(super) spare: Arc<Spare>,
    pub(super) config: SegmentConfig,
    pub(super) active: Arc<Segment>,
    /// Bytes of the active segment that were written (without what is still in `buffer`).
    pub(super) written_bytes: u64,
    pub(super) synced_bytes: u64,
    /// The segment before, until its end is known to be durable.
    pub(super) before: Option<Before>,
    pub(super) buffer: Vec<u8>,
    pub(super) hard_state: HardState,
    pub(super) last_index: u64,
    pub(super) since_checkpoint_bytes: u64,
    pub(super) head_bytes: u64,
    pub(super) locations: VecDeque<Location>,
    pub(super) marks: BTreeMap<BranchId, (u64, Lsn)>,
    /// A mark says that everything written before it was durable.
    pub(super) marked: bool,
}

/// What is to be synced: the active segment's file, up to what was written when this was made, and the one before.
pub struct Unsynced {
    before: Option<Arc<dyn DiskFile>>,
    file: Arc<dyn DiskFile>,
    sequence: u64,
    written_bytes: u64,
}

impl Unsynced {
    /// Makes it durable, on any thread. A failure ends the node: see [`DiskFile::sync`].
    pub fn sync(&self) -> std::io::Result<()> {
        if let Some(before) = &self.before {
            before.sync()?;
        }
        self.file.sync()
    }
}

impl SegmentLog {
    /// The files, for readers.
    pub fn set(&self) -> &Arc<SegmentSet> {
        &self.set
    }

    fn remaining_bytes(&self) -> u64 {
        let used = self.written_bytes + self.buffer.len() as u64 + RESERVED_BYTES;
        self.active.length_bytes().saturating_sub(used)
    }

    /// What a segment needs beside its entries. Its checkpoint may have grown since the active one's.
    fn beside_entries_bytes(&self) -> u64 {
        RESERVED_BYTES + 2 * self.head_bytes + 4096
    }

    /// Makes sure that entries of `bytes` in total, framing included, can be written: by a longer segment than usual if need be,
    /// as a leader with larger ones may send what does not fit into ours. With [`StoreError::NoSpace`] nothing has happened,
    /// and it may be asked again.
    pub fn ensure_room(&self, bytes: u64) -> Result<(), StoreError> {
        if bytes <= self.remaining_bytes() {
            return Ok(());
        }
        self.spare.ensure(self.active.sequence() + 1, bytes + self.beside_entries_bytes()).map(|_| ())
    }

    /// Entries of this many bytes fit into an empty segment of the usual size, framing included.
    pub fn segment_capacity_bytes(&self) -> u64 {
        self.config.segment_bytes.saturating_sub(self.beside_entries_bytes())
    }

    /// What an entry takes in a segment.
    pub fn entry_bytes(context_bytes: usize, data_bytes: usize) -> u64 {
        record_bytes(2 + context_bytes + data_bytes) as u64
    }

    /// The hard state that was written last.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Writes a hard state and entries in one piece; [`SegmentLog::unsynced`] makes them durable. `checkpoint` gives the
    /// state machine as of its applied index. Any error but a full disk (which `ensure_room` rules out) ends the node.
    pub fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
        checkpoint: &dyn Fn() -> Checkpoint,
    ) -> Result<(), StoreError> {
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
            self.make_room(record_bytes(8) as u64, checkpoint)?;
            self.put_hard_state();
        }
        for entry in entries {
            let bytes = Self::entry_bytes(entry.context.len(), entry.data.len());
            self.make_room(bytes, checkpoint)?;
            self.put_entry(entry);
            self.since_checkpoint_bytes += bytes;
        }
        if self.since_checkpoint_bytes >= self.config.checkpoint_every_bytes {
            let state = checkpoint();
            let payload = state.encode();
            if record_bytes(payload.len()) as u64 <= self.remaining_bytes() {
                self.put(RecordKind::Checkpoint, (state.index, state.term), &[&payload]);
                self.since_checkpoint_bytes = 0;
            }
        }
        self.flush()
    }

    /// What was written and is not known to be durable.
    pub fn unsynced(&self) -> Unsynced {
        let (sequence, written_bytes) = (self.active.sequence(), self.written_bytes);
        let before = self.before.as_ref().map(|before| before.segment.file().clone());
        Unsynced { before, file: self.active.file().clone(), sequence, written_bytes }
    }

    /// It is durable now, or the node must stop.
    pub fn synced(&mut self, unsynced: &Unsynced, outcome: std::io::Result<()>) -> Result<(), StoreError> {
        outcome.map_err(StoreError::io(&*self.disk, "syncing a segment"))?;
        // What was asked for before the active segment began says nothing of the end of the one before.
        if unsynced.sequence == self.active.sequence() {
            self.synced_bytes = self.synced_bytes.max(unsynced.written_bytes);
            self.before = None;
        }
        Ok(())
    }

    /// Bytes that were written and are not known to be durable.
    pub fn unsynced_bytes(&self) -> u64 {
        let before_bytes = self.before.as_ref().map_or(0, |before| before.unsynced_bytes);
        before_bytes + self.written_bytes - self.synced_bytes
    }

    /// A segment has begun and does not count yet: the log would not be found again without the segments before it.
    pub fn is_changing(&self) -> bool {
        self.synced_bytes < self.head_bytes
    }

    /// Leaves a mark when the last records have none behind them yet: without it, damage to the last group could not
    /// be told from a torn write. Costs no fsync.
    pub fn mark_if_idle(&mut self) -> Result<(), StoreError> {
        // The seal's room stays free.
        let has_room = self.written_bytes + 2 * RECORD_HEADER_BYTES as u64 <= self.active.length_bytes();
        if self.marked || self.synced_bytes != self.written_bytes || !has_room {
            return Ok(());
        }
        self.put(RecordKind::Mark, (self.last_index, 0), &[]);
        self.flush()?;
        self.marked = true;
        Ok(())
    }

    /// Marks the end and makes everything durable.
    pub fn close(&mut self) -> Result<(), StoreError> {
        if self.synced_bytes != self.written_bytes {
            self.sync()?;
        }
        self.mark_if_idle()?;
        self.sync()
    }

    /// Forgets the log and begins again after `checkpoint`, which a leader sent.
    pub fn restart_at(&mut self, checkpoint: &Checkpoint, hard_state: HardState) -> Result<(), StoreError> {
        let old = self.set.all();
        self.hard_state = hard_state;
        self.put(RecordKind::Seal, (self.last_index, 0), &[]);
        self.flush()?;
        self.sync()?;
        self.last_index = checkpoint.index;
        self.locations.clear();
        self.set.update_terms(|terms| *terms = checkpoint.terms.clone());
        self.create_segment(checkpoint, FLAG_RESTARTED, 0)?;
        self.sync()?;
        for segment in old {
            self.remove_segment(segment.sequence())?;
        }
        Ok(())
    }

    /// Removes the segments before `sequence`, oldest first.
    pub fn trim_before(&mut self, sequence: u64) -> Result<u64, StoreError> {
        let mut removed_bytes = 0;
        for segment in self.set.all() {
            if segment.sequence() < sequence {
                removed_bytes += segment.length_bytes();
                self.remove_segment(segment.sequence())?;
            }
        }
        Ok(removed_bytes)
    }

    fn remove_segment(&self, sequence: u64) -> Result<(), StoreError> {
        self.set.remove(sequence);
        self.disk.remove(&file_name(sequence)).map_err(StoreError::io(&*self.disk, "removing a segment"))
    }

    /// Entries up to `index` are applied; returns the place of the last one.
    pub fn take_location(&mut self, index: u64) -> Option<Location> {
        while self.locations.front().is_some_and(|location| location.index < index) {
            self.locations.pop_front();
        }
        let front = self.locations.front().copied().filter(|location| location.index == index);
        if front.is_some() {
            self.locations.pop_front();
        }
        front
    }

    /// An append was accepted: remember its place if the last remembered one is far away.
    pub fn note_append(&mut self, location: Location, branch: BranchId, epoch: Epoch, start_lsn: Lsn) {
        let near = self.marks.get(&branch).is_some_and(|&(sequence, marked)| {
            sequence == location.sequence && start_lsn.since(marked) < MARK_EVERY_BYTES
        });
        if near {
            return;
        }
        if let Some(segment) = self.set.get(location.sequence) {
            let (index, offset) = (location.index, location.offset);
            segment.add_mark(Mark { branch, start_lsn, epoch, index, offset });
            self.marks.insert(branch, (location.sequence, start_lsn));
        }
    }

    fn put(&mut self, kind: RecordKind, position: (u64, u64), parts: &[&[u8]]) {
        put_record(&mut self.buffer, self.active.sequence(), kind, position, self.synced_bytes, parts);
    }

    fn put_hard_state(&mut self) {
        let (position, vote) = ((self.hard_state.commit, self.hard_state.term), self.hard_state.vote.to_le_bytes());
        self.put(RecordKind::HardState, position, &[&vote]);
    }

    fn put_entry(&mut self, entry: &Entry) {
        let kind = match entry.get_entry_type() {
            EntryType::EntryNormal => RecordKind::Entry,
            EntryType::EntryConfChange => RecordKind::ConfChange,
            EntryType::EntryConfChangeV2 => RecordKind::ConfChangeV2,
        };
        let offset = self.written_bytes + self.buffer.len() as u64;
        while self.locations.back().is_some_and(|last| last.index >= entry.index) {
            self.locations.pop_back();
        }
        self.locations.push_back(Location { index: entry.index, sequence: self.active.sequence(), offset });
        let context_bytes = u16::try_from(entry.context.len()).expect("contexts are at most a few hundred bytes");
        let parts: [&[u8]; 3] = [&context_bytes.to_le_bytes(), &entry.context, &entry.data];
        self.put(kind, (entry.index, entry.term), &parts);
        self.last_index = entry.index;
        self.set.update_terms(|terms| terms.push(entry.index, entry.term));
    }

    fn make_room(&mut self, bytes: u64, checkpoint: &dyn Fn() -> Checkpoint) -> Result<(), StoreError> {
        if bytes <= self.remaining_bytes() {
            return Ok(());
        }
        self.rotate(&checkpoint(), bytes)?;
        assert!(bytes <= self.remaining_bytes(), "a record of {bytes} bytes does not fit into an empty segment");
        Ok(())
    }

    /// Goes on in a new segment, which has room for `bytes`.
    fn rotate(&mut self, checkpoint: &Checkpoint, bytes: u64) -> Result<(), StoreError> {
        if self.before.is_some() {
            // The disk is slower than what is written: it has to catch up, or recovery would have to look further back.
            self.sync()?;
        }
        self.put(RecordKind::Seal, (self.last_index, 0), &[]);
        self.flush()?;
        let before = Before { segment: self.active.clone(), unsynced_bytes: self.written_bytes - self.synced_bytes };
        self.create_segment(checkpoint, 0, bytes)?;
        self.before = Some(before);
        Ok(())
    }

    /// Begins the segment after the active one, which must be complete, with room for entries of `bytes`.
    pub(super) fn create_segment(&mut self, checkpoint: &Checkpoint, flags: u8, bytes: u64) -> Result<(), StoreError> {
        let (sequence, first_index) = (self.active.sequence() + 1, self.last_index + 1);
        let payload = checkpoint.encode();
        // The head's other two records are small.
        let needed_bytes = bytes + RESERVED_BYTES + record_bytes(payload.len()) as u64 + 4 * RECORD_HEADER_BYTES as u64;
        self.active = new_segment(&self.disk, &self.spare, needed_bytes, sequence, first_index, checkpoint)?;
        self.start_segment(checkpoint, &payload, flags)
    }

    /// Writes the head of the segment that `active` has become.
    pub(super) fn start_segment(
        &mut self,
        checkpoint: &Checkpoint,
        encoded: &[u8],
        flags: u8,
    ) -> Result<(), StoreError> {
        self.buffer.clear();
        (self.written_bytes, self.synced_bytes) = (0, 0);
        let mut payload = vec![flags];
        payload.extend_from_slice(&self.config.raft_id.to_le_bytes());
        self.put(RecordKind::Header, (self.last_index + 1, 0), &[&payload]);
        self.put(RecordKind::Checkpoint, (checkpoint.index, checkpoint.term), &[encoded]);
        self.put_hard_state();
        self.head_bytes = self.buffer.len() as u64;
        self.since_checkpoint_bytes = 0;
        self.flush()?;
        self.set.insert(self.active.clone());
        self.spare.request(self.active.sequence() + 1);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let end_bytes = self.written_bytes + self.buffer.len() as u64;
        assert!(end_bytes <= self.active.length_bytes(), "a segment is written up to {end_bytes} bytes, past its end");
        self.active
            .file()
            .write_at(self.written_bytes, &self.buffer)
            .map_err(StoreError::io(&*self.disk, "writing a segment"))?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.marked = false;
        // One huge group must not pin its memory for ever.
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let unsynced = self.unsynced();
        self.synced(&unsynced, unsynced.sync())
    }
}

pub(super) fn new_segment(
    disk: &Arc<dyn Disk>,
    spare: &Spare,
    needed_bytes: u64,
    sequence: u64,
    first_index: u64,
    checkpoint: &Checkpoint,
) -> Result<Arc<Segment>, StoreError> {
    let length_bytes = spare.take(sequence, needed_bytes)?;
    let file = disk.open(&file_name(sequence)).map_err(StoreError::io(&**disk, "opening a segment"))?;
    let machine = StateMachine::decode(checkpoint.machine.clone())
        .map_err(|error| StoreError::corrupt(&**disk, sequence, 0, error))?;
    let head = Head::new(first_index, checkpoint.index, &machine);
    Ok(Segment::new(sequence, length_bytes, file, Some(head)))
}
