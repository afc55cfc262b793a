//! Who a log node is. Operators know a node by its number; Raft knows it by that number together with an *incarnation*,
//! drawn when an empty data directory is first used and written into every segment's header. A node that has lost its
//! disk therefore comes back as somebody whom Raft has never met: it cannot vote as the member whose promises it has
//! forgotten.

/// Highest number of a node.
pub const MAX_NODE_ID: u64 = 0xffff;
const NODE_BITS: u32 = 16;
/// Incarnations have this many bits, so that Raft's id stays well below its reserved values.
const INCARNATION_BITS: u32 = 46;

/// What Raft calls the node. Incarnation zero is that of a cluster whose members were named when it was begun.
pub fn raft_id(node_id: u64, incarnation: u64) -> u64 {
    assert!(node_id > 0 && node_id <= MAX_NODE_ID, "node ids are 1 to {MAX_NODE_ID}, not {node_id}");
    (incarnation & ((1 << INCARNATION_BITS) - 1)) << NODE_BITS | node_id
}

/// The number by which operators know the node.
pub fn node_id(raft_id: u64) -> u64 {
    raft_id & MAX_NODE_ID
}
