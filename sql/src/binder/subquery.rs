//! Subqueries in expressions, and comparisons of rows.

use sqlparser::ast::{self, Expr, Spanned};

use super::constant;
use super::expr::operator_symbol;
use super::names::{Clause, Scope};
use super::resolve;
use super::scalar::{Scalar, Subquery, SubqueryKind};
use super::{Binder, Query};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::ScalarFunction;
use crate::types::{DataType, Datum};

impl Binder<'_> {
    pub(super) fn subquery_expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Scalar> {
        match expr {
            Expr::Exists { subquery, negated } => {
                let query = self.subquery(subquery, scope)?;
                Ok(answer(SubqueryKind::Exists { negated: *negated }, query, DataType::BOOL))
            }
            Expr::Subquery(query) => {
                let bound = self.subquery(query, scope)?;
                let data_type = self.only_column(&bound, query)?;
                Ok(answer(SubqueryKind::Scalar, bound, data_type))
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let left = self.expr(expr, scope)?;
                let tested = self.quantified(left, "=", subquery, false, scope, expr)?;
                Ok(if *negated { self.negate_quantified(tested)? } else { tested })
            }
            Expr::AnyOp { left, compare_op, right, .. } => {
                self.any_or_all(left, &operator_symbol(compare_op)?, right, false, scope)
            }
            Expr::AllOp { left, compare_op, right } => {
                self.any_or_all(left, &operator_symbol(compare_op)?, right, true, scope)
            }
            other => Err(SqlError::unsupported(format!("expression {other}"))),
        }
    }

    pub(super) fn array_subquery(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Scalar> {
        let bound = self.subquery(query, scope)?;
        let element = self.only_column(&bound, query)?;
        Ok(answer(SubqueryKind::Array, bound, element.bare().to_array()))
    }

    fn subquery(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Query> {
        let scope = *scope;
        self.nested(|binder| binder.query(query, Some(&scope), true))
    }

    fn only_column(&self, query: &Query, at: &ast::Query) -> Result<DataType> {
        match query.output.as_slice() {
            [column] => Ok(self.columns.infos[column.id].data_type),
            _ => {
                let error = SqlError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column");
                Err(self.place_parenthesis(error, at.span()))
            }
        }
    }

    fn any_or_all(&mut self, left: &Expr, symbol: &str, right: &Expr, all: bool, scope: &Scope<'_>) -> Result<Scalar> {
        let mut operand = right;
        while let Expr::Nested(inner) = operand {
            operand = inner;
        }
        let bound_left = self.expr(left, scope)?;
        if let Expr::Subquery(query) = operand {
            return self.quantified(bound_left, symbol, query, all, scope, left);
        }
        // An untyped array takes its element type from the left side.
        let mut array = self.expr(right, scope)?;
        let left_type = if bound_left.data_type().is_unknown() {
            array.data_type().element().unwrap_or(DataType::TEXT)
        } else {
            bound_left.data_type()
        };
        if array.data_type().is_unknown() {
            array = self.coerce(array, left_type.bare().to_array(), resolve::Context::Implicit)?;
        }
        let Some(element) = array.data_type().element() else {
            let error = SqlError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires array on right side");
            return Err(self.place(error, left.span()));
        };
        let resolved = resolve::operator(symbol, Some(left_type), element);
        let resolved = resolved.map_err(|error| self.place(error, left.span()))?;
        if !resolved.result.same_type(DataType::BOOL) {
            let error =
                SqlError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires operator to yield boolean");
            return Err(self.place(error, left.span()));
        }
        let bound_left = self.coerce(bound_left, resolved.args[0], resolve::Context::Implicit)?;
        if !resolve::is_relabelling(element, resolved.args[1]) && !element.same_type(resolved.args[1]) {
            array = self.coerce(array, resolved.args[1].to_array(), resolve::Context::Implicit)?;
        }
        Ok(Scalar::Quantified { expr: Box::new(bound_left), operator: resolved.function, array: Box::new(array), all })
    }

    /// `left op ANY|ALL (query)`; a row on the left is compared column by column.
    fn quantified(
        &mut self,
        left: Scalar,
        symbol: &str,
        query: &ast::Query,
        all: bool,
        scope: &Scope<'_>,
        at: &Expr,
    ) -> Result<Scalar> {
        let Query { mut rel, output } = self.subquery(query, scope)?;
        let left = match left {
            Scalar::Record(fields) => fields,
            scalar => vec![scalar],
        };
        if left.len() != output.len() {
            let message = if left.len() < output.len() {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            };
            return Err(self.place(SqlError::new(SqlState::SYNTAX_ERROR, message), at.span()));
        }
        if left.len() > 1 && !matches!(symbol, "=" | "<>") {
            return Err(self.place(SqlError::unsupported("ordering of rows with ANY or ALL"), at.span()));
        }
        let mut operators: Vec<&'static ScalarFunction> = Vec::with_capacity(left.len());
        let mut coerced = Vec::with_capacity(left.len());
        let mut converted = Vec::new();
        let mut columns = Vec::with_capacity(left.len());
        for (value, column) in left.into_iter().zip(&output) {
            let data_type = self.columns.infos[column.id].data_type;
            let resolved = resolve::operator(symbol, Some(value.data_type()), data_type);
            let resolved = resolved.map_err(|error| self.place_operator_of(error, at))?;
            coerced.push(self.coerce(value, resolved.args[0], resolve::Context::Implicit)?);
            let read = self.columns.scalar(column.id);
            match self.coerce(read, resolved.args[1], resolve::Context::Implicit)? {
                Scalar::Column { id, .. } => columns.push(id),
                scalar => {
                    let id = self.columns.add(scalar.data_type(), &column.name);
                    converted.push((id, scalar));
                    columns.push(id);
                }
            }
            operators.push(resolved.function);
        }
        rel = rel.mapped(converted);
        let kind = SubqueryKind::Quantified { left: coerced, operators, all };
        Ok(Scalar::Subquery(Box::new(Subquery { kind, query: rel, output: columns, data_type: DataType::BOOL })))
    }

    fn place_operator_of(&self, error: SqlError, at: &Expr) -> SqlError {
        self.place(error, at.span())
    }

    /// NOT IN is `<>` ALL.
    fn negate_quantified(&mut self, tested: Scalar) -> Result<Scalar> {
        let Scalar::Subquery(mut subquery) = tested else { return Ok(constant::not(tested)) };
        if let SubqueryKind::Quantified { left, operators, all } = &mut subquery.kind
            && left.len() == 1
            && let Ok(resolved) = resolve::operator("<>", Some(operators[0].args[0]), operators[0].args[1])
        {
            operators[0] = resolved.function;
            *all = true;
            return Ok(Scalar::Subquery(subquery));
        }
        Ok(Scalar::Not(Box::new(Scalar::Subquery(subquery))))
    }

    /// `(a, b) = (c, d)` and `(a, b) = (SELECT …)`; `None` when the left side is no row.
    pub(super) fn row_comparison(
        &mut self,
        symbol: &str,
        left: &Expr,
        right: &Expr,
        scope: &Scope<'_>,
    ) -> Result<Option<Scalar>> {
        let is_row = |expr: &Expr| match expr {
            Expr::Tuple(_) => true,
            Expr::Function(function) => function.name.to_string().eq_ignore_ascii_case("row"),
            _ => false,
        };
        if !is_row(left) || !matches!(symbol, "=" | "<>" | "<" | "<=" | ">" | ">=") {
            return Ok(None);
        }
        let Scalar::Record(fields) = self.expr(left, scope)? else { return Ok(None) };
        match right {
            Expr::Subquery(query) => {
                // A scalar subquery of several columns: at most one row, so ANY is the same.
                self.quantified(Scalar::Record(fields), symbol, query, false, &scope.in_clause(Clause::Where), left)
                    .map(Some)
            }
            right => match self.expr(right, scope)? {
                Scalar::Record(others) => {
                    self.compare_rows(symbol, fields, others).map(Some).map_err(|error| self.place(error, left.span()))
                }
                other => {
                    let error = SqlError::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("operator does not exist: record {symbol} {}", other.data_type().name()),
                    );
                    Err(self.place(error, left.span()))
                }
            },
        }
    }

    /// Rows compare by their first fields that differ.
    pub(super) fn compare_rows(&mut self, symbol: &str, left: Vec<Scalar>, right: Vec<Scalar>) -> Result<Scalar> {
        if left.len() != right.len() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions"));
        }
        if left.is_empty() {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot compare rows of zero length"));
        }
        let pairs: Vec<(Scalar, Scalar)> = left.into_iter().zip(right).collect();
        match symbol {
            "=" | "<>" => {
                let mut terms = Vec::with_capacity(pairs.len());
                for (left, right) in pairs {
                    terms.push(self.operator(symbol, left, right)?);
                }
                Ok(if symbol == "=" { constant::and(terms) } else { constant::or(terms) })
            }
            "<" | "<=" | ">" | ">=" => {
                // (a, b) < (c, d)  is  a < c OR (a = c AND b < d)
                let strict = symbol.trim_end_matches('=').to_owned();
                let mut result: Option<Scalar> = None;
                let last = pairs.len() - 1;
                for (position, (left, right)) in pairs.into_iter().enumerate().rev() {
                    let own = if position == last { symbol } else { strict.as_str() };
                    let before = self.operator(own, left.clone(), right.clone())?;
                    result = Some(match result {
                        None => before,
                        Some(rest) => {
                            let equal = self.operator("=", left, right)?;
                            constant::or(vec![before, constant::and(vec![equal, rest])])
                        }
                    });
                }
                Ok(result.unwrap_or_else(|| Scalar::Literal { value: Datum::Null, data_type: DataType::BOOL }))
            }
            _ => Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("operator does not exist: record {symbol} record"),
            )),
        }
    }
}

fn answer(kind: SubqueryKind, query: Query, data_type: DataType) -> Scalar {
    let output = query.output.iter().map(|output| output.id).collect();
    Scalar::Subquery(Box::new(Subquery { kind, query: query.rel, output, data_type }))
}
