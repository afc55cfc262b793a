//! Lists of keys as relations: `IN (…)` and `= ANY (array)` for lookups one by one.

use super::Planner;
use super::cost;
use super::physical::Physical;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::error::Result;
use crate::plan::Node;
use crate::types::{BaseType, DataType};

/// Where keys come from.
pub(super) enum KeySource {
    List(Vec<Scalar>),
    Array(Scalar),
}

impl Planner<'_> {
    /// The keys that a predicate on a column allows: about how many, and the column that will hold them.
    pub(super) fn key_source(
        &mut self,
        predicate: &Scalar,
        id: ColumnId,
        data_type: DataType,
    ) -> Option<(f64, (KeySource, ColumnId))> {
        let is_column = |scalar: &Scalar| matches!(scalar, Scalar::Column { id: column, .. } if *column == id);
        let same = |other: DataType| {
            let text = |t: DataType| !t.array && matches!(t.base, BaseType::Text | BaseType::Varchar);
            other.same_type(data_type) || text(other) && text(data_type)
        };
        match predicate {
            Scalar::InList { expr, list, negated: false }
                if is_column(expr)
                    && list.iter().all(|value| value.is_stable_constant() && same(value.data_type())) =>
            {
                let column = self.columns.add(data_type, "key");
                Some((list.len() as f64, (KeySource::List(list.clone()), column)))
            }
            Scalar::Quantified { expr, operator, array, all: false }
                if operator.name == "="
                    && is_column(expr)
                    && array.is_stable_constant()
                    && array.data_type().element().is_some_and(same) =>
            {
                let column = self.columns.add(data_type, "key");
                Some((10.0, (KeySource::Array(array.as_ref().clone()), column)))
            }
            _ => None,
        }
    }

    /// Each key once: a list may name one twice, and its row must still come once.
    pub(super) fn plan_values_once(&mut self, source: KeySource, column: ColumnId, count: f64) -> Result<Physical> {
        let plan = match source {
            KeySource::List(values) => {
                let mut rows: Vec<Vec<Scalar>> = Vec::with_capacity(values.len());
                for value in values {
                    if !rows.iter().any(|row| row[0].same(&value)) {
                        rows.push(vec![value]);
                    }
                }
                let distinct = rows.iter().all(|row| matches!(row[0], Scalar::Literal { .. }));
                let mut lowered = Vec::with_capacity(rows.len());
                for row in &rows {
                    lowered.push(self.lower_all(row, &[])?);
                }
                let count = rows.len() as f64;
                let values = self.physical(Node::Values { rows: lowered }, vec![column], count, 0.0, count * cost::ROW);
                if distinct {
                    return Ok(values);
                }
                values
            }
            KeySource::Array(array) => {
                let resolved = crate::binder::unnest(array.data_type())?;
                let args = vec![self.lower(&array, &[])?];
                let node = Node::FunctionScan { function: resolved, args, ordinality: false };
                self.physical(node, vec![column], count, 0.0, count * cost::ROW)
            }
        };
        let total = plan.plan.total_cost + count * cost::HASH_BUILD;
        let node = Node::Distinct { input: Box::new(plan.plan), on: None };
        Ok(self.physical(node, plan.layout, count, 0.0, total))
    }
}
