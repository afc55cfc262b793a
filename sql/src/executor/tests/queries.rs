//! Sorting, grouping, windows, sets, WITH, subqueries, expressions.

use std::sync::Arc;

use super::bed::*;
use crate::error::SqlState;
use crate::plan::{
    Cte, Expr, Node, Plan, SetOperation, SortKey, Subquery, SubqueryKind, WindowCall, WindowFrame, WindowFunction,
};
use crate::types::{DataType, Datum, Row};

fn numbers(count: i32) -> Vec<Row> {
    (0..count).map(|n| ints(&[n * 7919 % count, n])).collect()
}

fn sort(input: Plan, keys: Vec<SortKey>, limit: Option<Expr>) -> Plan {
    let width = input.columns.len();
    plan(Node::Sort { input: Box::new(input), keys, limit }, width)
}

#[test]
fn sorts_in_memory_on_disk_and_by_heap_agree() {
    let mut bed = Bed::new();
    let rows = numbers(5000);
    let keys = || vec![SortKey { descending: true, ..sort_key(add(col(0), int(1))) }, sort_key(col(1))];
    let expected = bed.rows(sort(values(&rows), keys(), None));
    assert!(expected.is_sorted_by(|a, b| a[0] >= b[0]));
    assert_eq!(expected.len(), 5000);
    // So small a memory makes more runs than are merged at once.
    bed.work_mem_bytes = 2000;
    assert_eq!(bed.rows(sort(values(&rows), keys(), None)), expected);
    let limit = Expr::Literal { value: Datum::Int8(10), data_type: DataType::INT8 };
    assert_eq!(bed.rows(sort(values(&rows), keys(), Some(limit))), expected[..10]);
}

#[test]
fn sorts_place_nulls_and_are_stable() {
    let bed = Bed::new();
    let rows = vec![
        vec![Datum::Int4(2), Datum::Int4(0)],
        vec![Datum::Null, Datum::Int4(1)],
        vec![Datum::Int4(1), Datum::Int4(2)],
        vec![Datum::Int4(2), Datum::Int4(3)],
    ];
    let cases = [
        (false, false, "1 2; 2 0; 2 3; null 1"),
        (false, true, "null 1; 1 2; 2 0; 2 3"),
        (true, false, "2 0; 2 3; 1 2; null 1"),
        (true, true, "null 1; 2 0; 2 3; 1 2"),
    ];
    for (descending, nulls_first, expected) in cases {
        let keys = vec![SortKey { expr: col(0), descending, nulls_first }];
        assert_eq!(show(&bed.rows(sort(values(&rows), keys, None))), expected);
    }
}

fn limited(limit: Option<i64>, offset: Option<i64>) -> Plan {
    let literal =
        |value: Option<i64>| value.map(|value| Expr::Literal { value: Datum::Int8(value), data_type: DataType::INT8 });
    let input = Box::new(values(&[ints(&[1]), ints(&[2]), ints(&[3])]));
    plan(Node::Limit { input, limit: literal(limit), offset: literal(offset) }, 1)
}

#[test]
fn limits() {
    let bed = Bed::new();
    let cases = [
        (Some(2), None, "1; 2"),
        (Some(0), None, ""),
        (None, Some(1), "2; 3"),
        (Some(1), Some(1), "2"),
        (Some(5), Some(5), ""),
    ];
    for (limit, offset, expected) in cases {
        assert_eq!(show(&bed.rows(limited(limit, offset))), expected);
    }
    let state = |plan| bed.run(plan).expect_err("negative").state();
    assert_eq!(state(limited(Some(-1), None)), SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE);
    assert_eq!(state(limited(None, Some(-1))), SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE);
}

#[test]
fn aggregates() {
    let bed = Bed::new();
    let rows = vec![ints(&[1, 5]), ints(&[2, 1]), ints(&[1, 5]), vec![Datum::Null, Datum::Int4(7)], ints(&[1, 3])];
    let group = |keys: Vec<Expr>, aggregates, sets| {
        let width = keys.len() + 1;
        let input = Box::new(values(&rows));
        show(&sorted(bed.rows(plan(Node::Aggregate { input, keys, aggregates, sets }, width))))
    };
    assert_eq!(group(vec![col(0)], vec![aggregate(&SUM, col(1))], None), "1 13; 2 1; null 7");
    assert_eq!(group(vec![], vec![aggregate(&SUM, col(1))], None), "21");
    let mut call = aggregate(&SUM, col(1));
    call.distinct = true;
    assert_eq!(group(vec![col(0)], vec![call], None), "1 8; 2 1; null 7");
    let mut call = aggregate(&SUM, col(1));
    call.filter = Some(less(col(1), int(5)));
    assert_eq!(group(vec![], vec![call], None), "4");
    let mut call = aggregate(&LIST, col(1));
    call.order_by = vec![SortKey { descending: true, ..sort_key(col(1)) }];
    assert_eq!(group(vec![col(0)], vec![call.clone()], None), "1 5,5,3,; 2 1,; null 7,");
    call.distinct = true;
    assert_eq!(group(vec![col(0)], vec![call], None), "1 5,3,; 2 1,; null 7,");
    let sets = Some(vec![vec![0], vec![]]);
    assert_eq!(group(vec![col(0)], vec![aggregate(&SUM, col(1))], sets), "1 13; 2 1; null 7; null 21");

    let nothing = |keys: Vec<Expr>, sets| {
        let width = keys.len() + 1;
        let aggregates = vec![aggregate(&SUM, col(0))];
        let input = Box::new(plan(Node::Constant { rows: Arc::default() }, 1));
        show(&bed.rows(plan(Node::Aggregate { input, keys, aggregates, sets }, width)))
    };
    assert_eq!(nothing(vec![], None), "null");
    assert_eq!(nothing(vec![col(0)], None), "");
    assert_eq!(nothing(vec![col(0)], Some(vec![vec![0], vec![]])), "null null");
}

#[test]
fn distinct_and_set_operations() {
    let bed = Bed::new();
    let one = |numbers: &[i32]| values(&numbers.iter().map(|n| ints(&[*n])).collect::<Vec<_>>());
    let distinct = plan(Node::Distinct { input: Box::new(one(&[1, 2, 1, 3, 2])), on: None }, 1);
    assert_eq!(show(&bed.rows(distinct)), "1; 2; 3");
    let rows = [ints(&[1, 1]), ints(&[1, 2]), ints(&[2, 3])];
    let on = plan(Node::Distinct { input: Box::new(values(&rows)), on: Some(vec![col(0)]) }, 2);
    assert_eq!(show(&bed.rows(on)), "1 1; 2 3");
    let cases = [
        (SetOperation::Union, false, "1; 2; 3; 4"),
        (SetOperation::Union, true, "1; 1; 1; 2; 3; 1; 1; 3; 4"),
        (SetOperation::Intersect, false, "1; 3"),
        (SetOperation::Intersect, true, "1; 1; 3"),
        (SetOperation::Except, false, "2"),
        (SetOperation::Except, true, "1; 2"),
    ];
    for (operation, all, expected) in cases {
        let (left, right) = (Box::new(one(&[1, 1, 1, 2, 3])), Box::new(one(&[1, 1, 3, 4])));
        assert_eq!(show(&bed.rows(plan(Node::SetOp { operation, all, left, right }, 1))), expected);
    }
}

#[test]
fn with_queries() {
    let mut bed = Bed::new();
    // 1 up to 5 by recursion, read twice.
    let cte = || Cte {
        id: 3,
        name: "t".to_owned(),
        plan: values(&[ints(&[1])]),
        recursive: Some((
            plan(
                Node::Project {
                    input: Box::new(plan(
                        Node::Filter {
                            input: Box::new(plan(Node::CteScan { id: 3 }, 1)),
                            predicate: less(col(0), int(5)),
                        },
                        1,
                    )),
                    exprs: vec![add(col(0), int(1))],
                },
                1,
            ),
            true,
        )),
    };
    let scan = || plan(Node::CteScan { id: 3 }, 1);
    let both = || plan(Node::Append { inputs: vec![scan(), scan()] }, 1);
    let with = |input| plan(Node::With { ctes: vec![cte()], input: Box::new(input) }, 1);
    assert_eq!(show(&bed.rows(with(both()))), "1; 2; 3; 4; 5; 1; 2; 3; 4; 5");
    bed.work_mem_bytes = 1;
    assert_eq!(show(&bed.rows(with(both()))), "1; 2; 3; 4; 5; 1; 2; 3; 4; 5");

    // Endless recursion is read only as far as it is wanted.
    let mut endless = cte();
    endless.recursive =
        Some((plan(Node::Project { input: Box::new(scan()), exprs: vec![add(col(0), int(1))] }, 1), false));
    let limit = Expr::Literal { value: Datum::Int8(3), data_type: DataType::INT8 };
    let input = plan(Node::Limit { input: Box::new(scan()), limit: Some(limit), offset: None }, 1);
    let with = plan(Node::With { ctes: vec![endless], input: Box::new(input) }, 1);
    assert_eq!(show(&bed.rows(with)), "1; 2; 3");

    // A data-modifying query runs though nobody reads it, and does not count.
    let table = bed.table("t", 1, &[0], &[]);
    let source = insert(&table, values(&[ints(&[8]), ints(&[9])]), None);
    let cte = Cte { id: 1, name: "i".to_owned(), plan: source, recursive: None };
    let with = plan(Node::With { ctes: vec![cte], input: Box::new(values(&[ints(&[0])])) }, 1);
    assert_eq!(bed.run(with).expect("runs"), (vec![ints(&[0])], 1));
    assert_eq!(bed.contents(&table), "8; 9");
}

fn subquery(kind: SubqueryKind, plan: Plan, correlated: bool) -> Expr {
    let data_type = if matches!(kind, SubqueryKind::Scalar) { DataType::INT4 } else { DataType::BOOL };
    Expr::Subquery(Box::new(Subquery { kind, plan: Arc::new(plan), correlated, data_type }))
}

fn project(input: Plan, exprs: Vec<Expr>) -> Plan {
    let width = exprs.len();
    plan(Node::Project { input: Box::new(input), exprs }, width)
}

#[test]
fn subqueries() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[]);
    bed.fill(&table, &[ints(&[1, 10]), ints(&[2, 20]), ints(&[3, 30])]);
    let outer_rows = || values(&[ints(&[1]), ints(&[2]), ints(&[7]), ints(&[1]), vec![Datum::Null]]);
    let ask = |expr: Expr| show(&bed.rows(project(outer_rows(), vec![expr])));

    let correlated = || project(seq_scan(&table, Some(eq(col(0), outer(1, 0)))), vec![col(1)]);
    assert_eq!(ask(subquery(SubqueryKind::Scalar, correlated(), true)), "10; 20; null; 10; null");
    assert_eq!(
        ask(subquery(SubqueryKind::Exists { negated: true }, correlated(), true)),
        "false; false; true; false; true"
    );
    let error = bed.run(project(outer_rows(), vec![subquery(SubqueryKind::Scalar, seq_scan(&table, None), false)]));
    assert_eq!(error.expect_err("two rows").state(), SqlState::CARDINALITY_VIOLATION);

    let quantified = |all: bool| SubqueryKind::Quantified {
        left: vec![col(0)],
        operators: vec![if all { &NOT_EQUAL } else { &EQUAL }],
        all,
    };
    let keys = |rows: &[Row]| values(rows);
    let with_null = [ints(&[1]), vec![Datum::Null]];
    let without = [ints(&[1]), ints(&[2])];
    let cases: [(bool, &[Row], &str); 6] = [
        (false, &without, "true; true; false; true; null"),
        (true, &without, "false; false; true; false; null"),
        (false, &with_null, "true; null; null; true; null"),
        (true, &with_null, "false; null; null; false; null"),
        (false, &[], "false; false; false; false; false"),
        (true, &[], "true; true; true; true; true"),
    ];
    for (all, rows, expected) in cases {
        assert_eq!(ask(subquery(quantified(all), keys(rows), false)), expected, "{all} {}", show(rows));
    }
    let less_than_all = SubqueryKind::Quantified { left: vec![col(0)], operators: vec![&LESS], all: true };
    assert_eq!(ask(subquery(less_than_all, keys(&without[1..]), false)), "true; false; false; true; null");

    // Two levels: the inner one reads the outermost row.
    let inner = subquery(SubqueryKind::Scalar, project(values(&[vec![]]), vec![add(outer(2, 0), outer(1, 1))]), true);
    let middle = project(seq_scan(&table, Some(eq(col(0), int(3)))), vec![inner]);
    assert_eq!(ask(subquery(SubqueryKind::Scalar, middle, true)), "31; 32; 37; 31; null");
}

#[test]
fn expressions() {
    let bed = Bed::new();
    let eval = |expr: Expr| bed.run(project(values(&[vec![]]), vec![expr])).map(|(rows, _)| show(&rows));
    let boolean = |value: Option<bool>| Expr::Literal {
        value: value.map_or(Datum::Null, Datum::Bool),
        data_type: DataType::BOOL,
    };
    let (yes, no, unknown) = (|| boolean(Some(true)), || boolean(Some(false)), || boolean(None));
    let fails = || eq(call(&DIVIDE, int(1), int(0)), int(1));
    let in_list = |list: Vec<Expr>, negated| Expr::InList { expr: Box::new(int(1)), list, negated };
    let many = |first: Expr| [vec![first], (2..20).map(int).collect()].concat();
    let cases = vec![
        (Expr::And(vec![yes(), unknown()]), "null"),
        (Expr::And(vec![unknown(), no()]), "false"),
        (Expr::And(vec![no(), fails()]), "false"),
        (Expr::Or(vec![unknown(), yes()]), "true"),
        (Expr::Or(vec![unknown(), no()]), "null"),
        (Expr::Or(vec![yes(), fails()]), "true"),
        (Expr::Not(Box::new(unknown())), "null"),
        (Expr::BooleanTest { expr: Box::new(unknown()), value: true, negated: true }, "true"),
        (Expr::BooleanTest { expr: Box::new(no()), value: false, negated: false }, "true"),
        (Expr::IsNull { expr: Box::new(null()), negated: false }, "true"),
        (eq(int(1), null()), "null"),
        (Expr::Distinct { left: Box::new(null()), right: Box::new(null()), negated: false }, "false"),
        (Expr::Distinct { left: Box::new(null()), right: Box::new(int(1)), negated: false }, "true"),
        (in_list(vec![int(2), int(1)], false), "true"),
        (in_list(vec![int(2), null()], false), "null"),
        (in_list(vec![int(2), null()], true), "null"),
        (in_list(vec![int(2)], true), "true"),
        (in_list(many(int(1)), false), "true"),
        (in_list(many(int(0)), false), "false"),
        (in_list(many(null()), false), "null"),
        (in_list(many(null()), true), "null"),
        (Expr::Coalesce { args: vec![null(), int(4), call(&DIVIDE, int(1), int(0))], data_type: DataType::INT4 }, "4"),
        (Expr::Extremum { args: vec![int(4), null(), int(9)], greatest: true, data_type: DataType::INT4 }, "9"),
        (Expr::Extremum { args: vec![null(), int(4), int(9)], greatest: false, data_type: DataType::INT4 }, "4"),
        (
            Expr::Case {
                branches: vec![(no(), int(1)), (unknown(), int(2))],
                otherwise: None,
                data_type: DataType::INT4,
            },
            "null",
        ),
        (
            Expr::Case {
                branches: vec![(yes(), int(1)), (fails(), int(2))],
                otherwise: Some(Box::new(int(3))),
                data_type: DataType::INT4,
            },
            "1",
        ),
        (add(int(2), int(3)), "5"),
        (add(int(2), null()), "null"),
    ];
    for (expr, expected) in cases {
        assert_eq!(eval(expr.clone()).as_deref(), Ok(expected), "{expr:?}");
    }
    assert_eq!(eval(fails()).expect_err("division").state(), SqlState::DIVISION_BY_ZERO);
    let overflow = eval(add(int(i32::MAX), int(1))).expect_err("overflow");
    assert_eq!(overflow.message(), "integer out of range");
}

#[test]
fn windows() {
    let bed = Bed::new();
    let rows = [ints(&[1, 10]), ints(&[1, 10]), ints(&[1, 30]), ints(&[2, 5]), ints(&[2, 6])];
    let check = |function: WindowFunction, args: Vec<Expr>, frame: WindowFrame, expected: &str| {
        let call = WindowCall {
            function: function.clone(),
            args,
            partition_by: vec![col(0)],
            order_by: vec![sort_key(col(1))],
            frame,
            data_type: DataType::INT8,
        };
        let window = plan(Node::Window { input: Box::new(values(&rows)), calls: vec![call] }, 3);
        let found = bed.rows(window).into_iter().map(|row| row[2..].to_vec()).collect::<Vec<_>>();
        assert_eq!(show(&found), expected, "{function:?} {frame:?}");
    };
    let frame = WindowFrame::RangeToCurrent;
    check(WindowFunction::RowNumber, vec![], frame, "1; 2; 3; 1; 2");
    check(WindowFunction::Rank, vec![], frame, "1; 1; 3; 1; 2");
    check(WindowFunction::DenseRank, vec![], frame, "1; 1; 2; 1; 2");
    check(WindowFunction::PercentRank, vec![], frame, "0; 0; 1; 0; 1");
    check(WindowFunction::CumeDist, vec![], frame, "0.6666666666666666; 0.6666666666666666; 1; 0.5; 1");
    check(WindowFunction::Ntile, vec![int(2)], frame, "1; 1; 2; 1; 2");
    check(WindowFunction::Lag, vec![col(1)], frame, "null; 10; 10; null; 5");
    check(WindowFunction::Lead, vec![col(1), int(1), int(-1)], frame, "10; 30; -1; 6; -1");
    check(WindowFunction::FirstValue, vec![col(1)], frame, "10; 10; 10; 5; 5");
    check(WindowFunction::LastValue, vec![col(1)], frame, "10; 10; 30; 5; 6");
    check(WindowFunction::NthValue, vec![col(1), int(3)], frame, "null; null; 30; null; null");
    let sum = || WindowFunction::Aggregate(aggregate(&SUM, col(1)));
    check(sum(), vec![], frame, "20; 20; 50; 5; 11");
    check(sum(), vec![], WindowFrame::Whole, "50; 50; 50; 11; 11");
    check(sum(), vec![], WindowFrame::Rows { start: None, end: Some(0) }, "10; 20; 50; 5; 11");
    check(sum(), vec![], WindowFrame::Rows { start: Some(-1), end: Some(1) }, "20; 50; 40; 11; 11");
    check(sum(), vec![], WindowFrame::Rows { start: Some(1), end: Some(1) }, "10; 30; null; 6; null");
}

#[test]
fn instrumented_runs_count_rows_and_loops() {
    let bed = Bed::new();
    let right = project(values(&[ints(&[1]), ints(&[2])]), vec![add(col(0), outer(1, 0))]);
    let join = plan(
        Node::NestedLoopJoin {
            kind: crate::plan::JoinKind::Inner,
            left: Box::new(values(&[ints(&[1]), ints(&[2]), ints(&[3])])),
            right: Box::new(right),
            on: None,
            lateral: true,
        },
        2,
    );
    let prepared = Arc::new(crate::executor::Prepared::new(Arc::new(join)).expect("compiles"));
    let transaction = bed.begin(crate::store::IsolationLevel::ReadCommitted);
    transaction.begin_statement().expect("statement");
    let context = bed.context(transaction, &[]);
    let (actuals, _) = crate::executor::run_instrumented(Arc::clone(&prepared), context).expect("runs");
    let Node::NestedLoopJoin { left, right, .. } = &prepared.plan().node else { panic!("a join") };
    let counts = |plan: &Plan| actuals.of(plan).map(|node| (node.rows, node.loops));
    assert_eq!(counts(prepared.plan()), Some((6, 1)));
    assert_eq!(counts(left), Some((3, 1)));
    assert_eq!(counts(right), Some((6, 3)));
}
