//! Lists that sessions of computes append to and read, several in a transaction; what they saw and were told is a history for
//! checker E (`tests/history`).
//!
//! A list is one row. It grows by who locks it, reads its newest value and puts that back with one more: as an UPDATE does.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::history::{History, Isolation, Operation, Outcome, Transaction as Told};
use compute::Compute;
use sql::error::{Result, SqlError, SqlState};
use sql::store::{IsolationLevel, RowLockMode, StatementOutcome, Store, Transaction, TransactionOptions, WaitPolicy};

use super::computes::{Life, Work, is_expected};
use super::tables::{LIST, TREE, key, list, list_value};
use crate::threads::block_on;

/// Lists that are appended to at a time.
const AT_A_TIME: u64 = 5;
/// Values that a list gets before another takes its place, about.
const LONG: u64 = 60;

/// What all sessions of a run saw.
#[derive(Default)]
pub struct Recorded {
    history: History,
    now: u64,
    values: u64,
}

impl Recorded {
    /// The next time.
    pub fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A primary begins to start.
    pub fn primary_begins(&mut self, primary: u64) {
        let now = self.tick();
        self.history.primaries.insert(primary, now);
    }

    /// Lists so far, whether somebody has appended to them or not.
    fn lists(&self) -> u64 {
        AT_A_TIME * (1 + self.values / (AT_A_TIME * LONG))
    }

    /// One of those that are appended to.
    fn current(&self, number: u64) -> u32 {
        (self.lists() - AT_A_TIME + number % AT_A_TIME) as u32
    }

    /// Somebody has read all lists in one snapshot that was taken after `begun`.
    pub fn read_all(&mut self, primary: u64, begun: u64, found: &BTreeMap<u32, Vec<u64>>) {
        let mut transaction = Told::begun(primary, Isolation::RepeatableRead);
        let numbers = found.keys().next_back().map_or(0, |last| u64::from(*last) + 1).max(self.lists());
        let read = |number: u64| {
            let list = found.get(&(number as u32)).cloned().unwrap_or_default();
            Operation::Read { key: number, list }
        };
        let ended = self.tick();
        transaction.statement(begun, ended, (0..numbers).map(read).collect());
        transaction.asked = Some(self.tick());
        transaction.outcome = Outcome::Committed(self.tick());
        self.history.transactions.push(transaction);
    }

    /// How many transactions there were. A history that could not have come about panics.
    pub fn check(&self) -> u64 {
        let findings: Vec<_> = self.history.check().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "lists: {findings:#?}");
        self.history.transactions.len() as u64
    }
}

/// A transaction on lists, while it runs.
struct Running<'a> {
    life: &'a Life,
    transaction: Arc<dyn Transaction>,
    /// Its place in the history, where it stands from its begin: this thread may stop anywhere.
    place: usize,
}

impl Life {
    /// One transaction on lists. What it saw and was told is recorded.
    pub fn list_transaction(&self, compute: &Compute) {
        let sim = &self.plane.sim;
        let repeatable = sim.random(|random| random.percent(50));
        let (isolation, level) = match repeatable {
            true => (Isolation::RepeatableRead, IsolationLevel::RepeatableRead),
            false => (Isolation::ReadCommitted, IsolationLevel::ReadCommitted),
        };
        let options = TransactionOptions { isolation: level, read_only: false };
        let Ok(transaction) = compute.begin(options, Arc::default()) else { return };
        let place = {
            let transactions = &mut self.plane.ledger.lock().recorded.history.transactions;
            transactions.push(Told::begun(self.number, isolation));
            transactions.len() - 1
        };
        let running = Running { life: self, transaction, place };
        let outcome = running.work().and_then(|work| match work {
            Work::Commit => running.commit(compute),
            Work::Rollback => {
                running.transaction.rollback();
                Ok(())
            }
        });
        let code = outcome.as_ref().err().map_or(0, |error| crc32fast::hash(error.to_string().as_bytes()));
        sim.note("list transaction", &[self.process.id, u64::from(code), place as u64]);
        if let Err(error) = outcome {
            running.failed(&error);
        }
    }
}

impl Running<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.life.plane.sim.random(|random| random.below(bound))
    }

    fn tick(&self) -> u64 {
        self.life.plane.ledger.lock().recorded.tick()
    }

    fn pick(&self) -> u32 {
        let number = self.below(AT_A_TIME);
        self.life.plane.ledger.lock().recorded.current(number)
    }

    /// Adds to what is known of it.
    fn told(&self, add: impl FnOnce(&mut Told)) {
        add(&mut self.life.plane.ledger.lock().recorded.history.transactions[self.place]);
    }

    fn work(&self) -> Result<Work> {
        for _ in 0..1 + self.below(5) {
            let savepoint = (self.below(8) == 0).then(|| self.transaction.savepoint());
            let begun = self.tick();
            self.transaction.begin_statement()?;
            let keeps = self.below(12) != 0;
            let done = match self.below(8) {
                0..=3 => self.append(),
                4 => self.read_under_lock(),
                _ => self.read(),
            };
            let outcome = if keeps && done.is_ok() { StatementOutcome::Keep } else { StatementOutcome::Discard };
            self.transaction.end_statement(outcome);
            let operations = done?;
            let ended = self.tick();
            if let Some(savepoint) = savepoint {
                self.transaction.rollback_to(savepoint);
            }
            self.told(|told| {
                told.statement(begun, ended, operations);
                if savepoint.is_some() || !keeps {
                    told.undo_from(told.statements.len() - 1);
                }
            });
            self.think();
        }
        Ok(if self.below(15) == 0 { Work::Rollback } else { Work::Commit })
    }

    /// Time in which others come by.
    fn think(&self) {
        let sim = &self.life.plane.sim;
        if let Some(pause_ms) = sim.random(|random| random.percent(50).then(|| random.below(30))) {
            block_on(sim.sleep(pause_ms));
        }
    }

    /// Some lists in one snapshot.
    fn read(&self) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        for _ in 0..1 + self.below(3) {
            let number = self.pick();
            let found = self.transaction.get(TREE, &key(LIST, number, 0))?;
            let list = found.map_or_else(Vec::new, |value| list(&value));
            operations.push(Operation::Read { key: u64::from(number), list });
            self.think();
        }
        Ok(operations)
    }

    /// A list as it is now, which nobody else changes until the transaction's end.
    fn newest(&self, number: u32) -> Result<Vec<u64>> {
        let row = key(LIST, number, 0);
        self.transaction.lock_row(TREE, &row, RowLockMode::Exclusive, WaitPolicy::Block)?;
        self.think();
        let found = self.transaction.get_latest(TREE, &row)?;
        Ok(found.map_or_else(Vec::new, |value| list(&value)))
    }

    fn read_under_lock(&self) -> Result<Vec<Operation>> {
        let number = self.pick();
        Ok(vec![Operation::ReadNewest { key: u64::from(number), list: self.newest(number)? }])
    }

    fn append(&self) -> Result<Vec<Operation>> {
        let number = self.pick();
        let mut list = self.newest(number)?;
        let value = {
            let recorded = &mut self.life.plane.ledger.lock().recorded;
            recorded.values += 1;
            recorded.values
        };
        let before = list.clone();
        list.push(value);
        let row = self.life.plane.sim.random(|random| list_value(&list, random));
        self.transaction.put(TREE, &key(LIST, number, 0), row.into())?;
        let number = u64::from(number);
        Ok(vec![Operation::ReadNewest { key: number, list: before }, Operation::Append { key: number, value }])
    }

    fn commit(&self, compute: &Compute) -> Result<()> {
        let asked = self.tick();
        self.told(|told| {
            told.asked = Some(asked);
            told.outcome = Outcome::Unknown;
        });
        if let Some(lsn) = self.transaction.commit()? {
            let durable = compute.block_until_durable(lsn);
            if let Err(error) = &durable {
                let unknown = error.state() == SqlState::TRANSACTION_RESOLUTION_UNKNOWN;
                assert!(unknown, "after its commit a transaction was told: {error}");
            }
            durable?;
        }
        let committed = self.tick();
        self.told(|told| told.outcome = Outcome::Committed(committed));
        Ok(())
    }

    fn failed(&self, error: &SqlError) {
        assert!(is_expected(error), "a transaction on lists: {error}");
        if error.state() != SqlState::TRANSACTION_RESOLUTION_UNKNOWN {
            self.told(|told| told.outcome = Outcome::Aborted);
        }
    }
}
