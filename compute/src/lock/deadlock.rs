//! The search for a cycle in who waits for whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use sql::error::{SqlError, SqlState};

use super::table::{Lock, LockTable, OwnerId, Waiter};
use super::{LockModes, LockName};

/// One edge of the graph: `waiter` wants `name` in `modes`, and `blocker` is in the way.
struct Edge {
    waiter: OwnerId,
    name: LockName,
    modes: LockModes,
    blocker: OwnerId,
}

impl LockTable {
    /// The error for `start`'s owner when it waits, by way of others, for itself.
    pub(super) fn find_deadlock(&self, start: &Arc<Waiter>) -> Option<SqlError> {
        // All shards at once: an edge seen early could be gone when the last one is seen.
        let shards = self.lock_all();
        let waits = self.waits.lock();
        let lock_of = |name: LockName| shards[self.shard_index(name)].get(&name);

        let mut path = Vec::new();
        let mut seen = HashSet::new();
        if !search(start.owner, start.owner, &waits, &lock_of, &mut seen, &mut path) {
            return None;
        }
        self.deadlocks.fetch_add(1, Ordering::Relaxed);
        let detail: Vec<String> = path.iter().map(Edge::describe).collect();
        Some(
            SqlError::new(SqlState::DEADLOCK_DETECTED, "deadlock detected")
                .with_detail(detail.join("\n"))
                .with_hint("See server log for query details."),
        )
    }
}

impl Edge {
    fn describe(&self) -> String {
        let Self { waiter, name, modes, blocker } = self;
        format!(
            "Process {} waits for {} on {}; blocked by process {}.",
            waiter.0,
            modes.name(),
            name.describe(),
            blocker.0
        )
    }
}

/// Depth first from `from`; true when `goal` was reached, with `path` the way there.
fn search<'t>(
    from: OwnerId,
    goal: OwnerId,
    waits: &HashMap<OwnerId, (LockName, Arc<Waiter>)>,
    lock_of: &impl Fn(LockName) -> Option<&'t Lock>,
    seen: &mut HashSet<OwnerId>,
    path: &mut Vec<Edge>,
) -> bool {
    let Some((name, waiter)) = waits.get(&from) else { return false };
    let Some(lock) = lock_of(*name) else { return false };
    let holders = lock.holders.iter().filter(|(owner, held)| *owner != from && held.conflicts_with(waiter.modes));
    let earlier = lock.queue.iter().flat_map(|queue| queue.iter());
    let earlier = earlier.take_while(|queued| !Arc::ptr_eq(queued, waiter));
    let earlier = earlier.filter(|queued| queued.modes.conflicts_with(waiter.modes));
    let blockers: Vec<OwnerId> = holders.map(|(owner, _)| *owner).chain(earlier.map(|queued| queued.owner)).collect();
    for blocker in blockers {
        path.push(Edge { waiter: from, name: *name, modes: waiter.modes, blocker });
        if blocker == goal {
            return true;
        }
        if seen.insert(blocker) && search(blocker, goal, waits, lock_of, seen, path) {
            return true;
        }
        path.pop();
    }
    false
}
