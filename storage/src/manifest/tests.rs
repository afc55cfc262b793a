//! Round trip, rejection, and every single-bit flip.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn layer(numbers: (u64, u64, u64, u64, u64), image: bool, level: u8) -> LayerDescriptor {
    let (sequence, page, pages, lsn, bytes) = numbers;
    LayerDescriptor {
        shard: ShardId(numbers.0 % 7),
        branch: BranchId(sequence % 3),
        name: LayerName { generation: Generation(3), sequence },
        kind: if image { LayerKind::Image } else { LayerKind::Delta },
        level,
        first_page: PageNo(page),
        last_page: PageNo(page.saturating_add(pages)),
        start_lsn: Lsn(lsn),
        end_lsn: Lsn(lsn.saturating_add(bytes)),
        visible_lsn: Lsn(lsn.saturating_add(bytes / 2)),
        size_bytes: bytes,
        entries: pages,
    }
}

fn layout() -> ShardLayout {
    ShardLayout::new(5, 32).expect("within the limits")
}

fn sample(layers: Vec<LayerDescriptor>, garbage: Vec<u64>) -> Manifest {
    let mut manifest = Manifest::empty(BranchId(7), ShardId(1), layout()).taken_over(Uuid::from_u128(42));
    manifest.durable_lsn = Lsn(900);
    manifest.horizon = Lsn(100);
    manifest.layers = layers;
    manifest.add_marks((0..3).map(|n| TimeMark { lsn: Lsn(n * 10), commit_time_us: n * 1000 }));
    manifest.garbage = garbage.into_iter().map(|sequence| LayerName { generation: Generation(2), sequence }).collect();
    manifest
}

proptest! {
    #[test]
    fn round_trip(
        layers in proptest::collection::vec((any::<(u64, u64, u64, u64, u64)>(), any::<bool>(), any::<u8>()), 0..20),
        garbage in proptest::collection::vec(any::<u64>(), 0..20),
    ) {
        let manifest = sample(layers.into_iter().map(|(n, image, level)| layer(n, image, level)).collect(), garbage);
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        prop_assert_eq!(decode_layers(&encode_layers(&manifest.layers)), Ok(manifest.layers));
    }
}

#[test]
fn damage_is_found() {
    let manifest = sample(vec![layer((1, 2, 3, 4, 5), false, 0), layer((2, 0, 9, 4, 5), true, 2)], vec![8]);
    let bytes = manifest.encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(&flipped).is_err(), "bit {bit} flipped unnoticed");
    }
    for length in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..length]).is_err(), "cut at {length} unnoticed");
    }
    let mut newer = bytes.to_vec();
    newer[4] = VERSION + 1;
    assert_eq!(Manifest::decode(&newer), Err(ManifestError::Version { version: VERSION + 1 }));
}

#[test]
fn owners_differ() {
    let first = Manifest::empty(BranchId(1), ShardId(0), ShardLayout::SINGLE).taken_over(Uuid::from_u128(1));
    let rival = Manifest::empty(BranchId(1), ShardId(0), ShardLayout::SINGLE).taken_over(Uuid::from_u128(2));
    assert_eq!(first.generation, rival.generation);
    assert!(!first.same_owner(&rival));
    assert!(first.same_owner(&first.successor()));
    assert!(first.successor().change > first.change);
}

/// What version 1 wrote: no shards, no marks, layers without branch and visible LSN.
#[test]
fn version_1_is_read() {
    let mut layer = layer((1, 2, 3, 4, 6), false, 0);
    (layer.branch, layer.visible_lsn) = (BranchId(7), layer.end_lsn);
    let manifest = Manifest {
        layout: ShardLayout::SINGLE,
        marks: Vec::new(),
        ..sample(vec![layer.clone(), LayerDescriptor { level: 1, ..layer }], vec![8])
    };
    let new = manifest.encode();
    let body = &new[HEAD_BYTES..];
    let mut old = body[..64].to_vec();
    old.extend_from_slice(&body[72..80]);
    for number in 0..2 {
        let at = FIXED_BODY_BYTES + number * LAYER_BYTES;
        old.extend_from_slice(&body[at..at + OLD_LAYER_BYTES]);
    }
    old.extend_from_slice(&body[FIXED_BODY_BYTES + 2 * LAYER_BYTES..]);
    let mut bytes = b"ALMF\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&(old.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc_of(1, &old).to_le_bytes());
    bytes.extend_from_slice(&old);
    assert_eq!(Manifest::decode(&bytes), Ok(manifest));
}

#[test]
fn a_branch_sees_its_parent_up_to_the_branch_point() {
    let delta = |start, end| LayerDescriptor {
        branch: BranchId(7),
        start_lsn: Lsn(start),
        end_lsn: Lsn(end),
        visible_lsn: Lsn(end),
        ..layer((start, 0, 9, 0, 0), false, 0)
    };
    let image = |at| LayerDescriptor { kind: LayerKind::Image, ..delta(at, at) };
    let mut parent = sample(vec![delta(0, 10), delta(10, 20), delta(20, 30), image(10), image(30)], vec![]);
    (parent.durable_lsn, parent.horizon) = (Lsn(30), Lsn(5));
    let child = parent.branched(BranchId(9), Lsn(15)).expect("kept");
    let seen: Vec<_> = child.layers.iter().map(|l| (l.start_lsn.0, l.end_lsn.0, l.visible_lsn.0, l.branch.0)).collect();
    assert_eq!(seen, [(0, 10, 10, 7), (10, 20, 15, 7), (10, 10, 10, 7)]);
    assert_eq!((child.durable_lsn, child.branch, child.generation), (Lsn(15), BranchId(9), Generation(0)));
    // The parent's commits up to the branch point are found, at the latest time that they may have.
    let marks: Vec<_> = child.marks.iter().map(|mark| (mark.lsn.0, mark.commit_time_us)).collect();
    assert_eq!(marks, [(0, 0), (10, 1000), (15, 2000)]);
    assert_eq!([1999, 2000, u64::MAX].map(|time_us| child.lsn_at(time_us)), [10, 15, 15].map(|lsn| Some(Lsn(lsn))));
    for at in [10, 20, 25] {
        let child = parent.branched(BranchId(9), Lsn(at)).expect("kept");
        assert_eq!(
            child.marks,
            parent.marks[..=at as usize / 10],
            "at {at} no commit stands behind a mark of later ones"
        );
    }
    assert_eq!(parent.branched(BranchId(9), Lsn(40)).expect("kept").durable_lsn, Lsn(30));
    assert_eq!(parent.branched(BranchId(9), Lsn(4)), None);
}

#[test]
fn marks_are_few_and_find_times() {
    let mut manifest = sample(vec![], vec![]);
    manifest.marks.clear();
    let last = 3 * MAX_MARKS as u64;
    for n in 1..=last {
        manifest.add_marks([TimeMark { lsn: Lsn(n), commit_time_us: n * 10 }]);
        assert!(manifest.marks.len() <= MAX_MARKS);
    }
    assert_eq!(manifest.lsn_at(9), None);
    assert_eq!(manifest.lsn_at(10), Some(Lsn(1)));
    assert_eq!(manifest.lsn_at(u64::MAX), Some(Lsn(last)));
    assert_eq!(manifest.lsn_at((last - 5) * 10 + 3), Some(Lsn(last - 5)));
}

#[test]
fn layers_that_cannot_be_are_refused() {
    let good = encode_layers(&[layer((1, 2, 3, 4, 5), false, 0), layer((2, 0, 9, 4, 5), true, 2)]);
    for length in 0..good.len() {
        let whole = length % LAYER_BYTES == 1;
        assert_eq!(decode_layers(&good[..length]).is_ok(), whole, "cut after {length} bytes");
    }
    let changed = |place: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[place] = byte;
        decode_layers(&bytes)
    };
    assert_eq!(changed(0, VERSION + 1), Err(ManifestError::Version { version: VERSION + 1 }));
    for (what, place, byte) in [("kind", 17, 3), ("first page", 19, 99), ("start", 35, 99), ("visible", 75, 99)] {
        assert!(matches!(changed(place, byte), Err(ManifestError::Damaged(_))), "{what}");
    }
}
