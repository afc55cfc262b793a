//! Transactions that exceed memory: in writes, in pages, in the length of a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use sql::store::{Direction, IsolationLevel, KeyRange, RowLockMode, StatementOutcome, Store, Transaction, WaitPolicy};
use storage::{TreeId, btree};

use super::{World, begin};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(row: u32) -> Vec<u8> {
    // Neighbours are written far apart in time.
    row.wrapping_mul(2_654_435_761).to_be_bytes().to_vec()
}

/// One statement of its own.
fn statement(transaction: &Arc<dyn Transaction>, outcome: StatementOutcome, work: impl FnOnce()) {
    transaction.begin_statement().expect("statement");
    work();
    transaction.end_statement(outcome);
}

fn put(transaction: &Arc<dyn Transaction>, tree: TreeId, model: &mut Rows, row: u32, value: Vec<u8>) {
    transaction.put(tree, &key(row), Bytes::from(value.clone())).expect("put");
    model.insert(key(row), value);
}

fn contents(transaction: &Arc<dyn Transaction>, tree: TreeId) -> Rows {
    let mut cursor = transaction.scan(tree, KeyRange::ALL, Direction::Forward).expect("scan");
    let mut rows = Rows::new();
    while cursor.advance().expect("advance") {
        rows.insert(cursor.key().to_vec(), cursor.value().to_vec());
    }
    rows
}

#[track_caller]
fn assert_rows(transaction: &Arc<dyn Transaction>, tree: TreeId, expected: &Rows) {
    let found = contents(transaction, tree);
    assert!(found == *expected, "{} rows instead of {}, or others", found.len(), expected.len());
}

/// Rows, structure, page numbers, and every page against the log replayed.
fn check(world: &World, trees: &[TreeId], models: &[&Rows]) {
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    trees.iter().zip(models).for_each(|(tree, model)| assert_rows(&transaction, *tree, model));
    while !world.compute.reclaiming_is_done() {
        thread::yield_now();
    }
    let engine = world.compute.engine();
    engine.block_durable(engine.positions.applied()).expect("durable");
    let mut problems = Vec::new();
    let mut add = |problem| {
        problems.push(problem);
        Ok(())
    };
    transaction.begin_statement().expect("statement");
    transaction.check_pages(trees, true, &mut add).expect("the check runs");
    assert_eq!(problems, []);
    let reader = crate::cache::SnapshotReader::new(engine.cache.clone(), engine.positions.durable());
    for (number, expected) in storage::testing::replay(&world.log.bytes()) {
        let cached = btree::PageReader::page(&reader, number).expect("page");
        assert_eq!(cached.bytes(), expected.bytes(), "page {number}");
    }
}

#[test]
fn a_transaction_many_times_the_cache_commits_whole() {
    // 120 pages are a megabyte.
    let world = World::spilling(120, 20_000);
    let tree = world.tree();
    let other = world.tree();
    let (mut model, mut small) = (Rows::new(), Rows::new());
    let transaction = world.begin();
    for part in 0..4_u32 {
        statement(&transaction, StatementOutcome::Keep, || {
            (0..5000).for_each(|row| put(&transaction, tree, &mut model, part * 5000 + row, vec![1; 100]));
            put(&transaction, other, &mut small, part, vec![2; 10]);
        });
    }
    statement(&transaction, StatementOutcome::Discard, || {
        (0..9000).for_each(|row| put(&transaction, tree, &mut Rows::new(), row, vec![9; 100]));
    });
    transaction.begin_statement().expect("statement");
    assert_rows(&transaction, tree, &model);
    let reader = world.begin_at(IsolationLevel::RepeatableRead);
    reader.begin_statement().expect("statement");
    world.commit(&transaction).expect("commit");
    assert_rows(&reader, tree, &Rows::new());
    check(&world, &[tree, other], &[&model, &small]);

    // All rows change and grow, a tenth of them goes; an older snapshot goes on reading the old ones.
    let reader = world.begin_at(IsolationLevel::RepeatableRead);
    reader.begin_statement().expect("statement");
    let before = model.clone();
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        for row in 0..20_000 {
            if row % 10 == 3 {
                transaction.delete(tree, &key(row)).expect("delete");
                model.remove(&key(row));
            } else {
                put(&transaction, tree, &mut model, row, vec![3; 130]);
            }
        }
    });
    world.commit(&transaction).expect("commit");
    assert_rows(&reader, tree, &before);
    check(&world, &[tree, other], &[&model, &small]);

    // A rollback of the same leaves nothing.
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        (0..20_000).for_each(|row| put(&transaction, tree, &mut Rows::new(), row, vec![4; 100]));
    });
    transaction.rollback();
    check(&world, &[tree, other], &[&model, &small]);

    // Everything goes.
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        model.keys().for_each(|key| transaction.delete(tree, key).expect("delete"));
    });
    world.commit(&transaction).expect("commit");
    check(&world, &[tree, other], &[&Rows::new(), &small]);
}

#[test]
fn a_commit_that_fits_in_writes_but_not_in_pages_goes_through() {
    let world = World::new(150);
    let tree = world.tree();
    let mut model = Rows::new();
    for part in 0..20_u32 {
        let transaction = world.begin();
        statement(&transaction, StatementOutcome::Keep, || {
            (0..500).for_each(|row| put(&transaction, tree, &mut model, part * 500 + row, vec![1; 700]));
        });
        world.commit(&transaction).expect("commit");
    }
    // A thousand leaves, one row of each.
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        (0..10_000).step_by(7).for_each(|row| put(&transaction, tree, &mut model, row, vec![2; 710]));
    });
    world.commit(&transaction).expect("commit");
    check(&world, &[tree], &[&model]);
}

#[test]
fn leaves_that_others_change_meanwhile_are_done_again() {
    let world = World::spilling(2000, 50_000);
    let tree = world.tree();
    let mut model = Rows::new();
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        (0..6000).for_each(|row| put(&transaction, tree, &mut model, row, vec![0; 100]));
    });
    world.commit(&transaction).expect("commit");
    let stop = Arc::new(AtomicBool::new(false));
    // Small commits all over the tree, on rows of their own: odd ones, and new ones.
    let writers: Vec<_> = (0..2_u32)
        .map(|number| {
            let (compute, stop) = (world.compute.clone(), stop.clone());
            thread::spawn(move || {
                let mut written = Rows::new();
                let mut round = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let transaction = begin(&compute, IsolationLevel::ReadCommitted);
                    for step in 0..5 {
                        let row = (round * 5 + step) * 26 % 6000 + 1 + number * 2;
                        let row =
                            if step == 4 { 100_000 + number * 100_000 + round } else { row / 4 * 4 + 1 + number * 2 };
                        transaction
                            .lock_row(tree, &key(row), RowLockMode::Exclusive, WaitPolicy::Block)
                            .expect("no cycle");
                        let value = vec![10 + number as u8; 50 + (round % 120) as usize];
                        transaction.put(tree, &key(row), Bytes::from(value.clone())).expect("put");
                        written.insert(key(row), value);
                    }
                    let lsn = transaction.commit().expect("commit").expect("wrote");
                    compute.block_until_durable(lsn).expect("durable");
                    round += 1;
                }
                written
            })
        })
        .collect();
    // Large ones on the even rows.
    for round in 0..6_u8 {
        let transaction = world.begin();
        statement(&transaction, StatementOutcome::Keep, || {
            for row in (0..6000).step_by(2) {
                transaction.lock_row(tree, &key(row), RowLockMode::Exclusive, WaitPolicy::Block).expect("no cycle");
                put(&transaction, tree, &mut model, row, vec![100 + round; 100 + usize::from(round)]);
            }
        });
        world.commit(&transaction).expect("commit");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        model.extend(writer.join().expect("no panic"));
    }
    check(&world, &[tree], &[&model]);
}

#[test]
fn long_values_are_written_outside_the_sequencer() {
    let mut world = World::new(600);
    let tree = world.tree();
    let mut model = Rows::new();
    // Values longer than the cache, put, replaced by others, by short ones, and deleted.
    for (round, bytes) in [(1_u8, 9 << 20), (2, 6 << 20), (3, 10), (4, 7 << 20)] {
        let transaction = world.begin();
        statement(&transaction, StatementOutcome::Keep, || {
            put(&transaction, tree, &mut model, 1, vec![round; bytes]);
            put(&transaction, tree, &mut model, u32::from(round), vec![round; bytes / 2]);
        });
        world.commit(&transaction).expect("commit");
        check(&world, &[tree], &[&model]);
    }
    world.restart(600);
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        for row in [1, 2, 4] {
            transaction.delete(tree, &key(row)).expect("delete");
            model.remove(&key(row));
        }
    });
    world.commit(&transaction).expect("commit");
    check(&world, &[tree], &[&model]);
}

#[test]
fn a_limit_on_disk_is_told_and_leaves_nothing() {
    let mut world = World::spilling(300, 10_000);
    world.config.spill_limit_bytes = 300_000;
    world.restart(300);
    let tree = world.tree();
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let value = Bytes::from(vec![1; 100]);
    let error = (0..10_000).find_map(|row| transaction.put(tree, &key(row), value.clone()).err());
    let error = error.expect("ten thousand rows are more than fit");
    assert_eq!((error.state().0, error.message()), ("54000", "transaction is too large"));
    assert!(error.fields().detail.is_some() && error.fields().hint.is_some());
    transaction.end_statement(StatementOutcome::Discard);
    // The transaction goes on without the statement.
    let mut model = Rows::new();
    statement(&transaction, StatementOutcome::Keep, || put(&transaction, tree, &mut model, 7, vec![1; 10]));
    world.commit(&transaction).expect("commit");
    check(&world, &[tree], &[&model]);
}

#[test]
fn a_large_commit_that_is_cancelled_gives_its_pages_back() {
    let world = World::spilling(300, 10_000);
    let tree = world.tree();
    let transaction = world.begin();
    statement(&transaction, StatementOutcome::Keep, || {
        (0..10_000).for_each(|row| put(&transaction, tree, &mut Rows::new(), row, vec![1; 100]));
    });
    let interrupt = transaction.interrupt().clone();
    let canceller = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(30));
        interrupt.raise(sql::store::InterruptReason::UserCancel);
    });
    let outcome = world.commit(&transaction);
    canceller.join().expect("no panic");
    if outcome.is_ok() {
        // It was through before: all of it is there.
        return;
    }
    drop(transaction);
    check(&world, &[tree], &[&Rows::new()]);
    let reader = world.begin();
    reader.begin_statement().expect("statement");
    assert_rows(&reader, tree, &Rows::new());
}
