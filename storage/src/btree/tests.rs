//! Trees against a model, and every batch they log against replay.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::{PageNo, TreeId};
use crate::meta::{CATALOG_TREE, UPKEEP_TREE};
use crate::page::{MAX_INLINE_VALUE_BYTES, MAX_KEY_BYTES};
use crate::testing::{MemoryPages, replay};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn borrowed(writes: &Writes) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
    writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
}

fn write(pages: &mut MemoryPages, tree: TreeId, writes: &Writes) {
    let before = pages.iter().count();
    let bound = prepare(pages, tree, borrowed(writes)).expect("writes are sound").new_pages_bound();
    pages.commit(|pages| write_sorted(pages, tree, borrowed(writes))).expect("writes apply");
    let made = pages.iter().count() - before;
    assert!(made <= bound, "{made} pages were made, {bound} were announced");
}

fn apply_to_model(model: &mut Model, writes: &Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// Rows in both directions, structure, page space, and the bytes of every page after replay.
fn check(pages: &MemoryPages, tree: TreeId, model: &Model) {
    let mut cursor = Cursor::new(pages, tree);
    let mut forward = Vec::new();
    let mut more = cursor.seek_first().expect("readable");
    while more {
        forward.push((cursor.key().to_vec(), cursor.value().to_vec()));
        more = cursor.next_row().expect("readable");
    }
    assert!(forward.iter().map(|(key, value)| (key, value)).eq(model.iter()), "rows differ from the model");
    let mut backward = Vec::new();
    let mut more = cursor.seek_last().expect("readable");
    while more {
        backward.push(cursor.key().to_vec());
        more = cursor.previous_row().expect("readable");
    }
    assert!(backward.iter().rev().eq(model.keys()), "rows backward differ from the model");
    check_structure(pages, &[tree]);
}

fn check_structure(pages: &MemoryPages, trees: &[TreeId]) {
    let mut in_use = Vec::new();
    for &tree in [CATALOG_TREE, UPKEEP_TREE].iter().chain(trees) {
        let report = check_tree(pages, tree).expect("readable");
        assert_eq!(report.problems, [], "tree {tree}");
        in_use.extend(report.pages);
    }
    assert_eq!(check_space(pages, in_use).expect("readable"), []);
    let replayed = replay(&pages.log);
    for (number, page) in pages.iter() {
        assert!(replayed[&number].bytes() == page.bytes(), "page {number} differs after replay");
        page.check().expect("sound");
    }
}

/// Keys that share beginnings, meet, and vary in length up to the limit.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0_u64..400).prop_map(|number| number.to_be_bytes().to_vec()),
        4 => prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(255)], 0..7),
        2 => (0_u8..3, 0_usize..40).prop_map(|(byte, len)| vec![byte; len * 8]),
        1 => (prop::collection::vec(0_u8..2, 0..4), 2000_usize..=MAX_KEY_BYTES - 4)
            .prop_map(|(end, len)| [vec![7; len], end].concat()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        6 => 0_usize..40,
        4 => 100_usize..600,
        2 => MAX_INLINE_VALUE_BYTES - 40..=MAX_INLINE_VALUE_BYTES + 40,
        1 => 8100_usize..40_000,
    ];
    (length, any::<u8>()).prop_map(|(length, seed)| (0..length).map(|at| seed ^ (at / 50) as u8).collect())
}

fn writes() -> impl Strategy<Value = Writes> {
    let some = prop::collection::btree_map(key(), prop::option::weighted(0.7, value()), 1..40);
    let deletions = prop::collection::btree_map(key(), Just(None), 1..150);
    prop_oneof![4 => some, 1 => deletions]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(batches in prop::collection::vec(writes(), 1..25)) {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("room");
        let mut model = Model::new();
        for batch in &batches {
            write(&mut pages, tree, batch);
            apply_to_model(&mut model, batch);
        }
        check(&pages, tree, &model);
        for batch in &batches {
            for key in batch.keys() {
                let found = get(&pages, tree, key).expect("readable");
                prop_assert_eq!(found.as_deref(), model.get(key).map(Vec::as_slice));
            }
        }
        let mut found = Vec::new();
        let keys: std::collections::BTreeSet<&[u8]> = batches.iter().flat_map(BTreeMap::keys).map(Vec::as_slice).collect();
        get_many(&pages, tree, keys.iter().copied(), |_, value| found.push(value.map(<[u8]>::to_vec))).expect("readable");
        let expected: Vec<_> = keys.iter().map(|&key| model.get(key).cloned()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn seeks_like_a_map(batches in prop::collection::vec(writes(), 1..8), probes in prop::collection::vec(key(), 1..40)) {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("room");
        let mut model = Model::new();
        for batch in &batches {
            write(&mut pages, tree, batch);
            apply_to_model(&mut model, batch);
        }
        let mut cursor = Cursor::new(&pages, tree);
        for probe in &probes {
            let key = |cursor: &Cursor<&MemoryPages>| cursor.on_row().then(|| cursor.key().to_vec());
            cursor.seek_at_or_above(probe).expect("readable");
            prop_assert_eq!(key(&cursor), model.range(probe.clone()..).next().map(|(key, _)| key.clone()));
            cursor.seek_at_or_below(probe).expect("readable");
            prop_assert_eq!(key(&cursor), model.range(..=probe.clone()).next_back().map(|(key, _)| key.clone()));
            cursor.seek_below(probe).expect("readable");
            prop_assert_eq!(key(&cursor), model.range(..probe.clone()).next_back().map(|(key, _)| key.clone()));
            let above = (std::ops::Bound::Excluded(probe.clone()), std::ops::Bound::Unbounded);
            cursor.seek_above(probe).expect("readable");
            prop_assert_eq!(key(&cursor), model.range(above).next().map(|(key, _)| key.clone()));
        }
    }
}

fn numbered(range: impl Iterator<Item = u64>, value_bytes: usize) -> Writes {
    range.map(|number| (number.to_be_bytes().to_vec(), Some(vec![number as u8; value_bytes]))).collect()
}

fn fill(report: &TreeReport) -> f64 {
    report.leaf_used_bytes as f64 / (report.leaf_pages as f64 * crate::page::BODY_BYTES as f64)
}

#[test]
fn orderly_inserts_fill_pages_and_log_no_moved_rows() {
    for descending in [false, true] {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("room");
        let mut model = Model::new();
        for number in 0..20_000_u64 {
            let number = if descending { 1_000_000 - number } else { number };
            let writes = numbered(std::iter::once(number), 60);
            apply_to_model(&mut model, &writes);
            pages.commit(|pages| write_sorted(pages, tree, borrowed(&writes))).expect("writes apply");
        }
        check(&pages, tree, &model);
        let report = check_tree(&pages, tree).expect("readable");
        assert!(fill(&report) > 0.95, "descending {descending}: pages are {:.2} full", fill(&report));
        let log_bytes = pages.log.len() / 20_000;
        assert!(log_bytes < 110, "descending {descending}: {log_bytes} log bytes a row of 68");
    }
}

#[test]
fn deleting_everything_gives_all_pages_back() {
    for value_bytes in [20, 700, 3000, 9000] {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("room");
        write(&mut pages, tree, &numbered(0..3000, value_bytes));
        let size = pages.iter().count();
        for first in [0, 1, 2] {
            let deletions = (first..3000).step_by(3).map(|n: u64| (n.to_be_bytes().to_vec(), None)).collect();
            write(&mut pages, tree, &deletions);
            check_structure(&pages, &[tree]);
        }
        let report = check_tree(&pages, tree).expect("readable");
        assert_eq!((report.pages.len(), report.rows, report.height), (1, 0, 1));
        write(&mut pages, tree, &numbered(0..3000, value_bytes));
        assert!(pages.iter().count() <= size + 4, "freed pages are used again");
        check_structure(&pages, &[tree]);
    }
}

#[test]
fn a_small_change_to_a_row_is_a_small_record() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    write(&mut pages, tree, &numbered(0..1000, 100));
    let before = pages.log.len();
    let mut value = vec![7_u8; 100];
    value[40..44].copy_from_slice(&[1, 2, 3, 4]);
    write(&mut pages, tree, &[(7_u64.to_be_bytes().to_vec(), Some(value))].into());
    let bytes = pages.log.len() - before;
    assert!(bytes <= 22 + 12, "{bytes} bytes");
}

#[test]
fn limits_are_errors_before_any_record() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    let long_key = vec![1; MAX_KEY_BYTES + 1];
    let result = prepare(&pages, tree, [(&long_key[..], None)]).map(|_| ());
    assert_eq!(result, Err(TreeError::KeyTooLong { bytes: MAX_KEY_BYTES + 1, limit_bytes: MAX_KEY_BYTES }));
    assert!(check_limits(&long_key[1..], Some(&[])).is_ok());
    let long_value = vec![1; MAX_VALUE_BYTES + 1];
    assert!(matches!(check_limits(&[], Some(&long_value)), Err(TreeError::ValueTooLong { .. })));
    assert!(check_limits(&[], Some(&long_value[1..])).is_ok());
}

#[test]
fn values_of_many_pages_come_back_whole() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    let capacity = crate::page::OVERFLOW_CAPACITY_BYTES;
    let lengths =
        [2049, capacity - 1, capacity, capacity + 1, 2 * capacity - 8, 2 * capacity - 7, 901 * capacity, 20 << 20];
    let large = |length: usize| (0..length).map(|at| (at * 31 + at / 251) as u8).collect::<Vec<u8>>();
    for (number, &length) in lengths.iter().enumerate() {
        write(&mut pages, tree, &[(vec![number as u8], Some(large(length)))].into());
    }
    for (number, &length) in lengths.iter().enumerate() {
        let value = get(&pages, tree, &[number as u8]).expect("readable").expect("there");
        assert!(*value == large(length), "value of {length} bytes differs");
    }
    check_structure(&pages, &[tree]);
    // Replaced by small ones, their pages are free again.
    write(&mut pages, tree, &(0..lengths.len()).map(|number| (vec![number as u8], Some(vec![1]))).collect());
    check_structure(&pages, &[tree]);
    assert_eq!(check_tree(&pages, tree).expect("readable").pages, [tree.0]);
}

#[test]
fn a_page_that_is_not_in_memory_stops_a_change_before_its_first_record() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    write(&mut pages, tree, &numbered(0..2000, 100));
    let keys: Vec<[u8; 8]> = [3_u64, 4, 900, 1999].map(u64::to_be_bytes).to_vec();
    let touched = locate(&pages, tree, keys.iter().map(|key| &key[..])).expect("readable");
    assert!(touched.contains(&tree.0) && touched.len() == 4, "{touched:?}");
    let writes: Writes = keys.iter().map(|key| (key.to_vec(), None)).collect();
    for &page in &touched {
        pages.set_resident(page, false);
        let error = prepare(&pages, tree, borrowed(&writes)).map(|_| ());
        assert_eq!(error, Err(TreeError::NotResident { page }));
        pages.set_resident(page, true);
    }
    // Everything else may be away.
    let others: Vec<PageNo> =
        pages.iter().map(|(page, _)| page).filter(|page| page.0 != 0 && !touched.contains(page)).collect();
    others.iter().for_each(|&page| pages.set_resident(page, false));
    pages.commit(|pages| write_sorted(pages, tree, borrowed(&writes))).expect("writes apply");
}

/// Keys that differ at their ends only make separators long and trees high: inner pages split, merge and
/// disappear, with prefixes that come and go.
#[test]
fn high_trees_grow_and_shrink() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    let mut model = Model::new();
    let mut highest = 0;
    for round in 0..120_u64 {
        // Mostly inserts at first, mostly deletions at the end.
        let writes: Writes = (0..40)
            .map(|_| {
                let group = below(25) as u8;
                let filler = 200 + 90 * usize::from(group);
                let key = [vec![group / 2; filler], below(60).to_be_bytes().to_vec()].concat();
                let value = (below(120) > round).then(|| vec![group; below(400) as usize]);
                (key, value)
            })
            .collect();
        write(&mut pages, tree, &writes);
        apply_to_model(&mut model, &writes);
        if round % 20 == 19 {
            check(&pages, tree, &model);
        }
        highest = highest.max(check_tree(&pages, tree).expect("readable").height);
    }
    assert!(highest >= 4, "height {highest}");
    let deletions = model.keys().map(|key| (key.clone(), None)).collect();
    write(&mut pages, tree, &deletions);
    check(&pages, tree, &Model::new());
    assert_eq!(check_tree(&pages, tree).expect("readable").pages, [tree.0]);
}

#[test]
fn damage_is_reported_where_it_is() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("room");
    write(&mut pages, tree, &numbered(0..2000, 100));
    let root = PageReader::page(&pages, tree.0).expect("there").clone();
    let (second, third) = (root.child(1), root.child(2));
    let to_third = third.0.to_le_bytes();
    let op = crate::record::RedoOp::Update { slot: 1, value: &to_third, out_of_line: false };
    pages.commit(|pages| pages.apply(tree.0, &op)).expect("applies");
    let report = check_tree(&pages, tree).expect("readable");
    let reasons: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(reasons.iter().any(|reason| reason.contains("outside what the parent says")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("reached twice")), "{reasons:?}");
    let trees = [CATALOG_TREE, UPKEEP_TREE].map(|tree| check_tree(&pages, tree).expect("readable").pages);
    let space = check_space(&pages, trees.into_iter().flatten().chain(report.pages)).expect("readable");
    assert!(space.contains(&(third, "page is used twice")), "{space:?}");
    assert!(space.contains(&(second, "page is lost: neither used nor free")), "{space:?}");
    // A page of another tree is never taken for one of this.
    let to_catalog = CATALOG_TREE.0.0.to_le_bytes();
    let op = crate::record::RedoOp::Update { slot: 0, value: &to_catalog, out_of_line: false };
    pages.commit(|pages| pages.apply(tree.0, &op)).expect("applies");
    assert!(matches!(get(&pages, tree, &[0; 8]), Err(TreeError::Damaged { page, .. }) if page == CATALOG_TREE.0));
}

#[test]
fn reclaiming_needs_leaves_only_for_values_out_of_line() {
    for value_bytes in [300, 5000] {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("room");
        write(&mut pages, tree, &numbered(0..3000, value_bytes));
        let leaves: Vec<PageNo> =
            pages.iter().filter(|(page, content)| content.is_leaf() && page.0 > 2).map(|(page, _)| page).collect();
        leaves.iter().for_each(|&page| pages.set_resident(page, false));
        let mut fetched = 0;
        loop {
            let log_bytes = pages.log.len();
            match pages.commit(|pages| reclaim_step(pages, tree, 50)) {
                Ok(Reclaimed::All) => break,
                Ok(Reclaimed::Some(freed)) => assert!(freed > 0),
                Err(TreeError::NotResident { page }) => {
                    assert!(pages.log.len() < log_bytes + 30, "records were written before the error");
                    pages.set_resident(page, true);
                    fetched += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(fetched > 0, value_bytes > MAX_INLINE_VALUE_BYTES);
        check_structure(&pages, &[]);
    }
}

/// A sink whose pages come from the branch; each page is a record of the open batch.
struct Pages<'a>(&'a mut MemoryPages);

impl crate::bulk::BulkSink for Pages<'_> {
    type Error = TreeError;

    fn allocate(&mut self) -> Result<PageNo, TreeError> {
        PageWriter::allocate(self.0)
    }

    fn write(&mut self, page: PageNo, op: &crate::record::RedoOp<'_>) -> Result<(), TreeError> {
        self.0.apply(page, op)
    }
}

/// Builds what the writes make of each leaf, then puts it in place; leaves that `skip` names are left out.
fn replace(pages: &mut MemoryPages, tree: TreeId, writes: &Writes) {
    let is_even = writes.len().is_multiple_of(2);
    // What readers saw when the leaves were built.
    let seen = pages.clone();
    let mut replacements = Vec::new();
    let mut rest = writes.iter().peekable();
    pages
        .commit(|pages| {
            while let Some((key, _)) = rest.peek() {
                let leaf = find_leaf_at(&seen, tree, key)?;
                let upper = leaf.upper.clone();
                let mut rebuilder = crate::bulk::LeafRebuilder::new(tree, leaf);
                let own = |key: &Vec<u8>| upper.as_ref().is_none_or(|upper| key < upper);
                while let Some((key, value)) = rest.next_if(|(key, _)| own(key)) {
                    rebuilder.push::<_, _, TreeError>(&seen, &mut Pages(pages), key, value.as_deref())?;
                }
                replacements.push(rebuilder.finish(&mut Pages(pages))?);
            }
            Ok(())
        })
        .expect("leaves are built");
    let keys = writes.keys().map(Vec::as_slice);
    assert_eq!(count_leaves(&seen, tree, keys, usize::MAX), Ok(replacements.len()));
    for replacement in &replacements {
        // Leaves may be in memory, and need not be.
        if replacement.leaf != tree.0 && is_even {
            pages.set_resident(replacement.leaf, false);
        }
    }
    let mut needs = ReplacementNeeds::default();
    for replacement in &replacements {
        assert_eq!(measure_replacement(pages, tree, replacement, &mut needs), Ok(true));
    }
    let before = pages.iter().count();
    pages
        .commit(|pages| {
            replacements.iter().try_for_each(|replacement| replace_leaf(pages, tree, replacement))?;
            finish_replacing(pages, tree)
        })
        .expect("leaves are replaced");
    let made = pages.iter().count() - before;
    assert!(made <= needs.pages_bound(), "{made} pages were made, {needs:?} was announced");
    for replacement in &replacements {
        pages.set_resident(replacement.leaf, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn replaced_leaves_hold_what_writing_would_have_made(
        rounds in prop::collection::vec((self::writes(), any::<bool>()), 1..8)
    ) {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("a tree");
        let mut model = Model::new();
        for (writes, by_replacement) in rounds {
            if by_replacement {
                replace(&mut pages, tree, &writes);
            } else {
                write(&mut pages, tree, &writes);
            }
            apply_to_model(&mut model, &writes);
            check(&pages, tree, &model);
        }
    }
}

#[test]
fn one_leaf_becomes_thousands_and_none_again() {
    for value_len in [20, 3000, 20_000] {
        let mut pages = MemoryPages::new();
        let tree = pages.create_tree().expect("a tree");
        let key = |number: u32| number.to_be_bytes().to_vec();
        let count = if value_len > 100 { 600 } else { 60_000 };
        let mut model = Model::new();
        // Few, then many between them, then growth of each, then none.
        let few: Writes = (0..20).map(|number| (key(number * count), Some(vec![1; 10]))).collect();
        let many: Writes = (0..count).map(|number| (key(number), Some(vec![2; value_len]))).collect();
        let grown: Writes = (0..count).step_by(2).map(|number| (key(number), Some(vec![3; value_len + 9]))).collect();
        let gone: Writes = many.keys().chain(few.keys()).map(|key| (key.clone(), None)).collect();
        for writes in [&few, &many, &grown, &gone] {
            replace(&mut pages, tree, writes);
            apply_to_model(&mut model, writes);
            check(&pages, tree, &model);
        }
        assert!(model.is_empty());
    }
}

#[test]
fn a_leaf_that_lost_keys_to_a_neighbour_is_not_replaced() {
    let mut pages = MemoryPages::new();
    let tree = pages.create_tree().expect("a tree");
    let key = |number: u32| number.to_be_bytes().to_vec();
    let rows: Writes = (0..1000).map(|number| (key(number * 10), Some(vec![1; 100]))).collect();
    write(&mut pages, tree, &rows);
    let last = key(9990);
    let leaf = find_leaf_at(&pages, tree, &last).expect("readable");
    let number = leaf.number;
    let replacement = |first: u32, last: u32| Replacement {
        leaf: number,
        first_key: key(first).into(),
        last_key: key(last).into(),
        leaves: Vec::new(),
        outdated: Vec::new(),
        has_overflow: false,
    };
    let can = |pages: &MemoryPages, first, last| {
        measure_replacement(pages, tree, &replacement(first, last), &mut ReplacementNeeds::default())
    };
    assert_eq!(can(&pages, 9990, 1_000_000), Ok(true));
    // Rows at the right edge begin a new leaf and leave the old one as it is.
    let more: Writes = (0..200).map(|number| (key(20_000 + number), Some(vec![1; 100]))).collect();
    write(&mut pages, tree, &more);
    assert_eq!(can(&pages, 9990, 9999), Ok(true));
    assert_eq!(can(&pages, 9990, 1_000_000), Ok(false), "its last key belongs to another leaf now");
    assert_eq!(can(&pages, 20_100, 20_101), Ok(false), "all of its keys do");
}
