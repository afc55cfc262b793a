//! Prepared statements, cursors, notices, settings and passwords.

use std::sync::Arc;

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::harness::{connect, state};
use crate::servers::{PASSWORD, Servers};
use crate::{config_of, open, run, text};

pub async fn prepared_reuse(servers: &Servers) {
    let client = open(servers).await;
    run(
        &client,
        "DROP TABLE IF EXISTS rust_prepared; CREATE TABLE rust_prepared (id int PRIMARY KEY, balance int);
         INSERT INTO rust_prepared VALUES (1, 100), (2, 200)",
    )
    .await;
    let query = client.prepare("SELECT balance + $1 FROM rust_prepared WHERE id = $2").await.expect("prepared");
    for number in 0..50 {
        let found: i32 = client.query_one(&query, &[&number, &1]).await.expect("answered").get(0);
        assert_eq!(found, 100 + number);
    }
    let update = "UPDATE rust_prepared SET balance = balance + $1 WHERE id = $2";
    let update = client.prepare(update).await.expect("prepared");
    for _ in 0..20 {
        assert_eq!(client.execute(&update, &[&1, &2]).await.expect("updated"), 1);
    }
    run(&client, "CREATE INDEX rust_balance ON rust_prepared (balance)").await;
    run(&client, "ALTER TABLE rust_prepared ADD COLUMN extra text DEFAULT 'new'").await;
    assert_eq!(client.query_one(&query, &[&0, &2]).await.expect("answered").get::<_, i32>(0), 220);
    run(&client, "PREPARE rust_sum (int) AS SELECT sum(balance) + $1 FROM rust_prepared").await;
    assert_eq!(text(&client, "EXECUTE rust_sum (1)").await.as_deref(), Some("321"));
    run(&client, "DEALLOCATE rust_sum").await;
    assert_eq!(state(client.simple_query("EXECUTE rust_sum (1)").await), "26000");
}

pub async fn cursors(servers: &Servers) {
    let mut client = open(servers).await;
    let transaction = client.transaction().await.expect("it begins");
    let query = "SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) AS g";
    let portal = transaction.bind(query, &[&100i32]).await.expect("bound");
    let mut found: Vec<i32> = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 7).await.expect("some rows");
        assert!(rows.len() <= 7);
        if rows.is_empty() {
            break;
        }
        found.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
    }
    assert_eq!(found, (1..=100).collect::<Vec<_>>());
    drop(portal);

    transaction
        .batch_execute("DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 10) AS g")
        .await
        .expect("declared");
    let fetch = async |what: &str| -> Vec<i32> {
        let rows = transaction.query(what, &[]).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(fetch("FETCH 3 FROM c").await, [1, 2, 3]);
    assert_eq!(transaction.execute("MOVE 4 IN c", &[]).await.expect("moved"), 4);
    assert_eq!(fetch("FETCH ALL FROM c").await, [8, 9, 10]);
    transaction.batch_execute("CLOSE c").await.expect("closed");
    assert_eq!(state(transaction.query("FETCH 1 FROM c", &[]).await), "34000");
    transaction.rollback().await.expect("undone");
    if servers.is_alluvium {
        assert_eq!(state(client.simple_query("DECLARE c SCROLL CURSOR FOR SELECT 1").await), "0A000");
    }
}

pub async fn notices(servers: &Servers) {
    let (client, mut connection) = config_of(servers.address).connect(NoTls).await.expect("connected");
    let seen: Arc<Mutex<Vec<[String; 3]>>> = Arc::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(|context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                let fields = [notice.severity(), notice.code().code(), notice.message()];
                kept.lock().push(fields.map(str::to_owned));
            }
        }
    });
    let notice = ["NOTICE", "00000", "table \"rust_missing\" does not exist, skipping"].map(str::to_owned);
    let warning = ["WARNING", "25P01", "there is no transaction in progress"].map(str::to_owned);
    run(&client, "DROP TABLE IF EXISTS rust_missing").await;
    assert_eq!(seen.lock().as_slice(), std::slice::from_ref(&notice));
    run(&client, "SET client_min_messages = warning").await;
    run(&client, "DROP TABLE IF EXISTS rust_missing").await;
    assert_eq!(seen.lock().len(), 1);
    run(&client, "COMMIT").await;
    assert_eq!(*seen.lock(), [notice, warning]);
}

pub async fn settings(servers: &Servers) {
    let mut config = config_of(servers.address);
    config.options("-c TimeZone=UTC -c statement_timeout=12345 -c search_path=pg_catalog").application_name("suite");
    let (client, mut connection) = config.connect(NoTls).await.expect("connected");
    let status = |name: &str| connection.parameter(name).map(str::to_owned);
    for (name, expected) in [
        ("application_name", "suite"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("is_superuser", "on"),
        ("session_authorization", "postgres"),
        ("in_hot_standby", "off"),
        ("default_transaction_read_only", "off"),
    ] {
        assert_eq!(status(name).as_deref(), Some(expected), "{name}");
    }
    let major: u32 =
        status("server_version").expect("given").split(['.', ' ']).next().expect("a part").parse().expect("a number");
    assert!(major >= 15);
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(|context| connection.poll_message(context));
        while messages.next().await.is_some() {}
    });
    let shows = async |query: &str, expected: &str| {
        assert_eq!(text(&client, query).await.as_deref(), Some(expected), "{query}");
    };
    shows("SHOW application_name", "suite").await;
    shows("SHOW statement_timeout", "12345ms").await;
    shows("SELECT current_setting('search_path')", "pg_catalog").await;
    run(&client, "SET TimeZone = 'America/New_York'").await;
    shows("SHOW TimeZone", "America/New_York").await;
    shows("SELECT timestamptz '2024-07-01 12:00:00+00'::text", "2024-07-01 08:00:00-04").await;
    run(&client, "BEGIN; SET LOCAL TimeZone = 'UTC'").await;
    shows("SHOW TimeZone", "UTC").await;
    run(&client, "COMMIT").await;
    shows("SHOW TimeZone", "America/New_York").await;
    run(&client, "BEGIN; SET application_name = 'undone'; ROLLBACK").await;
    shows("SHOW application_name", "suite").await;
    shows("SELECT set_config('application_name', 'configured', false)", "configured").await;
    shows("SHOW application_name", "configured").await;
    run(&client, "RESET ALL").await;
    shows("SHOW application_name", "suite").await;
    shows("SELECT current_user || '@' || current_database()", "postgres@postgres").await;

    let mut missing = config_of(servers.address);
    assert_eq!(state(missing.dbname("missing").connect(NoTls).await.map(drop)), "3D000");
    let mut missing = config_of(servers.address);
    assert_eq!(state(missing.user("missing").connect(NoTls).await.map(drop)), "28000");
}

pub async fn passwords(servers: &Servers) {
    let mut good = config_of(servers.password_address);
    good.user(crate::harness::postgres::PASSWORD_ROLE).password(PASSWORD);
    let client = connect(&good).await;
    assert_eq!(
        text(&client, "SELECT current_user::text").await.as_deref(),
        Some(crate::harness::postgres::PASSWORD_ROLE)
    );
    for password in ["wrong", &format!("{PASSWORD} ")] {
        assert_eq!(state(good.clone().password(password).connect(NoTls).await.map(drop)), "28P01");
    }
}
