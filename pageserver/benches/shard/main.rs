//! One shard under a long log, on a local directory: `cargo bench -p alluvium-pageserver --bench shard`.
//!
//! A load of all pages, then TPC-B-like transactions over them: accounts everywhere, hot tellers and branches, history at the
//! end. Meanwhile pages are read at random. Prints what it cost and how far a read had to reach:
//!
//! - `ALLUVIUM_BENCH_ACCOUNT_PAGES` (default 20,000): size of the table;
//! - `ALLUVIUM_BENCH_LOG_MIB` (default 512): length of the log of transactions;
//! - `ALLUVIUM_BENCH_DIRECTORY` (default: a temporary one): where log and layers go;
//! - `ALLUVIUM_BENCH_MEMORY_MIB` (384), `ALLUVIUM_BENCH_RUN_PLACES` (as ever): settings of the page server;
//! - `ALLUVIUM_BENCH_ONLY`: `rewrites` ends before the log is taken in whole, `ingest` before pages are read in earnest,
//!   `reads` begins with them after a log of 16 MiB.

#![allow(clippy::disallowed_methods)]

mod log;
mod meters;
mod reads;
mod rewrites;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pageserver::client::{GetPage, Priority};
use pageserver::{PageServer, PageServerConfig};
use storage::layout::{STRIPE_PAGES, ShardLayout};
use storage::object::{ObjectStore, RetryPolicy};
use storage::{BranchId, Lsn};

use self::log::FileLog;
use self::meters::{Meters, cpu_seconds, percentile};
use self::workload::{Random, Workload};

pub const BRANCH: BranchId = BranchId(1);
const MIB: f64 = (1 << 20) as f64;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

fn main() {
    let meters = Meters::install();
    let pages = setting("ALLUVIUM_BENCH_ACCOUNT_PAGES", 20_000);
    let only = std::env::var("ALLUVIUM_BENCH_ONLY").unwrap_or_default();
    let log_bytes = setting("ALLUVIUM_BENCH_LOG_MIB", if only == "reads" { 16 } else { 512 }) << 20;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = std::env::var("ALLUVIUM_BENCH_DIRECTORY").map_or(temporary.path().to_owned(), Into::into);
    let mut workload = Workload::new(pages);
    let log = Arc::new(FileLog::create(&directory.join("log")));
    workload.load(&log);
    let loaded = workload.end();
    workload.transactions(&log, log_bytes);
    let end = workload.end();
    println!("{pages} account pages, {:.0} MiB of log to load them", loaded.0 as f64 / MIB);
    println!("{:.0} MiB of log by {} transactions", end.since(loaded) as f64 / MIB, workload.transactions);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if only != "reads" {
            for shards in [1, 4] {
                decoded_only(&directory, &log, loaded, end, shards).await;
            }
            flushed_only(&directory, &log, loaded, end).await;
        }
        if only == "rewrites" {
            return;
        }
        let server = ingest(&directory, &log, &meters, loaded, end, &workload).await;
        if only != "ingest" {
            reads::run(&server, end, &workload).await;
        }
        server.shutdown().await;
    });
}

fn config() -> PageServerConfig {
    let mut config = PageServerConfig::new(BRANCH, setting("ALLUVIUM_BENCH_MEMORY_MIB", 384) << 20);
    let places = setting("ALLUVIUM_BENCH_RUN_PLACES", config.compaction.run_places as u64);
    config.compaction.run_places = usize::try_from(places).expect("a small number");
    PageServerConfig { wait_timeout: Duration::from_secs(600), ..config }
}

fn open(directory: &Path) -> ObjectStore {
    let url = format!("file://{}", directory.display());
    ObjectStore::open(&url, RetryPolicy::none()).expect("the directory can be used")
}

async fn reached(server: &PageServer, lsn: Lsn) {
    while server.ingested() < lsn {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The log into memory, no further: what decoding and buffering cost. With several shards, what it costs one of them, which
/// decodes all and keeps its own.
async fn decoded_only(directory: &Path, log: &Arc<FileLog>, from: Lsn, end: Lsn, shards: u32) {
    let until = Lsn(end.0.min(from.0 + (64 << 20)));
    let layout = ShardLayout::new(shards, STRIPE_PAGES).expect("within the limits");
    let (buffer_bytes, buffer_log_bytes, buffer_age) = (usize::MAX, u64::MAX, Duration::MAX);
    let config = PageServerConfig { buffer_bytes, buffer_log_bytes, buffer_age, layout, ..config() };
    log.end_at(from);
    let store = open(&directory.join(format!("decoded-{shards}")));
    let server = PageServer::start(config, store, log.clone()).await.expect("starts");
    reached(&server, from).await;
    let began = cpu_seconds();
    log.end_at(until);
    reached(&server, log.end()).await;
    let spent = cpu_seconds() - began;
    let bytes = log.end().since(from) as f64 / MIB;
    println!("into memory of one of {shards} shards: {bytes:.0} MiB of log at {:.0} MiB a CPU second", bytes / spent);
}

/// The log into layers of level 0 that nobody rewrites: what is left to a page server whose rewrites compactors do.
async fn flushed_only(directory: &Path, log: &Arc<FileLog>, from: Lsn, end: Lsn) {
    let mut config = config();
    (config.compaction.run_places, config.compaction.max_depth) = (usize::MAX, usize::MAX);
    (config.compaction.run_trigger, config.compaction.layer_target_bytes) = (usize::MAX, u64::MAX);
    log.end_at(from);
    let server = PageServer::start(config, open(&directory.join("flushed")), log.clone()).await.expect("starts");
    let flushed = async |lsn: Lsn| {
        reached(&server, lsn).await;
        server.freeze();
        while server.manifest().await.durable_lsn < lsn {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    flushed(log.end()).await;
    let began = cpu_seconds();
    log.end_at(Lsn(end.0.min(from.0 + (256 << 20))));
    flushed(log.end()).await;
    let spent = cpu_seconds() - began;
    let manifest = server.manifest().await;
    let (bytes, layers) = (log.end().since(from) as f64 / MIB, manifest.layers.len());
    println!("into {layers} layers, without rewrites: {bytes:.0} MiB of log at {:.0} MiB a CPU second", bytes / spent);
    server.shutdown().await;
    rewrites::run(&directory.join("flushed"), manifest).await;
}

/// The whole log, into layers, while pages are read at random.
async fn ingest(
    directory: &Path,
    log: &Arc<FileLog>,
    meters: &Meters,
    loaded: Lsn,
    end: Lsn,
    workload: &Workload,
) -> PageServer {
    log.end_at(loaded);
    let server = PageServer::start(config(), open(&directory.join("store")), log.clone()).await.expect("starts");
    let mut before = Lsn::ZERO;
    let all = cpu_seconds();
    for (name, until) in [("load", loaded), ("transactions", end)] {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        meters.take_layers_per_read();
        let written = meters.written_bytes();
        log.end_at(until);
        let mut deepest = 0;
        let mut random = Random(1);
        while server.ingested() < until {
            let at = server.ingested();
            let requests: Vec<_> = (0..8)
                .map(|_| {
                    let page = workload.any_page(&mut random, at < loaded);
                    GetPage { page, at, not_modified_since: Lsn::ZERO, priority: Priority::Foreground }
                })
                .collect();
            server.client().get_pages(BRANCH, &requests).await;
            deepest = deepest.max(pageserver::compaction::depth(&server.manifest().await));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut layers = meters.take_layers_per_read();
        let (bytes, seconds) = (until.since(before) as f64, began.elapsed().as_secs_f64());
        println!("{name}: {:.1} s, {:.0} MiB of log a second", seconds, bytes / MIB / seconds);
        println!("  {:.0} MiB of log a CPU second, compaction and reads included", bytes / MIB / (cpu_seconds() - cpu));
        println!("  {:.2} bytes to the object store for each byte of log", (meters.written_bytes() - written) / bytes);
        println!(
            "  layers touched by a read: p50 {}, p99 {}, most {} of {} reads; deepest part of the page space {deepest}",
            percentile(&mut layers, 0.5),
            percentile(&mut layers, 0.99),
            percentile(&mut layers, 1.0),
            layers.len()
        );
        before = until;
    }
    // Until nothing is left to do.
    let mut seen = (0, Instant::now());
    while seen.1.elapsed() < Duration::from_secs(3) {
        let change = server.manifest().await.change;
        if change != seen.0 {
            seen = (change, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let spent = cpu_seconds() - all;
    println!("until nothing was left to do: {:.0} MiB of log a CPU second in all", end.0 as f64 / MIB / spent);
    let manifest = server.manifest().await;
    let stored: u64 = manifest.layers.iter().map(|layer| layer.size_bytes).sum();
    println!(
        "at rest: {} layers of {:.0} MiB, written by work: {}",
        manifest.layers.len(),
        stored as f64 / MIB,
        meters.written()
    );
    println!("  {:.2} bytes to the object store for each byte of log in all", meters.written_bytes() / end.0 as f64);
    server
}
