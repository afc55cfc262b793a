//! Golden plans: `golden/plans.txt` holds statements (lines that begin with `> `) with their EXPLAIN.

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

#[test]
fn plans_are_as_recorded() {
    let database = database();
    for part in include_str!("golden/plans.txt").split("\n> ") {
        let part = part.strip_prefix("> ").unwrap_or(part).trim_end();
        let (statement, expected) = part.split_once('\n').unwrap_or((part, ""));
        let found = database.explain(statement);
        assert_eq!(found, expected, "for {statement}\n{found}");
    }
}
