//! What to rewrite and what to drop. Pure functions of the manifest.

use std::collections::{BTreeMap, HashSet};

use storage::layer::{LayerDescriptor, LayerKind, LayerName};
use storage::manifest::Manifest;
use storage::{BranchId, Lsn};

use super::CompactionSettings;

/// See [`LayerDescriptor::id`].
pub type LayerId = (BranchId, LayerName);

/// What a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// One run of records out of several, which it replaces.
    Merge,
    /// An image run at the records' end. It replaces nothing: history stays until it is dropped.
    Image,
}

/// A rewrite to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Records or images.
    pub kind: JobKind,
    /// Runs of records, oldest first, each sorted by page.
    pub runs: Vec<Vec<LayerDescriptor>>,
    /// For [`JobKind::Image`]: the image run before the records, if there is one.
    pub base: Vec<LayerDescriptor>,
    /// The records lie above this.
    pub start_lsn: Lsn,
    /// The records lie at or below this.
    pub end_lsn: Lsn,
}

impl Job {
    /// Layers that the result replaces.
    pub fn replaced(&self) -> HashSet<LayerId> {
        match self.kind {
            JobKind::Merge => self.runs.iter().flatten().map(LayerDescriptor::id).collect(),
            JobKind::Image => HashSet::new(),
        }
    }
}

/// What can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// No LSN below this can be asked for afterwards.
    pub horizon: Lsn,
    /// Layers that only answered for LSNs below it.
    pub layers: HashSet<LayerId>,
}

/// Runs of records of the level `matches` above the newest image run, oldest first, and that run's LSN.
fn runs(manifest: &Manifest, matches: impl Fn(u8) -> bool) -> (Option<Lsn>, Vec<Vec<LayerDescriptor>>) {
    let newest_image = newest_image(manifest, Lsn::MAX);
    let mut runs: BTreeMap<(Lsn, Lsn), Vec<LayerDescriptor>> = BTreeMap::new();
    for layer in &manifest.layers {
        let above = newest_image.is_none_or(|image| layer.visible_lsn > image);
        if layer.kind == LayerKind::Delta && above && matches(layer.level) {
            runs.entry((layer.start_lsn, layer.visible_lsn)).or_default().push(layer.clone());
        }
    }
    let mut runs: Vec<_> = runs.into_values().collect();
    runs.iter_mut().for_each(|run| run.sort_by_key(|layer| layer.first_page));
    (newest_image, runs)
}

fn newest_image(manifest: &Manifest, up_to: Lsn) -> Option<Lsn> {
    let images = manifest.layers.iter().filter(|layer| layer.kind == LayerKind::Image && layer.end_lsn <= up_to);
    images.map(|layer| layer.end_lsn).max()
}

/// Runs that a read of the newest LSN may touch, besides one image layer.
pub fn depth(manifest: &Manifest) -> usize {
    runs(manifest, |_| true).1.len()
}

fn merge(runs: Vec<Vec<LayerDescriptor>>) -> Option<Job> {
    let (first, last) = (runs.first()?.first()?, runs.last()?.first()?);
    let (start_lsn, end_lsn) = (first.start_lsn, last.visible_lsn);
    Some(Job { kind: JobKind::Merge, base: Vec::new(), start_lsn, end_lsn, runs })
}

/// Flushed runs to be merged.
pub fn plan_merge(manifest: &Manifest, settings: &CompactionSettings) -> Option<Job> {
    let (_, runs) = runs(manifest, |level| level == 0);
    (runs.len() >= settings.merge_trigger).then(|| merge(runs)).flatten()
}

/// Merged runs to be turned into images, or merged once more where images would cost too much.
pub fn plan_images(manifest: &Manifest, settings: &CompactionSettings) -> Option<Job> {
    let (image_lsn, runs) = runs(manifest, |level| level > 0);
    if runs.len() < settings.run_trigger {
        return None;
    }
    let bytes = |layers: &[LayerDescriptor]| layers.iter().map(|layer| layer.size_bytes).sum::<u64>();
    let of_image = |layer: &&LayerDescriptor| layer.kind == LayerKind::Image && Some(layer.end_lsn) == image_lsn;
    let mut base: Vec<_> = manifest.layers.iter().filter(of_image).cloned().collect();
    base.sort_by_key(|layer| layer.first_page);
    let record_bytes: u64 = runs.iter().map(|run| bytes(run)).sum();
    if record_bytes.saturating_mul(settings.image_ratio) < bytes(&base) {
        return merge(runs);
    }
    let (first, last) = (runs.first()?.first()?, runs.last()?.first()?);
    let (start_lsn, end_lsn) = (first.start_lsn, last.visible_lsn);
    Some(Job { kind: JobKind::Image, base, start_lsn, end_lsn, runs })
}

/// History below the newest image run that is as old as the retention allows.
pub fn plan_garbage(manifest: &Manifest, settings: &CompactionSettings) -> Option<Garbage> {
    let keep_from = Lsn(manifest.durable_lsn.0.saturating_sub(settings.retention_bytes));
    let horizon = newest_image(manifest, keep_from)?;
    let gone = |layer: &&LayerDescriptor| match layer.kind {
        LayerKind::Image => layer.end_lsn < horizon,
        LayerKind::Delta => layer.visible_lsn <= horizon,
    };
    let layers: HashSet<_> = manifest.layers.iter().filter(gone).map(LayerDescriptor::id).collect();
    (!layers.is_empty()).then_some(Garbage { horizon, layers })
}
