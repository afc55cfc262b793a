//! Kill -9 of any tier at any point, under pgbench and under clients that record what they were told: three log nodes, two
//! page servers and a compute on an S3 server (FAULTS 1), a log node that loses its disk (8).
//!
//! `ALLUVIUM_FAULT_SECONDS` sets how long processes are killed (20), `ALLUVIUM_SEED` the seed.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::{Duration, Instant};

use harness::cluster::Cluster;
use harness::log_nodes::LogNodes;
use harness::pgbench::{self, Running};
use harness::random::Random;
use harness::s3::S3Server;
use harness::tools::setting;
use harness::writers::{self, Writers};

/// From a tier's restart until writes are acknowledged again. The design asks for 10 s; a program that was not optimised, on a
/// busy machine, gets three times as long.
const RECOVERS_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 10 });

/// All is there, told by processes that have nothing in memory and nothing on disk.
async fn check_from_nothing(cluster: &mut Cluster<'_>) {
    cluster.kill_compute();
    let servers: Vec<_> = cluster.pages.keys().cloned().collect();
    for id in &servers {
        cluster.kill_pages(id);
        std::fs::remove_dir_all(cluster.directory.join(id)).expect("a cache may be deleted");
    }
    servers.iter().for_each(|id| cluster.start_pages(id));
    cluster.start_compute();
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whichever_tier_is_killed() {
    let seconds: u64 = setting("ALLUVIUM_FAULT_SECONDS", 20);
    let seed: u64 = setting("ALLUVIUM_SEED", 20_261_120);
    let mut random = Random(seed);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = S3Server::honest().await;
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 3)).await;
    cluster.on_s3(&store);
    ["one", "two"].iter().for_each(|id| cluster.start_pages(id));
    cluster.start_compute();
    let address = cluster.address();
    pgbench::initialise(address, 1);
    writers::prepare(address).await;
    let writers = Writers::start(address, 3);
    let mut bench = Some(Running::start(address, "simple", 3, 3600));
    let (begun, mut slowest, mut kills) = (Instant::now(), Duration::ZERO, [0; 4]);
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(100 + random.below(1_200))).await;
        let victim = random.below(4) as usize;
        kills[victim] += 1;
        let away = Duration::from_millis(random.below(800));
        let what = match victim {
            0 => {
                let status = cluster.log.wait_for("a leader", |status| status.nodes.len() == 3).await;
                let node = if random.below(2) == 0 { status.leader } else { 1 + random.below(3) };
                cluster.log.kill(node);
                tokio::time::sleep(away).await;
                cluster.log.start_node(node);
                format!("log node {node} (leader was {})", status.leader)
            }
            1 | 2 => {
                let id = ["one", "two"][random.below(2) as usize];
                cluster.kill_pages(id);
                if victim == 2 {
                    std::fs::remove_dir_all(directory.path().join(id)).expect("a cache may be deleted");
                }
                tokio::time::sleep(away).await;
                cluster.start_pages(id);
                format!("page server {id}")
            }
            _ => {
                cluster.kill_compute();
                tokio::time::sleep(away).await;
                cluster.start_compute();
                bench = Some(Running::start(address, "simple", 3, 3600));
                "the compute".to_owned()
            }
        };
        let recovered = writers.wait_for_more(10, RECOVERS_WITHIN).await;
        println!("{what} killed, away for {away:?}: writes go on {recovered:?} after its start");
        slowest = slowest.max(recovered);
    }
    drop(bench);
    let seen = writers.check(address).await;
    let transactions = pgbench::check_money(address);
    println!(
        "seed {seed}: killed log nodes {}, page servers {}, compute {} times; slowest recovery {slowest:?}; {seen:?}; \
         {transactions} transactions of pgbench",
        kills[0],
        kills[1] + kills[2],
        kills[3]
    );
    assert!(seen.denied == 0, "nobody's write was refused: {seen:?}");
    check_from_nothing(&mut cluster).await;
    assert_eq!(pgbench::check_money(address), transactions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_node_that_lost_its_disk_comes_back_under_load() {
    let seconds: u64 = setting("ALLUVIUM_FAULT_SECONDS", 20) / 5;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::start(directory.path(), &["one"]).await;
    let address = cluster.address();
    writers::prepare(address).await;
    let writers = Writers::start(address, 4);
    for leader in [false, true] {
        writers.wait_for_more(50, RECOVERS_WITHIN).await;
        let status = cluster.log.wait_for("a leader", |status| status.nodes.len() == 3).await;
        let node = if leader { status.leader } else { status.leader % 3 + 1 };
        cluster.log.kill(node);
        cluster.log.wipe(node);
        tokio::time::sleep(Duration::from_secs(seconds.min(30))).await;
        let gone_on = writers.wait_for_more(10, RECOVERS_WITHIN).await;
        let begun = Instant::now();
        cluster.log.start_node(node);
        cluster.log.wait_in_sync(&[1, 2, 3]).await;
        println!(
            "node {node} (leader: {leader}) lost its disk; ten writes within {gone_on:?} while it was away; in sync {:?} after its start",
            begun.elapsed()
        );
    }
    // Both nodes that were never wiped may go now: the others hold everything.
    writers.wait_for_more(20, RECOVERS_WITHIN).await;
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert!(seen.errors.iter().all(|(_, times)| *times <= 2), "one error a session and loss, at most: {seen:?}");
    check_from_nothing(&mut cluster).await;
}
