//! A log in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use logstore::client::{BranchStatus, EpochGrant, LogChunk, LogClient, LogError};
use parking_lot::Mutex;
use storage::{BranchId, Epoch, Lsn};
use tokio::sync::watch;

/// One branch's log.
pub struct FakeLog {
    chunks: Mutex<Vec<LogChunk>>,
    end: watch::Sender<Lsn>,
    reported: Mutex<HashMap<String, Lsn>>,
}

impl FakeLog {
    pub fn new() -> FakeLog {
        FakeLog { chunks: Mutex::default(), end: watch::Sender::new(Lsn::ZERO), reported: Mutex::default() }
    }

    pub fn push(&self, start_lsn: Lsn, epoch: Epoch, bytes: Bytes) {
        let end = start_lsn.advance(bytes.len() as u64);
        assert_eq!(*self.end.borrow(), start_lsn, "appends leave no gap");
        self.chunks.lock().push(LogChunk { start_lsn, epoch, bytes });
        self.end.send_replace(end);
    }

    pub fn reported(&self) -> Lsn {
        self.reported.lock().values().copied().min().unwrap_or_default()
    }

    /// Consumers that have reported anything.
    pub fn consumers(&self) -> usize {
        self.reported.lock().len()
    }

    /// Forgets whole chunks below what was reported, as a real log may.
    pub fn trim(&self) {
        let below = self.reported();
        self.chunks.lock().retain(|chunk| chunk.start_lsn.advance(chunk.bytes.len() as u64) > below);
    }
}

#[async_trait]
impl LogClient for FakeLog {
    async fn acquire_epoch(&self, _branch: BranchId) -> Result<EpochGrant, LogError> {
        Ok(EpochGrant { epoch: Epoch(1), end_lsn: *self.end.borrow() })
    }

    async fn append(&self, _branch: BranchId, epoch: Epoch, start: Lsn, bytes: Bytes) -> Result<Lsn, LogError> {
        self.push(start, epoch, bytes);
        Ok(*self.end.borrow())
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let first_lsn = self.chunks.lock().first().map_or(*self.end.borrow(), |chunk| chunk.start_lsn);
        if from_lsn < first_lsn {
            return Err(LogError::Trimmed { branch, asked: from_lsn, first_lsn });
        }
        let chunks: Vec<_> = self.chunks.lock().clone();
        let ready: Vec<_> =
            chunks.into_iter().filter(|c| c.start_lsn.advance(c.bytes.len() as u64) > from_lsn).map(Ok).collect();
        // What comes later is found by subscribing again: the end of the stream is one of the faults to survive.
        let mut end = self.end.subscribe();
        let seen = *end.borrow_and_update();
        let wait = futures::stream::once(async move {
            let _ = end.wait_for(|end| *end > seen).await;
            Err(LogError::Unavailable { reason: "cut on purpose".to_owned() })
        });
        Ok(futures::stream::iter(ready).chain(wait).boxed())
    }

    async fn status(&self, _branch: BranchId) -> Result<BranchStatus, LogError> {
        Ok(BranchStatus { epoch: Epoch(1), first_lsn: Lsn::ZERO, durable_lsn: *self.end.borrow() })
    }

    async fn report_consumer(&self, _branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        self.reported.lock().insert(consumer.to_owned(), durable_lsn);
        Ok(())
    }
}
