//! The node's part in changing the cluster: how a cluster is begun, and how the leader brings Raft's membership into
//! line with the replicated [`Members`], one step at a time.

use std::collections::BTreeSet;

use raft::eraftpb::{ConfState, HardState};

use super::Node;
use crate::client::LogError;
use crate::command::Command;
use crate::core::{Core, LogIndex, PeerProgress, TermRuns};
use crate::identity::node_id;
use crate::machine::StateMachine;
use crate::members::{Members, Step};
use crate::published::Published;
use crate::segment::{Checkpoint, StoreError};
use crate::transport::Transport;

/// A new node gets its vote when it lacks at most this many entries: so near the end that it keeps up.
const CAUGHT_UP_ENTRIES: u64 = 256;
/// A snapshot that was not confirmed within this many election timeouts is taken for lost.
const SNAPSHOT_TIMEOUTS: usize = 5;
/// So many slow writes in a row make a leader hand over.
const SLOW_WRITES: u32 = 5;
/// Election timeouts between two such hand-overs, so that slow disks everywhere do not make leaders come and go.
const KEEPS_LEAD_TIMEOUTS: u32 = 30;
/// A new leader leads for so many election timeouts before it looks where the writers are.
const LEADS_FIRST_TIMEOUTS: u32 = 5;
/// Index and term of the state that a cluster begins with. Not zero, so that a node without any log needs a snapshot:
/// the first members are in no entry.
const FIRST: u64 = 1;

/// A node's view of its cluster: for status, and for who wants to join. Not linearizable.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Raft's id of this node.
    pub raft_id: u64,
    /// Raft's term.
    pub term: u64,
    /// Raft's id of the leader, as far as this node knows.
    pub leader: Option<u64>,
    /// This node leads.
    pub is_leader: bool,
    /// This node has neither a log nor a vote yet.
    pub is_blank: bool,
    /// Wanted members.
    pub members: Members,
    /// Raft's members that vote.
    pub voters: Vec<u64>,
    /// Raft's members that do not.
    pub learners: Vec<u64>,
    /// The log begins behind this index.
    pub start_index: u64,
    /// Last index in this node's log.
    pub last_index: u64,
    /// Last index known to be committed.
    pub committed_index: u64,
    /// The peers, if this node leads.
    pub peers: Vec<PeerProgress>,
}

impl Node {
    /// What this node sees now.
    pub fn view(&self) -> ClusterView {
        let conf_state = self.core.index().conf_state();
        ClusterView {
            raft_id: self.raft_id(),
            term: self.core.term(),
            leader: self.core.leader(),
            is_leader: self.core.is_leader(),
            is_blank: self.is_blank(),
            members: self.machine.members().clone(),
            voters: conf_state.get_voters().to_vec(),
            learners: conf_state.get_learners().to_vec(),
            start_index: self.start_index,
            last_index: self.core.index().terms().last_index(),
            committed_index: self.core.committed_index(),
            peers: if self.core.is_leader() { self.core.peers() } else { Vec::new() },
        }
    }

    /// Nothing was ever written here, and no vote given.
    fn is_blank(&self) -> bool {
        let index = self.core.index();
        index.terms().last_index() == 0 && self.core.term() == 0 && index.conf_state().get_voters().is_empty()
    }

    /// Begins a cluster: this node's log starts with all `members` as voters. Only when each of them has said that it
    /// is blank; the others then learn of it as followers do. False if this node is not blank.
    pub fn bootstrap(&mut self, members: Members, transport: &mut dyn Transport) -> Result<bool, StoreError> {
        if !self.is_blank() {
            return Ok(false);
        }
        let mut conf_state = ConfState::default();
        conf_state.set_voters(members.nodes().values().map(|member| member.raft_id).collect());
        assert!(conf_state.get_voters().contains(&self.raft_id()), "a cluster is begun by one of its members");
        let machine = StateMachine::begin(FIRST, members);
        let terms = TermRuns::starting_at(FIRST, FIRST);
        let encoded = machine.encode().into();
        let checkpoint = Checkpoint {
            index: FIRST,
            term: FIRST,
            terms: terms.clone(),
            conf_state: conf_state.clone(),
            machine: encoded,
        };
        let hard_state = HardState { term: FIRST, commit: FIRST, ..HardState::default() };
        self.log.restart_at(&checkpoint, hard_state.clone())?;
        let (snapshot, limit) = (checkpoint.to_snapshot(), self.config.recent_bytes);
        let index = LogIndex::new(hard_state, conf_state, terms, FIRST, Vec::new(), snapshot, limit);
        self.core = Core::new(&self.config.core, index, FIRST).map_err(|error| StoreError::Io {
            location: "a new cluster".into(),
            doing: "starting Raft",
            source: std::io::Error::other(error),
        })?;
        self.forget_unsynced();
        self.machine = machine;
        self.start_index = FIRST;
        self.publish_state(&checkpoint)?;
        transport.set_members(self.machine.members());
        // Whoever begins it leads it first: the others have nothing yet.
        let _ = self.core.campaign();
        Ok(true)
    }

    /// One step towards the wanted membership, if it can be taken without losing the majority.
    pub(super) fn reconcile_members(&mut self) {
        if !self.core.has_committed_in_term() || self.machine.members().nodes().is_empty() {
            return;
        }
        let own = self.raft_id();
        let conf_state = self.core.index().conf_state();
        let voters: BTreeSet<u64> = conf_state.get_voters().iter().copied().collect();
        let learners: BTreeSet<u64> = conf_state.get_learners().iter().copied().collect();
        let peers = self.core.peers();
        let active = |id: u64| id == own || peers.iter().any(|peer| peer.raft_id == id && peer.is_active);
        let last_index = self.core.index().terms().last_index();
        for step in self.machine.members().next_steps(&voters, &learners, &active) {
            let mut after = voters.clone();
            match step {
                Step::Learner(id) => after.remove(&id),
                Step::Voter(id) => after.insert(id),
                Step::Remove(_) => false,
            };
            // The change counts as soon as it is applied: without a live majority afterwards nothing would be
            // committed any more, not even the way back.
            let live = after.iter().filter(|id| active(**id)).count();
            let caught_up = |id| {
                let lacks = |peer: &PeerProgress| last_index.saturating_sub(peer.matched_index);
                peers.iter().any(|peer| peer.raft_id == id && peer.replicates && lacks(peer) <= CAUGHT_UP_ENTRIES)
            };
            match step {
                _ if after != voters && live * 2 <= after.len() => continue,
                Step::Voter(id) if !caught_up(id) => continue,
                Step::Learner(id) if id == own => {
                    // A leader that is to go lets somebody else lead first.
                    let successor = peers.iter().find(|peer| peer.votes && peer.is_active && peer.replicates);
                    if let Some(successor) = successor {
                        self.core.transfer_leader(successor.raft_id);
                    }
                    return;
                }
                _ => {}
            }
            if self.core.propose_step(step) {
                tracing::info!(?step, "membership of the log cluster changes");
            }
            return;
        }
    }

    /// The last sync took this long. A leader whose disk has become slow would slow every commit, though
    /// a majority has disks that do not: it hands over to a follower that is up to date.
    pub fn synced_in(&mut self, us: u64) {
        self.took(us);
        let ms = us / 1000;
        if ms < self.config.slow_write_ms || !self.core.is_leader() {
            self.slow_writes = 0;
            return;
        }
        self.slow_writes += 1;
        if self.slow_writes < SLOW_WRITES || self.keeps_lead_ticks > 0 {
            return;
        }
        self.slow_writes = 0;
        if let Some(successor) = self.hand_over(|_| true) {
            tracing::warn!(ms, to = node_id(successor), "this node's disk is slow: it hands leadership over");
        }
    }

    /// Most of what is appended comes from beside the node that listens at `address`: if that is a follower which is up to
    /// date, it leads from now on, and the writers' way to the leader is short.
    pub fn lead_near(&mut self, address: &str) {
        let settled = LEADS_FIRST_TIMEOUTS * self.config.core.election_ticks as u32;
        if !self.core.is_leader() || self.led_ticks < settled || self.keeps_lead_ticks > 0 {
            return;
        }
        let members = self.machine.members().nodes();
        let Some(near) = members.values().find(|member| member.address == address).map(|member| member.raft_id) else {
            return;
        };
        if let Some(successor) = self.hand_over(|peer| peer == near) {
            tracing::info!(to = node_id(successor), "leadership goes to the node beside which most is written");
        }
    }

    /// Hands leadership to a follower that is up to date, and not again for a while.
    fn hand_over(&mut self, suits: impl Fn(u64) -> bool) -> Option<u64> {
        let committed = self.core.committed_index();
        let ready = |peer: &&PeerProgress| {
            suits(peer.raft_id)
                && peer.votes
                && peer.is_active
                && peer.replicates
                && peer.matched_index + CAUGHT_UP_ENTRIES >= committed
        };
        let successor = self.core.peers().iter().find(ready).map(|peer| peer.raft_id)?;
        self.keeps_lead_ticks = KEEPS_LEAD_TIMEOUTS * self.config.core.election_ticks as u32;
        self.core.transfer_leader(successor);
        Some(successor)
    }

    /// The leader itself is to be removed: somebody else leads first, and notes it. Its followers do not answer a leader that
    /// is no member any more, so that nothing would be committed until they elect another. What the caller is told.
    pub(super) fn leaves_first(&mut self, command: &Command) -> Option<LogError> {
        let Command::RemoveMember { node_id: going } = command else { return None };
        let is_own = *going == node_id(self.raft_id()) && self.machine.members().nodes().contains_key(going);
        if !is_own || !self.core.is_leader() || self.core.index().conf_state().get_voters().len() < 2 {
            return None;
        }
        let Some(successor) = self.hand_over(|_| true) else {
            let reason = "this node leads, and no other one is up to date and could".to_owned();
            return Some(LogError::Unavailable { reason });
        };
        let address = self.machine.members().nodes().values().find(|member| member.raft_id == successor);
        Some(LogError::NotLeader { leader: address.map(|member| member.address.clone()) })
    }

    /// Raft waits for the answer to a snapshot without end, and any message may be lost.
    pub(super) fn expire_snapshots(&mut self) {
        let limit = SNAPSHOT_TIMEOUTS * self.config.core.election_ticks;
        let waiting: Vec<u64> =
            self.core.peers().iter().filter(|peer| peer.awaits_snapshot).map(|peer| peer.raft_id).collect();
        self.snapshot_ticks.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let ticks = self.snapshot_ticks.entry(id).or_default();
            *ticks += 1;
            if *ticks > limit {
                *ticks = 0;
                self.core.report_snapshot(id, false);
            }
        }
    }

    /// Tells clients' side who leads.
    pub(super) fn publish_role(&mut self, published: &Published) {
        let leader = self.core.leader();
        let address = leader.and_then(|id| {
            self.machine.members().nodes().values().find(|member| member.raft_id == id).map(|it| it.address.clone())
        });
        published.set_leader(leader.is_some(), address);
    }
}
