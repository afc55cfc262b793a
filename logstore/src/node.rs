//! One log node without threads: the Raft core, the state machine and the segment files, put together.
//!
//! Every call runs to its end on the caller's thread, so that a test can drive several nodes on simulated disks step by
//! step. [`crate::LogStore`] gives it a thread and a clock.
//!
//! What is written is synced by somebody else ([`Node::set_syncer`]) while the disk is slow, so that heartbeats, messages and
//! proposals do not wait for it; on a quick disk, by the caller's thread, which saves two changes of threads.

mod membership;
mod reads;
mod sync;

pub use membership::ClusterView;
pub use reads::Read;
pub use sync::SyncRequest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use futures::stream::BoxStream;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use storage::{BranchId, Lsn};
use tokio::sync::oneshot;

use crate::archive::ARCHIVE_KEY;
use crate::client::{LogChunk, LogError};
use crate::command::{Command, MAX_CONSUMER_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::core::{Core, CoreConfig, FetchRequest, LogIndex, ProposeError, Work};
use crate::disk::Disk;
use crate::identity::node_id;
use crate::machine::{Outcome, StateMachine};
use crate::members::MAX_ADDRESS_BYTES;
use crate::node_metrics::NodeMetrics;
use crate::published::Published;
use crate::segment::{Checkpoint, SegmentConfig, SegmentLog, SegmentSet, Spare, StoreError, read_entries};
use crate::subscription::{subscribe, to_log_error};
use crate::transport::Transport;
use reads::Reads;
use sync::Syncs;

/// Room that only the log's own housekeeping may use, so that a full disk does not keep it from being trimmed.
const HEADROOM_BYTES: u64 = 64 << 10;

/// Everything a node needs to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Raft's bounds and timing.
    pub core: CoreConfig,
    /// Members of a cluster that is begun; ignored once the log exists.
    pub voters: Vec<u64>,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// A checkpoint is written this often.
    pub checkpoint_every_bytes: u64,
    /// Longest append.
    pub max_append_bytes: usize,
    /// Recent chunks kept for subscribers, in all.
    pub recent_bytes: usize,
    /// Never trim.
    pub retain_all: bool,
    /// Trimming leaves at least this much.
    pub retention_bytes: u64,
    /// Appends are refused while the segments are larger than this.
    pub budget_bytes: u64,
    /// A leader whose writes take this long, several in a row, hands over.
    pub slow_write_ms: u64,
}

/// Where a proposal's outcome goes.
pub type Reply = oneshot::Sender<Result<Outcome, LogError>>;

/// See the module.
pub struct Node {
    config: NodeConfig,
    core: Core,
    machine: StateMachine,
    log: SegmentLog,
    published: Arc<Published>,
    /// Proposals by the index they were given, with the term that makes it theirs.
    proposals: BTreeMap<u64, (u64, Reply)>,
    reads: Reads,
    /// Proposed, and not yet written.
    unwritten_bytes: u64,
    /// The disk failed while room was looked for: the next [`Node::run`] ends the node.
    failed: Option<StoreError>,
    /// The log begins after this index.
    start_index: u64,
    /// There may be something to trim once the segment that has begun counts.
    trims_later: bool,
    was_leader: bool,
    /// The leader that was last published, with its term.
    published_leader: Option<(u64, Option<u64>)>,
    /// For how many ticks each peer has been waiting for a snapshot.
    snapshot_ticks: BTreeMap<u64, usize>,
    /// Who reads old entries for followers; without it this thread does.
    reader: Option<SyncSender<FetchRequest>>,
    /// First indices of what the reader has not answered yet.
    fetching: BTreeSet<u64>,
    /// Syncs, and what waits for them.
    syncs: Syncs,
    /// Writes in a row that took long.
    slow_writes: u32,
    /// Ticks until leadership may be handed over again.
    keeps_lead_ticks: u32,
    /// Ticks since this node leads.
    led_ticks: u32,
    metrics: NodeMetrics,
}

fn unavailable(reason: impl Into<String>) -> LogError {
    LogError::Unavailable { reason: reason.into() }
}

impl Node {
    /// Opens the log in `disk`. A cluster of one leads at once.
    pub fn open(
        mut config: NodeConfig,
        disk: Arc<dyn Disk>,
        spare: Arc<Spare>,
        transport: &mut dyn Transport,
    ) -> Result<Node, StoreError> {
        let segment_config = SegmentConfig {
            segment_bytes: config.segment_bytes,
            checkpoint_every_bytes: config.checkpoint_every_bytes,
            raft_id: config.core.node_id,
        };
        let recovered = SegmentLog::open(disk.clone(), segment_config, spare, &config.voters)?;
        config.core.node_id = recovered.raft_id;
        if recovered.torn_bytes > 0 {
            tracing::warn!(bytes = recovered.torn_bytes, "cut a torn tail that had not been acknowledged");
        }
        let damaged = |reason: String| StoreError::Io {
            location: disk.location(),
            doing: "starting Raft",
            source: std::io::Error::other(reason),
        };
        let machine =
            StateMachine::decode(recovered.checkpoint.machine.clone()).map_err(|error| damaged(error.to_string()))?;
        let index = LogIndex::new(
            recovered.hard_state,
            recovered.checkpoint.conf_state.clone(),
            recovered.terms,
            recovered.checkpoint.index,
            recovered.tail,
            recovered.start.to_snapshot(),
            config.recent_bytes,
        );
        let core =
            Core::new(&config.core, index, machine.applied_index()).map_err(|error| damaged(error.to_string()))?;
        let published = Published::new(config.recent_bytes);
        let mut node = Node {
            core,
            machine,
            log: recovered.log,
            published,
            proposals: BTreeMap::new(),
            reads: Reads::default(),
            unwritten_bytes: 0,
            failed: None,
            start_index: recovered.start.index,
            trims_later: false,
            was_leader: false,
            published_leader: None,
            snapshot_ticks: BTreeMap::new(),
            reader: None,
            fetching: BTreeSet::new(),
            syncs: Syncs::default(),
            slow_writes: 0,
            keeps_lead_ticks: 0,
            led_ticks: 0,
            metrics: NodeMetrics::new(node_id(config.core.node_id)),
            config,
        };
        node.publish_state(&recovered.start)?;
        transport.set_members(node.machine.members());
        if node.core.index().conf_state().get_voters() == [node.config.core.node_id] {
            node.core.campaign().map_err(|error| damaged(error.to_string()))?;
        }
        node.run(transport)?;
        Ok(node)
    }

    /// What Raft calls this node.
    pub fn raft_id(&self) -> u64 {
        self.config.core.node_id
    }

    /// Old entries for followers are read by somebody else from now on, who answers with [`Node::fetched`].
    pub fn set_reader(&mut self, reader: SyncSender<FetchRequest>) {
        self.reader = Some(reader);
    }

    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Follows a branch as [`crate::client::LogClient::subscribe`] does, without the archive. The stream does not notice a node that is
    /// dropped without being closed.
    pub fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        subscribe(&self.published, self.log.set(), None, branch, from_lsn)
    }

    /// First LSN of a branch that can still be read here.
    pub fn first_lsn(&self, branch: BranchId) -> Lsn {
        self.published.branch(branch).first_lsn()
    }

    /// The files, for readers.
    pub fn segments(&self) -> &Arc<SegmentSet> {
        self.log.set()
    }

    /// True while this node leads.
    pub fn is_leader(&self) -> bool {
        self.core.is_leader()
    }

    /// Raft's term.
    pub fn term(&self) -> u64 {
        self.core.term()
    }

    /// The state machine, as applied.
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    /// Bytes of proposals that one batch may hold.
    pub fn batch_limit_bytes(&self) -> u64 {
        (self.log.segment_capacity_bytes() / 2).min(self.config.core.max_uncommitted_bytes / 2)
    }

    /// Time passes.
    pub fn tick(&mut self) -> Result<(), StoreError> {
        self.core.tick();
        self.keeps_lead_ticks = self.keeps_lead_ticks.saturating_sub(1);
        self.led_ticks = if self.core.is_leader() { self.led_ticks.saturating_add(1) } else { 0 };
        if self.core.is_leader() {
            self.ask_again();
            self.expire_snapshots();
            self.reconcile_members();
        }
        self.log.mark_if_idle()
    }

    /// Takes a peer's message.
    pub fn step(&mut self, message: Message) {
        if message.to != self.raft_id() {
            // Meant for an earlier incarnation, whose promises this one does not know.
            tracing::debug!(to = message.to, "message for another node dropped");
            return;
        }
        if message.get_msg_type() == MessageType::MsgAppend && !message.entries.is_empty() {
            let entry_bytes = |entry: &Entry| SegmentLog::entry_bytes(entry.context.len(), entry.data.len());
            let bytes = message.entries.iter().map(entry_bytes).sum::<u64>();
            if let Err(error) = self.log.ensure_room(self.unwritten_bytes + bytes) {
                // Not taking it is safe: the leader repeats it, and this node does not acknowledge meanwhile.
                tracing::warn!(%error, "no room for replicated entries: append dropped");
                self.room_missing(error);
                return;
            }
            self.unwritten_bytes += bytes;
        }
        if let Err(error) = self.core.step(message) {
            tracing::debug!(%error, "message from a peer ignored");
        }
    }

    /// A peer could not be reached.
    pub fn report_unreachable(&mut self, peer: u64) {
        self.core.report_unreachable(peer);
        self.core.report_snapshot(peer, false);
    }

    /// Proposes a command; its outcome goes to `reply`, once it is applied.
    pub fn propose(&mut self, command: &Command, reply: Reply) {
        if let Err(error) = self.try_propose(command, reply) {
            let (error, reply) = *error;
            let _ = reply.send(Err(error));
        }
    }

    fn try_propose(&mut self, command: &Command, reply: Reply) -> Result<(), Box<(LogError, Reply)>> {
        if let Err(error) = self.check(command) {
            return Err(Box::new((error, reply)));
        }
        if let Command::Append { .. } = command
            && self.log.set().total_bytes() > self.config.budget_bytes
        {
            let limit_bytes = self.config.budget_bytes;
            let reason = format!("the log has reached its budget of {limit_bytes} bytes");
            return Err(Box::new((LogError::NoSpace { reason }, reply)));
        }
        if let Some(told) = self.leaves_first(command) {
            return Err(Box::new((told, reply)));
        }
        let (context, data) = command.encode();
        let bytes = SegmentLog::entry_bytes(context.len(), data.len());
        let headroom = match command {
            Command::ReportConsumer { .. } => 0,
            // Without it the archive could not advance, and the log not be trimmed.
            Command::CompareAndSwap { key, .. } if key.starts_with(ARCHIVE_KEY) => 0,
            _ => HEADROOM_BYTES.min(self.config.segment_bytes / 8),
        };
        if let Err(error) = self.log.ensure_room(self.unwritten_bytes + bytes + headroom) {
            let told = to_log_error(&error);
            self.room_missing(error);
            return Err(Box::new((told, reply)));
        }
        match self.core.propose(context, data) {
            Ok((index, term)) => {
                self.unwritten_bytes += bytes;
                self.proposals.insert(index, (term, reply));
                Ok(())
            }
            Err(ProposeError::NotLeader { .. }) => Err(Box::new((self.not_leader(), reply))),
            Err(error @ ProposeError::Busy) => Err(Box::new((unavailable(error.to_string()), reply))),
        }
    }

    /// A full disk is waited for. One that fails ends the node, as at any write: it would go on to vote and to answer heartbeats, and
    /// take nothing.
    fn room_missing(&mut self, error: StoreError) {
        if !matches!(error, StoreError::NoSpace { .. }) {
            self.failed.get_or_insert(error);
        }
    }

    fn not_leader(&self) -> LogError {
        LogError::NotLeader { leader: self.published.leader().1 }
    }

    /// Refuses what cannot succeed before it costs a write.
    fn check(&self, command: &Command) -> Result<(), LogError> {
        let invalid = |reason: &str| Err(LogError::Invalid { reason: reason.to_owned() });
        match command {
            Command::Append { branch, epoch, bytes, .. } => {
                let limit_bytes = self.config.max_append_bytes;
                if bytes.len() > limit_bytes {
                    return Err(LogError::TooLarge { branch: *branch, bytes: bytes.len(), limit_bytes });
                }
                if bytes.is_empty() {
                    return invalid("an append holds at least one byte");
                }
                // Epochs only grow, so what is fenced by an applied one stays fenced.
                if let Some(state) = self.machine.branch(*branch)
                    && state.epoch > *epoch
                {
                    let (current, end_lsn) = (state.epoch, state.end_lsn);
                    return Err(LogError::Fenced { branch: *branch, epoch: *epoch, current, end_lsn });
                }
                Ok(())
            }
            Command::ReportConsumer { consumer, .. } if consumer.len() > MAX_CONSUMER_BYTES => {
                invalid("the consumer's name is too long")
            }
            Command::CompareAndSwap { key, .. } if key.is_empty() || key.len() > MAX_KEY_BYTES => {
                invalid("metadata keys have 1 to 1024 bytes")
            }
            Command::CompareAndSwap { value: Some(value), .. } if value.len() > MAX_VALUE_BYTES => {
                invalid("metadata values have at most 256 KiB")
            }
            Command::SetMember { member, .. } if member.address.len() > MAX_ADDRESS_BYTES => {
                invalid("the address of a log node is too long")
            }
            _ => Ok(()),
        }
    }

    /// Does all work there is: write, sync or have it synced, send, apply, answer. An error ends the node.
    pub fn run(&mut self, transport: &mut dyn Transport) -> Result<(), StoreError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            self.fetch_for_followers()?;
            self.settle_what_followers_hold(transport);
            self.ask_for_reads();
            let Some(mut work) = self.core.ready() else { break };
            let reads = std::mem::take(&mut work.reads);
            self.do_work(work, transport)?;
            self.reads_confirmed(reads);
            self.answer_reads();
        }
        self.begin_sync();
        if self.trims_later && !self.log.is_changing() {
            self.trim()?;
        }
        self.unwritten_bytes = 0;
        let leads = self.core.is_leader();
        if self.was_leader && !leads {
            self.fail_pending(&unavailable("leadership was lost; the outcome is not known"));
        }
        self.was_leader = leads;
        let leader = Some((self.core.term(), self.core.leader()));
        if self.published_leader != leader {
            self.published_leader = leader;
            self.publish_role(&self.published.clone());
        }
        self.metrics.state(leads, self.core.term(), self.log.set().total_bytes());
        Ok(())
    }

    fn do_work(&mut self, work: Work, transport: &mut dyn Transport) -> Result<(), StoreError> {
        let Work { number, messages, snapshot, hard_state, entries, must_sync, committed, reads: _ } = work;
        for message in messages {
            transport.send(message);
        }
        let restored = snapshot.as_ref().map(|snapshot| snapshot.get_metadata().index);
        if let Some(snapshot) = snapshot {
            let hard_state = hard_state.clone().unwrap_or_else(|| self.core.index().hard_state().clone());
            self.install(&Checkpoint::from_snapshot(&snapshot), hard_state)?;
            transport.set_members(self.machine.members());
            self.published_leader = None;
        }
        let writes = must_sync && (hard_state.is_some() || !entries.is_empty());
        if writes {
            let (core, machine) = (&self.core, &self.machine);
            // With every entry, what is known to be committed when it comes: Raft counts on it where an entry follows a
            // change of the membership. A node that starts again and does not know that the change is committed would
            // campaign among the members from before it, of whom a majority may elect it beside another.
            let known = hard_state.as_ref().unwrap_or(core.index().hard_state());
            let known = (hard_state.is_some() || self.log.hard_state().commit < known.commit).then_some(known);
            self.log.append(known, &entries, &|| checkpoint(core, machine))?;
            self.metrics.written(entries.len());
        }
        self.core.written();
        if let Some(index) = restored {
            self.forget_unsynced();
            if writes {
                self.sync_now()?;
            }
            self.settle(number, transport);
            // What a snapshot holds counts as applied: Raft would look for its entries when it next campaigns.
            self.core.applied(index);
        } else if writes {
            let last_index = entries.last().map(|entry| entry.index);
            self.wrote(number, last_index, transport)?;
        } else {
            self.settle_after_writes(number, transport);
        }
        self.apply(committed, transport)
    }

    fn apply(&mut self, entries: Vec<Entry>, transport: &mut dyn Transport) -> Result<(), StoreError> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        let mut may_trim = false;
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            let command = self.decode(&entry)?;
            let outcome = self.machine.apply(index, command.as_ref());
            let location = self.log.take_location(index);
            match (&outcome, command) {
                (Ok(Outcome::Appended { end_lsn }), Some(Command::Append { branch, epoch, start_lsn, bytes })) => {
                    if let Some(location) = location {
                        self.log.note_append(location, branch, epoch, start_lsn);
                    }
                    self.published.push(branch, LogChunk { start_lsn, epoch, bytes });
                    self.metrics.durable(branch, *end_lsn);
                }
                (Ok(_), Some(Command::ReportConsumer { .. })) => may_trim = true,
                (Ok(Outcome::Swapped { .. }), _) => self.published.metadata_changed(index),
                (Ok(Outcome::MembersChanged), _) => {
                    self.published_leader = None;
                    transport.set_members(self.machine.members());
                }
                _ => {}
            }
            if let Some((proposed_term, reply)) = self.proposals.remove(&index) {
                let answer = if proposed_term == term {
                    outcome
                } else {
                    Err(unavailable("another leader's entry took this place: the request was lost"))
                };
                let _ = reply.send(answer);
            }
        }
        self.core.applied(last);
        if may_trim {
            self.trim()?;
        }
        Ok(())
    }

    /// An entry whose checksum matched but which makes no sense was written by another version: stop, or this node's
    /// state would part from the others'.
    fn decode(&mut self, entry: &Entry) -> Result<Option<Command>, StoreError> {
        let failed = |reason: String| StoreError::Io {
            location: format!("log entry {}", entry.index),
            doing: "applying",
            source: std::io::Error::other(reason),
        };
        if entry.get_entry_type() != EntryType::EntryNormal {
            self.core.apply_membership(entry).map_err(failed)?;
            return Ok(None);
        }
        Command::decode(entry.context.clone(), entry.data.clone()).map_err(|error| failed(error.to_string()))
    }

    /// Entries that left memory and that a follower still needs.
    fn fetch_for_followers(&mut self) -> Result<(), StoreError> {
        for request in self.core.take_fetches() {
            match &self.reader {
                None => {
                    let entries = read_entries(self.log.set(), request.low, request.high, request.max_bytes)?;
                    self.core.fetched(request, entries);
                }
                Some(reader) => {
                    // Raft asks again with every heartbeat: what is under way or finds no room may be dropped.
                    let low = request.low;
                    if !self.fetching.contains(&low) && reader.try_send(request).is_ok() {
                        self.fetching.insert(low);
                    }
                }
            }
        }
        Ok(())
    }

    /// The reader's answer. Entries that were trimmed meanwhile are no error: the follower gets a snapshot.
    pub fn fetched(
        &mut self,
        request: FetchRequest,
        entries: Result<Vec<Entry>, StoreError>,
    ) -> Result<(), StoreError> {
        self.fetching.remove(&request.low);
        match entries {
            Ok(entries) => self.core.fetched(request, entries),
            Err(_) if request.low <= self.start_index => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Replaces everything by what a leader sent.
    fn install(&mut self, snapshot: &Checkpoint, hard_state: raft::eraftpb::HardState) -> Result<(), StoreError> {
        self.machine = StateMachine::decode(snapshot.machine.clone()).map_err(|error| StoreError::Io {
            location: "snapshot from the leader".into(),
            doing: "decoding",
            source: std::io::Error::other(error),
        })?;
        self.log.restart_at(snapshot, hard_state)?;
        self.start_index = snapshot.index;
        self.publish_state(snapshot)
    }

    /// Publishes where the branches begin (at `start`) and end (as applied).
    fn publish_state(&mut self, start: &Checkpoint) -> Result<(), StoreError> {
        let begin = StateMachine::decode(start.machine.clone()).map_err(|error| StoreError::Io {
            location: "log".into(),
            doing: "decoding a checkpoint",
            source: std::io::Error::other(error),
        })?;
        for (branch, state) in self.machine.branches() {
            self.published.reset(branch, state.end_lsn);
            self.metrics.durable(branch, state.end_lsn);
        }
        self.published.metadata_changed(self.machine.applied_index());
        for (branch, state) in begin.branches() {
            self.published.set_first_lsn(branch, state.end_lsn);
        }
        Ok(())
    }

    /// Removes segments that no consumer needs any more.
    fn trim(&mut self) -> Result<(), StoreError> {
        if self.config.retain_all {
            return Ok(());
        }
        let segments = self.log.set().all();
        let mut kept_bytes: u64 = segments.iter().map(|segment| segment.length_bytes()).sum();
        let mut target = None;
        // A segment that does not count yet may be forgotten, and is no place for the log to begin.
        self.trims_later = self.log.is_changing();
        let counting = segments.len() - usize::from(self.trims_later);
        for segment in &segments[..counting] {
            let head = self.log.set().head(segment)?;
            let needed_by_none =
                self.machine.branches().all(|(branch, state)| head.branch(branch).1 <= self.machine.trim_floor(state));
            if !needed_by_none || kept_bytes < self.config.retention_bytes {
                break;
            }
            if head.applied_index > self.start_index {
                target = Some(segment.clone());
            }
            kept_bytes -= segment.length_bytes();
        }
        let Some(target) = target else { return Ok(()) };
        let (_, checkpoint) = self.log.set().checkpoint(&target)?;
        // Readers are told before the files go, so that a vanished file is never a surprise.
        let begin = self.log.set().head(&target)?;
        for (branch, _) in self.machine.branches() {
            self.published.set_first_lsn(branch, begin.branch(branch).1);
        }
        self.start_index = checkpoint.index;
        self.core.compact(checkpoint.to_snapshot());
        let keep_from = self.log.set().holding_entry(checkpoint.index + 1)?;
        self.log.trim_before(keep_from)?;
        self.log.set().update_terms(|terms| terms.compact_to(checkpoint.index));
        Ok(())
    }

    /// More is committed than the followers know: unless something is appended soon, they should be told.
    pub fn owes_commit(&self) -> bool {
        self.core.owes_commit()
    }

    /// Tells them. To be followed by [`Node::run`].
    pub fn tell_commit(&mut self) {
        self.core.tell_commit();
    }

    /// Answers everybody who waits, with `error`.
    pub fn fail_pending(&mut self, error: &LogError) {
        for (_, (_, reply)) in std::mem::take(&mut self.proposals) {
            let _ = reply.send(Err(error.clone()));
        }
        self.reads.fail(error);
    }

    /// Stops in good order.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let stopped = unavailable("the log node is shutting down");
        self.fail_pending(&stopped);
        self.published.stop(stopped);
        self.log.close()
    }
}

fn checkpoint(core: &Core, machine: &StateMachine) -> Checkpoint {
    let index = machine.applied_index();
    let terms = core.index().terms();
    Checkpoint {
        index,
        term: terms.term(index).expect("an applied entry is in the log"),
        terms: terms.clone(),
        conf_state: core.index().conf_state().clone(),
        machine: machine.encode().into(),
    }
}
