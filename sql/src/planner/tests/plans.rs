//! Golden plans.

use super::schema::Database;

fn database() -> Database {
    Database::new(
        "create table t (id int primary key, a int, b text, c numeric(10,2), d date not null);
         create index t_a on t (a);
         create table u (id int primary key, t_id int not null, x text);
         create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84))",
        &[("t", 10_000.0), ("u", 50_000.0), ("pgbench_accounts", 100_000.0)],
    )
}

fn check(text: &str, expected: &str) {
    let found = database().explain(text);
    let expected = expected.trim_start_matches('\n').trim_end();
    let indent = expected.len() - expected.trim_start().len();
    let expected: Vec<&str> = expected.lines().map(|line| line.get(indent..).unwrap_or("")).collect();
    assert_eq!(found, expected.join("\n"), "for {text}\n{found}");
}

#[test]
fn single_table() {
    check(
        "select abalance from pgbench_accounts where aid = $1",
        "
        Index Scan using pgbench_accounts_pkey on pgbench_accounts
          Index Cond: (aid = $1)",
    );
    check("select * from t", "Seq Scan on t");
}
