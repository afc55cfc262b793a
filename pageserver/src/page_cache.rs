//! Pages once made, kept while memory lasts.

use bytes::Bytes;
use moka::sync::Cache;
use storage::{BranchId, Lsn, PageNo};

/// A page's state: right for every LSN in `[page_lsn, known_until]`, and a base for later ones.
#[derive(Clone, Debug)]
pub struct CachedPage {
    /// Sealed.
    pub bytes: Bytes,
    /// LSN of its last record.
    pub page_lsn: Lsn,
    /// No record lies in `(page_lsn, known_until]`.
    pub known_until: Lsn,
}

/// The newest state made of each page of each branch, below a limit of bytes.
#[derive(Clone, Debug)]
pub struct PageCache {
    pages: Cache<(BranchId, PageNo), CachedPage>,
}

/// Bookkeeping that a page is charged with.
const ENTRY_OVERHEAD_BYTES: usize = 160;

impl PageCache {
    /// Empty, with a limit.
    pub fn new(limit_bytes: u64) -> PageCache {
        let weigh = |page: &CachedPage| u32::try_from(page.bytes.len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        PageCache { pages: Cache::builder().max_capacity(limit_bytes).weigher(move |_, page| weigh(page)).build() }
    }

    /// A state not newer than `at`.
    pub fn get(&self, branch: BranchId, page: PageNo, at: Lsn) -> Option<CachedPage> {
        self.pages.get(&(branch, page)).filter(|cached| cached.page_lsn <= at)
    }

    /// Keeps a state, unless a newer one is there: old versions are asked for once.
    pub fn keep(&self, branch: BranchId, page: PageNo, made: CachedPage) {
        let key = (branch, page);
        if self.pages.get(&key).is_none_or(|cached| cached.known_until < made.known_until) {
            self.pages.insert(key, made);
        }
    }
}
