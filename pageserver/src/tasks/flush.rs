//! Writing what is in memory, or was set aside on local disk, as layers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logstore::client::{LogClient, LogError};
use storage::layer::LayerDescriptor;
use storage::manifest::{Manifest, TimeMark};
use storage::{BranchId, Lsn, PageNo, ShardId};

use super::after_failure;
use crate::buffer::{BufferedRecord, RecordBuffer, RecordCopy};
use crate::compaction::{ALL_PAGES, Job, JobError, JobKind, depth, run_job, write_buffer};
use crate::metrics as names;
use crate::replay::image_record;
use crate::shard::{Shard, layer_bytes};
use crate::spill::{SpilledBuffer, is_gone};

/// Buffers set aside that become one run: one after another, they would wait for as many merges.
const SPILLED_TOGETHER: usize = 8;

/// What is to become a run next.
enum Oldest {
    Spilled(Vec<Arc<SpilledBuffer>>),
    Frozen(Arc<RecordBuffer>),
}

impl Oldest {
    fn of(shard: &Shard) -> Option<Oldest> {
        let view = shard.view();
        // While it is only tried whether the object store is back, little is done in vain.
        let together = if shard.store_fails() { 1 } else { SPILLED_TOGETHER };
        match view.spilled() {
            [] => view.oldest_frozen().cloned().map(Oldest::Frozen),
            spilled => Some(Oldest::Spilled(spilled.iter().take(together).cloned().collect())),
        }
    }

    async fn write(&self, shard: &Shard) -> Result<Vec<LayerDescriptor>, JobError> {
        // Also when the server stops: the next one then has less log to read.
        let (next_name, stopped) = (|| shard.next_name(), || shard.is_lost());
        match self {
            Oldest::Frozen(buffer) => {
                let images = hot_images(shard, buffer, None).await;
                let context = shard.job_context((&shard.reader, &shard.store), &next_name, &stopped);
                write_buffer(&context, buffer, &images).await
            }
            Oldest::Spilled(buffers) => {
                let Some(spill) = &shard.spill else { return Ok(Vec::new()) };
                // Made anew of the entries, not copied: what a local disk has damaged must not become durable.
                let job = upload(shard, buffers);
                run_job(&shard.job_context((&spill.reader, &shard.store), &next_name, &stopped), &job).await
            }
        }
    }

    fn end_lsn(&self) -> Lsn {
        match self {
            Oldest::Frozen(buffer) => buffer.end_lsn(),
            Oldest::Spilled(buffers) => buffers.last().map_or(Lsn::ZERO, |buffer| buffer.end_lsn()),
        }
    }

    fn marks(&self) -> Vec<TimeMark> {
        match self {
            Oldest::Frozen(buffer) => buffer.marks(),
            Oldest::Spilled(buffers) => buffers.iter().flat_map(|buffer| buffer.marks()).copied().collect(),
        }
    }
}

/// One run of buffers that follow each other.
fn upload(shard: &Shard, buffers: &[Arc<SpilledBuffer>]) -> Job {
    let layers = |buffer: &Arc<SpilledBuffer>| Some(buffer.layers().to_vec()).filter(|layers| !layers.is_empty());
    Job {
        kind: JobKind::Merge,
        pages: ALL_PAGES,
        runs: buffers.iter().filter_map(layers).collect(),
        base: Vec::new(),
        floors: Vec::new(),
        holds: (shard.config.shard, shard.config.layout),
        start_lsn: buffers.first().map_or(Lsn::ZERO, |buffer| buffer.start_lsn()),
        end_lsn: buffers.last().map_or(Lsn::ZERO, |buffer| buffer.end_lsn()),
        level: 0,
    }
}

/// Writes frozen buffers as layers, oldest first, and tells the log what it need not keep.
pub(crate) async fn flush(shard: Arc<Shard>, log: Arc<dyn LogClient>) {
    let mut changes = shard.watch_changes();
    loop {
        let Some(oldest) = Oldest::of(&shard) else {
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
            // Until a compaction makes room.
            tokio::select! {
                _ = changes.changed() => {}
                () = shard.stopped() => {}
            }
            continue;
        }
        let layers = match shard.in_time(oldest.write(&shard)).await {
            Ok(layers) => layers,
            Err(JobError::Stopped) => return,
            Err(error) if matches!(oldest, Oldest::Spilled(_)) && is_gone(&error) => return shard.lose_spill(&error),
            Err(_) if shard.stopping() => return,
            Err(error) => {
                shard.note_store_failure();
                after_failure(&shard, "flush", &error).await;
                continue;
            }
        };
        metrics::counter!(names::WRITTEN_BYTES, "work" => "flush").increment(layer_bytes(&layers));
        let (durable_lsn, marks) = (oldest.end_lsn(), oldest.marks());
        // Not to be held while the manifest cannot be written.
        drop(oldest);
        let change = |manifest: &mut Manifest| {
            manifest.layers.extend(layers);
            manifest.durable_lsn = durable_lsn;
            manifest.add_marks(marks);
        };
        if shard.update_manifest(change).await.is_err() {
            return;
        }
        report(&shard, log.as_ref(), durable_lsn).await;
    }
}

/// Images of pages with many records: without them, reading such a page would mean to read all of these, in every layer
/// since the last image run. What cannot be made, or not `within` a time, is only slower to read later.
pub(super) async fn hot_images(
    shard: &Shard,
    buffer: &RecordBuffer,
    within: Option<Duration>,
) -> HashMap<PageNo, BufferedRecord> {
    let mut images = HashMap::new();
    let make = async {
        let mut records = RecordCopy::default();
        for page in buffer.hot_pages(shard.config.compaction.hot_page_records) {
            buffer.copy_records(page, &mut records);
            let Some(image) = shard.page_after(page, buffer, &records).await else { continue };
            if let Some(record) = image_record(shard.config.branch, page, &image.bytes) {
                images.insert(page, (image.page_lsn, record));
            }
        }
    };
    match within {
        // What is made by then counts.
        Some(within) => tokio::time::timeout(within, make).await.unwrap_or(()),
        None => make.await,
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
        // A branch without a log does not remember its consumers: they are told again with the next report.
        shard.registered.store(config.lineage.has_own_log_before(durable_lsn), Ordering::Relaxed);
    }
    log.report_consumer(stream, &consumer_name(stream, config.branch, config.shard), durable_lsn).await
}
