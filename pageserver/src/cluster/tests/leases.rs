//! Leases and retention: history is kept as long as somebody asks for it, and no longer.

use std::sync::Arc;

use storage::Lsn;

use super::servers::{Cluster, wait_until_served};
use crate::client::PageClient;
use crate::cluster::branches::Branches;
use crate::compaction::Retention;
use crate::config::WallClock;
use crate::tests::eventually;
use crate::tests::workload::BRANCH;

const HOUR_US: u64 = 3_600_000_000;

fn branches(cluster: &Cluster) -> Branches {
    Branches::new(cluster.directory.clone(), cluster.fixture.log.clone(), Arc::new(cluster.client()))
}

async fn horizon(client: &dyn PageClient) -> Lsn {
    client.status(BRANCH).await.map_or(Lsn::ZERO, |status| status.horizon_lsn)
}

/// Goes on until history from before an LSN is dropped.
async fn drops_history_before(cluster: &mut Cluster, client: &dyn PageClient, lsn: Lsn) {
    for _ in 0..200 {
        cluster.fixture.workload.run(&cluster.fixture.log, 60);
        cluster.fixture.check(client, 10).await;
        if horizon(client).await > lsn {
            return;
        }
    }
    panic!("history from before {lsn} is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_holds_history_and_its_end_lets_it_go() {
    let mut cluster = Cluster::new(520, 2).await;
    cluster.retention_bytes = 50 << 10;
    let client = cluster.client();
    cluster.start("a");
    cluster.start("b");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 100);
    cluster.fixture.check(&client, 20).await;
    let (admin, now_us) = (branches(&cluster), WallClock::default().now_us());
    let held = cluster.fixture.workload.end;
    admin.lease("reader", "main", held, now_us + HOUR_US, now_us).await.expect("history is there");
    for _ in 0..12 {
        cluster.fixture.workload.run(&cluster.fixture.log, 100);
        cluster.fixture.check(&client, 60).await;
        let reached = horizon(&client).await;
        assert!(reached <= held, "history from {held} on is held, and was dropped up to {reached}");
    }
    // A page as of the lease can be read, wherever its shard has been meanwhile.
    cluster.kill("a");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 200);
    cluster.fixture.check(&client, 100).await;
    assert!(horizon(&client).await <= held);
    admin.release("reader", "main").await.expect("given up");
    drops_history_before(&mut cluster, &client, held).await;
    // Too late, too long, for nothing.
    let told = |outcome: Result<(), _>| {
        let error: crate::cluster::directory::DirectoryError = outcome.expect_err("refused");
        error.to_string()
    };
    assert!(told(admin.lease("late", "main", held, now_us + HOUR_US, now_us).await).contains("is not kept"));
    assert!(told(admin.lease("long", "main", held, now_us + 25 * HOUR_US, now_us).await).contains("hours at most"));
    assert!(told(admin.lease("x", "nothing", held, now_us, now_us).await).contains("there is no branch"));
    assert!(told(admin.lease("a/b", "main", held, now_us, now_us).await).contains("cannot be"));
    let leases = cluster.directory.load().await.expect("readable").leases;
    assert!(leases.is_empty(), "what was refused leaves nothing behind: {leases:?}");
    // One that has ended long ago holds nothing.
    let end = cluster.fixture.workload.end;
    admin.lease("old", "main", end, now_us - HOUR_US, now_us).await.expect("history is there");
    drops_history_before(&mut cluster, &client, end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_may_have_a_retention_of_its_own() {
    let mut cluster = Cluster::new(521, 2).await;
    let client = cluster.client();
    cluster.start("a");
    wait_until_served(&client, BRANCH).await;
    for _ in 0..6 {
        cluster.fixture.workload.run(&cluster.fixture.log, 100);
        cluster.fixture.check(&client, 30).await;
    }
    assert_eq!(horizon(&client).await, Lsn::ZERO, "a gigabyte is kept");
    let middle = Lsn(cluster.fixture.workload.end.0 / 2);
    let admin = branches(&cluster);
    admin.retain("main", Some(Retention { bytes: 10 << 10, time_us: 0 })).await.expect("set");
    drops_history_before(&mut cluster, &client, middle).await;
    admin.retain("main", None).await.expect("set");
    // What began before may still end; from then on nothing more is dropped.
    let mut last = horizon(&client).await;
    eventually("no more history is dropped", async || {
        cluster.fixture.workload.run(&cluster.fixture.log, 60);
        cluster.fixture.check(&client, 10).await;
        let before = std::mem::replace(&mut last, horizon(&client).await);
        before == last
    })
    .await;
}
