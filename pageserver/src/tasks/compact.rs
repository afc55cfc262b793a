//! Rewriting layers, and dropping history.

use std::sync::Arc;
use std::time::Duration;

use storage::layer::{LayerDescriptor, LayerError};
use storage::manifest::Manifest;

use super::after_failure;
use super::garbage::{discard, drop_due_history};
use crate::compaction::{Job, JobError, JobKind, apart, compare_samples, plan_images, plan_merge, run_job, tile_loads};
use crate::compactors::{Assignment, Handed, check};
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
            Err(error) => {
                // Flushes wait for merges, and would never learn of it.
                if matches!(&error, JobError::Layer(LayerError::Object(error)) if error.is_transient()) {
                    shard.note_store_failure();
                }
                after_failure(&shard, "compaction", &error).await;
            }
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
    let work = match job.kind {
        JobKind::Merge => "merge",
        JobKind::Image => "image",
    };
    metrics::counter!(names::WRITTEN_BYTES, "work" => work).increment(layer_bytes(&layers));
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
    if let Some(layers) = hand_over(shard, job).await? {
        return Ok(layers);
    }
    let (owned, rewrite) = (shard.clone(), job.clone());
    let work = move || async move {
        let (next_name, stopped) = (|| owned.next_name(), || owned.stopping() || owned.is_lost());
        run_job(&owned.job_context((&owned.reader, &owned.store), &next_name, &stopped), &rewrite).await
    };
    let outcome = apart(work).await;
    ended("server", if outcome.is_ok() { "done" } else { "failed" });
    outcome
}

fn ended(by: &'static str, outcome: &'static str) {
    metrics::counter!(names::COMPACTION_JOBS, "by" => by, "outcome" => outcome).increment(1);
}

/// A job whose worker is gone is offered once more.
const OFFERED_TIMES: usize = 2;

/// What compactors make of a job; `None`: the server has to do it itself.
async fn hand_over(shard: &Arc<Shard>, job: &Job) -> Result<Option<Vec<LayerDescriptor>>, JobError> {
    let Some(offers) = &shard.config.offers else { return Ok(None) };
    for _ in 0..OFFERED_TIMES {
        let assignment = shard.assignment(job);
        let handed = tokio::select! {
            handed = offers.hand_over(assignment.clone()) => handed,
            () = shard.stopped() => return Err(JobError::Stopped),
        };
        let (reason, outcome) = match handed {
            Handed::Nobody => return Ok(None),
            Handed::Lost => ("it was not heard of any more".to_owned(), "lost"),
            Handed::Failed(reason) => (reason, "failed"),
            Handed::Done(layers) => match checked(shard, &assignment, &layers).await {
                Ok(()) => {
                    ended("compactor", "done");
                    return Ok(Some(layers));
                }
                Err(reason) => (reason, "refused"),
            },
        };
        ended("compactor", outcome);
        tracing::warn!(lease = %assignment.lease, %reason, outcome, "a compactor did not do its job");
        // Whatever it has written, and may go on to write, nobody will ever name.
        shard.note_stray_names(&assignment);
        if outcome != "lost" {
            break;
        }
    }
    Ok(None)
}

/// Whether layers are what the job was to make, their objects what they are said to be, and some of their pages right.
async fn checked(shard: &Shard, assignment: &Assignment, layers: &[LayerDescriptor]) -> Result<(), String> {
    check(assignment, layers)?;
    let stored = shard.reader.uncached();
    for layer in layers {
        stored.index(layer).await.map_err(|error| error.to_string())?;
    }
    let first = assignment.lease.first_name;
    let seed = first.sequence ^ first.generation.0.rotate_left(32);
    compare_samples(&shard.reader, shard.config.branch, &assignment.job, layers, seed).await
}
