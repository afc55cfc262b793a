//! Reading: from the root to a leaf, and values wherever they are.

use std::ops::{Deref, Range};

use smallvec::SmallVec;

use super::{PageReader, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::page::{EntryValue, OverflowRef, Page, PageKind};

/// A value, borrowed from its page or assembled from overflow pages.
pub enum Value<P> {
    /// The page and the place of the value in it.
    InPage(P, Range<usize>),
    /// The bytes.
    Assembled(Vec<u8>),
}

impl<P: Deref<Target = Page>> Deref for Value<P> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::InPage(page, range) => &page.bytes()[range.clone()],
            Value::Assembled(bytes) => bytes,
        }
    }
}

/// The value of `key`, if the tree has it.
pub fn get<'r, R: PageReader>(reader: &'r R, tree: TreeId, key: &[u8]) -> Result<Option<Value<R::Ref<'r>>>, R::Error> {
    let leaf = find_leaf(reader, tree, key)?;
    let Ok(slot) = leaf.search(key) else { return Ok(None) };
    match leaf.value(slot) {
        EntryValue::Inline(_) => {
            let range = leaf.value_range(slot);
            Ok(Some(Value::InPage(leaf, range)))
        }
        EntryValue::Overflow(reference) => {
            let mut value = Vec::new();
            read_overflow(reader, tree, reference, &mut value)?;
            Ok(Some(Value::Assembled(value)))
        }
    }
}

/// Looks up many keys, sorted ascending, going back to the root only where a key lies beyond the leaf at
/// hand. `found` is called for every key with its number and value.
pub fn get_many<'k, R: PageReader>(
    reader: &R,
    tree: TreeId,
    keys: impl IntoIterator<Item = &'k [u8]>,
    mut found: impl FnMut(usize, Option<&[u8]>),
) -> Result<(), R::Error> {
    let mut leaf: Option<R::Ref<'_>> = None;
    let mut assembled = Vec::new();
    for (number, key) in keys.into_iter().enumerate() {
        // Keys ascend, so a key not above the leaf's last belongs to this leaf.
        let covered =
            |leaf: &Page| leaf.slot_count().checked_sub(1).is_some_and(|last| leaf.compare_key(last, key).is_ge());
        let page = match leaf.take() {
            Some(leaf) if covered(&leaf) => leaf,
            _ => find_leaf(reader, tree, key)?,
        };
        match page.search(key).map(|slot| page.value(slot)) {
            Err(_) => found(number, None),
            Ok(EntryValue::Inline(value)) => found(number, Some(value)),
            Ok(EntryValue::Overflow(reference)) => {
                assembled.clear();
                read_overflow(reader, tree, reference, &mut assembled)?;
                found(number, Some(&assembled));
            }
        }
        leaf = Some(page);
    }
    Ok(())
}

/// The leaf that `key` belongs to.
pub(super) fn find_leaf<'r, R: PageReader>(reader: &'r R, tree: TreeId, key: &[u8]) -> Result<R::Ref<'r>, R::Error> {
    let mut page = reader.page(tree.0)?;
    check_root(&page, tree)?;
    while !page.is_leaf() {
        let (child, level) = (page.child(page.child_slot(key)), page.level());
        page = reader.page(child)?;
        page.prefetch();
        check_child(&page, tree, child, level)?;
    }
    Ok(page)
}

/// Pages that a writer will touch: few, for most commits.
pub type LocatedPages = SmallVec<[PageNo; 8]>;

/// The pages that the sorted `keys` will touch: paths, leaves and the heads of values out of line, each
/// once, in the order met. Reading them brings them to memory, so a writer calls this before it enters
/// the sequencer.
pub fn locate<'k, R: PageReader>(
    reader: &R,
    tree: TreeId,
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<LocatedPages, R::Error> {
    let mut pages = LocatedPages::new();
    let mut path: SmallVec<[PageNo; 8]> = SmallVec::new();
    for key in keys {
        let mut number = tree.0;
        let mut page = reader.page(number)?;
        check_root(&page, tree)?;
        for depth in 0.. {
            if path.get(depth) != Some(&number) {
                path.truncate(depth);
                path.push(number);
                pages.push(number);
            }
            if page.is_leaf() {
                break;
            }
            let level = page.level();
            number = page.child(page.child_slot(key));
            page = reader.page(number)?;
            check_child(&page, tree, number, level)?;
        }
        if let Ok(slot) = page.search(key)
            && let EntryValue::Overflow(reference) = page.value(slot)
        {
            let mut head = Some(reference.first);
            while let Some(number) = head {
                let page = reader.page(number)?;
                check_overflow(&page, tree, number)?;
                pages.push(number);
                head = page.overflow_next();
            }
        }
    }
    Ok(pages)
}

/// Appends a large value to `out`.
pub fn read_overflow<R: PageReader>(
    reader: &R,
    tree: TreeId,
    reference: OverflowRef,
    out: &mut Vec<u8>,
) -> Result<(), R::Error> {
    let damaged = |page, reason| TreeError::Damaged { tree, page, reason };
    let length = usize::try_from(reference.length_bytes).unwrap_or(usize::MAX);
    if length > super::MAX_VALUE_BYTES {
        return Err(damaged(reference.first, "value exceeds the longest value").into());
    }
    let end = out.len() + length;
    out.reserve(length);
    let mut head = Some(reference.first);
    while let Some(number) = head {
        let page = reader.page(number)?;
        check_overflow(&page, tree, number)?;
        out.extend_from_slice(page.overflow_data());
        reader.prefetch(&mut page.overflow_pages());
        for number in page.overflow_pages() {
            let piece = reader.page(number)?;
            check_overflow(&piece, tree, number)?;
            out.extend_from_slice(piece.overflow_data());
            if out.len() > end {
                break;
            }
        }
        // Also what ends a chain that runs in a circle: every piece but the last adds bytes.
        if out.len() > end || page.overflow_data().is_empty() {
            return Err(damaged(number, "value is longer than its leaf says").into());
        }
        head = page.overflow_next();
    }
    if out.len() == end { Ok(()) } else { Err(damaged(reference.first, "value is shorter than its leaf says").into()) }
}

pub(super) fn check_root(page: &Page, tree: TreeId) -> Result<(), TreeError> {
    let sound = page.is_slotted() && page.tree() == tree && (page.is_leaf() || page.slot_count() > 0);
    if sound { Ok(()) } else { Err(TreeError::Damaged { tree, page: tree.0, reason: "not the root of this tree" }) }
}

/// Checks a page reached from a parent at `level`. Levels fall with every step, so a descent ends.
pub(super) fn check_child(page: &Page, tree: TreeId, number: PageNo, level: u8) -> Result<(), TreeError> {
    let sound = page.is_slotted()
        && page.tree() == tree
        && page.level() + 1 == level
        && (page.is_leaf() || page.slot_count() > 0);
    if sound {
        Ok(())
    } else {
        Err(TreeError::Damaged { tree, page: number, reason: "not the page that its parent means" })
    }
}

pub(super) fn check_overflow(page: &Page, tree: TreeId, number: PageNo) -> Result<(), TreeError> {
    if page.kind() == PageKind::Overflow && page.tree() == tree {
        Ok(())
    } else {
        Err(TreeError::Damaged { tree, page: number, reason: "not a piece of a value of this tree" })
    }
}
