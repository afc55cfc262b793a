//! What must be kept of a branch: layers that other branches still need, and history that its retention or a lease asks for.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use storage::layer::{LayerName, shard_prefix};
use storage::manifest::{Manifest, manifest_key};
use storage::object::ObjectStore;
use storage::{BranchId, Generation, Lsn, ShardId};

use super::directory::{Directory, DirectoryError, Snapshot};
use super::record::{BranchRecord, HorizonRecord};
use crate::compaction::Retention;

/// Knows what must not be deleted although its branch needs it no longer.
#[async_trait]
pub trait Descendants: fmt::Debug + Send + Sync {
    /// Layers of a shard that are named by manifests of branches that come from it. `None` as long as that is not known:
    /// nothing may be deleted then, and no history dropped.
    async fn named(&self, branch: BranchId, shard: ShardId) -> Option<HashSet<LayerName>>;
    /// What is to be kept of a branch for other reasons than branches. `None` as long as that is not known.
    async fn kept(&self, branch: BranchId) -> Option<Kept>;
    /// Tells from where on the owner of a shard, of a generation, keeps history, where everybody who wants to hold an LSN looks.
    /// False if that could not be told, or a later owner has told something: nothing may be dropped then.
    async fn tell_horizon(&self, branch: BranchId, shard: ShardId, generation: Generation, horizon: Lsn) -> bool;
}

/// How much of a branch's history is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The branch's own retention, if it has one.
    pub retention: Option<Retention>,
    /// Leases: an LSN each, and the wall clock at its end in microseconds since 1970 UTC.
    pub leases: Vec<(Lsn, u64)>,
}

/// What the directory says.
pub struct RegisteredDescendants {
    directory: Directory,
    store: ObjectStore,
}

impl fmt::Debug for RegisteredDescendants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredDescendants").finish_non_exhaustive()
    }
}

impl RegisteredDescendants {
    /// Of the branches in a directory, with their manifests in a store.
    pub fn new(directory: Directory, store: ObjectStore) -> RegisteredDescendants {
        RegisteredDescendants { directory, store }
    }

    async fn load(&self) -> Option<Snapshot> {
        let loaded = self.directory.load().await;
        loaded.inspect_err(|error| tracing::warn!(%error, "branches not known; nothing is deleted")).ok()
    }
}

/// Of a branch and those that come from it, the shards that begin with a shard's layers: the same one, and those that are split
/// from it.
fn shards_that_come_from(snapshot: &Snapshot, branch: BranchId, shard: ShardId) -> Vec<(BranchId, ShardId)> {
    let records = [branch].into_iter().chain(snapshot.heirs(branch)).filter_map(|heir| snapshot.branches.get(&heir));
    let of_branch = |record: &BranchRecord| {
        let branch = record.branch;
        record.layout.heirs(shard).into_iter().map(move |shard| (branch, shard)).collect::<Vec<_>>()
    };
    records.flat_map(of_branch).collect()
}

#[async_trait]
impl Descendants for RegisteredDescendants {
    async fn kept(&self, branch: BranchId) -> Option<Kept> {
        let snapshot = self.load().await?;
        let leases = snapshot.leases.range((branch, String::new())..).take_while(|((of, _), _)| *of == branch);
        Some(Kept {
            retention: snapshot.branches.get(&branch).and_then(|record| record.retention),
            leases: leases.map(|(_, lease)| (lease.lsn, lease.until_us)).collect(),
        })
    }

    async fn tell_horizon(&self, branch: BranchId, shard: ShardId, generation: Generation, lsn: Lsn) -> bool {
        let ours = HorizonRecord { generation, lsn };
        let tell = |found: Option<HorizonRecord>| match found {
            Some(found) if found.generation > generation => {
                let later = found.generation;
                Err(DirectoryError::Refused(format!("generation {later} of shard {shard} of branch {branch} has told")))
            }
            _ => Ok(Some(ours)),
        };
        let told = self.directory.change_horizon(branch, shard, &tell).await;
        told.inspect_err(|error| tracing::warn!(%error, "the horizon is not told; no history is dropped")).is_ok()
    }

    async fn named(&self, branch: BranchId, shard: ShardId) -> Option<HashSet<LayerName>> {
        let before = shards_that_come_from(&self.load().await?, branch, shard);
        let mut names = HashSet::new();
        for (heir, heir_shard) in before.iter().copied().filter(|heir| *heir != (branch, shard)) {
            let key = manifest_key(&shard_prefix(heir, heir_shard));
            // A shard that nobody has served yet may still need everything.
            let found = self.store.read_versioned(&key).await.ok()??;
            let manifest = Manifest::decode(&found.bytes).ok()?;
            let ours = manifest.layers.iter().filter(|layer| (layer.branch, layer.shard) == (branch, shard));
            names.extend(ours.map(|layer| layer.name));
        }
        // A branch or split made meanwhile may have taken over what one of these has let go since.
        (shards_that_come_from(&self.load().await?, branch, shard) == before).then_some(names)
    }
}
