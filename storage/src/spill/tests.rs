//! Runs against a plain map, sorters against a plain sort, and what happens at limits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

type Map = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn space() -> (tempfile::TempDir, Arc<SpillSpace>) {
    let directory = tempfile::tempdir().unwrap();
    let space = SpillSpace::unlimited(directory.path());
    (directory, space)
}

fn run_of(space: &Arc<SpillSpace>, map: &Map) -> Arc<Run> {
    let mut writer = RunWriter::new(space, Some(map.len() as u64)).unwrap();
    map.iter().for_each(|(key, value)| writer.push(key, value.as_deref()).unwrap());
    Arc::new(writer.finish().unwrap())
}

fn map_strategy() -> impl Strategy<Value = Map> {
    let key = prop::collection::vec(0..4u8, 0..6);
    let value = prop::option::of(prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), BLOCK_BYTES..BLOCK_BYTES + 2),
    ]);
    prop::collection::btree_map(key, value, 0..300)
}

fn bound(kind: u8, key: &[u8]) -> Bound<&[u8]> {
    match kind % 3 {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    }
}

fn after<'m>(map: &'m Map, lower: Bound<&[u8]>) -> Vec<(&'m [u8], Option<&'m [u8]>)> {
    map.range::<[u8], _>((lower, Bound::Unbounded)).map(|(key, value)| (&key[..], value.as_deref())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_run_answers_as_the_map_it_was_made_of(map in map_strategy(), key in prop::collection::vec(0..4u8, 0..6), kind in any::<u8>()) {
        let (_directory, space) = space();
        let run = run_of(&space, &map);
        prop_assert_eq!(run.entries(), map.len() as u64);
        prop_assert_eq!(run.get(&key).unwrap(), map.get(&key).cloned());
        for (known, value) in &map {
            prop_assert_eq!(run.get(known).unwrap(), Some(value.clone()));
        }
        let mut cursor = run.cursor();
        cursor.seek_from(bound(kind, &key)).unwrap();
        for expected in after(&map, bound(kind, &key)) {
            prop_assert_eq!(cursor.entry(), Some(expected));
            cursor.forward().unwrap();
        }
        prop_assert_eq!(cursor.entry(), None);
        cursor.seek_until(bound(kind, &key)).unwrap();
        for (key, value) in map.range::<[u8], _>((Bound::Unbounded, bound(kind, &key))).rev() {
            prop_assert_eq!(cursor.entry(), Some((&key[..], value.as_deref())));
            cursor.backward().unwrap();
        }
        prop_assert_eq!(cursor.entry(), None);
    }

    #[test]
    fn a_merge_lets_the_newer_run_win(maps in prop::collection::vec(map_strategy(), 1..5), forward in any::<bool>()) {
        let (_directory, space) = space();
        // Newest first.
        let mut all = Map::new();
        maps.iter().rev().for_each(|map| all.extend(map.clone()));
        let cursors = maps.iter().map(|map| {
            let mut cursor = run_of(&space, map).cursor();
            if forward { cursor.seek_from(Bound::Unbounded) } else { cursor.seek_until(Bound::Unbounded) }.unwrap();
            cursor
        });
        let mut merge = Merge::new(cursors.collect(), forward);
        let mut expected: Vec<_> = all.iter().collect();
        if !forward {
            expected.reverse();
        }
        for (key, value) in expected {
            prop_assert_eq!(merge.entry(), Some((&key[..], value.as_deref())));
            merge.advance_key().unwrap();
        }
        prop_assert_eq!(merge.entry(), None);
    }

    #[test]
    fn sorting_is_stable_at_any_limit(keys in prop::collection::vec(prop::collection::vec(0..4u8, 0..11), 0..400), limit in 0..4000usize) {
        let (_directory, space) = space();
        let mut sorter = Sorter::new(limit, space.clone());
        let mut expected = Vec::new();
        for (number, key) in keys.into_iter().enumerate() {
            let value = number.to_le_bytes().to_vec();
            sorter.push(&key, &value).unwrap();
            expected.push((key, value));
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let mut sorted = sorter.finish().unwrap();
        let mut found = Vec::new();
        while let Some((key, value)) = sorted.next().unwrap() {
            found.push((key.to_vec(), value.to_vec()));
        }
        prop_assert_eq!(found, expected);
        drop(sorted);
        prop_assert_eq!(space.used_bytes(), 0);
    }
}

#[test]
fn a_full_space_refuses_and_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let space = SpillSpace::new(directory.path(), 100_000);
    let mut writer = RunWriter::new(&space, None).unwrap();
    let refused = (0..100u8).find_map(|number| writer.push(&[number], Some(&[0; 10_000])).err());
    assert!(matches!(refused, Some(SpillError::Limit { limit_bytes: 100_000 })), "{refused:?}");
    drop(writer);
    assert_eq!(space.used_bytes(), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files have no names");
}

#[test]
fn a_missing_directory_is_an_error_of_the_file_system() {
    let error = RunWriter::new(&SpillSpace::unlimited("/nowhere/at/all"), None).unwrap_err();
    assert!(matches!(error, SpillError::Io(_)) && !error.is_disk_full(), "{error}");
    assert!(SpillError::Io(std::io::ErrorKind::StorageFull.into()).is_disk_full());
}
