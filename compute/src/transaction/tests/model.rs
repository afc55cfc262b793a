//! Random statements, savepoints and commits against maps that do the obvious.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::*;
use sql::store::{Direction, KeyRange, SavepointId, StatementOutcome};

use super::{World, put, rows, text};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u16),
    Delete(u8),
    EndStatement(bool),
    Savepoint,
    RollbackTo(usize),
    Release(usize),
    Commit,
    Rollback,
    Range(u8, u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u16>()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => any::<u8>().prop_map(Step::Delete),
        4 => prop::bool::weighted(0.7).prop_map(Step::EndStatement),
        2 => Just(Step::Savepoint),
        1 => (0..4_usize).prop_map(Step::RollbackTo),
        1 => (0..4_usize).prop_map(Step::Release),
        1 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        3 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(from, to, forward)| Step::Range(from, to, forward)),
    ]
}

type Map = BTreeMap<String, String>;

#[derive(Default)]
struct Model {
    committed: Map,
    joined: Map,
    statement: Map,
    savepoints: Vec<(SavepointId, Map)>,
}

fn key(key: u8) -> String {
    // Long keys and values, so that there are splits and merges.
    format!("{key:03} {}", "k".repeat(usize::from(key) * 3))
}

fn check(world: &World, steps: Vec<Step>) {
    let tree = world.tree();
    let mut model = Model::default();
    let mut transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let end = |transaction: &std::sync::Arc<dyn sql::store::Transaction>, model: &mut Model, keep: bool| {
        transaction.end_statement(if keep { StatementOutcome::Keep } else { StatementOutcome::Discard });
        if keep {
            model.joined = std::mem::take(&mut model.statement);
        } else {
            model.statement = model.joined.clone();
        }
        model.statement = model.joined.clone();
        transaction.begin_statement().expect("statement");
    };
    for step in steps {
        match step {
            Step::Put(number, value) => {
                let value = value.to_string().repeat(40);
                put(&transaction, tree, &key(number), &value);
                model.statement.insert(key(number), value);
                let latest = transaction.get_latest(tree, key(number).as_bytes()).expect("get");
                assert_eq!(text(latest).as_ref(), model.statement.get(&key(number)));
                let get = transaction.get(tree, key(number).as_bytes()).expect("get");
                assert_eq!(text(get).as_ref(), model.joined.get(&key(number)));
            }
            Step::Delete(number) => {
                transaction.delete(tree, key(number).as_bytes()).expect("delete");
                model.statement.remove(&key(number));
            }
            Step::EndStatement(keep) => end(&transaction, &mut model, keep),
            Step::Savepoint => {
                end(&transaction, &mut model, true);
                model.savepoints.push((transaction.savepoint(), model.joined.clone()));
            }
            Step::RollbackTo(number) if number < model.savepoints.len() => {
                end(&transaction, &mut model, true);
                model.savepoints.truncate(number + 1);
                let (id, saved) = model.savepoints[number].clone();
                transaction.rollback_to(id);
                (model.joined, model.statement) = (saved.clone(), saved);
            }
            Step::Release(number) if number < model.savepoints.len() => {
                end(&transaction, &mut model, true);
                transaction.release(model.savepoints[number].0);
                model.savepoints.truncate(number);
            }
            Step::RollbackTo(_) | Step::Release(_) => {}
            Step::Commit => {
                end(&transaction, &mut model, true);
                world.commit(&transaction).expect("commit");
                model.committed = model.joined.clone();
            }
            Step::Rollback => {
                transaction.rollback();
                (model.joined, model.statement) = (model.committed.clone(), model.committed.clone());
            }
            Step::Range(from, to, forward) => {
                let bound = |number| Bytes::from(key(number));
                let range = KeyRange { lower: Bound::Included(bound(from)), upper: Bound::Excluded(bound(to)) };
                let direction = if forward { Direction::Forward } else { Direction::Backward };
                let mut cursor = transaction.scan(tree, range, direction).expect("scan");
                let mut found = Vec::new();
                while cursor.advance().expect("advance") {
                    found.push(String::from_utf8(cursor.key().to_vec()).expect("text"));
                }
                let mut expected: Vec<String> = model
                    .joined
                    .keys()
                    .filter(|present| **present >= key(from) && **present < key(to))
                    .cloned()
                    .collect();
                if !forward {
                    expected.reverse();
                }
                assert_eq!(found, expected);
            }
        }
        if matches!(step, Step::Commit | Step::Rollback) {
            model.savepoints.clear();
            transaction = world.begin();
            transaction.begin_statement().expect("statement");
        }
        let expected: Vec<_> = model.joined.clone().into_iter().collect();
        assert_eq!(rows(&transaction, tree), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_maps(steps in prop::collection::vec(step(), 1..120)) {
        check(&World::new(64), steps);
    }

    #[test]
    fn behaves_like_maps_with_writes_on_disk(steps in prop::collection::vec(step(), 1..120), limit in 1..20_000usize) {
        check(&World::spilling(64, limit), steps);
    }
}
