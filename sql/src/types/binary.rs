//! Values in PostgreSQL's binary wire format.

mod array;
mod numeric;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use super::{BaseType, DataType, Datum, Interval, json, text};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;

/// 22P03, or 08P01 where PostgreSQL finds the message too short.
#[cold]
fn malformed(data_type: DataType) -> SqlError {
    let message = format!("incorrect binary data format for type {}", data_type.name());
    SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

/// Reads what a client sent for a value of the type; the modifier is applied as on assignment.
pub fn decode(bytes: &[u8], data_type: DataType, context: &EvalContext) -> Result<Datum> {
    let value = decode_bare(bytes, data_type, context)?;
    if data_type.modifier < 0 { Ok(value) } else { super::cast::apply_modifier(value, data_type, false) }
}

fn decode_bare(bytes: &[u8], data_type: DataType, context: &EvalContext) -> Result<Datum> {
    use BaseType::*;
    if data_type.array || matches!(data_type.base, OidVector | Int2Vector) {
        return array::decode(bytes, data_type, context);
    }
    Ok(match data_type.base {
        Int4 => Datum::Int4(i32::from_be_bytes(fixed(bytes, data_type)?)),
        Int8 => Datum::Int8(i64::from_be_bytes(fixed(bytes, data_type)?)),
        Int2 => Datum::Int2(i16::from_be_bytes(fixed(bytes, data_type)?)),
        Text | Varchar | Unknown | PgNodeTree => Datum::Text(utf8(bytes)?.into()),
        Name => Datum::Text(text::truncate_name(utf8(bytes)?).into()),
        InternalChar => Datum::Text(char::from(fixed::<1>(bytes, data_type)?[0]).to_string().into()),
        Bpchar => Datum::Bpchar(utf8(bytes)?.into()),
        Bool => Datum::Bool(fixed::<1>(bytes, data_type)?[0] != 0),
        Float4 => Datum::Float4(f32::from_be_bytes(fixed(bytes, data_type)?)),
        Float8 => Datum::Float8(f64::from_be_bytes(fixed(bytes, data_type)?)),
        Numeric => Datum::Numeric(numeric::decode(bytes)?),
        Bytea => Datum::Bytea(Bytes::copy_from_slice(bytes)),
        Date => Datum::Date(i32::from_be_bytes(fixed(bytes, data_type)?)),
        Time => match i64::from_be_bytes(fixed(bytes, data_type)?) {
            us @ 0..=super::datetime::DAY_US => Datum::Time(us),
            _ => return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range")),
        },
        Timestamp => Datum::Timestamp(timestamp(bytes, data_type)?),
        Timestamptz => Datum::Timestamptz(timestamp(bytes, data_type)?),
        Interval => {
            let wide = u128::from_be_bytes(fixed(bytes, data_type)?);
            let (microseconds, days, months) = ((wide >> 64) as i64, (wide >> 32) as i32, wide as i32);
            Datum::Interval(Arc::new(self::Interval { months, days, microseconds }))
        }
        Uuid => Datum::Uuid(Arc::new(fixed(bytes, data_type)?)),
        Json => {
            let document = utf8(bytes)?;
            json::validate(document)?;
            Datum::Json(document.into())
        }
        Jsonb => match bytes.split_first() {
            Some((1, document)) => Datum::Jsonb(Arc::new(json::parse_jsonb(utf8(document)?)?)),
            Some((version, _)) => {
                let message = format!("unsupported jsonb version number {version}");
                return Err(SqlError::new(SqlState::INTERNAL_ERROR, message));
            }
            None => return Err(malformed(data_type)),
        },
        Oid | Xid | Regproc | Regclass | Regtype | Regnamespace | Regrole => {
            Datum::Oid(u32::from_be_bytes(fixed(bytes, data_type)?))
        }
        PgLsn => Datum::PgLsn(u64::from_be_bytes(fixed(bytes, data_type)?)),
        _ => {
            let message = format!("no binary input function available for type {}", data_type.name());
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message));
        }
    })
}

fn fixed<const N: usize>(bytes: &[u8], data_type: DataType) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| malformed(data_type))
}

fn timestamp(bytes: &[u8], data_type: DataType) -> Result<i64> {
    use super::datetime::{MAX_TIMESTAMP_US, MIN_TIMESTAMP_US};
    match i64::from_be_bytes(fixed(bytes, data_type)?) {
        us @ (i64::MIN | i64::MAX | MIN_TIMESTAMP_US..=MAX_TIMESTAMP_US) => Ok(us),
        _ => Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")),
    }
}

/// Text from the client; 22021 shows the first bytes that are not UTF-8.
fn utf8(bytes: &[u8]) -> Result<&str> {
    let invalid = |bytes: &[u8]| {
        let shown: Vec<String> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
        let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
        Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message))
    };
    match std::str::from_utf8(bytes) {
        Ok(_) if bytes.contains(&0) => invalid(&[0]),
        Ok(text) => Ok(text),
        Err(error) => {
            let rest = &bytes[error.valid_up_to()..];
            invalid(&rest[..error.error_len().unwrap_or(rest.len()).min(rest.len())])
        }
    }
}

/// Appends a value as the type's send function writes it, without its length. NULL appends nothing.
pub fn encode(value: &Datum, data_type: DataType, context: &EvalContext, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Int4(value) | Datum::Date(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Int8(value) | Datum::Time(value) | Datum::Timestamp(value) | Datum::Timestamptz(value) => {
            out.extend_from_slice(&value.to_be_bytes());
        }
        Datum::Text(text) if data_type.base == BaseType::InternalChar && !data_type.array => {
            out.push(text.chars().next().map_or(0, |c| c as u32 as u8));
        }
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => out.extend_from_slice(text.as_bytes()),
        Datum::Bool(value) => out.push(u8::from(*value)),
        Datum::Int2(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Float4(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Float8(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Numeric(value) => numeric::encode(value, out),
        Datum::Bytea(bytes) => out.extend_from_slice(bytes),
        Datum::Interval(value) => {
            out.extend_from_slice(&value.microseconds.to_be_bytes());
            out.extend_from_slice(&value.days.to_be_bytes());
            out.extend_from_slice(&value.months.to_be_bytes());
        }
        Datum::Uuid(value) => out.extend_from_slice(value.as_slice()),
        Datum::Jsonb(document) => {
            let mut text = String::new();
            json::format(document, &mut text);
            out.push(1);
            out.extend_from_slice(text.as_bytes());
        }
        Datum::Oid(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::PgLsn(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Array(array) => array::encode(array, data_type.element().unwrap_or(array.element), context, out),
        Datum::Record(items) => array::encode_record(items, context, out),
    }
}
