//! Escalation: one lock of a whole tree in place of very many locks of its rows.
//!
//! A transaction that locks millions of rows must not hold an entry for each. When it has many in one tree, and
//! nobody else has one that conflicts with them, they are given up for a lock of the tree. From then on whoever wants
//! a row of that tree in a conflicting mode waits for the tree's lock first, although the row itself may be free:
//! the price of bounded memory. Waits, timeouts and the search for deadlocks are those of any lock.

use std::sync::atomic::Ordering;

use storage::TreeId;

use super::table::{LockTable, OwnerId};
use super::{LockModes, LockName};

/// The owner's lock of a whole tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escalated {
    owner: OwnerId,
    modes: LockModes,
}

/// What an escalated tree means for a request for one of its rows.
pub(super) enum Passage {
    /// Nothing: go on with the row's own lock.
    Free,
    /// The tree's lock says it all.
    Held,
    /// Wait for the tree's lock, then ask again.
    Behind(LockName),
}

impl LockTable {
    /// Puts a lock of the tree in place of all of `owner`'s row locks in it; answers its name. None, and nothing is
    /// changed, while others hold or await row locks there that conflict.
    pub(crate) fn escalate(&self, owner: OwnerId, tree: TreeId) -> Option<LockName> {
        let mut shards = self.lock_all();
        let mut modes = LockModes::NONE;
        let rows = || shards.iter().flat_map(|shard| shard.iter()).filter(|(name, _)| name.is_row_of(tree));
        for (_, lock) in rows() {
            if lock.queue.is_some() {
                return None;
            }
            modes = modes.union(lock.held_by(owner));
        }
        let others = rows().flat_map(|(_, lock)| &lock.holders).filter(|(holder, _)| *holder != owner);
        let mut conflicting = others.filter(|(_, held)| held.conflicts_with(modes));
        if modes == LockModes::NONE || conflicting.next().is_some() {
            return None;
        }
        drop(conflicting);
        let mut escalated = self.escalated.lock();
        if escalated.get(&tree).is_some_and(|present| present.owner != owner) {
            return None;
        }
        let name = LockName::tree(tree);
        let lock = shards[self.shard_index(name)].entry(name).or_default();
        if lock.holders.iter().any(|(holder, _)| *holder != owner) || lock.queue.is_some() {
            return None;
        }
        lock.hold(owner, modes);
        let modes = lock.held_by(owner);
        escalated.insert(tree, Escalated { owner, modes });
        self.escalated_count.store(escalated.len(), Ordering::Release);
        for shard in &mut shards {
            shard.retain(|name, lock| {
                if name.is_row_of(tree) {
                    lock.holders.retain(|(holder, _)| *holder != owner);
                }
                !lock.holders.is_empty()
            });
            shard.shrink_to_fit();
        }
        Some(name)
    }

    /// Before a row's own lock is asked for, with its shard locked: escalation locks all of them.
    #[inline]
    pub(super) fn passage(&self, owner: OwnerId, name: LockName, modes: LockModes) -> Passage {
        if self.escalated_count.load(Ordering::Acquire) == 0 { Passage::Free } else { self.look(owner, name, modes) }
    }

    #[cold]
    fn look(&self, owner: OwnerId, name: LockName, modes: LockModes) -> Passage {
        let Some(tree) = name.tree_of_row() else { return Passage::Free };
        match self.escalated.lock().get(&tree) {
            Some(held) if held.owner == owner && held.modes.covers(modes) => Passage::Held,
            Some(held) if held.owner != owner && held.modes.conflicts_with(modes) => {
                Passage::Behind(LockName::tree(tree))
            }
            _ => Passage::Free,
        }
    }

    /// When a tree's lock is released.
    pub(super) fn forget_escalation(&self, owner: OwnerId, name: LockName) {
        let Some(tree) = name.whole_tree() else { return };
        let mut escalated = self.escalated.lock();
        if escalated.get(&tree).is_some_and(|held| held.owner == owner) {
            escalated.remove(&tree);
            self.escalated_count.store(escalated.len(), Ordering::Release);
        }
    }
}
