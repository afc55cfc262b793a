//! Row estimates: selectivities from statistics where there are any, else Postgres' defaults.

use super::Planner;
use super::cost;
use super::simplify::comparison;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::catalog::{ColumnStatistics, Table};
use crate::types::Datum;

/// Selectivity of an equality nothing is known about.
const EQUAL: f64 = 0.005;
/// Of an inequality.
const INEQUALITY: f64 = 1.0 / 3.0;
/// Of a pattern.
const MATCH: f64 = 0.05;
/// Of anything else.
const OTHER: f64 = 0.25;

impl Planner<'_> {
    /// Rows of a table.
    pub(super) fn table_rows(&self, table: &Table) -> f64 {
        let counted = self.context.row_estimate.and_then(|estimate| estimate(table));
        let analyzed = table.statistics.as_ref().map(|statistics| statistics.rows);
        counted.or(analyzed).unwrap_or(cost::UNKNOWN_ROWS).max(1.0)
    }

    /// Pages of a table.
    pub(super) fn table_pages(&self, table: &Table) -> f64 {
        let width = match &table.statistics {
            Some(statistics) if statistics.row_bytes > 0.0 => statistics.row_bytes,
            _ => 16.0 * table.columns.len() as f64,
        };
        (self.table_rows(table) * width / cost::PAGE_BYTES).ceil().max(1.0)
    }

    fn statistics(&self, id: ColumnId) -> Option<&ColumnStatistics> {
        let (table, position) = self.columns.table_column(id)?;
        table.statistics.as_ref()?.columns.get(position)
    }

    /// Distinct values of a column in its table.
    pub(super) fn distinct(&self, id: ColumnId) -> f64 {
        let Some((table, position)) = self.columns.table_column(id) else { return cost::UNKNOWN_DISTINCT };
        let rows = self.table_rows(table);
        if is_unique(table, position) {
            return rows;
        }
        match self.statistics(id) {
            Some(statistics) if statistics.distinct > 0.0 => statistics.distinct.min(rows),
            _ => {
                let leads = table.primary_key.as_ref().is_some_and(|key| key.columns.contains(&position));
                if leads { (rows / 4.0).max(1.0) } else { cost::UNKNOWN_DISTINCT.min(rows) }
            }
        }
    }

    /// Share of rows that meet all predicates.
    pub(super) fn selectivity_of_all(&self, predicates: &[Scalar]) -> f64 {
        // Both ends of a range on one column are not independent.
        let mut total = 1.0;
        let mut used = vec![false; predicates.len()];
        for (at, predicate) in predicates.iter().enumerate() {
            if used[at] {
                continue;
            }
            if let Some((operator @ ("<" | "<=" | ">" | ">="), Scalar::Column { id, .. }, _)) = comparison(predicate) {
                let upper = operator.starts_with('<');
                let partner = predicates.iter().enumerate().skip(at + 1).find(|(other, predicate)| {
                    !used[*other]
                        && matches!(comparison(predicate), Some((op @ ("<" | "<=" | ">" | ">="), Scalar::Column { id: c, .. }, _))
                            if c == id && op.starts_with('<') != upper)
                });
                if let Some((other, partner)) = partner {
                    used[other] = true;
                    let (a, b) = (self.selectivity(predicate), self.selectivity(partner));
                    let guessed = (a - INEQUALITY).abs() < 1e-9 || (b - INEQUALITY).abs() < 1e-9;
                    total *= if guessed { EQUAL } else { (a + b - 1.0).max(0.0005) };
                    continue;
                }
            }
            total *= self.selectivity(predicate);
        }
        total
    }

    /// Share of rows that meet a predicate.
    pub(super) fn selectivity(&self, predicate: &Scalar) -> f64 {
        match predicate {
            Scalar::Literal { value: Datum::Bool(true), .. } => 1.0,
            Scalar::Literal { .. } => 0.0,
            Scalar::And(terms) => self.selectivity_of_all(terms),
            Scalar::Or(terms) => 1.0 - terms.iter().map(|term| 1.0 - self.selectivity(term)).product::<f64>(),
            Scalar::Not(inner) => 1.0 - self.selectivity(inner),
            Scalar::IsNull { expr, negated } => {
                let nulls = match expr.as_ref() {
                    Scalar::Column { id, .. } => self.statistics(*id).map_or(EQUAL, |s| s.null_fraction),
                    _ => EQUAL,
                };
                if *negated { 1.0 - nulls } else { nulls }
            }
            Scalar::InList { expr, list, negated } => {
                let each: f64 = match expr.as_ref() {
                    Scalar::Column { id, .. } => list.iter().map(|value| self.equal_to(*id, value)).sum(),
                    _ => EQUAL * list.len() as f64,
                };
                let hit = each.min(1.0);
                if *negated { 1.0 - hit } else { hit }
            }
            Scalar::Quantified { expr, operator, all: false, .. } if operator.name == "=" => match expr.as_ref() {
                Scalar::Column { id, .. } => (10.0 / self.distinct(*id)).min(1.0),
                _ => OTHER,
            },
            Scalar::Column { .. } => 0.5,
            Scalar::Call { function, args, .. } if function.operator && args.len() == 2 => {
                self.operator_selectivity(predicate, function.name, args)
            }
            Scalar::Distinct { negated: true, .. } => EQUAL,
            _ => OTHER,
        }
    }

    fn operator_selectivity(&self, predicate: &Scalar, name: &str, args: &[Scalar]) -> f64 {
        match name {
            "=" => match (&args[0], &args[1]) {
                (Scalar::Column { id: a, .. }, Scalar::Column { id: b, .. }) => {
                    1.0 / self.distinct(*a).max(self.distinct(*b)).max(1.0)
                }
                (Scalar::Column { id, .. }, value) | (value, Scalar::Column { id, .. }) => self.equal_to(*id, value),
                _ => EQUAL,
            },
            "<>" => 1.0 - EQUAL,
            "<" | "<=" | ">" | ">=" => match comparison(predicate) {
                Some((operator, Scalar::Column { id, .. }, Scalar::Literal { value, .. })) => {
                    let below = self.share_below(*id, value);
                    match below {
                        Some(below) if operator.starts_with('<') => below,
                        Some(below) => 1.0 - below,
                        None => INEQUALITY,
                    }
                }
                _ => INEQUALITY,
            },
            "~~" | "~~*" | "~" | "~*" => MATCH,
            "!~~" | "!~~*" | "!~" | "!~*" => 1.0 - MATCH,
            _ => OTHER,
        }
    }

    /// Share of rows whose column has a value.
    fn equal_to(&self, id: ColumnId, value: &Scalar) -> f64 {
        let Some((table, position)) = self.columns.table_column(id) else { return EQUAL };
        if is_unique(table, position) {
            return 1.0 / self.table_rows(table);
        }
        let Some(statistics) = self.statistics(id) else {
            return if table.statistics.is_some() || self.context.row_estimate.is_some() {
                1.0 / self.distinct(id).max(1.0)
            } else {
                EQUAL
            };
        };
        if let Scalar::Literal { value, .. } = value
            && let Some((_, share)) = statistics.common.iter().find(|(common, _)| common.compare(value).is_eq())
        {
            return *share;
        }
        let common: f64 = statistics.common.iter().map(|(_, share)| share).sum();
        let others = (statistics.distinct - statistics.common.len() as f64).max(1.0);
        let rest = (1.0 - common - statistics.null_fraction).max(0.0);
        (rest / others).clamp(1e-9, 1.0)
    }

    /// Share of rows below a value, from common values and the histogram.
    fn share_below(&self, id: ColumnId, value: &Datum) -> Option<f64> {
        let statistics = self.statistics(id)?;
        if statistics.histogram.len() < 2 && statistics.common.is_empty() {
            return None;
        }
        let common: f64 = statistics.common.iter().map(|(_, share)| share).sum();
        let common_below: f64 =
            statistics.common.iter().filter(|(common, _)| common.compare(value).is_lt()).map(|(_, share)| share).sum();
        let rest = (1.0 - common - statistics.null_fraction).max(0.0);
        let buckets = statistics.histogram.len().saturating_sub(1);
        if buckets == 0 {
            return Some(common_below);
        }
        let position = statistics.histogram.partition_point(|bound| bound.compare(value).is_lt());
        let within = match position {
            0 => 0.0,
            p if p > buckets => 1.0,
            p => {
                let (low, high) = (&statistics.histogram[p - 1], &statistics.histogram[p]);
                let inside = match (low.as_f64(), high.as_f64(), value.as_f64()) {
                    (Some(low), Some(high), Some(value)) if high > low => (value - low) / (high - low),
                    _ => 0.5,
                };
                (p as f64 - 1.0 + inside) / buckets as f64
            }
        };
        Some((common_below + rest * within).clamp(0.0001, 1.0))
    }
}

/// Whether a column alone is unique in its table.
pub(super) fn is_unique(table: &Table, position: usize) -> bool {
    table.primary_key.as_ref().is_some_and(|key| key.columns == [position])
        || table
            .indexes
            .iter()
            .any(|index| index.unique && index.valid && index.columns.len() == 1 && index.columns[0].column == position)
}

/// Sets of positions that are unique in a table.
pub(super) fn unique_keys(table: &Table) -> impl Iterator<Item = Vec<usize>> + '_ {
    let primary = table.primary_key.iter().map(|key| key.columns.clone());
    let unique = table.indexes.iter().filter(|index| index.unique && index.valid);
    primary.chain(unique.map(|index| index.columns.iter().map(|column| column.column).collect()))
}
