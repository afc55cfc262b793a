//! Many transactions at once: sums are kept, one insert of a key wins, long snapshots, deadlocks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sql::error::SqlState;
use sql::store::{
    Direction, IsolationLevel, KeyRange, LockedRow, RowLockMode, StatementOutcome, Transaction, WaitPolicy,
};
use storage::TreeId;

use super::{World, begin, put, rows};
use crate::testing::MemoryLog;

const ACCOUNTS: u64 = 2000;
const START: i64 = 100;

fn key(account: u64) -> Vec<u8> {
    format!("account {account:06}, of somebody with a long name").into_bytes()
}

fn amount(value: &[u8]) -> i64 {
    i64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}

fn balance(amount: i64) -> Bytes {
    // Long enough that the accounts fill many pages.
    let mut value = amount.to_le_bytes().to_vec();
    value.resize(100, 7);
    Bytes::from(value)
}

fn bank(world: &World) -> TreeId {
    let tree = world.tree();
    let transaction = world.begin();
    for account in 0..ACCOUNTS {
        transaction.put(tree, &key(account), balance(START)).expect("put");
    }
    world.commit(&transaction).expect("commit");
    tree
}

fn sum(transaction: &Arc<dyn Transaction>, tree: TreeId) -> (i64, u64) {
    let mut cursor = transaction.scan(tree, KeyRange::ALL, Direction::Forward).expect("scan");
    let (mut total, mut count) = (0, 0);
    while cursor.advance().expect("advance") {
        total += amount(cursor.value());
        count += 1;
    }
    (total, count)
}

/// Cheap, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// `UPDATE … SET balance = balance + delta`, as the executor does it. False: the transaction must be repeated.
fn add(transaction: &Arc<dyn Transaction>, tree: TreeId, account: u64, delta: i64) -> bool {
    let key = key(account);
    transaction.begin_statement().expect("statement");
    let seen = transaction.get(tree, &key).expect("get").expect("it exists");
    let old = match transaction.lock_row(tree, &key, RowLockMode::Exclusive, WaitPolicy::Block) {
        Ok(LockedRow::Unchanged) => amount(&seen),
        Ok(LockedRow::Changed(newest)) => amount(&newest),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert!([SqlState::DEADLOCK_DETECTED, SqlState::SERIALIZATION_FAILURE].contains(&error.state()), "{error}");
            transaction.end_statement(StatementOutcome::Discard);
            return false;
        }
    };
    transaction.put(tree, &key, balance(old + delta)).expect("put");
    transaction.end_statement(StatementOutcome::Keep);
    true
}

/// Transfers between random accounts, some of them hot, while readers check the sum at their snapshots.
fn transfers(world: &World, isolation: IsolationLevel, each: u64) {
    let tree = bank(world);
    let stop = Arc::new(AtomicBool::new(false));
    let retries = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let (compute, retries) = (world.compute.clone(), retries.clone());
            thread::spawn(move || {
                let mut random = Random(number + 1);
                for _ in 0..each {
                    let hot = random.next(2) == 0;
                    let pick = |random: &mut Random| random.next(if hot { 4 } else { ACCOUNTS });
                    let (from, to) = (pick(&mut random), pick(&mut random));
                    let delta = random.next(50) as i64;
                    loop {
                        let transaction = begin(&compute, isolation);
                        if add(&transaction, tree, from, -delta) && add(&transaction, tree, to, delta) {
                            transaction.commit().expect("commit");
                            break;
                        }
                        retries.fetch_add(1, Ordering::Relaxed);
                        transaction.rollback();
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (compute, stop) = (world.compute.clone(), stop.clone());
            thread::spawn(move || {
                let mut checked = 0_u64;
                while !stop.load(Ordering::Relaxed) || checked == 0 {
                    let reader = begin(&compute, IsolationLevel::RepeatableRead);
                    reader.begin_statement().expect("statement");
                    let before = sum(&reader, tree);
                    thread::sleep(Duration::from_millis(2));
                    assert_eq!(sum(&reader, tree), before);
                    assert_eq!(before, (START * ACCOUNTS as i64, ACCOUNTS));
                    checked += 1;
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    world.runtime.block_on(async {
        let applied = world.compute.positions().0;
        world.compute.engine().shipper.wait_durable(applied).await.expect("durable");
    });
    assert_eq!(sum(&world.begin(), tree), (START * ACCOUNTS as i64, ACCOUNTS));
}

#[test]
fn transfers_keep_the_sum_with_all_pages_in_memory() {
    transfers(&World::new(4096), IsolationLevel::ReadCommitted, 400);
}

#[test]
fn transfers_keep_the_sum_when_pages_come_and_go() {
    let world = World::new(40);
    transfers(&world, IsolationLevel::ReadCommitted, 150);
    let evicted = world.compute.engine().cache.counters.evictions.load(Ordering::Relaxed);
    assert!(evicted > 100 && world.pages.answered() > 100, "{evicted} evictions, {} fetches", world.pages.answered());
}

#[test]
fn transfers_keep_the_sum_under_repeatable_read_and_a_slow_log() {
    let world = World::on(MemoryLog::slow(Duration::from_millis(1)), 1024);
    transfers(&world, IsolationLevel::RepeatableRead, 60);
}

#[test]
fn one_of_many_inserts_of_a_key_wins() {
    let world = World::new(256);
    let tree = world.tree();
    for round in 0..30 {
        let key = format!("key {round}");
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (compute, barrier, key) = (world.compute.clone(), barrier.clone(), key.clone());
                thread::spawn(move || {
                    let transaction = begin(&compute, IsolationLevel::ReadCommitted);
                    transaction.begin_statement().expect("statement");
                    barrier.wait();
                    let lock = |mode| transaction.lock_row(tree, key.as_bytes(), mode, WaitPolicy::Block);
                    lock(RowLockMode::Exclusive).expect("no cycle");
                    if transaction.get_latest(tree, key.as_bytes()).expect("get").is_some() {
                        return 0;
                    }
                    put(&transaction, tree, &key, &number.to_string());
                    transaction.end_statement(StatementOutcome::Keep);
                    transaction.commit().expect("commit");
                    1
                })
            })
            .collect();
        let winners: i32 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn a_day_long_snapshot_keeps_its_rows_and_not_the_memory() {
    let world = World::new(400);
    let tree = bank(&world);
    let old = world.begin_at(IsolationLevel::RepeatableRead);
    old.begin_statement().expect("statement");
    let before = sum(&old, tree);
    for round in 0..20 {
        let writer = world.begin();
        for account in (0..ACCOUNTS).step_by(20) {
            writer.put(tree, &key(account), balance(round)).expect("put");
        }
        world.commit(&writer).expect("commit");
    }
    thread::sleep(Duration::from_millis(50));
    let cache = &world.compute.engine().cache;
    let versions = cache.counters.old_versions.load(Ordering::Relaxed);
    assert!(versions <= u64::from(cache.capacity_pages()) / 4, "{versions} old versions are kept");
    assert_eq!(sum(&old, tree), before);
}

#[test]
fn one_commit_may_change_more_pages_than_the_cache_holds() {
    let world = World::new(64);
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let tree = transaction.create_tree().expect("create");
    let mut loader = transaction.bulk_load(tree).expect("load");
    for account in 0..20_000 {
        loader.push(&key(account), &balance(START)).expect("push");
    }
    loader.finish().expect("finish");
    transaction.end_statement(StatementOutcome::Keep);
    world.commit(&transaction).expect("commit");
    for round in 1..3 {
        let writer = world.begin();
        for account in (0..20_000).step_by(30) {
            writer.put(tree, &key(account), balance(round)).expect("put");
        }
        world.commit(&writer).expect("commit");
        let expected = START * (20_000 - 667) + round * 667;
        assert_eq!(sum(&world.begin(), tree), (expected, 20_000));
    }
}

#[test]
fn savepoints_and_locks_deadlock_to_one_victim() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1"), ("b", "1")]);
    let barrier = Arc::new(Barrier::new(2));
    let threads: Vec<_> = [("a", "b"), ("b", "a")]
        .map(|(first, second)| {
            let (compute, barrier) = (world.compute.clone(), barrier.clone());
            thread::spawn(move || {
                let transaction = begin(&compute, IsolationLevel::ReadCommitted);
                let lock =
                    |key: &str| transaction.lock_row(tree, key.as_bytes(), RowLockMode::Exclusive, WaitPolicy::Block);
                lock(first).expect("free");
                barrier.wait();
                match lock(second) {
                    Ok(_) => {
                        put(&transaction, tree, second, first);
                        transaction.commit().expect("commit");
                        0
                    }
                    Err(error) => {
                        assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED);
                        1
                    }
                }
            })
        })
        .into_iter()
        .collect();
    let victims: i32 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!(victims, 1);
    assert_eq!(rows(&world.begin(), tree).len(), 2);
}
