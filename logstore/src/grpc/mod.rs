//! The log service over gRPC: [`LogServer`] offers a store's clients to the network, [`RemoteLog`] is one on the other
//! side; [`RaftServer`] and [`PeerTransport`] join nodes to a cluster.

mod append_stream;
mod convert;
mod endpoints;
mod follow;
mod operator;
pub(crate) mod peers;
mod raft_server;
mod remote;
mod server;
mod watch;

pub(crate) use convert::from_failure;
pub use operator::{ClusterStatus, NodeStatus, Operator};
pub use peers::{Credentials, PeerTransport};
pub use raft_server::RaftServer;
pub use remote::RemoteLog;
pub use server::LogServer;

/// Longest message taken: an append at its limit, with room for its framing.
pub const MAX_MESSAGE_BYTES: usize = (64 << 20) + (64 << 10);
/// Appends of one stream that wait for their answer; more wait in the network.
const MAX_APPENDS_IN_FLIGHT: usize = 1024;
