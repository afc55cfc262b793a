//! Bulk loading: pages written bottom-up, logged in bounded batches, attached at the end.
//!
//! The load's pages are in the log before anything leads to them; the upkeep tree names them until the
//! transaction commits. Memory at hand: one page a level, and one batch.

use std::sync::Arc;

use sql::error::{Result, SqlError};
use sql::store::{BulkLoader, BulkPush};
use storage::btree::TreeError;
use storage::bulk::{BulkBuilder, BulkSink, Pushed};
use storage::record::{Record, RedoOp};
use storage::{Lsn, PageNo, TreeId};

use super::handle::Shared;
use crate::engine::Engine;
use crate::sequencer::{PageRun, SequencerError};

/// Page numbers taken at a time: first a few, for the many small tables.
const FIRST_RUN_PAGES: u64 = 16;
const LAST_RUN_PAGES: u64 = 1024;
/// Pages written in one batch, half a megabyte: short enough not to hold up other commits.
const BATCH_PAGES: usize = 64;
/// Loaded log that may be on its way before the loader waits.
const UNDURABLE_LIMIT_BYTES: u64 = 16 << 20;
const FILL_PERCENT: u8 = 90;

/// See the module.
pub(super) struct Loader {
    engine: Arc<Engine>,
    transaction: Arc<Shared>,
    tree: TreeId,
    builder: Option<BulkBuilder>,
    sink: Sink,
}

struct Sink {
    engine: Arc<Engine>,
    transaction: Arc<Shared>,
    tree: TreeId,
    run: Option<PageRun>,
    used: u64,
    next_run_pages: u64,
    /// Finished pages, not written yet: encoded records.
    records: Vec<Vec<u8>>,
}

/// What building can fail with.
#[derive(Debug)]
pub(super) enum LoadError {
    Tree(TreeError),
    Sql(SqlError),
}

impl From<TreeError> for LoadError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<LoadError> for SqlError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Sql(error) => error,
            LoadError::Tree(error) => SequencerError::Broken(error).into(),
        }
    }
}

impl Loader {
    pub(super) fn new(engine: Arc<Engine>, transaction: Arc<Shared>, tree: TreeId) -> Self {
        let sink = Sink {
            engine: engine.clone(),
            transaction: transaction.clone(),
            tree,
            run: None,
            used: 0,
            next_run_pages: FIRST_RUN_PAGES,
            records: Vec::new(),
        };
        Self { engine, transaction, tree, builder: Some(BulkBuilder::new(tree, FILL_PERCENT)), sink }
    }
}

impl BulkSink for Sink {
    type Error = LoadError;

    fn allocate(&mut self) -> Result<PageNo, LoadError> {
        let run = match self.run.filter(|run| self.used < run.pages) {
            Some(run) => run,
            None => {
                let run = self.engine.sequencer.take_run(self.next_run_pages).map_err(LoadError::Sql)?;
                self.transaction.add_run(self.tree, run);
                self.next_run_pages = (2 * self.next_run_pages).min(LAST_RUN_PAGES);
                self.used = 0;
                *self.run.insert(run)
            }
        };
        self.used += 1;
        Ok(PageNo(run.first.0 + self.used - 1))
    }

    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), LoadError> {
        let mut record = Vec::new();
        Record { page, op: *op }.encode(&mut record);
        self.records.push(record);
        if self.records.len() >= BATCH_PAGES {
            self.flush().map_err(LoadError::Sql)?;
        }
        Ok(())
    }
}

impl Sink {
    fn flush(&mut self) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.transaction.interrupt.check()?;
        self.engine.sequencer.cache.make_room_for(self.records.len())?;
        let lsn = self.engine.sequencer.write_loaded(&self.records)?;
        self.records.clear();
        // What is not durable cannot be evicted: the load must not fill the memory with it.
        if lsn.since(self.engine.positions.durable().min(lsn)) > UNDURABLE_LIMIT_BYTES {
            self.engine.block_durable(Lsn(lsn.0 - UNDURABLE_LIMIT_BYTES / 2))?;
        }
        Ok(())
    }
}

impl BulkLoader for Loader {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<BulkPush> {
        let builder = self.builder.as_mut().expect("taken by `finish` only, which consumes the loader");
        match builder.push(&mut self.sink, key, value)? {
            Pushed::Added => Ok(BulkPush::Added),
            Pushed::OutOfOrder => Ok(BulkPush::OutOfOrder),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let builder = self.builder.take().expect("a loader is finished once");
        if builder.rows() == 0 {
            return Ok(());
        }
        let loaded = builder.finish(&mut self.sink)?;
        self.sink.flush()?;
        let last = self.sink.run.map(|run| (run, self.sink.used));
        let lsn = self.engine.sequencer.attach_loaded(self.tree, &loaded, last)?;
        if let Some((run, used)) = last {
            self.transaction.shorten_run(self.tree, run, used);
        }
        // The load is read at its own LSN, and only what is durable can be read.
        self.engine.block_durable(lsn)?;
        self.transaction.set_loaded(self.tree, lsn);
        Ok(())
    }
}
