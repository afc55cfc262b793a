//! Clients that vanish, clients that flood, statements that ask for too much: whatever one client does, its
//! locks are free within a second, its memory comes back, and the others go on.
//!
//! `ALLUVIUM_FLOOD_CONNECTIONS` sets how many connections flood the server (600).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::raw::{Raw, startup};
use harness::tools::{peak_bytes, resident_bytes, setting};
use harness::{Program, connect, state};
use tokio_postgres::Client;

/// Waits until a lock on the table can be had at once; asserts that it takes no longer than the limit.
async fn lock_is_free_within(client: &Client, limit: Duration, what: &str) {
    let begun = Instant::now();
    loop {
        let locked = client.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE NOWAIT").await;
        client.batch_execute("ROLLBACK").await.expect("the server goes on");
        if locked.is_ok() {
            return;
        }
        assert!(begun.elapsed() < limit, "{what}: the lock is still held after {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_is_noticed_within_a_second() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x')").await.expect("t");
    let blocker = program.connect().await;
    blocker.batch_execute("CREATE TABLE held (a int)").await.expect("held");
    blocker.batch_execute("BEGIN; LOCK TABLE held").await.expect("held");
    for statement in [
        // Waits in a function, works, waits for a lock.
        "SELECT pg_sleep(600)",
        "SELECT count(*) FROM generate_series(1, 100000000000) AS g WHERE g % 2 = 3",
        "SELECT * FROM held",
    ] {
        let mut raw = Raw::ready(&program);
        raw.message(b'Q', format!("BEGIN; UPDATE t SET b = 'y'; {statement}\0").as_bytes());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'BEGIN; UPDATE%'";
        let running: i64 = client.query_one(running, &[]).await.expect("readable").get(0);
        assert_eq!(running, 1, "{statement}");
        drop(raw);
        lock_is_free_within(&client, Duration::from_secs(1), statement).await;
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; UPDATE%'";
    let left: i64 = client.query_one(sessions, &[]).await.expect("readable").get(0);
    assert_eq!(left, 0, "sessions of clients that have gone");
    let row = client.query_one("SELECT b FROM t", &[]).await.expect("readable");
    assert_eq!(row.get::<_, &str>(0), "x", "what was not committed is gone");
    assert_eq!(program.check(), "");
    program.stop();
}

/// A frame.
fn frame(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![message_type];
    frame.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_off_at_any_byte_of_a_copy_or_commit_leaves_all_or_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text UNIQUE)").await.expect("t");
    let frames = [
        frame(b'Q', b"BEGIN\0"),
        frame(b'Q', b"INSERT INTO t VALUES (0, 'zero')\0"),
        frame(b'Q', b"COPY t FROM STDIN\0"),
        frame(b'd', b"1\tone\n2\t"),
        frame(b'd', b"two\n"),
        frame(b'c', b""),
        frame(b'Q', b"COMMIT\0"),
    ];
    let stream = frames.concat();
    let (mut whole, mut none) = (0, 0);
    for cut in 0..=stream.len() {
        let mut raw = Raw::ready(&program);
        raw.send(&stream[..cut]);
        drop(raw);
        lock_is_free_within(&client, Duration::from_secs(1), &format!("cut at byte {cut}")).await;
        let rows: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("readable").get(0);
        match rows {
            0 => none += 1,
            // The commit was sent in full, and may have been carried out before the end of the stream was seen.
            3 if cut == stream.len() => whole += 1,
            _ => panic!("{rows} rows after a cut at byte {cut} of {}", stream.len()),
        }
        client.execute("DELETE FROM t", &[]).await.expect("writable");
    }
    assert!(none >= stream.len(), "{none} of {} cuts left nothing, {whole} everything", stream.len());
    assert_eq!(program.check(), "");
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_bounded_and_superusers_get_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start_with(directory.path(), &["--max-connections", "20"]);
    let client = program.connect().await;
    client.batch_execute("CREATE ROLE plain LOGIN").await.expect("the role is made");
    let mut plain = program.config();
    plain.user("plain");
    // Sessions: the last three places are for superusers.
    let mut sessions = vec![client];
    while sessions.len() < 17 {
        sessions.push(connect(&plain).await);
    }
    assert_eq!(state(plain.connect(tokio_postgres::NoTls).await.map(|_| ())), "53300");
    for _ in 0..3 {
        sessions.push(program.connect().await);
    }
    assert_eq!(state(program.config().connect(tokio_postgres::NoTls).await.map(|_| ())), "53300");
    assert_eq!(sessions[0].query_one("SELECT 1", &[]).await.expect("it answers").get::<_, i32>(0), 1);
    sessions.truncate(1);
    tokio::time::sleep(Duration::from_millis(200)).await;

    // Connections that say nothing, or half a packet: they cost little, and do not keep others out.
    let flood: usize = setting("ALLUVIUM_FLOOD_CONNECTIONS", 600);
    let before = resident_bytes(program.id());
    let packet = startup(196_608, b"user\0plain\0database\0postgres\0\0");
    let mut silent: Vec<TcpStream> = Vec::new();
    for number in 0..flood {
        let Ok(stream) = TcpStream::connect(program.address) else { continue };
        if number % 2 == 0 {
            let mut raw = Raw(stream.try_clone().expect("a descriptor"));
            raw.send(&packet[..packet.len() / 2]);
        }
        silent.push(stream);
    }
    let begun = Instant::now();
    let newcomer = program.connect().await;
    assert_eq!(newcomer.query_one("SELECT 1", &[]).await.expect("it answers").get::<_, i32>(0), 1);
    let waited = begun.elapsed();
    let grown = peak_bytes(program.id()).saturating_sub(before);
    println!("{} silent connections: a newcomer waited {waited:?}; memory grew by {} MiB", silent.len(), grown >> 20);
    assert!(waited < Duration::from_secs(2), "a newcomer waited {waited:?}");
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    drop(silent);
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_beyond_their_memory_set_rows_aside_or_are_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    let other = program.connect().await;
    let wide = |rows: u32| format!("SELECT g, repeat('x', 20000) || g AS t FROM generate_series(1, {rows}) AS g");
    // Twice what all hash tables together may take: rows are set aside.
    let (many, more) = (wide(6000), wide(6500));
    for (statement, expected) in [
        (format!("SELECT count(*) FROM (SELECT DISTINCT t FROM ({many}) AS w) AS d"), 6000),
        (
            format!("SELECT count(*) FROM (SELECT t, count(*) FROM ({many}) AS w GROUP BY t HAVING count(*) = 1) AS g"),
            6000,
        ),
        (format!("SELECT count(*) FROM ({more}) AS v JOIN ({many}) AS w ON w.t = v.t"), 6000),
        (format!("SELECT count(*) FROM ({more}) AS v LEFT JOIN ({many}) AS w ON w.t = v.t WHERE w.t IS NULL"), 500),
        (format!("SELECT count(*) FROM (SELECT t FROM ({many}) AS v UNION SELECT t FROM ({more}) AS w) AS u"), 6500),
    ] {
        let rows: i64 = client.query_one(&statement, &[]).await.expect(&statement).get(0);
        assert_eq!(rows, expected, "{statement}");
    }
    // What cannot do so is ended.
    for statement in [
        format!("SELECT count(DISTINCT t) FROM ({}) AS w", wide(200_000)),
        format!(
            "SELECT count(*) FROM (SELECT t FROM ({0}) AS v INTERSECT SELECT t FROM ({0}) AS w) AS i",
            wide(200_000)
        ),
    ] {
        let failed = client.query(&statement, &[]).await.map(|rows| rows.len());
        assert_eq!(state(failed), "53200", "{statement}");
        assert_eq!(other.query_one("SELECT 1", &[]).await.expect("it lives").get::<_, i32>(0), 1);
        assert_eq!(client.query_one("SELECT 2", &[]).await.expect("it lives").get::<_, i32>(0), 2);
    }
    // A sort of as many rows spills.
    let sorted = format!("SELECT count(*) FROM (SELECT g FROM ({}) AS w ORDER BY t OFFSET 10) AS s", wide(20_000));
    let rows: i64 = client.query_one(&sorted, &[]).await.expect("it spills").get(0);
    assert_eq!(rows, 19_990);
    let peak = peak_bytes(program.id());
    println!("{} MiB resident at most", peak >> 20);
    assert!(peak < (256 + 256) << 20, "{} MiB resident at most", peak >> 20);
    program.stop();
}

/// A value of a sequence is reserved while the sequence is locked and the log is waited for: whoever waits for that lock
/// must not do so on a thread that the log's answer needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_draw_from_one_sequence_and_nobody_waits_for_ever() {
    const SESSIONS: usize = 24;
    const ROWS: usize = 25;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (id serial PRIMARY KEY, a int); CREATE SEQUENCE q").await.expect("t and q");
    let sessions = (0..SESSIONS).map(|_| {
        let config = program.config();
        tokio::spawn(async move {
            let client = connect(&config).await;
            for row in 0..ROWS as i32 {
                client.execute("INSERT INTO t (a) VALUES ($1)", &[&row]).await.expect("inserted");
                client.batch_execute("SELECT nextval('q'); SELECT setval('q', 7)").await.expect("drawn and set");
            }
        })
    });
    let all = futures::future::try_join_all(sessions);
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody waits for ever").expect("all sessions end");
    let row = client.query_one("SELECT count(*), count(DISTINCT id) FROM t", &[]).await.expect("readable");
    assert_eq!((row.get(0), row.get(1)), ((SESSIONS * ROWS) as i64, (SESSIONS * ROWS) as i64));
    program.stop();
}
