//! Kill -9 at random, again and again, under pgbench and under clients that record every acknowledged insert:
//! nothing acknowledged is missing, the four sums of pgbench are equal, `alluvium_check()` finds nothing, and the server
//! answers within two seconds of its restart, however long it ran before. In half the rounds the page server's local
//! directory is deleted first; in some, the restart itself is killed too.
//!
//! `ALLUVIUM_CRASH_ROUNDS` sets the number of rounds (4), `ALLUVIUM_CRASH_AGE_SECONDS` how long pgbench runs without a
//! kill before the second half of them (3), `ALLUVIUM_PGBENCH_SCALE` the scale (1), `ALLUVIUM_SEED` the seed.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::pgbench::{self, Running};
use harness::random::Random;
use harness::tools::setting;
use harness::{Program, tools};
use tokio_postgres::Client;

const WRITERS: usize = 2;
const PGBENCH_CLIENTS: u32 = 8;

/// From the start of the process to the first answer. A program that was not optimised opens three times as slowly.
const ANSWERS_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 2 });

/// Inserts numbered rows until the server goes away; notes each acknowledged one.
async fn record(client: Client, writer: i32, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let insert = client.prepare("INSERT INTO recorded VALUES ($1, $2, $3)").await;
    let Ok(insert) = insert else { return };
    while !stop.load(Ordering::Relaxed) {
        let n = next.load(Ordering::Relaxed);
        let payload = format!("row {n} of writer {writer}, {}", "x".repeat((n % 300) as usize));
        if client.execute(&insert, &[&writer, &(n as i64), &payload]).await.is_err() {
            return;
        }
        next.store(n + 1, Ordering::Relaxed);
    }
}

/// Every acknowledged row is there, and at most the one whose answer was cut off besides.
async fn check_recorded(client: &Client, acknowledged: &[Arc<AtomicU64>], round: u64) {
    for (writer, next) in acknowledged.iter().enumerate() {
        let rows = client
            .query("SELECT n, payload FROM recorded WHERE writer = $1 ORDER BY n", &[&(writer as i32)])
            .await
            .expect("the table can be read");
        let found: HashMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let expected = next.load(Ordering::Relaxed) as i64;
        for n in 0..expected {
            let payload =
                found.get(&n).unwrap_or_else(|| panic!("round {round}: acknowledged row {writer}/{n} is lost"));
            assert!(payload.starts_with(&format!("row {n} of writer {writer}, ")), "round {round}: {payload:?}");
        }
        assert!(found.len() as i64 <= expected + 1, "round {round}: {} rows, {expected} acknowledged", found.len());
        next.store(found.len() as u64, Ordering::Relaxed);
    }
}

/// Starts the program and answers it with the time until its first answer.
async fn restart(directory: &Path) -> (Program, Client, Duration) {
    let begun = Instant::now();
    let program = Program::start(directory);
    let client = program.connect().await;
    client.query_one("SELECT count(*) FROM pgbench_branches", &[]).await.expect("it answers");
    (program, client, begun.elapsed())
}

/// Bytes that the log has taken so far.
fn log_bytes(address: std::net::SocketAddr) -> u64 {
    let text = tools::psql_text(address, &["-At", "-c", "SELECT pg_current_wal_lsn()"], "");
    let (high, low) = text.trim().split_once('/').expect("an LSN");
    let half = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
    (half(high) << 32) + half(low)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds: u64 = setting("ALLUVIUM_CRASH_ROUNDS", 4);
    let age: u64 = setting("ALLUVIUM_CRASH_AGE_SECONDS", 3);
    let seed: u64 = setting("ALLUVIUM_SEED", 20_261_120);
    let mut random = Random(seed);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = Program::start(directory.path());
    pgbench::initialise(program.address, setting("ALLUVIUM_PGBENCH_SCALE", 1));
    let table = "CREATE TABLE recorded (writer int, n bigint, payload text, PRIMARY KEY (writer, n));
                 CREATE INDEX recorded_payload ON recorded (payload)";
    program.connect().await.batch_execute(table).await.expect("the table is made");

    let acknowledged: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    // The slowest answer after a restart: of a young database, of one that has lived.
    let mut slowest = [Duration::ZERO; 2];
    let (mut transactions, mut aged) = (0, 0);
    for round in 0..rounds {
        let old = round >= rounds / 2;
        if round == rounds / 2 {
            pgbench::run(program.address, "prepared", PGBENCH_CLIENTS, age);
            aged = log_bytes(program.address);
        }
        let mode = ["simple", "extended", "prepared"][round as usize % 3];
        let bench = Running::start(program.address, mode, PGBENCH_CLIENTS, 60);
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for (writer, next) in acknowledged.iter().enumerate() {
            clients.spawn(record(program.connect().await, writer as i32, next.clone(), stop.clone()));
        }
        tokio::time::sleep(Duration::from_millis(300 + random.below(1_700))).await;
        program.kill();
        stop.store(true, Ordering::Relaxed);
        while clients.join_next().await.is_some() {}
        drop(bench);
        if round % 2 == 1 {
            std::fs::remove_dir_all(directory.path().join("pageserver")).expect("the cache can be deleted");
        }
        if round % 3 == 2 {
            Program::start_and_kill(directory.path(), Duration::from_millis(random.below(400)));
        }
        let (restarted, client, answered_in) = restart(directory.path()).await;
        program = restarted;
        slowest[usize::from(old)] = slowest[usize::from(old)].max(answered_in);
        check_recorded(&client, &acknowledged, round).await;
        let now = pgbench::check_money(program.address);
        assert!(now >= transactions, "round {round}: {now} transactions, {transactions} before");
        transactions = now;
        assert_eq!(program.check(), "", "round {round}");
        println!("round {round}: answered in {answered_in:?}; {now} transactions of pgbench so far");
    }
    let total: u64 = acknowledged.iter().map(|next| next.load(Ordering::Relaxed)).sum();
    let log = log_bytes(program.address);
    println!(
        "{rounds} rounds, seed {seed}: {total} recorded rows and {transactions} transactions of pgbench found; slowest \
         answer after a restart {:?}, and {:?} after {} MiB of log ({} MiB at the end)",
        slowest[0],
        slowest[1],
        aged >> 20,
        log >> 20
    );
    assert!(total > 0 && transactions > 0, "the clients wrote");
    assert!(slowest.iter().all(|slowest| *slowest < ANSWERS_WITHIN), "slowest answers {slowest:?}");
    program.stop();
}
