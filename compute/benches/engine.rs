//! Warm lookups at a snapshot, and TPC-B-like commits through the sequencer into a log that forgets them.
//!
//! `cargo bench -p alluvium-compute --bench engine`. Plain figures, one line each; compare within one run.

#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compute::testing::{MemoryLog, ReplayPages};
use compute::{Compute, ComputeConfig, GovernorConfig};
use sql::store::{
    Interrupt, IsolationLevel, RowLockMode, StatementOutcome, Store, Transaction, TransactionOptions, WaitPolicy,
};
use storage::{BranchId, TreeId};

const ROWS: u64 = 1_000_000;
const LOOKUPS: u64 = 3_000_000;
const RUN: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let log = Arc::new(MemoryLog::slow(Duration::from_millis(1)));
    let pages = Arc::new(ReplayPages::new(log.clone()));
    let config = ComputeConfig {
        governor: GovernorConfig::OFF,
        branch: BranchId(1),
        memory_bytes: 768 << 20,
        transaction_limit_bytes: 64 << 20,
        ..ComputeConfig::new(BranchId(1), 0)
    };
    let compute = runtime.block_on(Compute::start(config, log, pages)).expect("start");

    let accounts = load(&compute, ROWS);
    let tellers = load(&compute, 100);
    let branches = load(&compute, 10);
    let history = load(&compute, 1);

    lookups(&compute, accounts);
    for (name, locks) in [("writes and commit", false), ("reads, locks, writes, commit", true)] {
        for threads in [1, 2] {
            let began = Instant::now();
            let (done, cpu): (Vec<u64>, Vec<Duration>) = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|number| {
                        let compute = &compute;
                        let trees = [accounts, tellers, branches, history];
                        scope.spawn(move || tpcb(compute, trees, number, locks))
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join().expect("no panic")).unzip()
            });
            let (done, cpu) = (done.iter().sum::<u64>() as f64, cpu.iter().sum::<Duration>().as_secs_f64());
            let rate = done / began.elapsed().as_secs_f64() / 1e3;
            let cost = cpu / done * 1e6;
            println!(
                "tpc-b-like ({name}), {threads} threads: {rate:.0} k transactions/s, {cost:.2} us of their CPU each"
            );
        }
    }
    runtime.block_on(compute.shutdown()).expect("shutdown");
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn begin(compute: &Arc<Compute>, interrupt: &Arc<Interrupt>) -> Arc<dyn Transaction> {
    let options = TransactionOptions { isolation: IsolationLevel::ReadCommitted, read_only: false };
    compute.begin(options, interrupt.clone()).expect("begin")
}

fn load(compute: &Arc<Compute>, rows: u64) -> TreeId {
    let transaction = begin(compute, &Arc::default());
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

fn lookups(compute: &Arc<Compute>, tree: TreeId) {
    let transaction = begin(compute, &Arc::default());
    transaction.begin_statement().expect("statement");
    let mut state = 1;
    for round in 0..2 {
        let (began, cpu_before) = (Instant::now(), thread_cpu());
        let mut bytes = 0;
        for _ in 0..LOOKUPS {
            let found = transaction.get(tree, &key(random(&mut state) % ROWS)).expect("get");
            bytes += found.expect("it exists").len();
        }
        assert_eq!(bytes as u64, LOOKUPS * 92);
        let rate = LOOKUPS as f64 / began.elapsed().as_secs_f64();
        let cost = (thread_cpu() - cpu_before).as_nanos() as f64 / LOOKUPS as f64;
        println!("warm lookups, 1 thread, round {round}: {:.2} M/s, {cost:.0} ns of CPU each", rate / 1e6);
    }
}

fn tpcb(compute: &Arc<Compute>, trees: [TreeId; 4], thread: u64, locks: bool) -> (u64, Duration) {
    let cpu_before = thread_cpu();
    let [accounts, tellers, branches, history] = trees;
    let interrupt = Arc::new(Interrupt::default());
    let mut state = thread + 1;
    let (began, mut done) = (Instant::now(), 0_u64);
    // Rows of history are a thread's own.
    let unique = (began.elapsed().as_nanos() as u64) << 20 | thread << 56 | u64::from(locks) << 55;
    while !done.is_multiple_of(64) || began.elapsed() < RUN {
        let transaction = begin(compute, &interrupt);
        let number = random(&mut state);
        for (tree, row) in [(accounts, number % ROWS), (tellers, number % 100), (branches, number % 10)] {
            transaction.begin_statement().expect("statement");
            let mut value = vec![7; 92];
            value[..8].copy_from_slice(&done.to_le_bytes());
            if locks {
                transaction.get(tree, &key(row)).expect("get").expect("it exists");
                transaction.lock_row(tree, &key(row), RowLockMode::Exclusive, WaitPolicy::Block).expect("no cycle");
            }
            transaction.put(tree, &key(row), Bytes::from(value)).expect("put");
            transaction.end_statement(StatementOutcome::Keep);
        }
        transaction.begin_statement().expect("statement");
        transaction.put(history, &key(unique + done), Bytes::from_static(&[1; 40])).expect("put");
        transaction.end_statement(StatementOutcome::Keep);
        transaction.commit().expect("commit").expect("wrote");
        done += 1;
    }
    (done, thread_cpu() - cpu_before)
}

/// CPU time of this thread: what a busy machine does not distort.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
