//! Raft's messages to the other nodes: one task, one stream and one bounded queue for each of them.
//!
//! A queue that is full drops what comes: Raft repeats it. A peer that cannot be reached is tried again with growing
//! pauses, and Raft is told, so that it probes instead of streaming into the void.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use proto::logstore as wire;
use proto::logstore::raft_service_client::RaftServiceClient;
use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use crate::identity::node_id;
use crate::members::Members;
use crate::transport::Transport;

/// Messages to one peer that wait.
const QUEUE_MESSAGES: usize = 1024;
/// Bytes of messages to one peer that wait.
const QUEUE_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
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
        wire::Introduction { cluster: self.cluster.clone(), token: self.token.clone(), node_id: self.node_id }
    }
}

/// A [`Transport`] over gRPC.
pub struct PeerTransport {
    own_node: u64,
    credentials: Credentials,
    runtime: Handle,
    unreachable: Unreachable,
    peers: BTreeMap<u64, Peer>,
}

struct Peer {
    address: String,
    queue: mpsc::Sender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Counter,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a message costs in a queue.
fn cost_bytes(message: &Message) -> usize {
    let entries: usize = message.entries.iter().map(|entry| entry.data.len() + entry.context.len() + 64).sum();
    256 + entries + message.get_snapshot().data.len()
}

impl PeerTransport {
    /// Reaches the nodes at `addresses`, by number. To be called within a tokio runtime.
    pub fn new(credentials: Credentials, addresses: &BTreeMap<u64, String>, unreachable: Unreachable) -> PeerTransport {
        let own_node = credentials.node_id;
        let (runtime, peers) = (Handle::current(), BTreeMap::new());
        let mut transport = PeerTransport { own_node, credentials, runtime, unreachable, peers };
        for (&node, address) in addresses {
            transport.set_address(node, address);
        }
        transport
    }

    fn set_address(&mut self, node: u64, address: &str) {
        if node == self.own_node || self.peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let sender = Sender {
            node,
            address: address.to_owned(),
            credentials: self.credentials.clone(),
            unreachable: self.unreachable.clone(),
            queued_bytes: queued_bytes.clone(),
        };
        let task = self.runtime.spawn(sender.run(messages));
        let dropped = counter!("alluvium_log_peer_messages_dropped_total", "peer" => node.to_string());
        let peer = Peer { address: address.to_owned(), queue, queued_bytes, dropped, task };
        self.peers.insert(node, peer);
    }
}

impl Transport for PeerTransport {
    fn send(&mut self, message: Message) {
        let Some(peer) = self.peers.get(&node_id(message.to)) else {
            tracing::debug!(to = node_id(message.to), "no address of this log node: message dropped");
            return;
        };
        let bytes = cost_bytes(&message);
        let queued = peer.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if (queued + bytes > QUEUE_BYTES && queued > 0) || peer.queue.try_send(message).is_err() {
            peer.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
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
}

/// The task of one peer.
struct Sender {
    node: u64,
    address: String,
    credentials: Credentials,
    unreachable: Unreachable,
    queued_bytes: Arc<AtomicUsize>,
}

/// The body of a call: who we are, then what is queued, without another queue in between.
struct Outgoing {
    introduction: Option<wire::Introduction>,
    first: Option<Message>,
    messages: Arc<Mutex<mpsc::Receiver<Message>>>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Stream for Outgoing {
    type Item = wire::RaftMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<wire::RaftMessage>> {
        if let Some(introduction) = self.introduction.take() {
            return Poll::Ready(Some(wire::RaftMessage { introduction: Some(introduction), ..Default::default() }));
        }
        loop {
            let message = match self.first.take() {
                Some(message) => message,
                None => match self.messages.lock().poll_recv(context) {
                    Poll::Ready(Some(message)) => {
                        self.queued_bytes.fetch_sub(cost_bytes(&message), Ordering::Relaxed);
                        message
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                },
            };
            // A message that cannot be encoded is lost, as any may be.
            if let Ok(encoded) = message.write_to_bytes() {
                return Poll::Ready(Some(wire::RaftMessage { message: encoded.into(), introduction: None }));
            }
        }
    }
}

impl Sender {
    async fn run(self, messages: mpsc::Receiver<Message>) {
        let messages = Arc::new(Mutex::new(messages));
        let mut pause = FIRST_PAUSE;
        // Nothing to send: no connection. The first message is kept for the new stream.
        while let Some(message) = self.next(&messages).await {
            let to = message.to;
            let sent = self.stream(message, &messages).await;
            (self.unreachable)(to);
            pause = if sent { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::time::sleep(pause).await;
            // What has gathered meanwhile is stale; Raft sends what is needed.
            while let Ok(message) = messages.lock().try_recv() {
                self.queued_bytes.fetch_sub(cost_bytes(&message), Ordering::Relaxed);
            }
        }
    }

    async fn next(&self, messages: &Mutex<mpsc::Receiver<Message>>) -> Option<Message> {
        let message = poll_fn(|context| messages.lock().poll_recv(context)).await?;
        self.queued_bytes.fetch_sub(cost_bytes(&message), Ordering::Relaxed);
        Some(message)
    }

    /// Sends until the stream breaks; false if it never stood.
    async fn stream(&self, first: Message, messages: &Arc<Mutex<mpsc::Receiver<Message>>>) -> bool {
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", self.address)) else {
            tracing::error!(node = self.node, address = self.address, "not an address of a log node");
            return false;
        };
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let endpoint =
            endpoint.http2_keep_alive_interval(Duration::from_secs(2)).keep_alive_timeout(Duration::from_secs(4));
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => {
                tracing::debug!(node = self.node, %error, "log node cannot be reached");
                return false;
            }
        };
        let outgoing = Outgoing {
            introduction: Some(self.credentials.introduction()),
            first: Some(first),
            messages: messages.clone(),
            queued_bytes: self.queued_bytes.clone(),
        };
        self.ended(RaftServiceClient::new(channel).deliver(outgoing).await.err())
    }

    fn ended(&self, status: Option<tonic::Status>) -> bool {
        if let Some(status) = status {
            match status.code() {
                tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::FailedPrecondition => {
                    tracing::warn!(node = self.node, reason = status.message(), "log node refuses our messages");
                    return false;
                }
                _ => tracing::debug!(node = self.node, %status, "stream to a log node ended"),
            }
        }
        true
    }
}
