//! CREATE TABLE AS: a table of a query's rows, loaded bottom-up.

use sqlparser::ast::{CreateTable, Query, Statement};

use super::CommandTag;
use super::create_table::add_column;
use super::options::table_options;
use super::work::{Work, identifier};
use crate::catalog::{Column, Oid, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::planner::PlannedStatement;
use crate::store::TableLockMode;
use crate::table::TableAccess;
use crate::types::{DataType, Row};

/// Creates the table; its name has been locked and found free.
pub(super) fn create(
    work: &mut Work<'_>,
    schema: Oid,
    name: String,
    statement: &CreateTable,
    query: &Query,
) -> Result<CommandTag> {
    let planned = work.plan_query(&Statement::Query(Box::new(query.clone())))?;
    // What it reads must not change until it has been read.
    for (oid, mode) in &planned.tables {
        work.lock(*oid, *mode)?;
    }
    work.refresh()?;
    work.next_layer()?;
    let PlannedStatement { plan, .. } = work.plan_query(&Statement::Query(Box::new(query.clone())))?;
    let mut table = Table::new(work.allocate_oid()?, schema, name, Vec::new(), work.context.transaction.create_tree()?);
    table.owner = work.context.role;
    table.options = table_options(&statement.table_options)?;
    if statement.columns.len() > plan.columns.len() {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "too many column names were specified"));
    }
    for (at, output) in plan.columns.iter().enumerate() {
        let name = statement.columns.get(at).map_or_else(|| output.name.clone(), |column| identifier(&column.name));
        let data_type = if output.data_type.is_unknown() { DataType::TEXT } else { output.data_type };
        add_column(&mut table, Column::new(name, data_type))?;
    }
    work.lock(table.oid, TableLockMode::AccessExclusive)?;
    let table = std::sync::Arc::new(table);
    let access = TableAccess::new(&table);
    let mut loader = work.context.transaction.bulk_load(table.tree)?;
    let mut execution = work.execute(plan)?;
    let (mut row, mut rows) = (Row::new(), 0u64);
    while execution.next(&mut row)? {
        rows += 1;
        loader.push(&rows.to_be_bytes(), &access.encode(&row)?)?;
    }
    drop(execution);
    loader.finish()?;
    work.context.row_ids.raise(table.tree, rows + 1);
    work.put_table(Table::clone(&table))?;
    Ok(CommandTag(format!("SELECT {rows}")))
}
