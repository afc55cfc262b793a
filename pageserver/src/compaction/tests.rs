//! What is planned for which layers, and that a job's layers say the same as those it was given.

use storage::layer::{LayerDescriptor, LayerKind, LayerName};
use storage::layout::ShardLayout;
use storage::manifest::Manifest;
use storage::{BranchId, Generation, Lsn, PageNo, ShardId};

use super::*;

const SETTINGS: CompactionSettings = CompactionSettings {
    merge_trigger: 4,
    run_trigger: 3,
    image_ratio: 4,
    max_depth: 12,
    hot_page_records: 512,
    layer_target_bytes: 100,
    retention_bytes: 100,
};

/// A layer as `(kind, level, start, end, bytes)`: `d` for records, `i` for images.
type Sketch = (char, u8, u64, u64, u64);

fn manifest(layers: &[Sketch]) -> Manifest {
    let mut manifest = Manifest::empty(BranchId(1), ShardId(0), ShardLayout::SINGLE);
    for (sequence, &(kind, level, start, end, size_bytes)) in layers.iter().enumerate() {
        manifest.layers.push(LayerDescriptor {
            branch: BranchId(1),
            name: LayerName { generation: Generation(1), sequence: sequence as u64 },
            kind: if kind == 'i' { LayerKind::Image } else { LayerKind::Delta },
            level,
            first_page: PageNo(0),
            last_page: PageNo(u64::MAX),
            start_lsn: Lsn(start),
            end_lsn: Lsn(end),
            visible_lsn: Lsn(end),
            size_bytes,
            entries: 1,
        });
        manifest.durable_lsn = manifest.durable_lsn.max(Lsn(end));
    }
    manifest
}

fn describe(job: Option<Job>) -> String {
    job.map_or_else(
        || "nothing".to_owned(),
        |job| {
            let layers = job.runs.iter().map(Vec::len).sum::<usize>();
            format!("{:?} {}..{} of {layers} on {}", job.kind, job.start_lsn.0, job.end_lsn.0, job.base.len())
        },
    )
}

#[test]
fn plans() {
    let cases: &[(&str, &[Sketch], &str, &str, usize)] = &[
        ("nothing at all", &[], "nothing", "nothing", 0),
        ("few flushes", &[('d', 0, 0, 1, 9), ('d', 0, 1, 2, 9), ('d', 0, 2, 3, 9)], "nothing", "nothing", 3),
        (
            "enough flushes, in any order, beside a run",
            &[('d', 0, 6, 7, 9), ('d', 0, 5, 6, 9), ('d', 0, 7, 8, 9), ('d', 0, 8, 9, 9), ('d', 1, 0, 5, 9)],
            "Merge 5..9 of 4 on 0",
            "nothing",
            5,
        ),
        (
            "runs without an image",
            &[('d', 1, 0, 5, 1), ('d', 1, 5, 9, 1), ('d', 1, 9, 12, 1), ('d', 0, 12, 13, 1)],
            "nothing",
            "Image 0..12 of 3 on 0",
            4,
        ),
        (
            "small runs above a large image",
            &[('i', 1, 5, 5, 1000), ('d', 1, 0, 5, 99), ('d', 1, 5, 6, 9), ('d', 1, 6, 7, 9), ('d', 1, 7, 8, 9)],
            "nothing",
            "Merge 5..8 of 3 on 0",
            3,
        ),
        (
            "large runs above an image of several layers",
            &[('i', 1, 5, 5, 40), ('i', 1, 5, 5, 40), ('d', 1, 5, 6, 9), ('d', 1, 6, 7, 9), ('d', 1, 7, 8, 9)],
            "nothing",
            "Image 5..8 of 3 on 2",
            3,
        ),
        (
            "runs below the image do not count",
            &[('i', 1, 8, 8, 1), ('d', 1, 5, 6, 9), ('d', 1, 6, 7, 9), ('d', 1, 7, 8, 9)],
            "nothing",
            "nothing",
            0,
        ),
    ];
    for (name, layers, merge, images, runs) in cases {
        let manifest = manifest(layers);
        assert_eq!(describe(plan_merge(&manifest, &SETTINGS)), *merge, "{name}");
        assert_eq!(describe(plan_images(&manifest, &SETTINGS)), *images, "{name}");
        assert_eq!(depth(&manifest), *runs, "{name}");
    }
}

#[test]
fn garbage() {
    let check = |layers: &[Sketch], horizon: Option<u64>, gone: &[u64]| {
        let planned = plan_garbage(&manifest(layers), &SETTINGS);
        assert_eq!(planned.as_ref().map(|garbage| garbage.horizon.0), horizon, "{layers:?}");
        let mut found: Vec<_> = planned.into_iter().flat_map(|g| g.layers).map(|(_, name)| name.sequence).collect();
        found.sort_unstable();
        assert_eq!(found, gone, "{layers:?}");
    };
    // No image: everything is needed.
    check(&[('d', 1, 0, 50, 1), ('d', 1, 50, 900, 1)], None, &[]);
    // An image, but what is below it is within the retention.
    check(&[('d', 1, 0, 50, 1), ('i', 1, 50, 50, 1), ('d', 0, 50, 149, 1)], None, &[]);
    check(&[('d', 1, 0, 50, 1), ('i', 1, 50, 50, 1), ('d', 0, 50, 150, 1)], Some(50), &[0]);
    // The newest image that is old enough counts; nothing above it goes.
    let layers = [
        ('d', 1, 0, 50, 1),
        ('i', 1, 50, 50, 1),
        ('d', 1, 50, 80, 1),
        ('i', 1, 80, 80, 1),
        ('d', 1, 80, 120, 1),
        ('i', 1, 120, 120, 1),
        ('d', 0, 120, 200, 1),
    ];
    check(&layers, Some(80), &[0, 1, 2]);
    check(&layers[3..], None, &[]);
}
