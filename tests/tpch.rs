//! TPC-H: generated data goes in with psql's `\copy`, and all 22 queries answer what PostgreSQL 15 answers.
//!
//! Where PostgreSQL 15 is installed the test starts one and compares with it; where not, and always at scale
//! 0.01, it compares with the answers of PostgreSQL 15 in `tests/tpch/expected`. `ALLUVIUM_TPCH_SCALE` sets
//! the scale (0.01); `ALLUVIUM_TPCH_STORE=1` rewrites the stored answers, from PostgreSQL only.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use harness::Program;
use harness::postgres::Postgres;
use harness::tools::{psql, psql_text, repository, setting};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// The scale whose answers are stored.
const STORED_SCALE: f64 = 0.01;

/// Queries whose ORDER BY does not fix the order of all rows, with the columns that it orders by. Rows that
/// are equal in these may come in any order. (All others either order by a unique key or give one row.)
const PARTLY_ORDERED: &[(u32, &[usize])] = &[(3, &[1, 2]), (5, &[1]), (10, &[2]), (11, &[1]), (18, &[4, 3])];

const TABLES: [&str; 8] = ["region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem"];

/// Writes each table as lines of fields parted by `|`.
fn generate(directory: &Path, scale: f64) {
    fn write(directory: &Path, table: &str, rows: impl Iterator<Item = impl std::fmt::Display>) {
        let file = std::fs::File::create(directory.join(table)).expect("the directory can be written");
        let mut file = std::io::BufWriter::new(file);
        let mut line = String::new();
        for row in rows {
            line.clear();
            write!(line, "{row}").expect("a String takes all");
            // The generator's lines end with a separator, which COPY would take for one column more.
            let line = line.strip_suffix('|').expect("a separator ends the line");
            writeln!(file, "{line}").expect("the disk has room");
        }
        file.flush().expect("the disk has room");
    }
    write(directory, "region", RegionGenerator::new(scale, 1, 1).iter());
    write(directory, "nation", NationGenerator::new(scale, 1, 1).iter());
    write(directory, "part", PartGenerator::new(scale, 1, 1).iter());
    write(directory, "supplier", SupplierGenerator::new(scale, 1, 1).iter());
    write(directory, "partsupp", PartSuppGenerator::new(scale, 1, 1).iter());
    write(directory, "customer", CustomerGenerator::new(scale, 1, 1).iter());
    write(directory, "orders", OrderGenerator::new(scale, 1, 1).iter());
    write(directory, "lineitem", LineItemGenerator::new(scale, 1, 1).iter());
}

/// Loads the files as a user would, and gathers statistics.
fn load(address: SocketAddr, directory: &Path) {
    let schema = std::fs::read_to_string(repository().join("tests/tpch/schema.sql")).expect("the schema is there");
    let mut script = schema;
    for table in TABLES {
        let file = directory.join(table);
        writeln!(script, "\\copy {table} from '{}' with (delimiter '|')", file.display()).expect("a String takes all");
    }
    script.push_str("ANALYZE;\n");
    psql_text(address, &["-q"], &script);
}

/// A query's rows, fields parted by `|`.
fn answer(address: SocketAddr, query: &str) -> Result<Vec<String>, String> {
    let output = psql(address, &["-At", "-q"], &format!("{query};\n"));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Rows as they are compared: those that ORDER BY leaves in any order are put in one.
fn comparable(number: u32, rows: &[String]) -> Vec<String> {
    let mut rows = rows.to_vec();
    let Some((_, columns)) = PARTLY_ORDERED.iter().find(|(query, _)| *query == number) else { return rows };
    let key = |row: &String| -> Vec<String> {
        let fields: Vec<&str> = row.split('|').collect();
        columns.iter().map(|column| fields[*column].to_owned()).collect()
    };
    let mut from = 0;
    while from < rows.len() {
        let first = key(&rows[from]);
        let length = rows[from..].iter().take_while(|row| key(row) == first).count();
        rows[from..from + length].sort();
        from += length;
    }
    rows
}

/// What differs between two answers; empty when nothing does.
fn difference(number: u32, found: &[String], expected: &[String]) -> String {
    let (found, expected) = (comparable(number, found), comparable(number, expected));
    let mut text = String::new();
    if found.len() != expected.len() {
        writeln!(text, "  {} rows instead of {}", found.len(), expected.len()).expect("a String takes all");
    }
    for (row, (found, expected)) in found.iter().zip(&expected).enumerate().filter(|(_, (a, b))| a != b).take(3) {
        writeln!(text, "  row {row}: found    {found}\n  row {row}: expected {expected}").expect("a String takes all");
    }
    text
}

#[test]
fn all_queries_answer_as_postgresql() {
    let scale: f64 = setting("ALLUVIUM_TPCH_SCALE", STORED_SCALE);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = directory.path().join("files");
    std::fs::create_dir(&files).expect("the directory can be written");
    generate(&files, scale);

    let postgres = Postgres::start();
    if let Some(postgres) = &postgres {
        load(postgres.address, &files);
    }
    assert!(
        postgres.is_some() || scale == STORED_SCALE,
        "at scale {scale} there are no stored answers: this needs PostgreSQL 15 (tests/setup installs it)"
    );
    let begun = Instant::now();
    let program = Program::start(&directory.path().join("data"));
    load(program.address, &files);
    println!("scale {scale}: loaded in {:.1?}", begun.elapsed());

    let store = std::env::var_os("ALLUVIUM_TPCH_STORE").is_some();
    let mut failures = String::new();
    for number in 1..=22 {
        let folder = repository().join("tests/tpch");
        let query = std::fs::read_to_string(folder.join(format!("queries/q{number:02}.sql"))).expect("it is there");
        let query = query.trim().trim_end_matches(';');
        let stored = folder.join(format!("expected/q{number:02}.txt"));
        let mut expectations = Vec::new();
        if let Some(postgres) = &postgres {
            let rows = answer(postgres.address, query).expect("PostgreSQL answers");
            if store {
                let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
                std::fs::write(&stored, text).expect("the repository can be written");
            }
            expectations.push(("PostgreSQL", rows));
        }
        if scale == STORED_SCALE {
            let text = std::fs::read_to_string(&stored).expect("stored answers");
            expectations.push(("the stored answer", text.lines().map(str::to_owned).collect()));
        }
        let begun = Instant::now();
        let found = answer(program.address, query);
        println!("q{number:02}: {:.2?}", begun.elapsed());
        match found {
            Err(error) => writeln!(failures, "q{number:02} failed: {error}").expect("a String takes all"),
            Ok(found) => {
                for (what, expected) in expectations {
                    let difference = difference(number, &found, &expected);
                    if !difference.is_empty() {
                        writeln!(failures, "q{number:02} differs from {what}:\n{difference}")
                            .expect("a String takes all");
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    program.stop();
}
