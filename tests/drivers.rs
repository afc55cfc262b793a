//! The driver suite with tokio-postgres: every case of `tests/drivers/cases.txt`, which the suites in Python
//! run too, against the real program and, where it is installed, against PostgreSQL 15.

#![allow(clippy::disallowed_methods)]

mod harness;

#[path = "drivers/blocks.rs"]
mod blocks;
#[path = "drivers/copies.rs"]
mod copies;
#[path = "drivers/failures.rs"]
mod failures;
#[path = "drivers/servers.rs"]
mod servers;
#[path = "drivers/sessions.rs"]
mod sessions;
#[path = "drivers/values.rs"]
mod values;

use std::net::SocketAddr;

use futures::FutureExt;
use harness::connect;
use servers::Servers;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

/// A file of `tests/drivers`.
fn shared_file(name: &str) -> String {
    let path = harness::tools::repository().join("tests/drivers").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Settings of a connection to a server as role `postgres`, in UTC.
fn config_of(address: SocketAddr) -> Config {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres").dbname("postgres");
    config.options("-c TimeZone=UTC");
    config
}

async fn open(servers: &Servers) -> Client {
    connect(&config_of(servers.address)).await
}

/// The first column of the first row of a simple query, as text.
async fn text(client: &Client, query: &str) -> Option<String> {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    })?
}

/// Runs a batch that must succeed.
async fn run(client: &Client, batch: &str) {
    client.batch_execute(batch).await.unwrap_or_else(|error| panic!("{batch}: {error:?}"));
}

/// Collects the failures of a case, so that one does not hide the others.
#[derive(Default)]
struct Checks(Vec<String>);

impl Checks {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.0.push(format!("{what}: found {found:?}, expected {expected:?}"));
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "{} failures:\n  {}", self.0.len(), self.0.join("\n  "));
    }
}

/// Runs every case of the list on a server; the names of those that failed.
async fn run_all(servers: &Servers) -> Vec<String> {
    let mut failed = Vec::new();
    for name in shared_file("cases.txt").lines() {
        let case = async {
            match name {
                "values_text" => values::text_round_trips(servers).await,
                "values_binary" => values::binary_round_trips(servers).await,
                "values_arrays" => values::arrays(servers).await,
                "values_null" => values::nulls(servers).await,
                "values_stored" => values::stored(servers).await,
                "values_bad" => values::bad(servers).await,
                "values_native" => values::native(servers).await,
                "parameters" => values::parameters(servers).await,
                "errors" => failures::errors(servers).await,
                "transaction_commit" => blocks::commit(servers).await,
                "transaction_rollback" => blocks::rollback(servers).await,
                "savepoints" => blocks::savepoints(servers).await,
                "failed_block" => blocks::failed_block(servers).await,
                "isolation_levels" => blocks::isolation_levels(servers).await,
                "implicit_transactions" => blocks::implicit_transactions(servers).await,
                "copy_text" => copies::text_format(servers).await,
                "copy_csv" => copies::csv_format(servers).await,
                "copy_binary" => copies::binary_format(servers).await,
                "copy_failures" => copies::failures(servers).await,
                "cancel" => failures::cancel(servers).await,
                "statement_timeout" => failures::statement_timeout(servers).await,
                "prepared_reuse" => sessions::prepared_reuse(servers).await,
                "cursors" => sessions::cursors(servers).await,
                "notices" => sessions::notices(servers).await,
                "listen" => failures::listen(servers).await,
                "settings" => sessions::settings(servers).await,
                "passwords" => sessions::passwords(servers).await,
                other => panic!("this suite lacks case {other}"),
            }
        };
        if std::panic::AssertUnwindSafe(case).catch_unwind().await.is_err() {
            println!("FAILED {name}");
            failed.push(name.to_owned());
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alluvium_passes() {
    let servers = tokio::task::block_in_place(Servers::alluvium);
    let failed = run_all(&servers).await;
    assert!(failed.is_empty(), "failed cases: {failed:?}");
    tokio::task::block_in_place(|| servers.stop());
}

/// Keeps the suite honest; says nothing where PostgreSQL 15 is not installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_passes() {
    let Some(servers) = tokio::task::block_in_place(Servers::postgres) else { return };
    let failed = run_all(&servers).await;
    assert!(failed.is_empty(), "failed cases: {failed:?}");
}
