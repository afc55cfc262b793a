//! [`Compute`]: one primary, from start to shutdown, and the [`Store`] that SQL runs on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use logstore::client::{LogClient, LogError};
use pageserver::client::PageClient;
use parking_lot::Mutex;
use sql::error::{Result, SqlError, SqlState};
use sql::store::{Interrupt, LogLimit, Store, Transaction, TransactionOptions};
use storage::page::Page;
use storage::{Lsn, PageNo, TreeId};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::blocking::block_on;
use crate::cache::{CacheConfig, PageCache, Upkeep};
use crate::config::ComputeConfig;
use crate::engine::Engine;
use crate::governor::{Governor, Watch};
use crate::lock::LockTable;
use crate::metrics::Metrics;
use crate::positions::Positions;
use crate::reclaim::{ReclaimQueue, Reclaimer};
use crate::sequencer::{Commit, CommitTree, Sequencer};
use crate::shipper::{Destination, Shipper, drive};
use crate::snapshot::Snapshots;
use crate::transaction::{EngineTransaction, Spilling, TreeWrites, Write, Writes, get_newest, last_key};

/// One compute, primary of its branch until another takes the next epoch.
pub struct Compute {
    engine: Arc<Engine>,
    /// Threads and tasks; gone after shutdown.
    running: Mutex<Option<Running>>,
}

struct Running {
    driver: JoinHandle<()>,
    _governing: Watch,
    _metrics: Metrics,
    _reclaimer: Reclaimer,
    _upkeep: Upkeep,
}

/// Why a compute could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log service did not grant an epoch.
    #[error("cannot become the primary: {0}")]
    Log(#[from] LogError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The branch's first batch could not be written.
    #[error("cannot initialize the branch: {0}")]
    Initialize(SqlError),
}

impl Compute {
    /// Takes the next epoch and opens at the end of the log. There is nothing to recover: the pages come as
    /// they are asked for. Call it on the runtime that is to drive the log and the page servers' clients; it
    /// has several threads.
    pub async fn start(
        config: ComputeConfig,
        log: Arc<dyn LogClient>,
        pages: Arc<dyn PageClient>,
    ) -> Result<Arc<Self>, StartError> {
        let runtime = Handle::current();
        let grant = log.acquire_epoch(config.branch).await?;
        let positions = Arc::new(Positions::new(grant.end_lsn));
        let snapshots = Arc::new(Snapshots::default());
        let cache_config = CacheConfig {
            branch: config.branch,
            memory_bytes: config.memory_bytes,
            client: pages.clone(),
            runtime: runtime.clone(),
        };
        let cache = Arc::new(PageCache::new(cache_config, grant, positions.clone(), snapshots.clone()));
        let upkeep = Upkeep::start(cache.clone())?;
        let (shipper, groups) = Shipper::new(positions.clone());
        let sequencer =
            Arc::new(Sequencer::new(cache.clone(), positions.clone(), shipper.clone(), config.clock.clone()));
        let to = Destination { log: log.clone(), branch: config.branch, epoch: grant.epoch };
        let driver = tokio::spawn(drive(shipper.clone(), groups, to, cache.clone(), Arc::downgrade(&sequencer)));
        if grant.end_lsn == Lsn::ZERO {
            let lsn = sequencer.initialize().map_err(StartError::Initialize)?;
            shipper.wait_durable(lsn).await.map_err(StartError::Initialize)?;
        }
        let engine = Arc::new(Engine {
            spilling: Spilling::new(&config),
            config,
            runtime,
            positions,
            snapshots,
            cache,
            sequencer,
            shipper,
            governor: Governor::default(),
            locks: LockTable::new(),
            reclaim: Arc::new(ReclaimQueue::default()),
            next_owner: AtomicU64::new(1),
        });
        let reclaimer = Reclaimer::start(&engine)?;
        let metrics = Metrics::start(&engine);
        let governing = Watch::start(&engine, grant.epoch, log, pages);
        let running =
            Running { driver, _governing: governing, _metrics: metrics, _reclaimer: reclaimer, _upkeep: upkeep };
        Ok(Arc::new(Self { engine, running: Mutex::new(Some(running)) }))
    }

    /// Waits until everything committed is durable, then stops threads and tasks. Transactions that are
    /// still open fail at their commit. Idempotent.
    pub async fn shutdown(&self) -> Result<()> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let applied = self.engine.positions.applied();
        let outcome = self.engine.shipper.wait_durable(applied).await;
        self.engine.shipper.fail(SqlError::new(SqlState::ADMIN_SHUTDOWN, "this compute is shutting down"));
        running.driver.abort();
        // Threads are joined, which must not hold up the runtime.
        let joined = tokio::task::spawn_blocking(move || drop(running)).await;
        if joined.is_err() {
            tracing::error!("a thread of the compute panicked while it stopped");
        }
        outcome
    }

    /// The branch's LSNs: applied, sealed, durable.
    pub fn positions(&self) -> (Lsn, Lsn, Lsn) {
        let positions = &self.engine.positions;
        (positions.applied(), positions.sealed(), positions.durable())
    }

    /// What slows writers now, most often nothing.
    pub fn log_limits(&self) -> Vec<LogLimit> {
        self.engine.governor.limits()
    }

    /// Resolves when this compute accepts no more writes for good, with the reason: see [`Compute::failure`].
    pub async fn failed(&self) -> SqlError {
        self.engine.shipper.failed().await
    }

    /// Why this compute accepts no more writes, if it does not: it was fenced, the log refused for good, or it stops.
    pub fn failure(&self) -> Option<SqlError> {
        self.engine.shipper.failure()
    }

    /// The copy of a page that this compute has in memory as of a durable LSN, if it has one. Readers never
    /// need it: this is how tests and checks compare what the tiers hold.
    pub fn page_in_memory(&self, page: PageNo, at: Lsn) -> Option<Box<Page>> {
        (at <= self.engine.positions.durable()).then(|| self.engine.cache.resident_copy(page, at))?
    }

    /// True when no dropped or abandoned pages await being given back.
    pub fn reclaiming_is_done(&self) -> bool {
        self.engine.reclaim.is_idle()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().take() {
            running.driver.abort();
        }
    }
}

impl Store for Compute {
    fn begin(&self, options: TransactionOptions, interrupt: Arc<Interrupt>) -> Result<Arc<dyn Transaction>> {
        Ok(Arc::new(EngineTransaction::begin(self.engine.clone(), options, interrupt)?))
    }

    fn durable_lsn(&self) -> Lsn {
        self.engine.positions.durable()
    }

    fn wait_durable(&self, lsn: Lsn) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(self.engine.shipper.wait_durable(lsn))
    }

    fn block_until_durable(&self, lsn: Lsn) -> Result<()> {
        if self.durable_lsn() >= lsn {
            return Ok(());
        }
        block_on(&self.engine.runtime, self.engine.shipper.wait_durable(lsn))?
    }

    fn put_immediate(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<Lsn> {
        storage::btree::check_limits(key, Some(&value)).map_err(crate::cache::tree_error)?;
        let writes = TreeWrites::from([(Box::from(key), Write::Put(value))]);
        let writes = Writes::of_memory(tree, writes);
        let commit = Commit { trees: vec![CommitTree { tree, writes }], ..Commit::default() };
        self.engine.sequencer.commit(&commit)?.ok_or_else(|| crate::cache::CacheError::NoRoom.into())
    }

    fn get_newest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>> {
        get_newest(&self.engine.sequencer, tree, key)
    }

    fn last_key(&self, tree: TreeId) -> Result<Option<Bytes>> {
        last_key(&self.engine.sequencer, tree)
    }

    fn catalog_tree(&self) -> TreeId {
        self.engine.sequencer.catalog_tree
    }

    fn catalog_version(&self) -> u64 {
        self.engine.sequencer.catalog_version()
    }

    fn log_limits(&self) -> Vec<LogLimit> {
        Compute::log_limits(self)
    }
}
