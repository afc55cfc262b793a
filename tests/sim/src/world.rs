//! The run: one queue of events in order of time, and what each does.

use std::collections::{BTreeMap, BTreeSet};

use logstore::command::Command;
use logstore::identity::node_id;
use logstore::joining::{Admission, Entrance, PeerAnswer, admit, enter};
use logstore::members::Member;
use logstore::node::ClusterView;
use protobuf::Message as _;
use raft::eraftpb::Message;
use storage::{BranchId, Lsn};

use crate::checks::{History, hash};
use crate::clients::{Reply, Request, Writer};
use crate::faults::{Fault, Links, enabled};
use crate::machine::{Input, Machine, Round, TICK_MS, order};
use crate::options::Options;
use crate::random::Random;
use crate::register::{Register, Swapper};

const BRANCHES: [BranchId; 2] = [BranchId(1), BranchId(2)];
const CLUSTER: &str = "simulated";
const JOIN_EVERY_MS: u64 = 200;
const CLIENT_EVERY_MS: u64 = 15;
const OBSERVE_EVERY_MS: u64 = 250;
/// How long a healed cluster may take.
const RECOVERY_MS: u64 = 60_000;
const MOST_NODES: usize = 6;

enum Event {
    Tick { machine: u64, life: u64 },
    Wake { machine: u64, life: u64 },
    Message(Message),
    Ask { machine: u64, request: Request },
    Reply { client: usize, reply: Reply },
    Join { machine: u64, life: u64 },
    Start { machine: u64, life: u64 },
    Client(usize),
    Observe,
    Fault,
    Heal,
    DiskRecovers { machine: u64 },
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Hash over all events in their order.
    pub trace: u64,
    pub events: u64,
    /// Appends acknowledged to their writers.
    pub acknowledged: u64,
    pub register_operations: u64,
    pub faults: BTreeMap<String, u64>,
}

struct World {
    options: Options,
    faults: Vec<Fault>,
    random: Random,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    machines: BTreeMap<u64, Machine>,
    /// The nodes that begin the cluster, by number; an address here is the number.
    first: BTreeMap<u64, String>,
    /// Nodes whose removal was ordered.
    leaving: BTreeSet<u64>,
    links: Links,
    writers: Vec<Writer>,
    swappers: Vec<Swapper>,
    requests: BTreeMap<u64, usize>,
    /// When the last request on each client's stream to a node arrives: streams keep their order.
    streams: BTreeMap<(usize, u64), u64>,
    next_request: u64,
    history: History,
    register: Register,
    observed: BTreeMap<(u64, BranchId), Lsn>,
    faulty: bool,
    /// A disk was wiped, and the cluster was not seen whole since.
    wiped: bool,
    trace: u64,
    handled: u64,
    counts: BTreeMap<String, u64>,
}

/// Runs one seed. Panics when a check fails.
pub fn run(seed: u64) -> Report {
    let mut random = Random::new(seed);
    let options = Options::draw(&mut random);
    let first: BTreeMap<u64, String> = (1..=options.nodes).map(|id| (id, id.to_string())).collect();
    let writers = (0..4).map(|client: usize| Writer::new(BRANCHES[client % 2], 1)).collect();
    let mut world = World {
        faults: enabled(&options),
        random,
        now: 0,
        sequence: 0,
        events: BTreeMap::new(),
        machines: BTreeMap::new(),
        first,
        leaving: BTreeSet::new(),
        links: Links::default(),
        writers,
        swappers: (4..6).map(|_| Swapper::new(1)).collect(),
        requests: BTreeMap::new(),
        streams: BTreeMap::new(),
        next_request: 0,
        history: History::default(),
        register: Register::default(),
        observed: BTreeMap::new(),
        faulty: true,
        wiped: false,
        trace: 0,
        handled: 0,
        counts: BTreeMap::new(),
        options,
    };
    world.begin();
    world.run_until(world.options.faulty_ms);
    world.recover();
    world.finish()
}

impl World {
    fn begin(&mut self) {
        for id in self.first.keys().copied().collect::<Vec<_>>() {
            self.machines.insert(id, Machine::new(id, self.options.sync_ms));
            let delay = self.random.below(300);
            self.after(delay, Event::Start { machine: id, life: 0 });
        }
        for client in 0..6 {
            // Rivals come later.
            let begin = if (2..4).contains(&client) { self.random.between(1_000, 6_000) } else { 10 };
            self.after(begin, Event::Client(client));
        }
        self.after(OBSERVE_EVERY_MS, Event::Observe);
        if !self.faults.is_empty() {
            self.after(self.options.fault_every_ms, Event::Fault);
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.after(time.saturating_sub(self.now), event);
    }

    fn note(&mut self, what: &str, values: &[u64]) {
        let mut trace = hash(self.trace, what.as_bytes());
        for value in values.iter().chain([&self.now]) {
            trace = hash(trace, &value.to_le_bytes());
        }
        self.trace = trace;
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.handled += 1;
            self.handle(event);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick { machine, life } => {
                if self.life(machine) == Some(life) {
                    self.deliver(machine, Input::Tick);
                    self.after(TICK_MS, Event::Tick { machine, life });
                }
            }
            Event::Wake { machine, life } => {
                let ready = |machine: &Machine| machine.busy_until <= self.now && machine.has_work(self.now);
                if self.life(machine) == Some(life) && ready(&self.machines[&machine]) {
                    self.work(machine);
                }
            }
            Event::Message(message) => {
                let machine = node_id(message.to);
                self.note("message", &[message.from, message.to, message.term, message.index, message.msg_type as u64]);
                let bytes = message.write_to_bytes().expect("serializing to memory cannot fail");
                self.trace = hash(self.trace, &bytes);
                self.deliver(machine, Input::Message(message));
            }
            Event::Ask { machine, request } => {
                self.note("ask", &[machine, request.id]);
                self.deliver(machine, Input::Request(request));
            }
            Event::Reply { client, reply } => self.reply(client, reply),
            Event::Join { machine, life } => {
                if self.life(machine) == Some(life) {
                    self.join(machine);
                    self.after(JOIN_EVERY_MS, Event::Join { machine, life });
                }
            }
            Event::Start { machine, life } => self.start(machine, life),
            Event::Client(client) => self.client(client),
            Event::Observe => self.observe(),
            Event::Fault => {
                if self.faulty {
                    let fault = self.random.one_of(&self.faults).expect("there are faults");
                    self.inject(fault);
                    let pause = self.options.fault_every_ms / 2 + self.random.below(self.options.fault_every_ms);
                    self.after(pause, Event::Fault);
                }
            }
            Event::Heal => self.links.heal(),
            Event::DiskRecovers { machine } => {
                let sync_ms = self.options.sync_ms;
                if let Some(machine) = self.machines.get_mut(&machine) {
                    machine.sync_ms = sync_ms;
                    machine.disk.set_capacity_bytes(None);
                }
            }
        }
    }

    /// The life of a machine whose process runs.
    fn life(&self, machine: u64) -> Option<u64> {
        self.machines.get(&machine).filter(|machine| machine.node.is_some()).map(|machine| machine.life)
    }

    fn running(&self) -> Vec<u64> {
        self.machines.values().filter(|machine| machine.node.is_some()).map(|machine| machine.id).collect()
    }

    fn all(&self) -> Vec<u64> {
        self.machines.values().filter(|machine| !machine.is_retired).map(|machine| machine.id).collect()
    }

    fn start(&mut self, id: u64, life: u64) {
        let (incarnation, election_seed) = (self.random.next_u64(), self.random.next_u64());
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.is_retired || machine.node.is_some() || machine.life != life {
            return;
        }
        match machine.start(now, incarnation, election_seed) {
            Ok(round) => {
                let life = machine.life;
                self.note("start", &[id, life]);
                self.after(self.sequence % TICK_MS, Event::Tick { machine: id, life });
                self.after(50, Event::Join { machine: id, life });
                for branch in BRANCHES {
                    self.observed.remove(&(id, branch));
                }
                self.after_round(id, round);
            }
            Err(error) => {
                let text = error.to_string();
                let expected = ["simulated", "no space"].iter().any(|part| text.contains(part));
                assert!(expected, "node {id} does not open: {text}");
                self.note("start failed", &[id]);
                self.machines.get_mut(&id).expect("it exists").last_failure = Some(text);
                self.power_cut(id);
            }
        }
    }

    fn deliver(&mut self, id: u64, input: Input) {
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.receive(now, input)
        {
            self.work(id);
        }
    }

    fn work(&mut self, id: u64) {
        let now = self.now;
        let round = self.machines.get_mut(&id).expect("it has an inbox").work(now);
        self.after_round(id, round);
    }

    fn after_round(&mut self, id: u64, round: Round) {
        for (time, message) in round.messages {
            self.send(id, time, message);
        }
        for (time, reply) in round.replies {
            let Some(client) = self.requests.remove(&reply.request) else { continue };
            if !self.random.percent(self.options.loss) {
                let delay = self.random.between(self.options.delay_ms.0, self.options.delay_ms.1);
                self.at(time + delay, Event::Reply { client, reply });
            }
        }
        if let Some(reason) = round.died {
            self.note("died", &[id]);
            let expected = ["simulated", "no space"].iter().any(|part| reason.contains(part));
            assert!(expected, "node {id} ended by itself: {reason}");
            self.power_cut(id);
            return;
        }
        let machine = &self.machines[&id];
        self.history.node_worked(machine);
        let (busy_until, sync_ends, life) = (machine.busy_until, machine.sync_ends(), machine.life);
        if busy_until > self.now {
            self.at(busy_until, Event::Wake { machine: id, life });
        }
        if let Some(ends) = sync_ends {
            self.at(ends, Event::Wake { machine: id, life });
        }
    }

    fn send(&mut self, from: u64, time: u64, message: Message) {
        let to = node_id(message.to);
        if !self.links.carry(from, to) || self.random.percent(self.options.loss) {
            // A stream that breaks is noticed by its sender, most of the time.
            if self.random.percent(30) {
                let raft_id = message.to;
                self.deliver_later(from, Input::Unreachable(raft_id));
            }
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.options.duplicates));
        for _ in 0..copies {
            let delay = self.random.between(self.options.delay_ms.0, self.options.delay_ms.1);
            self.at(time + delay, Event::Message(message.clone()));
        }
    }

    fn deliver_later(&mut self, id: u64, input: Input) {
        // Worked on with whatever comes next: no round of its own, so that rounds do not nest.
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.receive(now, input);
            let life = machine.life;
            self.after(1, Event::Wake { machine: id, life });
        }
    }

    fn client(&mut self, client: usize) {
        let nodes = self.all();
        let (now, random) = (self.now, &mut self.random);
        let (target, requests) = if client < self.writers.len() {
            let writer = &mut self.writers[client];
            let requests = writer.step(now, random, &nodes, &mut self.next_request);
            (writer.target, requests)
        } else {
            let swapper = &mut self.swappers[client - 4];
            let request = swapper.step(now, random, &nodes, &mut self.next_request, &mut self.register);
            (swapper.target, request.into_iter().collect())
        };
        for request in requests {
            self.requests.insert(request.id, client);
            if !self.random.percent(self.options.loss) {
                let delay = self.random.between(self.options.delay_ms.0, self.options.delay_ms.1);
                let arrives = self.streams.entry((client, target)).or_default();
                *arrives = (*arrives).max(self.now + delay);
                let arrives = *arrives;
                self.at(arrives, Event::Ask { machine: target, request });
            }
        }
        let pause = 1 + self.random.below(2 * CLIENT_EVERY_MS);
        self.after(pause, Event::Client(client));
    }

    fn reply(&mut self, client: usize, reply: Reply) {
        self.note("reply", &[client as u64, reply.request, u64::from(reply.outcome.is_ok())]);
        let nodes = self.all();
        let (now, random) = (self.now, &mut self.random);
        if client < self.writers.len() {
            self.writers[client].answered(now, reply, random, &nodes, &mut self.history);
        } else {
            self.swappers[client - 4].answered(reply, random, &nodes, &mut self.register);
        }
    }

    /// The part of `cluster.rs`: a blank node looks for its cluster. Calls between machines are instant here.
    fn join(&mut self, id: u64) {
        let Some(view) = self.machines[&id].node.as_ref().map(|node| node.view()) else { return };
        if !view.is_blank {
            return;
        }
        // Operators tell a node that they start where the others are now, beside those that began the cluster.
        let mut peers = self.first.clone();
        peers.extend(self.all().into_iter().map(|id| (id, id.to_string())));
        let mut answers = BTreeMap::new();
        for &peer in peers.keys().filter(|peer| **peer != id) {
            let answer = self.call(id, peer);
            let answer = answer.map(|view| PeerAnswer { raft_id: view.raft_id, is_blank: view.is_blank });
            answers.insert(peer, answer.ok_or_else(|| "does not answer".to_owned()));
        }
        match enter(CLUSTER, view.raft_id, &peers, &answers) {
            Entrance::Begin(members) => self.deliver(id, Input::Begin(members)),
            Entrance::Wait(_) => {}
            Entrance::Present => {
                let address = id.to_string();
                for leader in self.running() {
                    let Some(leading) = self.call(id, leader) else { continue };
                    if let Ok(Admission::Note(expected)) = admit(&leading, view.raft_id, &address, true) {
                        let member = Member { raft_id: view.raft_id, address: address.clone() };
                        self.order(leader, &Command::SetMember { node_id: id, expected: Some(expected), member });
                        return;
                    }
                }
            }
        }
    }

    /// What `to` answers `from`, if there is a way and it is not busy.
    fn call(&self, from: u64, to: u64) -> Option<ClusterView> {
        let machine = self.machines.get(&to)?;
        let reachable = self.links.carry(from, to) && self.links.carry(to, from) && machine.busy_until <= self.now;
        machine.node.as_ref().filter(|_| reachable).map(|node| node.view())
    }

    fn order(&mut self, id: u64, command: &Command) {
        if let Some(node) = self.machines.get_mut(&id).and_then(|machine| machine.node.as_mut()) {
            order(node, command);
            let life = self.machines[&id].life;
            self.after(1, Event::Wake { machine: id, life });
            self.deliver_later(id, Input::Unreachable(0));
        }
    }

    /// The leader that others would agree on: the one with the highest term.
    fn leader(&self) -> Option<ClusterView> {
        let views = self.machines.values().filter_map(|machine| machine.node.as_ref()).map(|node| node.view());
        views.filter(|view| view.is_leader).max_by_key(|view| view.term)
    }

    fn observe(&mut self) {
        let running = self.running();
        if let Some(id) = self.random.one_of(&running) {
            self.observe_node(id);
        }
        if self.options.trimming
            && self.random.percent(30)
            && let Some(leader) = self.leader()
        {
            let branch = BRANCHES[self.random.below(2) as usize];
            let until = self.history.shown_until(branch);
            let durable_lsn = Lsn(until.0.saturating_sub(self.random.below(20_000)));
            let report = Command::ReportConsumer { branch, consumer: "shard".to_owned(), durable_lsn };
            self.order(node_id(leader.raft_id), &report);
        }
        self.retire_removed();
        self.after(OBSERVE_EVERY_MS, Event::Observe);
    }

    fn observe_node(&mut self, id: u64) {
        for branch in BRANCHES {
            let from = self.observed.get(&(id, branch)).copied().unwrap_or_default();
            let end = self.history.observe(&self.machines[&id], branch, from);
            self.observed.insert((id, branch), end);
        }
    }

    /// Machines that are in no membership any more are switched off.
    fn retire_removed(&mut self) {
        let Some(leader) = self.leader() else { return };
        if leader.members.nodes().is_empty() {
            return;
        }
        for machine in self.machines.values_mut().filter(|machine| !machine.is_retired) {
            let belongs = |id: &u64| node_id(*id) == machine.id;
            let wanted = leader.members.nodes().contains_key(&machine.id);
            if self.leaving.contains(&machine.id)
                && !wanted
                && !leader.voters.iter().any(belongs)
                && !leader.learners.iter().any(belongs)
            {
                machine.stop();
                machine.is_retired = true;
            }
        }
    }

    fn power_cut(&mut self, id: u64) {
        let seed = self.random.next_u64();
        let pause = self.random.between(50, 2_000);
        let machine = self.machines.get_mut(&id).expect("it exists");
        machine.stop();
        machine.disk.restart(seed);
        let life = machine.life;
        self.after(pause, Event::Start { machine: id, life });
    }

    fn crash(&mut self, id: u64) {
        let pause = self.random.between(20, 2_000);
        let machine = self.machines.get_mut(&id).expect("it exists");
        machine.stop();
        machine.disk.restart_process();
        let life = machine.life;
        self.after(pause, Event::Start { machine: id, life });
    }

    fn inject(&mut self, fault: Fault) {
        let running = self.running();
        let Some(id) = self.random.one_of(&running) else { return };
        self.note("fault", &[fault as u64, id]);
        let happened = match fault {
            Fault::Crash => {
                self.crash(id);
                true
            }
            Fault::PowerCut => {
                self.power_cut(id);
                true
            }
            Fault::CrashPoint => {
                let disk = &self.machines[&id].disk;
                disk.crash_at_operation(disk.operations() + self.random.below(30));
                true
            }
            Fault::Partition => {
                let machines = self.all();
                if self.random.percent(30) {
                    self.links.heal();
                    self.links.isolate(id, &machines);
                } else {
                    self.links.partition(&machines, &mut self.random);
                }
                let healed = self.random.between(100, 3_000);
                self.after(healed, Event::Heal);
                true
            }
            Fault::SlowDisk => {
                let sync_ms = self.random.between(20, 600);
                self.machines.get_mut(&id).expect("it runs").sync_ms = sync_ms;
                let pause = self.random.between(500, 4_000);
                self.after(pause, Event::DiskRecovers { machine: id });
                true
            }
            Fault::FullDisk => {
                self.machines[&id].disk.set_capacity_bytes(Some(self.random.between(2, 6) * (16 << 10)));
                let pause = self.random.between(500, 4_000);
                self.after(pause, Event::DiskRecovers { machine: id });
                true
            }
            Fault::FailedSync => {
                self.machines[&id].disk.fail_next_sync();
                true
            }
            Fault::Pause => {
                let until = self.now + self.random.between(50, 3_000);
                let machine = self.machines.get_mut(&id).expect("it runs");
                machine.busy_until = machine.busy_until.max(until);
                let (busy_until, life) = (machine.busy_until, machine.life);
                self.at(busy_until, Event::Wake { machine: id, life });
                true
            }
            Fault::Wipe => self.wipe(id),
            Fault::Membership => self.change_membership(),
        };
        if happened {
            *self.counts.entry(format!("{fault:?}")).or_default() += 1;
        }
    }

    /// Everybody is a voter, runs and holds everything that is committed: the cluster can stand the loss of a disk.
    fn is_whole(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let members = leader.members.nodes();
        let voters = leader.voters.len() == members.len()
            && members.values().all(|member| leader.voters.contains(&member.raft_id));
        let in_sync = members.iter().all(|(id, member)| {
            let node = self.machines.get(id).and_then(|machine| machine.node.as_ref());
            node.is_some_and(|node| {
                let view = node.view();
                view.raft_id == member.raft_id && view.committed_index >= leader.committed_index
            })
        });
        !members.is_empty() && voters && leader.learners.is_empty() && in_sync
    }

    fn wipe(&mut self, id: u64) -> bool {
        if self.wiped && !self.is_whole() {
            return false;
        }
        if !self.is_whole() {
            return false;
        }
        self.wiped = true;
        let pause = self.random.between(20, 2_000);
        let sync_ms = self.options.sync_ms;
        let machine = self.machines.get_mut(&id).expect("it runs");
        let life = machine.life;
        *machine = Machine::new(id, sync_ms);
        machine.life = life;
        self.after(pause, Event::Start { machine: id, life });
        true
    }

    fn change_membership(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let members: Vec<u64> = leader.members.nodes().keys().copied().collect();
        let at = node_id(leader.raft_id);
        if members.len() > 3 && self.random.percent(50) {
            let Some(gone) = self.random.one_of(&members) else { return false };
            self.leaving.insert(gone);
            self.order(at, &Command::RemoveMember { node_id: gone });
            return true;
        }
        if members.is_empty() || members.len() >= MOST_NODES {
            return false;
        }
        let id = self.machines.keys().max().map_or(1, |id| id + 1);
        let member = Member { raft_id: 0, address: id.to_string() };
        self.order(at, &Command::SetMember { node_id: id, expected: None, member });
        self.machines.insert(id, Machine::new(id, self.options.sync_ms));
        let pause = self.random.below(1_000);
        self.after(pause, Event::Start { machine: id, life: 0 });
        true
    }

    /// No more faults. Either everything is healed, and all must come back in sync; or only a majority, and it must go on.
    fn recover(&mut self) {
        self.faulty = false;
        self.links.heal();
        (self.options.loss, self.options.duplicates) = (0, 0);
        let sync_ms = self.options.sync_ms;
        for machine in self.machines.values_mut() {
            machine.sync_ms = sync_ms;
            machine.disk.set_capacity_bytes(None);
        }
        let mut left_dead = Vec::new();
        if self.options.heals_majority_only {
            left_dead = self.choose_dead();
            for &id in &left_dead {
                let machine = self.machines.get_mut(&id).expect("it exists");
                machine.stop();
                machine.is_retired = true;
            }
        }
        let deadline = self.now + RECOVERY_MS;
        let before: Vec<u64> = self.progress();
        loop {
            self.run_until(self.now + 500);
            let moved = self.progress().iter().zip(&before).all(|(now, before)| now > before);
            let whole = self.options.heals_majority_only || self.is_whole();
            if moved && whole {
                break;
            }
            assert!(
                self.now < deadline,
                "no recovery in {RECOVERY_MS} ms: progress {:?} since {before:?}, whole {whole}, dead {left_dead:?}, leader {:#?}\n{}",
                self.progress(),
                self.leader(),
                self.describe()
            );
        }
    }

    /// For a failure's message.
    fn describe(&self) -> String {
        let describe = |machine: &Machine| {
            let state = match &machine.node {
                Some(node) => format!("{:?}", node.view()),
                None => format!("does not run: {:?}", machine.last_failure),
            };
            let (id, life, busy_until) = (machine.id, machine.life, machine.busy_until);
            format!("machine {id}: life {life}, busy until {busy_until} of {}, {state}", self.now)
        };
        self.machines.values().filter(|machine| !machine.is_retired).map(describe).collect::<Vec<_>>().join("\n")
    }

    /// A minority of the voters that the newest leader knew, if the rest can go on without it.
    fn choose_dead(&mut self) -> Vec<u64> {
        if !self.is_whole() {
            return Vec::new();
        }
        let mut ids = self.all();
        let spare = (ids.len() - 1) / 2;
        let mut dead = Vec::new();
        for _ in 0..spare {
            let position = self.random.below(ids.len() as u64) as usize;
            dead.push(ids.swap_remove(position));
        }
        dead
    }

    /// Successes per branch, and of the register.
    fn progress(&self) -> Vec<u64> {
        let branch = |index: usize| {
            let writers = self.writers.iter().filter(move |writer| writer.branch == BRANCHES[index]);
            writers.map(|writer| writer.successes).sum()
        };
        vec![branch(0), branch(1), self.swappers.iter().map(|swapper| swapper.successes).sum()]
    }

    fn finish(mut self) -> Report {
        for id in self.running() {
            for branch in BRANCHES {
                self.observed.insert((id, branch), Lsn::ZERO);
            }
            self.observe_node(id);
        }
        self.history.check();
        self.register.check();
        Report {
            trace: self.trace,
            events: self.handled,
            acknowledged: self.history.acknowledgements,
            register_operations: self.swappers.iter().map(|swapper| swapper.successes).sum(),
            faults: self.counts,
        }
    }
}
