//! The shards that one process serves: attached and detached while it runs, sharing its caches.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use logstore::client::{LogClient, LogError};
use logstore::shifted::ShiftedLog;
use parking_lot::RwLock;
use storage::layer::shard_prefix;
use storage::layout::ShardLayout;
use storage::manifest::{Manifest, manifest_key};
use storage::object::{ObjectError, ObjectStore};
use storage::{BranchId, Lsn, ShardId};

use crate::caches::Caches;
use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::config::PageServerConfig;
use crate::lineage::Lineage;
use crate::owner::OwnerError;
use crate::scrub::ScrubReport;
use crate::server::{PageServer, StartError};
use crate::tasks::consumer_name;

/// Smallest buffer of a shard.
const LEAST_BUFFER_BYTES: usize = 1 << 20;

/// A shard being served.
#[derive(Clone)]
struct Served {
    server: Arc<PageServer>,
    client: Arc<dyn PageClient>,
}

/// Serves any number of shards, of any branches.
pub struct PageHost {
    /// What all shards have in common; branch and shard are each one's own.
    config: PageServerConfig,
    caches: Caches,
    store: ObjectStore,
    log: Arc<dyn LogClient>,
    shards: RwLock<BTreeMap<(BranchId, ShardId), Served>>,
}

impl PageHost {
    /// Serves nothing yet. `config` gives the limits: those of caches for all shards together, those of buffers for
    /// all shards of a branch.
    pub fn new(config: PageServerConfig, store: ObjectStore, log: Arc<dyn LogClient>) -> PageHost {
        let caches = Caches::new(&config);
        PageHost { config, caches, store, log, shards: RwLock::default() }
    }

    /// Takes a shard over and serves it from now on.
    pub async fn attach(&self, lineage: &Lineage, shard: ShardId, layout: ShardLayout) -> Result<(), StartError> {
        let log = self.log_of(lineage);
        self.hold_logs(lineage, shard, log.as_ref()).await?;
        self.hold_for_split(lineage, (shard, layout), log.as_ref()).await?;
        let share = |bytes: usize| (bytes / layout.shards() as usize).max(LEAST_BUFFER_BYTES.min(bytes));
        let config = PageServerConfig {
            branch: lineage.branch(),
            lineage: lineage.clone(),
            layout,
            shard,
            // One server may come to serve all of them.
            buffer_bytes: share(self.config.buffer_bytes),
            frozen_bytes: share(self.config.frozen_bytes),
            ..self.config.clone()
        };
        let server = PageServer::start_beside(config, &self.caches, self.store.clone(), log).await.map(Arc::new)?;
        let served = Served { client: server.client(), server };
        let before = self.shards.write().insert((lineage.branch(), shard), served);
        // It has lost its shard to the new one.
        drop(before);
        Ok(())
    }

    /// Holds the logs that a shard's history may still have to be read from, before an ancestor's manifest is looked at: the log
    /// that continues it must not be trimmed meanwhile. Once the shard holds that log's part of its history, it lets it go.
    async fn hold_logs(&self, lineage: &Lineage, shard: ShardId, log: &dyn LogClient) -> Result<(), StartError> {
        for (ancestor, _) in lineage.ancestors() {
            let consumer = consumer_name(*ancestor, lineage.branch(), shard);
            hold(log, lineage.branch(), *ancestor, &consumer).await?;
        }
        Ok(())
    }

    /// The same for a shard that begins with another one's layers, and for those that are split off from this one when it takes a
    /// new layout: what these layers do not hold yet must not be trimmed from the branch's own log either.
    async fn hold_for_split(
        &self,
        lineage: &Lineage,
        (shard, layout): (ShardId, ShardLayout),
        log: &dyn LogClient,
    ) -> Result<(), StartError> {
        let branch = lineage.branch();
        let beginning = match self.manifest_of(branch, shard).await? {
            Some(found) if layout.is_split_of(found.layout) => {
                let from_here = |other: &ShardId| layout.origins(*other).contains(&(shard, found.layout));
                layout.ids().filter(from_here).collect()
            }
            None if !layout.origins(shard).is_empty() => vec![shard],
            _ => Vec::new(),
        };
        for other in beginning {
            if self.manifest_of(branch, other).await?.is_none() {
                hold(log, branch, branch, &consumer_name(branch, branch, other)).await?;
                self.hold_logs(lineage, other, log).await?;
            }
        }
        Ok(())
    }

    async fn manifest_of(&self, branch: BranchId, shard: ShardId) -> Result<Option<Manifest>, StartError> {
        let failed = |source: OwnerError| StartError { branch, source };
        let found = self.store.read_versioned(&manifest_key(&shard_prefix(branch, shard))).await;
        let found = found.map_err(|error| failed(error.into()))?;
        found.map(|found| Manifest::decode(&found.bytes)).transpose().map_err(|error| failed(error.into()))
    }

    /// How the pages of a branch were distributed when a shard was attached; `None` when it is not served here.
    pub fn layout(&self, branch: BranchId, shard: ShardId) -> Option<ShardLayout> {
        self.shards.read().get(&(branch, shard)).map(|served| served.server.config().layout)
    }

    /// The log in the LSNs of a branch and those it comes from.
    pub(crate) fn log_of(&self, lineage: &Lineage) -> Arc<dyn LogClient> {
        Arc::new(ShiftedLog::new(self.log.clone(), lineage.begins()))
    }

    /// Deletes what a branch has of its own in the object store, and lets its logs be trimmed.
    pub(crate) async fn sweep(&self, lineage: &Lineage, layout: ShardLayout) -> Result<(), String> {
        let (branch, log) = (lineage.branch(), self.log_of(lineage));
        self.remove_objects(branch).await?;
        let end = log.status(branch).await.map_err(|error| error.to_string())?.durable_lsn;
        for shard in layout.ids() {
            let own = consumer_name(branch, branch, shard);
            log.report_consumer(branch, &own, end).await.map_err(|error| error.to_string())?;
            for (ancestor, _) in lineage.ancestors() {
                let held = consumer_name(*ancestor, branch, shard);
                log.report_consumer(*ancestor, &held, Lsn::MAX).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Whether a branch has objects of its own.
    pub(crate) async fn has_objects(&self, branch: BranchId) -> Result<bool, String> {
        let found = self.store.list(&format!("branches/{branch}")).await;
        found.map(|keys| !keys.is_empty()).map_err(|error| error.to_string())
    }

    /// Deletes what a branch has of its own in the object store.
    pub(crate) async fn remove_objects(&self, branch: BranchId) -> Result<(), String> {
        for key in self.store.list(&format!("branches/{branch}")).await.map_err(|error| error.to_string())? {
            self.store.delete(&key).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Stops serving a shard. What is in memory is written first, unless another owns the shard already.
    pub async fn detach(&self, branch: BranchId, shard: ShardId) {
        let served = self.shards.write().remove(&(branch, shard));
        if let Some(served) = served
            && !served.server.is_lost()
        {
            served.server.shutdown().await;
        }
    }

    /// What is served, and whether another owner has taken it over.
    pub fn attached(&self) -> BTreeMap<(BranchId, ShardId), bool> {
        self.shards.read().iter().map(|(key, served)| (*key, served.server.is_lost())).collect()
    }

    /// How far a shard has read its log; `None` when it is not served here.
    pub fn ingested(&self, branch: BranchId, shard: ShardId) -> Option<Lsn> {
        self.shards.read().get(&(branch, shard)).map(|served| served.server.ingested())
    }

    /// Stops serving all shards, as [`PageHost::detach`] does.
    pub async fn shutdown(&self) {
        let keys: Vec<_> = self.shards.read().keys().copied().collect();
        join_all(keys.into_iter().map(|(branch, shard)| self.detach(branch, shard))).await;
    }

    /// What is wrong with the shards served here, for people.
    pub fn problems(&self) -> Vec<String> {
        self.shards.read().values().flat_map(|served| served.server.problems()).collect()
    }

    fn of_branch(&self, branch: BranchId) -> Vec<Served> {
        let range = (branch, ShardId(0))..=(branch, ShardId(u64::MAX));
        self.shards.read().range(range).map(|(_, served)| served.clone()).collect()
    }

    fn served(&self, branch: BranchId, shard: ShardId) -> Option<Served> {
        self.shards.read().get(&(branch, shard)).cloned()
    }
}

/// Keeps a log from being trimmed beyond where it begins now, in a consumer's name.
async fn hold(log: &dyn LogClient, branch: BranchId, stream: BranchId, consumer: &str) -> Result<(), StartError> {
    let held = async {
        let from = log.status(stream).await?.first_lsn;
        log.report_consumer(stream, consumer, from).await
    };
    let unavailable = |error: LogError| {
        let (key, reason) = (format!("log of branch {stream}"), error.to_string());
        StartError { branch, source: ObjectError::Transient { key, reason }.into() }
    };
    held.await.map_err(unavailable)
}

/// Splits requests by what `key` gives, asks each part, and puts the answers back in order.
pub(crate) async fn scatter<K, A>(
    requests: &[GetPage],
    key: impl Fn(&GetPage) -> K,
    ask: impl Fn(K, Vec<GetPage>) -> A,
) -> Vec<Result<PageImage, PageError>>
where
    K: Ord + Clone,
    A: Future<Output = Vec<Result<PageImage, PageError>>>,
{
    let mut parts: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (number, request) in requests.iter().enumerate() {
        parts.entry(key(request)).or_default().push(number);
    }
    let asked = parts.into_iter().map(|(key, numbers)| {
        let part: Vec<_> = numbers.iter().map(|&number| requests[number]).collect();
        let answers = ask(key, part);
        async move { (numbers, answers.await) }
    });
    let missing = Err(PageError::Unavailable { reason: "the page server gave too few answers".to_owned() });
    let mut answers = vec![missing; requests.len()];
    for (numbers, part) in join_all(asked).await {
        for (number, answer) in numbers.into_iter().zip(part) {
            answers[number] = answer;
        }
    }
    answers
}

#[async_trait]
impl PageClient for PageHost {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        // While a branch is being split, some of its shards have the old layout; where both hold a page, the new one counts.
        let mut layouts: Vec<ShardLayout> =
            self.of_branch(branch).iter().map(|served| served.server.config().layout).collect();
        layouts.sort_by_key(|layout| std::cmp::Reverse(layout.shards()));
        layouts.dedup();
        let Some(newest) = layouts.first().copied() else {
            return vec![Err(PageError::NotServed { branch, shard: ShardId(0) }); requests.len()];
        };
        let holder = |request: &GetPage| {
            let holds = |layout: &&ShardLayout| self.layout(branch, layout.shard_of(request.page)) == Some(**layout);
            layouts.iter().find(holds).unwrap_or(&newest).shard_of(request.page)
        };
        let ask = |shard, part: Vec<GetPage>| async move {
            match self.served(branch, shard) {
                Some(served) => served.client.get_pages(branch, &part).await,
                None => vec![Err(PageError::NotServed { branch, shard }); part.len()],
            }
        };
        scatter(requests, holder, ask).await
    }

    /// Of the shards that are served here.
    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        let mut status: Option<PageServerStatus> = None;
        for served in self.of_branch(branch) {
            let one = served.client.status(branch).await?;
            status = Some(status.map_or(one, |all| all.beside(one)));
        }
        status.ok_or(PageError::NotServed { branch, shard: ShardId(0) })
    }

    async fn scrub(&self, branch: BranchId, shard: ShardId, pace: u64) -> Result<ScrubReport, PageError> {
        match self.served(branch, shard) {
            Some(served) => served.server.scrub(pace).await,
            None => Err(PageError::NotServed { branch, shard }),
        }
    }

    /// What any of the shards that are served here knows.
    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        let mut latest = None;
        for served in self.of_branch(branch) {
            latest = latest.max(served.client.lsn_at(branch, time_us).await?);
        }
        Ok(latest)
    }
}
