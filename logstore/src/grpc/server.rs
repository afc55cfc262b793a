//! The serving side.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use proto::logstore as wire;
use proto::logstore::log_service_server::{LogService, LogServiceServer};
use storage::{BranchId, Lsn};
use tonic::{Request, Response, Status};

use super::MAX_MESSAGE_BYTES;
use super::convert::{to_failure, to_value};
use super::gather::gather;
use super::versions::{Versioned, checking};
use crate::client::{LogChunk, LogClient, LogError, MetadataClient, SwapOutcome};
use crate::filter::{FilteredChunk, Filtering, Pieces, StreamFilter, StreamPiece, filtered, unfiltered};

/// Offers a log and its metadata map.
pub struct LogServer {
    log: Arc<dyn LogClient>,
    metadata: Arc<dyn MetadataClient>,
    /// Understands filters of subscriptions.
    filtering: Option<Arc<dyn Filtering>>,
}

impl LogServer {
    /// A tonic service, to be added to a server. It leaves out appends: see [`crate::stream::incoming`]. With `filtering`,
    /// subscriptions carry only what is wanted.
    pub fn service(
        log: Arc<dyn LogClient>,
        metadata: Arc<dyn MetadataClient>,
        filtering: Option<Arc<dyn Filtering>>,
    ) -> Versioned<LogServiceServer<LogServer>> {
        let server = LogServer { log, metadata, filtering };
        checking(LogServiceServer::new(server).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

fn to_response(piece: StreamPiece) -> wire::SubscribeResponse {
    let (start_lsn, filtered_end_lsn, epoch, bytes) = match piece {
        StreamPiece::Whole(LogChunk { start_lsn, epoch, bytes }) => (start_lsn, Lsn::ZERO, epoch, bytes),
        StreamPiece::Filtered(FilteredChunk { start_lsn, end_lsn, epoch, bytes }) => (start_lsn, end_lsn, epoch, bytes),
    };
    let (start_lsn, epoch, filtered_end_lsn) = (start_lsn.0, epoch.0, filtered_end_lsn.0);
    wire::SubscribeResponse { start_lsn, epoch, bytes, filtered_end_lsn, failure: None }
}

impl LogServer {
    async fn pieces(&self, request: wire::SubscribeRequest) -> Result<Pieces, LogError> {
        let wire::SubscribeRequest { branch, from_lsn, filter, filter_base_lsn } = request;
        let (branch, from_lsn) = (BranchId(branch), Lsn(from_lsn));
        let chunks = gather(self.log.subscribe(branch, from_lsn).await?).boxed();
        match &self.filtering {
            Some(filtering) if !filter.is_empty() => {
                let filter = StreamFilter { bytes: filter, base_lsn: Lsn(filter_base_lsn) };
                filtered(chunks, filtering, &filter, branch, from_lsn)
            }
            _ => Ok(unfiltered(chunks)),
        }
    }
}

type Answered<T> = Result<Response<T>, Status>;

fn consumer((name, durable_lsn): (String, Lsn)) -> wire::Consumer {
    wire::Consumer { name, durable_lsn: durable_lsn.0 }
}

#[tonic::async_trait]
impl LogService for LogServer {
    async fn acquire_epoch(&self, request: Request<wire::AcquireEpochRequest>) -> Answered<wire::AcquireEpochResponse> {
        let answer = match self.log.acquire_epoch(BranchId(request.get_ref().branch)).await {
            Ok(grant) => wire::AcquireEpochResponse { epoch: grant.epoch.0, end_lsn: grant.end_lsn.0, failure: None },
            Err(error) => wire::AcquireEpochResponse { failure: Some(to_failure(error)), ..Default::default() },
        };
        Ok(Response::new(answer))
    }

    type SubscribeStream = BoxStream<'static, Result<wire::SubscribeResponse, Status>>;

    async fn subscribe(&self, request: Request<wire::SubscribeRequest>) -> Answered<Self::SubscribeStream> {
        let failed = |error| {
            Ok(wire::SubscribeResponse { failure: Some(to_failure(error)), ..wire::SubscribeResponse::default() })
        };
        let stream: Self::SubscribeStream = match self.pieces(request.into_inner()).await {
            // Empty: the position can be read. A refusal comes in its place.
            Ok(pieces) => futures::stream::iter([Ok(wire::SubscribeResponse::default())])
                .chain(pieces.map(move |piece| piece.map_or_else(failed, |piece| Ok(to_response(piece)))))
                .boxed(),
            Err(error) => futures::stream::iter([failed(error)]).boxed(),
        };
        Ok(Response::new(stream))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answered<wire::StatusResponse> {
        let answer = match self.log.status(BranchId(request.get_ref().branch)).await {
            Ok(status) => wire::StatusResponse {
                epoch: status.epoch.0,
                first_lsn: status.first_lsn.0,
                durable_lsn: status.durable_lsn.0,
                failure: None,
                consumers: status.consumers.into_iter().map(consumer).collect(),
            },
            Err(error) => wire::StatusResponse { failure: Some(to_failure(error)), ..Default::default() },
        };
        Ok(Response::new(answer))
    }

    async fn report_consumer(
        &self,
        request: Request<wire::ReportConsumerRequest>,
    ) -> Answered<wire::ReportConsumerResponse> {
        let wire::ReportConsumerRequest { branch, consumer, durable_lsn } = request.into_inner();
        let reported = self.log.report_consumer(BranchId(branch), &consumer, Lsn(durable_lsn)).await;
        Ok(Response::new(wire::ReportConsumerResponse { failure: reported.err().map(to_failure) }))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Answered<wire::ListResponse> {
        let wire::ListRequest { prefix, exact } = request.into_inner();
        let found = if exact {
            self.metadata.get(&prefix).await.map(|value| value.map(|value| (prefix, value)).into_iter().collect())
        } else {
            self.metadata.list(&prefix).await
        };
        let answer = match found {
            Ok(values) => {
                let values = values.into_iter().map(|(key, value)| to_value(key, value)).collect();
                wire::ListResponse { values, failure: None }
            }
            Err(error) => wire::ListResponse { failure: Some(to_failure(error)), ..Default::default() },
        };
        Ok(Response::new(answer))
    }

    type WatchStream = BoxStream<'static, Result<wire::WatchResponse, Status>>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Answered<Self::WatchStream> {
        let failed =
            |error| Ok(wire::WatchResponse { failure: Some(to_failure(error)), ..wire::WatchResponse::default() });
        let stream: Self::WatchStream = match self.metadata.watch(&request.get_ref().prefix).await {
            Ok(states) => states
                .map(move |state| match state {
                    Ok(state) => {
                        let values = state.values.into_iter().map(|(key, value)| to_value(key, value)).collect();
                        Ok(wire::WatchResponse { index: state.index, values, failure: None })
                    }
                    Err(error) => failed(error),
                })
                .boxed(),
            Err(error) => futures::stream::iter([failed(error)]).boxed(),
        };
        Ok(Response::new(stream))
    }

    async fn compare_and_swap(
        &self,
        request: Request<wire::CompareAndSwapRequest>,
    ) -> Answered<wire::CompareAndSwapResponse> {
        let wire::CompareAndSwapRequest { key, expected, value } = request.into_inner();
        let answer = match self.metadata.compare_and_swap(&key, expected, value).await {
            Ok(SwapOutcome::Swapped { version }) => {
                wire::CompareAndSwapResponse { swapped: true, version, ..Default::default() }
            }
            Ok(SwapOutcome::Conflict { current }) => {
                let current = current.map(|value| to_value(key, value));
                wire::CompareAndSwapResponse { swapped: false, current, ..Default::default() }
            }
            Err(error) => wire::CompareAndSwapResponse { failure: Some(to_failure(error)), ..Default::default() },
        };
        Ok(Response::new(answer))
    }
}
