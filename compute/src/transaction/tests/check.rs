//! The consistency check of pages: silent on what is sound, and telling on what is not.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pageserver::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use sql::error::SqlError;
use sql::store::{InterruptReason, IsolationLevel, PageProblem};
use storage::{BranchId, PageNo, TreeId};

use super::{World, begin};
use crate::testing::{MemoryLog, ReplayPages};
use crate::{Compute, ComputeConfig};

/// Rows in line and out of line, enough for several levels.
fn fill(world: &World, tree: TreeId) {
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    for row in 0..3000_u32 {
        let length = if row % 500 == 7 { 60_000 } else { 60 };
        transaction.put(tree, &row.to_be_bytes(), Bytes::from(vec![row as u8; length])).expect("put");
    }
    transaction.end_statement(sql::store::StatementOutcome::Keep);
    world.commit(&transaction).expect("commit");
}

fn problems(compute: &Arc<Compute>, trees: &[TreeId], whole: bool) -> Vec<PageProblem> {
    let transaction = begin(compute, IsolationLevel::ReadCommitted);
    transaction.begin_statement().expect("statement");
    let mut found = Vec::new();
    let mut add = |problem| {
        found.push(problem);
        Ok(())
    };
    transaction.check_pages(trees, whole, &mut add).expect("the check runs");
    found
}

#[test]
fn a_sound_branch_has_no_problems_and_a_forgotten_tree_is_noticed() {
    for cache_pages in [4096, 120] {
        let world = World::new(cache_pages);
        let trees = [world.tree(), world.tree(), world.tree()];
        trees.iter().for_each(|tree| fill(&world, *tree));
        assert_eq!(problems(&world.compute, &trees, true), []);
        // A load that is still open: its pages are reserved, not lost.
        let open = world.begin();
        open.begin_statement().expect("statement");
        let mut loader = open.bulk_load(open.create_tree().expect("create")).expect("load");
        for row in 0..3000_u32 {
            loader.push(&row.to_be_bytes(), &[1; 300]).expect("push");
        }
        let dropper = world.begin();
        dropper.drop_tree(trees[2]).expect("drop");
        world.commit(&dropper).expect("commit");
        assert_eq!(problems(&world.compute, &trees[..2], true), []);
        drop((loader, open));
        let lost = problems(&world.compute, &trees[..1], true);
        assert!(lost.iter().all(|found| found.problem.contains("lost")), "{lost:?}");
        assert!(lost.iter().any(|found| found.page == trees[1].0), "{lost:?}");
        assert_eq!(problems(&world.compute, &trees[..1], false), [], "what is not whole may leave trees out");
        let twice = problems(&world.compute, &[trees[0], trees[0]], false);
        assert!(twice.iter().any(|found| found.problem.contains("reached twice")), "{twice:?}");
    }
}

/// Page servers of which one page is another's, or has a bit flipped, or is the page of an earlier time.
struct Faulty {
    pages: ReplayPages,
    fault: Fault,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Flipped(PageNo),
    Swapped(PageNo, PageNo),
    Missing(PageNo),
}

#[async_trait]
impl PageClient for Faulty {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        let mut answers = self.pages.get_pages(branch, requests).await;
        for (request, answer) in requests.iter().zip(&mut answers) {
            match self.fault {
                Fault::Flipped(page) if page == request.page => {
                    let image = answer.as_mut().expect("the page exists");
                    let mut bytes = image.bytes.to_vec();
                    bytes[4000] ^= 1;
                    image.bytes = bytes.into();
                }
                // A page of the same tree, sealed anew: the checksum cannot tell.
                Fault::Swapped(page, other) if page == request.page => {
                    let image = answer.as_mut().expect("the page exists");
                    image.bytes = self.pages.page_at(other, request.at).expect("it exists").seal(branch, page);
                }
                Fault::Missing(page) if page == request.page => {
                    *answer = Err(PageError::NotFound { page, at: request.at });
                }
                _ => {}
            }
        }
        answers
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.pages.status(branch).await
    }
}

#[test]
fn damage_is_told_by_tree_and_page_and_does_not_end_the_check() {
    let world = World::new(4096);
    let trees = [world.tree(), world.tree()];
    trees.iter().for_each(|tree| fill(&world, *tree));
    let engine = world.compute.engine();
    let root = world.pages.page_at(trees[0].0, engine.positions.durable()).expect("it exists");
    assert!(root.slot_count() > 3 && root.level() == 1, "the tree has leaves below its root");
    let (second, third) = (root.child(1), root.child(2));
    for (fault, wanted) in [
        (Fault::Flipped(second), "damaged"),
        (Fault::Swapped(second, third), "outside what the parent says"),
        (Fault::Missing(third), "never written"),
    ] {
        let log = Arc::new(MemoryLog::holding(world.log.bytes().into()));
        let server = Arc::new(Faulty { pages: ReplayPages::new(log.clone()), fault });
        let config = ComputeConfig {
            branch: BranchId(1),
            memory_bytes: 8 << 20,
            transaction_limit_bytes: 1 << 20,
            ..ComputeConfig::new(BranchId(1), 0)
        };
        let compute = world.runtime.block_on(Compute::start(config, log, server)).expect("start");
        let found = problems(&compute, &trees, false);
        assert!(found.iter().any(|problem| problem.problem.contains(wanted)), "{fault:?}: {found:?}");
        assert!(found.iter().all(|problem| problem.tree == Some(trees[0])), "{fault:?}: {found:?}");
        world.runtime.block_on(compute.shutdown()).expect("shutdown");
    }
}

#[test]
fn a_check_can_be_cancelled_and_ended_by_whom_it_tells() {
    let world = World::new(1024);
    let tree = world.tree();
    fill(&world, tree);
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let stop = SqlError::internal("enough");
    let mut refuse = |_| Err(stop.clone());
    assert_eq!(transaction.check_pages(&[tree, tree], false, &mut refuse), Err(stop.clone()));
    transaction.interrupt().raise(InterruptReason::UserCancel);
    let cancelled = transaction.check_pages(&[tree], false, &mut refuse).expect_err("cancelled");
    assert_eq!(cancelled.state().0, "57014");
}
