//! Round trip, rejection, and every single-bit flip.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn layer(numbers: (u64, u64, u64, u64, u64), image: bool, level: u8) -> LayerDescriptor {
    let (sequence, page, pages, lsn, bytes) = numbers;
    LayerDescriptor {
        name: LayerName { generation: Generation(3), sequence },
        kind: if image { LayerKind::Image } else { LayerKind::Delta },
        level,
        first_page: PageNo(page),
        last_page: PageNo(page.saturating_add(pages)),
        start_lsn: Lsn(lsn),
        end_lsn: Lsn(lsn.saturating_add(bytes)),
        size_bytes: bytes,
        entries: pages,
    }
}

fn sample(layers: Vec<LayerDescriptor>, garbage: Vec<u64>) -> Manifest {
    let mut manifest = Manifest::empty(BranchId(7), ShardId(1)).taken_over(Uuid::from_u128(42));
    manifest.durable_lsn = Lsn(900);
    manifest.horizon = Lsn(100);
    manifest.layers = layers;
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
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
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
    let first = Manifest::empty(BranchId(1), ShardId(0)).taken_over(Uuid::from_u128(1));
    let rival = Manifest::empty(BranchId(1), ShardId(0)).taken_over(Uuid::from_u128(2));
    assert_eq!(first.generation, rival.generation);
    assert!(!first.same_owner(&rival));
    assert!(first.same_owner(&first.successor()));
    assert!(first.successor().change > first.change);
}
