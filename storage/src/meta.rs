//! Page 0 of a branch: where everything else begins, and which page numbers are free.
//!
//! ```text
//!  meta page                                 free-list page
//!  32  catalog      u64  root of the catalog tree       32  next    u64  next free-list page, 0 at the end
//!  40  upkeep  u64  root of the upkeep tree        40  count   u16
//!  48  next_page    u64  lowest number never used       48  pages   u64 each
//!  56  free_head    u64  first free-list page, or 0
//!  64  free_total   u64  free numbers on all lists
//!  72  count        u16  numbers in this page
//!  80  pages        u64 each
//! ```
//!
//! Numbers are taken from the meta page's own list, then from the first free-list page (if it is in
//! memory), then from the counter, so that allocation never waits for a page. When the own list is full,
//! the page being freed becomes a free-list page that takes it over.

use crate::batch::BatchEncoder;
use crate::btree::PageWriter;
use crate::ids::{PageNo, TreeId};
use crate::page::{HEADER_BYTES, PAGE_SIZE_BYTES, Page, PageDamage, PageKind};
use crate::record::{PageRun, RedoOp};
use crate::redo::RedoError;

/// The meta page's number.
pub const META_PAGE: PageNo = PageNo(0);
/// The catalog tree of a new branch.
pub const CATALOG_TREE: TreeId = TreeId(PageNo(1));
/// The upkeep tree of a new branch: what has to be given back, see [`crate::upkeep`].
pub const UPKEEP_TREE: TreeId = TreeId(PageNo(2));

const CATALOG: usize = HEADER_BYTES;
const UPKEEP: usize = HEADER_BYTES + 8;
const NEXT_PAGE: usize = HEADER_BYTES + 16;
const FREE_HEAD: usize = HEADER_BYTES + 24;
const FREE_TOTAL: usize = HEADER_BYTES + 32;
const META_COUNT: usize = HEADER_BYTES + 40;
const META_PAGES: usize = HEADER_BYTES + 48;
/// Free numbers that the meta page itself holds.
pub const META_CAPACITY: usize = (PAGE_SIZE_BYTES - META_PAGES) / 8;

const LIST_NEXT: usize = HEADER_BYTES;
const LIST_COUNT: usize = HEADER_BYTES + 8;
const LIST_PAGES: usize = HEADER_BYTES + 16;
/// Free numbers that a free-list page holds.
pub const FREE_LIST_CAPACITY: usize = (PAGE_SIZE_BYTES - LIST_PAGES) / 8;

const _: () = assert!(META_CAPACITY <= FREE_LIST_CAPACITY);

const NOT_META: RedoError = RedoError("not a meta page");

/// Writes the first batch of a new branch: the meta page, an empty catalog tree and an empty upkeep tree.
/// The writer must hold no pages yet.
pub fn initialize<W: PageWriter>(writer: &mut W) -> Result<(), W::Error> {
    let next_page = PageNo(UPKEEP_TREE.0.0 + 1);
    let op = RedoOp::MetaFormat { catalog: CATALOG_TREE, upkeep: UPKEEP_TREE, next_page };
    writer.apply(META_PAGE, &op)?;
    for tree in [CATALOG_TREE, UPKEEP_TREE] {
        writer.apply(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] })?;
    }
    Ok(())
}

/// The batch that [`initialize`] makes, encoded into `encoder`, for those who have no pages yet at all.
pub fn encode_initial_batch(encoder: &mut BatchEncoder) {
    let next_page = PageNo(UPKEEP_TREE.0.0 + 1);
    encoder.push(META_PAGE, &RedoOp::MetaFormat { catalog: CATALOG_TREE, upkeep: UPKEEP_TREE, next_page });
    for tree in [CATALOG_TREE, UPKEEP_TREE] {
        encoder.push(tree.0, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] });
    }
}

/// Takes a free page number, or a new one. Its page is made by the first record written to it.
pub fn allocate<W: PageWriter + ?Sized>(writer: &mut W) -> Result<PageNo, W::Error> {
    let meta = writer.latest(META_PAGE)?;
    if let Some(&last) = meta.meta_pages().last() {
        writer.apply(META_PAGE, &RedoOp::MetaPop { count: 1 })?;
        return Ok(PageNo(u64::from_le_bytes(last)));
    }
    if let Some(head) = meta.free_list_head()
        && let Some(list) = writer.resident(head)
    {
        let (next, pages) = (list.free_list_next(), list.free_list_pages().as_flattened().to_vec());
        writer.apply(META_PAGE, &RedoOp::MetaRefill { next, pages: PageRun::new(&pages) })?;
        return Ok(head);
    }
    allocate_run(writer, 1)
}

/// Takes `count` consecutive numbers that were never used; answers the first.
pub fn allocate_run<W: PageWriter + ?Sized>(writer: &mut W, count: u64) -> Result<PageNo, W::Error> {
    let first = writer.latest(META_PAGE)?.next_page();
    writer.apply(META_PAGE, &RedoOp::MetaExtend { count })?;
    Ok(first)
}

/// Gives page numbers back.
pub fn free<W: PageWriter + ?Sized>(writer: &mut W, pages: &[PageNo]) -> Result<(), W::Error> {
    let mut rest = pages;
    let mut encoded = Vec::new();
    while !rest.is_empty() {
        let meta = writer.latest(META_PAGE)?;
        let room = META_CAPACITY - meta.meta_pages().len();
        encoded.clear();
        if room == 0 {
            // The first of them takes over the full list.
            encoded.extend_from_slice(meta.meta_pages().as_flattened());
            let next = meta.free_list_head();
            writer.apply(rest[0], &RedoOp::FreeList { next, pages: PageRun::new(&encoded) })?;
            writer.apply(META_PAGE, &RedoOp::MetaSpill { head: rest[0] })?;
            rest = &rest[1..];
        } else {
            let (now, later) = rest.split_at(room.min(rest.len()));
            encoded.extend(now.iter().flat_map(|page| page.0.to_le_bytes()));
            writer.apply(META_PAGE, &RedoOp::MetaPush { pages: PageRun::new(&encoded) })?;
            rest = later;
        }
    }
    Ok(())
}

impl Page {
    /// Root of the catalog tree. Meta page only, as the next three.
    pub fn catalog_tree(&self) -> TreeId {
        TreeId(PageNo(self.u64_at(CATALOG)))
    }

    /// Root of the upkeep tree.
    pub fn upkeep_tree(&self) -> TreeId {
        TreeId(PageNo(self.u64_at(UPKEEP)))
    }

    /// Lowest page number never used: the size of the branch in pages.
    pub fn next_page(&self) -> PageNo {
        PageNo(self.u64_at(NEXT_PAGE))
    }

    /// Free page numbers on all lists.
    pub fn free_total(&self) -> u64 {
        self.u64_at(FREE_TOTAL)
    }

    /// First free-list page.
    pub fn free_list_head(&self) -> Option<PageNo> {
        Some(PageNo(self.u64_at(FREE_HEAD))).filter(|head| head.0 != 0)
    }

    /// Free numbers held by the meta page itself, little-endian.
    pub fn meta_pages(&self) -> &[[u8; 8]] {
        self.bytes()[META_PAGES..META_PAGES + 8 * self.u16_at(META_COUNT)].as_chunks().0
    }

    /// Next free-list page. Free-list pages only, as the next.
    pub fn free_list_next(&self) -> Option<PageNo> {
        Some(PageNo(self.u64_at(LIST_NEXT))).filter(|next| next.0 != 0)
    }

    /// Free numbers held by a free-list page, little-endian.
    pub fn free_list_pages(&self) -> &[[u8; 8]] {
        self.bytes()[LIST_PAGES..LIST_PAGES + 8 * self.u16_at(LIST_COUNT)].as_chunks().0
    }

    pub(crate) fn format_meta(&mut self, catalog: TreeId, upkeep: TreeId, next_page: PageNo) -> Result<(), RedoError> {
        if catalog.0 >= next_page || upkeep.0 >= next_page {
            return Err(RedoError("root of a tree lies beyond the branch"));
        }
        self.reset(PageKind::Meta, 0, 0, TreeId::default());
        self.put_u64(CATALOG, catalog.0.0);
        self.put_u64(UPKEEP, upkeep.0.0);
        self.put_u64(NEXT_PAGE, next_page.0);
        Ok(())
    }

    pub(crate) fn meta_extend(&mut self, count: u64) -> Result<(), RedoError> {
        self.check_is_meta()?;
        let next = self.next_page().0.checked_add(count).ok_or(RedoError("page numbers overflow"))?;
        self.put_u64(NEXT_PAGE, next);
        Ok(())
    }

    pub(crate) fn meta_pop(&mut self, count: usize) -> Result<(), RedoError> {
        self.check_is_meta()?;
        let held = self.u16_at(META_COUNT);
        let left = held.checked_sub(count).ok_or(RedoError("free list has fewer pages"))?;
        self.bytes_mut()[META_PAGES + 8 * left..META_PAGES + 8 * held].fill(0);
        self.put_u16(META_COUNT, left);
        self.put_u64(FREE_TOTAL, self.free_total() - count as u64);
        Ok(())
    }

    pub(crate) fn meta_push(&mut self, pages: PageRun<'_>) -> Result<(), RedoError> {
        self.check_is_meta()?;
        let words = check_run(pages, META_CAPACITY)?;
        let held = self.u16_at(META_COUNT);
        if held + words.len() > META_CAPACITY {
            return Err(RedoError("free list is full"));
        }
        let total = self.free_total().checked_add(words.len() as u64);
        let total = total.ok_or(RedoError("free pages overflow"))?;
        let start = META_PAGES + 8 * held;
        self.bytes_mut()[start..start + 8 * words.len()].copy_from_slice(words.as_flattened());
        self.put_u16(META_COUNT, held + words.len());
        self.put_u64(FREE_TOTAL, total);
        Ok(())
    }

    pub(crate) fn meta_spill(&mut self, head: PageNo) -> Result<(), RedoError> {
        self.check_is_meta()?;
        if head.0 == 0 {
            return Err(RedoError("the meta page cannot be free"));
        }
        self.bytes_mut()[META_PAGES..].fill(0);
        self.put_u16(META_COUNT, 0);
        self.put_u64(FREE_HEAD, head.0);
        Ok(())
    }

    pub(crate) fn meta_refill(&mut self, next: Option<PageNo>, pages: PageRun<'_>) -> Result<(), RedoError> {
        self.check_is_meta()?;
        let words = check_run(pages, META_CAPACITY)?;
        if self.u16_at(META_COUNT) != 0 || self.free_total() < words.len() as u64 {
            return Err(RedoError("free list does not expect more pages"));
        }
        self.bytes_mut()[META_PAGES..META_PAGES + 8 * words.len()].copy_from_slice(words.as_flattened());
        self.put_u16(META_COUNT, words.len());
        self.put_u64(FREE_HEAD, next.map_or(0, |next| next.0));
        Ok(())
    }

    pub(crate) fn format_free_list(&mut self, next: Option<PageNo>, pages: PageRun<'_>) -> Result<(), RedoError> {
        let words = check_run(pages, FREE_LIST_CAPACITY)?;
        self.reset(PageKind::FreeList, 0, 0, TreeId::default());
        self.put_u64(LIST_NEXT, next.map_or(0, |next| next.0));
        self.put_u16(LIST_COUNT, words.len());
        self.bytes_mut()[LIST_PAGES..LIST_PAGES + 8 * words.len()].copy_from_slice(words.as_flattened());
        Ok(())
    }

    fn check_is_meta(&self) -> Result<(), RedoError> {
        if self.kind() == PageKind::Meta { Ok(()) } else { Err(NOT_META) }
    }
}

fn check_run(pages: PageRun<'_>, limit: usize) -> Result<&[[u8; 8]], RedoError> {
    let words = pages.words().ok_or(RedoError("page numbers end early"))?;
    if words.len() > limit {
        return Err(RedoError("more free pages than fit a page"));
    }
    if words.contains(&[0; 8]) {
        return Err(RedoError("the meta page cannot be free"));
    }
    Ok(words)
}

/// Structure of a meta page.
pub(crate) fn check_meta(page: &Page) -> Result<(), PageDamage> {
    let count = page.u16_at(META_COUNT);
    let sound = count <= META_CAPACITY
        && page.free_total() >= count as u64
        && page.catalog_tree().0 < page.next_page()
        && page.upkeep_tree().0 < page.next_page()
        && !page.meta_pages().contains(&[0; 8]);
    if sound { Ok(()) } else { Err(PageDamage::Structure { reason: "meta page does not add up" }) }
}

/// Structure of a free-list page.
pub(crate) fn check_free_list(page: &Page) -> Result<(), PageDamage> {
    let sound = page.u16_at(LIST_COUNT) <= FREE_LIST_CAPACITY && !page.free_list_pages().contains(&[0; 8]);
    if sound { Ok(()) } else { Err(PageDamage::Structure { reason: "free-list page does not add up" }) }
}
