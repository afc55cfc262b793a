//! The calling side: a log service elsewhere, as a [`LogClient`] and [`MetadataClient`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use proto::logstore as wire;
use proto::logstore::log_service_client::LogServiceClient;
use storage::{BranchId, Epoch, Lsn};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::convert::{from_failure, from_value};
use super::{MAX_APPENDS_IN_FLIGHT, MAX_MESSAGE_BYTES};
use crate::client::{
    BranchStatus, EpochGrant, LogChunk, LogClient, LogError, MetadataClient, MetadataValue, SwapOutcome,
};

/// Unanswered appends by request id; `None` once the stream has ended: what is not answered by then never will be.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Lsn, LogError>>>>>;

/// A client of a log node over gRPC. Connects when first used and again after a failure.
pub struct RemoteLog {
    client: LogServiceClient<Channel>,
    /// Where the append stream's task runs.
    runtime: Handle,
    next_request: AtomicU64,
    appends: Mutex<Option<AppendStream>>,
}

/// One pipelined stream of appends.
#[derive(Clone)]
struct AppendStream {
    requests: mpsc::Sender<wire::AppendRequest>,
    waiting: Arc<Waiting>,
}

fn unavailable(status: &Status) -> LogError {
    LogError::Unavailable { reason: format!("{}: {}", status.code(), status.message()) }
}

fn broken() -> LogError {
    LogError::Unavailable { reason: "the connection to the log service ended before the answer".into() }
}

impl RemoteLog {
    /// A client of the node at `endpoint`. To be called within a tokio runtime; does not wait for the connection.
    pub fn new(endpoint: Endpoint) -> RemoteLog {
        let client = LogServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        RemoteLog { client, runtime: Handle::current(), next_request: AtomicU64::new(1), appends: Mutex::new(None) }
    }

    /// The running append stream, or a new one.
    fn append_stream(&self) -> AppendStream {
        let mut current = self.appends.lock();
        if let Some(stream) = &*current
            && stream.waiting.lock().is_some()
        {
            return stream.clone();
        }
        let (requests, outgoing) = mpsc::channel(MAX_APPENDS_IN_FLIGHT);
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let mut client = self.client.clone();
        let answers = waiting.clone();
        self.runtime.spawn(async move {
            let ended = match client.append(ReceiverStream::new(outgoing)).await {
                Ok(incoming) => receive(incoming.into_inner(), &answers).await,
                Err(status) => unavailable(&status),
            };
            for (_, answer) in answers.lock().take().unwrap_or_default() {
                let _ = answer.send(Err(ended.clone()));
            }
        });
        current.insert(AppendStream { requests, waiting }).clone()
    }
}

/// Hands out answers until the stream ends; tells why it did.
async fn receive(mut incoming: tonic::Streaming<wire::AppendResponse>, waiting: &Waiting) -> LogError {
    loop {
        match incoming.message().await {
            Ok(Some(response)) => {
                let answer = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&response.request_id));
                if let Some(answer) = answer {
                    let outcome = response.failure.map_or(Ok(Lsn(response.end_lsn)), |error| Err(from_failure(error)));
                    let _ = answer.send(outcome);
                }
            }
            Ok(None) => return broken(),
            Err(status) => return unavailable(&status),
        }
    }
}

fn checked<T>(answer: T, failure: Option<wire::Failure>) -> Result<T, LogError> {
    failure.map_or(Ok(answer), |failure| Err(from_failure(failure)))
}

#[async_trait]
impl LogClient for RemoteLog {
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        let request = wire::AcquireEpochRequest { branch: branch.0 };
        let answer = self.client.clone().acquire_epoch(request).await.map_err(|status| unavailable(&status))?;
        let answer = answer.into_inner();
        checked(EpochGrant { epoch: Epoch(answer.epoch), end_lsn: Lsn(answer.end_lsn) }, answer.failure)
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
        let request_id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let request =
            wire::AppendRequest { request_id, branch: branch.0, epoch: epoch.0, start_lsn: start_lsn.0, bytes };
        let AppendStream { requests, waiting } = self.append_stream();
        let (answer, outcome) = oneshot::channel();
        match &mut *waiting.lock() {
            Some(waiting) => drop(waiting.insert(request_id, answer)),
            None => return Box::pin(async { Err(broken()) }),
        }
        let queued = requests.try_send(request);
        Box::pin(async move {
            if let Err(mpsc::error::TrySendError::Full(request)) = queued
                && requests.send(request).await.is_err()
            {
                return Err(broken());
            }
            // If the stream has ended, its task drops or answers what waits.
            outcome.await.unwrap_or_else(|_| Err(broken()))
        })
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let request = wire::SubscribeRequest { branch: branch.0, from_lsn: from_lsn.0 };
        let stream = self.client.clone().subscribe(request).await.map_err(|status| unavailable(&status))?;
        let chunks = stream.into_inner().map(|message| {
            let message = message.map_err(|status| unavailable(&status))?;
            let (start_lsn, epoch) = (Lsn(message.start_lsn), Epoch(message.epoch));
            checked(LogChunk { start_lsn, epoch, bytes: message.bytes }, message.failure)
        });
        // A refusal comes as the first message: it is the answer to this call. Waiting for it would wait for the first
        // chunk, so it is told apart by what the branch holds.
        let status = self.status(branch).await?;
        if from_lsn < status.first_lsn {
            return Err(LogError::Trimmed { branch, asked: from_lsn, first_lsn: status.first_lsn });
        }
        Ok(chunks.boxed())
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        let request = wire::StatusRequest { branch: branch.0 };
        let answer = self.client.clone().status(request).await.map_err(|status| unavailable(&status))?.into_inner();
        let status = BranchStatus {
            epoch: Epoch(answer.epoch),
            first_lsn: Lsn(answer.first_lsn),
            durable_lsn: Lsn(answer.durable_lsn),
        };
        checked(status, answer.failure)
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        let (consumer, durable_lsn) = (consumer.to_owned(), durable_lsn.0);
        let request = wire::ReportConsumerRequest { branch: branch.0, consumer, durable_lsn };
        let answer = self.client.clone().report_consumer(request).await.map_err(|status| unavailable(&status))?;
        checked((), answer.into_inner().failure)
    }
}

#[async_trait]
impl MetadataClient for RemoteLog {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        let request = wire::ListRequest { prefix: key.to_owned(), exact: true };
        let answer = self.client.clone().list(request).await.map_err(|status| unavailable(&status))?.into_inner();
        let value = answer.values.into_iter().next().map(|value| from_value(value).1);
        checked(value, answer.failure)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        let request = wire::ListRequest { prefix: prefix.to_owned(), exact: false };
        let answer = self.client.clone().list(request).await.map_err(|status| unavailable(&status))?.into_inner();
        checked(answer.values.into_iter().map(from_value).collect(), answer.failure)
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        let request = wire::CompareAndSwapRequest { key: key.to_owned(), expected, value };
        let answer = self.client.clone().compare_and_swap(request).await.map_err(|status| unavailable(&status))?;
        let answer = answer.into_inner();
        let outcome = if answer.swapped {
            SwapOutcome::Swapped { version: answer.version }
        } else {
            SwapOutcome::Conflict { current: answer.current.map(|value| from_value(value).1) }
        };
        checked(outcome, answer.failure)
    }
}
