//! CREATE INDEX and ALTER INDEX.

use std::sync::Arc;

use sqlparser::ast::{CreateIndex, Expr, IndexColumn as AstIndexColumn, IndexType};

use super::CommandTag;
use super::constraint::MAX_KEY_COLUMNS;
use super::options::index_options;
use super::work::{Work, duplicate_relation, identifier, qualified, simple};
use crate::catalog::{Column, Index, IndexColumn, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;
use crate::types::BaseType;

/// 42704 for types without an order.
pub(super) fn require_indexable(column: &Column) -> Result<()> {
    let data_type = column.data_type;
    if data_type.base != BaseType::Json {
        return Ok(());
    }
    let message = format!("data type {} has no default operator class for access method \"btree\"", data_type.name());
    let hint = "You must specify an operator class for the index or define a default operator class for the data type.";
    Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(hint))
}

/// CREATE INDEX. Readers go on; writers wait until the transaction ends. CONCURRENTLY changes nothing.
pub(super) fn create(work: &mut Work<'_>, statement: &CreateIndex) -> Result<CommandTag> {
    let tag = CommandTag("CREATE INDEX".into());
    match &statement.using {
        None | Some(IndexType::BTree) => {}
        Some(other) => return Err(SqlError::unsupported(format!("index method \"{other}\""))),
    }
    if statement.predicate.is_some() {
        return Err(SqlError::unsupported("a partial index (WHERE)"));
    }
    if !statement.include.is_empty() {
        return Err(SqlError::unsupported("INCLUDE in an index"));
    }
    if statement.nulls_distinct == Some(false) {
        return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
    }
    let options = index_options(&statement.with)?;
    let table_name = qualified(&statement.table_name, work)?;
    // Conflicts with itself: two builds on a table would both rewrite its descriptor.
    let table = work.lock_table(&table_name, TableLockMode::ShareRowExclusive)?;
    let columns = statement.columns.iter().map(|column| index_column(&table, column)).collect::<Result<Vec<_>>>()?;
    if columns.len() > MAX_KEY_COLUMNS {
        let message = format!("cannot use more than {MAX_KEY_COLUMNS} columns in an index");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    let name = match &statement.name {
        Some(name) => {
            let name = simple(name)?;
            work.lock_name(table.schema, &name)?;
            if work.catalog.relation_in(table.schema, &name).is_some() {
                if statement.if_not_exists {
                    let message = format!("relation \"{name}\" already exists, skipping");
                    work.notice(SqlState::DUPLICATE_TABLE, message);
                    return Ok(tag);
                }
                return Err(duplicate_relation(&name));
            }
            name
        }
        None => {
            let names: Vec<_> = columns.iter().map(|column| table.columns[column.column].name.clone()).collect();
            work.index_name(&table, None, &names, "idx")?
        }
    };
    let index = Arc::new(Index {
        oid: work.allocate_oid()?,
        name,
        table: table.oid,
        columns,
        unique: statement.unique,
        constraint: false,
        constraint_oid: 0,
        tree: work.context.transaction.create_tree()?.0.0,
        valid: true,
        options,
    });
    work.next_layer()?;
    work.build_index(&table, &index)?;
    let mut changed = Table::clone(&table);
    changed.indexes.push(index);
    work.put_table(changed)?;
    Ok(tag)
}

/// NULLs stand last, or first in a descending column, unless said otherwise.
fn index_column(table: &Table, column: &AstIndexColumn) -> Result<IndexColumn> {
    let expr = match &column.column.expr {
        Expr::Collate { expr, collation } => {
            super::create_table::require_collation(&collation.to_string())?;
            expr
        }
        expr => expr,
    };
    let Expr::Identifier(ident) = expr else { return Err(SqlError::unsupported("an index on an expression")) };
    let name = identifier(ident);
    let position = table
        .column(&name)
        .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")))?;
    require_indexable(&table.columns[position])?;
    if let Some(class) = &column.operator_class {
        let known = class.to_string().to_lowercase();
        // Text compares by bytes here, so the pattern classes are the default ones.
        if !known.ends_with("_ops") {
            let message = format!("operator class \"{known}\" does not exist for access method \"btree\"");
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
        }
    }
    let descending = column.column.options.asc == Some(false);
    let nulls_first = column.column.options.nulls_first.unwrap_or(descending);
    Ok(IndexColumn { column: position, descending, nulls_first })
}
