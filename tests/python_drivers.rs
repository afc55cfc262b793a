//! The driver suites in Python, psycopg 3 and asyncpg, against the real program; and against PostgreSQL 15
//! where it is installed, so that a suite cannot ask for what PostgreSQL does not do.

#![allow(clippy::disallowed_methods)]

mod harness;
#[path = "drivers/servers.rs"]
mod servers;

use std::path::PathBuf;
use std::process::Command;

use harness::tools::{repository, succeeded};
use servers::Servers;

/// The interpreter of the environment that `tests/drivers/setup` makes. Panics when it cannot be made: a suite
/// that did not run has not passed.
fn interpreter() -> PathBuf {
    let output = Command::new(repository().join("tests/drivers/setup")).output().expect("tests/drivers/setup starts");
    let printed = succeeded("tests/drivers/setup, which needs Python 3 with venv and a package registry,", output);
    PathBuf::from(printed.lines().last().expect("it prints the interpreter's path"))
}

fn passes(interpreter: &PathBuf, suite: &str, servers: &Servers) -> bool {
    let output = Command::new(interpreter)
        .arg("-B")
        .arg(repository().join("tests/drivers").join(suite))
        .args(["--port", &servers.address.port().to_string()])
        .args(["--password-port", &servers.password_address.port().to_string()])
        .args(["--server", if servers.is_alluvium { "alluvium" } else { "postgresql" }])
        .env_remove("PGPASSWORD")
        .output()
        .expect("the interpreter starts");
    let server = if servers.is_alluvium { "Alluvium" } else { "PostgreSQL" };
    println!("{suite} on {server}:\n{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn the_python_suites_pass() {
    let interpreter = interpreter();
    let servers = Servers::alluvium();
    let oracle = Servers::postgres();
    let mut failed = Vec::new();
    for suite in ["suite_psycopg.py", "suite_asyncpg.py"] {
        for servers in oracle.iter().chain([&servers]) {
            if !passes(&interpreter, suite, servers) {
                failed.push((suite, servers.is_alluvium));
            }
        }
    }
    assert!(failed.is_empty(), "failed suites, and whether on Alluvium: {failed:?}");
    servers.stop();
}
