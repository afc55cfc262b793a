//! Compactors as processes of their own, beside page servers under pgbench: they do the rewriting, are killed and paused in the
//! middle of a job, and nothing is lost nor left undone.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, metric, query, signal};
use harness::log_nodes::LogNodes;
use harness::pgbench::{self, Running};
use harness::tier::Tier;

const JOBS: &str = "alluvium_pageserver_compaction_jobs_total";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn compactor(cluster: &Cluster<'_>, directory: &Path, id: &str) -> Tier {
    let (log, store) = (cluster.log.addresses().join(","), format!("file://{}", directory.join("objects").display()));
    let fixed = ["pageserver", "--role", "compactor", "--admin-listen", "127.0.0.1:0", "--memory", "64MiB"];
    Tier::start(&[&fixed[..], &["--id", id, "--log", &log, "--store", &store]].concat())
}

/// Jobs of all page servers that ended so, by whom.
fn jobs(cluster: &Cluster<'_>, by: &str, outcome: &str) -> f64 {
    let name = format!("{JOBS}{{by=\"{by}\",outcome=\"{outcome}\"}}");
    cluster.pages.values().map(|tier| metric(tier, &name)).fold(0.0, |sum, count| sum + count)
}

/// Rows in large transactions, so that there is much to rewrite; answers how many were acknowledged.
fn fill(address: SocketAddr, go_on: Arc<AtomicBool>) -> JoinHandle<u64> {
    query(address, "CREATE TABLE filler (n bigint PRIMARY KEY, filler text)");
    std::thread::spawn(move || {
        let mut rows = 0;
        while go_on.load(Ordering::SeqCst) {
            let values = format!("SELECT g, repeat('x', 300) FROM generate_series({}, {}) g", rows + 1, rows + 5000);
            query(address, &format!("INSERT INTO filler {values}"));
            rows += 5000;
        }
        rows
    })
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactors_rewrite_and_may_be_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 1)).await;
    // Two shards, so that buffers fill soon.
    cluster.page_options = ["--shards", "2"].map(str::to_owned).to_vec();
    cluster.start_pages("one");
    cluster.start_compute();
    let address = cluster.address();
    pgbench::initialise(address, 4);
    let load = Running::start(address, "simple", 2, 3600);
    let filling = Arc::new(AtomicBool::new(true));
    let filler = fill(address, filling.clone());
    let first = compactor(&cluster, directory.path(), "first");
    eventually("a compactor's work is taken", || jobs(&cluster, "compactor", "done") >= 2.0).await;
    let listed = cluster.ctl(&["compactors"]);
    assert!(listed.contains("compactor first"), "{listed}");

    // Held up in the middle of a job, then killed: the job is offered again, and the second one has come.
    eventually("it has a job", || metric(&first, "alluvium_compactor_running") > 0.0).await;
    signal(first.id(), libc::SIGSTOP);
    let second = compactor(&cluster, directory.path(), "second");
    let (lost, done) = (jobs(&cluster, "compactor", "lost"), jobs(&cluster, "compactor", "done"));
    eventually("the job is missed, or was done just before", || {
        jobs(&cluster, "compactor", "lost") > lost || jobs(&cluster, "compactor", "done") > done + 2.0
    })
    .await;
    first.kill();
    let done = jobs(&cluster, "compactor", "done");
    eventually("the second one works", || jobs(&cluster, "compactor", "done") >= done + 1.0).await;

    // Killed outright: the page server does without.
    eventually("it has a job", || metric(&second, "alluvium_compactor_running") > 0.0).await;
    second.kill();
    let own = jobs(&cluster, "server", "done");
    eventually("the server rewrites", || jobs(&cluster, "server", "done") > own).await;

    // One that ends in good order.
    let third = compactor(&cluster, directory.path(), "third");
    eventually("the third one is seen", || cluster.ctl(&["compactors"]).contains("compactor third")).await;
    third.stop();
    drop(load);
    filling.store(false, Ordering::SeqCst);
    let rows = filler.join().expect("the filler ends");
    let transactions = pgbench::check_money(address);
    println!(
        "{transactions} transactions; {} rewrites by compactors, {} by the server, {} lost, {} refused, {} failed",
        jobs(&cluster, "compactor", "done"),
        jobs(&cluster, "server", "done"),
        jobs(&cluster, "compactor", "lost"),
        jobs(&cluster, "compactor", "refused"),
        jobs(&cluster, "compactor", "failed"),
    );
    assert_eq!(jobs(&cluster, "compactor", "refused"), 0.0);
    // All is there, told by processes that have nothing in memory and nothing on disk.
    cluster.kill_compute();
    cluster.kill_pages("one");
    std::fs::remove_dir_all(directory.path().join("one")).expect("a cache may be deleted");
    cluster.start_pages("one");
    cluster.start_compute();
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
    assert_eq!(pgbench::check_money(address), transactions);
    assert_eq!(cluster.query("SELECT count(*), sum(n) FROM filler"), format!("{rows}|{}", rows * (rows + 1) / 2));
}
