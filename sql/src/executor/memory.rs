//! [`HashMemory`]: what the hash tables of all statements of a server may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Result, SqlError, SqlState};

/// A limit, and what has been taken of it. Shared by all statements, so that many of them cannot take more
/// memory than the server has. Joins, GROUP BY, DISTINCT and UNION set rows aside on disk when it is used up; what
/// cannot do so is ended with 53200.
#[derive(Debug)]
pub struct HashMemory {
    limit_bytes: usize,
    taken_bytes: AtomicUsize,
}

impl Default for HashMemory {
    /// For tests and tools: 1 GiB.
    fn default() -> Self {
        Self::new(1 << 30)
    }
}

impl HashMemory {
    /// A limit of so many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, taken_bytes: AtomicUsize::new(0) }
    }

    /// What has been taken and not given back.
    #[cfg(test)]
    pub(crate) fn taken_bytes(&self) -> usize {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Takes so many bytes if they are left. Those who can do without leave a quarter to those who cannot.
    #[inline]
    fn try_take(&self, bytes: usize) -> bool {
        let before = self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.limit_bytes / 4 * 3;
        if !fits {
            self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    #[inline]
    fn take(&self, bytes: usize) -> Result<()> {
        let before = self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limit_bytes { Err(self.exhausted()) } else { Ok(()) }
    }

    #[cold]
    fn exhausted(&self) -> SqlError {
        SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(format!(
            "The hash tables of the statements that are running would exceed {} bytes.",
            self.limit_bytes
        ))
    }
}

/// Memory that one operator has taken of the limit; given back when it is dropped.
pub(crate) struct Reservation {
    memory: Arc<HashMemory>,
    bytes: usize,
    /// What it may always take: an operator that sets rows aside needs some memory to get on.
    floor_bytes: usize,
}

impl Reservation {
    pub(super) fn new(memory: &Arc<HashMemory>) -> Self {
        Self::with_floor(memory, 0)
    }

    /// A reservation that gets so many bytes whatever others have taken.
    pub(super) fn with_floor(memory: &Arc<HashMemory>, floor_bytes: usize) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0, floor_bytes }
    }

    /// Takes more if it may; false: rows must be set aside at this level of [`super::partitions`]. 53200 where that
    /// would not help any more.
    #[inline]
    pub(super) fn grow_or_spill(&mut self, bytes: usize, level: u32) -> Result<bool> {
        if self.bytes + bytes <= self.floor_bytes {
            self.memory.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        } else if level >= super::partitions::LEVELS {
            self.grow(bytes)?;
            return Ok(true);
        } else if !self.memory.try_take(bytes) {
            return Ok(false);
        }
        self.bytes += bytes;
        Ok(true)
    }

    /// Takes more; 53200 beyond the limit.
    #[inline]
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        self.memory.take(bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
