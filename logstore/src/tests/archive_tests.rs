//! The archive of a node with its thread: what is trimmed is read back, whatever the object store does meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use object_store::path::Path;
use storage::Lsn;
use storage::object::faults::{Fate, FaultyStore};
use storage::object::{ObjectStore, RetryPolicy};

use super::store_tests::{BRANCH, check_read, fill, pattern, small};
use crate::archive::{
    ARCHIVE_CONSUMER, ARCHIVE_KEY, ArchiveConfig, ArchivedRange, Archiver, RANGE_PREFIX, archived_ranges,
};
use crate::client::{LogError, SwapOutcome};
use crate::disk::simulated::SeededChoice;
use crate::{LogStore, LogStoreConfig};

fn config(store: &ObjectStore) -> ArchiveConfig {
    ArchiveConfig {
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        piece_bytes: 20 << 10,
        ..ArchiveConfig::new(store.clone(), 77)
    }
}

fn memory() -> ObjectStore {
    ObjectStore::memory(RetryPolicy::none())
}

/// A store in memory whose requests fare as `decide` says.
fn faulty(inner: &Arc<InMemory>, decide: impl Fn(u64) -> Fate + Send + Sync + 'static) -> ObjectStore {
    let store = FaultyStore::new(inner.clone(), decide);
    ObjectStore::new(Arc::new(store), Path::default(), RetryPolicy::immediate(2))
}

async fn range(log: &LogStore) -> Option<ArchivedRange> {
    let listed = log.metadata().list(RANGE_PREFIX).await.expect("list");
    archived_ranges(&listed)
        .map(|found| found.expect("well-formed"))
        .find(|found| found.0 == BRANCH)
        .map(|found| found.1)
}

async fn wait_for<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until everything up to `end`, apart from the segment that is being written, is archived.
async fn wait_archived(log: &LogStore, end: Lsn) -> ArchivedRange {
    let enough = Lsn(end.0.saturating_sub(small_segment()));
    let begun = Instant::now();
    loop {
        if let Some(range) = range(log).await.filter(|range| range.end >= enough) {
            return range;
        }
        if begun.elapsed() > Duration::from_secs(120) {
            let sealed = log.local_client().sealed();
            let first = log.local_client().first_lsn(BRANCH);
            panic!(
                "archived {:?} of {end}, sealed {sealed:?}, first {first}, {:?}",
                range(log).await,
                log.view().await
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn small_segment() -> u64 {
    64 << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_trimmed_is_read_from_the_archive() {
    let (directory, store) = (tempfile::tempdir().expect("tempdir"), memory());
    let mut end = Lsn(0);
    for life in 0..3 {
        let log = LogStore::open(small(&directory)).expect("open");
        let archiver = Archiver::start(&log, config(&store));
        let client = log.client();
        let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
        end = fill(&*client, epoch, end, 300, 1000).await;
        let archived = wait_archived(&log, end).await;
        assert_eq!(archived.begin, Lsn(0), "life {life}");
        client.report_consumer(BRANCH, "shard", end).await.expect("report");
        wait_for("trimmed", async || (log.disk_bytes() <= 3 * small_segment()).then_some(())).await;
        // The status tells what can be read, the archive included; a store without it cannot.
        assert_eq!(client.status(BRANCH).await.expect("status").first_lsn, Lsn(0));
        for from in [0, 1, 999, 1000, 20_480, 77_777, archived.end.0 - 1, archived.end.0, end.0 - 1] {
            check_read(&*client, Lsn(from), end).await;
        }
        // A reader that is so slow that the log is trimmed under it.
        let mut slow = client.subscribe(BRANCH, Lsn(end.0 - 100_000)).await.expect("subscribe");
        let first = futures::StreamExt::next(&mut slow).await.expect("a chunk").expect("a chunk");
        let before = end;
        end = fill(&*client, epoch, end, 300, 1000).await;
        wait_archived(&log, end).await;
        client.report_consumer(BRANCH, "shard", end).await.expect("report");
        wait_for("trimmed", async || (log.local_client().first_lsn(BRANCH) > before).then_some(())).await;
        let mut position = first.start_lsn.advance(first.bytes.len() as u64);
        while position < end {
            let chunk = futures::StreamExt::next(&mut slow).await.expect("a chunk").expect("a chunk");
            assert_eq!((chunk.start_lsn, &chunk.bytes), (position, &pattern(position, chunk.bytes.len())));
            position = position.advance(chunk.bytes.len() as u64);
        }
        drop((archiver, log));
    }
    // Without the archive the node says what it lacks.
    let log = LogStore::open(small(&directory)).expect("open");
    let refused = log.client().subscribe(BRANCH, Lsn(0)).await.err();
    assert!(matches!(refused, Some(LogError::Trimmed { .. })), "{refused:?}");
    // With another store, nothing is archived there, and nothing is trimmed.
    let elsewhere = memory();
    let archiver = Archiver::start(&log, config(&elsewhere));
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let before = range(&log).await;
    end = fill(&*client, epoch, end, 200, 1000).await;
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(range(&log).await, before);
    assert_eq!(elsewhere.list("log").await, Ok(vec![]));
    drop(archiver);
}

/// Story of FAULTS 14: the object store is away for so long that the log reaches its budget. Until then commits go on, then they
/// are refused by name; when the store is back everything catches up unaided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_costs_log_and_nothing_else() {
    let directory = tempfile::tempdir().expect("tempdir");
    let away = Arc::new(AtomicBool::new(false));
    let store = {
        let away = away.clone();
        faulty(&Arc::default(), move |_| if away.load(Ordering::SeqCst) { Fate::Refused } else { Fate::Answered })
    };
    let budget_bytes = 8 * small_segment();
    let log = LogStore::open(LogStoreConfig { budget_bytes, ..small(&directory) }).expect("open");
    let _archiver = Archiver::start(&log, config(&store));
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = fill(&*client, epoch, Lsn(0), 300, 1000).await;
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    wait_archived(&log, end).await;
    away.store(true, Ordering::SeqCst);
    let outage_begins = end;
    let refused = loop {
        match client.append(BRANCH, epoch, end, pattern(end, 1000)).await {
            Ok(next) => end = next,
            Err(error) => break error,
        }
        client.report_consumer(BRANCH, "shard", end).await.expect("report");
    };
    assert!(matches!(refused, LogError::NoSpace { .. }), "{refused:?}");
    assert!(end.0 - outage_begins.0 > 4 * small_segment(), "commits went on from {outage_begins} to {end}");
    assert!(log.disk_bytes() <= budget_bytes + small_segment());
    tokio::time::sleep(Duration::from_millis(60)).await;
    let still = client.append(BRANCH, epoch, end, pattern(end, 1000)).await;
    assert!(matches!(still, Err(LogError::NoSpace { .. })), "{still:?}");
    check_read(&*client, Lsn(end.0 - 1000), end).await;
    away.store(false, Ordering::SeqCst);
    end = wait_for("commits go on", async || client.append(BRANCH, epoch, end, pattern(end, 1000)).await.ok()).await;
    end = fill(&*client, epoch, end, 100, 1000).await;
    wait_archived(&log, end).await;
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    wait_for("trimmed", async || (log.disk_bytes() <= 3 * small_segment()).then_some(())).await;
    check_read(&*client, Lsn(0), end).await;
}

/// Requests that fail or whose answers get lost, archivers that end at any point, and nodes that start again: the archive
/// stays a chain of the true bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreliable_store_and_archivers_that_end_anywhere() {
    let directory = tempfile::tempdir().expect("tempdir");
    let inner = Arc::new(InMemory::new());
    let mut end = Lsn(0);
    for life in 0..4 {
        let log = LogStore::open(small(&directory)).expect("open");
        let client = log.client();
        let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
        for round in 0..6 {
            let store =
                faulty(&inner, move |number| match SeededChoice::new(life * 1000 + round * 100 + number).below(10) {
                    0..2 => Fate::Refused,
                    2..4 => Fate::AnswerLost,
                    _ => Fate::Answered,
                });
            // A piece size of its own, so that two archivers would cut differently.
            let archiver =
                Archiver::start(&log, ArchiveConfig { piece_bytes: 5_000 + 3_000 * round as usize, ..config(&store) });
            // More than a segment, so that there is something to archive.
            end = fill(&*client, epoch, end, 30, 3000).await;
            client.report_consumer(BRANCH, "shard", end).await.expect("report");
            assert!(log.local_client().first_lsn(BRANCH) <= range(&log).await.map_or(Lsn::ZERO, |range| range.end));
            if round % 2 == 0 {
                wait_archived(&log, Lsn(end.0.saturating_sub(small_segment()))).await;
            }
            drop(archiver);
        }
    }
    let log = LogStore::open(small(&directory)).expect("open");
    let _archiver = Archiver::start(&log, config(&ObjectStore::new(inner, Path::default(), RetryPolicy::none())));
    wait_archived(&log, end).await;
    check_read(&*log.client(), Lsn(0), end).await;
}

/// Two archivers that both believe to lead, cutting pieces of different sizes: one chain comes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_archivers_make_one_chain() {
    let (directory, store) = (tempfile::tempdir().expect("tempdir"), memory());
    let log = LogStore::open(small(&directory)).expect("open");
    let archivers = [7_000, 20_000].map(|piece_bytes| {
        Archiver::start(&log, ArchiveConfig { piece_bytes, new_id: piece_bytes as u64, ..config(&store) })
    });
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = Lsn(0);
    for _ in 0..10 {
        end = fill(&*client, epoch, end, 100, 1000).await;
        client.report_consumer(BRANCH, "shard", end).await.expect("report");
    }
    wait_archived(&log, end).await;
    check_read(&*client, Lsn(0), end).await;
    drop(archivers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_neither_a_consumer_nor_the_retention_needs_is_dropped() {
    let (directory, store) = (tempfile::tempdir().expect("tempdir"), memory());
    let log = LogStore::open(small(&directory)).expect("open");
    let retention_bytes = 100_000;
    let _archiver = Archiver::start(&log, ArchiveConfig { retention_bytes: Some(retention_bytes), ..config(&store) });
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    client.report_consumer(BRANCH, "slow", Lsn(0)).await.expect("report");
    let mut end = fill(&*client, epoch, Lsn(0), 400, 1000).await;
    client.report_consumer(BRANCH, "slow", Lsn(150_500)).await.expect("report");
    client.report_consumer(BRANCH, "quick", end).await.expect("report");
    wait_archived(&log, end).await;
    let begun = wait_for("dropped", async || range(&log).await.filter(|range| range.begin > Lsn(0))).await;
    // The slow consumer's position is kept, retention or not.
    assert!(begun.begin <= Lsn(150_500) && begun.begin > Lsn(100_000), "{begun:?}");
    check_read(&*client, Lsn(150_500), end).await;
    // What can still be read begins in the archive or in the log, whichever reaches further back.
    let first_lsn = client.status(BRANCH).await.expect("status").first_lsn;
    assert!(first_lsn <= begun.begin && first_lsn > Lsn(100_000), "{first_lsn}");
    let gone = client.subscribe(BRANCH, Lsn(10)).await.err();
    assert_eq!(gone, Some(LogError::Trimmed { branch: BRANCH, asked: Lsn(10), first_lsn }));
    check_read(&*client, first_lsn, end).await;

    client.report_consumer(BRANCH, "slow", end).await.expect("report");
    end = fill(&*client, epoch, end, 100, 1000).await;
    client.report_consumer(BRANCH, "slow", end).await.expect("report");
    client.report_consumer(BRANCH, "quick", end).await.expect("report");
    let range = wait_for("dropped", async || {
        range(&log).await.filter(|range| range.end.0 - range.begin.0 <= retention_bytes * 5 / 4)
    })
    .await;
    assert!(range.end.0 - range.begin.0 >= retention_bytes, "{range:?}");
    let starts_before = async || {
        let keys = store.list("log").await.expect("list");
        let starts = keys.iter().filter_map(|key| u64::from_str_radix(key.rsplit_once('/')?.1, 16).ok());
        starts.filter(|start| *start < range.begin.0).count()
    };
    wait_for("deleted", async || (starts_before().await == 0).then_some(())).await;
    check_read(&*client, range.begin, end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_piece_is_told_by_name() {
    let (directory, store) = (tempfile::tempdir().expect("tempdir"), memory());
    let log = LogStore::open(small(&directory)).expect("open");
    let archiver = Archiver::start(&log, config(&store));
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let end = fill(&*client, epoch, Lsn(0), 200, 1000).await;
    wait_archived(&log, end).await;
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    wait_for("trimmed", async || (log.local_client().first_lsn(BRANCH) > Lsn(0)).then_some(())).await;
    let key = format!("log/{:016x}/{BRANCH}/{:09x}/{:016x}", 77, 0, 0);
    let piece = store.get(&key).await.expect("the first piece");
    for at in [0, 5, 20, 45, piece.len() - 1] {
        let mut damaged = piece.to_vec();
        damaged[at] ^= 16;
        store.put(&key, damaged.into()).await.expect("put");
        let mut stream = client.subscribe(BRANCH, Lsn(0)).await.expect("subscribe");
        match futures::StreamExt::next(&mut stream).await {
            Some(Err(LogError::Corrupt { reason })) => assert!(reason.contains(&key), "{reason}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    store.delete(&key).await.expect("delete");
    let mut stream = client.subscribe(BRANCH, Lsn(0)).await.expect("subscribe");
    let lacking = futures::StreamExt::next(&mut stream).await;
    assert!(matches!(&lacking, Some(Err(LogError::Corrupt { reason })) if reason.contains(&key)), "{lacking:?}");
    store.put(&key, piece).await.expect("put");
    check_read(&*client, Lsn(0), end).await;
    drop(archiver);
}

/// A store that ignores conditions is refused before anything is archived in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_tried_out_first() {
    let directory = tempfile::tempdir().expect("tempdir");
    let requests = Arc::new(AtomicU64::new(0));
    let log = LogStore::open(small(&directory)).expect("open");
    let counted = requests.clone();
    let store = faulty(&Arc::default(), move |_| {
        // Away at first: the node runs all the same, and tries again.
        if counted.fetch_add(1, Ordering::SeqCst) < 20 { Fate::Refused } else { Fate::Answered }
    });
    let probed = ArchiveConfig { probe_key: Some("probe/1".to_owned()), ..config(&store) };
    let _archiver = Archiver::start(&log, probed);
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let end = fill(&*client, epoch, Lsn(0), 200, 1000).await;
    wait_archived(&log, end).await;
    assert!(requests.load(Ordering::SeqCst) > 20);
    assert_eq!(store.list("probe").await, Ok(vec![]));
}

/// An operator gives the archive up: the log is trimmed without it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_given_up() {
    let (directory, store) = (tempfile::tempdir().expect("tempdir"), memory());
    let log = LogStore::open(small(&directory)).expect("open");
    let archiver = Archiver::start(&log, config(&store));
    let client = log.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = fill(&*client, epoch, Lsn(0), 200, 1000).await;
    wait_archived(&log, end).await;
    drop(archiver);
    end = fill(&*client, epoch, end, 300, 1000).await;
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    assert!(log.disk_bytes() > 4 * small_segment(), "nobody archives");
    crate::archive::give_up(&*client, &*log.metadata()).await.expect("given up");
    client.report_consumer(BRANCH, "shard", end).await.expect("report");
    assert!(log.disk_bytes() <= 3 * small_segment(), "{}", log.disk_bytes());
    assert_eq!(log.metadata().list(ARCHIVE_KEY).await, Ok(vec![]));
    // And begun again: another archive.
    let _archiver = Archiver::start(&log, ArchiveConfig { new_id: 78, ..config(&store) });
    end = fill(&*client, epoch, end, 200, 1000).await;
    let range = wait_archived(&log, end).await;
    assert_eq!(range.archive.0, 78);
    let first = client.status(BRANCH).await.expect("status").first_lsn;
    assert!(first > Lsn(0) && first <= range.begin, "{first}");
    check_read(&*client, first, end).await;
    assert!(matches!(
        log.metadata().compare_and_swap(ARCHIVE_KEY, None, None).await,
        Ok(SwapOutcome::Conflict { current: Some(_) })
    ));
    let consumers = log.local_client().read(|reply| crate::node::Read::Consumers(BRANCH, reply)).await;
    assert!(consumers.expect("consumers").contains_key(ARCHIVE_CONSUMER));
}
