//! The contract of [`crate::store`] as the in-memory engine keeps it.

use std::sync::Arc;

use bytes::Bytes;
use storage::TreeId;

use super::MemoryStore;
use crate::error::{Result, SqlState};
use crate::interrupt::Interrupt;
use crate::store::{
    BulkPush, Direction, IsolationLevel, KeyRange, LockedRow, RowLockMode, StatementOutcome, Store, TableLockMode,
    Transaction, TransactionOptions, WaitPolicy,
};

fn begin(store: &MemoryStore, isolation: IsolationLevel) -> Arc<dyn Transaction> {
    let options = TransactionOptions { isolation, read_only: false };
    let transaction = store.begin(options, Arc::new(Interrupt::default())).expect("begin");
    transaction.begin_statement().expect("begin statement");
    transaction
}

fn put(transaction: &dyn Transaction, tree: TreeId, key: &str, value: &str) {
    transaction.put(tree, key.as_bytes(), Bytes::copy_from_slice(value.as_bytes())).expect("put");
}

fn next_statement(transaction: &dyn Transaction) {
    transaction.end_statement(StatementOutcome::Keep);
    transaction.begin_statement().expect("begin statement");
}

fn scan(transaction: &dyn Transaction, tree: TreeId, range: KeyRange, direction: Direction) -> String {
    let mut cursor = transaction.scan(tree, range, direction).expect("scan");
    let mut found = Vec::new();
    while cursor.advance().expect("advance") {
        found.push(format!(
            "{}={}",
            std::str::from_utf8(cursor.key()).expect("text"),
            std::str::from_utf8(cursor.value()).expect("text")
        ));
    }
    found.join(" ")
}

/// A store with one tree holding `rows`.
fn store_with(rows: &[(&str, &str)]) -> (MemoryStore, TreeId) {
    let store = MemoryStore::new();
    let transaction = begin(&store, IsolationLevel::ReadCommitted);
    let tree = transaction.create_tree().expect("create tree");
    for (key, value) in rows {
        put(&*transaction, tree, key, value);
    }
    transaction.end_statement(StatementOutcome::Keep);
    transaction.commit().expect("commit");
    (store, tree)
}

#[test]
fn statements_see_earlier_statements_but_not_themselves() {
    let (store, tree) = store_with(&[("a", "1"), ("c", "3")]);
    let transaction = begin(&store, IsolationLevel::ReadCommitted);
    put(&*transaction, tree, "b", "2");
    transaction.delete(tree, b"a").expect("delete");
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "a=1 c=3");
    assert_eq!(transaction.get_latest(tree, b"b").expect("get"), Some(Bytes::from_static(b"2")));
    next_statement(&*transaction);
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "b=2 c=3");
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Backward), "c=3 b=2");
    assert_eq!(scan(&*transaction, tree, KeyRange::prefix(Bytes::from_static(b"b")), Direction::Forward), "b=2");
    put(&*transaction, tree, "d", "4");
    transaction.end_statement(StatementOutcome::Discard);
    transaction.begin_statement().expect("begin statement");
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "b=2 c=3");
}

#[test]
fn savepoints_nest() {
    let (store, tree) = store_with(&[]);
    let transaction = begin(&store, IsolationLevel::ReadCommitted);
    put(&*transaction, tree, "a", "1");
    transaction.end_statement(StatementOutcome::Keep);
    let outer = transaction.savepoint();
    transaction.begin_statement().expect("begin statement");
    put(&*transaction, tree, "b", "2");
    transaction.end_statement(StatementOutcome::Keep);
    let inner = transaction.savepoint();
    transaction.begin_statement().expect("begin statement");
    put(&*transaction, tree, "c", "3");
    transaction.end_statement(StatementOutcome::Keep);
    transaction.rollback_to(inner);
    transaction.release(inner);
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "a=1 b=2");
    transaction.rollback_to(outer);
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "a=1");
    transaction.commit().expect("commit");
    assert_eq!(store.rows(tree).len(), 1);
}

#[test]
fn snapshots_by_isolation_level() -> Result<()> {
    let (store, tree) = store_with(&[("a", "1")]);
    let committed = begin(&store, IsolationLevel::ReadCommitted);
    let repeatable = begin(&store, IsolationLevel::RepeatableRead);
    let writer = begin(&store, IsolationLevel::ReadCommitted);
    put(&*writer, tree, "a", "2");
    writer.end_statement(StatementOutcome::Keep);
    writer.commit()?;

    let one = Some(Bytes::from_static(b"1"));
    let two = Some(Bytes::from_static(b"2"));
    assert_eq!(committed.get(tree, b"a")?, one);
    let locked = committed.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block)?;
    assert_eq!(locked, LockedRow::Changed(Bytes::from_static(b"2")));
    next_statement(&*committed);
    assert_eq!(committed.get(tree, b"a")?, two);
    committed.rollback();

    next_statement(&*repeatable);
    assert_eq!(repeatable.get(tree, b"a")?, one);
    let error = repeatable.lock_row(tree, b"a", RowLockMode::Share, WaitPolicy::Block).expect_err("changed");
    assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
    Ok(())
}

#[test]
fn locks() -> Result<()> {
    let (store, tree) = store_with(&[("a", "1"), ("b", "1")]);
    let first = begin(&store, IsolationLevel::ReadCommitted);
    let second = begin(&store, IsolationLevel::ReadCommitted);
    first.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block)?;
    assert_eq!(second.lock_row(tree, b"a", RowLockMode::Share, WaitPolicy::Skip)?, LockedRow::Skipped);
    let error = second.lock_row(tree, b"a", RowLockMode::Share, WaitPolicy::Error).expect_err("held");
    assert_eq!(error.state(), SqlState::LOCK_NOT_AVAILABLE);
    assert!(first.lock_table(7, TableLockMode::RowExclusive, WaitPolicy::Block)?);
    assert!(second.lock_table(7, TableLockMode::RowExclusive, WaitPolicy::Block)?);
    assert!(!second.lock_table(7, TableLockMode::AccessExclusive, WaitPolicy::Skip)?);

    second.lock_row(tree, b"b", RowLockMode::Exclusive, WaitPolicy::Block)?;
    let waiter = std::thread::spawn({
        let first = Arc::clone(&first);
        move || {
            let outcome = first.lock_row(tree, b"b", RowLockMode::Exclusive, WaitPolicy::Block);
            first.rollback();
            outcome
        }
    });
    let outcome = second.lock_row(tree, b"a", RowLockMode::Exclusive, WaitPolicy::Block);
    second.rollback();
    let other = waiter.join().expect("waiter");
    let deadlocks = [&outcome, &other].iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(deadlocks, 1, "{outcome:?} {other:?}");
    Ok(())
}

#[test]
fn bulk_load_wants_ascending_keys_and_an_own_tree() -> Result<()> {
    let (store, old) = store_with(&[]);
    let transaction = begin(&store, IsolationLevel::ReadCommitted);
    assert!(transaction.bulk_load(old).is_err());
    let tree = transaction.create_tree()?;
    let mut loader = transaction.bulk_load(tree)?;
    assert_eq!(loader.push(b"b", b"1")?, BulkPush::Added);
    assert_eq!(loader.push(b"a", b"1")?, BulkPush::OutOfOrder);
    assert_eq!(loader.push(b"c", b"1")?, BulkPush::Added);
    loader.finish()?;
    next_statement(&*transaction);
    assert_eq!(scan(&*transaction, tree, KeyRange::ALL, Direction::Forward), "b=1 c=1");
    transaction.commit()?;
    assert_eq!(store.last_key(tree)?, Some(Bytes::from_static(b"c")));
    Ok(())
}
