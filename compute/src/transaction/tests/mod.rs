//! The engine from begin to durable, over a log and page servers in memory.

mod basics;
mod check;
mod claims;
mod concurrent;
mod interrupts;
mod large;
mod model;
mod record;

use std::sync::Arc;

use bytes::Bytes;
use sql::error::Result;
use sql::store::{Interrupt, IsolationLevel, Store, Transaction, TransactionOptions};
use storage::{BranchId, TreeId};
use tokio::runtime::Runtime;

use crate::testing::{MemoryLog, ReplayPages};
use crate::{Compute, ComputeConfig};

/// A compute with what it stands on. Tests run on plain threads, beside its runtime.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) log: Arc<MemoryLog>,
    pub(super) pages: Arc<ReplayPages>,
    pub(super) compute: Arc<Compute>,
    config: ComputeConfig,
    _spilled: Option<tempfile::TempDir>,
}

impl World {
    /// A new branch, with a cache of that many pages.
    pub(super) fn new(cache_pages: usize) -> Self {
        Self::on(MemoryLog::default(), cache_pages)
    }

    pub(super) fn on(log: MemoryLog, cache_pages: usize) -> Self {
        Self::with(log, config(cache_pages), None)
    }

    /// A new branch, whose transactions hold that many bytes of writes in memory.
    pub(super) fn spilling(cache_pages: usize, limit_bytes: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = ComputeConfig {
            transaction_limit_bytes: limit_bytes,
            transactions_limit_bytes: 4 * limit_bytes,
            spill_directory: Some(directory.path().to_owned()),
            ..config(cache_pages)
        };
        Self::with(MemoryLog::default(), config, Some(directory))
    }

    fn with(log: MemoryLog, config: ComputeConfig, spilled: Option<tempfile::TempDir>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let log = Arc::new(log);
        let pages = Arc::new(ReplayPages::new(log.clone()));
        let compute = runtime.block_on(start(&log, &pages, &config));
        Self { runtime, log, pages, compute, config, _spilled: spilled }
    }

    /// Stops the compute and starts another at the end of the log.
    pub(super) fn restart(&mut self, cache_pages: usize) {
        self.config.memory_bytes = cache_pages * storage::page::PAGE_SIZE_BYTES;
        self.runtime.block_on(self.compute.shutdown()).expect("shutdown");
        self.compute = self.runtime.block_on(start(&self.log, &self.pages, &self.config));
    }

    pub(super) fn begin(&self) -> Arc<dyn Transaction> {
        self.begin_at(IsolationLevel::ReadCommitted)
    }

    pub(super) fn begin_at(&self, isolation: IsolationLevel) -> Arc<dyn Transaction> {
        begin(&self.compute, isolation)
    }

    /// Commits and waits until it is durable.
    pub(super) fn commit(&self, transaction: &Arc<dyn Transaction>) -> Result<()> {
        match transaction.commit()? {
            Some(lsn) => self.runtime.block_on(self.compute.wait_durable(lsn)),
            None => Ok(()),
        }
    }

    /// A committed empty tree.
    pub(super) fn tree(&self) -> TreeId {
        let transaction = self.begin();
        let tree = transaction.create_tree().expect("create");
        self.commit(&transaction).expect("commit");
        tree
    }

    pub(super) fn put(&self, tree: TreeId, rows: &[(&str, &str)]) {
        let transaction = self.begin();
        transaction.begin_statement().expect("statement");
        for (key, value) in rows {
            put(&transaction, tree, key, value);
        }
        transaction.end_statement(sql::store::StatementOutcome::Keep);
        self.commit(&transaction).expect("commit");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.log.hold(false);
        let _ = self.runtime.block_on(self.compute.shutdown());
    }
}

fn config(cache_pages: usize) -> ComputeConfig {
    ComputeConfig {
        memory_bytes: cache_pages * storage::page::PAGE_SIZE_BYTES,
        transaction_limit_bytes: 64 << 20,
        ..ComputeConfig::new(BranchId(1), 0)
    }
}

async fn start(log: &Arc<MemoryLog>, pages: &Arc<ReplayPages>, config: &ComputeConfig) -> Arc<Compute> {
    Compute::start(config.clone(), log.clone(), pages.clone()).await.expect("start")
}

pub(super) fn begin(compute: &Arc<Compute>, isolation: IsolationLevel) -> Arc<dyn Transaction> {
    let options = TransactionOptions { isolation, read_only: false };
    compute.begin(options, Arc::new(Interrupt::default())).expect("begin")
}

pub(super) fn put(transaction: &Arc<dyn Transaction>, tree: TreeId, key: &str, value: &str) {
    transaction.put(tree, key.as_bytes(), Bytes::copy_from_slice(value.as_bytes())).expect("put");
}

pub(super) fn text(value: Option<Bytes>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

/// All rows that a transaction sees, by a forward scan checked against a backward one.
pub(super) fn rows(transaction: &Arc<dyn Transaction>, tree: TreeId) -> Vec<(String, String)> {
    use sql::store::{Direction, KeyRange};
    let read = |direction| {
        let mut cursor = transaction.scan(tree, KeyRange::ALL, direction).expect("scan");
        let mut rows = Vec::new();
        while cursor.advance().expect("advance") {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            rows.push((text(cursor.key()), text(cursor.value())));
        }
        rows
    };
    let forward = read(Direction::Forward);
    let mut backward = read(Direction::Backward);
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}
