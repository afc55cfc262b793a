//! Row and table locks with waits-for deadlock detection, under one mutex.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use storage::TreeId;

use crate::error::{Result, SqlError, SqlState};
use crate::interrupt::Interrupt;
use crate::store::{RowLockMode, TableLockMode, WaitPolicy};

/// What a lock is on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum LockName {
    Row(TreeId, Bytes),
    Table(u64),
}

/// How it is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LockMode {
    Row(RowLockMode),
    Table(TableLockMode),
}

impl LockMode {
    fn conflicts(self, other: LockMode) -> bool {
        match (self, other) {
            (LockMode::Row(a), LockMode::Row(b)) => a == RowLockMode::Exclusive || b == RowLockMode::Exclusive,
            (LockMode::Table(a), LockMode::Table(b)) => table_modes_conflict(a, b),
            _ => false,
        }
    }
}

/// Postgres' conflict table of lock modes.
fn table_modes_conflict(a: TableLockMode, b: TableLockMode) -> bool {
    use TableLockMode::{
        AccessExclusive, AccessShare, Exclusive, RowExclusive, RowShare, Share, ShareRowExclusive, ShareUpdateExclusive,
    };
    let (weak, strong) = if a <= b { (a, b) } else { (b, a) };
    match weak {
        AccessShare => strong == AccessExclusive,
        RowShare => strong >= Exclusive,
        RowExclusive => strong >= Share,
        ShareUpdateExclusive => true,
        Share => strong != Share,
        ShareRowExclusive | Exclusive | AccessExclusive => true,
    }
}

#[derive(Default)]
struct State {
    holders: HashMap<LockName, Vec<(u64, LockMode)>>,
    held: HashMap<u64, Vec<LockName>>,
    /// Whom each waiting transaction waits for.
    waits: HashMap<u64, Vec<u64>>,
}

impl State {
    fn blockers(&self, transaction: u64, name: &LockName, mode: LockMode) -> Vec<u64> {
        let holders = self.holders.get(name).into_iter().flatten();
        holders.filter(|(owner, held)| *owner != transaction && held.conflicts(mode)).map(|(owner, _)| *owner).collect()
    }

    fn deadlocked(&self, transaction: u64) -> bool {
        let mut pending = self.waits.get(&transaction).cloned().unwrap_or_default();
        let mut seen = HashSet::new();
        while let Some(next) = pending.pop() {
            if next == transaction {
                return true;
            }
            if seen.insert(next) {
                pending.extend(self.waits.get(&next).into_iter().flatten());
            }
        }
        false
    }
}

/// All locks of a store.
#[derive(Default)]
pub(super) struct LockTable {
    state: Mutex<State>,
    released: Condvar,
}

impl LockTable {
    /// False only with [`WaitPolicy::Skip`].
    pub(super) fn acquire(
        &self,
        transaction: u64,
        name: LockName,
        mode: LockMode,
        wait: WaitPolicy,
        interrupt: &Interrupt,
    ) -> Result<bool> {
        /// How often a waiter looks at its interrupt flag.
        const POLL: Duration = Duration::from_millis(5);
        let mut waited_ms = 0;
        let mut state = self.state.lock();
        loop {
            let blockers = state.blockers(transaction, &name, mode);
            if blockers.is_empty() {
                state.waits.remove(&transaction);
                let holders = state.holders.entry(name.clone()).or_default();
                if !holders.contains(&(transaction, mode)) {
                    holders.push((transaction, mode));
                    state.held.entry(transaction).or_default().push(name);
                }
                return Ok(true);
            }
            match wait {
                WaitPolicy::Block => {}
                WaitPolicy::Skip => return Ok(false),
                WaitPolicy::Error => return Err(not_available("could not obtain lock")),
            }
            state.waits.insert(transaction, blockers);
            let stop = if state.deadlocked(transaction) {
                Some(SqlError::new(SqlState::DEADLOCK_DETECTED, "deadlock detected"))
            } else if interrupt.lock_timeout_ms() > 0 && waited_ms >= interrupt.lock_timeout_ms() {
                Some(not_available("canceling statement due to lock timeout"))
            } else {
                interrupt.check().err()
            };
            if let Some(error) = stop {
                state.waits.remove(&transaction);
                return Err(error);
            }
            if self.released.wait_for(&mut state, POLL).timed_out() {
                waited_ms += POLL.as_millis() as u64;
            }
        }
    }

    /// Gives back everything a transaction holds.
    pub(super) fn release_all(&self, transaction: u64) {
        let mut state = self.state.lock();
        for name in state.held.remove(&transaction).unwrap_or_default() {
            if let Some(holders) = state.holders.get_mut(&name) {
                holders.retain(|(owner, _)| *owner != transaction);
                if holders.is_empty() {
                    state.holders.remove(&name);
                }
            }
        }
        drop(state);
        self.released.notify_all();
    }
}

fn not_available(message: &str) -> SqlError {
    SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message)
}
