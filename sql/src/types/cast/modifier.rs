//! Fitting values to `varchar(n)`, `char(n)`, `numeric(p, s)` and the precision of times.

use std::sync::Arc;

use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::round_to_digits;
use crate::types::{Array, BaseType, DataType, Datum, Interval};

/// Fits a value of the type to its modifier. Text too long is cut by an explicit cast; on assignment only blanks
/// may be cut, and other text is 22001.
pub fn apply_modifier(value: Datum, data_type: DataType, explicit: bool) -> Result<Datum> {
    let modifier = data_type.modifier;
    if modifier < 0 {
        return Ok(value);
    }
    match (value, data_type.base) {
        (Datum::Array(array), _) if data_type.array => {
            let element = data_type.element().unwrap_or(data_type);
            let elements: Result<Vec<Datum>> =
                array.elements.iter().map(|item| apply_modifier(item.clone(), element, explicit)).collect();
            let fitted = Array { element: array.element, dimensions: array.dimensions.clone(), elements: elements? };
            Ok(Datum::Array(Arc::new(fitted)))
        }
        (Datum::Text(text), BaseType::Varchar) => {
            Ok(Datum::Text(limit(text, modifier - 4, explicit, "character varying")?))
        }
        (Datum::Bpchar(text), BaseType::Bpchar) => {
            let text = limit(text, modifier - 4, explicit, "character")?;
            Ok(Datum::Bpchar(pad(text, modifier - 4)))
        }
        (Datum::Numeric(value), BaseType::Numeric) => {
            // A value of the column's scale that is small enough is the common case.
            value.apply_modifier(modifier).map(Datum::Numeric)
        }
        (Datum::Time(us), BaseType::Time) => Ok(Datum::Time(round_to_digits(us, modifier))),
        (Datum::Timestamp(us), BaseType::Timestamp) if is_finite(us) => {
            Ok(Datum::Timestamp(round_to_digits(us, modifier)))
        }
        (Datum::Timestamptz(us), BaseType::Timestamptz) if is_finite(us) => {
            Ok(Datum::Timestamptz(round_to_digits(us, modifier)))
        }
        (Datum::Interval(interval), BaseType::Interval) => {
            let microseconds = round_to_digits(interval.microseconds, modifier);
            Ok(Datum::Interval(Arc::new(Interval { microseconds, ..*interval })))
        }
        (value, _) => Ok(value),
    }
}

fn is_finite(timestamp_us: i64) -> bool {
    timestamp_us != i64::MIN && timestamp_us != i64::MAX
}

fn limit(text: Arc<str>, characters: i32, explicit: bool, type_name: &str) -> Result<Arc<str>> {
    let limit = characters.max(0) as usize;
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(limit) else { return Ok(text) };
    if !explicit && text[end..].bytes().any(|byte| byte != b' ') {
        let message = format!("value too long for type {type_name}({characters})");
        return Err(SqlError::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, message));
    }
    Ok(text[..end].into())
}

/// Blanks are added by the piece: one character after another is what loading `char(n)` would spend its time on.
const BLANKS: &str = "                                                                ";

fn pad(text: Arc<str>, characters: i32) -> Arc<str> {
    let wanted = characters.max(0) as usize;
    let present = if text.is_ascii() { text.len() } else { text.chars().count() };
    if present >= wanted {
        return text;
    }
    let mut padded = String::with_capacity(text.len() + wanted - present);
    padded.push_str(&text);
    let mut missing = wanted - present;
    while missing > 0 {
        let step = missing.min(BLANKS.len());
        padded.push_str(&BLANKS[..step]);
        missing -= step;
    }
    padded.into()
}
