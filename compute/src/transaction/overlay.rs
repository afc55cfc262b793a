//! [`Overlay`]: a transaction's own writes, in order, until it commits.
//!
//! Two layers. Writes of the running statement stay apart and join the rest when it ends; dropping them is
//! statement-level atomicity. Savepoints are positions in a list of what joining replaced.
//!
//! A tree's joined writes are shared with cursors (`Arc`): a cursor that outlives its statement keeps what it
//! saw, and only then does joining copy.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use sql::error::{Result, SqlError, SqlState};
use sql::store::SavepointId;
use storage::TreeId;

/// What was written to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The new value.
    Put(Bytes),
    /// The key is gone.
    Delete,
}

impl Write {
    /// The value, if there is one.
    pub(crate) fn value(&self) -> Option<&Bytes> {
        match self {
            Write::Put(value) => Some(value),
            Write::Delete => None,
        }
    }

    fn bytes(&self) -> usize {
        self.value().map_or(0, Bytes::len)
    }
}

/// A tree's writes by key.
pub(crate) type TreeWrites = BTreeMap<Box<[u8]>, Write>;

/// What an entry costs besides its key and value: its part of map nodes, allocation, hash of its row lock.
const ENTRY_OVERHEAD_BYTES: usize = 120;

/// See the module.
pub(crate) struct Overlay {
    joined: HashMap<TreeId, Arc<TreeWrites>>,
    statement: HashMap<TreeId, TreeWrites>,
    /// What joining replaced, oldest first; kept while there are savepoints.
    undo: Vec<Undo>,
    savepoints: Vec<Savepoint>,
    next_savepoint: u64,
    bytes: usize,
    statement_bytes: usize,
    limit_bytes: usize,
}

struct Undo {
    tree: TreeId,
    key: Box<[u8]>,
    before: Option<Write>,
}

struct Savepoint {
    id: SavepointId,
    undo_length: usize,
    bytes: usize,
}

impl Overlay {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            joined: HashMap::new(),
            statement: HashMap::new(),
            undo: Vec::new(),
            savepoints: Vec::new(),
            next_savepoint: 1,
            bytes: 0,
            statement_bytes: 0,
            limit_bytes,
        }
    }

    /// True when there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.values().all(|writes| writes.is_empty()) && self.statement.values().all(BTreeMap::is_empty)
    }

    /// Writes in the running statement. 54000 at the limit.
    pub(crate) fn write(&mut self, tree: TreeId, key: &[u8], write: Write) -> Result<()> {
        let added = key.len() + write.bytes() + ENTRY_OVERHEAD_BYTES;
        if self.bytes + self.statement_bytes + added > self.limit_bytes {
            return Err(self.too_large());
        }
        self.statement_bytes += added;
        let writes = self.statement.entry(tree).or_default();
        match writes.get_mut(key) {
            Some(present) => {
                self.statement_bytes -= key.len() + present.bytes() + ENTRY_OVERHEAD_BYTES;
                *present = write;
            }
            None => {
                writes.insert(key.into(), write);
            }
        }
        Ok(())
    }

    #[cold]
    fn too_large(&self) -> SqlError {
        SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "transaction is too large")
            .with_detail(format!("Its uncommitted writes would exceed {} bytes.", self.limit_bytes))
            .with_hint("Split it into several transactions, or load into a new table with COPY.")
    }

    /// What earlier statements wrote to a key.
    #[inline]
    pub(crate) fn joined(&self, tree: TreeId, key: &[u8]) -> Option<&Write> {
        self.joined.get(&tree)?.get(key)
    }

    /// What the running statement wrote to a key.
    #[inline]
    pub(crate) fn of_statement(&self, tree: TreeId, key: &[u8]) -> Option<&Write> {
        self.statement.get(&tree)?.get(key)
    }

    /// True when the running statement has written to a tree.
    pub(crate) fn statement_writes_to(&self, tree: TreeId) -> bool {
        self.statement.contains_key(&tree)
    }

    /// What earlier statements wrote to a tree, as of now.
    pub(crate) fn tree(&self, tree: TreeId) -> Option<Arc<TreeWrites>> {
        self.joined.get(&tree).filter(|writes| !writes.is_empty()).cloned()
    }

    /// Ends the statement: its writes join the rest, or are dropped.
    pub(crate) fn end_statement(&mut self, keep: bool) {
        let bytes = std::mem::take(&mut self.statement_bytes);
        let mut statement = std::mem::take(&mut self.statement);
        if !keep {
            return;
        }
        self.bytes += bytes;
        for (tree, writes) in statement.drain() {
            self.join(tree, writes);
        }
        // The map's memory serves the next statement.
        self.statement = statement;
    }

    fn join(&mut self, tree: TreeId, writes: TreeWrites) {
        let joined = self.joined.entry(tree).or_default();
        if self.savepoints.is_empty() && joined.is_empty() {
            *joined = Arc::new(writes);
            return;
        }
        let target = Arc::make_mut(joined);
        for (key, write) in writes {
            if self.savepoints.is_empty() {
                if let Some(before) = target.insert(key.clone(), write) {
                    self.bytes -= key.len() + before.bytes() + ENTRY_OVERHEAD_BYTES;
                }
            } else {
                let before = target.insert(key.clone(), write);
                self.bytes += key.len() + ENTRY_OVERHEAD_BYTES;
                self.undo.push(Undo { tree, key, before });
            }
        }
    }

    /// Marks a point to return to.
    pub(crate) fn savepoint(&mut self) -> SavepointId {
        let id = SavepointId(self.next_savepoint);
        self.next_savepoint += 1;
        self.savepoints.push(Savepoint { id, undo_length: self.undo.len(), bytes: self.bytes });
        id
    }

    /// Undoes what came after a point; the point stays. One that was released or never made is ignored.
    pub(crate) fn rollback_to(&mut self, id: SavepointId) {
        self.end_statement(false);
        let Some(position) = self.savepoints.iter().position(|savepoint| savepoint.id == id) else { return };
        self.savepoints.truncate(position + 1);
        let savepoint = &self.savepoints[position];
        self.bytes = savepoint.bytes;
        for Undo { tree, key, before } in self.undo.drain(savepoint.undo_length..).rev() {
            let writes = Arc::make_mut(self.joined.entry(tree).or_default());
            match before {
                Some(before) => writes.insert(key, before),
                None => writes.remove(&key),
            };
        }
    }

    /// Forgets a point and those after it.
    pub(crate) fn release(&mut self, id: SavepointId) {
        self.savepoints.retain(|savepoint| savepoint.id < id);
        if self.savepoints.is_empty() {
            self.undo.clear();
        }
    }

    /// Everything, to be committed: trees in order of their ids, none empty.
    pub(crate) fn take(&mut self) -> Vec<(TreeId, Arc<TreeWrites>)> {
        self.end_statement(true);
        let mut trees: Vec<_> = self.joined.drain().filter(|(_, writes)| !writes.is_empty()).collect();
        trees.sort_unstable_by_key(|(tree, _)| *tree);
        self.clear();
        trees
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.joined.clear();
        self.statement.clear();
        self.undo.clear();
        self.savepoints.clear();
        (self.bytes, self.statement_bytes) = (0, 0);
    }

    /// Drops the writes to one tree.
    pub(crate) fn forget_tree(&mut self, tree: TreeId) {
        self.joined.remove(&tree);
        self.statement.remove(&tree);
    }
}

/// A position in a tree's writes, within a range and in one direction.
pub(crate) struct OverlayCursor {
    writes: Arc<TreeWrites>,
    lower: Bound<Box<[u8]>>,
    upper: Bound<Box<[u8]>>,
    forward: bool,
    next: Option<(Box<[u8]>, Write)>,
}

impl OverlayCursor {
    pub(crate) fn new(writes: Arc<TreeWrites>, lower: Bound<&[u8]>, upper: Bound<&[u8]>, forward: bool) -> Self {
        let mut cursor = Self { writes, lower: lower.map(Box::from), upper: upper.map(Box::from), forward, next: None };
        cursor.find();
        cursor
    }

    /// The entry at hand.
    pub(crate) fn peek(&self) -> Option<(&[u8], &Write)> {
        self.next.as_ref().map(|(key, write)| (&**key, write))
    }

    /// Takes the entry at hand and moves on.
    pub(crate) fn pop(&mut self) -> Option<(Box<[u8]>, Write)> {
        let taken = self.next.take()?;
        let passed = Bound::Excluded(taken.0.clone());
        if self.forward {
            self.lower = passed;
        } else {
            self.upper = passed;
        }
        self.find();
        Some(taken)
    }

    fn find(&mut self) {
        let (lower, upper) = (&self.lower, &self.upper);
        if is_empty(lower, upper) {
            self.next = None;
            return;
        }
        let range = (lower.as_ref().map(|key| &**key), upper.as_ref().map(|key| &**key));
        let mut found = self.writes.range::<[u8], _>(range);
        let entry = if self.forward { found.next() } else { found.next_back() };
        self.next = entry.map(|(key, write)| (key.clone(), write.clone()));
    }
}

/// `BTreeMap::range` panics on ranges that are the wrong way round.
fn is_empty(lower: &Bound<Box<[u8]>>, upper: &Bound<Box<[u8]>>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
            lower >= upper
        }
    }
}
