//! Branches: whatever happens to their parents, their pages are those of direct replay.

use std::sync::Arc;
use std::time::Duration;

use storage::{BranchId, Lsn};

use super::servers::{Cluster, wait_until_served};
use crate::client::PageClient;
use crate::cluster::branches::{BranchPoint, Branches, NewBranch};
use crate::tests::workload::{BRANCH, Workload};
use crate::tests::{check_pages, eventually};

fn branches(cluster: &Cluster) -> Branches {
    Branches::new(cluster.directory.clone(), cluster.fixture.log.clone(), Arc::new(cluster.client()))
}

async fn create(cluster: &Cluster, name: &str, parent: &str, point: BranchPoint) -> Result<(BranchId, Lsn), String> {
    let wanted = NewBranch { name, parent, point, now_us: 1 };
    let record = branches(cluster).create(&wanted).await.map_err(|error| error.to_string())?;
    Ok((record.branch, record.parent.expect("it has one").1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_equal_replay_whatever_becomes_of_their_parents() {
    let mut cluster = Cluster::new(500, 3).await;
    cluster.retention_bytes = 500 << 10;
    let client = cluster.client();
    cluster.start("a");
    cluster.start("b");
    wait_until_served(&client, BRANCH).await;
    cluster.fixture.workload.run(&cluster.fixture.log, 150);
    let (middle, _) = cluster.fixture.workload.last_commit();
    cluster.fixture.workload.run(&cluster.fixture.log, 20);
    cluster.fixture.check(&client, 50).await;
    // One where the parent stands now, most of it in buffers; one in the middle; one of a branch.
    let (now, now_lsn) = create(&cluster, "now", "main", BranchPoint::Now).await.expect("made");
    assert_eq!(now_lsn, cluster.fixture.workload.end);
    let (past, past_lsn) = create(&cluster, "past", "main", BranchPoint::At(middle)).await.expect("made");
    assert_eq!(past_lsn, middle);
    let mut workloads =
        vec![cluster.fixture.workload.branched(now, now_lsn, 7), cluster.fixture.workload.branched(past, past_lsn, 8)];
    for branch in [now, past] {
        wait_until_served(&client, branch).await;
    }
    workloads[0].run(&cluster.fixture.log, 60);
    let (of_now, of_now_lsn) = create(&cluster, "of-now", "now", BranchPoint::Now).await.expect("made");
    wait_until_served(&client, of_now).await;
    workloads.push(workloads[0].branched(of_now, of_now_lsn, 9));
    for round in 0..8 {
        // The parent goes on, drops its history, rewrites and deletes layers; so do the branches.
        cluster.fixture.workload.run(&cluster.fixture.log, 60);
        cluster.fixture.check(&client, 40).await;
        for workload in &mut workloads {
            workload.run(&cluster.fixture.log, 30);
            check_pages(workload, &client, 60).await;
        }
        cluster.fixture.log.trim();
        match round {
            2 => cluster.kill("a"),
            4 => cluster.start("c"),
            5 => cluster.stop("b").await,
            _ => {}
        }
        for branch in [BRANCH, now, past, of_now] {
            wait_until_served(&client, branch).await;
        }
    }
    // Long enough for garbage to be deleted.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(client.status(BRANCH).await.expect("served").horizon_lsn > middle, "the parent has dropped that history");
    for workload in &mut workloads {
        check_pages(workload, &client, 200).await;
    }
    cluster.fixture.check(&client, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_and_what_goes() {
    let mut cluster = Cluster::new(501, 2).await;
    let client = cluster.client();
    cluster.start("a");
    wait_until_served(&client, BRANCH).await;
    let empty = create(&cluster, "empty", "main", BranchPoint::Now).await.expect_err("refused");
    assert!(empty.contains("is empty"), "{empty}");
    cluster.fixture.workload.run(&cluster.fixture.log, 100);
    let end = cluster.fixture.workload.end;
    cluster.fixture.check(&client, 20).await;
    let refused = async |name, parent, point| create(&cluster, name, parent, point).await.expect_err("refused");
    assert!(refused("main", "main", BranchPoint::Now).await.contains("already"));
    assert!(refused("7", "main", BranchPoint::Now).await.contains("cannot be"));
    assert!(refused("", "main", BranchPoint::Now).await.contains("cannot be"));
    assert!(refused("x", "nothing", BranchPoint::Now).await.contains("there is no branch"));
    assert!(refused("x", "main", BranchPoint::At(Lsn(end.0 + 1))).await.contains("ends at"));
    assert!(refused("x", "main", BranchPoint::Time(0)).await.contains("not kept"));
    // Commits are 0.1 s apart, and noted every 0.5 s.
    let (_, last_us) = cluster.fixture.workload.last_commit();
    let (child, lsn) = create(&cluster, "timed", "main", BranchPoint::Time(last_us - 3_000_000)).await.expect("made");
    assert!(lsn < end && lsn > Lsn::ZERO, "{lsn} of {end}");
    wait_until_served(&client, child).await;
    let mut workload: Workload = cluster.fixture.workload.branched(child, lsn, 5);
    workload.run(&cluster.fixture.log, 50);
    check_pages(&mut workload, &client, 50).await;

    let admin = branches(&cluster);
    let told =
        |outcome: Result<(), crate::cluster::directory::DirectoryError>| outcome.expect_err("refused").to_string();
    let (grandchild, _) = create(&cluster, "grand", "timed", BranchPoint::Now).await.expect("made");
    wait_until_served(&client, grandchild).await;
    assert!(told(admin.delete("main").await).contains("began with"));
    assert!(told(admin.delete("timed").await).contains("comes from"));
    assert!(told(admin.delete("nothing").await).contains("there is no branch"));
    for name in ["grand", "timed"] {
        admin.delete(name).await.expect("deleted");
        assert!(told(admin.delete(name).await).contains("there is no branch"));
    }
    let store = cluster.fixture.store.clone();
    eventually("nothing is left of them", async || {
        let left = cluster.directory.load().await.expect("readable").branches.len();
        let mut objects = store.list(&format!("branches/{child}")).await.expect("listed");
        objects.extend(store.list(&format!("branches/{grandchild}")).await.expect("listed"));
        left == 1 && objects.is_empty()
    })
    .await;
    assert!(client.get_pages(child, &[]).await.is_empty());
    cluster.fixture.check(&client, 50).await;
    let (next, _) = create(&cluster, "timed", "main", BranchPoint::Now).await.expect("the name is free again");
    assert!(next > grandchild, "numbers are not used again");
}
