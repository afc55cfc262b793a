//! Slotted pages, reading: sorted slots with key heads in front, entries in a heap at the end.
//!
//! ```text
//!  32                 prefix bytes, padded to a multiple of eight
//!  slots_start        slot 0, slot 1, …            8 bytes each, in key order
//!                     (zeros)
//!  heap               entries, in no order, with dead bytes between them
//!
//!  slot   offset u16 · suffix length u16 · head u32
//!  entry  value length u16 (high bit: out of line) · tail · value
//! ```
//!
//! A key is prefix + suffix. The *head* is the suffix's first four bytes as a big-endian number, short
//! suffixes padded with zeros; the *tail* is what follows them. Heads are kept in the slots alone, so a
//! search mostly stays within the slot array. Order of suffixes = order of (head, tail, length).
//!
//! Internal pages hold in each entry the page number of a child; slot 0 stands for everything below slot
//! 1, its suffix is empty and never compared.

use std::cmp::Ordering;

use super::{DEAD, HEADER_BYTES, HEAP, OverflowRef, PREFIX, Page, PageKind, SLOTS};
use crate::ids::PageNo;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 8;
/// Bytes of a suffix that are kept in its slot.
pub(super) const HEAD_BYTES: usize = 4;
/// Bytes of an entry before its tail.
pub(super) const ENTRY_HEADER_BYTES: usize = 2;
/// Bit of the value length that marks an [`OverflowRef`].
pub(super) const OUT_OF_LINE: usize = 0x8000;

/// A leaf's value as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryValue<'a> {
    /// The bytes themselves.
    Inline(&'a [u8]),
    /// Where the bytes are.
    Overflow(OverflowRef),
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub offset: usize,
    pub suffix_len: usize,
    pub head: u32,
}

impl Slot {
    #[inline]
    pub(super) fn decode(bytes: [u8; SLOT_BYTES]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self { offset: (word & 0xFFFF) as usize, suffix_len: (word >> 16 & 0xFFFF) as usize, head: (word >> 32) as u32 }
    }

    pub(super) fn encode(self) -> [u8; SLOT_BYTES] {
        (self.offset as u64 | (self.suffix_len as u64) << 16 | u64::from(self.head) << 32).to_le_bytes()
    }

    #[inline]
    pub(super) fn tail_len(self) -> usize {
        self.suffix_len.saturating_sub(HEAD_BYTES)
    }
}

#[inline]
fn head_of_slot(slot: &[u8; SLOT_BYTES]) -> u32 {
    (u64::from_le_bytes(*slot) >> 32) as u32
}

/// First slot whose head is `head` or above.
///
/// In a large page the first round looks at many slots that do not depend on each other, so that a cold
/// page costs about two cache misses in a row here, where halving would cost one each time.
#[inline]
fn lower_bound(slots: &[[u8; SLOT_BYTES]], head: u32) -> usize {
    const ROUND: usize = 16;
    let below = |slot: &[u8; SLOT_BYTES]| head_of_slot(slot) < head;
    if slots.len() < 2 * ROUND {
        return slots.partition_point(below);
    }
    let step = slots.len() / ROUND;
    let pivots = slots.chunks_exact(step).take(ROUND).skip(1);
    let passed: usize = pivots.map(|chunk| usize::from(below(&chunk[0]))).sum();
    let from = passed * step;
    let to = if passed == ROUND - 1 { slots.len() } else { from + step };
    from + slots[from..to].partition_point(below)
}

/// First four bytes as a number that orders like them.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<HEAD_BYTES>() {
        Some(first) => u32::from_be_bytes(*first),
        None => {
            let mut padded = [0; HEAD_BYTES];
            padded[..suffix.len()].copy_from_slice(suffix);
            u32::from_be_bytes(padded)
        }
    }
}

#[inline]
pub(super) fn tail_of(suffix: &[u8]) -> &[u8] {
    suffix.get(HEAD_BYTES..).unwrap_or_default()
}

impl Page {
    /// Entries.
    #[inline]
    pub fn slot_count(&self) -> usize {
        self.u16_at(SLOTS)
    }

    /// What all keys begin with.
    #[inline]
    pub fn prefix(&self) -> &[u8] {
        &self.bytes()[HEADER_BYTES..HEADER_BYTES + self.u16_at(PREFIX)]
    }

    /// True for pages with slots.
    pub fn is_slotted(&self) -> bool {
        matches!(self.kind(), PageKind::Leaf | PageKind::Internal)
    }

    /// First slot whose key is compared: internal pages leave out slot 0.
    #[inline]
    pub fn first_key_slot(&self) -> usize {
        usize::from(!self.is_leaf())
    }

    /// Bytes that new entries (each with its slot) may take, after compaction.
    pub fn free_bytes(&self) -> usize {
        self.heap_start() - self.slots_end() + self.dead_bytes()
    }

    /// Bytes that entries, slots and the prefix take.
    pub fn used_bytes(&self) -> usize {
        super::PAGE_SIZE_BYTES - HEADER_BYTES - self.free_bytes()
    }

    /// Where `key` is, or the slot that it would be inserted at.
    #[inline]
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        match key.strip_prefix(prefix) {
            Some(suffix) => self.search_suffix(suffix),
            None if key < prefix => Err(self.first_key_slot().min(self.slot_count())),
            None => Err(self.slot_count()),
        }
    }

    #[inline]
    fn search_suffix(&self, suffix: &[u8]) -> Result<usize, usize> {
        let first = self.first_key_slot();
        let slots = self.slots();
        let Some(slots) = slots.get(first..) else { return Err(0) };
        let head = head_of(suffix);
        let low = lower_bound(slots, head);
        if slots.get(low).is_none_or(|slot| head_of_slot(slot) != head) {
            return Err(first + low);
        }
        // Heads repeat seldom: settle the usual case with one comparison.
        match self.compare_tail(slots[low], suffix) {
            Ordering::Equal => return Ok(first + low),
            Ordering::Greater => return Err(first + low),
            Ordering::Less => {}
        }
        let rest = &slots[low + 1..];
        let same = rest.partition_point(|slot| head_of_slot(slot) == head);
        let found = rest[..same].binary_search_by(|slot| self.compare_tail(*slot, suffix));
        found.map(|at| first + low + 1 + at).map_err(|at| first + low + 1 + at)
    }

    /// Orders two suffixes whose heads are equal.
    #[inline]
    fn compare_tail(&self, slot: [u8; SLOT_BYTES], suffix: &[u8]) -> Ordering {
        let slot = Slot::decode(slot);
        if slot.suffix_len <= HEAD_BYTES && suffix.len() <= HEAD_BYTES {
            return slot.suffix_len.cmp(&suffix.len());
        }
        self.tail(slot).cmp(tail_of(suffix)).then(slot.suffix_len.cmp(&suffix.len()))
    }

    /// Orders a slot's suffix against another.
    pub(super) fn compare_suffix(&self, slot: Slot, suffix: &[u8]) -> Ordering {
        slot.head.cmp(&head_of(suffix)).then_with(|| self.compare_tail(slot.encode(), suffix))
    }

    /// The slot of the child that `key` belongs to. Internal pages only.
    #[inline]
    pub fn child_slot(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(slot) => slot,
            Err(slot) => slot.saturating_sub(1),
        }
    }

    /// The child in a slot. Internal pages only.
    #[inline]
    pub fn child(&self, slot: usize) -> PageNo {
        let (value, _) = self.raw_value(slot);
        PageNo(u64::from_le_bytes(value.try_into().expect("a child is eight bytes")))
    }

    /// Writes the whole key of a slot into `key`, replacing what it holds.
    pub fn read_key(&self, slot: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
        self.append_suffix(slot, key);
    }

    /// Appends the key of a slot without the page's prefix.
    pub fn append_suffix(&self, slot: usize, out: &mut Vec<u8>) {
        let slot = self.slot(slot);
        out.extend_from_slice(&slot.head.to_be_bytes()[..slot.suffix_len.min(HEAD_BYTES)]);
        out.extend_from_slice(self.tail(slot));
    }

    /// Length of the whole key of a slot.
    pub fn key_len(&self, slot: usize) -> usize {
        self.u16_at(PREFIX) + self.slot(slot).suffix_len
    }

    /// The value of a slot. Leaves only.
    #[inline]
    pub fn value(&self, slot: usize) -> EntryValue<'_> {
        let (bytes, out_of_line) = self.raw_value(slot);
        if out_of_line {
            EntryValue::Overflow(OverflowRef::decode(bytes.try_into().expect("checked: sixteen bytes")))
        } else {
            EntryValue::Inline(bytes)
        }
    }

    /// The stored bytes of a slot's value and whether they are an [`OverflowRef`].
    #[inline]
    pub fn raw_value(&self, slot: usize) -> (&[u8], bool) {
        let slot = self.slot(slot);
        let word = self.u16_at(slot.offset);
        let start = slot.offset + ENTRY_HEADER_BYTES + slot.tail_len();
        (&self.bytes()[start..start + (word & !OUT_OF_LINE)], word & OUT_OF_LINE != 0)
    }

    /// Where [`Page::raw_value`] lies within the page, for holders that keep the page and the place.
    pub fn value_range(&self, slot: usize) -> std::ops::Range<usize> {
        let slot = self.slot(slot);
        let start = slot.offset + ENTRY_HEADER_BYTES + slot.tail_len();
        start..start + (self.u16_at(slot.offset) & !OUT_OF_LINE)
    }

    #[inline]
    pub(super) fn slots_start(&self) -> usize {
        HEADER_BYTES + self.u16_at(PREFIX).next_multiple_of(SLOT_BYTES)
    }

    #[inline]
    pub(super) fn slots_end(&self) -> usize {
        self.slots_start() + SLOT_BYTES * self.slot_count()
    }

    pub(super) fn heap_start(&self) -> usize {
        self.u16_at(HEAP)
    }

    pub(super) fn dead_bytes(&self) -> usize {
        self.u16_at(DEAD)
    }

    #[inline]
    fn slots(&self) -> &[[u8; SLOT_BYTES]] {
        self.bytes()[self.slots_start()..self.slots_end()].as_chunks().0
    }

    #[inline]
    pub(super) fn slot(&self, slot: usize) -> Slot {
        Slot::decode(self.slots()[slot])
    }

    #[inline]
    pub(super) fn tail(&self, slot: Slot) -> &[u8] {
        let start = slot.offset + ENTRY_HEADER_BYTES;
        &self.bytes()[start..start + slot.tail_len()]
    }

    /// Bytes of a slot's entry in the heap.
    pub(super) fn entry_len(&self, slot: Slot) -> usize {
        ENTRY_HEADER_BYTES + slot.tail_len() + (self.u16_at(slot.offset) & !OUT_OF_LINE)
    }
}
