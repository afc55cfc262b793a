//! The lock table alone: Postgres' conflicts, order of waiters, timeouts, deadlocks, many threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sql::error::{Result, SqlState};
use sql::store::{Interrupt, InterruptReason, RowLockMode, TableLockMode, WaitPolicy};
use storage::{PageNo, TreeId};

use super::table::Acquired;
use super::{LockModes, LockName, LockTable, OwnerId};

const MODES: [TableLockMode; 8] = [
    TableLockMode::AccessShare,
    TableLockMode::RowShare,
    TableLockMode::RowExclusive,
    TableLockMode::ShareUpdateExclusive,
    TableLockMode::Share,
    TableLockMode::ShareRowExclusive,
    TableLockMode::Exclusive,
    TableLockMode::AccessExclusive,
];
const EXCLUSIVE: LockModes = LockModes::of_row(RowLockMode::Exclusive);
const SHARE: LockModes = LockModes::of_row(RowLockMode::Share);

fn row(key: &str) -> LockName {
    LockName::row(TreeId(PageNo(7)), key.as_bytes())
}

fn take(table: &LockTable, owner: u64, name: LockName, modes: LockModes, policy: WaitPolicy) -> Result<Acquired> {
    table.acquire(OwnerId(owner), name, modes, policy, &Interrupt::default())
}

/// Runs a blocking request on a thread of its own, and returns once it waits.
fn begin_waiting(
    table: &Arc<LockTable>,
    owner: u64,
    name: LockName,
    modes: LockModes,
    interrupt: Arc<Interrupt>,
) -> thread::JoinHandle<Result<Acquired>> {
    let waited = table.waited();
    let for_thread = table.clone();
    let handle = thread::spawn(move || for_thread.acquire(OwnerId(owner), name, modes, WaitPolicy::Block, &interrupt));
    while table.waited() == waited {
        thread::yield_now();
    }
    handle
}

#[test]
fn the_conflict_matrix_is_postgres_and_symmetric() {
    // Rows and columns from AccessShare to AccessExclusive, as in Postgres' documentation.
    let matrix = ["       X", "      XX", "    XXXX", "   XXXXX", "  XX XXX", "  XXXXXX", " XXXXXXX", "XXXXXXXX"];
    for (held, row) in MODES.into_iter().zip(matrix) {
        for (requested, cell) in MODES.into_iter().zip(row.chars()) {
            let conflict = LockModes::of(held).conflicts_with(LockModes::of(requested));
            assert_eq!(conflict, cell == 'X', "{held:?} held, {requested:?} requested");
            assert_eq!(conflict, LockModes::of(requested).conflicts_with(LockModes::of(held)));
        }
    }
}

#[test]
fn policies_on_a_held_lock() {
    let table = LockTable::new();
    assert_eq!(take(&table, 1, row("a"), EXCLUSIVE, WaitPolicy::Block), Ok(Acquired::New));
    assert_eq!(take(&table, 1, row("a"), EXCLUSIVE, WaitPolicy::Block), Ok(Acquired::Already));
    assert_eq!(take(&table, 1, row("a"), SHARE, WaitPolicy::Block), Ok(Acquired::Already));
    assert_eq!(take(&table, 2, row("a"), SHARE, WaitPolicy::Skip), Ok(Acquired::Skipped));
    let refused = take(&table, 2, row("a"), SHARE, WaitPolicy::Error).expect_err("held");
    assert_eq!(refused.state(), SqlState::LOCK_NOT_AVAILABLE);
    table.release(OwnerId(1), [row("a")]);
    assert_eq!(take(&table, 2, row("a"), SHARE, WaitPolicy::Error), Ok(Acquired::New));
    assert_eq!(take(&table, 3, row("a"), SHARE, WaitPolicy::Error), Ok(Acquired::New));
    table.release(OwnerId(2), [row("a")]);
    table.release(OwnerId(3), [row("a")]);
    assert_eq!(table.len(), 0, "a free lock is forgotten");
}

#[test]
fn waiters_are_served_in_order_and_nobody_overtakes() {
    let table = Arc::new(LockTable::new());
    let interrupt = || Arc::new(Interrupt::default());
    take(&table, 1, row("a"), SHARE, WaitPolicy::Block).expect("free");
    let exclusive = begin_waiting(&table, 2, row("a"), EXCLUSIVE, interrupt());
    // A share lock would be compatible with the holder, but the exclusive request came first.
    assert_eq!(take(&table, 3, row("a"), SHARE, WaitPolicy::Skip), Ok(Acquired::Skipped));
    let share = begin_waiting(&table, 3, row("a"), SHARE, interrupt());
    table.release(OwnerId(1), [row("a")]);
    assert_eq!(exclusive.join().expect("no panic"), Ok(Acquired::New));
    thread::sleep(Duration::from_millis(5));
    assert!(!share.is_finished());
    table.release(OwnerId(2), [row("a")]);
    assert_eq!(share.join().expect("no panic"), Ok(Acquired::New));
}

#[test]
fn a_holder_that_wants_more_goes_before_the_queue() {
    let table = Arc::new(LockTable::new());
    let interrupt = || Arc::new(Interrupt::default());
    take(&table, 1, row("a"), SHARE, WaitPolicy::Block).expect("free");
    take(&table, 2, row("a"), SHARE, WaitPolicy::Block).expect("shared");
    let stranger = begin_waiting(&table, 3, row("a"), EXCLUSIVE, interrupt());
    let upgrade = begin_waiting(&table, 1, row("a"), EXCLUSIVE, interrupt());
    table.release(OwnerId(2), [row("a")]);
    assert_eq!(upgrade.join().expect("no panic"), Ok(Acquired::Already));
    assert!(!stranger.is_finished());
    table.release(OwnerId(1), [row("a")]);
    assert_eq!(stranger.join().expect("no panic"), Ok(Acquired::New));
}

#[test]
fn a_wait_ends_with_lock_timeout_or_cancel_and_frees_those_behind() {
    let table = Arc::new(LockTable::new());
    take(&table, 1, row("a"), SHARE, WaitPolicy::Block).expect("free");

    let interrupt = Arc::new(Interrupt::default());
    interrupt.set_lock_timeout_ms(30);
    let began = Instant::now();
    let error = table.acquire(OwnerId(2), row("a"), EXCLUSIVE, WaitPolicy::Block, &interrupt).expect_err("held");
    assert_eq!(error.state(), SqlState::LOCK_NOT_AVAILABLE);
    assert_eq!(error.message(), "canceling statement due to lock timeout");
    assert!(began.elapsed() >= Duration::from_millis(30));

    let interrupt = Arc::new(Interrupt::default());
    let cancelled = begin_waiting(&table, 2, row("a"), EXCLUSIVE, interrupt.clone());
    let behind = begin_waiting(&table, 3, row("a"), SHARE, Arc::new(Interrupt::default()));
    interrupt.raise(InterruptReason::UserCancel);
    let error = cancelled.join().expect("no panic").expect_err("cancelled");
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    assert_eq!(behind.join().expect("no panic"), Ok(Acquired::New));
}

#[test]
fn a_cycle_costs_exactly_one_victim() {
    for owners in [2_u64, 3, 5] {
        let table = Arc::new(LockTable::new());
        let name = move |owner: u64| row(&format!("row {}", owner % owners));
        for owner in 0..owners {
            take(&table, owner, name(owner), EXCLUSIVE, WaitPolicy::Block).expect("free");
        }
        let victims = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..owners)
            .map(|owner| {
                let (table, victims) = (table.clone(), victims.clone());
                thread::spawn(move || {
                    let got = take(&table, owner, name(owner + 1), EXCLUSIVE, WaitPolicy::Block);
                    if let Err(error) = got {
                        assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED);
                        let detail = error.fields().detail.clone().expect("the cycle");
                        assert_eq!(detail.lines().count() as u64, owners, "{detail}");
                        assert!(detail.starts_with(&format!("Process {owner} waits for AccessExclusiveLock on")));
                        victims.fetch_add(1, Ordering::Relaxed);
                    }
                    table.release(OwnerId(owner), [name(owner), name(owner + 1)]);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(victims.load(Ordering::Relaxed), 1);
        assert_eq!((table.deadlocks(), table.len()), (1, 0));
    }
}

#[test]
fn table_and_row_locks_deadlock_together() {
    let table = Arc::new(LockTable::new());
    let access_exclusive = LockModes::of(TableLockMode::AccessExclusive);
    take(&table, 1, LockName::table(42), LockModes::of(TableLockMode::RowExclusive), WaitPolicy::Block).expect("free");
    take(&table, 2, row("a"), EXCLUSIVE, WaitPolicy::Block).expect("free");
    let for_ddl = table.clone();
    let ddl = thread::spawn(move || {
        let outcome = take(&for_ddl, 2, LockName::table(42), access_exclusive, WaitPolicy::Block);
        // Victim or not, its transaction ends.
        for_ddl.release(OwnerId(2), [LockName::table(42), row("a")]);
        outcome
    });
    let update = take(&table, 1, row("a"), EXCLUSIVE, WaitPolicy::Block);
    table.release(OwnerId(1), [LockName::table(42), row("a")]);
    let ddl = ddl.join().expect("no panic");
    // The cycle is certain only if both waited before either was through.
    assert!(update.is_ok() || ddl.is_ok(), "{update:?} {ddl:?}");
    assert_eq!(u64::from(update.is_err()) + u64::from(ddl.is_err()), table.deadlocks());
}

#[test]
fn many_threads_exclude_each_other() {
    let table = Arc::new(LockTable::new());
    let inside = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (table, inside) = (table.clone(), inside.clone());
            thread::spawn(move || {
                for round in 0..500_u64 {
                    let owner = OwnerId(thread * 1000 + round);
                    let name = row("hot");
                    table.acquire(owner, name, EXCLUSIVE, WaitPolicy::Block, &Interrupt::default()).expect("no cycle");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    table.release(owner, [name]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(table.len(), 0);
}

#[test]
fn many_rows_become_one_tree() {
    let table = Arc::new(LockTable::new());
    let tree = TreeId(PageNo(7));
    let other = LockName::row(TreeId(PageNo(8)), b"a");
    let keys: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    for key in &keys {
        assert_eq!(take(&table, 1, row(key), EXCLUSIVE, WaitPolicy::Block), Ok(Acquired::New));
    }
    assert_eq!(take(&table, 1, other, EXCLUSIVE, WaitPolicy::Block), Ok(Acquired::New));
    assert_eq!(take(&table, 2, row("else"), SHARE, WaitPolicy::Block), Ok(Acquired::New));
    assert_eq!(table.escalate(OwnerId(1), tree), None, "another has a row of the tree");
    table.release(OwnerId(2), [row("else")]);
    let whole = table.escalate(OwnerId(1), tree).expect("nobody is in the way");
    assert_eq!(table.len(), 2, "the tree, and the row of another tree");
    // What it holds, and may take without more entries.
    assert_eq!(take(&table, 1, row("5"), EXCLUSIVE, WaitPolicy::Block), Ok(Acquired::Already));
    assert_eq!(take(&table, 1, row("new"), SHARE, WaitPolicy::Block), Ok(Acquired::Already));
    // Others stay out, each in its way; other trees are theirs.
    assert_eq!(take(&table, 2, row("5"), SHARE, WaitPolicy::Skip), Ok(Acquired::Skipped));
    let refused = take(&table, 2, row("5000"), SHARE, WaitPolicy::Error).expect_err("held");
    assert_eq!(refused.state(), SqlState::LOCK_NOT_AVAILABLE);
    let free = LockName::row(TreeId(PageNo(8)), b"b");
    assert_eq!(take(&table, 2, free, EXCLUSIVE, WaitPolicy::Error), Ok(Acquired::New));
    // A cycle by way of the tree is found.
    let waiting = begin_waiting(&table, 2, row("6"), EXCLUSIVE, Arc::default());
    // Past its first look for a deadlock, so that it is the other's that finds the cycle.
    thread::sleep(Duration::from_millis(200));
    let cycle = take(&table, 1, free, EXCLUSIVE, WaitPolicy::Block).expect_err("a cycle");
    assert_eq!(cycle.state(), SqlState::DEADLOCK_DETECTED);
    let third = begin_waiting(&table, 3, row("7"), SHARE, Arc::default());
    table.release(OwnerId(1), [whole, other]);
    assert_eq!(waiting.join().expect("no panic"), Ok(Acquired::New));
    assert_eq!(third.join().expect("no panic"), Ok(Acquired::New));
    table.release(OwnerId(2), [row("6"), free]);
    table.release(OwnerId(3), [row("7")]);
    assert_eq!(table.len(), 0);
}

#[test]
fn shared_rows_escalate_to_a_shared_tree() {
    let table = LockTable::new();
    let tree = TreeId(PageNo(7));
    assert_eq!(take(&table, 1, row("a"), SHARE, WaitPolicy::Block), Ok(Acquired::New));
    assert_eq!(take(&table, 2, row("b"), SHARE, WaitPolicy::Block), Ok(Acquired::New));
    let whole = table.escalate(OwnerId(1), tree).expect("share admits share");
    assert_eq!(table.escalate(OwnerId(2), tree), None, "one transaction at a time");
    assert_eq!(take(&table, 2, row("a"), SHARE, WaitPolicy::Error), Ok(Acquired::New));
    assert!(take(&table, 2, row("c"), EXCLUSIVE, WaitPolicy::Error).is_err(), "the tree is shared");
    // More than it holds of the tree is a matter of the row.
    assert!(take(&table, 1, row("b"), EXCLUSIVE, WaitPolicy::Error).is_err());
    assert_eq!(take(&table, 1, row("c"), EXCLUSIVE, WaitPolicy::Error), Ok(Acquired::New));
    assert!(take(&table, 2, row("c"), SHARE, WaitPolicy::Error).is_err());
    table.release(OwnerId(1), [whole, row("c")]);
    table.release(OwnerId(2), [row("a"), row("b")]);
    assert_eq!(table.len(), 0);
    assert_eq!(take(&table, 2, row("c"), EXCLUSIVE, WaitPolicy::Error), Ok(Acquired::New));
}
