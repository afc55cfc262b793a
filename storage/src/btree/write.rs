//! Changing trees: rows put and deleted in key order.

use super::merge::settle_leaf;
use super::overflow::{free_overflow, write_overflow};
use super::prepare::{Located, Prepared, covers, is_inline, locate_leaf, prepare};
use super::split::{NewEntry, insert_entry};
use super::{PageWriter, TreeError};
use crate::ids::TreeId;
use crate::page::{EntryBytes, EntryValue, FLAG_OVERFLOW, OverflowRef, Page, common_prefix_len};
use crate::record::RedoOp;

/// Applies the writes that `prepared` was made from: the same, in the same order. A value of `None`
/// deletes; deleting a missing key does nothing.
///
/// What comes out as an error here came after a record may have been applied, and cannot be undone: the
/// tree is damaged, or the caller's contract broken.
pub fn apply_sorted<'w, W: PageWriter>(
    writer: &mut W,
    prepared: &Prepared,
    writes: impl IntoIterator<Item = (&'w [u8], Option<&'w [u8]>)>,
) -> Result<(), W::Error> {
    apply(writer, prepared, writes, true)
}

/// [`apply_sorted`] where other leaves of the tree were replaced since `prepared` was made: every leaf is looked
/// for again.
pub fn apply_sorted_afresh<'w, W: PageWriter>(
    writer: &mut W,
    prepared: &Prepared,
    writes: impl IntoIterator<Item = (&'w [u8], Option<&'w [u8]>)>,
) -> Result<(), W::Error> {
    apply(writer, prepared, writes, false)
}

fn apply<'w, W: PageWriter>(
    writer: &mut W,
    prepared: &Prepared,
    writes: impl IntoIterator<Item = (&'w [u8], Option<&'w [u8]>)>,
    intact: bool,
) -> Result<(), W::Error> {
    let mut run = Run { writer, tree: prepared.tree, at: None, deleted: false, intact };
    let mut leaves = prepared.leaves.iter().peekable();
    for (number, (key, value)) in writes.into_iter().enumerate() {
        if let Some((_, located)) = leaves.next_if(|&&(first, _)| first == number) {
            run.leave_leaf()?;
            // What was located holds as long as the tree's shape does.
            if run.intact {
                run.at = Some(located.clone());
            }
        }
        run.find(key)?;
        match value {
            Some(value) => run.put(key, value)?,
            None => run.delete(key)?,
        }
    }
    run.leave_leaf()
}

/// [`prepare`] and [`apply_sorted`] in one, for those whose pages are all in memory.
pub fn write_sorted<'w, W: PageWriter>(
    writer: &mut W,
    tree: TreeId,
    writes: impl IntoIterator<Item = (&'w [u8], Option<&'w [u8]>), IntoIter: Clone>,
) -> Result<(), W::Error> {
    let writes = writes.into_iter();
    let prepared = prepare(writer, tree, writes.clone())?;
    apply_sorted(writer, &prepared, writes)
}

/// A sorted run of writes in progress.
struct Run<'a, W: PageWriter> {
    writer: &'a mut W,
    tree: TreeId,
    /// The leaf at hand; none after a change of shape.
    at: Option<Located>,
    /// A row of the leaf at hand was deleted: see to its fill when leaving it.
    deleted: bool,
    /// The tree's shape (everything above the leaves' rows) is as it was when the run was prepared.
    intact: bool,
}

impl<W: PageWriter> Run<'_, W> {
    /// Makes sure that the leaf at hand is the one of `key`.
    fn find(&mut self, key: &[u8]) -> Result<(), W::Error> {
        let covered = self.at.as_ref().is_some_and(|located| self.intact || covers(self.writer, located, key));
        if !covered {
            self.leave_leaf()?;
            self.at = Some(locate_leaf(self.writer, self.tree, key)?);
        }
        Ok(())
    }

    /// Merges or frees the leaf at hand where deletions have left too little in it. Not done row by row, so
    /// that a run of deletions does not move rows that it is about to delete.
    fn leave_leaf(&mut self) -> Result<(), W::Error> {
        if let Some(located) = self.at.take().filter(|_| std::mem::take(&mut self.deleted)) {
            self.intact &= settle_leaf(self.writer, self.tree, located)?;
        }
        Ok(())
    }

    fn leaf(&self) -> Result<(&Located, &Page), W::Error> {
        let located = self.at.as_ref().expect("a leaf was found");
        Ok((located, self.writer.latest(located.leaf)?))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), W::Error> {
        if is_inline(key, value) {
            return self.put_stored(key, value, false);
        }
        let reference = self.write_large(value)?.encode();
        self.put_stored(key, &reference, true)
    }

    fn write_large(&mut self, value: &[u8]) -> Result<OverflowRef, W::Error> {
        let flags = self.writer.latest(self.tree.0)?.flags();
        if flags & FLAG_OVERFLOW == 0 {
            self.writer.apply(self.tree.0, &RedoOp::SetFlags { flags: flags | FLAG_OVERFLOW })?;
        }
        write_overflow(self.writer, self.tree, value)
    }

    /// Puts a value as it is stored. The leaf at hand is the key's.
    fn put_stored(&mut self, key: &[u8], value: &[u8], out_of_line: bool) -> Result<(), W::Error> {
        let (located, leaf) = self.leaf()?;
        let number = located.leaf;
        let slot = match leaf.search(key) {
            Err(slot) => slot,
            Ok(slot) => {
                let (old, _) = leaf.raw_value(slot);
                let fits = value.len() <= old.len() + leaf.free_bytes();
                let outdated = match leaf.value(slot) {
                    EntryValue::Overflow(reference) => Some(reference),
                    EntryValue::Inline(_) => None,
                };
                let op = if out_of_line || outdated.is_some() {
                    Some(RedoOp::Update { slot: slot as u16, value, out_of_line })
                } else {
                    update_op(slot, old, value)
                };
                if fits && let Some(op) = op {
                    self.writer.apply(number, &op)?;
                } else if !fits {
                    // It has outgrown the page: out, and in again as a new entry.
                    self.writer.apply(number, &RedoOp::Delete { slot: slot as u16, count: 1 })?;
                }
                if let Some(reference) = outdated {
                    free_overflow(self.writer, self.tree, reference)?;
                }
                if fits {
                    return Ok(());
                }
                slot
            }
        };
        let located = self.at.as_mut().expect("a leaf was found");
        let new = NewEntry { key, value, out_of_line };
        if !insert_entry(self.writer, self.tree, &mut located.path, number, slot, new)? {
            // A page that lost rows by deletion was split: both halves are full enough.
            (self.at, self.deleted, self.intact) = (None, false, false);
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), W::Error> {
        let (located, leaf) = self.leaf()?;
        let Ok(slot) = leaf.search(key) else { return Ok(()) };
        let (number, value) = (located.leaf, leaf.value(slot));
        let reference = match value {
            EntryValue::Overflow(reference) => Some(reference),
            EntryValue::Inline(_) => None,
        };
        self.writer.apply(number, &RedoOp::Delete { slot: slot as u16, count: 1 })?;
        if let Some(reference) = reference {
            free_overflow(self.writer, self.tree, reference)?;
        }
        self.deleted = true;
        Ok(())
    }
}

/// The shortest operation that turns `old` into `new`; none when they are the same.
fn update_op<'v>(slot: usize, old: &[u8], new: &'v [u8]) -> Option<RedoOp<'v>> {
    let slot = slot as u16;
    let front = common_prefix_len(old, new);
    if front == old.len() && front == new.len() {
        return None;
    }
    let most = old.len().min(new.len()) - front;
    let back = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(old, new)| old == new).count();
    let middle = &new[front..new.len() - back];
    // A splice names two lengths more.
    if middle.len() + 4 >= new.len() {
        return Some(RedoOp::Update { slot, value: new, out_of_line: false });
    }
    Some(RedoOp::Splice { slot, keep_front: front as u16, keep_back: back as u16, middle })
}

/// An entry as a record carries it into a page with a prefix of that length.
pub(super) fn entry_for<'e>(
    prefix_len: usize,
    key: &'e [u8],
    value: &'e [u8],
    out_of_line: bool,
) -> Result<EntryBytes<'e>, TreeError> {
    let suffix = key.get(prefix_len..).ok_or(TreeError::Inconsistent("key is shorter than its page's prefix"))?;
    Ok(EntryBytes { suffix, value, out_of_line })
}
