//! Several servers with many shards: whatever becomes of servers, pages equal replay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use logstore::client::{LogError, MetadataClient, MetadataSnapshot, MetadataValue, SwapOutcome};
use parking_lot::Mutex;
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn, ShardId};
use tokio::sync::watch;
use uuid::Uuid;

use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::cluster::agent::{Agent, Identity};
use crate::cluster::descendants::RegisteredDescendants;
use crate::cluster::directory::Directory;
use crate::cluster::record::BranchRecord;
use crate::cluster::routes::RoutedPages;
use crate::config::PageServerConfig;
use crate::host::PageHost;
use crate::tests::workload::BRANCH;
use crate::tests::{Fixture, config, eventually};

/// A metadata map in memory.
#[derive(Default)]
pub struct Metadata {
    values: Mutex<(u64, BTreeMap<String, MetadataValue>)>,
}

#[async_trait]
impl MetadataClient for Metadata {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        Ok(self.values.lock().1.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        let values = self.values.lock();
        Ok(values.1.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError> {
        // The present state only: nothing here waits for changes.
        let values = self.list(prefix).await?;
        let snapshot = MetadataSnapshot { index: self.values.lock().0, values };
        Ok(futures::stream::iter([Ok(snapshot)]).chain(futures::stream::pending()).boxed())
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        let mut values = self.values.lock();
        let current = values.1.get(key).cloned();
        if current.as_ref().map(|current| current.version) != expected {
            return Ok(SwapOutcome::Conflict { current });
        }
        values.0 += 1;
        let version = values.0;
        match value {
            Some(bytes) => drop(values.1.insert(key.to_owned(), MetadataValue { version, bytes })),
            None => drop(values.1.remove(key)),
        }
        Ok(SwapOutcome::Swapped { version: Some(version) })
    }
}

type Hosts = Arc<Mutex<HashMap<String, Arc<PageHost>>>>;

/// Reaches a server by its address, as long as it lives.
struct Reached {
    hosts: Hosts,
    address: String,
}

impl Reached {
    fn host(&self) -> Result<Arc<PageHost>, PageError> {
        let dead = || PageError::Unavailable { reason: format!("{} is dead", self.address) };
        self.hosts.lock().get(&self.address).cloned().ok_or_else(dead)
    }
}

#[async_trait]
impl PageClient for Reached {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        match self.host() {
            Ok(host) => host.get_pages(branch, requests).await,
            Err(error) => vec![Err(error); requests.len()],
        }
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        self.host()?.lsn_at(branch, time_us).await
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.host()?.status(branch).await
    }
}

pub struct Cluster {
    pub fixture: Fixture,
    pub directory: Directory,
    /// Where that is kept.
    pub metadata: Arc<Metadata>,
    hosts: Hosts,
    /// For servers that are started from now on.
    pub retention_bytes: u64,
    agents: HashMap<String, (watch::Sender<bool>, tokio::task::JoinHandle<()>)>,
}

impl Cluster {
    pub async fn new(seed: u64, shards: u32) -> Cluster {
        let metadata = Arc::new(Metadata::default());
        let directory = Directory::new(metadata.clone());
        let layout = ShardLayout::new(shards, 2).expect("within the limits");
        let record = BranchRecord::new(BRANCH, "main", layout);
        directory.change_branch(BRANCH, &|_| Ok(Some(record.clone()))).await.expect("room");
        Cluster {
            fixture: Fixture::new(seed, 60),
            directory,
            metadata,
            hosts: Hosts::default(),
            retention_bytes: 1 << 30,
            agents: HashMap::new(),
        }
    }

    pub fn start(&mut self, id: &str) {
        let store = self.fixture.store.clone();
        let descendants = RegisteredDescendants::new(self.directory.clone(), store);
        let mut config = PageServerConfig { descendants: Some(Arc::new(descendants)), ..config() };
        config.compaction.retention.bytes = self.retention_bytes;
        let host = Arc::new(PageHost::new(config, self.fixture.store.clone(), self.fixture.log.clone()));
        self.hosts.lock().insert(id.to_owned(), host.clone());
        let identity = Identity { id: id.to_owned(), address: id.to_owned(), incarnation: Uuid::new_v4() };
        let agent = Agent::new(identity, self.directory.clone(), host);
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(async move { agent.run(ShardLayout::SINGLE, stopped).await.expect("its name is its own") });
        self.agents.insert(id.to_owned(), (stop, task));
    }

    /// As a crash does: nothing is written, nobody is told.
    pub fn kill(&mut self, id: &str) {
        self.agents.remove(id).expect("it runs").1.abort();
        self.hosts.lock().remove(id);
    }

    pub async fn stop(&mut self, id: &str) {
        let (stop, task) = self.agents.remove(id).expect("it runs");
        stop.send_replace(true);
        task.await.expect("it ends well");
        self.hosts.lock().remove(id).expect("it was there");
    }

    pub fn client(&self) -> RoutedPages {
        let hosts = self.hosts.clone();
        let connect = move |address: &str| -> Arc<dyn PageClient> {
            Arc::new(Reached { hosts: hosts.clone(), address: address.to_owned() })
        };
        RoutedPages::new(self.directory.clone(), connect)
    }

    /// What a server serves.
    pub fn host(&self, id: &str) -> Arc<PageHost> {
        self.hosts.lock()[id].clone()
    }

    /// How many shards each server owns, none moving.
    async fn loads(&self) -> Option<Vec<usize>> {
        let snapshot = self.directory.load().await.expect("readable");
        let placements = &snapshot.branches[&BRANCH].placements;
        let settled = placements.iter().all(|p| self.agents.contains_key(&p.owner) && p.moving_to.is_empty());
        let mut loads: Vec<_> =
            self.agents.keys().map(|id| placements.iter().filter(|p| p.owner == *id).count()).collect();
        loads.sort_unstable();
        settled.then_some(loads)
    }

    pub async fn settles(&self, expected: &[usize]) {
        eventually("the shards are served", async || self.loads().await.as_deref() == Some(expected)).await;
    }
}

/// Answers once all shards are served.
pub async fn wait_until_served(client: &RoutedPages, branch: BranchId) {
    let begun = tokio::time::Instant::now();
    while let Err(error) = client.status(branch).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "branch {branch} is not served: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_whatever_becomes_of_servers() {
    let mut cluster = Cluster::new(400, 6).await;
    let client = cluster.client();
    cluster.start("a");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 100);
    cluster.fixture.check(&client, 100).await;
    // Newcomers get their share, shard by shard, while pages are read.
    cluster.start("b");
    cluster.start("c");
    for _ in 0..20 {
        cluster.fixture.workload.run(&cluster.fixture.log, 5);
        cluster.fixture.check(&client, 20).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.settles(&[2, 2, 2]).await;
    cluster.fixture.check(&client, 100).await;
    // A dead one's shards are served by the others.
    cluster.kill("a");
    let died = tokio::time::Instant::now();
    cluster.fixture.workload.run(&cluster.fixture.log, 50);
    wait_until_served(&client, BRANCH).await;
    let took = died.elapsed();
    assert!(took < Duration::from_secs(5), "a dead server's shards were away for {took:?}");
    cluster.fixture.check(&client, 100).await;
    cluster.settles(&[3, 3]).await;
    // One that ends in good order is not missed for long.
    cluster.stop("b").await;
    cluster.fixture.workload.run(&cluster.fixture.log, 50);
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.check(&client, 100).await;
    cluster.stop("c").await;
    cluster.fixture.log.trim();
    cluster.start("d");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.check(&client, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_belongs_to_one_process() {
    let mut cluster = Cluster::new(401, 2).await;
    cluster.start("a");
    cluster.settles(&[2]).await;
    let (_stop, first) = cluster.agents.remove("a").expect("it runs");
    cluster.start("a");
    assert!(first.await.is_err(), "the first one must end");
    cluster.settles(&[2]).await;
}

/// Found in simulation: the first report of a branch's shard may come before the branch's log has begun, which then does not
/// remember it. Its siblings hold the log all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn siblings_hold_the_log_of_a_branch_that_begins_later() {
    let mut fixture = Fixture::new(403, 40);
    let layout = ShardLayout::new(3, 1).expect("within the limits");
    let host = PageHost::new(config(), fixture.store.clone(), fixture.log.clone());
    let parent = crate::lineage::Lineage::root(BRANCH);
    for shard in layout.ids() {
        host.attach(&parent, shard, layout).await.expect("free");
    }
    fixture.workload.run(&fixture.log, 200);
    let branch = BranchId(2);
    let begin = fixture.workload.last_commit().0;
    host.attach(&parent.child(branch, begin), ShardId(1), layout).await.expect("free");
    let held = "pageserver/2/1".to_owned();
    eventually("the parent's log is let go", async || {
        host.ingested(branch, ShardId(1)) == Some(begin) && !fixture.log.consumers(BRANCH).contains(&held)
    })
    .await;
    fixture.workload.branched(branch, begin, 404).run(&fixture.log, 200);
    eventually("all are known", async || fixture.log.consumers(branch).len() == 3).await;
    host.shutdown().await;
}

/// What a sibling that was never served needs of the log is not trimmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn siblings_hold_the_log() {
    let mut fixture = Fixture::new(402, 40);
    let layout = ShardLayout::new(3, 1).expect("within the limits");
    let host = PageHost::new(config(), fixture.store.clone(), fixture.log.clone());
    let lineage = crate::lineage::Lineage::root(BRANCH);
    host.attach(&lineage, ShardId(1), layout).await.expect("free");
    fixture.workload.run(&fixture.log, 200);
    eventually("the shard reports", async || fixture.log.consumers(BRANCH).len() == 3).await;
    host.shutdown().await;
    fixture.log.trim();
    for shard in layout.ids() {
        host.attach(&lineage, shard, layout).await.expect("free");
    }
    fixture.check(&host, 200).await;
    // Another layout would look for pages where they are not.
    let other = ShardLayout::new(4, 1).expect("within the limits");
    let refused = host.attach(&lineage, ShardId(0), other).await.expect_err("refused");
    assert!(refused.to_string().contains("was expected"), "{refused}");
}
