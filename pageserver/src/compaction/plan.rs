//! What to rewrite and what to drop. Pure functions of the manifest.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use storage::layer::{LayerDescriptor, LayerId, LayerKind};
use storage::layout::ShardLayout;
use storage::manifest::Manifest;
use storage::{Lsn, PageNo, ShardId};

use super::tiling::{Tile, Tiling};
use super::{CompactionSettings, Retention};

/// All pages.
pub const ALL_PAGES: RangeInclusive<PageNo> = PageNo(0)..=PageNo(u64::MAX);

/// What a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// One run of records out of several, which it replaces.
    Merge,
    /// Images at the records' end. They replace nothing: history stays until it is dropped.
    Image,
}

/// Records of some pages that are not needed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// First of the pages.
    pub first_page: PageNo,
    /// Last of the pages, inclusive.
    pub last_page: PageNo,
    /// Records at or below this are left out.
    pub lsn: Lsn,
}

/// A rewrite to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Records or images.
    pub kind: JobKind,
    /// The pages whose records are rewritten.
    pub pages: RangeInclusive<PageNo>,
    /// Runs of records, oldest first, each sorted by page.
    pub runs: Vec<Vec<LayerDescriptor>>,
    /// For [`JobKind::Image`]: the pages with their images before the records, sorted by page.
    pub base: Vec<Tile>,
    /// What is left out, sorted by page.
    pub floors: Vec<Floor>,
    /// The shard and how pages are distributed: what layers from before a split hold of other shards' pages is left out.
    pub holds: (ShardId, ShardLayout),
    /// The records lie above this.
    pub start_lsn: Lsn,
    /// The records lie at or below this.
    pub end_lsn: Lsn,
    /// Of the layers that are made.
    pub level: u8,
}

impl Job {
    /// Layers that the result replaces.
    pub fn replaced(&self) -> HashSet<LayerId> {
        match self.kind {
            JobKind::Merge => self.runs.iter().flatten().map(LayerDescriptor::id).collect(),
            JobKind::Image => HashSet::new(),
        }
    }

    /// Whether a page is of the shard.
    pub fn holds(&self, page: PageNo) -> bool {
        let (shard, layout) = self.holds;
        layout.shard_of(page) == shard
    }

    /// Layers that it reads.
    pub fn reads(&self) -> impl Iterator<Item = LayerId> {
        let images = self.base.iter().filter_map(|tile| tile.image.as_ref());
        self.runs.iter().flatten().chain(images).map(LayerDescriptor::id)
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

/// What reading a tile takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileLoad {
    /// The pages and their image.
    pub tile: Tile,
    /// Stored bytes of records above that, roughly.
    pub record_bytes: u64,
    /// Runs that these are in.
    pub runs: usize,
}

impl TileLoad {
    fn image_bytes(&self) -> u64 {
        self.tile.image.as_ref().map_or(0, |image| image.size_bytes)
    }
}

/// Runs of records that reading the newest state of some page takes, oldest first.
pub fn live_runs(manifest: &Manifest, tiling: &Tiling) -> Vec<Vec<LayerDescriptor>> {
    let mut runs: BTreeMap<(Lsn, Lsn), Vec<LayerDescriptor>> = BTreeMap::new();
    for layer in manifest.layers.iter().filter(|layer| layer.kind == LayerKind::Delta && tiling.needs(layer)) {
        runs.entry((layer.start_lsn, layer.visible_lsn)).or_default().push(layer.clone());
    }
    let mut runs: Vec<_> = runs.into_values().collect();
    runs.iter_mut().for_each(|run| run.sort_by_key(|layer| layer.first_page));
    runs
}

/// Layers of records that a read of the newest LSN may touch, besides one image.
pub fn depth(manifest: &Manifest) -> usize {
    Tiling::new(&manifest.layers, Lsn::MAX).depth(&manifest.layers)
}

fn floors(tiles: &[Tile]) -> Vec<Floor> {
    let floor = |tile: &Tile| {
        let Tile { first_page, last_page, .. } = *tile;
        tile.lsn().map(|lsn| Floor { first_page, last_page, lsn })
    };
    tiles.iter().filter_map(floor).collect()
}

fn bytes_of(layers: &[LayerDescriptor]) -> u64 {
    layers.iter().map(|layer| layer.size_bytes).sum()
}

/// Runs to be merged, none of them `busy`, that is part of a merge already.
///
/// A run's level tells how often its records were rewritten. With `k` places for runs and each record rewritten `w` times,
/// C(k + w, w) flushes find room, and that is the most that is possible: 3 places take 20 flushes at 3 rewrites, 56 at 5; 4 places 35 and 126.
/// It is reached by merging, when all places are taken, the newest run that was rewritten less often than its elder
/// neighbour, together with all that is newer.
pub fn plan_merge(manifest: &Manifest, settings: &CompactionSettings, busy: &HashSet<LayerId>) -> Option<Job> {
    let runs = live_runs(manifest, &Tiling::new(&manifest.layers, Lsn::MAX));
    let is_busy = |run: &Vec<LayerDescriptor>| run.iter().any(|layer| busy.contains(&layer.id()));
    let held = runs.iter().rposition(is_busy).map_or(0, |position| position + 1);
    let free = &runs[held..];
    // What a long merge holds counts until it ends: meanwhile there are fewer places.
    let left = settings.max_depth.saturating_sub(held + 1);
    let places = if held == 0 { settings.run_places } else { settings.run_places.min(left.max(1)) };
    if free.len() <= places {
        return None;
    }
    let level = |run: &Vec<LayerDescriptor>| run.iter().map(|layer| layer.level).max().unwrap_or(0);
    let may_rise = |number: &usize| *number == 0 || level(&free[*number]) < level(&free[*number - 1]);
    let mut first = (0..places).rev().find(may_rise).expect("the eldest may");
    // A large run is not rewritten for the sake of little.
    let newer_bytes = |first: usize| free[first + 1..].iter().map(|run| bytes_of(run)).sum::<u64>();
    while first + 2 < free.len() && bytes_of(&free[first]) > newer_bytes(first).saturating_mul(MERGE_RATIO) {
        first += 1;
    }
    let merged = free[first..].to_vec();
    let highest = merged.iter().map(level).max().unwrap_or(0);
    Some(Job {
        kind: JobKind::Merge,
        pages: ALL_PAGES,
        start_lsn: merged.first()?.first()?.start_lsn,
        end_lsn: merged.last()?.first()?.visible_lsn,
        runs: merged,
        base: Vec::new(),
        holds: (manifest.shard, manifest.layout),
        floors: floors(Tiling::new(&manifest.layers, manifest.horizon).tiles()),
        level: highest.saturating_add(1),
    })
}

/// A run is merged with newer ones only if these have at least one part in so many of its bytes.
const MERGE_RATIO: u64 = 8;

/// Images to be made: of those parts of the page space whose records have become as much as the pages themselves. So images
/// cost no more than `1 / image_ratio` bytes for each byte of records, however large the database is.
pub fn plan_images(manifest: &Manifest, settings: &CompactionSettings, loads: &[TileLoad]) -> Option<Job> {
    let due = |load: &TileLoad| {
        let enough = load.runs >= settings.run_trigger || load.record_bytes >= settings.layer_target_bytes;
        enough && load.record_bytes.saturating_mul(settings.image_ratio) >= load.image_bytes()
    };
    // Neighbours together, but not so many that others wait long for their turn.
    let mut groups: Vec<(&[TileLoad], u64, u64)> = Vec::new();
    let (mut first, mut records, mut all) = (0, 0, 0);
    for (number, load) in loads.iter().enumerate() {
        let bytes = load.record_bytes + load.image_bytes();
        if !due(load) || (number > first && all + bytes > settings.image_job_bytes) {
            groups.push((&loads[first..number], records, all));
            (first, records, all) = (number + usize::from(!due(load)), 0, 0);
        }
        if due(load) {
            (records, all) = (records + load.record_bytes, all + bytes);
        }
    }
    groups.push((&loads[first..], records, all));
    let (group, ..) =
        groups.into_iter().filter(|(group, ..)| !group.is_empty()).max_by_key(|(_, records, _)| *records)?;
    image_job(manifest, group.iter().map(|load| load.tile.clone()).collect())
}

/// The job that makes neighbouring tiles anew; none if there are none.
pub fn image_job(manifest: &Manifest, tiles: Vec<Tile>) -> Option<Job> {
    let (first_page, last_page) = (tiles.first()?.first_page, tiles.last()?.last_page);
    let mut runs = live_runs(manifest, &Tiling::new(&manifest.layers, Lsn::MAX));
    runs.iter_mut().for_each(|run| run.retain(|layer| tiles.iter().any(|tile| tile.needs(layer))));
    runs.retain(|run| !run.is_empty());
    Some(Job {
        kind: JobKind::Image,
        pages: first_page..=last_page,
        start_lsn: runs.first().and_then(|run| run.first()).map_or(manifest.durable_lsn, |layer| layer.start_lsn),
        runs,
        floors: floors(&tiles),
        holds: (manifest.shard, manifest.layout),
        base: tiles,
        end_lsn: manifest.durable_lsn,
        level: 1,
    })
}

/// Leases count for so long after their end: clocks differ.
const LEASE_GRACE_US: u64 = 60_000_000;

/// Oldest LSN that must stay readable, of what is durable now. The wall clock decides how much is kept, never what is right.
pub fn keep_from(manifest: &Manifest, retention: Retention, leases: &[(Lsn, u64)], now_us: u64) -> Lsn {
    let by_bytes = Lsn(manifest.durable_lsn.0.saturating_sub(retention.bytes));
    // The state at that time was made by the last commit before it. As long as none is known all is kept.
    let by_time = match retention.time_us {
        0 => manifest.durable_lsn,
        time_us => manifest.lsn_at(now_us.saturating_sub(time_us)).unwrap_or(Lsn::ZERO),
    };
    let held = leases.iter().filter(|(_, until_us)| until_us.saturating_add(LEASE_GRACE_US) > now_us);
    held.map(|(lsn, _)| *lsn).chain([by_bytes, by_time]).min().expect("at least two")
}

/// History that nobody can ask for once no LSN below `keep_from` can be asked for.
pub fn plan_garbage(manifest: &Manifest, keep_from: Lsn) -> Option<Garbage> {
    let tiling = Tiling::new(&manifest.layers, keep_from);
    let gone = |layer: &&LayerDescriptor| match layer.kind {
        LayerKind::Image => layer.end_lsn < keep_from && tiling.supersedes(layer),
        LayerKind::Delta => layer.visible_lsn <= keep_from && !tiling.needs(layer),
    };
    let layers: HashSet<_> = manifest.layers.iter().filter(gone).map(LayerDescriptor::id).collect();
    // Merges leave out what lies below the horizon: so it moves even if no layer can go as a whole.
    let horizon = tiling.tiles().iter().filter_map(Tile::lsn).max()?.max(manifest.horizon);
    (!layers.is_empty() || horizon > manifest.horizon).then_some(Garbage { horizon, layers })
}
