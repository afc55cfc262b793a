//! Bound statement → [`Plan`](crate::plan::Plan).
//!
//! 1. CTEs that are read once are merged into their reader (`ctes`).
//! 2. Predicates move down, outer joins become inner ones, subqueries become joins (`pushdown`,
//!    `decorrelate`).
//! 3. From the top down every operator asks its input for columns (and an order), and picks the cheapest
//!    way to give them: access paths (`access`), join orders (`join_order`).
//! 4. Column ids become positions (`lower`).

mod access;
mod column_set;
mod context;
mod cost;
mod ctes;
mod decorrelate;
mod deparse;
mod estimate;
mod explain;
mod join;
mod join_graph;
mod join_order;
mod key_source;
mod lower;
mod physical;
mod pushdown;
mod simplify;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use sqlparser::ast::Statement;

pub use context::{PlanContext, PlannedStatement, RowEstimate, StatementKind};
pub use explain::{ExplainOptions, explain};

use crate::binder::logical::Rel;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::binder::{Binder, Bound, Columns};
use crate::error::Result;
use crate::plan::{Expr, JoinKind};
use crate::store::TableLockMode;
use crate::types::DataType;
use column_set::ColumnSet;

/// Plans one statement.
pub(crate) struct Planner<'c> {
    context: &'c PlanContext<'c>,
    columns: Columns,
    parameters: Vec<DataType>,
    /// Rows of the operators and queries around the one being planned, innermost last.
    outer: Vec<Vec<ColumnId>>,
    /// Estimated rows of CTEs by id.
    cte_rows: Vec<f64>,
    /// Columns that an outer join may fill with NULL.
    null_extended: ColumnSet,
}

/// Binds and plans a SELECT, INSERT, UPDATE, DELETE, VALUES or TABLE statement.
pub fn plan(ast: &Statement, context: &PlanContext<'_>) -> Result<PlannedStatement> {
    let bound = Binder::new(context).statement(ast)?;
    plan_bound(bound, context)
}

fn plan_bound(bound: Bound, context: &PlanContext<'_>) -> Result<PlannedStatement> {
    let Bound { query, columns, parameters, tables, relations, kind, writes, ctes } = bound;
    let mut output: Vec<ColumnId> = query.output.iter().map(|output| output.id).collect();
    let mut rel = query.rel;
    let mut planner = Planner {
        context,
        columns,
        parameters,
        outer: Vec::new(),
        cte_rows: Vec::new(),
        null_extended: ColumnSet::default(),
    };
    if ctes > 0 {
        ctes::merge(&mut rel, &mut output);
    }
    note_null_extended(&rel, &mut planner.null_extended);
    let rel = planner.optimize(rel);
    let mut plan = planner.arranged(&rel, &output)?;
    for (column, output) in plan.columns.iter_mut().zip(query.output) {
        column.name = output.name;
    }
    let mut tables = tables;
    plan.for_each_node(&mut |node| {
        for reference in node.foreign_keys().0 {
            let parent = reference.parent().oid;
            if !tables.iter().any(|(table, _)| *table == parent) {
                tables.push((parent, TableLockMode::RowShare));
            }
        }
    });
    Ok(PlannedStatement { plan: Arc::new(plan), parameters: planner.parameters, tables, relations, kind, writes })
}

/// Lowers a scalar without subqueries over a row of columns.
pub(crate) fn lower_over(scalar: &Scalar, layout: &[ColumnId], context: &PlanContext<'_>) -> Result<Expr> {
    let mut planner = Planner {
        context,
        columns: Columns::default(),
        parameters: Vec::new(),
        outer: Vec::new(),
        cte_rows: Vec::new(),
        null_extended: ColumnSet::default(),
    };
    planner.lower(scalar, layout)
}

fn note_null_extended(rel: &Rel, set: &mut ColumnSet) {
    if let Rel::Join { kind, left, right, .. } = rel {
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            set.union_with(&ColumnSet::output(right));
        }
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            set.union_with(&ColumnSet::output(left));
        }
    }
    rel.for_each_input(&mut |input| note_null_extended(input, set));
}
