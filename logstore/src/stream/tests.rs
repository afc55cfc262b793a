//! Connections to a node and from one, with callers and nodes that do not keep to the rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proto::logstore as wire;
use raft::eraftpb::{Entry, Message, MessageType};
use storage::{BranchId, Epoch, Lsn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::frame::{FrameReader, Kind, MAX_HELLO_BYTES, MAX_PAYLOAD_BYTES, decode, put_frame, put_message};
use super::peers::greet;
use super::*;
use crate::client::{LogClient, LogError};
use crate::grpc::RemoteLog;
use crate::transport::Transport;
use crate::{LogStore, LogStoreConfig};

fn credentials(cluster: &str, token: &str) -> Credentials {
    Credentials { cluster: cluster.to_owned(), token: token.to_owned(), node_id: 2 }
}

/// A node that takes peers of cluster "c" with token "t", and where it listens. Nothing goes to gRPC.
async fn node(directory: &std::path::Path) -> (LogStore, String, impl Sized) {
    let store = LogStore::open(LogStoreConfig::new(directory)).expect("open");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound").to_string();
    let others = incoming(listener, &store, Some(credentials("c", "t")));
    (store, address, others)
}

/// The connection is closed, after whatever it said.
async fn closed(stream: &mut TcpStream) {
    let read = tokio::time::timeout(3 * HELLO_TIMEOUT, stream.read_to_end(&mut Vec::new())).await;
    let _ = read.expect("it is closed within its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_refused_or_let_go() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (store, address, _others) = node(directory.path()).await;
    let connect = || async { TcpStream::connect(&address).await.expect("it listens") };

    let hello = |cluster, token| wire::StreamHello {
        introduction: Some(credentials(cluster, token).introduction()),
        ..wire::StreamHello::default()
    };
    for (cluster, token, reason) in [("d", "t", "belongs to log cluster"), ("c", "u", "token"), ("c", "", "token")] {
        let mut stream = connect().await;
        let refused = greet(&mut stream, &hello(cluster, token)).await.expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains(reason), "{refused}");
        closed(&mut stream).await;
    }
    let mut peer = connect().await;
    greet(&mut peer, &hello("c", "t")).await.expect("welcome");
    // Another node's name, what only writers send, and what is no message of Raft.
    let mut foreign = Message { from: 3, to: 1, ..Message::default() };
    foreign.set_msg_type(MessageType::MsgHeartbeat);
    let foreign = protobuf::Message::write_to_bytes(&foreign).expect("encodes");
    for (kind, payload) in [(Kind::Raft, &foreign[..]), (Kind::Append, b""), (Kind::Raft, b"\xff\xff")] {
        let mut stream = connect().await;
        greet(&mut stream, &hello("c", "t")).await.expect("welcome");
        let mut frame = Vec::new();
        put_frame(&mut frame, kind, |frame| {
            frame.extend_from_slice(payload);
            true
        });
        stream.write_all(&frame).await.expect("open");
        closed(&mut stream).await;
    }
    // Another version; nothing but the first byte; a hello that is too long.
    let mut later = connect().await;
    let mut greeting = PREFACE.to_vec();
    greeting[7] += 1;
    put_message(&mut greeting, Kind::Hello, &hello("c", "t"));
    later.write_all(&greeting).await.expect("open");
    let welcome = FrameReader::new(&mut later, MAX_HELLO_BYTES).next().await.expect("readable").expect("an answer");
    let welcome: wire::StreamWelcome = decode(welcome.1).expect("a welcome");
    assert!(welcome.refusal.contains("version 1"), "{}", welcome.refusal);
    let mut silent = connect().await;
    silent.write_all(&PREFACE[..1]).await.expect("open");
    let mut long = connect().await;
    let mut greeting = PREFACE.to_vec();
    put_frame(&mut greeting, Kind::Hello, |frame| {
        frame.resize(frame.len() + MAX_HELLO_BYTES + 1, 0);
        true
    });
    long.write_all(&greeting).await.expect("open");
    for stream in [&mut later, &mut silent, &mut long] {
        closed(stream).await;
    }
    // All this was no concern of others.
    let log = store.client();
    let grant = log.acquire_epoch(BranchId(1)).await.expect("epoch");
    log.append(BranchId(1), grant.epoch, grant.end_lsn, Bytes::from_static(b"x")).await.expect("append");
    // A node that stops closes its connections.
    tokio::task::block_in_place(|| store.shutdown());
    closed(&mut peer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_the_socket_does_not_take_at_once_keep_their_order() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (store, address, _others) = node(directory.path()).await;
    let grant = store.client().acquire_epoch(BranchId(1)).await.expect("epoch");
    let remote = RemoteLog::new(vec![address]).expect("an address");
    let (mut end, mut calls) = (grant.end_lsn, Vec::new());
    // More than may be in flight, in large pieces with small ones between them.
    for round in 0..20usize {
        for length in [5 << 20, 100] {
            calls.push(remote.append(BranchId(1), grant.epoch, end, vec![round as u8; length].into()));
            end = end.advance(length as u64);
        }
    }
    let outcomes = join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|outcome| outcome.is_err()));
    assert_eq!(store.client().status(BranchId(1)).await.expect("status").durable_lsn, end);
    let gap = remote.append(BranchId(1), grant.epoch, Lsn(3), Bytes::from_static(b"x")).await;
    assert_eq!(gap, Err(LogError::Gap { branch: BranchId(1), start_lsn: Lsn(3), end_lsn: end }));
    tokio::task::block_in_place(|| store.shutdown());
}

/// Either side finds out that they have no version in common, and says which is to be upgraded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_nodes_without_a_version_in_common_do_not_talk() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (store, address, _others) = node(directory.path()).await;
    let Versions { newest, lowest } = CLIENT_VERSIONS;
    let spoken = format!("the log node {lowest} to {newest}");
    for (version, lowest_version, fits) in [(0, 0, true), (newest, lowest, true), (9, newest, true), (9, 8, false)] {
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        let hello = wire::StreamHello { version, lowest_version, ..wire::StreamHello::default() };
        match greet(&mut stream, &hello).await {
            Ok(()) => assert!(fits, "{lowest_version} to {version}"),
            Err(refused) => {
                assert!(!fits && refused.kind() == std::io::ErrorKind::PermissionDenied, "{refused}");
                let refused = refused.to_string();
                let told = ["versions 8 to 9", &spoken, "upgrade the log node first"];
                assert!(told.iter().all(|part| refused.contains(part)), "{refused}");
            }
        }
    }
    tokio::task::block_in_place(|| store.shutdown());

    // A node that takes anybody, of another version: the writer leaves it, and what it is told says why.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound").to_string();
    let newer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("it connects");
        let mut welcome = Vec::new();
        let told = wire::StreamWelcome { version: 9, lowest_version: 8, ..wire::StreamWelcome::default() };
        put_message(&mut welcome, Kind::Welcome, &told);
        stream.write_all(&welcome).await.expect("open");
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    let stream = AppendStream::open(address, String::new(), &tokio::runtime::Handle::current());
    let append = Append { branch: BranchId(1), epoch: Epoch(1), start_lsn: Lsn(0), bytes: Bytes::from_static(b"x") };
    let Err(LogError::Unavailable { reason }) = stream.queue(1, &append).outcome().await else { panic!("refused") };
    let told = ["the log node speaks versions 8 to 9", "upgrade the client first"];
    assert!(told.iter().all(|part| reason.contains(part)), "{reason}");
    newer.abort();
}

/// A node that says welcome, or not even that, and nothing more; it takes what it is sent if it `reads`.
async fn mute(welcomes: bool, reads: bool) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound").to_string();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if welcomes {
                let mut welcome = Vec::new();
                put_message(&mut welcome, Kind::Welcome, &wire::StreamWelcome::default());
                stream.write_all(&welcome).await.expect("open");
            }
            if reads {
                tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
            } else {
                held.push(stream);
            }
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_nothing_is_left() {
    let check = |welcomes, reads, length| async move {
        let (address, node) = mute(welcomes, reads).await;
        let stream = AppendStream::open(address, String::new(), &tokio::runtime::Handle::current());
        let bytes = Bytes::from(vec![0; length]);
        let append = Append { branch: BranchId(1), epoch: Epoch(1), start_lsn: Lsn(0), bytes };
        // Without what ends it, it lasts for ever.
        let outcome = tokio::time::timeout(Duration::from_secs(60), stream.queue(1, &append).outcome()).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("({welcomes}, {reads}, {length}): it is not left"));
        assert!(matches!(outcome, Err(LogError::Unavailable { .. })), "{outcome:?}");
        assert!(!stream.is_open());
        // Later ones are told at once.
        assert!(stream.queue(2, &append).outcome().await.is_err());
        node.abort();
    };
    tokio::join!(check(false, false, 10), check(true, true, 10), check(true, false, 10), check(true, false, 8 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_a_peer_in_order_however_slowly_it_reads() {
    const COUNT: u64 = 40;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound").to_string();
    let addresses = BTreeMap::from([(2, "127.0.0.1:1".to_owned()), (3, address)]);
    let mut transport = PeerTransport::new(credentials("c", "t"), &addresses, Arc::new(|_| {}));
    let message = |index: u64| {
        let mut message = Message { from: 2, to: 3, index, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message.set_entries(vec![Entry { data: vec![index as u8; 1 << 20].into(), ..Entry::default() }].into());
        message
    };
    // Before there is a connection, and while it is full.
    transport.send(message(0));
    transport.start(&tokio::runtime::Handle::current());
    let (stream, _) = listener.accept().await.expect("it connects");
    (1..COUNT).for_each(|index| transport.send(message(index)));
    let (mut read, mut write) = stream.into_split();
    let mut preface = [0; PREFACE.len()];
    read.read_exact(&mut preface).await.expect("a preface");
    assert_eq!(preface, PREFACE);
    let mut frames = FrameReader::new(read, MAX_PAYLOAD_BYTES);
    let hello = frames.next().await.expect("readable").expect("a hello");
    let hello: wire::StreamHello = decode(hello.1).expect("a hello");
    assert_eq!(hello.introduction, Some(credentials("c", "t").introduction()));
    let mut welcome = Vec::new();
    put_message(&mut welcome, Kind::Welcome, &wire::StreamWelcome::default());
    write.write_all(&welcome).await.expect("open");
    for expected in 0..COUNT {
        let (kind, payload) = frames.next().await.expect("readable").expect("a message");
        assert_eq!(kind, Kind::Raft);
        let got: Message = protobuf::Message::parse_from_bytes(&payload).expect("a message");
        assert_eq!(got, message(expected));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A connection that breaks is made again for the next message.
    drop((frames, write));
    let again = async {
        loop {
            transport.send(message(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        accepted = listener.accept() => drop(accepted.expect("it connects again")),
        () = again => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("no new connection"),
    }
}

/// A write that fails before the node's runtime has heard of the reset: a broken socket counts as writable, and whoever only
/// tries again keeps the only thread of the runtime for ever.
#[test]
fn a_peer_that_is_killed_does_not_keep_the_thread_of_the_node() {
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(survive_a_reset());
        told.send(()).expect("the test waits");
    });
    heard.recv_timeout(Duration::from_secs(20)).expect("the thread goes on");
}

async fn survive_a_reset() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let addresses = BTreeMap::from([(3, listener.local_addr().expect("bound").to_string())]);
    let mut transport = PeerTransport::new(credentials("c", "t"), &addresses, Arc::new(|_| {}));
    let mut heartbeat = Message { from: 2, to: 3, ..Message::default() };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    transport.start(&tokio::runtime::Handle::current());
    transport.send(heartbeat.clone());
    let accepting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let mut welcome = Vec::new();
        put_message(&mut welcome, Kind::Welcome, &wire::StreamWelcome::default());
        std::io::Write::write_all(&mut stream, &welcome).expect("open");
        stream
    });
    while !accepting.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stream = accepting.join().expect("accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Unread bytes are there, and it does not linger: the other side gets a reset at once, before this task pauses.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    drop(stream);
    transport.send(heartbeat.clone());
    transport.send(heartbeat);
    tokio::time::sleep(Duration::from_millis(100)).await;
}
