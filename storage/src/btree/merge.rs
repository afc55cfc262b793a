//! Giving room back: empty pages are freed, nearly empty ones joined with a sibling.
//!
//! A sibling that is not in memory is left alone: nobody waits for a page to save space.

use super::prepare::{Located, Path};
use super::read::check_child;
use super::{PageWriter, TreeError};
use crate::ids::{PageNo, TreeId};
use crate::page::{BODY_BYTES, Page, common_prefix_len};
use crate::record::{EntryRun, RedoOp, put_entry};

/// A page below this is merged,
const LOW_BYTES: usize = BODY_BYTES / 4;
/// unless the result would be above this, where the next insert might split it again.
const MERGED_BYTES: usize = BODY_BYTES * 7 / 10;

/// Sees to a leaf that has lost rows. Answers whether the tree's shape stayed as it was.
pub(super) fn settle_leaf<W: PageWriter>(writer: &mut W, tree: TreeId, located: Located) -> Result<bool, W::Error> {
    let Located { mut path, leaf: mut number } = located;
    let mut intact = true;
    while let Some(&(parent, slot)) = path.last() {
        let page = writer.latest(number)?;
        if page.slot_count() == 0 {
            writer.apply(parent, &RedoOp::Delete { slot: slot as u16, count: 1 })?;
            writer.free(&[number])?;
        } else if page.used_bytes() >= LOW_BYTES || !merge_with_sibling(writer, tree, &path)? {
            break;
        }
        intact = false;
        number = parent;
        path.pop();
    }
    if !intact {
        lower_root(writer, tree)?;
    }
    Ok(intact)
}

/// A root without children becomes an empty leaf; one with a single child takes over its content.
pub(super) fn lower_root<W: PageWriter>(writer: &mut W, tree: TreeId) -> Result<(), W::Error> {
    loop {
        let root = writer.latest(tree.0)?;
        let (level, flags) = (root.level(), root.flags());
        if level == 0 || root.slot_count() > 1 {
            return Ok(());
        }
        if root.slot_count() == 0 {
            return writer.apply(tree.0, &RedoOp::Format { level: 0, flags, tree, prefix: &[] });
        }
        let child = root.child(0);
        let Some(page) = writer.resident(child) else { return Ok(()) };
        check_child(page, tree, child, level)?;
        let content = Box::new(page.clone());
        writer.apply(tree.0, &RedoOp::image_of(&content))?;
        if flags != 0 {
            writer.apply(tree.0, &RedoOp::SetFlags { flags })?;
        }
        writer.free(&[child])?;
    }
}

/// Two neighbours under one parent, and what joining them takes.
struct Pair {
    left: PageNo,
    right: PageNo,
    /// The right one's slot in the parent.
    right_slot: usize,
    /// The rows of the right page go left; else the other way round.
    into_left: bool,
    /// Prefix of the joined page.
    prefix_len: usize,
}

/// Joins the page at the path's end with the sibling to its right or else its left. False when neither
/// is in memory or has the room.
fn merge_with_sibling<W: PageWriter>(writer: &mut W, tree: TreeId, path: &Path) -> Result<bool, W::Error> {
    let &(parent, slot) = path.last().expect("a page with siblings has a parent");
    let count = writer.latest(parent)?.slot_count();
    for right_slot in [slot + 1, slot] {
        if (1..count).contains(&right_slot)
            && let Some(pair) = measure(writer, tree, parent, right_slot)?
        {
            join(writer, parent, &pair)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn measure<W: PageWriter>(
    writer: &W,
    tree: TreeId,
    parent: PageNo,
    right_slot: usize,
) -> Result<Option<Pair>, W::Error> {
    let page = writer.latest(parent)?;
    let (left_number, right_number) = (page.child(right_slot - 1), page.child(right_slot));
    let (Some(left), Some(right)) = (writer.resident(left_number), writer.resident(right_number)) else {
        return Ok(None);
    };
    check_child(left, tree, left_number, page.level())?;
    check_child(right, tree, right_number, page.level())?;
    if left.slot_count() == 0 || right.slot_count() == 0 {
        return Ok(None);
    }
    let mut separator = Vec::new();
    page.read_key(right_slot, &mut separator);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    key_or(left, left.first_key_slot(), &separator, &mut first);
    key_or(right, (right.slot_count() - 1).max(right.first_key_slot()), &separator, &mut last);
    let shared = common_prefix_len(&first, &last);
    // Between internal pages the separator comes down as the key of the right page's first child.
    let pulled_down = if left.is_leaf() { 0 } else { separator.len() };
    let into_left = !left.is_leaf() || right.used_bytes() <= left.used_bytes();
    let prefix_len = shared.min(if into_left { left } else { right }.prefix().len());
    let bytes = left.size_with_prefix(prefix_len) + right.size_with_prefix(prefix_len) + pulled_down;
    let pair = Pair { left: left_number, right: right_number, right_slot, into_left, prefix_len };
    Ok((bytes <= MERGED_BYTES).then_some(pair))
}

fn key_or(page: &Page, slot: usize, otherwise: &[u8], key: &mut Vec<u8>) {
    if slot < page.slot_count() {
        page.read_key(slot, key);
    } else {
        key.extend_from_slice(otherwise);
    }
}

fn join<W: PageWriter>(writer: &mut W, parent: PageNo, pair: &Pair) -> Result<(), W::Error> {
    let (from, to) = if pair.into_left { (pair.right, pair.left) } else { (pair.left, pair.right) };
    let mut separator = Vec::new();
    writer.latest(parent)?.read_key(pair.right_slot, &mut separator);
    let (source, target) = (writer.latest(from)?, writer.latest(to)?);
    let run = encode_entries(source, &separator, pair.prefix_len)?;
    let entries = EntryRun::new(source.slot_count(), &run);
    let slot = if pair.into_left { target.slot_count() } else { 0 };
    if target.prefix().len() > pair.prefix_len {
        writer.apply(to, &RedoOp::Rebuild { prefix_len: pair.prefix_len as u16 })?;
    }
    writer.apply(to, &RedoOp::InsertRun { slot: slot as u16, entries })?;
    if !pair.into_left {
        let value = to.0.to_le_bytes();
        let left_slot = pair.right_slot as u16 - 1;
        writer.apply(parent, &RedoOp::Update { slot: left_slot, value: &value, out_of_line: false })?;
    }
    writer.apply(parent, &RedoOp::Delete { slot: pair.right_slot as u16, count: 1 })?;
    writer.free(&[from])
}

/// All entries of a page for a page with a prefix of that length; the first child gets `first_key`.
fn encode_entries(page: &Page, first_key: &[u8], prefix_len: usize) -> Result<Vec<u8>, TreeError> {
    let mut run = Vec::with_capacity(BODY_BYTES);
    let mut key = Vec::new();
    for slot in 0..page.slot_count() {
        if slot < page.first_key_slot() {
            key.clear();
            key.extend_from_slice(first_key);
        } else {
            page.read_key(slot, &mut key);
        }
        let (value, out_of_line) = page.raw_value(slot);
        put_entry(&mut run, super::write::entry_for(prefix_len, &key, value, out_of_line)?);
    }
    Ok(run)
}
