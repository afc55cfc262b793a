//! Keys of many rows claimed at once: as if they were claimed one by one.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use sql::error::SqlState;
use sql::store::{IsolationLevel, RowLockMode, StatementOutcome, Transaction, WaitPolicy};
use storage::TreeId;

use super::{World, begin};

fn key(number: u64) -> Vec<u8> {
    format!("key {number:06} of a row").into_bytes()
}

/// Cheap, and the same in every run.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn claim(transaction: &Arc<dyn Transaction>, tree: TreeId, keys: &BTreeSet<u64>) -> bool {
    let keys: Vec<Vec<u8>> = keys.iter().map(|number| key(*number)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    transaction.claim_absent(tree, &keys).expect("claim")
}

fn put_all(transaction: &Arc<dyn Transaction>, tree: TreeId, keys: &BTreeSet<u64>) {
    let keys: Vec<Vec<u8>> = keys.iter().map(|number| key(*number)).collect();
    let rows = keys.iter().map(|key| (key.as_slice(), Bytes::from(vec![7; 90]))).collect();
    transaction.put_all(tree, rows).expect("put");
}

#[test]
fn claims_see_what_single_lookups_see() {
    const KEYS: u64 = 3000;
    for (world, seed) in [(World::new(256), 1), (World::new(40), 2), (World::spilling(64, 8 << 10), 3)] {
        let mut state = seed;
        let tree = world.tree();
        let mut absent = 0;
        for _ in 0..40 {
            let transaction = world.begin();
            for _ in 0..3 {
                transaction.begin_statement().expect("statement");
                for _ in 0..random(&mut state, 4) {
                    let batch: BTreeSet<u64> = (0..random(&mut state, 20)).map(|_| random(&mut state, KEYS)).collect();
                    let taken = |number: &u64| transaction.get_latest(tree, &key(*number)).expect("get").is_some();
                    let expected = !batch.iter().any(taken);
                    assert_eq!(claim(&transaction, tree, &batch), expected, "seed {seed}");
                    if expected {
                        absent += 1;
                        put_all(&transaction, tree, &batch);
                    } else if let Some(number) = batch.iter().find(|number| taken(number)) {
                        transaction.delete(tree, &key(*number)).expect("delete");
                    }
                }
                let keep = random(&mut state, 4) > 0;
                let outcome = if keep { StatementOutcome::Keep } else { StatementOutcome::Discard };
                transaction.end_statement(outcome);
            }
            if random(&mut state, 4) > 0 {
                world.commit(&transaction).expect("commit");
            }
        }
        assert!(absent > 10, "seed {seed}: {absent} batches were free");
    }
}

#[test]
fn of_overlapping_batches_one_wins() {
    let world = World::new(256);
    let tree = world.tree();
    for round in 0..20 {
        let barrier = Arc::new(Barrier::new(4));
        let threads = (0..4).map(|number| {
            let (compute, barrier) = (world.compute.clone(), barrier.clone());
            thread::spawn(move || {
                let transaction = begin(&compute, IsolationLevel::ReadCommitted);
                transaction.begin_statement().expect("statement");
                let first = round * 1000 + number * 10;
                // All hold the last key of the first.
                let batch = (first..first + 100).collect();
                barrier.wait();
                if !claim(&transaction, tree, &batch) {
                    return 0;
                }
                put_all(&transaction, tree, &batch);
                transaction.end_statement(StatementOutcome::Keep);
                transaction.commit().expect("commit");
                1
            })
        });
        let threads: Vec<_> = threads.collect();
        let winners: i32 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn a_claim_waits_and_is_given_up_with_its_transaction() {
    let world = World::new(256);
    let tree = world.tree();
    let holder = world.begin();
    holder.lock_row(tree, &key(5), RowLockMode::Exclusive, WaitPolicy::Block).expect("free");
    let waiter = world.begin();
    waiter.interrupt().set_lock_timeout_ms(20);
    let keys: Vec<Vec<u8>> = (0..200).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let error = waiter.claim_absent(tree, &keys).expect_err("held by another");
    assert_eq!(error.state(), SqlState::LOCK_NOT_AVAILABLE);
    // What it had locked before goes with it.
    let lock = |number| holder.lock_row(tree, &key(number), RowLockMode::Exclusive, WaitPolicy::Error);
    assert!(lock(4).is_err());
    waiter.rollback();
    assert!(lock(4).is_ok());
}
