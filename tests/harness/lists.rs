//! Clients that append to lists and read them, several in a transaction, whatever happens to the server; what they saw and were
//! told is a history for checker E.
//!
//! A list is one row whose text grows: `UPDATE lists SET items = items || ' 17'`. Some transactions instead read it, add to it
//! themselves and write it back, which is an append only if nobody came between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use history::{History, Isolation, Operation, Outcome, Transaction};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error, Row};

use super::random::Random;
use super::writers::config;

/// Lists that are appended to at a time.
const AT_A_TIME: u64 = 6;
/// Values that a list gets before another takes its place, about.
const LONG: u64 = 50;
/// There are no more than these.
const LISTS: u64 = 3_000;
/// A statement without an answer for this long is given up, and its session too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lists' table.
pub async fn prepare(address: SocketAddr) {
    let tables = format!(
        "CREATE TABLE lists (list bigint PRIMARY KEY, items text NOT NULL);
         INSERT INTO lists SELECT i, '' FROM generate_series(0, {}) AS i",
        LISTS - 1
    );
    let (client, connection) = config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
    tokio::spawn(connection);
    client.batch_execute(&tables).await.expect("the table is made");
}

/// Panics with what is wrong with a history.
pub fn check(history: &History) {
    let findings: Vec<_> = history.check().iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "{} findings in {} transactions: {findings:#?}",
        findings.len(),
        history.transactions.len()
    );
}

#[derive(Default)]
struct Shared {
    history: Mutex<History>,
    now: AtomicU64,
    values: AtomicU64,
    committed: [AtomicU64; 2],
    address: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
}

/// Clients that run until they are stopped.
pub struct Appenders {
    shared: Arc<Shared>,
    running: Mutex<JoinSet<()>>,
    seed: u64,
}

/// What they did.
#[derive(Debug)]
pub struct Seen {
    /// At READ COMMITTED and at REPEATABLE READ.
    pub committed: [u64; 2],
    pub aborted: usize,
    pub unknown: usize,
    pub reads: usize,
    pub appends: usize,
}

/// Where a client goes.
#[derive(Clone, Copy)]
enum Server {
    /// Wherever the program is by now.
    Moving,
    At(SocketAddr),
}

impl Appenders {
    /// `count` clients of a server whose table is there. Whoever replaces it runs only after its end.
    pub fn start(address: SocketAddr, count: u64, seed: u64) -> Appenders {
        let appenders = Appenders { shared: Arc::default(), running: Mutex::default(), seed };
        *appenders.shared.address.lock() = Some(address);
        appenders.spawn(Server::Moving, 0, count);
        appenders
    }

    fn spawn(&self, server: Server, primary: u64, count: u64) {
        for client in 0..count {
            let random = Random(self.seed ^ (primary << 32) ^ client);
            self.running.lock().spawn(run(self.shared.clone(), server, primary, random));
        }
    }

    /// The program has been started again elsewhere.
    pub fn moved_to(&self, address: SocketAddr) {
        *self.shared.address.lock() = Some(address);
    }

    /// A number for a primary that will be started now, while others may still run.
    pub fn another_primary(&self) -> u64 {
        let (now, mut history) = (self.shared.tick(), self.shared.history.lock());
        let number = history.primaries.len() as u64 + 1;
        history.primaries.insert(number, now);
        number
    }

    /// More clients, of another primary.
    pub fn join(&self, address: SocketAddr, primary: u64, count: u64) {
        self.spawn(Server::At(address), primary, count);
    }

    /// Waits until so many more transactions have been acknowledged.
    pub async fn wait_for_more(&self, count: u64, within: Duration) {
        let committed = || self.shared.committed.iter().map(|of_level| of_level.load(Ordering::Relaxed)).sum::<u64>();
        let (begun, target) = (Instant::now(), committed() + count);
        while committed() < target {
            assert!(begun.elapsed() < within, "no {count} transactions in {within:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops them, reads all lists, and answers with the history.
    pub async fn stop(self, address: SocketAddr) -> (History, Seen) {
        self.stop_and_read(address, 0).await
    }

    /// The same where the primary is not the first.
    pub async fn stop_and_read(self, address: SocketAddr, primary: u64) -> (History, Seen) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut running = std::mem::take(&mut *self.running.lock());
        while let Some(ended) = running.join_next().await {
            ended.expect("a client does not panic");
        }
        let (client, connection) = config(address).connect(tokio_postgres::NoTls).await.expect("it connects");
        tokio::spawn(connection);
        let mut last = Session::begun(&self.shared, primary, Isolation::RepeatableRead);
        let begun = last.tick();
        let rows = client.query("SELECT list, items FROM lists", &[]).await.expect("readable");
        last.add(begun, rows.iter().map(read_row).collect());
        last.asked();
        last.told(Outcome::Committed(self.shared.tick()));
        let history = std::mem::take(&mut *self.shared.history.lock());
        let operations = || history.transactions.iter().flat_map(|one| &one.statements).flat_map(|one| &one.operations);
        let ended = |outcome| history.transactions.iter().filter(|one| one.outcome == outcome).count();
        let appends = operations().filter(|one| matches!(one, Operation::Append { .. })).count();
        let seen = Seen {
            committed: [0, 1].map(|level: usize| self.shared.committed[level].load(Ordering::Relaxed)),
            aborted: ended(Outcome::Aborted),
            unknown: ended(Outcome::Unknown),
            reads: operations().count() - appends,
            appends,
        };
        (history, seen)
    }
}

impl Shared {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }
}

fn items(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .map(|item| item.parse().unwrap_or_else(|_| panic!("an item {item:?} of {text:?}")))
        .collect()
}

fn read_row(row: &Row) -> Operation {
    Operation::Read { key: row.get::<_, i64>(0) as u64, list: items(row.get(1)) }
}

/// A transaction that is recorded while it runs.
struct Session {
    shared: Arc<Shared>,
    place: usize,
    isolation: Isolation,
}

impl Session {
    fn begun(shared: &Arc<Shared>, primary: u64, isolation: Isolation) -> Session {
        let mut history = shared.history.lock();
        history.transactions.push(Transaction::begun(primary, isolation));
        Session { shared: shared.clone(), place: history.transactions.len() - 1, isolation }
    }

    fn tick(&self) -> u64 {
        self.shared.tick()
    }

    fn with(&self, add: impl FnOnce(&mut Transaction)) {
        add(&mut self.shared.history.lock().transactions[self.place]);
    }

    fn add(&mut self, begun: u64, operations: Vec<Operation>) {
        let ended = self.tick();
        self.with(|transaction| transaction.statement(begun, ended, operations));
    }

    fn asked(&mut self) {
        let now = self.tick();
        self.with(|transaction| (transaction.asked, transaction.outcome) = (Some(now), Outcome::Unknown));
    }

    fn told(&mut self, outcome: Outcome) {
        self.with(|transaction| transaction.outcome = outcome);
    }

    /// A list that is appended to now.
    fn pick(&self, random: &mut Random) -> i64 {
        let values = self.shared.values.load(Ordering::Relaxed);
        let first = AT_A_TIME * (values / (AT_A_TIME * LONG));
        ((first + random.below(AT_A_TIME)) % LISTS) as i64
    }

    fn value(&self) -> u64 {
        self.shared.values.fetch_add(1, Ordering::Relaxed)
    }

    async fn work(&mut self, client: &Client, random: &mut Random) -> Result<(), Error> {
        for _ in 0..1 + random.below(5) {
            let taken_back = random.below(10) == 0;
            if taken_back {
                client.batch_execute("SAVEPOINT here").await?;
            }
            self.statement(client, random).await?;
            if taken_back {
                client.batch_execute("ROLLBACK TO here").await?;
                self.with(|transaction| transaction.undo_from(transaction.statements.len() - 1));
            }
            if random.below(3) == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(10))).await;
            }
        }
        Ok(())
    }

    async fn statement(&mut self, client: &Client, random: &mut Random) -> Result<(), Error> {
        let (list, begun) = (self.pick(random), self.tick());
        let key = list as u64;
        match random.below(10) {
            // Some lists in one statement, by key.
            0..=2 => {
                let wanted = [list, self.pick(random), self.pick(random)];
                let select = "SELECT list, items FROM lists WHERE list IN ($1, $2, $3)";
                let rows = client.query(select, &[&wanted[0], &wanted[1], &wanted[2]]).await?;
                self.add(begun, rows.iter().map(read_row).collect());
            }
            // A range of them.
            3 => {
                let select = "SELECT list, items FROM lists WHERE list BETWEEN $1 AND $2";
                let rows = client.query(select, &[&(list - AT_A_TIME as i64), &(list + AT_A_TIME as i64)]).await?;
                self.add(begun, rows.iter().map(read_row).collect());
            }
            // Under a lock, and perhaps written back with one more.
            4..=5 => {
                let row = client.query_one("SELECT items FROM lists WHERE list = $1 FOR UPDATE", &[&list]).await?;
                let found = items(row.get(0));
                self.add(begun, vec![Operation::ReadNewest { key, list: found.clone() }]);
                if random.below(2) == 0 {
                    self.write_back(client, list, &found).await?;
                }
            }
            // Read, and written back: at REPEATABLE READ nobody can have come between.
            6 if self.isolation == Isolation::RepeatableRead => {
                let row = client.query_one("SELECT items FROM lists WHERE list = $1", &[&list]).await?;
                let found = items(row.get(0));
                self.add(begun, vec![Operation::Read { key, list: found.clone() }]);
                self.write_back(client, list, &found).await?;
            }
            _ => {
                let value = self.value();
                let update = "UPDATE lists SET items = items || $2 WHERE list = $1 RETURNING items";
                let row = client.query_one(update, &[&list, &format!(" {value}")]).await?;
                let append = Operation::Append { key, value };
                self.add(begun, vec![append, Operation::ReadNewest { key, list: items(row.get(0)) }]);
            }
        }
        Ok(())
    }

    async fn write_back(&mut self, client: &Client, list: i64, found: &[u64]) -> Result<(), Error> {
        let (begun, value) = (self.tick(), self.value());
        let text: String = found.iter().chain([&value]).map(|item| format!(" {item}")).collect();
        client.execute("UPDATE lists SET items = $2 WHERE list = $1", &[&list, &text]).await?;
        self.add(begun, vec![Operation::Append { key: list as u64, value }]);
        Ok(())
    }
}

/// One transaction from begin to end. False: the session is of no use any more.
async fn once(shared: &Arc<Shared>, client: &Client, primary: u64, random: &mut Random) -> bool {
    let isolation = [Isolation::ReadCommitted, Isolation::RepeatableRead][random.below(2) as usize];
    let begin = match isolation {
        Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
        Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
    };
    if client.batch_execute(begin).await.is_err() {
        return false;
    }
    let mut session = Session::begun(shared, primary, isolation);
    if session.work(client, random).await.is_err() || random.below(15) == 0 {
        // What was never asked to be committed is not.
        return client.batch_execute("ROLLBACK").await.is_ok();
    }
    session.asked();
    match client.batch_execute("COMMIT").await {
        Ok(()) => {
            session.told(Outcome::Committed(shared.tick()));
            shared.committed[usize::from(isolation == Isolation::RepeatableRead)].fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(error) => {
            let state = error.code().map(|code| code.code().to_owned());
            // These, and a broken connection, leave it open what became of a commit.
            if state.is_some_and(|state| !["08007", "57P01"].contains(&state.as_str())) {
                session.told(Outcome::Aborted);
            }
            false
        }
    }
}

async fn run(shared: Arc<Shared>, server: Server, primary: u64, mut random: Random) {
    let mut client = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(connected) = &client else {
            let address = match server {
                Server::Moving => shared.address.lock().expect("it was started"),
                Server::At(address) => address,
            };
            let config = config(address);
            let connecting = config.connect(tokio_postgres::NoTls);
            match tokio::time::timeout(Duration::from_secs(10), connecting).await {
                Ok(Ok((connected, connection))) => {
                    tokio::spawn(connection);
                    client = Some(connected);
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        let ended = tokio::time::timeout(PATIENCE, once(&shared, connected, primary, &mut random)).await;
        if !matches!(ended, Ok(true)) {
            client = None;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
