//! Ownership of a shard: taking it over, and changing its manifest for as long as nobody else has taken it.

use std::future::Future;

use storage::layer::shard_prefix;
use storage::layout::ShardLayout;
use storage::manifest::{Manifest, ManifestError, manifest_key};
use storage::object::{ObjectError, ObjectStore, SwapError, Versioned};
use storage::{BranchId, Lsn, ShardId};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::lineage::Lineage;

/// Why a manifest was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Stop: another page server owns the shard now.
    #[error("shard was taken over by generation {generation} of writer {writer}")]
    Lost { generation: storage::Generation, writer: Uuid },
    /// The server stops, and it is not known whether the change was made.
    #[error("the manifest's change was given up")]
    Abandoned,
    /// Tell the operator: what is stored cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest belongs to another shard.
    #[error("the manifest found belongs to shard {shard} of branch {branch}")]
    Misplaced { branch: BranchId, shard: ShardId },
    /// The branch point lies before what its parent keeps.
    #[error("the branch begins at {branch_lsn}, but history before {horizon} is no longer kept")]
    BelowHorizon { branch_lsn: Lsn, horizon: Lsn },
    /// Pages would be looked for where they are not: tell the operator.
    #[error("the shard has {found:?}, {expected:?} was expected")]
    Layout { found: ShardLayout, expected: ShardLayout },
    /// The object store failed while the shard was being taken over. Retry.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// The right to change one shard's manifest.
#[derive(Debug)]
pub struct ManifestOwner {
    store: ObjectStore,
    key: String,
    current: Mutex<(Manifest, Versioned)>,
}

impl ManifestOwner {
    /// Takes a shard over from whoever had it; `layout` is what the branch is known to have.
    pub async fn attach(
        store: &ObjectStore,
        lineage: &Lineage,
        (shard, layout): (ShardId, ShardLayout),
        writer: Uuid,
    ) -> Result<ManifestOwner, OwnerError> {
        let branch = lineage.branch();
        let key = manifest_key(&shard_prefix(branch, shard));
        loop {
            let found = store.read_versioned(&key).await?;
            let manifest = match &found {
                Some(found) => split_in_place(store, Manifest::decode(&found.bytes)?, layout).await?,
                None => lineage.initial_manifest(store, shard, layout).await?,
            };
            if (manifest.branch, manifest.shard) != (branch, shard) {
                return Err(OwnerError::Misplaced { branch: manifest.branch, shard: manifest.shard });
            }
            if manifest.layout != layout {
                return Err(OwnerError::Layout { found: manifest.layout, expected: layout });
            }
            // A trial of ours whose answer was lost may have taken effect: taking over from oneself is harmless.
            let ours = manifest.taken_over(writer);
            match store.swap(&key, found.as_ref(), ours.encode()).await {
                Ok(version) => {
                    let current = Mutex::new((ours, version));
                    return Ok(ManifestOwner { store: store.clone(), key, current });
                }
                // Somebody was faster; each round has a winner, so this ends.
                Err(SwapError::Conflict { .. }) => {}
                Err(SwapError::Doubtful { key, reason }) => {
                    return Err(ObjectError::Transient { key, reason }.into());
                }
                Err(SwapError::Object(error)) => return Err(error.into()),
            }
        }
    }

    /// The manifest as last written.
    pub async fn manifest(&self) -> Manifest {
        self.current.lock().await.0.clone()
    }

    /// Whether the shard is still ours, according to what is stored now.
    pub async fn is_current(&self) -> Result<bool, OwnerError> {
        let (generation, writer) = {
            let current = self.current.lock().await;
            (current.0.generation, current.0.writer)
        };
        let Some(found) = self.store.read_versioned(&self.key).await? else { return Ok(false) };
        let found = Manifest::decode(&found.bytes)?;
        Ok((found.generation, found.writer) == (generation, writer))
    }

    /// Changes the manifest. Returns only once the change is in or the shard is lost: as long as the outcome of a write
    /// is in doubt, no other change may be based on the old manifest. `pause` is called with the reason before each
    /// further trial.
    pub async fn update<P: Future<Output = bool>>(
        &self,
        change: impl FnOnce(&mut Manifest),
        mut pause: impl FnMut(String) -> P,
        show: impl FnOnce(&Manifest),
    ) -> Result<Manifest, OwnerError> {
        let mut current = self.current.lock().await;
        let mut next = current.0.successor();
        change(&mut next);
        let bytes = next.encode();
        loop {
            match self.store.swap(&self.key, Some(&current.1), bytes.clone()).await {
                Ok(version) => {
                    show(&next);
                    *current = (next.clone(), version);
                    return Ok(next);
                }
                Err(SwapError::Conflict { current: found, .. }) => {
                    let found = found.map(|found| Manifest::decode(&found.bytes)).transpose()?;
                    let found = found.unwrap_or_else(|| Manifest::empty(next.branch, next.shard, next.layout));
                    return Err(OwnerError::Lost { generation: found.generation, writer: found.writer });
                }
                // Giving up leaves `current` behind what may be stored. That happens only when the server stops; the next
                // one reads what is stored.
                Err(error) => {
                    if !pause(error.to_string()).await {
                        return Err(OwnerError::Abandoned);
                    }
                }
            }
        }
    }
}

/// A manifest from before a split as that of the shard that keeps its number. The shards that are split off get theirs
/// first: so a manifest with the new layout means that all of these exist.
async fn split_in_place(store: &ObjectStore, manifest: Manifest, layout: ShardLayout) -> Result<Manifest, OwnerError> {
    if !layout.is_split_of(manifest.layout) {
        return Ok(manifest);
    }
    let from_here = |shard: &ShardId| layout.origins(*shard).contains(&(manifest.shard, manifest.layout));
    for shard in layout.ids().filter(from_here) {
        let key = manifest_key(&shard_prefix(manifest.branch, shard));
        match store.swap(&key, None, manifest.split(shard, layout).encode()).await {
            // It has one already, perhaps with changes since.
            Ok(_) | Err(SwapError::Conflict { .. }) => {}
            Err(SwapError::Doubtful { key, reason }) => return Err(ObjectError::Transient { key, reason }.into()),
            Err(SwapError::Object(error)) => return Err(error.into()),
        }
    }
    Ok(Manifest { layout, ..manifest })
}
