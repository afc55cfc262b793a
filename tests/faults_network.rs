//! Partitions between processes, processes that are stopped for a while, and who believes after that to be what
//! another has become: FAULTS 9, 10, 15 and 16.
//!
//! `ALLUVIUM_PAUSE_SECONDS` sets how long processes are stopped and parted (5).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, admin_get, query, signal};
use harness::log_nodes::LogNodes;
use harness::tools::setting;
use harness::writers::{self, Writers};
use logstore::client::LogClient;
use storage::BranchId;

/// From a partition until the majority acknowledges. The design asks for 10 s.
const MAJORITY_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 25 } else { 10 });

fn pause() -> Duration {
    Duration::from_secs(setting("ALLUVIUM_PAUSE_SECONDS", 5))
}

/// The highest term that any node knows.
fn term(cluster: &Cluster<'_>) -> u64 {
    let terms = cluster.log.tiers().map(|tier| harness::cluster::metric(tier, "alluvium_log_term") as u64);
    terms.max().expect("there are nodes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_never_acknowledges_and_the_majority_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = LogNodes::start_wired(directory.path(), 3).await;
    let wires = log.wires.clone().expect("it is wired");
    let mut cluster = Cluster::of_log(directory.path(), log).await;
    cluster.start_pages("one");
    cluster.start_compute();
    let address = cluster.address();
    writers::prepare(address).await;
    let writers = Writers::start(address, 4);
    let mut other_branch = 1000;
    for case in [
        "leader, both directions",
        "leader cannot send",
        "leader cannot hear",
        "follower, both directions",
        "leader from all",
    ] {
        writers.wait_for_more(20, MAJORITY_WITHIN).await;
        let leader = cluster.log.wait_in_sync(&[1, 2, 3]).await.leader;
        let before = term(&cluster);
        let alone = if case.starts_with("leader") { leader } else { leader % 3 + 1 };
        let me = format!("log-{alone}");
        for other in (1..=3).filter(|node| *node != alone).map(|node| format!("log-{node}")) {
            if case != "leader cannot hear" {
                wires.cut(&me, &other);
            }
            if case != "leader cannot send" {
                wires.cut(&other, &me);
            }
        }
        if case == "leader from all" {
            ["compute", "one"].iter().for_each(|other| wires.part(&me, other));
        }
        let gone_on = writers.wait_for_more(10, MAJORITY_WITHIN).await;
        if case.contains("both") && case.starts_with("leader") {
            // A node without its majority takes nothing, whoever asks.
            other_branch += 1;
            let minority = cluster.log.client_of(alone);
            let taken =
                tokio::time::timeout(Duration::from_secs(3), minority.acquire_epoch(BranchId(other_branch))).await;
            assert!(!matches!(taken, Ok(Ok(_))), "the minority has granted an epoch");
        }
        tokio::time::sleep(pause() / 2).await;
        writers.wait_for_more(10, MAJORITY_WITHIN).await;
        wires.mend();
        let mended = Instant::now();
        cluster.log.wait_in_sync(&[1, 2, 3]).await;
        let after = term(&cluster);
        println!(
            "{case}: ten writes {gone_on:?} after the cut; in sync {:?} after it was mended; term {before} to {after}",
            mended.elapsed()
        );
        assert!(after <= before + 4, "{case}: elections without end: term {before} to {after}");
    }
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert_eq!(seen.denied, 0);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_process_may_be_stopped_for_a_while() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start(directory.path(), &["one", "two"]).await;
    let address = cluster.address();
    writers::prepare(address).await;
    let writers = Writers::start(address, 4);
    for case in ["leader", "follower", "page server", "compute"] {
        writers.wait_for_more(20, MAJORITY_WITHIN).await;
        let leader = cluster.log.wait_for("a leader", |status| status.nodes.len() == 3).await.leader;
        let process = match case {
            "leader" => cluster.log.process(leader),
            "follower" => cluster.log.process(leader % 3 + 1),
            "page server" => cluster.pages["one"].id(),
            _ => cluster.compute.as_ref().expect("it runs").id(),
        };
        signal(process, libc::SIGSTOP);
        if case == "compute" {
            tokio::time::sleep(pause()).await;
        } else {
            let gone_on = writers.wait_for_more(10, MAJORITY_WITHIN).await;
            println!("{case} stopped: ten writes within {gone_on:?}");
            tokio::time::sleep(pause().saturating_sub(gone_on)).await;
        }
        signal(process, libc::SIGCONT);
        let gone_on = writers.wait_for_more(20, MAJORITY_WITHIN).await;
        println!("{case} goes on: twenty writes within {gone_on:?}");
    }
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert_eq!(seen.denied, 0);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}

/// Sessions of a compute that another has replaced: one idle, one within a transaction, one that commits without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_while_it_was_stopped_acknowledges_nothing() {
    let ends_within = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 5 });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start(directory.path(), &["one"]).await;
    let old = cluster.address();
    writers::prepare(old).await;
    cluster.query("CREATE TABLE notes (n int PRIMARY KEY)");
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let (client, connection) = writers::config(old).connect(tokio_postgres::NoTls).await.expect("it connects");
        sessions.push((client, tokio::spawn(connection)));
    }
    let (idle, transaction) = (sessions.pop().expect("three"), sessions.pop().expect("three"));
    idle.0.batch_execute("SELECT 1").await.expect("it answers");
    transaction.0.batch_execute("BEGIN; INSERT INTO notes VALUES (-1)").await.expect("it answers");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let counter = acknowledged.clone();
    let writing = tokio::spawn(async move {
        let (client, connection) = sessions.pop().expect("three");
        let mut n = 0;
        while client.execute("INSERT INTO notes VALUES ($1)", &[&n]).await.is_ok() {
            n += 1;
            counter.store(n as u64, Ordering::SeqCst);
        }
        connection.abort();
    });
    while acknowledged.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let zombie = cluster.compute.as_ref().expect("it runs").id();
    signal(zombie, libc::SIGSTOP);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = acknowledged.load(Ordering::SeqCst);
    let replacement = cluster.another_compute("127.0.0.1:0", "replacement");
    let new = replacement.address("psql");
    let rows: u64 = query(new, "SELECT count(*) FROM notes").parse().expect("a number");
    assert!(rows == before || rows == before + 1, "{rows} rows, {before} acknowledged");
    query(new, "INSERT INTO notes VALUES (-2)");
    tokio::time::sleep(pause().min(Duration::from_secs(10))).await;

    signal(zombie, libc::SIGCONT);
    let resumed = Instant::now();
    // What it acknowledges now it could only have known before: at most the one that the log had.
    let outcome = transaction.0.batch_execute("COMMIT").await;
    let told = outcome.expect_err("the old epoch acknowledges nothing");
    let transaction_after = resumed.elapsed();
    tokio::time::timeout(ends_within, writing).await.expect("the writer is told").expect("it ends");
    let writer_after = resumed.elapsed();
    let ended = tokio::time::timeout(ends_within, idle.1).await;
    assert!(ended.is_ok(), "an idle session was not ended within {ends_within:?}");
    println!(
        "resumed: COMMIT failed after {transaction_after:?} ({told}), the writer after {writer_after:?}, the idle session was ended after {:?}",
        resumed.elapsed()
    );
    assert!(resumed.elapsed() < ends_within, "{:?}", resumed.elapsed());
    let now = acknowledged.load(Ordering::SeqCst);
    assert!(now <= rows, "{now} acknowledged, {rows} in the log when it was replaced");
    assert_eq!(query(new, "SELECT count(*) FROM notes").parse(), Ok(rows + 1));
    assert_eq!(query(new, "SELECT count(*) FROM notes WHERE n = -1"), "0", "what was denied is not there");
    assert_eq!(query(new, "SELECT * FROM alluvium_check()"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_server_that_lost_its_shards_while_it_was_stopped_does_no_harm() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 1)).await;
    // Layers, garbage and deletions within the test.
    cluster.page_options = ["--retention", "1MiB"].map(str::to_owned).into();
    ["one", "two"].iter().for_each(|id| cluster.start_pages(id));
    cluster.start_compute();
    let address = cluster.address();
    writers::prepare(address).await;
    cluster.query("CREATE TABLE wide (n int PRIMARY KEY, note text)");
    cluster.wait_for_shards(&["one", "two"], &[2, 2], Duration::from_secs(60)).await;
    let writers = Writers::start(address, 3);
    for round in 0..2 {
        let sql = format!(
            "INSERT INTO wide SELECT i + {round} * 100000, repeat(md5(i::text), 12) FROM generate_series(1, 8000) AS i"
        );
        cluster.query(&sql);
        let stopped = cluster.pages["one"].id();
        signal(stopped, libc::SIGSTOP);
        let away = cluster.wait_for_shards(&["two"], &[4], Duration::from_secs(60)).await;
        // The new owner writes, rewrites and deletes.
        cluster.query("UPDATE wide SET note = note || 'x'");
        tokio::time::sleep(pause()).await;
        signal(stopped, libc::SIGCONT);
        // Both believe in it for a moment; then the shards are shared evenly again.
        let gone_on = writers.wait_for_more(20, MAJORITY_WITHIN).await;
        let shared = cluster.wait_for_shards(&["one", "two"], &[2, 2], Duration::from_secs(60)).await;
        println!(
            "shards taken over after {away:?}; twenty writes within {gone_on:?} of waking; shared again after {shared:?}"
        );
        assert!(
            admin_get(&cluster.pages["one"], "/healthz").contains("200"),
            "{}",
            admin_get(&cluster.pages["one"], "/healthz")
        );
    }
    let digest = "SELECT count(*), sum(length(note)), md5(string_agg(note, ',' ORDER BY n)) FROM wide";
    let expected = cluster.query(digest);
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert_eq!(seen.denied, 0);
    // No live object was deleted: everything is read anew, from the object store.
    cluster.kill_compute();
    for id in ["one", "two"] {
        cluster.kill_pages(id);
        std::fs::remove_dir_all(directory.path().join(id)).expect("a cache may be deleted");
    }
    cluster.start_pages("one");
    cluster.start_compute();
    assert_eq!(cluster.query(digest), expected);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}
