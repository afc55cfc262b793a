//! Whether what a worker hands back is what the job was to make. Pure.
//!
//! How many records a merge leaves out below its floors only its worker knows: a worker runs this program and is trusted to have
//! done its work. What is checked is that its layers take the place of those that they replace, and no other's.

use storage::layer::{LayerDescriptor, LayerKind};

use super::Assignment;
use crate::compaction::JobKind;

/// Says what is wrong, if anything is. Whether the objects are what their descriptors say, their footers tell.
pub fn check(assignment: &Assignment, layers: &[LayerDescriptor]) -> Result<(), String> {
    let (job, lease) = (&assignment.job, assignment.lease);
    let (kind, lsns) = match job.kind {
        JobKind::Merge => (LayerKind::Delta, (job.start_lsn, job.end_lsn)),
        JobKind::Image => (LayerKind::Image, (job.end_lsn, job.end_lsn)),
    };
    let mut names = std::collections::HashSet::new();
    // First page that no layer has spoken for; none after the last page.
    let mut next = Some(*job.pages.start());
    for layer in layers {
        let name = layer.name;
        if !assignment.owns(name) || !names.insert(name) {
            return Err(format!("layer {name} is not named by lease {lease}, or twice"));
        }
        if (layer.branch, layer.shard, layer.kind, layer.level) != (lease.branch, lease.shard, kind, job.level) {
            return Err(format!("layer {name} belongs elsewhere: {layer:?}"));
        }
        if (layer.start_lsn, layer.end_lsn) != lsns || layer.visible_lsn != layer.end_lsn {
            return Err(format!("layer {name} is not of {lsns:?}: {layer:?}"));
        }
        if layer.first_page > layer.last_page || next.is_none_or(|next| layer.first_page < next) {
            return Err(format!("layer {name} overlaps another one: {layer:?}"));
        }
        if kind == LayerKind::Image && next != Some(layer.first_page) {
            return Err(format!("there is a gap before image {name}: {layer:?}"));
        }
        next = layer.last_page.0.checked_add(1).map(storage::PageNo);
    }
    let last = layers.last().map(|layer| layer.last_page);
    if last.is_some_and(|last| last > *job.pages.end()) {
        return Err(format!("the layers end at {last:?}, the job's pages at {}", job.pages.end()));
    }
    if kind == LayerKind::Image && last != Some(*job.pages.end()) {
        return Err(format!("the images end at {last:?}, the job's pages at {}", job.pages.end()));
    }
    let entries = |layers: &mut dyn Iterator<Item = &LayerDescriptor>| layers.map(|layer| layer.entries).sum::<u64>();
    let (read, made) = (entries(&mut job.runs.iter().flatten()), entries(&mut layers.iter()));
    if kind == LayerKind::Delta && made > read {
        return Err(format!("{made} records came out of {read}"));
    }
    // Nothing may be left out of a merge that has no floors, whose layers are seen as a whole and hold no other shard's pages:
    // with several shards, layers from before a split may.
    let whole = |layer: &LayerDescriptor| layer.visible_lsn == layer.end_lsn;
    let all = job.floors.is_empty() && job.holds.1.shards() == 1 && job.runs.iter().flatten().all(whole);
    if kind == LayerKind::Delta && all && made != read {
        return Err(format!("of {read} records {made} are left, and none was to be left out"));
    }
    Ok(())
}
