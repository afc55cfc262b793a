//! Golden scripts: statements with PostgreSQL 15's answers, run from text to rows on the in-memory engine.
//!
//! A line that begins with `> ` is a statement; the lines up to the next one are its rows as psql's
//! unaligned output shows them, or `ERROR`, SQLSTATE and message. Rows of a statement without ORDER BY may
//! come in any order.

use super::engine::Engine;

fn check(name: &str, script: &str) {
    let engine = Engine::new();
    let mut wrong = Vec::new();
    for part in script.split("\n> ") {
        let part = part.strip_prefix("> ").unwrap_or(part);
        let (statement, expected) = part.split_once('\n').unwrap_or((part, ""));
        let (expected, found) = (expected.trim_end(), engine.show(statement));
        let found: Vec<&str> = found.trim_end().lines().map(str::trim_end).collect();
        let mut sorted = [expected.lines().collect::<Vec<_>>(), found.clone()];
        let same = sorted[0] == sorted[1]
            || !statement.to_lowercase().contains("order by") && {
                sorted.iter_mut().for_each(|lines| lines.sort_unstable());
                sorted[0] == sorted[1]
            };
        if !same {
            wrong.push(format!("{statement}\nexpected:\n{expected}\nfound:\n{}\n", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} statements answered otherwise\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn queries() {
    check("queries", include_str!("golden/queries.txt"));
}

#[test]
fn names_and_types() {
    check("names_and_types", include_str!("golden/names_and_types.txt"));
}

#[test]
fn tpch() {
    check("tpch", include_str!("golden/tpch.txt"));
}
