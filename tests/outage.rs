//! The object store is away: commits go on within the log's budget, reading goes on, and afterwards everything catches up by
//! itself in at most twice the time (FAULTS 14, in small).
//!
//! `ALLUVIUM_OUTAGE_SECONDS` sets how long it is away (15).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, metric};
use harness::log_nodes::LogNodes;
use harness::pgbench;
use harness::s3::{Fault, Honesty, S3Server};
use harness::tools::{peak_bytes, setting};
use harness::writers::{self, Writers};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_on_while_the_object_store_is_away() {
    let seconds: u64 = setting("ALLUVIUM_OUTAGE_SECONDS", 15);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let away = Arc::new(AtomicBool::new(false));
    let is_away = away.clone();
    let store = S3Server::start(Honesty::Honest, move |number, _| match is_away.load(Ordering::Relaxed) {
        true if number % 3 == 0 => Fault::Reset,
        true => Fault::Status(503),
        false => Fault::None,
    })
    .await;
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 3)).await;
    cluster.on_s3(&store);
    ["one", "two"].iter().for_each(|id| cluster.start_pages(id));
    cluster.start_compute();
    let address = cluster.address();
    pgbench::initialise(address, 1);
    writers::prepare(address).await;
    let writers = Writers::start(address, 2);
    let bench = std::thread::spawn(move || pgbench::run(address, "simple", 4, seconds + 5));
    tokio::time::sleep(Duration::from_secs(2)).await;
    away.store(true, Ordering::Relaxed);
    let (left, written) = (Instant::now(), writers.acknowledged());
    while left.elapsed() < Duration::from_secs(seconds) {
        writers.wait_for_more(1, Duration::from_secs(20)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let meanwhile = writers.acknowledged() - written;
    let report = bench.join().expect("pgbench ends well");
    let end = cluster.query("SELECT pg_current_wal_lsn()");
    away.store(false, Ordering::Relaxed);
    let back = Instant::now();
    let compute = cluster.compute.as_ref().expect("it runs");
    // All that was written during the outage is in layers or on its way there: nobody is far behind any more.
    let lags = |of: &str| metric(compute, &format!("alluvium_governor_lag_bytes{{of=\"{of}\"}}"));
    let catches_up_within = Duration::from_secs((2 * seconds).max(60));
    while lags("ingest") > MIB as f64 || cluster.query("SELECT count(*) FROM alluvium_log_rate") != "0" {
        assert!(back.elapsed() < catches_up_within, "behind by {} bytes after {:?}", lags("ingest"), back.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let peaks: Vec<_> = cluster.pages.values().map(|tier| peak_bytes(tier.id()) / MIB).collect();
    println!(
        "away for {seconds} s: {meanwhile} recorded writes and {} transactions of pgbench ({} failed); caught up {:?} after it \
         was back; log ends at {end}; peaks of page servers {peaks:?} MiB",
        report.processed,
        report.failed,
        back.elapsed()
    );
    assert_eq!(report.failed, 0);
    assert!(meanwhile > 0);
    assert!(peaks.iter().all(|peak| *peak < 400), "memory is bounded: {peaks:?} MiB");
    let seen = writers.check(address).await;
    assert_eq!((seen.denied, seen.unknown), (0, 0), "{seen:?}");
    pgbench::check_sums(address, report.processed);
    // Page servers with nothing of their own answer the same.
    cluster.kill_compute();
    for id in ["one", "two"] {
        cluster.kill_pages(id);
        std::fs::remove_dir_all(directory.path().join(id)).expect("a cache may be deleted");
        cluster.start_pages(id);
    }
    cluster.start_compute();
    pgbench::check_sums(address, report.processed);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}
