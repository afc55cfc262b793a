//! Reading pages over gRPC: latency of one client, and as many as the server can give.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pageserver::PageServer;
use pageserver::client::{GetPage, PageClient, Priority};
use pageserver::grpc::{GrpcPageClient, PageService};
use storage::{Lsn, PageNo};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use super::BRANCH;
use super::meters::{cpu_seconds, cpu_seconds_of, percentile};
use super::workload::{Random, Workload};

/// Pages in use: they fit the cache.
const WARM_PAGES: u64 = 4000;

fn request(page: u64, at: Lsn) -> GetPage {
    GetPage { page: PageNo(1 + page), at, not_modified_since: Lsn::ZERO, priority: Priority::Foreground }
}

async fn ask(client: &dyn PageClient, requests: &[GetPage]) {
    for answer in client.get_pages(BRANCH, requests).await {
        answer.expect("the page was written");
    }
}

/// Each page once, in an order of its own: none of them in the cache of pages.
async fn cold(name: &str, client: &dyn PageClient, pages: u64, at: Lsn) {
    let mut random = Random(3);
    let count = 2000;
    let (mut latencies_us, cpu) = (Vec::new(), cpu_seconds());
    for _ in 0..count {
        let began = Instant::now();
        ask(client, &[request(random.below(pages), at)]).await;
        latencies_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let cpu_us = (cpu_seconds() - cpu) * 1e6 / f64::from(count);
    let (p50, p99) = (percentile(&mut latencies_us, 0.5), percentile(&mut latencies_us, 0.99));
    println!("{name}: p50 {p50:.0} µs, p99 {p99:.0} µs, {cpu_us:.0} µs of CPU a page");
}

async fn many(name: &str, clients: Vec<Arc<dyn PageClient>>, batch: usize, at: Lsn) {
    let (began, until) = (Instant::now(), Instant::now() + Duration::from_secs(4));
    let (cpu, of_clients) = (cpu_seconds(), cpu_seconds_of(CLIENT));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let client = clients[number % clients.len()].clone();
        tasks.spawn(async move {
            let (mut random, mut pages) = (Random(number as u64), 0);
            while Instant::now() < until {
                let requests: Vec<_> = (0..batch).map(|_| request(random.below(WARM_PAGES), at)).collect();
                ask(client.as_ref(), &requests).await;
                pages += batch;
            }
            pages
        });
    }
    let pages: usize = tasks.join_all().await.into_iter().sum();
    let rate = pages as f64 / began.elapsed().as_secs_f64();
    let (cpu, of_clients) = (cpu_seconds() - cpu, cpu_seconds_of(CLIENT) - of_clients);
    let each = |seconds: f64| seconds * 1e6 / pages as f64;
    println!(
        "{name}, {batch} at a time: {rate:.0} pages/s, {:.1} µs of CPU a page by the server, {:.1} by the clients",
        each(cpu - of_clients),
        each(of_clients)
    );
}

/// What the clients' threads are called.
const CLIENT: &str = "client";

/// After the log has been taken in.
pub async fn run(server: &PageServer, at: Lsn, workload: &Workload) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = Server::builder().add_service(PageService::new(server.client()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tokio::spawn(service.serve_with_incoming(incoming));
    let local = server.client();
    cold("made from layers, one client in process", local.as_ref(), workload.account_pages(), at).await;
    for page in 0..WARM_PAGES {
        ask(local.as_ref(), &[request(page, at)]).await;
    }
    cold("warm, one client in process", local.as_ref(), WARM_PAGES, at).await;
    // On threads of their own, as another process would have.
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(CLIENT).enable_all().build();
    let threads = threads.expect("a runtime");
    let reading = async move {
        let connect = |_| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            Arc::new(GrpcPageClient::new(endpoint.connect_lazy(), Duration::from_secs(60))) as Arc<dyn PageClient>
        };
        let clients: Vec<_> = (0..4).map(connect).collect();
        cold("warm, one client over gRPC", clients[0].as_ref(), WARM_PAGES, at).await;
        for batch in [1, 32] {
            many("warm, 16 tasks in process", vec![local.clone()], batch, at).await;
            many("warm, 16 tasks over gRPC", clients.clone(), batch, at).await;
        }
    };
    threads.spawn(reading).await.expect("nothing fails");
    threads.shutdown_background();
    serving.abort();
}
