//! Records: round trip, refusal of everything else, and redo that keeps pages sound whatever comes.

use proptest::prelude::*;

use super::*;
use crate::page::{PAGE_SIZE_BYTES, PageKind};
use crate::redo::redo;

/// An operation with bytes of its own, from which a borrowed one is made.
#[derive(Clone, Debug)]
struct Owned {
    kind: u8,
    numbers: [u16; 3],
    page: u64,
    first: Vec<u8>,
    second: Vec<u8>,
    flag: bool,
    run: Vec<u8>,
    run_count: usize,
}

impl Owned {
    fn op(&self) -> RedoOp<'_> {
        let [slot, a, b] = self.numbers;
        let tree = TreeId(PageNo(self.page));
        let next = Some(PageNo(self.page)).filter(|page| page.0 != 0);
        let entry = EntryBytes { suffix: &self.first, value: &self.second, out_of_line: self.flag };
        match self.kind {
            0 => RedoOp::Format { level: a as u8 % 3, flags: b as u8 & 1, tree, prefix: &self.first },
            1 | 2 => RedoOp::Insert { slot, entry },
            3 => RedoOp::InsertRun { slot, entries: EntryRun::new(self.run_count, &self.run) },
            4 => RedoOp::Update { slot, value: &self.second, out_of_line: self.flag },
            5 => RedoOp::Splice { slot, keep_front: a, keep_back: b, middle: &self.second },
            6 => RedoOp::Delete { slot, count: a },
            7 => RedoOp::Rebuild { prefix_len: a },
            8 => RedoOp::SetFlags { flags: a as u8 & 3 },
            9 => RedoOp::Image { start: &self.first, end: &self.second },
            10 => RedoOp::Overflow { tree, next, pages: PageRun::new(&self.first), data: &self.second },
            11 => RedoOp::MetaFormat { catalog: tree, upkeep: tree, next_page: PageNo(u64::from(a)) },
            12 => RedoOp::MetaExtend { count: self.page },
            13 => RedoOp::MetaPop { count: a },
            14 => RedoOp::MetaPush { pages: PageRun::new(&self.first) },
            15 => RedoOp::MetaSpill { head: PageNo(self.page) },
            16 => RedoOp::MetaRefill { next, pages: PageRun::new(&self.first) },
            _ => RedoOp::FreeList { next, pages: PageRun::new(&self.first) },
        }
    }
}

fn operation() -> impl Strategy<Value = Owned> {
    let bytes = || {
        prop_oneof![
            6 => prop::collection::vec(0_u8..4, 0..10),
            2 => prop::collection::vec(any::<u8>(), 8..=8),
            1 => (0_usize..2600).prop_map(|length| vec![1; length]),
            1 => (0_usize..4, any::<u8>()).prop_map(|(words, byte)| vec![byte; words * 8]),
        ]
    };
    let number = || prop_oneof![8 => 0_u16..12, 1 => any::<u16>()];
    let run = prop::collection::btree_map(bytes(), bytes(), 0..6).prop_map(|entries| {
        let mut run = Vec::new();
        for (suffix, value) in &entries {
            put_entry(&mut run, EntryBytes { suffix, value, out_of_line: false });
        }
        (run, entries.len())
    });
    let page = prop_oneof![4 => 0_u64..20, 1 => any::<u64>()];
    let numbers = (number(), number(), number());
    (0_u8..18, numbers, page, bytes(), bytes(), any::<bool>(), run).prop_map(
        |(kind, numbers, page, first, second, flag, (run, run_count))| Owned {
            kind,
            numbers: numbers.into(),
            page,
            first,
            second,
            flag,
            run,
            run_count,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(operation in operation(), page in any::<u64>()) {
        let record = Record { page: PageNo(page), op: operation.op() };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        prop_assert_eq!(Record::bytes_initialize_page(&bytes), record.op.initializes_page());
        prop_assert_eq!(Record::decode_exact(&bytes), Ok(record));
        for end in 0..bytes.len() {
            prop_assert!(Record::decode_exact(&bytes[..end]).is_err(), "cut at {}", end);
        }
        bytes.push(0);
        prop_assert!(Record::decode_exact(&bytes).is_err());
    }

    #[test]
    fn decoding_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(record) = Record::decode_exact(&bytes) {
            let mut again = Vec::new();
            record.encode(&mut again);
            prop_assert_eq!(Record::decode_exact(&again), Ok(record));
        }
    }

    #[test]
    fn redo_keeps_pages_sound(internal in any::<bool>(), operations in prop::collection::vec(operation(), 1..40)) {
        let mut page = Page::unused();
        let format = RedoOp::Format { level: internal.into(), flags: 0, tree: TreeId(PageNo(5)), prefix: &[1] };
        redo(&mut page, &format).expect("sound");
        for operation in &operations {
            let mut twin = page.clone();
            let result = redo(&mut page, &operation.op());
            prop_assert_eq!(result, redo(&mut twin, &operation.op()));
            prop_assert!(page == twin, "redo is a function");
            prop_assert_eq!(page.check(), Ok(()), "after {:?}: {:?}", operation, result);
        }
        // What stands can be carried as an image.
        prop_assume!(page.kind() != PageKind::Unused);
        let mut copy = Page::unused();
        redo(&mut copy, &RedoOp::image_of(&page)).expect("image of a sound page");
        prop_assert_eq!(copy.check(), Ok(()));
    }
}

#[test]
fn images_leave_the_hole_out() {
    let mut page = Page::unused();
    redo(&mut page, &RedoOp::Format { level: 0, flags: 0, tree: TreeId(PageNo(5)), prefix: b"abc" }).expect("sound");
    let entry = EntryBytes { suffix: b"def", value: b"value", out_of_line: false };
    redo(&mut page, &RedoOp::Insert { slot: 0, entry }).expect("fits");
    let mut bytes = Vec::new();
    Record { page: PageNo(5), op: RedoOp::image_of(&page) }.encode(&mut bytes);
    assert!(bytes.len() < 80, "{} bytes", bytes.len());
    let record = Record::decode_exact(&bytes).expect("just encoded");
    let mut copy = Page::unused();
    redo(&mut copy, &record.op).expect("sound");
    assert!(copy == page);
    // Stale bytes of an earlier content must not shine through.
    copy.bytes_mut()[PAGE_SIZE_BYTES / 2..].fill(0xEE);
    redo(&mut copy, &record.op).expect("sound");
    assert!(copy == page);
}
