//! Three log nodes as processes with an archive on a faulty S3: the leader is killed while it archives, the log is trimmed,
//! a disk is wiped, and every node serves everything from the beginning.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use harness::log_nodes::{CLUSTER, LogNodes};
use harness::s3::{Fault, Honesty, S3Server};
use logstore::archive::{ArchivedRange, RANGE_PREFIX, archived_ranges};
use logstore::client::{LogClient, MetadataClient};
use logstore::grpc::RemoteLog;
use storage::{BranchId, Epoch, Lsn};

const BRANCH: BranchId = BranchId(1);
const GROUP_BYTES: usize = 1 << 20;

/// Content as a function of the position.
fn content(start: Lsn) -> Bytes {
    let seed = (start.0 >> 20) as u8;
    Bytes::from((0..GROUP_BYTES).map(|offset| (offset as u8).wrapping_mul(31) ^ seed).collect::<Vec<u8>>())
}

async fn append(log: &RemoteLog, epoch: Epoch, end: &mut Lsn, groups: usize) {
    for _ in 0..groups {
        *end = log.append(BRANCH, epoch, *end, content(*end)).await.expect("an append is repeated until it is in");
    }
}

async fn range(log: &RemoteLog) -> Option<ArchivedRange> {
    let listed = log.list(RANGE_PREFIX).await.ok()?;
    archived_ranges(&listed)
        .map(|found| found.expect("well-formed"))
        .find(|found| found.0 == BRANCH)
        .map(|found| found.1)
}

async fn wait_archived(log: &RemoteLog, until: Lsn) -> Duration {
    let begun = Instant::now();
    while range(log).await.is_none_or(|range| range.end < until) {
        assert!(begun.elapsed() < Duration::from_secs(90), "archived to {:?}, not {until}", range(log).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

async fn check_node(nodes: &LogNodes, node: u64, until: Lsn) {
    let mut stream = nodes.client_of(node).subscribe(BRANCH, Lsn::ZERO).await.expect("a subscription");
    let mut position = Lsn::ZERO;
    while position < until {
        let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
        let chunk =
            next.unwrap_or_else(|_| panic!("node {node} ends at {position}")).expect("endless").expect("a chunk");
        assert_eq!(chunk.start_lsn, position, "node {node}");
        assert!(chunk.bytes == content(position), "node {node} at {position}");
        position = position.advance(chunk.bytes.len() as u64);
    }
}

fn options(directory: &Path, server: &S3Server) -> Vec<String> {
    let credentials = directory.join("credentials");
    let text = "[default]\naws_access_key_id = tester\naws_secret_access_key = secret\n";
    std::fs::write(&credentials, text).expect("the directory can be written");
    let options = ["--archive", "s3://alluvium/log", "--store-region", "us-east-1", "--store-endpoint"];
    let mut options: Vec<String> = options.into_iter().map(str::to_owned).collect();
    options.extend([server.endpoint(), "--store-credentials".to_owned(), credentials.display().to_string()]);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_serves_what_was_trimmed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = S3Server::start(Honesty::Honest, |number, _| match number % 40 {
        7 => Fault::Status(503),
        17 => Fault::Reset,
        27 => Fault::AnswerLost,
        37 => Fault::Torn,
        _ => Fault::None,
    })
    .await;
    server.let_lists_lag(5);
    let options = options(directory.path(), &server);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut nodes = LogNodes::start_with(directory.path(), 3, &options);
    nodes.wait_in_sync(&[1, 2, 3]).await;
    let log = nodes.client();
    let grant = log.acquire_epoch(BRANCH).await.expect("an epoch");
    let (epoch, mut end) = (grant.epoch, grant.end_lsn);
    append(&log, epoch, &mut end, 70).await;
    // The leader goes while it archives or soon after; its successor goes on from where the archive ends.
    let leader = nodes.wait_for("a leader", |_| true).await.leader;
    nodes.kill(leader);
    append(&log, epoch, &mut end, 40).await;
    nodes.start_node(leader);
    let took = wait_archived(&log, Lsn(90 << 20)).await;
    println!("archived {:?} {took:?} after the last append", range(&log).await);
    log.report_consumer(BRANCH, "shard", end).await.expect("a report");
    let own_first = async |node: u64| nodes.client_of(node).status(BRANCH).await;
    assert_eq!(
        own_first(nodes.wait_for("a leader", |_| true).await.leader).await.expect("a status").first_lsn,
        Lsn::ZERO
    );

    let status = nodes.wait_in_sync(&[1, 2, 3]).await;
    let wiped = status.leader % 3 + 1;
    nodes.kill(wiped);
    nodes.wipe(wiped);
    append(&log, epoch, &mut end, 3).await;
    nodes.start_node(wiped);
    nodes.wait_in_sync(&[1, 2, 3]).await;
    for node in 1..=3 {
        check_node(&nodes, node, end).await;
    }
    let files = std::fs::read_dir(directory.path().join(format!("log-{wiped}/log"))).expect("its directory").count();
    assert!(files <= 5, "the wiped node was sent what was trimmed: {files} files");
    let shown = Command::new(harness::binary())
        .args(["ctl", "log", "--nodes", &nodes.addresses().join(","), "--cluster-id", CLUSTER, "archive"])
        .output()
        .expect("the program starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.starts_with("archive ") && shown.contains("0/0"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_is_no_archive() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = S3Server::start(Honesty::IgnoresConditions, |_, _| Fault::None).await;
    let ended = Command::new(harness::binary())
        .args(["logstore", "--node-id", "1", "--cluster-id", CLUSTER, "--peers", "1=127.0.0.1:1"])
        .args(["--listen", "127.0.0.1:0", "--segment-size", "32MiB", "--data-dir"])
        .arg(directory.path().join("log"))
        .args(options(directory.path(), &server))
        .output()
        .expect("the program starts");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "it must not serve");
    assert!(complaint.contains("s3://alluvium/log"), "{complaint}");
    assert!(complaint.contains("conditional PUT is not honoured"), "{complaint}");
}

/// A cluster of one with an archive in a directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_an_archive_too() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = format!("file://{}", directory.path().join("archive").display());
    let mut nodes = LogNodes::start_with(directory.path(), 1, &["--archive", &archive]);
    nodes.wait_in_sync(&[1]).await;
    let log = nodes.client();
    let grant = log.acquire_epoch(BRANCH).await.expect("an epoch");
    let mut end = grant.end_lsn;
    append(&log, grant.epoch, &mut end, 70).await;
    wait_archived(&log, Lsn(50 << 20)).await;
    log.report_consumer(BRANCH, "shard", end).await.expect("a report");
    nodes.kill(1);
    nodes.start_node(1);
    check_node(&nodes, 1, end).await;
}
