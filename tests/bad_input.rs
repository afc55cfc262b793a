//! Bad input of every kind, sent to the real program: a clear error each; the session or at worst the
//! connection ends; the server goes on, and its memory does not notice.
//!
//! `ALLUVIUM_COPY_LINES` sets at which line a COPY breaks (100,000; 1,000,000 in a release build).

#![allow(clippy::disallowed_methods)]

mod harness;

use harness::raw::{Raw, startup};
use harness::tools::{forget_peak, peak_bytes, resident_bytes, setting};
use harness::{Program, state};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_protocol_ends_at_worst_the_connection() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.expect("the table is made");
    let before = resident_bytes(program.id());

    // Start-up packets: garbage, too long, too short, cut off, another protocol, no user.
    let long = startup(196_608, &[b'x'; 20_000]);
    let user = b"user\0postgres\0";
    for (what, packet, wanted) in [
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01"),
        ("an oversize packet", long, "08P01"),
        ("a packet of four bytes", 4u32.to_be_bytes().to_vec(), "08P01"),
        ("protocol 2.0", startup(131_072, b"user\0postgres\0\0"), "0A000"),
        ("no user", startup(196_608, b"database\0postgres\0\0"), "28000"),
        ("no terminator", startup(196_608, user), "08P01"),
        ("an unknown role", startup(196_608, b"user\0nobody\0database\0postgres\0\0"), "28000"),
        ("an unknown database", startup(196_608, b"user\0postgres\0database\0nowhere\0\0"), "3D000"),
        ("an unknown setting", startup(196_608, b"user\0postgres\0nonsense\0on\0\0"), "42704"),
    ] {
        let mut raw = Raw::open(&program);
        raw.send(&packet);
        assert_eq!(raw.error(), wanted, "{what}");
        assert!(raw.read().is_none(), "{what}: the connection is closed");
    }
    // Half a start-up packet, then silence and a hang-up.
    let mut half = Raw::open(&program);
    half.send(&startup(196_608, b"user\0postgres\0\0")[..9]);
    drop(half);

    // Messages: unknown types, impossible lengths, short bodies, strings without end, bad counts, bad UTF-8.
    for (what, frame, wanted) in [
        ("an unknown type", b"!\0\0\0\x04".to_vec(), "08P01"),
        ("a negative length", b"Q\xFF\xFF\xFF\xFF".to_vec(), "08P01"),
        ("a length of three", b"Q\0\0\0\x03".to_vec(), "08P01"),
        ("a length of 2 GiB", b"Q\x7F\xFF\xFF\xFF".to_vec(), "54000"),
        ("a long Sync", b"S\x01\0\0\0".to_vec(), "54000"),
        ("no terminator", b"Q\0\0\0\x08abcd".to_vec(), "08P01"),
        ("text that is not UTF-8", b"Q\0\0\0\x08\xC3\x28a\0".to_vec(), "22021"),
        ("a Parse without types", b"P\0\0\0\x07\0a\0".to_vec(), "08P01"),
        ("a Bind with 65535 parameters", b"B\0\0\0\x0A\0\0\0\0\xFF\xFF".to_vec(), "08P01"),
        ("a Describe of nothing", b"D\0\0\0\x06x\0".to_vec(), "08P01"),
    ] {
        let mut raw = Raw::ready(&program);
        raw.send(&frame);
        assert_eq!(raw.error(), wanted, "{what}");
        assert!(raw.read().is_none(), "{what}: the connection is closed");
    }
    // Every prefix of a valid pipeline, cut off: the server must not care.
    let mut pipeline = Vec::new();
    for (message_type, body) in [
        (b'P', b"\0INSERT INTO t VALUES (1, 'cut')\0\0\0".as_slice()),
        (b'B', b"\0\0\0\0\0\0\0\0"),
        (b'E', b"\0\0\0\0\0"),
    ] {
        pipeline.push(message_type);
        pipeline.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        pipeline.extend_from_slice(body);
    }
    for cut in 0..pipeline.len() {
        let mut raw = Raw::ready(&program);
        raw.send(&pipeline[..cut]);
    }
    let mut raw = Raw::ready(&program);
    raw.send(&pipeline);
    drop(raw);
    // None of them reached Sync: nothing was committed, and no lock was left behind.
    let rows = client.query("SELECT * FROM t", &[]).await.expect("readable");
    assert!(rows.is_empty(), "a pipeline without Sync was committed");
    client.execute("INSERT INTO t VALUES (1, 'whole')", &[]).await.expect("the key is free");

    // Wrong counts and formats leave the session alive.
    let mut raw = Raw::ready(&program);
    raw.message(b'P', b"s\0SELECT $1::int\0\0\0");
    raw.message(b'B', b"\0s\0\0\0\0\0\0\0");
    raw.message(b'S', b"");
    assert_eq!(raw.error(), "08P01", "too few parameters");
    raw.read_until(b'Z');
    raw.message(b'B', b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x03abc\0\0");
    raw.message(b'S', b"");
    assert_eq!(raw.error(), "22P03", "a binary integer of three bytes");
    raw.read_until(b'Z');
    raw.message(b'B', b"\0nothing\0\0\0\0\0\0\0");
    raw.message(b'S', b"");
    assert_eq!(raw.error(), "26000", "an unknown statement");
    raw.read_until(b'Z');
    raw.message(b'Q', b"SELECT 1\0");
    raw.read_until(b'Z');

    let grown = resident_bytes(program.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("it lives").get::<_, i32>(0), 1);
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_beyond_the_limits_are_refused_and_the_session_lives() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text, c varchar(3))").await.expect("the table is made");

    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let many: Vec<String> = (1..=70_000).map(|number| format!("${number}")).collect();
    for (what, statement, wanted) in [
        ("deep nesting", nested, &["54001", "54000"][..]),
        ("70,000 parameters", format!("SELECT {}", many.join(",")), &["54023", "54000", "42P02", "42601", "08P01"]),
        ("garbage", "SELEC 1".to_owned(), &["42601"]),
        ("an unknown table", "SELECT * FROM missing".to_owned(), &["42P01"]),
        ("an unknown column", "SELECT z FROM t".to_owned(), &["42703"]),
        ("a wrong type", "INSERT INTO t VALUES ('x')".to_owned(), &["22P02"]),
        ("a long varchar", "INSERT INTO t VALUES (1, '', 'abcd')".to_owned(), &["22001"]),
        ("an overflow", "SELECT 2147483647 + 1".to_owned(), &["22003"]),
        ("a division by zero", "SELECT 1 / 0".to_owned(), &["22012"]),
        ("a trigger", "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()".to_owned(), &["0A000"]),
    ] {
        let found = state(client.simple_query(&statement).await);
        assert!(wanted.contains(&found.as_str()), "{what}: {found}");
    }
    // Ten thousand parameters are within the protocol's limit.
    let list: Vec<String> = (1..=10_000).map(|number| format!("${number}::int")).collect();
    let values: Vec<i32> = (0..10_000).collect();
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        values.iter().map(|value| value as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let statement = format!("SELECT count(*) FROM (VALUES ({})) AS v", list.join("),("));
    forget_peak(program.id());
    let before = peak_bytes(program.id());
    let row = client.query_one(&statement, &parameters).await.expect("10,000 parameters");
    assert_eq!(row.get::<_, i64>(0), 10_000);
    let grown = peak_bytes(program.id()).saturating_sub(before);
    println!("10,000 parameters: memory grew by {} MiB at most", grown >> 20);
    assert!(grown < 96 << 20, "memory grew by {grown} bytes at most");
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_beyond_256_mib_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b bytea)").await.expect("the table is made");
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.expect("it is prepared");
    let huge = vec![7u8; 300 << 20];
    forget_peak(program.id());
    let before = peak_bytes(program.id());
    assert_eq!(state(client.execute(&insert, &[&1, &huge]).await), "54000");
    let grown = peak_bytes(program.id()).saturating_sub(before);
    println!("300 MiB refused; memory grew by {} KiB", grown >> 10);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes at most");
    drop(huge);
    let large = vec![7u8; 20 << 20];
    client.execute(&insert, &[&2, &large]).await.expect("20 MiB are stored");
    let found: Vec<u8> = client.query_one("SELECT b FROM t WHERE a = 2", &[]).await.expect("readable").get(0);
    assert!(found == large, "the value comes back as it was");
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_breaks_late_leaves_nothing() {
    use futures::SinkExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    let client = program.connect().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text)").await.expect("the table is made");
    let sink = client.copy_in("COPY t FROM STDIN").await.expect("COPY begins");
    let mut sink = std::pin::pin!(sink);
    let last: u32 = setting("ALLUVIUM_COPY_LINES", if cfg!(debug_assertions) { 100_000 } else { 1_000_000 });
    for chunk in 0..last / 1000 {
        let lines: String = (0..1000).map(|line| format!("{}\trow\n", chunk * 1000 + line)).collect();
        sink.send(bytes::Bytes::from(lines)).await.expect("it is taken");
    }
    let sent = sink.send(bytes::Bytes::from(format!("{last}\ttoo\tmany\n"))).await;
    let error = match sent {
        Ok(()) => sink.finish().await.expect_err("the last line has an extra column"),
        Err(error) => error,
    };
    let error = error.as_db_error().expect("the server's error");
    assert_eq!(error.code().code(), "22P04");
    let line = last + 1;
    assert_eq!(error.where_(), Some(format!("COPY t, line {line}: \"{last}\ttoo\tmany\"").as_str()));
    let row = client.query_one("SELECT count(*) FROM t", &[]).await.expect("readable");
    assert_eq!(row.get::<_, i64>(0), 0);
    let peak = peak_bytes(program.id());
    println!("a COPY that broke at line {line}: {} MiB resident at most", peak >> 20);
    // The limit that the harness sets for caches and buffers, and as much for the rest of the program.
    assert!(peak < 512 << 20, "{peak} bytes resident at most");
    assert_eq!(program.check(), "", "what the load has left over is known and accounted for");
    program.stop();
}
