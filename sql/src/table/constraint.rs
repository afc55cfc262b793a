//! Violations of constraints, worded as Postgres words them.

use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{DataType, Datum};

/// Longest value that `Failing row contains` shows in full, bytes.
const SHOWN_VALUE_BYTES: usize = 64;

/// 23502 for the first NOT NULL column that is NULL.
#[inline]
pub fn check_not_null(table: &Table, row: &[Datum], context: &EvalContext) -> Result<()> {
    let violates =
        |(column, datum): &(&crate::catalog::Column, &Datum)| column.not_null && !column.dropped && datum.is_null();
    match table.columns.iter().zip(row).find(violates) {
        None => Ok(()),
        Some((column, _)) => Err(not_null_violation(table, &column.name, row, context)),
    }
}

#[cold]
fn not_null_violation(table: &Table, column: &str, row: &[Datum], context: &EvalContext) -> SqlError {
    let message =
        format!("null value in column \"{column}\" of relation \"{}\" violates not-null constraint", table.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_detail(failing_row(table, row, context))
        .of_table(table.schema, &table.name)
        .with_column(column)
}

/// 23514 for a CHECK constraint that answered false.
#[cold]
pub fn check_violation(table: &Table, constraint: &str, row: &[Datum], context: &EvalContext) -> SqlError {
    let message = format!("new row for relation \"{}\" violates check constraint \"{constraint}\"", table.name);
    SqlError::new(SqlState::CHECK_VIOLATION, message)
        .with_detail(failing_row(table, row, context))
        .of_table(table.schema, &table.name)
        .with_constraint(constraint)
}

/// 23505.
#[cold]
pub(super) fn unique_violation(
    table: &Table,
    constraint: &str,
    columns: &[usize],
    row: &[Datum],
    context: &EvalContext,
) -> SqlError {
    let names: Vec<&str> = columns.iter().map(|column| table.columns[*column].name.as_str()).collect();
    let values = format_row_values(
        columns.iter().map(|column| (&row[*column], table.columns[*column].data_type)),
        context,
        None,
    );
    SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{constraint}\""),
    )
    .with_detail(format!("Key ({})=({values}) already exists.", names.join(", ")))
    .of_table(table.schema, &table.name)
    .with_constraint(constraint)
}

/// `Failing row contains (…).`
pub fn failing_row(table: &Table, row: &[Datum], context: &EvalContext) -> String {
    let live = table.columns.iter().zip(row).filter(|(column, _)| !column.dropped);
    let values = live.map(|(column, datum)| (datum, column.data_type));
    format!("Failing row contains ({}).", format_row_values(values, context, Some(SHOWN_VALUE_BYTES)))
}

/// Values as text, separated by commas, each cut at `limit` bytes.
pub fn format_row_values<'a>(
    values: impl Iterator<Item = (&'a Datum, DataType)>,
    context: &EvalContext,
    limit: Option<usize>,
) -> String {
    let mut text = String::new();
    for (position, (datum, data_type)) in values.enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        if datum.is_null() {
            text.push_str("null");
            continue;
        }
        let start = text.len();
        crate::types::text::format(datum, data_type, context, &mut text);
        if let Some(limit) = limit
            && text.len() - start > limit
        {
            let mut end = start + limit;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
    }
    text
}
