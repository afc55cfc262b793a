//! Building a tree bottom-up from rows in order.
//!
//! Pages are filled one after another and handed out when they are full; nothing points to them until the
//! caller writes the root's content to the tree's root page ([`BulkTree::attach_op`]), which is one record.
//! At hand are one page a level and the entries of the pages being filled.

mod leaves;
mod rebuild;
#[cfg(test)]
mod tests;

pub use leaves::{LeafBuilder, NewLeaf};
pub use rebuild::LeafRebuilder;

use crate::btree::{TreeError, check_limits, separator_len, write_overflow_to};
use crate::ids::{PageNo, TreeId};
use crate::page::{
    BODY_BYTES, EntryBytes, FLAG_OVERFLOW, MAX_INLINE_ENTRY_BYTES, MAX_INLINE_VALUE_BYTES, Page, common_prefix_len,
};
use crate::record::{EntryRun, RedoOp, put_entry};
use crate::redo::redo;

/// Where page numbers come from and finished pages go.
pub trait BulkSink {
    /// What either can fail with.
    type Error: From<TreeError>;
    /// A page number of the load's own.
    fn allocate(&mut self) -> Result<PageNo, Self::Error>;
    /// A page is finished: `op` initializes it.
    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), Self::Error>;
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in.
    Added,
    /// Its key is not above the last one; it is not in.
    OutOfOrder,
}

/// A tree under construction.
#[derive(Debug)]
pub struct BulkBuilder {
    tree: TreeId,
    /// Pages are closed before they use more than this.
    limit_bytes: usize,
    /// From the leaves up; the last one has a single page, the root to be.
    levels: Vec<Level>,
    last_key: Vec<u8>,
    rows: u64,
    flags: u8,
}

/// A finished tree but for its root.
#[derive(Debug)]
pub struct BulkTree {
    root: Box<Page>,
    /// Rows in it.
    pub rows: u64,
}

impl BulkTree {
    /// The record that attaches the tree when it is applied to the tree's root page.
    pub fn attach_op(&self) -> RedoOp<'_> {
        RedoOp::image_of(&self.root)
    }
}

/// The page of one level that is being filled.
#[derive(Debug)]
struct Level {
    level: u8,
    /// Whole keys, then values, entry by entry.
    bytes: Vec<u8>,
    entries: Vec<Pending>,
    /// What all compared keys share.
    prefix_len: usize,
    /// Bytes of the page's body with that prefix.
    used_bytes: usize,
    /// What the parent is to know the page by; meaningless for a level's first page.
    separator: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    start: usize,
    key_len: usize,
    value_len: usize,
    out_of_line: bool,
}

impl BulkBuilder {
    /// A builder for `tree`, whose pages are to be filled to `fill_percent` (50 to 100).
    pub fn new(tree: TreeId, fill_percent: u8) -> Self {
        let percent = usize::from(fill_percent.clamp(50, 100));
        Self {
            tree,
            limit_bytes: BODY_BYTES * percent / 100,
            levels: vec![Level::new(0)],
            last_key: Vec::new(),
            rows: 0,
            flags: 0,
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The greatest key so far; empty before the first.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Adds a row. Keys ascend strictly.
    pub fn push<S: BulkSink>(&mut self, sink: &mut S, key: &[u8], value: &[u8]) -> Result<Pushed, S::Error> {
        check_limits(key, Some(value))?;
        if self.rows > 0 && key <= self.last_key.as_slice() {
            return Ok(Pushed::OutOfOrder);
        }
        let mut stored = [0; 16];
        let inline = value.len() <= MAX_INLINE_VALUE_BYTES && key.len() + value.len() <= MAX_INLINE_ENTRY_BYTES;
        if !inline {
            self.flags |= FLAG_OVERFLOW;
            stored = write_overflow_to(sink, self.tree, value)?.encode();
        }
        let stored = if inline { value } else { &stored };
        if !self.levels[0].fits(key, stored.len(), self.limit_bytes) {
            let separator = key[..separator_len(&self.last_key, key)].to_vec();
            self.close(sink, 0, separator)?;
        }
        self.levels[0].push(key, stored, !inline);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        Ok(Pushed::Added)
    }

    /// Writes the pages still open, the root's content excepted.
    pub fn finish<S: BulkSink>(mut self, sink: &mut S) -> Result<BulkTree, S::Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(sink, level, Vec::new())?;
            level += 1;
        }
        let mut root = self.levels[level].page(self.tree)?;
        if self.flags != 0 {
            redo(&mut root, &RedoOp::SetFlags { flags: self.flags }).map_err(unsuited)?;
        }
        Ok(BulkTree { root, rows: self.rows })
    }

    /// Hands out the page of a level and tells the level above. The next page begins at `separator`.
    fn close<S: BulkSink>(&mut self, sink: &mut S, level: usize, separator: Vec<u8>) -> Result<(), S::Error> {
        let number = sink.allocate()?;
        let page = self.levels[level].page(self.tree)?;
        sink.write(number, &RedoOp::image_of(&page))?;
        let own = self.levels[level].restart(separator);
        if level + 1 == self.levels.len() {
            self.levels.push(Level::new(level as u8 + 1));
        }
        let child = number.0.to_le_bytes();
        if !self.levels[level + 1].fits(&own, child.len(), self.limit_bytes) {
            // The child opens its parent's next page, so its separator moves one level up.
            self.close(sink, level + 1, own.clone())?;
        }
        self.levels[level + 1].push(&own, &child, false);
        Ok(())
    }
}

impl Level {
    fn new(level: u8) -> Self {
        Self { level, bytes: Vec::new(), entries: Vec::new(), prefix_len: 0, used_bytes: 0, separator: Vec::new() }
    }

    /// First entry whose key counts.
    fn first_key(&self) -> usize {
        usize::from(self.level > 0)
    }

    fn key(&self, entry: &Pending) -> &[u8] {
        &self.bytes[entry.start..entry.start + entry.key_len]
    }

    /// The prefix that all keys would share with one more, and the bytes that the page would take.
    fn with(&self, key: &[u8], value_len: usize) -> (usize, usize) {
        let keyless = self.entries.len() < self.first_key();
        let key = if keyless { &[][..] } else { key };
        let prefix_len = match self.entries.get(self.first_key()) {
            // The very first key alone does not say what the next ones share with it.
            Some(first) if self.entries.len() > self.first_key() + 1 => {
                common_prefix_len(&self.key(first)[..self.prefix_len], key)
            }
            Some(first) => common_prefix_len(self.key(first), key),
            None => 0,
        };
        let used = if prefix_len == self.prefix_len { self.used_bytes } else { self.size(prefix_len) };
        (prefix_len, used.max(prefix_len.next_multiple_of(8)) + entry_bytes(key.len(), value_len, prefix_len))
    }

    fn size(&self, prefix_len: usize) -> usize {
        let entries = self.entries.iter().enumerate().map(|(number, entry)| {
            let key_len = if number < self.first_key() { 0 } else { entry.key_len };
            entry_bytes(key_len, entry.value_len, prefix_len)
        });
        prefix_len.next_multiple_of(8) + entries.sum::<usize>()
    }

    /// Three entries always fit, so that a tree of the longest keys branches.
    fn fits(&self, key: &[u8], value_len: usize, limit_bytes: usize) -> bool {
        let limit = if self.entries.len() < 3 { BODY_BYTES } else { limit_bytes };
        self.with(key, value_len).1 <= limit
    }

    fn push(&mut self, key: &[u8], value: &[u8], out_of_line: bool) {
        (self.prefix_len, self.used_bytes) = self.with(key, value.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries.push(Pending { start, key_len: key.len(), value_len: value.len(), out_of_line });
    }

    /// The page as it would stand.
    fn page(&self, tree: TreeId) -> Result<Box<Page>, TreeError> {
        let keys = self.entries.get(self.first_key()..).unwrap_or_default();
        let prefix = keys.first().map_or(&[][..], |first| &self.key(first)[..self.prefix_len]);
        let mut run = Vec::with_capacity(BODY_BYTES);
        for (number, entry) in self.entries.iter().enumerate() {
            let suffix = if number < self.first_key() { &[][..] } else { &self.key(entry)[prefix.len()..] };
            let value_start = entry.start + entry.key_len;
            let value = &self.bytes[value_start..value_start + entry.value_len];
            put_entry(&mut run, EntryBytes { suffix, value, out_of_line: entry.out_of_line });
        }
        let mut page = Page::unused();
        let format = RedoOp::Format { level: self.level, flags: 0, tree, prefix };
        redo(&mut page, &format).map_err(unsuited)?;
        let entries = EntryRun::new(self.entries.len(), &run);
        redo(&mut page, &RedoOp::InsertRun { slot: 0, entries }).map_err(unsuited)?;
        Ok(page)
    }

    /// Empties the level for a page that begins at `separator`; answers the old one's.
    fn restart(&mut self, separator: Vec<u8>) -> Vec<u8> {
        self.bytes.clear();
        self.entries.clear();
        (self.prefix_len, self.used_bytes) = (0, 0);
        std::mem::replace(&mut self.separator, separator)
    }
}

/// Bytes of an entry and its slot in a page with that prefix.
fn entry_bytes(key_len: usize, value_len: usize, prefix_len: usize) -> usize {
    10 + key_len.saturating_sub(prefix_len).saturating_sub(4) + value_len
}

fn unsuited(error: crate::redo::RedoError) -> TreeError {
    TreeError::Inconsistent(error.0)
}
