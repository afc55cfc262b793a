//! Where trees get their pages from, and where their changes go.

use std::ops::Deref;

use crate::ids::{PageNo, TreeId};
use crate::meta;
use crate::page::Page;
use crate::record::RedoOp;

/// Why a tree operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// XX001. A page is not what the tree says it must be, or a record does not suit it.
    #[error("page {page} of tree {tree} is damaged: {reason}")]
    Damaged { tree: TreeId, page: PageNo, reason: &'static str },
    /// XX000. A change does not suit the tree's pages: a program error.
    #[error("tree change is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// Fetch the page and try again. Never raised after the first record of a prepared change.
    #[error("page {page} is not in memory")]
    NotResident { page: PageNo },
    /// 54000.
    #[error("key of {bytes} bytes exceeds the maximum of {limit_bytes} bytes")]
    KeyTooLong { bytes: usize, limit_bytes: usize },
    /// 54000.
    #[error("value of {bytes} bytes exceeds the maximum of {limit_bytes} bytes")]
    ValueTooLong { bytes: usize, limit_bytes: usize },
}

/// Pages as of one LSN. Every answer for a page is the same, so readers need no latches and may come
/// back to a page at any time.
pub trait PageReader {
    /// What reading can fail with: page misses, interrupts, and what trees themselves raise.
    type Error: From<TreeError>;
    /// A page for a short while: until the reader's next step.
    type Ref<'a>: Deref<Target = Page>
    where
        Self: 'a;
    /// A page for as long as a cursor stands on it; may cost a reference count.
    type Owned: Deref<Target = Page>;

    /// The page. May wait for it.
    fn page(&self, page: PageNo) -> Result<Self::Ref<'_>, Self::Error>;
    /// The page, to keep.
    fn page_owned(&self, page: PageNo) -> Result<Self::Owned, Self::Error>;
    /// These pages will be asked for soon.
    fn prefetch(&self, _pages: &mut dyn Iterator<Item = PageNo>) {}
}

impl<R: PageReader> PageReader for &R {
    type Error = R::Error;
    type Ref<'a>
        = R::Ref<'a>
    where
        Self: 'a;
    type Owned = R::Owned;

    fn page(&self, page: PageNo) -> Result<Self::Ref<'_>, Self::Error> {
        (**self).page(page)
    }

    fn page_owned(&self, page: PageNo) -> Result<Self::Owned, Self::Error> {
        (**self).page_owned(page)
    }

    fn prefetch(&self, pages: &mut dyn Iterator<Item = PageNo>) {
        (**self).prefetch(pages);
    }
}

/// The latest version of every page, held by the one who may change them.
///
/// The implementor of [`PageWriter::apply`] does three things, in this order: encode the record into the
/// open batch ([`crate::batch::BatchEncoder::push`]), [`crate::redo::redo`] it on the page (on a copy where an older
/// version must stay, on a fresh unused page where [`RedoOp::initializes_page`] and none is in memory), and
/// remember the page, to stamp it with the batch's end when that is known.
pub trait PageWriter {
    /// What writing can fail with. An error out of `apply` cannot be undone: stop the node.
    type Error: From<TreeError>;

    /// The latest version, if it is in memory. Must not wait.
    fn resident(&self, page: PageNo) -> Option<&Page>;

    /// Logs and applies one operation. The page is resident, or the operation initializes it.
    fn apply(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), Self::Error>;

    /// The latest version of a page that must be in memory.
    fn latest(&self, page: PageNo) -> Result<&Page, Self::Error> {
        self.resident(page).ok_or_else(|| TreeError::NotResident { page }.into())
    }

    /// Takes a page number.
    fn allocate(&mut self) -> Result<PageNo, Self::Error> {
        meta::allocate(self)
    }

    /// Gives page numbers back.
    fn free(&mut self, pages: &[PageNo]) -> Result<(), Self::Error> {
        meta::free(self, pages)
    }
}
