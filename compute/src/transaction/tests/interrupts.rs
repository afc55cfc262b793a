//! What ends a statement from outside also ends its waits in the engine: for pages, for a fetch of another, for
//! the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pageserver::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use sql::error::Result;
use sql::store::{Direction, Interrupt, InterruptReason, KeyRange, Store, Transaction, TransactionOptions};
use storage::{BranchId, TreeId};

use super::World;
use crate::blocking::interruptible;
use crate::testing::{MemoryLog, ReplayPages};
use crate::{Compute, ComputeConfig};

/// Page servers that are away while they are told to be: they answer *unavailable*, or nothing at all.
struct Away {
    pages: ReplayPages,
    away: AtomicBool,
    silent: bool,
}

#[async_trait]
impl PageClient for Away {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        if !self.away.load(Ordering::Acquire) {
            return self.pages.get_pages(branch, requests).await;
        }
        if self.silent {
            std::future::pending::<()>().await;
        }
        requests.iter().map(|_| Err(PageError::Unavailable { reason: "away".to_owned() })).collect()
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.pages.status(branch).await
    }
}

/// Runs `work` in a transaction of a session that is interrupted after a while; asserts that it ends soon after.
fn ends_soon(
    compute: &Arc<Compute>,
    reason: InterruptReason,
    state: &str,
    work: impl FnOnce(&Arc<dyn Transaction>) -> Result<()> + Send + 'static,
) {
    let interrupt = Arc::new(Interrupt::default());
    let transaction = compute.begin(TransactionOptions::default(), interrupt.clone()).expect("begin");
    transaction.begin_statement().expect("statement");
    let scope_of = interrupt.clone();
    let worker = std::thread::spawn(move || {
        let _scope = interruptible(&scope_of);
        work(&transaction)
    });
    std::thread::sleep(Duration::from_millis(150));
    assert!(!worker.is_finished(), "{reason:?}: it waits");
    let raised = Instant::now();
    interrupt.raise(reason);
    let error = worker.join().expect("no panic").expect_err("it was interrupted");
    assert_eq!(error.state().0, state, "{reason:?}: {error}");
    // Far less than any deadline of the engine's own.
    assert!(raised.elapsed() < Duration::from_secs(10), "{reason:?}: {:?}", raised.elapsed());
}

fn scan(transaction: &Arc<dyn Transaction>, tree: TreeId) -> Result<()> {
    let mut cursor = transaction.scan(tree, KeyRange::ALL, Direction::Forward)?;
    while cursor.advance()? {}
    Ok(())
}

#[test]
fn waits_for_pages_end_when_the_statement_is_interrupted() {
    let world = World::new(1024);
    let tree = world.tree();
    world.put(tree, &[("a", "1"), ("b", "2")]);
    for silent in [false, true] {
        let log = Arc::new(MemoryLog::holding(world.log.bytes().into()));
        let server = Arc::new(Away { pages: ReplayPages::new(log.clone()), away: AtomicBool::new(false), silent });
        let config = ComputeConfig { memory_bytes: 8 << 20, ..ComputeConfig::new(BranchId(1), 8 << 20) };
        let compute = world.runtime.block_on(Compute::start(config, log, server.clone())).expect("start");
        while !compute.reclaiming_is_done() {
            std::thread::yield_now();
        }
        server.away.store(true, Ordering::Release);
        for (reason, state) in [
            (InterruptReason::UserCancel, "57014"),
            (InterruptReason::StatementTimeout, "57014"),
            (InterruptReason::Shutdown, "57P01"),
            (InterruptReason::ClientGone, "08006"),
        ] {
            ends_soon(&compute, reason, state, move |transaction| transaction.get(tree, b"a").map(drop));
            ends_soon(&compute, reason, state, move |transaction| scan(transaction, tree));
            ends_soon(&compute, reason, state, move |transaction| {
                transaction.put(tree, b"c", bytes::Bytes::from_static(b"3"))?;
                transaction.commit().map(drop)
            });
        }
        // Who waits for the fetch of another: that one is interrupted, and this one fetches for itself.
        let other = {
            let transaction = super::begin(&compute, sql::store::IsolationLevel::ReadCommitted);
            transaction.begin_statement().expect("statement");
            std::thread::spawn(move || scan(&transaction, tree))
        };
        ends_soon(&compute, InterruptReason::UserCancel, "57014", move |transaction| scan(transaction, tree));
        if !silent {
            server.away.store(false, Ordering::Release);
            other.join().expect("no panic").expect("the page server is back");
            let transaction = super::begin(&compute, sql::store::IsolationLevel::ReadCommitted);
            transaction.begin_statement().expect("statement");
            assert_eq!(super::rows(&transaction, tree).len(), 2, "nothing interrupted was committed");
            world.runtime.block_on(compute.shutdown()).expect("shutdown");
        }
    }
}

#[test]
fn waits_for_the_log_end_when_the_statement_is_interrupted() {
    let world = World::new(1024);
    let tree = world.tree();
    world.log.hold(true);
    let held = world.begin();
    held.put(tree, b"a", bytes::Bytes::from_static(b"1")).expect("put");
    held.commit().expect("it is applied");
    // DDL waits until everything applied is durable.
    for (reason, state) in [(InterruptReason::UserCancel, "57014"), (InterruptReason::ClientGone, "08006")] {
        ends_soon(&world.compute, reason, state, |transaction| transaction.begin_statement_at_newest());
    }
    world.log.hold(false);
}

/// A log that takes nothing lets commits gather up to a limit, beyond which they wait before they are applied.
#[test]
fn commits_that_wait_for_the_log_end_when_the_statement_is_interrupted() {
    let world = World::new(4096);
    let tree = world.tree();
    world.log.hold(true);
    let commits = Arc::new(AtomicUsize::new(0));
    for reason in [InterruptReason::UserCancel, InterruptReason::StatementTimeout] {
        let (compute, commits) = (world.compute.clone(), commits.clone());
        ends_soon(&world.compute, reason, "57014", move |_| {
            loop {
                let transaction = super::begin(&compute, sql::store::IsolationLevel::ReadCommitted);
                let value = bytes::Bytes::from(vec![commits.load(Ordering::Relaxed) as u8; 1000]);
                for row in 0..500_u32 {
                    transaction.put(tree, &row.to_be_bytes(), value.clone())?;
                }
                transaction.commit()?;
                commits.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Everything but what was refused is there, once the log goes on.
    world.log.hold(false);
    let commits = commits.load(Ordering::Relaxed);
    assert!(commits >= 8, "{commits} commits are no 4 MiB");
    world.put(tree, &[("last", "1")]);
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let value = transaction.get(tree, &0_u32.to_be_bytes()).expect("readable").expect("there");
    assert_eq!(value[0], (commits - 1) as u8);
}
