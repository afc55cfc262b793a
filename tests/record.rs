//! The test of record: real work through the real tiers, in process. The log replayed from empty gives, page by
//! page, the bytes in the compute's cache and those that the page server answers, at the end and at LSNs in between; and
//! any prefix of the log that ends at a batch is a database that opens, is sound and can be written to.
//!
//! `ALLUVIUM_RECORD_ROUNDS` sets how long each session works (60), `ALLUVIUM_RECORD_PREFIXES` the distance in
//! batches between the prefixes that are opened (5).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use compute::testing::{MemoryLog, ReplayPages};
use compute::{Compute, ComputeConfig};
use futures::StreamExt;
use harness::random::Random;
use harness::tools::setting;
use logstore::client::LogClient;
use logstore::{LogStore, LogStoreConfig};
use pageserver::client::{GetPage, PageClient, Priority};
use pageserver::{PageServer, PageServerConfig};
use sql::error::{Result, SqlError};
use sql::functions::EvalContext;
use sql::plan::OutputColumn;
use sql::session::{ConnectionRequest, Fetched, Format, RowSink, Server, Session};
use sql::store::Store;
use sql::types::Datum;
use storage::object::{ObjectStore, RetryPolicy};
use storage::page::Page;
use storage::redo::redo;
use storage::testing::decode_log;
use storage::{BranchId, Lsn, PageNo};
use tokio::runtime::Runtime;

const BRANCH: BranchId = BranchId(1);

/// Rows as text.
#[derive(Default)]
struct Lines(Vec<String>);

impl RowSink for Lines {
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], _: &[Format], eval: &EvalContext) -> Result<bool> {
        let values = row.iter().zip(columns).map(|(value, column)| match value {
            Datum::Null => "NULL".to_owned(),
            value => sql::types::text::to_string(value, column.data_type, eval),
        });
        self.0.push(values.collect::<Vec<_>>().join("|"));
        Ok(true)
    }
}

fn connect(server: &Arc<Server>) -> Session {
    let (user, database) = ("postgres".to_owned(), "postgres".to_owned());
    let request = ConnectionRequest { user, database, client: "test".to_owned(), ..ConnectionRequest::default() };
    server.connect(request).expect("the superuser may connect")
}

/// Runs a script and answers its rows. COPY FROM STDIN takes `data`, and is broken off where there is none.
fn run(session: &mut Session, script: &str, data: Option<&str>) -> Result<Vec<String>> {
    let outcome = run_script(session, script, data);
    if outcome.is_err() {
        session.statement_failed();
    }
    outcome
}

fn run_script(session: &mut Session, script: &str, data: Option<&str>) -> Result<Vec<String>> {
    let mut lines = Lines::default();
    for statement in session.parse_script(script)? {
        session.run_statement(statement)?;
        loop {
            match session.fetch_simple(&mut lines)? {
                Fetched::Complete(_) => break,
                Fetched::CopyIn { .. } => match data {
                    Some(data) => {
                        session.copy_data(data.as_bytes())?;
                        session.copy_done()?;
                        break;
                    }
                    None => {
                        session.copy_data(b"1\tlost\n2\tlost\n")?;
                        return Err(session.copy_fail("the client changed its mind"));
                    }
                },
                Fetched::Paused => {}
                _ => return Err(SqlError::internal("not a statement of this test")),
            }
        }
        session.close_simple();
    }
    session.end_statement_group()?;
    if let Some(lsn) = session.take_commit_lsn() {
        session.context().server.store.block_until_durable(lsn)?;
    }
    Ok(lines.0)
}

/// The same; panics with the script when it fails.
fn must(session: &mut Session, script: &str) -> Vec<String> {
    run(session, script, None).unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn prepare(server: &Arc<Server>) {
    must(
        &mut connect(server),
        "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
         CREATE TABLE branches (bid int PRIMARY KEY, bbalance int);
         CREATE TABLE history (aid int, delta int, mtime timestamptz);
         CREATE INDEX history_aid ON history (aid);
         CREATE TABLE documents (id int PRIMARY KEY, body text, size int);
         CREATE UNIQUE INDEX documents_size ON documents (size, id);
         INSERT INTO accounts SELECT i, i % 5, 0, '' FROM generate_series(1, 2000) AS i;
         INSERT INTO branches SELECT i, 0 FROM generate_series(0, 4) AS i",
    );
}

/// What pgbench does.
fn transfer(session: &mut Session, random: &mut Random) {
    let (account, delta) = (1 + random.below(2000), random.below(1000));
    // Deadlocks and the like cost a transaction, as they would a client.
    let _ = run(
        session,
        &format!(
            "BEGIN; UPDATE accounts SET abalance = abalance + {delta} WHERE aid = {account};
             UPDATE branches SET bbalance = bbalance + {delta} WHERE bid = {};
             INSERT INTO history VALUES ({account}, {delta}, now()); COMMIT",
            account % 5
        ),
        None,
    );
    if random.below(9) == 0 {
        let _ = run(session, "ROLLBACK", None);
    }
}

/// Large values, deletes by range (so that pages merge), savepoints.
fn edit(session: &mut Session, random: &mut Random) {
    let id = random.below(400);
    let size = [20, 300, 3_000, 40_000][random.below(4) as usize];
    let low = random.below(400);
    let script = match random.below(4) {
        0 => format!("INSERT INTO documents VALUES ({id}, repeat('x', {size}), {size})"),
        1 => format!(
            "UPDATE documents SET body = repeat('y', {size}), size = {size} WHERE id BETWEEN {low} AND {}",
            low + 5
        ),
        2 => format!("DELETE FROM documents WHERE id BETWEEN {low} AND {}", low + 40),
        _ => format!(
            "BEGIN; INSERT INTO documents SELECT i, repeat('z', i % 900), i FROM generate_series({low}, {low} + 60) AS i
                 ON CONFLICT DO NOTHING;
             SAVEPOINT a; DELETE FROM documents WHERE id % 3 = 0;
             SAVEPOINT b; INSERT INTO documents VALUES ({}, repeat('s', {size}), 1);
             ROLLBACK TO a; UPDATE documents SET size = size + 1 WHERE id = {low}; RELEASE a; COMMIT",
            1000 + id
        ),
    };
    if run(session, &script, None).is_err() {
        let _ = run(session, "ROLLBACK", None);
    }
}

/// Tables that come and go; loads that end and loads that do not.
fn define(session: &mut Session, random: &mut Random, round: u64) {
    let rows: String = (0..200 + random.below(2000)).map(|row| format!("{row}\trow {row} of {round}\n")).collect();
    let name = format!("made_{}", round % 4);
    must(session, &format!("DROP TABLE IF EXISTS {name}"));
    match round % 4 {
        0 => {
            must(session, &format!("CREATE TABLE {name} (a int PRIMARY KEY, b text)"));
            run(session, &format!("COPY {name} FROM STDIN"), Some(&rows)).expect("it is loaded");
            must(
                session,
                &format!("CREATE INDEX ON {name} (b, a DESC); ALTER TABLE {name} ADD COLUMN c int DEFAULT 7"),
            );
        }
        1 => {
            must(session, &format!("CREATE TABLE {name} (a int PRIMARY KEY, b text)"));
            run(session, &format!("COPY {name} FROM STDIN"), None).expect_err("it is broken off");
            // Ends in the middle of a page run, by a key that comes twice.
            let twice = format!("{rows}5\ttwice\n");
            run(session, &format!("COPY {name} FROM STDIN"), Some(&twice)).expect_err("a key comes twice");
        }
        2 => {
            let made = format!("CREATE TABLE {name} AS SELECT aid, abalance, repeat('q', 50) AS t FROM accounts");
            must(session, &format!("BEGIN; {made}; CREATE INDEX ON {name} (abalance, aid); ROLLBACK"));
            must(session, &format!("BEGIN; SAVEPOINT s; {made}; ROLLBACK TO s; {made}; COMMIT"));
            must(session, &format!("TRUNCATE {name}; INSERT INTO {name} VALUES (1, 2, 'three')"));
        }
        _ => must(
            session,
            &format!(
                "CREATE TABLE {name} (id serial PRIMARY KEY, t text UNIQUE);
                 INSERT INTO {name} (t) SELECT 'n ' || i FROM generate_series(1, 300) AS i; ANALYZE {name}"
            ),
        )
        .clear(),
    }
}

/// All of it, from four sessions at once.
fn work(server: &Arc<Server>, rounds: u64) {
    prepare(server);
    let threads: Vec<_> = (0..4_u64)
        .map(|number| {
            let server = server.clone();
            std::thread::spawn(move || {
                let (mut session, mut random) = (connect(&server), Random(number));
                for round in 0..rounds {
                    match number {
                        0 if round % 4 == 0 => define(&mut session, &mut random, round / 4),
                        0 | 1 => edit(&mut session, &mut random),
                        _ => transfer(&mut session, &mut random),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no session panics"));
}

fn open(store: Arc<dyn Store>) -> Arc<Server> {
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    Arc::new(Server::open(store, directory, Arc::new(|| 0)).expect("the catalog opens"))
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

/// The log from its beginning to its durable end.
async fn read_log(log: &dyn LogClient) -> Vec<u8> {
    let end = log.status(BRANCH).await.expect("the log answers").durable_lsn;
    let mut chunks = log.subscribe(BRANCH, Lsn::ZERO).await.expect("the log is kept");
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < end.0 {
        let chunk = chunks.next().await.expect("there is more").expect("it can be read");
        assert_eq!(chunk.start_lsn.0, bytes.len() as u64, "without gaps");
        bytes.extend_from_slice(&chunk.bytes);
    }
    bytes.truncate(end.0 as usize);
    bytes
}

type Pages = BTreeMap<PageNo, Box<Page>>;

/// Compares every page with what the page server answers, and with the compute's copies; how many had one.
async fn compare(expected: &Pages, at: Lsn, pages: &dyn PageClient, compute: &Compute) -> usize {
    let numbers: Vec<PageNo> = expected.keys().copied().collect();
    let mut in_memory = 0;
    let priority = Priority::Background;
    for numbers in numbers.chunks(64) {
        let requests: Vec<GetPage> =
            numbers.iter().map(|page| GetPage { page: *page, at, not_modified_since: at, priority }).collect();
        for (page, answer) in numbers.iter().zip(pages.get_pages(BRANCH, &requests).await) {
            let image = answer.unwrap_or_else(|error| panic!("page {page} at {at}: {error}"));
            let stored = Page::open(&image.bytes, BRANCH, *page).expect("its checksum fits");
            assert!(
                stored.bytes() == expected[page].bytes(),
                "page {page} at {at}: the page server's differs from replay"
            );
            if let Some(copy) = compute.page_in_memory(*page, at) {
                assert!(copy.bytes() == expected[page].bytes(), "page {page} at {at}: the cache's differs from replay");
                in_memory += 1;
            }
        }
    }
    in_memory
}

#[test]
fn the_log_replayed_from_empty_gives_the_pages_of_every_tier() {
    let rounds = setting("ALLUVIUM_RECORD_ROUNDS", 60);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime();
    let config = LogStoreConfig { retain_all: true, ..LogStoreConfig::new(directory.path().join("log")) };
    let log = LogStore::open(config).expect("the log opens");
    std::fs::create_dir(directory.path().join("objects")).expect("a directory");
    let objects = format!("file://{}", directory.path().join("objects").display());
    let objects = ObjectStore::open(&objects, RetryPolicy::immediate(3)).expect("the object store opens");
    // Small buffers: layers are written, merged and read all the time.
    let config =
        PageServerConfig { buffer_bytes: 64 << 10, frozen_bytes: 256 << 10, ..PageServerConfig::new(BRANCH, 16 << 20) };
    let pages = runtime.block_on(PageServer::start(config, objects, log.client())).expect("the page server starts");
    // A small cache: pages come and go.
    let config = ComputeConfig::new(BRANCH, 24 << 20);
    let compute = runtime.block_on(Compute::start(config, log.client(), pages.client())).expect("the compute starts");
    let server = open(compute.clone());
    work(&server, rounds);
    assert_eq!(must(&mut connect(&server), "SELECT * FROM alluvium_check()"), Vec::<String>::new());

    let log_bytes = runtime.block_on(read_log(&*log.client()));
    let batches = decode_log(&log_bytes);
    let (count, mut replayed, mut compared, mut in_memory) = (batches.len(), Pages::new(), 0, 0);
    for (number, batch) in batches.iter().enumerate() {
        for record in batch.records() {
            let record = record.expect("records decode");
            let page = replayed.entry(record.page).or_insert_with(Page::unused);
            redo(page, &record.op).expect("records apply");
            page.set_lsn(batch.end_lsn);
        }
        if number + 1 == count || number % (count / 6).max(1) == 0 {
            in_memory += runtime.block_on(compare(&replayed, batch.end_lsn, &*pages.client(), &compute));
            compared += replayed.len();
        }
    }
    let layers = runtime.block_on(pages.client().status(BRANCH)).expect("it answers").layers;
    println!(
        "{count} batches, {} bytes of log, {} pages, {layers} layers; {compared} pages compared at 7 LSNs, {in_memory} with \
         a copy in memory",
        log_bytes.len(),
        replayed.len()
    );
    assert!(layers > 1 && in_memory > 100 && replayed.len() > 100, "the test tests something");
    runtime.block_on(async {
        compute.shutdown().await.expect("all is durable");
        pages.shutdown().await;
    });
    log.shutdown();
}

#[test]
fn any_prefix_that_ends_at_a_batch_is_a_sound_database() {
    let runtime = runtime();
    let log = Arc::new(MemoryLog::default());
    let start = |log: &Arc<MemoryLog>| {
        let config = ComputeConfig::new(BRANCH, 16 << 20);
        let compute = Compute::start(config, log.clone(), Arc::new(ReplayPages::new(log.clone())));
        runtime.block_on(compute).expect("the compute starts")
    };
    let compute = start(&log);
    let server = open(compute.clone());
    work(&server, setting("ALLUVIUM_RECORD_ROUNDS", 60).min(16));
    runtime.block_on(compute.shutdown()).expect("all is durable");
    let bytes = log.bytes();
    let ends: Vec<u64> = decode_log(&bytes).iter().map(|batch| batch.end_lsn.0).collect();
    let distance: usize = setting("ALLUVIUM_RECORD_PREFIXES", 5);
    let mut opened = 0;
    for end in ends.iter().step_by(distance.max(1)).chain(ends.last()) {
        let prefix = Arc::new(MemoryLog::holding(Bytes::copy_from_slice(&bytes[..*end as usize])));
        let compute = start(&prefix);
        let server = open(compute.clone());
        let mut session = connect(&server);
        let found = must(&mut session, "SELECT * FROM alluvium_check()");
        assert_eq!(found, Vec::<String>::new(), "the prefix that ends at {}", Lsn(*end));
        must(&mut session, "CREATE TABLE after_all (a int PRIMARY KEY); INSERT INTO after_all VALUES (1)");
        // What the crash has left over is given back, and the database stays sound.
        while !compute.reclaiming_is_done() {
            std::thread::yield_now();
        }
        let found = must(&mut session, "SELECT * FROM alluvium_check()");
        assert_eq!(found, Vec::<String>::new(), "after work on the prefix that ends at {}", Lsn(*end));
        runtime.block_on(compute.shutdown()).expect("all is durable");
        opened += 1;
    }
    println!("{opened} prefixes of {} batches opened", ends.len());
}
