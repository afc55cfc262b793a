//! Values inside catalog rows (missing values of added columns, statistics): the row codec's bytes, in
//! hexadecimal.

use crate::error::{Result, SqlError, SqlState};
use crate::types::codec::{decode_value, encode_value};
use crate::types::{DataType, Datum};

/// The value as text for a catalog row; `None` is NULL.
pub(super) fn encode_datum(datum: &Datum) -> Option<String> {
    if datum.is_null() {
        return None;
    }
    let mut bytes = Vec::new();
    encode_value(datum, &mut bytes);
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The inverse of [`encode_datum`].
pub(super) fn decode_datum(text: Option<&str>, data_type: DataType) -> Result<Datum> {
    let Some(text) = text else { return Ok(Datum::Null) };
    let byte = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    let bytes = bytes
        .ok_or_else(|| SqlError::new(SqlState::DATA_CORRUPTED, format!("stored value {text:?} is not hexadecimal")))?;
    decode_value(data_type, &bytes)
}
