//! A node with its thread, through its client, on a real directory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use storage::{BranchId, Epoch, Lsn};

use crate::client::{LogChunk, LogClient, LogError, SwapOutcome};
use crate::{LogStore, LogStoreConfig, OpenError};

pub(super) const BRANCH: BranchId = BranchId(7);

pub(super) fn small(directory: &tempfile::TempDir) -> LogStoreConfig {
    LogStoreConfig {
        segment_bytes: 64 << 10,
        checkpoint_every_bytes: 16 << 10,
        max_append_bytes: 8 << 10,
        queue_bytes: 256 << 10,
        recent_bytes: 16 << 10,
        ..LogStoreConfig::new(directory.path().join("log"))
    }
}

pub(super) fn pattern(start: Lsn, length: usize) -> Bytes {
    (0..length as u64).map(|offset| ((start.0 + offset) * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

/// Appends `count` groups of `length` bytes, the content a function of the position.
pub(super) async fn fill(client: &dyn LogClient, epoch: Epoch, mut end: Lsn, count: usize, length: usize) -> Lsn {
    for _ in 0..count {
        let next = client.append(BRANCH, epoch, end, pattern(end, length)).await.expect("append");
        assert_eq!(next, end.advance(length as u64));
        end = next;
    }
    end
}

/// Reads `[from, until)` and checks every byte.
pub(super) async fn check_read(client: &dyn LogClient, from: Lsn, until: Lsn) {
    if from == until {
        // A log trimmed up to its end has nothing to give until more is appended.
        return;
    }
    let mut stream = client.subscribe(BRANCH, from).await.expect("subscribe");
    let mut position = None;
    while position.is_none_or(|position| position < until) {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("a chunk in time");
        let LogChunk { start_lsn, bytes, .. } = next.expect("an endless stream").expect("a chunk");
        match position {
            None => assert!(start_lsn <= from && start_lsn.advance(bytes.len() as u64) > from),
            Some(position) => assert_eq!(start_lsn, position),
        }
        assert_eq!(bytes, pattern(start_lsn, bytes.len()));
        position = Some(start_lsn.advance(bytes.len() as u64));
    }
    assert_eq!(position, Some(until));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_fencing_gaps_and_resends() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let client = store.client();
    assert_eq!(client.status(BRANCH).await.expect("status").durable_lsn, Lsn::ZERO);
    let early = client.append(BRANCH, Epoch(0), Lsn(0), Bytes::from_static(b"x")).await;
    assert!(matches!(early, Err(LogError::Fenced { .. })), "{early:?}");

    let first = client.acquire_epoch(BRANCH).await.expect("epoch");
    assert_eq!((first.epoch, first.end_lsn), (Epoch(1), Lsn(0)));
    let end = fill(&*client, first.epoch, Lsn(0), 3, 100).await;
    let gap = client.append(BRANCH, first.epoch, Lsn(400), pattern(Lsn(400), 10)).await;
    assert_eq!(gap, Err(LogError::Gap { branch: BRANCH, start_lsn: Lsn(400), end_lsn: end }));
    // A resend of what is in answers with an end past it, and changes nothing.
    let resend = client.append(BRANCH, first.epoch, Lsn(200), pattern(Lsn(200), 100)).await;
    assert_eq!(resend, Err(LogError::Gap { branch: BRANCH, start_lsn: Lsn(200), end_lsn: end }));

    let second = client.acquire_epoch(BRANCH).await.expect("epoch");
    assert_eq!((second.epoch, second.end_lsn), (Epoch(2), end));
    let fenced = client.append(BRANCH, first.epoch, end, pattern(end, 10)).await;
    let expected = LogError::Fenced { branch: BRANCH, epoch: Epoch(1), current: Epoch(2), end_lsn: end };
    assert_eq!(fenced, Err(expected));
    let end = fill(&*client, second.epoch, end, 3, 50).await;
    check_read(&*client, Lsn(0), end).await;
    check_read(&*client, Lsn(150), end).await;

    let large = client.append(BRANCH, second.epoch, end, vec![0; (8 << 10) + 1].into()).await;
    assert!(matches!(large, Err(LogError::TooLarge { limit_bytes: 8192, .. })), "{large:?}");
    let empty = client.append(BRANCH, second.epoch, end, Bytes::new()).await;
    assert!(matches!(empty, Err(LogError::Invalid { .. })), "{empty:?}");
    let status = client.status(BRANCH).await.expect("status");
    assert_eq!((status.epoch, status.first_lsn, status.durable_lsn), (Epoch(2), Lsn(0), end));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_appends_are_queued_in_the_order_of_the_calls() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let client = store.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = Lsn(0);
    let mut calls = Vec::new();
    for length in 1..=100 {
        calls.push(client.append(BRANCH, epoch, end, pattern(end, length)));
        end = end.advance(length as u64);
    }
    // Polled last to first: the order of the calls counts.
    calls.reverse();
    for call in calls {
        call.await.expect("append");
    }
    check_read(&*client, Lsn(0), end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribe_across_segments_and_restarts() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (mut end, mut ends) = (Lsn(0), vec![Lsn(0)]);
    for round in 0..4 {
        let store = LogStore::open(small(&directory)).expect("open");
        let client = store.client();
        assert_eq!(client.status(BRANCH).await.expect("status").durable_lsn, end, "round {round}");
        let grant = client.acquire_epoch(BRANCH).await.expect("epoch");
        assert_eq!((grant.epoch, grant.end_lsn), (Epoch(round + 1), end));
        end = fill(&*client, grant.epoch, end, 100, 777).await;
        ends.push(end);
        for &from in &ends {
            if from < end {
                check_read(&*client, from, end).await;
                check_read(&*client, from.advance(1), end).await;
            }
        }
        // A follower that waits sees what is appended later.
        let waiting = client.subscribe(BRANCH, end).await.expect("subscribe");
        let follower = tokio::spawn(async move { waiting.take(3).collect::<Vec<_>>().await });
        end = fill(&*client, grant.epoch, end, 3, 10).await;
        let followed = follower.await.expect("follower");
        let last = followed.last().expect("three").as_ref().expect("a chunk");
        assert_eq!(last.start_lsn.advance(10), end);
        // A stream ends with an error when the node stops.
        let mut stream = client.subscribe(BRANCH, end).await.expect("subscribe");
        store.shutdown();
        assert!(matches!(stream.next().await, Some(Err(LogError::Unavailable { .. }))));
        assert!(stream.next().await.is_none());
        let late = client.append(BRANCH, grant.epoch, end, pattern(end, 1)).await;
        assert!(matches!(late, Err(LogError::Unavailable { .. })), "{late:?}");
    }
}

/// Story (simulator, seed 157): a reader keeps its place in the files, with the block around it. Once at the end, and then
/// behind again by more than memory holds, it took what the block had held before the rest was written for damage.
#[tokio::test]
async fn a_reader_at_the_end_that_falls_behind_goes_on() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let client = store.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = fill(&*client, epoch, Lsn(0), 30, 1000).await;
    let mut stream = client.subscribe(BRANCH, Lsn(0)).await.expect("subscribe");
    let mut position = Lsn(0);
    for _ in 0..3 {
        while position < end {
            let chunk = stream.next().await.expect("an endless stream").expect("no damage");
            assert_eq!(chunk.start_lsn, position);
            position = chunk.start_lsn.advance(chunk.bytes.len() as u64);
        }
        end = fill(&*client, epoch, end, 30, 1000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimming_keeps_what_consumers_need() {
    let directory = tempfile::tempdir().expect("tempdir");
    let config = small(&directory);
    let mut end;
    {
        let store = LogStore::open(config.clone()).expect("open");
        let client = store.client();
        let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
        end = fill(&*client, epoch, Lsn(0), 500, 1000).await;
        let full = store.disk_bytes();
        assert!(full > 450_000, "{full}");
        // Story (simulator, seed 102): a reader whose position was trimmed away while it was not reading asked the files
        // again and again for what they no longer had, or went on behind a gap.
        let mut overtaken = client.subscribe(BRANCH, Lsn(0)).await.expect("subscribe");
        client.report_consumer(BRANCH, "shard 1", end).await.expect("report");
        client.report_consumer(BRANCH, "shard 2", Lsn(250_000)).await.expect("report");
        // The first report alone allowed trimming; the second consumer came later, so it may find less.
        let first = client.status(BRANCH).await.expect("status").first_lsn;
        assert!(first > Lsn(0));
        let trimmed = client.subscribe(BRANCH, Lsn(0)).await.err();
        assert_eq!(trimmed, Some(LogError::Trimmed { branch: BRANCH, asked: Lsn(0), first_lsn: first }));
        check_read(&*client, first, end).await;
        let next = tokio::time::timeout(Duration::from_secs(20), overtaken.next()).await.expect("an answer in time");
        assert!(matches!(next, Some(Err(LogError::Trimmed { asked: Lsn(0), .. }))), "{next:?}");
        client.report_consumer(BRANCH, "shard 2", end).await.expect("report");
        assert!(store.disk_bytes() <= 3 * config.segment_bytes, "{}", store.disk_bytes());
        // The log does not grow while its consumers keep up.
        for _ in 0..20 {
            end = fill(&*client, epoch, end, 50, 1000).await;
            client.report_consumer(BRANCH, "shard 1", end).await.expect("report");
            client.report_consumer(BRANCH, "shard 2", end).await.expect("report");
            assert!(store.disk_bytes() <= 3 * config.segment_bytes, "{}", store.disk_bytes());
        }
    }
    let store = LogStore::open(config.clone()).expect("open again");
    let client = store.client();
    let status = client.status(BRANCH).await.expect("status");
    assert_eq!(status.durable_lsn, end);
    assert!(status.first_lsn > Lsn(0));
    check_read(&*client, status.first_lsn, end).await;
    drop(store);

    let other = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(LogStoreConfig { retain_all: true, ..small(&other) }).expect("open");
    let client = store.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let end = fill(&*client, epoch, Lsn(0), 200, 1000).await;
    client.report_consumer(BRANCH, "shard 1", end).await.expect("report");
    assert_eq!(client.status(BRANCH).await.expect("status").first_lsn, Lsn(0));
    check_read(&*client, Lsn(0), end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_compare_and_swap() {
    let directory = tempfile::tempdir().expect("tempdir");
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let version;
    {
        let store = LogStore::open(small(&directory)).expect("open");
        let map = store.metadata();
        assert_eq!(map.get("a").await, Ok(None));
        let SwapOutcome::Swapped { version: Some(first) } =
            map.compare_and_swap("a", None, value("1")).await.expect("cas")
        else {
            panic!("an absent key is set")
        };
        let conflict = map.compare_and_swap("a", None, value("2")).await.expect("cas");
        assert!(matches!(conflict, SwapOutcome::Conflict { current: Some(current) } if current.version == first));
        let swapped = map.compare_and_swap("a", Some(first), value("3")).await.expect("cas");
        assert!(matches!(swapped, SwapOutcome::Swapped { version: Some(second) } if second > first));
        map.compare_and_swap("b/1", None, value("x")).await.expect("cas");
        map.compare_and_swap("b/2", None, value("y")).await.expect("cas");
        let listed: Vec<String> = map.list("b/").await.expect("list").into_iter().map(|(key, _)| key).collect();
        assert_eq!(listed, ["b/1", "b/2"]);
        version = map.get("a").await.expect("get").expect("set").version;
    }
    let store = LogStore::open(small(&directory)).expect("open again");
    let map = store.metadata();
    let kept = map.get("a").await.expect("get").expect("set");
    assert_eq!((kept.version, &kept.bytes[..]), (version, &b"3"[..]));
    let removed = map.compare_and_swap("a", Some(version), None).await.expect("cas");
    assert_eq!(removed, SwapOutcome::Swapped { version: None });
    assert_eq!(map.get("a").await, Ok(None));
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let second = LogStore::open(small(&directory)).err();
    assert!(matches!(second, Some(OpenError::InUse { .. })), "{second:?}");
    // A client that outlives its store does not keep the directory.
    let client = store.client();
    drop(store);
    LogStore::open(small(&directory)).expect("free again");
    drop(client);
    let other_node = LogStoreConfig { node_id: 2, peers: vec![2], ..small(&directory) };
    let refused = LogStore::open(other_node).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|text| text.contains("written by node 1")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_branches_share_groups() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let mut tasks = Vec::new();
    for branch in 0..8 {
        let client: Arc<dyn LogClient> = store.client();
        tasks.push(tokio::spawn(async move {
            let branch = BranchId(branch);
            let grant = client.acquire_epoch(branch).await.expect("epoch");
            let mut end = grant.end_lsn;
            for _ in 0..50 {
                end = client.append(branch, grant.epoch, end, pattern(end, 333)).await.expect("append");
            }
            let stream = client.subscribe(branch, Lsn(0)).await.expect("subscribe");
            let chunks: Vec<_> = stream.take(50).collect().await;
            for (position, chunk) in chunks.into_iter().enumerate() {
                let chunk = chunk.expect("a chunk");
                assert_eq!(chunk.start_lsn, Lsn(333 * position as u64));
                assert_eq!(chunk.bytes, pattern(chunk.start_lsn, 333));
            }
        }));
    }
    for task in tasks {
        task.await.expect("task");
    }
}
