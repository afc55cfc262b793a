//! UPDATE and DELETE, RETURNING and SET lists.

use sqlparser::ast::{
    self, AssignmentTarget, Expr, FromTable, ObjectName, SelectItem, Spanned, TableFactor, TableWithJoins,
    UpdateTableFromKind,
};

use super::insert::{is_default, no_column};
use super::logical::{Delete, Rel, Scan, Update};
use super::names::{Clause, Item, ItemColumns, Level, Namespace, Scope, fold, split_name};
use super::scalar::{ColumnId, Scalar, Subquery, SubqueryKind};
use super::{Binder, Output, Query};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::plan::JoinKind;
use crate::store::TableLockMode;

type Returning = Option<Vec<(ColumnId, Scalar)>>;

impl Binder<'_> {
    pub(super) fn update(&mut self, update: &ast::Update, parent: Option<&Scope<'_>>) -> Result<Query> {
        if !update.order_by.is_empty() || update.limit.is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "UPDATE takes neither ORDER BY nor LIMIT"));
        }
        let others: &[TableWithJoins] = match &update.from {
            Some(UpdateTableFromKind::AfterSet(from)) => from,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "FROM stands after SET"));
            }
            None => &[],
        };
        let (target, input, namespace) = self.write_target(&update.table, others, "update", parent)?;
        let level = Level::default();
        let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Update };
        let assignments = self.assignments(&update.assignments, &target.table, &scope)?;
        let recheck = match &update.selection {
            Some(condition) => self.conjuncts(condition, &scope.in_clause(Clause::Where), "WHERE")?,
            None => Vec::new(),
        };
        let checks = self.checks(&target.table, &namespace)?;
        let (returning, output) = self.returning(update.returning.as_deref(), &namespace, parent)?;
        let input = input.filtered(recheck.clone());
        let update = Update { target, input, recheck, assignments, checks, returning };
        Ok(Query { rel: Rel::Update(Box::new(update)), output })
    }

    pub(super) fn delete(&mut self, delete: &ast::Delete, parent: Option<&Scope<'_>>) -> Result<Query> {
        if !delete.order_by.is_empty() || delete.limit.is_some() || !delete.tables.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "DELETE takes one table, no ORDER BY and no LIMIT"));
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let [table] = from.as_slice() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "DELETE takes one table"));
        };
        let using = delete.using.as_deref().unwrap_or(&[]);
        let (target, input, namespace) = self.write_target(table, using, "delete from", parent)?;
        let level = Level::default();
        let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Where };
        let recheck = match &delete.selection {
            Some(condition) => self.conjuncts(condition, &scope, "WHERE")?,
            None => Vec::new(),
        };
        let (returning, output) = self.returning(delete.returning.as_deref(), &namespace, parent)?;
        let input = input.filtered(recheck.clone());
        let delete = Delete { target, input, recheck, returning };
        Ok(Query { rel: Rel::Delete(Box::new(delete)), output })
    }

    /// The target of UPDATE or DELETE, joined with its FROM or USING list.
    fn write_target(
        &mut self,
        table: &TableWithJoins,
        others: &[TableWithJoins],
        verb: &str,
        parent: Option<&Scope<'_>>,
    ) -> Result<(Scan, Rel, Namespace)> {
        let TableFactor::Table { name, alias, args: None, .. } = &table.relation else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("cannot {verb} this kind of target")));
        };
        if !table.joins.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("cannot {verb} a join")));
        }
        let found = self.target_table(name, verb)?;
        self.lock_table(found.oid, TableLockMode::RowExclusive);
        self.writes = true;
        let visible = alias.as_ref().map_or_else(|| found.name.clone(), |alias| fold(&alias.name));
        let first = self.columns.add_table(&found, &visible);
        let schema = if alias.is_none() { self.context.catalog.schema_name(found.schema) } else { None };
        let scan = Scan { table: found, first, alias: visible.clone() };
        let item = Item {
            alias: visible,
            schema: schema.map(str::to_owned),
            columns: ItemColumns::Table(scan.clone()),
            oid: Some(scan.table.oid),
        };
        let mut namespace = Namespace { items: vec![item], merged: None };
        let mut input = Rel::Scan(scan.clone());
        if !others.is_empty() {
            let (rel, names) = self.from(others, parent)?;
            namespace.join(names)?;
            input = Rel::Join { kind: JoinKind::Inner, left: Box::new(input), right: Box::new(rel), on: Vec::new() };
        }
        Ok((scan, input, namespace))
    }

    /// SET lists.
    pub(super) fn assignments(
        &mut self,
        list: &[ast::Assignment],
        table: &Table,
        scope: &Scope<'_>,
    ) -> Result<Vec<(usize, Scalar)>> {
        let mut assignments: Vec<(usize, Scalar)> = Vec::with_capacity(list.len());
        for assignment in list {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let position = self.assigned_column(name, table)?;
                    let value = self.assigned_value(&assignment.value, table, position, scope)?;
                    push_assignment(&mut assignments, position, value, table)?;
                }
                AssignmentTarget::Tuple(names) => {
                    let positions: Vec<usize> =
                        names.iter().map(|name| self.assigned_column(name, table)).collect::<Result<_>>()?;
                    self.assign_tuple(&positions, &assignment.value, table, scope, &mut assignments)?;
                }
            }
        }
        Ok(assignments)
    }

    fn assigned_column(&self, name: &ObjectName, table: &Table) -> Result<usize> {
        let place = |error| self.place(error, name.span());
        let (_, column) = split_name(name)?;
        let position = table.column(&column).ok_or_else(|| place(no_column(&column, table)))?;
        Ok(position)
    }

    fn assigned_value(&mut self, expr: &Expr, table: &Table, position: usize, scope: &Scope<'_>) -> Result<Scalar> {
        let column = &table.columns[position];
        if is_default(expr) {
            return self.default_value(table, position);
        }
        if column.identity.is_some_and(|identity| identity.always) {
            let error = SqlError::new(
                SqlState::GENERATED_ALWAYS,
                format!("column \"{}\" can only be updated to DEFAULT", column.name),
            )
            .with_detail(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name));
            return Err(self.place(error, expr.span()));
        }
        let scalar = self.expr(expr, scope)?;
        self.assign(scalar, table, position).map_err(|error| self.place(error, expr.span()))
    }

    fn assign_tuple(
        &mut self,
        positions: &[usize],
        value: &Expr,
        table: &Table,
        scope: &Scope<'_>,
        assignments: &mut Vec<(usize, Scalar)>,
    ) -> Result<()> {
        let mismatch = |binder: &Self| {
            let error = SqlError::new(SqlState::SYNTAX_ERROR, "number of columns does not match number of values");
            binder.place(error, value.span())
        };
        match value {
            Expr::Tuple(values) => {
                if values.len() != positions.len() {
                    return Err(mismatch(self));
                }
                for (position, value) in positions.iter().zip(values) {
                    let value = self.assigned_value(value, table, *position, scope)?;
                    push_assignment(assignments, *position, value, table)?;
                }
            }
            Expr::Nested(inner) if positions.len() == 1 => {
                let value = self.assigned_value(inner, table, positions[0], scope)?;
                push_assignment(assignments, positions[0], value, table)?;
            }
            Expr::Subquery(query) => {
                for (at, position) in positions.iter().enumerate() {
                    // One subquery for each column: rarely used, and the simplest that is right.
                    let inner = *scope;
                    let bound = self.query(query, Some(&inner), true)?;
                    if bound.output.len() != positions.len() {
                        return Err(mismatch(self));
                    }
                    let id = bound.output[at].id;
                    let data_type = self.columns.infos[id].data_type;
                    let subquery =
                        Subquery { kind: SubqueryKind::Scalar, query: bound.rel, output: vec![id], data_type };
                    let value = self.assign(Scalar::Subquery(Box::new(subquery)), table, *position)?;
                    push_assignment(assignments, *position, value, table)?;
                }
            }
            _ => {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
                ));
            }
        }
        Ok(())
    }

    /// RETURNING.
    pub(super) fn returning(
        &mut self,
        list: Option<&[SelectItem]>,
        namespace: &Namespace,
        parent: Option<&Scope<'_>>,
    ) -> Result<(Returning, Vec<Output>)> {
        let Some(list) = list else { return Ok((None, Vec::new())) };
        let level = Level::default();
        let scope = Scope { namespace, parent, level: &level, clause: Clause::Returning };
        let mut exprs = Vec::new();
        let mut output = Vec::new();
        for item in self.select_list(list, &scope)? {
            let scalar = self.settle(item.scalar)?;
            let origin = match &scalar {
                Scalar::Column { id, .. } => self.columns.infos[*id].origin,
                _ => None,
            };
            let id = self.columns.add(scalar.data_type(), &item.name);
            self.columns.infos[id].origin = origin;
            exprs.push((id, scalar));
            output.push(Output { name: item.name, id });
        }
        Ok((Some(exprs), output))
    }
}

fn push_assignment(
    assignments: &mut Vec<(usize, Scalar)>,
    position: usize,
    value: Scalar,
    table: &Table,
) -> Result<()> {
    if assignments.iter().any(|(present, _)| *present == position) {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("multiple assignments to same column \"{}\"", table.columns[position].name),
        ));
    }
    assignments.push((position, value));
    Ok(())
}
