//! Scalars outside statements: defaults, CHECK conditions, USING expressions of ALTER TABLE.

use std::sync::Arc;

use super::Binder;
use super::names::{Clause, Item, ItemColumns, Level, Namespace, Scope};
use super::resolve::Context;
use super::scalar::Scalar;
use crate::error::{Result, SqlError, SqlState};
use crate::plan::Expr;
use crate::planner::{PlanContext, lower_over};
use crate::types::DataType;

/// What a scalar outside a statement may read and what it must give.
#[derive(Clone, Copy, Debug)]
pub struct ScalarColumns<'a> {
    /// Name of the relation, for qualified names; empty for none.
    pub relation: &'a str,
    /// Columns by position. An empty name cannot be read (a dropped column).
    pub columns: &'a [(String, DataType)],
}

/// Binds an SQL expression over a row of `columns`; column *i* becomes [`Expr::Column`] *i*. With a
/// `target`, the result is coerced to it as in an assignment (42804 when it cannot be). Subqueries,
/// aggregates and parameters are refused, as in defaults and CHECK.
pub fn bind_scalar(
    text: &str,
    columns: ScalarColumns<'_>,
    target: Option<DataType>,
    context: &PlanContext<'_>,
) -> Result<Expr> {
    let parsed = crate::parser::parse_expression(text)?;
    let mut binder = Binder::new(context);
    binder.has_source = false;
    let listed: Vec<(String, Scalar)> = columns
        .columns
        .iter()
        .map(|(name, data_type)| {
            let id = binder.columns.add(*data_type, name);
            (name.clone(), Scalar::Column { id, data_type: *data_type })
        })
        .collect();
    let ids: Vec<usize> = (0..listed.len()).collect();
    let listed: Vec<_> = listed.into_iter().filter(|(name, _)| !name.is_empty()).collect();
    let item = Item {
        alias: columns.relation.to_owned(),
        schema: None,
        columns: ItemColumns::Listed(Arc::from(listed)),
        oid: None,
    };
    let namespace = Namespace { items: vec![item], merged: None };
    let level = Level::default();
    let clause = if columns.columns.is_empty() { Clause::Default } else { Clause::Check };
    let scope = Scope { namespace: &namespace, parent: None, level: &level, clause };
    let scalar = binder.expr(&parsed, &scope)?;
    if scalar.has_subquery() {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot use subquery in {}", clause.name().trim_end_matches('s')),
        ));
    }
    let scalar = match target {
        None => binder.settle(scalar)?,
        Some(target) => {
            let from = scalar.data_type();
            binder.try_coerce(scalar, target, Context::Assignment)?.ok_or_else(|| {
                SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!("expression is of type {} but {} is needed", from.name(), target.name()),
                )
            })?
        }
    };
    if !binder.parameters.is_empty() {
        return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
    }
    lower_over(&scalar, &ids, context)
}
