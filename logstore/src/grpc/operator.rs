//! What operators ask of a log cluster: how it is, and that nodes be added or removed.

use std::time::Duration;

use proto::logstore as wire;

use super::from_failure;
use crate::client::LogError;
use crate::cluster::{ask_view, peer_client};
use crate::stream::Credentials;

/// How often, and after which pause, a removal is repeated whose node has to let another one lead first.
const HAND_OVER_ATTEMPTS: usize = 100;
const HAND_OVER_PAUSE: Duration = Duration::from_millis(50);

/// A node as its cluster's leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The operators' number.
    pub node_id: u64,
    /// Where it listens.
    pub address: String,
    /// `leader`, `voter`, `learner`, or `absent` while it is not in Raft's membership.
    pub role: &'static str,
    /// Its incarnation: changes when the node loses its disk.
    pub incarnation: u64,
    /// Entries it lacks of the leader's log.
    pub lag_entries: u64,
    /// It was heard from within the last election timeout.
    pub is_active: bool,
}

/// A cluster as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Raft's term.
    pub term: u64,
    /// The leader's number.
    pub leader: u64,
    /// Last index in the leader's log.
    pub last_index: u64,
    /// Last committed index.
    pub committed_index: u64,
    /// The nodes by number.
    pub nodes: Vec<NodeStatus>,
}

/// A cluster's operator.
pub struct Operator {
    credentials: Credentials,
    addresses: Vec<String>,
}

impl Operator {
    /// Speaks to the cluster through the nodes at `addresses`; some of them are enough.
    pub fn new(cluster: String, token: String, addresses: Vec<String>) -> Operator {
        Operator { credentials: Credentials { cluster, token, node_id: 0 }, addresses }
    }

    /// The leader's view.
    pub async fn status(&self) -> Result<ClusterStatus, LogError> {
        let (_, view) = self.leader().await?;
        let status = |member: wire::Member| {
            let role = match member.role() {
                _ if member.raft_id != 0 && member.raft_id == view.leader_raft_id => "leader",
                wire::member::Role::Voter => "voter",
                wire::member::Role::Learner => "learner",
                wire::member::Role::None => "absent",
            };
            NodeStatus {
                node_id: member.node_id,
                address: member.address,
                role,
                incarnation: member.raft_id >> 16,
                lag_entries: view.last_index.saturating_sub(member.matched_index),
                is_active: member.active,
            }
        };
        Ok(ClusterStatus {
            term: view.term,
            leader: crate::identity::node_id(view.leader_raft_id),
            last_index: view.last_index,
            committed_index: view.committed_index,
            nodes: view.members.iter().cloned().map(status).collect(),
        })
    }

    /// Makes a node a member. It gets its vote once it runs and has caught up.
    pub async fn add(&self, node_id: u64, address: &str) -> Result<(), LogError> {
        let (leader, _) = self.leader().await?;
        let introduction = Some(self.credentials.introduction());
        let request = wire::AddMemberRequest { introduction, node_id, address: address.to_owned() };
        finished(peer_client(&leader)?.add_member(request).await)
    }

    /// Removes a node. It loses its vote first, and before that its leadership.
    pub async fn remove(&self, node_id: u64) -> Result<(), LogError> {
        let mut hands_over = false;
        for _ in 0..HAND_OVER_ATTEMPTS {
            match self.remove_at_leader(node_id).await {
                // Nothing was done: another node is about to lead.
                Err(LogError::NotLeader { .. }) => hands_over = true,
                Err(LogError::Unavailable { .. }) if hands_over => {}
                outcome => return outcome,
            }
            tokio::time::sleep(HAND_OVER_PAUSE).await;
        }
        Err(LogError::Unavailable { reason: format!("node {node_id} does not hand its leadership over") })
    }

    async fn remove_at_leader(&self, node_id: u64) -> Result<(), LogError> {
        let (leader, _) = self.leader().await?;
        let request = wire::RemoveMemberRequest { introduction: Some(self.credentials.introduction()), node_id };
        finished(peer_client(&leader)?.remove_member(request).await)
    }

    async fn leader(&self) -> Result<(String, wire::ViewResponse), LogError> {
        let mut addresses = self.addresses.clone();
        let mut last = LogError::Unavailable { reason: "no address of a log node was given".to_owned() };
        let mut position = 0;
        while position < addresses.len() && position < 64 {
            match ask_view(&addresses[position], &self.credentials).await {
                Ok(view) if view.is_leader => return Ok((addresses.swap_remove(position), view)),
                Ok(view) => {
                    let others = view.members.into_iter().map(|member| member.address);
                    let new: Vec<String> = others.filter(|address| !addresses.contains(address)).collect();
                    addresses.extend(new);
                    last = LogError::Unavailable { reason: "the log cluster has no leader".to_owned() };
                }
                Err(error) => last = error,
            }
            position += 1;
        }
        Err(last)
    }
}

fn finished(answer: Result<tonic::Response<wire::MembershipResponse>, tonic::Status>) -> Result<(), LogError> {
    match answer {
        Ok(answer) => answer.into_inner().failure.map_or(Ok(()), |failure| Err(from_failure(failure))),
        Err(status) => Err(super::convert::unavailable(&status)),
    }
}
