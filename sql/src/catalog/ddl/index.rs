//! CREATE INDEX.

use crate::catalog::Column;
use crate::error::{Result, SqlError, SqlState};
use crate::types::BaseType;

/// 42704 for types without an order.
pub(super) fn require_indexable(column: &Column) -> Result<()> {
    let data_type = column.data_type;
    if data_type.base != BaseType::Json {
        return Ok(());
    }
    let message = format!("data type {} has no default operator class for access method \"btree\"", data_type.name());
    Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(
        "You must specify an operator class for the index or define a default operator class for the data type.",
    ))
}
