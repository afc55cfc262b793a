//! Checking a whole shard: that its objects are what was written, and that every page can be made of them.
//!
//! 1. Each layer is read from the object store, past all caches: index and blocks by their checksums, entries by their order,
//!    range and number, images by their own checksum and structure, records by decoding them.
//! 2. Each page is made of its image and records, as a rewrite would, and compared with what a reader is answered.
//!
//! Damage in a cache on local disk mends itself when it is met ([`storage::layer`]). Damage in the object store has no second
//! copy here: it is told, with the object's name, and reads of what is damaged fail with XX001.

use std::time::Duration;

use storage::layer::{LayerDescriptor, LayerError, LayerKind};
use storage::object::ObjectError;
use storage::page::Page;
use storage::record::Record;
use storage::{Lsn, PageNo};

use crate::client::{GetPage, PageError, Priority};
use crate::compaction::{ALL_PAGES, JobError, LayerId, MadePages, Tiling, image_job};
use crate::metrics as names;
use crate::shard::Shard;

/// Damages that a report lists; more are only counted.
const MAX_LISTED: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Layers read.
    pub layers: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Pages made and compared.
    pub pages: u64,
    /// Damages found.
    pub damages: u64,
    /// What is damaged, for people; the first hundred.
    pub damaged: Vec<String>,
}

impl ScrubReport {
    fn note(&mut self, damage: String) {
        metrics::counter!(names::SCRUB_DAMAGES).increment(1);
        tracing::error!(damage, "the scrubber found damage");
        self.damages += 1;
        if self.damaged.len() < MAX_LISTED {
            self.damaged.push(damage);
        }
    }

    /// Of this shard and another's together.
    pub fn add(&mut self, other: ScrubReport) {
        self.layers += other.layers;
        self.bytes += other.bytes;
        self.pages += other.pages;
        self.damages += other.damages;
        self.damaged.extend(other.damaged);
        self.damaged.truncate(MAX_LISTED);
    }
}

/// Checks the shard. At most so many bytes a second are read from the object store. An error means that the check could not
/// be finished, not that anything is damaged.
pub(crate) async fn scrub(shard: &Shard, bytes_per_second: u64) -> Result<ScrubReport, PageError> {
    let mut report = ScrubReport::default();
    for layer in shard.manifest().await.layers {
        let in_use = shard.use_layers([layer.id()].into_iter(), false);
        match check_layer(shard, &layer).await {
            Ok(()) => {}
            // Replaced and deleted since the manifest was read.
            Err(LayerError::Object(ObjectError::NotFound { .. })) if !is_named(shard, layer.id()).await => {}
            Err(LayerError::Object(error @ ObjectError::NotFound { .. })) => report.note(error.to_string()),
            Err(LayerError::Object(error)) => return Err(PageError::Unavailable { reason: error.to_string() }),
            Err(error) => report.note(error.to_string()),
        }
        drop(in_use);
        report.layers += 1;
        report.bytes += layer.size_bytes;
        pace(shard, layer.size_bytes, bytes_per_second).await?;
    }
    let mut next_page = Some(PageNo(0));
    while let Some(first_page) = next_page {
        next_page = check_tile(shard, first_page, bytes_per_second, &mut report).await?;
    }
    Ok(report)
}

async fn is_named(shard: &Shard, layer: LayerId) -> bool {
    shard.manifest().await.layers.iter().any(|named| named.id() == layer)
}

/// Waits as long as reading so much may take.
async fn pace(shard: &Shard, bytes: u64, bytes_per_second: u64) -> Result<(), PageError> {
    metrics::counter!(names::SCRUBBED_BYTES).increment(bytes);
    shard.pause(Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)).await;
    if shard.stopping() || shard.is_lost() {
        return Err(PageError::Unavailable { reason: "the shard is no longer served here".to_owned() });
    }
    Ok(())
}

/// One layer by itself.
async fn check_layer(shard: &Shard, layer: &LayerDescriptor) -> Result<(), LayerError> {
    let reader = shard.reader.uncached();
    let damaged = |reason: String| LayerError::Damaged {
        name: layer.name,
        reason: format!("{reason}; it is object {}", layer.key()),
    };
    let mut scan = reader.scan(layer, ALL_PAGES).await?;
    let (mut entries, mut last) = (0, None);
    loop {
        scan.advance().await?;
        let Some((page, lsn, bytes)) = scan.head() else { break };
        entries += 1;
        let in_order = last.is_none_or(|last| match layer.kind {
            LayerKind::Delta => last <= (page, lsn),
            LayerKind::Image => last < (page, Lsn::ZERO),
        });
        last = Some((page, lsn));
        let in_range = layer.covers(page) && lsn <= layer.end_lsn;
        if !in_order || !in_range || (layer.kind == LayerKind::Delta && lsn <= layer.start_lsn) {
            return Err(damaged(format!("page {page} at {lsn} is out of place")));
        }
        match layer.kind {
            LayerKind::Image => {
                let image = Page::open(bytes, layer.branch, page).map_err(|damage| damaged(damage.to_string()))?;
                if image.lsn() != lsn {
                    return Err(damaged(format!("page {page} has LSN {}, its entry {lsn}", image.lsn())));
                }
            }
            LayerKind::Delta => {
                let record = Record::decode_exact(bytes).map_err(|error| damaged(error.to_string()))?;
                if record.page != page {
                    return Err(damaged(format!("a record of page {} stands at page {page}", record.page)));
                }
            }
        }
    }
    // What an ancestor wrote after the branch point is not seen here.
    if layer.visible_lsn == layer.end_lsn && entries != layer.entries {
        return Err(damaged(format!("{entries} entries instead of {}", layer.entries)));
    }
    Ok(())
}

/// The pages of the tile that `first_page` lies in, from there on. Returns where the next one begins.
async fn check_tile(
    shard: &Shard,
    first_page: PageNo,
    bytes_per_second: u64,
    report: &mut ScrubReport,
) -> Result<Option<PageNo>, PageError> {
    let manifest = shard.manifest().await;
    let tiling = Tiling::new(&manifest.layers, Lsn::MAX);
    let Some(tile) = tiling.overlapping(first_page, first_page).first() else { return Ok(None) };
    let next_page = tile.last_page.0.checked_add(1).map(PageNo);
    let Some(job) = image_job(&manifest, vec![tile.clone()]) else { return Ok(next_page) };
    let in_use = shard.use_layers(job.reads(), false);
    let at = job.end_lsn;
    let outcome: Result<(), JobError> = async {
        let mut pages = MadePages::new(&shard.reader, shard.config.branch, &job).await?;
        while let Some((page, lsn, bytes)) = pages.next().await? {
            report.pages += 1;
            if let Err(damage) = Page::open(&bytes, shard.config.branch, page) {
                report.note(format!("page {page} at {lsn}: {damage}"));
            }
            let request = GetPage { page, at, not_modified_since: at, priority: Priority::Background };
            match shard.own_page(request).await {
                Ok(answer) if answer.bytes == bytes && answer.page_lsn == lsn => {}
                Ok(answer) => {
                    let found = answer.page_lsn;
                    report.note(format!("page {page} as of {at}: readers are given {found}, its records make {lsn}"));
                }
                // History has been dropped meanwhile, or the store is away: nothing is known of this page.
                Err(error) if error.is_transient() || matches!(error, PageError::BelowHorizon { .. }) => {}
                Err(error) => report.note(error.to_string()),
            }
        }
        Ok(())
    }
    .await;
    drop(in_use);
    match outcome {
        Ok(()) => {}
        Err(JobError::Layer(LayerError::Object(error))) => {
            return Err(PageError::Unavailable { reason: error.to_string() });
        }
        Err(error) => report.note(format!("pages {}..={}: {error}", tile.first_page, tile.last_page)),
    }
    let bytes = job.runs.iter().flatten().map(|layer| layer.size_bytes).sum::<u64>();
    pace(shard, bytes, bytes_per_second).await?;
    Ok(next_page)
}
