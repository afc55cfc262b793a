//! The page service: any [`PageClient`] offered over gRPC.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use proto::pageserver::page_service_server::{self, PageServiceServer};
use proto::pageserver::{
    GetPagesRequest, GetPagesResponse, LsnAtRequest, LsnAtResponse, StatusRequest, StatusResponse,
};
use storage::BranchId;
use tonic::{Request, Response, Status, Streaming};

use super::MAX_PAGES_PER_REQUEST;
use crate::client::PageClient;

/// Requests of one stream worked on at a time. More wait in the stream, where flow control holds the sender back.
const REQUESTS_IN_FLIGHT: usize = 32;

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

async fn answer_request(pages: Arc<dyn PageClient>, asked: GetPagesRequest) -> Result<GetPagesResponse, Status> {
    if asked.pages.len() > MAX_PAGES_PER_REQUEST {
        let message = format!("{} pages in a request, {MAX_PAGES_PER_REQUEST} allowed", asked.pages.len());
        return Err(Status::invalid_argument(message));
    }
    let requests: Vec<_> = asked.pages.iter().map(super::request).collect();
    let outcomes = pages.get_pages(BranchId(asked.branch), &requests).await;
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
        let pages = self.pages.clone();
        let answers = requests
            .into_inner()
            .map(move |asked| {
                let pages = pages.clone();
                async move { answer_request(pages, asked?).await }
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT);
        Ok(Response::new(answers.boxed()))
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
