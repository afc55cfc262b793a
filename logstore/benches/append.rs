//! Latency of one append at a time on an idle log, throughput of pipelined ones, and CPU for each, on a real disk: one node in
//! process, one over gRPC, three over gRPC on loopback (all in this process, whose CPU is the sum of theirs and the
//! client's).
//!
//! `cargo bench -p alluvium-logstore [-- DIRECTORY [SETUP]]`. The directory decides which disk is measured; a setup is `local`,
//! `one` or `three`. The bare loop of write and fdatasync, measured first, is the floor.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use logstore::client::{LogClient, LogError};
use logstore::cluster::{LogMember, MemberConfig};
use logstore::grpc::RemoteLog;
use logstore::stream::Credentials;
use logstore::{LogStore, LogStoreConfig};
use storage::{BranchId, Lsn};
use tokio::net::TcpListener;

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

/// What this process has spent so far.
#[derive(Clone, Copy)]
struct Spent {
    cpu_us: u64,
    switches: u64,
}

impl Spent {
    fn now() -> Spent {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields 14 and 15, in hundredths of a second; the second field is in parentheses and may hold anything.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let cpu_us = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10_000;
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let switches = threads.filter_map(|thread| {
            let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        });
        Spent { cpu_us, switches: switches.sum() }
    }

    /// For each of `count`, since `self`.
    fn each(self, count: usize) -> String {
        let (now, count) = (Spent::now(), count as f64);
        let cpu_us = (now.cpu_us - self.cpu_us) as f64 / count;
        let switches = now.switches.saturating_sub(self.switches) as f64 / count;
        format!("{cpu_us:.1} us of CPU and {switches:.1} waits of threads each")
    }
}

async fn one_at_a_time(client: &dyn LogClient, count: usize) {
    let grant = client.acquire_epoch(BRANCH).await.expect("epoch");
    let (mut end, mut samples) = (grant.end_lsn, Vec::new());
    let group = Bytes::from(vec![7; GROUP_BYTES]);
    let spent = Spent::now();
    for _ in 0..count {
        let started = Instant::now();
        end = client.append(BRANCH, grant.epoch, end, group.clone()).await.expect("append");
        samples.push(started.elapsed());
    }
    percentiles(&format!("one append at a time, {}", spent.each(count)), samples);
}

async fn pipelined(client: &dyn LogClient, depth: usize, bytes: usize, count: usize) {
    let grant = client.acquire_epoch(BRANCH).await.expect("epoch");
    let group = Bytes::from(vec![7; bytes]);
    let (mut end, started, spent) = (grant.end_lsn, Instant::now(), Spent::now());
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
    let (rate, mebibytes) = (count as f64 / seconds, (count * bytes) as f64 / seconds / f64::from(1 << 20));
    let each = spent.each(count);
    println!("{depth:>4} under way, {bytes:>5} bytes: {rate:>7.0}/s, {mebibytes:>6.1} MiB/s, {each}");
}

async fn measure(setup: &str, client: &dyn LogClient) {
    println!("{setup}");
    let spent = Spent::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("idle, for each second: {}", spent.each(2));
    one_at_a_time(client, 2000).await;
    pipelined(client, 4, GROUP_BYTES, 10_000).await;
    pipelined(client, 64, GROUP_BYTES, 40_000).await;
    pipelined(client, 512, GROUP_BYTES, 100_000).await;
    pipelined(client, 16, 64 << 10, 4_000).await;
}

/// Nodes of a cluster over gRPC on loopback.
async fn start_cluster(directory: &Path, count: u64) -> (Vec<LogMember>, RemoteLog) {
    let mut peers = BTreeMap::new();
    let mut listeners = Vec::new();
    for node in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        peers.insert(node, listener.local_addr().expect("bound").to_string());
        listeners.push((node, listener));
    }
    let mut members = Vec::new();
    for (node_id, listener) in listeners {
        let data_dir = directory.join(format!("{count}-{node_id}"));
        let store = LogStoreConfig {
            node_id,
            peers: Vec::new(),
            incarnation: node_id,
            election_seed: node_id,
            ..LogStoreConfig::new(data_dir)
        };
        let credentials = Credentials { cluster: "bench".to_owned(), token: String::new(), node_id };
        let config = MemberConfig { store, credentials, peers: peers.clone(), filtering: None };
        let member = tokio::task::block_in_place(|| LogMember::start(config)).expect("a member");
        let serving = tonic::transport::Server::builder().add_routes(member.services());
        tokio::spawn(serving.serve_with_incoming(member.incoming(listener)));
        members.push(member);
    }
    let client = RemoteLog::new(peers.into_values().collect()).expect("addresses");
    client.acquire_epoch(BRANCH).await.expect("the cluster begins");
    (members, client)
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned()));
    let only = arguments.next();
    let wanted = |setup: &str| only.as_deref().is_none_or(|only| only == setup);
    let directory = tempfile::tempdir_in(directory).expect("a writable directory");
    bare_loop(directory.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    if wanted("local") {
        let config = LogStoreConfig::new(directory.path().join("log"));
        let store = LogStore::open(config.clone()).expect("open");
        runtime.block_on(measure("one node in process", &*store.client()));
        drop(store);
        let started = Instant::now();
        drop(LogStore::open(config).expect("open"));
        println!("opened again in {:?}", started.elapsed());
    }
    for (setup, count) in [("one", 1), ("three", 3)] {
        if wanted(setup) {
            runtime.block_on(async {
                let (members, client) = start_cluster(directory.path(), count).await;
                measure(&format!("{count} over gRPC"), &client).await;
                tokio::task::block_in_place(|| members.iter().for_each(LogMember::shutdown));
            });
        }
    }
}
