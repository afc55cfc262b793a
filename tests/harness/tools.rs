//! The tools that the tests drive Alluvium with: psql and pgbench. A test that lacks its tool fails; it
//! never passes unrun.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where Debian puts the programs of PostgreSQL 15.
pub const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace")
}

/// A program of PostgreSQL: Debian's version 15, or what the search path holds.
pub fn program(name: &str) -> PathBuf {
    let installed = Path::new(POSTGRES_PROGRAMS).join(name);
    if installed.exists() {
        return installed;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("this test needs {name}: run tests/setup, which installs it"))
}

/// A program of PostgreSQL, set to reach a server as role `postgres` whatever the caller's environment says.
pub fn client_program(name: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(program(name));
    for variable in ["PGPASSWORD", "PGOPTIONS", "PGSERVICE", "PGAPPNAME", "PAGER", "PSQL_PAGER"] {
        command.env_remove(variable);
    }
    command
        .env("PGHOST", address.ip().to_string())
        .env("PGPORT", address.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
        .env("PGCONNECT_TIMEOUT", "20")
        .env("PGCLIENTENCODING", "UTF8")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Runs psql without a start-up file on a script; both streams, and whether it succeeded.
pub fn psql(address: SocketAddr, arguments: &[&str], script: &str) -> Output {
    use std::io::Write;
    let mut child = client_program("psql", address)
        .args(["-X", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("psql starts");
    let mut input = child.stdin.take().expect("piped");
    let script = script.to_owned();
    // On a thread of its own: psql may print more than a pipe holds before it has read its script.
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = child.wait_with_output().expect("psql ends");
    // A script that stopped at an error leaves its rest unread.
    let _ = writer.join().expect("the writer does not panic");
    output
}

/// The same; standard output, or a panic with what psql complained about.
pub fn psql_text(address: SocketAddr, arguments: &[&str], script: &str) -> String {
    succeeded("psql", psql(address, arguments, script))
}

/// Standard output of a program that ended well.
pub fn succeeded(name: &str, output: Output) -> String {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} ended with {}:\n{errors}\n{text}", output.status);
    text.into_owned()
}

/// A number from the environment, or its default.
pub fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        Err(_) => default,
    }
}

/// Resident memory of a process.
pub fn resident_bytes(process: u32) -> u64 {
    memory(process, "VmRSS:")
}

/// The most resident memory that a process has had, since its start or since [`forget_peak`].
pub fn peak_bytes(process: u32) -> u64 {
    memory(process, "VmHWM:")
}

/// Begins to measure [`peak_bytes`] anew.
pub fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("Linux lets a user forget its process' peak");
}

fn memory(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with(field)).expect("Linux gives the field");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}
