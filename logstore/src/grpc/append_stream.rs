//! One pipelined stream of appends to one node. When it ends, everything unanswered is answered as unknown.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::logstore as wire;
use storage::{BranchId, Epoch, Lsn};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::MAX_APPENDS_IN_FLIGHT;
use super::convert::from_failure;
use super::endpoints::NodeClient;
use crate::client::LogError;

/// Unanswered appends by request id; `None` once the stream has ended: what is not answered by then never will be.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Result<Lsn, LogError>>>>>;

/// What is appended.
#[derive(Clone)]
pub(super) struct Append {
    pub(super) branch: BranchId,
    pub(super) epoch: Epoch,
    pub(super) start_lsn: Lsn,
    pub(super) bytes: Bytes,
}

/// See the module.
#[derive(Clone)]
pub(super) struct AppendStream {
    address: String,
    requests: mpsc::Sender<wire::AppendRequest>,
    waiting: Arc<Waiting>,
    /// Told with the first request: the log node on this machine.
    near: Arc<Mutex<String>>,
}

/// An append that has been queued, or could not be.
pub(super) struct Queued {
    stream: AppendStream,
    unsent: Option<wire::AppendRequest>,
    outcome: Option<oneshot::Receiver<Result<Lsn, LogError>>>,
}

pub(super) fn unavailable(status: &Status) -> LogError {
    LogError::Unavailable { reason: format!("{}: {}", status.code(), status.message()) }
}

fn broken() -> LogError {
    LogError::Unavailable { reason: "the connection to the log service ended before the answer".into() }
}

impl AppendStream {
    pub(super) fn open(address: String, mut client: NodeClient, near: String, runtime: &Handle) -> AppendStream {
        let (requests, outgoing) = mpsc::channel(MAX_APPENDS_IN_FLIGHT);
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let answers = waiting.clone();
        runtime.spawn(async move {
            let ended = match client.append(ReceiverStream::new(outgoing)).await {
                Ok(incoming) => receive(incoming.into_inner(), &answers).await,
                Err(status) => unavailable(&status),
            };
            for (_, answer) in answers.lock().take().unwrap_or_default() {
                let _ = answer.send(Err(ended.clone()));
            }
        });
        AppendStream { address, requests, waiting, near: Arc::new(Mutex::new(near)) }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_open(&self) -> bool {
        self.waiting.lock().is_some()
    }

    /// Queues an append now if there is room, so that the order of the calls is kept.
    pub(super) fn queue(&self, request_id: u64, append: &Append) -> Queued {
        let Append { branch, epoch, start_lsn, bytes } = append.clone();
        let near = std::mem::take(&mut *self.near.lock());
        let request =
            wire::AppendRequest { request_id, branch: branch.0, epoch: epoch.0, start_lsn: start_lsn.0, bytes, near };
        let (answer, outcome) = oneshot::channel();
        let mut queued = Queued { stream: self.clone(), unsent: None, outcome: None };
        match &mut *self.waiting.lock() {
            Some(waiting) => drop(waiting.insert(request_id, answer)),
            None => return queued,
        }
        if let Err(mpsc::error::TrySendError::Full(request)) = self.requests.try_send(request) {
            queued.unsent = Some(request);
        }
        queued.outcome = Some(outcome);
        queued
    }
}

impl Queued {
    /// The node that was asked.
    pub(super) fn address(&self) -> String {
        self.stream.address.clone()
    }

    pub(super) async fn outcome(self) -> Result<Lsn, LogError> {
        if let Some(request) = self.unsent
            && self.stream.requests.send(request).await.is_err()
        {
            return Err(broken());
        }
        let Some(outcome) = self.outcome else { return Err(broken()) };
        // If the stream has ended, its task drops or answers what waits.
        outcome.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// Hands out answers until the stream ends; returns why it did.
async fn receive(mut incoming: tonic::Streaming<wire::AppendResponse>, waiting: &Waiting) -> LogError {
    loop {
        match incoming.message().await {
            Ok(Some(answer)) => {
                let outcome = match answer.failure {
                    Some(failure) => Err(from_failure(failure)),
                    None => Ok(Lsn(answer.end_lsn)),
                };
                let waiter = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&answer.request_id));
                if let Some(waiter) = waiter {
                    let _ = waiter.send(outcome);
                }
            }
            Ok(None) => return broken(),
            Err(status) => return unavailable(&status),
        }
    }
}
