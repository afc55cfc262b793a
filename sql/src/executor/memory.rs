//! [`HashMemory`]: what the hash tables of all statements of a server may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Result, SqlError, SqlState};

/// A limit, and what has been taken of it. Shared by all statements, so that many of them cannot take more
/// memory than the server has: the one that asks for too much is ended with 53200.
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
}

impl Reservation {
    pub(super) fn new(memory: &Arc<HashMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
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
