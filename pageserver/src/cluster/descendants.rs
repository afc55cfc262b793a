//! Which of a branch's layers other branches still need.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use storage::layer::{LayerName, shard_prefix};
use storage::manifest::{Manifest, manifest_key};
use storage::object::ObjectStore;
use storage::{BranchId, ShardId};

use super::directory::{Directory, Snapshot};

/// Knows what must not be deleted although its branch needs it no longer.
#[async_trait]
pub trait Descendants: fmt::Debug + Send + Sync {
    /// Layers of a shard that are named by manifests of branches that come from it. `None` as long as that is not known:
    /// nothing may be deleted then, and no history dropped.
    async fn named(&self, branch: BranchId, shard: ShardId) -> Option<HashSet<LayerName>>;
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

#[async_trait]
impl Descendants for RegisteredDescendants {
    async fn named(&self, branch: BranchId, shard: ShardId) -> Option<HashSet<LayerName>> {
        let before = self.load().await?.heirs(branch);
        let mut names = HashSet::new();
        for descendant in &before {
            let key = manifest_key(&shard_prefix(*descendant, shard));
            // A branch whose shard nobody has served yet may still need everything.
            let found = self.store.read_versioned(&key).await.ok()??;
            let manifest = Manifest::decode(&found.bytes).ok()?;
            names.extend(manifest.layers.iter().filter(|layer| layer.branch == branch).map(|layer| layer.name));
        }
        // A branch made meanwhile may have taken over what one of these has let go since.
        (self.load().await?.heirs(branch) == before).then_some(names)
    }
}
