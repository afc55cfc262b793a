//! Up to where the log must be durable before whoever holds a lock may read what the one before has done.
//!
//! Commits give back their locks before they are durable. Who is granted such a lock builds on what others cannot see yet, and
//! a snapshot taken at the durable LSN would not show it either: a statement that reads after one that locked would find rows
//! as they were before. So commits leave their LSN with the names of their locks.
//!
//! Names share places: then somebody waits for a commit that is none of its business, for as long as a group takes to
//! become durable.

use std::sync::atomic::{AtomicU64, Ordering};

use storage::Lsn;

use super::LockModes;
use super::LockName;
use super::table::LockTable;

/// A power of two. Some hundred are in use at a time, those of commits that are not durable.
const PLACES: usize = 1 << 14;

/// See the module.
pub(super) struct Released {
    places: Box<[AtomicU64]>,
    /// Of locks of all rows of a tree, which stand for any row.
    trees: AtomicU64,
}

impl Released {
    pub(super) fn new() -> Released {
        Released { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), trees: AtomicU64::new(0) }
    }

    /// A table's lock has a second place, for modes that keep writers out.
    fn place(&self, hash: u64, strong: bool) -> &AtomicU64 {
        &self.places[hash.wrapping_add(u64::from(strong)) as usize % PLACES]
    }
}

impl LockTable {
    /// Before a commit that ends at `lsn` gives back a lock.
    pub(crate) fn note_release(&self, name: LockName, modes: LockModes, lsn: Lsn) {
        if name.whole_tree().is_some() {
            self.released.trees.fetch_max(lsn.0, Ordering::AcqRel);
            return;
        }
        let hash = self.hash(name);
        self.released.place(hash, false).fetch_max(lsn.0, Ordering::AcqRel);
        if name.is_table() && modes.keeps_writers_out() {
            self.released.place(hash, true).fetch_max(lsn.0, Ordering::AcqRel);
        }
    }

    /// After a lock was granted: the end of the newest commit, or a later one, that has given it back in a mode that would have kept
    /// this one waiting.
    pub(crate) fn released_at(&self, name: LockName, modes: LockModes) -> Lsn {
        // Writers of a table do not mind each other.
        let strong = name.is_table() && !modes.keeps_writers_out();
        let released = self.released.place(self.hash(name), strong).load(Ordering::Acquire);
        Lsn(if name.is_table() { released } else { released.max(self.released.trees.load(Ordering::Acquire)) })
    }
}
