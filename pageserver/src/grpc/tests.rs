//! The same questions over a socket, in pipelines, and over broken connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::client::{PageClient, PageServerStatus};

/// Answers by page number: each kind of outcome in turn.
struct Oracle;

fn told(request: &GetPage) -> Result<PageImage, PageError> {
    let GetPage { page, at, not_modified_since, priority } = *request;
    match page.0 % 8 {
        0 => Err(PageError::NotFound { page, at }),
        1 => Err(PageError::BelowHorizon { page, at, horizon: not_modified_since }),
        2 => Err(PageError::Behind { page, at, reached: not_modified_since }),
        3 => Err(PageError::Damaged { page, reason: "bits".to_owned() }),
        4 => Err(PageError::Unavailable { reason: "away".to_owned() }),
        5 => Err(PageError::NotServed { branch: BranchId(at.0), shard: ShardId(page.0) }),
        6 => Err(PageError::Overloaded { reason: priority.name().to_owned() }),
        _ => Ok(PageImage { bytes: Bytes::from(vec![page.0 as u8; 8192]), page_lsn: at }),
    }
}

#[async_trait]
impl PageClient for Oracle {
    async fn get_pages(&self, _branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        // Later requests overtake earlier ones.
        let first = requests.first().map_or(0, |request| request.page.0);
        tokio::time::sleep(Duration::from_millis(20_u64.saturating_sub(first % 20))).await;
        requests.iter().map(told).collect()
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        Ok(PageServerStatus { ingested_lsn: Lsn(branch.0), durable_lsn: Lsn(2), horizon_lsn: Lsn(3), layers: 4 })
    }
}

async fn serve(address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    serve_pages(address, Arc::new(Oracle)).await
}

async fn serve_pages(address: SocketAddr, pages: Arc<dyn PageClient>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving =
        Server::builder().add_service(PageService::new(pages)).serve_with_incoming(TcpListenerStream::new(listener));
    (address, tokio::spawn(async move { serving.await.expect("serves") }))
}

fn connect(address: SocketAddr) -> GrpcPageClient {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    GrpcPageClient::new(endpoint.connect_lazy(), Duration::from_secs(10))
}

fn requests(first: u64, count: u64) -> Vec<GetPage> {
    let request = |page: u64| GetPage {
        page: PageNo(page),
        at: Lsn(page * 7),
        not_modified_since: Lsn(page * 5),
        priority: Priority::ALL[page as usize / 8 % 3],
    };
    (first..first + count).map(request).collect()
}

#[tokio::test]
async fn every_outcome_arrives() {
    let (address, _) = serve(([127, 0, 0, 1], 0).into()).await;
    let client = Arc::new(connect(address));
    // More than fit one request, none, and many at a time.
    for count in [0, 1, 6, MAX_PAGES_PER_REQUEST as u64, 1000] {
        let requests = requests(3, count);
        let expected: Vec<_> = requests.iter().map(told).collect();
        assert_eq!(client.get_pages(BranchId(1), &requests).await, expected);
    }
    let tasks = (0..100).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let requests = requests(n, 12);
            let expected: Vec<_> = requests.iter().map(told).collect();
            assert_eq!(client.get_pages(BranchId(1), &requests).await, expected);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("right answers");
    }
    let status = client.status(BranchId(8)).await.expect("status");
    assert_eq!((status.ingested_lsn, status.layers), (Lsn(8), 4));
}

#[tokio::test]
async fn broken_connections_are_replaced() {
    let (address, server) = serve(([127, 0, 0, 1], 0).into()).await;
    let client = connect(address);
    let requests = requests(7, 1);
    assert!(client.get_pages(BranchId(1), &requests).await[0].is_ok());
    server.abort();
    let _ = server.await;
    let mut refused = 0;
    for _ in 0..50 {
        let answers = client.get_pages(BranchId(1), &requests).await;
        // A connection already accepted may outlive the listener.
        refused += usize::from(matches!(answers[0], Err(PageError::Unavailable { .. })));
    }
    let (_, _server) = serve(address).await;
    let mut answered = false;
    for _ in 0..100 {
        answered = client.get_pages(BranchId(1), &requests).await[0].is_ok();
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(answered, "no answer from the new server; {refused} refused by the old one");
}

#[tokio::test]
async fn oversize_requests_are_refused() {
    let (address, _) = serve(([127, 0, 0, 1], 0).into()).await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut raw = proto::pageserver::page_service_client::PageServiceClient::new(endpoint.connect_lazy());
    let pages = requests(0, MAX_PAGES_PER_REQUEST as u64 + 1).iter().map(asked).collect();
    let request = proto::pageserver::GetPagesRequest { request_id: 1, branch: 1, pages };
    let mut answers = raw.get_pages(futures::stream::iter([request])).await.expect("a stream").into_inner();
    assert_eq!(answers.message().await.expect_err("refused").code(), tonic::Code::InvalidArgument);
}

/// Answers foreground requests only; others wait for ever.
struct Busy;

#[async_trait]
impl PageClient for Busy {
    async fn get_pages(&self, _branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        if requests.iter().any(|request| request.priority != Priority::Foreground) {
            std::future::pending::<()>().await;
        }
        requests.iter().map(told).collect()
    }

    async fn status(&self, _branch: BranchId) -> Result<PageServerStatus, PageError> {
        Err(PageError::Unavailable { reason: "not asked here".to_owned() })
    }
}

/// A stream full of requests that nobody is in a hurry for: what comes behind them is answered, and beyond a limit they are
/// turned away instead of gathering.
#[tokio::test]
async fn floods_do_not_hold_up_the_urgent() {
    for flood in [Priority::Prefetch, Priority::Background] {
        let (address, _) = serve_pages(([127, 0, 0, 1], 0).into(), Arc::new(Busy)).await;
        let client = Arc::new(connect(address));
        let (told, mut answers) = tokio::sync::mpsc::channel(64);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, told) = (client.clone(), told.clone());
            tasks.spawn(async move {
                let mut requests = requests(0, MAX_PAGES_PER_REQUEST as u64);
                requests.iter_mut().for_each(|request| request.priority = flood);
                let refused = client.get_pages(BranchId(1), &requests).await;
                told.send(refused).await.expect("the test waits");
            });
        }
        // Those beyond the limit: 1024 or 512 pages of 20 times 256.
        let most = if flood == Priority::Prefetch { 4 } else { 2 };
        for _ in 0..20 - most {
            let refused = answers.recv().await.expect("an answer");
            assert!(
                refused.iter().all(|answer| matches!(answer, Err(PageError::Overloaded { .. }))),
                "{:?}",
                refused[0]
            );
        }
        let mut urgent = requests(7, 1);
        urgent[0].priority = Priority::Foreground;
        let answer = client.get_pages(BranchId(1), &urgent).await.remove(0);
        assert!(answer.is_ok(), "{answer:?}");
        assert!(answers.try_recv().is_err(), "more were turned away than had to be");
    }
}
