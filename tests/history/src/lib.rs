//! Checker E: whether a history of transactions that append to lists and read them could have come about under the isolation
//! levels that they ran at.
//!
//! A list tells who wrote it, and in which order: whoever reads `[3, 1, 7]` has seen three versions before this one. So the lists
//! that were read give the order of the versions of each key, and with it who overwrote, who read from and who read before
//! whom. The anomalies are those of Atul Adya's thesis ("Weak Consistency", 1999); that lists make them visible from outside is the
//! idea of Elle (Kyle Kingsbury and Peter Alvaro, 2020).
//!
//! Both levels here are made of snapshots, so what they promise can be said of points in time. A transaction that commits does
//! so at one point, *c*. Under REPEATABLE READ it reads as of one point, *s*; under READ COMMITTED each statement has its
//! own, one after the other; all before *c*. What was read and told says which point lies before which:
//!
//! ```text
//!   ww   B appends behind A               c(A) → c(B), and c(A) → s(B) under REPEATABLE READ (else B had to fail)
//!   wr   B reads what A appended          c(A) → s(B)
//!   rw   B appends behind what A read     s(A) → c(B)
//!   told A was told before B asked        c(A) → c(B), and c(A) → s(B) on one primary
//! ```
//!
//! The history is possible if nothing lies before itself. A circle is an anomaly, and its arrows give it its name ([`Anomaly`]). Two
//! transactions that each read before the other wrote (write skew) make no circle: snapshots allow it.
//!
//! READ COMMITTED is held to what Postgres shows, which is a little more than Adya's PL-2: a statement sees one snapshot, snapshots do
//! not go back within a transaction, and what a statement found under a lock the statements after it see too.

mod anomaly;
mod graph;
mod lists;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use anomaly::{Anomaly, Finding};

/// What the transactions of a test were asked and told. Times are numbers from one counter, drawn when something happens.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In any order; findings name them by their place here.
    pub transactions: Vec<Transaction>,
    /// When each primary began to start, before it asked for its epoch. What was acknowledged by then by any, it shows. One that is
    /// not named here owes nothing to others.
    pub primaries: BTreeMap<u64, u64>,
}

/// One transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Where it ran.
    pub primary: u64,
    pub isolation: Isolation,
    pub statements: Vec<Statement>,
    /// When its commit was asked for, if ever.
    pub asked: Option<u64>,
    pub outcome: Outcome,
}

/// The isolation levels that Alluvium has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At that time.
    Committed(u64),
    /// Or it never asked for a commit.
    Aborted,
    /// It asked for a commit and got no answer, or 08007.
    Unknown,
}

/// One statement that succeeded.
#[derive(Clone, Debug)]
pub struct Statement {
    pub begun: u64,
    pub ended: u64,
    /// The number of the first statement that no longer sees what it appended, if it was taken back.
    pub undone_at: Option<usize>,
    pub operations: Vec<Operation>,
}

/// What a statement did. No key is given the same value twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Append {
        key: u64,
        value: u64,
    },
    /// The whole list, as the statement's snapshot and what the transaction has appended before give it.
    Read {
        key: u64,
        list: Vec<u64>,
    },
    /// The whole list under its row's lock: under READ COMMITTED the newest, whatever the snapshot.
    ReadNewest {
        key: u64,
        list: Vec<u64>,
    },
}

impl History {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let lists = lists::Lists::new(self, &mut findings);
        graph::find_circles(self, &lists, &mut findings);
        findings.sort();
        findings.dedup();
        findings
    }
}

impl Transaction {
    /// One that has just begun.
    pub fn begun(primary: u64, isolation: Isolation) -> Transaction {
        Transaction { primary, isolation, statements: Vec::new(), asked: None, outcome: Outcome::Aborted }
    }

    /// Adds a statement that did this between two times.
    pub fn statement(&mut self, begun: u64, ended: u64, operations: Vec<Operation>) {
        assert!(begun < ended, "a statement from {begun} to {ended}");
        self.statements.push(Statement { begun, ended, undone_at: None, operations });
    }

    /// What the statements from this number on appended is taken back: later ones do not see it.
    pub fn undo_from(&mut self, first: usize) {
        let now = self.statements.len();
        for statement in &mut self.statements[first..] {
            statement.undone_at.get_or_insert(now);
        }
    }
}
