//! UNION, INTERSECT, EXCEPT.

use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier, Spanned};
use sqlparser::tokenizer::Span;

use super::logical::Rel;
use super::names::Scope;
use super::scalar::{ColumnId, Scalar};
use super::{Binder, Output, Query};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::SetOperation;
use crate::types::DataType;

impl Binder<'_> {
    pub(super) fn set_operation(&mut self, body: &SetExpr, parent: Option<&Scope<'_>>, settle: bool) -> Result<Query> {
        // `a UNION b UNION c …` leans to the left; walked in a loop.
        let mut spine = Vec::new();
        let mut rest = body;
        while let SetExpr::SetOperation { left, op, set_quantifier, right } = rest {
            spine.push((*op, *set_quantifier, right.as_ref()));
            rest = left;
        }
        let mut query = self.branch(rest, parent)?;
        while let Some((op, quantifier, right)) = spine.pop() {
            let branch = self.branch(right, parent)?;
            let last = spine.is_empty();
            let place = |at: usize| item_span(right, at);
            query = self.combine(query, op, quantifier, branch, settle || !last, &place)?;
        }
        Ok(query)
    }

    fn combine(
        &mut self,
        left: Query,
        op: SetOperator,
        quantifier: SetQuantifier,
        right: Query,
        settle: bool,
        right_item: &dyn Fn(usize) -> Span,
    ) -> Result<Query> {
        let (operation, name) = match op {
            SetOperator::Union => (SetOperation::Union, "UNION"),
            SetOperator::Intersect => (SetOperation::Intersect, "INTERSECT"),
            SetOperator::Except => (SetOperation::Except, "EXCEPT"),
            SetOperator::Minus => return Err(SqlError::unsupported("MINUS")),
        };
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            _ => return Err(SqlError::unsupported("set operation BY NAME")),
        };
        if left.output.len() != right.output.len() {
            let error = SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("each {name} query must have the same number of columns"),
            );
            return Err(self.place(error, right_item(0)));
        }
        let mut types = Vec::with_capacity(left.output.len());
        for (at, (a, b)) in left.output.iter().zip(&right.output).enumerate() {
            let pair = [self.columns.infos[a.id].data_type, self.columns.infos[b.id].data_type];
            let common = if pair.iter().all(|data_type| data_type.is_unknown()) && !settle {
                DataType::UNKNOWN
            } else if pair[0] == pair[1] && !pair[0].is_unknown() {
                pair[0]
            } else {
                crate::functions::common_type(&pair, name).map_err(|error| self.place(error, right_item(at)))?
            };
            types.push(common);
        }
        let mut output = Vec::with_capacity(types.len());
        let mut columns = Vec::with_capacity(types.len());
        for (column, data_type) in left.output.iter().zip(&types) {
            let id = self.columns.add(*data_type, &column.name);
            columns.push(id);
            output.push(Output { name: column.name.clone(), id });
        }
        let (left, left_columns) = self.convert_output(left, &types, name)?;
        let (right, right_columns) = self.convert_output(right, &types, name)?;
        let rel = Rel::SetOp {
            operation,
            all,
            left: Box::new(left),
            left_columns,
            right: Box::new(right),
            right_columns,
            columns,
        };
        Ok(Query { rel, output })
    }

    /// Brings a query's output to the types given.
    pub(super) fn convert_output(
        &mut self,
        query: Query,
        types: &[DataType],
        clause: &str,
    ) -> Result<(Rel, Vec<ColumnId>)> {
        let Query { mut rel, output } = query;
        let mut columns = Vec::with_capacity(types.len());
        let mut converted: Vec<(ColumnId, Scalar)> = Vec::new();
        for (column, to) in output.iter().zip(types) {
            let from = self.columns.infos[column.id].data_type;
            if from.same_type(*to) || to.is_unknown() {
                columns.push(column.id);
                continue;
            }
            let scalar = match self.open_definition(&mut rel, column.id, *to)? {
                Some(()) => {
                    columns.push(column.id);
                    continue;
                }
                None => self.coerce_common(self.columns.scalar(column.id), *to, clause)?,
            };
            let id = self.columns.add(*to, &column.name);
            converted.push((id, scalar));
            columns.push(id);
        }
        Ok((rel.mapped(converted), columns))
    }

    /// A column still of unknown type is given one where it is defined: in the select list or VALUES.
    pub(super) fn open_definition(&mut self, rel: &mut Rel, id: ColumnId, to: DataType) -> Result<Option<()>> {
        if !self.columns.infos[id].data_type.is_unknown() {
            return Ok(None);
        }
        let found = match rel {
            Rel::Map { input, exprs } => match exprs.iter_mut().find(|(column, _)| *column == id) {
                Some((_, scalar)) => {
                    let open = std::mem::replace(scalar, Scalar::bool(true));
                    *scalar = self.coerce(open, to, super::resolve::Context::Implicit)?;
                    Some(())
                }
                None => self.open_definition(input, id, to)?,
            },
            Rel::Values { rows, columns } => match columns.iter().position(|column| *column == id) {
                Some(position) => {
                    for row in rows {
                        let open = std::mem::replace(&mut row[position], Scalar::bool(true));
                        row[position] = self.coerce(open, to, super::resolve::Context::Implicit)?;
                    }
                    Some(())
                }
                None => None,
            },
            Rel::SetOp { left, left_columns, right, right_columns, columns, .. } => {
                match columns.iter().position(|column| *column == id) {
                    Some(position) => {
                        self.open_definition(left, left_columns[position], to)?;
                        self.open_definition(right, right_columns[position], to)?;
                        Some(())
                    }
                    None => None,
                }
            }
            Rel::Filter { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::With { input, .. } => self.open_definition(input, id, to)?,
            _ => None,
        };
        if found.is_some() {
            self.columns.infos[id].data_type = to.bare();
        }
        Ok(found)
    }
}

/// Where a query's select item stands.
fn item_span(body: &SetExpr, at: usize) -> Span {
    match body {
        SetExpr::Select(select) => select.projection.get(at).map_or(Span::empty(), Spanned::span),
        SetExpr::Query(query) => item_span(&query.body, at),
        SetExpr::SetOperation { left, .. } => item_span(left, at),
        SetExpr::Values(values) => {
            let first = values.rows.first();
            first.and_then(|row| row.content.get(at)).map_or(Span::empty(), Spanned::span)
        }
        _ => Span::empty(),
    }
}
