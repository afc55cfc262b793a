//! The calling side: a log service elsewhere, as a [`LogClient`] and [`MetadataClient`]. Appends go by [`crate::stream`].
//!
//! A client knows some nodes' addresses and finds the leader by asking: who does not lead names who does. Calls that may
//! be repeated are repeated within a deadline; an append is one of them, because its epoch and start make a second
//! arrival recognizable. A compare-and-swap is repeated only while nobody can have done it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use proto::logstore as wire;
use storage::{BranchId, Epoch, Lsn};
use tokio::runtime::Handle;
use tonic::Status;

use super::attempts::Attempts;
use super::convert::{from_failure, from_value, unavailable};
use super::endpoints::{Endpoints, NodeClient};
use super::follow::follow;
use super::watch::watch;
use crate::client::{
    BranchStatus, EpochGrant, LogChunk, LogClient, LogError, MetadataClient, MetadataSnapshot, MetadataValue,
    SwapOutcome,
};
use crate::filter::{Pieces, StreamFilter, StreamPiece};
use crate::stream::{Append, AppendStream, Queued};

/// How long a call looks for a node that can answer it.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// A client of a log service over gRPC. Connects when first used and again after a failure.
pub struct RemoteLog {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Arc<Endpoints>,
    /// Where the append stream's task runs.
    runtime: Handle,
    patience: Duration,
    next_request: AtomicU64,
    /// The log node on this machine; empty if there is none.
    near: String,
    appends: Mutex<Option<AppendStream>>,
    /// Starts of appends whose outcome is open: an append that comes before its predecessor waits for it.
    open_appends: Mutex<BTreeSet<(BranchId, Epoch, Lsn)>>,
}

/// May a call be made again when nobody knows what became of it?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Always,
    /// Only after a node has said that it did nothing.
    IfRefused,
}

impl RemoteLog {
    /// A client of the service whose nodes listen at `addresses` (`host:port`; some of them are enough). To be called
    /// within a tokio runtime; does not wait for a connection.
    pub fn new(addresses: Vec<String>) -> Result<RemoteLog, LogError> {
        RemoteLog::with_patience(addresses, DEFAULT_PATIENCE)
    }

    /// The same, with calls that look for a node that can answer for as long as `patience`.
    pub fn with_patience(addresses: Vec<String>, patience: Duration) -> Result<RemoteLog, LogError> {
        RemoteLog::connect(addresses, patience, String::new())
    }

    /// A writer on the machine of the node that listens at `near`: if most is written there, that node will lead.
    pub fn beside(addresses: Vec<String>, near: String) -> Result<RemoteLog, LogError> {
        RemoteLog::connect(addresses, DEFAULT_PATIENCE, near)
    }

    fn connect(addresses: Vec<String>, patience: Duration, near: String) -> Result<RemoteLog, LogError> {
        let shared = Shared {
            endpoints: Arc::new(Endpoints::new(addresses)?),
            runtime: Handle::current(),
            patience,
            next_request: AtomicU64::new(1),
            near,
            appends: Mutex::new(None),
            open_appends: Mutex::default(),
        };
        Ok(RemoteLog { shared: Arc::new(shared) })
    }

    /// Makes a call until it has an answer.
    async fn call<T, F>(&self, repeat: Repeat, make: impl Fn(NodeClient) -> F) -> Result<T, LogError>
    where
        F: Future<Output = Result<(T, Option<wire::Failure>), Status>>,
    {
        let endpoints = &self.shared.endpoints;
        let mut attempts = Attempts::new(self.shared.patience, FIRST_PAUSE, LAST_PAUSE);
        loop {
            let (address, client) = endpoints.current();
            let answered = tokio::time::timeout_at(attempts.deadline(), make(client)).await;
            let error = match answered {
                Ok(Ok((answer, None))) => return Ok(answer),
                Ok(Ok((_, Some(failure)))) => match from_failure(failure) {
                    LogError::NotLeader { leader } => {
                        endpoints.move_on(&address, leader.as_deref());
                        LogError::Unavailable { reason: format!("{address} does not lead") }
                    }
                    error @ LogError::Unavailable { .. } => {
                        endpoints.move_on(&address, None);
                        if repeat == Repeat::IfRefused {
                            return Err(error);
                        }
                        error
                    }
                    error => return Err(error),
                },
                Ok(Err(status)) => {
                    endpoints.move_on(&address, None);
                    let error = unavailable(&status);
                    if repeat == Repeat::IfRefused {
                        return Err(error);
                    }
                    error
                }
                Err(_) => {
                    endpoints.move_on(&address, None);
                    return Err(LogError::Unavailable { reason: format!("{address} does not answer") });
                }
            };
            attempts.pause(error).await?;
        }
    }
}

impl Shared {
    /// Queues an append on the running stream to the node believed to lead, or on a new one.
    fn queue(&self, append: &Append) -> Queued {
        let address = self.endpoints.current_address();
        let mut current = self.appends.lock();
        let stream = match &*current {
            Some(stream) if stream.is_open() && stream.address() == address => stream,
            _ => current.insert(AppendStream::open(address, self.near.clone(), &self.runtime)),
        };
        stream.queue(self.next_request.fetch_add(1, Ordering::Relaxed), append)
    }

    fn has_open_predecessor(&self, append: &Append) -> bool {
        let open = self.open_appends.lock();
        let first = (append.branch, append.epoch, Lsn::ZERO);
        open.range(first..(append.branch, append.epoch, append.start_lsn)).next().is_some()
    }

    /// Repeats an append until its outcome is known.
    async fn append(&self, append: Append, mut queued: Queued) -> Result<Lsn, LogError> {
        let group_end = append.start_lsn.advance(append.bytes.len() as u64);
        let mut attempts = Attempts::new(self.patience, FIRST_PAUSE, LAST_PAUSE);
        let mut may_be_in = false;
        loop {
            let address = queued.address();
            let error = match tokio::time::timeout_at(attempts.deadline(), queued.outcome()).await {
                Ok(Ok(end_lsn)) => return Ok(end_lsn),
                // The epoch is checked before the position: it is still ours, and nobody else can have written this.
                Ok(Err(LogError::Gap { end_lsn, .. })) if may_be_in && end_lsn >= group_end => return Ok(group_end),
                Ok(Err(error @ LogError::Gap { end_lsn, .. })) => {
                    if end_lsn >= append.start_lsn || !self.has_open_predecessor(&append) {
                        return Err(error);
                    }
                    error
                }
                Ok(Err(LogError::NotLeader { leader })) => {
                    self.endpoints.move_on(&address, leader.as_deref());
                    LogError::Unavailable { reason: format!("{address} does not lead") }
                }
                Ok(Err(error @ LogError::Unavailable { .. })) => {
                    may_be_in = true;
                    self.endpoints.move_on(&address, None);
                    error
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.endpoints.move_on(&address, None);
                    return Err(LogError::Unavailable { reason: format!("{address} does not answer") });
                }
            };
            attempts.pause(error).await?;
            queued = self.queue(&append);
        }
    }
}

#[async_trait]
impl LogClient for RemoteLog {
    // A grant whose answer was lost is never used: repeating the call only takes a higher epoch.
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        self.call(Repeat::Always, |mut client| async move {
            let answer = client.acquire_epoch(wire::AcquireEpochRequest { branch: branch.0 }).await?.into_inner();
            Ok((EpochGrant { epoch: Epoch(answer.epoch), end_lsn: Lsn(answer.end_lsn) }, answer.failure))
        })
        .await
    }

    // Written out, so that requests are sent in the order of the calls, not of the first polls.
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
        let append = Append { branch, epoch, start_lsn, bytes };
        let open = OpenAppend::new(self.shared.clone(), (branch, epoch, start_lsn));
        let queued = self.shared.queue(&append);
        Box::pin(async move { open.shared.append(append, queued).await })
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let pieces = follow(self.shared.endpoints.clone(), branch, from_lsn, None, self.shared.patience).await?;
        let whole = |piece| match piece {
            StreamPiece::Whole(chunk) => Ok(chunk),
            StreamPiece::Filtered(_) => {
                Err(LogError::Invalid { reason: "a log node left out what was asked for".to_owned() })
            }
        };
        Ok(pieces.map(move |piece| piece.and_then(whole)).boxed())
    }

    async fn subscribe_filtered(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
        filter: &StreamFilter,
    ) -> Result<Pieces, LogError> {
        let filter = Some(filter.clone());
        follow(self.shared.endpoints.clone(), branch, from_lsn, filter, self.shared.patience).await
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        self.call(Repeat::Always, |mut client| async move {
            let answer = client.status(wire::StatusRequest { branch: branch.0 }).await?.into_inner();
            let status = BranchStatus {
                epoch: Epoch(answer.epoch),
                first_lsn: Lsn(answer.first_lsn),
                durable_lsn: Lsn(answer.durable_lsn),
                consumers: answer.consumers.into_iter().map(|one| (one.name, Lsn(one.durable_lsn))).collect(),
            };
            Ok((status, answer.failure))
        })
        .await
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        self.call(Repeat::Always, |mut client| async move {
            let (consumer, durable_lsn) = (consumer.to_owned(), durable_lsn.0);
            let request = wire::ReportConsumerRequest { branch: branch.0, consumer, durable_lsn };
            Ok(((), client.report_consumer(request).await?.into_inner().failure))
        })
        .await
    }
}

#[async_trait]
impl MetadataClient for RemoteLog {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        self.call(Repeat::Always, |mut client| async move {
            let answer = client.list(wire::ListRequest { prefix: key.to_owned(), exact: true }).await?.into_inner();
            Ok((answer.values.into_iter().next().map(|value| from_value(value).1), answer.failure))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        self.call(Repeat::Always, |mut client| async move {
            let answer = client.list(wire::ListRequest { prefix: prefix.to_owned(), exact: false }).await?.into_inner();
            Ok((answer.values.into_iter().map(from_value).collect(), answer.failure))
        })
        .await
    }

    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError> {
        Ok(watch(self.shared.endpoints.clone(), prefix.to_owned(), self.shared.patience))
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        self.call(Repeat::IfRefused, |mut client| {
            let request = wire::CompareAndSwapRequest { key: key.to_owned(), expected, value: value.clone() };
            async move {
                let answer = client.compare_and_swap(request).await?.into_inner();
                let outcome = if answer.swapped {
                    SwapOutcome::Swapped { version: answer.version }
                } else {
                    SwapOutcome::Conflict { current: answer.current.map(|value| from_value(value).1) }
                };
                Ok((outcome, answer.failure))
            }
        })
        .await
    }
}

/// Keeps an append among the open ones until its future is gone.
struct OpenAppend {
    shared: Arc<Shared>,
    position: (BranchId, Epoch, Lsn),
}

impl OpenAppend {
    fn new(shared: Arc<Shared>, position: (BranchId, Epoch, Lsn)) -> OpenAppend {
        shared.open_appends.lock().insert(position);
        OpenAppend { shared, position }
    }
}

impl Drop for OpenAppend {
    fn drop(&mut self) {
        self.shared.open_appends.lock().remove(&self.position);
    }
}
