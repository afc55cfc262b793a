//! All TPC-H queries bind and plan, and none of those with correlated subqueries runs one for each row.

use super::schema::Database;

const SCHEMA: &str = include_str!("../../../../tests/tpch/schema.sql");

macro_rules! queries {
    ($($number:literal),*) => {
        [$(($number, include_str!(concat!("../../../../tests/tpch/queries/q", $number, ".sql")))),*]
    };
}

const QUERIES: [(&str, &str); 22] = queries!(
    "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    "20", "21", "22"
);

/// Row counts at scale 0.1.
const ROWS: &[(&str, f64)] = &[
    ("region", 5.0),
    ("nation", 25.0),
    ("part", 20_000.0),
    ("supplier", 1_000.0),
    ("partsupp", 80_000.0),
    ("customer", 15_000.0),
    ("orders", 150_000.0),
    ("lineitem", 600_000.0),
];

#[test]
fn every_query_is_planned_without_subplans_for_each_row() {
    let database = Database::new(SCHEMA, ROWS);
    for (number, text) in QUERIES {
        let shown = database.explain(text);
        if std::env::var("SHOW_PLANS").is_ok() {
            println!("-- q{number}\n{shown}\n");
        }
        assert!(!shown.starts_with(|first: char| first.is_ascii_digit()), "q{number}: {shown}");
        assert!(!shown.contains("SubPlan"), "q{number} runs a subquery for each row:\n{shown}");
        // A nested loop over a whole table on its right side would be quadratic.
        for (at, line) in shown.lines().enumerate() {
            let depth = line.len() - line.trim_start().len();
            if line.trim_start().starts_with("->  Nested Loop") {
                let right = shown.lines().skip(at + 1).filter(|line| {
                    line.len() - line.trim_start().len() == depth + 6 && line.trim_start().starts_with("->")
                });
                let right = right.take(2).last().unwrap_or("");
                for table in ["lineitem", "orders", "partsupp", "customer", "part"] {
                    assert!(
                        !right.trim_end().ends_with(&format!("Seq Scan on {table}")),
                        "q{number} scans {table} in a loop:\n{shown}"
                    );
                }
            }
        }
    }
}
