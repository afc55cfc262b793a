//! Whether what a worker hands back is what the job was to make. Pure.
//!
//! Checked for every job, here: the layers take the place of those that they replace and no other's; a merge has no more records
//! than came in, and no fewer than must be kept: all of every layer whose records lie above the floors, which is most layers in
//! most merges. Checked by the owner besides, before it changes the manifest: that the objects are there, with the footers and indexes
//! that their descriptors tell, and that a few pages, read anew from the job's layers and from the new ones, are the same to the byte
//! ([`crate::compaction::compare_samples`]). So a rewrite that stopped early, lost a layer, or went wrong in general is found.
//!
//! Still trusted: pages that were not sampled, and how many records below floors, or of pages that a split has given to another
//! shard, a merge leaves out. A worker runs this program; one that means to deceive, page by page, is not kept from it. The
//! scrubber later replays every page and finds records that do not fit each other.

use storage::layer::{LayerDescriptor, LayerKind};

use super::Assignment;
use crate::compaction::{Floor, JobKind};

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
    // Nothing may be left out of a layer that lies above the floors, is seen as a whole and holds no other shard's pages: with several
    // shards, layers from before a split may.
    let above_floors = |layer: &LayerDescriptor| {
        let below = |floor: &Floor| floor.lsn <= layer.start_lsn || !layer.overlaps(floor.first_page, floor.last_page);
        layer.visible_lsn == layer.end_lsn && job.holds.1.shards() == 1 && job.floors.iter().all(below)
    };
    let least = entries(&mut job.runs.iter().flatten().filter(|layer| above_floors(layer)));
    if kind == LayerKind::Delta && made < least {
        return Err(format!("of {read} records {made} are left, and {least} were not to be left out"));
    }
    Ok(())
}
