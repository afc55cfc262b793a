//! [`EntrySorter`]: keys with values, sorted by key in bounded memory, as loads and index builds need them.

use std::path::Path;

use storage::spill::{Sorted, Sorter, SpillError, SpillSpace};

use crate::error::{Result, SqlError, SqlState};

/// What temporary files fail with. Not a `From`: a second one would leave `?` undecided in many a place.
pub(crate) fn spill_failed(error: SpillError) -> SqlError {
    let state = match &error {
        SpillError::Limit { .. } => SqlState::PROGRAM_LIMIT_EXCEEDED,
        SpillError::Damaged => SqlState::DATA_CORRUPTED,
        SpillError::Io(_) if error.is_disk_full() => SqlState::DISK_FULL,
        SpillError::Io(_) => SqlState::IO_ERROR,
    };
    SqlError::new(state, error.to_string())
}

/// Collects entries in any order and gives them back by key; equal keys in the order in which they came.
pub(crate) struct EntrySorter {
    sorter: Sorter,
}

impl EntrySorter {
    /// At most `limit_bytes` in memory, the rest in temporary files in `directory`.
    pub(crate) fn new(limit_bytes: usize, directory: &Path) -> Self {
        Self { sorter: Sorter::new(limit_bytes, SpillSpace::unlimited(directory)) }
    }

    /// Whether an entry of that many bytes goes to memory, with nothing on disk.
    pub(crate) fn has_room(&self, entry_bytes: usize) -> bool {
        self.sorter.has_room(entry_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sorter.is_empty()
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.sorter.push(key, value).map_err(spill_failed)
    }

    /// The entries by key, one after another.
    pub(crate) fn sorted(self) -> Result<Sorted> {
        self.sorter.finish().map_err(spill_failed)
    }

    /// Calls `take` with every entry, by key.
    pub(crate) fn finish(self, mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut sorted = self.sorted()?;
        while let Some((key, value)) = sorted.next().map_err(spill_failed)? {
            take(key, value)?;
        }
        Ok(())
    }
}
