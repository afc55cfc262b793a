//! A database of the shape of a large one, with its history, loaded through two page servers with little memory: reads touch
//! few layers, memory is bounded, and branches of the present and of the past are made in a moment and hold what was there.
//!
//! `ALLUVIUM_SCALE_MB` sets how much is loaded (16 MiB of rows, and as much again is rewritten).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, admin_get, query};
use harness::log_nodes::LogNodes;
use harness::tier::Tier;
use harness::tools::{peak_bytes, setting};

const MIB: u64 = 1 << 20;
/// The design asks for less than a second; starting a program that was not optimised, on a busy machine, takes that already.
const BRANCHES_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 6_000 } else { 1_000 });

fn digest(address: SocketAddr) -> String {
    // Of every row, whatever its place: what it holds, weighted by which it is.
    let content = "sum((ascii(substr(note, 1 + n % 32, 1)) + 7 * version) * (n % 1009))";
    query(address, &format!("SELECT count(*), sum(version), {content}, min(note), max(note) FROM wide"))
}

/// Reads of all page servers, and how many of these touched eight layers at most.
fn reads(servers: &[&Tier]) -> (f64, f64) {
    let (mut all, mut within) = (0.0, 0.0);
    for server in servers {
        for line in admin_get(server, "/metrics").lines() {
            let value = || line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number");
            if line.starts_with("alluvium_pageserver_layers_per_read_count") {
                all += value();
            } else if line.starts_with("alluvium_pageserver_layers_per_read_bucket") && line.contains("le=\"8\"") {
                within += value();
            }
        }
    }
    (all, within)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_database_stays_quick_to_read_and_to_branch() {
    let megabytes: u64 = setting("ALLUVIUM_SCALE_MB", 16);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::of_log(directory.path(), LogNodes::start(directory.path(), 1)).await;
    cluster.page_options = ["--retention", "1TiB"].map(str::to_owned).into();
    ["one", "two"].iter().for_each(|id| cluster.start_pages(id));
    cluster.start_compute();
    let address = cluster.address();
    cluster.query("CREATE TABLE wide (n int PRIMARY KEY, version int NOT NULL, note text NOT NULL)");
    cluster.wait_for_shards(&["one", "two"], &[2, 2], Duration::from_secs(60)).await;
    // Some 250 bytes a row; eight pieces, after each of which a quarter of what is there is rewritten.
    let piece = megabytes * MIB / 250 / 8;
    let (mut middle, mut slowest_read) = (None, Duration::ZERO);
    let begun = Instant::now();
    for step in 0..8 {
        let (from, to) = (step * piece + 1, (step + 1) * piece);
        cluster.query(&format!(
            "INSERT INTO wide SELECT i, 0, repeat(md5(i::text), 7) FROM generate_series({from}, {to}) AS i"
        ));
        cluster.query(&format!("UPDATE wide SET version = version + 1 WHERE n % 4 = {}", step % 4));
        // Reads all over what there is, by a compute that has nothing in memory.
        cluster.kill_compute();
        cluster.start_compute();
        let asked = Instant::now();
        let keys: Vec<_> = (1..=300u64).map(|i| (1 + (i * 7919) % to).to_string()).collect();
        cluster.query(&format!("SELECT count(note) FROM wide WHERE n IN ({})", keys.join(", ")));
        slowest_read = slowest_read.max(asked.elapsed());
        if step == 3 {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let time = cluster.query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
            middle = Some((time, digest(address)));
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    }
    let loaded_in = begun.elapsed();
    let (time, in_the_middle) = middle.expect("there was a middle");
    let now = digest(address);
    let servers: Vec<&Tier> = cluster.pages.values().collect();
    let (all, within) = reads(&servers);
    let peaks: Vec<_> = servers.iter().map(|tier| peak_bytes(tier.id()) / MIB).collect();
    println!(
        "{megabytes} MiB of rows and their history in {loaded_in:?}; {all} reads, {:.3} % of them of at most eight layers; 300 \
         rows read in {slowest_read:?} at worst; peaks of page servers {peaks:?} MiB",
        within / all * 100.0
    );
    assert!(all > 100.0 && within >= 0.99 * all, "{within} of {all} reads touched at most eight layers");
    assert!(peaks.iter().all(|peak| *peak < 300), "memory is bounded: {peaks:?} MiB");

    for (name, options, expected) in [("now", &[][..], &now), ("past", &["--time", time.as_str()][..], &in_the_middle)]
    {
        let begun = Instant::now();
        cluster.ctl(&[&["branch", "create", name][..], options].concat());
        let took = begun.elapsed();
        let compute = cluster.compute_of(name, "127.0.0.1:0", name);
        assert_eq!(&digest(compute.address("psql")), expected, "branch {name}");
        println!("branch {name}: made and served within {took:?}, equal by digest");
        assert!(took < BRANCHES_WITHIN, "branch {name} took {took:?}");
        compute.stop();
    }
    assert_eq!(digest(address), now, "the parent is what it was");
}
