//! Slotted pages, measuring: what fits, and what a change would take.

use std::cmp::Ordering;

use super::slotted::{ENTRY_HEADER_BYTES, HEAD_BYTES, SLOT_BYTES};
use super::{BODY_BYTES, PREFIX, Page};

/// Whether an entry fits a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// As the page is.
    Yes,
    /// Once the page's prefix is shortened to this length, because the new key lacks it.
    AfterRebuild(usize),
    /// Not at all.
    No,
}

/// Length of what both begin with.
pub fn common_prefix_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

impl Page {
    /// Bytes, slot included, that an entry of this page takes.
    pub fn entry_bytes(&self, slot: usize) -> usize {
        SLOT_BYTES + self.entry_len(self.slot(slot))
    }

    /// Bytes that an entry with a key of `key_len` (prefix included) would take in this page.
    pub fn new_entry_bytes(&self, key_len: usize, value_len: usize) -> usize {
        let suffix_len = key_len.saturating_sub(self.u16_at(PREFIX));
        SLOT_BYTES + ENTRY_HEADER_BYTES + suffix_len.saturating_sub(HEAD_BYTES) + value_len
    }

    /// Bytes of the body that the present entries would take under another prefix.
    pub fn size_with_prefix(&self, prefix_len: usize) -> usize {
        let (first, present) = (self.first_key_slot(), self.u16_at(PREFIX));
        let entry = |number: usize| {
            let slot = self.slot(number);
            let key_len = if number < first { 0 } else { present + slot.suffix_len };
            let tail = key_len.saturating_sub(prefix_len).saturating_sub(HEAD_BYTES);
            SLOT_BYTES + self.entry_len(slot) - slot.tail_len() + tail
        };
        prefix_len.next_multiple_of(SLOT_BYTES) + (0..self.slot_count()).map(entry).sum::<usize>()
    }

    /// Whether a new entry fits.
    pub fn fit(&self, key: &[u8], value_len: usize) -> Fit {
        let shared = common_prefix_len(self.prefix(), key);
        if shared == self.u16_at(PREFIX) {
            let fits = self.new_entry_bytes(key.len(), value_len) <= self.free_bytes();
            return if fits { Fit::Yes } else { Fit::No };
        }
        let tail = (key.len() - shared).saturating_sub(HEAD_BYTES);
        let new = SLOT_BYTES + ENTRY_HEADER_BYTES + tail + value_len;
        if self.size_with_prefix(shared) + new <= BODY_BYTES { Fit::AfterRebuild(shared) } else { Fit::No }
    }

    /// What all compared keys of `slots` begin with; the page's prefix when there are fewer than two.
    pub fn shared_prefix_len(&self, slots: std::ops::Range<usize>) -> usize {
        let first = slots.start.max(self.first_key_slot());
        if first + 1 >= slots.end {
            return self.u16_at(PREFIX);
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        self.read_key(first, &mut low);
        self.read_key(slots.end - 1, &mut high);
        common_prefix_len(&low, &high)
    }

    /// Orders the key of a slot against another.
    pub fn compare_key(&self, slot: usize, key: &[u8]) -> Ordering {
        let prefix = self.prefix();
        match key.strip_prefix(prefix) {
            Some(suffix) => self.compare_suffix(self.slot(slot), suffix),
            None => prefix.cmp(key),
        }
    }
}
