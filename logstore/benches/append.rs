//! Latency of one append at a time on an idle node, and throughput of pipelined ones, on a real disk.
//!
//! `cargo bench -p alluvium-logstore [-- DIRECTORY]`. The directory decides which disk is measured. The bare loop of
//! write and fdatasync, measured first, is the floor.

#![allow(clippy::disallowed_methods)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use logstore::client::{LogClient, LogError};
use logstore::{LogStore, LogStoreConfig};
use storage::{BranchId, Lsn};

const BRANCH: BranchId = BranchId(1);
const GROUP_BYTES: usize = 600;

fn percentiles(name: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_micros();
    println!("{name}: p50 {} us, p90 {} us, p99 {} us ({} samples)", at(0.5), at(0.9), at(0.99), samples.len());
}

fn bare_loop(directory: &Path) {
    let path = directory.join("bare");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a writable directory");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("write");
    file.sync_all().expect("sync");
    let mut samples = Vec::new();
    for round in 0..2000u64 {
        let started = Instant::now();
        file.write_all_at(&[1; GROUP_BYTES], round * GROUP_BYTES as u64).expect("write");
        file.sync_data().expect("sync");
        samples.push(started.elapsed());
    }
    percentiles("write + fdatasync", samples);
    std::fs::remove_file(path).expect("remove");
}

async fn one_at_a_time(client: &dyn LogClient) {
    let grant = client.acquire_epoch(BRANCH).await.expect("epoch");
    let (mut end, mut samples) = (grant.end_lsn, Vec::new());
    let group = Bytes::from(vec![7; GROUP_BYTES]);
    for _ in 0..2000 {
        let started = Instant::now();
        end = client.append(BRANCH, grant.epoch, end, group.clone()).await.expect("append");
        samples.push(started.elapsed());
    }
    percentiles("one append at a time", samples);
}

async fn pipelined(client: &dyn LogClient, depth: usize, bytes: usize, count: usize) {
    let grant = client.acquire_epoch(BRANCH).await.expect("epoch");
    let group = Bytes::from(vec![7; bytes]);
    let (mut end, started) = (grant.end_lsn, Instant::now());
    let mut running: FuturesOrdered<BoxFuture<'_, Result<Lsn, LogError>>> = FuturesOrdered::new();
    for _ in 0..count {
        if running.len() == depth {
            running.next().await.expect("an append runs").expect("append");
        }
        running.push_back(client.append(BRANCH, grant.epoch, end, group.clone()));
        end = end.advance(bytes as u64);
    }
    while let Some(done) = running.next().await {
        done.expect("append");
    }
    let seconds = started.elapsed().as_secs_f64();
    let (rate, megabytes) = (count as f64 / seconds, (count * bytes) as f64 / seconds / 1e6);
    println!("pipelined, {depth} deep, {bytes} bytes: {rate:.0} appends/s, {megabytes:.1} MB/s");
}

fn main() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = PathBuf::from(directory.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned()));
    let directory = tempfile::tempdir_in(directory).expect("a writable directory");
    bare_loop(directory.path());
    let started = Instant::now();
    let store = LogStore::open(LogStoreConfig::new(directory.path().join("log"))).expect("open");
    println!("first open: {:?}", started.elapsed());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    let client = store.client();
    runtime.block_on(async {
        one_at_a_time(&*client).await;
        pipelined(&*client, 8, GROUP_BYTES, 10_000).await;
        pipelined(&*client, 64, GROUP_BYTES, 50_000).await;
        pipelined(&*client, 512, GROUP_BYTES, 200_000).await;
        pipelined(&*client, 64, 64 << 10, 4_000).await;
    });
    println!("log on disk: {} MB", store.disk_bytes() >> 20);
    drop(store);
    let started = Instant::now();
    let store = LogStore::open(LogStoreConfig::new(directory.path().join("log"))).expect("open");
    println!("open again: {:?}", started.elapsed());
    drop(store);
}
