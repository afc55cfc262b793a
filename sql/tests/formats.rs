//! Golden file of everything that SQL keeps in trees: catalog rows, rows and keys of every type, index entries, counters,
//! password verifiers. Today's code writes it byte by byte as it stands, reads it, and refuses catalog rows that
//! are cut short or newer.
//!
//! When this test fails on the newest file, a format has changed: databases that exist might not be read any more. What
//! is written then gets a new file *beside* the old ones, which stay readable. `BLESS=1` writes the newest file if it is
//! missing; it never replaces one.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sql::catalog::{Catalog, CatalogManager, POSTGRES_DATABASE_OID};
use sql::error::Result;
use sql::functions::EvalContext;
use sql::plan::OutputColumn;
use sql::session::{ConnectionRequest, Fetched, Format, RowSink, Server, Session};
use sql::store::{Interrupt, Store, TransactionOptions};
use sql::testing::MemoryStore;
use sql::types::Datum;
use storage::{PageNo, TreeId};

/// Of the password `pencil` with the salt of RFC 7677's example; an independent implementation gave it.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// What is written today.
const NEWEST: &str = "database_2";

/// What was written once and must be read: before tables had foreign keys.
const OLDER: &[&str] = &["database_1"];

/// Every type, as primary key, indexed both ways, NULL and not; every kind of object.
fn script() -> Vec<String> {
    let mut script: Vec<String> = [
        "CREATE TABLE types (id int PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric,
             n2 numeric(10, 3), t text, v varchar(20), c char(5), by bytea, d date, ti time, ts timestamp,
             tz timestamptz, iv interval, u uuid, j json, jb jsonb, a int[], ta text[])",
        "INSERT INTO types VALUES (1, true, -5, 70000, -9000000000, 1.5, -2.25e100, 123456789.000123, 12.345, 'täxt',
             'varchar', 'ab', '\\x00ff10', '2026-11-20', '13:14:15.161718', '1999-12-31 23:59:59.999999',
             '2026-11-20 13:00:00+02', '1 year 2 months 3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
             '{\"a\": [1, null]}', '{\"b\": 2, \"a\": 1.50}', '{1,NULL,3}', '{\"x y\",z}')",
        "INSERT INTO types (id) VALUES (-2)",
        "INSERT INTO types (id, f8, n, d, ts, t) VALUES (3, 'NaN', 'NaN', '-infinity', 'infinity', '')",
    ]
    .map(str::to_owned)
    .to_vec();
    for column in ["b", "i2", "i4", "i8", "f4", "f8", "n", "n2", "t", "v", "c", "by", "d", "ti", "ts", "tz", "iv", "u"]
    {
        script.push(format!("CREATE INDEX types_{column} ON types ({column}, id DESC)"));
    }
    let more = [
        "CREATE INDEX types_down ON types (n DESC NULLS LAST, t NULLS FIRST)",
        "CREATE UNIQUE INDEX types_unique ON types (i8)",
        "ALTER TABLE types ADD COLUMN later text DEFAULT 'before'",
        "ALTER TABLE types DROP COLUMN i2",
        "INSERT INTO types (id, later) VALUES (4, 'after')",
        "CREATE TABLE heap (a text NOT NULL CHECK (a <> ''), b serial, c int GENERATED ALWAYS AS IDENTITY)",
        "INSERT INTO heap (a) VALUES ('one'), ('two')",
        "CREATE SCHEMA other",
        "CREATE SEQUENCE other.counter START 100 INCREMENT -5 MINVALUE -1000 MAXVALUE 1000 CYCLE",
        "SELECT nextval('other.counter')",
        "CREATE VIEW other.seen AS SELECT id, t FROM types WHERE id > 0",
        "COMMENT ON TABLE heap IS 'a heap'",
        "COMMENT ON COLUMN heap.a IS 'its text'",
        "CREATE ROLE reader LOGIN CONNECTION LIMIT 5",
        "GRANT SELECT ON types TO reader",
        "CREATE DATABASE second",
        "ANALYZE heap",
    ];
    script.extend(more.map(str::to_owned));
    script.push(format!("CREATE ROLE secret LOGIN PASSWORD '{VERIFIER}'"));
    script
}

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

fn open(store: &MemoryStore) -> Arc<Server> {
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    Arc::new(Server::open(Arc::new(store.clone()), directory, Arc::new(|| 0)).expect("the catalog opens"))
}

fn connect(server: &Arc<Server>) -> Session {
    let (user, database) = ("postgres".to_owned(), "postgres".to_owned());
    let request = ConnectionRequest { user, database, client: "test".to_owned(), ..ConnectionRequest::default() };
    server.connect(request).expect("the superuser may connect")
}

fn query(session: &mut Session, text: &str) -> Vec<String> {
    let mut lines = Lines::default();
    let mut run = || -> Result<()> {
        for statement in session.parse_script(text)? {
            session.run_statement(statement)?;
            while !matches!(session.fetch_simple(&mut lines)?, Fetched::Complete(_)) {}
            session.close_simple();
        }
        session.end_statement_group()
    };
    run().unwrap_or_else(|error| panic!("{text}: {error}"));
    lines.0
}

/// All trees of a store: tree number, key and value on a line, hexadecimal.
fn dump(store: &MemoryStore) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = String::new();
    for tree in (0..1000).map(|number| TreeId(PageNo(number))) {
        for (key, value) in store.rows(tree) {
            text.push_str(&format!("{} {} {}\n", tree.0.0, hex(&key), hex(&value)));
        }
    }
    text
}

/// One row of a dump.
type Row = (TreeId, Vec<u8>, Vec<u8>);

fn rows(dump: &str) -> Vec<Row> {
    let bytes = |text: &str| -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let row = |line: &str| {
        let mut fields = line.split(' ');
        let mut field = || fields.next().expect("three fields");
        (TreeId(PageNo(field().parse().expect("a number"))), bytes(field()), bytes(field()))
    };
    dump.lines().map(row).collect()
}

fn store_of(rows: &[Row]) -> MemoryStore {
    let store = MemoryStore::new();
    for (tree, key, value) in rows {
        store.put_immediate(*tree, key, Bytes::copy_from_slice(value)).expect("memory takes it");
    }
    store
}

fn stored(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format!("{name}.txt"))
}

/// The newest golden file, which is what is written today.
fn golden(written: &str) -> String {
    if std::env::var_os("BLESS").is_some() && !path(NEWEST).exists() {
        std::fs::write(path(NEWEST), written).expect("the file can be written");
    }
    let stored = stored(NEWEST);
    for (line, (written, stored)) in written.lines().zip(stored.lines()).enumerate() {
        let same = written.bytes().zip(stored.bytes()).take_while(|(written, stored)| written == stored).count();
        assert!(written == stored, "{NEWEST}: line {} differs from byte {same} on", line + 1);
    }
    assert_eq!(written.len(), stored.len(), "{NEWEST} is as long as what is written");
    stored
}

#[test]
fn a_database_of_every_type_and_object() {
    let store = MemoryStore::new();
    let mut session = connect(&open(&store));
    script().iter().for_each(|statement| drop(query(&mut session, statement)));
    let written = dump(&store);
    let newest = golden(&written);
    let older = OLDER.iter().map(|name| (*name, stored(name)));
    for (name, rows_stored) in older.chain([(NEWEST, newest)]) {
        read(name, &rows(&rows_stored), &mut session);
    }
}

/// A new server on golden rows finds what `session`, which made such rows just now, finds.
fn read(name: &str, rows: &[Row], session: &mut Session) {
    let server = open(&store_of(rows));
    let mut reader = connect(&server);
    for question in [
        "TABLE types",
        "SELECT * FROM heap ORDER BY a",
        "TABLE other.seen",
        "SELECT id FROM types WHERE n > 0 AND n < 1e9",
        "SELECT id FROM types ORDER BY n DESC NULLS LAST, t NULLS FIRST",
        "SELECT relname, relkind FROM pg_class WHERE oid >= 16384 ORDER BY relname",
        "SELECT rolname, rolconnlimit, rolpassword FROM pg_authid ORDER BY rolname",
        "SELECT datname FROM pg_database ORDER BY datname",
        "SELECT description FROM pg_description ORDER BY description",
        "SELECT attname, stanullfrac FROM pg_statistic JOIN pg_attribute ON attrelid = starelid AND attnum = staattnum",
    ] {
        assert_eq!(query(&mut reader, question), query(session, question), "{name}: {question}");
    }
    assert_eq!(query(&mut reader, "SELECT * FROM alluvium_check()"), Vec::<String>::new(), "{name}");
    // Sequences go on behind what was taken.
    assert_eq!(query(&mut reader, "SELECT nextval('other.counter') < 100"), ["t"], "{name}");
    assert_eq!(server.verifier("secret").expect("readable").as_deref(), Some(VERIFIER), "{name}");
}

#[test]
fn catalog_rows_that_are_cut_or_newer_are_refused() {
    let store = MemoryStore::new();
    let mut session = connect(&open(&store));
    script().iter().for_each(|statement| drop(query(&mut session, statement)));
    let catalog_tree = store.catalog_tree();
    let rows = rows(&golden(&dump(&store)));
    let load = |changed: usize, value: &[u8]| -> Result<Arc<Catalog>> {
        let store = MemoryStore::new();
        let (tree, key, _) = &rows[changed];
        store.put_immediate(*tree, key, Bytes::copy_from_slice(value)).expect("memory takes it");
        let transaction = store.begin(TransactionOptions::default(), Arc::new(Interrupt::default()))?;
        transaction.begin_statement()?;
        Catalog::load(&*transaction, &store, POSTGRES_DATABASE_OID)
    };
    let mut refused = 0;
    for (number, (tree, key, value)) in rows.iter().enumerate() {
        // Rows of another database are not looked at.
        let database = || u32::from_be_bytes(key[1..5].try_into().expect("four bytes"));
        if *tree != catalog_tree || ![0, POSTGRES_DATABASE_OID].contains(&database()) {
            continue;
        }
        load(number, value).unwrap_or_else(|error| panic!("row {number} as it is: {error}"));
        for length in 0..value.len() {
            assert!(load(number, &value[..length]).is_err(), "row {number} cut to {length} bytes");
        }
        let newer = [&[value[0] + 1], &value[1..]].concat();
        let error = load(number, &newer).expect_err("a newer version").to_string();
        assert!(error.contains("version"), "row {number}: {error}");
        refused += 1;
    }
    assert!(refused > 15, "{refused} catalog rows were tried");
    drop(CatalogManager::open(Arc::new(store)).expect("the store itself is sound"));
}
