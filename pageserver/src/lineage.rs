//! Where a branch's history is: in which logs, and in which manifests.
//!
//! A branch leaves its parent at an LSN and counts on from there. Its history up to that LSN is its parent's: in the parent's
//! layers and, as far as these did not reach when the branch was made, in the parent's log.

use storage::layer::shard_prefix;
use storage::layout::ShardLayout;
use storage::manifest::{Manifest, manifest_key};
use storage::object::ObjectStore;
use storage::{BranchId, Lsn, ShardId};

use crate::owner::OwnerError;

/// A branch and those it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    branch: BranchId,
    /// Oldest first, each with the LSN at which the next one leaves it.
    ancestors: Vec<(BranchId, Lsn)>,
}

impl Lineage {
    /// Of a branch without a parent.
    pub fn root(branch: BranchId) -> Lineage {
        Lineage { branch, ancestors: Vec::new() }
    }

    /// Of a branch that leaves this one at `branch_lsn`. What this one inherits from beyond that is no part of it.
    #[must_use]
    pub fn child(&self, branch: BranchId, branch_lsn: Lsn) -> Lineage {
        let mut ancestors = self.ancestors.clone();
        ancestors.iter_mut().for_each(|(_, until)| *until = branch_lsn.min(*until));
        ancestors.push((self.branch, branch_lsn));
        Lineage { branch, ancestors }
    }

    /// The branch itself.
    pub fn branch(&self) -> BranchId {
        self.branch
    }

    /// Those it comes from, oldest first, each with the LSN up to which its history counts.
    pub fn ancestors(&self) -> &[(BranchId, Lsn)] {
        &self.ancestors
    }

    /// The branch and those it comes from, each with the LSN at which it begins.
    pub fn begins(&self) -> Vec<(BranchId, Lsn)> {
        let branches = self.ancestors.iter().map(|(branch, _)| *branch).chain([self.branch]);
        let begins = [Lsn::ZERO].into_iter().chain(self.ancestors.iter().map(|(_, until)| *until));
        branches.zip(begins).collect()
    }

    /// The log that continues at `lsn`, and up to where it counts.
    pub fn stream_at(&self, lsn: Lsn) -> (BranchId, Option<Lsn>) {
        let ancestor = self.ancestors.iter().find(|(_, until)| lsn < *until);
        ancestor.map_or((self.branch, None), |(branch, until)| (*branch, Some(*until)))
    }

    /// Whether log of the branch's own lies before `lsn`. Before its first writer has come, a branch has no log, and nobody
    /// remembers who reads it.
    pub fn has_own_log_before(&self, lsn: Lsn) -> bool {
        let begin = self.ancestors.last().map_or(Lsn::ZERO, |(_, until)| *until);
        lsn > begin
    }

    /// What a shard that was never served consists of: its nearest ancestor's layers, or nothing.
    pub async fn initial_manifest(
        &self,
        store: &ObjectStore,
        shard: ShardId,
        layout: ShardLayout,
    ) -> Result<Manifest, OwnerError> {
        if let Some(split) = split_off(store, self.branch, shard, layout).await? {
            return Ok(split);
        }
        let oldest = self.ancestors.first().map_or(self.branch, |(branch, _)| *branch);
        let (mut from, mut manifest) = (0, Manifest::empty(oldest, shard, layout));
        for (number, (ancestor, _)) in self.ancestors.iter().enumerate().rev() {
            let found = match read_manifest(store, *ancestor, shard).await? {
                // The branch has been split, its ancestor has not: the branch's shard uses its own pages.
                Some(found) if layout.is_split_of(found.layout) => Some(Manifest { layout, ..found }),
                Some(found) if found.layout == layout => Some(found),
                Some(found) => return Err(OwnerError::Layout { found: found.layout, expected: layout }),
                None => split_off(store, *ancestor, shard, layout).await?,
            };
            if let Some(found) = found {
                (from, manifest) = (number, found);
                break;
            }
        }
        for (number, (_, branch_lsn)) in self.ancestors.iter().enumerate().skip(from) {
            let child = self.ancestors.get(number + 1).map_or(self.branch, |(branch, _)| *branch);
            let horizon = manifest.horizon;
            manifest = manifest
                .branched(child, *branch_lsn)
                .ok_or(OwnerError::BelowHorizon { branch_lsn: *branch_lsn, horizon })?;
        }
        Ok(manifest)
    }
}

async fn read_manifest(store: &ObjectStore, branch: BranchId, shard: ShardId) -> Result<Option<Manifest>, OwnerError> {
    let found = store.read_versioned(&manifest_key(&shard_prefix(branch, shard))).await?;
    Ok(found.map(|found| Manifest::decode(&found.bytes)).transpose()?)
}

/// What a shard that has no manifest yet begins with if it was split from another one of its branch: that one's layers.
/// `None` if it was not, or if it has a manifest by now.
async fn split_off(
    store: &ObjectStore,
    branch: BranchId,
    shard: ShardId,
    layout: ShardLayout,
) -> Result<Option<Manifest>, OwnerError> {
    let origins = layout.origins(shard);
    for (origin, _) in &origins {
        let Some(found) = read_manifest(store, branch, *origin).await? else { continue };
        if origins.contains(&(*origin, found.layout)) {
            return Ok(Some(found.split(shard, layout)));
        }
        // The shard that a split leaves in place takes the new layout only once those split off have their manifests.
        if found.layout == layout {
            return Ok(None);
        }
        return Err(OwnerError::Layout { found: found.layout, expected: layout });
    }
    Ok(None)
}
