//! Reading and changing the directory of servers and branches in the log's metadata map.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use logstore::client::{LogError, MetadataClient, SwapOutcome};
use storage::{BranchId, Lsn, ShardId};

use super::record::{
    BranchRecord, HorizonRecord, LeaseRecord, RecordError, ServerRecord, decode_number, encode_number,
};
use crate::lineage::Lineage;

const PREFIX: &str = "pages/";
const SERVERS: &str = "pages/servers/";
const BRANCHES: &str = "pages/branches/";
const LEASES: &str = "pages/leases/";
const HORIZONS: &str = "pages/horizons/";
const NEXT_BRANCH: &str = "pages/next-branch";
/// Trials of a change that others make impossible meanwhile.
const TRIALS: usize = 16;

/// Why the directory could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Retry, or tell the operator, as it says.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Tell the operator.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Tell the user: the directory holds something else than the change needs.
    #[error("{0}")]
    Refused(String),
    /// Retry: others keep changing it.
    #[error("the record of {0} keeps changing")]
    Busy(String),
}

/// Everything at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By id.
    pub servers: BTreeMap<String, ServerRecord>,
    /// By number.
    pub branches: BTreeMap<BranchId, BranchRecord>,
    /// By branch and name.
    pub leases: BTreeMap<(BranchId, String), LeaseRecord>,
    /// By branch and shard.
    pub horizons: BTreeMap<(BranchId, ShardId), HorizonRecord>,
    /// Branches with smaller numbers were made once; zero while none was made by [`Directory::new_number`].
    pub next_branch: BranchId,
}

impl Snapshot {
    /// A branch and those it comes from; `None` when one of them is not there.
    pub fn lineage(&self, branch: BranchId) -> Option<Lineage> {
        let mut chain = vec![self.branches.get(&branch)?];
        while let Some((parent, _)) = chain.last().expect("begun with one").parent {
            // A chain longer than that is a circle.
            if chain.len() > self.branches.len() {
                return None;
            }
            chain.push(self.branches.get(&parent)?);
        }
        let root = Lineage::root(chain.pop().expect("begun with one").branch);
        let child = |lineage: Lineage, record: &&BranchRecord| {
            let (_, branch_lsn) = record.parent.expect("only the last of the chain has none");
            lineage.child(record.branch, branch_lsn)
        };
        Some(chain.iter().rev().fold(root, child))
    }

    /// A branch by its name or number; not one that is being deleted.
    pub fn branch(&self, name: &str) -> Option<&BranchRecord> {
        let by_name = self.branches.values().find(|record| record.name == name && !record.deleting);
        let by_number = || self.branches.get(&BranchId(name.parse().ok()?)).filter(|record| !record.deleting);
        by_name.or_else(by_number)
    }

    /// Branches that come from this one, also those that are being deleted: as long as they are here, they may need its
    /// layers, because a deletion can be taken back.
    pub fn heirs(&self, branch: BranchId) -> Vec<BranchId> {
        let comes_from = |record: &&BranchRecord| {
            let lineage = self.lineage(record.branch);
            lineage.is_none_or(|lineage| lineage.ancestors().iter().any(|(ancestor, _)| *ancestor == branch))
        };
        let others = self.branches.values().filter(|record| record.branch != branch);
        others.filter(comes_from).map(|record| record.branch).collect()
    }

    /// From where on history of a branch is kept, as far as its shards' owners have told: some of what lies before may be gone, or
    /// about to go.
    pub fn horizon(&self, branch: BranchId) -> Lsn {
        let told = self.horizons.range((branch, ShardId(0))..=(branch, ShardId(u64::MAX)));
        told.map(|(_, told)| told.lsn).max().unwrap_or(Lsn::ZERO)
    }

    /// Whether there was a branch of a number, and is not any more. A directory that is empty because it was lost says so of none.
    pub fn is_gone(&self, branch: BranchId) -> bool {
        branch < self.next_branch && !self.branches.contains_key(&branch)
    }

    /// Whether a branch, or one that it comes from, is being deleted or gone. Nobody begins to serve it then.
    pub fn is_doomed(&self, branch: BranchId) -> bool {
        let stays = |branch: &BranchId| self.branches.get(branch).is_some_and(|record| !record.deleting);
        !self.lineage(branch).is_some_and(|lineage| lineage.begins().iter().all(|(branch, _)| stays(branch)))
    }

    /// Branches that come from this one and are there to stay.
    pub fn descendants(&self, branch: BranchId) -> Vec<BranchId> {
        let mut heirs = self.heirs(branch);
        heirs.retain(|heir| self.branches.get(heir).is_some_and(|record| !record.deleting));
        heirs
    }
}

/// The directory.
#[derive(Clone)]
pub struct Directory {
    metadata: Arc<dyn MetadataClient>,
}

/// A change to a record: what it becomes (`None`: it goes), or why not.
type Change<'a, T> = &'a (dyn Fn(Option<T>) -> Result<Option<T>, DirectoryError> + Send + Sync);

impl Directory {
    /// In a metadata map.
    pub fn new(metadata: Arc<dyn MetadataClient>) -> Directory {
        Directory { metadata }
    }

    /// Reads everything.
    pub async fn load(&self) -> Result<Snapshot, DirectoryError> {
        let mut snapshot = Snapshot::default();
        for (key, value) in self.metadata.list(PREFIX).await? {
            if let Some(id) = key.strip_prefix(SERVERS) {
                snapshot.servers.insert(id.to_owned(), ServerRecord::decode(&value.bytes)?);
            } else if key.starts_with(BRANCHES) {
                let record = BranchRecord::decode(&value.bytes)?;
                snapshot.branches.insert(record.branch, record);
            } else if let Some((branch, name)) = key.strip_prefix(LEASES).and_then(|rest| rest.split_once('/'))
                && let Ok(branch) = branch.parse()
            {
                snapshot.leases.insert((BranchId(branch), name.to_owned()), LeaseRecord::decode(&value.bytes)?);
            } else if let Some((branch, shard)) = key.strip_prefix(HORIZONS).and_then(|rest| rest.split_once('/'))
                && let (Ok(branch), Ok(shard)) = (branch.parse(), shard.parse())
            {
                let told = HorizonRecord::decode(&value.bytes)?;
                snapshot.horizons.insert((BranchId(branch), ShardId(shard)), told);
            } else if key == NEXT_BRANCH {
                snapshot.next_branch = decode_number(&value.bytes)?;
            }
        }
        Ok(snapshot)
    }

    /// Changes a server's record. The change may be asked for several times.
    pub async fn change_server(&self, id: &str, change: Change<'_, ServerRecord>) -> Result<(), DirectoryError> {
        let decode = |bytes: &Bytes| ServerRecord::decode(bytes);
        self.change(&format!("{SERVERS}{id}"), &decode, &|record| record.encode(), change).await
    }

    /// Changes a branch's record. The change may be asked for several times.
    pub async fn change_branch(
        &self,
        branch: BranchId,
        change: Change<'_, BranchRecord>,
    ) -> Result<(), DirectoryError> {
        let decode = |bytes: &Bytes| BranchRecord::decode(bytes);
        self.change(&format!("{BRANCHES}{branch}"), &decode, &|record| record.encode(), change).await
    }

    /// Takes a branch's deletion back, unless it has gone too far for that.
    pub async fn keep_branch(&self, branch: BranchId) -> Result<(), DirectoryError> {
        let keep = |found: Option<BranchRecord>| Ok(found.map(|found| BranchRecord { deleting: found.swept, ..found }));
        self.change_branch(branch, &keep).await
    }

    /// Removes all that the directory has of a branch.
    pub async fn forget_branch(&self, branch: BranchId) -> Result<(), DirectoryError> {
        let snapshot = self.load().await?;
        for (of, shard) in snapshot.horizons.keys().filter(|(of, _)| *of == branch) {
            self.change_horizon(*of, *shard, &|_| Ok(None)).await?;
        }
        for (of, name) in snapshot.leases.keys().filter(|(of, _)| *of == branch) {
            self.change_lease(*of, name, &|_| Ok(None)).await?;
        }
        self.change_branch(branch, &|_| Ok(None)).await
    }

    /// Changes a lease. The change may be asked for several times.
    pub async fn change_lease(
        &self,
        branch: BranchId,
        name: &str,
        change: Change<'_, LeaseRecord>,
    ) -> Result<(), DirectoryError> {
        let decode = |bytes: &Bytes| LeaseRecord::decode(bytes);
        self.change(&format!("{LEASES}{branch}/{name}"), &decode, &|record| record.encode(), change).await
    }

    /// Changes what is told of a shard's horizon. The change may be asked for several times.
    pub async fn change_horizon(
        &self,
        branch: BranchId,
        shard: ShardId,
        change: Change<'_, HorizonRecord>,
    ) -> Result<(), DirectoryError> {
        let decode = |bytes: &Bytes| HorizonRecord::decode(bytes);
        self.change(&format!("{HORIZONS}{branch}/{shard}"), &decode, &|record| record.encode(), change).await
    }

    /// A number that no branch had before and none will have.
    pub async fn new_number(&self, snapshot: &Snapshot) -> Result<BranchId, DirectoryError> {
        let unused = snapshot.branches.keys().max().map_or(BranchId(1), |last| BranchId(last.0 + 1));
        let taken = parking_lot::Mutex::new(BranchId(0));
        let change = |found: Option<BranchId>| {
            let number = found.unwrap_or(unused).max(unused);
            *taken.lock() = number;
            Ok(Some(BranchId(number.0 + 1)))
        };
        self.change(NEXT_BRANCH, &|bytes| decode_number(bytes), &|next| encode_number(*next), &change).await?;
        Ok(taken.into_inner())
    }

    async fn change<T>(
        &self,
        key: &str,
        decode: &(dyn Fn(&Bytes) -> Result<T, RecordError> + Send + Sync),
        encode: &(dyn Fn(&T) -> Bytes + Send + Sync),
        change: Change<'_, T>,
    ) -> Result<(), DirectoryError> {
        let mut found = self.metadata.get(key).await?;
        for _ in 0..TRIALS {
            let version = found.as_ref().map(|found| found.version);
            let old = found.as_ref().map(|found| decode(&found.bytes)).transpose()?;
            let next = change(old)?.map(|next| encode(&next));
            if next.as_ref() == found.as_ref().map(|found| &found.bytes) {
                return Ok(());
            }
            match self.metadata.compare_and_swap(key, version, next).await? {
                SwapOutcome::Swapped { .. } => return Ok(()),
                SwapOutcome::Conflict { current } => found = current,
            }
        }
        Err(DirectoryError::Busy(key.to_owned()))
    }
}
