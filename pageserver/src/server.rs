//! A running page server: its tasks, its clients, its end.

use std::sync::Arc;

use async_trait::async_trait;
use logstore::client::LogClient;
use parking_lot::Mutex;
use storage::layer::DiskCache;
use storage::manifest::Manifest;
use storage::object::ObjectStore;
use storage::{BranchId, Lsn};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::caches::Caches;
use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::config::PageServerConfig;
use crate::owner::OwnerError;
use crate::scrub::{self, ScrubReport};
use crate::shard::Shard;
use crate::tasks::{self, Compactor};

/// Why a page server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page server of branch {branch} cannot take over its shard: {source}")]
pub struct StartError {
    /// The branch.
    pub branch: BranchId,
    /// What stood in the way.
    pub source: OwnerError,
}

/// Serves one shard from start to [`PageServer::shutdown`]. Dropping it without that stops it as a crash would.
#[derive(Debug)]
pub struct PageServer {
    shard: Arc<Shard>,
    /// Cancelled first, so that nothing more comes in.
    ingest: Mutex<Option<JoinHandle<()>>>,
    /// End by themselves once stopped. The flusher writes what is frozen before.
    others: Mutex<Vec<JoinHandle<()>>>,
}

impl PageServer {
    /// [`PageServer::start_beside`] no others.
    pub async fn start(
        config: PageServerConfig,
        store: ObjectStore,
        log: Arc<dyn LogClient>,
    ) -> Result<PageServer, StartError> {
        let caches = Caches::new(&config);
        PageServer::start_beside(config, &caches, store, log).await
    }

    /// Takes the shard over and begins to read the log where its layers end. Shares caches with others of the process.
    pub async fn start_beside(
        config: PageServerConfig,
        caches: &Caches,
        store: ObjectStore,
        log: Arc<dyn LogClient>,
    ) -> Result<PageServer, StartError> {
        let branch = config.branch;
        #[expect(clippy::disallowed_methods, reason = "the shell names the owner; Shard takes the name as an argument")]
        let writer = Uuid::new_v4();
        let shard = Shard::attach(config, caches, store, writer).await;
        let shard = Arc::new(shard.map_err(|source| StartError { branch, source })?);
        // Before anything else: the log must not be trimmed beyond what this server still needs.
        tasks::report(&shard, log.as_ref(), shard.ingested()).await;
        let mut others = vec![
            tokio::spawn(tasks::flush(shard.clone(), log.clone())),
            tokio::spawn(tasks::spill(shard.clone())),
            tokio::spawn(tasks::delete_garbage(shard.clone())),
            tokio::spawn(tasks::scrub_again_and_again(shard.clone())),
        ];
        let compactors = Compactor::ALL.into_iter();
        others.extend(compactors.map(|compactor| tokio::spawn(tasks::compact(shard.clone(), compactor))));
        let ingest = tokio::spawn(tasks::ingest(shard.clone(), log));
        Ok(PageServer { shard, ingest: Mutex::new(Some(ingest)), others: Mutex::new(others) })
    }

    /// A client in the same process.
    pub fn client(&self) -> Arc<dyn PageClient> {
        Arc::new(LocalPageClient { shard: self.shard.clone() })
    }

    /// Freezes what is in memory, so that it becomes a layer soon.
    pub fn freeze(&self) {
        self.shard.freeze();
    }

    /// Memory of records that are not in layers yet.
    pub fn buffered_bytes(&self) -> usize {
        let view = self.shard.view();
        view.open().bytes() + view.frozen_bytes()
    }

    /// Buffers set aside on local disk, until the object store takes layers again.
    pub fn spilled_buffers(&self) -> usize {
        self.shard.view().spilled().len()
    }

    /// Takes away what was set aside, as a damaged disk might.
    #[cfg(test)]
    pub(crate) fn damage_spill(&self) {
        let view = self.shard.view();
        let layers = view.spilled().iter().flat_map(|buffer| buffer.layers());
        layers.for_each(|layer| self.shard.spill.as_ref().expect("it is there").damage(layer));
    }

    /// Whether another page server has taken the shard over. This one then writes nothing any more.
    pub fn is_lost(&self) -> bool {
        self.shard.is_lost()
    }

    /// Log taken into memory.
    pub fn ingested(&self) -> Lsn {
        self.shard.ingested()
    }

    /// What it serves, and how.
    pub fn config(&self) -> &PageServerConfig {
        &self.shard.config
    }

    /// Whether the log no longer has what comes after the layers: nothing newer can be answered, ever.
    pub fn is_stranded(&self) -> bool {
        self.shard.is_stranded()
    }

    /// What is wrong, for people.
    pub fn problems(&self) -> Vec<String> {
        let config = self.config();
        let shard = format!("shard {} of branch {}", config.shard, config.branch);
        let mut problems = match (self.is_lost(), self.is_stranded()) {
            (true, _) => vec![format!("another page server has taken {shard} over")],
            (_, true) => vec![format!("{shard}: the log from {} on has been trimmed", self.ingested())],
            _ => Vec::new(),
        };
        problems.extend(self.shard.report().damaged.iter().map(|damage| format!("{shard}: {damage}")));
        problems
    }

    /// How often damage of the cache on local disk was mended, by all shards that share it.
    pub fn cache_repairs(&self) -> u64 {
        self.shard.disk.as_ref().map_or(0, DiskCache::repairs)
    }

    /// Checks the whole shard, past what the configuration says of its pace.
    pub async fn scrub(&self, bytes_per_second: u64) -> Result<ScrubReport, PageError> {
        let report = scrub::scrub(&self.shard, bytes_per_second).await?;
        self.shard.keep_report(report.clone());
        Ok(report)
    }

    /// The manifest as last written.
    pub async fn manifest(&self) -> Manifest {
        self.shard.manifest().await
    }

    /// Ends all tasks, after what was frozen has been written: the next start then has little log to read. It is as
    /// safe, only slower, to be killed.
    pub async fn shutdown(&self) {
        let ingest = self.ingest.lock().take();
        if let Some(ingest) = ingest {
            ingest.abort();
            // Cancelled is what was asked for.
            let _ = ingest.await;
        }
        self.shard.freeze();
        self.shard.stop();
        let others = std::mem::take(&mut *self.others.lock());
        for task in others {
            if let Err(error) = task.await {
                tracing::error!(branch = %self.shard.config.branch, %error, "a task of the page server failed");
            }
        }
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.shard.stop();
        for task in self.others.lock().iter().chain(self.ingest.lock().iter()) {
            task.abort();
        }
    }
}

/// Calls the page server directly.
#[derive(Debug)]
struct LocalPageClient {
    shard: Arc<Shard>,
}

impl LocalPageClient {
    fn check_branch(&self, branch: BranchId) -> Result<(), PageError> {
        let served = self.shard.config.branch;
        if branch == served {
            return Ok(());
        }
        Err(PageError::Unavailable { reason: format!("branch {branch} is not served here, but branch {served}") })
    }
}

#[async_trait]
impl PageClient for LocalPageClient {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        if let Err(error) = self.check_branch(branch) {
            return vec![Err(error); requests.len()];
        }
        self.shard.get_pages(requests).await
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        self.check_branch(branch)?;
        // In this order: a buffer that is flushed meanwhile is in one of the two, or in both.
        let buffered = self.shard.view().marks();
        let found = buffered.iter().rev().find(|mark| mark.commit_time_us <= time_us).map(|mark| mark.lsn);
        match found {
            Some(found) => Ok(Some(found)),
            None => Ok(self.shard.manifest().await.lsn_at(time_us)),
        }
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.check_branch(branch)?;
        let view = self.shard.view();
        Ok(PageServerStatus {
            ingested_lsn: self.shard.ingested(),
            durable_lsn: view.layers().durable_lsn(),
            horizon_lsn: view.layers().horizon(),
            layers: view.layers().len() as u64,
        })
    }
}
