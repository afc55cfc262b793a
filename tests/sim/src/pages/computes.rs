//! Computes: the engine as it is, on threads that run one at a time. Two of them compete for the first branch, so that one
//! takes over from the other again and again, also while that is paused.
//!
//! Each runs sessions with transactions on the database of [`super::tables`] (checkers B and C, in its own snapshots too), and
//! remembers what it was told: what was acknowledged is there, for every snapshot that begins later and at the end; what was
//! refused is nowhere (checker A). Nobody may be told that an outcome is unknown but by 08007. Some transactions are on lists alone
//! ([`super::lists`], checker E).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compute::{Compute, ComputeConfig, GovernorConfig, StartError};
use logstore::client::LogError;
use pageserver::cluster::directory::Directory;
use pageserver::cluster::routes::RoutedPages;
use sql::error::{Result, SqlError, SqlState};
use sql::store::{
    Direction, Interrupt, IsolationLevel, KeyRange, RowLockMode, StatementOutcome, Store, Transaction,
    TransactionOptions, WaitPolicy,
};
use storage::{BranchId, PageNo};

use super::lists::Recorded;
use super::log::SimLog;
use super::process::Process;
use super::servers::connect;
use super::tables::{ACCOUNT, Fetched, ITEM, LISTS, MOST_ACCOUNTS, NODE, NODES, Rows, TREE, begun, key, number, value};
use super::{Plane, tables};
use crate::threads::{block_on, spawn};
use crate::world::MAIN;

/// Computes are numbered from here.
const FIRST_COMPUTE: u64 = 500;
const COMPUTES: u64 = 2;

/// What sessions were told of the transactions whose items say who appended them.
#[derive(Default)]
pub struct Ledger {
    next_tag: u64,
    /// In this order: tag, and the life of the compute that said so.
    acknowledged: Vec<(u64, u64)>,
    /// Refused, rolled back or never asked to be committed.
    refused: BTreeSet<u64>,
    lives: u64,
    pub commits: u64,
    pub snapshots_checked: u64,
    /// Transactions on lists.
    pub recorded: Recorded,
}

/// What came of computes.
#[derive(Default)]
pub struct Outcomes {
    /// Transactions that they acknowledged.
    pub commits: u64,
    /// Their snapshots that were read whole.
    pub snapshots: u64,
    /// Transactions on lists.
    pub histories: u64,
}

/// One life of a compute, as its threads see it.
pub struct Life {
    pub plane: Arc<Plane>,
    pub process: Arc<Process>,
    pub number: u64,
    /// What had been acknowledged when it asked for its epoch.
    known: usize,
    branch: BranchId,
}

/// How a transaction's work ended.
#[derive(PartialEq, Eq)]
pub enum Work {
    Commit,
    Rollback,
}

impl Plane {
    /// Computes, if the seed has them.
    pub fn start_computes(self: &Arc<Plane>) {
        let wanted = self.sim.with(|world| world.options.pages.as_ref().is_some_and(|pages| pages.computes));
        for number in 0..COMPUTES * u64::from(wanted) {
            self.sim.with(|world| world.others.push(FIRST_COMPUTE + number));
            tokio::spawn(supervise(self.clone(), number));
        }
    }

    /// Ends them, and looks whether everything is as they said.
    pub fn finish_computes(&self) -> Outcomes {
        self.computes.lock().values().for_each(|process| process.end());
        let mut ledger = self.ledger.lock();
        if ledger.lives == 0 {
            return Outcomes::default();
        }
        let (last, pages) = self.sim.with(|world| {
            world.look_at(MAIN);
            let oracle = &world.oracles[&MAIN];
            (oracle.last_batch(), oracle.pages(oracle.last_batch()))
        });
        let copy = |(page_no, page): (PageNo, Arc<storage::page::Page>)| (page_no, Box::new((*page).clone()));
        let pages = Fetched(pages.into_iter().map(copy).collect());
        let at = format!("at the end, {last}");
        let rows = tables::check(&pages, &at).expect("all pages are there");
        let told: BTreeSet<u64> = ledger.acknowledged.iter().map(|(tag, _)| *tag).collect();
        let lost: Vec<_> = told.difference(&rows.tags).collect();
        assert!(lost.is_empty(), "{at}: acknowledged and not there: {lost:?}");
        let undead: Vec<_> = ledger.refused.intersection(&rows.tags).collect();
        assert!(undead.is_empty(), "{at}: refused and there: {undead:?}");
        // As one would see it who comes after all others.
        let last = ledger.lives + 1;
        ledger.recorded.primary_begins(last);
        let begun = ledger.recorded.tick();
        ledger.recorded.read_all(last, begun, &rows.histories);
        let histories = ledger.recorded.check();
        Outcomes { commits: ledger.commits, snapshots: ledger.snapshots_checked, histories }
    }
}

/// Starts a compute whenever it has ended.
async fn supervise(plane: Arc<Plane>, number: u64) {
    let sim = plane.sim.clone();
    let id = FIRST_COMPUTE + number;
    let mut rest_ms = if number == 0 { 10 } else { sim.random(|random| random.between(1_000, 6_000)) };
    loop {
        sim.sleep(rest_ms).await;
        let process = Process::new(&sim, id);
        let (points, crashes) = sim.with(|world| {
            let crashes = world.faulty && world.options.pages.as_ref().is_some_and(|pages| pages.crash_points);
            (world.random.between(1, 12), crashes && world.random.percent(20))
        });
        if crashes {
            process.crash_in(points);
        }
        sim.note("compute starts", &[id]);
        plane.computes.lock().insert(id, process.clone());
        let life = {
            let mut ledger = plane.ledger.lock();
            ledger.lives += 1;
            let (number, known) = (ledger.lives, ledger.acknowledged.len());
            ledger.recorded.primary_begins(number);
            Life { plane: plane.clone(), process: process.clone(), number, known, branch: MAIN }
        };
        spawn(&process, "primary", move || live(life));
        process.ended().await;
        plane.computes.lock().remove(&id);
        sim.note("compute ended", &[id]);
        rest_ms = sim.random(|random| random.between(300, 6_000));
    }
}

/// From its start until another has taken over, and a little longer.
fn live(life: Life) {
    let sim = life.plane.sim.clone();
    let log = SimLog::new(life.process.clone());
    let (plane, from) = (Arc::downgrade(&life.plane), life.process.clone());
    let to_server = move |address: &str| connect(plane.clone(), from.clone(), address);
    let pages = RoutedPages::new(Directory::new(log.clone()), to_server);
    let clock = life.plane.clock(life.process.id);
    let (config, sessions) = sim.with(|world| {
        let options = world.options.pages.as_ref().expect("there are page servers");
        let memory_bytes = options.compute_pages as usize * storage::page::PAGE_SIZE_BYTES;
        let governor = GovernorConfig { ingest_lag_bytes: options.lag_bytes, ..GovernorConfig::default() };
        let limit_bytes = 1 << 20;
        let config = ComputeConfig {
            memory_bytes,
            transaction_limit_bytes: limit_bytes,
            transactions_limit_bytes: 4 * limit_bytes,
            governor,
            clock,
            ..ComputeConfig::new(life.branch, memory_bytes)
        };
        (config, options.sessions)
    });
    let compute = match block_on(Compute::start(config, log, Arc::new(pages))) {
        Ok(compute) => compute,
        Err(error) => {
            let is_expected = match &error {
                StartError::Log(LogError::Unavailable { .. } | LogError::NoSpace { .. }) => true,
                StartError::Initialize(error) => is_expected(error),
                _ => false,
            };
            assert!(is_expected, "a compute does not start: {error}");
            return life.process.end();
        }
    };
    sim.note("compute started", &[life.process.id, compute.durable_lsn().0]);
    let process = life.process.clone();
    let life = Arc::new(life);
    for _ in 0..sessions {
        let (life, compute) = (life.clone(), compute.clone());
        spawn(&process, "session", move || session(&life, &compute));
    }
    let (reading, read) = (life, compute.clone());
    spawn(&process, "reader", move || reader(&reading, &read));
    let failure = block_on(compute.failed());
    sim.note("compute failed", &[process.id]);
    assert!(is_expected(&failure), "a compute ended by itself: {failure}");
    // Its sessions go on, and are told nothing good any more.
    let longer_ms = sim.random(|random| random.below(3_000));
    block_on(sim.sleep(longer_ms));
    process.end();
}

/// What may befall a statement when others fail. Damage and broken rules may not.
pub fn is_expected(error: &SqlError) -> bool {
    let wrong = [SqlState::DATA_CORRUPTED, SqlState::INTERNAL_ERROR];
    !wrong.contains(&error.state())
}

fn session(life: &Life, compute: &Compute) {
    let sim = &life.plane.sim;
    loop {
        let pause_ms = sim.with(|world| {
            let pace = world.options.pages.as_ref().map_or(50, |pages| pages.writer_every_ms);
            // The longer the log, the slower: a run's memory has a bound.
            let pace = pace * (1 + world.history.acknowledgements / 400);
            world.random.below(2 * pace)
        });
        block_on(sim.sleep(pause_ms));
        if sim.random(|random| random.percent(40)) {
            life.list_transaction(compute);
        } else {
            life.transaction(compute);
        }
    }
}

impl Life {
    fn transaction(&self, compute: &Compute) {
        let sim = &self.plane.sim;
        let tag = {
            let mut ledger = self.plane.ledger.lock();
            ledger.next_tag += 1;
            ledger.next_tag
        };
        let mut has_item = false;
        let outcome = self.commit(compute, tag, &mut has_item);
        let code = match &outcome {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(error) => u64::from(crc32fast::hash(error.to_string().as_bytes())),
        };
        sim.note("transaction", &[self.process.id, tag, code]);
        let mut ledger = self.plane.ledger.lock();
        match outcome {
            Ok(true) => {
                ledger.commits += 1;
                if has_item {
                    ledger.acknowledged.push((tag, self.number));
                }
                sim.with(|world| *world.commits.entry(self.branch).or_default() += 1);
            }
            Ok(false) => drop(ledger.refused.insert(tag)),
            Err(error) if error.state() == SqlState::TRANSACTION_RESOLUTION_UNKNOWN => {}
            Err(error) => {
                assert!(is_expected(&error), "a transaction: {error}");
                ledger.refused.insert(tag);
            }
        }
    }

    /// True: acknowledged. False: given up.
    fn commit(&self, compute: &Compute, tag: u64, has_item: &mut bool) -> Result<bool> {
        let repeatable = self.plane.sim.random(|random| random.percent(50));
        let isolation = if repeatable { IsolationLevel::RepeatableRead } else { IsolationLevel::ReadCommitted };
        let transaction = compute.begin(TransactionOptions { isolation, read_only: false }, Arc::default())?;
        let running = Running { life: self, transaction, tag };
        if running.work(has_item)? == Work::Rollback {
            running.transaction.rollback();
            return Ok(false);
        }
        let Some(lsn) = running.transaction.commit()? else { return Ok(false) };
        match compute.block_until_durable(lsn) {
            Ok(()) => Ok(true),
            Err(error) => {
                let unknown = error.state() == SqlState::TRANSACTION_RESOLUTION_UNKNOWN;
                assert!(unknown, "after its commit a transaction was told: {error}");
                Err(error)
            }
        }
    }
}

/// A transaction that writes.
struct Running<'a> {
    life: &'a Life,
    transaction: Arc<dyn Transaction>,
    tag: u64,
}

impl Running<'_> {
    fn below(&self, bound: u32) -> u32 {
        self.life.plane.sim.random(|random| random.below(u64::from(bound))) as u32
    }

    /// Time in which others come by.
    fn think(&self) {
        let sim = &self.life.plane.sim;
        if let Some(pause_ms) = sim.random(|random| random.percent(40).then(|| random.below(20))) {
            block_on(sim.sleep(pause_ms));
        }
    }

    /// The newest number of a row, which is locked from then on.
    fn locked(&self, row: &[u8]) -> Result<Option<i64>> {
        self.transaction.lock_row(TREE, row, RowLockMode::Exclusive, WaitPolicy::Block)?;
        self.think();
        Ok(self.transaction.get_latest(TREE, row)?.map(|value| number(&value)))
    }

    fn put(&self, row: &[u8], number: i64, tag: u64) -> Result<()> {
        let value = self.life.plane.sim.random(|random| value(number, tag, random));
        self.transaction.put(TREE, row, value.into())
    }

    fn work(&self, has_item: &mut bool) -> Result<Work> {
        if !self.has_rows()? {
            return self.begin();
        }
        let statements = 1 + self.below(3);
        for _ in 0..statements {
            let savepoint = (self.below(10) == 0).then(|| self.transaction.savepoint());
            self.transaction.begin_statement()?;
            let keeps = self.below(12) != 0;
            let which = if *has_item { self.below(8) } else { self.below(14) };
            let done = match which {
                0..=3 => self.transfer(),
                4 => self.open_or_close(),
                5..=7 => self.move_node(),
                _ => self.append(),
            };
            let outcome = if keeps && done.is_ok() { StatementOutcome::Keep } else { StatementOutcome::Discard };
            self.transaction.end_statement(outcome);
            done?;
            match savepoint {
                Some(savepoint) => self.transaction.rollback_to(savepoint),
                None => *has_item |= which > 7 && keeps,
            }
            self.think();
        }
        Ok(if self.below(20) == 0 || !*has_item && self.below(4) == 0 { Work::Rollback } else { Work::Commit })
    }

    fn has_rows(&self) -> Result<bool> {
        self.transaction.begin_statement()?;
        let found = self.transaction.get(TREE, &key(NODE, 0, 0))?;
        self.transaction.end_statement(StatementOutcome::Keep);
        Ok(found.is_some())
    }

    /// The first rows of all.
    fn begin(&self) -> Result<Work> {
        self.transaction.begin_statement_at_newest()?;
        if self.locked(&key(NODE, 0, 0))?.is_some() {
            return Ok(Work::Rollback);
        }
        for (row, value) in self.life.plane.sim.random(begun) {
            self.transaction.put(TREE, &row, value.expect("a row").into())?;
        }
        self.transaction.end_statement(StatementOutcome::Keep);
        // It has no item to be known by.
        match self.transaction.commit()? {
            Some(_) => Ok(Work::Rollback),
            None => panic!("rows were written"),
        }
    }

    fn account(&self) -> Result<(Vec<u8>, Option<i64>)> {
        let row = key(ACCOUNT, self.below(MOST_ACCOUNTS), 0);
        let balance = self.locked(&row)?;
        Ok((row, balance))
    }

    fn transfer(&self) -> Result<()> {
        let ((from, has), (to, had)) = (self.account()?, self.account()?);
        let (Some(has), Some(had)) = (has, had) else { return Ok(()) };
        if from != to {
            let amount = i64::from(self.below(50));
            self.put(&from, has - amount, 0)?;
            self.put(&to, had + amount, 0)?;
        }
        Ok(())
    }

    fn open_or_close(&self) -> Result<()> {
        let (account, left) = self.account()?;
        let Some(left) = left else { return self.put(&account, 0, 0) };
        let (to, had) = self.account()?;
        if let Some(had) = had
            && to != account
        {
            self.transaction.delete(TREE, &account)?;
            self.put(&to, had + left, 0)?;
        }
        Ok(())
    }

    /// As [`tables::Tables`] does. What a node names is locked before it is relied on.
    fn move_node(&self) -> Result<()> {
        let (a, d) = (self.below(NODES), self.below(NODES));
        let next = |node: u32| -> Result<u32> { Ok(self.locked(&key(NODE, node, 0))?.expect("nodes stay") as u32) };
        let b = next(a)?;
        if a == d || b == d {
            return Ok(());
        }
        let (c, e) = (next(b)?, next(d)?);
        for (node, follower) in [(a, c), (d, b), (b, e)] {
            self.put(&key(NODE, node, 0), i64::from(follower), 0)?;
        }
        Ok(())
    }

    /// Behind the last item, wherever that is by now.
    fn append(&self) -> Result<()> {
        let list = self.below(LISTS);
        let items = KeyRange::prefix(key(ITEM, list, 0)[..5].to_vec().into());
        let mut cursor = self.transaction.scan(TREE, items, Direction::Backward)?;
        let mut position = if cursor.advance()? { number(cursor.value()) as u32 + 1 } else { 0 };
        drop(cursor);
        while self.locked(&key(ITEM, list, position))?.is_some() {
            position += 1;
        }
        self.put(&key(ITEM, list, position), i64::from(position), self.tag)
    }
}

/// Reads everything from time to time.
fn reader(life: &Life, compute: &Compute) {
    let sim = &life.plane.sim;
    loop {
        let pause_ms = sim.random(|random| random.between(50, 1_500));
        block_on(sim.sleep(pause_ms));
        if let Err(error) = life.read(compute) {
            assert!(is_expected(&error), "a reader: {error}");
        }
    }
}

impl Life {
    /// The whole database in one snapshot, with all that this compute has acknowledged before.
    fn read(&self, compute: &Compute) -> Result<()> {
        let options = TransactionOptions { isolation: IsolationLevel::RepeatableRead, read_only: true };
        let transaction = compute.begin(options, Arc::<Interrupt>::default())?;
        let (begun, expected): (_, Vec<u64>) = {
            let mut ledger = self.plane.ledger.lock();
            let begun = ledger.recorded.tick();
            let known = |(place, (_, life)): &(usize, &(u64, u64))| *place < self.known || *life == self.number;
            let acknowledged = ledger.acknowledged.iter().enumerate();
            (begun, acknowledged.filter(known).map(|(_, (tag, _))| *tag).collect())
        };
        transaction.begin_statement()?;
        let at = transaction.snapshot_lsn();
        let name = format!("compute {} at {at}", self.process.id);
        let mut rows = Rows::default();
        let mut cursor = transaction.scan(TREE, KeyRange::ALL, Direction::Forward)?;
        while cursor.advance()? {
            rows.add(cursor.key(), cursor.value(), &name);
        }
        rows.check(&name);
        let lost: Vec<_> = expected.iter().filter(|tag| !rows.tags.contains(tag)).collect();
        assert!(lost.is_empty(), "{name}: acknowledged before and not there: {lost:?}");
        self.compare_memory(compute, at);
        let mut ledger = self.plane.ledger.lock();
        let undead: Vec<_> = ledger.refused.intersection(&rows.tags).collect();
        assert!(undead.is_empty(), "{name}: refused and there: {undead:?}");
        ledger.recorded.read_all(self.number, begun, &rows.histories);
        ledger.snapshots_checked += 1;
        Ok(())
    }

    /// Pages in its memory are what replay of the log gives (checker P).
    fn compare_memory(&self, compute: &Compute, at: storage::Lsn) {
        let expected: BTreeMap<_, _> = self.plane.sim.with(|world| {
            if world.look_at(self.branch) >= at { world.oracles[&self.branch].pages(at) } else { BTreeMap::new() }
        });
        for (page_no, page) in expected {
            if let Some(found) = compute.page_in_memory(page_no, at) {
                let same = found.lsn() == page.lsn() && found.bytes() == page.bytes();
                assert!(same, "compute {}: page {page_no} at {at} is not what the log gives", self.process.id);
            }
        }
    }
}
