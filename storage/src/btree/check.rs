//! The checker: whether a tree, and a branch's page space, are what they must be.

use std::collections::BTreeMap;

use super::read::{check_child, check_overflow, check_root};
use super::{PageReader, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::meta::META_PAGE;
use crate::page::{EntryValue, OverflowRef, Page, PageKind, overflow_pages};

/// What a tree consists of, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Pages between the root and a row, both ends counted.
    pub height: u32,
    /// Rows.
    pub rows: u64,
    /// Leaves.
    pub leaf_pages: u64,
    /// Inner pages.
    pub internal_pages: u64,
    /// Pages of values out of line.
    pub overflow_pages: u64,
    /// Bytes used in leaves; against the number of leaves, their fill.
    pub leaf_used_bytes: u64,
    /// Every page reached, in no order.
    pub pages: Vec<PageNo>,
    /// What is wrong; empty for a sound tree.
    pub problems: Vec<TreeError>,
}

/// Reads a whole tree. Every page is reached once, belongs to the tree, stands at the right level, holds
/// keys in order and within what its parent says; every large value is complete.
pub fn check_tree<R: PageReader>(reader: &R, tree: TreeId) -> Result<TreeReport, R::Error> {
    let mut check = Check { reader, tree, report: TreeReport::default(), overflow_seen: false };
    let root = reader.page(tree.0)?;
    check.report.pages.push(tree.0);
    match check_root(&root, tree) {
        Ok(()) => check.page(tree.0, &root, None, None)?,
        Err(problem) => check.report.problems.push(problem),
    }
    check.report.height = u32::from(root.level()) + 1;
    if check.overflow_seen && root.flags() & crate::page::FLAG_OVERFLOW == 0 {
        check.problem(tree.0, "root does not tell of values out of line");
    }
    let mut sorted = check.report.pages.clone();
    sorted.sort_unstable();
    for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
        check.problem(pair[0], "page is reached twice");
    }
    Ok(check.report)
}

struct Check<'r, R> {
    reader: &'r R,
    tree: TreeId,
    report: TreeReport,
    overflow_seen: bool,
}

impl<R: PageReader> Check<'_, R> {
    fn problem(&mut self, page: PageNo, reason: &'static str) {
        self.report.problems.push(TreeError::Damaged { tree: self.tree, page, reason });
    }

    /// Checks a page and everything below it. Keys must lie in `low..high`.
    fn page(&mut self, number: PageNo, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), R::Error> {
        if page.check().is_err() {
            self.problem(number, "structure of page is broken");
            return Ok(());
        }
        let mut key = Vec::new();
        for slot in [page.first_key_slot(), page.slot_count().wrapping_sub(1)] {
            if slot < page.slot_count() && slot >= page.first_key_slot() {
                page.read_key(slot, &mut key);
                if low.is_some_and(|low| key.as_slice() < low) || high.is_some_and(|high| key.as_slice() >= high) {
                    self.problem(number, "keys lie outside what the parent says");
                }
            }
        }
        if !page.is_leaf() {
            self.report.internal_pages += 1;
            return self.children(page, low, high);
        }
        self.report.leaf_pages += 1;
        self.report.rows += page.slot_count() as u64;
        self.report.leaf_used_bytes += page.used_bytes() as u64;
        if page.slot_count() == 0 && number != self.tree.0 {
            self.problem(number, "empty leaf");
        }
        for slot in 0..page.slot_count() {
            if let EntryValue::Overflow(reference) = page.value(slot) {
                self.overflow_seen = true;
                self.overflow(reference)?;
            }
        }
        Ok(())
    }

    fn children(&mut self, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), R::Error> {
        let (mut left, mut right) = (low.map(<[u8]>::to_vec), Vec::new());
        for slot in 0..page.slot_count() {
            let last = slot + 1 == page.slot_count();
            if !last {
                page.read_key(slot + 1, &mut right);
            }
            let number = page.child(slot);
            let child = self.reader.page(number)?;
            self.report.pages.push(number);
            match check_child(&child, self.tree, number, page.level()) {
                Ok(()) => self.page(number, &child, left.as_deref(), if last { high } else { Some(&right) })?,
                Err(problem) => self.report.problems.push(problem),
            }
            left = Some(right.clone());
        }
        Ok(())
    }

    fn overflow(&mut self, reference: OverflowRef) -> Result<(), R::Error> {
        let mut bytes = 0;
        let most = overflow_pages(usize::try_from(reference.length_bytes).unwrap_or(0).min(super::MAX_VALUE_BYTES));
        let mut pages = vec![reference.first];
        let mut head = Some(reference.first);
        while let Some(number) = head.take() {
            let page = self.reader.page(number)?;
            if check_overflow(&page, self.tree, number).is_err() || page.check().is_err() || pages.len() > most {
                self.problem(number, "not a piece of a value, or one too many");
                return Ok(());
            }
            bytes += page.overflow_data().len() as u64;
            for number in page.overflow_pages() {
                let piece = self.reader.page(number)?;
                pages.push(number);
                if check_overflow(&piece, self.tree, number).is_err() || piece.check().is_err() {
                    self.problem(number, "not a piece of a value");
                    return Ok(());
                }
                bytes += piece.overflow_data().len() as u64;
            }
            head = page.overflow_next();
            pages.extend(head);
        }
        if bytes != reference.length_bytes || pages.len() != most {
            self.problem(reference.first, "value is not as long as its leaf says");
        }
        self.report.overflow_pages += pages.len() as u64;
        self.report.pages.append(&mut pages);
        Ok(())
    }
}

/// Checks that every page number ever handed out is used exactly once: by the meta page, a free list, or
/// one of `in_use` (the pages of all trees and all runs still reserved). Answers what is wrong.
pub fn check_space<R: PageReader>(
    reader: &R,
    in_use: impl IntoIterator<Item = PageNo>,
) -> Result<Vec<(PageNo, &'static str)>, R::Error> {
    let mut problems = Vec::new();
    let mut uses: BTreeMap<PageNo, u32> = BTreeMap::new();
    let mut add = |page: PageNo| *uses.entry(page).or_default() += 1;
    let meta = reader.page(META_PAGE)?;
    if meta.kind() != PageKind::Meta {
        return Ok(vec![(META_PAGE, "not a meta page")]);
    }
    add(META_PAGE);
    let number = |word: &[u8; 8]| PageNo(u64::from_le_bytes(*word));
    meta.meta_pages().iter().map(number).for_each(&mut add);
    let mut free = meta.meta_pages().len() as u64;
    let mut head = meta.free_list_head();
    while let Some(list) = head {
        let page = reader.page(list)?;
        add(list);
        if page.kind() != PageKind::FreeList || free > meta.next_page().0 {
            problems.push((list, "not a free-list page, or the list runs in a circle"));
            break;
        }
        page.free_list_pages().iter().map(number).for_each(&mut add);
        free += page.free_list_pages().len() as u64;
        head = page.free_list_next();
        free += u64::from(page.free_list_pages().is_empty());
    }
    if free != meta.free_total() {
        problems.push((META_PAGE, "count of free pages does not match the lists"));
    }
    in_use.into_iter().for_each(&mut add);
    let mut expected = PageNo(0);
    for (page, uses) in uses {
        if page >= meta.next_page() {
            problems.push((page, "page was never handed out"));
            continue;
        }
        if uses > 1 {
            problems.push((page, "page is used twice"));
        }
        if page > expected {
            problems.push((expected, "page is lost: neither used nor free"));
        }
        expected = PageNo(page.0 + 1);
    }
    if expected < meta.next_page() {
        problems.push((expected, "page is lost: neither used nor free"));
    }
    Ok(problems)
}
