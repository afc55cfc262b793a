//! [`PageSink`]: pages written to the log before anything leads to them.
//!
//! Their numbers come in runs that the upkeep tree names until somebody attaches them, so neither a crash nor an
//! abort leaves a page that nobody knows. They are logged in bounded batches, and can be evicted once they are
//! durable: whoever writes a gigabyte holds half a megabyte of it.

use std::sync::Arc;

use sql::error::{Result, SqlError};
use sql::store::Interrupt;
use storage::btree::TreeError;
use storage::bulk::BulkSink;
use storage::record::{Record, RedoOp};
use storage::{Lsn, PageNo, TreeId};

use super::handle::Shared;
use crate::cache::CacheError;
use crate::engine::Engine;
use crate::sequencer::{PageRun, SequencerError};

/// Page numbers taken at a time: first a few, for the many small tables.
const FIRST_RUN_PAGES: u64 = 16;
const LAST_RUN_PAGES: u64 = 1024;
/// Pages written in one batch, half a megabyte: short enough not to hold up other commits.
const BATCH_PAGES: usize = 64;
/// Loaded log that may be on its way before the loader waits.
const UNDURABLE_LIMIT_BYTES: u64 = 16 << 20;

/// See the module.
pub(super) struct PageSink {
    engine: Arc<Engine>,
    interrupt: Arc<Interrupt>,
    /// Where runs are noted as soon as they are taken.
    owner: Option<(Arc<Shared>, TreeId)>,
    runs: Vec<PageRun>,
    /// Of the last run.
    used: u64,
    allocated: u64,
    next_run_pages: u64,
    /// Finished pages, not written yet: encoded records.
    records: Vec<Vec<u8>>,
    /// A sixteenth of a small cache: they stay there until they are durable.
    batch_pages: usize,
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

impl From<CacheError> for LoadError {
    fn from(error: CacheError) -> Self {
        Self::Sql(error.into())
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

impl PageSink {
    /// Runs belong to a tree that the transaction has made.
    pub(super) fn of_tree(engine: Arc<Engine>, transaction: Arc<Shared>, tree: TreeId) -> Self {
        let interrupt = transaction.interrupt.clone();
        Self { owner: Some((transaction, tree)), ..Self::new(engine, interrupt) }
    }

    /// Runs are the caller's to attach or to give back.
    pub(super) fn new(engine: Arc<Engine>, interrupt: Arc<Interrupt>) -> Self {
        Self {
            batch_pages: BATCH_PAGES.min(engine.cache.capacity_pages() as usize / 16).max(1),
            engine,
            interrupt,
            owner: None,
            runs: Vec::new(),
            used: 0,
            allocated: 0,
            next_run_pages: FIRST_RUN_PAGES,
            records: Vec::new(),
        }
    }

    /// The runs taken so far.
    pub(super) fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// The last run, and how many of its numbers are in use.
    pub(super) fn last_run(&self) -> Option<(PageRun, u64)> {
        self.runs.last().map(|run| (*run, self.used))
    }

    /// Numbers handed out so far.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The numbers from the `from`th to before the `to`th, in the order in which they were handed out.
    pub(super) fn numbers(&self, from: u64, to: u64) -> Vec<PageNo> {
        let mut numbers = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            let (first, end) = (from.max(start), to.min(start + run.pages));
            numbers.extend((first..end.max(first)).map(|number| PageNo(run.first.0 + number - start)));
            start += run.pages;
        }
        numbers
    }

    /// Writes what is at hand.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.interrupt.check()?;
        self.engine.sequencer.cache.make_room_for(self.records.len())?;
        let lsn = self.engine.sequencer.write_loaded(&self.records)?;
        self.records.clear();
        // What is not durable cannot be evicted: the load must not fill the memory with it.
        let limit = UNDURABLE_LIMIT_BYTES.min(self.engine.config.memory_bytes as u64 / 8);
        if lsn.since(self.engine.positions.durable().min(lsn)) > limit {
            self.engine.block_durable(Lsn(lsn.0 - limit / 2))?;
        }
        self.engine.governor.pay()?;
        Ok(())
    }
}

impl BulkSink for PageSink {
    type Error = LoadError;

    fn allocate(&mut self) -> Result<PageNo, LoadError> {
        let run = match self.runs.last().filter(|run| self.used < run.pages) {
            Some(run) => *run,
            None => {
                let run = self.engine.sequencer.take_run(self.next_run_pages).map_err(LoadError::Sql)?;
                if let Some((transaction, tree)) = &self.owner {
                    transaction.add_run(*tree, run);
                }
                self.runs.push(run);
                self.next_run_pages = (2 * self.next_run_pages).min(LAST_RUN_PAGES);
                self.used = 0;
                run
            }
        };
        self.used += 1;
        self.allocated += 1;
        Ok(PageNo(run.first.0 + self.used - 1))
    }

    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), LoadError> {
        let mut record = Vec::new();
        Record { page, op: *op }.encode(&mut record);
        self.records.push(record);
        if self.records.len() >= self.batch_pages {
            self.flush().map_err(LoadError::Sql)?;
        }
        Ok(())
    }
}
