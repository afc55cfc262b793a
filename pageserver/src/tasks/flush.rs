//! Writing what is in memory as layers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use logstore::client::{LogClient, LogError};
use storage::manifest::Manifest;
use storage::{BranchId, Lsn, PageNo, ShardId};

use super::after_failure;
use crate::buffer::{BufferedRecord, RecordBuffer, RecordCopy};
use crate::compaction::{JobError, depth, write_buffer};
use crate::metrics as names;
use crate::replay::image_record;
use crate::shard::{Shard, layer_bytes};

/// Writes frozen buffers as layers, oldest first, and tells the log what it need not keep.
pub(crate) async fn flush(shard: Arc<Shard>, log: Arc<dyn LogClient>) {
    let mut changes = shard.watch_changes();
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
            // Until a compaction makes room.
            tokio::select! {
                _ = changes.changed() => {}
                () = shard.stopped() => {}
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
    let mut records = RecordCopy::default();
    for page in buffer.hot_pages(shard.config.compaction.hot_page_records) {
        buffer.copy_records(page, &mut records);
        // What cannot be made now is only slower to read later.
        let Some(image) = shard.page_after(page, buffer, &records).await else { continue };
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
        // A branch without a log does not remember its consumers: they are told again with the next report.
        shard.registered.store(config.lineage.has_own_log_before(durable_lsn), Ordering::Relaxed);
    }
    log.report_consumer(stream, &consumer_name(stream, config.branch, config.shard), durable_lsn).await
}
