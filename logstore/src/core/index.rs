//! What raft-rs sees as its storage: terms of the whole log, and the entries of its recent tail, in memory.
//!
//! The tail always holds every entry that has not been applied, so that the core never waits for the disk on its own
//! behalf. A follower that has fallen behind the tail needs older entries: they are asked for with a
//! [`FetchRequest`], which the shell answers from the segment files.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::terms::TermRuns;

/// Fixed cost charged for an entry in memory beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Entries `low..high` are needed from the segment files, about `max_bytes` of them.
#[derive(Debug)]
pub struct FetchRequest {
    /// First index.
    pub low: u64,
    /// One past the last index.
    pub high: u64,
    /// The answer may stop once it is this large, but holds at least one entry.
    pub max_bytes: u64,
    pub(super) context: GetEntriesContext,
}

/// See the module.
pub struct LogIndex {
    hard_state: HardState,
    conf_state: ConfState,
    /// From `first_index - 1` on.
    terms: TermRuns,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_limit_bytes: usize,
    applied_index: u64,
    /// The state machine as of `first_index - 1`, for followers that need what was trimmed.
    snapshot: Snapshot,
    fetches: RefCell<Vec<FetchRequest>>,
    fetched: Vec<Entry>,
}

/// In-memory size charged for an entry.
fn cost_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl LogIndex {
    /// A log whose entries after `applied_index` are `tail`, and whose beginning is `snapshot`.
    pub fn new(
        hard_state: HardState,
        conf_state: ConfState,
        terms: TermRuns,
        applied_index: u64,
        tail: Vec<Entry>,
        snapshot: Snapshot,
        tail_limit_bytes: usize,
    ) -> Self {
        let tail: VecDeque<Entry> = tail.into();
        let next = tail.back().map_or(applied_index, |entry| entry.index);
        assert_eq!(terms.last_index(), next, "the terms end where the entries do");
        assert_eq!(terms.first_index(), snapshot.get_metadata().index, "the terms begin with the snapshot");
        let tail_bytes = tail.iter().map(cost_bytes).sum();
        let (fetches, fetched) = (RefCell::default(), Vec::new());
        LogIndex {
            hard_state,
            conf_state,
            terms,
            tail,
            tail_bytes,
            tail_limit_bytes,
            applied_index,
            snapshot,
            fetches,
            fetched,
        }
    }

    /// Terms of the whole log.
    pub fn terms(&self) -> &TermRuns {
        &self.terms
    }

    /// The membership as of the last applied entry.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// The hard state to be written next to the entries.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Takes entries that are on disk now. They may replace a suffix.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            assert!(entry.index > self.applied_index, "applied entry {} may not be replaced", entry.index);
            while self.tail.back().is_some_and(|last| last.index >= entry.index) {
                let dropped = self.tail.pop_back().expect("just seen");
                self.tail_bytes -= cost_bytes(&dropped);
            }
            self.terms.push(entry.index, entry.term);
            self.tail_bytes += cost_bytes(&entry);
            self.tail.push_back(entry);
        }
    }

    /// Entries up to `index` have been applied and may leave memory.
    pub(super) fn set_applied(&mut self, index: u64) {
        self.applied_index = index;
        while self.tail_bytes > self.tail_limit_bytes
            && self.tail.front().is_some_and(|entry| entry.index <= self.applied_index)
        {
            let dropped = self.tail.pop_front().expect("just seen");
            self.tail_bytes -= cost_bytes(&dropped);
        }
    }

    /// The log now begins after `snapshot`.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        let index = snapshot.get_metadata().index;
        self.terms.compact_to(index);
        while self.tail.front().is_some_and(|entry| entry.index <= index) {
            let dropped = self.tail.pop_front().expect("just seen");
            self.tail_bytes -= cost_bytes(&dropped);
        }
        self.snapshot = snapshot;
    }

    /// Everything is replaced by `snapshot`, which a leader sent.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        let metadata = snapshot.get_metadata();
        self.terms = TermRuns::starting_at(metadata.index, metadata.term);
        self.conf_state = metadata.get_conf_state().clone();
        self.applied_index = metadata.index;
        self.hard_state.commit = self.hard_state.commit.max(metadata.index);
        self.tail.clear();
        self.tail_bytes = 0;
        self.snapshot = snapshot;
    }

    pub(super) fn take_fetches(&self) -> Vec<FetchRequest> {
        std::mem::take(&mut self.fetches.borrow_mut())
    }

    pub(super) fn set_fetched(&mut self, entries: Vec<Entry>) {
        self.fetched = entries;
    }

    fn tail_first_index(&self) -> u64 {
        self.tail.front().map_or(self.terms.last_index() + 1, |entry| entry.index)
    }
}

/// A prefix of `entries` of at most `max_bytes`, but at least one.
fn limited<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) -> Vec<Entry> {
    let mut taken: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        bytes += cost_bytes(entry) as u64;
        if bytes > max_bytes && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

impl Storage for LogIndex {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first_index()? {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.terms.last_index() + 1, "entries {low}..{high} end past {}", self.terms.last_index());
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let tail_first = self.tail_first_index();
        if low >= tail_first {
            let wanted = self.tail.range((low - tail_first) as usize..(high - tail_first) as usize);
            return Ok(limited(wanted, max_bytes));
        }
        if self.fetched.first().is_some_and(|first| first.index == low) {
            return Ok(limited(self.fetched.iter().take_while(|entry| entry.index < high), max_bytes));
        }
        assert!(context.can_async(), "entries from {low} are needed at once but the tail begins at {tail_first}");
        self.fetches.borrow_mut().push(FetchRequest { low, high: high.min(tail_first), max_bytes, context });
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.terms.first_index() {
            return Err(StorageError::Compacted.into());
        }
        self.terms.term(index).ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.terms.first_index() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.terms.last_index())
    }

    /// The log's beginning, from which on the receiver is sent every entry: so it holds the same bytes as everybody.
    /// It may have become a member later than that. Then it is named as a learner ahead of the entry that adds it:
    /// Raft does not take a snapshot that does not know its receiver, and a learner counts in no majority.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if self.snapshot.get_metadata().index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = self.snapshot.clone();
        let conf_state = snapshot.mut_metadata().mut_conf_state();
        if !conf_state.voters.contains(&to) && !conf_state.learners.contains(&to) {
            conf_state.mut_learners().push(to);
        }
        Ok(snapshot)
    }
}
