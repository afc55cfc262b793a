//! The clients within the node's process: their requests go straight into the thread's queue.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt, unfold};
use metrics::Histogram;
use storage::object::ObjectStore;
use storage::{BranchId, Epoch, Lsn};
use tokio::sync::{oneshot, watch};

use crate::archive::{ArchiveReader, ArchivedRange, archived_range, range_key};
use crate::client::{
    BranchStatus, EpochGrant, LogChunk, LogClient, LogError, MetadataClient, MetadataSnapshot, MetadataValue,
    SwapOutcome,
};
use crate::command::Command;
use crate::machine::Outcome;
use crate::node::Read;
use crate::published::Published;
use crate::segment::SegmentSet;
use crate::store::{Inbox, PERMIT_BYTES, Request, gone};
use crate::subscription::{subscribe, to_log_error};

/// [`LogClient`] within the process.
#[derive(Clone)]
pub(crate) struct LocalClient {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) published: Arc<Published>,
    pub(crate) segments: Arc<SegmentSet>,
    pub(crate) stopped: watch::Receiver<Option<LogError>>,
    pub(crate) append_seconds: Histogram,
    pub(crate) archive: Arc<OnceLock<ObjectStore>>,
}

impl LocalClient {
    fn gone(&self) -> LogError {
        match &*self.stopped.borrow() {
            Some(LogError::Unavailable { reason }) => LogError::Unavailable { reason: reason.clone() },
            Some(reason) => LogError::Unavailable { reason: format!("the log node has stopped: {reason}") },
            None => gone(),
        }
    }

    /// Queues a command now if there is room, so that calls are queued in the order in which they were made; else when
    /// there is room.
    pub(crate) fn propose(&self, command: Command, bytes: usize) -> BoxFuture<'_, Result<Outcome, LogError>> {
        // An oversize request is refused by the node; here it must only fit into the queue.
        let permits = ((bytes.min(self.inbox.queue_bytes)) / PERMIT_BYTES).max(1) as u32;
        let (reply, outcome) = oneshot::channel();
        let queued = match self.inbox.permits.clone().try_acquire_many_owned(permits) {
            Ok(permit) => {
                self.inbox.push(Request::Propose { command, reply, _permit: permit });
                None
            }
            Err(_) => Some((command, reply)),
        };
        Box::pin(async move {
            if let Some((command, reply)) = queued {
                let permit = self.inbox.permits.clone().acquire_many_owned(permits).await;
                let _permit = permit.map_err(|_| self.gone())?;
                self.inbox.push(Request::Propose { command, reply, _permit });
            }
            outcome.await.unwrap_or_else(|_| Err(self.gone()))
        })
    }

    pub(crate) async fn read<T>(
        &self,
        read: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Read,
    ) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        // The permit bounds how many reads wait.
        let permit = self.inbox.permits.acquire().await;
        let _permit = permit.map_err(|_| self.gone())?;
        self.inbox.push(Request::Read(read(reply)));
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }
}

/// For the archive.
impl LocalClient {
    /// From now on subscriptions read from this archive what is no longer in the log. Only the first call counts.
    pub(crate) fn set_archive(&self, archive: ObjectStore) {
        let _ = self.archive.set(archive);
    }

    /// What the archive holds of a branch, as this node has applied it.
    pub(crate) async fn archived(&self, branch: BranchId) -> Result<Option<ArchivedRange>, LogError> {
        let prefix = range_key(branch);
        let found = self.read(|reply| Read::Snapshot(prefix, reply)).await?.values;
        archived_range(&found)
    }

    /// Where each branch's stream ended when the segment that is being written was begun: before it lies in segments that
    /// are complete.
    pub(crate) fn sealed(&self) -> Result<Vec<(BranchId, Lsn)>, LogError> {
        let Some(active) = self.segments.all().pop() else { return Ok(Vec::new()) };
        let head = self.segments.head(&active).map_err(|error| to_log_error(&error))?;
        Ok(head.ends().collect())
    }

    /// First LSN of a branch in this node's own log.
    pub(crate) fn first_lsn(&self, branch: BranchId) -> Lsn {
        self.published.branch(branch).first_lsn()
    }

    /// A subscription to this node's own log alone.
    pub(crate) fn subscribe_to_log(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        subscribe(&self.published, &self.segments, None, branch, from_lsn)
    }
}

fn unexpected(outcome: &Outcome) -> LogError {
    LogError::Unavailable { reason: format!("unexpected outcome {outcome:?}") }
}

#[async_trait]
impl LogClient for LocalClient {
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        match self.propose(Command::AcquireEpoch { branch }, 0).await? {
            Outcome::Granted(grant) => Ok(grant),
            other => Err(unexpected(&other)),
        }
    }

    // Written out, because the request is queued when the call is made and not when its future is first polled:
    // pipelined appends must arrive in the order of the calls.
    fn append<'client, 'result>(
        &'client self,
        branch: BranchId,
        epoch: Epoch,
        start_lsn: Lsn,
        bytes: Bytes,
    ) -> BoxFuture<'result, Result<Lsn, LogError>>
    where
        'client: 'result,
        Self: 'result,
    {
        #[expect(clippy::disallowed_methods, reason = "a duration for metrics")]
        let started = Instant::now();
        let length = bytes.len();
        let outcome = self.propose(Command::Append { branch, epoch, start_lsn, bytes }, length);
        Box::pin(async move {
            match outcome.await? {
                Outcome::Appended { end_lsn } => {
                    self.append_seconds.record(started.elapsed().as_secs_f64());
                    Ok(end_lsn)
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let archive = self.archive.get().map(|store| ArchiveReader::new(store.clone(), self.clone(), branch));
        if let Some(archive) = &archive
            && from_lsn < self.published.branch(branch).first_lsn()
        {
            archive.check(from_lsn).await?;
        }
        subscribe(&self.published, &self.segments, archive, branch, from_lsn)
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        let mut status = self.read(|reply| Read::Status(branch, reply)).await?;
        if self.archive.get().is_some()
            && let Some(range) = self.archived(branch).await?
            && range.end >= status.first_lsn
        {
            status.first_lsn = status.first_lsn.min(range.begin);
        }
        Ok(status)
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        let consumer = consumer.to_owned();
        self.propose(Command::ReportConsumer { branch, consumer, durable_lsn }, 0).await.map(|_| ())
    }
}

#[async_trait]
impl MetadataClient for LocalClient {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        self.read(|reply| Read::Get(key.to_owned(), reply)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        self.read(|reply| Read::List(prefix.to_owned(), reply)).await
    }

    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError> {
        let mut changes = self.published.watch_metadata();
        changes.mark_changed();
        let client = self.clone();
        let watching = Watching { client, changes, prefix: prefix.to_owned(), last: None, ended: false };
        let states = unfold(watching, |mut watching| async move {
            if watching.ended {
                return None;
            }
            let next = watching.next().await;
            watching.ended = next.is_err();
            Some((next, watching))
        });
        Ok(states.boxed())
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let command = Command::CompareAndSwap { key: key.to_owned(), expected, value };
        match self.propose(command, bytes).await? {
            Outcome::Swapped { version } => Ok(SwapOutcome::Swapped { version }),
            Outcome::Conflict { current } => Ok(SwapOutcome::Conflict { current }),
            other => Err(unexpected(&other)),
        }
    }
}

/// A watch within the process: reads the keys anew whenever any has changed.
struct Watching {
    client: LocalClient,
    changes: watch::Receiver<u64>,
    prefix: String,
    last: Option<Vec<(String, MetadataValue)>>,
    ended: bool,
}

impl Watching {
    async fn next(&mut self) -> Result<MetadataSnapshot, LogError> {
        loop {
            let running = tokio::select! {
                changed = self.changes.changed() => changed.is_ok(),
                _ = self.client.stopped.wait_for(Option::is_some) => false,
            };
            if !running {
                return Err(self.client.gone());
            }
            let prefix = self.prefix.clone();
            let snapshot = self.client.read(|reply| Read::Snapshot(prefix, reply)).await?;
            if self.last.as_ref() != Some(&snapshot.values) {
                self.last = Some(snapshot.values.clone());
                return Ok(snapshot);
            }
        }
    }
}
