//! [`Spilling`]: how much memory uncommitted writes may take, for each transaction and together, and where the
//! rest goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::spill::SpillSpace;

use crate::config::ComputeConfig;

/// Memory is claimed in pieces of this at most, so that the common account is not touched with every write.
const PIECE_BYTES: usize = 64 << 10;
/// A transaction below this does not give way when all of them together need too much: its runs would be
/// tiny.
const SMALL_BYTES: usize = 256 << 10;

/// See the module. One for each compute.
pub(crate) struct Spilling {
    space: Option<Arc<SpillSpace>>,
    limit_bytes: usize,
    all_limit_bytes: usize,
    piece_bytes: usize,
    used_bytes: AtomicUsize,
}

impl Spilling {
    pub(crate) fn new(config: &ComputeConfig) -> Arc<Self> {
        let space = config.spill_directory.as_ref().map(|path| SpillSpace::new(path, config.spill_limit_bytes));
        Arc::new(Self {
            space,
            limit_bytes: config.transaction_limit_bytes,
            piece_bytes: (config.transaction_limit_bytes / 4).clamp(1, PIECE_BYTES),
            all_limit_bytes: config.transactions_limit_bytes.max(config.transaction_limit_bytes),
            used_bytes: AtomicUsize::new(0),
        })
    }

    /// Where writes go that exceed their memory; without it they are refused.
    pub(super) fn space(&self) -> Option<&Arc<SpillSpace>> {
        self.space.as_ref()
    }

    /// Memory of one transaction.
    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }
}

/// What one transaction has claimed; given back when it is dropped.
pub(super) struct Charge {
    spilling: Arc<Spilling>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(spilling: &Arc<Spilling>) -> Self {
        Self { spilling: spilling.clone(), bytes: 0 }
    }

    /// Whether so much was claimed already.
    #[inline]
    pub(super) fn covers(&self, bytes: usize) -> bool {
        bytes <= self.bytes
    }

    /// Claims so much in all; false when it is more than one, or all together, may have.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        if bytes > self.spilling.limit_bytes {
            return false;
        }
        let used = self.spilling.used_bytes.load(Ordering::Relaxed);
        if self.spilling.space.is_some() && used > self.spilling.all_limit_bytes && bytes > SMALL_BYTES {
            return false;
        }
        self.force(bytes);
        true
    }

    /// Claims so much in all, whatever the limits say.
    pub(super) fn force(&mut self, bytes: usize) {
        let wanted = bytes.next_multiple_of(self.spilling.piece_bytes);
        if wanted > self.bytes {
            self.spilling.used_bytes.fetch_add(wanted - self.bytes, Ordering::Relaxed);
            self.bytes = wanted;
        }
    }

    /// Gives back what is above.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let wanted = bytes.next_multiple_of(self.spilling.piece_bytes);
        if wanted < self.bytes {
            self.spilling.used_bytes.fetch_sub(self.bytes - wanted, Ordering::Relaxed);
            self.bytes = wanted;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.spilling.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
