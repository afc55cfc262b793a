//! Writers, as computes are: they take an epoch and append groups, several under way; they follow the leader and repeat
//! what was not answered. Two of them compete for a branch, so that one fences the other again and again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use logstore::client::{BranchStatus, LogError, MetadataValue};
use logstore::command::Command;
use logstore::machine::Outcome;
use storage::{BranchId, Epoch, Lsn};

use crate::checks::History;
use crate::pages::tables::Tables;
use crate::pages::workload::PageWorkload;
use crate::random::Random;

/// What a client asks of a node.
#[derive(Clone)]
pub struct Request {
    pub id: u64,
    pub ask: Ask,
}

/// What it is.
#[derive(Clone)]
pub enum Ask {
    Command(Command),
    Get(String),
    Status(BranchId),
    List(String),
}

/// What a node says.
pub struct Reply {
    pub request: u64,
    pub outcome: Result<Asked, LogError>,
}

/// An answer.
pub enum Asked {
    Outcome(Outcome),
    Value(Option<MetadataValue>),
    Status(BranchStatus),
    List(Vec<(String, MetadataValue)>),
}

const PIPELINE: usize = 4;
const TIMEOUT_MS: u64 = 400;

struct Group {
    bytes: Bytes,
    request: u64,
    sent_at: u64,
    /// An earlier sending may have got in.
    may_be_in: bool,
}

/// What a writer writes.
enum Source {
    /// Bytes without a meaning.
    Noise,
    /// Batches that change pages. They begin with the pages as they are where the epoch begins, which is looked up first.
    Pages { workload: Option<Batches>, pieces: VecDeque<Bytes> },
}

/// What makes batches.
pub enum Batches {
    Random(PageWorkload),
    Tables(Tables),
}

impl Batches {
    fn group(&mut self, now: u64, random: &mut Random) -> Vec<Bytes> {
        match self {
            Batches::Random(workload) => workload.group(now, random),
            Batches::Tables(tables) => tables.group(now, random),
        }
    }
}

/// See the module.
pub struct Writer {
    pub branch: BranchId,
    /// The node that it believes to lead.
    pub target: u64,
    epoch: Option<Epoch>,
    /// Request and time of an epoch that was asked for.
    asking: Option<(u64, u64)>,
    groups: BTreeMap<Lsn, Group>,
    next: Lsn,
    pub acknowledged: Lsn,
    rests_until: u64,
    /// Appends of this writer that were acknowledged.
    pub successes: u64,
    source: Source,
    /// Writes nothing more.
    pub is_retired: bool,
}

/// Content as a function of position and epoch, so that a byte that was never sent there is noticed.
pub fn content(branch: BranchId, start: Lsn, length: usize, epoch: u64) -> Bytes {
    let mut random = Random::new(start.0 ^ (epoch << 40) ^ (branch.0 << 56));
    (0..length).map(|_| random.next_u64() as u8).collect::<Vec<u8>>().into()
}

impl Writer {
    pub fn new(branch: BranchId, target: u64) -> Writer {
        Writer {
            branch,
            target,
            epoch: None,
            asking: None,
            groups: BTreeMap::new(),
            next: Lsn::ZERO,
            acknowledged: Lsn::ZERO,
            rests_until: 0,
            successes: 0,
            source: Source::Noise,
            is_retired: false,
        }
    }

    /// Of batches that change pages.
    pub fn of_pages(branch: BranchId, target: u64) -> Writer {
        let source = Source::Pages { workload: None, pieces: VecDeque::new() };
        Writer { source, ..Writer::new(branch, target) }
    }

    /// Where this writer's epoch begins, if it waits for the pages as of there.
    pub fn waits_for_pages(&self) -> Option<Lsn> {
        match &self.source {
            Source::Pages { workload: None, .. } if self.epoch.is_some() => Some(self.next),
            _ => None,
        }
    }

    /// Begins to write with these pages.
    pub fn begin_pages(&mut self, begun: Batches) {
        if let Source::Pages { workload, pieces } = &mut self.source {
            *workload = Some(begun);
            pieces.clear();
        }
    }

    /// What comes next in the stream; `None` while that is not known.
    fn next_group(&mut self, now: u64, epoch: Epoch, random: &mut Random) -> Option<Bytes> {
        match &mut self.source {
            Source::Noise => {
                let length = random.between(1, 1200) as usize;
                Some(content(self.branch, self.next, length, epoch.0))
            }
            Source::Pages { workload, pieces } => {
                let workload = workload.as_mut()?;
                if pieces.is_empty() {
                    pieces.extend(workload.group(now, random));
                }
                pieces.pop_front()
            }
        }
    }

    /// What it does now; each request goes to `target`.
    pub fn step(
        &mut self,
        now: u64,
        random: &mut Random,
        nodes: &[u64],
        next_request: &mut u64,
        history: &mut History,
    ) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut new_request = || {
            *next_request += 1;
            *next_request
        };
        if now < self.rests_until || self.is_retired {
            return requests;
        }
        let Some(epoch) = self.epoch else {
            if self.asking.is_none_or(|(_, asked_at)| now >= asked_at + TIMEOUT_MS) {
                if self.asking.is_some() {
                    self.target = random.one_of(nodes).unwrap_or(self.target);
                }
                let id = new_request();
                self.asking = Some((id, now));
                let ask = Ask::Command(Command::AcquireEpoch { branch: self.branch });
                requests.push(Request { id, ask });
            }
            return requests;
        };
        let silent = self.groups.values().any(|group| now >= group.sent_at + TIMEOUT_MS);
        if silent {
            self.target = random.one_of(nodes).unwrap_or(self.target);
        }
        for (&start, group) in &mut self.groups {
            if now >= group.sent_at + TIMEOUT_MS {
                group.may_be_in = true;
                (group.request, group.sent_at) = (new_request(), now);
                let (branch, bytes) = (self.branch, group.bytes.clone());
                let ask = Ask::Command(Command::Append { branch, epoch, start_lsn: start, bytes });
                requests.push(Request { id: group.request, ask });
            }
        }
        while self.groups.len() < PIPELINE && random.percent(60) {
            let Some(bytes) = self.next_group(now, epoch, random) else { break };
            let (start, request) = (self.next, new_request());
            history.sent(self.branch, start, epoch, bytes.clone());
            self.groups.insert(start, Group { bytes: bytes.clone(), request, sent_at: now, may_be_in: false });
            self.next = start.advance(bytes.len() as u64);
            let ask = Ask::Command(Command::Append { branch: self.branch, epoch, start_lsn: start, bytes });
            requests.push(Request { id: request, ask });
        }
        requests
    }

    /// Takes an answer.
    pub fn answered(&mut self, now: u64, reply: Reply, random: &mut Random, nodes: &[u64], history: &mut History) {
        if self.asking.is_some_and(|(request, _)| request == reply.request) {
            match reply.outcome {
                Ok(Asked::Outcome(Outcome::Granted(grant))) => {
                    history.granted(self.branch, grant.epoch, grant.end_lsn);
                    self.asking = None;
                    self.epoch = Some(grant.epoch);
                    (self.next, self.acknowledged) = (grant.end_lsn, grant.end_lsn);
                    if let Source::Pages { workload, pieces } = &mut self.source {
                        *workload = None;
                        pieces.clear();
                    }
                }
                Ok(_) => panic!("an epoch was asked for, something else was answered"),
                Err(error) => {
                    self.redirect(&error, random, nodes);
                    self.asking = Some((0, now.saturating_sub(TIMEOUT_MS - 50)));
                }
            }
            return;
        }
        let Some((&start, group)) = self.groups.iter_mut().find(|(_, group)| group.request == reply.request) else {
            return;
        };
        let epoch = self.epoch.expect("groups have an epoch");
        let end = start.advance(group.bytes.len() as u64);
        // Soon again, unless it is in.
        let again = now.saturating_sub(TIMEOUT_MS - 30);
        let in_log = match reply.outcome {
            Ok(Asked::Outcome(Outcome::Appended { end_lsn })) => {
                assert_eq!(end_lsn, end, "an append's answer is where its group ends");
                true
            }
            Ok(_) => panic!("an append was answered by something else"),
            Err(LogError::Gap { end_lsn, .. }) if end_lsn >= end => {
                assert!(group.may_be_in, "{end_lsn} lies past {end}, which was sent once under epoch {epoch}");
                true
            }
            Err(LogError::Gap { end_lsn, .. }) => {
                assert!(end_lsn <= start, "the stream ends at {end_lsn}, inside the group {start}..{end}");
                group.sent_at = again;
                // It was refused, and is not in: but repeating it makes that uncertain again anyway.
                false
            }
            Err(LogError::Fenced { .. }) => {
                self.epoch = None;
                self.groups.clear();
                self.rests_until = now + random.between(500, 8_000);
                return;
            }
            Err(error) => {
                group.sent_at = again;
                self.redirect(&error, random, nodes);
                false
            }
        };
        if in_log {
            let length = self.groups.remove(&start).expect("just found").bytes.len();
            history.acknowledged(self.branch, epoch, start, length);
            self.acknowledged = self.acknowledged.max(end);
            self.successes += 1;
        }
    }

    fn redirect(&mut self, error: &LogError, random: &mut Random, nodes: &[u64]) {
        self.target = match error {
            LogError::NotLeader { leader: Some(leader) } => leader.parse().expect("addresses here are node numbers"),
            _ => random.one_of(nodes).unwrap_or(self.target),
        };
    }
}
