//! Structural check of a page that came in from outside.

use std::cmp::Ordering;

use super::slotted::{ENTRY_HEADER_BYTES, HEAD_BYTES, OUT_OF_LINE, SLOT_BYTES};
use super::{
    CRC, FLAG_OVERFLOW, HEADER_BYTES, MAX_INLINE_VALUE_BYTES, MAX_KEY_BYTES, OverflowRef, PAGE_SIZE_BYTES,
    PAGE_VERSION, PREFIX, Page, PageDamage, PageKind, VERSION,
};

const fn broken<T>(reason: &'static str) -> Result<T, PageDamage> {
    Err(PageDamage::Structure { reason })
}

impl Page {
    /// True structure, as every accessor relies on it. Costs one pass over the slots.
    pub fn check(&self) -> Result<(), PageDamage> {
        let bytes = self.bytes();
        if bytes[CRC..CRC + 4] != [0; 4] {
            return broken("checksum is set in memory");
        }
        let Some(kind) = PageKind::from_byte(bytes[super::KIND]) else { return broken("unknown kind of page") };
        if kind == PageKind::Unused {
            return if bytes.iter().all(|&byte| byte == 0) { Ok(()) } else { broken("unused page is not empty") };
        }
        if bytes[VERSION] != PAGE_VERSION {
            return Err(PageDamage::Version { version: bytes[VERSION] });
        }
        if self.flags() & !FLAG_OVERFLOW != 0 {
            return broken("unknown flags");
        }
        if (kind == PageKind::Internal) != (self.level() > 0) {
            return broken("level does not suit the kind of page");
        }
        match kind {
            PageKind::Leaf | PageKind::Internal => self.check_slotted(),
            PageKind::Overflow => self.check_overflow(),
            PageKind::Meta => crate::meta::check_meta(self),
            PageKind::FreeList => crate::meta::check_free_list(self),
            PageKind::Unused => Ok(()),
        }
    }

    fn check_slotted(&self) -> Result<(), PageDamage> {
        let prefix_len = self.u16_at(PREFIX);
        if prefix_len > MAX_KEY_BYTES {
            return broken("prefix exceeds the longest key");
        }
        let (count, heap) = (self.slot_count(), self.heap_start());
        // In bounds before any slot is read: the sum cannot overflow, its parts are below 2^20.
        let slots_end = self.slots_start() + SLOT_BYTES * count;
        if slots_end > heap || heap > PAGE_SIZE_BYTES {
            return broken("slots and heap overlap");
        }
        debug_assert!(self.slots_start() >= HEADER_BYTES);
        let mut live = 0;
        for number in 0..count {
            live += self.check_entry(number)?;
        }
        if live + self.dead_bytes() != PAGE_SIZE_BYTES - heap {
            return broken("heap accounts do not add up");
        }
        let mut suffix = Vec::new();
        for number in self.first_key_slot() + 1..count {
            suffix.clear();
            self.append_suffix(number, &mut suffix);
            if self.compare_suffix(self.slot(number - 1), &suffix) != Ordering::Less {
                return broken("keys are out of order");
            }
        }
        Ok(())
    }

    /// Checks one entry's bounds and shape; answers its length in the heap.
    fn check_entry(&self, number: usize) -> Result<usize, PageDamage> {
        let slot = self.slot(number);
        if slot.offset < self.heap_start() || slot.offset + ENTRY_HEADER_BYTES > PAGE_SIZE_BYTES {
            return broken("entry lies outside the heap");
        }
        if self.u16_at(PREFIX) + slot.suffix_len > MAX_KEY_BYTES {
            return broken("key exceeds the longest key");
        }
        let padding = HEAD_BYTES.saturating_sub(slot.suffix_len);
        if slot.head.to_be_bytes()[HEAD_BYTES - padding..].iter().any(|&byte| byte != 0) {
            return broken("short key has a long head");
        }
        let len = self.entry_len(slot);
        if slot.offset + len > PAGE_SIZE_BYTES {
            return broken("entry lies outside the page");
        }
        let word = self.u16_at(slot.offset);
        let (value_len, out_of_line) = (word & !OUT_OF_LINE, word & OUT_OF_LINE != 0);
        let suits = match (self.is_leaf(), out_of_line) {
            (true, false) => value_len <= MAX_INLINE_VALUE_BYTES,
            (true, true) => value_len == OverflowRef::ENCODED_BYTES,
            (false, marked) => !marked && value_len == 8,
        };
        if !suits {
            return broken("value does not suit the page");
        }
        if number < self.first_key_slot() && slot.suffix_len > 0 {
            return broken("first child has a key");
        }
        Ok(len)
    }
}
