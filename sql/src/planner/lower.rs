//! [`Scalar`] → [`Expr`]: column ids become positions in the operator's input row, or in the row of a
//! query around it.

use std::sync::Arc;

use super::Planner;
use super::column_set::ColumnSet;
use crate::binder::scalar::{Aggregate, ColumnId, Order, Scalar, SubqueryKind};
use crate::error::{Result, SqlError};
use crate::plan::{self, AggregateCall, Expr, SortKey};
use crate::types::DataType;

impl Planner<'_> {
    /// A column as an operator over `layout` reads it.
    fn column(&self, id: ColumnId, data_type: DataType, layout: &[ColumnId]) -> Result<Expr> {
        if let Some(index) = layout.iter().position(|column| *column == id) {
            return Ok(Expr::Column { index, data_type });
        }
        for (above, outer) in self.outer.iter().rev().enumerate() {
            if let Some(index) = outer.iter().position(|column| *column == id) {
                return Ok(Expr::Outer { depth: above + 1, index, data_type });
            }
        }
        Err(SqlError::internal(format!("column {} is not available where it is read", self.columns.qualified_name(id))))
    }

    /// A scalar over rows of `layout`.
    pub(super) fn lower(&mut self, scalar: &Scalar, layout: &[ColumnId]) -> Result<Expr> {
        Ok(match scalar {
            Scalar::Literal { value, data_type } => Expr::Literal { value: value.clone(), data_type: *data_type },
            Scalar::Column { id, data_type } => self.column(*id, *data_type, layout)?,
            Scalar::Parameter { index, data_type } => {
                // A reference bound before the type was known.
                let known = self.parameters.get(*index).copied().unwrap_or(*data_type);
                Expr::Parameter { index: *index, data_type: if data_type.is_unknown() { known } else { *data_type } }
            }
            Scalar::Call { function, args, data_type } => {
                Expr::Call { function, args: self.lower_all(args, layout)?, data_type: *data_type }
            }
            Scalar::Cast { expr, to, explicit } => {
                Expr::Cast { expr: self.boxed(expr, layout)?, to: *to, explicit: *explicit }
            }
            Scalar::And(terms) => Expr::And(self.lower_all(terms, layout)?),
            Scalar::Or(terms) => Expr::Or(self.lower_all(terms, layout)?),
            Scalar::Not(inner) => Expr::Not(self.boxed(inner, layout)?),
            Scalar::IsNull { expr, negated } => Expr::IsNull { expr: self.boxed(expr, layout)?, negated: *negated },
            Scalar::BooleanTest { expr, value, negated } => {
                Expr::BooleanTest { expr: self.boxed(expr, layout)?, value: *value, negated: *negated }
            }
            Scalar::Distinct { left, right, negated } => {
                Expr::Distinct { left: self.boxed(left, layout)?, right: self.boxed(right, layout)?, negated: *negated }
            }
            Scalar::Case { branches, otherwise, data_type } => {
                let mut lowered = Vec::with_capacity(branches.len());
                for (condition, result) in branches {
                    lowered.push((self.lower(condition, layout)?, self.lower(result, layout)?));
                }
                let otherwise = match otherwise {
                    Some(otherwise) => Some(self.boxed(otherwise, layout)?),
                    None => None,
                };
                Expr::Case { branches: lowered, otherwise, data_type: *data_type }
            }
            Scalar::Coalesce { args, data_type } => {
                Expr::Coalesce { args: self.lower_all(args, layout)?, data_type: *data_type }
            }
            Scalar::Extremum { args, greatest, data_type } => {
                Expr::Extremum { args: self.lower_all(args, layout)?, greatest: *greatest, data_type: *data_type }
            }
            Scalar::InList { expr, list, negated } => {
                Expr::InList { expr: self.boxed(expr, layout)?, list: self.lower_all(list, layout)?, negated: *negated }
            }
            Scalar::Quantified { expr, operator, array, all } => Expr::Quantified {
                expr: self.boxed(expr, layout)?,
                operator,
                array: self.boxed(array, layout)?,
                all: *all,
            },
            Scalar::ArrayLiteral { elements, data_type } => {
                Expr::ArrayLiteral { elements: self.lower_all(elements, layout)?, data_type: *data_type }
            }
            Scalar::Subscript { array, indexes, data_type } => Expr::Subscript {
                array: self.boxed(array, layout)?,
                indexes: self.lower_all(indexes, layout)?,
                data_type: *data_type,
            },
            Scalar::Record(fields) => Expr::Record(self.lower_all(fields, layout)?),
            Scalar::Subquery(subquery) => {
                let kind = match &subquery.kind {
                    SubqueryKind::Scalar => plan::SubqueryKind::Scalar,
                    SubqueryKind::Exists { negated } => plan::SubqueryKind::Exists { negated: *negated },
                    SubqueryKind::Array => plan::SubqueryKind::Array,
                    SubqueryKind::Quantified { left, operators, all } => plan::SubqueryKind::Quantified {
                        left: self.lower_all(left, layout)?,
                        operators: operators.clone(),
                        all: *all,
                    },
                };
                let correlated = !ColumnSet::free(&subquery.query).is_empty();
                self.outer.push(layout.to_vec());
                let planned = match &subquery.kind {
                    SubqueryKind::Exists { .. } => self.any_output(&subquery.query),
                    _ => self.arranged(&subquery.query, &subquery.output),
                };
                self.outer.pop();
                Expr::Subquery(Box::new(plan::Subquery {
                    kind,
                    plan: Arc::new(planned?),
                    correlated,
                    data_type: subquery.data_type,
                }))
            }
        })
    }

    fn boxed(&mut self, scalar: &Scalar, layout: &[ColumnId]) -> Result<Box<Expr>> {
        self.lower(scalar, layout).map(Box::new)
    }

    pub(super) fn lower_all(&mut self, scalars: &[Scalar], layout: &[ColumnId]) -> Result<Vec<Expr>> {
        scalars.iter().map(|scalar| self.lower(scalar, layout)).collect()
    }

    /// Several predicates as one; none for none.
    pub(super) fn lower_conjunction(&mut self, predicates: &[Scalar], layout: &[ColumnId]) -> Result<Option<Expr>> {
        Ok(match predicates {
            [] => None,
            [one] => Some(self.lower(one, layout)?),
            // Those with subqueries cost the most: last.
            several => {
                let mut ordered: Vec<&Scalar> = several.iter().collect();
                ordered.sort_by_key(|predicate| predicate.has_subquery());
                let lowered = ordered.into_iter().map(|predicate| self.lower(predicate, layout));
                Some(Expr::And(lowered.collect::<Result<_>>()?))
            }
        })
    }

    pub(super) fn lower_aggregate(&mut self, aggregate: &Aggregate, layout: &[ColumnId]) -> Result<AggregateCall> {
        Ok(AggregateCall {
            function: aggregate.function,
            args: self.lower_all(&aggregate.args, layout)?,
            distinct: aggregate.distinct,
            filter: match &aggregate.filter {
                Some(filter) => Some(self.lower(filter, layout)?),
                None => None,
            },
            order_by: self.lower_order(&aggregate.order_by, layout)?,
            data_type: aggregate.data_type,
        })
    }

    pub(super) fn lower_order(&mut self, keys: &[Order], layout: &[ColumnId]) -> Result<Vec<SortKey>> {
        keys.iter()
            .map(|key| {
                Ok(SortKey {
                    expr: self.lower(&key.expr, layout)?,
                    descending: key.descending,
                    nulls_first: key.nulls_first,
                })
            })
            .collect()
    }
}
