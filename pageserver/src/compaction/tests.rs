//! What is planned for which layers.

use std::collections::HashSet;

use storage::layer::{LayerDescriptor, LayerKind, LayerName};
use storage::layout::ShardLayout;
use storage::manifest::{Manifest, TimeMark};
use storage::{BranchId, Generation, Lsn, PageNo, ShardId};

use super::*;

const SETTINGS: CompactionSettings = CompactionSettings {
    run_places: 3,
    run_trigger: 2,
    image_ratio: 1,
    image_job_bytes: 100,
    max_depth: 7,
    hot_page_records: 512,
    layer_target_bytes: 1000,
    retention: Retention { bytes: 100, time_us: 1000 },
};

/// A layer as `(kind, level, pages, start, end, bytes)`: `d` for records, `i` for images.
type Sketch = (char, u8, (u64, u64), u64, u64, u64);

/// All pages of the page space that the tests use.
const ALL: (u64, u64) = (0, u64::MAX);

fn layer(sequence: u64, &(kind, level, (first_page, last_page), start, end, size_bytes): &Sketch) -> LayerDescriptor {
    LayerDescriptor {
        branch: BranchId(1),
        shard: ShardId(0),
        name: LayerName { generation: Generation(1), sequence },
        kind: if kind == 'i' { LayerKind::Image } else { LayerKind::Delta },
        level,
        first_page: PageNo(first_page),
        last_page: PageNo(last_page),
        start_lsn: Lsn(start),
        end_lsn: Lsn(end),
        visible_lsn: Lsn(end),
        size_bytes,
        entries: 1,
    }
}

fn manifest(layers: &[Sketch]) -> Manifest {
    let mut manifest = Manifest::empty(BranchId(1), ShardId(0), ShardLayout::SINGLE);
    manifest.layers = (0..).zip(layers).map(|(sequence, sketch)| layer(sequence, sketch)).collect();
    manifest.durable_lsn = manifest.layers.iter().map(|layer| layer.end_lsn).max().unwrap_or_default();
    manifest
}

fn describe(job: Option<Job>) -> String {
    let describe = |job: Job| {
        let (first, last) = job.pages.clone().into_inner();
        let pages = if last.0 == u64::MAX { format!("{first}..") } else { format!("{first}..={last}") };
        let sequences: Vec<_> = job.reads().map(|(.., name)| name.sequence.to_string()).collect();
        format!("{:?} of {pages} up to {} from {} at {}", job.kind, job.end_lsn.0, sequences.join(" "), job.level)
    };
    job.map_or_else(|| "nothing".to_owned(), describe)
}

#[test]
fn tiles_follow_the_newest_images() {
    let check = |layers: &[Sketch], up_to: u64, expected: &[(u64, Option<u64>)]| {
        let tiling = Tiling::new(&manifest(layers).layers, Lsn(up_to));
        let found: Vec<_> =
            tiling.tiles().iter().map(|tile| (tile.first_page.0, tile.lsn().map(|lsn| lsn.0))).collect();
        assert_eq!(found, expected, "{layers:?} up to {up_to}");
        let mut next = Some(0);
        for tile in tiling.tiles() {
            assert_eq!(Some(tile.first_page.0), next, "tiles leave no gap");
            next = tile.last_page.0.checked_add(1);
        }
        assert_eq!(next, None, "tiles reach to the last page");
    };
    check(&[], 9, &[(0, None)]);
    check(&[('i', 1, ALL, 5, 5, 1)], 9, &[(0, Some(5))]);
    check(&[('i', 1, ALL, 5, 5, 1)], 4, &[(0, None)]);
    // A part anew, in the middle, at the beginning, at the end; the order of the layers does not matter.
    let parts = [('i', 1, (10, 19), 8, 8, 1), ('i', 1, ALL, 5, 5, 1), ('d', 1, ALL, 0, 9, 1)];
    check(&parts, 9, &[(0, Some(5)), (10, Some(8)), (20, Some(5))]);
    check(&parts, 7, &[(0, Some(5))]);
    let parts = [('i', 1, ALL, 5, 5, 1), ('i', 1, (0, 9), 8, 8, 1), ('i', 1, (30, u64::MAX), 7, 7, 1)];
    check(&parts, 9, &[(0, Some(8)), (10, Some(5)), (30, Some(7))]);
    // Over several older ones, and one page alone.
    let parts = [('i', 1, (0, 9), 5, 5, 1), ('i', 1, (10, u64::MAX), 5, 5, 1), ('i', 1, (9, 10), 6, 6, 1)];
    check(&parts, 9, &[(0, Some(5)), (9, Some(6)), (11, Some(5))]);
    check(&[('i', 1, (0, 9), 5, 5, 1)], 9, &[(0, Some(5)), (10, None)]);
}

#[test]
fn merges() {
    let check = |layers: &[Sketch], busy: &[u64], expected: &str| {
        let manifest = manifest(layers);
        let id =
            |sequence: &u64| (BranchId(1), ShardId(0), LayerName { generation: Generation(1), sequence: *sequence });
        let busy: HashSet<_> = busy.iter().map(id).collect();
        assert_eq!(describe(plan_merge(&manifest, &SETTINGS, &busy)), expected, "{layers:?} {busy:?}");
    };
    let flush = |end: u64| ('d', 0, ALL, end - 1, end, 9);
    check(&[], &[], "nothing");
    check(&[flush(1), flush(2), flush(3)], &[], "nothing");
    check(&[flush(1), flush(2), flush(3), flush(4)], &[], "Merge of 0.. up to 4 from 0 1 2 3 at 1");
    // The newest that was rewritten less often than its neighbour, with what is newer.
    let run = |level, start, end, bytes| ('d', level, ALL, start, end, bytes);
    check(&[run(1, 0, 4, 36), flush(5), flush(6), flush(7)], &[], "Merge of 0.. up to 7 from 1 2 3 at 1");
    check(&[run(1, 0, 4, 36), run(1, 4, 7, 27), flush(8), flush(9)], &[], "Merge of 0.. up to 9 from 2 3 at 1");
    let full = [run(1, 0, 4, 36), run(1, 4, 7, 27), run(1, 7, 9, 18), flush(10)];
    check(&full, &[], "Merge of 0.. up to 10 from 0 1 2 3 at 2");
    // Not a large one for the sake of little.
    let large = [run(1, 0, 4, 9000), run(1, 4, 7, 27), run(1, 7, 9, 18), flush(10)];
    check(&large, &[], "Merge of 0.. up to 10 from 1 2 3 at 2");
    // What is being merged is left alone, and takes places away.
    check(&[flush(1), flush(2), flush(3), flush(4), flush(5)], &[0, 1, 2, 3], "nothing");
    let beside: Vec<_> = (1..=7).map(flush).collect();
    check(&beside, &[0, 1, 2, 3], "Merge of 0.. up to 7 from 4 5 6 at 1");
    check(&beside, &[0, 1, 2, 3, 4], "Merge of 0.. up to 7 from 5 6 at 1");
    // What an image stands for is not merged.
    let imaged = [flush(1), flush(2), ('i', 1, ALL, 2, 2, 9), flush(3), flush(4), flush(5)];
    check(&imaged, &[], "nothing");
    let partly = [flush(1), flush(2), ('i', 1, (0, 99), 2, 2, 9), flush(3), flush(4)];
    check(&partly, &[], "Merge of 0.. up to 4 from 0 1 3 4 at 1");
    let covered = [('d', 0, (5, 9), 0, 1, 9), flush(2), ('i', 1, (0, 99), 2, 2, 9), flush(3), flush(4)];
    check(&covered, &[], "nothing");
}

#[test]
fn images() {
    /// Bytes of records above the image of each tile, and runs that they are in.
    fn check(layers: &[Sketch], loads: &[(u64, usize)], expected: &str) {
        let manifest = manifest(layers);
        let tiling = Tiling::new(&manifest.layers, Lsn::MAX);
        assert_eq!(tiling.tiles().len(), loads.len(), "{:?}", tiling.tiles());
        let load =
            |(tile, &(record_bytes, runs)): (&Tile, &(u64, usize))| TileLoad { tile: tile.clone(), record_bytes, runs };
        let loads: Vec<_> = tiling.tiles().iter().zip(loads).map(load).collect();
        assert_eq!(describe(plan_images(&manifest, &SETTINGS, &loads)), expected, "{layers:?}");
    }
    check(&[], &[(0, 0)], "nothing");
    check(&[('d', 0, ALL, 0, 1, 9)], &[(9, 1)], "nothing");
    check(&[('d', 0, ALL, 0, 1, 9), ('d', 0, ALL, 1, 2, 9)], &[(18, 2)], "Image of 0.. up to 2 from 0 1 at 1");
    // Enough in one run.
    check(&[('d', 0, ALL, 0, 1, 9000)], &[(9000, 1)], "Image of 0.. up to 1 from 0 at 1");
    let tiles = [
        ('i', 1, (0, 9), 5, 5, 40),
        ('i', 1, (10, 19), 7, 7, 40),
        ('i', 1, (20, u64::MAX), 7, 7, 40),
        ('d', 0, ALL, 5, 7, 9),
        ('d', 0, ALL, 7, 8, 9),
        ('d', 0, (10, 30), 8, 9, 9),
    ];
    check(&tiles, &[(39, 2), (39, 2), (39, 2)], "nothing");
    check(&tiles, &[(40, 1), (39, 2), (39, 2)], "nothing");
    check(&tiles, &[(40, 2), (39, 2), (39, 2)], "Image of 0..=9 up to 9 from 3 4 0 at 1");
    // Neighbours together as far as they are not too much; first where there is most to gain.
    check(&tiles, &[(40, 2), (10, 2), (41, 2)], "Image of 20.. up to 9 from 4 5 2 at 1");
    check(&tiles, &[(10, 2), (44, 2), (41, 2)], "Image of 10..=19 up to 9 from 4 5 1 at 1");
    let small = tiles.map(|(kind, level, pages, start, end, bytes)| (kind, level, pages, start, end, bytes / 4));
    check(&small, &[(10, 2), (11, 2), (41, 2)], "Image of 0.. up to 9 from 3 4 5 0 1 2 at 1");
}

#[test]
fn depth_is_the_deepest_tile() {
    let check = |layers: &[Sketch], expected: usize| assert_eq!(depth(&manifest(layers)), expected, "{layers:?}");
    check(&[], 0);
    let layers = [
        ('d', 1, (0, 50), 0, 5, 9),
        ('d', 1, (51, 99), 0, 5, 9),
        ('i', 1, (0, 9), 5, 5, 40),
        ('d', 0, ALL, 5, 7, 9),
        ('d', 0, ALL, 7, 8, 9),
    ];
    check(&layers, 3);
    check(&layers[..2], 1);
    check(&[layers[0], layers[3], ('i', 1, ALL, 7, 7, 1)], 0);
}

#[test]
fn what_is_kept() {
    let mut manifest = manifest(&[('d', 1, ALL, 0, 1000, 1)]);
    manifest.marks = [(100, 10_000), (300, 20_000), (900, 30_000)]
        .map(|(lsn, commit_time_us)| TimeMark { lsn: Lsn(lsn), commit_time_us })
        .to_vec();
    let check = |bytes: u64, time_us: u64, leases: &[(u64, u64)], now_us: u64, expected: u64| {
        let leases: Vec<_> = leases.iter().map(|(lsn, until_us)| (Lsn(*lsn), *until_us)).collect();
        let found = keep_from(&manifest, Retention { bytes, time_us }, &leases, now_us);
        assert_eq!(found, Lsn(expected), "{bytes} bytes, {time_us} µs, {leases:?} at {now_us}");
    };
    // By distance, by time, and whichever is more.
    check(50, 0, &[], 0, 950);
    check(5000, 0, &[], 0, 0);
    check(0, 5_000, &[], 25_000, 300);
    check(0, 5_000, &[], 24_999, 100);
    check(0, 5_000, &[], 90_000, 900);
    check(50, 5_000, &[], 90_000, 900);
    check(950, 5_000, &[], 90_000, 50);
    // No commit is known to be so old: everything may be newer.
    check(0, 50_000, &[], 40_000, 0);
    // Leases, while they last and a minute longer.
    let minute = 60_000_000;
    check(0, 0, &[(400, 90_000), (700, 90_000)], 90_000, 400);
    check(0, 0, &[(400, 90_000)], 90_000 + minute - 1, 400);
    check(0, 0, &[(400, 90_000)], 90_000 + minute, 1000);
    check(800, 0, &[(400, 90_000)], 90_000, 200);
}

#[test]
fn garbage() {
    let check = |layers: &[Sketch], keep_from: u64, horizon: Option<u64>, gone: &[u64]| {
        let planned = plan_garbage(&manifest(layers), Lsn(keep_from));
        assert_eq!(planned.as_ref().map(|garbage| garbage.horizon.0), horizon, "{layers:?}");
        let mut found: Vec<_> = planned.into_iter().flat_map(|g| g.layers).map(|(.., name)| name.sequence).collect();
        found.sort_unstable();
        assert_eq!(found, gone, "{layers:?}");
    };
    // No image: everything is needed.
    check(&[('d', 1, ALL, 0, 50, 1), ('d', 1, ALL, 50, 900, 1)], 800, None, &[]);
    // An image, but what is below it can be asked for.
    let layers = [('d', 1, ALL, 0, 50, 1), ('i', 1, ALL, 50, 50, 1), ('d', 0, ALL, 50, 149, 1)];
    check(&layers, 49, None, &[]);
    check(&layers, 50, Some(50), &[0]);
    // The newest image that is old enough counts; nothing above it goes.
    let layers = [
        ('d', 1, ALL, 0, 50, 1),
        ('i', 1, ALL, 50, 50, 1),
        ('d', 1, ALL, 50, 80, 1),
        ('i', 1, ALL, 80, 80, 1),
        ('d', 1, ALL, 80, 120, 1),
        ('i', 1, ALL, 120, 120, 1),
        ('d', 0, ALL, 120, 200, 1),
    ];
    check(&layers, 100, Some(80), &[0, 1, 2]);
    check(&layers[3..], 100, Some(80), &[]);
    // Parts: a layer goes when nothing of it is needed.
    let layers = [
        ('d', 1, (0, 9), 0, 50, 1),
        ('d', 1, (10, 30), 0, 50, 1),
        ('i', 1, (0, 19), 50, 50, 1),
        ('i', 1, (20, u64::MAX), 40, 40, 1),
        ('i', 1, (10, 19), 60, 60, 1),
        ('i', 1, (0, 9), 70, 70, 1),
        ('d', 1, ALL, 50, 90, 1),
    ];
    check(&layers, 55, Some(50), &[0]);
    check(&layers, 65, Some(60), &[0]);
    check(&layers, 75, Some(70), &[0, 2]);
}
