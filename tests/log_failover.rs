//! pgbench on a compute, a page server and three log nodes, each a process of its own, while leaders of the log are killed:
//! writes go on, nothing is lost, and clients see no error.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::{Duration, Instant};

use harness::log_nodes::LogNodes;
use harness::pgbench;
use harness::tier::Tier;
use tokio_postgres::{Config, NoTls};

async fn history_rows(address: std::net::SocketAddr) -> i64 {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.expect("the compute takes connections");
    let connection = tokio::spawn(connection);
    let rows = client.query_one("SELECT count(*) FROM pgbench_history", &[]).await.expect("readable").get(0);
    connection.abort();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_leader_is_killed_under_pgbench() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut nodes = LogNodes::start(directory.path(), 3);
    nodes.wait_in_sync(&[1, 2, 3]).await;
    let log = nodes.addresses().join(",");
    let (store, cache, temporary) = (format!("file://{}", path("objects")), path("pageserver"), path("tmp"));
    let any = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--memory", "64MiB", "--log", &log];
    let pages = Tier::start(&[&["pageserver"], &any[..], &["--store", &store, "--data-dir", &cache]].concat());
    let pages_address = pages.address("pages").to_string();
    let start_compute =
        || Tier::start(&[&["compute"], &any[..], &["--pages", &pages_address, "--temp-dir", &temporary]].concat());
    let compute = start_compute();
    let address = compute.address("psql");
    pgbench::initialise(address, 1);
    let load = std::thread::spawn(move || pgbench::run(address, "simple", 4, 14));
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let leader = nodes.wait_for("a leader", |_| true).await.leader;
        let before = history_rows(address).await;
        nodes.kill(leader);
        let begun = Instant::now();
        // Commits that had been on their way may still be counted; clearly more means that new ones get through.
        while history_rows(address).await < before + 20 {
            assert!(begun.elapsed() < Duration::from_secs(12), "no commits after the leader was killed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("commits went on {:?} after log node {leader} was killed", begun.elapsed());
        slowest = slowest.max(begun.elapsed());
        nodes.start_node(leader);
        nodes.wait_for("three active nodes", |status| status.nodes.iter().all(|node| node.is_active)).await;
    }
    let report = load.join().expect("pgbench ends well");
    println!("{} transactions, {} failed", report.processed, report.failed);
    assert_eq!(report.failed, 0);
    assert!(report.processed > 0);
    pgbench::check_sums(address, report.processed);
    // Another compute, which has only the log and the pages.
    compute.kill();
    let compute = start_compute();
    pgbench::check_sums(compute.address("psql"), report.processed);
    compute.stop();
    pages.stop();
    assert!(slowest < Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 3 }), "{slowest:?}");
}
