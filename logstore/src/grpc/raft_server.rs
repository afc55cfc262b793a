//! Joining, and operators' changes of the membership. Whoever calls names the cluster and shows its secret.

use std::sync::Arc;

use proto::logstore as wire;
use proto::logstore::raft_service_server::{RaftService, RaftServiceServer};
use storage::BranchId;
use tonic::{Request, Response, Status};

use super::MAX_MESSAGE_BYTES;
use super::convert::to_failure;
use crate::LogStore;
use crate::client::LogError;
use crate::identity::node_id;
use crate::joining::{Admission, admit};
use crate::members::Member;
use crate::node::ClusterView;
use crate::stream::Credentials;

/// Offers a node to its peers and operators.
pub struct RaftServer {
    store: Arc<LogStore>,
    credentials: Credentials,
}

impl RaftServer {
    /// A tonic service, to be added to a server.
    pub fn service(store: Arc<LogStore>, credentials: Credentials) -> RaftServiceServer<RaftServer> {
        RaftServiceServer::new(RaftServer { store, credentials }).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn check(&self, introduction: Option<&wire::Introduction>) -> Result<(), Status> {
        let Some(introduction) = introduction else {
            return Err(Status::unauthenticated("the sender did not introduce itself"));
        };
        self.credentials.check(introduction).map_err(Status::permission_denied)
    }
}

fn answer(outcome: Result<(), LogError>) -> Response<wire::MembershipResponse> {
    Response::new(wire::MembershipResponse { failure: outcome.err().map(to_failure) })
}

fn to_member(view: &ClusterView, node: u64, member: &Member) -> wire::Member {
    use wire::member::Role;
    let raft_id = member.raft_id;
    let role = if view.voters.contains(&raft_id) {
        Role::Voter
    } else if view.learners.contains(&raft_id) {
        Role::Learner
    } else {
        Role::None
    };
    let peer = view.peers.iter().find(|peer| peer.raft_id == raft_id);
    let own = view.is_leader && raft_id == view.raft_id;
    wire::Member {
        node_id: node,
        raft_id,
        address: member.address.clone(),
        role: role.into(),
        matched_index: if own { view.last_index } else { peer.map_or(0, |peer| peer.matched_index) },
        active: own || peer.is_some_and(|peer| peer.is_active),
    }
}

#[tonic::async_trait]
impl RaftService for RaftServer {
    async fn view(&self, request: Request<wire::ViewRequest>) -> Result<Response<wire::ViewResponse>, Status> {
        self.check(request.get_ref().introduction.as_ref())?;
        let view = match self.store.view().await {
            Ok(view) => view,
            Err(error) => {
                let failure = Some(to_failure(error));
                return Ok(Response::new(wire::ViewResponse { failure, ..Default::default() }));
            }
        };
        let members = view.members.nodes().iter().map(|(node, member)| to_member(&view, *node, member)).collect();
        Ok(Response::new(wire::ViewResponse {
            raft_id: view.raft_id,
            term: view.term,
            leader_raft_id: view.leader.unwrap_or(0),
            is_leader: view.is_leader,
            is_blank: view.is_blank,
            members,
            start_index: view.start_index,
            last_index: view.last_index,
            committed_index: view.committed_index,
            failure: None,
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::MembershipResponse>, Status> {
        let wire::JoinRequest { introduction, raft_id, address, is_blank } = request.into_inner();
        self.check(introduction.as_ref())?;
        Ok(answer(self.take_in(raft_id, address, is_blank).await))
    }

    async fn add_member(
        &self,
        request: Request<wire::AddMemberRequest>,
    ) -> Result<Response<wire::MembershipResponse>, Status> {
        let wire::AddMemberRequest { introduction, node_id, address } = request.into_inner();
        self.check(introduction.as_ref())?;
        Ok(answer(self.store.set_member(node_id, None, Member { raft_id: 0, address }).await))
    }

    async fn remove_member(
        &self,
        request: Request<wire::RemoveMemberRequest>,
    ) -> Result<Response<wire::MembershipResponse>, Status> {
        let wire::RemoveMemberRequest { introduction, node_id } = request.into_inner();
        self.check(introduction.as_ref())?;
        Ok(answer(self.store.remove_member(node_id).await))
    }
}

impl RaftServer {
    async fn take_in(&self, raft_id: u64, address: String, is_blank: bool) -> Result<(), LogError> {
        let mut admission = admit(&self.store.view().await?, raft_id, &address, is_blank);
        if admission.is_err() {
            // A leader that was cut off may not know the newest members, and a refusal is for good: ask again as soon
            // as a majority has confirmed that it leads.
            self.store.client().status(BranchId::default()).await?;
            admission = admit(&self.store.view().await?, raft_id, &address, is_blank);
        }
        match admission? {
            Admission::Known => Ok(()),
            Admission::Note(expected) => {
                let member = Member { raft_id, address };
                self.store.set_member(node_id(raft_id), Some(expected), member).await
            }
        }
    }
}
