//! pgbench against a server: loading, running, and reading its report.

use std::net::SocketAddr;

use super::tools::{client_program, succeeded};

/// What a run reported.
#[derive(Debug)]
pub struct Report {
    /// Transactions that committed.
    pub processed: u64,
    /// Transactions that failed.
    pub failed: u64,
    /// Transactions per second, without the time to connect.
    pub rate: f64,
    /// Average latency.
    pub latency_ms: f64,
}

/// `pgbench -i -s scale`.
pub fn initialise(address: SocketAddr, scale: u32) {
    let output = client_program("pgbench", address).args(["-i", "-q", "-s", &scale.to_string()]).output();
    succeeded("pgbench -i", output.expect("pgbench starts"));
}

/// One run of the TPC-B-like script. Panics when pgbench fails or a client of it aborts.
pub fn run(address: SocketAddr, mode: &str, clients: u32, seconds: u64) -> Report {
    let output = client_program("pgbench", address)
        .args(["-n", "-M", mode, "-j", "2", "-c", &clients.to_string(), "-T", &seconds.to_string()])
        .output()
        .expect("pgbench starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = succeeded("pgbench", output);
    assert!(!errors.contains("aborted"), "pgbench -M {mode}: {errors}");
    report(&text)
}

/// Reads the report that pgbench prints at its end.
pub fn report(text: &str) -> Report {
    let number = |prefix: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(prefix));
        let line = line.unwrap_or_else(|| panic!("no line {prefix:?} in pgbench's report:\n{text}"));
        let number = line[prefix.len()..].trim_start().split([' ', '/']).next().expect("split gives one part");
        number.parse().unwrap_or_else(|_| panic!("not a number: {line}"))
    };
    Report {
        processed: number("number of transactions actually processed:") as u64,
        failed: number("number of failed transactions:") as u64,
        rate: number("tps ="),
        latency_ms: number("latency average ="),
    }
}

/// A run that is under way, whatever becomes of the server. It ends when the value is dropped.
pub struct Running(std::process::Child);

impl Running {
    /// Starts the TPC-B-like script for at most so many seconds.
    pub fn start(address: SocketAddr, mode: &str, clients: u32, seconds: u64) -> Running {
        let child = client_program("pgbench", address)
            .args(["-n", "-M", mode, "-j", "2", "-c", &clients.to_string(), "-T", &seconds.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        Running(child.expect("pgbench starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asserts that no money was made or lost: accounts, tellers, branches and history tell the same sum; answers the
/// number of transactions.
pub fn check_money(address: SocketAddr) -> i64 {
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
                       (SELECT sum(bbalance) FROM pgbench_branches),
                       (SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)";
    let text = super::tools::psql_text(address, &["-At", "-F", " ", "-c", sums], "");
    let numbers: Vec<i64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let &[accounts, tellers, branches, history, count] = &numbers[..] else { panic!("five sums, not {text:?}") };
    assert!(accounts == tellers && tellers == branches && branches == history, "the sums differ: {text}");
    count
}

/// The same, and that there is a row of history for each transaction.
pub fn check_sums(address: SocketAddr, transactions: u64) {
    assert_eq!(check_money(address), transactions as i64, "one row of history for each transaction");
}
