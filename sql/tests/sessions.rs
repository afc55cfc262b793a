//! Scripts in sessions over the in-memory engine: what only a session does (foreign keys' actions, notices, settings,
//! utility statements). What is expected is what PostgreSQL 15 answers, notices included.
//!
//! A script is a list of blocks with an empty line between them: a statement, `----`, and its answer. Rows are written as
//! `psql -At` writes them with `NULL` for NULL (a line with nothing in it as `(empty)`), then the command tag; errors as `ERROR:  <SQLSTATE>: <message>` with their
//! detail; notices before the rows. Lines that begin with `#` are comments. Each script has a store of its own.

#![allow(clippy::disallowed_methods, reason = "the test waits to see that somebody else waits")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sql::error::{ErrorFields, Result};
use sql::functions::EvalContext;
use sql::plan::OutputColumn;
use sql::session::{ConnectionRequest, Fetched, Format, RowSink, Server, Session};
use sql::testing::MemoryStore;
use sql::types::{Datum, text};

/// Takes rows as text.
#[derive(Default)]
struct Lines(String);

impl RowSink for Lines {
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], _: &[Format], eval: &EvalContext) -> Result<bool> {
        let start = self.0.len();
        for (position, (datum, column)) in row.iter().zip(columns).enumerate() {
            self.0.push_str(if position > 0 { "|" } else { "" });
            if datum.is_null() {
                self.0.push_str("NULL");
            } else {
                text::format(datum, column.data_type, eval, &mut self.0);
            }
        }
        if self.0.len() == start {
            self.0.push_str("(empty)");
        }
        self.0.push('\n');
        Ok(true)
    }
}

fn server(temporary: &Path) -> Arc<Server> {
    let store = Arc::new(MemoryStore::default());
    let server = Server::open(store, temporary.to_owned(), Arc::new(|| 0)).expect("an empty store opens");
    Arc::new(server)
}

fn connect(server: &Arc<Server>) -> Session {
    let request =
        ConnectionRequest { user: "postgres".into(), database: "postgres".into(), ..ConnectionRequest::default() };
    server.connect(request).expect("postgres may connect")
}

fn run(session: &mut Session, statement: &str, lines: &mut Lines) -> Result<String> {
    let mut last = String::new();
    for parsed in session.parse_script(statement)? {
        session.run_statement(parsed)?;
        match session.fetch_simple(lines)? {
            Fetched::Complete(tag) => last = tag,
            _ => panic!("{statement} did not complete"),
        }
    }
    session.end_statement_group()?;
    Ok(last)
}

fn detail(fields: &ErrorFields) -> String {
    fields.detail.as_ref().map_or(String::new(), |detail| format!("DETAIL:  {detail}\n"))
}

/// What a client sees of a statement.
fn answer(session: &mut Session, statement: &str) -> String {
    let mut lines = Lines::default();
    let result = run(session, statement, &mut lines);
    let mut answer = String::new();
    for notice in session.take_notices() {
        let severity = format!("{:?}", notice.severity).to_uppercase();
        _ = writeln!(answer, "{severity}:  {}", notice.fields.message);
        answer.push_str(&detail(&notice.fields));
    }
    match result {
        Ok(tag) => {
            answer.push_str(&lines.0);
            answer.push_str(&tag);
        }
        Err(error) => {
            session.statement_failed();
            let fields = error.fields();
            _ = writeln!(answer, "ERROR:  {}: {}", fields.state.0, fields.message);
            answer.push_str(&detail(fields));
        }
    }
    answer.trim_matches('\n').to_owned()
}

/// Runs a script; answers what differs.
fn check(script: &Path) -> String {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut session = connect(&server(temporary.path()));
    let content = std::fs::read_to_string(script).expect("a script is a readable file");
    let mut failures = String::new();
    for block in content.split("\n\n") {
        let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
        let block = lines.join("\n");
        let Some((statement, expected)) = block.split_once("\n----") else { continue };
        let (found, expected) = (answer(&mut session, statement.trim()), expected.trim_matches('\n'));
        if found != expected {
            let name = script.file_name().unwrap_or_default().to_string_lossy();
            _ = writeln!(failures, "{name}: {statement}\n-- expected\n{expected}\n-- found\n{found}\n");
        }
    }
    failures
}

#[test]
fn scripts_answer_as_postgres_answers() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions");
    let mut scripts: Vec<_> = std::fs::read_dir(directory)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    scripts.sort();
    let failures: String = scripts.iter().map(|script| check(script)).collect();
    assert!(!scripts.is_empty() && failures.is_empty(), "\n{failures}");
}

/// One session has done `first` in a transaction block when another sends `second`: whether that waits, and what it answers
/// once the first has ended its block with `end`.
fn meet(first: &str, second: &str, end: &str) -> (bool, String) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let server = server(temporary.path());
    let mut one = connect(&server);
    for setup in [
        "create table p (id int primary key, note text)",
        "create table c (p_id int references p on update cascade)",
        "insert into p values (1, 'x'), (2, 'y')",
        "insert into c values (2)",
        "begin",
        first,
    ] {
        let answer = answer(&mut one, setup);
        assert!(!answer.starts_with("ERROR"), "{setup}: {answer}");
    }
    let mut two = connect(&server);
    let second = second.to_owned();
    let waiting = std::thread::spawn(move || answer(&mut two, &second));
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(10));
        if waiting.is_finished() {
            break;
        }
    }
    let waits = !waiting.is_finished();
    assert_eq!(answer(&mut one, end), end.to_uppercase());
    (waits, waiting.join().expect("the other session answers"))
}

#[test]
fn references_and_what_they_refer_to_wait_for_each_other() {
    let missing = "ERROR:  23503: insert or update on table \"c\" violates foreign key constraint \"c_p_id_fkey\"\n\
                   DETAIL:  Key (p_id)=(1) is not present in table \"p\".";
    let referenced = "ERROR:  23503: update or delete on table \"p\" violates foreign key constraint \"c_p_id_fkey\" on \
                      table \"c\"\nDETAIL:  Key (id)=(1) is still referenced from table \"c\".";
    let (insert, delete) = ("insert into c values (1)", "delete from p where id = 1");
    for (first, second, end, waits, wanted) in [
        (insert, delete, "commit", true, referenced),
        (insert, delete, "rollback", true, "DELETE 1"),
        (delete, insert, "commit", true, missing),
        (delete, insert, "rollback", true, "INSERT 0 1"),
        (insert, insert, "commit", false, "INSERT 0 1"),
        (insert, "update p set note = 'z' where id = 1", "commit", false, "UPDATE 1"),
        ("update p set note = 'z' where id = 1", insert, "commit", false, "INSERT 0 1"),
        ("update p set id = 11 where id = 1", insert, "commit", true, missing),
        ("select * from p where id = 1 for update", insert, "commit", true, "INSERT 0 1"),
        ("select * from p where id = 1 for share", insert, "commit", false, "INSERT 0 1"),
        ("delete from c", "delete from p where id = 2", "commit", true, "DELETE 1"),
        // What the first adds is new to the snapshot of the second, and follows all the same.
        (insert, "update p set id = 11 where id = 1 returning id", "commit", true, "11\nUPDATE 1"),
    ] {
        assert_eq!(meet(first, second, end), (waits, wanted.to_owned()), "{first} meets {second}");
    }
}
