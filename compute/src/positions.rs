//! The log positions that one compute's parts share.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use storage::Lsn;

/// Invariant: durable ≤ sealed ≤ applied; none ever falls. Durable and sealed are group boundaries, applied
/// is a batch boundary.
#[derive(Debug)]
pub(crate) struct Positions {
    applied: CachePadded<AtomicU64>,
    sealed: CachePadded<AtomicU64>,
    durable: CachePadded<AtomicU64>,
}

impl Positions {
    /// All at the end of the log as it was found.
    pub(crate) fn new(end: Lsn) -> Self {
        let at = || CachePadded::new(AtomicU64::new(end.0));
        Self { applied: at(), sealed: at(), durable: at() }
    }

    /// End of the newest batch whose pages are in the cache.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// End of the newest group that takes no more batches: versions up to here never change again.
    pub(crate) fn sealed(&self) -> Lsn {
        Lsn(self.sealed.load(Ordering::Acquire))
    }

    /// End of the newest group that a majority has on disk: what new snapshots read.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// By the sequencer's holder only, as the next.
    pub(crate) fn set_applied(&self, lsn: Lsn) {
        self.applied.store(lsn.0, Ordering::Release);
    }

    pub(crate) fn set_sealed(&self, lsn: Lsn) {
        debug_assert!(lsn <= self.applied());
        self.sealed.store(lsn.0, Ordering::Release);
    }

    /// By the shipper only; `lsn` is the end of a sealed group.
    pub(crate) fn raise_durable(&self, lsn: Lsn) {
        debug_assert!(lsn <= self.sealed());
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
    }
}
