//! One transaction at a time, and what the log may do to it: statements, snapshots, bulk loads, lost answers, fencing.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use sql::error::SqlState;
use sql::store::{
    BulkPush, IsolationLevel, LockedRow, RowLockMode, StatementOutcome, Store, TableLockMode, Transaction,
    TransactionOptions, WaitPolicy,
};

use super::{World, put, rows, text};
use crate::testing::{Fault, MemoryLog};
use logstore::client::{LogClient, LogError};
use storage::BranchId;

#[test]
fn statements_see_earlier_statements_only() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1"), ("b", "2")]);
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    put(&transaction, tree, "b", "3");
    put(&transaction, tree, "c", "4");
    transaction.delete(tree, b"a").expect("delete");
    assert_eq!(text(transaction.get(tree, b"b").expect("get")), Some("2".into()));
    assert_eq!(text(transaction.get_latest(tree, b"b").expect("get")), Some("3".into()));
    assert_eq!(rows(&transaction, tree).len(), 2);
    let locked = transaction.lock_row(tree, b"b", RowLockMode::Exclusive, WaitPolicy::Block);
    assert_eq!(locked, Ok(LockedRow::WrittenByThisStatement));
    transaction.end_statement(StatementOutcome::Keep);

    transaction.begin_statement().expect("statement");
    let expected = [("b".to_owned(), "3".to_owned()), ("c".into(), "4".into())];
    assert_eq!(rows(&transaction, tree), expected);
    put(&transaction, tree, "d", "5");
    transaction.end_statement(StatementOutcome::Discard);
    assert_eq!(rows(&transaction, tree), expected);
    world.commit(&transaction).expect("commit");
    let later = world.begin();
    assert_eq!(rows(&later, tree), expected);
    assert_eq!(text(world.compute.last_key(tree).expect("last")), Some("c".into()));
}

#[test]
fn rollback_and_drop_leave_nothing() {
    let world = World::new(256);
    let tree = world.tree();
    for end in 0..2 {
        let transaction = world.begin();
        transaction.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Error).expect("free");
        put(&transaction, tree, "a", "1");
        if end == 0 {
            transaction.rollback();
        } else {
            drop(transaction);
        }
    }
    assert_eq!(rows(&world.begin(), tree), []);
}

#[test]
fn repeatable_read_keeps_its_snapshot_and_refuses_changed_rows() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let reader = world.begin_at(IsolationLevel::RepeatableRead);
    reader.begin_statement().expect("statement");
    let committed = world.begin();
    committed.begin_statement().expect("statement");
    world.put(tree, &[("a", "2")]);
    let deleter = world.begin();
    deleter.delete(tree, b"b").expect("delete");
    world.commit(&deleter).expect("commit");

    assert_eq!(text(reader.get(tree, b"a").expect("get")), Some("1".into()));
    for (key, what) in [(b"a", "update"), (b"b", "delete")] {
        let error = reader.lock_row(tree, key, RowLockMode::Exclusive, WaitPolicy::Block).expect_err("changed");
        assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
        assert_eq!(error.message(), format!("could not serialize access due to concurrent {what}"));
    }
    let unchanged = reader.lock_row(tree, b"c", RowLockMode::Exclusive, WaitPolicy::Block);
    assert_eq!(unchanged, Ok(LockedRow::Unchanged));
    reader.rollback();

    let lock = |key| committed.lock_row(tree, key, RowLockMode::Exclusive, WaitPolicy::Block);
    assert_eq!(lock(b"a"), Ok(LockedRow::Changed(Bytes::from_static(b"2"))));
    assert_eq!(lock(b"b"), Ok(LockedRow::Deleted));
    assert_eq!(lock(b"c"), Ok(LockedRow::Unchanged));
    assert_eq!(lock(b"never"), Ok(LockedRow::Unchanged));
}

#[test]
fn repeatable_read_returns_to_its_snapshot_after_ddl_and_sees_no_younger_tree() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1")]);
    let loading = world.begin();
    loading.begin_statement().expect("statement");
    let loaded = loading.create_tree().expect("create");
    let mut loader = loading.bulk_load(loaded).expect("load");
    loader.push(b"x", b"1").expect("push");
    loader.finish().expect("finish");
    loading.end_statement(StatementOutcome::Keep);
    // The load's pages are there at this snapshot; its commit is not.
    let reader = world.begin_at(IsolationLevel::RepeatableRead);
    reader.begin_statement().expect("statement");
    reader.end_statement(StatementOutcome::Keep);
    world.commit(&loading).expect("commit");
    world.put(tree, &[("a", "2")]);
    reader.begin_statement_at_newest().expect("statement");
    assert_eq!(text(reader.get(tree, b"a").expect("get")), Some("2".into()));
    assert_eq!(rows(&reader, loaded).len(), 1);
    reader.end_statement(StatementOutcome::Keep);
    reader.begin_statement().expect("statement");
    assert_eq!(text(reader.get(tree, b"a").expect("get")), Some("1".into()));
    assert_eq!(rows(&reader, loaded), []);
    assert_eq!(reader.get(loaded, b"x"), Ok(None));
    let error = reader.lock_row(loaded, b"x", RowLockMode::Exclusive, WaitPolicy::Block).expect_err("younger");
    assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
}

#[test]
fn a_commit_is_seen_by_writers_before_it_is_durable_and_by_snapshots_after() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1")]);
    world.log.hold(true);
    let writer = world.begin();
    writer.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block).expect("free");
    put(&writer, tree, "a", "2");
    let lsn = writer.commit().expect("commit").expect("wrote");
    // Its lock is free, its row is newest, and no snapshot shows it.
    let next = world.begin();
    next.begin_statement().expect("statement");
    assert_eq!(text(next.get(tree, b"a").expect("get")), Some("1".into()));
    let locked = next.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Error);
    assert_eq!(locked, Ok(LockedRow::Changed(Bytes::from_static(b"2"))));
    assert_eq!(text(next.get_latest(tree, b"a").expect("get")), Some("2".into()));
    assert!(world.compute.durable_lsn() < lsn);
    let wait = world.compute.wait_durable(lsn);
    let waiting = world.runtime.spawn(wait);
    thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    world.log.hold(false);
    world.runtime.block_on(waiting).expect("no panic").expect("durable");
    next.begin_statement().expect("statement");
    assert_eq!(text(next.get(tree, b"a").expect("get")), Some("2".into()));
}

/// What a lock's holder before has done is seen by who holds it next, although it is not durable yet: in the statements after the
/// lock, at a REPEATABLE READ that begins with it, and nobody is told to have read what may still be lost.
#[test]
fn statements_after_a_lock_see_what_its_holder_before_committed() {
    type Lock = fn(&Arc<dyn Transaction>, storage::TreeId) -> sql::error::Result<()>;
    let row: Lock = |one, tree| one.lock_row(tree, b"lock", RowLockMode::Exclusive, WaitPolicy::Block).map(drop);
    let changed: Lock = |one, tree| one.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block).map(drop);
    let table: Lock = |one, _| one.lock_table(7, TableLockMode::Exclusive, WaitPolicy::Block).map(drop);
    let writes: Lock = |one, _| one.lock_table(7, TableLockMode::RowExclusive, WaitPolicy::Block).map(drop);
    let cases = [
        (row, row, true),
        (changed, changed, false),
        (table, table, true),
        (writes, table, true),
        (table, writes, true),
    ];
    for (before, after, repeatable) in cases {
        for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead] {
            if isolation == IsolationLevel::RepeatableRead && !repeatable {
                // A row that has changed since the snapshot: 40001.
                continue;
            }
            let world = World::new(256);
            let tree = world.tree();
            world.put(tree, &[("a", "1"), ("b", "1"), ("lock", "")]);
            world.log.hold(true);
            let writer = world.begin();
            before(&writer, tree).expect("free");
            put(&writer, tree, "a", "2");
            put(&writer, tree, "b", "2");
            let lsn = writer.commit().expect("commit").expect("wrote");
            let next = world.begin_at(isolation);
            after(&next, tree).expect("free");
            let reading = next.clone();
            let reader = thread::spawn(move || {
                reading.begin_statement().expect("statement");
                text(reading.get(tree, b"b").expect("get"))
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!reader.is_finished(), "it has read before the commit that it builds on was durable");
            assert_eq!(next.commit().expect("commit"), Some(lsn), "what it was shown must last");
            world.log.hold(false);
            assert_eq!(reader.join().expect("no panic"), Some("2".into()));
        }
    }
}

/// Nobody waits who has not met the commit before, nor who reads nothing.
#[test]
fn statements_wait_for_no_commit_that_they_do_not_build_on() {
    let world = World::new(256);
    let tree = world.tree();
    world.put(tree, &[("a", "1"), ("b", "1")]);
    world.log.hold(true);
    let writer = world.begin();
    writer.lock_table(7, TableLockMode::RowExclusive, WaitPolicy::Block).expect("free");
    writer.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block).expect("free");
    put(&writer, tree, "a", "2");
    writer.commit().expect("commit");
    let other = world.begin();
    other.lock_table(7, TableLockMode::RowExclusive, WaitPolicy::Block).expect("free");
    other.lock_row(tree, b"b", RowLockMode::Exclusive, WaitPolicy::Block).expect("free");
    other.begin_statement().expect("statement");
    assert_eq!(text(other.get(tree, b"a").expect("get")), Some("1".into()));
    assert_eq!(other.commit(), Ok(None));
    let blind = world.begin();
    blind.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block).expect("free");
    blind.begin_statement().expect("statement");
    put(&blind, tree, "a", "3");
    blind.end_statement(StatementOutcome::Keep);
    assert!(blind.commit().expect("commit").is_some());
}

#[test]
fn lost_answers_and_an_unavailable_log_delay_commits_only() {
    let world = World::new(256);
    let tree = world.tree();
    let unavailable = Fault::Refused(LogError::Unavailable { reason: "test".into() });
    world.log.fail_next([Fault::LostAnswer, unavailable.clone(), unavailable, Fault::LostAnswer]);
    for number in 0..5 {
        world.put(tree, &[(&format!("{number}"), "x")]);
    }
    assert_eq!(rows(&world.begin(), tree).len(), 5);
}

#[test]
fn a_full_log_refuses_new_commits_and_recovers() {
    let world = World::new(256);
    let tree = world.tree();
    let full = Fault::Refused(LogError::NoSpace { reason: "test".into() });
    world.log.fail_next(vec![full; 14]);
    // Applied until it is known that there is no room.
    let mut lsns = Vec::new();
    let refused = loop {
        let transaction = world.begin();
        put(&transaction, tree, &format!("a{}", lsns.len()), "1");
        match transaction.commit() {
            Ok(lsn) => lsns.push(lsn.expect("wrote")),
            Err(refused) => break refused,
        }
        assert!(lsns.len() < 1_000, "a full log refuses nothing");
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(refused.state(), SqlState::DISK_FULL);
    for lsn in &lsns {
        world.runtime.block_on(world.compute.wait_durable(*lsn)).expect("room again");
    }
    world.put(tree, &[("b", "1")]);
    assert_eq!(rows(&world.begin(), tree).len(), lsns.len() + 1);
}

/// A commit that was applied when the log became full is not denied, since it will be there; but nobody waits long to be told.
#[test]
fn a_commit_under_way_while_the_log_is_full_is_unknown_soon() {
    let world = World::new(256);
    let tree = world.tree();
    // A log that answers quickly is sent one group at a time: what comes meanwhile gathers behind it.
    for round in 0..100 {
        world.put(tree, &[("a", &round.to_string())]);
    }
    world.log.hold(true);
    let full = Fault::Refused(LogError::NoSpace { reason: "test".into() });
    world.log.fail_next(vec![full; 25]);
    let lsns = ["b", "c", "d"].map(|key| {
        let transaction = world.begin();
        put(&transaction, tree, key, "1");
        transaction.commit().expect("applied").expect("wrote")
    });
    let begun = std::time::Instant::now();
    world.log.hold(false);
    for lsn in lsns {
        let told = world.runtime.block_on(world.compute.wait_durable(lsn)).expect_err("there is no room");
        assert_eq!(told.state(), SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
        let waited = begun.elapsed();
        // Not after the 30 s that a log which cannot be reached has.
        assert!((1..25).contains(&waited.as_secs()), "told after {waited:?}");
    }
    // There is room again: they are there after all.
    for _ in 0..1000 {
        if rows(&world.begin(), tree).len() == 4 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("what was applied is never durable");
}

#[test]
fn a_fenced_compute_never_acknowledges() {
    let world = World::new(256);
    let tree = world.tree();
    world.runtime.block_on(world.log.acquire_epoch(BranchId(1))).expect("another primary");
    let transaction = world.begin();
    put(&transaction, tree, "a", "1");
    let error = world.commit(&transaction).expect_err("fenced");
    assert_eq!(error.state(), SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
    let next = world.begin();
    put(&next, tree, "a", "1");
    assert_eq!(next.commit().expect_err("fenced").state(), SqlState::ADMIN_SHUTDOWN);
    // Reading goes on.
    assert_eq!(rows(&world.begin(), tree), []);
}

#[test]
fn a_commit_does_not_wait_for_a_driver_that_has_panicked() {
    let world = World::new(256);
    let tree = world.tree();
    world.log.fail_next([Fault::Panics]);
    let transaction = world.begin();
    put(&transaction, tree, "a", "1");
    let error = world.commit(&transaction).expect_err("nobody knows");
    assert_eq!(error.state(), SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
    let next = world.begin();
    put(&next, tree, "a", "1");
    assert_eq!(next.commit().expect_err("it has ended").state(), SqlState::ADMIN_SHUTDOWN);
    assert_eq!(rows(&world.begin(), tree), []);
}

#[test]
fn a_bulk_load_is_visible_inside_first_then_to_all_and_survives_a_restart() {
    let mut world = World::new(64);
    let loaded = |number: u32| (format!("{number:08}"), format!("value {number}").repeat(10));
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let tree = transaction.create_tree().expect("create");
    assert!(transaction.is_own_tree(tree));
    let mut loader = transaction.bulk_load(tree).expect("load");
    for (key, value) in (0..5000).map(loaded) {
        assert_eq!(loader.push(key.as_bytes(), value.as_bytes()), Ok(BulkPush::Added));
    }
    assert_eq!(loader.push(b"0", b"x"), Ok(BulkPush::OutOfOrder));
    loader.finish().expect("finish");
    transaction.end_statement(StatementOutcome::Keep);
    transaction.begin_statement().expect("statement");
    assert_eq!(rows(&transaction, tree).len(), 5000);
    put(&transaction, tree, "00000007", "changed");
    transaction.delete(tree, b"00000008").expect("delete");
    transaction.end_statement(StatementOutcome::Keep);
    assert_eq!(rows(&transaction, tree).len(), 4999);
    world.commit(&transaction).expect("commit");
    for _ in 0..2 {
        let reader = world.begin();
        let seen = rows(&reader, tree);
        assert_eq!(seen.len(), 4999);
        assert_eq!(seen[7].1, "changed");
        assert_eq!(seen[4998], loaded(4999));
        drop(reader);
        world.restart(64);
    }
}

#[test]
fn what_aborts_and_drops_leave_over_is_given_back() {
    let mut world = World::new(256);
    let load = |world: &World, rows: u32| {
        let transaction = world.begin();
        transaction.begin_statement().expect("statement");
        let tree = transaction.create_tree().expect("create");
        let mut loader = transaction.bulk_load(tree).expect("load");
        for number in 0..rows {
            loader.push(&number.to_be_bytes(), &[7; 100]).expect("push");
        }
        loader.finish().expect("finish");
        transaction.end_statement(StatementOutcome::Keep);
        (transaction, tree)
    };
    let settle = |world: &World| {
        while !world.compute.reclaiming_is_done() {
            thread::sleep(Duration::from_millis(1));
        }
        let engine = world.compute.engine();
        engine.block_durable(engine.positions.applied()).expect("durable");
        let meta = world.pages.page_at(storage::meta::META_PAGE, engine.positions.durable()).expect("meta");
        (meta.next_page().0, meta.free_total())
    };
    let (size, free) = settle(&world);
    let (aborted, _) = load(&world, 3000);
    aborted.rollback();
    let after_abort = settle(&world);
    assert!(after_abort.0 > size + 40, "the load took pages");
    assert_eq!(after_abort.1 - free, after_abort.0 - size, "and gave all of them back");

    let (loaded, tree) = load(&world, 3000);
    world.commit(&loaded).expect("commit");
    let kept = settle(&world);
    let dropper = world.begin();
    dropper.drop_tree(tree).expect("drop");
    world.commit(&dropper).expect("commit");
    let late = world.begin();
    put(&late, tree, "x", "y");
    assert_eq!(late.commit().expect_err("dropped").state(), SqlState::SERIALIZATION_FAILURE);
    let after_drop = settle(&world);
    assert!(after_drop.1 >= kept.1 + 40, "{kept:?} {after_drop:?}");

    // A compute that dies within a load leaves its pages to the next one.
    let (unfinished, _) = load(&world, 3000);
    std::mem::forget(unfinished);
    let before = settle(&world);
    world.restart(256);
    let after = settle(&world);
    assert!(after.1 >= before.1 + 40, "{before:?} {after:?}");
    assert_eq!(after.0 - after.1, size - free, "nothing is lost");
}

#[test]
fn a_discarded_load_leaves_the_tree_empty() {
    let world = World::new(256);
    let transaction = world.begin();
    let tree = transaction.create_tree().expect("create");
    let savepoint = transaction.savepoint();
    transaction.begin_statement().expect("statement");
    let mut loader = transaction.bulk_load(tree).expect("load");
    loader.push(b"a", b"1").expect("push");
    loader.finish().expect("finish");
    transaction.end_statement(StatementOutcome::Keep);
    assert_eq!(rows(&transaction, tree).len(), 1);
    transaction.rollback_to(savepoint);
    assert_eq!(rows(&transaction, tree).len(), 0);
    transaction.begin_statement().expect("statement");
    let mut loader = transaction.bulk_load(tree).expect("load again");
    loader.push(b"b", b"2").expect("push");
    loader.finish().expect("finish");
    transaction.end_statement(StatementOutcome::Keep);
    world.commit(&transaction).expect("commit");
    assert_eq!(rows(&world.begin(), tree), [("b".to_owned(), "2".to_owned())]);
}

#[test]
fn limits_and_options() {
    let world = World::on(MemoryLog::default(), 256);
    let tree = world.tree();
    let interrupt = Arc::default();
    let options = TransactionOptions { isolation: IsolationLevel::Serializable, read_only: false };
    let error = world.compute.begin(options, interrupt).err().expect("unsupported");
    assert_eq!(error.state(), SqlState::FEATURE_NOT_SUPPORTED);

    let options = TransactionOptions { isolation: IsolationLevel::ReadCommitted, read_only: true };
    let reader = world.compute.begin(options, Arc::default()).expect("begin");
    let error = reader.put(tree, b"a", Bytes::new()).expect_err("read only");
    assert_eq!(error.state(), SqlState::READ_ONLY_SQL_TRANSACTION);

    let writer = world.begin();
    let error = writer.put(tree, &[0; 4000], Bytes::new()).expect_err("long key");
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    let block = Bytes::from(vec![1; 20 << 20]);
    let mut written = 0;
    let error = loop {
        match writer.put(tree, format!("{written}").as_bytes(), block.clone()) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((written, error.state()), (3, SqlState::PROGRAM_LIMIT_EXCEEDED));
    writer.rollback();

    let lsn = world.compute.put_immediate(tree, b"now", Bytes::from_static(b"1")).expect("put");
    assert_eq!(world.compute.get_newest(tree, b"now").expect("get"), Some(Bytes::from_static(b"1")));
    world.runtime.block_on(world.compute.wait_durable(lsn)).expect("durable");
    let version = world.compute.catalog_version();
    world.put(world.compute.catalog_tree(), &[("x", "y")]);
    assert!(world.compute.catalog_version() > version);
}
