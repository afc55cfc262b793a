//! Values in rows and keys: [`Datum`] over the primitives of [`storage::row`] and [`storage::key`].
//!
//! Rows keep values exactly. Keys keep their order, and not always their representation: see [`key_is_exact`].

mod key;
mod row;
#[cfg(test)]
mod tests;

pub use key::{decode_key, encode_key, key_is_exact, skip_key};
pub use row::{column_width, decode_value, encode_value};

use super::{DataType, Datum};
use crate::error::{SqlError, SqlState};

#[cold]
fn corrupted(what: impl std::fmt::Display) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("stored value is malformed: {what}"))
}

#[cold]
fn mismatch(value: &Datum, data_type: DataType) -> SqlError {
    SqlError::internal(format!("value {value:?} is not of type {}", data_type.name()))
}
