//! Subscriptions with a filter, over the network: the log hands bytes to a filter that it does not understand.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use storage::object::{ObjectStore, RetryPolicy};
use storage::{BranchId, Epoch, Lsn};

use super::serve;
use crate::archive::{ArchiveConfig, Archiver};
use crate::client::{LogChunk, LogClient, LogError};
use crate::filter::{ChunkFilter, FilteredChunk, Filtering, MAX_FILTER_BYTES, StreamFilter, StreamPiece};
use crate::grpc::RemoteLog;
use crate::shifted::ShiftedLog;
use crate::{LogStore, LogStoreConfig};

const BRANCH: BranchId = BranchId(3);

/// Keeps the bytes that equal the filter's one; a filter of two bytes is of a newer kind, an empty second half damage.
struct OneByte;

struct Keep {
    wanted: u8,
    next: Lsn,
    held: Vec<u8>,
}

impl Filtering for OneByte {
    fn begin(&self, filter: &[u8], from_lsn: Lsn) -> Result<Option<Box<dyn ChunkFilter>>, String> {
        match filter {
            [wanted] => Ok(Some(Box::new(Keep { wanted: *wanted, next: from_lsn, held: Vec::new() }))),
            [_, _] => Ok(None),
            _ => Err("one byte is wanted".to_owned()),
        }
    }
}

impl ChunkFilter for Keep {
    fn filter(&mut self, chunk: LogChunk) -> Result<Option<StreamPiece>, String> {
        let LogChunk { start_lsn, epoch, mut bytes } = chunk;
        if bytes.contains(&255) {
            return Err("a byte that must not be there".to_owned());
        }
        assert!(start_lsn <= self.next, "{start_lsn} comes after {}", self.next);
        let end_lsn = start_lsn.advance(bytes.len() as u64);
        let _ = bytes.split_to(self.next.since(start_lsn) as usize);
        self.next = end_lsn;
        self.held.extend_from_slice(&bytes);
        // A chunk may have to wait for the one after it.
        if bytes.len() == 1 {
            return Ok(None);
        }
        let start_lsn = Lsn(end_lsn.0 - self.held.len() as u64);
        let bytes = std::mem::take(&mut self.held).into_iter().filter(|byte| *byte == self.wanted).collect();
        Ok(Some(StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes })))
    }
}

fn small(directory: &tempfile::TempDir) -> LogStoreConfig {
    LogStoreConfig {
        segment_bytes: 64 << 10,
        max_append_bytes: 8 << 10,
        recent_bytes: 4 << 10,
        ..LogStoreConfig::new(directory.path())
    }
}

fn filter(bytes: &'static [u8], base_lsn: u64) -> StreamFilter {
    StreamFilter { bytes: Bytes::from_static(bytes), base_lsn: Lsn(base_lsn) }
}

/// Reads to `end`; the bytes that came, how many pieces were whole and how many filtered.
async fn read(
    log: &dyn LogClient,
    from: Lsn,
    end: Lsn,
    filter: &StreamFilter,
) -> Result<(Vec<u8>, usize, usize), LogError> {
    let mut pieces = log.subscribe_filtered(BRANCH, from, filter).await?;
    let (mut position, mut bytes, mut whole, mut filtered) = (from, Vec::new(), 0, 0);
    while position < end {
        match pieces.next().await.expect("it goes on")? {
            StreamPiece::Whole(LogChunk { start_lsn, epoch, bytes: here }) => {
                assert!(start_lsn <= position && epoch == Epoch(1));
                position = start_lsn.advance(here.len() as u64);
                bytes.extend_from_slice(&here);
                whole += 1;
            }
            StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes: here }) => {
                assert!(start_lsn == position && end_lsn > start_lsn && epoch == Epoch(1));
                position = end_lsn;
                bytes.extend_from_slice(&here);
                filtered += 1;
            }
        }
    }
    assert_eq!(position, end);
    Ok((bytes, whole, filtered))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_wanted_is_not_sent() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    let objects = ObjectStore::memory(RetryPolicy::none());
    let archive = ArchiveConfig {
        pause: std::time::Duration::from_millis(20),
        piece_bytes: 32 << 10,
        ..ArchiveConfig::new(objects, 5)
    };
    let archiver = Archiver::start(&store, archive);
    let (address, _) = serve(&store, Some(Arc::new(OneByte))).await;
    let patience = std::time::Duration::from_secs(1);
    let log_address = address.clone();
    let log = RemoteLog::with_patience(vec![address], patience).expect("an address");
    let epoch = log.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let mut end = Lsn(0);
    for round in 0..300_usize {
        let length = if round % 7 == 0 { 1 } else { 1000 };
        let bytes: Bytes = (0..length).map(|place| (place % 10) as u8).collect::<Vec<_>>().into();
        end = log.append(BRANCH, epoch, end, bytes).await.expect("append");
    }
    end = log.append(BRANCH, epoch, end, vec![3; 7000].into()).await.expect("append");
    let (bytes, whole, filtered) = read(&log, Lsn(0), end, &filter(&[3], 0)).await.expect("read");
    assert_eq!((whole, bytes.iter().all(|byte| *byte == 3)), (0, true));
    assert_eq!(bytes.len(), 257 * 100 + 7000, "{filtered} pieces");

    // The filter sees LSNs of a branch that does not begin at zero; the reader as well.
    let begin = Lsn(1 << 40);
    let shifted = ShiftedLog::new(Arc::new(log), [(BRANCH, begin)]);
    let log: &dyn LogClient = &shifted;
    let (shifted_bytes, ..) = read(log, begin, begin.advance(end.0), &filter(&[3], 0)).await.expect("read");
    assert_eq!(shifted_bytes, bytes);
    let begins = |lsn: Lsn| begin.advance(lsn.0);

    // What is no longer in the log is filtered as well.
    log.report_consumer(BRANCH, "shard", begins(end)).await.expect("report");
    for _ in 0..500 {
        if store.local_client().first_lsn(BRANCH) > Lsn(100_000) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(store.local_client().first_lsn(BRANCH) > Lsn(100_000), "trimmed");
    let (archived_bytes, whole, _) = read(log, begins(Lsn(0)), begins(end), &filter(&[3], 0)).await.expect("read");
    assert_eq!((archived_bytes == bytes, whole), (true, 0));

    // A filter of a newer kind: everything, rather than an error.
    let (all, _, filtered) = read(log, begins(Lsn(0)), begins(end), &filter(&[1, 2], 0)).await.expect("read");
    assert_eq!((all.len() as u64, filtered), (end.0, 0));
    for wrong in [filter(&[1, 2, 3], 0), filter(&[9; MAX_FILTER_BYTES + 1], 0)] {
        let refused = log.subscribe_filtered(BRANCH, begins(Lsn(7)), &wrong).await.err();
        assert!(matches!(refused, Some(LogError::Invalid { .. })), "{refused:?}");
    }
    let wrong = filter(&[3], u64::MAX - 5);
    let plain = RemoteLog::with_patience(vec![log_address.clone()], patience).expect("an address");
    let refused = plain.subscribe_filtered(BRANCH, Lsn(7), &wrong).await.err();
    assert!(matches!(refused, Some(LogError::Invalid { .. })), "{refused:?}");
    // Damage is said, after what came before it; other nodes are asked, for a while.
    log.append(BRANCH, epoch, begins(end), vec![255; 9].into()).await.expect("append");
    let damaged = read(log, begins(Lsn(end.0 - 7000)), begins(end.advance(9)), &filter(&[3], 0)).await;
    assert!(matches!(damaged, Err(LogError::Corrupt { .. })), "{damaged:?}");
    drop(archiver);
}

/// A node that cannot filter, or is older, sends everything; a reader may meet both within one subscription.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_at_a_node_that_does_not_filter() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(small(&directory)).expect("open");
    // Connections end with the runtime that serves them.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let serving = serve(&store, Some(Arc::new(OneByte)));
    let (with, _) = tokio::task::block_in_place(|| runtime.handle().block_on(serving));
    let (without, _) = serve(&store, None).await;
    let log = RemoteLog::new(vec![with, without.clone()]).expect("addresses");
    let client = store.client();
    let epoch = client.acquire_epoch(BRANCH).await.expect("epoch").epoch;
    let half = client.append(BRANCH, epoch, Lsn(0), vec![4; 500].into()).await.expect("append");
    let mut pieces = log.subscribe_filtered(BRANCH, Lsn(0), &filter(&[3], 0)).await.expect("subscribed");
    let piece = pieces.next().await.expect("a piece").expect("a piece");
    assert_eq!((piece.sent_bytes(), piece.end_lsn()), (0, half));
    runtime.shutdown_background();
    let end = client.append(BRANCH, epoch, half, vec![4; 500].into()).await.expect("append");
    let piece = pieces.next().await.expect("a piece").expect("a piece");
    assert!(matches!(piece, StreamPiece::Whole(_)) && piece.end_lsn() == end, "{piece:?}");
    let plain = RemoteLog::new(vec![without]).expect("an address");
    let (bytes, whole, filtered) = read(&plain, Lsn(0), end, &filter(&[3], 0)).await.expect("read");
    // However many chunks travel together.
    assert!(bytes.len() == 1000 && whole >= 1 && filtered == 0, "{whole} whole, {filtered} filtered");
}
