//! A server's part in the cluster: it tells that it lives, sees who else does, and serves what falls to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::directory::{Directory, DirectoryError, Snapshot};
use super::plan::{ShardKey, Sight, Step, steps};
use super::record::{BranchRecord, Placement, ServerRecord};
use crate::host::PageHost;
use crate::metrics as names;

/// How often a server tells that it lives, and looks at the others.
pub const BEAT: Duration = Duration::from_millis(500);
/// A server that has told nothing for so long is thought dead, and its shards are served by others.
pub const DEAD_AFTER: Duration = Duration::from_millis(2_500);

/// The branch that a new database begins with.
pub const MAIN_BRANCH: BranchId = BranchId(1);
/// Its name.
pub const MAIN_NAME: &str = "main";

/// Who a server is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name that no other server has.
    pub id: String,
    /// Where it answers computes.
    pub address: String,
    /// Of this process.
    pub incarnation: Uuid,
}

impl Identity {
    fn record(&self, beat: u64) -> ServerRecord {
        ServerRecord { incarnation: self.incarnation, beat, address: self.address.clone() }
    }
}

/// The agent of one server.
pub struct Agent {
    identity: Identity,
    directory: Directory,
    host: Arc<PageHost>,
    /// What each server last told, and when that was seen.
    seen: HashMap<String, ((Uuid, u64), Instant)>,
    /// Shards that move here, and how far they must have read the log before they are taken over.
    targets: BTreeMap<ShardKey, Lsn>,
    /// Branches that are being deleted, and since when that was seen.
    deleting: HashMap<BranchId, Instant>,
}

/// Another process has taken this server's name.
fn usurped(id: &str) -> DirectoryError {
    DirectoryError::Refused(format!("another process is now page server {id:?}; each needs an --id of its own"))
}

fn failed(error: &DirectoryError) {
    metrics::counter!(names::BACKGROUND_FAILURES, "work" => "cluster").increment(1);
    tracing::warn!(%error, "the page servers' directory cannot be used; trying again");
}

fn rounds() -> tokio::time::Interval {
    let mut rounds = tokio::time::interval(BEAT);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rounds
}

/// Tells that the server lives, until another process has its name.
async fn beat(identity: Identity, directory: Directory) -> DirectoryError {
    let mut rounds = rounds();
    for beat in 1.. {
        rounds.tick().await;
        let change = |found: Option<ServerRecord>| match found {
            Some(found) if found.incarnation != identity.incarnation => Err(usurped(&identity.id)),
            // Taken off by somebody who thought us gone for good: we are not.
            _ => Ok(Some(identity.record(beat))),
        };
        match directory.change_server(&identity.id, &change).await {
            Ok(()) => {}
            Err(error @ DirectoryError::Refused(_)) => return error,
            Err(error) => failed(&error),
        }
    }
    unreachable!("half a second is long enough for 2^64 of them")
}

impl Agent {
    /// Of a server that is about to begin.
    pub fn new(identity: Identity, directory: Directory, host: Arc<PageHost>) -> Agent {
        Agent { identity, directory, host, seen: HashMap::new(), targets: BTreeMap::new(), deleting: HashMap::new() }
    }

    /// Takes part until told to stop. An error means that this server must end: another one has its name.
    /// A database that is new gets `layout`.
    pub async fn run(mut self, layout: ShardLayout, mut stop: watch::Receiver<bool>) -> Result<(), DirectoryError> {
        tokio::select! {
            entered = self.enter(layout) => entered?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
        // Apart from the work: a server that waits for a slow object store lives.
        let beating = beat(self.identity.clone(), self.directory.clone());
        let outcome = tokio::select! {
            refused = beating => Err(refused),
            () = self.work() => Ok(()),
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        if outcome.is_ok() {
            // Written first, so that whoever takes the shards over has little log to read.
            self.host.shutdown().await;
            self.leave().await;
        }
        outcome
    }

    /// Looks and acts, for ever.
    async fn work(&mut self) {
        let mut rounds = rounds();
        loop {
            rounds.tick().await;
            if let Err(error) = self.round().await {
                failed(&error);
            }
        }
    }

    /// Takes the name, from an earlier process if need be, and sees to it that there is a branch to serve.
    async fn enter(&self, layout: ShardLayout) -> Result<(), DirectoryError> {
        let (server, main) = (self.identity.record(0), BranchRecord::new(MAIN_BRANCH, MAIN_NAME, layout));
        loop {
            let entered = async {
                self.directory.change_server(&self.identity.id, &|_| Ok(Some(server.clone()))).await?;
                if !self.directory.load().await?.branches.is_empty() {
                    return Ok(());
                }
                self.directory.change_branch(MAIN_BRANCH, &|found| Ok(found.or_else(|| Some(main.clone())))).await
            };
            match entered.await {
                Err(DirectoryError::Log(error)) => {
                    tracing::warn!(%error, "waiting for the log service");
                    tokio::time::sleep(BEAT).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes the name off the directory, so that others serve the shards at once.
    async fn leave(&self) {
        let incarnation = self.identity.incarnation;
        let change = |found: Option<ServerRecord>| Ok(found.filter(|found| found.incarnation != incarnation));
        // Otherwise the others find out by themselves, a little later.
        if let Err(error) = self.directory.change_server(&self.identity.id, &change).await {
            tracing::warn!(%error, "the page server did not sign off");
        }
    }

    async fn round(&mut self) -> Result<(), DirectoryError> {
        let snapshot = self.directory.load().await?;
        let alive = self.alive(&snapshot);
        let attached = self.host.attached();
        let sight = Sight { me: &self.identity.id, alive: &alive, branches: &snapshot.branches, attached: &attached };
        let (mut taken, mut other) = (Vec::new(), Vec::new());
        for step in steps(sight) {
            if matches!(step, Step::Claim(_) | Step::Attach(_)) { taken.push(step) } else { other.push(step) }
        }
        // A shard whose branch was split goes on as the part that keeps its number; until then it answers for all parts.
        for key in attached.iter().filter(|(_, lost)| !**lost).map(|(key, _)| key) {
            let Some(record) = snapshot.branches.get(&key.0) else { continue };
            let me = &self.identity.id;
            let ours = record.placement(key.1).is_some_and(|place| place.owner == *me || place.moving_to == *me);
            let before = self.host.layout(key.0, key.1);
            if ours && before.is_some_and(|before| record.layout.is_split_of(before)) {
                taken.push(Step::Attach(*key));
            }
        }
        // Detaching comes first: what is taken back must not be attached twice.
        for step in other {
            self.act(&step, &snapshot).await?;
        }
        // Side by side: when a server has died, all its shards are waited for.
        let outcomes = join_all(taken.iter().map(|step| self.take(step, &snapshot))).await;
        for (key, target) in outcomes.into_iter().flatten() {
            self.targets.insert(key, target);
        }
        if alive.first().is_some_and(|first| *first == self.identity.id) {
            self.sweep(&snapshot).await?;
        }
        metrics::gauge!(names::SHARDS).set(self.host.attached().len() as f64);
        Ok(())
    }

    /// Removes what is left of deleted branches, once all servers must have let go of them.
    ///
    /// ```text
    /// marked as being deleted ── no branch comes from it ──► swept ── still none ──► objects removed ──► record removed
    ///         │  ▲                                             │
    ///         ▼  │                                             └ whoever makes a branch of it from here on sees that
    ///    kept: a branch came from it                             and takes that branch back, which nobody ever serves
    /// ```
    async fn sweep(&mut self, snapshot: &Snapshot) -> Result<(), DirectoryError> {
        let now = Instant::now();
        self.deleting.retain(|branch, _| snapshot.branches.get(branch).is_some_and(|record| record.deleting));
        for record in snapshot.branches.values() {
            let Some(lineage) = snapshot.lineage(record.branch) else {
                self.remove_orphan(record).await?;
                continue;
            };
            if !record.deleting {
                continue;
            }
            let since = *self.deleting.entry(record.branch).or_insert(now);
            if now.duration_since(since) < DEAD_AFTER {
                continue;
            }
            // Making a branch and deleting its parent at the same time leaves one of them undone.
            if !record.swept && !snapshot.descendants(record.branch).is_empty() {
                tracing::error!(branch = %record.branch, "a branch that is to be deleted has descendants; it stays");
                self.directory.keep_branch(record.branch).await?;
                continue;
            }
            // Children first: without their parent's record nobody could tell what they come from.
            if !snapshot.heirs(record.branch).is_empty() || !self.set_swept(record.branch).await? {
                continue;
            }
            // Those made meanwhile. Later ones are never served.
            let heirs = self.directory.load().await?.heirs(record.branch);
            if !heirs.is_empty() {
                self.doom(&heirs).await?;
                continue;
            }
            match self.host.sweep(&lineage, record.layout).await {
                Ok(()) => self.directory.forget_branch(record.branch).await?,
                Err(error) => tracing::warn!(branch = %record.branch, %error, "a deleted branch is not swept yet"),
            }
        }
        Ok(())
    }

    /// From now on a deletion is not taken back. False if it has been.
    async fn set_swept(&self, branch: BranchId) -> Result<bool, DirectoryError> {
        let sweep =
            |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { swept: found.deleting, ..found }));
        self.directory.change_branch(branch, &sweep).await?;
        Ok(self.directory.load().await?.branches.get(&branch).is_some_and(|record| record.swept))
    }

    /// Marks branches of a swept one, which whoever made them has not taken back yet and perhaps never will.
    async fn doom(&self, branches: &[BranchId]) -> Result<(), DirectoryError> {
        for branch in branches {
            let mark = |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { deleting: true, ..found }));
            self.directory.change_branch(*branch, &mark).await?;
        }
        Ok(())
    }

    /// A branch that was made of one that was gone by then: nobody has ever served it, and whoever made it has taken it back or
    /// never been told of it. It has no objects; if there are some after all, they are left to people, unless it is to be deleted.
    async fn remove_orphan(&self, record: &BranchRecord) -> Result<(), DirectoryError> {
        let branch = record.branch;
        let removed = match record.deleting {
            true => self.host.remove_objects(branch).await,
            false => self.host.has_objects(branch).await.and_then(|has| match has {
                true => Err("an ancestor is missing from the directory, and there are objects".to_owned()),
                false => Ok(()),
            }),
        };
        match removed {
            Ok(()) => self.directory.forget_branch(branch).await,
            Err(error) => {
                tracing::error!(%branch, %error, "a branch that comes from none is not removed");
                Ok(())
            }
        }
    }

    /// Servers that have told something lately. No wall clock: what counts is when their number last changed here.
    fn alive(&mut self, snapshot: &Snapshot) -> BTreeSet<String> {
        let now = Instant::now();
        self.seen.retain(|id, _| snapshot.servers.contains_key(id));
        for (id, record) in &snapshot.servers {
            let told = (record.incarnation, record.beat);
            let seen = self.seen.entry(id.clone()).or_insert((told, now));
            if seen.0 != told {
                *seen = (told, now);
            }
        }
        let lives = |(id, (_, at)): &(&String, &((Uuid, u64), Instant))| {
            **id == self.identity.id || now.duration_since(*at) < DEAD_AFTER
        };
        self.seen.iter().filter(lives).map(|(id, _)| id.clone()).collect()
    }

    async fn change(
        &self,
        (branch, shard): ShardKey,
        change: impl Fn(&mut Placement) + Send + Sync,
    ) -> Result<(), DirectoryError> {
        let apply = |found: Option<BranchRecord>| {
            Ok(found.map(|mut record| {
                record.placement_mut(shard).into_iter().for_each(&change);
                record
            }))
        };
        self.directory.change_branch(branch, &apply).await
    }

    async fn act(&mut self, step: &Step, snapshot: &Snapshot) -> Result<(), DirectoryError> {
        let me = self.identity.id.clone();
        match *step {
            Step::Detach(key) => {
                tracing::info!(branch = %key.0, shard = %key.1, "detaching a shard");
                self.targets.remove(&key);
                self.host.detach(key.0, key.1).await;
                // Its objects were removed without waiting for this server, which may have slept and written some since. Numbers
                // are not used again.
                if snapshot.is_gone(key.0)
                    && let Err(error) = self.host.remove_objects(key.0).await
                {
                    tracing::warn!(branch = %key.0, %error, "what was written of a deleted branch is not removed");
                }
            }
            Step::Finish(key) => {
                let ready = self
                    .host
                    .ingested(key.0, key.1)
                    .is_some_and(|reached| self.targets.get(&key).is_none_or(|target| reached >= *target));
                if ready {
                    tracing::info!(branch = %key.0, shard = %key.1, "taking over a shard that moved here");
                    self.targets.remove(&key);
                    let finish = |placement: &mut Placement| {
                        if placement.moving_to == me {
                            *placement = Placement { owner: me.clone(), moving_to: String::new() };
                        }
                    };
                    self.change(key, finish).await?;
                }
            }
            Step::Pull(key) => {
                let expected = snapshot.branches.get(&key.0).and_then(|record| record.placement(key.1)).cloned();
                let pull = |placement: &mut Placement| {
                    if Some(&*placement) == expected.as_ref() {
                        placement.moving_to.clone_from(&me);
                    }
                };
                self.change(key, pull).await?;
            }
            Step::CancelMove(key) => {
                let cancel = |placement: &mut Placement| {
                    if placement.owner == me {
                        placement.moving_to.clear();
                    }
                };
                self.change(key, cancel).await?;
            }
            Step::Claim(_) | Step::Attach(_) => unreachable!("taken by `take`"),
        }
        Ok(())
    }

    /// Claims or attaches a shard. A failure is repeated in the next round, which sees the shard as before.
    async fn take(&self, step: &Step, snapshot: &Snapshot) -> Option<(ShardKey, Lsn)> {
        let (&Step::Claim(key) | &Step::Attach(key)) = step else { return None };
        let record = snapshot.branches.get(&key.0)?;
        let Some(lineage) = snapshot.lineage(key.0) else {
            tracing::error!(branch = %key.0, "an ancestor of the branch is missing from the directory");
            return None;
        };
        // An ancestor that is being deleted stays, or this branch goes too: until that is decided nothing may be written that
        // nobody would remove.
        if snapshot.is_doomed(key.0) {
            return None;
        }
        if matches!(step, Step::Claim(_)) {
            let (me, expected) = (&self.identity.id, record.placement(key.1)?);
            let claim = |placement: &mut Placement| {
                if placement == expected {
                    *placement = Placement { owner: me.clone(), moving_to: String::new() };
                }
            };
            if let Err(error) = self.change(key, claim).await {
                tracing::warn!(branch = %key.0, shard = %key.1, %error, "a shard could not be claimed");
                return None;
            }
            // Whether the claim was first shows in the next round; attaching already saves that time. Two that attach
            // are two owners, of which the generation makes one.
        }
        tracing::info!(branch = %key.0, shard = %key.1, "attaching a shard");
        let status = self.host.log_of(&lineage).status(key.0).await;
        let target = status.map_or(Lsn::ZERO, |status| status.durable_lsn);
        match self.host.attach(&lineage, key.1, record.layout).await {
            Ok(()) => Some((key, target)),
            Err(error) => {
                metrics::counter!(names::BACKGROUND_FAILURES, "work" => "attach").increment(1);

                tracing::warn!(branch = %key.0, shard = %key.1, %error, "a shard could not be attached; trying again");
                None
            }
        }
    }
}
