//! Values inside catalog rows: missing values of added columns, statistics.

use crate::error::{Result, SqlError};
use crate::types::{DataType, Datum};

/// The value as text for a catalog row; `None` is NULL.
pub(super) fn encode_datum(datum: &Datum, data_type: DataType) -> Result<Option<String>> {
    Ok(Some(match datum {
        Datum::Null => return Ok(None),
        Datum::Text(text) | Datum::Json(text) => text.to_string(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int2(value) => value.to_string(),
        Datum::Int4(value) => value.to_string(),
        Datum::Int8(value) => value.to_string(),
        _ => return Err(SqlError::unsupported(format!("a stored value of type {data_type:?}"))),
    }))
}

/// The inverse of [`encode_datum`].
pub(super) fn decode_datum(text: Option<&str>, data_type: DataType) -> Result<Datum> {
    let Some(text) = text else { return Ok(Datum::Null) };
    let damaged = || SqlError::internal(format!("stored value {text:?} is not of type {data_type:?}"));
    Ok(match data_type {
        DataType::BOOL => Datum::Bool(text.parse().map_err(|_| damaged())?),
        DataType::INT2 => Datum::Int2(text.parse().map_err(|_| damaged())?),
        DataType::INT4 => Datum::Int4(text.parse().map_err(|_| damaged())?),
        DataType::INT8 => Datum::Int8(text.parse().map_err(|_| damaged())?),
        DataType::JSON => Datum::Json(text.into()),
        _ => Datum::text(text),
    })
}
