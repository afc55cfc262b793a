//! Pages at one LSN, as trees read them.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_epoch::{self as epoch, Guard};
use storage::btree::PageReader;
use storage::page::Page;
use storage::{Lsn, PageNo};

use super::pool::{Frame, FramePool};
use super::{CacheError, PageCache};

/// A version held by a pin: for cursors, and across waits.
pub(crate) struct PinnedPage {
    pool: Arc<FramePool>,
    frame: Frame,
}

impl PinnedPage {
    /// Takes over one pin.
    pub(super) fn new(pool: Arc<FramePool>, frame: Frame) -> Self {
        Self { pool, frame }
    }
}

impl Drop for PinnedPage {
    fn drop(&mut self) {
        self.pool.unpin(self.frame);
    }
}

/// A page for a short while.
pub(crate) struct PageRef<'a> {
    page: &'a Page,
    _hold: Hold,
}

enum Hold {
    Guard(#[allow(dead_code)] Guard),
    Pin(#[allow(dead_code)] PinnedPage),
}

impl Deref for PageRef<'_> {
    type Target = Page;

    #[inline]
    fn deref(&self) -> &Page {
        self.page
    }
}

/// A sealed version, pinned.
pub(crate) struct SealedPage(PinnedPage);

impl Deref for SealedPage {
    type Target = Page;

    #[inline]
    fn deref(&self) -> &Page {
        // SAFETY: made by `SnapshotReader` only, of versions at or below the sealed boundary, which never
        // change; the pin keeps the frame.
        unsafe { self.0.pool.page(self.0.frame) }
    }
}

/// Reads pages as of one LSN, not above the sealed boundary, for point lookups: no reference counts. A thread
/// that holds guards must not wait, so a miss is an error ([`CacheError::Missing`]): start over with a
/// [`SnapshotReader`].
pub(crate) struct GuardedReader<'c> {
    cache: &'c PageCache,
    at: Lsn,
}

impl<'c> GuardedReader<'c> {
    pub(crate) fn new(cache: &'c PageCache, at: Lsn) -> Self {
        debug_assert!(at <= cache.positions.sealed());
        Self { cache, at }
    }

    fn missing<T>(&self, page: PageNo) -> Result<T, CacheError> {
        Err(CacheError::Missing { page, at: self.at })
    }
}

impl PageReader for GuardedReader<'_> {
    type Error = CacheError;
    type Ref<'a>
        = PageRef<'a>
    where
        Self: 'a;
    type Owned = SealedPage;

    #[inline]
    fn page(&self, page: PageNo) -> Result<PageRef<'_>, CacheError> {
        let guard = epoch::pin();
        match self.cache.find(page, self.at, &guard) {
            // SAFETY: it holds `at`, so it is sealed; the reference lives no longer than the guard beside it.
            Some(frame) => Ok(PageRef { page: unsafe { self.cache.pool.page(frame) }, _hold: Hold::Guard(guard) }),
            None => self.missing(page),
        }
    }

    fn page_owned(&self, page: PageNo) -> Result<SealedPage, CacheError> {
        match self.cache.pin_version(page, self.at) {
            Some(pin) => Ok(SealedPage(pin)),
            None => self.missing(page),
        }
    }
}

/// Reads pages as of one LSN, not above the sealed boundary: pins them, and fetches what is missing.
#[derive(Clone)]
pub(crate) struct SnapshotReader {
    cache: Arc<PageCache>,
    at: Lsn,
}

impl SnapshotReader {
    pub(crate) fn new(cache: Arc<PageCache>, at: Lsn) -> Self {
        debug_assert!(at <= cache.positions.sealed());
        Self { cache, at }
    }
}

impl PageReader for SnapshotReader {
    type Error = CacheError;
    type Ref<'a> = PageRef<'a>;
    type Owned = SealedPage;

    fn page(&self, page: PageNo) -> Result<PageRef<'_>, CacheError> {
        let pin = self.cache.load(page, self.at)?;
        // SAFETY: it holds `at`, so it is sealed; the reference lives no longer than the pin beside it.
        let page = unsafe { pin.pool.page(pin.frame) };
        Ok(PageRef { page, _hold: Hold::Pin(pin) })
    }

    fn page_owned(&self, page: PageNo) -> Result<SealedPage, CacheError> {
        Ok(SealedPage(self.cache.load(page, self.at)?))
    }

    fn prefetch(&self, pages: &mut dyn Iterator<Item = PageNo>) {
        self.cache.prefetch(pages, self.at);
    }
}
