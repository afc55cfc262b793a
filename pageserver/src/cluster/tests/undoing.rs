//! Branches that are made while what they come from goes: one of the two is undone, and nothing is left of it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use logstore::client::{LogError, MetadataClient, MetadataSnapshot, MetadataValue, SwapOutcome};
use parking_lot::Mutex;
use storage::layout::ShardLayout;
use storage::{BranchId, Generation, Lsn, ShardId};

use super::servers::{Cluster, Metadata, wait_until_served};
use crate::cluster::branches::{BranchPoint, Branches, NewBranch};
use crate::cluster::descendants::{Descendants, Kept, RegisteredDescendants};
use crate::cluster::directory::Directory;
use crate::cluster::record::{BranchRecord, HorizonRecord};
use crate::compaction::Retention;
use crate::config::PageServerConfig;
use crate::host::PageHost;
use crate::lineage::Lineage;
use crate::tests::workload::BRANCH;
use crate::tests::{Fixture, config, eventually};

type Meanwhile = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// A metadata map in which something happens as soon as a branch's record has come in, before whoever made it goes on.
struct Interrupted {
    metadata: Arc<Metadata>,
    key: String,
    meanwhile: Mutex<Option<Meanwhile>>,
}

#[async_trait]
impl MetadataClient for Interrupted {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        self.metadata.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        self.metadata.list(prefix).await
    }

    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError> {
        self.metadata.watch(prefix).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        let outcome = self.metadata.compare_and_swap(key, expected, value).await;
        let meanwhile = (key == self.key).then(|| self.meanwhile.lock().take()).flatten();
        if let Some(meanwhile) = meanwhile {
            meanwhile().await;
        }
        outcome
    }
}

/// What makes branches of a cluster, interrupted by `meanwhile` once `branch` is in the directory and served.
fn interrupted(cluster: &Cluster, branch: BranchId, meanwhile: Meanwhile) -> Branches {
    let client = cluster.client();
    let served = move || -> BoxFuture<'static, ()> {
        Box::pin(async move {
            wait_until_served(&client, branch).await;
            meanwhile().await;
        })
    };
    let metadata = Interrupted {
        metadata: cluster.metadata.clone(),
        key: format!("pages/branches/{branch}"),
        meanwhile: Mutex::new(Some(Box::new(served))),
    };
    let directory = Directory::new(Arc::new(metadata));
    Branches::new(directory, cluster.fixture.log.clone(), Arc::new(cluster.client()))
}

fn admin(cluster: &Cluster) -> Branches {
    Branches::new(cluster.directory.clone(), cluster.fixture.log.clone(), Arc::new(cluster.client()))
}

fn wanted<'a>(name: &'a str, parent: &'a str, point: BranchPoint) -> NewBranch<'a> {
    NewBranch { name, parent, point, now_us: 1 }
}

async fn nothing_is_left_but(cluster: &Cluster, expected: &[BranchId]) {
    let store = cluster.fixture.store.clone();
    eventually("nothing is left of what was undone", async || {
        let left: Vec<_> = cluster.directory.load().await.expect("readable").branches.into_keys().collect();
        let objects = store.list("branches").await.expect("listed");
        let of_those = |key: &String| expected.iter().any(|branch| key.starts_with(&format!("branches/{branch}/")));
        left == expected && objects.iter().all(of_those)
    })
    .await;
}

async fn cluster(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, 1).await;
    cluster.start("a");
    wait_until_served(&cluster.client(), BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 50);
    cluster.fixture.check(&cluster.client(), 20).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_whose_history_goes_meanwhile_leaves_nothing() {
    let cluster = cluster(502).await;
    let (served, directory) = (BranchId(BRANCH.0 + 1), cluster.directory.clone());
    let end = cluster.fixture.workload.end;
    let meanwhile = move || -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let told = HorizonRecord { generation: Generation(77), lsn: Lsn(end.0 + 1) };
            let tell = directory.change_horizon(BRANCH, ShardId(0), &|_| Ok(Some(told))).await;
            tell.expect("room");
        })
    };
    let interrupted = interrupted(&cluster, served, Box::new(meanwhile));
    let refused = interrupted.create(&wanted("child", "main", BranchPoint::Now)).await.expect_err("refused");
    assert!(refused.to_string().contains("was dropped meanwhile"), "{refused}");
    cluster.directory.change_horizon(BRANCH, ShardId(0), &|_| Ok(None)).await.expect("removed");
    let again = admin(&cluster).create(&wanted("child", "main", BranchPoint::Now)).await.expect("the name is free");
    assert!(again.branch > served, "numbers are not used again");
    nothing_is_left_but(&cluster, &[BRANCH, again.branch]).await;
    wait_until_served(&cluster.client(), again.branch).await;
}

/// The deletion wins: it is marked before the new branch's maker looks again, and the branch has been taken back when the
/// deletion looks for branches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_whose_parent_goes_meanwhile_leaves_nothing() {
    let mut cluster = cluster(503).await;
    let parent = admin(&cluster).create(&wanted("parent", "main", BranchPoint::Now)).await.expect("made").branch;
    wait_until_served(&cluster.client(), parent).await;
    let (child, directory) = (BranchId(parent.0 + 1), cluster.directory.clone());
    let meanwhile = move || -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mark = |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { deleting: true, ..found }));
            directory.change_branch(parent, &mark).await.expect("marked");
        })
    };
    let interrupted = interrupted(&cluster, child, Box::new(meanwhile));
    let refused = interrupted.create(&wanted("child", "parent", BranchPoint::Now)).await.expect_err("refused");
    assert!(refused.to_string().contains("was deleted meanwhile"), "{refused}");
    nothing_is_left_but(&cluster, &[BRANCH]).await;
    cluster.fixture.check(&cluster.client(), 20).await;
}

/// Its maker ended before it could look again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_of_one_that_is_gone_goes_too() {
    let cluster = cluster(504).await;
    let parent = admin(&cluster).create(&wanted("parent", "main", BranchPoint::Now)).await.expect("made").branch;
    let orphan = cluster.directory.new_number(&cluster.directory.load().await.expect("readable")).await.expect("room");
    admin(&cluster).delete("parent").await.expect("deleted");
    nothing_is_left_but(&cluster, &[BRANCH]).await;
    let record = BranchRecord {
        parent: Some((parent, Lsn(1))),
        ..BranchRecord::new(orphan, "orphan", ShardLayout::new(1, 2).expect("within the limits"))
    };
    cluster.directory.change_branch(orphan, &|_| Ok(Some(record.clone()))).await.expect("room");
    nothing_is_left_but(&cluster, &[BRANCH]).await;
}

/// A server that slept while a branch was deleted writes a manifest when it wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_serves_what_is_gone_removes_it() {
    let cluster = cluster(505).await;
    let gone = cluster.directory.new_number(&cluster.directory.load().await.expect("readable")).await.expect("room");
    let layout = ShardLayout::new(1, 2).expect("within the limits");
    let lineage = Lineage::root(BRANCH).child(gone, cluster.fixture.workload.last_commit().0);
    cluster.host("a").attach(&lineage, ShardId(0), layout).await.expect("free");
    nothing_is_left_but(&cluster, &[BRANCH]).await;
}

/// Says that all history may go, once it is to, and lets its owner go on from its last look at the directory only when told to.
#[derive(Debug)]
struct Held {
    inner: RegisteredDescendants,
    drops: tokio::sync::watch::Sender<bool>,
    looked: tokio::sync::watch::Sender<u32>,
    goes_on: tokio::sync::watch::Sender<bool>,
}

#[async_trait]
impl Descendants for Held {
    async fn named(
        &self,
        branch: BranchId,
        shard: ShardId,
    ) -> Option<std::collections::HashSet<storage::layer::LayerName>> {
        self.inner.named(branch, shard).await
    }

    async fn kept(&self, branch: BranchId) -> Option<Kept> {
        let kept = self.inner.kept(branch).await?;
        if !*self.drops.borrow() {
            return Some(kept);
        }
        self.looked.send_modify(|looked| *looked += 1);
        // The first look is before the horizon is told.
        if *self.looked.borrow() >= 2 {
            let _ = self.goes_on.subscribe().wait_for(|goes_on| *goes_on).await;
        }
        Some(Kept { retention: Some(Retention { bytes: 0, time_us: 0 }), ..kept })
    }

    async fn tell_horizon(&self, branch: BranchId, shard: ShardId, generation: Generation, horizon: Lsn) -> bool {
        self.inner.tell_horizon(branch, shard, generation, horizon).await
    }
}

/// While a shard moves, its old owner is asked, and its new one drops history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_branch_begins_with_history_that_a_new_owner_drops() {
    let mut fixture = Fixture::new(506, 60);
    let directory = Directory::new(Arc::new(Metadata::default()));
    let layout = ShardLayout::new(1, 2).expect("within the limits");
    let main = BranchRecord::new(BRANCH, "main", layout);
    directory.change_branch(BRANCH, &|_| Ok(Some(main.clone()))).await.expect("room");
    let held = Arc::new(Held {
        inner: RegisteredDescendants::new(directory.clone(), fixture.store.clone()),
        drops: Default::default(),
        looked: Default::default(),
        goes_on: Default::default(),
    });
    let host = || {
        let mut config = PageServerConfig { descendants: Some(held.clone()), ..config() };
        config.compaction.retention = Retention { bytes: 1 << 30, time_us: 0 };
        Arc::new(PageHost::new(config, fixture.store.clone(), fixture.log.clone()))
    };
    let (old, new) = (host(), host());
    old.attach(&Lineage::root(BRANCH), ShardId(0), layout).await.expect("free");
    fixture.workload.run(&fixture.log, 100);
    fixture.check(&*old, 20).await;
    let (early, _) = fixture.workload.last_commit();
    new.attach(&Lineage::root(BRANCH), ShardId(0), layout).await.expect("taken over");
    held.drops.send_replace(true);
    let mut looked = held.looked.subscribe();
    while *looked.borrow_and_update() < 2 {
        fixture.workload.run(&fixture.log, 50);
        fixture.check(&*new, 10).await;
    }
    // The new owner has looked for branches for the last time.
    let admin = Branches::new(directory.clone(), fixture.log.clone(), old.clone());
    let made = admin.create(&wanted("child", "main", BranchPoint::At(early))).await;
    held.goes_on.send_replace(true);
    eventually("history is dropped", async || {
        crate::client::PageClient::status(&*new, BRANCH).await.expect("served").horizon_lsn > early
    })
    .await;
    let made = made.map(|record| record.branch);
    assert!(made.is_err(), "branch {made:?} begins at {early}, and history from there has gone");
    // What was told is what is true, once it is known; a lease there is possible, and one before is not.
    eventually("the horizon is told", async || {
        let status = crate::client::PageClient::status(&*new, BRANCH).await.expect("served");
        directory.load().await.expect("readable").horizon(BRANCH) == status.horizon_lsn
    })
    .await;
    new.shutdown().await;
}
