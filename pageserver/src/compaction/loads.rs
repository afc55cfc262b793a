//! How many bytes of records lie above the image of each part of the page space: what the layers' indexes tell.

use storage::Lsn;
use storage::layer::{LayerError, LayerReader};
use storage::manifest::Manifest;

use super::plan::{TileLoad, live_runs};
use super::tiling::{Tile, Tiling};

/// Of all tiles, in page order. Reads indexes only, which are cached.
pub async fn tile_loads(reader: &LayerReader, manifest: &Manifest) -> Result<Vec<TileLoad>, LayerError> {
    let tiling = Tiling::new(&manifest.layers, Lsn::MAX);
    let empty = |tile: &Tile| TileLoad { tile: tile.clone(), record_bytes: 0, runs: 0 };
    let mut loads: Vec<TileLoad> = tiling.tiles().iter().map(empty).collect();
    for run in live_runs(manifest, &tiling) {
        let mut touched = vec![false; loads.len()];
        for layer in &run {
            let index = reader.index(layer).await?;
            let blocks = &index.blocks;
            let first = tiling.tiles().partition_point(|tile| tile.last_page < layer.first_page);
            let end = tiling.tiles().partition_point(|tile| tile.first_page <= layer.last_page);
            for (load, touched) in loads[first..end].iter_mut().zip(&mut touched[first..end]) {
                if !load.tile.needs(layer) {
                    continue;
                }
                // A block of several tiles counts for the one of its first page.
                let from = blocks.partition_point(|block| block.first_page < load.tile.first_page);
                let to = blocks.partition_point(|block| block.first_page <= load.tile.last_page);
                load.record_bytes += blocks[from..to].iter().map(|block| u64::from(block.stored_bytes)).sum::<u64>();
                *touched = true;
            }
        }
        for (load, touched) in loads.iter_mut().zip(touched) {
            load.runs += usize::from(touched);
        }
    }
    Ok(loads)
}
