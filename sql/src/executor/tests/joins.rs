//! Joins of every kind and algorithm against the definition.

use std::sync::Arc;

use super::bed::*;
use crate::executor::HashMemory;
use crate::plan::{Expr, IndexRange, JoinKind, Node, Plan};
use crate::types::{Datum, Row};

/// A small generator: the tests are the same every time.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn rows(count: usize, seed: &mut u64) -> Vec<Row> {
    let value = |seed: &mut u64| match random(seed) % 8 {
        0 => Datum::Null,
        n => Datum::Int4(n as i32),
    };
    (0..count).map(|n| vec![value(seed), value(seed), Datum::Int4(n as i32)]).collect()
}

/// The join by definition: equal first columns, and the second of the left below that of the right.
fn naive(kind: JoinKind, left: &[Row], right: &[Row], null_safe: bool, with_filter: bool) -> Vec<Row> {
    let matches = |l: &Row, r: &Row| {
        let equal = if l[0].is_null() || r[0].is_null() { null_safe && l[0] == r[0] } else { l[0] == r[0] };
        let filter = !with_filter || (!l[1].is_null() && !r[1].is_null() && l[1] < r[1]);
        equal && filter
    };
    let mut result = Vec::new();
    for l in left {
        let partners: Vec<&Row> = right.iter().filter(|r| matches(l, r)).collect();
        match kind {
            JoinKind::Semi if !partners.is_empty() => result.push(l.clone()),
            JoinKind::Anti if partners.is_empty() => result.push(l.clone()),
            JoinKind::Semi | JoinKind::Anti => {}
            _ => {
                result.extend(partners.iter().map(|r| [l.as_slice(), r.as_slice()].concat()));
                if partners.is_empty() && matches!(kind, JoinKind::Left | JoinKind::Full) {
                    result.push([l.as_slice(), &[Datum::Null, Datum::Null, Datum::Null]].concat());
                }
            }
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for r in right.iter().filter(|r| !left.iter().any(|l| matches(l, r))) {
            result.push([&[Datum::Null, Datum::Null, Datum::Null], r.as_slice()].concat());
        }
    }
    result
}

const KINDS: [JoinKind; 6] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];

fn width(kind: JoinKind) -> usize {
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) { 3 } else { 6 }
}

#[test]
fn hash_and_nested_loop_joins_give_what_the_definition_gives() {
    let mut bed = Bed::new();
    let mut seed = 7;
    for round in 0..30 {
        bed.work_mem_bytes = if round % 2 == 0 { 512 } else { 1 << 20 };
        // In some rounds most hash tables are set aside, once or more often.
        bed.hash_memory = Arc::new(HashMemory::new(if round % 4 == 0 { 3000 } else { 1 << 30 }));
        let (left, right) = (rows(round * 2 % 23, &mut seed), rows(round * 3 % 19, &mut seed));
        let left_plan = || Box::new(plan(values(&left).node, 3));
        let right_plan = || Box::new(plan(values(&right).node, 3));
        for kind in KINDS {
            for (null_safe, with_filter) in [(false, false), (true, false), (false, true), (true, true)] {
                let expected = show(&sorted(naive(kind, &left, &right, null_safe, with_filter)));
                let filter = with_filter.then(|| less(col(1), col(4)));
                let hash = Node::HashJoin {
                    kind,
                    left: left_plan(),
                    right: right_plan(),
                    left_keys: vec![col(0)],
                    right_keys: vec![col(0)],
                    null_safe: vec![null_safe],
                    filter: filter.clone(),
                };
                assert_eq!(show(&sorted(bed.rows(plan(hash, width(kind))))), expected, "hash {kind:?} {round}");
                let equal = if null_safe {
                    Expr::Distinct { left: Box::new(col(0)), right: Box::new(col(3)), negated: true }
                } else {
                    eq(col(0), col(3))
                };
                let on = Expr::And([equal].into_iter().chain(filter).collect());
                let nested =
                    Node::NestedLoopJoin { kind, left: left_plan(), right: right_plan(), on: Some(on), lateral: false };
                assert_eq!(show(&sorted(bed.rows(plan(nested, width(kind))))), expected, "loop {kind:?} {round}");
            }
        }
    }
}

#[test]
fn index_joins_and_lateral_joins_give_what_the_definition_gives() {
    let bed = Bed::new();
    let mut seed = 3;
    let (left, right) = (rows(30, &mut seed), rows(40, &mut seed));
    let table = bed.table("r", 3, &[2], &[(&[0, 1], false)]);
    bed.fill(&table, &right);
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti] {
        for with_filter in [false, true] {
            let expected = show(&sorted(naive(kind, &left, &right, false, with_filter)));
            let lower = with_filter.then(|| (col(1), false));
            let join = Node::IndexJoin {
                kind,
                left: Box::new(values(&left)),
                table: table.clone(),
                index: Some(table.indexes[0].clone()),
                range: IndexRange { equal: vec![col(0)], lower, upper: None },
                output: all_columns(&table),
                filter: None,
            };
            assert_eq!(show(&sorted(bed.rows(plan(join, width(kind))))), expected, "index {kind:?} {with_filter}");
            let filter = with_filter.then(|| less(outer(1, 1), col(1)));
            let condition = Expr::And([eq(outer(1, 0), col(0))].into_iter().chain(filter).collect());
            let lateral = Node::NestedLoopJoin {
                kind,
                left: Box::new(values(&left)),
                right: Box::new(seq_scan(&table, Some(condition))),
                on: None,
                lateral: true,
            };
            assert_eq!(show(&sorted(bed.rows(plan(lateral, width(kind))))), expected, "lateral {kind:?} {with_filter}");
        }
    }
}

#[test]
fn index_ranges_find_what_a_filter_finds() {
    let bed = Bed::new();
    let mut seed = 11;
    let table = bed.table("t", 3, &[2], &[(&[0, 1], false)]);
    bed.fill(&table, &rows(60, &mut seed));
    let greater = |a: Expr, b: Expr| less(b, a);
    let not = |expr: Expr| Expr::Not(Box::new(expr));
    let check = |range: IndexRange, filter: Expr| {
        let expected = show(&sorted(bed.rows(seq_scan(&table, Some(filter)))));
        for backward in [false, true] {
            let mut found: Vec<Row> = bed.rows(index_scan(&table, Some(0), range.clone(), backward));
            if backward {
                found.reverse();
            }
            let key = |row: &Row| (row[0].clone(), row[1].clone(), row[2].clone());
            assert!(found.is_sorted_by_key(key), "{}", show(&found));
            assert_eq!(show(&sorted(found)), expected, "{range:?}");
        }
    };
    for n in 0..9 {
        let limit = || int(n);
        check(IndexRange { equal: vec![limit()], lower: None, upper: None }, eq(col(0), limit()));
        for included in [false, true] {
            let at_least = if included { not(less(col(0), limit())) } else { greater(col(0), limit()) };
            let at_most = if included { not(greater(col(1), limit())) } else { less(col(1), limit()) };
            check(IndexRange { equal: vec![], lower: Some((limit(), included)), upper: None }, at_least.clone());
            check(
                IndexRange { equal: vec![int(3)], lower: None, upper: Some((limit(), included)) },
                Expr::And(vec![eq(col(0), int(3)), at_most]),
            );
            check(
                IndexRange { equal: vec![], lower: Some((limit(), included)), upper: Some((int(6), true)) },
                Expr::And(vec![at_least, not(greater(col(0), int(6)))]),
            );
        }
        check(IndexRange { equal: vec![], lower: Some((null(), true)), upper: None }, eq(null(), int(1)));
        check(IndexRange { equal: vec![null()], lower: None, upper: None }, eq(null(), int(1)));
    }
    let point: Plan = index_scan(&table, None, range(vec![int(5)]), false);
    assert_eq!(bed.rows(point).len(), 1);
}
