//! Queries: WITH, the body, ORDER BY, LIMIT.

use sqlparser::ast::{self, LimitClause, SetExpr, Spanned, Statement};

use super::logical::Rel;
use super::names::{Clause, Level, Namespace, Scope};
use super::resolve::Context;
use super::scalar::Scalar;
use super::{Binder, Output, Query};
use crate::error::{Result, SqlError, SqlState};
use crate::types::DataType;

/// What stands after a query's body and is bound with it.
#[derive(Clone, Copy)]
pub(super) struct Tail<'a> {
    pub order_by: Option<&'a ast::OrderBy>,
    pub locks: &'a [ast::LockClause],
    /// LIMIT and OFFSET follow, so that sorted input may be wanted.
    pub limit: Option<&'a LimitClause>,
    pub fetch: Option<&'a ast::Fetch>,
}

impl Binder<'_> {
    /// Binds a query. `settle`: output that is still of unknown type becomes text.
    pub(super) fn query(&mut self, query: &ast::Query, parent: Option<&Scope<'_>>, settle: bool) -> Result<Query> {
        if query.for_clause.is_some() || !query.pipe_operators.is_empty() || query.format_clause.is_some() {
            return Err(SqlError::unsupported("this query clause"));
        }
        let outer_ctes = self.ctes.len();
        let with = match &query.with {
            Some(with) => self.with(with, parent)?,
            None => Vec::new(),
        };
        let tail = Tail {
            order_by: query.order_by.as_ref(),
            locks: &query.locks,
            limit: query.limit_clause.as_ref(),
            fetch: query.fetch.as_ref(),
        };
        let bound = self.body(&query.body, tail, parent, settle);
        self.ctes.truncate(outer_ctes);
        let Query { rel, output } = bound?;
        let rel = if with.is_empty() { rel } else { Rel::With { ctes: with, input: Box::new(rel) } };
        Ok(Query { rel, output })
    }

    fn body(&mut self, body: &SetExpr, tail: Tail<'_>, parent: Option<&Scope<'_>>, settle: bool) -> Result<Query> {
        match body {
            SetExpr::Select(select) => self.select(select, tail, parent, settle),
            SetExpr::Query(query) => {
                let bound = self.nested(|binder| binder.query(query, parent, settle))?;
                self.finish_query(bound, tail, parent)
            }
            SetExpr::Values(values) => {
                let bound = self.values(&values.rows, parent, settle)?;
                self.finish_query(bound, tail, parent)
            }
            SetExpr::SetOperation { .. } => {
                let bound = self.nested(|binder| binder.set_operation(body, parent, settle))?;
                self.finish_query(bound, tail, parent)
            }
            SetExpr::Table(table) => {
                let mut parts = Vec::new();
                parts.extend(table.schema_name.iter().map(ast::Ident::new));
                parts.extend(table.table_name.iter().map(ast::Ident::new));
                let text = format!("SELECT * FROM {}", ast::ObjectName::from(parts));
                let query = crate::parser::parse_query(&text)?;
                let bound = self.query(&query, parent, settle)?;
                self.finish_query(bound, tail, parent)
            }
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert, parent),
            SetExpr::Update(Statement::Update(update)) => self.update(update, parent),
            SetExpr::Delete(Statement::Delete(delete)) => self.delete(delete, parent),
            _ => Err(SqlError::unsupported("MERGE")),
        }
    }

    /// Binds the branch of a set operation: no ORDER BY of its own unless in parentheses.
    pub(super) fn branch(&mut self, body: &SetExpr, parent: Option<&Scope<'_>>) -> Result<Query> {
        self.body(body, Tail { order_by: None, locks: &[], limit: None, fetch: None }, parent, false)
    }

    /// ORDER BY and LIMIT over a bound query whose output is all that can be named.
    fn finish_query(&mut self, bound: Query, tail: Tail<'_>, parent: Option<&Scope<'_>>) -> Result<Query> {
        let Query { mut rel, output } = bound;
        if !tail.locks.is_empty() {
            return Err(SqlError::unsupported("FOR UPDATE or FOR SHARE on this query"));
        }
        if let Some(order_by) = tail.order_by {
            let mut keys = Vec::new();
            for item in super::order::items(order_by)? {
                let id = match super::order::output_position(&item.expr, output.len(), "ORDER BY")
                    .map_err(|error| self.place(error, item.expr.span()))?
                {
                    Some(position) => output[position].id,
                    None => self.named_output(&item.expr, &output)?.ok_or_else(|| {
                        let error = SqlError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        )
                        .with_detail("Only result column names can be used, not expressions or functions.")
                        .with_hint(
                            "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                        );
                        self.place(error, item.expr.span())
                    })?,
                };
                keys.push(super::order::key(self.columns.scalar(id), item));
            }
            rel = Rel::Sort { input: Box::new(rel), keys };
        }
        let rel = self.limit(rel, tail, parent)?;
        Ok(Query { rel, output })
    }

    /// The output column that an ORDER BY or GROUP BY item names.
    pub(super) fn named_output(&self, expr: &ast::Expr, output: &[Output]) -> Result<Option<usize>> {
        let ast::Expr::Identifier(ident) = expr else { return Ok(None) };
        let name = super::fold(ident);
        let mut found: Option<usize> = None;
        for column in output.iter().filter(|column| column.name == name) {
            if found.is_some_and(|id| id != column.id) {
                let error = SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("ORDER BY \"{name}\" is ambiguous"));
                return Err(self.place(error, ident.span));
            }
            found = Some(column.id);
        }
        Ok(found)
    }

    /// LIMIT, OFFSET and FETCH FIRST.
    pub(super) fn limit(&mut self, rel: Rel, tail: Tail<'_>, parent: Option<&Scope<'_>>) -> Result<Rel> {
        let (mut limit, mut offset) = (None, None);
        match tail.limit {
            Some(LimitClause::LimitOffset { limit: l, offset: o, limit_by }) if limit_by.is_empty() => {
                limit = l.as_ref();
                offset = o.as_ref().map(|offset| &offset.value);
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."));
            }
            Some(_) => return Err(SqlError::unsupported("LIMIT BY")),
            None => {}
        }
        let one = ast::Expr::Value(ast::Value::Number("1".into(), false).into());
        if let Some(fetch) = tail.fetch {
            if fetch.with_ties || fetch.percent {
                return Err(SqlError::unsupported("FETCH FIRST … WITH TIES or PERCENT"));
            }
            limit = Some(fetch.quantity.as_ref().unwrap_or(&one));
        }
        if limit.is_none() && offset.is_none() {
            return Ok(rel);
        }
        let mut bind = |expr: Option<&ast::Expr>, name: &str| -> Result<Option<Scalar>> {
            let Some(expr) = expr else { return Ok(None) };
            let (namespace, level) = (Namespace::default(), Level::default());
            let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Limit };
            let scalar = self.expr(expr, &scope)?;
            if matches!(&scalar, Scalar::Literal { value, .. } if value.is_null()) {
                return Ok(None);
            }
            let from = scalar.data_type();
            self.try_coerce(scalar, DataType::INT8, Context::Assignment)?.map(Some).ok_or_else(|| {
                let error = SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!("argument of {name} must be type bigint, not type {}", from.name()),
                );
                self.place(error, expr.span())
            })
        };
        let limit = bind(limit, "LIMIT")?;
        let offset = bind(offset, "OFFSET")?;
        if limit.is_none() && offset.is_none() {
            return Ok(rel);
        }
        Ok(Rel::Limit { input: Box::new(rel), limit, offset })
    }

    /// VALUES lists.
    pub(super) fn values(
        &mut self,
        rows: &[ast::Parens<Vec<ast::Expr>>],
        parent: Option<&Scope<'_>>,
        settle: bool,
    ) -> Result<Query> {
        let width = rows.first().map_or(0, |row| row.content.len());
        let (namespace, level) = (Namespace::default(), Level::default());
        let scope = Scope { namespace: &namespace, parent, level: &level, clause: Clause::Values };
        let mut columns: Vec<Vec<Scalar>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            if row.content.len() != width {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length");
                return Err(
                    self.place(error, row.content.first().map_or(sqlparser::tokenizer::Span::empty(), Spanned::span))
                );
            }
            for (column, expr) in columns.iter_mut().zip(&row.content) {
                column.push(self.expr(expr, &scope)?);
            }
        }
        let mut ids = Vec::with_capacity(width);
        let mut output = Vec::with_capacity(width);
        let mut bound_rows: Vec<Vec<Scalar>> = (0..rows.len()).map(|_| Vec::with_capacity(width)).collect();
        for (position, scalars) in columns.into_iter().enumerate() {
            // A single row, or rows of unknowns only, may still take its type from where it goes.
            let open = !settle && scalars.iter().all(|scalar| scalar.data_type().is_unknown());
            let (scalars, data_type) = if open { (scalars, DataType::UNKNOWN) } else { self.unify(scalars, "VALUES")? };
            let name = format!("column{}", position + 1);
            let id = self.columns.add(data_type, &name);
            ids.push(id);
            output.push(Output { name, id });
            for (row, scalar) in bound_rows.iter_mut().zip(scalars) {
                row.push(scalar);
            }
        }
        Ok(Query { rel: Rel::Values { rows: bound_rows, columns: ids }, output })
    }
}
