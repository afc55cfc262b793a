//! What parses, into how many statements, and which errors the rest gives.

use super::*;

fn check(text: &str, expected: &str) {
    let found = match parse(text) {
        Ok(statements) => statements.iter().map(|statement| statement.ast.to_string()).collect::<Vec<_>>().join("; "),
        Err(error) => {
            let position = error.fields().position.map_or(String::new(), |position| format!(" @{position}"));
            format!("{} {}{position}", error.state().0, error.message())
        }
    };
    assert_eq!(found, expected, "for {text}");
}

#[test]
fn statements_are_split_and_keep_their_text() {
    let statements = parse("select 1;; select 'a;b' ; -- end\n").unwrap();
    let texts: Vec<_> = statements.iter().map(|statement| statement.text.as_str()).collect();
    assert_eq!(texts, ["select 1", "select 'a;b'"]);
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" -- nothing\n").unwrap().is_empty());
}

#[test]
fn postgres_syntax_that_is_rewritten() {
    check("select * from only t for no key update", "SELECT * FROM t FOR UPDATE");
    check("select * from t for key share nowait", "SELECT * FROM t FOR SHARE NOWAIT");
    check("abort", "ROLLBACK");
    check("vacuum analyze pgbench_accounts", "VACUUM REINDEX pgbench_accounts");
    check("vacuum (verbose, analyze) t", "VACUUM REINDEX t");
    check("vacuum", "VACUUM");
    check("analyze verbose t", "ANALYZE t");
    check("copy t from stdin with (freeze on)", "COPY t FROM STDIN (FREEZE)");
    check("begin isolation level repeatable read read only", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    check("select a into n from t where b", "CREATE TABLE n AS SELECT a FROM t WHERE b");
    check("table t", "SELECT * FROM t");
    check("create table n (a, b) as values (1, 2)", "CREATE TABLE n AS SELECT * FROM (VALUES (1, 2)) AS query (a, b)");
    check(
        "create table n as table t with no data",
        "CREATE TABLE n AS SELECT * FROM (SELECT * FROM t) AS query LIMIT 0",
    );
    check("create table n (a int, b text) without oids", "CREATE TABLE n (a INT, b TEXT)");
    check("select 1 operator(pg_catalog.+) 2", "SELECT 1 OPERATOR(pg_catalog.+) 2");
}

#[test]
fn commands_without_a_tree_are_carried() {
    let found = |text: &str| parse(text).map(|statements| command(&statements[0].ast));
    for (text, wanted) in [
        (
            "create or replace function f() returns int as '' language sql",
            Some(Command::Refused("CREATE FUNCTION".into())),
        ),
        (
            "alter default privileges grant select on tables to r",
            Some(Command::Refused("ALTER DEFAULT PRIVILEGES".into())),
        ),
        ("prepare transaction 'x'", Some(Command::Refused("PREPARE TRANSACTION".into()))),
        ("prepare transaction as select 1", None),
        ("checkpoint", Some(Command::Checkpoint)),
        ("set constraints all immediate", Some(Command::SetConstraints(None))),
        ("select 1", None),
    ] {
        assert_eq!(found(text).unwrap(), wanted, "for {text}");
    }
    let Ok(Some(Command::Reindex { kind, name: Some(name) })) = found("reindex (verbose) table concurrently a.b")
    else {
        panic!("not a REINDEX")
    };
    assert_eq!((kind.as_str(), name.to_string().as_str()), ("table", "a.b"));
    for text in ["checkpoint now", "reindex t", "set constraints all", "reindex table a b"] {
        assert_eq!(found(text).unwrap_err().state(), SqlState::SYNTAX_ERROR, "for {text}");
    }
}

#[test]
fn overriding_is_kept() {
    let statements = parse("insert into t overriding system value values (1)").unwrap();
    let Statement::Insert(insert) = &statements[0].ast else { panic!("not an INSERT") };
    assert_eq!(overriding(insert), Some(Overriding::System));
}

#[test]
fn errors_read_like_postgres() {
    check("selec 1", "42601 syntax error at or near \"selec\" @1");
    check("select 1 from", "42601 syntax error at end of input @14");
    check("select (1", "42601 syntax error at end of input @10");
    check("select 1 1", "42601 syntax error at or near \"1\" @10");
    check("select 'abc", "42601 unterminated quoted string at or near \"'abc\" @8");
    check("select 1;\nselect é from )", "42601 syntax error at or near \")\" @25");
}

#[test]
fn deep_statements_are_refused_not_overrun() {
    let nested = format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let chain = format!("select {}1", "1+".repeat(200_000));
    let deepest = format!("select {}1{}", "(".repeat(MAX_NESTING - 1), ")".repeat(MAX_NESTING - 1));
    for text in [nested, chain] {
        assert_eq!(parse(&text).unwrap_err().state(), SqlState::STATEMENT_TOO_COMPLEX);
    }
    parse(&deepest).unwrap();
}
