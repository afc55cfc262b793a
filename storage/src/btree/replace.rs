//! Putting leaves that were built elsewhere in place of one that the tree has.
//!
//! A large transaction does not change its leaves one row after another while everybody waits: it builds what
//! they are to become on new pages beforehand. What is left for the commit is a pointer for each leaf: the
//! old leaf's place in its parent is taken by the first new one, the others follow it, and the old page is
//! free. The leaf itself need not be in memory.
//!
//! That is right only if the leaf still is what it was, and still stands for all keys that were written to it.
//! The former is the caller's to know (by the page's LSN), the latter is found by [`measure_replacement`].

use super::merge::lower_root;
use super::prepare::Path;
use super::read::{check_child, check_overflow, check_root};
use super::split::{NewEntry, insert_entry};
use super::{PageReader, PageWriter, TreeError};
use crate::bulk::NewLeaf;
use crate::ids::{PageNo, TreeId};
use crate::page::{BODY_BYTES, EntryBytes, FLAG_OVERFLOW, OverflowRef};
use crate::record::RedoOp;

/// A leaf as of a reader's LSN, and where its keys end.
pub struct LeafAt<P> {
    /// Its number.
    pub number: PageNo,
    /// The page.
    pub page: P,
    /// The first key that is not its own; none at the tree's right edge.
    pub upper: Option<Vec<u8>>,
}

/// The leaf of `key`.
pub fn find_leaf_at<R: PageReader>(reader: &R, tree: TreeId, key: &[u8]) -> Result<LeafAt<R::Owned>, R::Error> {
    let mut number = tree.0;
    let mut upper = None;
    let mut parent_level = None;
    loop {
        let page = reader.page_owned(number)?;
        match parent_level {
            None => check_root(&page, tree)?,
            Some(level) => check_child(&page, tree, number, level)?,
        }
        if page.is_leaf() {
            return Ok(LeafAt { number, page, upper });
        }
        let slot = page.child_slot(key);
        if slot + 1 < page.slot_count() {
            let mut separator = Vec::new();
            page.read_key(slot + 1, &mut separator);
            upper = Some(separator);
        }
        parent_level = Some(page.level());
        number = page.child(slot);
    }
}

/// How many leaves the sorted `keys` belong to, counted no further than `most`. Reads inner pages only.
pub fn count_leaves<'k, R: PageReader>(
    reader: &R,
    tree: TreeId,
    keys: impl IntoIterator<Item = &'k [u8]>,
    most: usize,
) -> Result<usize, R::Error> {
    let mut leaves = 0;
    let mut parent: Option<(R::Owned, usize)> = None;
    let mut last = None;
    for key in keys {
        if leaves >= most {
            break;
        }
        // Still below the same parent's last separator: no descent.
        let at_hand = parent.as_ref().filter(|(page, end)| *end > 0 && page.compare_key(*end, key).is_gt());
        if at_hand.is_none() {
            let mut number = tree.0;
            let mut page = reader.page_owned(number)?;
            check_root(&page, tree)?;
            while page.level() > 1 {
                let level = page.level();
                number = page.child(page.child_slot(key));
                page = reader.page_owned(number)?;
                check_child(&page, tree, number, level)?;
            }
            if page.is_leaf() {
                return Ok(1);
            }
            let end = page.slot_count() - 1;
            parent = Some((page, end));
        }
        let (page, _) = parent.as_ref().expect("found above");
        let child = page.child(page.child_slot(key));
        if last != Some(child) {
            leaves += 1;
            last = Some(child);
        }
    }
    Ok(leaves)
}

/// Appends the pages of a value out of line to `pages`.
pub fn collect_value<R: PageReader>(
    reader: &R,
    tree: TreeId,
    reference: OverflowRef,
    pages: &mut Vec<PageNo>,
) -> Result<(), R::Error> {
    let limit =
        pages.len() + crate::page::overflow_pages(usize::try_from(reference.length_bytes).unwrap_or(usize::MAX / 2));
    let mut head = Some(reference.first);
    while let Some(number) = head {
        let page = reader.page(number)?;
        check_overflow(&page, tree, number)?;
        pages.push(number);
        pages.extend(page.overflow_pages());
        if pages.len() > limit {
            let reason = "value has more pages than its length needs";
            return Err(TreeError::Damaged { tree, page: number, reason }.into());
        }
        head = page.overflow_next();
    }
    Ok(())
}

/// What is to become of one leaf.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The leaf.
    pub leaf: PageNo,
    /// Lowest key written to it.
    pub first_key: Box<[u8]>,
    /// Highest key written to it.
    pub last_key: Box<[u8]>,
    /// What takes its place; nothing, where no row is left.
    pub leaves: Vec<NewLeaf>,
    /// Pages of values that are gone with it.
    pub outdated: Vec<PageNo>,
    /// New rows have values out of line.
    pub has_overflow: bool,
}

/// What putting leaves in place needs at most. Sums up over many.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplacementNeeds {
    /// Inner pages met, each counted once while leaves come in order.
    pub inner_pages: usize,
    /// The last of them that stands above leaves.
    last_parent: Option<PageNo>,
    separator_bytes: usize,
    freed_pages: usize,
    height: usize,
    leaves: usize,
}

impl ReplacementNeeds {
    /// Pages that may be made or changed at most.
    pub fn pages_bound(&self) -> usize {
        let made = if self.leaves == 0 {
            0
        } else {
            // A split leaves a third of a page on either side; what goes up is as long as what came.
            2 * (2 * self.inner_pages + 3 * self.separator_bytes / BODY_BYTES) + self.height + 2
        };
        made + self.inner_pages + self.freed_pages / crate::meta::META_CAPACITY + 8
    }

    /// Bytes of log at most, roughly.
    pub fn log_bytes_bound(&self) -> usize {
        4 * self.separator_bytes
            + 64 * self.leaves
            + 16 * self.freed_pages
            + 2 * BODY_BYTES * self.inner_pages.min(1 << 20) / 8
    }
}

/// The way to the leaf of `key`, the leaf itself unread. All pages of the way must be in memory.
fn locate_above_leaf<W: PageWriter>(writer: &W, tree: TreeId, key: &[u8]) -> Result<(Path, PageNo), W::Error> {
    let mut path = Path::new();
    let mut number = tree.0;
    let mut page = writer.latest(number)?;
    check_root(page, tree)?;
    while !page.is_leaf() {
        let (slot, level) = (page.child_slot(key), page.level());
        path.push((number, slot));
        number = page.child(slot);
        if level == 1 {
            break;
        }
        page = writer.latest(number)?;
        check_child(page, tree, number, level)?;
    }
    Ok((path, number))
}

/// Whether a leaf can be replaced: all keys written to it still are its own. Adds to `needs` if so. Raises
/// [`TreeError::NotResident`] for inner pages.
pub fn measure_replacement<W: PageWriter>(
    writer: &W,
    tree: TreeId,
    replacement: &Replacement,
    needs: &mut ReplacementNeeds,
) -> Result<bool, W::Error> {
    let (path, leaf) = locate_above_leaf(writer, tree, &replacement.first_key)?;
    if leaf != replacement.leaf || !reaches(writer, &path, &replacement.last_key)? {
        return Ok(false);
    }
    let parent = path.last().map(|(number, _)| *number);
    if parent != needs.last_parent || parent.is_none() {
        // Those above are counted with each of their children, of which they have at least two on average.
        needs.inner_pages += 2;
        needs.last_parent = parent;
    }
    needs.height = needs.height.max(path.len());
    needs.leaves += 1;
    let separators = replacement.leaves.iter().skip(1).map(|leaf| leaf.separator.len() + 24);
    needs.separator_bytes += separators.sum::<usize>();
    needs.freed_pages += 1 + replacement.outdated.len();
    Ok(true)
}

/// Whether `key`, which lies above the one that the path was found for, belongs to the same leaf.
fn reaches<W: PageWriter>(writer: &W, path: &Path, key: &[u8]) -> Result<bool, W::Error> {
    for &(number, slot) in path.iter().rev() {
        let page = writer.latest(number)?;
        if slot + 1 < page.slot_count() {
            return Ok(page.compare_key(slot + 1, key).is_gt());
        }
    }
    Ok(true)
}

/// Puts the new leaves in the old one's place. The caller has measured it under the same writer, and replaced
/// nothing but other leaves since.
pub fn replace_leaf<W: PageWriter>(writer: &mut W, tree: TreeId, replacement: &Replacement) -> Result<(), W::Error> {
    let (path, leaf) = locate_above_leaf(writer, tree, &replacement.first_key)?;
    if leaf != replacement.leaf {
        return Err(TreeError::Inconsistent("a leaf to be replaced is not in its place").into());
    }
    if replacement.has_overflow {
        let flags = writer.latest(tree.0)?.flags();
        if flags & FLAG_OVERFLOW == 0 {
            writer.apply(tree.0, &RedoOp::SetFlags { flags: flags | FLAG_OVERFLOW })?;
        }
    }
    let Some((first, others)) = replacement.leaves.split_first() else {
        remove_leaf(writer, tree, path, leaf)?;
        return writer.free(&replacement.outdated);
    };
    let value = first.page.0.to_le_bytes();
    match path.last() {
        Some(&(parent, slot)) => {
            writer.apply(parent, &RedoOp::Update { slot: slot as u16, value: &value, out_of_line: false })?;
            writer.free(&[leaf])?;
        }
        None => {
            // The root was the leaf, and stays the root.
            let flags = writer.latest(tree.0)?.flags();
            writer.apply(tree.0, &RedoOp::Format { level: 1, flags, tree, prefix: &[] })?;
            let entry = EntryBytes { suffix: &[], value: &value, out_of_line: false };
            writer.apply(tree.0, &RedoOp::Insert { slot: 0, entry })?;
        }
    }
    insert_leaves(writer, tree, others)?;
    writer.free(&replacement.outdated)
}

/// Leaves that follow each other, all between two neighbours.
fn insert_leaves<W: PageWriter>(writer: &mut W, tree: TreeId, leaves: &[NewLeaf]) -> Result<(), W::Error> {
    // Where the leaf before stands, as long as that is known.
    let mut at: Option<Path> = None;
    for leaf in leaves {
        let mut path = match at.take() {
            Some(path) => path,
            None => locate_above_leaf(writer, tree, &leaf.separator)?.0,
        };
        let (parent, slot) = path.pop().expect("the root is above the leaves");
        let mut above = path.clone();
        let value = leaf.page.0.to_le_bytes();
        let new = NewEntry { key: &leaf.separator, value: &value, out_of_line: false };
        if insert_entry(writer, tree, &mut above, parent, slot + 1, new)? {
            path.push((parent, slot + 1));
            at = Some(path);
        }
    }
    Ok(())
}

/// Takes a leaf without rows out of the tree, and the pages above it that it leaves empty.
fn remove_leaf<W: PageWriter>(writer: &mut W, tree: TreeId, mut path: Path, leaf: PageNo) -> Result<(), W::Error> {
    let mut gone = leaf;
    if path.is_empty() {
        let flags = writer.latest(tree.0)?.flags();
        return writer.apply(tree.0, &RedoOp::Format { level: 0, flags, tree, prefix: &[] });
    }
    while let Some((parent, slot)) = path.pop() {
        writer.apply(parent, &RedoOp::Delete { slot: slot as u16, count: 1 })?;
        writer.free(&[gone])?;
        if writer.latest(parent)?.slot_count() > 0 {
            break;
        }
        gone = parent;
    }
    Ok(())
}

/// To be called when all leaves of a tree are replaced, before anything else is done to it: a root that was left
/// with no child, or one, becomes lower.
pub fn finish_replacing<W: PageWriter>(writer: &mut W, tree: TreeId) -> Result<(), W::Error> {
    lower_root(writer, tree)
}
