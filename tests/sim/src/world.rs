//! The run: one queue of events in order of time, and what each does.

use std::collections::{BTreeMap, BTreeSet};

use logstore::client::{LogChunk, LogError};
use logstore::command::Command;
use logstore::identity::node_id;
use logstore::joining::{Admission, Entrance, PeerAnswer, admit, enter};
use logstore::members::Member;
use logstore::node::ClusterView;
use protobuf::Message as _;
use raft::eraftpb::Message;
use storage::{BranchId, Lsn};
use tokio::sync::oneshot;

use crate::archive::Hosting;
use crate::checks::{History, hash};
use crate::clients::{Ask, Asked, Batches, Reply, Request, Writer};
use crate::faults::{Fault, Links, enabled};
use crate::machine::{Input, Machine, Round, Sizes, order};
use crate::options::Options;
use crate::pages::PlaneReport;
use crate::pages::oracle::Oracle;
use crate::pages::tables::Tables;
use crate::pages::workload::PageWorkload;
use crate::random::Random;
use crate::register::{Register, Swapper};
use crate::trimming::{PieceKey, Trimming};

/// The branch that page servers begin with.
pub const MAIN: BranchId = BranchId(1);
const CLUSTER: &str = "simulated";
const JOIN_EVERY_MS: u64 = 200;
const CLIENT_EVERY_MS: u64 = 15;
const OBSERVE_EVERY_MS: u64 = 250;
const MOST_NODES: usize = 6;
/// Tells the seed of what is drawn apart from a seed.
const FURTHER: u64 = 0x6675_7274_6865_7200;

mod faults;

enum Event {
    Tick { machine: u64, life: u64 },
    Wake { machine: u64, life: u64 },
    Message(Message),
    Ask { machine: u64, request: Request },
    Reply { caller: Caller, reply: Reply },
    Join { machine: u64, life: u64 },
    Start { machine: u64, life: u64 },
    Client(ClientId),
    Observe,
    Fault,
    Heal,
    DiskRecovers { machine: u64 },
}

/// A client that is part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ClientId {
    Writer(usize),
    Swapper(usize),
}

/// Who has asked a node for something.
enum Caller {
    Client(ClientId),
    /// A task, of the process with this number.
    Task(u64, oneshot::Sender<Result<Asked, LogError>>),
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
    /// Pages that page servers gave and that were compared.
    pub pages_compared: u64,
    /// Databases that were read whole from page servers, as of one LSN, and checked.
    pub databases_checked: u64,
    /// Branches that were made.
    pub branches_made: u64,
    /// Transactions that computes acknowledged.
    pub commits: u64,
    /// Databases that computes read whole from their own snapshots.
    pub snapshots_checked: u64,
    /// Groups that came out of the log's archive.
    pub archived_groups: u64,
    /// Transactions on lists whose history was checked.
    pub histories_checked: u64,
    pub faults: BTreeMap<String, u64>,
}

/// Everything but the page servers' own tasks.
pub struct World {
    pub options: Options,
    faults: Vec<Fault>,
    pub random: Random,
    pub now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub machines: BTreeMap<u64, Machine>,
    /// The nodes that begin the cluster, by number; an address here is the number.
    first: BTreeMap<u64, String>,
    /// Nodes whose removal was ordered.
    leaving: BTreeSet<u64>,
    pub links: Links,
    /// Page servers and others that are no log nodes: partitions cut them off too.
    pub others: Vec<u64>,
    writers: Vec<Writer>,
    swappers: Vec<Swapper>,
    requests: BTreeMap<u64, Caller>,
    /// When the last request on each client's stream to a node arrives: streams keep their order.
    streams: BTreeMap<(ClientId, u64), u64>,
    next_request: u64,
    pub history: History,
    /// What is archived, and what may be trimmed.
    pub trimming: Trimming,
    /// What begins to run in a log node's process when it starts.
    pub hosting: Option<Hosting>,
    /// Groups that readers got from nodes whose own log begins behind them.
    pub archived_groups: u64,
    /// Transactions of each branch that computes acknowledged.
    pub commits: BTreeMap<BranchId, u64>,
    /// Of the branches whose stream is batches.
    pub oracles: BTreeMap<BranchId, Oracle>,
    /// All branches that are written.
    branches: Vec<BranchId>,
    register: Register,
    observed: BTreeMap<(u64, BranchId), Lsn>,
    pub faulty: bool,
    trace: u64,
    handled: u64,
    pub counts: BTreeMap<String, u64>,
}

impl World {
    /// Before anything has happened.
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let options = Options::draw(&mut random, &mut Random::new(seed ^ FURTHER));
        World::with(options, random)
    }

    /// One with these options.
    pub fn with(options: Options, random: Random) -> World {
        let first: BTreeMap<u64, String> = (1..=options.nodes).map(|id| (id, id.to_string())).collect();
        let (branches, writers) = match &options.pages {
            None => {
                let branches = vec![MAIN, BranchId(2)];
                let writers = (0..4).map(|client: usize| Writer::new(branches[client % 2], 1)).collect();
                (branches, writers)
            }
            Some(pages) if pages.computes || !options.writers => (vec![MAIN], Vec::new()),
            Some(_) => (vec![MAIN], vec![Writer::of_pages(MAIN, 1), Writer::of_pages(MAIN, 1)]),
        };
        let oracles = options.pages.iter().map(|_| (MAIN, Oracle::new(MAIN))).collect();
        World {
            faults: enabled(&options),
            random,
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            machines: BTreeMap::new(),
            first,
            leaving: BTreeSet::new(),
            links: Links::default(),
            others: Vec::new(),
            writers,
            swappers: (0..2).map(|_| Swapper::new(1)).collect(),
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_request: 0,
            history: History::default(),
            trimming: Trimming::default(),
            hosting: None,
            archived_groups: 0,
            commits: BTreeMap::new(),
            oracles,
            branches,
            register: Register::default(),
            observed: BTreeMap::new(),
            faulty: true,
            trace: 0,
            handled: 0,
            counts: BTreeMap::new(),
            options,
        }
    }

    fn new_machine(&self, id: u64) -> Machine {
        let sizes = match (&self.options.pages, &self.options.archive) {
            (None, _) => Sizes::SMALL,
            // Only complete segments are archived.
            (Some(_), Some(_)) => Sizes { segment_bytes: Sizes::PAGES.segment_bytes / 2, ..Sizes::PAGES },
            (Some(_), None) => Sizes::PAGES,
        };
        let budget_bytes = self.options.log_budget_bytes;
        Machine::new(id, self.options.sync_ms, Sizes { budget_bytes, ..sizes })
    }

    /// Plans what happens first.
    pub fn begin(&mut self) {
        for id in self.first.keys().copied().collect::<Vec<_>>() {
            self.machines.insert(id, self.new_machine(id));
            let delay = self.random.below(300);
            self.after(delay, Event::Start { machine: id, life: 0 });
        }
        let first_of = self.branches.len();
        for writer in 0..self.writers.len() {
            // Rivals come later.
            let begin = if writer >= first_of { self.random.between(1_000, 6_000) } else { 10 };
            self.after(begin, Event::Client(ClientId::Writer(writer)));
        }
        for swapper in 0..self.swappers.len() {
            self.after(10, Event::Client(ClientId::Swapper(swapper)));
        }
        self.after(OBSERVE_EVERY_MS, Event::Observe);
        if !self.faults.is_empty() {
            self.after(self.options.fault_every_ms, Event::Fault);
        }
    }

    /// A branch that leaves another one at an LSN that its oracle knows.
    pub fn add_branch(&mut self, branch: BranchId, parent: BranchId, begin: Lsn) {
        let oracle = self.oracles[&parent].branched(branch, begin);
        self.oracles.insert(branch, oracle);
    }

    /// A writer for a branch.
    pub fn add_writer(&mut self, branch: BranchId) {
        let target = self.random.one_of(&self.running()).unwrap_or(1);
        self.writers.push(Writer::of_pages(branch, target));
        self.branches.push(branch);
        self.after(1, Event::Client(ClientId::Writer(self.writers.len() - 1)));
    }

    /// Nobody writes this branch any more.
    pub fn retire_branch(&mut self, branch: BranchId) {
        self.branches.retain(|known| *known != branch);
        self.writers.iter_mut().filter(|writer| writer.branch == branch).for_each(|writer| writer.is_retired = true);
    }

    /// Looks at what all nodes hold of a branch, and tells how far it is known.
    pub fn look_at(&mut self, branch: BranchId) -> Lsn {
        for id in self.running() {
            self.observe_branch(id, branch);
        }
        self.oracles[&branch].known_until()
    }

    /// What runs in a log node's process beside it.
    fn host(&mut self, id: u64) {
        let (Some(hosting), Some(archive)) = (self.hosting.clone(), self.options.archive.clone()) else { return };
        let (new_id, points) = (self.random.next_u64(), self.random.between(1, 12));
        // Also while it starts: a second crash before the first is repaired.
        let again = self.faulty && archive.crash_points && self.random.percent(25);
        let machine = self.machines.get_mut(&id).expect("it has started");
        let hosted = hosting(&archive, machine, new_id);
        if again {
            hosted.process.crash_in(points);
        }
        machine.hosted = Some(hosted);
    }

    /// Something waits for a node in its own process.
    pub fn wake(&mut self, id: u64, life: u64) {
        if self.life(id) == Some(life) {
            self.at(self.machines[&id].busy_until, Event::Wake { machine: id, life });
        }
    }

    /// A log node's process has ended at one of its archiver's steps.
    pub fn process_ended(&mut self, id: u64, life: u64) {
        if self.life(id) == Some(life) {
            self.note("archiver ended", &[id, life]);
            self.crash(id);
        }
    }

    /// A piece of the archive has been written: committed groups, as they were sent.
    pub fn archived(&mut self, key: &PieceKey, bytes: bytes::Bytes) {
        for chunk in self.trimming.archived(key, bytes).chunks {
            self.show(key.branch, &chunk, 0);
        }
    }

    /// Branches that are written.
    pub fn branches(&self) -> &[BranchId] {
        &self.branches
    }

    /// A node shows a chunk to a reader. Positions are the stream's.
    pub fn show(&mut self, branch: BranchId, chunk: &LogChunk, node: u64) {
        self.history.show(branch, chunk.start_lsn, chunk.epoch.0, &chunk.bytes, node);
        self.follow(branch);
    }

    fn follow(&mut self, branch: BranchId) {
        if let Some(oracle) = self.oracles.get_mut(&branch) {
            oracle.follow(&self.history);
        }
    }

    /// A task of a process asks a node.
    pub fn ask(&mut self, from: u64, node: u64, ask: Ask) -> oneshot::Receiver<Result<Asked, LogError>> {
        let (reply, answer) = oneshot::channel();
        self.next_request += 1;
        let id = self.next_request;
        if self.links.carry(from, node) && !self.random.percent(self.options.loss) {
            self.requests.insert(id, Caller::Task(from, reply));
            let delay = self.delay();
            self.after(delay, Event::Ask { machine: node, request: Request { id, ask } });
        } else {
            // Lost: the caller waits until it gives up.
            self.requests.insert(id, Caller::Task(from, reply));
        }
        answer
    }

    /// How long a message takes.
    pub fn delay(&mut self) -> u64 {
        self.random.between(self.options.delay_ms.0, self.options.delay_ms.1)
    }

    /// When the next event is due.
    pub fn next_event(&self) -> Option<u64> {
        self.events.first_key_value().map(|((time, _), _)| *time)
    }

    /// Handles what is due.
    pub fn handle_until(&mut self, now: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = self.now.max(time);
            self.handled += 1;
            self.handle(event);
        }
        self.now = self.now.max(now);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.after(time.saturating_sub(self.now), event);
    }

    pub fn note(&mut self, what: &str, values: &[u64]) {
        tracing::debug!(now = self.now, what, ?values);
        let mut trace = hash(self.trace, what.as_bytes());
        for value in values.iter().chain([&self.now]) {
            trace = hash(trace, &value.to_le_bytes());
        }
        self.trace = trace;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick { machine, life } => {
                if self.life(machine) == Some(life) {
                    self.deliver(machine, Input::Tick);
                    self.after(self.options.tick_ms, Event::Tick { machine, life });
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
            Event::Reply { caller, reply } => self.reply(caller, reply),
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

    pub fn running(&self) -> Vec<u64> {
        self.machines.values().filter(|machine| machine.node.is_some()).map(|machine| machine.id).collect()
    }

    pub fn all(&self) -> Vec<u64> {
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
                self.host(id);
                self.after(self.sequence % self.options.tick_ms, Event::Tick { machine: id, life });
                self.after(50, Event::Join { machine: id, life });
                self.observed.retain(|(node, _), _| *node != id);
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
            let Some(caller) = self.requests.remove(&reply.request) else { continue };
            let reaches = match &caller {
                Caller::Client(_) => true,
                Caller::Task(from, _) => self.links.carry(id, *from),
            };
            if reaches && !self.random.percent(self.options.loss) {
                let delay = self.delay();
                self.at(time + delay, Event::Reply { caller, reply });
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
        if self.options.archive.is_some() {
            self.trimming.node_worked(machine);
        }
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
            let delay = self.delay();
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

    fn client(&mut self, client: ClientId) {
        let nodes = self.all();
        let (target, requests) = match client {
            ClientId::Writer(number) => {
                self.prepare_pages(number);
                let (now, random, writer) = (self.now, &mut self.random, &mut self.writers[number]);
                let requests = writer.step(now, random, &nodes, &mut self.next_request, &mut self.history);
                if writer.is_retired {
                    return;
                }
                (writer.target, requests)
            }
            ClientId::Swapper(number) => {
                let (now, random, swapper) = (self.now, &mut self.random, &mut self.swappers[number]);
                let request = swapper.step(now, random, &nodes, &mut self.next_request, &mut self.register);
                (swapper.target, request.into_iter().collect())
            }
        };
        for request in requests {
            self.requests.insert(request.id, Caller::Client(client));
            if !self.random.percent(self.options.loss) {
                let delay = self.delay();
                let arrives = self.streams.entry((client, target)).or_default();
                *arrives = (*arrives).max(self.now + delay);
                let arrives = *arrives;
                self.at(arrives, Event::Ask { machine: target, request });
            }
        }
        let pace = self.options.pages.as_ref().map_or(CLIENT_EVERY_MS, |pages| pages.writer_every_ms);
        // The longer the log, the slower: a run's memory has a bound.
        let pace = pace * (1 + self.history.acknowledgements / 400);
        let pause = 1 + self.random.below(2 * pace);
        self.after(pause, Event::Client(client));
    }

    /// A writer of pages whose epoch has begun gets the pages as of there.
    fn prepare_pages(&mut self, number: usize) {
        let Some(begin) = self.writers[number].waits_for_pages() else { return };
        let branch = self.writers[number].branch;
        let at = begin.advance(self.oracles[&branch].begin.0);
        if self.look_at(branch) >= at {
            let pages = self.oracles[&branch].pages(at);
            let tables = self.options.pages.as_ref().is_some_and(|pages| pages.tables);
            let batches = match tables {
                true => Batches::Tables(Tables::new(at, &pages)),
                false => Batches::Random(PageWorkload::new(at, &pages)),
            };
            self.writers[number].begin_pages(batches);
        }
    }

    fn reply(&mut self, caller: Caller, reply: Reply) {
        let client = match caller {
            Caller::Client(client) => client,
            Caller::Task(from, answer) => {
                self.note("answer", &[from, reply.request, u64::from(reply.outcome.is_ok())]);
                // Who has given up meanwhile needs no answer.
                let _ = answer.send(reply.outcome);
                return;
            }
        };
        self.note("reply", &[reply.request, u64::from(reply.outcome.is_ok())]);
        let nodes = self.all();
        let (now, random) = (self.now, &mut self.random);
        match client {
            ClientId::Writer(number) => {
                self.writers[number].answered(now, reply, random, &nodes, &mut self.history);
            }
            ClientId::Swapper(number) => {
                self.swappers[number].answered(reply, random, &nodes, &mut self.register);
            }
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
    pub fn leader(&self) -> Option<ClusterView> {
        let views = self.machines.values().filter_map(|machine| machine.node.as_ref()).map(|node| node.view());
        views.filter(|view| view.is_leader).max_by_key(|view| view.term)
    }

    fn observe(&mut self) {
        let running = self.running();
        if let Some(id) = self.random.one_of(&running) {
            self.observe_node(id);
        }
        // Where there are page servers, they tell what may be trimmed.
        if self.options.trimming
            && self.options.pages.is_none()
            && self.random.percent(30)
            && let Some(leader) = self.leader()
        {
            let branch = self.branches[self.random.below(2) as usize];
            let until = self.history.shown_until(branch);
            let durable_lsn = Lsn(until.0.saturating_sub(self.random.below(20_000)));
            self.trimming.reported(branch, "shard", durable_lsn);
            let report = Command::ReportConsumer { branch, consumer: "shard".to_owned(), durable_lsn };
            self.order(node_id(leader.raft_id), &report);
        }
        self.retire_removed();
        self.after(OBSERVE_EVERY_MS, Event::Observe);
    }

    fn observe_node(&mut self, id: u64) {
        for branch in self.branches.clone() {
            self.observe_branch(id, branch);
        }
    }

    fn observe_branch(&mut self, id: u64, branch: BranchId) {
        let from = self.observed.get(&(id, branch)).copied().unwrap_or_default();
        let end = self.history.observe(&self.machines[&id], branch, from);
        self.observed.insert((id, branch), end);
        self.follow(branch);
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

    /// Successes per branch, and of the register.
    pub fn progress(&self) -> Vec<u64> {
        let of_branch = |branch: &BranchId| {
            let writers = self.writers.iter().filter(|writer| writer.branch == *branch);
            let of_computes = self.commits.get(branch).copied().unwrap_or_default();
            writers.map(|writer| writer.successes).sum::<u64>() + of_computes
        };
        let swaps = self.swappers.iter().map(|swapper| swapper.successes).sum();
        self.branches.iter().map(of_branch).chain([swaps]).collect()
    }

    /// Writers append nothing more.
    pub fn retire_writers(&mut self) {
        for branch in self.branches.clone() {
            self.retire_branch(branch);
        }
    }

    /// The last checks.
    pub fn finish(&mut self, of_pages: &PlaneReport) -> Report {
        let observed: BTreeSet<BranchId> = self.observed.keys().map(|(_, branch)| *branch).collect();
        for id in self.running() {
            for &branch in &observed {
                self.observed.insert((id, branch), Lsn::ZERO);
                self.observe_branch(id, branch);
            }
        }
        self.history.check(&of_pages.deleted);
        self.register.check();
        Report {
            trace: self.trace,
            events: self.handled,
            acknowledged: self.history.acknowledgements,
            register_operations: self.swappers.iter().map(|swapper| swapper.successes).sum(),
            pages_compared: of_pages.pages_compared,
            databases_checked: of_pages.databases_checked,
            branches_made: of_pages.branches_made,
            commits: of_pages.commits,
            snapshots_checked: of_pages.snapshots_checked,
            archived_groups: self.archived_groups,
            histories_checked: of_pages.histories_checked,
            faults: self.counts.clone(),
        }
    }
}
