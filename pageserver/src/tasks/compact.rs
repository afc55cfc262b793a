//! Rewriting layers, and dropping history.

use std::sync::Arc;
use std::time::Duration;

use storage::beside::runs_alone;
use storage::layer::LayerDescriptor;
use storage::manifest::Manifest;

use super::after_failure;
use super::garbage::{discard, drop_due_history};
use crate::compaction::{Job, JobError, plan_images, plan_merge, run_job, tile_loads};
use crate::metrics as names;
use crate::shard::{LayersInUse, Shard, layer_bytes};

/// Which rewrite a compactor looks for. Short merges must not wait behind long ones, nor either behind images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compactor {
    /// Runs of records into one.
    Merges,
    /// Records into images; then garbage.
    Images,
}

impl Compactor {
    /// Those of a shard. While one merge takes long, another merges what comes meanwhile.
    pub const ALL: [Compactor; 3] = [Compactor::Merges, Compactor::Merges, Compactor::Images];
}

/// How often the age of history is looked at.
const AGING: Duration = Duration::from_secs(60);

/// Rewrites layers whenever there is something to gain.
pub(crate) async fn compact(shard: Arc<Shard>, compactor: Compactor) {
    let mut changes = shard.watch_changes();
    while !shard.stopping() && !shard.is_lost() {
        // Before the manifest is looked at: what changes from here on wakes the wait below.
        changes.borrow_and_update();
        let outcome = match plan(&shard, compactor).await {
            Ok(Some((job, in_use))) => {
                let outcome = compact_once(&shard, &job).await;
                drop(in_use);
                // Merges that had to wait for these layers may begin.
                shard.announce_change();
                outcome
            }
            Ok(None) if compactor == Compactor::Images && drop_due_history(&shard).await => Ok(()),
            Ok(None) => {
                tokio::select! {
                    _ = changes.changed() => {}
                    // History grows old also while nothing changes.
                    () = shard.pause(AGING) => {}
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) | Err(JobError::Stopped) => {}
            Err(error) => after_failure(&shard, "compaction", &error).await,
        }
    }
}

/// What is worth to be done, with its layers marked as in use.
async fn plan(shard: &Shard, compactor: Compactor) -> Result<Option<(Job, LayersInUse)>, JobError> {
    let settings = &shard.config.compaction;
    let manifest = shard.manifest().await;
    if compactor == Compactor::Images {
        let loads = tile_loads(&shard.reader, &manifest).await?;
        let job = plan_images(&manifest, settings, &loads);
        return Ok(job.map(|job| (job.clone(), shard.use_layers(job.reads(), false))));
    }
    // Planned and marked in one step: no layer is merged twice.
    Ok(shard.use_for_merge(|merging| plan_merge(&manifest, settings, merging)))
}

async fn compact_once(shard: &Arc<Shard>, job: &Job) -> Result<(), JobError> {
    let layers = rewrite(shard, job).await?;
    metrics::counter!(names::WRITTEN_BYTES, "work" => "compaction").increment(layer_bytes(&layers));
    let replaced = job.replaced();
    let change = |manifest: &mut Manifest| {
        let named = manifest.layers.iter().filter(|layer| replaced.contains(&layer.id())).count();
        if named == replaced.len() {
            discard(manifest, &replaced);
            manifest.layers.extend(layers);
        } else {
            // Planned with a manifest that was changed meanwhile: these records are in other layers already.
            manifest.garbage.extend(layers.iter().map(|layer: &LayerDescriptor| layer.name));
        }
    };
    shard.update_manifest(change).await.map(|_| ()).map_err(|_| JobError::Stopped)
}

async fn rewrite(shard: &Arc<Shard>, job: &Job) -> Result<Vec<LayerDescriptor>, JobError> {
    if runs_alone() {
        return shard.with_job_context(false, async |context| run_job(context, job).await).await;
    }
    // Rewriting is mostly computation: on a thread of its own it leaves the runtime's to readers.
    let (runtime, owned, rewrite) = (tokio::runtime::Handle::current(), shard.clone(), job.clone());
    let work =
        move || runtime.block_on(owned.with_job_context(false, async |context| run_job(context, &rewrite).await));
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => Err(JobError::Panicked(error.to_string())),
        Err(_) => Err(JobError::Stopped),
    }
}
