//! Golden files of what storage writes: today's code reads each, writes it again byte by byte, and refuses it when
//! it is cut short, when any bit is flipped, and when it says that a newer program wrote it.
//!
//! A file of `tests/golden/` that this test fails on is a format that has changed: databases that exist would not be
//! read any more. A new version gets a new file *beside* the old one, which stays readable. `BLESS=1` writes files that
//! are missing; it never replaces one.

use bytes::Bytes;
use storage::batch::{BatchDecoder, BatchEncoder, BatchError, MIN_PART_BYTES};
use storage::layer::format::LayerIdentity;
use storage::layer::{
    DiskCache, LayerCache, LayerDescriptor, LayerEntry, LayerError, LayerKind, LayerName, LayerReader, RunSettings,
    RunWriter, layer_key, shard_prefix,
};
use storage::layout::ShardLayout;
use storage::manifest::{Manifest, ManifestError, TimeMark};
use storage::object::{ObjectStore, RetryPolicy};
use storage::page::{EntryBytes, OverflowRef, Page, PageDamage};
use storage::record::{EntryRun, PageRun, Record, RedoOp, put_entry};
use storage::redo::redo;
use storage::upkeep::Upkeep;
use storage::{BranchId, Epoch, Generation, Lsn, PageNo, ShardId, TreeId};

const BRANCH: BranchId = BranchId(7);
const PAGES: std::ops::RangeInclusive<PageNo> = PageNo(0)..=PageNo(u64::MAX);
const PAGE: PageNo = PageNo(42);
const TREE: TreeId = TreeId(PageNo(42));

/// The bytes of a golden file, which are those written today. Thirty-two bytes a line; `* n` stands for n lines of zeros.
fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = path(name);
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::write(&path, to_hex(written)).expect("the file can be written");
    }
    let stored = stored(name);
    assert!(stored == written, "{name}: what is written today differs from the golden file");
    stored
}

/// The bytes of a golden file that is not written any more.
fn stored(name: &str) -> Vec<u8> {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    from_hex(&text)
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

fn to_hex(bytes: &[u8]) -> String {
    let (mut text, mut zeros) = (String::new(), 0);
    for line in bytes.chunks(32) {
        if line == [0; 32] {
            zeros += 1;
            continue;
        }
        if zeros > 0 {
            text.push_str(&format!("* {zeros}\n"));
            zeros = 0;
        }
        text.extend(line.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    if zeros > 0 {
        text.push_str(&format!("* {zeros}\n"));
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("* ") {
            Some(lines) => bytes.resize(bytes.len() + 32 * lines.parse::<usize>().expect("a number of lines"), 0),
            None => bytes.extend(
                (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal")),
            ),
        }
    }
    bytes
}

/// Asserts that `accepts` refuses every truncation and every single flipped bit of `bytes`.
fn refuses_damage(name: &str, bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(bytes), "{name}: the golden file itself");
    for length in 0..bytes.len() {
        assert!(!accepts(&bytes[..length]), "{name}: cut to {length} bytes");
    }
    let mut damaged = bytes.to_vec();
    for bit in 0..8 * bytes.len() {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&damaged), "{name}: bit {} of byte {} flipped", bit % 8, bit / 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

fn page(ops: &[RedoOp<'_>]) -> Box<Page> {
    let mut page = Page::unused();
    for op in ops {
        redo(&mut page, op).expect("the operation suits the page");
    }
    page.set_lsn(Lsn(0x0102_0304_0506));
    page
}

fn entry<'a>(suffix: &'a [u8], value: &'a [u8]) -> EntryBytes<'a> {
    EntryBytes { suffix, value, out_of_line: false }
}

#[test]
fn pages() {
    let overflow = OverflowRef { first: PageNo(9), length_bytes: 20_000 }.encode();
    let leaf = page(&[
        RedoOp::Format { level: 0, flags: 1, tree: TREE, prefix: b"key/" },
        RedoOp::Insert { slot: 0, entry: entry(b"b", b"second") },
        RedoOp::Insert { slot: 0, entry: entry(b"a long suffix", b"first") },
        RedoOp::Insert { slot: 2, entry: EntryBytes { suffix: b"c", value: &overflow, out_of_line: true } },
        RedoOp::Insert { slot: 3, entry: entry(b"d", b"") },
        RedoOp::Delete { slot: 3, count: 1 },
    ]);
    let children = [5_u64, 6, 7].map(u64::to_le_bytes);
    let internal = page(&[
        RedoOp::Format { level: 2, flags: 0, tree: TREE, prefix: b"" },
        RedoOp::Insert { slot: 0, entry: entry(b"", &children[0]) },
        RedoOp::Insert { slot: 1, entry: entry(b"m", &children[1]) },
        RedoOp::Insert { slot: 2, entry: entry(b"t", &children[2]) },
    ]);
    let numbers: Vec<u8> = [11_u64, 12, 13].into_iter().flat_map(u64::to_le_bytes).collect();
    let run = || PageRun::new(&numbers);
    let value = page(&[RedoOp::Overflow { tree: TREE, next: Some(PageNo(77)), pages: run(), data: &[0xAB; 300] }]);
    let meta = page(&[
        RedoOp::MetaFormat { catalog: TreeId(PageNo(1)), upkeep: TreeId(PageNo(2)), next_page: PageNo(3) },
        RedoOp::MetaExtend { count: 100 },
        RedoOp::MetaPush { pages: run() },
        RedoOp::MetaPop { count: 1 },
    ]);
    let free = page(&[RedoOp::FreeList { next: Some(PageNo(78)), pages: run() }]);
    for (name, page) in [
        ("page_leaf", leaf),
        ("page_internal", internal),
        ("page_overflow", value),
        ("page_meta", meta),
        ("page_free_list", free),
    ] {
        let bytes = golden(name, &page.seal(BRANCH, PAGE));
        assert_eq!(Page::open(&bytes, BRANCH, PAGE).expect(name), page, "{name}");
        refuses_damage(name, &bytes, |bytes| Page::open(bytes, BRANCH, PAGE).is_ok());
        let mut newer = bytes.clone();
        newer[4] = 2;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&BRANCH.0.to_le_bytes());
        crc.update(&PAGE.0.to_le_bytes());
        crc.update(&newer[4..]);
        newer[..4].copy_from_slice(&crc.finalize().to_le_bytes());
        assert_eq!(Page::open(&newer, BRANCH, PAGE).err(), Some(PageDamage::Version { version: 2 }), "{name}");
    }
}

#[test]
fn batches_and_every_record() {
    let numbers: Vec<u8> = [11_u64, 12].into_iter().flat_map(u64::to_le_bytes).collect();
    let run = PageRun::new(&numbers);
    let mut several = Vec::new();
    put_entry(&mut several, entry(b"a", b"1"));
    put_entry(&mut several, EntryBytes { suffix: b"b", value: &[2; 16], out_of_line: true });
    let next = Some(PageNo(300));
    let ops = [
        RedoOp::Format { level: 1, flags: 1, tree: TREE, prefix: b"prefix" },
        RedoOp::Insert { slot: 3, entry: entry(b"suffix", b"value") },
        RedoOp::InsertRun { slot: 4, entries: EntryRun::new(2, &several) },
        RedoOp::Update { slot: 5, value: b"other", out_of_line: false },
        RedoOp::Splice { slot: 6, keep_front: 7, keep_back: 8, middle: b"middle" },
        RedoOp::Delete { slot: 9, count: 10 },
        RedoOp::Rebuild { prefix_len: 11 },
        RedoOp::SetFlags { flags: 1 },
        RedoOp::Image { start: b"begins so", end: b"ends so" },
        RedoOp::Overflow { tree: TREE, next, pages: run, data: b"a piece" },
        RedoOp::MetaFormat { catalog: TREE, upkeep: TreeId(PageNo(2)), next_page: PageNo(3) },
        RedoOp::MetaExtend { count: 400 },
        RedoOp::MetaPop { count: 1 },
        RedoOp::MetaPush { pages: run },
        RedoOp::MetaSpill { head: PageNo(5) },
        RedoOp::MetaRefill { next: None, pages: run },
        RedoOp::FreeList { next, pages: run },
    ];
    let start = Lsn(1 << 33);
    let mut encoder = BatchEncoder::new(start, MIN_PART_BYTES);
    encoder.begin();
    for (number, op) in ops.iter().enumerate() {
        encoder.push(PageNo(1000 * number as u64), op);
    }
    encoder.finish(1_700_000_000_000_000);
    let (_, written, _) = encoder.take(Vec::new());
    let bytes = golden("batch", &written);
    let read = |bytes: &[u8]| -> Result<bool, BatchError> {
        let mut decoder = BatchDecoder::new(start);
        decoder.feed(start, Epoch(3), Bytes::copy_from_slice(bytes))?;
        let Some(batch) = decoder.next_batch() else { return Ok(false) };
        assert_eq!(batch.commit_time_us, 1_700_000_000_000_000);
        let records: Vec<Record<'_>> = batch.records().map(|record| record.expect("it decodes")).collect();
        let expected =
            ops.iter().enumerate().map(|(number, op)| Record { page: PageNo(1000 * number as u64), op: *op });
        assert!(records.into_iter().eq(expected), "the records are those that were written");
        Ok(true)
    };
    refuses_damage("batch", &bytes, |bytes| read(bytes) == Ok(true));
    let mut newer = bytes;
    newer[8] = 2;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&start.0.to_le_bytes());
    crc.update(&newer[8..]);
    newer[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    assert_eq!(read(&newer), Err(BatchError::Version { at: start, version: 2 }));
}

fn layer(kind: LayerKind) -> (LayerDescriptor, Vec<LayerEntry>) {
    let start_lsn = if kind == LayerKind::Image { Lsn(900) } else { Lsn(100) };
    let name = LayerName { generation: Generation(3), sequence: 8 };
    let record = |page: PageNo| {
        let mut bytes = Vec::new();
        Record { page, op: RedoOp::SetFlags { flags: 1 } }.encode(&mut bytes);
        Bytes::from(bytes)
    };
    let entries = match kind {
        LayerKind::Delta => [(4, 200), (4, 300), (9, 250), (1000, 900)]
            .map(|(page, lsn)| LayerEntry { page: PageNo(page), lsn: Lsn(lsn), bytes: record(PageNo(page)) })
            .to_vec(),
        LayerKind::Image => [4, 9]
            .map(|number| {
                let mut content = page(&[RedoOp::Format { level: 0, flags: 0, tree: TREE, prefix: b"p" }]);
                content.set_lsn(Lsn(300));
                let bytes = content.seal(BRANCH, PageNo(number));
                LayerEntry { page: PageNo(number), lsn: Lsn(300), bytes }
            })
            .to_vec(),
    };
    let (first, last) = match kind {
        LayerKind::Delta => (PageNo(4), PageNo(1000)),
        LayerKind::Image => (PageNo(0), PageNo(u64::MAX)),
    };
    let count = entries.len() as u64;
    let layer = LayerDescriptor {
        branch: BRANCH,
        shard: ShardId(0),
        name,
        kind,
        level: 1,
        first_page: first,
        last_page: last,
        start_lsn,
        end_lsn: Lsn(900),
        visible_lsn: Lsn(900),
        size_bytes: 0,
        entries: count,
    };
    (layer, entries)
}

/// A layer file as it is written today.
async fn written_layer(expected: &LayerDescriptor, entries: &[LayerEntry]) -> Bytes {
    let prefix = shard_prefix(BRANCH, ShardId(0));
    let LayerDescriptor { kind, start_lsn, end_lsn, .. } = *expected;
    let identity = LayerIdentity { branch: BRANCH, kind, start_lsn, end_lsn };
    let settings = RunSettings { shard: ShardId(0), identity, level: 1, pages: PAGES, layer_target_bytes: 1 << 20 };
    let store = ObjectStore::memory(RetryPolicy::none());
    let mut writer = RunWriter::new(&store, settings, || expected.name);
    for entry in entries {
        writer.push(entry.page, entry.lsn, &entry.bytes).await.expect("memory takes it");
    }
    let written = writer.finish().await.expect("memory takes it").remove(0);
    let bytes = store.get(&layer_key(&prefix, expected.name)).await.expect("it was written");
    assert_eq!(written, LayerDescriptor { size_bytes: bytes.len() as u64, ..expected.clone() });
    bytes
}

async fn check_layer(file: &str, bytes: &[u8], expected: LayerDescriptor, entries: &[LayerEntry]) {
    let key = layer_key(&shard_prefix(BRANCH, ShardId(0)), expected.name);
    let described = LayerDescriptor { size_bytes: bytes.len() as u64, ..expected };
    let read = async |bytes: &[u8]| -> Result<Vec<LayerEntry>, LayerError> {
        let store = ObjectStore::memory(RetryPolicy::none());
        store.put(&key, Bytes::copy_from_slice(bytes)).await?;
        let reader = LayerReader::new(store, LayerCache::new(1 << 16, 1 << 16));
        let mut scan = reader.scan(&described, PAGES).await?;
        let mut found = Vec::new();
        while let Some(entry) = scan.next().await? {
            found.push(entry);
        }
        Ok(found)
    };
    assert_eq!(read(bytes).await.expect(file), entries, "{file}");
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).await.is_err(), "{file}: cut to {length} bytes");
    }
    // The head is for people who look at the file: readers go by footer and index.
    for bit in 8 * 8..8 * bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&damaged).await.is_err(), "{file}: bit {} of byte {} flipped", bit % 8, bit / 8);
    }
    let mut newer = bytes.to_vec();
    let footer = newer.len() - 76;
    newer[footer + 4] = 3;
    let crc = crc32fast::hash(&newer[footer..newer.len() - 4]);
    let end = newer.len();
    newer[end - 4..].copy_from_slice(&crc.to_le_bytes());
    let refused = read(&newer).await;
    assert!(matches!(refused, Err(LayerError::Version { version: 3, .. })), "{file}: {refused:?}");
}

/// Version 1 had entries with heads of fixed length. It is read, and never written again.
#[tokio::test]
async fn layers_of_both_versions() {
    for (name, kind) in [("layer_delta", LayerKind::Delta), ("layer_image", LayerKind::Image)] {
        let (expected, entries) = layer(kind);
        let current = format!("{name}_2");
        let bytes = golden(&current, &written_layer(&expected, &entries).await);
        check_layer(&current, &bytes, expected.clone(), &entries).await;
        check_layer(name, &stored(name), expected, &entries).await;
    }
}

#[test]
fn manifests_of_all_versions() {
    let mut first = Manifest::empty(BRANCH, ShardId(1), ShardLayout::SINGLE).taken_over(uuid::Uuid::from_u128(42));
    (first.durable_lsn, first.horizon) = (Lsn(900), Lsn(100));
    first.layers = [LayerKind::Delta, LayerKind::Image].map(|kind| layer(kind).0).to_vec();
    first.layers.iter_mut().for_each(|layer| layer.shard = first.shard);
    first.garbage = vec![LayerName { generation: Generation(2), sequence: 5 }];
    let mut second = Manifest { layout: ShardLayout::new(4, 256).expect("a layout"), ..first.clone() };
    second.layers[0].branch = BranchId(3);
    second.layers[0].visible_lsn = Lsn(800);
    second.marks = vec![TimeMark { lsn: Lsn(300), commit_time_us: 1_700_000_000_000_000 }];

    let mut third = second.clone();
    third.layers[1].shard = ShardId(3);

    // Version 1 had one shard, and neither inherited layers nor marks; version 2 no splits. They are read, and never written
    // again.
    let (one, two) = (stored("manifest_1"), stored("manifest_2"));
    let bytes = golden("manifest_3", &third.encode());
    let all = [("manifest_1", one, first), ("manifest_2", two, second), ("manifest_3", bytes.clone(), third)];
    for (name, bytes, manifest) in all {
        assert_eq!(Manifest::decode(&bytes), Ok(manifest), "{name}");
        refuses_damage(name, &bytes, |bytes| Manifest::decode(bytes).is_ok());
    }
    let mut newer = bytes;
    newer[4] = 4;
    assert_eq!(Manifest::decode(&newer), Err(ManifestError::Version { version: 4 }));
}

#[test]
fn upkeep_rows() {
    let rows = [Upkeep::Run { first: PageNo(0x0102), pages: 1024 }, Upkeep::Dropped { tree: TreeId(PageNo(0x0304)) }];
    let written: Vec<u8> = rows.iter().flat_map(|row| [row.key().to_vec(), row.value()].concat()).collect();
    let bytes = golden("upkeep", &written);
    let split = [(&bytes[..9], &bytes[9..17]), (&bytes[17..26], &bytes[26..])];
    for ((key, value), row) in split.into_iter().zip(rows) {
        assert_eq!(Upkeep::decode(key, value).expect("it decodes"), row);
        for length in 0..key.len() {
            assert!(Upkeep::decode(&key[..length], value).is_err(), "{row:?}: key cut to {length} bytes");
        }
        for length in 0..value.len() {
            assert!(Upkeep::decode(key, &value[..length]).is_err(), "{row:?}: value cut to {length} bytes");
        }
        let longer = [value, &[0]].concat();
        assert!(Upkeep::decode(key, &longer).is_err(), "{row:?}: bytes behind the value");
    }
}

/// A piece of the layers' cache on local disk: what an earlier program left there is used, what is damaged or another piece's is
/// fetched anew.
#[tokio::test]
async fn pieces_of_the_cache_on_disk() {
    const KEY: &str = "shard/7/layer-1";
    const NAME: &str = "shard_7_layer-1.0.piece";
    let content: Bytes = (0..1000u32).map(|at| (at * 7 + at / 256) as u8).collect();
    let (full, empty) = (ObjectStore::memory(RetryPolicy::none()), ObjectStore::memory(RetryPolicy::none()));
    full.put(KEY, content.clone()).await.expect("put");
    let directory = tempfile::tempdir().expect("a directory");
    let cache = DiskCache::open(directory.path(), 1 << 20).expect("opens");
    assert_eq!(cache.get_range(&full, KEY, 1000, 100..200).await, Ok(content.slice(100..200)));
    let bytes = golden("cache_piece", &std::fs::read(directory.path().join(NAME)).expect("it is there"));

    // Whether a program that finds the piece under this name reads it from there: the store has nothing.
    let is_read = async |name: &str, key: &str, piece: &[u8]| {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(name), piece).expect("written");
        let cache = DiskCache::open(directory.path(), 1 << 20).expect("opens");
        let found = cache.get_range(&empty, key, 1000, 0..1000).await;
        assert!(found.is_err() || found.as_ref() == Ok(&content), "a wrong answer");
        found.is_ok()
    };
    assert!(is_read(NAME, KEY, &bytes).await);
    assert!(!is_read("shard_8_layer-1.0.piece", "shard/8/layer-1", &bytes).await, "another layer's piece");
    for length in (0..bytes.len()).step_by(37) {
        assert!(!is_read(NAME, KEY, &bytes[..length]).await, "cut to {length} bytes");
    }
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << (byte % 8);
        assert!(!is_read(NAME, KEY, &damaged).await, "bit {} of byte {byte} flipped", byte % 8);
    }
}
