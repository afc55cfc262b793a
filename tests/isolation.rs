//! Checker E against the whole program: clients append to lists and read them, at both isolation levels, while all is well and
//! while processes are killed, stopped and parted; their history is free of what the levels forbid.
//!
//! `ALLUVIUM_FAULT_SECONDS` sets how long each test lasts (20), `ALLUVIUM_SEED` the seed.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::{Duration, Instant};

use harness::cluster::{Cluster, signal};
use harness::lists::{self, Appenders};
use harness::random::Random;
use harness::tools::setting;
use harness::{Program, tools};
use history::{Anomaly, Isolation};

/// Until appends go on after a fault, on a busy machine and unoptimised.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);

fn lasts() -> Duration {
    Duration::from_secs(setting("ALLUVIUM_FAULT_SECONDS", 20))
}

fn seed() -> u64 {
    setting("ALLUVIUM_SEED", 20_261_120)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_a_healthy_program_are_right() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    lists::prepare(program.address).await;
    let appenders = Appenders::start(program.address, 8, seed());
    tokio::time::sleep(lasts() / 2).await;
    let (history, seen) = appenders.stop(program.address).await;
    println!("{seen:?}");
    lists::check(&history);
    assert!(seen.committed[0] > 20 && seen.committed[1] > 20, "both levels did something: {seen:?}");
    // What tells the levels apart is in there: what READ COMMITTED shows is not what REPEATABLE READ promises.
    let mut as_if = history;
    for transaction in &mut as_if.transactions {
        transaction.isolation = Isolation::RepeatableRead;
    }
    let findings = as_if.check();
    println!("held to REPEATABLE READ: {} findings, {:?}", findings.len(), findings.first().map(ToString::to_string));
    let skew = [Anomaly::ReadSkew, Anomaly::NonRepeatableRead, Anomaly::LostUpdate, Anomaly::NonadjacentCycle];
    assert!(findings.iter().any(|finding| skew.contains(&finding.anomaly)), "the checker sees nothing: {findings:?}");
    assert_eq!(program.check(), "");
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_right_when_the_program_is_killed() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = Program::start(directory.path());
    lists::prepare(program.address).await;
    let appenders = Appenders::start(program.address, 6, seed());
    let (begun, mut kills) = (Instant::now(), 0);
    while begun.elapsed() < lasts() {
        appenders.wait_for_more(20, GOES_ON_WITHIN).await;
        tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
        program.kill();
        kills += 1;
        if random.below(2) == 0 {
            std::fs::remove_dir_all(directory.path().join("pageserver")).expect("the cache can be deleted");
        }
        program = Program::start(directory.path());
        appenders.moved_to(program.address);
    }
    appenders.wait_for_more(20, GOES_ON_WITHIN).await;
    let (history, seen) = appenders.stop(program.address).await;
    println!("killed {kills} times: {seen:?}");
    lists::check(&history);
    assert_eq!(program.check(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_right_whichever_process_is_killed_or_stopped() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::start(directory.path(), &["one", "two"]).await;
    let address = cluster.address();
    lists::prepare(address).await;
    let appenders = Appenders::start(address, 6, seed());
    let begun = Instant::now();
    let mut round = 0;
    // Each kind at least once.
    while round < 7 || begun.elapsed() < lasts() {
        appenders.wait_for_more(20, GOES_ON_WITHIN).await;
        let away = Duration::from_millis(200 + random.below(1_500));
        let leader = cluster.log.wait_for("a leader", |status| status.nodes.len() == 3).await.leader;
        let pause = async |process: u32| {
            signal(process, libc::SIGSTOP);
            tokio::time::sleep(away * 2).await;
            signal(process, libc::SIGCONT);
        };
        match round % 7 {
            0 => {
                cluster.log.kill(leader);
                tokio::time::sleep(away).await;
                cluster.log.start_node(leader);
            }
            1 => {
                cluster.kill_pages("one");
                std::fs::remove_dir_all(directory.path().join("one")).expect("a cache may be deleted");
                tokio::time::sleep(away).await;
                cluster.start_pages("one");
            }
            2 => {
                cluster.kill_compute();
                tokio::time::sleep(away).await;
                cluster.start_compute();
            }
            3 => pause(cluster.log.process(leader)).await,
            4 => pause(cluster.log.process(leader % 3 + 1)).await,
            5 => pause(cluster.pages["two"].id()).await,
            _ => pause(cluster.compute.as_ref().expect("it runs").id()).await,
        }
        round += 1;
    }
    appenders.wait_for_more(20, GOES_ON_WITHIN).await;
    let (history, seen) = appenders.stop(address).await;
    println!("{round} faults: {seen:?}");
    lists::check(&history);
    assert_eq!(cluster.query("SELECT * FROM alluvium_check()"), "");
}

/// The old primary is stopped, another takes over, and the old one goes on among its clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_right_when_one_primary_replaces_another() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start(directory.path(), &["one"]).await;
    let old = cluster.address();
    lists::prepare(old).await;
    let appenders = Appenders::start(old, 4, seed());
    appenders.wait_for_more(50, GOES_ON_WITHIN).await;
    let process = cluster.compute.as_ref().expect("it runs").id();
    signal(process, libc::SIGSTOP);
    let newer = appenders.another_primary();
    let replacement = cluster.another_compute("127.0.0.1:0", "replacement");
    let new = replacement.address("psql");
    appenders.join(new, newer, 4);
    appenders.wait_for_more(50, GOES_ON_WITHIN).await;
    signal(process, libc::SIGCONT);
    tokio::time::sleep(lasts() / 4).await;
    let last = appenders.another_primary();
    let (history, seen) = appenders.stop_and_read(new, last).await;
    println!("{seen:?}");
    lists::check(&history);
    assert_eq!(tools::psql_text(new, &["-At", "-c", "SELECT * FROM alluvium_check()"], "").trim(), "");
}
