//! Operators that make and delete branches while everything else goes wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pageserver::cluster::branches::{BranchPoint, Branches, NewBranch};
use pageserver::cluster::directory::DirectoryError;
use storage::{BranchId, Lsn};

use super::{BranchState, Plane};
use crate::world::MAIN;

const MOST_BRANCHES: usize = 4;
const MOST_SHARDS: u32 = 8;
/// Commits within half a second may share one mark.
const TIME_PRECISION_US: u64 = 500_000;

/// Makes and deletes until the faults end.
pub async fn operate(plane: Arc<Plane>, number: u64) {
    let sim = plane.sim.clone();
    let admin = Branches::new(plane.directory.clone(), plane.log.clone(), plane.pages.clone());
    let mut made = 0;
    loop {
        let pause = sim.random(|random| random.between(500, 4_000));
        sim.sleep(pause).await;
        if plane.is_healed() {
            return;
        }
        let live = plane.live_branches();
        let deletes = live.len() > 1 && sim.random(|random| random.percent(35));
        if deletes {
            let children: Vec<_> = live.into_iter().filter(|branch| *branch != MAIN).collect();
            if let Some(branch) = sim.random(|random| random.one_of(&children)) {
                delete(&plane, &admin, branch).await;
            }
        } else if live.len() < MOST_BRANCHES
            && let Some(parent) = sim.random(|random| random.one_of(&live))
        {
            made += 1;
            let name = format!("branch-{number}-{made}");
            create(&plane, &admin, &name, parent).await;
        }
    }
}

/// Splits shards, until the faults end.
pub async fn split(plane: Arc<Plane>) {
    let sim = plane.sim.clone();
    let admin = Branches::new(plane.directory.clone(), plane.log.clone(), plane.pages.clone());
    loop {
        let pause = sim.random(|random| random.between(800, 6_000));
        sim.sleep(pause).await;
        if plane.is_healed() {
            return;
        }
        let live = plane.live_branches();
        let Some(branch) = sim.random(|random| random.one_of(&live)) else { continue };
        let Ok(snapshot) = plane.directory.load().await else { continue };
        let shards = snapshot.branches.get(&branch).map_or(0, |record| record.layout.shards());
        if (1..=MOST_SHARDS / 2).contains(&shards) {
            let done = admin.split(&branch.to_string()).await;
            sim.note("split", &[branch.0, done.as_ref().map_or(0, |shards| u64::from(*shards))]);
            sim.count("Split");
        }
    }
}

/// Waits until every shard of every branch has its own manifest.
pub async fn splits_are_done(plane: &Plane, deadline: u64) {
    loop {
        let open = match plane.directory.load().await {
            Err(error) => vec![error.to_string()],
            Ok(snapshot) => {
                let watch = plane.store.watch.lock();
                let live = plane.live_branches();
                let records = snapshot.branches.values().filter(|record| live.contains(&record.branch));
                let shards = records.flat_map(|record| record.layout.ids().map(move |shard| (record, shard)));
                let open = shards.filter(|(record, shard)| watch.layout(record.branch, *shard) != Some(record.layout));
                open.map(|(record, shard)| format!("branch {} shard {shard}", record.branch)).collect()
            }
        };
        if open.is_empty() {
            return;
        }
        assert!(plane.sim.now() < deadline, "not split yet: {open:?}");
        plane.sim.sleep(200).await;
    }
}

async fn create(plane: &Plane, admin: &Branches, name: &str, parent: BranchId) {
    let sim = &plane.sim;
    let point = sim.with(|world| {
        let jumps = world.options.pages.as_ref().is_some_and(|pages| pages.clock_jumps());
        let ends = world.oracles[&parent].ends();
        let now = world.now;
        match world.random.below(3) {
            0 => BranchPoint::Now,
            1 => world.random.one_of(ends).map_or(BranchPoint::Now, BranchPoint::At),
            // Where clocks jump, most commits are of none of these times.
            _ if jumps && world.random.percent(50) => {
                let times = world.oracles[&parent].times_us();
                BranchPoint::Time(world.random.one_of(times).unwrap_or(0) + world.random.below(3_000_000))
            }
            _ => BranchPoint::Time(world.random.below(now.max(1)) * 1_000),
        }
    });
    // What only becomes durable while the branch is made may be left out, whenever it was committed.
    let durable = sim.with(|world| world.look_at(parent));
    let parent_name = parent.to_string();
    let wanted = NewBranch { name, parent: &parent_name, point, now_us: sim.now() * 1_000 };
    let made = admin.create(&wanted).await;
    sim.note("branch", &[parent.0, u64::from(made.is_ok())]);
    let Ok(record) = made else { return };
    let (of, begin) = record.parent.expect("it was made from one");
    assert_eq!(of, parent, "a branch of another");
    if let BranchPoint::At(lsn) = point {
        assert_eq!(begin, lsn, "a branch at another LSN");
    }
    // What is durable will be shown by the nodes.
    while sim.with(|world| world.look_at(parent)) < begin {
        sim.sleep(50).await;
    }
    sim.with(|world| {
        if let BranchPoint::Time(time_us) = point {
            check_time(&world.oracles[&parent], begin, time_us, durable);
        }
        world.add_branch(record.branch, parent, begin);
        world.add_writer(record.branch);
    });
    plane.store.watch.lock().confirm(record.branch);
    plane.branches_made.fetch_add(1, Ordering::Relaxed);
    plane.set_state(record.branch, BranchState::Live);
}

/// A point of time is the end of a batch: not of one committed later, and of none that lies further back than the precision
/// with which times are kept.
fn check_time(parent: &super::oracle::Oracle, begin: Lsn, time_us: u64, durable: Lsn) {
    // A branch may itself begin inside of a batch that was being written; what it begins with ends before that.
    let begin = if parent.begins().contains(&begin) { parent.last_before(begin) } else { begin };
    assert!(parent.ends().contains(&begin), "{begin} at {time_us} us is no end of a batch");
    let (least, most) = (parent.end_at(time_us.saturating_sub(TIME_PRECISION_US)), parent.end_at(time_us));
    let least = least.map(|least| least.min(parent.last_before(durable)));
    let fits = least.is_none_or(|least| least <= begin) && most.is_some_and(|most| begin <= most);
    assert!(fits, "a branch as of {time_us} us begins at {begin}, not between {least:?} and {most:?}");
}

async fn delete(plane: &Plane, admin: &Branches, branch: BranchId) {
    let sim = &plane.sim;
    plane.set_state(branch, BranchState::Doubtful);
    plane.store.watch.lock().dying.insert(branch);
    sim.with(|world| world.retire_branch(branch));
    let deleted = admin.delete(&branch.to_string()).await;
    sim.note("delete branch", &[branch.0, u64::from(deleted.is_ok())]);
    match deleted {
        Ok(()) => plane.set_state(branch, BranchState::Deleted),
        // It is as it was.
        Err(DirectoryError::Refused(_)) => {
            plane.store.watch.lock().dying.remove(&branch);
            sim.with(|world| world.add_writer(branch));
            plane.set_state(branch, BranchState::Live);
        }
        // Perhaps.
        Err(_) => {}
    }
}
