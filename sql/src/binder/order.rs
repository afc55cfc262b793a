//! ORDER BY items.

use sqlparser::ast::{self, OrderByExpr, OrderByKind, Value};

use super::scalar::{Order, Scalar};
use crate::error::{Result, SqlError, SqlState};

/// The items of an ORDER BY.
pub(super) fn items(order_by: &ast::OrderBy) -> Result<&[OrderByExpr]> {
    match &order_by.kind {
        OrderByKind::Expressions(items) if order_by.interpolate.is_none() => Ok(items),
        _ => Err(SqlError::unsupported("ORDER BY ALL")),
    }
}

/// A sort key: NULLs come last ascending and first descending, unless told.
pub(super) fn key(expr: Scalar, item: &OrderByExpr) -> Order {
    let descending = item.options.asc == Some(false);
    Order { expr, descending, nulls_first: item.options.nulls_first.unwrap_or(descending) }
}

/// An integer literal in ORDER BY, GROUP BY or DISTINCT ON means an output column: its position from 0.
pub(super) fn output_position(expr: &ast::Expr, outputs: usize, clause: &str) -> Result<Option<usize>> {
    let ast::Expr::Value(value) = expr else { return Ok(None) };
    match &value.value {
        Value::Number(digits, _) => {
            let Ok(number) = digits.parse::<usize>() else {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}")));
            };
            if number == 0 || number > outputs {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("{clause} position {number} is not in select list"),
                ));
            }
            Ok(Some(number - 1))
        }
        Value::SingleQuotedString(_) => {
            Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}")))
        }
        _ => Ok(None),
    }
}
