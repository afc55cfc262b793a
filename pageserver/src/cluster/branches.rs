//! Making and deleting branches, leases and retention: records in the directory. Nothing is copied.

use std::sync::Arc;
use std::time::Duration;

use logstore::client::LogClient;
use logstore::shifted::ShiftedLog;
use storage::layout::{MAX_SHARDS, ShardLayout};
use storage::{BranchId, Lsn};
use tokio::time::Instant;

use super::directory::{Directory, DirectoryError, Snapshot};
use super::record::{BranchRecord, LeaseRecord, MAX_TEXT_BYTES, Placement};
use crate::client::{PageClient, PageError};
use crate::compaction::Retention;

/// Longest lease: a day. Who needs more asks again.
const MAX_LEASE_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Where a branch leaves its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchPoint {
    /// At the end of what is durable.
    Now,
    /// At an LSN.
    At(Lsn),
    /// At the last known commit not after a time, in microseconds since 1970 UTC.
    Time(u64),
}

/// A branch that is asked for.
#[derive(Clone, Debug)]
pub struct NewBranch<'a> {
    /// Its name.
    pub name: &'a str,
    /// Name or number of its parent.
    pub parent: &'a str,
    /// Where it leaves that.
    pub point: BranchPoint,
    /// Wall clock, in microseconds since 1970 UTC.
    pub now_us: u64,
}

/// Makes and deletes branches.
pub struct Branches {
    directory: Directory,
    log: Arc<dyn LogClient>,
    pages: Arc<dyn PageClient>,
}

fn refused<T>(reason: String) -> Result<T, DirectoryError> {
    Err(DirectoryError::Refused(reason))
}

fn unanswered(error: PageError) -> DirectoryError {
    DirectoryError::Refused(format!("the page servers do not answer: {error}"))
}

/// The log in the LSNs of a branch and those it comes from.
pub fn log_of(
    snapshot: &Snapshot,
    branch: BranchId,
    log: Arc<dyn LogClient>,
) -> Result<Arc<dyn LogClient>, DirectoryError> {
    match snapshot.lineage(branch) {
        Some(lineage) => Ok(Arc::new(ShiftedLog::new(log, lineage.begins()))),
        None => refused(format!("an ancestor of branch {branch} is missing from the directory")),
    }
}

/// How long page servers may take to read what the log holds when a time is looked up.
const READ_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The last commit of a branch at or before a time; `None` when history does not reach back so far. `end` is the end of
/// its log by now.
///
/// What page servers answer is right only as far as they have read the log: a commit that they have not seen may
/// have been made before the time too. So an answer counts when one of them knows a later commit, one made after the time
/// (commit times never go back), or when all have read the log to its end.
pub async fn find_time(
    pages: &dyn PageClient,
    branch: BranchId,
    time_us: u64,
    end: Lsn,
) -> Result<Option<Lsn>, DirectoryError> {
    let deadline = Instant::now() + READ_WITHIN;
    loop {
        // Before and after: what is known must have been known when the time was asked for, and a server that takes a shard over
        // knows less for a while than the one that had it.
        let before = known(pages, branch).await?;
        let found = pages.lsn_at(branch, time_us).await.map_err(unanswered)?;
        let after = known(pages, branch).await?;
        let (reached, latest) = (before.0.min(after.0), before.1.min(after.1));
        if latest > found || reached >= end {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return refused(format!("page servers have read the log up to {reached} only, and it ends at {end}"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How far all page servers have read the log of a branch, and the last commit that one of them knows.
async fn known(pages: &dyn PageClient, branch: BranchId) -> Result<(Lsn, Option<Lsn>), DirectoryError> {
    let reached = pages.status(branch).await.map_err(unanswered)?.ingested_lsn;
    Ok((reached, pages.lsn_at(branch, u64::MAX).await.map_err(unanswered)?))
}

impl Branches {
    /// In a directory, of a log and its page servers.
    pub fn new(directory: Directory, log: Arc<dyn LogClient>, pages: Arc<dyn PageClient>) -> Branches {
        Branches { directory, log, pages }
    }

    /// Makes a branch. Page servers begin to serve it within a second.
    pub async fn create(&self, wanted: &NewBranch<'_>) -> Result<BranchRecord, DirectoryError> {
        let name = wanted.name;
        // A number as a name could be taken for the number of another branch.
        if name.is_empty() || name.len() > MAX_TEXT_BYTES || name.parse::<u64>().is_ok() {
            return refused(format!("{name:?} cannot be a branch's name"));
        }
        let snapshot = self.directory.load().await?;
        if snapshot.branches.values().any(|record| record.name == name) {
            return refused(format!("there is a branch {name:?} already"));
        }
        let Some(parent) = snapshot.branch(wanted.parent) else {
            return refused(format!("there is no branch {:?}", wanted.parent));
        };
        let branch_lsn = self.branch_lsn(&snapshot, parent, wanted.point).await?;
        let branch = self.directory.new_number(&snapshot).await?;
        // Whoever serves the parent has its layers at hand.
        let same = |placement: &Placement| Placement { moving_to: String::new(), ..placement.clone() };
        let record = BranchRecord {
            parent: Some((parent.branch, branch_lsn)),
            created_us: wanted.now_us,
            placements: parent.placements.iter().map(same).collect(),
            ..BranchRecord::new(branch, name, parent.layout)
        };
        let make = |found: Option<BranchRecord>| match found {
            // An answer that got lost: the record is ours.
            Some(found) if found != record => refused(format!("there is a branch {branch} already")),
            _ => Ok(Some(record.clone())),
        };
        self.directory.change_branch(branch, &make).await?;
        // Deleting looks for children after its mark is set; here is the other half of that bargain.
        let now = self.directory.load().await?;
        let same_name = now.branches.values().filter(|other| other.name == name).count();
        // A split goes on to the children that it sees; one that it did not see must not stay behind.
        let split = now.branches.get(&parent.branch).is_some_and(|parent| {
            now.branches.get(&branch).is_none_or(|child| parent.layout.is_split_of(child.layout))
        });
        let parent_stays = now.branches.get(&parent.branch).is_some_and(|parent| !parent.deleting);
        if split {
            self.take_back(branch).await?;
            return refused(format!("branch {:?} was split meanwhile; try again", wanted.parent));
        }
        if !parent_stays || same_name > 1 {
            self.take_back(branch).await?;
            return refused(format!("branch {:?} was deleted meanwhile, or {name:?} made", wanted.parent));
        }
        // The same with history: who drops some tells so in the directory first, and looks for children then. So what was told
        // by now counts, and not what a server answers: it may have been overtaken.
        let horizon = now.horizon(parent.branch);
        if branch_lsn >= horizon {
            return Ok(record);
        }
        self.take_back(branch).await?;
        refused(format!("history of branch {} from before {horizon} was dropped meanwhile", parent.name))
    }

    /// Undoes the making of a branch. Page servers may have begun to serve it: it is swept as a deleted one, or its manifests
    /// would stay for ever, and name layers of its parent that are gone. Its name is free at once. Its parent, if that is being
    /// deleted too, goes after it.
    async fn take_back(&self, branch: BranchId) -> Result<(), DirectoryError> {
        let undone = |found: Option<BranchRecord>| {
            let name = branch.to_string();
            Ok(found.map(|found| BranchRecord { name, deleting: true, ..found }))
        };
        self.directory.change_branch(branch, &undone).await
    }

    /// Holds an LSN of a branch until a time (microseconds since 1970 UTC), under a name that one has for oneself: history from
    /// there on stays readable. Again under the same name changes it.
    pub async fn lease(
        &self,
        name: &str,
        branch: &str,
        lsn: Lsn,
        until_us: u64,
        now_us: u64,
    ) -> Result<(), DirectoryError> {
        if name.is_empty() || name.len() > MAX_TEXT_BYTES || name.contains('/') {
            return refused(format!("{name:?} cannot be a lease's name"));
        }
        if until_us > now_us.saturating_add(MAX_LEASE_US) {
            return refused(format!("a lease lasts {} hours at most", MAX_LEASE_US / 3_600_000_000));
        }
        let snapshot = self.directory.load().await?;
        let Some(record) = snapshot.branch(branch) else { return refused(format!("there is no branch {branch:?}")) };
        let ended = |lease: &LeaseRecord| lease.until_us.saturating_add(MAX_LEASE_US) < now_us;
        let old = snapshot.leases.iter().filter(|((of, _), lease)| *of == record.branch && ended(lease));
        for ((branch, name), _) in old {
            self.directory.change_lease(*branch, name, &|found| Ok(found.filter(|lease| !ended(lease)))).await?;
        }
        let kept_from = |horizon: Lsn| match lsn >= horizon {
            true => Ok(()),
            false => refused(format!("history of branch {} from before {horizon} is not kept", record.name)),
        };
        kept_from(self.pages.status(record.branch).await.map_err(unanswered)?.horizon_lsn)?;
        let before = snapshot.leases.get(&(record.branch, name.to_owned())).copied();
        let lease = LeaseRecord { lsn, until_us };
        self.directory.change_lease(record.branch, name, &|_| Ok(Some(lease))).await?;
        // Who drops history tells so in the directory before it looks for leases there.
        let outcome = kept_from(self.directory.load().await?.horizon(record.branch));
        if outcome.is_err() {
            self.directory.change_lease(record.branch, name, &|_| Ok(before)).await?;
        }
        outcome
    }

    /// Gives a lease up.
    pub async fn release(&self, name: &str, branch: &str) -> Result<(), DirectoryError> {
        let snapshot = self.directory.load().await?;
        let Some(record) = snapshot.branch(branch) else { return refused(format!("there is no branch {branch:?}")) };
        self.directory.change_lease(record.branch, name, &|_| Ok(None)).await
    }

    /// Cuts each shard of a branch in two, and those of all branches that come from it: what a branch begins with is looked for by its
    /// own shards. Nothing is copied; the parts begin where the shard is served, and move from there. Returns the new number.
    pub async fn split(&self, name: &str) -> Result<u32, DirectoryError> {
        let snapshot = self.directory.load().await?;
        let Some(record) = snapshot.branch(name) else { return refused(format!("there is no branch {name:?}")) };
        let Some(layout) = record.layout.split() else {
            return refused(format!("branch {name:?} has {} shards, {MAX_SHARDS} are allowed", record.layout.shards()));
        };
        self.split_to(record.branch, layout).await?;
        // Also those that were made meanwhile.
        for heir in self.directory.load().await?.heirs(record.branch) {
            self.split_to(heir, layout).await?;
        }
        Ok(layout.shards())
    }

    async fn split_to(&self, branch: BranchId, layout: ShardLayout) -> Result<(), DirectoryError> {
        let change = |found: Option<BranchRecord>| {
            Ok(found.map(|mut found| {
                if layout.is_split_of(found.layout) {
                    let before = found.layout.shards() as usize;
                    let owner = |shard: usize| found.placements[shard % before].owner.clone();
                    let placement = |shard| Placement { owner: owner(shard), moving_to: String::new() };
                    let split_off: Vec<_> = (before..layout.shards() as usize).map(placement).collect();
                    found.placements.extend(split_off);
                    found.layout = layout;
                }
                found
            }))
        };
        self.directory.change_branch(branch, &change).await
    }

    /// Says how much of a branch's history is kept; `None`: what the page servers were told when they were started.
    pub async fn retain(&self, name: &str, retention: Option<Retention>) -> Result<(), DirectoryError> {
        let snapshot = self.directory.load().await?;
        let Some(record) = snapshot.branch(name) else { return refused(format!("there is no branch {name:?}")) };
        let change = |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { retention, ..found }));
        self.directory.change_branch(record.branch, &change).await
    }

    async fn branch_lsn(
        &self,
        snapshot: &Snapshot,
        parent: &BranchRecord,
        point: BranchPoint,
    ) -> Result<Lsn, DirectoryError> {
        let log = log_of(snapshot, parent.branch, self.log.clone())?;
        let end = log.status(parent.branch).await?.durable_lsn;
        let lsn = match point {
            BranchPoint::Now => end,
            BranchPoint::At(lsn) => lsn,
            BranchPoint::Time(time_us) => match find_time(&*self.pages, parent.branch, time_us, end).await? {
                Some(lsn) => lsn,
                None => return refused("history from before that time is not kept".to_owned()),
            },
        };
        let horizon = self.pages.status(parent.branch).await.map_err(unanswered)?.horizon_lsn;
        if lsn == Lsn::ZERO {
            return refused(format!("branch {} is empty at {lsn}", parent.name));
        }
        if lsn > end {
            return refused(format!("branch {} ends at {end}, before {lsn}", parent.name));
        }
        if lsn < horizon {
            return refused(format!("history of branch {} from before {horizon} is not kept", parent.name));
        }
        Ok(lsn)
    }

    /// Deletes a branch that no other comes from. What it has of its own is removed by the page servers.
    pub async fn delete(&self, name: &str) -> Result<(), DirectoryError> {
        let snapshot = self.directory.load().await?;
        let Some(record) = snapshot.branch(name) else { return refused(format!("there is no branch {name:?}")) };
        let branch = record.branch;
        if record.parent.is_none() {
            return refused(format!("branch {:?} is the one that the database began with", record.name));
        }
        if let Some(child) = snapshot.descendants(branch).first().and_then(|child| snapshot.branches.get(child)) {
            return refused(format!("branch {:?} comes from {:?}", child.name, record.name));
        }
        let mark = |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { deleting: true, ..found }));
        self.directory.change_branch(branch, &mark).await?;
        let now = self.directory.load().await?;
        if !now.descendants(branch).is_empty() {
            self.directory.keep_branch(branch).await?;
            return refused(format!("a branch was made from {:?} meanwhile", record.name));
        }
        Ok(())
    }
}
