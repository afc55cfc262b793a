//! Which image speaks for which pages. Pure.

use std::collections::{BTreeMap, BTreeSet};

use storage::layer::{LayerDescriptor, LayerKind};
use storage::{Lsn, PageNo};

/// Neighbouring pages with the same newest image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// First of the pages.
    pub first_page: PageNo,
    /// Last of the pages, inclusive.
    pub last_page: PageNo,
    /// The image; `None`: there is none, and only records tell of these pages.
    pub image: Option<LayerDescriptor>,
}

impl Tile {
    /// LSN of the image.
    pub fn lsn(&self) -> Option<Lsn> {
        self.image.as_ref().map(|image| image.end_lsn)
    }

    /// Whether reading the newest state of some page takes a layer of records.
    pub fn needs(&self, records: &LayerDescriptor) -> bool {
        records.overlaps(self.first_page, self.last_page) && self.lsn().is_none_or(|lsn| lsn < records.visible_lsn)
    }
}

/// The page space, cut where the newest image changes: every page lies in one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// In page order, without gaps.
    tiles: Vec<Tile>,
}

impl Tiling {
    /// By the newest images at or below `up_to`.
    pub fn new(layers: &[LayerDescriptor], up_to: Lsn) -> Tiling {
        let mut images: Vec<_> =
            layers.iter().filter(|layer| layer.kind == LayerKind::Image && layer.end_lsn <= up_to).collect();
        images.sort_by_key(|image| (image.end_lsn, image.name));
        // Newer images are painted over older ones. A part begins at its key and ends where the next one begins.
        let mut parts: BTreeMap<PageNo, Option<usize>> = BTreeMap::from([(PageNo(0), None)]);
        for (number, image) in images.iter().enumerate() {
            if let Some(after) = image.last_page.0.checked_add(1).map(PageNo) {
                let continued = *parts.range(..=after).next_back().expect("the first part begins at zero").1;
                parts.entry(after).or_insert(continued);
            }
            let covered: Vec<_> = parts.range(image.first_page..=image.last_page).map(|(first, _)| *first).collect();
            for first in covered {
                parts.remove(&first);
            }
            parts.insert(image.first_page, Some(number));
        }
        let ends = parts.keys().skip(1).map(|next| PageNo(next.0 - 1)).chain([PageNo(u64::MAX)]);
        let tile = |((first, image), last_page): ((&PageNo, &Option<usize>), PageNo)| Tile {
            first_page: *first,
            last_page,
            image: image.map(|number| images[number].clone()),
        };
        Tiling { tiles: parts.iter().zip(ends).map(tile).collect() }
    }

    /// All tiles, in page order.
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// The tiles with pages of a range.
    pub fn overlapping(&self, first_page: PageNo, last_page: PageNo) -> &[Tile] {
        let from = self.tiles.partition_point(|tile| tile.last_page < first_page);
        let to = self.tiles.partition_point(|tile| tile.first_page <= last_page);
        &self.tiles[from..to]
    }

    /// Whether reading the newest state of some page takes a layer of records.
    pub fn needs(&self, records: &LayerDescriptor) -> bool {
        self.overlapping(records.first_page, records.last_page).iter().any(|tile| tile.needs(records))
    }

    /// Whether newer images speak for all pages of an image.
    pub fn supersedes(&self, image: &LayerDescriptor) -> bool {
        let newer = |tile: &Tile| tile.lsn().is_some_and(|lsn| lsn > image.end_lsn);
        self.overlapping(image.first_page, image.last_page).iter().all(newer)
    }

    /// Layers of records that reading the newest state of a page takes, at most, among all pages. Layers of a run have
    /// no page in common.
    pub fn depth(&self, layers: &[LayerDescriptor]) -> usize {
        let mut runs: Vec<BTreeSet<(Lsn, Lsn)>> = vec![BTreeSet::new(); self.tiles.len()];
        for layer in layers.iter().filter(|layer| layer.kind == LayerKind::Delta) {
            let from = self.tiles.partition_point(|tile| tile.last_page < layer.first_page);
            for (number, tile) in self.overlapping(layer.first_page, layer.last_page).iter().enumerate() {
                if tile.needs(layer) {
                    runs[from + number].insert((layer.start_lsn, layer.visible_lsn));
                }
            }
        }
        runs.iter().map(BTreeSet::len).max().unwrap_or(0)
    }
}
