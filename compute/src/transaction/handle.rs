//! [`EngineTransaction`]: the transaction that SQL holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use sql::error::{Result, SqlError, SqlState};
use sql::store::{
    BulkLoader, Cursor, Direction, Interrupt, IsolationLevel, KeyRange, LockedRow, PageProblem, RowLockMode,
    SavepointId, StatementOutcome, TableLockMode, Transaction, TransactionOptions, WaitPolicy,
};
use storage::upkeep::Upkeep;
use storage::{Lsn, TreeId};

use super::check::check_pages;
use super::cursor::MergeCursor;
use super::large;
use super::load::Loader;
use super::overlay::Overlay;
use super::read::{self, Since};
use super::writes::{TreeWrites, Write, Writes};
use crate::engine::Engine;
use crate::lock::{Acquired, LockModes, LockName, OwnerId};
use crate::sequencer::{Commit, CommitTree, PageRun};
use crate::snapshot::Snapshot;

/// Row locks of one transaction, a few megabytes of them, beyond which they are exchanged for locks of trees.
const ROW_LOCKS: usize = 1 << 16;
/// Row locks of one transaction where that does not help: others hold locks in the same trees.
const MOST_ROW_LOCKS: usize = 1 << 23;

/// Row locks taken before the transaction is told of them.
const LOCKS_AT_A_TIME: usize = 64;

/// See the module.
pub(crate) struct EngineTransaction {
    engine: Arc<Engine>,
    options: TransactionOptions,
    owner: OwnerId,
    snapshot: Snapshot,
    snapshot_lsn: AtomicU64,
    /// Commits up to here may have given back locks that this transaction has got.
    builds_on: AtomicU64,
    /// What must be durable before the running statement reads its snapshot, which is taken then; 0: it has been taken.
    unsettled: AtomicU64,
    shared: Arc<Shared>,
}

/// What loaders share with their transaction.
pub(super) struct Shared {
    pub(super) interrupt: Arc<Interrupt>,
    state: Mutex<State>,
}

struct State {
    overlay: Overlay,
    row_locks: Vec<LockName>,
    /// When there are so many, they are exchanged for locks of whole trees.
    escalate_at: usize,
    table_locks: SmallVec<[(u64, LockModes); 8]>,
    trees: Trees,
    /// Where `trees` stood at the statement's begin and at each savepoint.
    statement_mark: TreesMark,
    savepoint_marks: Vec<(SavepointId, TreesMark)>,
    /// Loads begun so far.
    loads: u64,
    /// REPEATABLE READ takes its snapshot with its first statement. A statement at the newest LSN has one of
    /// its own.
    transaction_snapshot: Option<Lsn>,
    finished: bool,
}

/// Trees created and dropped by this transaction.
#[derive(Default)]
struct Trees {
    created: Vec<OwnTree>,
    dropped: Vec<TreeId>,
}

#[derive(Clone, Copy, Default)]
struct TreesMark {
    created: usize,
    dropped: usize,
    loads: u64,
}

/// A tree that nobody else can see yet.
struct OwnTree {
    tree: TreeId,
    /// The number of the load into it, begun and perhaps finished.
    load: Option<u64>,
    /// Where its loaded rows can be read.
    loaded: Option<Lsn>,
    /// The page numbers that are its own; the first run is the root's.
    runs: Vec<PageRun>,
}

impl Shared {
    pub(super) fn add_run(&self, tree: TreeId, run: PageRun) {
        self.with_own(tree, |own| own.runs.push(run));
    }

    pub(super) fn shorten_run(&self, tree: TreeId, run: PageRun, used: u64) {
        self.with_own(tree, |own| {
            own.runs.retain(|known| known.first != run.first || used > 0);
            own.runs.iter_mut().filter(|known| known.first == run.first).for_each(|known| known.pages = used);
        });
    }

    pub(super) fn set_loaded(&self, tree: TreeId, lsn: Lsn) {
        self.with_own(tree, |own| own.loaded = Some(lsn));
    }

    fn with_own(&self, tree: TreeId, change: impl FnOnce(&mut OwnTree)) {
        if let Some(own) = self.state.lock().trees.created.iter_mut().find(|own| own.tree == tree) {
            change(own);
        }
    }
}

impl State {
    fn mark(&self) -> TreesMark {
        TreesMark { created: self.trees.created.len(), dropped: self.trees.dropped.len(), loads: self.loads }
    }
}

impl Trees {
    fn own(&self, tree: TreeId) -> Option<&OwnTree> {
        self.created.iter().find(|own| own.tree == tree)
    }
}

impl EngineTransaction {
    pub(crate) fn begin(engine: Arc<Engine>, options: TransactionOptions, interrupt: Arc<Interrupt>) -> Result<Self> {
        if options.isolation == IsolationLevel::Serializable {
            return Err(SqlError::unsupported("isolation level SERIALIZABLE"));
        }
        let lsn = engine.positions.durable();
        let state = State {
            overlay: Overlay::new(engine.spilling.clone()),
            row_locks: Vec::new(),
            escalate_at: ROW_LOCKS,
            table_locks: SmallVec::new(),
            trees: Trees::default(),
            statement_mark: TreesMark::default(),
            savepoint_marks: Vec::new(),
            loads: 0,
            transaction_snapshot: None,
            finished: false,
        };
        Ok(Self {
            options,
            owner: engine.next_owner(),
            snapshot: engine.snapshots.register(lsn),
            snapshot_lsn: AtomicU64::new(lsn.0),
            builds_on: AtomicU64::new(0),
            unsettled: AtomicU64::new(0),
            shared: Arc::new(Shared { interrupt, state: Mutex::new(state) }),
            engine,
        })
    }

    fn set_snapshot(&self, lsn: Lsn) {
        self.snapshot_lsn.store(lsn.0, Ordering::Release);
        self.snapshot.set(lsn);
    }

    /// A lock was granted.
    fn build_on(&self, name: LockName, modes: LockModes) {
        let released = self.engine.locks.released_at(name, modes);
        if released.0 > self.builds_on.load(Ordering::Relaxed) {
            self.builds_on.fetch_max(released.0, Ordering::AcqRel);
        }
    }

    /// What this transaction builds on, as long as that is not durable.
    fn undurable(&self) -> Option<Lsn> {
        let lsn = Lsn(self.builds_on.load(Ordering::Acquire));
        (lsn > self.engine.positions.durable()).then_some(lsn)
    }

    /// Before the running statement reads its snapshot for the first time: what earlier statements found under locks must be in
    /// it. Only readers wait, so that a row that everybody updates is not held until the update before is durable.
    fn settle(&self) -> Result<()> {
        let lsn = self.unsettled.load(Ordering::Acquire);
        if lsn == 0 {
            return Ok(());
        }
        self.engine.block_durable(Lsn(lsn))?;
        let mut state = self.shared.state.lock();
        if self.unsettled.swap(0, Ordering::AcqRel) != 0 {
            let durable = self.engine.positions.durable();
            if self.options.isolation != IsolationLevel::ReadCommitted {
                state.transaction_snapshot = Some(durable);
            }
            self.set_snapshot(durable);
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            let text = "cannot write in a read-only transaction";
            return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, text));
        }
        Ok(())
    }

    /// Where committed rows of a tree are read: `None` for an own tree without any.
    fn base_of(&self, state: &State, tree: TreeId) -> Option<Lsn> {
        match state.trees.own(tree) {
            Some(own) => own.loaded,
            None => {
                let at = self.snapshot_lsn();
                (!self.engine.sequencer.attached_after(tree, at)).then_some(at)
            }
        }
    }

    fn write(&self, tree: TreeId, key: &[u8], write: Write) -> Result<()> {
        self.check_writable()?;
        storage::btree::check_limits(key, write.value().map(|value| &**value)).map_err(crate::cache::tree_error)?;
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        state.overlay.write(tree, key, write)
    }

    /// Undoes creations, loads and drops after a mark.
    fn undo_trees(&self, state: &mut State, mark: TreesMark) {
        // A cancel must not leave it half done.
        let _whole = crate::blocking::shielded();
        state.trees.dropped.truncate(mark.dropped);
        let gone: Vec<OwnTree> = state.trees.created.drain(mark.created.min(state.trees.created.len())..).collect();
        for own in gone {
            state.overlay.forget_tree(own.tree);
            self.engine.reclaim_later(own.upkeep());
        }
        for own in &mut state.trees.created {
            if own.load.is_none_or(|number| number < mark.loads) {
                continue;
            }
            // The tree stays, its loaded rows go. A failure leaves rows of an aborted load readable by this
            // transaction alone; it cannot commit them, since what failed is this compute's log.
            if let Err(error) = self.engine.sequencer.reset_tree(own.tree) {
                tracing::error!(%error, tree = %own.tree, "cannot empty a tree after an aborted load");
            }
            (own.load, own.loaded) = (None, None);
            let runs = own.runs.split_off(1);
            self.engine.reclaim_later(runs.into_iter().map(PageRun::upkeep));
        }
    }

    /// The end of everything but the commit itself, which ends at `committed`.
    fn finish(&self, state: &mut State, committed: Option<Lsn>) {
        state.finished = true;
        state.overlay.clear();
        if let Some(lsn) = committed.max(self.undurable()) {
            let rows = state.row_locks.iter().map(|name| (*name, LockModes::NONE));
            let tables = state.table_locks.iter().map(|(table, modes)| (LockName::table(*table), *modes));
            rows.chain(tables).for_each(|(name, modes)| self.engine.locks.note_release(name, modes, lsn));
        }
        let tables = state.table_locks.drain(..).map(|(table, _)| LockName::table(table));
        let names = state.row_locks.drain(..).chain(tables);
        self.engine.locks.release(self.owner, names);
    }

    fn abort(&self, state: &mut State) {
        if state.finished {
            return;
        }
        self.finish(state, None);
        state.trees.dropped.clear();
        for own in std::mem::take(&mut state.trees.created) {
            self.engine.reclaim_later(own.upkeep());
        }
    }

    /// The writes with what the upkeep tree must learn.
    fn assemble(&self, state: &mut State) -> Result<(Commit, Vec<Upkeep>)> {
        let taken = state.overlay.take()?.into_iter();
        let mut trees: Vec<CommitTree> = taken.map(|writes| CommitTree { tree: writes.tree(), writes }).collect();
        let dropped = std::mem::take(&mut state.trees.dropped);
        trees.retain(|writes| !dropped.contains(&writes.tree));
        let (mut rows, mut reclaim, mut gone) = (TreeWrites::new(), Vec::new(), Vec::new());
        let mut attached = Vec::new();
        for mut own in std::mem::take(&mut state.trees.created) {
            if dropped.contains(&own.tree) {
                reclaim.extend(own.upkeep());
                continue;
            }
            if own.load.is_some() && own.loaded.is_none() {
                // Begun and never finished: nothing leads to its pages.
                reclaim.extend(own.runs.split_off(1).into_iter().map(PageRun::upkeep));
            }
            attached.push(own.tree);
            rows.extend(own.upkeep().map(|row| (Box::from(&row.key()[..]), Write::Delete)));
        }
        for tree in dropped {
            if reclaim.iter().any(|row| matches!(row, Upkeep::Run { first, .. } if *first == tree.0)) {
                continue;
            }
            let row = Upkeep::Dropped { tree };
            rows.insert(Box::from(&row.key()[..]), Write::Put(Bytes::from(row.value())));
            reclaim.push(row);
            gone.push(tree);
        }
        if !rows.is_empty() {
            let tree = self.engine.sequencer.upkeep_tree;
            trees.push(CommitTree { tree, writes: Writes::of_memory(tree, rows) });
            trees.sort_unstable_by_key(|writes| writes.tree);
        }
        Ok((Commit { trees, dropped: gone, attached }, reclaim))
    }
}

impl EngineTransaction {
    /// Locks many keys of a tree that others can see, whatever became of their rows.
    fn lock_rows(&self, tree: TreeId, keys: &[&[u8]]) -> Result<()> {
        let modes = LockModes::of_row(RowLockMode::Exclusive);
        for keys in keys.chunks(LOCKS_AT_A_TIME) {
            let mut new: SmallVec<[LockName; LOCKS_AT_A_TIME]> = SmallVec::new();
            let outcome = keys.iter().try_for_each(|key| {
                let name = LockName::row(tree, key);
                let interrupt = &self.shared.interrupt;
                if self.engine.locks.acquire(self.owner, name, modes, WaitPolicy::Block, interrupt)? == Acquired::New {
                    new.push(name);
                }
                self.build_on(name, modes);
                Ok::<(), SqlError>(())
            });
            let mut state = self.shared.state.lock();
            if state.finished {
                drop(state);
                self.engine.locks.release(self.owner, new);
                return Err(over());
            }
            state.row_locks.extend(new);
            outcome?;
            if state.row_locks.len() >= state.escalate_at {
                self.escalate(&mut state)?;
            }
        }
        Ok(())
    }

    /// Whether nothing stands at any of the keys, one by one.
    fn none_latest(&self, tree: TreeId, keys: &[&[u8]]) -> Result<bool> {
        for key in keys {
            if self.get_latest(tree, key)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Exchanges row locks for locks of whole trees, where nobody else is in the way.
    #[cold]
    fn escalate(&self, state: &mut State) -> Result<()> {
        let mut counts: hashbrown::HashMap<TreeId, usize> = hashbrown::HashMap::new();
        for tree in state.row_locks.iter().filter_map(|name| name.tree_of_row()) {
            *counts.entry(tree).or_default() += 1;
        }
        for (tree, _) in counts.into_iter().filter(|(_, count)| *count >= ROW_LOCKS / 8) {
            if let Some(name) = self.engine.locks.escalate(self.owner, tree) {
                state.row_locks.retain(|row| row.tree_of_row() != Some(tree));
                state.row_locks.push(name);
            }
        }
        state.row_locks.shrink_to(ROW_LOCKS);
        if state.row_locks.len() >= MOST_ROW_LOCKS {
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory for row locks")
                .with_detail(format!("The transaction has locked {MOST_ROW_LOCKS} rows."))
                .with_hint("Lock the table first, or split the transaction."));
        }
        // Each attempt looks at all locks there are.
        state.escalate_at = (state.row_locks.len() / 2 * 3).clamp(ROW_LOCKS, MOST_ROW_LOCKS);
        Ok(())
    }

    /// In one go within the sequencer, or, if there is much of it, mostly outside.
    fn commit_assembled(&self, commit: &Commit) -> Result<Lsn> {
        if !large::is_large(&self.engine, commit)?
            && let Some(lsn) = self.engine.sequencer.commit(commit)?
        {
            return Ok(lsn);
        }
        large::commit(&self.engine, &self.shared.interrupt, commit)
    }
}

impl OwnTree {
    /// The rows that name its pages in the upkeep tree.
    fn upkeep(&self) -> impl Iterator<Item = Upkeep> + use<> {
        self.runs.clone().into_iter().map(PageRun::upkeep)
    }
}

fn over() -> SqlError {
    SqlError::new(SqlState::INVALID_TRANSACTION_STATE, "the transaction has ended")
}

impl Transaction for EngineTransaction {
    fn snapshot_lsn(&self) -> Lsn {
        Lsn(self.snapshot_lsn.load(Ordering::Acquire))
    }

    fn options(&self) -> TransactionOptions {
        self.options
    }

    fn begin_statement(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        let durable = self.engine.positions.durable();
        let read_committed = self.options.isolation == IsolationLevel::ReadCommitted;
        let is_new = read_committed || state.transaction_snapshot.is_none();
        let unsettled = self.undurable().filter(|_| is_new).unwrap_or(Lsn::ZERO);
        self.unsettled.store(unsettled.0, Ordering::Release);
        let lsn = if read_committed { durable } else { *state.transaction_snapshot.get_or_insert(durable) };
        self.set_snapshot(lsn);
        state.statement_mark = state.mark();
        Ok(())
    }

    fn begin_statement_at_newest(&self) -> Result<()> {
        self.engine.block_durable(self.engine.positions.applied())?;
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        let durable = self.engine.positions.durable();
        state.transaction_snapshot.get_or_insert(durable);
        self.unsettled.store(0, Ordering::Release);
        self.set_snapshot(durable);
        state.statement_mark = state.mark();
        Ok(())
    }

    fn end_statement(&self, outcome: StatementOutcome) {
        let mut state = self.shared.state.lock();
        let keep = outcome == StatementOutcome::Keep;
        state.overlay.end_statement(keep);
        let mark = state.statement_mark;
        if !keep && !state.finished {
            self.undo_trees(&mut state, mark);
        }
        state.statement_mark = state.mark();
    }

    fn savepoint(&self) -> SavepointId {
        let mut state = self.shared.state.lock();
        let id = state.overlay.savepoint();
        let mark = state.mark();
        state.savepoint_marks.push((id, mark));
        id
    }

    fn rollback_to(&self, savepoint: SavepointId) {
        let mut state = self.shared.state.lock();
        state.overlay.rollback_to(savepoint);
        let Some(position) = state.savepoint_marks.iter().position(|(id, _)| *id == savepoint) else { return };
        state.savepoint_marks.truncate(position + 1);
        let mark = state.savepoint_marks[position].1;
        if !state.finished {
            self.undo_trees(&mut state, mark);
        }
        state.statement_mark = state.mark();
    }

    fn release(&self, savepoint: SavepointId) {
        let mut state = self.shared.state.lock();
        state.overlay.release(savepoint);
        state.savepoint_marks.retain(|(id, _)| *id < savepoint);
    }

    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        self.settle()?;
        let at = {
            let state = self.shared.state.lock();
            if let Some(write) = state.overlay.joined(tree, key)? {
                return Ok(write.value().cloned());
            }
            self.base_of(&state, tree)
        };
        match at {
            Some(at) => read::get_at(&self.engine.cache, tree, key, at),
            None => Ok(None),
        }
    }

    fn scan(&self, tree: TreeId, range: KeyRange, direction: Direction) -> Result<Box<dyn Cursor>> {
        self.settle()?;
        let (at, overlay) = {
            let state = self.shared.state.lock();
            (self.base_of(&state, tree), state.overlay.tree(tree)?)
        };
        let overlay = overlay.map(|writes| {
            let (lower, upper) = (range.lower.as_ref().map(|key| &key[..]), range.upper.as_ref().map(|key| &key[..]));
            writes.cursor(lower, upper, direction == Direction::Forward)
        });
        let overlay = overlay.transpose()?;
        let interrupt = self.shared.interrupt.clone();
        Ok(Box::new(MergeCursor::new(&self.engine.cache, tree, at, overlay, range, direction, interrupt)))
    }

    fn get_latest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        let own = {
            let state = self.shared.state.lock();
            let write = match state.overlay.of_statement(tree, key)? {
                Some(write) => Some(write),
                None => state.overlay.joined(tree, key)?,
            };
            if let Some(write) = write {
                return Ok(write.value().cloned());
            }
            state.trees.own(tree).map(|own| own.loaded)
        };
        match own {
            Some(None) => Ok(None),
            Some(Some(at)) => read::get_at(&self.engine.cache, tree, key, at),
            None => read::get_newest(&self.engine.sequencer, tree, key),
        }
    }

    fn lock_row(&self, tree: TreeId, key: &[u8], mode: RowLockMode, wait: WaitPolicy) -> Result<LockedRow> {
        {
            let state = self.shared.state.lock();
            if state.finished {
                return Err(over());
            }
            if state.overlay.of_statement(tree, key)?.is_some() {
                return Ok(LockedRow::WrittenByThisStatement);
            }
            // Nobody else can see the tree.
            if state.trees.own(tree).is_some() {
                return Ok(LockedRow::Unchanged);
            }
        }
        let name = LockName::row(tree, key);
        let modes = LockModes::of_row(mode);
        match self.engine.locks.acquire(self.owner, name, modes, wait, &self.shared.interrupt)? {
            Acquired::Skipped => return Ok(LockedRow::Skipped),
            acquired => {
                self.build_on(name, modes);
                let mut state = self.shared.state.lock();
                if acquired == Acquired::New {
                    if state.finished {
                        drop(state);
                        self.engine.locks.release(self.owner, [name]);
                        return Err(over());
                    }
                    state.row_locks.push(name);
                    if state.row_locks.len() >= state.escalate_at {
                        self.escalate(&mut state)?;
                    }
                }
                // Written by an earlier statement, so locked since then.
                if state.overlay.joined(tree, key)?.is_some() {
                    return Ok(LockedRow::Unchanged);
                }
            }
        }
        let since = read::changed_since(&self.engine.sequencer, tree, key, self.snapshot_lsn())?;
        let changed = match since {
            Since::Unchanged => return Ok(LockedRow::Unchanged),
            Since::Deleted => LockedRow::Deleted,
            Since::Changed(value) => LockedRow::Changed(value),
        };
        if self.options.isolation == IsolationLevel::ReadCommitted {
            return Ok(changed);
        }
        let what = if changed == LockedRow::Deleted { "delete" } else { "update" };
        let text = format!("could not serialize access due to concurrent {what}");
        Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, text))
    }

    fn lock_table(&self, table: u64, mode: TableLockMode, wait: WaitPolicy) -> Result<bool> {
        let modes = LockModes::of(mode);
        {
            let state = self.shared.state.lock();
            if state.finished {
                return Err(over());
            }
            let held = state.table_locks.iter().find(|(locked, _)| *locked == table);
            if held.is_some_and(|(_, held)| held.contains(modes)) {
                return Ok(true);
            }
        }
        let name = LockName::table(table);
        let acquired = self.engine.locks.acquire(self.owner, name, modes, wait, &self.shared.interrupt)?;
        if acquired == Acquired::Skipped {
            return Ok(false);
        }
        self.build_on(name, modes);
        let mut state = self.shared.state.lock();
        if state.finished {
            drop(state);
            self.engine.locks.release(self.owner, [name]);
            return Err(over());
        }
        match state.table_locks.iter_mut().find(|(locked, _)| *locked == table) {
            Some((_, held)) => *held = held.union(modes),
            None => state.table_locks.push((table, modes)),
        }
        Ok(true)
    }

    fn put(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<()> {
        self.write(tree, key, Write::Put(value))
    }

    fn delete(&self, tree: TreeId, key: &[u8]) -> Result<()> {
        self.write(tree, key, Write::Delete)
    }

    fn claim_absent(&self, tree: TreeId, keys: &[&[u8]]) -> Result<bool> {
        let Some(first) = keys.first() else { return Ok(true) };
        if !self.is_own_tree(tree) {
            self.lock_rows(tree, keys)?;
        }
        {
            let state = self.shared.state.lock();
            let ends_before = state.overlay.ends_before(tree, first);
            if let Some(own) = state.trees.own(tree) {
                if own.loaded.is_none() && ends_before {
                    return Ok(true);
                }
                drop(state);
                return self.none_latest(tree, keys);
            }
            if !ends_before {
                for key in keys {
                    let written = match state.overlay.of_statement(tree, key)? {
                        Some(write) => Some(write),
                        None => state.overlay.joined(tree, key)?,
                    };
                    // Deleted here, and to be inserted again: the tree below has it still.
                    if written.is_some() {
                        drop(state);
                        return self.none_latest(tree, keys);
                    }
                }
            }
        }
        read::none_stands(&self.engine.sequencer, tree, keys)
    }

    fn put_all(&self, tree: TreeId, rows: Vec<(&[u8], Bytes)>) -> Result<()> {
        self.check_writable()?;
        for (key, value) in &rows {
            storage::btree::check_limits(key, Some(value)).map_err(crate::cache::tree_error)?;
        }
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        state.overlay.write_all(tree, rows.into_iter().map(|(key, value)| (key, Write::Put(value))))
    }

    fn create_tree(&self) -> Result<TreeId> {
        self.check_writable()?;
        let tree = self.engine.sequencer.create_tree()?;
        let mut state = self.shared.state.lock();
        let own = OwnTree { tree, load: None, loaded: None, runs: vec![PageRun { first: tree.0, pages: 1 }] };
        if state.finished {
            self.engine.reclaim_later(own.upkeep());
            return Err(over());
        }
        state.trees.created.push(own);
        Ok(tree)
    }

    fn drop_tree(&self, tree: TreeId) -> Result<()> {
        self.check_writable()?;
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        if !state.trees.dropped.contains(&tree) {
            state.trees.dropped.push(tree);
        }
        Ok(())
    }

    fn is_own_tree(&self, tree: TreeId) -> bool {
        self.shared.state.lock().trees.own(tree).is_some()
    }

    fn bulk_load(&self, tree: TreeId) -> Result<Box<dyn BulkLoader>> {
        self.check_writable()?;
        {
            let mut state = self.shared.state.lock();
            let written = state.overlay.has_written_to(tree) || state.finished;
            let number = state.loads;
            let own = state.trees.created.iter_mut().find(|own| own.tree == tree);
            let Some(own) = own.filter(|own| own.load.is_none() && !written) else {
                return Err(SqlError::internal("bulk load into a tree that is not new and empty"));
            };
            own.load = Some(number);
            state.loads += 1;
        }
        Ok(Box::new(Loader::new(self.engine.clone(), self.shared.clone(), tree)))
    }

    fn check_pages(
        &self,
        trees: &[TreeId],
        whole: bool,
        found: &mut dyn FnMut(PageProblem) -> Result<()>,
    ) -> Result<()> {
        let trees: Vec<TreeId> = {
            let state = self.shared.state.lock();
            trees.iter().copied().filter(|tree| state.trees.own(*tree).is_none()).collect()
        };
        let interrupted = || self.shared.interrupt.check();
        check_pages(&self.engine.sequencer, self.snapshot_lsn(), &trees, whole, &interrupted, found)
    }

    fn commit(&self) -> Result<Option<Lsn>> {
        let mut state = self.shared.state.lock();
        if state.finished {
            return Err(over());
        }
        if state.overlay.is_empty() && state.trees.created.is_empty() && state.trees.dropped.is_empty() {
            self.finish(&mut state, None);
            // What it was shown under locks must last, too.
            return Ok(self.undurable());
        }
        let runs: Vec<Upkeep> = state.trees.created.iter().flat_map(OwnTree::upkeep).collect();
        let (commit, reclaim) = match self.assemble(&mut state) {
            Ok(assembled) => assembled,
            Err(error) => {
                self.abort(&mut state);
                return Err(error);
            }
        };
        if commit.trees.is_empty() {
            self.finish(&mut state, None);
            self.engine.reclaim_later(reclaim);
            return Ok(self.undurable());
        }
        let outcome = self.commit_assembled(&commit);
        self.finish(&mut state, outcome.as_ref().ok().copied());
        drop(state);
        // All locks are released: only its own client waits.
        self.engine.governor.pay_commit();
        match outcome {
            Ok(lsn) => {
                self.engine.reclaim_later(reclaim);
                Ok(Some(lsn))
            }
            Err(error) => {
                self.engine.reclaim_later(runs);
                Err(error)
            }
        }
    }

    fn rollback(&self) {
        let mut state = self.shared.state.lock();
        self.abort(&mut state);
    }

    fn interrupt(&self) -> &Arc<Interrupt> {
        &self.shared.interrupt
    }
}

impl Drop for EngineTransaction {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        self.abort(&mut state);
    }
}
