//! A node of a log cluster: its store, the connections to its peers, and its way into the cluster.
//!
//! ```text
//!   empty directory ──► blank: a fresh incarnation, no log, no vote
//!        │ all nodes are blank                     │ somebody has a log
//!        ▼                                         ▼
//!   the lowest node begins the cluster        asks the leader to be taken in: as a learner first, then as a
//!   with everybody's incarnation as voters    voter. A member that lost its disk comes back the same way.
//! ```
//!
//! A cluster is begun only when *every* node has answered that it is blank: a node whose disk was wiped can so never
//! mistake a cluster that it cannot reach for one that does not exist.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use proto::logstore as wire;
use proto::logstore::raft_service_client::RaftServiceClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::client::LogError;
use crate::filter::Filtering;
use crate::grpc::{LogServer, RaftServer, from_failure};
use crate::joining::{self, Entrance, PeerAnswer};
use crate::node::ClusterView;
use crate::store::{LogStore, LogStoreConfig, OpenError};
use crate::stream::{Credentials, PeerTransport, incoming};

const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts to get in.
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// Between checks whether this node is still wanted.
const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// The reason why a node is not in yet is told this often.
const REMINDER_ATTEMPTS: u32 = 50;

/// Settings of a member.
#[derive(Clone)]
pub struct MemberConfig {
    /// The store's; its `peers` are empty.
    pub store: LogStoreConfig,
    /// Name of the cluster, its secret, and this node's number.
    pub credentials: Credentials,
    /// Where the nodes listen, by number, this one included: those that begin the cluster, or some of those that
    /// make it up.
    pub peers: BTreeMap<u64, String>,
    /// Understands filters of subscriptions; without it these carry everything.
    pub filtering: Option<Arc<dyn Filtering>>,
}

/// A running node of a cluster.
pub struct LogMember {
    store: Arc<LogStore>,
    credentials: Credentials,
    filtering: Option<Arc<dyn Filtering>>,
    refused: watch::Receiver<Option<String>>,
    joining: JoinHandle<()>,
}

impl LogMember {
    /// Opens the node's log and begins to look for its cluster. Serving [`LogMember::services`] on
    /// [`LogMember::incoming`] is the caller's part.
    /// To be called within a tokio runtime.
    pub fn start(config: MemberConfig) -> Result<LogMember, OpenError> {
        let invalid = |reason: String| Err(OpenError::Config { reason });
        let node = config.store.node_id;
        if config.credentials.node_id != node {
            return invalid("the node introduces itself by its own number".to_owned());
        }
        let Some(address) = config.peers.get(&node).cloned() else {
            return invalid(format!("node {node} is not among the peers"));
        };
        let store_slot: Arc<OnceLock<Weak<LogStore>>> = Arc::default();
        let unreachable = {
            let store_slot = store_slot.clone();
            Arc::new(move |raft_id| {
                if let Some(store) = store_slot.get().and_then(Weak::upgrade) {
                    store.report_unreachable(raft_id);
                }
            })
        };
        let transport = PeerTransport::new(config.credentials.clone(), &config.peers, unreachable);
        let store = Arc::new(LogStore::open_with_transport(config.store, Box::new(transport))?);
        store_slot.set(Arc::downgrade(&store)).expect("set once, here");
        let (refuse, refused) = watch::channel(None);
        let joining = Joining {
            store: Arc::downgrade(&store),
            credentials: config.credentials.clone(),
            peers: config.peers,
            node,
            raft_id: store.raft_id(),
            address,
        };
        let joining = tokio::spawn(async move {
            let reason = joining.run().await;
            refuse.send_replace(Some(reason));
        });
        Ok(LogMember { store, credentials: config.credentials, filtering: config.filtering, refused, joining })
    }

    /// The node's store.
    pub fn store(&self) -> &Arc<LogStore> {
        &self.store
    }

    /// What the node serves by gRPC, to those whom [`LogMember::incoming`] brings.
    pub fn services(&self) -> tonic::service::Routes {
        let log = LogServer::service(self.store.client(), self.store.metadata(), self.filtering.clone());
        tonic::service::Routes::new(log).add_service(RaftServer::service(self.store.clone(), self.credentials.clone()))
    }

    /// Takes connections: serves those of writers and peers, and returns the others, for gRPC.
    pub fn incoming(&self, listener: TcpListener) -> ReceiverStream<std::io::Result<TcpStream>> {
        incoming(listener, &self.store, Some(self.credentials.clone()))
    }

    /// Resolves when the node should end: the cluster has refused it, or its store has stopped.
    pub async fn ended(&self) -> String {
        let mut refused = self.refused.clone();
        tokio::select! {
            reason = refused.wait_for(Option::is_some) => match reason {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "the log node has stopped".to_owned(),
            },
            error = self.store.stopped() => error.to_string(),
        }
    }

    /// Stops in good order. Blocks.
    pub fn shutdown(&self) {
        self.joining.abort();
        self.store.shutdown();
    }
}

/// A client of a node's [`RaftServer`]; connects when first used.
pub(crate) fn peer_client(address: &str) -> Result<RaftServiceClient<Channel>, LogError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| LogError::Invalid {
        reason: format!("{address:?} is not an address of a log node: {error}"),
    })?;
    Ok(RaftServiceClient::new(endpoint.connect_timeout(CALL_TIMEOUT).timeout(CALL_TIMEOUT).connect_lazy()))
}

fn unavailable(status: &tonic::Status) -> LogError {
    LogError::Unavailable { reason: format!("{}: {}", status.code(), status.message()) }
}

/// What a node sees of its cluster.
pub(crate) async fn ask_view(address: &str, credentials: &Credentials) -> Result<wire::ViewResponse, LogError> {
    let request = wire::ViewRequest { introduction: Some(credentials.introduction()) };
    let view = peer_client(address)?.view(request).await.map_err(|status| unavailable(&status))?.into_inner();
    match view.failure {
        Some(failure) => Err(from_failure(failure)),
        None => Ok(view),
    }
}

struct Joining {
    store: Weak<LogStore>,
    credentials: Credentials,
    peers: BTreeMap<u64, String>,
    node: u64,
    raft_id: u64,
    address: String,
}

impl Joining {
    /// Gets this node in, and then watches that it stays in. Returns why it may not.
    async fn run(self) -> String {
        let mut attempts: u32 = 0;
        loop {
            let Some(store) = self.store.upgrade() else { return "the log node has stopped".to_owned() };
            let Ok(view) = store.view().await else { return "the log node has stopped".to_owned() };
            let outcome = if view.is_blank { self.enter(&store, &view).await } else { self.present(&view).await };
            drop(store);
            let pause = match outcome {
                Ok(()) => {
                    attempts = 0;
                    CHECK_PAUSE
                }
                // Whoever has a log and is refused is never taken in again.
                Err(LogError::Invalid { reason }) if !view.is_blank => return reason,
                Err(error) => {
                    if attempts.is_multiple_of(REMINDER_ATTEMPTS) && attempts > 0 {
                        tracing::warn!(reason = %error, "this log node is not part of its cluster yet");
                    }
                    attempts = attempts.wrapping_add(1);
                    JOIN_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The way in of a node without a log.
    async fn enter(&self, store: &LogStore, view: &ClusterView) -> Result<(), LogError> {
        let others = self.peers.iter().filter(|(node, _)| **node != self.node);
        let asked = others.map(|(&node, address)| async move {
            let answer = ask_view(address, &self.credentials).await;
            let answer = answer.map(|peer| PeerAnswer { raft_id: peer.raft_id, is_blank: peer.is_blank });
            (node, answer.map_err(|error| error.to_string()))
        });
        let answers = futures::future::join_all(asked).await.into_iter().collect();
        match joining::enter(&self.credentials.cluster, self.raft_id, &self.peers, &answers) {
            Entrance::Present => self.present(view).await,
            Entrance::Begin(members) => {
                tracing::info!(nodes = members.nodes().len(), cluster = members.cluster(), "a new log cluster begins");
                store.bootstrap(members).await.map(|_| ())
            }
            Entrance::Wait(reason) => Err(LogError::Unavailable { reason }),
        }
    }

    /// Shows this incarnation and address to the leader.
    async fn present(&self, view: &ClusterView) -> Result<(), LogError> {
        let known = view.members.cluster();
        if !known.is_empty() && known != self.credentials.cluster {
            let reason = format!("this directory belongs to log cluster {known:?}, not {:?}", self.credentials.cluster);
            return Err(LogError::Invalid { reason });
        }
        let mut addresses: Vec<String> = self.peers.values().cloned().collect();
        addresses.extend(view.members.nodes().values().map(|member| member.address.clone()));
        let mut last = LogError::Unavailable { reason: "no log node answers".to_owned() };
        let mut position = 0;
        // Redirections may name a node twice; the bound keeps two that point at each other from going on.
        while position < addresses.len() && position < 4 * self.peers.len() + 16 {
            let request = wire::JoinRequest {
                introduction: Some(self.credentials.introduction()),
                raft_id: self.raft_id,
                address: self.address.clone(),
                is_blank: view.is_blank,
            };
            let answer = match peer_client(&addresses[position])?.join(request).await {
                Ok(answer) => answer.into_inner().failure.map_or(Ok(()), |failure| Err(from_failure(failure))),
                Err(status) => Err(unavailable(&status)),
            };
            match answer {
                Ok(()) => return Ok(()),
                Err(LogError::NotLeader { leader }) => {
                    if let Some(leader) = leader
                        && !addresses[position + 1..].contains(&leader)
                    {
                        addresses.insert(position + 1, leader);
                    }
                    last = LogError::Unavailable { reason: "no leader was found".to_owned() };
                }
                Err(error @ LogError::Invalid { .. }) => return Err(error),
                Err(error) => last = error,
            }
            position += 1;
        }
        Err(last)
    }
}
