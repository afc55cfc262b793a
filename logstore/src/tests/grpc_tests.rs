//! The gRPC client and server, over a loopback socket.

use bytes::Bytes;
use futures::StreamExt;
use proto::logstore as wire;
use proto::logstore::log_service_client::LogServiceClient;
use storage::{BranchId, Epoch, Lsn};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::serve;
use crate::client::{LogClient, LogError, MetadataClient, SwapOutcome};
use crate::grpc::{RaftServer, RemoteLog};
use crate::stream::{CLIENT_VERSIONS, Credentials, PEER_VERSIONS};
use crate::{LogStore, LogStoreConfig};

const BRANCH: BranchId = BranchId(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_and_every_refusal_crosses_the_wire() {
    let directory = tempfile::tempdir().expect("tempdir");
    let config = LogStoreConfig {
        segment_bytes: 64 << 10,
        max_append_bytes: 8 << 10,
        recent_bytes: 4 << 10,
        ..LogStoreConfig::new(directory.path())
    };
    let store = LogStore::open(config).expect("open");
    let (address, server) = serve(&store, None).await;
    let log = RemoteLog::with_patience(vec![address], std::time::Duration::from_secs(1)).expect("an address");

    let grant = log.acquire_epoch(BRANCH).await.expect("epoch");
    assert_eq!((grant.epoch, grant.end_lsn), (Epoch(1), Lsn(0)));
    let mut end = Lsn(0);
    let mut calls = Vec::new();
    for length in 1..=200usize {
        calls.push(log.append(BRANCH, grant.epoch, end, vec![length as u8; length].into()));
        end = end.advance(length as u64);
    }
    let mut last = Lsn(0);
    for call in calls {
        last = call.await.expect("append");
    }
    assert_eq!(last, end);

    let gap = log.append(BRANCH, grant.epoch, Lsn(5), Bytes::from_static(b"x")).await;
    assert_eq!(gap, Err(LogError::Gap { branch: BRANCH, start_lsn: Lsn(5), end_lsn: end }));
    let fenced = log.append(BRANCH, Epoch(9), end, Bytes::from_static(b"x")).await;
    let expected = LogError::Fenced { branch: BRANCH, epoch: Epoch(9), current: Epoch(1), end_lsn: end };
    assert_eq!(fenced, Err(expected));
    let large = log.append(BRANCH, grant.epoch, end, vec![0; 9 << 10].into()).await;
    assert_eq!(large, Err(LogError::TooLarge { branch: BRANCH, bytes: 9 << 10, limit_bytes: 8 << 10 }));
    let status = log.status(BRANCH).await.expect("status");
    assert_eq!((status.epoch, status.first_lsn, status.durable_lsn), (Epoch(1), Lsn(0), end));

    // Chunks come joined, in whatever pieces.
    let mut stream = log.subscribe(BRANCH, Lsn(0)).await.expect("subscribe");
    let mut read = Vec::new();
    while read.len() < end.0 as usize {
        let chunk = stream.next().await.expect("without end").expect("a chunk");
        assert_eq!((chunk.start_lsn, chunk.epoch), (Lsn(read.len() as u64), Epoch(1)));
        read.extend_from_slice(&chunk.bytes);
    }
    let written: Vec<u8> = (1..=200usize).flat_map(|length| vec![length as u8; length]).collect();
    assert!(read == written);
    for _ in 0..30 {
        end = log.append(BRANCH, grant.epoch, end, vec![1; 8 << 10].into()).await.expect("append");
    }
    log.report_consumer(BRANCH, "shard", end).await.expect("report");
    let beyond = log.report_consumer(BRANCH, "shard", end.advance(1)).await;
    assert!(matches!(beyond, Err(LogError::Invalid { .. })), "{beyond:?}");
    let trimmed = log.subscribe(BRANCH, Lsn(0)).await.err();
    assert!(matches!(trimmed, Some(LogError::Trimmed { .. })), "{trimmed:?}");

    let value = Some(Bytes::from_static(b"v"));
    let swapped = log.compare_and_swap("k", None, value.clone()).await.expect("cas");
    let SwapOutcome::Swapped { version: Some(version) } = swapped else { panic!("{swapped:?}") };
    let conflict = log.compare_and_swap("k", None, value).await.expect("cas");
    assert!(matches!(conflict, SwapOutcome::Conflict { current: Some(current) } if current.version == version));
    assert_eq!(log.get("k").await.expect("get").map(|value| value.version), Some(version));
    assert_eq!(log.get("none").await, Ok(None));
    assert_eq!(log.list("").await.expect("list").len(), 1);

    // A watch shows the present state, then changes; what does not concern it is not shown.
    let mut states = log.watch("k").await.expect("watch");
    let keys = |state: Option<Result<crate::client::MetadataSnapshot, LogError>>| {
        let state = state.expect("without end").expect("a state");
        state.values.into_iter().map(|(key, value)| (key, value.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(keys(states.next().await), [("k".to_owned(), Bytes::from_static(b"v"))]);
    log.compare_and_swap("other", None, Some(Bytes::new())).await.expect("cas");
    log.compare_and_swap("k2", None, Some(Bytes::from_static(b"w"))).await.expect("cas");
    let both = [("k".to_owned(), Bytes::from_static(b"v")), ("k2".to_owned(), Bytes::from_static(b"w"))];
    assert_eq!(keys(states.next().await), both);
    log.compare_and_swap("k", Some(version), None).await.expect("cas");
    assert_eq!(keys(states.next().await), both[1..]);

    // The server's end is the end of what waits, not a hang.
    let mut stream = log.subscribe(BRANCH, end).await.expect("subscribe");
    store.shutdown();
    assert!(matches!(stream.next().await, Some(Err(LogError::Unavailable { .. }))));
    let late = log.append(BRANCH, grant.epoch, end, Bytes::from_static(b"x")).await;
    assert!(matches!(late, Err(LogError::Unavailable { .. })), "{late:?}");
    server.abort();
    let late = log.status(BRANCH).await;
    assert!(matches!(late, Err(LogError::Unavailable { .. })), "{late:?}");
}

/// A node of another version is talked to as long as there is a version in common, and else told why not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_version_in_common_do_not_talk() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = std::sync::Arc::new(LogStore::open(LogStoreConfig::new(directory.path())).expect("open"));
    let credentials = Credentials { cluster: "one".to_owned(), token: String::new(), node_id: 1 };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let server = tonic::transport::Server::builder().add_service(RaftServer::service(store, credentials));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let view = async |version, lowest_version| {
        let introduction = Some(wire::Introduction {
            cluster: "one".to_owned(),
            token: String::new(),
            node_id: 2,
            version,
            lowest_version,
        });
        let mut client = crate::cluster::peer_client(&address).expect("an address");
        client.view(wire::ViewRequest { introduction }).await.map(tonic::Response::into_inner)
    };
    let newest = PEER_VERSIONS.newest;
    for (version, lowest) in [(0, 0), (newest, PEER_VERSIONS.lowest), (newest + 5, newest)] {
        assert_eq!(view(version, lowest).await.expect("talks").failure, None, "{lowest} to {version}");
    }
    let refused = view(newest + 5, newest + 1).await.expect_err("no version in common");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let told = ["log node 2 speaks versions 2 to 6", "log node 1 1 to 1", "upgrade log node 1 first"];
    assert!(told.iter().all(|part| refused.message().contains(part)), "{}", refused.message());
}

/// Calls say which versions their client speaks; without a word they count as the first version's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_version_in_common_are_told_why() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LogStore::open(LogStoreConfig::new(directory.path())).expect("open");
    let (address, server) = super::serve(&store, None).await;
    let client = LogServiceClient::connect(format!("http://{address}")).await.expect("it listens");
    let status = async |header: Option<String>| {
        let mut request = tonic::Request::new(wire::StatusRequest { branch: BRANCH.0 });
        if let Some(header) = header {
            request.metadata_mut().insert(crate::grpc::versions::HEADER, header.parse().expect("a header"));
        }
        client.clone().status(request).await.map(|_| ())
    };
    let newest = CLIENT_VERSIONS.newest;
    for header in [None, Some(CLIENT_VERSIONS.to_string()), Some(format!("{newest}-{}", newest + 5))] {
        let answered = status(header.clone()).await;
        assert!(answered.is_ok(), "{header:?}: {answered:?}");
    }
    let refused = status(Some(format!("{}-{}", newest + 1, newest + 5))).await.expect_err("no version in common");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let told = format!("the client speaks versions {} to {}", newest + 1, newest + 5);
    let message = refused.message();
    assert!(message.contains(&told) && message.ends_with("upgrade the log node first"), "{message}");
    let malformed = status(Some("one".to_owned())).await.expect_err("no range");
    assert_eq!(malformed.code(), tonic::Code::InvalidArgument);
    server.abort();
}
