//! [`Overlay`]: a transaction's own writes, in order, until it commits.
//!
//! Two layers. Writes of the running statement stay apart and join the rest when it ends; dropping them is
//! statement-level atomicity. Savepoints are positions in a list of what joining replaced.
//!
//! Each layer is a map in memory, and beneath it runs on local disk that hold what no longer fitted: the newer
//! run counts. When memory is used up both layers' maps become runs. So a statement's runs are always newer than
//! all joined writes, and join by being put on top of the joined runs. A savepoint that lives when that happens
//! gets a boundary between runs of its own: going back to it drops the runs above the boundary, and all that is in
//! memory.
//!
//! A tree's joined writes are shared with cursors (`Arc`): a cursor that outlives its statement keeps what it
//! saw, and only then does joining copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use sql::error::{Result, SqlError, SqlState};
use sql::store::SavepointId;
use storage::TreeId;
use storage::spill::{Run, RunWriter};

use super::runs::Runs;
use super::spilling::{Charge, Spilling};
use super::writes::{TreeWrites, Write, Writes, spill_failed, spilled_key};

/// What an entry costs besides its key and value: its part of map nodes, allocation, hash of its row lock.
const ENTRY_OVERHEAD_BYTES: usize = 120;

/// See the module.
pub(crate) struct Overlay {
    joined: HashMap<TreeId, Arc<TreeWrites>>,
    /// Older than `joined`.
    runs: Runs,
    statement: HashMap<TreeId, TreeWrites>,
    /// Older than `statement`, newer than all that is joined.
    statement_runs: Runs,
    /// What joining replaced, oldest first; kept while there are savepoints.
    undo: Vec<Undo>,
    savepoints: Vec<Savepoint>,
    next_savepoint: u64,
    /// Trees that runs may have writes to.
    spilled_trees: BTreeSet<TreeId>,
    /// Trees whose writes do not count any more, wherever they are.
    forgotten: Vec<TreeId>,
    bytes: usize,
    statement_bytes: usize,
    charge: Charge,
    spilling: Arc<Spilling>,
    /// Setting writes aside failed half way: nothing can be read or committed any more.
    failed: Option<SqlError>,
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
    /// Runs below the savepoint, once all that was before it is in runs: then nothing in memory is.
    runs: Option<usize>,
}

impl Overlay {
    pub(crate) fn new(spilling: Arc<Spilling>) -> Self {
        Self {
            joined: HashMap::new(),
            runs: Runs::default(),
            statement: HashMap::new(),
            statement_runs: Runs::default(),
            undo: Vec::new(),
            savepoints: Vec::new(),
            next_savepoint: 1,
            spilled_trees: BTreeSet::new(),
            forgotten: Vec::new(),
            bytes: 0,
            statement_bytes: 0,
            charge: Charge::new(&spilling),
            spilling,
            failed: None,
        }
    }

    /// True when there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.joined.values().all(|writes| writes.is_empty())
            && self.statement.values().all(BTreeMap::is_empty)
            && self.runs.is_empty()
            && self.statement_runs.is_empty()
    }

    /// Writes in the running statement. Sets writes aside on disk when they exceed their memory; 54000 where that
    /// is not possible.
    pub(crate) fn write(&mut self, tree: TreeId, key: &[u8], write: Write) -> Result<()> {
        let added = key.len() + write.bytes() + ENTRY_OVERHEAD_BYTES;
        if !self.charge.covers(self.bytes + self.statement_bytes + added) {
            self.make_room(added)?;
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

    /// [`Overlay::write`] for many keys of one tree, which ascend strictly.
    pub(crate) fn write_all<'k>(
        &mut self,
        tree: TreeId,
        mut rows: impl Iterator<Item = (&'k [u8], Write)>,
    ) -> Result<()> {
        loop {
            let writes = self.statement.entry(tree).or_default();
            let mut left_over = None;
            for (key, write) in rows.by_ref() {
                let added = key.len() + write.bytes() + ENTRY_OVERHEAD_BYTES;
                if !self.charge.covers(self.bytes + self.statement_bytes + added) {
                    left_over = Some((key, write));
                    break;
                }
                self.statement_bytes += added;
                if let Some(before) = writes.insert(key.into(), write) {
                    self.statement_bytes -= key.len() + before.bytes() + ENTRY_OVERHEAD_BYTES;
                }
            }
            let Some((key, write)) = left_over else { return Ok(()) };
            self.write(tree, key, write)?;
        }
    }

    /// True when nothing was written to a tree from this key on, as far as that can be told at once.
    pub(crate) fn ends_before(&self, tree: TreeId, key: &[u8]) -> bool {
        let above = |writes: &TreeWrites| writes.last_key_value().is_none_or(|(last, _)| **last < *key);
        self.statement_runs.is_empty()
            && self.runs.is_empty()
            && self.statement.get(&tree).is_none_or(above)
            && self.joined.get(&tree).is_none_or(|writes| above(writes))
    }

    #[cold]
    fn make_room(&mut self, added: usize) -> Result<()> {
        self.check()?;
        if self.charge.grow(self.bytes + self.statement_bytes + added) {
            return Ok(());
        }
        if self.spilling.space().is_none() {
            return Err(self.spilling.too_large());
        }
        self.spill()?;
        // One write may be longer than the memory of all.
        self.charge.force(self.bytes + self.statement_bytes + added);
        Ok(())
    }

    /// The error that all use ends with, if there is one.
    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// What earlier statements wrote to a key.
    #[inline]
    pub(crate) fn joined(&self, tree: TreeId, key: &[u8]) -> Result<Option<Write>> {
        if let Some(write) = self.joined.get(&tree).and_then(|writes| writes.get(key)) {
            return Ok(Some(write.clone()));
        }
        if self.runs.is_empty() { Ok(None) } else { self.in_runs(&self.runs, tree, key) }
    }

    /// What the running statement wrote to a key.
    #[inline]
    pub(crate) fn of_statement(&self, tree: TreeId, key: &[u8]) -> Result<Option<Write>> {
        if let Some(write) = self.statement.get(&tree).and_then(|writes| writes.get(key)) {
            return Ok(Some(write.clone()));
        }
        if self.statement_runs.is_empty() { Ok(None) } else { self.in_runs(&self.statement_runs, tree, key) }
    }

    fn in_runs(&self, runs: &Runs, tree: TreeId, key: &[u8]) -> Result<Option<Write>> {
        self.check()?;
        if !self.spilled_trees.contains(&tree) || self.forgotten.contains(&tree) {
            return Ok(None);
        }
        runs.get(&spilled_key(tree, key))
    }

    /// True when anything was written to a tree and counts.
    pub(crate) fn has_written_to(&self, tree: TreeId) -> bool {
        self.statement.contains_key(&tree)
            || self.joined.get(&tree).is_some_and(|writes| !writes.is_empty())
            || (self.spilled_trees.contains(&tree) && !self.forgotten.contains(&tree))
    }

    /// What earlier statements wrote to a tree, as of now.
    pub(crate) fn tree(&self, tree: TreeId) -> Result<Option<Writes>> {
        let memory = self.joined.get(&tree).filter(|writes| !writes.is_empty());
        let spilled = !self.runs.is_empty() && self.spilled_trees.contains(&tree) && !self.forgotten.contains(&tree);
        if !spilled {
            return Ok(memory.map(|memory| Writes::new(tree, memory.clone(), Arc::new([]))));
        }
        self.check()?;
        Ok(Some(Writes::new(tree, memory.cloned().unwrap_or_default(), self.runs.shared())))
    }

    /// Ends the statement: its writes join the rest, or are dropped.
    pub(crate) fn end_statement(&mut self, keep: bool) {
        let bytes = std::mem::take(&mut self.statement_bytes);
        let mut statement = std::mem::take(&mut self.statement);
        let runs = std::mem::take(&mut self.statement_runs);
        if keep {
            self.bytes += bytes;
            if !runs.is_empty() {
                assert!(self.joined.is_empty(), "joined writes were set aside before those of the statement");
                self.runs.put_on_top(runs);
            }
            for (tree, writes) in statement.drain() {
                self.join(tree, writes);
            }
            // The map's memory serves the next statement.
            self.statement = statement;
        }
        self.charge.shrink(self.bytes);
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
        self.savepoints.push(Savepoint { id, undo_length: self.undo.len(), bytes: self.bytes, runs: None });
        id
    }

    /// Undoes what came after a point; the point stays. One that was released or never made is ignored.
    pub(crate) fn rollback_to(&mut self, id: SavepointId) {
        self.end_statement(false);
        let Some(position) = self.savepoints.iter().position(|savepoint| savepoint.id == id) else { return };
        self.savepoints.truncate(position + 1);
        let savepoint = &mut self.savepoints[position];
        if let Some(runs) = savepoint.runs {
            // All that was before it is in the runs below.
            self.runs.truncate(runs);
            self.joined.clear();
            self.undo.clear();
            (self.bytes, savepoint.bytes, savepoint.undo_length) = (0, 0, 0);
        } else {
            self.bytes = savepoint.bytes;
            for Undo { tree, key, before } in self.undo.drain(savepoint.undo_length..).rev() {
                let writes = Arc::make_mut(self.joined.entry(tree).or_default());
                match before {
                    Some(before) => writes.insert(key, before),
                    None => writes.remove(&key),
                };
            }
        }
        self.charge.shrink(self.bytes);
    }

    /// Forgets a point and those after it.
    pub(crate) fn release(&mut self, id: SavepointId) {
        self.savepoints.retain(|savepoint| savepoint.id < id);
        if self.savepoints.is_empty() {
            self.undo.clear();
        }
    }

    /// Everything, to be committed: trees in order of their ids, none empty unless it has spilled.
    pub(crate) fn take(&mut self) -> Result<Vec<Writes>> {
        self.check()?;
        self.end_statement(true);
        let mut trees: BTreeSet<TreeId> =
            self.joined.iter().filter(|(_, writes)| !writes.is_empty()).map(|(tree, _)| *tree).collect();
        if !self.runs.is_empty() {
            trees.extend(self.spilled_trees.iter().filter(|tree| !self.forgotten.contains(tree)));
        }
        let taken = trees.into_iter().filter_map(|tree| self.tree(tree).transpose()).collect::<Result<_>>()?;
        self.clear();
        Ok(taken)
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.joined.clear();
        self.statement.clear();
        (self.runs, self.statement_runs) = (Runs::default(), Runs::default());
        self.undo.clear();
        self.savepoints.clear();
        self.spilled_trees.clear();
        (self.bytes, self.statement_bytes) = (0, 0);
        self.charge.shrink(0);
    }

    /// Drops the writes to one tree, which nobody will write to any more.
    pub(crate) fn forget_tree(&mut self, tree: TreeId) {
        self.joined.remove(&tree);
        self.statement.remove(&tree);
        if self.spilled_trees.contains(&tree) {
            self.forgotten.push(tree);
        }
    }
}

/// Setting aside.
impl Overlay {
    /// Moves all writes in memory to runs.
    fn spill(&mut self) -> Result<()> {
        let floor = self.savepoints.iter().filter_map(|savepoint| savepoint.runs).max().unwrap_or(0);
        let space = self.spilling.space().expect("asked by the caller").clone();
        self.runs.compact(floor, &space)?;
        self.statement_runs.compact(0, &space)?;
        let spilled = self.spill_joined();
        if let Err(error) = spilled {
            // Part of what savepoints stood on is in runs, part is not: only the whole can be given up.
            if !self.savepoints.is_empty() {
                self.failed = Some(error.clone());
            }
            return Err(error);
        }
        if let Some(run) = self.write_run(self.statement.iter())? {
            self.spilled_trees.extend(self.statement.keys());
            self.statement_runs.push(run);
        }
        self.statement.clear();
        self.statement_bytes = 0;
        self.charge.shrink(self.bytes);
        Ok(())
    }

    /// Moves the joined writes to runs, with a boundary for each savepoint that has none yet.
    fn spill_joined(&mut self) -> Result<()> {
        let first = self.savepoints.iter().position(|savepoint| savepoint.runs.is_none());
        let first = first.unwrap_or(self.savepoints.len());
        // What came after each of these savepoints and before the next, newest first; what is left came before.
        let mut later: Vec<HashMap<TreeId, TreeWrites>> = Vec::new();
        for savepoint in self.savepoints[first..].iter().rev() {
            let mut since: HashMap<TreeId, TreeWrites> = HashMap::new();
            for Undo { tree, key, before } in self.undo.drain(savepoint.undo_length.min(self.undo.len())..).rev() {
                let writes = Arc::make_mut(self.joined.entry(tree).or_default());
                let after = match before {
                    Some(before) => writes.insert(key.clone(), before),
                    None => writes.remove(&key),
                };
                // Met newest first: what a later write made of it counts.
                if let Some(after) = after {
                    since.entry(tree).or_default().entry(key).or_insert(after);
                }
            }
            later.push(since);
        }
        self.undo.clear();
        self.spilled_trees.extend(self.joined.keys());
        if let Some(run) = self.write_run(self.joined.iter().map(|(tree, writes)| (tree, &**writes)))? {
            self.runs.push(run);
        }
        for position in first..self.savepoints.len() {
            self.savepoints[position].runs = Some(self.runs.len());
            let since = later.pop().expect("one for each");
            self.spilled_trees.extend(since.keys());
            if let Some(run) = self.write_run(since.iter())? {
                self.runs.push(run);
            }
        }
        for savepoint in &mut self.savepoints {
            (savepoint.undo_length, savepoint.bytes) = (0, 0);
        }
        self.joined.clear();
        self.bytes = 0;
        Ok(())
    }

    /// A run of some trees' writes; none if there are none.
    fn write_run<'w>(&self, trees: impl Iterator<Item = (&'w TreeId, &'w TreeWrites)>) -> Result<Option<Arc<Run>>> {
        let space = self.spilling.space().expect("asked by the caller");
        let mut trees: Vec<_> = trees.filter(|(_, writes)| !writes.is_empty()).collect();
        if trees.is_empty() {
            return Ok(None);
        }
        trees.sort_unstable_by_key(|(tree, _)| **tree);
        let count: usize = trees.iter().map(|(_, writes)| writes.len()).sum();
        let mut run = RunWriter::new(space, Some(count as u64)).map_err(spill_failed)?;
        for (tree, writes) in trees {
            for (key, write) in writes {
                let value = write.value().map(|value| &**value);
                run.push(&spilled_key(*tree, key), value).map_err(spill_failed)?;
            }
        }
        Ok(Some(Arc::new(run.finish().map_err(spill_failed)?)))
    }
}

impl Spilling {
    /// What a transaction ends with that has no disk to go to.
    #[cold]
    fn too_large(&self) -> SqlError {
        SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "transaction is too large")
            .with_detail(format!("Its uncommitted writes would exceed {} bytes.", self.limit_bytes()))
            .with_hint("Split it into several transactions, or load into a new table with COPY.")
    }
}
