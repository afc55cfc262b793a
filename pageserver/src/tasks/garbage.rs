//! Dropping history that nobody can ask for, and deleting what no manifest names any more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use storage::Lsn;
use storage::layer::LayerName;
use storage::manifest::Manifest;
use tokio::time::Instant;

use super::after_failure;
use crate::cluster::descendants::Kept;
use crate::compaction::{Garbage, LayerId, Retention, keep_from, plan_garbage};
use crate::owner::OwnerError;
use crate::shard::Shard;

/// Reads that still use replaced layers get this long before the layers are deleted; later ones begin anew.
const DELETE_DELAY: Duration = Duration::from_secs(5);

/// Takes layers off the manifest. Those of an ancestor, or of the shard that this one was split from, are theirs to delete.
pub(super) fn discard(manifest: &mut Manifest, gone: &HashSet<LayerId>) {
    manifest.layers.retain(|layer| !gone.contains(&layer.id()));
    let own = gone.iter().filter(|(branch, shard, _)| (*branch, *shard) == (manifest.branch, manifest.shard));
    manifest.garbage.extend(own.map(|(.., name)| *name));
}

/// Layers of this shard that other branches need; `None` while that is not known.
async fn needed_elsewhere(shard: &Shard) -> Option<HashSet<LayerName>> {
    match &shard.config.descendants {
        Some(descendants) => descendants.named(shard.config.branch, shard.config.shard).await,
        None => Some(HashSet::new()),
    }
}

/// What can be dropped now.
fn due_garbage(shard: &Shard, manifest: &Manifest, keep_from: Lsn) -> Option<Garbage> {
    let mut garbage = plan_garbage(manifest, keep_from)?;
    // A merge whose layers have gone is for nothing. It leaves out itself what is not needed any more.
    garbage.layers.retain(|layer| !shard.is_being_merged(*layer));
    (!garbage.layers.is_empty() || garbage.horizon > manifest.horizon).then_some(garbage)
}

async fn kept(shard: &Shard) -> Option<Kept> {
    match &shard.config.descendants {
        Some(descendants) => descendants.kept(shard.config.branch).await,
        None => Some(Kept::default()),
    }
}

/// Drops history that is old enough; tells whether there was any.
///
/// Whoever wants to hold an LSN, by a lease or a branch, first says so in the directory and then reads there how far history reaches.
/// Here it is the other way round: first the directory is told from where history will be kept, then it is read. So one of
/// the two sees the other, whoever owns the shard, or thinks so: an answer of a server that has been overtaken would not tell
/// what the new owner is about to drop. What one that has been overtaken is about to drop it cannot drop, because its change of the
/// manifest fails; what it dropped before, the new owner has found in the manifest.
///
/// What is told may lie above the horizon in the end: then the horizon itself is told afterwards, but only by an owner that knows
/// what became of its change. Until then, less is promised than is there.
pub(super) async fn drop_due_history(shard: &Shard) -> bool {
    let manifest = shard.manifest().await;
    // An earlier owner may have told of more than it dropped in the end.
    if !shard.horizon_told() && !tell_horizon(shard, manifest.horizon).await {
        return false;
    }
    shard.set_horizon_told();
    if due_garbage(shard, &manifest, manifest.durable_lsn).is_none() {
        return false;
    }
    let now_us = shard.config.clock.now_us();
    let Some(before) = kept(shard).await else { return false };
    let retention = before.retention.unwrap_or(shard.config.compaction.retention);
    let intended = keep_from(&manifest, retention, &before.leases, now_us);
    if due_garbage(shard, &manifest, intended).is_none() {
        return false;
    }
    if !tell_horizon(shard, intended.max(manifest.horizon)).await {
        return false;
    }
    // Lost, or the server stops: the change may be in or not, and what was told stays.
    let Ok(dropped) = drop_history(shard, intended, now_us).await else { return false };
    tell_horizon(shard, shard.manifest().await.horizon).await;
    dropped
}

async fn tell_horizon(shard: &Shard, horizon: Lsn) -> bool {
    match &shard.config.descendants {
        Some(descendants) => {
            let config = &shard.config;
            descendants.tell_horizon(config.branch, config.shard, shard.generation(), horizon).await
        }
        None => true,
    }
}

/// False while a branch may still be going to begin with what would be dropped. An error: it is not known what became of it.
async fn drop_history(shard: &Shard, intended: Lsn, now_us: u64) -> Result<bool, OwnerError> {
    if needed_elsewhere(shard).await.is_none() {
        return Ok(false);
    }
    let Some(Kept { leases, .. }) = kept(shard).await else { return Ok(false) };
    let mut dropped = false;
    let change = |manifest: &mut Manifest| {
        let everything = Retention { bytes: 0, time_us: 0 };
        let keep_from = keep_from(manifest, everything, &leases, now_us).min(intended);
        // Planned anew: flushes went on meanwhile.
        if let Some(garbage) = due_garbage(shard, manifest, keep_from) {
            discard(manifest, &garbage.layers);
            manifest.horizon = garbage.horizon;
            manifest.marks.retain(|mark| mark.lsn >= garbage.horizon);
            dropped = true;
        }
    };
    shard.update_manifest(change).await?;
    Ok(dropped)
}

/// Deletes what the manifest calls garbage, then takes it off the manifest; also what earlier owners and lost jobs wrote and
/// no manifest ever named.
pub(crate) async fn delete_garbage(shard: Arc<Shard>) {
    let mut swept: Option<Instant> = None;
    while !shard.stopping() && !shard.is_lost() {
        if swept.is_none_or(|swept| swept.elapsed() >= shard.config.sweep_pause) && shard.begin_sweep() {
            swept = Some(Instant::now());
            if let Err(error) = delete_strays(&shard).await {
                // Costs space until the next trial.
                tracing::warn!(branch = %shard.config.branch, %error, "leftovers not deleted");
                shard.sweep_again();
            }
        }
        let garbage = shard.manifest().await.garbage;
        shard.pause(DELETE_DELAY).await;
        if garbage.is_empty() || shard.stopping() || shard.is_lost() {
            continue;
        }
        // What is garbage here was so before these were asked for: no branch made since can have inherited it.
        let Some(needed) = needed_elsewhere(&shard).await else { continue };
        let mut deleted = HashSet::new();
        let (branch, id) = (shard.config.branch, shard.config.shard);
        let free = |name: &LayerName| !needed.contains(name) && !shard.is_in_use((branch, id, *name));
        for name in garbage.into_iter().filter(free) {
            match shard.store.delete(&shard.layer_key(name)).await {
                Ok(()) => {
                    deleted.insert(name);
                }
                Err(error) => after_failure(&shard, "deletion", &error).await,
            }
        }
        if deleted.is_empty() {
            continue;
        }
        let change = |manifest: &mut Manifest| manifest.garbage.retain(|name| !deleted.contains(name));
        if shard.update_manifest(change).await.is_err() {
            return;
        }
    }
}

/// Layers of earlier generations that the manifest does not name were never in it and cannot get in any more: their
/// owner's next change to the manifest would fail. Nor can those of jobs whose leases are over.
async fn delete_strays(shard: &Shard) -> Result<(), storage::object::ObjectError> {
    let manifest = shard.manifest().await;
    let whose = (manifest.branch, manifest.shard);
    let own = manifest.layers.iter().filter(|layer| (layer.branch, layer.shard) == whose).map(|layer| layer.name);
    let named: HashSet<_> = own.chain(manifest.garbage).collect();
    for key in shard.store.list(&shard.layers_prefix()).await? {
        let name = key.rsplit('/').next().and_then(LayerName::parse);
        let Some(name) = name.filter(|name| shard.is_stray(*name) && !named.contains(name)) else {
            continue;
        };
        if shard.stopping() || shard.is_lost() {
            return Ok(());
        }
        shard.store.delete(&shard.layer_key(name)).await?;
    }
    Ok(())
}
