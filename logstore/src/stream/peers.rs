//! Raft's messages to the other nodes: one connection and one bounded buffer for each of them.
//!
//! A message is written by the thread that has it to send; a task only connects, and writes what the socket did not take. A
//! buffer that is full drops what comes: Raft repeats it. A peer that cannot be reached is tried again with growing
//! pauses, and Raft is told, so that it probes instead of streaming into the void.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use parking_lot::Mutex;
use proto::logstore as wire;
use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::frame::{FrameReader, Kind, MAX_HELLO_BYTES, decode, put_frame, put_message};
use super::send_buffer::SendBuffer;
use super::versions::{CLIENT_AND_NODE, CLIENT_VERSIONS, PEER_VERSIONS, Parties, Versions};
use super::{CONNECT_TIMEOUT, HELLO_TIMEOUT, PREFACE, prepare};
use crate::identity::node_id;
use crate::members::Members;
use crate::transport::Transport;

/// No message is added to so many bytes that wait for a peer.
const QUEUE_BYTES: usize = 64 << 20;
/// For messages.
const PEER_PROTOCOL: &str = "protocol between log nodes";
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Told which of Raft's ids cannot be reached.
pub type Unreachable = Arc<dyn Fn(u64) + Send + Sync>;

/// Who we are, to be shown to peers.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Name of the cluster.
    pub cluster: String,
    /// The cluster's shared secret; empty where only loopback is used.
    pub token: String,
    /// This node's number; zero for an operator.
    pub node_id: u64,
}

impl Credentials {
    pub(crate) fn introduction(&self) -> wire::Introduction {
        wire::Introduction {
            cluster: self.cluster.clone(),
            token: self.token.clone(),
            node_id: self.node_id,
            version: PEER_VERSIONS.newest,
            lowest_version: PEER_VERSIONS.lowest,
        }
    }

    /// Whoever shows this belongs to our cluster; else, why not.
    pub(crate) fn check(&self, shown: &wire::Introduction) -> Result<(), String> {
        if shown.cluster != self.cluster {
            return Err(format!("this node belongs to log cluster {:?}", self.cluster));
        }
        if !same_secret(shown.token.as_bytes(), self.token.as_bytes()) {
            return Err("the cluster's token does not match".to_owned());
        }
        let other = match shown.node_id {
            0 => "the operator's program".to_owned(),
            node => format!("log node {node}"),
        };
        let own = format!("log node {}", self.node_id);
        let parties = Parties { own: &own, other: &other, protocol: PEER_PROTOCOL };
        PEER_VERSIONS.check(Versions::told(shown.version, shown.lowest_version), parties)
    }
}

/// Compares in a time that does not depend on where the texts differ.
fn same_secret(shown: &[u8], expected: &[u8]) -> bool {
    let differences = shown.iter().zip(expected).fold(0, |seen, (a, b)| seen | (a ^ b));
    shown.len() == expected.len() && std::hint::black_box(differences) == 0
}

/// A [`Transport`] over TCP.
pub struct PeerTransport {
    credentials: Credentials,
    unreachable: Unreachable,
    peers: BTreeMap<u64, Peer>,
    /// Where the peers' tasks run; none before [`Transport::start`].
    runtime: Option<Handle>,
}

struct Peer {
    address: String,
    outgoing: Arc<Outgoing>,
    dropped: Counter,
    task: Option<JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Between who sends and the peer's task.
#[derive(Default)]
struct Outgoing {
    queue: Mutex<Queue>,
    /// There is something that only the task can do: connect, wait for room in the socket, find out what broke.
    help: Notify,
}

#[derive(Default)]
struct Queue {
    buffer: SendBuffer,
    /// Raft's id of whom the last message was for.
    to: u64,
}

impl PeerTransport {
    /// Reaches the nodes at `addresses`, by number, once it is started.
    pub fn new(credentials: Credentials, addresses: &BTreeMap<u64, String>, unreachable: Unreachable) -> PeerTransport {
        let mut transport = PeerTransport { credentials, unreachable, peers: BTreeMap::new(), runtime: None };
        for (&node, address) in addresses {
            transport.set_address(node, address);
        }
        transport
    }

    fn set_address(&mut self, node: u64, address: &str) {
        if node == self.credentials.node_id || self.peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let dropped = counter!("alluvium_log_peer_messages_dropped_total", "peer" => node.to_string());
        let peer = Peer { address: address.to_owned(), outgoing: Arc::default(), dropped, task: None };
        self.peers.insert(node, peer);
        self.start_peer(node);
    }

    fn start_peer(&mut self, node: u64) {
        let (Some(runtime), Some(peer)) = (&self.runtime, self.peers.get_mut(&node)) else { return };
        let sender = Sender {
            node,
            address: peer.address.clone(),
            credentials: self.credentials.clone(),
            unreachable: self.unreachable.clone(),
            outgoing: peer.outgoing.clone(),
        };
        peer.task = Some(runtime.spawn(sender.run()));
    }
}

impl Transport for PeerTransport {
    fn send(&mut self, message: Message) {
        let Some(peer) = self.peers.get(&node_id(message.to)) else {
            tracing::debug!(to = node_id(message.to), "no address of this log node: message dropped");
            return;
        };
        let mut queue = peer.outgoing.queue.lock();
        queue.to = message.to;
        let put = |frames: &mut Vec<u8>| put_frame(frames, Kind::Raft, |frame| message.write_to_vec(frame).is_ok());
        if queue.buffer.unwritten_bytes() >= QUEUE_BYTES || !queue.buffer.add(&peer.outgoing.help, put) {
            peer.dropped.increment(1);
        }
    }

    fn set_members(&mut self, members: &Members) {
        for (&node, member) in members.nodes() {
            self.set_address(node, &member.address);
        }
        if !members.nodes().is_empty() {
            self.peers.retain(|node, _| members.nodes().contains_key(node));
        }
    }

    fn start(&mut self, runtime: &Handle) {
        self.runtime = Some(runtime.clone());
        let nodes: Vec<u64> = self.peers.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.start_peer(node));
    }
}

/// The task of one peer.
struct Sender {
    node: u64,
    address: String,
    credentials: Credentials,
    unreachable: Unreachable,
    outgoing: Arc<Outgoing>,
}

impl Sender {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            // Nothing to send: no connection. What is queued goes first on the new one.
            self.outgoing.help.notified().await;
            let stood = self.stream().await;
            let to = {
                let mut queue = self.outgoing.queue.lock();
                queue.buffer.detach();
                queue.to
            };
            (self.unreachable)(to);
            pause = if stood { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::time::sleep(pause).await;
            // What has gathered meanwhile is stale; Raft sends what is needed.
            self.outgoing.queue.lock().buffer.clear();
        }
    }

    /// Sends until the connection breaks; false if it never stood.
    async fn stream(&self) -> bool {
        let connection = match tokio::time::timeout(CONNECT_TIMEOUT + HELLO_TIMEOUT, self.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                tracing::warn!(node = self.node, reason = %error, "log node refuses our messages");
                return false;
            }
            Ok(Err(error)) => {
                tracing::debug!(node = self.node, %error, "log node cannot be reached");
                return false;
            }
            Err(_) => {
                tracing::debug!(node = self.node, "log node does not answer");
                return false;
            }
        };
        let (read, write) = connection.into_split();
        let write = Arc::new(write);
        self.outgoing.queue.lock().buffer.attach(write.clone());
        let error = tokio::select! {
            () = end(&read) => return true,
            Err(error) = self.write(&write) => error,
        };
        tracing::debug!(node = self.node, %error, "the connection to a log node has ended");
        true
    }

    /// Writes what the socket has not taken at once, until it takes nothing more.
    async fn write(&self, connection: &OwnedWriteHalf) -> std::io::Result<()> {
        loop {
            let all_written = self.outgoing.queue.lock().buffer.write()?;
            if all_written {
                self.outgoing.help.notified().await;
            } else {
                connection.writable().await?;
            }
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await??;
        prepare(&stream)?;
        let introduction = Some(self.credentials.introduction());
        let hello = wire::StreamHello { introduction, ..wire::StreamHello::default() };
        greet(&mut stream, &hello).await?;
        Ok(stream)
    }
}

/// Says who we are; [`std::io::ErrorKind::PermissionDenied`] when we are not wanted.
pub(super) async fn greet(stream: &mut TcpStream, hello: &wire::StreamHello) -> std::io::Result<()> {
    let mut greeting = PREFACE.to_vec();
    put_message(&mut greeting, Kind::Hello, hello);
    stream.write_all(&greeting).await?;
    let welcome = match FrameReader::new(stream, MAX_HELLO_BYTES).next().await? {
        Some((Kind::Welcome, payload)) => decode::<wire::StreamWelcome>(payload)?,
        _ => return Err(std::io::Error::other("no welcome")),
    };
    if !welcome.refusal.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, welcome.refusal));
    }
    // A node that is older than the versions' being told has not checked ours.
    let (own, parties) = match hello.introduction {
        Some(_) => {
            (PEER_VERSIONS, Parties { own: "this log node", other: "the other log node", protocol: PEER_PROTOCOL })
        }
        None => (CLIENT_VERSIONS, CLIENT_AND_NODE),
    };
    own.check(Versions::told(welcome.version, welcome.lowest_version), parties)
        .map_err(|reason| std::io::Error::new(std::io::ErrorKind::PermissionDenied, reason))
}

/// Resolves when the other side, which has nothing to say, has gone.
async fn end(connection: &OwnedReadHalf) {
    while connection.readable().await.is_ok() {
        match connection.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}
