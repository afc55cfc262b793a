//! Sessions on the in-memory engine: blocks, savepoints, failure, prepared statements, cursors, settings.

use std::sync::Arc;

use super::{ConnectionRequest, Fetched, Format, RowSink, Server, Session, TransactionStatus};
use crate::error::Result;
use crate::functions::EvalContext;
use crate::plan::OutputColumn;
use crate::testing::MemoryStore;
use crate::types::Datum;

/// Collects rows as text, columns joined by `|`.
#[derive(Default)]
struct Lines(Vec<String>);

impl RowSink for Lines {
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], _: &[Format], eval: &EvalContext) -> Result<bool> {
        let values = row.iter().zip(columns).map(|(value, column)| match value {
            Datum::Null => "NULL".to_owned(),
            value => crate::types::text::to_string(value, column.data_type, eval),
        });
        self.0.push(values.collect::<Vec<_>>().join("|"));
        Ok(true)
    }
}

fn server() -> Arc<Server> {
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    let store = Arc::new(MemoryStore::default());
    Arc::new(Server::open(store, directory, Arc::new(|| 0)).expect("an empty store opens"))
}

fn connect(server: &Arc<Server>) -> Session {
    connect_as(server, "postgres")
}

fn connect_as(server: &Arc<Server>, user: &str) -> Session {
    let request = ConnectionRequest {
        user: user.to_owned(),
        database: "postgres".to_owned(),
        client: "127.0.0.1:1".to_owned(),
        ..ConnectionRequest::default()
    };
    server.connect(request).expect("the role may connect")
}

/// Runs a Query message: its rows, then its last tag; or the SQLSTATE of its error.
fn query(session: &mut Session, text: &str) -> String {
    let run = |session: &mut Session| -> Result<String> {
        let mut lines = Lines::default();
        let mut last = String::new();
        if session.run_repeated(text)?.is_some() {
            match session.fetch_simple(&mut lines)? {
                Fetched::Complete(tag) => last = tag,
                _ => panic!("{text} did not complete"),
            }
            session.end_statement_group()?;
            lines.0.push(last);
            return Ok(lines.0.join(" "));
        }
        for statement in session.parse_script(text)? {
            session.run_statement(statement)?;
            match session.fetch_simple(&mut lines)? {
                Fetched::Complete(tag) => last = tag,
                _ => panic!("{text} did not complete"),
            }
        }
        session.end_statement_group()?;
        lines.0.push(last);
        Ok(lines.0.join(" "))
    };
    run(session).unwrap_or_else(|error| {
        session.statement_failed();
        error.state().0.to_owned()
    })
}

fn check(cases: &[(&str, &str)]) {
    let mut session = connect(&server());
    for (statement, wanted) in cases {
        assert_eq!(query(&mut session, statement), *wanted, "{statement}");
    }
}

#[test]
fn blocks_commit_roll_back_and_fail() {
    check(&[
        ("CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE"),
        ("BEGIN", "BEGIN"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
        ("ROLLBACK", "ROLLBACK"),
        ("SELECT * FROM t", "SELECT 0"),
        ("BEGIN", "BEGIN"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 1", "25P02"),
        ("COMMIT", "ROLLBACK"),
        ("SELECT * FROM t", "SELECT 0"),
        // A group of statements is one transaction.
        ("INSERT INTO t VALUES (1); SELECT 1 / 0", "22012"),
        ("SELECT * FROM t", "SELECT 0"),
        ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", "INSERT 0 1"),
        ("SELECT * FROM t", "1 2 SELECT 2"),
        ("INSERT INTO t VALUES (3), (2)", "23505"),
        ("SELECT count(*) FROM t", "2 SELECT 1"),
        ("BEGIN READ ONLY; DELETE FROM t", "25006"),
        ("ROLLBACK", "ROLLBACK"),
    ]);
}

#[test]
fn savepoints_bring_a_failed_block_back() {
    check(&[
        ("CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE"),
        ("SAVEPOINT s", "25P01"),
        ("BEGIN", "BEGIN"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
        ("SAVEPOINT s", "SAVEPOINT"),
        ("INSERT INTO t VALUES (2)", "INSERT 0 1"),
        ("CREATE TABLE u (a int)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1)", "23505"),
        ("ROLLBACK TO s", "ROLLBACK"),
        ("SELECT * FROM t", "1 SELECT 1"),
        ("SELECT * FROM u", "42P01"),
        ("ROLLBACK TO s", "ROLLBACK"),
        ("ROLLBACK TO missing", "3B001"),
        ("ROLLBACK TO s", "ROLLBACK"),
        ("RELEASE s", "RELEASE"),
        ("COMMIT", "COMMIT"),
        ("SELECT * FROM t", "1 SELECT 1"),
    ]);
}

#[test]
fn prepared_statements_and_cursors() {
    check(&[
        ("CREATE TABLE t (a int PRIMARY KEY, b text)", "CREATE TABLE"),
        ("INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 5) AS i", "INSERT 0 5"),
        ("PREPARE p (int) AS SELECT b FROM t WHERE a = $1", "PREPARE"),
        ("EXECUTE p (1 + 1)", "x2 SELECT 1"),
        ("EXECUTE p", "42601"),
        ("ALTER TABLE t ADD COLUMN c int DEFAULT 7", "ALTER TABLE"),
        ("EXECUTE p (3)", "x3 SELECT 1"),
        ("DEALLOCATE p", "DEALLOCATE"),
        ("EXECUTE p (3)", "26000"),
        ("DECLARE c CURSOR FOR SELECT a FROM t ORDER BY a", "25P01"),
        ("BEGIN", "BEGIN"),
        ("DECLARE c CURSOR FOR SELECT a FROM t ORDER BY a", "DECLARE CURSOR"),
        ("FETCH 2 FROM c", "1 2 FETCH 2"),
        ("DELETE FROM t WHERE a > 3", "DELETE 2"),
        // A cursor goes on with its own snapshot.
        ("FETCH ALL FROM c", "3 4 5 FETCH 3"),
        ("FETCH NEXT FROM c", "FETCH 0"),
        ("CLOSE c", "CLOSE CURSOR"),
        ("FETCH NEXT FROM c", "34000"),
        ("ROLLBACK", "ROLLBACK"),
    ]);
}

#[test]
fn settings_follow_the_transaction() {
    check(&[
        ("SET lock_timeout = '2s'", "SET"),
        ("SHOW lock_timeout", "2s SHOW"),
        ("BEGIN; SET LOCAL lock_timeout = 5; SHOW lock_timeout", "5ms SHOW"),
        ("COMMIT; SHOW lock_timeout", "2s SHOW"),
        ("BEGIN; SET lock_timeout = 5; ROLLBACK; SHOW lock_timeout", "2s SHOW"),
        ("SET nonsense = 1", "42704"),
        ("SET TIME ZONE 'Asia/Tokyo'; SHOW TIME ZONE", "Asia/Tokyo SHOW"),
        ("RESET ALL; SHOW timezone", "UTC SHOW"),
        ("SELECT current_setting('work_mem'), set_config('work_mem', '1MB', false)", "64MB|1MB SELECT 1"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ; SHOW transaction_isolation", "repeatable read SHOW"),
        ("COMMIT", "COMMIT"),
        ("VACUUM", "VACUUM"),
        ("LISTEN x", "0A000"),
    ]);
}

#[test]
fn a_suspended_portal_keeps_its_snapshot() {
    let mut session = connect(&server());
    query(&mut session, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)");
    session.prepare("", "SELECT a FROM t", &[]).expect("it is prepared");
    session.bind("p", "", &[], &[], &[]).expect("it is bound");
    let mut lines = Lines::default();
    let mut limit = 1;
    assert!(matches!(session.fetch("p", &mut limit, &mut lines), Ok(Fetched::Suspended)));
    session.prepare("d", "DELETE FROM t", &[]).expect("it is prepared");
    session.bind("", "d", &[], &[], &[]).expect("it is bound");
    limit = u64::MAX;
    assert!(matches!(session.fetch("", &mut limit, &mut lines), Ok(Fetched::Complete(tag)) if tag == "DELETE 3"));
    assert!(matches!(session.fetch("p", &mut limit, &mut lines), Ok(Fetched::Complete(_))));
    assert_eq!(lines.0, ["1", "2", "3"]);
    // Running the finished DELETE again must not repeat it.
    assert_eq!(session.fetch("", &mut limit, &mut lines).err().map(|error| error.state().0), Some("55000"));
    session.statement_failed();
    assert_eq!(session.transaction_status(), TransactionStatus::Idle);
    assert_eq!(query(&mut session, "SELECT count(*) FROM t"), "3 SELECT 1");
}

#[test]
fn repeated_statements_share_a_plan_and_its_literals_count() {
    check(&[
        ("CREATE TABLE t (a bigint PRIMARY KEY, b text)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1, 'one')", "INSERT 0 1"),
        ("INSERT INTO t VALUES (2, 'two')", "INSERT 0 1"),
        ("INSERT INTO t VALUES (3, 'it''s three')", "INSERT 0 1"),
        ("INSERT INTO t VALUES (3000000000, 'big')", "INSERT 0 1"),
        ("SELECT b FROM t WHERE a = 1", "one SELECT 1"),
        ("SELECT b FROM t WHERE a = 2", "two SELECT 1"),
        ("SELECT b FROM t WHERE a = 3", "it's three SELECT 1"),
        ("SELECT b FROM t WHERE a = 3000000000", "big SELECT 1"),
        ("SELECT a FROM t WHERE b = 'two'", "2 SELECT 1"),
        ("SELECT a FROM t WHERE b = 'one'", "1 SELECT 1"),
        ("UPDATE t SET a = a + -1 WHERE a = 3", "23505"),
        ("UPDATE t SET a = a + -5 WHERE a = 3", "UPDATE 1"),
        ("UPDATE t SET a = a + -7 WHERE a = -2", "UPDATE 1"),
        ("SELECT a FROM t WHERE a = 'x'", "22P02"),
        ("SELECT a FROM t WHERE a = '1'", "1 SELECT 1"),
        ("SELECT a FROM t WHERE a = '2'", "2 SELECT 1"),
        ("SELECT a FROM t WHERE a = 'x'", "22P02"),
        ("BEGIN", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("BEGIN", "BEGIN"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT b FROM t WHERE a = 1", "25P02"),
        ("COMMIT", "ROLLBACK"),
        ("SELECT b FROM t WHERE a = 1", "one SELECT 1"),
        ("DROP TABLE t", "DROP TABLE"),
        ("SELECT b FROM t WHERE a = 1", "42P01"),
    ]);
}

#[test]
fn privileges_are_enforced() {
    let server = server();
    let mut owner = connect(&server);
    for (statement, wanted) in [
        ("CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
        ("CREATE ROLE reader LOGIN", "CREATE ROLE"),
        ("GRANT SELECT ON t TO reader", "GRANT"),
    ] {
        assert_eq!(query(&mut owner, statement), wanted, "{statement}");
    }
    let mut reader = connect_as(&server, "reader");
    for (statement, wanted) in [
        ("SELECT * FROM t", "1 SELECT 1"),
        ("INSERT INTO t VALUES (2)", "42501"),
        ("UPDATE t SET a = 2", "42501"),
        ("DELETE FROM t", "42501"),
        ("SELECT * FROM t FOR UPDATE", "42501"),
        ("DROP TABLE t", "42501"),
        ("TRUNCATE t", "42501"),
    ] {
        assert_eq!(query(&mut reader, statement), wanted, "{statement}");
    }
    assert_eq!(query(&mut owner, "REVOKE SELECT ON t FROM reader"), "REVOKE");
    assert_eq!(query(&mut reader, "SELECT * FROM t"), "42501");
}

/// Parse, Bind, Describe, Execute and Sync of an unnamed statement: column names with types, rows, tag; or an error.
fn unnamed(session: &mut Session, text: &str, hints: &[u32], parameters: &[Option<&[u8]>]) -> String {
    let run = |session: &mut Session| -> Result<String> {
        let mut lines = Lines::default();
        session.prepare("", text, hints)?;
        session.bind("", "", &[], parameters, &[])?;
        if let Some((columns, _)) = session.describe_portal("")? {
            lines.0.extend(columns.iter().map(|column| format!("{}:{}", column.name, column.data_type.oid())));
        }
        match session.fetch("", &mut u64::MAX.clone(), &mut lines)? {
            Fetched::Complete(tag) => lines.0.push(tag),
            _ => panic!("{text} did not complete"),
        }
        session.end_statement_group()?;
        Ok(lines.0.join(" "))
    };
    run(session).unwrap_or_else(|error| {
        session.statement_failed();
        error.state().0.to_owned()
    })
}

#[test]
fn unnamed_statements_that_come_again_follow_the_catalog_and_the_settings() {
    const INT8: u32 = 20;
    let server = server();
    let (mut session, mut other) = (connect(&server), connect(&server));
    query(&mut session, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    let (select, any) = ("SELECT * FROM t WHERE a = $1", &[Some(&b"2"[..])]);
    for _ in 0..4 {
        assert_eq!(unnamed(&mut session, select, &[], any), "a:23 2 SELECT 1");
        assert_eq!(unnamed(&mut session, select, &[INT8], any), "a:23 2 SELECT 1");
        assert_eq!(unnamed(&mut session, select, &[INT8], &[Some(&b"3000000000"[..])]), "a:23 SELECT 0");
        assert_eq!(unnamed(&mut session, select, &[], &[Some(&b"3000000000"[..])]), "22003");
    }
    query(&mut other, "ALTER TABLE t RENAME COLUMN a TO b");
    assert_eq!(unnamed(&mut session, select, &[], any), "42703");
    let select = "SELECT * FROM t WHERE b = $1";
    for _ in 0..4 {
        assert_eq!(unnamed(&mut session, select, &[], any), "b:23 2 SELECT 1");
    }
    // Planned anew by an execution, for the same types, and then parsed again: the new name counts.
    session.prepare("", "TABLE t", &[]).expect("it is prepared");
    session.prepare("", "TABLE t", &[]).expect("it is prepared");
    session.end_statement_group().expect("nothing to commit");
    query(&mut other, "ALTER TABLE t RENAME COLUMN b TO c");
    session.bind("", "", &[], &[], &[]).expect("it is bound");
    let mut lines = Lines::default();
    assert!(session.fetch("", &mut u64::MAX.clone(), &mut lines).is_ok());
    session.end_statement_group().expect("nothing to commit");
    assert_eq!(unnamed(&mut session, "TABLE t", &[], &[]), "c:23 1 2 SELECT 2");
    query(&mut other, "CREATE SCHEMA s; CREATE TABLE s.t (d text)");
    query(&mut session, "SET search_path = s");
    assert_eq!(unnamed(&mut session, "TABLE t", &[], &[]), "d:25 SELECT 0");
    // What a string means depends on settings.
    let date = "SELECT '1/2/2026'::date";
    for (style, wanted) in [("MDY", "2026-01-02"), ("DMY", "2026-02-01")] {
        query(&mut session, &format!("SET datestyle = ISO, {style}"));
        for _ in 0..3 {
            assert_eq!(unnamed(&mut session, date, &[], &[]), format!("date:1082 {wanted} SELECT 1"));
        }
    }
    for _ in 0..3 {
        assert_eq!(unnamed(&mut session, "BEGIN", &[], &[]), "BEGIN");
        assert_eq!(unnamed(&mut session, "SELECT 1 / 0", &[], &[]), "22012");
        assert_eq!(unnamed(&mut session, "SELECT 1", &[], &[]), "25P02");
        assert_eq!(unnamed(&mut session, "COMMIT", &[], &[]), "ROLLBACK");
        assert_eq!(unnamed(&mut session, "SELECT 1", &[], &[]), "?column?:23 1 SELECT 1");
    }
}

#[test]
fn the_check_names_rows_and_entries_that_do_not_fit() {
    let server = server();
    let mut session = connect(&server);
    for statement in [
        "CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL, c int)",
        "CREATE UNIQUE INDEX t_b ON t (b)",
        "CREATE INDEX t_c ON t (c)",
        "INSERT INTO t SELECT i, 'row ' || i, i % 3 FROM generate_series(1, 20) AS i",
        "CREATE TABLE heap (a int, b int UNIQUE)",
        "INSERT INTO heap VALUES (1, 1), (2, NULL), (3, NULL)",
        "CREATE ROLE plain LOGIN",
    ] {
        query(&mut session, statement);
    }
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check()"), "SELECT 0");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check('t')"), "SELECT 0");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check('t_pkey')"), "SELECT 0");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check('pg_class')"), "42809");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check('missing')"), "42P01");
    assert_eq!(query(&mut connect_as(&server, "plain"), "SELECT * FROM alluvium_check()"), "42501");
    assert_eq!(query(&mut session, "BEGIN"), "BEGIN");
    assert_eq!(query(&mut session, "CREATE TABLE own (a int PRIMARY KEY)"), "CREATE TABLE");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check('own')"), "SELECT 0");
    assert_eq!(query(&mut session, "SELECT * FROM alluvium_check()"), "25001");
    assert_eq!(query(&mut session, "ROLLBACK"), "ROLLBACK");

    let catalog = server.catalogs.committed(crate::catalog::POSTGRES_DATABASE_OID).expect("readable");
    let table = catalog.tables().find(|table| table.name == "t").expect("it is there").clone();
    let tree = |name: &str| table.indexes.iter().find(|index| index.name == name).expect("it is there").tree();
    let problems = |session: &mut Session| query(session, "SELECT relation, problem FROM alluvium_check('t')");
    let store = &server.store;
    // An entry without a row, behind the others.
    store.put_immediate(tree("t_c"), b"\x01\xff\xff\xff\xff\x01\xff\xff\xff\xff", bytes::Bytes::new()).expect("put");
    let found = problems(&mut session);
    assert!(found.contains("t_c|has 21 entries, its table's rows ask for 20"), "{found}");
    assert!(found.contains("leads to no row"), "{found}");
    assert!(!found.contains("t_b|"), "{found}");
    // A row that is there and has no entries, and stands under a foreign key.
    let access = crate::table::TableAccess::new(&table);
    let row = [Datum::Int4(1000), Datum::text("new"), Datum::Null];
    store.put_immediate(table.tree, b"\x01\x80\x00\x00\xff", access.encode(&row).expect("encodes")).expect("put");
    let found = problems(&mut session);
    assert!(found.contains("t|row \\x01800000ff does not stand under its key"), "{found}");
    assert!(found.contains("t_b|row \\x01800000ff has no entry"), "{found}");
    // A row whose bytes are no row.
    store.put_immediate(table.tree, b"\x01\x80\x00\x01\xff", bytes::Bytes::from_static(b"junk")).expect("put");
    let found = problems(&mut session);
    assert!(found.contains("t|row \\x01800001ff does not decode"), "{found}");
}
