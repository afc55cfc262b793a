//! A log in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use logstore::client::{BranchStatus, EpochGrant, LogChunk, LogClient, LogError};
use logstore::filter::{Filtering, Pieces, StreamFilter, StreamPiece, filtered};
use parking_lot::Mutex;
use storage::{BranchId, Epoch, Lsn};
use tokio::sync::watch;

use crate::stream_filter::PageFiltering;

/// One branch's log.
struct Stream {
    chunks: Mutex<Vec<LogChunk>>,
    end: watch::Sender<Lsn>,
    reported: Mutex<HashMap<String, Lsn>>,
    /// Everything below is forgotten.
    first: Mutex<Lsn>,
}

/// The logs of all branches, each counted from zero.
#[derive(Default)]
pub struct FakeLog {
    streams: Mutex<HashMap<BranchId, Arc<Stream>>>,
    /// So many of the next subscriptions hear nothing, as those of a node that is cut off from the others.
    pub deaf: AtomicUsize,
    /// Sent to subscribers that wanted only some of it.
    pub filtered_bytes: Arc<AtomicUsize>,
}

fn end_of(chunk: &LogChunk) -> Lsn {
    chunk.start_lsn.advance(chunk.bytes.len() as u64)
}

impl FakeLog {
    pub fn new() -> FakeLog {
        FakeLog::default()
    }

    fn stream(&self, branch: BranchId) -> Arc<Stream> {
        let empty = || Stream {
            chunks: Mutex::default(),
            end: watch::Sender::new(Lsn::ZERO),
            reported: Mutex::default(),
            first: Mutex::default(),
        };
        self.streams.lock().entry(branch).or_insert_with(|| Arc::new(empty())).clone()
    }

    pub fn push(&self, branch: BranchId, start_lsn: Lsn, epoch: Epoch, bytes: Bytes) {
        let stream = self.stream(branch);
        let end = start_lsn.advance(bytes.len() as u64);
        assert_eq!(*stream.end.borrow(), start_lsn, "appends leave no gap");
        stream.chunks.lock().push(LogChunk { start_lsn, epoch, bytes });
        stream.end.send_replace(end);
    }

    /// Those who have reported anything of a branch.
    pub fn consumers(&self, branch: BranchId) -> Vec<String> {
        self.stream(branch).reported.lock().keys().cloned().collect()
    }

    /// Forgets whole chunks below what was reported, as a real log may.
    pub fn trim(&self) {
        for stream in self.streams.lock().values() {
            let below = stream.reported.lock().values().copied().min().unwrap_or_default();
            let mut chunks = stream.chunks.lock();
            chunks.retain(|chunk| end_of(chunk) > below);
            *stream.first.lock() = chunks.first().map_or(*stream.end.borrow(), |chunk| chunk.start_lsn);
        }
    }
}

#[async_trait]
impl LogClient for FakeLog {
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        Ok(EpochGrant { epoch: Epoch(1), end_lsn: *self.stream(branch).end.borrow() })
    }

    async fn append(&self, branch: BranchId, epoch: Epoch, start: Lsn, bytes: Bytes) -> Result<Lsn, LogError> {
        self.push(branch, start, epoch, bytes);
        Ok(*self.stream(branch).end.borrow())
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let one_less = |deaf: usize| deaf.checked_sub(1);
        if self.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Ok(futures::stream::pending().boxed());
        }
        let stream = self.stream(branch);
        let first_lsn = *stream.first.lock();
        if from_lsn < first_lsn {
            return Err(LogError::Trimmed { branch, asked: from_lsn, first_lsn });
        }
        // What comes later is found by subscribing again: the end of the stream is one of the faults to survive.
        let mut end = stream.end.subscribe();
        let seen = *end.borrow_and_update();
        let chunks: Vec<_> = stream.chunks.lock().clone();
        let ready: Vec<_> = chunks.into_iter().filter(|chunk| end_of(chunk) > from_lsn).map(Ok).collect();
        let wait = futures::stream::once(async move {
            let _ = end.wait_for(|end| *end > seen).await;
            Err(LogError::Unavailable { reason: "cut on purpose".to_owned() })
        });
        Ok(futures::stream::iter(ready).chain(wait).boxed())
    }

    /// As over the network: only what is wanted.
    async fn subscribe_filtered(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
        filter: &StreamFilter,
    ) -> Result<Pieces, LogError> {
        let chunks = self.subscribe(branch, from_lsn).await?;
        let filtering: Arc<dyn Filtering> = Arc::new(PageFiltering);
        let sent = self.filtered_bytes.clone();
        let pieces = filtered(chunks, &filtering, filter, branch, from_lsn)?;
        let count = move |piece: &Result<StreamPiece, LogError>| {
            sent.fetch_add(piece.as_ref().map_or(0, StreamPiece::sent_bytes), Ordering::SeqCst);
        };
        Ok(pieces.inspect(count).boxed())
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        let stream = self.stream(branch);
        let (first_lsn, durable_lsn) = (*stream.first.lock(), *stream.end.borrow());
        Ok(BranchStatus { epoch: Epoch(1), first_lsn, durable_lsn, consumers: Vec::new() })
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        let stream = self.stream(branch);
        let end = *stream.end.borrow();
        assert!(
            durable_lsn <= end || durable_lsn == Lsn::MAX,
            "{consumer} has {durable_lsn} of a log that ends at {end}"
        );
        if end == Lsn::ZERO {
            // As the real one: nothing was written yet, and nothing is remembered.
            return Ok(());
        }
        let mut reported = stream.reported.lock();
        if durable_lsn == Lsn::MAX {
            reported.remove(consumer);
        } else {
            let position = reported.entry(consumer.to_owned()).or_default();
            *position = durable_lsn.max(*position);
        }
        Ok(())
    }
}
