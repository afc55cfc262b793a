//! The page service: any [`PageClient`] offered over gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::BoxStream;
use proto::pageserver::page_service_server::{self, PageServiceServer};
use proto::pageserver::{
    GetPagesRequest, GetPagesResponse, LsnAtRequest, LsnAtResponse, ScrubRequest, ScrubResponse, StatusRequest,
    StatusResponse,
};
use storage::{BranchId, ShardId};
use tonic::{Request, Response, Status, Streaming};

use super::MAX_PAGES_PER_REQUEST;
use crate::client::{GetPage, PageClient, PageError, Priority};
use crate::scrub::ScrubReport;

/// Pages of one stream taken on and not yet answered, by the message's most urgent priority: the answers of a client that
/// does not read take no more memory than that. Beyond it, messages are answered as overloaded, so that those of little
/// urgency never hold up the urgent behind them.
const PAGES_IN_FLIGHT: [usize; Priority::ALL.len()] = [4096, 1024, 512];
/// Messages of one stream worked on at a time: never fewer than the pages above.
const MESSAGES_IN_FLIGHT: usize = PAGES_IN_FLIGHT[0] + PAGES_IN_FLIGHT[1] + PAGES_IN_FLIGHT[2];

/// Pages of a stream in flight, by priority.
#[derive(Default)]
struct InFlight {
    pages: [AtomicUsize; Priority::ALL.len()],
}

/// A message's share of them, given back when it is answered or its stream ends.
struct Share {
    stream: Arc<InFlight>,
    class: usize,
    pages: usize,
}

impl InFlight {
    fn take(self: &Arc<Self>, requests: &[GetPage]) -> Option<Share> {
        let class = requests.iter().map(|request| request.priority.index()).min().unwrap_or(0);
        let pages = requests.len();
        // Only the stream's own task adds: between the two nobody else does.
        let before = self.pages[class].load(Ordering::Relaxed);
        if before + pages > PAGES_IN_FLIGHT[class] {
            return None;
        }
        self.pages[class].fetch_add(pages, Ordering::Relaxed);
        Some(Share { stream: self.clone(), class, pages })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.stream.pages[self.class].fetch_sub(self.pages, Ordering::Relaxed);
    }
}

/// Answers gRPC calls from pages that a client in the same process gets.
pub struct PageService {
    pages: Arc<dyn PageClient>,
}

impl PageService {
    /// To be added to a server of the caller's making.
    pub fn new(pages: Arc<dyn PageClient>) -> PageServiceServer<PageService> {
        PageServiceServer::new(PageService { pages })
    }
}

/// Takes a message on at once, in the order in which they come; answers it later.
fn take_on(
    pages: Arc<dyn PageClient>,
    stream: &Arc<InFlight>,
    asked: Result<GetPagesRequest, Status>,
) -> impl Future<Output = Result<GetPagesResponse, Status>> + Send + use<> {
    let taken = asked.map(|asked| {
        let requests: Vec<_> = asked.pages.iter().map(super::request).collect();
        (stream.take(&requests), asked, requests)
    });
    async move {
        let (share, asked, requests) = taken?;
        answer_request(pages, share, &asked, &requests).await
    }
}

async fn answer_request(
    pages: Arc<dyn PageClient>,
    share: Option<Share>,
    asked: &GetPagesRequest,
    requests: &[GetPage],
) -> Result<GetPagesResponse, Status> {
    if asked.pages.len() > MAX_PAGES_PER_REQUEST {
        let message = format!("{} pages in a request, {MAX_PAGES_PER_REQUEST} allowed", asked.pages.len());
        return Err(Status::invalid_argument(message));
    }
    let outcomes = match share {
        Some(_) => pages.get_pages(BranchId(asked.branch), requests).await,
        None => {
            let reason = "too many pages of this stream wait for their answers".to_owned();
            vec![Err(PageError::Overloaded { reason }); requests.len()]
        }
    };
    let answers = outcomes.into_iter().map(super::answer).collect();
    Ok(GetPagesResponse { request_id: asked.request_id, answers })
}

#[tonic::async_trait]
impl page_service_server::PageService for PageService {
    type GetPagesStream = BoxStream<'static, Result<GetPagesResponse, Status>>;

    async fn get_pages(
        &self,
        requests: Request<Streaming<GetPagesRequest>>,
    ) -> Result<Response<Self::GetPagesStream>, Status> {
        let (pages, stream) = (self.pages.clone(), Arc::<InFlight>::default());
        let answers = requests
            .into_inner()
            .map(move |asked| take_on(pages.clone(), &stream, asked))
            .buffer_unordered(MESSAGES_IN_FLIGHT);
        Ok(Response::new(answers.boxed()))
    }

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<ScrubResponse>, Status> {
        let ScrubRequest { branch, shard, bytes_per_second } = request.into_inner();
        let report = self.pages.scrub(BranchId(branch), ShardId(shard), bytes_per_second).await;
        let report = report.map_err(|error| Status::unavailable(error.to_string()))?;
        let ScrubReport { layers, bytes, pages, damages, damaged } = report;
        Ok(Response::new(ScrubResponse { layers, bytes, pages, damages, damaged }))
    }

    async fn lsn_at(&self, request: Request<LsnAtRequest>) -> Result<Response<LsnAtResponse>, Status> {
        let LsnAtRequest { branch, time_us } = request.into_inner();
        let found = self.pages.lsn_at(BranchId(branch), time_us).await;
        let found = found.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(LsnAtResponse { lsn: found.map(|lsn| lsn.0) }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.pages.status(BranchId(request.into_inner().branch)).await;
        let status = status.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(StatusResponse {
            ingested_lsn: status.ingested_lsn.0,
            durable_lsn: status.durable_lsn.0,
            horizon_lsn: status.horizon_lsn.0,
            layers: status.layers,
        }))
    }
}
