//! A machine: a disk, and a log node while its process runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use logstore::client::{BranchStatus, LogError, MetadataValue};
use logstore::command::Command;
use logstore::core::CoreConfig;
use logstore::disk::Disk;
use logstore::disk::simulated::SimulatedDisk;
use logstore::driven::Driven;
use logstore::identity::raft_id;
use logstore::machine::Outcome;
use logstore::members::Members;
use logstore::node::{Node, NodeConfig, Read, SyncRequest};
use logstore::segment::{Spare, StoreError};
use logstore::transport::Transport;
use raft::eraftpb::Message;
use storage::{BranchId, Lsn};
use tokio::sync::oneshot;

use crate::clients::{Ask, Asked, Reply, Request};
use crate::pages::process::Process;

/// What waits while the disk is busy; more is lost, as in a network.
const INBOX_LIMIT: usize = 4096;

/// What reaches a machine.
pub enum Input {
    Tick,
    Message(Message),
    Request(Request),
    Unreachable(u64),
    Begin(Members),
}

/// Messages of one round, each with the number of syncs that came before it.
#[derive(Default)]
struct Outbox {
    disk: SimulatedDisk,
    messages: Vec<(Message, u64)>,
}

impl Transport for Outbox {
    fn send(&mut self, message: Message) {
        self.messages.push((message, self.disk.syncs()));
    }
}

/// What a round gave. Times are when it leaves the machine.
#[derive(Default)]
pub struct Round {
    pub messages: Vec<(u64, Message)>,
    pub replies: Vec<(u64, Reply)>,
    /// The process has ended.
    pub died: Option<String>,
}

/// An answer that the node has not given yet.
enum Waiting {
    Outcome(Pending<Outcome>),
    Value(Pending<Option<MetadataValue>>),
    Status(Pending<BranchStatus>),
    List(Pending<Vec<(String, MetadataValue)>>),
}

type Pending<T> = oneshot::Receiver<Result<T, LogError>>;

/// Sizes of a node: small ones make its files turn over quickly.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub segment_bytes: u64,
    pub max_append_bytes: usize,
    /// What the log may take of the disk.
    pub budget_bytes: u64,
}

impl Sizes {
    /// For groups of a kilobyte.
    pub const SMALL: Sizes = Sizes { segment_bytes: 16 << 10, max_append_bytes: 2 << 10, budget_bytes: u64::MAX };
    /// For batches of pages.
    pub const PAGES: Sizes = Sizes { segment_bytes: 256 << 10, max_append_bytes: 96 << 10, budget_bytes: u64::MAX };
}

/// The archiver and the clients in a log node's process. Ends with it.
pub struct Hosted {
    pub driven: Arc<Driven>,
    pub process: Arc<Process>,
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.process.end();
        self.driven.close();
    }
}

/// See the module.
pub struct Machine {
    pub id: u64,
    pub disk: SimulatedDisk,
    pub node: Option<Node>,
    /// Counts starts: what was meant for an earlier process does not reach a later one.
    pub life: u64,
    pub busy_until: u64,
    pub sync_ms: u64,
    pub sizes: Sizes,
    /// Gone for good: removed from the cluster, or left dead at the end.
    pub is_retired: bool,
    /// Why it did not start.
    pub last_failure: Option<String>,
    /// What runs in the process beside the node.
    pub hosted: Option<Hosted>,
    inbox: VecDeque<Input>,
    waiting: Vec<(u64, Waiting)>,
    /// Syncs that the node leaves to others: at most one.
    syncs: Option<Receiver<SyncRequest>>,
    syncing: Option<Syncing>,
}

/// A sync under way beside the node.
struct Syncing {
    ends: u64,
    took_ms: u64,
    request: SyncRequest,
    /// What was written before it began is durable from its begin or from its end: both are allowed, and show different mistakes.
    outcome: Option<std::io::Result<()>>,
}

fn config(raft_id: u64, election_seed: u64, sizes: Sizes) -> NodeConfig {
    let share = |of_small: u64| sizes.segment_bytes / (Sizes::SMALL.segment_bytes / of_small);
    NodeConfig {
        core: CoreConfig {
            node_id: raft_id,
            election_ticks: 10,
            heartbeat_ticks: 2,
            max_message_bytes: share(8 << 10),
            max_inflight_messages: 16,
            max_uncommitted_bytes: 4 * sizes.segment_bytes,
            max_committed_bytes_per_ready: share(8 << 10),
            election_seed,
        },
        voters: Vec::new(),
        segment_bytes: sizes.segment_bytes,
        checkpoint_every_bytes: share(4 << 10),
        max_append_bytes: sizes.max_append_bytes,
        recent_bytes: share(4 << 10) as usize,
        retain_all: false,
        retention_bytes: 0,
        budget_bytes: sizes.budget_bytes,
        slow_write_ms: 60,
    }
}

impl Machine {
    pub fn new(id: u64, sync_ms: u64, sizes: Sizes) -> Machine {
        Machine {
            id,
            disk: SimulatedDisk::new(),
            node: None,
            life: 0,
            busy_until: 0,
            sync_ms,
            sizes,
            is_retired: false,
            last_failure: None,
            hosted: None,
            inbox: VecDeque::new(),
            waiting: Vec::new(),
            syncs: None,
            syncing: None,
        }
    }

    /// Starts the process on what the disk holds.
    pub fn start(&mut self, now: u64, incarnation: u64, election_seed: u64) -> Result<Round, StoreError> {
        assert!(self.node.is_none(), "machine {} runs already", self.id);
        self.life += 1;
        self.busy_until = now;
        let mut outbox = Outbox { disk: self.disk.clone(), messages: Vec::new() };
        let syncs = self.disk.syncs();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let spare = Spare::new(disk.clone(), self.sizes.segment_bytes, false);
        let config = config(raft_id(self.id, incarnation), election_seed, self.sizes);
        let mut node = Node::open(config, disk, spare, &mut outbox)?;
        let (requests, to_sync) = sync_channel(1);
        node.set_syncer(requests);
        (self.node, self.syncs) = (Some(node), Some(to_sync));
        Ok(self.finish(now, syncs, outbox, None))
    }

    /// The process ends at once, whatever it was doing.
    pub fn stop(&mut self) {
        (self.node, self.hosted) = (None, None);
        self.inbox.clear();
        self.waiting.clear();
        (self.syncs, self.syncing) = (None, None);
    }

    /// Takes what arrives; it is worked on when the disk is free. True if the machine is to be woken now.
    pub fn receive(&mut self, now: u64, input: Input) -> bool {
        if self.node.is_none() || (self.busy_until > now && matches!(input, Input::Tick)) {
            return false;
        }
        if self.inbox.len() < INBOX_LIMIT {
            self.inbox.push_back(input);
        }
        self.busy_until <= now
    }

    pub fn has_work(&self, now: u64) -> bool {
        let hosted = self.hosted.as_ref().is_some_and(|hosted| hosted.driven.waits());
        hosted || !self.inbox.is_empty() || self.sync_ends().is_some_and(|ends| ends <= now)
    }

    /// When the sync that is under way ends.
    pub fn sync_ends(&self) -> Option<u64> {
        self.syncing.as_ref().map(|syncing| syncing.ends)
    }

    /// One round, as the store's thread does it: take what waits, write once, answer.
    pub fn work(&mut self, now: u64) -> Round {
        let Some(node) = &mut self.node else { return Round::default() };
        let done = self.syncing.take_if(|syncing| syncing.ends <= now).map(|done| {
            let outcome = done.outcome.unwrap_or_else(|| done.request.unsynced.sync());
            (done.request, outcome, done.took_ms)
        });
        let mut outbox = Outbox { disk: self.disk.clone(), messages: Vec::new() };
        let syncs = self.disk.syncs();
        let mut failure = None;
        if let Some((request, outcome, took_ms)) = done {
            failure = node.synced(&request, outcome, took_ms * 1000, &mut outbox).err().map(|error| error.to_string());
        }
        let inputs = if failure.is_none() { std::mem::take(&mut self.inbox) } else { VecDeque::new() };
        for input in inputs {
            let worked = match input {
                Input::Tick => node.tick(),
                Input::Message(message) => {
                    node.step(message);
                    Ok(())
                }
                Input::Unreachable(raft_id) => {
                    node.report_unreachable(raft_id);
                    Ok(())
                }
                Input::Begin(members) => node.bootstrap(members, &mut outbox).map(|_| ()),
                Input::Request(request) => {
                    take_request(node, self.hosted.as_ref(), &mut self.waiting, request);
                    Ok(())
                }
            };
            if let Err(error) = worked {
                failure = Some(error.to_string());
                break;
            }
        }
        if let Some(Hosted { driven, process }) = self.hosted.as_ref().filter(|_| failure.is_none())
            && !driven.serve(node, |_| process.step())
        {
            failure = Some("simulated: the process ends before a step".to_owned());
        }
        if failure.is_none() {
            let own_syncs = node.syncs();
            failure = node.run(&mut outbox).err().map(|error| error.to_string());
            if failure.is_none() && node.syncs() > own_syncs {
                node.synced_in((self.disk.syncs() - syncs) * self.sync_ms * 1000);
            }
        }
        let round = self.finish(now, syncs, outbox, failure);
        if let Some(request) = self.syncs.as_ref().and_then(|syncs| syncs.try_recv().ok()) {
            assert!(self.syncing.is_none(), "one sync at a time");
            let at_once = self.disk.syncs().is_multiple_of(2);
            let outcome = at_once.then(|| request.unsynced.sync());
            let took_ms = self.sync_ms;
            self.syncing = Some(Syncing { ends: self.busy_until + took_ms, took_ms, request, outcome });
        }
        round
    }

    fn finish(&mut self, now: u64, syncs: u64, outbox: Outbox, died: Option<String>) -> Round {
        let spent = |count: u64| (count - syncs) * self.sync_ms;
        self.busy_until = now + spent(self.disk.syncs());
        let messages = outbox.messages.into_iter().map(|(message, synced)| (now + spent(synced), message)).collect();
        let mut round = Round { messages, replies: Vec::new(), died };
        if round.died.is_some() {
            self.stop();
            return round;
        }
        let answered = self.busy_until;
        self.waiting.retain_mut(|(request, waiting)| {
            let reply = match waiting {
                Waiting::Outcome(outcome) => outcome.try_recv().map(|outcome| outcome.map(Asked::Outcome)),
                Waiting::Value(value) => value.try_recv().map(|value| value.map(Asked::Value)),
                Waiting::Status(status) => status.try_recv().map(|status| status.map(Asked::Status)),
                Waiting::List(list) => list.try_recv().map(|list| list.map(Asked::List)),
            };
            match reply {
                Ok(outcome) => {
                    round.replies.push((answered, Reply { request: *request, outcome }));
                    false
                }
                Err(oneshot::error::TryRecvError::Empty) => true,
                Err(oneshot::error::TryRecvError::Closed) => false,
            }
        });
        round
    }

    /// Everything that this node's files hold of a branch from `from` to its applied end.
    pub fn read(&self, branch: BranchId, from: Lsn) -> Vec<(Lsn, u64, Bytes)> {
        // A disk that stops now is noticed by the next write.
        let Some(node) = self.node.as_ref().filter(|_| !self.disk.crashed()) else { return Vec::new() };
        let end = node.machine().branch(branch).map_or(Lsn::ZERO, |state| state.end_lsn);
        let mut chunks = Vec::new();
        if from < end {
            let cursor = logstore::segment::BranchCursor::new(node.segments(), branch, from);
            let mut cursor = cursor.unwrap_or_else(|error| panic!("node {}: {error}", self.id));
            while cursor.position() < end {
                let chunk = cursor.next_chunk().unwrap_or_else(|error| panic!("node {}: {error}", self.id));
                chunks.push((chunk.start_lsn, chunk.epoch.0, chunk.bytes));
            }
        }
        chunks
    }
}

fn take_request(node: &mut Node, hosted: Option<&Hosted>, waiting: &mut Vec<(u64, Waiting)>, request: Request) {
    let Request { id, ask } = request;
    let answer = match ask {
        Ask::Command(command) => {
            let (reply, outcome) = oneshot::channel();
            node.propose(&command, reply);
            Waiting::Outcome(outcome)
        }
        Ask::Get(key) => {
            let (reply, value) = oneshot::channel();
            node.read(Read::Get(key, reply));
            Waiting::Value(value)
        }
        Ask::Status(branch) => {
            let (reply, status) = oneshot::channel();
            match hosted {
                None => node.read(Read::Status(branch, reply)),
                // With an archive, more can be read than the node holds.
                Some(Hosted { driven, process }) => {
                    let client = driven.client();
                    // Who asked may have given up.
                    process.spawn(async move { drop(reply.send(client.status(branch).await)) });
                }
            }
            Waiting::Status(status)
        }
        Ask::List(prefix) => {
            let (reply, list) = oneshot::channel();
            node.read(Read::List(prefix, reply));
            Waiting::List(list)
        }
    };
    waiting.push((id, answer));
}

/// For the admin's orders, whose outcome shows in the members.
pub fn order(node: &mut Node, command: &Command) {
    let (reply, _) = oneshot::channel();
    node.propose(command, reply);
}
