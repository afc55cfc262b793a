//! Pages in memory, for tests and benches: the smallest writer and reader that keep the contracts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::batch::{Batch, BatchDecoder, BatchEncoder, BatchSpan, MIN_PART_BYTES};
use crate::btree::{PageReader, PageWriter, TreeError};
use crate::ids::{Epoch, Lsn, PageNo};
use crate::meta;
use crate::page::Page;
use crate::record::RedoOp;
use crate::redo::redo;

/// All pages of one branch at their latest version, and the log that made them.
#[derive(Clone)]
pub struct MemoryPages {
    pages: Vec<Option<Box<Page>>>,
    encoder: BatchEncoder,
    /// Changed by the open batch.
    touched: BTreeSet<PageNo>,
    /// Treated as not in memory.
    absent: BTreeSet<PageNo>,
    /// The log so far.
    pub log: Vec<u8>,
    /// Records applied since the start.
    pub records: u64,
}

impl Default for MemoryPages {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryPages {
    /// A new branch, its first batch written.
    pub fn new() -> Self {
        let mut pages = Self::empty();
        pages.commit(meta::initialize).expect("an empty branch can be initialized");
        pages
    }

    /// Nothing at all.
    pub fn empty() -> Self {
        Self {
            pages: Vec::new(),
            encoder: BatchEncoder::new(Lsn::ZERO, MIN_PART_BYTES),
            touched: BTreeSet::new(),
            absent: BTreeSet::new(),
            log: Vec::new(),
            records: 0,
        }
    }

    /// Runs `change` as one batch. The log grows by it even on an error.
    pub fn commit<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, TreeError>) -> Result<T, TreeError> {
        self.encoder.begin();
        let result = change(self);
        self.seal();
        result
    }

    fn seal(&mut self) -> BatchSpan {
        let span = self.encoder.finish(0);
        for page in std::mem::take(&mut self.touched) {
            self.page_mut(page).set_lsn(span.end_lsn);
        }
        let (_, bytes, _) = self.encoder.take(Vec::new());
        self.log.extend_from_slice(&bytes);
        span
    }

    /// Pretends that a page is not in memory, or that it is again.
    pub fn set_resident(&mut self, page: PageNo, resident: bool) {
        if resident {
            self.absent.remove(&page);
        } else {
            self.absent.insert(page);
        }
    }

    /// All pages ever written.
    pub fn iter(&self) -> impl Iterator<Item = (PageNo, &Page)> {
        let numbered = self.pages.iter().enumerate();
        numbered.filter_map(|(number, page)| Some((PageNo(number as u64), page.as_deref()?)))
    }

    /// A tree's new, empty root.
    pub fn create_tree(&mut self) -> Result<crate::TreeId, TreeError> {
        self.commit(|pages| {
            let tree = crate::TreeId(pages.allocate()?);
            pages.apply(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] })?;
            Ok(tree)
        })
    }

    fn page_mut(&mut self, page: PageNo) -> &mut Page {
        let number = page.0 as usize;
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        self.pages[number].get_or_insert_with(Page::unused)
    }
}

impl PageWriter for MemoryPages {
    type Error = TreeError;

    fn resident(&self, page: PageNo) -> Option<&Page> {
        let page_ref = self.pages.get(page.0 as usize)?.as_deref();
        page_ref.filter(|_| self.absent.is_empty() || !self.absent.contains(&page))
    }

    fn apply(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), TreeError> {
        if op.initializes_page() {
            self.absent.remove(&page);
        } else {
            self.latest(page)?;
        }
        self.encoder.push(page, op);
        self.touched.insert(page);
        self.records += 1;
        let changed = self.page_mut(page);
        redo(changed, op).map_err(|error| TreeError::Damaged { tree: changed.tree(), page, reason: error.0 })
    }
}

impl PageReader for MemoryPages {
    type Error = TreeError;
    type Ref<'a> = &'a Page;
    type Owned = Box<Page>;

    fn page(&self, page: PageNo) -> Result<&Page, TreeError> {
        self.latest(page)
    }

    fn page_owned(&self, page: PageNo) -> Result<Box<Page>, TreeError> {
        self.latest(page).cloned().map(Box::new)
    }
}

/// Decodes a whole log that starts at zero.
pub fn decode_log(log: &[u8]) -> Vec<Batch> {
    let mut decoder = BatchDecoder::new(Lsn::ZERO);
    decoder.feed(Lsn::ZERO, Epoch(1), Bytes::copy_from_slice(log)).expect("the log is sound");
    assert_eq!(decoder.resume_lsn(), Lsn(log.len() as u64), "the log ends within a batch");
    std::iter::from_fn(|| decoder.next_batch()).collect()
}

/// Replays a whole log from empty.
pub fn replay(log: &[u8]) -> BTreeMap<PageNo, Box<Page>> {
    let mut pages = BTreeMap::new();
    for batch in decode_log(log) {
        for record in batch.records() {
            let record = record.expect("the log is sound");
            let page: &mut Box<Page> = pages.entry(record.page).or_insert_with(Page::unused);
            redo(page, &record.op).unwrap_or_else(|error| panic!("{error}: {record:?} on {page:?}"));
            page.set_lsn(batch.end_lsn);
        }
    }
    pages
}
