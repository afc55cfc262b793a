//! [`LockTable`]: acquire, wait, release.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use smallvec::SmallVec;
use sql::error::{Result, SqlError, SqlState};
use sql::store::{Interrupt, WaitPolicy};

use storage::TreeId;
use tokio::time::Instant;

use super::escalation::{Escalated, Passage};
use super::released::Released;
use super::{LockModes, LockName};
use crate::blocking::blocking;
use crate::threads;

/// A power of two. More shards only help while many threads lock at once; deadlock detection locks all.
const SHARDS: usize = 64;
/// How long a waiter waits before it looks for a deadlock: most waits are over by then.
const FIRST_DEADLOCK_CHECK: Duration = Duration::from_millis(20);
/// How often it looks again. A cycle closes with its last waiter, whose first look finds it; this is for
/// waiters overtaken in the queue.
const NEXT_DEADLOCK_CHECK: Duration = Duration::from_millis(500);

/// Who holds or awaits a lock: a transaction's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerId(pub(crate) u64);

/// All locks of one compute.
pub(crate) struct LockTable {
    pub(super) shards: Box<[Mutex<Shard>]>,
    hasher: foldhash::fast::FixedState,
    /// Who waits for what. Taken after a shard, never before one.
    pub(super) waits: Mutex<HashMap<OwnerId, (LockName, Arc<Waiter>)>>,
    /// Trees of which one transaction has a lock of all rows. Taken after shards.
    pub(super) escalated: Mutex<HashMap<TreeId, Escalated>>,
    /// How many there are: almost always none, which is found out without the lock.
    pub(super) escalated_count: AtomicUsize,
    waited: AtomicU64,
    pub(super) deadlocks: AtomicU64,
    pub(super) released: Released,
}

pub(super) type Shard = HashMap<LockName, Lock, foldhash::fast::FixedState>;

/// One lock. Invariant: someone holds it; no waiter at the front of the queue could be granted.
#[derive(Default)]
pub(super) struct Lock {
    pub(super) holders: SmallVec<[(OwnerId, LockModes); 1]>,
    /// Boxed: almost every row lock lives and dies without a waiter.
    #[allow(clippy::box_collection)]
    pub(super) queue: Option<Box<VecDeque<Arc<Waiter>>>>,
}

/// One blocked request.
pub(super) struct Waiter {
    pub(super) owner: OwnerId,
    pub(super) modes: LockModes,
    granted: Mutex<bool>,
    wake: Condvar,
}

impl Waiter {
    fn grant(&self) {
        *self.granted.lock() = true;
        self.wake.notify_one();
    }
}

impl Lock {
    pub(super) fn held_by(&self, owner: OwnerId) -> LockModes {
        self.holders.iter().find(|(holder, _)| *holder == owner).map_or(LockModes::NONE, |(_, modes)| *modes)
    }

    fn holders_admit(&self, owner: OwnerId, modes: LockModes) -> bool {
        self.holders.iter().all(|(holder, held)| *holder == owner || !held.conflicts_with(modes))
    }

    fn queue_admits(&self, modes: LockModes) -> bool {
        self.queue.iter().flat_map(|queue| queue.iter()).all(|waiter| !waiter.modes.conflicts_with(modes))
    }

    /// True when the owner had not held it before.
    pub(super) fn hold(&mut self, owner: OwnerId, modes: LockModes) -> bool {
        match self.holders.iter_mut().find(|(holder, _)| *holder == owner) {
            Some((_, held)) => {
                *held = held.union(modes);
                false
            }
            None => {
                self.holders.push((owner, modes));
                true
            }
        }
    }

    /// Grants every waiter that neither a holder nor an earlier waiter keeps out.
    fn grant_waiters(&mut self, waits: &Mutex<HashMap<OwnerId, (LockName, Arc<Waiter>)>>) {
        let Some(mut queue) = self.queue.take() else { return };
        let mut still_waiting = VecDeque::new();
        for waiter in queue.drain(..) {
            let overtakes =
                still_waiting.iter().any(|earlier: &Arc<Waiter>| earlier.modes.conflicts_with(waiter.modes));
            if !overtakes && self.holders_admit(waiter.owner, waiter.modes) {
                self.hold(waiter.owner, waiter.modes);
                waits.lock().remove(&waiter.owner);
                waiter.grant();
            } else {
                still_waiting.push_back(waiter);
            }
        }
        if !still_waiting.is_empty() {
            *queue = still_waiting;
            self.queue = Some(queue);
        }
    }

    pub(super) fn remove_waiter(&mut self, waiter: &Arc<Waiter>) {
        if let Some(queue) = &mut self.queue {
            queue.retain(|queued| !Arc::ptr_eq(queued, waiter));
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The owner did not hold this lock in any mode before: it must release it once.
    New,
    /// The owner held it already, perhaps in a weaker mode.
    Already,
    /// Held by another, and [`WaitPolicy::Skip`].
    Skipped,
}

impl LockTable {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            hasher: foldhash::fast::FixedState::default(),
            waits: Mutex::new(HashMap::new()),
            escalated: Mutex::new(HashMap::new()),
            escalated_count: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
            deadlocks: AtomicU64::new(0),
            released: Released::new(),
        }
    }

    /// Requests that had to wait, since the start.
    pub(crate) fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    /// Deadlocks found, since the start.
    pub(crate) fn deadlocks(&self) -> u64 {
        self.deadlocks.load(Ordering::Relaxed)
    }

    pub(super) fn shard(&self, name: LockName) -> &Mutex<Shard> {
        &self.shards[self.shard_index(name)]
    }

    pub(super) fn hash(&self, name: LockName) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Takes a lock for `owner`, waiting as the policy and the interrupt's lock_timeout allow.
    ///
    /// Errors: 55P03 (NOWAIT, lock_timeout), 57014 (cancel, statement_timeout), 40P01 (deadlock).
    pub(crate) fn acquire(
        &self,
        owner: OwnerId,
        name: LockName,
        modes: LockModes,
        policy: WaitPolicy,
        interrupt: &Interrupt,
    ) -> Result<Acquired> {
        loop {
            let tree = match self.acquire_here(owner, name, modes, policy, interrupt)? {
                Ok(acquired) => return Ok(acquired),
                Err(tree) => tree,
            };
            // Somebody has all rows of the tree. When its lock could be had, they are free to be asked for.
            match self.acquire(owner, tree, modes, policy, interrupt)? {
                Acquired::Skipped => return Ok(Acquired::Skipped),
                Acquired::New => self.release(owner, [tree]),
                Acquired::Already => {}
            }
        }
    }

    /// [`LockTable::acquire`], or the tree's lock that stands before the row's.
    fn acquire_here(
        &self,
        owner: OwnerId,
        name: LockName,
        modes: LockModes,
        policy: WaitPolicy,
        interrupt: &Interrupt,
    ) -> Result<std::result::Result<Acquired, LockName>> {
        let waiter = {
            let mut shard = self.shard(name).lock();
            match self.passage(owner, name, modes) {
                Passage::Free => {}
                Passage::Held => return Ok(Ok(Acquired::Already)),
                Passage::Behind(tree) => return Ok(Err(tree)),
            }
            let lock = shard.entry(name).or_default();
            let held = lock.held_by(owner);
            if held.contains(modes) && held != LockModes::NONE {
                return Ok(Ok(Acquired::Already));
            }
            let holds = held != LockModes::NONE;
            if lock.holders_admit(owner, modes) && (holds || lock.queue_admits(modes)) {
                return Ok(Ok(if lock.hold(owner, modes) { Acquired::New } else { Acquired::Already }));
            }
            match policy {
                WaitPolicy::Skip => return Ok(Ok(Acquired::Skipped)),
                WaitPolicy::Error => return Err(not_available(name)),
                WaitPolicy::Block => {}
            }
            let waiter = Arc::new(Waiter { owner, modes, granted: Mutex::new(false), wake: Condvar::new() });
            let queue = lock.queue.get_or_insert_with(Box::default);
            if holds {
                queue.push_front(waiter.clone());
            } else {
                queue.push_back(waiter.clone());
            }
            self.waits.lock().insert(owner, (name, waiter.clone()));
            (waiter, holds)
        };
        let (waiter, held_before) = waiter;
        self.waited.fetch_add(1, Ordering::Relaxed);
        blocking(|| self.wait(name, &waiter, interrupt))?;
        Ok(Ok(if held_before { Acquired::Already } else { Acquired::New }))
    }

    fn wait(&self, name: LockName, waiter: &Arc<Waiter>, interrupt: &Interrupt) -> Result<()> {
        let for_waker = waiter.clone();
        // The lock around `notify` orders it after the waiter's check of the flag.
        interrupt.set_waker(Some(Box::new(move || {
            let _ordered = for_waker.granted.lock();
            for_waker.wake.notify_one();
        })));
        let outcome = self.wait_with_waker(name, waiter, interrupt);
        interrupt.set_waker(None);
        outcome
    }

    fn wait_with_waker(&self, name: LockName, waiter: &Arc<Waiter>, interrupt: &Interrupt) -> Result<()> {
        let began = Instant::now();
        let gives_up = match interrupt.lock_timeout_ms() {
            0 => None,
            timeout_ms => Some(began + Duration::from_millis(timeout_ms)),
        };
        let mut next_check = began + FIRST_DEADLOCK_CHECK;
        loop {
            {
                let mut granted = waiter.granted.lock();
                if !*granted && interrupt.check().is_ok() {
                    let until = gives_up.map_or(next_check, |at| at.min(next_check));
                    threads::wait_for(&waiter.wake, &mut granted, until.saturating_duration_since(Instant::now()));
                }
                if *granted {
                    return Ok(());
                }
            }
            if let Err(interrupted) = interrupt.check() {
                return self.give_up(name, waiter, interrupted);
            }
            let now = Instant::now();
            if gives_up.is_some_and(|at| now >= at) {
                let error = SqlError::new(SqlState::LOCK_NOT_AVAILABLE, "canceling statement due to lock timeout");
                return self.give_up(name, waiter, error);
            }
            if now >= next_check {
                if let Some(deadlock) = self.find_deadlock(waiter) {
                    return self.give_up(name, waiter, deadlock);
                }
                next_check = now + NEXT_DEADLOCK_CHECK;
            }
        }
    }

    /// Leaves the queue with an error, unless the lock was granted in the meantime: then that counts.
    fn give_up(&self, name: LockName, waiter: &Arc<Waiter>, error: SqlError) -> Result<()> {
        let mut shard = self.shard(name).lock();
        if *waiter.granted.lock() {
            return Ok(());
        }
        self.waits.lock().remove(&waiter.owner);
        if let Some(lock) = shard.get_mut(&name) {
            lock.remove_waiter(waiter);
            // Those behind may have waited for this one only.
            lock.grant_waiters(&self.waits);
        }
        Err(error)
    }

    /// Gives back locks of `owner` and wakes who may go on.
    pub(crate) fn release(&self, owner: OwnerId, names: impl IntoIterator<Item = LockName>) {
        for name in names {
            let mut shard = self.shard(name).lock();
            let Some(lock) = shard.get_mut(&name) else { continue };
            self.forget_escalation(owner, name);
            lock.holders.retain(|(holder, _)| *holder != owner);
            lock.grant_waiters(&self.waits);
            if lock.holders.is_empty() {
                debug_assert!(lock.queue.is_none(), "{name:?} is free and yet awaited");
                shard.remove(&name);
            }
        }
    }

    /// Every shard, locked in order.
    pub(super) fn lock_all(&self) -> Vec<MutexGuard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock()).collect()
    }

    pub(super) fn shard_index(&self, name: LockName) -> usize {
        self.hash(name) as usize % SHARDS
    }

    /// Locks that are held or awaited now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

fn not_available(name: LockName) -> SqlError {
    let what = if name.is_table() { "relation" } else { "row" };
    SqlError::new(SqlState::LOCK_NOT_AVAILABLE, format!("could not obtain lock on {what}"))
}
