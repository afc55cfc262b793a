//! Entries set aside on local disk: sorted runs in temporary files.
//!
//! A run holds keys in ascending order, each with a value or the mark that it is deleted. It is written once
//! and read in both directions, from any key, by any number of readers. [`Sorter`] makes runs of entries in
//! any order; [`Merge`] reads several as one.
//!
//! A file has no name once it is open, so nothing is left behind however the process ends, and its room is
//! given back when the last reader is gone. Nothing here is durable, and nothing is meant to be.
//!
//! ```text
//!   block   length u32 · crc32 u32 over the entries · entries
//!   entry   key length u32 · value length u32 (all ones: deleted) · key · value
//! ```

mod bloom;
mod cursor;
mod merge;
mod run;
mod sorter;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use cursor::RunCursor;
pub use merge::Merge;
pub use run::{Run, RunWriter};
pub use sorter::{Sorted, Sorter};

/// Entries of a block, unless a single one is longer, bytes.
pub const BLOCK_BYTES: usize = 32 << 10;

/// Why entries could not be set aside or read back.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The limit of the [`SpillSpace`] is reached.
    #[error("temporary files would exceed {limit_bytes} bytes")]
    Limit {
        /// The limit.
        limit_bytes: u64,
    },
    /// What the file system answered; a full disk among it.
    #[error("could not use a temporary file: {0}")]
    Io(#[from] std::io::Error),
    /// A block is not what was written.
    #[error("a temporary file is damaged")]
    Damaged,
}

impl SpillError {
    /// True when the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
    }
}

/// What all spaces of this process have written, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpillTotals {
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Files made since the start.
    pub files: u64,
    /// Bytes that files now hold.
    pub used_bytes: u64,
}

static WRITTEN_BYTES: AtomicU64 = AtomicU64::new(0);
static FILES: AtomicU64 = AtomicU64::new(0);
static USED_BYTES: AtomicU64 = AtomicU64::new(0);

/// See [`SpillTotals`].
pub fn totals() -> SpillTotals {
    SpillTotals {
        written_bytes: WRITTEN_BYTES.load(Ordering::Relaxed),
        files: FILES.load(Ordering::Relaxed),
        used_bytes: USED_BYTES.load(Ordering::Relaxed),
    }
}

/// A directory for temporary files, and how much of it may be used.
#[derive(Debug)]
pub struct SpillSpace {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl SpillSpace {
    /// Files in `directory`, of `limit_bytes` together.
    pub fn new(directory: impl Into<PathBuf>, limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { directory: directory.into(), limit_bytes, used_bytes: AtomicU64::new(0) })
    }

    /// Files in `directory`, limited by its disk only.
    pub fn unlimited(directory: impl Into<PathBuf>) -> Arc<Self> {
        Self::new(directory, u64::MAX)
    }

    /// Bytes that its files hold now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// A new file without a name.
    fn file(&self) -> Result<File, SpillError> {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("spill-{}-{number}.tmp", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

/// Bytes of a space that one file has taken; given back when it is dropped.
#[derive(Debug)]
struct Reservation {
    space: Arc<SpillSpace>,
    bytes: u64,
}

impl Reservation {
    fn grow(&mut self, bytes: u64) -> Result<(), SpillError> {
        let before = self.space.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        USED_BYTES.fetch_add(bytes, Ordering::Relaxed);
        WRITTEN_BYTES.fetch_add(bytes, Ordering::Relaxed);
        let limit_bytes = self.space.limit_bytes;
        if before.saturating_add(bytes) > limit_bytes { Err(SpillError::Limit { limit_bytes }) } else { Ok(()) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        USED_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
