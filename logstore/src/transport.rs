//! How Raft messages reach the other nodes.

use raft::eraftpb::Message;
use tokio::runtime::Handle;

use crate::members::Members;

/// Sends messages between peers. Delivery is best effort, in any order: Raft repeats what was lost. Implementations must
/// not block: they queue within a bound and drop what exceeds it.
///
/// Raft's messages are decoded by a library with a known denial-of-service defect, so an implementation accepts them
/// only from authenticated peers and limits their size before it decodes.
pub trait Transport: Send {
    /// Sends to `message.to`.
    fn send(&mut self, message: Message);
    /// Called once, on the node's own thread, with its runtime. What was sent before waits, or is lost.
    fn start(&mut self, _runtime: &Handle) {}
    /// The cluster consists of these nodes now.
    fn set_members(&mut self, _members: &Members) {}
}

/// For a cluster of one.
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&mut self, message: Message) {
        tracing::warn!(to = message.to, "no transport to this peer: message dropped");
    }
}
