//! Reads as of now: each waits until a majority has confirmed that this node still leads, and until what was committed when it
//! was asked is applied.

use std::collections::BTreeMap;

use storage::{BranchId, Lsn};
use tokio::sync::oneshot;

use super::{ClusterView, Node};
use crate::client::{BranchStatus, LogError, MetadataSnapshot, MetadataValue};

/// A read, linearizable unless it says otherwise, and where its answer goes.
pub enum Read {
    /// State of a branch.
    Status(BranchId, oneshot::Sender<Result<BranchStatus, LogError>>),
    /// A metadata key.
    Get(String, oneshot::Sender<Result<Option<MetadataValue>, LogError>>),
    /// Metadata keys with a prefix.
    List(String, oneshot::Sender<Result<Vec<(String, MetadataValue)>, LogError>>),
    /// Who reads a branch, and how far each has got. Not linearizable: answered at once, by any node.
    Consumers(BranchId, oneshot::Sender<Result<BTreeMap<String, Lsn>, LogError>>),
    /// Not linearizable: answered at once, by any node.
    View(oneshot::Sender<Result<ClusterView, LogError>>),
    /// Metadata keys with a prefix as this node has applied them. Not linearizable: answered at once, by any node.
    Snapshot(String, oneshot::Sender<Result<MetadataSnapshot, LogError>>),
}

impl Read {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Read::Status(_, reply) => reply.is_closed(),
            Read::Get(_, reply) => reply.is_closed(),
            Read::List(_, reply) => reply.is_closed(),
            Read::Consumers(_, reply) => reply.is_closed(),
            Read::View(reply) => reply.is_closed(),
            Read::Snapshot(_, reply) => reply.is_closed(),
        }
    }

    fn fail(self, error: LogError) {
        // A reader that has gone away needs no answer; so below.
        match self {
            Read::Status(_, reply) => drop(reply.send(Err(error))),
            Read::Get(_, reply) => drop(reply.send(Err(error))),
            Read::List(_, reply) => drop(reply.send(Err(error))),
            Read::Consumers(_, reply) => drop(reply.send(Err(error))),
            Read::View(reply) => drop(reply.send(Err(error))),
            Read::Snapshot(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// A read that waits.
struct Waiting {
    read: Read,
    /// At which tick Raft was asked last. `None`: not yet, as it would drop the question.
    asked: Option<u64>,
}

/// The reads that wait. Their number is bounded by the callers', who each wait for one.
#[derive(Default)]
pub(super) struct Reads {
    waiting: BTreeMap<u64, Waiting>,
    /// Those of which Raft was not asked yet.
    unasked: Vec<u64>,
    /// Index that must be applied, and read, of those that were confirmed.
    confirmed: Vec<(u64, u64)>,
    next: u64,
    ticks: u64,
}

impl Reads {
    pub(super) fn fail(&mut self, error: &LogError) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            waiting.read.fail(error.clone());
        }
        self.unasked.clear();
        self.confirmed.clear();
    }
}

/// What comes back when a question is confirmed. Each question about a read has its own, and the answer to any of them will do: all were
/// asked after the read had come.
fn context(id: u64, tick: u64) -> Vec<u8> {
    [id.to_le_bytes(), tick.to_le_bytes()].concat()
}

fn read_of(context: &[u8]) -> Option<u64> {
    context.first_chunk().map(|id| u64::from_le_bytes(*id))
}

impl Node {
    /// Answers a read as of now, once a majority has confirmed that this node still leads.
    pub fn read(&mut self, read: Read) {
        let read = match read {
            Read::View(reply) => return drop(reply.send(Ok(self.view()))),
            Read::Consumers(branch, reply) => {
                let consumers = self.machine.branch(branch).map(|state| state.consumers.clone());
                return drop(reply.send(Ok(consumers.unwrap_or_default())));
            }
            Read::Snapshot(prefix, reply) => {
                let values = self.list(&prefix);
                let snapshot = MetadataSnapshot { index: self.machine.applied_index(), values };
                return drop(reply.send(Ok(snapshot)));
            }
            read => read,
        };
        if !self.core.is_leader() {
            return read.fail(self.not_leader());
        }
        let id = self.reads.next;
        self.reads.next += 1;
        self.reads.waiting.insert(id, Waiting { read, asked: None });
        self.reads.unasked.push(id);
    }

    /// Asks for what nobody was asked for. Before a leader has committed something in its term, Raft drops questions silently.
    pub(super) fn ask_for_reads(&mut self) {
        if self.reads.unasked.is_empty() || !self.core.has_committed_in_term() {
            return;
        }
        let tick = self.reads.ticks;
        for id in std::mem::take(&mut self.reads.unasked) {
            if let Some(waiting) = self.reads.waiting.get_mut(&id) {
                waiting.asked = Some(tick);
                self.core.read_index(context(id, tick));
            }
        }
    }

    /// Time passes for the leader. Raft repeats its newest question with each heartbeat, and a majority's answer to one answers those
    /// before it. So asking again is for what got lost on an unlikely way, such as a member's removal that left one node, and must
    /// not be what an answer that takes longer than a tick is lost by.
    pub(super) fn ask_again(&mut self) {
        self.reads.ticks += 1;
        let reads = &mut self.reads;
        let long_ago = reads.ticks.saturating_sub(self.config.core.election_ticks as u64);
        reads.waiting.retain(|_, waiting| !waiting.read.is_abandoned());
        for (&id, waiting) in &mut reads.waiting {
            let is_confirmed = || reads.confirmed.iter().any(|(_, confirmed)| *confirmed == id);
            if waiting.asked.is_some_and(|asked| asked <= long_ago) && !is_confirmed() {
                waiting.asked = None;
                reads.unasked.push(id);
            }
        }
    }

    /// A majority has confirmed that this node led when it asked.
    pub(super) fn reads_confirmed(&mut self, confirmed: Vec<(Vec<u8>, u64)>) {
        let ids = confirmed.into_iter().filter_map(|(context, index)| Some((index, read_of(&context)?)));
        self.reads.confirmed.extend(ids);
    }

    pub(super) fn answer_reads(&mut self) {
        let applied = self.machine.applied_index();
        let ready: Vec<u64> =
            self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied).map(|(_, id)| id).collect();
        for id in ready {
            match self.reads.waiting.remove(&id).map(|waiting| waiting.read) {
                Some(Read::Status(branch, reply)) => drop(reply.send(Ok(self.status(branch)))),
                Some(Read::Get(key, reply)) => drop(reply.send(Ok(self.machine.metadata(&key).cloned()))),
                Some(Read::List(prefix, reply)) => {
                    let found = self.list(&prefix);
                    drop(reply.send(Ok(found)));
                }
                // Answered by an earlier question.
                Some(Read::View(_) | Read::Snapshot(..) | Read::Consumers(..)) | None => {}
            }
        }
    }

    fn list(&self, prefix: &str) -> Vec<(String, MetadataValue)> {
        let found = self.machine.metadata_with_prefix(prefix);
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn status(&self, branch: BranchId) -> BranchStatus {
        let first_lsn = self.published.branch(branch).first_lsn();
        match self.machine.branch(branch) {
            Some(state) => BranchStatus {
                epoch: state.epoch,
                first_lsn,
                durable_lsn: state.end_lsn,
                consumers: state.consumers.iter().map(|(name, position)| (name.clone(), *position)).collect(),
            },
            None => {
                BranchStatus { epoch: Default::default(), first_lsn, durable_lsn: Lsn::ZERO, consumers: Vec::new() }
            }
        }
    }
}
