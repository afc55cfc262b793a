//! How a node finds its way into a cluster: what to do with the answers of others. Decisions only; [`crate::cluster`] asks
//! and acts, and so does the simulator.

use std::collections::BTreeMap;

use crate::client::LogError;
use crate::identity::node_id;
use crate::members::{Member, Members};
use crate::node::ClusterView;

/// What a peer said when asked how it sees the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// Raft's id of the peer.
    pub raft_id: u64,
    /// It has neither a log nor a vote.
    pub is_blank: bool,
}

/// What a node without a log does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Somebody has a log: ask the leader to be taken in.
    Present,
    /// Everybody is blank, and this is the lowest node: begin the cluster.
    Begin(Members),
    /// Ask again later.
    Wait(String),
}

/// Decides for the blank node `raft_id`, one of `peers` (addresses by number), by what all others have answered; `Err`
/// with the reason for those that did not.
///
/// A cluster is begun only when *every* node has said that it is blank: a node whose disk was wiped can so never mistake
/// a cluster that it cannot reach for one that does not exist.
pub fn enter(
    cluster: &str,
    raft_id: u64,
    peers: &BTreeMap<u64, String>,
    answers: &BTreeMap<u64, Result<PeerAnswer, String>>,
) -> Entrance {
    let own = node_id(raft_id);
    if answers.values().flatten().any(|answer| !answer.is_blank) {
        return Entrance::Present;
    }
    let mut members = BTreeMap::new();
    for (&node, address) in peers {
        let found = match answers.get(&node) {
            _ if node == own => raft_id,
            Some(Ok(answer)) if node_id(answer.raft_id) == node => answer.raft_id,
            Some(Ok(answer)) => {
                let other = node_id(answer.raft_id);
                return Entrance::Wait(format!("node {other} listens where node {node} is expected"));
            }
            Some(Err(reason)) => return Entrance::Wait(format!("node {node}: {reason}")),
            None => return Entrance::Wait(format!("node {node} was not asked")),
        };
        members.insert(node, Member { raft_id: found, address: address.clone() });
    }
    if members.keys().next() != Some(&own) {
        return Entrance::Wait("the lowest node begins the cluster".to_owned());
    }
    Entrance::Begin(Members::new(cluster.to_owned(), members))
}

/// What the leader does with a node that shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is what is known of it.
    Known,
    /// Note its incarnation and address in the place of this one.
    Note(u64),
}

/// Decides about a node that presents `raft_id`. One that is blank replaces the member's earlier incarnation, whose disk
/// is gone; one that is not blank and not the member's was itself replaced.
pub fn admit(view: &ClusterView, raft_id: u64, address: &str, is_blank: bool) -> Result<Admission, LogError> {
    let node = node_id(raft_id);
    if !view.is_leader {
        let leader = view.members.nodes().values().find(|member| Some(member.raft_id) == view.leader);
        return Err(LogError::NotLeader { leader: leader.map(|member| member.address.clone()) });
    }
    let Some(member) = view.members.nodes().get(&node) else {
        let reason = format!("node {node} is not a member of this log cluster; `alluvium ctl log add` makes it one");
        return Err(LogError::Invalid { reason });
    };
    if member.raft_id == raft_id && member.address == address {
        return Ok(Admission::Known);
    }
    if member.raft_id != raft_id && !is_blank {
        let reason =
            format!("node {node} has come back with an empty directory since this one was written; empty it as well");
        return Err(LogError::Invalid { reason });
    }
    Ok(Admission::Note(member.raft_id))
}
