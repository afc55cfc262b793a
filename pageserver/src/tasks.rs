//! The background work of a shard: reading the log, writing buffers as layers, rewriting layers, deleting garbage.
//! Every task repeats what failed after a pause, and ends when the server stops or the shard is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use logstore::client::{LogClient, LogError};
use storage::layer::LayerName;
use storage::manifest::Manifest;
use storage::{BranchId, Lsn, PageNo, ShardId};
use tokio::time::Instant;

use crate::buffer::{BufferedRecord, RecordBuffer};
use crate::client::GetPage;
use crate::compaction::{Job, JobError, LayerId, depth, plan_garbage, plan_images, plan_merge, run_job, write_buffer};
use crate::decode::LogDecoder;
use crate::metrics as names;
use crate::replay::image_record;
use crate::shard::{Shard, layer_bytes};

/// How often the age of the open buffer is looked at.
const AGE_CHECK: Duration = Duration::from_millis(500);
/// Reads that still use replaced layers get this long before the layers are deleted; later ones begin anew.
const DELETE_DELAY: Duration = Duration::from_secs(5);

/// Work that failed, for the log line and the pause before the next trial.
async fn after_failure(shard: &Shard, work: &'static str, error: &(dyn std::fmt::Display + Sync)) {
    tracing::warn!(branch = %shard.config.branch, work, %error, "background work failed; trying again");
    metrics::counter!(names::BACKGROUND_FAILURES, "work" => work).increment(1);
    shard.pause(shard.config.retry_pause).await;
}

/// Reads the log into the open buffer.
pub(crate) async fn ingest(shard: Arc<Shard>, log: Arc<dyn LogClient>) {
    while !shard.stopping() {
        let outcome = tokio::select! {
            outcome = ingest_stream(&shard, log.as_ref()) => outcome,
            () = shard.stopped() => return,
        };
        match outcome {
            Ok(()) => {}
            Err(reason) => after_failure(&shard, "ingest", &reason).await,
        }
    }
}

/// Reads one stream to its end: for ever, or up to where a descendant leaves it.
async fn ingest_stream(shard: &Shard, log: &dyn LogClient) -> Result<(), String> {
    let from_lsn = shard.ingested();
    let (stream, until) = shard.config.lineage.stream_at(from_lsn);
    let mut decoder = LogDecoder::new(from_lsn);
    let mut chunks = match log.subscribe(stream, from_lsn).await {
        Err(error @ LogError::Trimmed { .. }) => {
            shard.set_stranded();
            return Err(error.to_string());
        }
        subscribed => subscribed.map_err(|error| error.to_string())?,
    };
    let mut age_check = tokio::time::interval(AGE_CHECK);
    let mut opened = Instant::now();
    loop {
        tokio::select! {
            chunk = chunks.next() => {
                let Some(chunk) = chunk else { return Err("the log ended its stream".to_owned()) };
                let chunk = chunk.map_err(|error| error.to_string())?;
                let chunk_end = chunk.start_lsn.advance(chunk.bytes.len() as u64);
                decoder.feed(chunk).map_err(|error| error.to_string())?;
                while let Some(batch) = decoder.next_batch(|page| shard.holds(page)) {
                    let batch = batch.map_err(|error| error.to_string())?;
                    if until.is_some_and(|until| batch.end_lsn > until) {
                        break;
                    }
                    let held_bytes = shard.insert(batch);
                    if held_bytes >= shard.config.buffer_bytes {
                        shard.freeze();
                        opened = Instant::now();
                        wait_for_room(shard).await;
                    }
                }
                if let Some(until) = until.filter(|until| chunk_end >= *until) {
                    shard.advance(until);
                    return Ok(());
                }
                metrics::gauge!(names::INGESTED_LSN, shard.labels()).set(shard.ingested().0 as f64);
            }
            _ = age_check.tick() => {
                let view = shard.view();
                let held_bytes = view.open().bytes() + view.frozen_bytes();
                metrics::gauge!(names::BUFFER_BYTES, shard.labels()).set(held_bytes as f64);
                if view.open().end_lsn() == view.open().start_lsn() {
                    opened = Instant::now();
                } else if opened.elapsed() >= shard.config.buffer_age && view.oldest_frozen().is_none() {
                    shard.freeze();
                    opened = Instant::now();
                }
            }
        }
    }
}

/// Memory is bounded here: while frozen buffers wait to be written, the log is not read.
async fn wait_for_room(shard: &Shard) {
    while shard.view().frozen_bytes() > shard.config.frozen_bytes {
        tokio::select! {
            () = shard.room.notified() => {}
            // The flusher listens too, and a notice wakes one.
            () = shard.pause(AGE_CHECK) => {}
        }
        if shard.stopping() {
            return;
        }
    }
}

/// Writes frozen buffers as layers, oldest first, and tells the log what it need not keep.
pub(crate) async fn flush(shard: Arc<Shard>, log: Arc<dyn LogClient>) {
    loop {
        let Some(buffer) = shard.view().oldest_frozen().cloned() else {
            // What was frozen before the stop is still written.
            if shard.stopping() {
                return;
            }
            tokio::select! {
                () = shard.frozen.notified() => {}
                () = shard.stopped() => {}
            }
            continue;
        };
        if shard.is_lost() {
            return;
        }
        if !shard.stopping() && depth(&shard.manifest().await) >= shard.config.compaction.max_depth {
            tokio::select! {
                () = shard.room.notified() => {}
                () = shard.pause(shard.config.retry_pause) => {}
            }
            continue;
        }
        let images = hot_images(&shard, &buffer).await;
        let written = shard.with_job_context(true, async |context| write_buffer(context, &buffer, &images).await).await;
        let layers = match written {
            Ok(layers) => layers,
            Err(JobError::Stopped) => return,
            Err(_) if shard.stopping() => return,
            Err(error) => {
                after_failure(&shard, "flush", &error).await;
                continue;
            }
        };
        metrics::counter!(names::WRITTEN_BYTES, "work" => "flush").increment(layer_bytes(&layers));
        let durable_lsn = buffer.end_lsn();
        let change = |manifest: &mut Manifest| {
            manifest.layers.extend(layers);
            manifest.durable_lsn = durable_lsn;
            manifest.add_marks(buffer.marks());
        };
        if shard.update_manifest(change).await.is_err() {
            return;
        }
        report(&shard, log.as_ref(), durable_lsn).await;
    }
}

/// Images of pages with many records: without them, reading such a page would mean to read all of these, in every layer
/// since the last image run.
async fn hot_images(shard: &Shard, buffer: &RecordBuffer) -> HashMap<PageNo, BufferedRecord> {
    let mut images = HashMap::new();
    let at = buffer.end_lsn();
    for page in buffer.hot_pages(shard.config.compaction.hot_page_records) {
        // What cannot be read now is only slower to read later.
        let Ok(image) = shard.get_page_untimed(GetPage { page, at, not_modified_since: at }).await else { continue };
        if let Some(record) = image_record(shard.config.branch, page, &image.bytes) {
            images.insert(page, (image.page_lsn, record));
        }
    }
    images
}

/// Tells the log what it need not keep for us.
pub(crate) async fn report(shard: &Shard, log: &dyn LogClient, durable_lsn: Lsn) {
    // Repeated with the next flush anyway: until then the log keeps more than it has to.
    if let Err(error) = try_report(shard, log, durable_lsn).await {
        tracing::warn!(branch = %shard.config.branch, %error, "progress not reported to the log");
    }
}

/// Name of a shard as a consumer of a log: its own branch's, or an ancestor's.
pub(crate) fn consumer_name(stream: BranchId, branch: BranchId, shard: ShardId) -> String {
    if stream == branch { format!("pageserver/{shard}") } else { format!("pageserver/{branch}/{shard}") }
}

async fn try_report(shard: &Shard, log: &dyn LogClient, durable_lsn: Lsn) -> Result<(), LogError> {
    let config = &shard.config;
    let (stream, _) = config.lineage.stream_at(durable_lsn);
    if stream == config.branch && !shard.registered.load(Ordering::Relaxed) {
        // A log is trimmed below what all its consumers hold: siblings that were never served count as holding nothing.
        // Without this, what they still need would be trimmed.
        for sibling in config.layout.ids().filter(|sibling| *sibling != config.shard) {
            log.report_consumer(stream, &consumer_name(stream, stream, sibling), Lsn::ZERO).await?;
        }
        for (ancestor, _) in config.lineage.ancestors() {
            let name = consumer_name(*ancestor, config.branch, config.shard);
            log.report_consumer(*ancestor, &name, Lsn::MAX).await?;
        }
        // A branch without a log does not remember its consumers.
        shard.registered.store(durable_lsn > Lsn::ZERO, Ordering::Relaxed);
    }
    log.report_consumer(stream, &consumer_name(stream, config.branch, config.shard), durable_lsn).await
}

/// Which rewrite a compactor looks for. Merges of flushed layers must not wait behind long rewrites to images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compactor {
    /// Flushed layers into runs.
    Merges,
    /// Runs into images; then garbage.
    Images,
}

/// Rewrites layers whenever there is something to gain.
pub(crate) async fn compact(shard: Arc<Shard>, compactor: Compactor) {
    let settings = shard.config.compaction;
    while !shard.stopping() && !shard.is_lost() {
        let manifest = shard.manifest().await;
        let job = match compactor {
            Compactor::Merges => plan_merge(&manifest, &settings),
            Compactor::Images => plan_images(&manifest, &settings),
        };
        let failed = match job {
            Some(job) => compact_once(&shard, &job).await,
            None if compactor == Compactor::Images && plan_garbage(&manifest, &settings).is_some() => {
                if !drop_history(&shard).await {
                    shard.pause(DELETE_DELAY).await;
                }
                Ok(())
            }
            None => {
                tokio::select! {
                    () = shard.layers_changed.notified() => {}
                    // Both compactors listen, and a notice wakes one.
                    () = shard.pause(AGE_CHECK) => {}
                }
                Ok(())
            }
        };
        match failed {
            Ok(()) | Err(JobError::Stopped) => {}
            Err(error) => after_failure(&shard, "compaction", &error).await,
        }
    }
}

async fn compact_once(shard: &Arc<Shard>, job: &Job) -> Result<(), JobError> {
    // Rewriting is mostly computation: on a thread of its own it leaves the runtime's to readers.
    let (runtime, owned, rewrite) = (tokio::runtime::Handle::current(), shard.clone(), job.clone());
    let work =
        move || runtime.block_on(owned.with_job_context(false, async |context| run_job(context, &rewrite).await));
    let layers = match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome?,
        Err(error) if error.is_panic() => return Err(JobError::Panicked(error.to_string())),
        Err(_) => return Err(JobError::Stopped),
    };
    metrics::counter!(names::WRITTEN_BYTES, "work" => "compaction").increment(layer_bytes(&layers));
    let replaced = job.replaced();
    let change = |manifest: &mut Manifest| {
        discard(manifest, &replaced);
        manifest.layers.extend(layers);
    };
    shard.update_manifest(change).await.map(|_| ()).map_err(|_| JobError::Stopped)
}

/// Takes layers off the manifest. Those of an ancestor are the ancestor's to delete.
fn discard(manifest: &mut Manifest, gone: &HashSet<LayerId>) {
    manifest.layers.retain(|layer| !gone.contains(&layer.id()));
    let own = gone.iter().filter(|(branch, _)| *branch == manifest.branch);
    manifest.garbage.extend(own.map(|(_, name)| *name));
}

/// Layers of this shard that other branches need; `None` while that is not known.
async fn needed_elsewhere(shard: &Shard) -> Option<HashSet<LayerName>> {
    match &shard.config.descendants {
        Some(descendants) => descendants.named(shard.config.branch, shard.config.shard).await,
        None => Some(HashSet::new()),
    }
}

/// False while a branch may still be going to begin with what would be dropped.
async fn drop_history(shard: &Shard) -> bool {
    if needed_elsewhere(shard).await.is_none() {
        return false;
    }
    let settings = shard.config.compaction;
    let change = |manifest: &mut Manifest| {
        // Planned anew: flushes went on meanwhile.
        if let Some(garbage) = plan_garbage(manifest, &settings) {
            discard(manifest, &garbage.layers);
            manifest.horizon = garbage.horizon;
            manifest.marks.retain(|mark| mark.lsn >= garbage.horizon);
        }
    };
    // A lost shard ends the task by itself.
    let _ = shard.update_manifest(change).await;
    true
}

/// Deletes what the manifest calls garbage, then takes it off the manifest; at first also what earlier owners wrote and
/// no manifest ever named.
pub(crate) async fn delete_garbage(shard: Arc<Shard>) {
    if let Err(error) = delete_strays(&shard).await {
        // Costs space until the next start.
        tracing::warn!(branch = %shard.config.branch, %error, "leftovers of earlier owners not deleted");
    }
    while !shard.stopping() && !shard.is_lost() {
        let garbage = shard.manifest().await.garbage;
        shard.pause(DELETE_DELAY).await;
        if garbage.is_empty() || shard.stopping() || shard.is_lost() {
            continue;
        }
        // What is garbage here was so before these were asked for: no branch made since can have inherited it.
        let Some(needed) = needed_elsewhere(&shard).await else { continue };
        let mut deleted = HashSet::new();
        for name in garbage.into_iter().filter(|name| !needed.contains(name)) {
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
/// owner's next change to the manifest would fail.
async fn delete_strays(shard: &Shard) -> Result<(), storage::object::ObjectError> {
    let manifest = shard.manifest().await;
    let own = manifest.layers.iter().filter(|layer| layer.branch == manifest.branch).map(|layer| layer.name);
    let named: HashSet<_> = own.chain(manifest.garbage).collect();
    for key in shard.store.list(&shard.layers_prefix()).await? {
        let name = key.rsplit('/').next().and_then(LayerName::parse);
        let Some(name) = name.filter(|name| shard.is_from_earlier_owner(*name) && !named.contains(name)) else {
            continue;
        };
        if shard.stopping() || shard.is_lost() {
            return Ok(());
        }
        shard.store.delete(&shard.layer_key(name)).await?;
    }
    Ok(())
}
