//! Transactions of the [`MemoryStore`](super::MemoryStore): a stack of write layers over a snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{Lsn, TreeId};

use super::cursor::{MemoryCursor, as_slice, is_empty};
use super::locks::{LockMode, LockName};
use super::memory_store::{Shared, Writes};
use crate::error::{Result, SqlError, SqlState};
use crate::interrupt::Interrupt;
use crate::store::{
    BulkLoader, BulkPush, Cursor, Direction, IsolationLevel, KeyRange, LockedRow, RowLockMode, SavepointId,
    StatementOutcome, TableLockMode, Transaction, TransactionOptions, WaitPolicy,
};

/// Writes of one statement, or of all statements between two savepoints.
#[derive(Default)]
struct Layer {
    writes: Writes,
    created: Vec<TreeId>,
    dropped: Vec<TreeId>,
}

impl Layer {
    fn get(&self, tree: TreeId, key: &[u8]) -> Option<&Option<Bytes>> {
        self.writes.get(&tree)?.get(key)
    }

    fn absorb(&mut self, newer: Layer) {
        for (tree, rows) in newer.writes {
            self.writes.entry(tree).or_default().extend(rows);
        }
        self.created.extend(newer.created);
        self.dropped.extend(newer.dropped);
    }
}

struct State {
    /// What the running statement reads.
    snapshot: Lsn,
    /// What statements of a REPEATABLE READ transaction read.
    first_snapshot: Lsn,
    /// Finished statements; a savepoint ends a layer.
    layers: Vec<Layer>,
    statement: Layer,
    /// Savepoints with the number of layers below them.
    savepoints: Vec<(SavepointId, usize)>,
    next_savepoint: u64,
    ended: bool,
}

impl State {
    fn earlier(&self, tree: TreeId, key: &[u8]) -> Option<&Option<Bytes>> {
        self.layers.iter().rev().find_map(|layer| layer.get(tree, key))
    }
}

pub(super) struct MemoryTransaction {
    id: u64,
    shared: Arc<Shared>,
    options: TransactionOptions,
    interrupt: Arc<Interrupt>,
    state: Arc<Mutex<State>>,
}

impl MemoryTransaction {
    pub(super) fn new(id: u64, shared: Arc<Shared>, options: TransactionOptions, interrupt: Arc<Interrupt>) -> Self {
        let snapshot = shared.committed().lsn;
        let state = State {
            snapshot,
            first_snapshot: snapshot,
            layers: vec![Layer::default()],
            statement: Layer::default(),
            savepoints: Vec::new(),
            next_savepoint: 1,
            ended: false,
        };
        Self { id, shared, options, interrupt, state: Arc::new(Mutex::new(state)) }
    }

    fn writable(&self) -> Result<()> {
        if self.options.read_only {
            let message = "cannot write in a read-only transaction";
            return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
        }
        if self.state.lock().ended {
            return Err(SqlError::internal("write in a transaction that has ended"));
        }
        Ok(())
    }

    fn write(&self, tree: TreeId, key: &[u8], value: Option<Bytes>) -> Result<()> {
        self.writable()?;
        let mut state = self.state.lock();
        state.statement.writes.entry(tree).or_default().insert(Bytes::copy_from_slice(key), value);
        Ok(())
    }
}

impl Transaction for MemoryTransaction {
    fn snapshot_lsn(&self) -> Lsn {
        self.state.lock().snapshot
    }

    fn options(&self) -> TransactionOptions {
        self.options
    }

    fn begin_statement(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(SqlError::internal("statement in a transaction that has ended"));
        }
        state.snapshot = match self.options.isolation {
            IsolationLevel::ReadCommitted => self.shared.committed().lsn,
            _ => state.first_snapshot,
        };
        state.statement = Layer::default();
        Ok(())
    }

    fn begin_statement_at_newest(&self) -> Result<()> {
        self.begin_statement()?;
        self.state.lock().snapshot = self.shared.committed().lsn;
        Ok(())
    }

    fn end_statement(&self, outcome: StatementOutcome) {
        let mut state = self.state.lock();
        let statement = std::mem::take(&mut state.statement);
        if outcome == StatementOutcome::Keep {
            let top = state.layers.last_mut().expect("a transaction always has a layer");
            top.absorb(statement);
        }
    }

    fn savepoint(&self) -> SavepointId {
        let mut state = self.state.lock();
        let id = SavepointId(state.next_savepoint);
        state.next_savepoint += 1;
        let depth = state.layers.len();
        state.savepoints.push((id, depth));
        state.layers.push(Layer::default());
        id
    }

    fn rollback_to(&self, savepoint: SavepointId) {
        let mut state = self.state.lock();
        let Some(at) = state.savepoints.iter().position(|(id, _)| *id == savepoint) else { return };
        let depth = state.savepoints[at].1;
        state.savepoints.truncate(at + 1);
        state.layers.truncate(depth);
        state.layers.push(Layer::default());
        state.statement = Layer::default();
    }

    fn release(&self, savepoint: SavepointId) {
        let mut state = self.state.lock();
        let Some(at) = state.savepoints.iter().position(|(id, _)| *id == savepoint) else { return };
        let depth = state.savepoints[at].1;
        state.savepoints.truncate(at);
        for newer in state.layers.split_off(depth) {
            state.layers.last_mut().expect("the layer below a savepoint").absorb(newer);
        }
    }

    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.state.lock();
        if let Some(own) = state.earlier(tree, key) {
            return Ok(own.clone());
        }
        Ok(self.shared.committed().get(tree, key, state.snapshot).cloned())
    }

    fn scan(&self, tree: TreeId, range: KeyRange, direction: Direction) -> Result<Box<dyn Cursor>> {
        let state = self.state.lock();
        let mut own = BTreeMap::new();
        if !is_empty(&range) {
            for rows in state.layers.iter().filter_map(|layer| layer.writes.get(&tree)) {
                let bounds = (as_slice(&range.lower), as_slice(&range.upper));
                own.extend(rows.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        Ok(Box::new(MemoryCursor::new(Arc::clone(&self.shared), tree, state.snapshot, range, direction, own)))
    }

    fn get_latest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.state.lock();
        if let Some(own) = state.statement.get(tree, key).or_else(|| state.earlier(tree, key)) {
            return Ok(own.clone());
        }
        Ok(self.shared.committed().get(tree, key, Lsn::MAX).cloned())
    }

    fn lock_row(&self, tree: TreeId, key: &[u8], mode: RowLockMode, wait: WaitPolicy) -> Result<LockedRow> {
        let name = LockName::Row(tree, Bytes::copy_from_slice(key));
        if !self.shared.locks.acquire(self.id, name, LockMode::Row(mode), wait, &self.interrupt)? {
            return Ok(LockedRow::Skipped);
        }
        let state = self.state.lock();
        if state.statement.get(tree, key).is_some() {
            return Ok(LockedRow::WrittenByThisStatement);
        }
        if state.earlier(tree, key).is_some() {
            return Ok(LockedRow::Unchanged);
        }
        let committed = self.shared.committed();
        let versions = committed.trees.get(&tree).and_then(|tree| tree.get(key));
        let newest = versions.and_then(|versions| versions.last()).filter(|(lsn, _)| *lsn > state.snapshot);
        match newest {
            None => Ok(LockedRow::Unchanged),
            Some(_) if self.options.isolation != IsolationLevel::ReadCommitted => {
                let message = "could not serialize access due to concurrent update";
                Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, message))
            }
            Some((_, Some(value))) => Ok(LockedRow::Changed(value.clone())),
            Some((_, None)) => Ok(LockedRow::Deleted),
        }
    }

    fn lock_table(&self, table: u64, mode: TableLockMode, wait: WaitPolicy) -> Result<bool> {
        self.shared.locks.acquire(self.id, LockName::Table(table), LockMode::Table(mode), wait, &self.interrupt)
    }

    fn put(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<()> {
        self.write(tree, key, Some(value))
    }

    fn delete(&self, tree: TreeId, key: &[u8]) -> Result<()> {
        self.write(tree, key, None)
    }

    fn create_tree(&self) -> Result<TreeId> {
        self.writable()?;
        let tree = self.shared.allocate_tree();
        self.state.lock().statement.created.push(tree);
        Ok(tree)
    }

    fn drop_tree(&self, tree: TreeId) -> Result<()> {
        self.writable()?;
        self.state.lock().statement.dropped.push(tree);
        Ok(())
    }

    fn is_own_tree(&self, tree: TreeId) -> bool {
        let state = self.state.lock();
        state.layers.iter().chain([&state.statement]).any(|layer| layer.created.contains(&tree))
    }

    fn bulk_load(&self, tree: TreeId) -> Result<Box<dyn BulkLoader>> {
        self.writable()?;
        let state = self.state.lock();
        let mut layers = state.layers.iter().chain([&state.statement]);
        let empty = layers.clone().all(|layer| layer.writes.get(&tree).is_none_or(BTreeMap::is_empty));
        if !empty || !layers.any(|layer| layer.created.contains(&tree)) {
            return Err(SqlError::internal(format!("bulk load into tree {tree}, which is not new and empty")));
        }
        Ok(Box::new(MemoryBulkLoader { tree, rows: BTreeMap::new(), state: Arc::clone(&self.state) }))
    }

    fn commit(&self) -> Result<Option<Lsn>> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.ended, true) {
            return Err(SqlError::internal("commit of a transaction that has ended"));
        }
        let mut all = Layer::default();
        for layer in std::mem::take(&mut state.layers) {
            all.absorb(layer);
        }
        drop(state);
        let nothing = all.writes.is_empty() && all.created.is_empty() && all.dropped.is_empty();
        let lsn = (!nothing).then(|| self.shared.apply(all.writes, all.created, &all.dropped));
        self.shared.locks.release_all(self.id);
        Ok(lsn)
    }

    fn rollback(&self) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        state.layers = vec![Layer::default()];
        state.statement = Layer::default();
        drop(state);
        self.shared.locks.release_all(self.id);
    }

    fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        self.rollback();
    }
}

/// Collects rows and adds them to the running statement's writes at the end.
struct MemoryBulkLoader {
    tree: TreeId,
    rows: BTreeMap<Bytes, Option<Bytes>>,
    state: Arc<Mutex<State>>,
}

impl BulkLoader for MemoryBulkLoader {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<BulkPush> {
        if self.rows.last_key_value().is_some_and(|(last, _)| key <= last.as_ref()) {
            return Ok(BulkPush::OutOfOrder);
        }
        self.rows.insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
        Ok(BulkPush::Added)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { tree, rows, state } = *self;
        let writes = HashMap::from([(tree, rows)]);
        state.lock().statement.absorb(Layer { writes, ..Layer::default() });
        Ok(())
    }
}
