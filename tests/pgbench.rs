//! pgbench in its three protocol modes: no transaction fails, and no money is made or lost.
//!
//! `ALLUVIUM_PGBENCH_SECONDS` (5 for each mode) and `ALLUVIUM_PGBENCH_SCALE` (1) set the size;
//! `ALLUVIUM_PGBENCH_CLIENTS` (8) the clients.

#![allow(clippy::disallowed_methods)]

mod harness;

use harness::Program;
use harness::pgbench;
use harness::tools::setting;

#[test]
fn no_transaction_fails_and_the_sums_hold() {
    let seconds = setting("ALLUVIUM_PGBENCH_SECONDS", 5);
    let clients = setting("ALLUVIUM_PGBENCH_CLIENTS", 8);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    pgbench::initialise(program.address, setting("ALLUVIUM_PGBENCH_SCALE", 1));
    let mut processed = 0;
    for mode in ["simple", "extended", "prepared"] {
        let report = pgbench::run(program.address, mode, clients, seconds);
        println!(
            "pgbench -M {mode} -c {clients}: {:.0} transactions/s, {:.2} ms on average",
            report.rate, report.latency_ms
        );
        assert_eq!(report.failed, 0, "-M {mode}: failed transactions");
        assert!(report.processed > 0, "-M {mode}: nothing was done");
        processed += report.processed;
        pgbench::check_sums(program.address, processed);
    }
    program.stop();
    // What was acknowledged is there after a restart.
    let program = Program::start(directory.path());
    pgbench::check_sums(program.address, processed);
    program.stop();
}
