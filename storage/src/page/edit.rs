//! Slotted pages, changing. Used by [`crate::redo`] alone, by writers and replay alike.
//!
//! Every operation is a function of the page's bytes and its arguments, checks its arguments before the
//! first change, and leaves a page on which [`Page::check`] succeeds. Room is made by compaction where it
//! is needed, which is part of the operation and so needs no record of its own.

use std::cmp::Ordering;

use super::slotted::{ENTRY_HEADER_BYTES, OUT_OF_LINE, SLOT_BYTES, Slot, head_of, tail_of};
use super::{
    DEAD, HEADER_BYTES, HEAP, MAX_INLINE_VALUE_BYTES, MAX_KEY_BYTES, OverflowRef, PAGE_SIZE_BYTES, PREFIX, Page,
    PageKind, SLOTS,
};
use crate::ids::TreeId;
use crate::redo::RedoError;

/// An entry on its way into a page: the key without the page's prefix, and the stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryBytes<'a> {
    /// Key after the page's prefix; empty for slot 0 of an internal page.
    pub suffix: &'a [u8],
    /// Value, encoded [`OverflowRef`] or child page number.
    pub value: &'a [u8],
    /// The value is an [`OverflowRef`].
    pub out_of_line: bool,
}

impl EntryBytes<'_> {
    /// Bytes that the entry takes in a page, slot included.
    pub fn page_bytes(&self) -> usize {
        SLOT_BYTES + ENTRY_HEADER_BYTES + tail_of(self.suffix).len() + self.value.len()
    }
}

const NO_ROOM: RedoError = RedoError("the page has no room");

impl Page {
    /// An empty slotted page.
    pub(crate) fn format_slotted(
        &mut self,
        kind: PageKind,
        level: u8,
        flags: u8,
        tree: TreeId,
        prefix: &[u8],
    ) -> Result<(), RedoError> {
        if (kind == PageKind::Leaf) != (level == 0) {
            return Err(RedoError("level and kind of page disagree"));
        }
        if prefix.len() > MAX_KEY_BYTES {
            return Err(RedoError("prefix exceeds the longest key"));
        }
        self.reset(kind, level, flags, tree);
        self.put_u16(HEAP, PAGE_SIZE_BYTES);
        self.put_u16(PREFIX, prefix.len());
        self.bytes_mut()[HEADER_BYTES..HEADER_BYTES + prefix.len()].copy_from_slice(prefix);
        Ok(())
    }

    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.bytes_mut()[super::FLAGS] = flags;
    }

    pub(crate) fn insert_entry(&mut self, slot: usize, entry: EntryBytes<'_>) -> Result<(), RedoError> {
        self.check_new_entry(slot, entry)?;
        self.make_room(entry.page_bytes(), SLOT_BYTES)?;
        let offset = self.push_heap(entry);
        let (at, end) = (self.slots_start() + SLOT_BYTES * slot, self.slots_end());
        let bytes = self.bytes_mut();
        bytes.copy_within(at..end, at + SLOT_BYTES);
        let slot = Slot { offset, suffix_len: entry.suffix.len(), head: head_of(entry.suffix) };
        bytes[at..at + SLOT_BYTES].copy_from_slice(&slot.encode());
        self.put_u16(SLOTS, self.slot_count() + 1);
        Ok(())
    }

    /// Removes `count` entries from `slot` on. In an internal page the entry that becomes the first
    /// loses its key.
    pub(crate) fn remove_entries(&mut self, slot: usize, count: usize) -> Result<(), RedoError> {
        let end = slot + count;
        if !self.is_slotted() || end > self.slot_count() {
            return Err(RedoError("entries to remove do not exist"));
        }
        let dead: usize = (slot..end).map(|slot| self.entry_len(self.slot(slot))).sum();
        let (start, slots_end) = (self.slots_start(), self.slots_end());
        let bytes = self.bytes_mut();
        bytes.copy_within(start + SLOT_BYTES * end..slots_end, start + SLOT_BYTES * slot);
        bytes[slots_end - SLOT_BYTES * count..slots_end].fill(0);
        self.put_u16(SLOTS, self.slot_count() - count);
        self.put_u16(DEAD, self.dead_bytes() + dead);
        if slot == 0 && self.kind() == PageKind::Internal && self.slot_count() > 0 {
            self.forget_first_key();
        }
        if self.slot_count() == 0 {
            self.empty_heap();
        }
        Ok(())
    }

    /// Replaces a value by another.
    pub(crate) fn replace_value(&mut self, slot: usize, value: &[u8], out_of_line: bool) -> Result<(), RedoError> {
        if !self.is_slotted() || slot >= self.slot_count() {
            return Err(RedoError("entry to update does not exist"));
        }
        self.check_value(value, out_of_line)?;
        let old = self.slot(slot);
        let (old_len, new_len) = (self.raw_value(slot).0.len(), value.len());
        let mark = if out_of_line { OUT_OF_LINE } else { 0 };
        if new_len <= old_len {
            let start = old.offset + ENTRY_HEADER_BYTES + old.tail_len();
            self.put_u16(old.offset, new_len | mark);
            self.bytes_mut()[start..start + new_len].copy_from_slice(value);
            self.put_u16(DEAD, self.dead_bytes() + old_len - new_len);
            return Ok(());
        }
        if new_len - old_len > self.free_bytes() {
            return Err(NO_ROOM);
        }
        // The suffix is needed after its entry is gone: compaction drops what no slot points to.
        let mut suffix = Vec::with_capacity(old.suffix_len);
        self.append_suffix(slot, &mut suffix);
        let entry = EntryBytes { suffix: &suffix, value, out_of_line };
        let entry_bytes = entry.page_bytes() - SLOT_BYTES;
        if entry_bytes > self.heap_start() - self.slots_end() {
            self.compact(Some(slot));
        } else {
            self.put_u16(DEAD, self.dead_bytes() + self.entry_len(old));
        }
        let offset = self.push_heap(entry);
        self.put_slot(slot, Slot { offset, ..old });
        Ok(())
    }

    /// Replaces the middle of an inline value, keeping `keep_front` and `keep_back` bytes of it.
    pub(crate) fn splice_value(
        &mut self,
        slot: usize,
        keep_front: usize,
        keep_back: usize,
        middle: &[u8],
    ) -> Result<(), RedoError> {
        if !self.is_leaf() || slot >= self.slot_count() {
            return Err(RedoError("entry to update does not exist"));
        }
        let (old, out_of_line) = self.raw_value(slot);
        if out_of_line || keep_front + keep_back > old.len() {
            return Err(RedoError("part of a value to update does not exist"));
        }
        if keep_front + middle.len() + keep_back == old.len() {
            let start = self.value_range(slot).start + keep_front;
            self.bytes_mut()[start..start + middle.len()].copy_from_slice(middle);
            return Ok(());
        }
        let value = [&old[..keep_front], middle, &old[old.len() - keep_back..]].concat();
        self.replace_value(slot, &value, false)
    }

    /// Rewrites the page without dead bytes and with a prefix of another length, taken from the present
    /// prefix and the first key.
    pub(crate) fn rebuild(&mut self, prefix_len: usize) -> Result<(), RedoError> {
        if !self.is_slotted() {
            return Err(RedoError("only pages with slots have a prefix"));
        }
        let (first, count) = (self.first_key_slot(), self.slot_count());
        let mut key = Vec::new();
        if first < count {
            self.read_key(first, &mut key);
        } else {
            key.extend_from_slice(self.prefix());
        }
        let prefix = key.get(..prefix_len).ok_or(RedoError("new prefix is longer than a key"))?.to_vec();
        let old = self.clone();
        let mut size = prefix_len.next_multiple_of(SLOT_BYTES);
        for slot in 0..count {
            let mut len = 0;
            if slot >= first {
                old.read_key(slot, &mut key);
                len = key.strip_prefix(&prefix[..]).ok_or(RedoError("a key lacks the new prefix"))?.len();
            }
            let tail = len.saturating_sub(super::slotted::HEAD_BYTES);
            size += SLOT_BYTES + ENTRY_HEADER_BYTES + tail + old.raw_value(slot).0.len();
        }
        if size > PAGE_SIZE_BYTES - HEADER_BYTES {
            return Err(NO_ROOM);
        }
        self.format_slotted(old.kind(), old.level(), old.flags(), old.tree(), &prefix)?;
        for slot in 0..count {
            let (value, out_of_line) = old.raw_value(slot);
            key.clear();
            if slot >= first {
                old.read_key(slot, &mut key);
            }
            let suffix = if slot >= first { &key[prefix_len..] } else { &[][..] };
            self.push_last(EntryBytes { suffix, value, out_of_line });
        }
        Ok(())
    }

    /// Appends an entry that is known to fit and to be in order.
    fn push_last(&mut self, entry: EntryBytes<'_>) {
        let offset = self.push_heap(entry);
        let count = self.slot_count();
        self.put_u16(SLOTS, count + 1);
        self.put_slot(count, Slot { offset, suffix_len: entry.suffix.len(), head: head_of(entry.suffix) });
    }

    fn put_slot(&mut self, slot: usize, content: Slot) {
        let at = self.slots_start() + SLOT_BYTES * slot;
        self.bytes_mut()[at..at + SLOT_BYTES].copy_from_slice(&content.encode());
    }

    /// Writes an entry below the heap and answers its offset.
    fn push_heap(&mut self, entry: EntryBytes<'_>) -> usize {
        let tail = tail_of(entry.suffix);
        let offset = self.heap_start() - ENTRY_HEADER_BYTES - tail.len() - entry.value.len();
        let mark = if entry.out_of_line { OUT_OF_LINE } else { 0 };
        self.put_u16(offset, entry.value.len() | mark);
        let start = offset + ENTRY_HEADER_BYTES;
        let bytes = self.bytes_mut();
        bytes[start..start + tail.len()].copy_from_slice(tail);
        bytes[start + tail.len()..start + tail.len() + entry.value.len()].copy_from_slice(entry.value);
        self.put_u16(HEAP, offset);
        offset
    }

    /// Room for `total` bytes, of which `slot` go to the slot array.
    fn make_room(&mut self, total: usize, slot: usize) -> Result<(), RedoError> {
        debug_assert!(slot <= total);
        if total <= self.heap_start() - self.slots_end() {
            return Ok(());
        }
        if total > self.free_bytes() {
            return Err(NO_ROOM);
        }
        self.compact(None);
        Ok(())
    }

    /// Moves all entries to the page's end, leaving no dead bytes. The entry of `dropped` is left out:
    /// its slot must be given a new one.
    fn compact(&mut self, dropped: Option<usize>) {
        let old = self.clone();
        self.empty_heap();
        for number in 0..old.slot_count() {
            if Some(number) == dropped {
                continue;
            }
            let slot = old.slot(number);
            let len = old.entry_len(slot);
            let offset = self.heap_start() - len;
            self.bytes_mut()[offset..offset + len].copy_from_slice(&old.bytes()[slot.offset..slot.offset + len]);
            self.put_u16(HEAP, offset);
            self.put_slot(number, Slot { offset, ..slot });
        }
    }

    fn empty_heap(&mut self) {
        let end = self.slots_end();
        self.bytes_mut()[end..].fill(0);
        self.put_u16(HEAP, PAGE_SIZE_BYTES);
        self.put_u16(DEAD, 0);
    }

    /// Takes the key off slot 0 of an internal page: the value stays where it is, the tail dies.
    fn forget_first_key(&mut self) {
        let slot = self.slot(0);
        let (tail, word) = (slot.tail_len(), self.u16_at(slot.offset));
        let offset = slot.offset + tail;
        self.put_u16(offset, word);
        self.put_slot(0, Slot { offset, suffix_len: 0, head: 0 });
        self.put_u16(DEAD, self.dead_bytes() + tail);
    }

    fn check_value(&self, value: &[u8], out_of_line: bool) -> Result<(), RedoError> {
        let fits = match (self.kind(), out_of_line) {
            (PageKind::Leaf, false) => value.len() <= MAX_INLINE_VALUE_BYTES,
            (PageKind::Leaf, true) => value.len() == OverflowRef::ENCODED_BYTES,
            (PageKind::Internal, false) => value.len() == 8,
            _ => false,
        };
        if fits { Ok(()) } else { Err(RedoError("value does not suit the page")) }
    }

    /// Order is checked too: a record that was meant for another page seldom fits between its neighbours.
    fn check_new_entry(&self, slot: usize, entry: EntryBytes<'_>) -> Result<(), RedoError> {
        let count = self.slot_count();
        if !self.is_slotted() || slot > count {
            return Err(RedoError("slot to insert at does not exist"));
        }
        if self.u16_at(PREFIX) + entry.suffix.len() > MAX_KEY_BYTES {
            return Err(RedoError("key exceeds the longest key"));
        }
        self.check_value(entry.value, entry.out_of_line)?;
        let first = self.first_key_slot();
        if slot < first {
            let lonely = count == 0 && entry.suffix.is_empty();
            return if lonely { Ok(()) } else { Err(RedoError("first child has a key or is not the first")) };
        }
        let above_left = slot == first || self.compare_suffix(self.slot(slot - 1), entry.suffix) == Ordering::Less;
        let below_right = slot == count || self.compare_suffix(self.slot(slot), entry.suffix) == Ordering::Greater;
        if above_left && below_right { Ok(()) } else { Err(RedoError("key is out of order")) }
    }
}
