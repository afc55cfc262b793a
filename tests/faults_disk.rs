//! Real disks that are full: those of the log nodes, of a page server's cache, of a compute's temporary files (FAULTS 3).
//! What was acknowledged stays, reading goes on, what needs the room is refused with 53100, and all resumes by itself.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, query, signal};
use harness::log_nodes::LogNodes;
use harness::small_disk::SmallDisk;
use harness::state;
use harness::writers::{self, Writers};

const MIB: u64 = 1 << 20;
const RESUMES_WITHIN: Duration = Duration::from_secs(30);

/// Mounts, or tells why the test has nothing to test with.
fn disk(path: &std::path::Path, mebibytes: u64) -> Option<SmallDisk> {
    match SmallDisk::mount(path, mebibytes) {
        Ok(disk) => Some(disk),
        Err(reason) => {
            println!("SKIPPED: no small disk can be mounted here: {reason}");
            None
        }
    }
}

async fn connect(address: SocketAddr) -> tokio_postgres::Client {
    let (client, connection) = writers::config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
    tokio::spawn(connection);
    client
}

/// Fills the log until it is refused or told to end; answers how many inserts were acknowledged, and the SQLSTATE.
async fn fill(address: SocketAddr, done: Arc<AtomicBool>) -> (u64, String) {
    let client = connect(address).await;
    let mut acknowledged = 0;
    while !done.load(Ordering::Relaxed) {
        let n = acknowledged + 1;
        let rows = "repeat(md5(i::text), 40) FROM generate_series(1, 500) AS i";
        if let Err(error) = client.batch_execute(&format!("INSERT INTO filler SELECT i + {n} * 1000, {rows}")).await {
            return (acknowledged, state::<()>(Err(error)));
        }
        acknowledged += 1;
    }
    (acknowledged, String::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_nodes_whose_disks_are_full_refuse_and_resume() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::new(directory.path(), 3);
    let mut disks = Vec::new();
    for node in 1..=3 {
        let Some(disk) = disk(&directory.path().join(format!("disk-{node}")), 112) else { return };
        nodes.elsewhere.insert(node, disk.path().join("data"));
        disks.push(disk);
    }
    nodes.start_all();
    let mut cluster = Cluster::of_log(directory.path(), nodes).await;
    cluster.start_pages("one");
    // All that is written fits into it: the page server will stand still, and can give no pages.
    cluster.compute_options = ["--memory", "256MiB"].map(str::to_owned).to_vec();
    cluster.start_compute();
    let address = cluster.address();
    writers::prepare(address).await;
    cluster.query("CREATE TABLE filler (n int PRIMARY KEY, note text)");
    let writers = Writers::start(address, 2);
    writers.wait_for_more(20, RESUMES_WITHIN).await;
    // One full disk of three: the others are a majority.
    let leader = cluster.log.wait_in_sync(&[1, 2, 3]).await.leader;
    let follower = (leader % 3) as usize;
    disks[follower].fill(0);
    let gone_on = writers.wait_for_more(50, RESUMES_WITHIN).await;
    println!("a follower's disk is full: fifty writes within {gone_on:?}");
    disks[follower].free();
    // All disks full but for a little: commits are refused sooner or later, reading goes on.
    // Page servers stand still meanwhile: what they make durable is trimmed, and there would be room again.
    signal(cluster.pages["one"].id(), libc::SIGSTOP);
    disks.iter().for_each(|disk| disk.fill(2 * MIB));
    let done = Arc::new(AtomicBool::new(false));
    let filling = tokio::spawn(fill(address, done.clone()));
    // Whoever commits when the disks fill up is told soon that the outcome is unknown; who comes later is refused.
    let (begun, mut added, mut under_way) = (Instant::now(), 0, 0);
    loop {
        let probe = connect(address).await;
        let sql = format!("INSERT INTO filler VALUES (-{}, 'probe')", added + under_way + 1);
        match tokio::time::timeout(Duration::from_secs(15), probe.batch_execute(&sql)).await {
            Ok(Ok(())) => added += 1,
            Ok(refused) => match state(refused).as_str() {
                "53100" => break,
                "08007" => under_way += 1,
                other => panic!("a probe is told {other}"),
            },
            Err(_) => panic!("a probe whose commit was under way is told nothing"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{added} probes, and nothing is refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("refused after {:?}; {under_way} probes were under way", begun.elapsed());
    assert_eq!(query(address, "SELECT count(*) FROM bank"), "40", "reading goes on");
    let begun = Instant::now();
    disks.iter().for_each(SmallDisk::free);
    signal(cluster.pages["one"].id(), libc::SIGCONT);
    writers.wait_for_more(20, RESUMES_WITHIN).await;
    println!("there is room again: writing resumed within {:?}", begun.elapsed());
    done.store(true, Ordering::Relaxed);
    let (acknowledged, told) = filling.await.expect("it ends");
    assert!(["", "53100", "08007"].contains(&told.as_str()), "{told}");
    let rows: u64 = query(address, "SELECT count(*) FROM filler").parse().expect("a number");
    let expected = acknowledged * 500 + added;
    let unknown = if told == "08007" { under_way + 500 } else { under_way };
    assert!(
        (expected..=expected + unknown).contains(&rows),
        "{rows} rows, {expected} acknowledged, {under_way} unknown"
    );
    let seen = writers.check(address).await;
    println!("{seen:?}");
    assert!(seen.errors.iter().all(|(state, _)| ["53100", "08007"].contains(&state.as_str())), "{seen:?}");
    cluster.log.wait_in_sync(&[1, 2, 3]).await;
    cluster.kill_compute();
    cluster.start_compute();
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_of_caches_and_temporary_files_cost_nothing_that_was_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(cache) = disk(&directory.path().join("one"), 8) else { return };
    let Some(temporary) = disk(&directory.path().join("compute"), 24) else { return };
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 1)).await;
    cluster.start_pages("one");
    cluster.start_compute();
    let address = cluster.address();
    writers::prepare(address).await;
    let writers = Writers::start(address, 2);
    // Several times what the cache's disk holds.
    let rows = "SELECT i AS n, repeat(md5(i::text), 8) AS note FROM generate_series(1, 60000) AS i";
    cluster.query(&format!("CREATE TABLE wide AS {rows}"));
    let digest = "SELECT count(*), md5(string_agg(left(note, 8), ',' ORDER BY n)) FROM wide";
    let before = cluster.query(digest);
    cache.fill(0);
    cluster.kill_compute();
    cluster.start_compute();
    assert_eq!(cluster.query(digest), before, "a full cache is slower, and no worse");
    writers.wait_for_more(20, RESUMES_WITHIN).await;

    // A sort that does not fit on the disk of temporary files.
    temporary.fill(MIB);
    let (client, connection) = writers::config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
    tokio::spawn(connection);
    client.batch_execute("SET work_mem = '1MB'").await.expect("set");
    let sort = "SELECT note FROM wide ORDER BY md5(note) OFFSET 59999";
    let refused = state(client.query(sort, &[]).await);
    assert_eq!(refused, "53100");
    assert_eq!(query(address, "SELECT count(*) FROM bank"), "40", "others go on");
    writers.wait_for_more(20, RESUMES_WITHIN).await;
    temporary.free();
    assert_eq!(client.query(sort, &[]).await.expect("there is room").len(), 1, "the session goes on");
    let seen = writers.check(address).await;
    println!("a sort without room was told {refused}; {seen:?}");
    assert_eq!(seen.denied, 0);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}
