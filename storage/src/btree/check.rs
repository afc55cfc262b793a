//! The checker of one tree: whether it is what it must be.
//!
//! [`visit_tree`] holds a path of pages and nothing else, however large the tree; what it finds goes to a
//! [`TreeVisitor`]. [`check_tree`] collects everything, for tests.

use super::read::{check_child, check_overflow, check_root};
use super::{PageReader, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::page::{EntryValue, FLAG_OVERFLOW, HEAD_FANOUT, OverflowRef, Page, overflow_pages};

/// Leaves asked for ahead of the one being checked.
const AHEAD: usize = 64;

/// What a tree consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeSummary {
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
}

/// Takes what [`visit_tree`] comes across. An error that it answers ends the visit.
pub trait TreeVisitor<E> {
    /// A page of the tree was reached; false when it had been reached before.
    fn reach(&mut self, page: PageNo) -> bool;
    /// Something is wrong with a page.
    fn problem(&mut self, page: PageNo, reason: &'static str) -> Result<(), E>;
    /// A page cannot be read: a finding if the page is damaged, an error if the visit has to end.
    fn unreadable(&mut self, page: PageNo, error: E) -> Result<(), E>;
    /// Called before every page is read: the place to say that the visit has to end.
    fn poll(&mut self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a whole tree. Every page is reached once, belongs to the tree, stands at the right level, holds
/// keys in order and within what its parent says; every large value is complete. What hangs below a page that
/// is wrong is not looked at.
pub fn visit_tree<R: PageReader>(
    reader: &R,
    tree: TreeId,
    visitor: &mut dyn TreeVisitor<R::Error>,
) -> Result<TreeSummary, R::Error> {
    let mut visit = Visit { reader, tree, visitor, summary: TreeSummary::default(), overflow_seen: false };
    let Some(root) = visit.open(tree.0)? else { return Ok(visit.summary) };
    match check_root(&root, tree) {
        Ok(()) => visit.page(tree.0, &root, None, None)?,
        Err(problem) => visit.report(tree.0, &problem)?,
    }
    visit.summary.height = u32::from(root.level()) + 1;
    if visit.overflow_seen && root.flags() & FLAG_OVERFLOW == 0 {
        visit.visitor.problem(tree.0, "root does not tell of values out of line")?;
    }
    Ok(visit.summary)
}

struct Visit<'r, R: PageReader> {
    reader: &'r R,
    tree: TreeId,
    visitor: &'r mut dyn TreeVisitor<R::Error>,
    summary: TreeSummary,
    overflow_seen: bool,
}

impl<'r, R: PageReader> Visit<'r, R> {
    /// A page, unless it was reached before or cannot be read.
    fn open(&mut self, number: PageNo) -> Result<Option<R::Ref<'r>>, R::Error> {
        self.visitor.poll()?;
        if !self.visitor.reach(number) {
            self.visitor.problem(number, "page is reached twice, or is not the tree's to use")?;
            return Ok(None);
        }
        match self.reader.page(number) {
            Ok(page) => Ok(Some(page)),
            Err(error) => self.visitor.unreadable(number, error).map(|()| None),
        }
    }

    fn report(&mut self, number: PageNo, problem: &TreeError) -> Result<(), R::Error> {
        let reason = match problem {
            TreeError::Damaged { reason, .. } => reason,
            _ => "not what its parent means",
        };
        self.visitor.problem(number, reason)
    }

    /// Checks a page and everything below it. Keys must lie in `low..high`.
    fn page(&mut self, number: PageNo, page: &Page, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), R::Error> {
        if page.check().is_err() {
            return self.visitor.problem(number, "structure of page is broken");
        }
        let mut key = Vec::new();
        for slot in [page.first_key_slot(), page.slot_count().wrapping_sub(1)] {
            if slot < page.slot_count() && slot >= page.first_key_slot() {
                page.read_key(slot, &mut key);
                if low.is_some_and(|low| key.as_slice() < low) || high.is_some_and(|high| key.as_slice() >= high) {
                    self.visitor.problem(number, "keys lie outside what the parent says")?;
                }
            }
        }
        if !page.is_leaf() {
            self.summary.internal_pages += 1;
            return self.children(page, low, high);
        }
        self.summary.leaf_pages += 1;
        self.summary.rows += page.slot_count() as u64;
        self.summary.leaf_used_bytes += page.used_bytes() as u64;
        if page.slot_count() == 0 && number != self.tree.0 {
            self.visitor.problem(number, "empty leaf")?;
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
            if page.level() == 1 && slot % AHEAD == 0 {
                let ahead = slot..(slot + AHEAD).min(page.slot_count());
                self.reader.prefetch(&mut ahead.map(|slot| page.child(slot)));
            }
            let number = page.child(slot);
            if let Some(child) = self.open(number)? {
                match check_child(&child, self.tree, number, page.level()) {
                    Ok(()) => self.page(number, &child, left.as_deref(), if last { high } else { Some(&right) })?,
                    Err(problem) => self.report(number, &problem)?,
                }
            }
            left = Some(right.clone());
        }
        Ok(())
    }

    /// One piece of a value: its data's length, the pages it names, the next head.
    fn piece(&mut self, number: PageNo) -> Result<Option<Piece>, R::Error> {
        let Some(page) = self.open(number)? else { return Ok(None) };
        if check_overflow(&page, self.tree, number).is_err() || page.check().is_err() {
            self.visitor.problem(number, "not a piece of a value")?;
            return Ok(None);
        }
        self.summary.overflow_pages += 1;
        let (bytes, next) = (page.overflow_data().len() as u64, page.overflow_next());
        Ok(Some(Piece { bytes, named: page.overflow_pages().collect(), next }))
    }

    fn overflow(&mut self, reference: OverflowRef) -> Result<(), R::Error> {
        let length = usize::try_from(reference.length_bytes).unwrap_or(usize::MAX);
        if length > super::MAX_VALUE_BYTES {
            return self.visitor.problem(reference.first, "value exceeds the longest value");
        }
        let most = overflow_pages(length);
        let (mut bytes, mut pages) = (0, 0);
        let mut head = Some(reference.first);
        // Every page is opened once only, so a chain that runs in a circle ends.
        while let Some(number) = head.take() {
            let Some(piece) = self.piece(number)? else { return Ok(()) };
            (bytes, pages) = (bytes + piece.bytes, pages + 1);
            for numbers in piece.named.chunks(AHEAD) {
                self.reader.prefetch(&mut numbers.iter().copied());
                for number in numbers {
                    let Some(named) = self.piece(*number)? else { return Ok(()) };
                    (bytes, pages) = (bytes + named.bytes, pages + 1);
                }
            }
            head = piece.next;
        }
        if bytes != reference.length_bytes || pages != most {
            self.visitor.problem(reference.first, "value is not as long as its leaf says")?;
        }
        Ok(())
    }
}

/// A page of a value out of line.
struct Piece {
    bytes: u64,
    /// At most [`HEAD_FANOUT`].
    named: Vec<PageNo>,
    next: Option<PageNo>,
}

const _: () = assert!(HEAD_FANOUT <= 1024, "a piece's page numbers stay small");

/// What a tree consists of, page by page, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Sizes.
    pub summary: TreeSummary,
    /// Every page reached, in no order.
    pub pages: Vec<PageNo>,
    /// What is wrong; empty for a sound tree.
    pub problems: Vec<TreeError>,
}

impl std::ops::Deref for TreeReport {
    type Target = TreeSummary;

    fn deref(&self) -> &TreeSummary {
        &self.summary
    }
}

struct Collect {
    tree: TreeId,
    seen: super::PageSet,
    report: TreeReport,
}

impl<E> TreeVisitor<E> for Collect {
    fn reach(&mut self, page: PageNo) -> bool {
        self.report.pages.push(page);
        self.seen.insert(page)
    }

    fn problem(&mut self, page: PageNo, reason: &'static str) -> Result<(), E> {
        self.report.problems.push(TreeError::Damaged { tree: self.tree, page, reason });
        Ok(())
    }

    fn unreadable(&mut self, _: PageNo, error: E) -> Result<(), E> {
        Err(error)
    }
}

/// [`visit_tree`] with everything collected: for trees that are small.
pub fn check_tree<R: PageReader>(reader: &R, tree: TreeId) -> Result<TreeReport, R::Error> {
    let mut collect = Collect { tree, seen: super::PageSet::default(), report: TreeReport::default() };
    collect.report.summary = visit_tree(reader, tree, &mut collect)?;
    Ok(collect.report)
}
