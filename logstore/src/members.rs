//! Which nodes the cluster is to consist of: replicated, and what the leader brings Raft's membership into line with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::client::LogError;
use crate::identity::{MAX_NODE_ID, node_id};
use crate::wire::{Malformed, get_length, get_string, get_u64, put_bytes, put_u64};

/// Nodes of one cluster.
pub const MAX_MEMBERS: usize = 16;
/// Longest address of a node.
pub const MAX_ADDRESS_BYTES: usize = 256;
/// Longest name of a cluster.
pub const MAX_CLUSTER_BYTES: usize = 64;

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its present incarnation; zero while it has not yet presented itself.
    pub raft_id: u64,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// The cluster's name and nodes. Empty for a cluster whose membership is fixed (one node in one process, tests).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub(crate) cluster: String,
    pub(crate) nodes: BTreeMap<u64, Member>,
}

/// The next step towards the wanted membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add it without a vote, or take its vote away.
    Learner(u64),
    /// Give it a vote.
    Voter(u64),
    /// Forget it.
    Remove(u64),
}

impl Members {
    /// A new cluster's.
    pub fn new(cluster: String, nodes: BTreeMap<u64, Member>) -> Members {
        Members { cluster, nodes }
    }

    /// Name of the cluster; empty when its membership is fixed.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The nodes by number.
    pub fn nodes(&self) -> &BTreeMap<u64, Member> {
        &self.nodes
    }

    /// Adds a node, or changes its incarnation or address, if it is `expected` (`None`: it is not there).
    pub(crate) fn set(&mut self, node: u64, expected: Option<u64>, member: &Member) -> Result<(), LogError> {
        let invalid = |reason: String| Err(LogError::Invalid { reason });
        if node == 0 || node > MAX_NODE_ID || (member.raft_id != 0 && node_id(member.raft_id) != node) {
            return invalid(format!("{node} is not the number of a log node"));
        }
        if self.nodes.is_empty() {
            return invalid("the membership of this log is fixed".to_owned());
        }
        if self.nodes.get(&node).map(|member| member.raft_id) != expected {
            return invalid(match self.nodes.get(&node) {
                Some(_) => format!("log node {node} is a member already, or has changed meanwhile"),
                None => format!("log node {node} is not a member"),
            });
        }
        if self.nodes.len() >= MAX_MEMBERS && expected.is_none() {
            return invalid(format!("a log cluster has at most {MAX_MEMBERS} nodes"));
        }
        self.nodes.insert(node, member.clone());
        Ok(())
    }

    /// Removes a node. The last one stays.
    pub(crate) fn remove(&mut self, node: u64) -> Result<(), LogError> {
        let others = self.nodes.iter().any(|(id, member)| *id != node && member.raft_id != 0);
        if !self.nodes.contains_key(&node) {
            return Err(LogError::Invalid { reason: format!("log node {node} is not a member") });
        }
        if !others {
            return Err(LogError::Invalid { reason: format!("log node {node} is the only one and stays") });
        }
        self.nodes.remove(&node);
        Ok(())
    }

    /// What is to change next in Raft's membership, in order of urgency. New nodes come first, without a vote. A voter
    /// that is to go loses its vote before it is removed: at once if it is silent, since a majority must do without it
    /// anyway, and else only after its successors have theirs.
    pub fn next_steps(
        &self,
        voters: &BTreeSet<u64>,
        learners: &BTreeSet<u64>,
        is_active: &dyn Fn(u64) -> bool,
    ) -> Vec<Step> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let wanted: BTreeSet<u64> = self.nodes.values().map(|member| member.raft_id).filter(|&id| id != 0).collect();
        let added =
            wanted.iter().filter(|id| !voters.contains(id) && !learners.contains(id)).map(|&id| Step::Learner(id));
        let removed = learners.difference(&wanted).map(|&id| Step::Remove(id));
        let promoted = wanted.intersection(learners).map(|&id| Step::Voter(id));
        // An incarnation whose node has another one is dead, however lately it was heard: as long as it has a vote, the new one's
        // does not make up for it.
        let is_replaced = |id: u64| wanted.iter().any(|other| node_id(*other) == node_id(id));
        let (leaving, silent): (Vec<u64>, Vec<u64>) =
            voters.difference(&wanted).partition(|id| is_active(**id) && !is_replaced(**id));
        let demoted = |ids: Vec<u64>| ids.into_iter().map(Step::Learner);
        added.chain(removed).chain(demoted(silent)).chain(promoted).chain(demoted(leaving)).collect()
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_bytes(buffer, self.cluster.as_bytes());
        buffer.extend_from_slice(&(self.nodes.len() as u32).to_le_bytes());
        for (node, member) in &self.nodes {
            put_u64(buffer, *node);
            put_u64(buffer, member.raft_id);
            put_bytes(buffer, member.address.as_bytes());
        }
    }

    pub(crate) fn decode(bytes: &mut Bytes) -> Result<Members, Malformed> {
        const WHAT: &str = "log members";
        let mut members = Members { cluster: get_string(bytes, MAX_CLUSTER_BYTES, WHAT)?, nodes: BTreeMap::new() };
        for _ in 0..get_length(bytes, MAX_MEMBERS, WHAT)? {
            let node = get_u64(bytes, WHAT)?;
            let raft_id = get_u64(bytes, WHAT)?;
            members.nodes.insert(node, Member { raft_id, address: get_string(bytes, MAX_ADDRESS_BYTES, WHAT)? });
        }
        Ok(members)
    }
}
