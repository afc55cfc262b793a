//! Splits: whatever becomes of shards and servers meanwhile, pages are those of direct replay, and they can be read.

use std::sync::Arc;
use std::time::Duration;

use storage::BranchId;
use storage::layer::shard_prefix;
use storage::manifest::{Manifest, manifest_key};

use super::servers::{Cluster, wait_until_served};
use crate::cluster::branches::{BranchPoint, Branches, NewBranch};
use crate::tests::workload::{BRANCH, Workload};
use crate::tests::{check_pages, eventually};

fn branches(cluster: &Cluster) -> Branches {
    Branches::new(cluster.directory.clone(), cluster.fixture.log.clone(), Arc::new(cluster.client()))
}

/// A branch where `workload` stands now.
async fn branched(cluster: &Cluster, name: &str, parent: &str, workload: &Workload) -> Workload {
    let wanted = NewBranch { name, parent, point: BranchPoint::Now, now_us: 1 };
    let record = branches(cluster).create(&wanted).await.expect("made");
    let (_, lsn) = record.parent.expect("it has one");
    wait_until_served(&cluster.client(), record.branch).await;
    workload.branched(record.branch, lsn, 77)
}

/// Until all shards of a branch have manifests that say that there are so many.
async fn is_split(cluster: &Cluster, branch: BranchId, shards: u32) {
    eventually("all shards are split", async || {
        let layout = cluster.directory.load().await.expect("readable").branches[&branch].layout;
        assert_eq!(layout.shards(), shards);
        for shard in layout.ids() {
            let key = manifest_key(&shard_prefix(branch, shard));
            let found = cluster.fixture.store.read_versioned(&key).await.expect("readable");
            let manifest = found.map(|found| Manifest::decode(&found.bytes).expect("sound"));
            if manifest.is_none_or(|manifest| manifest.layout != layout || manifest.generation.0 == 0) {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_equal_replay_while_shards_are_split() {
    let mut cluster = Cluster::new(530, 2).await;
    cluster.retention_bytes = 300 << 10;
    let client = cluster.client();
    cluster.start("a");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 150);
    cluster.fixture.check(&client, 80).await;
    // One that begins with unsplit shards and is split along with its parent.
    let mut early = branched(&cluster, "early", "main", &cluster.fixture.workload).await;
    let main_shards = branches(&cluster).split("main").await.expect("split");
    assert_eq!(main_shards, 4);
    // Every page is answered throughout: nobody waits for the split to be done.
    for _ in 0..10 {
        cluster.fixture.workload.run(&cluster.fixture.log, 20);
        cluster.fixture.check(&client, 40).await;
        early.run(&cluster.fixture.log, 10);
        check_pages(&mut early, &client, 20).await;
    }
    is_split(&cluster, BRANCH, 4).await;
    is_split(&cluster, early.branch, 4).await;
    cluster.fixture.check(&client, 100).await;
    // The parts move to whoever has room, and the log is trimmed below what all of them hold.
    cluster.start("b");
    eventually("half of all shards are the new server's", async || {
        let snapshot = cluster.directory.load().await.expect("readable");
        let mut placements = snapshot.branches.values().flat_map(|record| &record.placements);
        placements.clone().all(|place| place.moving_to.is_empty())
            && placements.by_ref().filter(|place| place.owner == "b").count() == 4
    })
    .await;
    for _ in 0..4 {
        cluster.fixture.workload.run(&cluster.fixture.log, 80);
        cluster.fixture.check(&client, 60).await;
        cluster.fixture.log.trim();
    }
    // Once more, and a server dies before it has seen to it.
    assert_eq!(branches(&cluster).split("main").await.expect("split"), 8);
    cluster.kill("b");
    for branch in [BRANCH, early.branch] {
        wait_until_served(&client, branch).await;
    }
    for workload in [&mut cluster.fixture.workload, &mut early] {
        check_pages(workload, &client, 80).await;
    }
    let mut late = branched(&cluster, "late", "main", &cluster.fixture.workload).await;
    is_split(&cluster, BRANCH, 8).await;
    for _ in 0..5 {
        cluster.fixture.workload.run(&cluster.fixture.log, 100);
        cluster.fixture.check(&client, 60).await;
        late.run(&cluster.fixture.log, 40);
        check_pages(&mut late, &client, 40).await;
    }
    // Long enough for garbage to be deleted, of which a part of the shards may still be in need.
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.stop("a").await;
    cluster.start("c");
    for branch in [BRANCH, early.branch, late.branch] {
        wait_until_served(&client, branch).await;
    }
    for workload in [&mut cluster.fixture.workload, &mut early, &mut late] {
        check_pages(workload, &client, 200).await;
    }
    let refused = branches(&cluster).split("nothing").await.expect_err("refused").to_string();
    assert!(refused.contains("there is no branch"), "{refused}");
}
