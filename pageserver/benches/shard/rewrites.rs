//! Rewrites alone: what merging layers of level 0, and making images of them, cost. The same work each time, whatever else the
//! machine does: the figures to compare two programs by.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pageserver::compaction::{Job, JobContext, image_job, plan_merge, run_job, tile_loads};
use storage::Generation;
use storage::layer::{LayerCache, LayerDescriptor, LayerName, LayerReader};
use storage::manifest::Manifest;

use super::meters::cpu_seconds;
use super::{MIB, config, open};

fn bytes_of<'a>(layers: impl IntoIterator<Item = &'a LayerDescriptor>) -> f64 {
    layers.into_iter().map(|layer| layer.size_bytes).sum::<u64>() as f64 / MIB
}

/// Of what a server has left that rewrote nothing: all runs into one; images of what was there half way; from these and the records
/// after them, images of the end.
pub async fn run(directory: &Path, manifest: Manifest) {
    let store = open(directory);
    let reader = LayerReader::new(store.clone(), LayerCache::new(0, 64 << 20));
    let next = AtomicU64::new(0);
    // Of no owner that there ever was.
    let next_name =
        || LayerName { generation: Generation(u64::from(u32::MAX)), sequence: next.fetch_add(1, Ordering::Relaxed) };
    let mut settings = config().compaction;
    settings.run_places = 1;
    let context = JobContext {
        store: &store,
        reader: &reader,
        branch: manifest.branch,
        shard: manifest.shard,
        layer_target_bytes: settings.layer_target_bytes,
        next_name: &next_name,
        stopped: &|| false,
    };
    let middle = manifest.layers[manifest.layers.len() / 2].end_lsn;
    let mut half = manifest.clone();
    half.layers.retain(|layer| layer.end_lsn <= middle);
    half.durable_lsn = middle;
    let images = async |manifest: &Manifest| {
        let loads = tile_loads(&reader, manifest).await.expect("readable");
        image_job(manifest, loads.into_iter().map(|load| load.tile).collect()).expect("there are tiles")
    };
    let measured = async |what: &str, job: Job| {
        let (read, began) = (bytes_of(job.runs.iter().flatten()), cpu_seconds());
        let made = run_job(&context, &job).await.expect("done");
        let spent = cpu_seconds() - began;
        let entries: u64 = made.iter().map(|layer| layer.entries).sum();
        let written = bytes_of(&made);
        println!(
            "{what}: {read:.0} MiB of records, {written:.0} MiB with {entries} entries made of them, {spent:.2} CPU s"
        );
        println!("  {:.0} MiB of records a CPU second", read / spent);
        made
    };
    let merge = plan_merge(&manifest, &settings, &HashSet::new()).expect("there are runs");
    measured("merge of all runs", merge).await;
    let made = measured("images of nothing but records", images(&half).await).await;
    let mut manifest = manifest;
    manifest.layers.extend(made);
    measured("images of images and records", images(&manifest).await).await;
}
