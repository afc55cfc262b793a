//! Giving a whole tree's pages back, in bounded steps.

use super::overflow::collect_overflow;
use super::prepare::Path;
use super::read::{check_child, check_root};
use super::{PageWriter, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::page::{EntryValue, FLAG_OVERFLOW, Page};
use crate::record::RedoOp;

/// How far a step got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// This many pages were freed; there are more.
    Some(usize),
    /// The tree is gone, its root page included.
    All,
}

/// Frees about `max_pages` pages of a tree that nobody will read at a later LSN: leaves from the left, the
/// inner pages above them, at last the root. Values out of line go with their leaf, all at once.
///
/// One call is one batch. Between calls the tree is sound and smaller, so a crash loses nothing but the
/// rest of the work. Raises [`TreeError::NotResident`] before the first record when a page is needed:
/// fetch it and call again. Leaves are needed only in trees with values out of line.
pub fn reclaim_step<W: PageWriter>(writer: &mut W, tree: TreeId, max_pages: usize) -> Result<Reclaimed, W::Error> {
    writer.latest(crate::meta::META_PAGE)?;
    let root = writer.latest(tree.0)?;
    check_root(root, tree)?;
    let out_of_line = root.flags() & FLAG_OVERFLOW != 0;
    let mut pages = Vec::new();
    if root.is_leaf() {
        collect_values(writer, tree, root, &mut pages)?;
        pages.push(tree.0);
        writer.free(&pages)?;
        return Ok(Reclaimed::All);
    }

    // Leftmost page above the leaves. Everything is looked up before anything is changed.
    let mut path = Path::new();
    let (mut number, mut page) = (tree.0, root);
    while page.level() > 1 {
        path.push((number, 0));
        let (child, level) = (page.child(0), page.level());
        number = child;
        page = writer.latest(number)?;
        check_child(page, tree, number, level)?;
    }
    let count = page.slot_count();
    let mut taken = 0;
    while taken < count && (taken == 0 || pages.len() < max_pages) {
        let child = page.child(taken);
        if out_of_line {
            match writer.resident(child) {
                Some(leaf) => {
                    check_child(leaf, tree, child, page.level())?;
                    collect_values(writer, tree, leaf, &mut pages)?;
                }
                None if taken > 0 => break,
                None => return Err(TreeError::NotResident { page: child }.into()),
            }
        }
        pages.push(child);
        taken += 1;
    }

    let mut left = count - taken;
    writer.apply(number, &RedoOp::Delete { slot: 0, count: taken as u16 })?;
    while left == 0 {
        pages.push(number);
        let Some((parent, slot)) = path.pop() else {
            writer.free(&pages)?;
            return Ok(Reclaimed::All);
        };
        writer.apply(parent, &RedoOp::Delete { slot: slot as u16, count: 1 })?;
        number = parent;
        left = writer.latest(parent)?.slot_count();
    }
    writer.free(&pages)?;
    Ok(Reclaimed::Some(pages.len()))
}

fn collect_values<W: PageWriter>(
    writer: &W,
    tree: TreeId,
    leaf: &Page,
    pages: &mut Vec<PageNo>,
) -> Result<(), W::Error> {
    for slot in 0..leaf.slot_count() {
        if let EntryValue::Overflow(reference) = leaf.value(slot) {
            collect_overflow(writer, tree, reference, pages)?;
        }
    }
    Ok(())
}
