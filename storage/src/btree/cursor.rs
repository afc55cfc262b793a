//! Cursors: rows in key order, either way, at one snapshot.

use smallvec::SmallVec;

use super::PageReader;
use super::read::{check_child, check_root, read_overflow};
use crate::ids::{PageNo, TreeId};
use crate::page::{EntryValue, Page};

/// Leaves asked for ahead of a scan that has not gone far, and of one that has. The more are asked for together, the less
/// each costs; but a short scan must not fetch much that it never looks at.
const FIRST_PREFETCH_PAGES: usize = 16;
const PREFETCH_PAGES: usize = 64;

/// A position in a tree: on a row, or on none.
///
/// Keeps the page numbers and slots of its path and owns the leaf it stands on. Coming back to an inner
/// page is safe because the reader's answers never change. The tree at that snapshot has no sibling
/// pointers to follow, and needs none.
pub struct Cursor<R: PageReader> {
    reader: R,
    tree: TreeId,
    /// Inner pages from the root down, each with the slot taken.
    path: SmallVec<[(PageNo, usize); 6]>,
    leaf: Option<R::Owned>,
    slot: usize,
    key: Vec<u8>,
    /// The value, when it is out of line.
    assembled: Option<Vec<u8>>,
    /// Leaves passed in the present direction since the last seek, for read-ahead.
    leaves_passed: usize,
}

impl<R: PageReader> Cursor<R> {
    /// On no row.
    pub fn new(reader: R, tree: TreeId) -> Self {
        Self {
            reader,
            tree,
            path: SmallVec::new(),
            leaf: None,
            slot: 0,
            key: Vec::new(),
            assembled: None,
            leaves_passed: 0,
        }
    }

    /// The reader it was made with.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// True when it stands on a row.
    pub fn on_row(&self) -> bool {
        self.leaf.is_some()
    }

    /// The row's key. Panics when on no row.
    pub fn key(&self) -> &[u8] {
        assert!(self.on_row(), "the cursor is on no row");
        &self.key
    }

    /// The row's value. Panics when on no row.
    pub fn value(&self) -> &[u8] {
        let leaf = self.leaf.as_ref().expect("the cursor is on a row");
        match &self.assembled {
            Some(value) => value,
            None => leaf.raw_value(self.slot).0,
        }
    }

    /// Goes to the first row. All moves answer whether there is such a row, and leave the cursor on no
    /// row when there is none or an error came up.
    pub fn seek_first(&mut self) -> Result<bool, R::Error> {
        self.descend(|_| 0)?;
        self.settle_forward()
    }

    /// Goes to the last row.
    pub fn seek_last(&mut self) -> Result<bool, R::Error> {
        self.descend(|page| page.slot_count() - 1)?;
        self.slot = self.leaf_count();
        self.settle_backward()
    }

    /// Goes to the first row whose key is `key` or above.
    pub fn seek_at_or_above(&mut self, key: &[u8]) -> Result<bool, R::Error> {
        let slot = self.search(key)?;
        self.slot = slot.unwrap_or_else(|slot| slot);
        self.settle_forward()
    }

    /// Goes to the first row whose key is above `key`.
    pub fn seek_above(&mut self, key: &[u8]) -> Result<bool, R::Error> {
        let slot = self.search(key)?;
        self.slot = slot.map_or_else(|slot| slot, |slot| slot + 1);
        self.settle_forward()
    }

    /// Goes to the last row whose key is `key` or below.
    pub fn seek_at_or_below(&mut self, key: &[u8]) -> Result<bool, R::Error> {
        let slot = self.search(key)?;
        self.slot = slot.map_or_else(|slot| slot, |slot| slot + 1);
        self.settle_backward()
    }

    /// Goes to the last row whose key is below `key`.
    pub fn seek_below(&mut self, key: &[u8]) -> Result<bool, R::Error> {
        let slot = self.search(key)?;
        self.slot = slot.unwrap_or_else(|slot| slot);
        self.settle_backward()
    }

    /// Steps to the next row. From no row: stays there.
    #[inline]
    pub fn next_row(&mut self) -> Result<bool, R::Error> {
        if self.leaf.is_none() {
            return Ok(false);
        }
        self.slot += 1;
        self.settle_forward()
    }

    /// Steps to the row before. From no row: stays there.
    #[inline]
    pub fn previous_row(&mut self) -> Result<bool, R::Error> {
        if self.leaf.is_none() {
            return Ok(false);
        }
        self.settle_backward()
    }

    fn leaf_count(&self) -> usize {
        self.leaf.as_ref().map_or(0, |leaf| leaf.slot_count())
    }

    fn search(&mut self, key: &[u8]) -> Result<Result<usize, usize>, R::Error> {
        self.descend(|page| page.child_slot(key))?;
        Ok(self.leaf.as_ref().expect("a descent ends on a leaf").search(key))
    }

    /// From the root to a leaf, taking in each inner page the slot that `choose` says.
    fn descend(&mut self, choose: impl Fn(&Page) -> usize) -> Result<(), R::Error> {
        self.leaf = None;
        self.path.clear();
        self.leaves_passed = 0;
        self.slot = 0;
        let page = self.reader.page(self.tree.0)?;
        check_root(&page, self.tree)?;
        if page.is_leaf() {
            drop(page);
            self.leaf = Some(self.reader.page_owned(self.tree.0)?);
            return Ok(());
        }
        let slot = choose(&page);
        let (child, level) = (page.child(slot), page.level());
        drop(page);
        self.path.push((self.tree.0, slot));
        self.descend_from(child, level, choose)
    }

    /// As [`Cursor::descend`], from a child of a page at `level`.
    fn descend_from(
        &mut self,
        mut number: PageNo,
        mut level: u8,
        choose: impl Fn(&Page) -> usize,
    ) -> Result<(), R::Error> {
        while level > 1 {
            let page = self.reader.page(number)?;
            check_child(&page, self.tree, number, level)?;
            let slot = choose(&page);
            self.path.push((number, slot));
            number = page.child(slot);
            level = page.level();
        }
        let leaf = self.reader.page_owned(number)?;
        check_child(&leaf, self.tree, number, level)?;
        self.leaf = Some(leaf);
        Ok(())
    }

    /// Onto the row in `slot`, or the first one of a later leaf.
    #[inline]
    fn settle_forward(&mut self) -> Result<bool, R::Error> {
        while self.slot >= self.leaf_count() {
            if !self.step_leaf(true)? {
                return Ok(false);
            }
            self.slot = 0;
        }
        self.load_row()
    }

    /// Onto the row before `slot`, or the last one of an earlier leaf.
    #[inline]
    fn settle_backward(&mut self) -> Result<bool, R::Error> {
        while self.slot == 0 {
            if !self.step_leaf(false)? {
                return Ok(false);
            }
            self.slot = self.leaf_count();
        }
        self.slot -= 1;
        self.load_row()
    }

    /// To the neighbouring leaf; false, and on no row, at the tree's end.
    fn step_leaf(&mut self, forward: bool) -> Result<bool, R::Error> {
        self.leaf = None;
        while let Some((number, slot)) = self.path.pop() {
            let page = self.reader.page(number)?;
            let next = if forward { Some(slot + 1) } else { slot.checked_sub(1) };
            let Some(slot) = next.filter(|&slot| slot < page.slot_count()) else { continue };
            let (child, level) = (page.child(slot), page.level());
            if level == 1 {
                self.leaves_passed += 1;
                prefetch(&self.reader, &page, slot, forward, self.leaves_passed);
            }
            drop(page);
            self.path.push((number, slot));
            self.descend_from(child, level, |page| if forward { 0 } else { page.slot_count() - 1 })?;
            return Ok(true);
        }
        Ok(false)
    }

    #[inline]
    fn load_row(&mut self) -> Result<bool, R::Error> {
        let leaf = self.leaf.as_ref().expect("settled on a leaf");
        leaf.read_key(self.slot, &mut self.key);
        self.assembled = None;
        if let EntryValue::Overflow(reference) = leaf.value(self.slot) {
            let mut value = Vec::new();
            if let Err(error) = read_overflow(&self.reader, self.tree, reference, &mut value) {
                self.leaf = None;
                return Err(error);
            }
            self.assembled = Some(value);
        }
        Ok(true)
    }
}

/// Asks for the leaves ahead: nothing for a scan that has seen one leaf only, then in blocks.
fn prefetch<R: PageReader>(reader: &R, parent: &Page, slot: usize, forward: bool, leaves_passed: usize) {
    let Some(since_second) = leaves_passed.checked_sub(2) else { return };
    let ahead = if since_second < FIRST_PREFETCH_PAGES { FIRST_PREFETCH_PAGES } else { PREFETCH_PAGES };
    // Half of them before the first half is used up.
    if !since_second.is_multiple_of(ahead / 2) {
        return;
    }
    let count = parent.slot_count();
    if forward {
        let ahead = slot + 1..(slot + 1 + ahead).min(count);
        reader.prefetch(&mut ahead.map(|slot| parent.child(slot)));
    } else {
        let ahead = slot.saturating_sub(ahead)..slot;
        reader.prefetch(&mut ahead.rev().map(|slot| parent.child(slot)));
    }
}
