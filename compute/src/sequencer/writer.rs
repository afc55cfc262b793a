//! The latest pages: [`BatchWriter`], as trees change them within one batch, and [`NewestReader`], as
//! whoever holds the sequencer reads them.

use crossbeam_epoch::Guard;
use sql::error::SqlError;
use storage::PageNo;
use storage::batch::BatchEncoder;
use storage::btree::{PageReader, PageWriter, TreeError};
use storage::page::Page;
use storage::record::RedoOp;

use super::SequencerError;
use crate::cache::{Change, CopiedPage, PageCache};

/// Exists only while its maker holds the sequencer.
pub(super) struct BatchWriter<'a> {
    cache: &'a PageCache,
    encoder: &'a mut BatchEncoder,
    changes: &'a mut Vec<Change>,
    applying: &'a mut bool,
    /// Sorted by page.
    copies: &'a mut [CopiedPage],
    guard: &'a Guard,
}

impl<'a> BatchWriter<'a> {
    /// The caller holds the sequencer, whose parts these are, for as long as the writer lives.
    pub(super) fn new(
        cache: &'a PageCache,
        encoder: &'a mut BatchEncoder,
        changes: &'a mut Vec<Change>,
        applying: &'a mut bool,
        copies: &'a mut [CopiedPage],
        guard: &'a Guard,
    ) -> Self {
        Self { cache, encoder, changes, applying, copies, guard }
    }
}

impl PageWriter for BatchWriter<'_> {
    type Error = SequencerError;

    #[inline]
    fn resident(&self, page: PageNo) -> Option<&Page> {
        // SAFETY: the maker holds the sequencer; pages are changed by `apply` only, which borrows the
        // writer exclusively and keeps no reference.
        unsafe { self.cache.newest_page(page, self.guard) }
    }

    fn apply(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), SequencerError> {
        if page.0 >= crate::cache::MAX_PAGES {
            let damaged = TreeError::Damaged { tree: Default::default(), page, reason: "page number is too large" };
            return Err(SequencerError::Broken(damaged));
        }
        *self.applying = true;
        self.encoder.push(page, op);
        let copies = &mut *self.copies;
        let copied = |source, lsn| {
            let at = copies.binary_search_by_key(&page, |copy| copy.page).ok()?;
            copies[at].of(source, lsn)
        };
        // SAFETY: as in `resident`; references given out by it have ended.
        let target = unsafe { self.cache.change(page, op.initializes_page(), copied, self.changes, self.guard) };
        let Some(target) = target else {
            return Err(SequencerError::Refused(SqlError::internal(format!(
                "page {page} was not in memory, or no memory was left, while a commit was applied"
            ))));
        };
        storage::redo::redo(target, op)
            .map_err(|error| SequencerError::Broken(TreeError::Damaged { tree: target.tree(), page, reason: error.0 }))
    }
}

/// Exists only while its maker holds the sequencer, and changes nothing meanwhile.
pub(crate) struct NewestReader<'a> {
    cache: &'a PageCache,
    guard: &'a Guard,
}

impl<'a> NewestReader<'a> {
    pub(super) fn new(cache: &'a PageCache, guard: &'a Guard) -> Self {
        Self { cache, guard }
    }
}

impl<'g> PageReader for NewestReader<'g> {
    type Error = SequencerError;
    type Ref<'a>
        = &'g Page
    where
        Self: 'a;
    type Owned = &'g Page;

    fn page(&self, page: PageNo) -> Result<&'g Page, SequencerError> {
        // SAFETY: the maker holds the sequencer and changes nothing while the reader exists.
        unsafe { self.cache.newest_page(page, self.guard) }.ok_or(SequencerError::NotResident(page))
    }

    fn page_owned(&self, page: PageNo) -> Result<&'g Page, SequencerError> {
        self.page(page)
    }
}
