//! INSERT, UPDATE, DELETE: constraints, indexes, conflicts, concurrent changes.

use std::sync::Arc;

use super::bed::*;
use crate::catalog::Table;
use crate::error::{SqlError, SqlState};
use crate::plan::{ConflictUpdate, Expr, Node, OnConflict, Plan};
use crate::store::IsolationLevel;
use crate::types::{Datum, Row};

fn with_conflict(plan: Plan, on_conflict: OnConflict) -> Plan {
    let Plan { node: Node::Insert(mut insert), columns, .. } = plan else { panic!("an INSERT") };
    insert.on_conflict = Some(on_conflict);
    let width = columns.len();
    super::bed::plan(Node::Insert(insert), width)
}

/// Every index holds exactly the entries of the table's rows.
fn check_indexes(bed: &Bed, table: &Arc<Table>) {
    let rows = bed.rows(seq_scan(table, None));
    for position in 0..table.indexes.len() {
        let column = table.indexes[position].columns[0].column;
        let mut by_index = bed.rows(index_scan(table, Some(position), range(vec![]), false));
        let in_order = by_index.is_sorted_by(|a, b| a[column] <= b[column]);
        assert!(in_order, "index {position} out of order: {}", show(&by_index));
        by_index.sort();
        assert_eq!(show(&by_index), show(&sorted(rows.clone())), "index {position}");
        assert_eq!(bed.store.rows(table.indexes[position].tree()).len(), rows.len());
    }
}

fn state(result: Result<(Vec<Row>, u64), SqlError>) -> (SqlState, String, Option<String>) {
    let error = result.expect_err("an error");
    (error.state(), error.message().to_owned(), error.fields().detail.clone())
}

#[test]
fn insert_update_delete_keep_indexes() {
    let bed = Bed::new();
    let table = bed.table("t", 3, &[0], &[(&[1], true), (&[2, 1], false)]);
    let rows: Vec<Row> = (0..50).map(|n| ints(&[n, 100 - n, n % 7])).collect();
    let (returned, affected) = bed.run(insert(&table, values(&rows), Some(vec![col(1)]))).expect("insert");
    assert_eq!((returned.len(), affected), (50, 50));
    check_indexes(&bed, &table);

    let filter = less(col(0), int(10));
    let assignments = vec![(1, add(col(1), int(1000)))];
    let (returned, affected) =
        bed.run(update(&table, Some(filter), assignments, Some(vec![col(0), col(1)]))).expect("update");
    assert_eq!(affected, 10);
    assert_eq!(show(&returned[..2]), "0 1100; 1 1099");
    check_indexes(&bed, &table);

    // The primary key moves: every entry that names the row goes with it.
    let moved = bed.run(update(&table, Some(eq(col(0), int(3))), vec![(0, int(300))], None)).expect("update");
    assert_eq!(moved.1, 1);
    check_indexes(&bed, &table);

    let gone = bed.run(delete(&table, Some(less(col(2), int(5))), Some(vec![col(0)]))).expect("delete");
    assert_eq!(gone.0.len() as u64, gone.1);
    check_indexes(&bed, &table);
    bed.run(delete(&table, None, None)).expect("delete");
    assert_eq!(bed.contents(&table), "");
    check_indexes(&bed, &table);
}

#[test]
fn unchanged_entries_are_not_rewritten() {
    let bed = Bed::new();
    let table = bed.table("t", 3, &[0], &[(&[1], true), (&[1, 0], false)]);
    bed.fill(&table, &[ints(&[1, 1, 1])]);
    let before = bed.store.rows_written();
    bed.run(update(&table, None, vec![(2, int(5))], None)).expect("update");
    assert_eq!(bed.store.rows_written() - before, 1);
    bed.run(update(&table, None, vec![(1, int(5))], None)).expect("update");
    assert_eq!(bed.store.rows_written() - before, 1 + 1 + 2 + 2);
}

#[test]
fn tables_without_primary_key_have_row_ids() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[], &[(&[0], false)]);
    bed.fill(&table, &[ints(&[1, 1]), ints(&[1, 1]), vec![Datum::Null, Datum::Int4(2)]]);
    check_indexes(&bed, &table);
    bed.run(update(&table, Some(eq(col(0), int(1))), vec![(1, int(7))], None)).expect("update");
    assert_eq!(bed.contents(&table), "1 7; 1 7; null 2");
    check_indexes(&bed, &table);
}

#[test]
fn violations_are_worded_as_postgres_words_them() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[(&[1], true)]);
    bed.fill(&table, &[ints(&[1, 10]), ints(&[2, 20])]);
    let unique = |name: &str| format!("duplicate key value violates unique constraint \"{name}\"");
    let cases: Vec<(Plan, SqlState, String, &str)> = vec![
        (
            insert(&table, values(&[ints(&[1, 30])]), None),
            SqlState::UNIQUE_VIOLATION,
            unique("t_pkey"),
            "Key (a)=(1) already exists.",
        ),
        (
            insert(&table, values(&[ints(&[3, 20])]), None),
            SqlState::UNIQUE_VIOLATION,
            unique("t_index0"),
            "Key (b)=(20) already exists.",
        ),
        (
            insert(&table, values(&[ints(&[5, 50]), ints(&[5, 51])]), None),
            SqlState::UNIQUE_VIOLATION,
            unique("t_pkey"),
            "Key (a)=(5) already exists.",
        ),
        (
            update(&table, Some(eq(col(0), int(1))), vec![(0, int(2))], None),
            SqlState::UNIQUE_VIOLATION,
            unique("t_pkey"),
            "Key (a)=(2) already exists.",
        ),
        (
            update(&table, None, vec![(1, int(7))], None),
            SqlState::UNIQUE_VIOLATION,
            unique("t_index0"),
            "Key (b)=(7) already exists.",
        ),
        (
            insert(&table, values(&[vec![Datum::Null, Datum::Int4(1)]]), None),
            SqlState::NOT_NULL_VIOLATION,
            "null value in column \"a\" of relation \"t\" violates not-null constraint".to_owned(),
            "Failing row contains (null, 1).",
        ),
    ];
    for (plan, expected_state, message, detail) in cases {
        assert_eq!(state(bed.run(plan)), (expected_state, message, Some(detail.to_owned())));
        assert_eq!(bed.contents(&table), "1 10; 2 20");
    }
    // NULLs are never duplicates.
    bed.fill(&table, &[vec![Datum::Int4(8), Datum::Null], vec![Datum::Int4(9), Datum::Null]]);
    check_indexes(&bed, &table);
}

#[test]
fn checks_reject_false_only() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[]);
    let check = |row: Row| {
        let Plan { node: Node::Insert(mut insert), .. } = insert(&table, values(&[row]), None) else {
            panic!("INSERT")
        };
        insert.checks = vec![("t_b_check".to_owned(), less(col(1), int(5)))];
        bed.run(plan(Node::Insert(insert), 0))
    };
    check(ints(&[1, 4])).expect("true");
    check(vec![Datum::Int4(2), Datum::Null]).expect("NULL");
    let (state, message, detail) = state(check(ints(&[3, 9])));
    assert_eq!(state, SqlState::CHECK_VIOLATION);
    assert_eq!(message, "new row for relation \"t\" violates check constraint \"t_b_check\"");
    assert_eq!(detail.as_deref(), Some("Failing row contains (3, 9)."));
}

#[test]
fn on_conflict() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[(&[1], true)]);
    bed.fill(&table, &[ints(&[1, 10]), ints(&[2, 20])]);
    let rows = [ints(&[1, 99]), ints(&[3, 20]), ints(&[4, 40]), ints(&[4, 41])];
    let nothing = OnConflict { arbiter: None, update: None };
    let (_, affected) = bed.run(with_conflict(insert(&table, values(&rows), None), nothing)).expect("insert");
    assert_eq!(affected, 1);
    assert_eq!(bed.contents(&table), "1 10; 2 20; 4 40");

    // Existing columns first, then the proposed ones.
    let update = |filter: Option<Expr>| OnConflict {
        arbiter: Some(None),
        update: Some(ConflictUpdate { assignments: vec![(1, add(col(1), col(3)))], filter }),
    };
    let rows = [ints(&[1, 5]), ints(&[7, 70])];
    let plan = with_conflict(insert(&table, values(&rows), Some(vec![col(0), col(1)])), update(None));
    assert_eq!(show(&bed.rows(plan)), "1 15; 7 70");
    let filtered = with_conflict(insert(&table, values(&[ints(&[1, 5])]), None), update(Some(less(col(1), int(0)))));
    assert_eq!(bed.run(filtered).expect("insert").1, 0);

    let by_index = OnConflict {
        arbiter: Some(Some(Arc::clone(&table.indexes[0]))),
        update: Some(ConflictUpdate { assignments: vec![(1, int(21))], filter: None }),
    };
    bed.run(with_conflict(insert(&table, values(&[ints(&[9, 20])]), None), by_index)).expect("insert");
    assert_eq!(bed.contents(&table), "1 15; 2 21; 4 40; 7 70");
    check_indexes(&bed, &table);

    let twice = with_conflict(insert(&table, values(&[ints(&[1, 0]), ints(&[1, 0])]), None), update(None));
    let (state, message, _) = state(bed.run(twice));
    assert_eq!(state, SqlState::CARDINALITY_VIOLATION);
    assert_eq!(message, "ON CONFLICT DO UPDATE command cannot affect row a second time");
}

#[test]
fn a_row_is_changed_once_by_a_statement_and_its_writes_are_not_read() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[]);
    bed.fill(&table, &[ints(&[1, 1]), ints(&[2, 2])]);
    // INSERT … SELECT from itself ends.
    let select =
        plan(Node::Project { input: Box::new(seq_scan(&table, None)), exprs: vec![add(col(0), int(10)), col(1)] }, 2);
    bed.run(insert(&table, select, None)).expect("insert");
    assert_eq!(bed.contents(&table), "1 1; 2 2; 11 1; 12 2");
    // Keys that move ahead of the scan are not met again.
    bed.run(update(&table, None, vec![(0, add(col(0), int(100)))], None)).expect("update");
    assert_eq!(bed.contents(&table), "101 1; 102 2; 111 1; 112 2");
}

#[test]
fn read_committed_rechecks_changed_rows() {
    let bed = Bed::new();
    let table = bed.table("t", 2, &[0], &[]);
    bed.fill(&table, &[ints(&[1, 1]), ints(&[2, 1]), ints(&[3, 1])]);
    let slow = bed.begin(IsolationLevel::ReadCommitted);
    slow.begin_statement().expect("statement");
    // Behind the open statement's back: row 1 leaves the predicate, row 2 changes within it, row 3 goes.
    bed.run(update(&table, Some(eq(col(0), int(1))), vec![(1, int(50))], None)).expect("update");
    bed.run(update(&table, Some(eq(col(0), int(2))), vec![(1, int(2))], None)).expect("update");
    bed.run(delete(&table, Some(eq(col(0), int(3))), None)).expect("delete");
    let changed = update(&table, Some(less(col(1), int(10))), vec![(1, add(col(1), int(100)))], None);
    let prepared = Arc::new(crate::executor::Prepared::new(Arc::new(changed)).expect("compiles"));
    let mut execution = crate::executor::Execution::open(prepared, bed.context(Arc::clone(&slow), &[])).expect("opens");
    assert_eq!(execution.run().expect("runs"), 1);
    slow.end_statement(crate::store::StatementOutcome::Keep);
    slow.commit().expect("commit");
    assert_eq!(bed.contents(&table), "1 50; 2 102");

    let repeatable = bed.begin(IsolationLevel::RepeatableRead);
    bed.run(update(&table, None, vec![(1, int(0))], None)).expect("update");
    let error = bed.run_in(&repeatable, update(&table, None, vec![(1, int(1))], None), &[]).expect_err("40001");
    assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
}
