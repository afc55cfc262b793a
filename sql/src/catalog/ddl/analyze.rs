//! ANALYZE: statistics of a table from a sample of its rows.

use std::collections::HashMap;

use sqlparser::ast::Analyze;

use super::CommandTag;
use super::work::{QualifiedName, Work, qualified, undefined_relation};
use crate::catalog::object::Object;
use crate::catalog::{ColumnStatistics, Relation, Table, TableStatistics};
use crate::error::Result;
use crate::store::{Direction, KeyRange, TableLockMode};
use crate::table::RowCodec;
use crate::types::{Datum, Row};

/// Rows sampled: Postgres' 300 for each of 100 buckets.
const SAMPLE_ROWS: usize = 30_000;
/// Buckets of a histogram, and most common values kept.
const TARGET: usize = 100;
/// A value wider than this is counted but not kept.
const MAX_KEPT_BYTES: usize = 1024;

/// ANALYZE of one table, or of all.
pub(super) fn analyze(work: &mut Work<'_>, statement: &Analyze) -> Result<CommandTag> {
    let names = match &statement.table_name {
        Some(name) => vec![qualified(name, work)?],
        None => {
            let name = |table: &std::sync::Arc<Table>| QualifiedName {
                schema: work.catalog.schema_name(table.schema).map(str::to_owned),
                name: table.name.clone(),
            };
            work.catalog.tables().map(name).collect()
        }
    };
    let named = statement.table_name.is_some();
    for name in names {
        let found = match work.find(&name)? {
            Some(found) => found,
            None if named => return Err(undefined_relation(&name)),
            None => continue,
        };
        let Relation::Table(table) = &found else { continue };
        if work.require_owner(table.owner, "table", &table.name).is_err() {
            let message = format!("skipping \"{}\" --- only table or database owner can analyze it", table.name);
            work.warning(message);
            continue;
        }
        work.lock(table.oid, TableLockMode::ShareUpdateExclusive)?;
        work.refresh()?;
        let Some(table) = work.catalog.table(table.oid).cloned() else { continue };
        work.next_layer()?;
        let statistics = sample(work, &table)?;
        work.put(Object::Statistics(table.oid, statistics))?;
    }
    Ok(CommandTag("ANALYZE".into()))
}

/// Reads the table once, keeping every row while they are few and every n-th when they are many: the
/// sample is spread evenly over the key order and the same for the same rows.
fn sample(work: &Work<'_>, table: &Table) -> Result<TableStatistics> {
    let transaction = work.context.transaction;
    let codec = RowCodec::new(table);
    let mut cursor = transaction.scan(table.tree, KeyRange::ALL, Direction::Forward)?;
    let (mut rows, mut bytes, mut step) = (0u64, 0u64, 1u64);
    let mut kept: Vec<Row> = Vec::new();
    while cursor.advance()? {
        transaction.interrupt().check()?;
        bytes += cursor.value().len() as u64;
        if rows.is_multiple_of(step) {
            if kept.len() == 2 * SAMPLE_ROWS {
                // Every other one goes, and from here on every other one comes.
                let mut at = 0;
                kept.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                step *= 2;
            }
            if rows.is_multiple_of(step) {
                let mut row = Row::with_capacity(table.columns.len());
                codec.decode_all(cursor.value(), &mut row)?;
                kept.push(row);
            }
        }
        rows += 1;
    }
    let columns = (0..table.columns.len()).map(|at| column_statistics(table, at, &kept, rows as f64));
    let row_bytes = if rows == 0 { 0.0 } else { bytes as f64 / rows as f64 };
    Ok(TableStatistics { rows: rows as f64, row_bytes, columns: columns.collect() })
}

fn column_statistics(table: &Table, at: usize, sample: &[Row], rows: f64) -> ColumnStatistics {
    let column = &table.columns[at];
    let mut found = ColumnStatistics { data_type: column.data_type, ..ColumnStatistics::default() };
    let unique = table.primary_key.as_ref().is_some_and(|key| key.columns == [at])
        || table.indexes.iter().any(|index| index.unique && index.columns.iter().all(|column| column.column == at));
    let mut values: Vec<&Datum> = sample.iter().map(|row| &row[at]).filter(|value| !value.is_null()).collect();
    if column.dropped || sample.is_empty() {
        return found;
    }
    let total = sample.len() as f64;
    found.null_fraction = (sample.len() - values.len()) as f64 / total;
    if values.is_empty() {
        return found;
    }
    let mut counts: HashMap<&Datum, usize> = HashMap::new();
    values.iter().for_each(|value| *counts.entry(value).or_default() += 1);
    let non_null_rows = rows * (1.0 - found.null_fraction);
    let once = counts.values().filter(|count| **count == 1).count() as f64;
    found.distinct =
        if unique { non_null_rows } else { distinct(values.len() as f64, counts.len() as f64, once, non_null_rows) };
    let mut common: Vec<(&Datum, usize)> = counts.iter().map(|(value, count)| (*value, *count)).collect();
    common.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    // All values when they are few; else those clearly more frequent than the average.
    let few = common.len() <= TARGET && values.len() as f64 >= 2.0 * common.len() as f64;
    let threshold = 1.25 * values.len() as f64 / common.len() as f64;
    common.retain(|(value, count)| {
        *count > 1 && (few || *count as f64 > threshold) && value.heap_bytes() <= MAX_KEPT_BYTES
    });
    common.truncate(TARGET);
    let is_common: std::collections::HashSet<&Datum> = common.iter().map(|(value, _)| *value).collect();
    values.retain(|value| !is_common.contains(value) && value.heap_bytes() <= MAX_KEPT_BYTES);
    values.sort();
    if values.len() >= 2 && values.first() != values.last() {
        let buckets = TARGET.min(values.len() - 1);
        found.histogram = (0..=buckets).map(|at| values[at * (values.len() - 1) / buckets].clone()).collect();
    }
    found.common = common.into_iter().map(|(value, count)| (value.clone(), count as f64 / total)).collect();
    found
}

/// Distinct values of all rows from those of a sample: the estimator of Haas and Stokes that Postgres uses.
fn distinct(sampled: f64, found: f64, once: f64, rows: f64) -> f64 {
    if sampled >= rows {
        return found;
    }
    let estimate = sampled * found / (sampled - once + once * sampled / rows);
    estimate.clamp(found, rows)
}
