//! [`Writes`]: all writes to one tree at one time, in memory and in runs on disk.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sql::error::{Result, SqlError, SqlState};
use storage::TreeId;
use storage::spill::{Merge, Run, SpillError};

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

    pub(super) fn of_spilled(value: Option<&[u8]>) -> Self {
        value.map_or(Write::Delete, |value| Write::Put(Bytes::copy_from_slice(value)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.value().map_or(0, Bytes::len)
    }
}

/// A tree's writes by key, in memory.
pub(crate) type TreeWrites = BTreeMap<Box<[u8]>, Write>;

/// What a transaction whose writes cannot be set aside ends with.
#[cold]
pub(super) fn spill_failed(error: SpillError) -> SqlError {
    match &error {
        SpillError::Limit { limit_bytes } => {
            SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "transaction is too large")
                .with_detail(format!("Uncommitted writes on disk would exceed {limit_bytes} bytes."))
                .with_hint("Split it into several transactions, or load into a new table with COPY.")
        }
        SpillError::Io(_) if error.is_disk_full() => SqlError::new(
            SqlState::DISK_FULL,
            format!("could not set aside the writes of a large transaction: {error}"),
        ),
        SpillError::Io(_) => SqlError::new(SqlState::IO_ERROR, error.to_string()),
        SpillError::Damaged => SqlError::new(SqlState::DATA_CORRUPTED, error.to_string()),
    }
}

/// A key as runs have it, which hold all trees' writes: the tree first.
pub(super) fn spilled_key(tree: TreeId, key: &[u8]) -> Vec<u8> {
    let mut spilled = Vec::with_capacity(TREE_BYTES + key.len());
    spilled.extend_from_slice(&tree.0.0.to_be_bytes());
    spilled.extend_from_slice(key);
    spilled
}

const TREE_BYTES: usize = 8;

/// See the module. Cheap to clone; never changes.
#[derive(Clone)]
pub(crate) struct Writes {
    tree: TreeId,
    /// Newer than all runs.
    memory: Arc<TreeWrites>,
    /// Oldest first.
    runs: Arc<[Arc<Run>]>,
}

impl Writes {
    pub(super) fn new(tree: TreeId, memory: Arc<TreeWrites>, runs: Arc<[Arc<Run>]>) -> Self {
        Self { tree, memory, runs }
    }

    /// Writes that are all in memory.
    pub(crate) fn of_memory(tree: TreeId, memory: TreeWrites) -> Self {
        Self { tree, memory: Arc::new(memory), runs: Arc::new([]) }
    }

    /// Where they go.
    pub(crate) fn tree(&self) -> TreeId {
        self.tree
    }

    /// All of them, if nothing is on disk.
    pub(crate) fn in_memory(&self) -> Option<&TreeWrites> {
        self.runs.is_empty().then_some(&self.memory)
    }

    /// A cursor over a range, before its first write.
    pub(crate) fn cursor(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>, forward: bool) -> Result<WritesCursor> {
        let memory = MemoryCursor::new(Arc::clone(&self.memory), lower, upper, forward);
        let runs = if self.runs.is_empty() { None } else { Some(self.merge(lower, upper, forward)?) };
        let mut cursor = WritesCursor { memory, runs, next: None };
        cursor.find()?;
        Ok(cursor)
    }

    fn merge(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>, forward: bool) -> Result<RunsCursor> {
        let end = |bound: Bound<&[u8]>| bound.map(|key| spilled_key(self.tree, key));
        let lower = match end(lower) {
            Bound::Unbounded => Bound::Included(spilled_key(self.tree, &[])),
            bound => bound,
        };
        let upper = match end(upper) {
            Bound::Unbounded => {
                let next = TreeId(storage::PageNo(self.tree.0.0 + 1));
                Bound::Excluded(spilled_key(next, &[]))
            }
            bound => bound,
        };
        // Newest first: of equal keys the first counts.
        let cursors = self.runs.iter().rev().map(|run| {
            let mut cursor = run.cursor();
            if forward {
                cursor.seek_from(lower.as_ref().map(|key| &key[..]))?;
            } else {
                cursor.seek_until(upper.as_ref().map(|key| &key[..]))?;
            }
            Ok(cursor)
        });
        let cursors = cursors.collect::<Result<Vec<_>, SpillError>>().map_err(spill_failed)?;
        let end = if forward { upper } else { lower };
        Ok(RunsCursor { merge: Merge::new(cursors, forward), end, forward })
    }
}

/// A position in runs, within a range.
struct RunsCursor {
    merge: Merge,
    /// The far end of the range.
    end: Bound<Vec<u8>>,
    forward: bool,
}

impl RunsCursor {
    fn peek(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let (spilled, value) = self.merge.entry()?;
        let within = match (&self.end, self.forward) {
            (Bound::Included(end), true) => spilled <= &end[..],
            (Bound::Excluded(end), true) => spilled < &end[..],
            (Bound::Included(end), false) => spilled >= &end[..],
            (Bound::Excluded(end), false) => spilled > &end[..],
            (Bound::Unbounded, _) => true,
        };
        within.then(|| (&spilled[TREE_BYTES..], value))
    }
}

/// A position in a tree's writes, within a range and in one direction.
pub(crate) struct WritesCursor {
    memory: MemoryCursor,
    runs: Option<RunsCursor>,
    next: Option<(Box<[u8]>, Write)>,
}

impl WritesCursor {
    /// The write at hand.
    pub(crate) fn peek(&self) -> Option<(&[u8], &Write)> {
        self.next.as_ref().map(|(key, write)| (&**key, write))
    }

    /// Takes the write at hand and moves on.
    pub(crate) fn pop(&mut self) -> Result<Option<(Box<[u8]>, Write)>> {
        let taken = self.next.take();
        self.find()?;
        Ok(taken)
    }

    fn find(&mut self) -> Result<()> {
        let Some(runs) = &mut self.runs else {
            self.next = self.memory.pop();
            return Ok(());
        };
        let order = match (self.memory.peek(), runs.peek()) {
            (_, None) => {
                self.next = self.memory.pop();
                return Ok(());
            }
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(memory), Some((spilled, _))) if runs.forward => memory.cmp(spilled),
            (Some(memory), Some((spilled, _))) => spilled.cmp(memory),
        };
        if order.is_gt() {
            self.next = runs.peek().map(|(key, value)| (key.into(), Write::of_spilled(value)));
        } else {
            self.next = self.memory.pop();
        }
        // What is in memory is newer than the same key in a run.
        if order.is_ge() { runs.merge.advance_key().map_err(spill_failed) } else { Ok(()) }
    }
}

/// Writes that a cursor takes out of the map at a time: finding its place in the map costs more than a step there.
const TAKEN_AT_A_TIME: usize = 64;

/// A position among writes in memory.
struct MemoryCursor {
    writes: Arc<TreeWrites>,
    /// What is left beyond `taken`.
    lower: Bound<Box<[u8]>>,
    upper: Bound<Box<[u8]>>,
    forward: bool,
    /// The next ones.
    taken: VecDeque<(Box<[u8]>, Write)>,
}

impl MemoryCursor {
    fn new(writes: Arc<TreeWrites>, lower: Bound<&[u8]>, upper: Bound<&[u8]>, forward: bool) -> Self {
        let (lower, upper) = (lower.map(Box::from), upper.map(Box::from));
        let mut cursor = Self { writes, lower, upper, forward, taken: VecDeque::new() };
        // Many cursors are only asked for their first.
        cursor.take(1);
        cursor
    }

    fn peek(&self) -> Option<&[u8]> {
        self.taken.front().map(|(key, _)| &**key)
    }

    fn pop(&mut self) -> Option<(Box<[u8]>, Write)> {
        let taken = self.taken.pop_front()?;
        if self.taken.is_empty() {
            let passed = Bound::Excluded(taken.0.clone());
            if self.forward {
                self.lower = passed;
            } else {
                self.upper = passed;
            }
            self.take(TAKEN_AT_A_TIME);
        }
        Some(taken)
    }

    fn take(&mut self, most: usize) {
        let (lower, upper) = (&self.lower, &self.upper);
        if is_empty(lower, upper) {
            return;
        }
        let range = (lower.as_ref().map(|key| &**key), upper.as_ref().map(|key| &**key));
        let found = self.writes.range::<[u8], _>(range);
        let found = found.map(|(key, write)| (key.clone(), write.clone()));
        if self.forward {
            self.taken.extend(found.take(most));
        } else {
            self.taken.extend(found.rev().take(most));
        }
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
