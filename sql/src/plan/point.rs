//! Whether a plan is point work: a bounded handful of rows whatever the tables hold, by its shape and not by
//! estimates. Only such plans may run on a thread that others wait for.

use super::{Expr, IndexRange, Node, Plan};
use crate::catalog::{Index, Table};

/// More rows of VALUES than this are not point work.
const MOST_ROWS: usize = 64;

impl Plan {
    /// Whether it touches a bounded handful of rows and calls nothing that waits.
    pub fn is_point(&self) -> bool {
        let mut point = true;
        self.for_each_node(&mut |plan| {
            point &= plan.node_is_point();
            plan.for_each_expr(&mut |expr| point &= !waits(expr));
        });
        point
    }

    fn node_is_point(&self) -> bool {
        match &self.node {
            Node::Values { rows } => rows.len() <= MOST_ROWS,
            Node::Constant { rows } => rows.len() <= MOST_ROWS,
            Node::IndexScan { table, index, range, .. } | Node::IndexJoin { table, index, range, .. } => {
                finds_one_row(table, index.as_deref(), range)
            }
            Node::Filter { .. }
            | Node::Project { .. }
            | Node::Limit { .. }
            | Node::Sort { .. }
            | Node::Aggregate { .. }
            | Node::NestedLoopJoin { .. }
            | Node::LockRows { .. } => true,
            // What is done about rows that refer to a key taken away has no bound.
            Node::Insert(insert) => insert.referenced.is_empty(),
            Node::Update(update) => update.referenced.is_empty(),
            Node::Delete(delete) => delete.referenced.is_empty(),
            Node::SystemScan { .. }
            | Node::SeqScan { .. }
            | Node::FunctionScan { .. }
            | Node::ProjectSet { .. }
            | Node::HashJoin { .. }
            | Node::Window { .. }
            | Node::Distinct { .. }
            | Node::SetOp { .. }
            | Node::Append { .. }
            | Node::With { .. }
            | Node::CteScan { .. } => false,
        }
    }
}

/// Whether the range names every column of a unique key.
fn finds_one_row(table: &Table, index: Option<&Index>, range: &IndexRange) -> bool {
    let (unique, columns) = match index {
        Some(index) => (index.unique, index.columns.len()),
        None => match &table.primary_key {
            Some(key) => (true, key.columns.len()),
            None => return false,
        },
    };
    unique && range.equal.len() == columns
}

/// Whether the expression may wait or run long: `pg_sleep`, functions over what a session cannot bound, and `nextval`: a
/// reservation waits for the log with the sequence locked, and whoever waits for it on a thread that the log's answer
/// needs would wait for ever.
fn waits(expr: &Expr) -> bool {
    let here = match expr {
        Expr::Call { function, .. } => {
            matches!(
                function.name,
                "pg_sleep"
                    | "pg_sleep_for"
                    | "pg_sleep_until"
                    | "repeat"
                    | "nextval"
                    | "setval"
                    | "pg_sequence_last_value"
            )
        }
        _ => false,
    };
    let mut below = false;
    expr.for_each_child(&mut |child| below |= waits(child));
    here || below
}
