//! A [`PageClient`] over one gRPC stream, which is opened anew when it breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proto::pageserver::page_service_client::PageServiceClient;
use proto::pageserver::{
    GetPagesRequest, GetPagesResponse, LsnAtRequest, PageAnswer, ScrubRequest, ScrubResponse, StatusRequest,
};
use storage::{BranchId, Lsn, ShardId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::MAX_PAGES_PER_REQUEST;
use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::scrub::ScrubReport;

/// Requests handed to the stream and not yet sent. More wait at the caller.
const UNSENT_REQUESTS: usize = 64;

/// Who waits for which answer; `None` once the stream has ended and nobody would be answered any more.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Vec<PageAnswer>>>>>>;

/// A stream and those who wait for its answers.
struct Link {
    requests: mpsc::Sender<GetPagesRequest>,
    waiting: Waiting,
}

/// Takes its requests off the waiting ones, also when the caller gave up.
struct Registration<'a> {
    waiting: &'a Waiting,
    request_id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.request_id);
        }
    }
}

/// Page servers reached over a gRPC channel.
pub struct GrpcPageClient {
    client: PageServiceClient<Channel>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    next_request_id: AtomicU64,
    timeout: Duration,
}

fn unavailable(reason: impl std::fmt::Display) -> PageError {
    PageError::Unavailable { reason: reason.to_string() }
}

impl GrpcPageClient {
    /// Over a channel, which may be lazy. A batch that gets no answer within `timeout` is unavailable; it should be
    /// longer than the page server's own wait for the log.
    pub fn new(channel: Channel, timeout: Duration) -> GrpcPageClient {
        GrpcPageClient {
            client: PageServiceClient::new(channel),
            link: tokio::sync::Mutex::default(),
            next_request_id: AtomicU64::new(0),
            timeout,
        }
    }

    async fn link(&self) -> Result<Arc<Link>, PageError> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.waiting.lock().is_some()) {
            return Ok(link.clone());
        }
        let (requests, outgoing) = mpsc::channel(UNSENT_REQUESTS);
        let incoming = self.client.clone().get_pages(ReceiverStream::new(outgoing)).await.map_err(unavailable)?;
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        // Ends with the stream, which ends when the last sender of requests is dropped.
        tokio::spawn(distribute(incoming.into_inner(), waiting.clone()));
        let opened = Arc::new(Link { requests, waiting });
        *link = Some(opened.clone());
        Ok(opened)
    }

    async fn ask(&self, branch: BranchId, requests: &[GetPage]) -> Result<Vec<PageAnswer>, PageError> {
        let link = self.link().await?;
        let request_id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match link.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(request_id, answer),
            None => return Err(unavailable("the stream to the page server ended")),
        };
        let _registration = Registration { waiting: &link.waiting, request_id };
        let pages = requests.iter().map(super::asked).collect();
        let request = GetPagesRequest { request_id, branch: branch.0, pages };
        link.requests.send(request).await.map_err(|_| unavailable("the stream to the page server ended"))?;
        let answers = answered.await.map_err(|_| unavailable("the stream to the page server broke"))?;
        if answers.len() == requests.len() {
            return Ok(answers);
        }
        Err(unavailable(format!("{} pages asked for, {} answered", requests.len(), answers.len())))
    }
}

async fn distribute(mut incoming: Streaming<GetPagesResponse>, waiting: Waiting) {
    loop {
        match incoming.message().await {
            Ok(Some(response)) => {
                let waiter = waiting.lock().as_mut().and_then(|waiting| waiting.remove(&response.request_id));
                if let Some(waiter) = waiter {
                    // Nobody waits any more: the answer is not needed.
                    let _ = waiter.send(response.answers);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "stream of pages broke");
                break;
            }
        }
    }
    // Dropping the senders tells those who wait.
    *waiting.lock() = None;
}

#[async_trait]
impl PageClient for GrpcPageClient {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        let batches = requests.chunks(MAX_PAGES_PER_REQUEST).map(|batch| async move {
            let answers = match tokio::time::timeout(self.timeout, self.ask(branch, batch)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(unavailable(format!("no answer within {} ms", self.timeout.as_millis()))),
            };
            match answers {
                Ok(answers) => answers.into_iter().map(super::outcome).collect(),
                Err(error) => vec![Err(error); batch.len()],
            }
        });
        futures::future::join_all(batches).await.concat()
    }

    /// Waits as long as it takes.
    async fn scrub(&self, branch: BranchId, shard: ShardId, pace: u64) -> Result<ScrubReport, PageError> {
        let request = ScrubRequest { branch: branch.0, shard: shard.0, bytes_per_second: pace };
        let answer = self.client.clone().scrub(request).await.map_err(|status| unavailable(status.message()))?;
        let ScrubResponse { layers, bytes, pages, damages, damaged } = answer.into_inner();
        Ok(ScrubReport { layers, bytes, pages, damages, damaged })
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        let call = async { self.client.clone().lsn_at(LsnAtRequest { branch: branch.0, time_us }).await };
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => Ok(answer.map_err(|status| unavailable(status.message()))?.into_inner().lsn.map(Lsn)),
            Err(_) => Err(unavailable(format!("no answer within {} ms", self.timeout.as_millis()))),
        }
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        let call = async { self.client.clone().status(StatusRequest { branch: branch.0 }).await };
        let status = match tokio::time::timeout(self.timeout, call).await {
            Ok(status) => status.map_err(|status| unavailable(status.message()))?.into_inner(),
            Err(_) => return Err(unavailable(format!("no answer within {} ms", self.timeout.as_millis()))),
        };
        Ok(PageServerStatus {
            ingested_lsn: Lsn(status.ingested_lsn),
            durable_lsn: Lsn(status.durable_lsn),
            horizon_lsn: Lsn(status.horizon_lsn),
            layers: status.layers,
        })
    }
}
