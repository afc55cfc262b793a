//! The log service over gRPC: [`LogServer`] offers a store's clients to the network, [`RemoteLog`] is one on the other
//! side.

mod convert;
mod remote;
mod server;

pub use remote::RemoteLog;
pub use server::LogServer;

/// Longest message taken: an append at its limit, with room for its framing.
pub const MAX_MESSAGE_BYTES: usize = (64 << 20) + (64 << 10);
/// Appends of one stream that wait for their answer; more wait in the network.
const MAX_APPENDS_IN_FLIGHT: usize = 1024;
