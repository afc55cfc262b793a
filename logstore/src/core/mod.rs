//! Raft without I/O. The host feeds [`Core::step`], [`Core::tick`] and [`Core::propose`], and does what
//! [`Core::ready`] says. Its duties:
//!
//! 1. Send [`Work::messages`] at once; a leader's appends go out while its own disk is still writing.
//! 2. Write [`Work::snapshot`], [`Work::hard_state`] and [`Work::entries`], in one piece, so that they can be read, before
//!    it calls [`Core::written`]. Entries may replace a suffix of the log.
//! 3. Call [`Core::persisted`] once they, and all work before them, are durable. Send what it returns only then: votes and
//!    acknowledgements promise that the disk holds them.
//! 4. Apply committed entries in order, then call [`Core::applied`].
//!
//! Between 2 and 3 the core goes on: it takes messages and proposals, and gives further work.
//!
//! A failure in 2 ends the node. There is no retry: after a failed fsync nobody knows what the disk holds.

mod coalesce;
mod index;
mod log_drain;
mod terms;

use std::collections::VecDeque;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState, Message, MessageType, Snapshot,
};
use raft::{Config, ProgressState, RawNode, Ready, StateRole};

use crate::members::Step;
use coalesce::coalesce;

pub use index::{FetchRequest, LogIndex};
pub use terms::TermRuns;

/// Bounds and timing, in ticks.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This node; not zero.
    pub node_id: u64,
    /// Ticks without a leader after which a node asks for votes (randomized up to twice this).
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Largest append message, unless a single entry is larger.
    pub max_message_bytes: u64,
    /// Append messages in flight to one follower.
    pub max_inflight_messages: usize,
    /// Proposals are refused while this much is not yet committed.
    pub max_uncommitted_bytes: u64,
    /// Committed entries handed out at a time.
    pub max_committed_bytes_per_ready: u64,
    /// What election timeouts are drawn from.
    pub election_seed: u64,
}

/// Why a proposal was not taken. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Ask `leader`, or wait if there is none.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<u64>,
    },
    /// Too much is uncommitted, or leadership is being handed over: retry.
    #[error("the leader takes no proposal at present")]
    Busy,
}

/// What the host is to do next, in this order.
#[derive(Debug, Default)]
pub struct Work {
    /// Its place in the order of all work.
    pub number: u64,
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// Replaces the whole log and state machine.
    pub snapshot: Option<Snapshot>,
    /// To be durable together with the entries.
    pub hard_state: Option<HardState>,
    /// To be appended to the log.
    pub entries: Vec<Entry>,
    /// False when a lost hard state would do no harm (only its commit index moved).
    pub must_sync: bool,
    /// To be applied.
    pub committed: Vec<Entry>,
    /// Reads confirmed: their context, and the index that must have been applied before they are answered.
    pub reads: Vec<(Vec<u8>, u64)>,
}

/// See the module.
pub struct Core {
    node: RawNode<LogIndex>,
    outstanding: Option<Outstanding>,
    /// Messages that wait until the work of this number is durable.
    promises: VecDeque<(u64, Vec<Message>)>,
    election_ticks: usize,
    election_choice: u64,
    max_message_bytes: u64,
    /// The followers were told that this is committed, or soon will be.
    told_commit: u64,
    /// Term, role and leader when the election timeout was last drawn.
    timeout_for: (u64, u8, u64),
    timeout_ticks: usize,
}

/// How far a peer has got, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Raft's id of the peer.
    pub raft_id: u64,
    /// It votes.
    pub votes: bool,
    /// It holds the log up to this index.
    pub matched_index: u64,
    /// It was heard from within the last election timeout.
    pub is_active: bool,
    /// It takes entries as they come, rather than a snapshot or probes.
    pub replicates: bool,
    /// It is being sent a snapshot.
    pub awaits_snapshot: bool,
}

/// A ready that has been handed out and is not written yet.
struct Outstanding {
    ready: Ready,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    snapshot: Option<Snapshot>,
}

impl Core {
    /// Starts from what was read from disk. `applied_index` is the state machine's.
    pub fn new(config: &CoreConfig, index: LogIndex, applied_index: u64) -> raft::Result<Core> {
        let raft_config = Config {
            id: config.node_id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied_index,
            max_size_per_msg: config.max_message_bytes,
            max_inflight_msgs: config.max_inflight_messages,
            check_quorum: true,
            pre_vote: true,
            // What is committed is told with the next append, or by `Core::tell_commit`.
            skip_bcast_commit: true,
            max_uncommitted_size: config.max_uncommitted_bytes,
            max_committed_size_per_ready: config.max_committed_bytes_per_ready,
            ..Config::default()
        };
        raft_config.validate()?;
        let node = RawNode::new(&raft_config, index, &log_drain::logger())?;
        let mut core = Core {
            node,
            outstanding: None,
            promises: VecDeque::new(),
            election_ticks: config.election_ticks,
            election_choice: config.election_seed,
            max_message_bytes: config.max_message_bytes,
            told_commit: 0,
            timeout_for: (0, 0, 0),
            timeout_ticks: 0,
        };
        core.draw_timeout();
        core.set_timeout();
        Ok(core)
    }

    fn draw_timeout(&mut self) {
        // SplitMix64: raft-rs draws from the thread's generator, which no test could repeat.
        self.election_choice = self.election_choice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.election_choice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.timeout_ticks = self.election_ticks + ((mixed ^ (mixed >> 31)) % self.election_ticks as u64) as usize;
    }

    /// Puts our own choice in the place of what raft-rs has drawn.
    fn set_timeout(&mut self) {
        let raft = &self.node.raft;
        let now = (raft.term, raft.state as u8, raft.leader_id);
        let again = raft.election_elapsed == 0 && matches!(raft.state, StateRole::PreCandidate | StateRole::Candidate);
        if now != self.timeout_for || again {
            self.timeout_for = now;
            self.draw_timeout();
        }
        self.node.raft.set_randomized_election_timeout(self.timeout_ticks);
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.node.tick();
        self.set_timeout();
    }

    /// Asks for leadership now instead of after the election timeout.
    pub fn campaign(&mut self) -> raft::Result<()> {
        let begun = self.node.campaign();
        self.set_timeout();
        begun
    }

    /// Takes a peer's message. Errors concern only this message (unknown peer, local message): drop it.
    pub fn step(&mut self, message: Message) -> raft::Result<()> {
        let taken = self.node.step(message);
        self.set_timeout();
        taken
    }

    /// Proposes an entry. The answer names it for ever: if another term's entry is committed at this index, the
    /// proposal was lost.
    pub fn propose(&mut self, context: Bytes, data: Bytes) -> Result<(u64, u64), ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        let entry = Entry { context, data, ..Entry::default() };
        message.set_entries(vec![entry].into());
        match self.node.step(message) {
            Ok(()) => Ok((self.node.raft.raft_log.last_index(), self.node.raft.term)),
            Err(_) => Err(ProposeError::Busy),
        }
    }

    /// Starts a linearizable read; its `context` comes back in [`Work::reads`]. May be
    /// dropped silently: retry with the same meaning but a new context.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.node.read_index(context);
    }

    /// Work to do, if any. It must go through [`Core::written`] before anything else is asked of the core.
    pub fn ready(&mut self) -> Option<Work> {
        assert!(self.outstanding.is_none(), "the previous work has not been written");
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let reads = ready.take_read_states().into_iter().map(|read| (read.request_ctx, read.index)).collect();
        let entries = ready.take_entries();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let number = ready.number();
        let mut messages = ready.take_messages();
        // An answer to a heartbeat promises nothing that the disk must hold: a slow disk does not delay it.
        let promises: Vec<Message> = ready.take_persisted_messages();
        let (at_once, promises): (Vec<Message>, Vec<Message>) =
            promises.into_iter().partition(|message| message.get_msg_type() == MessageType::MsgHeartbeatResponse);
        messages.extend(at_once);
        if !promises.is_empty() {
            self.promises.push_back((number, promises));
        }
        let messages = coalesce(messages, self.max_message_bytes);
        let appends = messages.iter().filter(|message| message.get_msg_type() == MessageType::MsgAppend);
        self.told_commit = appends.map(|message| message.commit).max().unwrap_or(0).max(self.told_commit);
        let work = Work {
            number,
            messages,
            snapshot: snapshot.clone(),
            hard_state: ready.hs().cloned(),
            entries: entries.clone(),
            must_sync: ready.must_sync(),
            committed: ready.take_committed_entries(),
            reads,
        };
        self.outstanding = Some(Outstanding { hard_state: work.hard_state.clone(), entries, snapshot, ready });
        Some(work)
    }

    /// The last work is written, and can be read, though it may not be durable yet.
    pub fn written(&mut self) {
        let Outstanding { ready, entries, hard_state, snapshot } =
            self.outstanding.take().expect("written follows ready");
        let index = self.node.mut_store();
        if let Some(hard_state) = hard_state {
            index.set_hard_state(hard_state);
        }
        if let Some(snapshot) = snapshot {
            index.restore(snapshot);
            // What was promised of the log that the snapshot has replaced is void, and Raft repeats its questions.
            self.promises.retain(|(number, _)| *number == ready.number());
        }
        index.append(entries);
        self.node.advance_append_async(ready);
    }

    /// All work up to `number` is durable. Returns what may be sent now; what may be applied comes with the next work.
    pub fn persisted(&mut self, number: u64) -> Vec<Message> {
        self.node.on_persist_ready(number);
        let mut messages = Vec::new();
        while let Some((_, promised)) = self.promises.pop_front_if(|(promised, _)| *promised <= number) {
            messages.extend(promised);
        }
        coalesce(messages, self.max_message_bytes)
    }

    /// More is committed than the followers were told. The next append will tell them; if none comes,
    /// [`Core::tell_commit`] does.
    pub fn owes_commit(&self) -> bool {
        self.is_leader() && self.told_commit < self.committed_index() && self.node.raft.prs().iter().count() > 1
    }

    /// Tells followers what is committed, without anything to append.
    pub fn tell_commit(&mut self) {
        self.told_commit = self.committed_index();
        self.node.ping();
    }

    /// Entries up to `index` are in the state machine.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().set_applied(index);
    }

    /// Applies a committed membership entry. Must be called for each of them.
    pub fn apply_membership(&mut self, entry: &Entry) -> Result<(), String> {
        let changed = match entry.get_entry_type() {
            EntryType::EntryNormal => return Ok(()),
            EntryType::EntryConfChange => ConfChange::parse_from_bytes(&entry.data)
                .map_err(|error| error.to_string())
                .and_then(|change| self.node.apply_conf_change(&change).map_err(|error| error.to_string())),
            EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data)
                .map_err(|error| error.to_string())
                .and_then(|change| self.node.apply_conf_change(&change).map_err(|error| error.to_string())),
        };
        let conf_state = changed.map_err(|error| format!("membership entry {}: {error}", entry.index))?;
        self.node.mut_store().set_conf_state(conf_state);
        Ok(())
    }

    /// Proposes a step of the membership; false when it must wait.
    pub fn propose_step(&mut self, step: Step) -> bool {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader || raft.has_pending_conf() || raft.lead_transferee.is_some() {
            return false;
        }
        let (change_type, node_id) = match step {
            Step::Learner(id) => (ConfChangeType::AddLearnerNode, id),
            Step::Voter(id) => (ConfChangeType::AddNode, id),
            Step::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let change = ConfChange { change_type, node_id, ..ConfChange::default() };
        self.node.propose_conf_change(Vec::new(), change).is_ok()
    }

    /// Hands leadership to `peer`, which holds the whole log or soon will.
    pub fn transfer_leader(&mut self, peer: u64) {
        self.node.transfer_leader(peer);
    }

    /// The peers as the leader sees them, in order of their ids.
    pub fn peers(&self) -> Vec<PeerProgress> {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters();
        let progress = raft.prs().iter().filter(|(id, _)| **id != raft.id).map(|(&raft_id, progress)| PeerProgress {
            raft_id,
            votes: voters.contains(raft_id),
            matched_index: progress.matched,
            is_active: progress.recent_active,
            replicates: progress.state == ProgressState::Replicate,
            awaits_snapshot: progress.state == ProgressState::Snapshot,
        });
        let mut peers: Vec<PeerProgress> = progress.collect();
        peers.sort_by_key(|peer| peer.raft_id);
        peers
    }

    /// The log was trimmed: it begins after `snapshot` now.
    pub fn compact(&mut self, snapshot: Snapshot) {
        self.node.mut_store().compact(snapshot);
    }

    /// Entries that lagging followers need from the segment files.
    pub fn take_fetches(&mut self) -> Vec<FetchRequest> {
        self.node.store().take_fetches()
    }

    /// Answers a fetch.
    pub fn fetched(&mut self, request: FetchRequest, entries: Vec<Entry>) {
        self.node.mut_store().set_fetched(entries);
        self.node.on_entries_fetched(request.context);
        self.node.mut_store().set_fetched(Vec::new());
    }

    /// A message to `peer` could not be delivered.
    pub fn report_unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// A snapshot to `peer` was delivered or lost.
    pub fn report_snapshot(&mut self, peer: u64, delivered: bool) {
        let status = if delivered { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.node.report_snapshot(peer, status);
    }

    /// True while this node leads.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != 0)
    }

    /// Current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Highest index known to be committed.
    pub fn committed_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// True once this leader has committed an entry of its own term: only then does it know what is committed.
    pub fn has_committed_in_term(&self) -> bool {
        self.is_leader() && self.node.raft.commit_to_current_term()
    }

    /// Terms, membership and hard state as of what is durable.
    pub fn index(&self) -> &LogIndex {
        self.node.store()
    }
}
