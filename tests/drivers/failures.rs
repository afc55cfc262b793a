//! Errors with all their fields, cancellation, and what we do not have.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::NoTls;
use tokio_postgres::error::{DbError, ErrorPosition};

use crate::harness::state;
use crate::servers::Servers;
use crate::{Checks, open, run, shared_file, text};

/// The fields of an error under the names of `errors.json`.
fn fields(error: &DbError) -> [(&'static str, Option<String>); 9] {
    let position = error.position().map(|position| match position {
        ErrorPosition::Original(position) => position.to_string(),
        ErrorPosition::Internal { position, query } => format!("{position} in {query}"),
    });
    let owned = |text: Option<&str>| text.map(str::to_owned);
    [
        ("state", Some(error.code().code().to_owned())),
        ("message", Some(error.message().to_owned())),
        ("detail", owned(error.detail())),
        ("hint", owned(error.hint())),
        ("position", position),
        ("schema", owned(error.schema())),
        ("table", owned(error.table())),
        ("column", owned(error.column())),
        ("constraint", owned(error.constraint())),
    ]
}

pub async fn errors(servers: &Servers) {
    let client = open(servers).await;
    let content: Value = serde_json::from_str(&shared_file("errors.json")).expect("errors.json is JSON");
    for statement in content["setup"].as_array().expect("a list") {
        run(&client, statement.as_str().expect("text")).await;
    }
    let mut checks = Checks::default();
    for case in content["cases"].as_array().expect("a list") {
        let sql = case["sql"].as_str().expect("text");
        for (protocol, result) in
            [("simple", client.simple_query(sql).await.map(drop)), ("extended", client.query(sql, &[]).await.map(drop))]
        {
            let Err(error) = result else {
                checks.equal(&format!("{sql} ({protocol})"), "no error", "an error");
                continue;
            };
            let Some(error) = error.as_db_error() else { panic!("{sql}: {error:?}") };
            for (field, found) in fields(error) {
                let expected = match &case[field] {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                };
                checks.equal(&format!("{sql} ({protocol}), {field}"), found, expected);
            }
        }
    }
    checks.equal("the session lives", text(&client, "SELECT 1").await.as_deref(), Some("1"));
    checks.finish();
}

pub async fn cancel(servers: &Servers) {
    let client = open(servers).await;
    for query in ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 100000000000) AS g"] {
        let token = client.cancel_token();
        let begun = Instant::now();
        let (result, ()) = tokio::join!(client.query(query, &[]), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(NoTls).await.expect("the request is taken");
        });
        let error = result.expect_err("the statement is cancelled");
        let error = error.as_db_error().expect("the server's error");
        assert_eq!(error.code().code(), "57014");
        assert_eq!(error.message(), "canceling statement due to user request");
        assert!(begun.elapsed() < Duration::from_secs(10), "the cancel request took {:?}", begun.elapsed());
        assert_eq!(text(&client, "SELECT 1").await.as_deref(), Some("1"));
    }
}

pub async fn statement_timeout(servers: &Servers) {
    let client = open(servers).await;
    run(&client, "SET statement_timeout = '200ms'").await;
    let error = client.query("SELECT pg_sleep(60)", &[]).await.expect_err("it is cancelled");
    let error = error.as_db_error().expect("the server's error");
    assert_eq!((error.code().code(), error.message()), ("57014", "canceling statement due to statement timeout"));
    run(&client, "RESET statement_timeout").await;
    assert_eq!(text(&client, "SELECT 1").await.as_deref(), Some("1"));
}

pub async fn listen(servers: &Servers) {
    let client = open(servers).await;
    if servers.is_alluvium {
        assert_eq!(state(client.batch_execute("LISTEN channel").await), "0A000");
        assert_eq!(state(client.batch_execute("NOTIFY channel").await), "0A000");
    }
    run(&client, "UNLISTEN *").await;
    assert_eq!(text(&client, "SELECT 1").await.as_deref(), Some("1"));
}
