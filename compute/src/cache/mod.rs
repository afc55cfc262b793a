//! The page cache: every page's versions by LSN, within a fixed amount of memory.
//!
//! ```text
//!   directory[page] ──► version [60, ∞) ──► version [40, 60) ──► version [10, 30)
//!                        the current one                    gap: 30..40 is a miss
//! ```
//!
//! The rules (DESIGN §4, "Version rules"):
//! - A version holds for `[lsn, end)`. A reader at S takes the version whose interval holds S; if there is
//!   none, that is a miss, never "the newest below S".
//! - A version up to the *sealed* boundary never changes. Above it the current version may be changing: only
//!   the sequencer's holder reads or changes it.
//! - A version newer than the durable LSN is never dropped: no page server has it yet. Anything else may be
//!   dropped at any time; readers and snapshots do not prevent it, they only make it a bad choice.
//!
//! Readers walk chains under an epoch guard, pinned per page. Chains change under the page's `chain` lock.
//! What leaves a chain is reused an epoch later, or when its last pin is gone.

mod directory;
mod error;
mod fetch;
mod pool;
mod reader;
mod region;
#[cfg(test)]
mod tests;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_epoch::{self as epoch, Guard};
use logstore::client::EpochGrant;
use pageserver::client::PageClient;
use parking_lot::{Mutex, MutexGuard};
use storage::page::Page;
use storage::{BranchId, Lsn, PageNo};
use tokio::runtime::Handle;

pub(crate) use directory::MAX_PAGES;
pub(crate) use error::{CacheError, tree_error};
pub(crate) use pool::Frame;
pub(crate) use reader::{GuardedReader, PinnedPage, SnapshotReader};
pub(crate) use upkeep::Upkeep;

use crate::positions::Positions;
use crate::snapshot::{Snapshot, Snapshots};
use directory::Directory;
use fetch::Flights;
use pool::{CURRENT, FramePool, PENDING};

/// See the module.
pub(crate) struct PageCache {
    pool: Arc<FramePool>,
    directory: Directory,
    positions: Arc<Positions>,
    snapshots: Arc<Snapshots>,
    branch: BranchId,
    /// End of the log when this compute opened: pages it has not changed have no record above.
    opened_at: Lsn,
    client: Arc<dyn PageClient>,
    runtime: Handle,
    flights: Flights,
    /// Versions that got a successor and have not been looked at by the collector.
    replaced: Mutex<Vec<Replaced>>,
    /// Held while current versions are evicted, and by a batch from its preparation to its stamping: what was
    /// found in memory when a batch was prepared must still be there when it is applied.
    residency: Mutex<()>,
    /// Where the eviction clock's hand is.
    hand: AtomicU32,
    /// Wakes the upkeep thread.
    upkeep: Mutex<Option<std::thread::Thread>>,
    pub(crate) counters: Counters,
}

/// What happened so far, for metrics. Hits are not counted: that would cost more than the hit.
pub(crate) struct Counters {
    pub(crate) misses: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) versions_collected: AtomicU64,
    /// Versions kept for snapshots or for the gap between durable and applied, now.
    pub(crate) old_versions: AtomicU64,
    /// Versions that the sequencer has made, ever, and how many of these the log has confirmed: they may be dropped.
    versions_made: AtomicU64,
    versions_droppable: AtomicU64,
    /// How long misses took.
    pub(crate) fetch_latency_us: metrics::Histogram,
}

/// A version that is no longer the current one.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    frame: Frame,
    page: PageNo,
    lsn: Lsn,
    end: Lsn,
}

/// What a cache stands on.
pub(crate) struct CacheConfig {
    pub(crate) branch: BranchId,
    pub(crate) memory_bytes: usize,
    pub(crate) client: Arc<dyn PageClient>,
    pub(crate) runtime: Handle,
}

impl PageCache {
    pub(crate) fn new(
        config: CacheConfig,
        grant: EpochGrant,
        positions: Arc<Positions>,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        Self {
            pool: Arc::new(FramePool::new(config.memory_bytes)),
            directory: Directory::new(),
            positions,
            snapshots,
            branch: config.branch,
            opened_at: grant.end_lsn,
            client: config.client,
            runtime: config.runtime,
            flights: Flights::default(),
            replaced: Mutex::new(Vec::new()),
            residency: Mutex::new(()),
            hand: AtomicU32::new(0),
            upkeep: Mutex::new(None),
            counters: Counters {
                misses: AtomicU64::new(0),
                evictions: AtomicU64::new(0),
                versions_collected: AtomicU64::new(0),
                old_versions: AtomicU64::new(0),
                versions_made: AtomicU64::new(0),
                versions_droppable: AtomicU64::new(0),
                fetch_latency_us: metrics::histogram!("alluvium_cache_get_page_latency_us"),
            },
        }
    }

    /// No transaction reads below this LSN, and none will.
    pub(crate) fn oldest_snapshot(&self) -> Lsn {
        let durable = self.positions.durable();
        self.snapshots.active().first().copied().unwrap_or(durable).min(durable)
    }

    /// Registers an LSN that is about to be read, so that its versions stay.
    pub(crate) fn protect(&self, at: Lsn) -> Snapshot {
        self.snapshots.register(at)
    }

    /// Pages that fit into memory.
    pub(crate) fn capacity_pages(&self) -> u32 {
        self.pool.limit()
    }

    /// Pages that could be taken into memory without dropping any.
    pub(crate) fn free_pages(&self) -> u32 {
        self.pool.available()
    }

    /// Pages that a commit may make or copy in any case: its reserve counts too.
    pub(crate) fn reserved_pages(&self) -> usize {
        self.pool.available_reserved() as usize
    }

    /// Page versions made by commits since the start, and how many of them are durable in the log, so that they may be
    /// dropped.
    pub(crate) fn versions_made(&self) -> (u64, u64) {
        let droppable = self.counters.versions_droppable.load(Ordering::Relaxed);
        (self.counters.versions_made.load(Ordering::Relaxed).max(droppable), droppable)
    }

    /// The versions counted by then are durable in the log.
    pub(crate) fn versions_droppable(&self, made: u64) {
        self.counters.versions_droppable.fetch_max(made, Ordering::Relaxed);
    }

    fn frame(raw: u32) -> Option<Frame> {
        (raw != 0).then_some(Frame(raw))
    }

    /// The version that holds `at`. The guard protects it.
    #[inline]
    fn find(&self, page: PageNo, at: Lsn, _guard: &Guard) -> Option<Frame> {
        let mut next = self.directory.slot(page).newest.load(Ordering::Acquire);
        while let Some(frame) = Self::frame(next) {
            let header = self.pool.header(frame);
            if header.lsn() <= at {
                if at < header.end() {
                    header.touch();
                    return Some(frame);
                }
                return None;
            }
            next = header.older.load(Ordering::Acquire);
        }
        None
    }

    /// The current version, if it is in memory. The guard protects it from reuse; whether its bytes may be
    /// read is the caller's concern.
    #[inline]
    fn current(&self, page: PageNo, _guard: &Guard) -> Option<Frame> {
        let frame = Self::frame(self.directory.slot(page).newest.load(Ordering::Acquire))?;
        self.pool.header(frame).is_current().then_some(frame)
    }

    /// True when the version that holds `at` is also the current one: nothing has changed since.
    pub(crate) fn unchanged_since(&self, page: PageNo, at: Lsn) -> bool {
        let guard = epoch::pin();
        self.current(page, &guard).is_some_and(|frame| self.pool.header(frame).lsn() <= at)
    }

    /// True when no record of a page lies above `at`, whether it is in memory or not. By the sequencer's holder,
    /// while no batch is open.
    pub(crate) fn last_change_is_by(&self, page: PageNo, at: Lsn) -> bool {
        let guard = epoch::pin();
        match self.current(page, &guard) {
            Some(frame) => self.pool.header(frame).lsn() <= at,
            None => self.last_known_change(self.directory.slot(page).evicted_lsn.load(Ordering::Acquire)) <= at,
        }
    }

    /// Publishes a fetched page: its content at `at`, last changed at `lsn`. Answers the frame that now holds
    /// it, pinned.
    fn install(&self, page: PageNo, frame: Frame, lsn: Lsn, at: Lsn) -> Result<Frame, CacheError> {
        let slot = self.directory.slot(page);
        let _chain = slot.chain.lock();
        let mut newer = None;
        let mut next = Self::frame(slot.newest.load(Ordering::Acquire));
        while let Some(seen) = next.filter(|seen| self.pool.header(*seen).lsn() > lsn) {
            newer = Some(seen);
            next = Self::frame(self.pool.header(seen).older.load(Ordering::Acquire));
        }
        let contradicts = |reason| {
            self.pool.give_back(frame);
            Err(CacheError::Damaged { page, reason })
        };
        if newer.is_some_and(|newer| self.pool.header(newer).lsn() <= at) {
            return contradicts("the page server's answer misses a record that is in memory");
        }
        let last_known = self.last_known_change(slot.evicted_lsn.load(Ordering::Acquire));
        // The newest content there is, or only known to hold at the very LSN that was asked for.
        let is_current = newer.is_none() && at >= last_known;
        if is_current && lsn > last_known {
            return contradicts("the page server's answer has a record that this writer never wrote");
        }
        let end = if is_current { CURRENT } else { at.0 + 1 };
        if let Some(same) = next.filter(|older| self.pool.header(*older).lsn() == lsn) {
            self.pool.header(same).end.fetch_max(end, Ordering::AcqRel);
            self.pool.pin(same);
            self.pool.give_back(frame);
            return Ok(same);
        }
        if next.is_some_and(|older| self.pool.header(older).is_current()) {
            return contradicts("the page server's answer has a record that this writer never wrote");
        }
        let header = self.pool.header(frame);
        header.lsn.store(lsn.0, Ordering::Relaxed);
        header.end.store(end, Ordering::Relaxed);
        self.pool.pin(frame);
        self.link(slot, page, frame, newer, next);
        Ok(frame)
    }

    /// Upper bound of the records of a page that has no current version in memory.
    fn last_known_change(&self, evicted_lsn: u64) -> Lsn {
        Lsn(evicted_lsn).max(self.opened_at)
    }

    /// Puts a frame between two neighbours of a chain. The chain is locked.
    fn link(&self, slot: &directory::Slot, page: PageNo, frame: Frame, newer: Option<Frame>, older: Option<Frame>) {
        let header = self.pool.header(frame);
        header.page.store(page.0, Ordering::Relaxed);
        header.older.store(older.map_or(0, |older| older.0), Ordering::Relaxed);
        header.referenced.store(true, Ordering::Relaxed);
        header.linked.store(true, Ordering::Release);
        match newer {
            Some(newer) => self.pool.header(newer).older.store(frame.0, Ordering::Release),
            None => slot.newest.store(frame.0, Ordering::Release),
        }
    }

    /// Takes a version out of its page's chain, if it still is there and may be dropped. The caller gives the
    /// frame to [`PageCache::retire`].
    fn unlink(&self, page: PageNo, frame: Frame, lsn: Lsn) -> bool {
        if lsn > self.positions.durable() {
            return false;
        }
        let slot = self.directory.slot(page);
        let _chain = slot.chain.lock();
        let mut newer = None;
        let mut next = Self::frame(slot.newest.load(Ordering::Acquire));
        while let Some(seen) = next.filter(|seen| *seen != frame) {
            newer = Some(seen);
            next = Self::frame(self.pool.header(seen).older.load(Ordering::Acquire));
        }
        let header = self.pool.header(frame);
        // The frame may have been reused since the caller looked, even for the same page.
        if next.is_none() || header.lsn() != lsn {
            return false;
        }
        if header.is_current() {
            // Before the version disappears: a reader that misses it must know what to wait for.
            slot.evicted_lsn.fetch_max(lsn.0, Ordering::AcqRel);
        }
        let older = header.older.load(Ordering::Acquire);
        match newer {
            Some(newer) => self.pool.header(newer).older.store(older, Ordering::Release),
            None => slot.newest.store(older, Ordering::Release),
        }
        header.linked.store(false, Ordering::Release);
        true
    }

    /// Frees unlinked frames once no reader can be on them.
    fn retire(&self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let pool = self.pool.clone();
        let guard = epoch::pin();
        guard.defer(move || pool.release_unlinked(&frames));
        guard.flush();
    }
}

/// For the sequencer: its holder alone may call these, under one epoch guard from a batch's first record to its
/// stamping.
impl PageCache {
    /// Keeps every current version that is in memory there.
    pub(crate) fn hold_residency(&self) -> MutexGuard<'_, ()> {
        self.residency.lock()
    }

    /// The current version's page, whatever its LSN.
    ///
    /// # Safety
    /// The caller holds the sequencer, under the guard, and has no page of [`PageCache::change`] in use.
    #[inline]
    pub(crate) unsafe fn newest_page<'g>(&self, page: PageNo, guard: &'g Guard) -> Option<&'g Page> {
        let frame = self.current(page, guard)?;
        self.pool.header(frame).touch();
        // SAFETY: the caller holds the sequencer, so nobody changes the page; the guard protects the frame.
        Some(unsafe { self.pool.page(frame) })
    }

    /// The current version, to be changed: in place when it lies above the sealed boundary, else a copy that
    /// becomes the current version. `copied` offers a copy made earlier. `None`: the page is not in memory
    /// and `fresh` is false, or the reserve of frames is used up.
    ///
    /// # Safety
    /// The caller holds the sequencer, under the guard, and has no other reference to the page.
    // The guard lends its lifetime only: what makes the reference exclusive is the sequencer.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn change<'g>(
        &self,
        page: PageNo,
        fresh: bool,
        copied: impl FnOnce(Frame, Lsn) -> Option<Frame>,
        changes: &mut Vec<Change>,
        guard: &'g Guard,
    ) -> Option<&'g mut Page> {
        let current = self.current(page, guard);
        if let Some(frame) = current {
            let header = self.pool.header(frame);
            let lsn = header.lsn.load(Ordering::Acquire);
            if lsn > self.positions.sealed().0 {
                if lsn != PENDING {
                    header.lsn.store(PENDING, Ordering::Release);
                    changes.push(Change { frame, page, previous: None });
                }
                header.touch();
                // SAFETY: above the sealed boundary nobody but the sequencer's holder reads it.
                return Some(unsafe { self.pool.page_mut(frame) });
            }
        } else if !fresh {
            return None;
        }
        let made = match current.and_then(|frame| copied(frame, self.pool.header(frame).lsn())) {
            Some(copy) => copy,
            None => {
                let made = self.pool.take_reserved()?;
                // SAFETY: just taken, so nobody else has it.
                let target = unsafe { self.pool.page_mut(made) };
                match current.filter(|_| !fresh) {
                    // SAFETY: the version is sealed, and the guard protects it.
                    Some(frame) => target.clone_from(unsafe { self.pool.page(frame) }),
                    None => target.clear(),
                }
                made
            }
        };
        // The sequencer's holder alone writes it.
        let count = self.counters.versions_made.load(Ordering::Relaxed);
        self.counters.versions_made.store(count + 1, Ordering::Relaxed);
        let header = self.pool.header(made);
        header.lsn.store(PENDING, Ordering::Relaxed);
        header.end.store(CURRENT, Ordering::Relaxed);
        let previous = {
            let slot = self.directory.slot(page);
            let _chain = slot.chain.lock();
            let older = Self::frame(slot.newest.load(Ordering::Acquire));
            self.link(slot, page, made, None, older);
            older.filter(|older| self.pool.header(*older).is_current())
        };
        changes.push(Change { frame: made, page, previous });
        // SAFETY: its LSN is pending, so nobody but the sequencer's holder reads it.
        Some(unsafe { self.pool.page_mut(made) })
    }

    /// Ends a batch: gives its LSN to all versions it made or changed.
    ///
    /// # Safety
    /// The caller holds the sequencer, under the guard of the changes, and has no reference to their pages.
    pub(crate) unsafe fn stamp(&self, changes: &[Change], lsn: Lsn, replaced: &mut Vec<ReplacedVersion>) {
        for change in changes {
            // SAFETY: as in `change`.
            unsafe { self.pool.page_mut(change.frame) }.set_lsn(lsn);
            if let Some(previous) = change.previous {
                let header = self.pool.header(previous);
                header.end.store(lsn.0, Ordering::Release);
                replaced.push(ReplacedVersion(Replaced {
                    frame: previous,
                    page: change.page,
                    lsn: header.lsn(),
                    end: lsn,
                }));
            }
            self.pool.header(change.frame).lsn.store(lsn.0, Ordering::Release);
        }
    }

    /// Hands replaced versions to the collector; called outside the sequencer.
    pub(crate) fn collect_later(&self, replaced: &mut Vec<ReplacedVersion>) {
        if replaced.is_empty() {
            return;
        }
        let waiting = {
            let mut list = self.replaced.lock();
            list.extend(replaced.drain(..).map(|version| version.0));
            list.len()
        };
        if waiting >= 1024 && waiting.is_power_of_two() {
            self.wake_upkeep();
        }
    }

    /// A copy of the current version, made outside the sequencer: `None` when it may be changing (and so
    /// needs none), is not in memory, is no leaf (and so seldom changed), or no frame is free.
    pub(crate) fn copy_ahead(&self, page: PageNo) -> Option<CopiedPage> {
        // Copies are a matter of speed: they must not drive out pages.
        if self.pool.available() < self.pool.limit() / 16 {
            return None;
        }
        let guard = epoch::pin();
        let sealed = self.positions.sealed();
        // What an open group has changed already needs no copy: most of the hottest pages.
        let source = self.current(page, &guard).map(|frame| (frame, self.pool.header(frame).lsn()));
        let (source, lsn) = source.filter(|(_, lsn)| *lsn <= sealed)?;
        // SAFETY: the source is sealed and protected by the guard.
        let content = unsafe { self.pool.page(source) };
        if !content.is_leaf() {
            return None;
        }
        let made = self.pool.take()?;
        // SAFETY: just taken, so nobody else has it.
        unsafe { self.pool.page_mut(made) }.clone_from(content);
        Some(CopiedPage { page, source, lsn, made: Some(made), pool: self.pool.clone() })
    }
}

/// A page that the open batch has changed.
pub(crate) struct Change {
    frame: Frame,
    page: PageNo,
    /// The version that it replaces, if it is a new one.
    previous: Option<Frame>,
}

/// A version that lost its place to a newer one.
pub(crate) struct ReplacedVersion(Replaced);

/// See [`PageCache::copy_ahead`]. Gives its frame back if it is not used.
pub(crate) struct CopiedPage {
    pub(crate) page: PageNo,
    source: Frame,
    lsn: Lsn,
    made: Option<Frame>,
    pool: Arc<FramePool>,
}

impl CopiedPage {
    /// The copy, if it is one of this version.
    pub(crate) fn of(&mut self, source: Frame, lsn: Lsn) -> Option<Frame> {
        if (self.source, self.lsn) == (source, lsn) { self.made.take() } else { None }
    }
}

impl Drop for CopiedPage {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            self.pool.give_back(made);
        }
    }
}
