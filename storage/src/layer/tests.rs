//! Round trip through an object store, every page at every LSN, and every flipped bit.

use bytes::Bytes;
use proptest::prelude::*;

use super::format::LayerIdentity;
use super::*;
use crate::object::{ObjectStore, RetryPolicy};
use crate::{BranchId, Generation, ShardId};

const BRANCH: BranchId = BranchId(5);
const PAGES: std::ops::RangeInclusive<PageNo> = PageNo(0)..=PageNo(u64::MAX);
const SHARD: ShardId = ShardId(0);

struct Fixture {
    store: ObjectStore,
    layers: Vec<LayerDescriptor>,
}

impl Fixture {
    fn reader(&self) -> LayerReader {
        LayerReader::new(self.store.clone(), LayerCache::new(1 << 20, 1 << 20))
    }
}

async fn write(kind: LayerKind, entries: &[LayerEntry], layer_target_bytes: u64) -> Fixture {
    let store = ObjectStore::memory(RetryPolicy::none());
    let start_lsn = if kind == LayerKind::Image { Lsn(1 << 20) } else { Lsn(0) };
    let identity = LayerIdentity { branch: BRANCH, kind, start_lsn, end_lsn: Lsn(1 << 20) };
    let settings = RunSettings { shard: SHARD, identity, level: 1, pages: PAGES, layer_target_bytes };
    let mut sequence = 0;
    let names = move || {
        sequence += 1;
        LayerName { generation: Generation(1), sequence }
    };
    let mut writer = RunWriter::new(&store, settings, names);
    for entry in entries {
        writer.push(entry.page, entry.lsn, &entry.bytes).await.expect("memory takes it");
    }
    let layers = writer.finish().await.expect("memory takes it");
    Fixture { store, layers }
}

async fn scan_all(fixture: &Fixture) -> Vec<LayerEntry> {
    let reader = fixture.reader();
    let mut found = Vec::new();
    for layer in &fixture.layers {
        let mut scan = reader.scan(layer, PAGES).await.expect("scan");
        while let Some(entry) = scan.next().await.expect("entry") {
            found.push(entry);
        }
    }
    found
}

async fn check_round_trip(kind: LayerKind, entries: Vec<LayerEntry>, layer_target_bytes: u64) {
    let fixture = write(kind, &entries, layer_target_bytes).await;
    assert_eq!(scan_all(&fixture).await, entries, "a scan gives what was written");
    for pair in fixture.layers.windows(2) {
        assert!(pair[0].last_page < pair[1].first_page, "layers of a run overlap: {pair:?}");
    }
    if kind == LayerKind::Image {
        let (first, last) = (fixture.layers.first().expect("one"), fixture.layers.last().expect("one"));
        assert_eq!((first.first_page, last.last_page), (PageNo(0), PageNo(u64::MAX)));
    }
    let reader = fixture.reader();
    let mut pages: Vec<_> = entries.iter().map(|entry| entry.page).collect();
    pages.push(PageNo(u64::MAX));
    pages.dedup();
    for up_to in [Lsn::MAX, Lsn(80), Lsn(40)] {
        let within = |entry: &&LayerEntry, page: PageNo| entry.page == page && entry.lsn <= up_to;
        let expected: Vec<Vec<LayerEntry>> =
            pages.iter().map(|page| entries.iter().filter(|entry| within(entry, *page)).cloned().collect()).collect();
        let mut batched = vec![Vec::new(); pages.len()];
        for layer in &fixture.layers {
            let covered: Vec<usize> = (0..pages.len()).filter(|number| layer.covers(pages[*number])).collect();
            let wanted: Vec<Wanted> = covered.iter().map(|number| (pages[*number], up_to)).collect();
            let found = reader.pages(layer, &wanted, |_| false).await.expect("pages");
            for (number, mut found) in covered.into_iter().zip(found) {
                batched[number].append(&mut found);
            }
        }
        assert_eq!(batched, expected, "all pages up to {up_to}");
        for (page, expected) in pages.iter().zip(expected) {
            let mut found = Vec::new();
            for layer in fixture.layers.iter().filter(|layer| layer.covers(*page)) {
                found.append(&mut reader.page(layer, (*page, up_to), |_| false).await.expect("page"));
            }
            assert_eq!(found, expected, "page {page} up to {up_to}");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime")
}

fn entries(images: bool) -> impl Strategy<Value = Vec<LayerEntry>> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        (any::<u8>(), 0..9000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    proptest::collection::vec((0..40u64, 1..120u64, bytes), 0..200).prop_map(move |mut raw| {
        raw.sort_by_key(|(page, lsn, _)| (*page, *lsn));
        if images {
            raw.dedup_by_key(|(page, ..)| *page);
        }
        let entry = |(page, lsn, bytes)| LayerEntry { page: PageNo(page), lsn: Lsn(lsn), bytes: Bytes::from(bytes) };
        raw.into_iter().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn deltas_round_trip(entries in entries(false), target in prop_oneof![Just(1u64), Just(20_000), Just(u64::MAX)]) {
        if !entries.is_empty() {
            runtime().block_on(check_round_trip(LayerKind::Delta, entries, target));
        }
    }

    #[test]
    fn images_round_trip(entries in entries(true), target in prop_oneof![Just(1u64), Just(20_000), Just(u64::MAX)]) {
        runtime().block_on(check_round_trip(LayerKind::Image, entries, target));
    }
}

#[tokio::test]
async fn pages_are_read_back_to_what_is_enough() {
    let entry = |n: u64| LayerEntry { page: PageNo(1), lsn: Lsn(n + 1), bytes: Bytes::from(vec![n as u8; 900]) };
    let entries: Vec<_> = (0..500).map(entry).collect();
    let fixture = write(LayerKind::Delta, &entries, u64::MAX).await;
    let reader = fixture.reader();
    for (enough_at, up_to) in [(450, 500), (450, 449), (1, 500), (500, 500), (9_999, 500), (300, 310)] {
        let enough = |entry: &LayerEntry| entry.lsn == Lsn(enough_at);
        let found = reader.page(&fixture.layers[0], (PageNo(1), Lsn(up_to)), enough).await.expect("page");
        let upper = &entries[..up_to as usize];
        assert!(upper.ends_with(&found), "a gap below {up_to}");
        let reached = if enough_at <= up_to { enough_at } else { 1 };
        assert!(found.first().is_some_and(|entry| entry.lsn <= Lsn(reached)), "{enough_at} {up_to}");
        assert!(enough_at != 450 || up_to < 450 || found.len() < 200, "{} entries were read", found.len());
    }
}

fn sample() -> Vec<LayerEntry> {
    let entry = |n: u64| LayerEntry { page: PageNo(n / 3), lsn: Lsn(n + 1), bytes: Bytes::from(vec![n as u8; 700]) };
    (0..60).map(entry).collect()
}

#[tokio::test]
async fn damage_is_found() {
    let fixture = write(LayerKind::Delta, &sample(), u64::MAX).await;
    let layer = &fixture.layers[0];
    let key = layer_key(&shard_prefix(BRANCH, SHARD), layer.name);
    let good = fixture.store.get(&key).await.expect("get");
    assert!(good.len() > 2 * format::FOOTER_BYTES, "the sample has blocks");
    // The eight bytes at the head serve people who look at a file; nothing is read from them.
    for bit in format::HEAD_BYTES * 8..good.len() * 8 {
        let mut flipped = good.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fixture.store.put(&key, Bytes::from(flipped)).await.expect("put");
        let reader = fixture.reader();
        let outcome = async {
            let mut scan = reader.scan(layer, PAGES).await?;
            while scan.next().await?.is_some() {}
            Ok::<_, LayerError>(())
        };
        let outcome = outcome.await;
        assert!(
            matches!(outcome, Err(LayerError::Damaged { .. } | LayerError::Version { .. })),
            "bit {bit} of {} flipped: {outcome:?}",
            good.len() * 8
        );
    }
}

/// Of another layer some sectors, of the right one the rest; and of the right one only the beginning.
#[tokio::test]
async fn torn_and_short_layers_are_found() {
    // Not to be compressed, so that both have about the same length.
    let noise = |salt: u64| {
        let mut state = salt;
        let mut byte = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let with = move |entry: LayerEntry| LayerEntry { bytes: (0..700).map(|_| byte()).collect(), ..entry };
        sample().into_iter().map(with).collect::<Vec<_>>()
    };
    let old = write(LayerKind::Delta, &noise(1), u64::MAX).await;
    let fixture = write(LayerKind::Delta, &noise(2), u64::MAX).await;
    let layer = &fixture.layers[0];
    let key = layer_key(&shard_prefix(BRANCH, SHARD), layer.name);
    let (good, old) = (fixture.store.get(&key).await.expect("get"), old.store.get(&key).await.expect("get"));
    let scan = async || {
        let reader = fixture.reader();
        let mut scan = reader.scan(layer, PAGES).await?;
        let mut found = Vec::new();
        while let Some(entry) = scan.next().await? {
            found.push(entry);
        }
        Ok::<_, LayerError>(found)
    };
    let (sectors, mut cases) = (good.len().div_ceil(512), 0);
    for (begin, length) in (0..sectors).flat_map(|begin| [1, 2, 7, sectors].map(|length| (begin, length))) {
        let range = begin * 512..((begin + length) * 512).min(good.len());
        if range.len() == good.len() {
            continue;
        }
        let mut torn = good.to_vec();
        let theirs = old.get(range.clone());
        theirs.into_iter().for_each(|theirs| torn[range.clone()].copy_from_slice(theirs));
        if torn == good {
            continue;
        }
        cases += 1;
        fixture.store.put(&key, torn.into()).await.expect("put");
        let outcome = scan().await;
        assert!(matches!(outcome, Err(LayerError::Damaged { .. })), "bytes {range:?} of another: {outcome:?}");
    }
    assert!(cases > 0, "{} bytes are too few to be torn", good.len());
    for length in (0..good.len()).step_by(37) {
        fixture.store.put(&key, good.slice(..length)).await.expect("put");
        assert!(scan().await.is_err(), "{length} bytes of {}", good.len());
    }
    fixture.store.put(&key, good).await.expect("put");
    assert_eq!(scan().await.expect("sound"), noise(2));
}

#[tokio::test]
async fn misplaced_layers_are_found() {
    let fixture = write(LayerKind::Delta, &sample(), 5_000).await;
    let prefix = shard_prefix(BRANCH, SHARD);
    let [first, second] = [&fixture.layers[0], &fixture.layers[1]];
    let other = fixture.store.get(&layer_key(&prefix, second.name)).await.expect("get");
    fixture.store.put(&layer_key(&prefix, first.name), other).await.expect("put");
    let claimed = LayerDescriptor { size_bytes: second.size_bytes, ..first.clone() };
    let outcome = fixture.reader().page(&claimed, (first.first_page, Lsn::MAX), |_| false).await;
    assert!(matches!(outcome, Err(LayerError::Damaged { .. })), "{outcome:?}");
    let bytes = fixture.store.get(&layer_key(&prefix, second.name)).await.expect("get");
    fixture.store.put(&layer_key(&shard_prefix(BranchId(6), SHARD), second.name), bytes).await.expect("put");
    let elsewhere = LayerDescriptor { branch: BranchId(6), ..second.clone() };
    let outcome = fixture.reader().page(&elsewhere, (second.first_page, Lsn::MAX), |_| false).await;
    assert!(matches!(outcome, Err(LayerError::Damaged { .. })), "another branch's layer is refused: {outcome:?}");
}

#[test]
fn lying_lengths_are_refused_before_allocation() {
    let identity = LayerIdentity { branch: BRANCH, kind: LayerKind::Delta, start_lsn: Lsn(0), end_lsn: Lsn(9) };
    let encoded = |raw: &[u8]| {
        let mut stored = vec![0; format::longest_block(raw.len())];
        let table = &mut lz4_flex::block::CompressTable::default();
        let length = format::encode_block(&identity, 0, PageNo(0), raw, table, &mut stored);
        stored.truncate(length);
        stored
    };
    let stored = encoded(&vec![0u8; format::MAX_BLOCK_BYTES + 1]);
    let refused = format::decode_block(&identity, 0, PageNo(0), &stored).expect_err("too long");
    assert!(refused.contains("claims"), "{refused}");
    for (number, page) in [(1, 0), (0, 1)] {
        let stored = encoded(b"");
        assert!(format::decode_block(&identity, number, PageNo(page), &stored).is_err());
    }
}

#[test]
fn names() {
    let name = LayerName { generation: Generation(0x1_2345_6789), sequence: 7 };
    assert_eq!(LayerName::parse(&name.to_string()), Some(name));
    for text in ["", "1", "x-1", "1-", "1-2-3"] {
        assert_eq!(LayerName::parse(text), None, "{text:?}");
    }
}

fn pieces(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(directory).expect("the cache's directory");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths
}

async fn check_reads(reader: &LayerReader, fixture: &Fixture, entries: &[LayerEntry]) {
    for page in (0..100).step_by(7).map(PageNo) {
        let expected: Vec<_> = entries.iter().filter(|entry| entry.page == page).cloned().collect();
        let mut found = Vec::new();
        for layer in fixture.layers.iter().filter(|layer| layer.covers(page)) {
            found.append(&mut reader.page(layer, (page, Lsn::MAX), |_| false).await.expect("page"));
        }
        assert_eq!(found, expected, "page {page}");
    }
}

#[tokio::test]
async fn disk_cache_is_only_a_cache() {
    // Bytes that do not compress, so that there are several pieces.
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let entries: Vec<_> = (0..300)
        .map(|n| LayerEntry { page: PageNo(n / 3), lsn: Lsn(n + 1), bytes: (0..4000).map(|_| noise()).collect() })
        .collect();
    let fixture = write(LayerKind::Delta, &entries, u64::MAX).await;
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("layers");
    let open = |limit| fixture.reader().with_disk_cache(DiskCache::open(&path, limit).expect("opens"));
    check_reads(&open(1 << 30), &fixture, &entries).await;
    assert!(pieces(&path).len() > 2, "{:?}", pieces(&path));

    // What an earlier run left is used: the store is not asked.
    let key = layer_key(&shard_prefix(BRANCH, SHARD), fixture.layers[0].name);
    let object = fixture.store.get(&key).await.expect("get");
    fixture.store.delete(&key).await.expect("delete");
    check_reads(&open(1 << 30), &fixture, &entries).await;
    fixture.store.put(&key, object).await.expect("put");

    // Damage of every kind is repaired from the store.
    let damaged = pieces(&path);
    for (number, piece) in damaged.iter().enumerate() {
        let mut bytes = std::fs::read(piece).expect("read");
        match number % 3 {
            0 => bytes[number * 100] ^= 1,
            1 => bytes.truncate(100),
            _ => bytes = std::fs::read(&damaged[0]).expect("read"),
        }
        std::fs::write(piece, bytes).expect("write");
    }
    check_reads(&open(1 << 30), &fixture, &entries).await;

    // Deleted while in use.
    let reader = open(1 << 30);
    std::fs::remove_dir_all(&path).expect("remove");
    check_reads(&reader, &fixture, &entries).await;

    // A limit of nothing keeps nothing, and everything is still read.
    check_reads(&open(0), &fixture, &entries).await;
}
