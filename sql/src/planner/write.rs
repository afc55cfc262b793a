//! INSERT, UPDATE, DELETE: input rows in the shape that the executor's write operators expect.

use std::sync::Arc;

use super::Planner;
use super::cost;
use super::physical::{Demand, Physical, want};
use crate::binder::logical::{Delete, Insert, Scan, Update};
use crate::binder::scalar::{ColumnId, Scalar};
use crate::catalog::{ForeignKey, Table};
use crate::error::{Result, SqlError};
use crate::plan::{self, Expr, Node, Plan};
use crate::table::ForeignKeyAccess;

/// Estimates of a plan that has moved into another.
#[derive(Clone, Copy)]
struct Estimate {
    rows: f64,
    startup: f64,
    total: f64,
}

impl Estimate {
    fn of(plan: &Plan) -> Self {
        Self { rows: plan.rows, startup: plan.startup_cost, total: plan.total_cost }
    }
}

impl Planner<'_> {
    pub(super) fn plan_insert(&mut self, insert: &Insert) -> Result<Physical> {
        let mut wanted = Vec::new();
        insert.values.iter().for_each(|scalar| want(scalar, &mut wanted));
        self.keep_available(&insert.input, &mut wanted);
        let input = self.plan_rel(&insert.input, &Demand::all(&wanted))?;
        let values = self.lower_all(&insert.values, &input.layout)?;
        let width = insert.table.columns.len();
        let row: Vec<ColumnId> = (insert.row_first..insert.row_first + width).collect();
        let checks = self.lower_checks(&insert.checks, &row)?;
        let on_conflict = match &insert.on_conflict {
            None => None,
            Some(conflict) => {
                let mut both = row.clone();
                both.extend(insert.excluded_first..insert.excluded_first + width);
                let update = match &conflict.update {
                    None => None,
                    Some((assignments, filter)) => Some(plan::ConflictUpdate {
                        assignments: self.lower_assignments(assignments, &both)?,
                        filter: filter.as_ref().map(|filter| self.lower(filter, &both)).transpose()?,
                    }),
                };
                Some(plan::OnConflict { arbiter: conflict.arbiter.clone(), update })
            }
        };
        let assigned = insert.on_conflict.iter().flat_map(|conflict| &conflict.update);
        let assigned: Vec<usize> =
            assigned.flat_map(|(assignments, _)| assignments.iter().map(|(at, _)| *at)).collect();
        let references = self.references(&insert.table, None)?;
        let referenced = self.referenced(&insert.table, Some(&assigned))?;
        let (returning, layout) = self.lower_returning(insert.returning.as_deref(), &row)?;
        let estimate = Estimate::of(&input.plan);
        let node = Node::Insert(Box::new(plan::Insert {
            table: insert.table.clone(),
            input: input.plan,
            values,
            checks,
            references,
            referenced,
            on_conflict,
            returning,
        }));
        Ok(self.written(node, layout, estimate))
    }

    pub(super) fn plan_update(&mut self, update: &Update) -> Result<Physical> {
        let mut others = Vec::new();
        update.recheck.iter().for_each(|scalar| want(scalar, &mut others));
        update.assignments.iter().for_each(|(_, scalar)| want(scalar, &mut others));
        update.returning.iter().flatten().for_each(|(_, scalar)| want(scalar, &mut others));
        self.keep_available(&update.input, &mut others);
        let output = target_layout(&update.target, others);
        let input = self.arranged(&update.input, &output)?;
        let recheck = self.lower_conjunction(&update.recheck, &output)?;
        let assignments = self.lower_assignments(&update.assignments, &output)?;
        let row: Vec<ColumnId> = update.target.columns().collect();
        let checks = self.lower_checks(&update.checks, &row)?;
        let assigned: Vec<usize> = assignments.iter().map(|(position, _)| *position).collect();
        let references = self.references(&update.target.table, Some(&assigned))?;
        let referenced = self.referenced(&update.target.table, Some(&assigned))?;
        let (returning, layout) = self.lower_returning(update.returning.as_deref(), &output)?;
        let estimate = Estimate::of(&input);
        let node = Node::Update(Box::new(plan::Update {
            table: update.target.table.clone(),
            input,
            recheck,
            assignments,
            checks,
            references,
            referenced,
            returning,
        }));
        Ok(self.written(node, layout, estimate))
    }

    pub(super) fn plan_delete(&mut self, delete: &Delete) -> Result<Physical> {
        let mut others = Vec::new();
        delete.recheck.iter().for_each(|scalar| want(scalar, &mut others));
        delete.returning.iter().flatten().for_each(|(_, scalar)| want(scalar, &mut others));
        self.keep_available(&delete.input, &mut others);
        let output = target_layout(&delete.target, others);
        let input = self.arranged(&delete.input, &output)?;
        let recheck = self.lower_conjunction(&delete.recheck, &output)?;
        let (returning, layout) = self.lower_returning(delete.returning.as_deref(), &output)?;
        let estimate = Estimate::of(&input);
        let referenced = self.referenced(&delete.target.table, None)?;
        let table = delete.target.table.clone();
        let node = Node::Delete(Box::new(plan::Delete { table, input, recheck, referenced, returning }));
        Ok(self.written(node, layout, estimate))
    }

    /// Foreign keys of a table, over assigned columns if those are given.
    fn references(&self, table: &Arc<Table>, assigned: Option<&[usize]>) -> Result<Vec<Arc<ForeignKeyAccess>>> {
        let touched = |columns: &[usize]| assigned.is_none_or(|list| columns.iter().any(|at| list.contains(at)));
        let keys = table.foreign_keys.iter().filter(|key| touched(&key.columns));
        keys.map(|key| {
            let parent = self.context.catalog.table(key.parent).ok_or_else(|| no_parent(key))?;
            ForeignKeyAccess::new(key, table, parent).map(Arc::new)
        })
        .collect()
    }

    /// Foreign keys that refer to a table, to assigned columns if those are given.
    pub(super) fn referenced(
        &self,
        table: &Arc<Table>,
        assigned: Option<&[usize]>,
    ) -> Result<Vec<Arc<ForeignKeyAccess>>> {
        let touched = |columns: &[usize]| assigned.is_none_or(|list| columns.iter().any(|at| list.contains(at)));
        let keys = self.context.catalog.references_to(table.oid);
        let keys = keys.into_iter().filter(|(_, key)| touched(&key.parent_columns));
        keys.map(|(child, key)| ForeignKeyAccess::new(key, child, table).map(Arc::new)).collect()
    }

    fn written(&self, node: Node, layout: Vec<ColumnId>, input: Estimate) -> Physical {
        let rows = if layout.is_empty() { 0.0 } else { input.rows };
        self.physical(node, layout, rows, input.startup, input.total + input.rows * cost::ROW)
    }

    fn lower_checks(&mut self, checks: &[(String, Scalar)], row: &[ColumnId]) -> Result<Vec<(String, Expr)>> {
        checks.iter().map(|(name, check)| Ok((name.clone(), self.lower(check, row)?))).collect()
    }

    fn lower_assignments(
        &mut self,
        assignments: &[(usize, Scalar)],
        layout: &[ColumnId],
    ) -> Result<Vec<(usize, Expr)>> {
        assignments.iter().map(|(position, value)| Ok((*position, self.lower(value, layout)?))).collect()
    }

    /// RETURNING expressions, and the ids of what they give.
    fn lower_returning(
        &mut self,
        returning: Option<&[(ColumnId, Scalar)]>,
        layout: &[ColumnId],
    ) -> Result<(Option<Vec<Expr>>, Vec<ColumnId>)> {
        let Some(returning) = returning else { return Ok((None, Vec::new())) };
        let exprs = returning.iter().map(|(_, expr)| self.lower(expr, layout)).collect::<Result<_>>()?;
        Ok((Some(exprs), returning.iter().map(|(id, _)| *id).collect()))
    }
}

fn no_parent(key: &ForeignKey) -> SqlError {
    SqlError::internal(format!("foreign key {} refers to table {}, which is not there", key.name, key.parent))
}

/// All columns of the target, its key, then the others.
fn target_layout(target: &Scan, others: Vec<ColumnId>) -> Vec<ColumnId> {
    let mut output: Vec<ColumnId> = target.columns().collect();
    output.push(target.key());
    for id in others {
        if !output.contains(&id) {
            output.push(id);
        }
    }
    output
}
