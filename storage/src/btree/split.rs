//! Making room: entries into pages that may be full.
//!
//! Where an entry goes to a page's right edge, the page stays as it is and a new page begins with the
//! entry; at a leaf's left edge the same, mirrored. So rows in ascending or descending order fill pages
//! and log little. Elsewhere the right half moves to a new page, and the log carries it.

use super::prepare::Path;
use super::write::entry_for;
use super::{PageWriter, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::page::{BODY_BYTES, EntryBytes, Fit, Page, common_prefix_len};
use crate::record::{EntryRun, RedoOp, put_entry};

/// An entry looking for its place.
#[derive(Clone, Copy)]
pub(super) struct NewEntry<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub out_of_line: bool,
}

impl NewEntry<'_> {
    fn bytes(&self, prefix_len: usize) -> Result<EntryBytes<'_>, TreeError> {
        entry_for(prefix_len, self.key, self.value, self.out_of_line)
    }
}

/// Puts an entry into `slot` of the page that `path` leads to, splitting it if need be. Answers whether
/// the tree's shape stayed as it was; if not, the path is used up.
pub(super) fn insert_entry<W: PageWriter>(
    writer: &mut W,
    tree: TreeId,
    path: &mut Path,
    number: PageNo,
    slot: usize,
    new: NewEntry<'_>,
) -> Result<bool, W::Error> {
    let page = writer.latest(number)?;
    let mut prefix_len = page.prefix().len();
    match page.fit(new.key, new.value.len()) {
        Fit::No => {
            if let Some(longer) = roomier_prefix(page, slot, &new) {
                writer.apply(number, &RedoOp::Rebuild { prefix_len: longer as u16 })?;
                writer.apply(number, &RedoOp::Insert { slot: slot as u16, entry: new.bytes(longer)? })?;
                return Ok(true);
            }
            let number = if path.is_empty() { push_down(writer, tree, path)? } else { number };
            split_insert(writer, tree, path, number, slot, new)?;
            return Ok(false);
        }
        Fit::AfterRebuild(shorter) => {
            prefix_len = shorter;
            writer.apply(number, &RedoOp::Rebuild { prefix_len: shorter as u16 })?;
        }
        Fit::Yes => {}
    }
    writer.apply(number, &RedoOp::Insert { slot: slot as u16, entry: new.bytes(prefix_len)? })?;
    Ok(true)
}

/// A longer prefix under which a full page has room for the entry, and for more of its kind.
fn roomier_prefix(page: &Page, slot: usize, new: &NewEntry<'_>) -> Option<usize> {
    let first = page.first_key_slot();
    if slot < first || page.slot_count() <= first + 1 || !new.key.starts_with(page.prefix()) {
        return None;
    }
    let mut edge = Vec::new();
    let mut shared = page.shared_prefix_len(0..page.slot_count());
    for slot in [first, page.slot_count() - 1] {
        page.read_key(slot, &mut edge);
        shared = shared.min(common_prefix_len(&edge, new.key));
    }
    let room = page.new_entry_bytes(new.key.len(), new.value.len()).max(BODY_BYTES / 32);
    (shared > page.prefix().len() && page.size_with_prefix(shared) + room <= BODY_BYTES).then_some(shared)
}

/// Moves the root's content to a new page below it; answers its number, and the path leads there.
fn push_down<W: PageWriter>(writer: &mut W, tree: TreeId, path: &mut Path) -> Result<PageNo, W::Error> {
    let child = writer.allocate()?;
    let root = Box::new(writer.latest(tree.0)?.clone());
    writer.apply(child, &RedoOp::image_of(&root))?;
    if root.flags() != 0 {
        writer.apply(child, &RedoOp::SetFlags { flags: 0 })?;
    }
    let level = root.level().checked_add(1).ok_or(TreeError::Damaged {
        tree,
        page: tree.0,
        reason: "tree is higher than any tree can be",
    })?;
    writer.apply(tree.0, &RedoOp::Format { level, flags: root.flags(), tree, prefix: &[] })?;
    let entry = EntryBytes { suffix: &[], value: &child.0.to_le_bytes(), out_of_line: false };
    writer.apply(tree.0, &RedoOp::Insert { slot: 0, entry })?;
    path.push((tree.0, 0));
    Ok(child)
}

/// Tells the parent of a new page: `child`, which begins at `separator`, goes right after the slot that
/// the path took.
fn insert_child<W: PageWriter>(
    writer: &mut W,
    tree: TreeId,
    path: &mut Path,
    separator: &[u8],
    child: PageNo,
) -> Result<(), W::Error> {
    let (parent, slot) = path.pop().expect("the root was pushed down before a split");
    let value = child.0.to_le_bytes();
    let new = NewEntry { key: separator, value: &value, out_of_line: false };
    insert_entry(writer, tree, path, parent, slot + 1, new)?;
    Ok(())
}

fn split_insert<W: PageWriter>(
    writer: &mut W,
    tree: TreeId,
    path: &mut Path,
    number: PageNo,
    slot: usize,
    new: NewEntry<'_>,
) -> Result<(), W::Error> {
    let page = writer.latest(number)?;
    if page.is_leaf() && slot == 0 {
        return split_left_edge(writer, tree, path, number, new);
    }
    let plan = SplitPlan::choose(page, slot, &new);
    let (level, count) = (page.level(), page.slot_count());
    let separator = plan.separator(page, &new);
    let (prefix, run, entries) = plan.right_page(page, &new);
    let right = writer.allocate()?;
    writer.apply(right, &RedoOp::Format { level, flags: 0, tree, prefix: &prefix })?;
    writer.apply(right, &RedoOp::InsertRun { slot: 0, entries: EntryRun::new(entries, &run) })?;
    let moved_from = plan.first_moved();
    if moved_from < count {
        let moved = (count - moved_from) as u16;
        writer.apply(number, &RedoOp::Delete { slot: moved_from as u16, count: moved })?;
    }
    if !plan.new_goes_right() {
        let prefix = writer.latest(number)?.prefix();
        let shared = common_prefix_len(prefix, new.key);
        if shared < prefix.len() {
            writer.apply(number, &RedoOp::Rebuild { prefix_len: shared as u16 })?;
        }
        writer.apply(number, &RedoOp::Insert { slot: slot as u16, entry: new.bytes(shared)? })?;
    }
    lengthen_prefix(writer, number)?;
    insert_child(writer, tree, path, &separator, right)
}

/// A new leaf before the present one, holding the new row alone.
fn split_left_edge<W: PageWriter>(
    writer: &mut W,
    tree: TreeId,
    path: &mut Path,
    number: PageNo,
    new: NewEntry<'_>,
) -> Result<(), W::Error> {
    // Not truncated: a shorter separator would send the next descending row to the full page again.
    let mut separator = Vec::new();
    writer.latest(number)?.read_key(0, &mut separator);
    let left = writer.allocate()?;
    writer.apply(left, &RedoOp::Format { level: 0, flags: 0, tree, prefix: &[] })?;
    writer.apply(left, &RedoOp::Insert { slot: 0, entry: new.bytes(0)? })?;
    lengthen_prefix(writer, number)?;
    let &(parent, slot) = path.last().expect("the root was pushed down before a split");
    let child = left.0.to_le_bytes();
    writer.apply(parent, &RedoOp::Update { slot: slot as u16, value: &child, out_of_line: false })?;
    insert_child(writer, tree, path, &separator, number)
}

/// Gives a page the longest prefix that its keys share, where that makes searches cheaper and fits. The
/// record is three bytes.
fn lengthen_prefix<W: PageWriter>(writer: &mut W, number: PageNo) -> Result<(), W::Error> {
    let page = writer.latest(number)?;
    let shared = page.shared_prefix_len(0..page.slot_count());
    if shared > page.prefix().len() && page.size_with_prefix(shared) <= BODY_BYTES {
        writer.apply(number, &RedoOp::Rebuild { prefix_len: shared as u16 })?;
    }
    Ok(())
}

/// Where a page is cut: between the entries `cut - 1` and `cut` of its entries with the new one at `slot`.
struct SplitPlan {
    slot: usize,
    cut: usize,
}

impl SplitPlan {
    fn choose(page: &Page, slot: usize, new: &NewEntry<'_>) -> Self {
        let count = page.slot_count();
        if slot == count {
            return Self { slot, cut: count };
        }
        if !new.key.starts_with(page.prefix()) {
            // Below all others, and too unlike them to share a page: it stays with the first child.
            return Self { slot, cut: slot + 1 };
        }
        let new_bytes = page.new_entry_bytes(new.key.len(), new.value.len());
        let size = |index: usize| match index.cmp(&slot) {
            std::cmp::Ordering::Less => page.entry_bytes(index),
            std::cmp::Ordering::Equal => new_bytes,
            std::cmp::Ordering::Greater => page.entry_bytes(index - 1),
        };
        let total: usize = (0..=count).map(size).sum();
        let (mut left, mut best) = (0, (usize::MAX, 1));
        for cut in 1..=count {
            left += size(cut - 1);
            best = best.min((left.abs_diff(total - left), cut));
        }
        Self { slot, cut: best.1 }
    }

    fn new_goes_right(&self) -> bool {
        self.slot >= self.cut
    }

    /// First present entry that goes right.
    fn first_moved(&self) -> usize {
        if self.new_goes_right() { self.cut } else { self.cut - 1 }
    }

    /// The key of an entry, the new one counted.
    fn key(&self, page: &Page, new: &NewEntry<'_>, index: usize, key: &mut Vec<u8>) {
        if index == self.slot {
            key.clear();
            key.extend_from_slice(new.key);
        } else {
            page.read_key(if index < self.slot { index } else { index - 1 }, key);
        }
    }

    /// What the parent is to know the right page by: between leaves the shortest that tells them apart.
    fn separator(&self, page: &Page, new: &NewEntry<'_>) -> Vec<u8> {
        let mut right = Vec::new();
        self.key(page, new, self.cut, &mut right);
        if page.is_leaf() {
            let mut left = Vec::new();
            self.key(page, new, self.cut - 1, &mut left);
            right.truncate(separator_len(&left, &right));
        }
        right
    }

    /// The right page: its prefix, its entries encoded, and their number.
    fn right_page(&self, page: &Page, new: &NewEntry<'_>) -> (Vec<u8>, Vec<u8>, usize) {
        let total = page.slot_count() + 1;
        // The first entry of an internal page goes without its key.
        let first_key = self.cut + page.first_key_slot();
        let mut prefix = Vec::new();
        let mut key = Vec::new();
        if first_key + 1 < total {
            self.key(page, new, first_key, &mut prefix);
            self.key(page, new, total - 1, &mut key);
            prefix.truncate(common_prefix_len(&prefix, &key));
        } else {
            prefix.extend_from_slice(page.prefix());
            if self.new_goes_right() {
                prefix.truncate(common_prefix_len(&prefix, new.key));
            }
        }
        let mut run = Vec::with_capacity(BODY_BYTES);
        for index in self.cut..total {
            let (value, out_of_line) = match index.cmp(&self.slot) {
                std::cmp::Ordering::Less => page.raw_value(index),
                std::cmp::Ordering::Equal => (new.value, new.out_of_line),
                std::cmp::Ordering::Greater => page.raw_value(index - 1),
            };
            self.key(page, new, index, &mut key);
            let suffix = if index < first_key { &[][..] } else { &key[prefix.len()..] };
            put_entry(&mut run, EntryBytes { suffix, value, out_of_line });
        }
        (prefix, run, total - self.cut)
    }
}

/// Length of the shortest beginning of `right` that is above `left`, which lies below `right`.
pub(crate) fn separator_len(left: &[u8], right: &[u8]) -> usize {
    (common_prefix_len(left, right) + 1).min(right.len())
}
