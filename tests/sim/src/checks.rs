//! What was promised, and what is there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use storage::{BranchId, Epoch, Lsn};

use crate::machine::Machine;

/// Promises made to writers, and the stream as nodes have shown it.
#[derive(Default)]
pub struct History {
    /// (branch, start) → epoch, length.
    acknowledged: BTreeMap<(BranchId, Lsn), (u64, usize)>,
    /// (branch, epoch) → where the stream ended when it was granted.
    grants: BTreeMap<(BranchId, u64), Lsn>,
    /// Groups as they were sent: (branch, start, epoch) → bytes.
    sent: BTreeMap<(BranchId, Lsn, u64), Bytes>,
    /// Chunks that some node has applied: (branch, start) → epoch, length, bytes.
    shown: BTreeMap<(BranchId, Lsn), (u64, Bytes)>,
    /// How far `shown` reaches without a gap.
    shown_until: BTreeMap<BranchId, Lsn>,
    /// Applied index → hash of the state machine.
    states: BTreeMap<u64, u64>,
    /// Machine → its process and the applied index that was compared last: a state only changes with its index.
    compared: BTreeMap<u64, (u64, u64)>,
    /// Term → leader.
    leaders: BTreeMap<u64, u64>,
    pub acknowledgements: u64,
}

/// Two checksums that know each other make 64 bits: enough to tell runs apart.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut low = crc32fast::Hasher::new_with_initial(seed as u32);
    low.update(bytes);
    let mut high = crc32fast::Hasher::new_with_initial((seed >> 32) as u32 ^ 0x5bd1_e995);
    high.update(&low.clone().finalize().to_le_bytes());
    u64::from(high.finalize()) << 32 | u64::from(low.finalize())
}

impl History {
    pub fn granted(&mut self, branch: BranchId, epoch: Epoch, end: Lsn) {
        let before = self.grants.insert((branch, epoch.0), end);
        assert_eq!(before, None, "epoch {epoch} of branch {branch} was granted twice");
    }

    /// A writer is about to append this.
    pub fn sent(&mut self, branch: BranchId, start: Lsn, epoch: Epoch, bytes: Bytes) {
        self.sent.insert((branch, start, epoch.0), bytes);
    }

    pub fn acknowledged(&mut self, branch: BranchId, epoch: Epoch, start: Lsn, length: usize) {
        self.acknowledged.insert((branch, start), (epoch.0, length));
        self.acknowledgements += 1;
        if let Some((shown, bytes)) = self.shown.get(&(branch, start)) {
            assert_eq!((*shown, bytes.len()), (epoch.0, length), "{branch} at {start}: acknowledged is what is there");
        }
    }

    /// How far the stream has been seen without a gap, so that it may be trimmed.
    pub fn shown_until(&self, branch: BranchId) -> Lsn {
        self.shown_until.get(&branch).copied().unwrap_or_default()
    }

    /// One leader a term; the same state at the same index.
    pub fn node_worked(&mut self, machine: &Machine) {
        let Some(node) = &machine.node else { return };
        if node.is_leader() {
            let (term, raft_id) = (node.term(), node.raft_id());
            let leader = *self.leaders.entry(term).or_insert(raft_id);
            assert_eq!(leader, raft_id, "two leaders in term {term}");
        }
        let state = node.machine();
        let index = state.applied_index();
        let compared = self.compared.insert(machine.id, (machine.life, index));
        if compared == Some((machine.life, index)) {
            return;
        }
        let state = hash(0, &state.encode());
        let known = *self.states.entry(index).or_insert(state);
        assert_eq!(known, state, "node {} parted from the others at index {index}", machine.id);
    }

    /// Reads what a node holds beyond `from` and compares it with what others have shown. Returns where it ends.
    pub fn observe(&mut self, machine: &Machine, branch: BranchId, from: Lsn) -> Lsn {
        let Some(node) = &machine.node else { return from };
        let first = node.first_lsn(branch);
        let mut position = from.max(first);
        let mut last_epoch = 0;
        for (start, epoch, bytes) in machine.read(branch, position) {
            if start < position {
                // Began inside a group.
                position = start;
            }
            assert_eq!(start, position, "node {}: the stream has no gaps", machine.id);
            assert!(epoch >= last_epoch, "node {}: epoch {epoch} after {last_epoch}", machine.id);
            last_epoch = epoch;
            position = start.advance(bytes.len() as u64);
            self.show(branch, start, epoch, &bytes, machine.id);
        }
        position
    }

    /// A node shows a group of a stream.
    pub fn show(&mut self, branch: BranchId, start: Lsn, epoch: u64, bytes: &Bytes, node: u64) {
        assert_eq!(self.sent.get(&(branch, start, epoch)), Some(bytes), "node {node}: nobody wrote this at {start}");
        if let Some(acknowledged) = self.acknowledged.get(&(branch, start)) {
            assert_eq!(*acknowledged, (epoch, bytes.len()), "{branch} at {start}: what was acknowledged is there");
        }
        let shown = self.shown.entry((branch, start)).or_insert_with(|| (epoch, bytes.clone()));
        assert_eq!((shown.0, &shown.1), (epoch, bytes), "node {node} shows another group at {start}");
        let mut until = self.shown_until(branch);
        while let Some((_, bytes)) = self.shown.get(&(branch, until)) {
            until = until.advance(bytes.len() as u64);
        }
        self.shown_until.insert(branch, until);
    }

    /// The groups that were shown from `from` on, without a gap: start, epoch, bytes.
    pub fn shown_from(&self, branch: BranchId, from: Lsn) -> impl Iterator<Item = (Lsn, Epoch, &Bytes)> {
        let until = self.shown_until(branch);
        let range = self.shown.range((branch, from)..(branch, until.max(from)));
        range.map(|((_, start), (epoch, bytes))| (*start, Epoch(*epoch), bytes))
    }

    /// Everything acknowledged is there, and no epoch wrote where it could not. What belonged to deleted branches may be gone.
    pub fn check(&self, deleted: &BTreeSet<BranchId>) {
        let kept = |((branch, _), _): &(&(BranchId, Lsn), _)| !deleted.contains(branch);
        for (&(branch, start), &(epoch, length)) in self.acknowledged.iter().filter(kept) {
            let found = self.shown.get(&(branch, start)).map(|(epoch, bytes)| (*epoch, bytes.len()));
            assert_eq!(found, Some((epoch, length)), "{branch} at {start}: acknowledged under epoch {epoch}, and lost");
        }
        for (&(branch, epoch), &end) in &self.grants {
            for ((_, start), (written, bytes)) in self.shown.range((branch, Lsn::ZERO)..=(branch, Lsn::MAX)) {
                if *written < epoch {
                    let group_end = start.advance(bytes.len() as u64);
                    assert!(
                        group_end <= end,
                        "epoch {written} wrote {start}..{group_end} after {epoch} began at {end}"
                    );
                } else {
                    assert!(*start >= end, "epoch {written} wrote at {start}, but {epoch} began at {end}");
                }
            }
        }
    }
}
