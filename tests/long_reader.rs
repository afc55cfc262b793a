//! A transaction that reads for a long time while pgbench writes: it sees its snapshot and nothing else,
//! the server's memory stays under its limit, and the writers do not notice.
//!
//! `ALLUVIUM_READER_SECONDS` sets how long it reads (10).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::{Duration, Instant};

use harness::tools::{resident_bytes, setting};
use harness::{Program, pgbench};
use tokio_postgres::{GenericClient, IsolationLevel};

/// What the server may take beyond `--memory`: its code, threads, sessions and the allocator's slack.
const SLACK_BYTES: u64 = 256 << 20;

/// The harness starts the server with this `--memory`.
const MEMORY_BYTES: u64 = 256 << 20;

/// Of the rate without a reader. On two cores the reader and pgbench itself take their share of the processor
/// too, which is no wait: so the reader pauses between its reads.
const LEAST_SHARE: f64 = 0.7;

const SUMS: &str = "SELECT sum(abalance)::bigint, count(*), sum(aid::bigint)::bigint FROM pgbench_accounts";
const HISTORY: &str = "SELECT count(*), coalesce(sum(delta), 0)::bigint FROM pgbench_history";

/// Five numbers that change with every transaction of pgbench.
async fn sums(client: &impl GenericClient) -> Vec<i64> {
    let mut numbers = Vec::new();
    for query in [SUMS, HISTORY] {
        let row = client.query_one(query, &[]).await.expect("the tables can be read");
        numbers.extend((0..row.len()).map(|column| row.get::<_, i64>(column)));
    }
    numbers
}

async fn write(program: &Program, seconds: u64) -> pgbench::Report {
    let address = program.address;
    tokio::task::spawn_blocking(move || pgbench::run(address, "prepared", 4, seconds)).await.expect("pgbench ran")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reader_sees_its_snapshot_and_hinders_nobody() {
    let seconds: u64 = setting("ALLUVIUM_READER_SECONDS", 10);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    pgbench::initialise(program.address, 1);
    let mut processed = write(&program, 2).await.processed;
    let alone = write(&program, seconds.clamp(3, 20)).await;
    processed += alone.processed;

    let mut client = program.connect().await;
    let reader = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .expect("the transaction begins");
    let expected = sums(&reader).await;
    assert_eq!(expected[0], expected[4], "the snapshot itself is consistent");

    let address = program.address;
    let writers = tokio::task::spawn_blocking(move || pgbench::run(address, "prepared", 4, seconds));
    let (begun, mut reads, mut most_resident) = (Instant::now(), 0, 0);
    while !writers.is_finished() {
        assert_eq!(sums(&reader).await, expected, "after {:?} the reader's snapshot changed", begun.elapsed());
        reads += 1;
        most_resident = most_resident.max(resident_bytes(program.id()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let beside = writers.await.expect("pgbench ran");
    assert_eq!(sums(&reader).await, expected, "the reader's snapshot at the end");
    reader.commit().await.expect("a reader commits");
    processed += beside.processed;
    assert_ne!(sums(&client).await, expected, "a new snapshot sees what was written");
    pgbench::check_sums(program.address, processed);

    println!(
        "{reads} reads in {:?}; writers {:.0}/s alone, {:.0}/s beside the reader; {} MiB resident at most",
        begun.elapsed(),
        alone.rate,
        beside.rate,
        most_resident >> 20
    );
    assert!(reads >= 3, "the reader read only {reads} times");
    assert_eq!(alone.failed + beside.failed, 0);
    assert!(most_resident < MEMORY_BYTES + SLACK_BYTES, "{} MiB resident", most_resident >> 20);
    assert!(
        beside.rate >= LEAST_SHARE * alone.rate,
        "{:.0}/s with the reader, {:.0}/s without",
        beside.rate,
        alone.rate
    );
    program.stop();
}
