//! [`FramePool`]: the memory of the page cache, one piece from the start.
//!
//! A *frame* is a page and, in an array of its own, a header of one cache line. Frames are named by their
//! index, so that the addresses of both follow from one number and the processor can fetch them side by
//! side. The address space is reserved at once; memory is touched (pre-faulted) a chunk at a time, by the upkeep
//! thread ahead of use, because a page fault in the sequencer costs more than the commit.
//!
//! ```text
//!   free ──take──► held by one thread ──published in a chain──► shared ──unlinked──► waits for an epoch
//!    ▲                                                                                      │
//!    └───────────────── release, or the last unpin if somebody still holds it ◄─────────────┘
//! ```

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use storage::page::{PAGE_SIZE_BYTES, Page};
use storage::{Lsn, PageNo};

use super::region::Region;

/// A frame's index; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frame(pub(super) u32);

/// The LSN of a version whose batch is still being made.
pub(super) const PENDING: u64 = u64::MAX;
/// The end of a version that nothing has replaced.
pub(super) const CURRENT: u64 = u64::MAX;
/// Mark beside the pin count: unlinked, to be freed by the last unpin.
const ORPHAN: u32 = 1 << 31;
/// Frames touched at a time: 2 MiB.
const CHUNK_FRAMES: u32 = 256;
/// Frames kept touched and free, ahead of use, while there are untouched ones: 16 MiB. A load that fills the cache
/// takes a few of them in each pause of the upkeep thread.
const AHEAD_FRAMES: usize = 2048;

/// What is known about a frame's page. All atomics: readers walk chains while others change them.
#[repr(align(64))]
pub(super) struct FrameHeader {
    /// Version's first LSN; [`PENDING`] while its batch is open.
    pub(super) lsn: AtomicU64,
    /// First LSN at which the version no longer holds, or [`CURRENT`].
    pub(super) end: AtomicU64,
    /// The page that it is a version of.
    pub(super) page: AtomicU64,
    /// The next older version's frame, or zero.
    pub(super) older: AtomicU32,
    pins: AtomicU32,
    /// Read since the clock's hand last came by.
    pub(super) referenced: AtomicBool,
    /// In some chain: the clock's hand may look at it.
    pub(super) linked: AtomicBool,
}

impl FrameHeader {
    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) -> Lsn {
        Lsn(self.end.load(Ordering::Acquire))
    }

    pub(super) fn is_current(&self) -> bool {
        self.end.load(Ordering::Acquire) == CURRENT
    }

    pub(super) fn page(&self) -> PageNo {
        PageNo(self.page.load(Ordering::Relaxed))
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Relaxed) != 0
    }

    /// A store only where it changes something: hot pages are read by everyone.
    #[inline]
    pub(super) fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }
}

/// See the module.
pub(crate) struct FramePool {
    pages: Region,
    headers: Region,
    /// Frames that may be in use ordinarily.
    limit: u32,
    /// Frames there is address space for; those past the limit are the sequencer's reserve.
    capacity: u32,
    free: Mutex<FreeFrames>,
    /// `free.frames.len()` plus what was never touched below the limit, for looking without the lock.
    available: AtomicU32,
}

struct FreeFrames {
    frames: Vec<u32>,
    /// Lowest index never touched.
    untouched: u32,
    /// Frames taken and not yet released.
    in_use: u32,
}

impl FramePool {
    /// A pool of `limit_bytes` of pages (at least 16 of them).
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let limit = u32::try_from(limit_bytes / PAGE_SIZE_BYTES).unwrap_or(u32::MAX / 2).clamp(16, u32::MAX / 2);
        // The reserve is address space only, until a commit needs it: bounds of what a commit may need are
        // several times what it does need.
        let capacity = limit.saturating_mul(4).saturating_add(4096).min(u32::MAX / 2);
        let frames = capacity as usize + 1;
        let pages = Region::new(frames * PAGE_SIZE_BYTES);
        let headers = Region::new(frames * size_of::<FrameHeader>());
        pages.advise_huge_pages(limit as usize * PAGE_SIZE_BYTES);
        let free = Mutex::new(FreeFrames { frames: Vec::new(), untouched: 1, in_use: 0 });
        Self { pages, headers, limit, capacity, free, available: AtomicU32::new(limit) }
    }

    /// Frames that may be in use ordinarily.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Frames that could be taken now.
    pub(crate) fn available(&self) -> u32 {
        self.available.load(Ordering::Relaxed)
    }

    /// Frames that [`FramePool::take_reserved`] could give now.
    pub(crate) fn available_reserved(&self) -> u32 {
        self.capacity - self.free.lock().in_use
    }

    /// A frame for the caller alone, its page's bytes unspecified. `None` at the limit: evict first.
    pub(crate) fn take(&self) -> Option<Frame> {
        self.take_below(self.limit)
    }

    /// [`FramePool::take`] for the sequencer, past the limit if need be: a commit that has begun to apply
    /// cannot stop.
    pub(crate) fn take_reserved(&self) -> Option<Frame> {
        self.take_below(self.capacity)
    }

    fn take_below(&self, limit: u32) -> Option<Frame> {
        let mut free = self.free.lock();
        if free.in_use >= limit {
            return None;
        }
        if free.frames.is_empty() {
            let from = free.untouched;
            // `in_use < limit ≤ capacity` and nothing on the list: some index was never touched.
            let to = from.saturating_add(CHUNK_FRAMES).min(self.capacity + 1);
            debug_assert!(from < to, "{} frames in use, {from} touched, none free", free.in_use);
            for index in from..to {
                self.prefault(index);
            }
            free.untouched = to;
            free.frames.extend((from..to).rev());
        }
        let frame = free.frames.pop()?;
        free.in_use += 1;
        self.available.store(self.limit.saturating_sub(free.in_use), Ordering::Relaxed);
        Some(Frame(frame))
    }

    /// Touches memory that will be needed next, so that those who take frames need not. Never past the limit: the
    /// reserve is touched when a commit takes it.
    pub(super) fn prefault_ahead(&self) {
        loop {
            let (from, to) = {
                let mut free = self.free.lock();
                let ahead = AHEAD_FRAMES.min(self.limit as usize / 8);
                let (from, to) = (free.untouched, free.untouched.saturating_add(CHUNK_FRAMES));
                if free.frames.len() >= ahead || to > self.limit {
                    return;
                }
                free.untouched = to;
                (from, to)
            };
            for index in from..to {
                self.prefault(index);
            }
            // Below those that were used before, which are warmer.
            self.free.lock().frames.splice(0..0, (from..to).rev());
        }
    }

    /// Writes to every 4 KiB of a frame that nobody has yet.
    fn prefault(&self, index: u32) {
        let start = self.page_pointer(Frame(index)).cast::<u8>();
        for offset in (0..PAGE_SIZE_BYTES).step_by(4096) {
            // SAFETY: within the frame, which lies within the region and which no one else has taken.
            unsafe { start.add(offset).write_volatile(0) };
        }
    }

    /// Gives back a frame that no chain leads to and that was never pinned.
    pub(crate) fn give_back(&self, frame: Frame) {
        self.release(&[frame]);
    }

    fn release(&self, frames: &[Frame]) {
        let mut free = self.free.lock();
        free.frames.extend(frames.iter().map(|frame| frame.0));
        free.in_use -= u32::try_from(frames.len()).expect("at most all frames");
        self.available.store(self.limit.saturating_sub(free.in_use), Ordering::Relaxed);
    }

    /// Gives back frames that were unlinked at least one epoch ago; those still pinned follow later.
    pub(super) fn release_unlinked(&self, frames: &[Frame]) {
        for &frame in frames {
            if self.header(frame).pins.fetch_or(ORPHAN, Ordering::AcqRel) == 0 {
                self.header(frame).pins.store(0, Ordering::Relaxed);
                self.give_back(frame);
            }
        }
    }

    /// Keeps a frame from being reused. Only while an epoch guard protects it, or it is pinned already.
    pub(super) fn pin(&self, frame: Frame) {
        let before = self.header(frame).pins.fetch_add(1, Ordering::AcqRel);
        assert!(before & !ORPHAN < ORPHAN - 1, "frame {frame:?} is pinned too often");
    }

    /// Ends one [`FramePool::pin`].
    pub(super) fn unpin(&self, frame: Frame) {
        let before = self.header(frame).pins.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !ORPHAN > 0, "frame {frame:?} was not pinned");
        if before == ORPHAN | 1 {
            self.header(frame).pins.store(0, Ordering::Relaxed);
            self.give_back(frame);
        }
    }

    #[inline]
    pub(super) fn header(&self, frame: Frame) -> &FrameHeader {
        debug_assert!(frame.0 != 0 && frame.0 <= self.capacity);
        // SAFETY: frames are made by `take_below` only, with indexes up to `capacity`, for which the region has
        // room; zeroed memory is a valid header, whose fields are all atomics.
        unsafe { self.headers.base().cast::<FrameHeader>().add(frame.0 as usize).as_ref() }
    }

    #[inline]
    fn page_pointer(&self, frame: Frame) -> NonNull<Page> {
        // SAFETY: as in `header`.
        unsafe { self.pages.base().cast::<Page>().add(frame.0 as usize) }
    }

    /// The frame's page.
    ///
    /// # Safety
    /// Until the end of `'a` nobody changes the page or gives the frame back: the version is sealed or the
    /// caller holds the sequencer, and the frame is protected by an epoch guard, a pin, or its only owner.
    #[inline]
    pub(super) unsafe fn page<'a>(&self, frame: Frame) -> &'a Page {
        // SAFETY: zeroed memory is a valid page; the rest is the caller's promise.
        unsafe { self.page_pointer(frame).as_ref() }
    }

    /// The frame's page, to be changed.
    ///
    /// # Safety
    /// As [`FramePool::page`], and nobody else looks at the page: it is not published yet, or it is the
    /// current version above the sealed boundary and the caller holds the sequencer.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn page_mut<'a>(&self, frame: Frame) -> &'a mut Page {
        // SAFETY: as above.
        unsafe { self.page_pointer(frame).as_mut() }
    }

    /// Every frame that was ever taken, for the clock's hand.
    pub(super) fn touched_frames(&self) -> u32 {
        self.free.lock().untouched
    }
}
