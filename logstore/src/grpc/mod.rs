//! The log service over gRPC: [`LogServer`] offers a store's clients to the network, [`RemoteLog`] is one on the other
//! side; [`RaftServer`] lets nodes into a cluster. Appends and Raft's messages go another way: [`crate::stream`].

mod attempts;
mod convert;
mod endpoints;
mod follow;
mod gather;
mod operator;
mod raft_server;
mod remote;
mod server;
pub(crate) mod versions;
mod watch;

pub(crate) use convert::{from_failure, to_failure};
pub use operator::{ClusterStatus, NodeStatus, Operator};
pub use raft_server::RaftServer;
pub use remote::RemoteLog;
pub use server::LogServer;

/// Longest message taken: an append at its limit, with room for its framing.
pub const MAX_MESSAGE_BYTES: usize = (64 << 20) + (64 << 10);
