//! Clients that write without end, whatever happens to the server, and remember what they were told: the checkers A
//! (acknowledged writes are there, denied ones are not) and B (no money is made or lost).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

const ACCOUNTS: i64 = 40;
const MONEY: i64 = 1000;
/// A statement without an answer for this long counts as one whose outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one writer knows of its rows.
#[derive(Default)]
struct Told {
    acknowledged: Vec<i64>,
    /// The server, or nobody, said what became of them.
    unknown: HashSet<i64>,
    /// The server said that they are not there.
    denied: Vec<i64>,
    /// SQLSTATEs of errors in the order in which they came.
    errors: Vec<String>,
    /// The longest time between two acknowledgements.
    longest_gap: Duration,
    last: Option<Instant>,
}

/// Writers that run until they are stopped.
pub struct Writers {
    told: Vec<Arc<Mutex<Told>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    running: JoinSet<()>,
}

/// What the writers saw.
#[derive(Debug)]
pub struct Seen {
    pub acknowledged: u64,
    pub unknown: usize,
    pub denied: usize,
    pub longest_gap: Duration,
    /// SQLSTATEs, each with how often it came to the writer that had it most.
    pub errors: Vec<(String, usize)>,
}

/// Connection settings for database `postgres` as role `postgres`.
pub fn config(address: SocketAddr) -> Config {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres").dbname("postgres");
    config.connect_timeout(Duration::from_secs(5));
    config
}

async fn connect(address: SocketAddr) -> Option<Client> {
    let connected = tokio::time::timeout(Duration::from_secs(10), config(address).connect(NoTls)).await;
    let (client, connection) = connected.ok()?.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Makes the tables.
pub async fn prepare(address: SocketAddr) {
    let client = connect(address).await.expect("the server takes connections");
    let tables = format!(
        "CREATE TABLE recorded (writer int, n bigint, note text, PRIMARY KEY (writer, n));
         CREATE TABLE bank (account int PRIMARY KEY, money bigint NOT NULL);
         INSERT INTO bank SELECT i, {MONEY} FROM generate_series(1, {ACCOUNTS}) AS i"
    );
    client.batch_execute(&tables).await.expect("the tables are made");
}

impl Writers {
    /// `count` clients of a server whose tables are there.
    pub fn start(address: SocketAddr, count: usize) -> Writers {
        let told: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(Told::default()))).collect();
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut running = JoinSet::new();
        for (writer, told) in told.iter().enumerate() {
            running.spawn(write(address, writer as i32, told.clone(), stop.clone(), acknowledged.clone()));
        }
        Writers { told, stop, acknowledged, running }
    }

    /// Acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged; answers how long it took.
    pub async fn wait_for_more(&self, count: u64, within: Duration) -> Duration {
        let (begun, target) = (Instant::now(), self.acknowledged() + count);
        while self.acknowledged() < target {
            assert!(begun.elapsed() < within, "no {count} writes in {within:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// Stops them and compares what is there with what they were told.
    pub async fn check(mut self, address: SocketAddr) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        while self.running.join_next().await.is_some() {}
        let client = connect(address).await.expect("the server takes connections");
        let mut seen = Seen {
            acknowledged: self.acknowledged(),
            unknown: 0,
            denied: 0,
            longest_gap: Duration::ZERO,
            errors: Vec::new(),
        };
        for (writer, told) in self.told.iter().enumerate() {
            let told = std::mem::take(&mut *told.lock());
            let rows = client.query("SELECT n FROM recorded WHERE writer = $1", &[&(writer as i32)]).await;
            let found: HashSet<i64> = rows.expect("readable").iter().map(|row| row.get(0)).collect();
            for n in &told.acknowledged {
                assert!(found.contains(n), "acknowledged row {writer}/{n} is lost");
            }
            for n in &told.denied {
                assert!(!found.contains(n), "row {writer}/{n} was denied, and is there");
            }
            let expected = told.acknowledged.len() + told.unknown.iter().filter(|n| found.contains(n)).count();
            assert_eq!(found.len(), expected, "writer {writer}: rows that nobody wrote");
            seen.unknown += told.unknown.len();
            seen.denied += told.denied.len();
            seen.longest_gap = seen.longest_gap.max(told.longest_gap);
            for state in &told.errors {
                let times = told.errors.iter().filter(|other| *other == state).count();
                match seen.errors.iter_mut().find(|(known, _)| known == state) {
                    Some((_, most)) => *most = times.max(*most),
                    None => seen.errors.push((state.clone(), times)),
                }
            }
        }
        check_bank(&client).await;
        seen
    }
}

/// The sum of all accounts is what it was.
pub async fn check_bank(client: &Client) {
    let row = client.query_one("SELECT sum(money)::bigint, count(*) FROM bank", &[]).await.expect("readable");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (ACCOUNTS * MONEY, ACCOUNTS), "money and accounts");
}

/// One transaction: a row that says its number, and a transfer between two accounts.
async fn once(client: &mut Client, writer: i32, n: i64) -> Result<(), tokio_postgres::Error> {
    let (from, to) = ((n * 7 + i64::from(writer) * 13) % ACCOUNTS + 1, (n * 11 + 5) % ACCOUNTS + 1);
    // In one order, so that writers do not deadlock.
    let ((first, first_sum), (second, second_sum)) =
        if from < to { ((from, -1i64), (to, 1i64)) } else { ((to, 1), (from, -1)) };
    let transaction = client.transaction().await?;
    let note = format!("row {n} of writer {writer} {}", "x".repeat((n % 200) as usize));
    transaction.execute("INSERT INTO recorded VALUES ($1, $2, $3)", &[&writer, &n, &note]).await?;
    let update = "UPDATE bank SET money = money + $2 WHERE account = $1";
    transaction.execute(update, &[&(first as i32), &first_sum]).await?;
    transaction.execute(update, &[&(second as i32), &second_sum]).await?;
    transaction.commit().await
}

async fn write(
    address: SocketAddr,
    writer: i32,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) {
    let mut client = None;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = &mut client else {
            client = connect(address).await;
            if client.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        n += 1;
        let outcome = tokio::time::timeout(PATIENCE, once(connected, writer, n)).await;
        let reconnect = connected.is_closed();
        match told.lock().note(n, outcome) {
            Fate::Acknowledged => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Fate::Denied if !reconnect => {}
            Fate::Denied | Fate::Unknown => client = None,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

enum Fate {
    Acknowledged,
    Denied,
    Unknown,
}

type Outcome = Result<Result<(), tokio_postgres::Error>, tokio::time::error::Elapsed>;

impl Told {
    fn note(&mut self, n: i64, outcome: Outcome) -> Fate {
        let state = match outcome {
            Ok(Ok(())) => {
                let now = Instant::now();
                self.longest_gap = self.longest_gap.max(self.last.map_or(Duration::ZERO, |last| now - last));
                self.last = Some(now);
                self.acknowledged.push(n);
                return Fate::Acknowledged;
            }
            Ok(Err(error)) => error.code().map_or("none", |code| code.code()).to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        // These, and a broken connection, leave it open what became of a commit.
        let open = ["none", "no answer", "08007", "57P01"].contains(&state.as_str());
        self.errors.push(state);
        if open {
            self.unknown.insert(n);
            return Fate::Unknown;
        }
        self.denied.push(n);
        Fate::Denied
    }
}
