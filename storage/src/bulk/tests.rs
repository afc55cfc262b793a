//! Bulk-built trees: the same rows, sound, full, and open to ordinary changes afterwards.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::btree::{Cursor, PageWriter, Reclaimed, check_space, check_tree, reclaim_step, write_sorted};
use crate::meta::{CATALOG_TREE, UPKEEP_TREE};
use crate::page::MAX_KEY_BYTES;
use crate::testing::{MemoryPages, replay};

impl BulkSink for MemoryPages {
    type Error = TreeError;

    fn allocate(&mut self) -> Result<PageNo, TreeError> {
        PageWriter::allocate(self)
    }

    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), TreeError> {
        self.apply(page, op)
    }
}

fn build(rows: &BTreeMap<Vec<u8>, Vec<u8>>, fill_percent: u8) -> (MemoryPages, TreeId) {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    let built = pages.commit(|pages| {
        let mut builder = BulkBuilder::new(tree, fill_percent);
        for (key, value) in rows {
            assert_eq!(builder.push(pages, key, value)?, Pushed::Added);
            assert_eq!(builder.push(pages, key, value)?, Pushed::OutOfOrder);
        }
        assert_eq!(builder.rows(), rows.len() as u64);
        builder.finish(pages)
    });
    let built = built.expect("rows are sound");
    assert_eq!(check_tree(&pages, tree).expect("readable").rows, 0, "not attached yet");
    pages.commit(|pages| pages.apply(tree.0, &built.attach_op())).expect("attaches");
    (pages, tree)
}

fn check(pages: &MemoryPages, tree: TreeId, rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> crate::btree::TreeReport {
    let mut cursor = Cursor::new(pages, tree);
    let mut more = cursor.seek_first().expect("readable");
    for (key, value) in rows {
        assert!(more && cursor.key() == key && cursor.value() == value, "row {key:?}");
        more = cursor.next_row().expect("readable");
    }
    assert!(!more);
    let mut in_use = Vec::new();
    for tree in [CATALOG_TREE, UPKEEP_TREE, tree] {
        let report = check_tree(pages, tree).expect("readable");
        assert_eq!(report.problems, []);
        in_use.extend(report.pages);
    }
    assert_eq!(check_space(pages, in_use).expect("readable"), []);
    let replayed = replay(&pages.log);
    assert!(pages.iter().all(|(number, page)| replayed[&number].bytes() == page.bytes()));
    check_tree(pages, tree).expect("readable")
}

fn rows() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let key = prop_oneof![
        6 => any::<u16>().prop_map(|number| u64::from(number).to_be_bytes().to_vec()),
        2 => prop::collection::vec(0_u8..3, 0..12),
        1 => (0_u8..2, 2400_usize..=MAX_KEY_BYTES, any::<u8>())
            .prop_map(|(byte, len, last)| [vec![byte; len - 1], vec![last]].concat()),
    ];
    let length = prop_oneof![8 => 0_usize..90, 2 => 1000_usize..2100, 1 => 8000_usize..20_000];
    let value = (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    prop::collection::btree_map(key, value, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn builds_changes_and_gives_back(rows in rows(), fill_percent in 50_u8..=100, more in rows()) {
        let (mut pages, tree) = build(&rows, fill_percent);
        check(&pages, tree, &rows);

        let mut both = rows.clone();
        both.extend(more.clone());
        let writes = more.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        pages.commit(|pages| write_sorted(pages, tree, writes)).expect("writes apply");
        check(&pages, tree, &both);

        let mut steps = 0;
        while pages.commit(|pages| reclaim_step(pages, tree, 20)).expect("resident") != Reclaimed::All {
            prop_assert_eq!(check_tree(&pages, tree).expect("readable").problems, []);
            steps += 1;
        }
        prop_assert!(steps < 2000);
        prop_assert_eq!(check_space(&pages, [CATALOG_TREE.0, UPKEEP_TREE.0]).expect("readable"), []);
    }
}

#[test]
fn pages_are_as_full_as_asked() {
    let rows: BTreeMap<_, _> = (0_u64..50_000).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 80])).collect();
    for fill_percent in [60, 90, 100] {
        let (pages, tree) = build(&rows, fill_percent);
        let report = check(&pages, tree, &rows);
        let fill = report.leaf_used_bytes as f64 / (report.leaf_pages as f64 * BODY_BYTES as f64);
        let asked = f64::from(fill_percent) / 100.0;
        assert!(fill <= asked && fill > asked - 0.02, "asked {asked}, got {fill:.3}");
    }
}

#[test]
fn an_empty_load_is_an_empty_tree() {
    let (pages, tree) = build(&BTreeMap::new(), 90);
    assert_eq!(check(&pages, tree, &BTreeMap::new()).pages, [tree.0]);
}
