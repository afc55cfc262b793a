//! Hash tables that may not grow: what is set aside gives the same rows.

use std::sync::Arc;

use super::bed::*;
use crate::error::SqlState;
use crate::executor::HashMemory;
use crate::plan::{JoinKind, Node, Plan, SetOperation};
use crate::types::{Datum, Row};

/// So many rows: a number below `keys` in no order, NULL now and then, and a number of its own.
fn rows(count: usize, keys: usize) -> Vec<Row> {
    let key = |n: usize| if n % 97 == 5 { Datum::Null } else { Datum::Int4((n * 7919 % keys) as i32) };
    (0..count).map(|n| vec![key(n), Datum::Int4(n as i32)]).collect()
}

fn plans(left: &[Row], right: &[Row]) -> Vec<(String, Plan)> {
    let (left, right) = (|| Box::new(values(left)), || Box::new(values(right)));
    let kinds = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];
    let join = |kind: &JoinKind| {
        let width = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { 2 } else { 4 };
        let join = Node::HashJoin {
            kind: *kind,
            left: left(),
            right: right(),
            left_keys: vec![col(0)],
            right_keys: vec![col(0)],
            null_safe: vec![false],
            filter: None,
        };
        (format!("{kind:?} join"), plan(join, width))
    };
    let mut plans: Vec<_> = kinds.iter().map(join).collect();
    let group = |sets| {
        let mut distinct = aggregate(&SUM, col(1));
        distinct.distinct = true;
        let aggregates = vec![aggregate(&SUM, col(1)), aggregate(&LIST, col(1)), distinct];
        plan(Node::Aggregate { input: left(), keys: vec![col(0)], aggregates, sets }, 4)
    };
    plans.push(("groups".to_owned(), group(None)));
    plans.push(("grouping sets".to_owned(), group(Some(vec![vec![0], vec![]]))));
    plans.push(("distinct".to_owned(), plan(Node::Distinct { input: left(), on: None }, 2)));
    let union = Node::SetOp { operation: SetOperation::Union, all: false, left: left(), right: right() };
    plans.push(("union".to_owned(), plan(union, 2)));
    plans
}

#[test]
fn hash_tables_that_are_set_aside_give_the_same_rows() {
    for (left, right, keys) in [(900, 700, 300), (900, 700, 40), (50, 2000, 1000), (2000, 3, 1000)] {
        let (left, right) = (rows(left, keys), rows(right, keys));
        for number in 0..plans(&left, &right).len() {
            let run = |work_mem_bytes: usize, limit_bytes: usize| {
                let mut bed = Bed::new();
                bed.work_mem_bytes = work_mem_bytes;
                bed.hash_memory = Arc::new(HashMemory::new(limit_bytes));
                let (name, plan) = plans(&left, &right).swap_remove(number);
                let rows = bed.run(plan).map(|(rows, _)| sorted(rows));
                assert_eq!(bed.hash_memory.taken_bytes(), 0, "{name}: everything is given back");
                (name, rows)
            };
            let (name, expected) = run(4 << 20, 1 << 30);
            let expected = expected.expect("there is memory");
            // One level of partitions, or several. Distinct arguments cannot be set aside.
            for limit_bytes in [96 << 10, 24 << 10, 12 << 10] {
                let (_, found) = run(1 << 10, limit_bytes);
                match found {
                    Ok(found) => assert!(found == expected, "{name} within {limit_bytes} bytes, {keys} keys"),
                    Err(error) => {
                        assert!(name.contains("group"), "{name} within {limit_bytes} bytes: {error}");
                        assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
                    }
                }
            }
        }
    }
}

#[test]
fn one_key_with_more_rows_than_memory_is_refused() {
    let mut bed = Bed::new();
    bed.work_mem_bytes = 1 << 10;
    bed.hash_memory = Arc::new(HashMemory::new(16 << 10));
    let same: Vec<Row> = (0..1000).map(|n| ints(&[7, n])).collect();
    let (_, join) = plans(&same, &same).swap_remove(0);
    assert_eq!(bed.run(join).expect_err("too much").state(), SqlState::OUT_OF_MEMORY);
    assert_eq!(bed.hash_memory.taken_bytes(), 0);
    // As a probing side it is no trouble.
    let (_, join) = plans(&same, &[ints(&[7, 1])]).swap_remove(0);
    assert_eq!(bed.rows(join).len(), 1000);
}
