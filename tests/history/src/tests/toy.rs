//! A toy store, whose histories are right; broken in one way or another, and with histories changed afterwards: checker E finds
//! it.

use std::collections::BTreeMap;

use crate::{Anomaly, History, Isolation, Operation, Outcome, Transaction};

const KEYS: u64 = 4;
const SESSIONS: usize = 4;

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What the toy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// REPEATABLE READ reads at a newer snapshot in each statement.
    MovingSnapshot,
    /// REPEATABLE READ writes behind what it has not seen.
    NoConflicts,
    /// Statements read what is not committed.
    DirtyReads,
    /// Some snapshots are old.
    OldSnapshots,
    /// Some commits are told and not made.
    LostCommits,
    /// Some commits are made twice.
    RepeatedCommits,
}

/// A running transaction of a session.
struct Running {
    transaction: Transaction,
    /// Lists as of its snapshot: how many commits it sees.
    snapshot: Option<usize>,
    writes: BTreeMap<u64, Vec<u64>>,
    steps: u64,
}

/// Lists by the number of commits made, and who holds which key's lock.
struct Toy {
    versions: Vec<BTreeMap<u64, Vec<u64>>>,
    changed_at: BTreeMap<u64, usize>,
    sessions: Vec<Option<Running>>,
    fault: Fault,
    random: Random,
    now: u64,
    next_value: u64,
    history: History,
}

impl Toy {
    fn run(fault: Fault, seed: u64, sessions: usize, steps: u64) -> History {
        let mut toy = Toy {
            versions: vec![BTreeMap::new()],
            changed_at: BTreeMap::new(),
            sessions: (0..sessions).map(|_| None).collect(),
            fault,
            random: Random(seed),
            now: 0,
            next_value: 0,
            history: History::default(),
        };
        for _ in 0..steps {
            let session = toy.random.below(sessions as u64) as usize;
            toy.step(session);
        }
        for session in 0..sessions {
            if let Some(running) = toy.sessions[session].take() {
                toy.history.transactions.push(running.transaction);
            }
        }
        // One who reads all at the end.
        let mut last = Transaction::begun(1, Isolation::RepeatableRead);
        let lists = toy.versions.last().expect("there is one");
        let read = |key| Operation::Read { key, list: lists.get(&key).cloned().unwrap_or_default() };
        last.statement(toy.now + 1, toy.now + 2, (0..KEYS).map(read).collect());
        last.asked = Some(toy.now + 3);
        last.outcome = Outcome::Committed(toy.now + 4);
        toy.history.transactions.push(last);
        toy.history
    }

    fn step(&mut self, session: usize) {
        let Some(mut running) = self.sessions[session].take() else {
            let repeatable = self.random.below(2) == 0;
            let isolation = if repeatable { Isolation::RepeatableRead } else { Isolation::ReadCommitted };
            let steps = 1 + self.random.below(5);
            let transaction = Transaction::begun(1, isolation);
            self.sessions[session] = Some(Running { transaction, snapshot: None, writes: BTreeMap::new(), steps });
            return;
        };
        if running.steps == 0 {
            return self.end(running);
        }
        running.steps -= 1;
        let newest = self.versions.len() - 1;
        let repeatable = running.transaction.isolation == Isolation::RepeatableRead;
        let old = u64::from(self.fault == Fault::OldSnapshots) * self.random.below(3);
        let fresh = newest.saturating_sub(old as usize);
        let snapshot = match running.snapshot {
            Some(snapshot) if repeatable && self.fault != Fault::MovingSnapshot => snapshot,
            _ => fresh,
        };
        running.snapshot = Some(snapshot);
        let (begun, ended) = (self.now + 1, self.now + 2);
        self.now += 2;
        if self.random.below(2) == 0 {
            let keys: Vec<u64> = (0..KEYS).filter(|_| self.random.below(2) == 0).collect();
            let read = |key: u64| Operation::Read { key, list: self.seen(&running, snapshot, key) };
            let operations = keys.into_iter().map(read).collect();
            running.transaction.statement(begun, ended, operations);
        } else {
            let key = self.random.below(KEYS);
            let held = self.sessions.iter().flatten().any(|other| other.writes.contains_key(&key));
            let is_newer = self.changed_at.get(&key).is_some_and(|changed| *changed > snapshot);
            let conflicts = repeatable && is_newer && !matches!(self.fault, Fault::NoConflicts | Fault::MovingSnapshot);
            if held || conflicts {
                self.history.transactions.push(running.transaction);
                return;
            }
            self.next_value += 1;
            let value = self.next_value;
            running.writes.entry(key).or_default().push(value);
            running.transaction.statement(begun, ended, vec![Operation::Append { key, value }]);
        }
        self.sessions[session] = Some(running);
    }

    /// What a statement reads.
    fn seen(&self, running: &Running, snapshot: usize, key: u64) -> Vec<u64> {
        let own = running.writes.get(&key);
        // Who has written a key holds its lock: nothing is newer than what it wrote behind.
        let version = if own.is_some() { self.versions.len() - 1 } else { snapshot };
        let mut list = self.versions[version].get(&key).cloned().unwrap_or_default();
        if self.fault == Fault::DirtyReads {
            let others = self.sessions.iter().flatten().filter_map(|other| other.writes.get(&key));
            others.for_each(|writes| list.extend(writes));
        }
        list.extend(own.into_iter().flatten());
        list
    }

    fn end(&mut self, mut running: Running) {
        let (asked, told) = (self.now + 1, self.now + 2);
        self.now += 2;
        let fate = self.random.below(10);
        // With one session, everything that is changed afterwards can be told from what was.
        let unknown = fate == 1 && self.sessions.len() > 1;
        if fate == 0 {
            self.history.transactions.push(running.transaction);
            return;
        }
        running.transaction.asked = Some(asked);
        running.transaction.outcome = if unknown { Outcome::Unknown } else { Outcome::Committed(told) };
        let lost = match self.fault {
            Fault::LostCommits => self.random.below(5) == 0,
            _ => unknown && self.random.below(2) == 0,
        };
        if !lost && !running.writes.is_empty() {
            let mut lists = self.versions.last().expect("there is one").clone();
            let times = if self.fault == Fault::RepeatedCommits && self.random.below(5) == 0 { 2 } else { 1 };
            for (key, values) in (0..times).flat_map(|_| running.writes.iter()) {
                lists.entry(*key).or_default().extend(values);
                self.changed_at.insert(*key, self.versions.len());
            }
            self.versions.push(lists);
        }
        self.history.transactions.push(running.transaction);
    }
}

fn told(history: &History) -> Vec<String> {
    history.check().iter().map(ToString::to_string).collect()
}

#[test]
fn what_the_toy_does_is_right() {
    for seed in 0..100 {
        let sessions = 1 + seed as usize % (2 * SESSIONS);
        let history = Toy::run(Fault::Nothing, seed, sessions, 400);
        let found = told(&history);
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

/// Each way of being wrong is found in nearly every run of some hundred steps, and called by one of its names.
#[test]
fn broken_toys_are_found() {
    use Anomaly::*;
    let skew = &[ReadSkew, NonRepeatableRead, LostUpdate, NonadjacentCycle];
    let cases: [(Fault, &[Anomaly]); 6] = [
        (Fault::MovingSnapshot, skew),
        (Fault::NoConflicts, skew),
        (Fault::DirtyReads, &[AbortedRead, EarlyRead, IntermediateRead, IncompatibleOrder]),
        (Fault::OldSnapshots, &[StaleRead, NonRepeatableRead, LostAppend]),
        (Fault::LostCommits, &[LostAppend]),
        (Fault::RepeatedCommits, &[DuplicateAppend]),
    ];
    for (fault, names) in cases {
        let seeds = 40;
        let mut found = 0;
        for seed in 0..seeds {
            let findings = Toy::run(fault, seed, SESSIONS, 400).check();
            found += u64::from(findings.iter().any(|finding| names.contains(&finding.anomaly)));
        }
        println!("{fault:?}: found in {found} of {seeds}");
        assert!(found * 10 >= seeds * 9, "{fault:?}: {found} of {seeds}");
    }
}

/// Transactions one after the other, every fourth time with a change in what was read or told.
#[test]
fn changed_histories_of_a_serial_store_are_found() {
    let mut counts = BTreeMap::<&str, (u64, u64)>::new();
    for seed in 0..100 {
        let history = Toy::run(Fault::Nothing, seed, 1, 150);
        assert_eq!(told(&history), Vec::<String>::new(), "seed {seed}");
        for name in CHANGES {
            let mut changed = history.clone();
            let mut random = Random(seed);
            if change(name, &mut changed, &mut random) {
                let (made, found) = counts.entry(name).or_default();
                *made += 1;
                let is_found = !changed.check().is_empty();
                *found += u64::from(is_found);
                assert!(is_found, "seed {seed}: {name} was not found");
            }
        }
    }
    println!("changes made and found: {counts:?}");
    assert_eq!(counts.len(), CHANGES.len(), "{counts:?}");
}

const CHANGES: [&str; 7] = ["swap", "drop within", "drop last", "repeat", "foreign", "abort", "older"];

/// Changes one thing; false where there is nothing to change.
fn change(name: &str, history: &mut History, random: &mut Random) -> bool {
    let mut reads = Vec::new();
    for (transaction, one) in history.transactions.iter().enumerate() {
        for (statement, done) in one.statements.iter().enumerate() {
            for (operation, read) in done.operations.iter().enumerate() {
                if let Operation::Read { list, .. } = read
                    && list.len() > 2
                    && matches!(one.outcome, Outcome::Committed(_))
                {
                    reads.push((transaction, statement, operation));
                }
            }
        }
    }
    if reads.is_empty() {
        return false;
    }
    let (transaction, statement, operation) = reads[random.below(reads.len() as u64) as usize];
    let done = &mut history.transactions[transaction].statements[statement].operations[operation];
    let Operation::Read { list, .. } = done else { panic!("it is a read") };
    let place = random.below(list.len() as u64 - 1) as usize;
    match name {
        "swap" => list.swap(place, place + 1),
        "drop within" => drop(list.remove(place)),
        "drop last" => drop(list.pop()),
        "repeat" => list.push(list[place]),
        "foreign" => list.push(u64::MAX),
        "older" => list.truncate(1),
        _ => {
            // Whoever appended the first value was told to have failed.
            let value = list[0];
            let appends = |one: &Transaction| {
                let operations = one.statements.iter().flat_map(|statement| &statement.operations);
                operations.into_iter().any(|done| matches!(done, Operation::Append { value: of, .. } if *of == value))
            };
            let writer = history.transactions.iter_mut().find(|one| appends(one)).expect("somebody appended it");
            writer.outcome = Outcome::Aborted;
        }
    }
    true
}
