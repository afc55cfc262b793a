//! Transactions: blocks, savepoints, isolation, and those that nobody asked for.

use tokio_postgres::{Client, GenericClient, IsolationLevel, SimpleQueryMessage};

use crate::harness::state;
use crate::servers::Servers;
use crate::{open, run, text};

async fn accounts(client: &Client) {
    run(
        client,
        "DROP TABLE IF EXISTS rust_accounts;
         CREATE TABLE rust_accounts (id int PRIMARY KEY, balance int);
         INSERT INTO rust_accounts VALUES (1, 100), (2, 200)",
    )
    .await;
}

async fn balance(client: &impl GenericClient) -> i32 {
    client.query_one("SELECT balance FROM rust_accounts WHERE id = 1", &[]).await.expect("readable").get(0)
}

async fn count(client: &impl GenericClient) -> i64 {
    client.query_one("SELECT count(*) FROM rust_accounts", &[]).await.expect("readable").get(0)
}

async fn set(client: &impl GenericClient, balance: i32) -> Result<u64, tokio_postgres::Error> {
    client.execute("UPDATE rust_accounts SET balance = $1 WHERE id = 1", &[&balance]).await
}

pub async fn commit(servers: &Servers) {
    let (mut client, other) = (open(servers).await, open(servers).await);
    accounts(&client).await;
    let transaction = client.transaction().await.expect("it begins");
    assert_eq!(set(&transaction, 1).await.expect("updated"), 1);
    assert_eq!((balance(&transaction).await, balance(&other).await), (1, 100));
    transaction.commit().await.expect("committed");
    assert_eq!((balance(&client).await, balance(&other).await), (1, 1));
}

pub async fn rollback(servers: &Servers) {
    let mut client = open(servers).await;
    accounts(&client).await;
    let transaction = client.transaction().await.expect("it begins");
    transaction.batch_execute("DELETE FROM rust_accounts; CREATE TABLE rust_undone (a int)").await.expect("done");
    assert_eq!(count(&transaction).await, 0);
    transaction.rollback().await.expect("undone");
    assert_eq!(count(&client).await, 2);
    assert_eq!(state(client.query("SELECT * FROM rust_undone", &[]).await), "42P01");
    let lost = open(servers).await;
    run(&lost, "BEGIN; DELETE FROM rust_accounts").await;
    drop(lost);
    assert_eq!(count(&client).await, 2);
}

pub async fn savepoints(servers: &Servers) {
    let mut client = open(servers).await;
    accounts(&client).await;
    let mut transaction = client.transaction().await.expect("it begins");
    set(&transaction, 1).await.expect("updated");
    {
        let mut outer = transaction.savepoint("outer_one").await.expect("set");
        set(&outer, 2).await.expect("updated");
        let inner = outer.savepoint("inner_one").await.expect("set");
        set(&inner, 3).await.expect("updated");
        inner.commit().await.expect("released");
        assert_eq!(balance(&outer).await, 3);
        assert_eq!(state(outer.query("SELECT 1/0", &[]).await), "22012");
        outer.rollback().await.expect("rolled back");
    }
    assert_eq!(balance(&transaction).await, 1);
    let again = transaction.savepoint("outer_one").await.expect("set");
    set(&again, 11).await.expect("updated");
    again.commit().await.expect("released");
    transaction.commit().await.expect("committed");
    assert_eq!(balance(&client).await, 11);
}

pub async fn failed_block(servers: &Servers) {
    let mut client = open(servers).await;
    accounts(&client).await;
    run(&client, "BEGIN; DELETE FROM rust_accounts").await;
    assert_eq!(state(client.query("SELECT 1/0", &[]).await), "22012");
    assert_eq!(state(client.query("SELECT 1", &[]).await), "25P02");
    assert_eq!(state(client.simple_query("SELECT 1").await), "25P02");
    assert_eq!(state(client.prepare("SELECT 1").await), "25P02");
    // COMMIT of a failed block succeeds, and rolls back.
    let messages = client.simple_query("COMMIT").await.expect("it is answered");
    assert!(matches!(messages[0], SimpleQueryMessage::CommandComplete(0)), "{messages:?}");
    assert_eq!(count(&client).await, 2);
    let read_only = client.build_transaction().read_only(true).start().await.expect("it begins");
    assert_eq!(state(read_only.execute("DELETE FROM rust_accounts", &[]).await), "25006");
    read_only.rollback().await.expect("undone");
}

pub async fn isolation_levels(servers: &Servers) {
    let (mut reader, writer) = (open(servers).await, open(servers).await);
    accounts(&writer).await;
    let read_committed = reader.transaction().await.expect("it begins");
    assert_eq!(text(read_committed.client(), "SHOW transaction_isolation").await.as_deref(), Some("read committed"));
    assert_eq!(balance(&read_committed).await, 100);
    set(&writer, 101).await.expect("updated");
    assert_eq!(balance(&read_committed).await, 101);
    read_committed.commit().await.expect("committed");
    let mut levels =
        vec![(IsolationLevel::RepeatableRead, "repeatable read"), (IsolationLevel::Serializable, "serializable")];
    if servers.is_alluvium {
        levels.pop();
        assert_eq!(state(reader.simple_query("BEGIN ISOLATION LEVEL SERIALIZABLE").await), "0A000");
        run(&reader, "ROLLBACK").await;
    }
    for (level, name) in levels {
        let transaction = reader.build_transaction().isolation_level(level).start().await.expect("it begins");
        assert_eq!(text(transaction.client(), "SHOW transaction_isolation").await.as_deref(), Some(name));
        let before = balance(&transaction).await;
        set(&writer, before + 1).await.expect("updated");
        assert_eq!(balance(&transaction).await, before, "{name}");
        assert_eq!(state(set(&transaction, 0).await), "40001", "{name}");
        transaction.rollback().await.expect("undone");
    }
}

pub async fn implicit_transactions(servers: &Servers) {
    let client = open(servers).await;
    accounts(&client).await;
    // Statements of one simple query are one transaction.
    assert_eq!(state(client.simple_query("DELETE FROM rust_accounts; SELECT 1/0").await), "22012");
    assert_eq!(count(&client).await, 2);
    // Unless a COMMIT stands between them.
    let commits = "BEGIN; UPDATE rust_accounts SET balance = 5 WHERE id = 1; COMMIT; SELECT 1/0";
    assert_eq!(state(client.simple_query(commits).await), "22012");
    assert_eq!(balance(&client).await, 5);
    // This driver ends each statement with a Sync: pipelined statements are transactions of their own, each
    // of which sees what the ones before it did.
    let mut statements = vec![client.prepare("UPDATE rust_accounts SET balance = 6 WHERE id = 1").await];
    statements.push(client.prepare("INSERT INTO rust_accounts VALUES (2, 0)").await);
    for _ in 0..20 {
        statements.push(client.prepare("UPDATE rust_accounts SET balance = balance + 1 WHERE id = 1").await);
    }
    let statements: Vec<_> = statements.into_iter().map(|statement| statement.expect("prepared")).collect();
    // Polled, and so sent, in this order.
    let mut results = futures::future::join_all(statements.iter().map(|each| client.execute(each, &[]))).await;
    assert_eq!(state(results.remove(1)), "23505");
    results.into_iter().for_each(|result| assert_eq!(result.expect("updated"), 1));
    assert_eq!(balance(&client).await, 26);
}
