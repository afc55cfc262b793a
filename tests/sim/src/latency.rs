//! How long commits take when one of three disks is slow (FAULTS 7), in simulated time. No other faults.

use std::collections::BTreeMap;

use bytes::Bytes;
use logstore::client::LogError;
use logstore::command::Command;
use logstore::identity::node_id;
use logstore::machine::Outcome;
use logstore::members::{Member, Members};
use raft::eraftpb::Message;
use storage::{BranchId, Epoch, Lsn};

use crate::clients::{Ask, Asked, Reply, Request};
use crate::machine::{Input, Machine, Round, Sizes};

const BRANCH: BranchId = BranchId(1);
/// One way.
const NETWORK_MS: u64 = 1;
const HEALTHY_SYNC_MS: u64 = 2;
/// As in a cluster of this size in reality, completing a segment is rare.
const SIZES: Sizes = Sizes { segment_bytes: 4 << 20, ..Sizes::SMALL };
const TIMEOUT_MS: u64 = 300;
const TICK_MS: u64 = 20;

enum Event {
    Tick(u64),
    Wake(u64),
    Message(Message),
    Ask(u64, Request),
    Reply(Reply),
    Timeout(u64),
}

/// Three machines and a client that sends one append after another.
struct Cluster {
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    machines: BTreeMap<u64, Machine>,
    target: u64,
    epoch: Option<Epoch>,
    end: Lsn,
    request: u64,
    sent_at: u64,
    latencies_ms: Vec<u64>,
}

impl Cluster {
    fn start() -> Cluster {
        let mut cluster = Cluster {
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            machines: BTreeMap::new(),
            target: 1,
            epoch: None,
            end: Lsn::ZERO,
            request: 0,
            sent_at: 0,
            latencies_ms: Vec::new(),
        };
        let mut nodes = BTreeMap::new();
        for id in 1..=3 {
            let mut machine = Machine::new(id, HEALTHY_SYNC_MS, SIZES);
            let round = machine.start(0, id, id).expect("an empty disk");
            let raft_id = machine.node.as_ref().expect("it runs").raft_id();
            nodes.insert(id, Member { raft_id, address: id.to_string() });
            cluster.machines.insert(id, machine);
            cluster.after_round(id, round);
            cluster.at(id, Event::Tick(id));
        }
        cluster.give(1, Input::Begin(Members::new("latency".to_owned(), nodes)));
        cluster.ask();
        cluster
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time.max(self.now), self.sequence), event);
    }

    fn give(&mut self, id: u64, input: Input) {
        let (now, machine) = (self.now, self.machines.get_mut(&id).expect("it exists"));
        if machine.receive(now, input) {
            self.work(id);
        }
    }

    fn work(&mut self, id: u64) {
        let round = self.machines.get_mut(&id).expect("it exists").work(self.now);
        self.after_round(id, round);
    }

    fn after_round(&mut self, id: u64, round: Round) {
        assert_eq!(round.died, None, "node {id}");
        for (time, message) in round.messages {
            self.at(time + NETWORK_MS, Event::Message(message));
        }
        for (time, reply) in round.replies {
            self.at(time + NETWORK_MS, Event::Reply(reply));
        }
        let machine = &self.machines[&id];
        let (now, wakes) = (self.now, [Some(machine.busy_until), machine.sync_ends()]);
        for wake in wakes.into_iter().flatten().filter(|wake| *wake > now) {
            self.at(wake, Event::Wake(id));
        }
    }

    fn ask(&mut self) {
        self.request += 1;
        let command = match self.epoch {
            None => Command::AcquireEpoch { branch: BRANCH },
            Some(epoch) => {
                let bytes = Bytes::from(vec![7; 300]);
                Command::Append { branch: BRANCH, epoch, start_lsn: self.end, bytes }
            }
        };
        let request = Request { id: self.request, ask: Ask::Command(command) };
        self.at(self.now + NETWORK_MS, Event::Ask(self.target, request));
        self.at(self.now + TIMEOUT_MS, Event::Timeout(self.request));
    }

    fn next(&mut self) {
        self.sent_at = self.now;
        self.ask();
    }

    fn ask_another(&mut self, leader: Option<u64>) {
        self.target = leader.unwrap_or(self.target % 3 + 1);
        self.ask();
    }

    fn answered(&mut self, reply: Reply) {
        if reply.request != self.request {
            return;
        }
        match reply.outcome {
            Ok(Asked::Outcome(Outcome::Granted(grant))) => {
                (self.epoch, self.end) = (Some(grant.epoch), grant.end_lsn);
                self.next();
            }
            // A repetition of what is in is answered by where the stream ends.
            Ok(Asked::Outcome(Outcome::Appended { end_lsn })) | Err(LogError::Gap { end_lsn, .. }) => {
                assert_eq!(end_lsn, self.end.advance(300));
                self.end = end_lsn;
                self.latencies_ms.push(self.now - self.sent_at);
                self.next();
            }
            Err(LogError::NotLeader { leader }) => {
                let leader = leader.map(|leader| leader.parse().expect("addresses here are node numbers"));
                self.ask_another(leader);
            }
            Err(_) => self.ask_another(None),
            Ok(_) => panic!("an append was answered by something else"),
        }
    }

    fn step(&mut self) {
        let ((time, _), event) = self.events.pop_first().expect("ticks go on");
        self.now = time;
        match event {
            Event::Tick(id) => {
                self.give(id, Input::Tick);
                self.at(self.now + TICK_MS, Event::Tick(id));
            }
            Event::Wake(id) => {
                let machine = &self.machines[&id];
                if machine.busy_until <= self.now && machine.has_work(self.now) {
                    self.work(id);
                }
            }
            Event::Message(message) => self.give(node_id(message.to), Input::Message(message)),
            Event::Ask(id, request) => self.give(id, Input::Request(request)),
            Event::Reply(reply) => self.answered(reply),
            Event::Timeout(request) => {
                if request == self.request {
                    self.ask_another(None);
                }
            }
        }
    }

    fn leader(&self) -> u64 {
        let leads = |machine: &&Machine| machine.node.as_ref().is_some_and(|node| node.is_leader());
        self.machines.values().find(leads).expect("a leader").id
    }

    /// Median and 99th percentile of so many appends from now on.
    fn measure(&mut self, appends: usize) -> (u64, u64) {
        self.latencies_ms.clear();
        while self.latencies_ms.len() < appends {
            assert!(self.now < 3_600_000, "{} appends in an hour", self.latencies_ms.len());
            self.step();
        }
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_unstable();
        (sorted[sorted.len() / 2], sorted[(sorted.len() - 1) * 99 / 100])
    }
}

/// A case: the slow disk is the leader's or a follower's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// The leader's.
    Leader,
    /// A follower's.
    Follower,
}

/// Median and 99th percentile in milliseconds: healthy, and with one disk that much slower.
pub fn with_a_slow_disk(slow: Slow, factor: u64) -> [(u64, u64); 2] {
    let mut cluster = Cluster::start();
    cluster.measure(100);
    let healthy = cluster.measure(2_000);
    let leader = cluster.leader();
    let id = if slow == Slow::Leader { leader } else { leader % 3 + 1 };
    cluster.machines.get_mut(&id).expect("it exists").sync_ms = HEALTHY_SYNC_MS * factor;
    let degraded = cluster.measure(2_000);
    [healthy, degraded]
}
