//! Tests of the log service as a whole.

mod archive_tests;
mod fault_tests;
mod filter_tests;
mod grpc_tests;
mod node_tests;
mod read_tests;
mod segment_change_tests;
mod segment_size_tests;
mod segment_tests;
mod shifted_tests;
mod store_tests;
mod sync_tests;
mod trim_tests;
mod writers_tests;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::LogStore;
use crate::filter::Filtering;
use crate::grpc::LogServer;

/// Where a store's clients are served from now on, and what serves them.
async fn serve(store: &LogStore, filtering: Option<Arc<dyn Filtering>>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound").to_string();
    let service = LogServer::service(store.client(), store.metadata(), filtering);
    let server = tonic::transport::Server::builder().add_service(service);
    let incoming = crate::stream::incoming(listener, store, None);
    let serving = tokio::spawn(async move { server.serve_with_incoming(incoming).await.expect("serve") });
    (address, serving)
}
