//! What a change will need, found out before its first record.

use smallvec::SmallVec;

use super::overflow::collect_overflow;
use super::read::{check_child, check_root};
use super::{MAX_VALUE_BYTES, PageWriter, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::meta::META_CAPACITY;
use crate::page::{
    BODY_BYTES, EntryValue, MAX_INLINE_ENTRY_BYTES, MAX_INLINE_VALUE_BYTES, MAX_KEY_BYTES, OverflowRef,
    common_prefix_len, overflow_pages,
};

/// Inner pages from the root down, each with the slot of the child taken.
pub(super) type Path = SmallVec<[(PageNo, usize); 4]>;

/// A leaf and how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub path: Path,
    pub leaf: PageNo,
}

/// A change that cannot fail for want of a page or because of its own keys and values. Valid until the
/// writer changes anything in the tree by other means.
#[derive(Debug)]
pub struct Prepared {
    pub(super) tree: TreeId,
    /// Every leaf to be touched, with the number of its first write.
    pub(super) leaves: SmallVec<[(usize, Located); 1]>,
    new_pages: usize,
}

impl Prepared {
    /// The tree to be changed.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Pages that may be initialized at most: room for that many must be at hand.
    pub fn new_pages_bound(&self) -> usize {
        self.new_pages
    }

    /// The leaves to be touched, in key order.
    pub fn leaf_pages(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.leaves.iter().map(|(_, located)| located.leaf)
    }

    /// Pages now in the tree that may be changed at most: leaves, inner pages above them, for each of both
    /// a sibling to merge with, the meta page and a free-list page.
    pub fn changed_pages_bound(&self) -> usize {
        2 + self.leaves.iter().map(|(_, located)| 2 * (1 + located.path.len())).sum::<usize>()
    }
}

/// Checks, before the first record, that a sorted run of writes to a tree can be applied: keys and values
/// within their limits, every page in memory. Keys must ascend strictly; a value of `None` deletes.
pub fn prepare<'w, W: PageWriter>(
    writer: &W,
    tree: TreeId,
    writes: impl IntoIterator<Item = (&'w [u8], Option<&'w [u8]>)>,
) -> Result<Prepared, W::Error> {
    // Every batch may take page numbers.
    writer.latest(crate::meta::META_PAGE)?;
    let mut prepared = Prepared { tree, leaves: SmallVec::new(), new_pages: 0 };
    let mut growth = Growth::default();
    let mut height = 0;
    for (number, (key, value)) in writes.into_iter().enumerate() {
        check_limits(key, value)?;
        let current = prepared.leaves.last().map(|(_, located)| located);
        if !current.is_some_and(|located| covers(writer, located, key)) {
            prepared.new_pages += growth.new_pages(height);
            let located = locate_leaf(writer, tree, key)?;
            height = located.path.len();
            growth = Growth::default();
            prepared.leaves.push((number, located));
        }
        let leaf_number = prepared.leaves.last().map(|(_, located)| located.leaf).expect("just located");
        let leaf = writer.latest(leaf_number)?;
        let found = leaf.search(key).ok();
        if let Some(slot) = found
            && let EntryValue::Overflow(reference) = leaf.value(slot)
        {
            growth.freed_pages += check_heads(writer, tree, reference)?;
        }
        growth.count(leaf, found, key, value);
    }
    prepared.new_pages += growth.new_pages(height);
    Ok(prepared)
}

/// What the writes to one leaf add to it.
#[derive(Default)]
struct Growth {
    free_bytes: usize,
    added_bytes: usize,
    overflow_pages: usize,
    freed_pages: usize,
    /// A key shares less with the leaf than its keys among themselves: it may need a page of its own.
    strangers: usize,
}

impl Growth {
    fn count(&mut self, leaf: &crate::page::Page, found: Option<usize>, key: &[u8], value: Option<&[u8]>) {
        self.free_bytes = leaf.free_bytes();
        let Some(value) = value else { return };
        let mut stored = value.len();
        if !is_inline(key, value) {
            stored = OverflowRef::ENCODED_BYTES;
            self.overflow_pages += overflow_pages(value.len());
        }
        let prefix = leaf.prefix();
        match found {
            Some(slot) => self.added_bytes += stored.saturating_sub(leaf.raw_value(slot).0.len()),
            None => {
                self.added_bytes += leaf.new_entry_bytes(key.len(), stored);
                self.strangers += usize::from(common_prefix_len(prefix, key) < prefix.len());
            }
        }
    }

    /// Freed pages become free-list pages now and then. A split leaves a third of a page on either side, or sets one key
    /// apart; each new page adds one separator, and a new root level one page more.
    fn new_pages(&self, height: usize) -> usize {
        let out_of_line = self.overflow_pages + self.freed_pages.div_ceil(META_CAPACITY);
        if self.added_bytes <= self.free_bytes && self.strangers == 0 {
            return out_of_line;
        }
        let leaves = 2 + self.strangers + (BODY_BYTES + self.added_bytes) / (BODY_BYTES / 3);
        out_of_line + 2 * leaves + height + 1
    }
}

/// Whether a value is kept in the leaf.
pub(crate) fn is_inline(key: &[u8], value: &[u8]) -> bool {
    value.len() <= MAX_INLINE_VALUE_BYTES && key.len() + value.len() <= MAX_INLINE_ENTRY_BYTES
}

/// Limits of keys and values.
pub fn check_limits(key: &[u8], value: Option<&[u8]>) -> Result<(), TreeError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(TreeError::KeyTooLong { bytes: key.len(), limit_bytes: MAX_KEY_BYTES });
    }
    match value {
        Some(value) if value.len() > MAX_VALUE_BYTES => {
            Err(TreeError::ValueTooLong { bytes: value.len(), limit_bytes: MAX_VALUE_BYTES })
        }
        _ => Ok(()),
    }
}

/// Descends to the leaf of `key`; every page on the way must be in memory.
pub(super) fn locate_leaf<W: PageWriter>(writer: &W, tree: TreeId, key: &[u8]) -> Result<Located, W::Error> {
    let mut path = Path::new();
    let mut number = tree.0;
    let mut page = writer.latest(number)?;
    check_root(page, tree)?;
    while !page.is_leaf() {
        let (slot, level) = (page.child_slot(key), page.level());
        path.push((number, slot));
        number = page.child(slot);
        page = writer.latest(number)?;
        check_child(page, tree, number, level)?;
    }
    Ok(Located { path, leaf: number })
}

/// Whether `key`, which lies above those before it, still belongs to the leaf: it is below the separator
/// to the right of the path. Only while the tree's inner pages are as they were when it was located.
pub(super) fn covers<W: PageWriter>(writer: &W, located: &Located, key: &[u8]) -> bool {
    for &(number, slot) in located.path.iter().rev() {
        let Some(page) = writer.resident(number) else { return false };
        if slot + 1 < page.slot_count() {
            return page.compare_key(slot + 1, key).is_gt();
        }
    }
    true
}

/// The heads of a value out of line must be in memory for its pages to be freed; answers how many pages
/// that will be.
fn check_heads<W: PageWriter>(writer: &W, tree: TreeId, reference: OverflowRef) -> Result<usize, W::Error> {
    let mut pages = Vec::new();
    collect_overflow(writer, tree, reference, &mut pages)?;
    Ok(pages.len())
}
