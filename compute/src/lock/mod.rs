//! The lock table: row locks and table locks of running transactions, in memory only.
//!
//! One structure serves both. A lock has a [`LockName`]; a row's name is its tree and a 64-bit hash of its
//! key, so that a lock owns no key bytes. Two keys with one hash share a lock: the cost is a wait that need
//! not have been, never a wrong result. Row modes are mapped on the table modes with the same conflicts.
//!
//! - **Fairness** is first come, first served: a request waits behind every earlier waiter it conflicts with.
//!   An owner that already holds the lock in another mode goes first, or it would wait for those who wait
//!   for itself.
//! - **Deadlocks** are looked for by the waiter, shortly after it began to wait, with every shard locked: the
//!   graph it sees is exact, so nobody is sacrificed for a cycle that never was.
//! - **Memory** is bounded by escalation: very many row locks of one transaction in one tree become a lock of the tree.
//! - A lock lives here only while someone holds or awaits it.

mod deadlock;
mod escalation;
mod modes;
mod released;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use modes::LockModes;
pub(crate) use table::{Acquired, LockTable, OwnerId};

use std::hash::{BuildHasher, Hasher};

use storage::{PageNo, TreeId};

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LockName {
    /// The row's tree, or [`LockName::TABLES`].
    space: u64,
    /// Hash of the row's key, or the table's name.
    key: u64,
}

impl LockName {
    const TABLES: u64 = u64::MAX;
    const TREES: u64 = u64::MAX - 1;

    /// A row, by tree and key.
    pub(crate) fn row(tree: TreeId, key: &[u8]) -> Self {
        // Fixed seeds: the name must be the same for everyone in this process, and nobody else sees it.
        let mut hasher = foldhash::quality::FixedState::with_seed(0x616C_6C75_7669_756D).build_hasher();
        hasher.write(key);
        Self { space: tree.0.0, key: hasher.finish() }
    }

    /// A table, by its oid.
    pub(crate) fn table(table: u64) -> Self {
        Self { space: Self::TABLES, key: table }
    }

    /// All rows of a tree.
    fn tree(tree: TreeId) -> Self {
        Self { space: Self::TREES, key: tree.0.0 }
    }

    /// The tree that a row's name is in.
    pub(crate) fn tree_of_row(self) -> Option<TreeId> {
        (self.space < Self::TREES).then_some(TreeId(PageNo(self.space)))
    }

    fn is_row_of(self, tree: TreeId) -> bool {
        self.space == tree.0.0
    }

    /// The tree of which it names all rows.
    fn whole_tree(self) -> Option<TreeId> {
        (self.space == Self::TREES).then_some(TreeId(PageNo(self.key)))
    }

    fn is_table(self) -> bool {
        self.space == Self::TABLES
    }

    /// As Postgres names it in a deadlock's detail.
    fn describe(self) -> String {
        if self.is_table() {
            format!("relation {}", self.key)
        } else if let Some(tree) = self.whole_tree() {
            format!("all tuples of tree {}", tree.0)
        } else {
            format!("tuple {:016x} of tree {}", self.key, self.space)
        }
    }
}
