//! Kill -9 at random, again and again: nothing acknowledged is missing, money is conserved, the server is
//! back within two seconds. In half the rounds the page server's local cache is deleted first.
//!
//! `ALLUVIUM_CRASH_ROUNDS` sets the number of rounds (5), `ALLUVIUM_SEED` the seed.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::Program;
use tokio_postgres::Client;

/// A random number generator whose whole state is its seed (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

const ACCOUNTS: i32 = 200;
const WRITERS: u64 = 4;

async fn prepare(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE recorded (writer int, n bigint, payload text, PRIMARY KEY (writer, n));
             CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
             CREATE TABLE history (account int, delta bigint);
             CREATE INDEX history_account ON history (account);
             INSERT INTO accounts SELECT i, 1000 FROM generate_series(1, 200) AS i;",
        )
        .await
        .expect("the tables are made");
}

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

/// Moves money between accounts, and notes each movement in the same transaction.
async fn transfer(mut client: Client, mut random: Random, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (1 + random.below(200) as i32, 1 + random.below(200) as i32);
        let amount = random.below(50) as i64;
        // Always locked in the same order: no deadlocks to retry.
        let movements = if from < to { [(from, -amount), (to, amount)] } else { [(to, amount), (from, -amount)] };
        let Ok(transaction) = client.transaction().await else { return };
        for (account, delta) in movements {
            let update = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
            if transaction.execute(update, &[&account, &delta]).await.is_err() {
                return;
            }
            if transaction.execute("INSERT INTO history VALUES ($1, $2)", &[&account, &delta]).await.is_err() {
                return;
            }
        }
        if transaction.commit().await.is_err() {
            return;
        }
    }
}

async fn check(client: &Client, acknowledged: &[Arc<AtomicU64>], round: u64) {
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
        // At most the row whose answer was cut off may be there besides.
        assert!(found.len() as i64 <= expected + 1, "round {round}: {} rows, {expected} acknowledged", found.len());
        next.store(found.len() as u64, Ordering::Relaxed);
    }
    let row = client.query_one("SELECT sum(balance)::bigint, count(*) FROM accounts", &[]).await.expect("readable");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (i64::from(ACCOUNTS) * 1000, i64::from(ACCOUNTS)));
    let wrong = client
        .query(
            "SELECT a.id FROM accounts a LEFT JOIN (SELECT account, sum(delta) AS total FROM history GROUP BY account) h
             ON h.account = a.id WHERE a.balance <> 1000 + coalesce(h.total, 0)",
            &[],
        )
        .await
        .expect("readable");
    assert!(wrong.is_empty(), "round {round}: {} accounts differ from their history", wrong.len());
    // The index and its table tell the same.
    let by_index = "SELECT count(*) FROM history WHERE account BETWEEN 1 AND 200";
    let counts = client.query_one(by_index, &[]).await.expect("readable").get::<_, i64>(0);
    let all = client.query_one("SELECT count(*) FROM history", &[]).await.expect("readable").get::<_, i64>(0);
    assert_eq!(counts, all, "round {round}: the index and the table differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds = std::env::var("ALLUVIUM_CRASH_ROUNDS").map_or(5, |text| text.parse().expect("a number of rounds"));
    let seed = std::env::var("ALLUVIUM_SEED").map_or(20_261_120, |text| text.parse().expect("a seed"));
    let mut random = Random(seed);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = Program::start(directory.path());
    prepare(&program.connect().await).await;
    let acknowledged: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for (writer, next) in acknowledged.iter().enumerate() {
            clients.spawn(record(program.connect().await, writer as i32, next.clone(), stop.clone()));
            clients.spawn(transfer(program.connect().await, Random(random.below(u64::MAX)), stop.clone()));
        }
        tokio::time::sleep(Duration::from_millis(200 + random.below(1_500))).await;
        program.kill();
        stop.store(true, Ordering::Relaxed);
        while clients.join_next().await.is_some() {}
        if random.below(2) == 0 {
            let cache = directory.path().join("pageserver");
            if cache.exists() {
                std::fs::remove_dir_all(cache).expect("the cache can be deleted");
            }
        }
        program = Program::start(directory.path());
        let client = program.connect().await;
        client.query_one("SELECT 1", &[]).await.expect("it answers");
        slowest = slowest.max(program.started_in);
        check(&client, &acknowledged, round).await;
    }
    let total: u64 = acknowledged.iter().map(|next| next.load(Ordering::Relaxed)).sum();
    println!("{rounds} rounds, seed {seed}: {total} acknowledged rows found, slowest start {slowest:?}");
    assert!(total > 0, "the writers wrote");
    assert!(slowest < Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 2 }), "slowest start {slowest:?}");
    program.stop();
}
