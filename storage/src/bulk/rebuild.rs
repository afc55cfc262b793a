//! [`LeafRebuilder`]: what one leaf is to become under a run of writes, built on pages of its own.

use std::ops::Deref;

use super::leaves::entry_size;
use super::{BulkSink, LeafBuilder};
use crate::btree::write_overflow_to;
use crate::btree::{LeafAt, PageReader, Replacement, collect_value, is_inline};
use crate::ids::{PageNo, TreeId};
use crate::page::{BODY_BYTES, EntryValue, Page, common_prefix_len};

/// Rows kept at hand to share them out evenly; with more of them leaves are simply filled, bytes.
const BALANCE_BYTES: usize = 4 * BODY_BYTES;
/// How full leaves are made where there are several.
const FILL_PERCENT: usize = 90;

/// A row in the rebuilder's memory.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    key_len: usize,
    stored_len: usize,
    out_of_line: bool,
}

/// Merges a leaf's rows with writes to it. The old leaf stays as it is.
pub struct LeafRebuilder<P> {
    tree: TreeId,
    leaf: PageNo,
    page: P,
    next_slot: usize,
    first_key: Option<Box<[u8]>>,
    last_key: Vec<u8>,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    builder: Option<LeafBuilder>,
    outdated: Vec<PageNo>,
    has_overflow: bool,
    scratch: Vec<u8>,
}

impl<P: Deref<Target = Page>> LeafRebuilder<P> {
    /// For a leaf of `tree`.
    pub fn new(tree: TreeId, leaf: LeafAt<P>) -> Self {
        Self {
            tree,
            leaf: leaf.number,
            page: leaf.page,
            next_slot: 0,
            first_key: None,
            last_key: Vec::new(),
            bytes: Vec::new(),
            rows: Vec::new(),
            builder: None,
            outdated: Vec::new(),
            has_overflow: false,
            scratch: Vec::new(),
        }
    }

    /// Takes a write to the leaf; keys ascend strictly, `None` deletes. The reader is the one that gave the leaf.
    pub fn push<R, S, E>(&mut self, reader: &R, sink: &mut S, key: &[u8], value: Option<&[u8]>) -> Result<(), E>
    where
        R: PageReader,
        S: BulkSink,
        E: From<R::Error> + From<S::Error>,
    {
        while self.next_slot < self.page.slot_count() && self.page.compare_key(self.next_slot, key).is_lt() {
            self.keep_row(sink)?;
        }
        if self.next_slot < self.page.slot_count() && self.page.compare_key(self.next_slot, key).is_eq() {
            if let EntryValue::Overflow(reference) = self.page.value(self.next_slot) {
                collect_value(reader, self.tree, reference, &mut self.outdated)?;
            }
            self.next_slot += 1;
        }
        if self.first_key.is_none() {
            self.first_key = Some(key.into());
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        match value {
            None => {}
            Some(value) if is_inline(key, value) => self.add(sink, key, value, false)?,
            Some(value) => {
                self.has_overflow = true;
                let reference = write_overflow_to(sink, self.tree, value)?.encode();
                self.add(sink, key, &reference, true)?;
            }
        }
        Ok(())
    }

    /// Carries the old leaf's next row over.
    fn keep_row<S: BulkSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let mut key = std::mem::take(&mut self.scratch);
        self.page.read_key(self.next_slot, &mut key);
        let (stored, out_of_line) = self.page.raw_value(self.next_slot);
        let start = self.bytes.len();
        match &mut self.builder {
            Some(builder) => builder.push_stored(sink, &key, stored, out_of_line)?,
            None => {
                self.bytes.extend_from_slice(&key);
                self.bytes.extend_from_slice(stored);
                self.rows.push(Row { start, key_len: key.len(), stored_len: stored.len(), out_of_line });
            }
        }
        self.scratch = key;
        self.next_slot += 1;
        self.fill_if_many(sink)
    }

    fn add<S: BulkSink>(&mut self, sink: &mut S, key: &[u8], stored: &[u8], out_of_line: bool) -> Result<(), S::Error> {
        if let Some(builder) = &mut self.builder {
            return builder.push_stored(sink, key, stored, out_of_line);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(stored);
        self.rows.push(Row { start, key_len: key.len(), stored_len: stored.len(), out_of_line });
        self.fill_if_many(sink)
    }

    fn fill_if_many<S: BulkSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if self.builder.is_none() && self.bytes.len() > BALANCE_BYTES {
            self.fill(sink, BODY_BYTES * FILL_PERCENT / 100)?;
        }
        Ok(())
    }

    /// Hands the rows at hand to a builder.
    fn fill<S: BulkSink>(&mut self, sink: &mut S, limit_bytes: usize) -> Result<(), S::Error> {
        let mut builder = LeafBuilder::new(self.tree, limit_bytes);
        for row in self.rows.drain(..) {
            let (key, rest) = self.bytes[row.start..].split_at(row.key_len);
            builder.push_stored(sink, key, &rest[..row.stored_len], row.out_of_line)?;
        }
        self.bytes.clear();
        self.builder = Some(builder);
        Ok(())
    }

    /// The replacement. At least one write was pushed.
    pub fn finish<S: BulkSink>(mut self, sink: &mut S) -> Result<Replacement, S::Error> {
        while self.next_slot < self.page.slot_count() {
            self.keep_row(sink)?;
        }
        if self.builder.is_none() {
            self.fill(sink, self.even_limit())?;
        }
        let builder = self.builder.take().expect("just made");
        Ok(Replacement {
            leaf: self.leaf,
            first_key: self.first_key.unwrap_or_default(),
            last_key: self.last_key.into(),
            leaves: builder.finish(sink)?,
            outdated: self.outdated,
            has_overflow: self.has_overflow,
        })
    }

    /// How full leaves are to be so that all get about the same: a leaf whose rows grew a little must not leave a
    /// nearly empty one behind it.
    fn even_limit(&self) -> usize {
        let key = |row: &Row| &self.bytes[row.start..row.start + row.key_len];
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else { return BODY_BYTES };
        let prefix_len = if self.rows.len() > 1 { common_prefix_len(key(first), key(last)) } else { 0 };
        let sizes = self.rows.iter().map(|row| entry_size(row.key_len, row.stored_len, prefix_len));
        let (total, longest) = sizes.fold((0, 0), |(total, longest), size| (total + size, longest.max(size)));
        let total = total + prefix_len.next_multiple_of(8);
        if total <= BODY_BYTES {
            return BODY_BYTES;
        }
        let leaves = total.div_ceil(BODY_BYTES * FILL_PERCENT / 100);
        total / leaves + longest.min(BODY_BYTES / 8)
    }
}
