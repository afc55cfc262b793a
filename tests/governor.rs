//! The governor with real processes: page servers whose object store takes its time under a bulk load. The load is
//! slowed and does not fail, reading goes on, memory stays bounded, everybody sees why, and it ends by itself.
//!
//! `ALLUVIUM_GOVERNOR_ROWS` sets the size of the load (150,000 rows of some 200 bytes).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, admin_get, metric};
use harness::log_nodes::LogNodes;
use harness::s3::{Fault, Honesty, S3Server};
use harness::tools::{peak_bytes, setting};
use harness::writers;

const MIB: u64 = 1 << 20;
const LIMIT_MIB: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_page_servers_cannot_follow_is_slowed_and_does_not_fail() {
    let rows: u64 = setting("ALLUVIUM_GOVERNOR_ROWS", 150_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let slow = Arc::new(AtomicU64::new(0));
    let delay = slow.clone();
    let store = S3Server::start(Honesty::Honest, move |_, request| match delay.load(Ordering::Relaxed) {
        pause_ms if pause_ms > 0 && request.method == "PUT" => Fault::Slow(Duration::from_millis(pause_ms)),
        _ => Fault::None,
    })
    .await;
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 1)).await;
    cluster.on_s3(&store);
    cluster.compute_options = vec!["--ingest-lag".to_owned(), format!("{LIMIT_MIB}MiB")];
    cluster.start_pages("one");
    cluster.start_compute();
    let address = cluster.address();
    cluster.query("CREATE TABLE seen (n int PRIMARY KEY, note text)");
    cluster.query("INSERT INTO seen SELECT i, 'note ' || i FROM generate_series(1, 20000) AS i");
    assert_eq!(cluster.query("SELECT count(*) FROM alluvium_log_rate"), "0", "nothing limits an idle database");
    slow.store(3_000, Ordering::Relaxed);

    let done = Arc::new(AtomicBool::new(false));
    let loaded = done.clone();
    let begun = Instant::now();
    let load = std::thread::spawn(move || {
        let sql = format!(
            "CREATE TABLE loaded AS SELECT i AS n, repeat(md5(i::text), 6) AS note FROM generate_series(1, {rows}) AS i"
        );
        let answer = harness::cluster::query(address, &sql);
        loaded.store(true, Ordering::Relaxed);
        answer
    });
    let (client, connection) = writers::config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
    tokio::spawn(connection);
    let (mut limiting, mut worst_lag, mut slowest_read, mut slowest_commit) = (0, 0, Duration::ZERO, Duration::ZERO);
    let mut n = 0i32;
    while !done.load(Ordering::Relaxed) {
        n += 1;
        let asked = Instant::now();
        let row = client.query_one("SELECT note FROM seen WHERE n = $1", &[&(1 + n * 37 % 20_000)]).await;
        row.expect("reading goes on");
        slowest_read = slowest_read.max(asked.elapsed());
        let asked = Instant::now();
        client
            .execute("UPDATE seen SET note = $2 WHERE n = $1", &[&(1 + n * 37 % 20_000), &"changed"])
            .await
            .expect("so do small commits");
        slowest_commit = slowest_commit.max(asked.elapsed());
        let limits = client
            .query("SELECT component, reason, lag_bytes, limit_bytes, delay_us_per_kib FROM alluvium_log_rate", &[])
            .await
            .expect("the view answers");
        if let Some(row) = limits.first() {
            limiting += 1;
            assert_eq!(row.get::<_, &str>(0), "page servers");
            assert!(row.get::<_, f64>(4) > 0.0);
            worst_lag = worst_lag.max(row.get::<_, i64>(2));
            if limiting == 1 {
                let status = admin_get(cluster.compute.as_ref().expect("it runs"), "/v1/status");
                assert!(status.contains("writers are slowed by page servers"), "{status}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(load.join().expect("the load does not fail"), format!("SELECT {rows}"));
    let took = begun.elapsed();
    let compute = cluster.compute.as_ref().expect("it runs");
    let (of_compute, of_pages) = (peak_bytes(compute.id()), peak_bytes(cluster.pages["one"].id()));
    let delayed_s = metric(compute, "alluvium_governor_delayed_us_total") / 1e6;
    println!(
        "{rows} rows in {took:?}; writers waited {delayed_s:.1} s; worst lag {} MiB of {LIMIT_MIB}; slowest read \
         {slowest_read:?}, slowest small commit {slowest_commit:?}; peaks: compute {} MiB, page server {} MiB",
        worst_lag as u64 / MIB,
        of_compute / MIB,
        of_pages / MIB,
    );
    assert!(limiting > 0, "the view showed who limits");
    assert!(delayed_s > 0.0);
    assert!(worst_lag < 3 * (LIMIT_MIB * MIB) as i64, "the lag is bounded: {worst_lag}");
    assert!(slowest_read < Duration::from_secs(20), "{slowest_read:?}");
    assert!(of_compute < 400 * MIB && of_pages < 400 * MIB, "{of_compute} and {of_pages} bytes");

    // It ends by itself.
    slow.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    while cluster.query("SELECT count(*) FROM alluvium_log_rate") != "0" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", cluster.query("SELECT * FROM alluvium_log_rate"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("nothing limits {:?} after the store was fast again", begun.elapsed());
    assert_eq!(cluster.query("SELECT count(*), sum(n) FROM loaded"), format!("{rows}|{}", rows * (rows + 1) / 2));

    // A statement that waits for the governor can be cancelled.
    slow.store(3_000, Ordering::Relaxed);
    let (cancelled, connection) = writers::config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
    tokio::spawn(connection);
    cancelled.batch_execute("SET statement_timeout = '4s'").await.expect("set");
    let begun = Instant::now();
    let again =
        "CREATE TABLE again AS SELECT i AS n, repeat(md5(i::text), 6) AS note FROM generate_series(1, 100000000) AS i";
    assert_eq!(harness::state(cancelled.batch_execute(again).await), "57014");
    println!("a load was cancelled {:?} after its start, with 4 s to go", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}
