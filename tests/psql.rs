//! psql as its users know it: each script of `tests/psql` prints what `tests/psql/<name>.out` holds, and where
//! PostgreSQL 15 is installed it prints the same there, unless the script says that we differ, and why.
//!
//! `ALLUVIUM_PSQL_STORE=1` writes the files anew: from PostgreSQL, or from Alluvium for scripts that differ.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::fmt::Write;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::Path;

use harness::Program;
use harness::postgres::Postgres;
use harness::tools::{client_program, psql_text, repository};

/// A script that begins with this is not compared with PostgreSQL. The rest of the line says why.
const DIFFERS: &str = "-- Differs from PostgreSQL: ";

/// What psql prints for a script on both streams, in the order in which it prints.
fn transcript(address: SocketAddr, script: &Path, directory: &Path) -> String {
    let printed = directory.join("printed");
    // Both streams append to one file; psql empties its standard output before it complains.
    let open = || OpenOptions::new().create(true).append(true).open(&printed).expect("the directory can be written");
    let status = client_program("psql", address)
        .args(["-X", "-a", "-f"])
        .arg(script)
        .current_dir(directory)
        .stdout(open())
        .stderr(open())
        .status()
        .expect("psql starts");
    let bytes = std::fs::read(&printed).expect("readable");
    std::fs::remove_file(&printed).expect("the directory can be written");
    let text = String::from_utf8_lossy(&bytes);
    assert!(status.success(), "psql ended with {status}:\n{text}");
    // The script's path differs between checkouts, times differ always, and trailing blanks, which psql pads
    // columns with, do not survive editors.
    let path = script.parent().expect("a folder").to_string_lossy().into_owned() + "/";
    let plain = |line: &str| match line.strip_prefix("Time: ") {
        Some(_) => "Time: # ms\n".to_owned(),
        None => line.replace(&path, "").trim_end().to_owned() + "\n",
    };
    text.lines().map(plain).collect()
}

#[test]
fn psql_prints_what_it_prints_on_postgresql() {
    let folder = repository().join("tests/psql");
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(&temporary.path().join("data"));
    let postgres = Postgres::start();
    let setup = std::fs::read_to_string(folder.join("setup.sql")).expect("it is there");
    psql_text(program.address, &["-q"], &setup);
    if let Some(postgres) = &postgres {
        psql_text(postgres.address, &["-q"], &setup);
    }

    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql") && !path.ends_with("setup.sql"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let store = std::env::var_os("ALLUVIUM_PSQL_STORE").is_some();
    let mut failures = String::new();
    for script in scripts {
        let name = script.file_name().expect("a file").to_string_lossy().into_owned();
        let differs = std::fs::read_to_string(&script).expect("readable").starts_with(DIFFERS);
        let found = transcript(program.address, &script, temporary.path());
        let oracle = postgres.as_ref().filter(|_| !differs);
        let oracle = oracle.map(|postgres| transcript(postgres.address, &script, temporary.path()));
        let expected_file = script.with_extension("out");
        if store {
            std::fs::write(&expected_file, oracle.as_ref().unwrap_or(&found)).expect("the repository can be written");
        }
        let expected = std::fs::read_to_string(&expected_file).expect("each script has its output stored");
        if let Some(oracle) = &oracle {
            compare(&mut failures, &format!("{name} on PostgreSQL"), oracle, &expected);
        }
        compare(&mut failures, &name, &found, &expected);
    }
    assert!(failures.is_empty(), "\n{failures}");
    program.stop();
}

fn compare(failures: &mut String, what: &str, found: &str, expected: &str) {
    if found == expected {
        return;
    }
    writeln!(failures, "== {what}").expect("a String takes all");
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    let same_start = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let rest = found.len().min(expected.len()) - same_start;
    let same_end = found.iter().rev().zip(expected.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    for line in &expected[same_start..expected.len() - same_end] {
        writeln!(failures, "- {line}").expect("a String takes all");
    }
    for line in &found[same_start..found.len() - same_end] {
        writeln!(failures, "+ {line}").expect("a String takes all");
    }
}
