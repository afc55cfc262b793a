//! The sequencer alone: TPC-B-like commits (three updates, one insert) that are ready before the clock starts, into a
//! log that answers at once, and into one that takes a millisecond, so that commits gather into groups.
//!
//! A log that answers at once makes each commit a group of its own, which copies each page that it changes: more work
//! than any real log asks for.
//!
//! `cargo bench -p alluvium-compute --bench sequencer`. Rates are by the clock, of all threads together, which begin each
//! round of commits at once; CPU figures are the committing threads' own: what a busy machine distorts less.

#![allow(clippy::disallowed_methods)]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use compute::testing::{BareCommit, MemoryLog, ReplayPages};
use compute::{Compute, ComputeConfig, GovernorConfig};
use sql::store::{Interrupt, StatementOutcome, Store, TransactionOptions};
use storage::{BranchId, TreeId};

const ACCOUNTS: u64 = 1_000_000;
const TELLERS: u64 = 100;
const BRANCHES: u64 = 10;
/// The program's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Commits made ready at a time.
const ROUND: u64 = 2_000;
const ROUNDS: u64 = 150;

fn main() {
    for (name, log) in [
        ("a log that answers at once", MemoryLog::default()),
        ("a log that takes 1 ms", MemoryLog::slow(Duration::from_millis(1))),
    ] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let log = Arc::new(log);
        let pages = Arc::new(ReplayPages::new(log.clone()));
        let config = ComputeConfig {
            governor: GovernorConfig::OFF,
            branch: BranchId(1),
            memory_bytes: 384 << 20,
            transaction_limit_bytes: 64 << 20,
            ..ComputeConfig::new(BranchId(1), 0)
        };
        let compute = runtime.block_on(Compute::start(config, log, pages)).expect("start");
        let trees = [load(&compute, ACCOUNTS), load(&compute, TELLERS), load(&compute, BRANCHES), load(&compute, 1)];
        // Until every page of memory was used once: a new one costs a page fault, which no server has for long.
        commits(&compute, trees, 0, 0, 1, &Barrier::new(1));
        let mut first = ROUND * ROUNDS;
        for threads in [1, 2] {
            let (begin_lsn, _, _) = compute.positions();
            let start = Barrier::new(threads as usize);
            let spent: Spent = std::thread::scope(|scope| {
                let (compute, start) = (&compute, &start);
                let run = |thread| scope.spawn(move || commits(compute, trees, first, thread, threads, start));
                let workers: Vec<_> = (0..threads).map(run).collect();
                let all = workers.into_iter().map(|worker| worker.join().expect("no panic"));
                all.reduce(|one, other| Spent { cpu: one.cpu + other.cpu, clock: one.clock.max(other.clock) })
                    .expect("one thread at least")
            });
            let count = threads * ROUND * ROUNDS;
            first += count;
            let bytes = compute.positions().0.since(begin_lsn) as f64 / count as f64;
            println!(
                "{name}, {threads} threads: {:.0} k commits/s; {:.2} us of CPU and {bytes:.0} log bytes a commit",
                count as f64 / spent.clock.as_secs_f64() / 1e3,
                spent.cpu.as_secs_f64() * 1e6 / count as f64,
            );
        }
        runtime.block_on(compute.shutdown()).expect("shutdown");
    }
}

/// What committing took, without making the commits ready.
struct Spent {
    cpu: Duration,
    clock: Duration,
}

/// Commits, in rounds that all threads start together. Rows of the history ascend over all threads, from `first`.
fn commits(
    compute: &Arc<Compute>,
    trees: [TreeId; 4],
    first: u64,
    thread: u64,
    threads: u64,
    start: &Barrier,
) -> Spent {
    let [accounts, tellers, branches, history] = trees;
    let mut state = first + 17 + thread;
    let mut spent = Spent { cpu: Duration::ZERO, clock: Duration::ZERO };
    for round in 0..ROUNDS {
        let ready: Vec<BareCommit> = (0..ROUND)
            .map(|number| {
                let serial = first + (round * ROUND + number) * threads + thread;
                let random = random(&mut state);
                let mut row = vec![7; 92];
                row[..8].copy_from_slice(&serial.to_le_bytes());
                let row = Bytes::from(row);
                BareCommit::new([
                    (accounts, key(random % ACCOUNTS), row.clone()),
                    (tellers, key(random % TELLERS), row.clone()),
                    (branches, key(random % BRANCHES), row),
                    (history, key(1 << 60 | serial), Bytes::from_static(&[1; 40])),
                ])
            })
            .collect();
        start.wait();
        let (cpu, clock) = (thread_cpu(), Instant::now());
        for commit in &ready {
            commit.run(compute).expect("the commit goes through");
        }
        spent.cpu += thread_cpu() - cpu;
        spent.clock += clock.elapsed();
    }
    spent
}

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn load(compute: &Arc<Compute>, rows: u64) -> TreeId {
    let transaction = compute.begin(TransactionOptions::default(), Arc::new(Interrupt::default())).expect("begin");
    transaction.begin_statement().expect("statement");
    let tree = transaction.create_tree().expect("create");
    let mut loader = transaction.bulk_load(tree).expect("load");
    for row in 0..rows {
        loader.push(&key(row), &[7; 92]).expect("push");
    }
    loader.finish().expect("finish");
    transaction.end_statement(StatementOutcome::Keep);
    transaction.commit().expect("commit");
    tree
}

/// Cheap, and the same in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
