//! Three log nodes as processes: the leader is killed under appends, a disk is wiped, a node is replaced. Nothing that was
//! acknowledged is lost, and all nodes hold the same bytes.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use harness::log_nodes::LogNodes;
use logstore::client::{LogClient, LogError, MetadataClient, SwapOutcome};
use logstore::grpc::RemoteLog;
use storage::{BranchId, Epoch, Lsn};

const BRANCH: BranchId = BranchId(1);
/// Groups on their way at a time, as the shipper has.
const PIPELINE: usize = 4;

/// Content as a function of the position.
fn content(start: Lsn, length: usize) -> Bytes {
    (0..length as u64).map(|offset| ((start.0 + offset) * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

/// Appends until told to stop. Panics on any error: the client is to hide elections.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Writer {
    async fn start(log: Arc<dyn LogClient>) -> Writer {
        let grant = log.acquire_epoch(BRANCH).await.expect("an epoch");
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(grant.end_lsn.0)));
        let task = tokio::spawn(write(log, grant.epoch, grant.end_lsn, stop.clone(), acknowledged.clone()));
        Writer { stop, acknowledged, task }
    }

    fn acknowledged(&self) -> Lsn {
        Lsn(self.acknowledged.load(Ordering::SeqCst))
    }

    /// Waits for some more acknowledgements; tells how long the first took.
    async fn progress(&self) -> Duration {
        let (begun, before) = (Instant::now(), self.acknowledged());
        while self.acknowledged() == before {
            assert!(begun.elapsed() < Duration::from_secs(30), "no write for 30 s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }

    /// Ends; returns what was acknowledged and the longest time between two acknowledgements.
    async fn finish(self) -> (Lsn, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let longest = self.task.await.expect("the writer saw no error");
        (Lsn(self.acknowledged.load(Ordering::SeqCst)), longest)
    }
}

async fn write(
    log: Arc<dyn LogClient>,
    epoch: Epoch,
    mut end: Lsn,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Duration {
    let mut under_way = futures::stream::FuturesOrdered::new();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        while under_way.len() < PIPELINE && !stop.load(Ordering::SeqCst) {
            let length = 200 + (end.0 % 3000) as usize;
            under_way.push_back(log.append(BRANCH, epoch, end, content(end, length)));
            end = end.advance(length as u64);
        }
        let Some(outcome) = under_way.next().await else { return longest };
        let durable = outcome.expect("an append is repeated until it is in");
        acknowledged.fetch_max(durable.0, Ordering::SeqCst);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
}

/// Reads everything from one node and compares every byte.
async fn check_node(nodes: &LogNodes, node: u64, until: Lsn) {
    let mut stream = nodes.client_of(node).subscribe(BRANCH, Lsn::ZERO).await.expect("a subscription");
    let mut position = Lsn::ZERO;
    while position < until {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
        let chunk = next.unwrap_or_else(|_| panic!("node {node} ends at {position}, {until} was acknowledged"));
        let chunk = chunk.expect("without end").expect("a chunk");
        assert_eq!(chunk.start_lsn, position, "node {node}");
        assert_eq!(chunk.bytes, content(position, chunk.bytes.len()), "node {node} at {position}");
        position = position.advance(chunk.bytes.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_appends_and_nothing_is_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::start(directory.path(), 3);
    nodes.wait_in_sync(&[1, 2, 3]).await;
    let writer = Writer::start(Arc::new(nodes.client())).await;
    let mut slowest = Duration::ZERO;
    for round in 0..3 {
        writer.progress().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leader = nodes.wait_for("a leader", |_| true).await.leader;
        nodes.kill(leader);
        let resumed = writer.progress().await;
        println!("round {round}: writes went on {resumed:?} after node {leader} was killed");
        slowest = slowest.max(resumed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        nodes.start_node(leader);
        nodes.wait_for("three active nodes", |status| status.nodes.iter().all(|node| node.is_active)).await;
    }
    let (acknowledged, longest) = writer.finish().await;
    println!("{acknowledged} acknowledged; longest pause {longest:?}");
    nodes.wait_in_sync(&[1, 2, 3]).await;
    for node in 1..=3 {
        check_node(&nodes, node, acknowledged).await;
    }
    // On a machine that runs other tests as well, a debug build may be late.
    assert!(slowest < Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 3 }), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_comes_back_without_a_vote_and_catches_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::start(directory.path(), 3);
    let before = nodes.wait_in_sync(&[1, 2, 3]).await;
    let writer = Writer::start(Arc::new(nodes.client())).await;
    writer.progress().await;
    let wiped = before.leader % 3 + 1;
    nodes.kill(wiped);
    nodes.wipe(wiped);
    writer.progress().await;
    nodes.start_node(wiped);
    writer.progress().await;
    let incarnation = |status: &logstore::grpc::ClusterStatus| status.nodes[wiped as usize - 1].incarnation;
    nodes.wait_for("the new incarnation", |status| incarnation(status) != incarnation(&before)).await;
    let (acknowledged, _) = writer.finish().await;
    let after = nodes.wait_in_sync(&[1, 2, 3]).await;
    assert_ne!(incarnation(&after), incarnation(&before));
    check_node(&nodes, wiped, acknowledged).await;
    // It counts again: the others' leader may go.
    nodes.kill(after.leader);
    let log = nodes.client();
    let grant = log.acquire_epoch(BRANCH).await.expect("a majority is there");
    assert_eq!(grant.end_lsn, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_and_another_removed_under_appends() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::start(directory.path(), 3);
    nodes.wait_in_sync(&[1, 2, 3]).await;
    let writer = Writer::start(Arc::new(nodes.client())).await;
    writer.progress().await;

    let address = nodes.reserve(4);
    nodes.operator().add(4, &address).await.expect("added");
    let again = nodes.operator().add(4, &address).await;
    assert!(matches!(again, Err(LogError::Invalid { .. })), "{again:?}");
    nodes.start_node(4);
    nodes.wait_for("four voters", |status| status.nodes.iter().filter(|node| node.role == "voter").count() == 3).await;

    // The leader itself goes: somebody else leads first.
    let leader = nodes.wait_for("a leader", |_| true).await.leader;
    let begun = std::time::Instant::now();
    nodes.operator().remove(leader).await.expect("removed");
    nodes.wait_for("another leader", |status| status.leader != leader && status.nodes.len() == 3).await;
    println!("removed after {:?}, writes go on after {:?}", begun.elapsed(), writer.progress().await);
    nodes.kill(leader);
    let (acknowledged, longest) = writer.finish().await;
    // No election was waited for: its timeouts begin at one second, and two followed each other.
    assert!(longest < Duration::from_millis(1_500), "writes paused for {longest:?}");
    println!("{acknowledged} acknowledged; longest pause {longest:?}");
    let left: Vec<u64> = (1..=4).filter(|node| *node != leader).collect();
    nodes.wait_in_sync(&left).await;
    for node in left {
        check_node(&nodes, node, acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_map_survives_its_leader() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut nodes = LogNodes::start(directory.path(), 3);
    let status = nodes.wait_in_sync(&[1, 2, 3]).await;
    let log = nodes.client();
    let swapped = log.compare_and_swap("k", None, Some(Bytes::from_static(b"v"))).await.expect("swapped");
    let SwapOutcome::Swapped { version: Some(version) } = swapped else { panic!("{swapped:?}") };
    nodes.kill(status.leader);
    let found = log.get("k").await.expect("readable").expect("present");
    assert_eq!((found.version, &found.bytes[..]), (version, &b"v"[..]));
}

/// A writer on a follower's machine: that node leads after a while, and the writer notices nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_beside_the_writer_leads() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nodes = LogNodes::start(directory.path(), 3);
    let before = nodes.wait_in_sync(&[1, 2, 3]).await.leader;
    let near = before % 3 + 1;
    let log = RemoteLog::beside(nodes.addresses(), nodes.address(near)).expect("addresses");
    let writer = Writer::start(Arc::new(log)).await;
    nodes.wait_for("the near node leads", |status| status.leader == near).await;
    writer.progress().await;
    let (acknowledged, longest) = writer.finish().await;
    println!("{acknowledged} acknowledged; longest pause {longest:?}");
    nodes.wait_in_sync(&[1, 2, 3]).await;
    for node in 1..=3 {
        check_node(&nodes, node, acknowledged).await;
    }
}
