//! [`LeafBuilder`]: leaves alone, to be put in place of one that a tree has.

use super::{BulkSink, Level, entry_bytes};
use crate::btree::{TreeError, separator_len};
use crate::ids::{PageNo, TreeId};
use crate::page::BODY_BYTES;
use crate::record::RedoOp;

/// A leaf that nothing leads to yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLeaf {
    /// What the parent is to know it by; empty for the first leaf of a builder.
    pub separator: Box<[u8]>,
    /// Where it lies.
    pub page: PageNo,
}

/// Fills leaves with rows in order.
#[derive(Debug)]
pub struct LeafBuilder {
    tree: TreeId,
    limit_bytes: usize,
    level: Level,
    last_key: Vec<u8>,
    leaves: Vec<NewLeaf>,
}

/// How much of a leaf an entry takes, bytes.
pub(super) fn entry_size(key_len: usize, stored_len: usize, prefix_len: usize) -> usize {
    entry_bytes(key_len, stored_len, prefix_len)
}

impl LeafBuilder {
    /// Leaves of `tree`, each to be filled up to about `limit_bytes` of its body.
    pub fn new(tree: TreeId, limit_bytes: usize) -> Self {
        Self {
            tree,
            limit_bytes: limit_bytes.clamp(BODY_BYTES / 4, BODY_BYTES),
            level: Level::new(0),
            last_key: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// Adds a row whose value is as a leaf has it.
    pub fn push_stored<S: BulkSink>(
        &mut self,
        sink: &mut S,
        key: &[u8],
        stored: &[u8],
        out_of_line: bool,
    ) -> Result<(), S::Error> {
        if !self.level.entries.is_empty() && key <= self.last_key.as_slice() {
            return Err(TreeError::Inconsistent("rows of new leaves are out of order").into());
        }
        if !self.level.fits(key, stored.len(), self.limit_bytes) {
            let separator = key[..separator_len(&self.last_key, key)].to_vec();
            self.close(sink, separator)?;
        }
        self.level.push(key, stored, out_of_line);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    fn close<S: BulkSink>(&mut self, sink: &mut S, separator: Vec<u8>) -> Result<(), S::Error> {
        let number = sink.allocate()?;
        let page = self.level.page(self.tree)?;
        sink.write(number, &RedoOp::image_of(&page))?;
        let own = self.level.restart(separator);
        self.leaves.push(NewLeaf { separator: own.into(), page: number });
        Ok(())
    }

    /// Writes the last leaf; answers all, in order. None where there were no rows.
    pub fn finish<S: BulkSink>(mut self, sink: &mut S) -> Result<Vec<NewLeaf>, S::Error> {
        if !self.level.entries.is_empty() {
            self.close(sink, Vec::new())?;
        }
        Ok(self.leaves)
    }
}
