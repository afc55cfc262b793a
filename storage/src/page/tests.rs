//! Pages from outside: round trip, and refusal of everything else.

use proptest::prelude::*;

use super::*;
use crate::record::RedoOp;
use crate::redo::redo;

const BRANCH: BranchId = BranchId(3);
const NUMBER: PageNo = PageNo(77);

fn entry<'a>(suffix: &'a [u8], value: &'a [u8]) -> EntryBytes<'a> {
    EntryBytes { suffix, value, out_of_line: false }
}

/// A leaf with `count` rows, some dead bytes, and a prefix.
fn leaf(count: u16) -> Box<Page> {
    let mut page = Page::unused();
    let tree = TreeId(PageNo(9));
    redo(&mut page, &RedoOp::Format { level: 0, flags: 0, tree, prefix: b"prefix" }).expect("sound");
    for slot in 0..count {
        let suffix = format!("{slot:06}");
        redo(&mut page, &RedoOp::Insert { slot, entry: entry(suffix.as_bytes(), b"some value") }).expect("fits");
    }
    redo(&mut page, &RedoOp::Delete { slot: count / 2, count: 2 }).expect("there");
    page.set_lsn(Lsn(0x1234_5678_9ABC));
    page
}

#[test]
fn a_sealed_page_opens_as_itself_and_nothing_else() {
    let page = leaf(100);
    let sealed = page.seal(BRANCH, NUMBER);
    let opened = Page::open(&sealed, BRANCH, NUMBER).expect("sound");
    assert!(opened.bytes() == page.bytes());
    assert_eq!(opened.lsn(), Lsn(0x1234_5678_9ABC));
    for (branch, number) in [(BranchId(4), NUMBER), (BRANCH, PageNo(78)), (BRANCH, PageNo(0))] {
        assert!(matches!(Page::open(&sealed, branch, number), Err(PageDamage::Checksum { .. })));
    }
    for bytes in [&sealed[..0], &sealed[1..], &[&sealed[..], &[0]].concat()] {
        assert_eq!(verify(bytes, BRANCH, NUMBER), Err(PageDamage::Size { bytes: bytes.len() }));
    }
    let unused = Page::unused().seal(BRANCH, NUMBER);
    assert_eq!(Page::open(&unused, BRANCH, NUMBER).expect("sound").kind(), PageKind::Unused);
}

/// Some sectors of one version of a page, the rest of another: never a page.
#[test]
fn torn_pages_are_noticed() {
    let (old, new) = (leaf(90).seal(BRANCH, NUMBER), leaf(120).seal(BRANCH, NUMBER));
    for begin in (0..PAGE_SIZE_BYTES).step_by(512) {
        for end in (begin + 512..=PAGE_SIZE_BYTES).step_by(512) {
            let mut torn = old.to_vec();
            torn[begin..end].copy_from_slice(&new[begin..end]);
            if torn == old[..] || torn == new[..] {
                continue;
            }
            let found = Page::open(&torn, BRANCH, NUMBER);
            assert!(matches!(found, Err(PageDamage::Checksum { .. })), "bytes {begin} to {end} of another version");
        }
    }
}

#[test]
fn every_single_bit_flip_is_noticed() {
    let mut sealed = leaf(100).seal(BRANCH, NUMBER).to_vec();
    for bit in 0..PAGE_SIZE_BYTES * 8 {
        sealed[bit / 8] ^= 1 << (bit % 8);
        let result = verify(&sealed, BRANCH, NUMBER);
        assert!(matches!(result, Err(PageDamage::Checksum { .. })), "bit {bit}");
        sealed[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(verify(&sealed, BRANCH, NUMBER), Ok(()));
}

#[test]
fn a_newer_version_is_named() {
    let mut page = leaf(3);
    page.bytes_mut()[VERSION] = 2;
    let damage = Page::open(&page.seal(BRANCH, NUMBER), BRANCH, NUMBER).expect_err("newer");
    assert_eq!(damage, PageDamage::Version { version: 2 });
}

#[test]
fn searches_find_heads_tails_and_short_keys() {
    let keys: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"\0\0\0\0", b"\0\0\0\0\0", b"\0\0\0\0\x01", b"a", b"abcd", b"abcde"];
    let mut page = Page::unused();
    redo(&mut page, &RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(9)), prefix: b"xy" }).expect("sound");
    for (slot, suffix) in keys.iter().enumerate() {
        redo(&mut page, &RedoOp::Insert { slot: slot as u16, entry: entry(suffix, suffix) }).expect("in order");
    }
    page.check().expect("sound");
    for (slot, suffix) in keys.iter().enumerate() {
        let key = [b"xy", *suffix].concat();
        assert_eq!(page.search(&key), Ok(slot), "{key:?}");
        assert_eq!(page.value(slot), EntryValue::Inline(suffix));
        let mut read = Vec::new();
        page.read_key(slot, &mut read);
        assert_eq!(read, key);
        assert_eq!(page.compare_key(slot, &key), std::cmp::Ordering::Equal);
    }
    let missing: [(&[u8], usize); 7] =
        [(b"", 0), (b"x", 0), (b"xx", 0), (b"xz", 9), (b"xyabcc", 7), (b"xyabcdd", 8), (b"xyabcdee", 9)];
    for (key, slot) in missing {
        assert_eq!(page.search(key), Err(slot), "{key:?}");
    }
}

/// Everything that a reader or a writer may do with a page that has passed the check.
fn touch_everything(page: &Page) {
    match page.kind() {
        PageKind::Leaf | PageKind::Internal => {
            let mut key = Vec::new();
            for slot in 0..page.slot_count() {
                page.read_key(slot, &mut key);
                if slot >= page.first_key_slot() {
                    assert_eq!(page.search(&key), Ok(slot));
                }
                match page.is_leaf() {
                    true => assert!(page.value_range(slot).end <= PAGE_SIZE_BYTES),
                    false => assert!(page.child(slot).0 > 0 || page.child_slot(&key) <= page.slot_count()),
                }
                page.entry_bytes(slot);
            }
            page.fit(b"some key", 100);
            page.size_with_prefix(0);
            page.shared_prefix_len(0..page.slot_count());
        }
        PageKind::Overflow => assert!(page.overflow_data().len() + 8 * page.overflow_pages().len() <= PAGE_SIZE_BYTES),
        PageKind::Meta => assert!(page.meta_pages().len() < PAGE_SIZE_BYTES),
        PageKind::FreeList => assert!(page.free_list_pages().len() < PAGE_SIZE_BYTES),
        PageKind::Unused => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// A faulty program seals what it has: the checksum is right, the structure is not.
    #[test]
    fn broken_structure_never_panics(
        kind in 0_u8..8,
        count in 0_u16..200,
        damage in prop::collection::vec((prop_oneof![4_usize..64, 64..PAGE_SIZE_BYTES], any::<u8>()), 0..12),
        change in any::<[u8; 24]>(),
    ) {
        let mut page = leaf(count.max(5));
        if kind != 0 {
            page.bytes_mut()[KIND] = kind;
            page.bytes_mut()[LEVEL] = u8::from(kind == 2);
        }
        for (at, byte) in damage {
            page.bytes_mut()[at] = byte;
        }
        let sealed = page.seal(BRANCH, NUMBER);
        if let Ok(mut page) = Page::open(&sealed, BRANCH, NUMBER) {
            touch_everything(&page);
            if let Ok(record) = crate::record::Record::decode(&mut crate::varint::Input::new(&change)) {
                let _ = redo(&mut page, &record.op);
                page.check().expect("redo keeps the structure sound");
                touch_everything(&page);
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut page = Page::unused();
        page.bytes_mut()[4..][..bytes.len()].copy_from_slice(&bytes);
        page.bytes_mut()[VERSION] = PAGE_VERSION;
        if page.check().is_ok() {
            touch_everything(&page);
        }
    }
}
