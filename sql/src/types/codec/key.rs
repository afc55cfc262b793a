//! Values as columns of keys.
//!
//! Beyond the primitives of [`storage::key`]:
//!
//! ```text
//! text, varchar, name …  bytes · char(n): bytes without trailing blanks · uuid 16 bytes · interval its span, i128
//! array    (0x01, marker, value)*, 0x00, dimensions u8, (length u32, lower bound i32)*   marker: 0x01 value, 0x02 NULL
//! jsonb    0x01 empty array (at the top), 0x02 null, 0x03 string bytes, 0x04 number decimal, 0x05 false, 0x06 true,
//!          0x07 array: count u32, value*, 0x08 object: count u32, (key bytes, value)*
//! ```

use std::sync::Arc;

use bytes::Bytes;
use num_bigint::{BigInt, BigUint, Sign};
use serde_json::{Map, Value};
use storage::key::{self, Decimal, KeyOrder, KeyReader, KeyWriter, MalformedKey};

use super::corrupted;
use super::row::check;
use crate::error::{Result, SqlError, SqlState};
use crate::types::json::MAX_DEPTH;
use crate::types::{Array, BaseType, DataType, Datum, Interval, Numeric, json, without_blanks};

/// Whether [`decode_key`] gives back the value itself, and not merely one equal to it (`1.0` for `1.00`, 30 days
/// for a month, 0 for -0). Where it is false, the row must keep the value too.
pub fn key_is_exact(data_type: DataType) -> bool {
    use BaseType::*;
    match data_type.base {
        Numeric | Float4 | Float8 | Interval | Jsonb => false,
        Bpchar => data_type.modifier >= 0,
        _ => true,
    }
}

/// Appends a value as a column of a key.
pub fn encode_key(value: &Datum, data_type: DataType, order: KeyOrder, out: &mut Vec<u8>) -> Result<()> {
    if value.is_null() {
        KeyWriter::new(out).null(order);
        return Ok(());
    }
    let mut result = Ok(());
    KeyWriter::new(out).value(order, |buffer| result = put(value, data_type, buffer));
    result
}

fn put(value: &Datum, data_type: DataType, out: &mut Vec<u8>) -> Result<()> {
    use BaseType as B;
    let base = data_type.base;
    if data_type.array || matches!(base, B::OidVector | B::Int2Vector) {
        return match value {
            Datum::Array(array) => put_array(array, data_type.element().unwrap_or(data_type), out),
            _ => check(value, data_type, false),
        };
    }
    match (base, value) {
        (B::Int4, Datum::Int4(value)) => key::put_i32(out, *value),
        (B::Int8, Datum::Int8(value)) => key::put_i64(out, *value),
        (B::Text | B::Varchar | B::Name | B::InternalChar, Datum::Text(text)) => key::put_bytes(out, text.as_bytes()),
        (B::Bool, Datum::Bool(value)) => key::put_bool(out, *value),
        (B::Int2, Datum::Int2(value)) => key::put_i16(out, *value),
        (B::Float4, Datum::Float4(value)) => key::put_f32(out, *value),
        (B::Float8, Datum::Float8(value)) => key::put_f64(out, *value),
        (B::Numeric, Datum::Numeric(value)) => put_numeric(value, out),
        (B::Bpchar, Datum::Bpchar(text)) => key::put_bytes(out, without_blanks(text)),
        (B::Bytea, Datum::Bytea(bytes)) => key::put_bytes(out, bytes),
        (B::Date, Datum::Date(value)) => key::put_i32(out, *value),
        (B::Time, Datum::Time(value))
        | (B::Timestamp, Datum::Timestamp(value))
        | (B::Timestamptz, Datum::Timestamptz(value)) => key::put_i64(out, *value),
        (B::Interval, Datum::Interval(value)) => key::put_i128(out, value.span_us()),
        (B::Uuid, Datum::Uuid(value)) => key::put_fixed(out, value.as_slice()),
        (B::Jsonb, Datum::Jsonb(value)) => match value.as_array() {
            Some(items) if items.is_empty() => out.push(JSON_EMPTY),
            _ => put_json(value, out),
        },
        (B::PgLsn, Datum::PgLsn(value)) => key::put_u64(out, *value),
        (_, Datum::Oid(value)) if super::column_width(data_type) == storage::row::ColumnWidth::Fixed(4) => {
            key::put_u32(out, *value);
        }
        (B::Json | B::Xid | B::PgNodeTree | B::Record, _) => {
            let message =
                format!("data type {} has no default operator class for access method \"btree\"", data_type.name());
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
        }
        _ => return check(value, data_type, false),
    }
    Ok(())
}

fn put_array(array: &Array, element: DataType, out: &mut Vec<u8>) -> Result<()> {
    for item in &array.elements {
        out.push(1);
        encode_key(item, element, KeyOrder::ASCENDING, out)?;
    }
    out.push(0);
    out.push(array.dimensions.len() as u8);
    for (length, lower) in &array.dimensions {
        key::put_u32(out, *length);
        key::put_i32(out, *lower);
    }
    Ok(())
}

fn put_numeric(value: &Numeric, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return key::put_decimal(
            out,
            match value {
                value if value.is_nan() => Decimal::NaN,
                value if value.signum() > 0 => Decimal::Infinity,
                _ => Decimal::NegativeInfinity,
            },
        );
    }
    if let Some((mantissa, scale)) = value.small() {
        let factor = if scale % 2 == 1 { 10 } else { 1 };
        if let Some(mut rest) = mantissa.unsigned_abs().checked_mul(factor) {
            let (mut digits, mut start) = ([0u8; 20], 20);
            while rest > 0 {
                start -= 1;
                digits[start] = (rest % 100) as u8;
                rest /= 100;
            }
            return put_digits(mantissa < 0, &digits[start..], scale, out);
        }
    }
    let (mantissa, scale) = value.finite().unwrap_or_default();
    let magnitude = if scale % 2 == 1 { mantissa.magnitude() * 10u8 } else { mantissa.magnitude().clone() };
    put_digits(mantissa.sign() == Sign::Minus, &magnitude.to_radix_be(100), scale, out);
}

fn put_digits(negative: bool, digits: &[u8], scale: u16, out: &mut Vec<u8>) {
    let exponent = digits.len() as i32 - i32::from(scale.div_ceil(2));
    let used = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
    match used {
        0 => key::put_decimal(out, Decimal::Zero),
        used => key::put_decimal(out, Decimal::Finite { negative, exponent, digits: &digits[..used] }),
    }
}

const JSON_EMPTY: u8 = 1;
const JSON_NULL: u8 = 2;
const JSON_STRING: u8 = 3;
const JSON_NUMBER: u8 = 4;
const JSON_FALSE: u8 = 5;
const JSON_TRUE: u8 = 6;
const JSON_ARRAY: u8 = 7;
const JSON_OBJECT: u8 = 8;

fn put_json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(JSON_NULL),
        Value::String(text) => {
            out.push(JSON_STRING);
            key::put_bytes(out, text.as_bytes());
        }
        Value::Number(number) => {
            out.push(JSON_NUMBER);
            put_numeric(&json::to_numeric(number), out);
        }
        Value::Bool(value) => out.push(if *value { JSON_TRUE } else { JSON_FALSE }),
        Value::Array(items) => {
            out.push(JSON_ARRAY);
            key::put_u32(out, items.len() as u32);
            items.iter().for_each(|item| put_json(item, out));
        }
        Value::Object(map) => {
            out.push(JSON_OBJECT);
            key::put_u32(out, map.len() as u32);
            for (name, item) in map {
                key::put_bytes(out, name.as_bytes());
                put_json(item, out);
            }
        }
    }
}

/// Reads a column of a key: the value, or one equal to it where [`key_is_exact`] is false.
pub fn decode_key(reader: &mut KeyReader<'_>, data_type: DataType, order: KeyOrder) -> Result<Datum> {
    if reader.begin(order).map_err(corrupted)? { take(reader, data_type) } else { Ok(Datum::Null) }
}

/// Steps over a column of a key.
pub fn skip_key(reader: &mut KeyReader<'_>, data_type: DataType, order: KeyOrder) -> Result<()> {
    decode_key(reader, data_type, order).map(drop)
}

fn take(reader: &mut KeyReader<'_>, data_type: DataType) -> Result<Datum> {
    use BaseType as B;
    if data_type.array || matches!(data_type.base, B::OidVector | B::Int2Vector) {
        return take_array(reader, data_type.element().unwrap_or(data_type));
    }
    let malformed = |error: MalformedKey| corrupted(error);
    Ok(match data_type.base {
        B::Int4 => Datum::Int4(reader.take_i32().map_err(malformed)?),
        B::Int8 => Datum::Int8(reader.take_i64().map_err(malformed)?),
        B::Text | B::Varchar | B::Name | B::InternalChar => Datum::Text(take_text(reader)?.into()),
        B::Bpchar => {
            let mut text = take_text(reader)?;
            if let Ok(length) = usize::try_from(data_type.modifier - 4) {
                let missing = length.saturating_sub(text.chars().count());
                text.extend(std::iter::repeat_n(' ', missing));
            }
            Datum::Bpchar(text.into())
        }
        B::Bool => Datum::Bool(reader.take_bool().map_err(malformed)?),
        B::Int2 => Datum::Int2(reader.take_i16().map_err(malformed)?),
        B::Float4 => Datum::Float4(reader.take_f32().map_err(malformed)?),
        B::Float8 => Datum::Float8(reader.take_f64().map_err(malformed)?),
        B::Numeric => Datum::Numeric(take_numeric(reader)?),
        B::Bytea => {
            let mut bytes = Vec::new();
            reader.take_bytes(&mut bytes).map_err(malformed)?;
            Datum::Bytea(Bytes::from(bytes))
        }
        B::Date => Datum::Date(reader.take_i32().map_err(malformed)?),
        B::Time => Datum::Time(reader.take_i64().map_err(malformed)?),
        B::Timestamp => Datum::Timestamp(reader.take_i64().map_err(malformed)?),
        B::Timestamptz => Datum::Timestamptz(reader.take_i64().map_err(malformed)?),
        B::Interval => Datum::Interval(Arc::new(interval_of_span(reader.take_i128().map_err(malformed)?)?)),
        B::Uuid => Datum::Uuid(Arc::new(reader.take_array().map_err(malformed)?)),
        B::Jsonb => Datum::Jsonb(Arc::new(take_json(reader, 0)?)),
        B::PgLsn => Datum::PgLsn(reader.take_u64().map_err(malformed)?),
        B::Oid | B::Regproc | B::Regclass | B::Regtype | B::Regnamespace | B::Regrole => {
            Datum::Oid(reader.take_u32().map_err(malformed)?)
        }
        _ => return Err(corrupted(format_args!("a key of type {}", data_type.name()))),
    })
}

fn take_text(reader: &mut KeyReader<'_>) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take_bytes(&mut bytes).map_err(corrupted)?;
    String::from_utf8(bytes).map_err(corrupted)
}

fn take_numeric(reader: &mut KeyReader<'_>) -> Result<Numeric> {
    let mut digits = Vec::new();
    let (negative, exponent, digits) = match reader.take_decimal(&mut digits).map_err(corrupted)? {
        Decimal::NegativeInfinity => return Ok(Numeric::NEGATIVE_INFINITY),
        Decimal::Infinity => return Ok(Numeric::INFINITY),
        Decimal::NaN => return Ok(Numeric::NAN),
        Decimal::Zero => return Ok(Numeric::ZERO),
        Decimal::Finite { negative, exponent, digits } => (negative, exponent, digits),
    };
    let magnitude = BigUint::from_radix_be(digits, 100).ok_or_else(|| corrupted("numeric digit"))?;
    let scale = 2 * (digits.len() as i64 - i64::from(exponent));
    let limit = i64::from(crate::types::numeric::MAX_INTEGER_DIGITS);
    if scale < -limit || scale > i64::from(crate::types::numeric::MAX_SCALE) + 1 {
        return Err(corrupted("numeric out of range"));
    }
    let mut mantissa = BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, magnitude);
    let mut shown = scale.max(0) as u16;
    if scale < 0 {
        mantissa *= BigInt::from(10).pow(scale.unsigned_abs() as u32);
    } else if shown > 0 && digits.last().is_some_and(|digit| digit % 10 == 0) {
        (mantissa, shown) = (mantissa / 10, shown.saturating_sub(1));
    }
    Numeric::from_big(mantissa, shown).map(|value| value.trim_scale())
}

fn interval_of_span(span_us: i128) -> Result<Interval> {
    const DAY_US: i128 = 86_400_000_000;
    let (days, microseconds) = (span_us / DAY_US, span_us % DAY_US);
    let narrow = |value: i128| i32::try_from(value).map_err(|_| corrupted("interval out of range"));
    let (months, days) = (narrow(days / 30)?, narrow(days % 30)?);
    Ok(Interval { months, days, microseconds: microseconds as i64 })
}

fn take_array(reader: &mut KeyReader<'_>, element: DataType) -> Result<Datum> {
    let mut elements = Vec::new();
    while reader.take_u8().map_err(corrupted)? == 1 {
        elements.push(take_element(reader, element)?);
    }
    let mut dimensions = Vec::new();
    for _ in 0..reader.take_u8().map_err(corrupted)?.min(6) {
        let length = reader.take_u32().map_err(corrupted)?;
        dimensions.push((length, reader.take_i32().map_err(corrupted)?));
    }
    Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
}

/// An element's own marker is read here: [`KeyReader::begin`] would end the direction of the column.
fn take_element(reader: &mut KeyReader<'_>, element: DataType) -> Result<Datum> {
    match reader.take_u8().map_err(corrupted)? {
        1 => take(reader, element),
        2 => Ok(Datum::Null),
        _ => Err(corrupted("marker of an array element")),
    }
}

fn take_json(reader: &mut KeyReader<'_>, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(corrupted("jsonb nested too deeply"));
    }
    Ok(match reader.take_u8().map_err(corrupted)? {
        JSON_EMPTY => Value::Array(Vec::new()),
        JSON_NULL => Value::Null,
        JSON_STRING => Value::String(take_text(reader)?),
        JSON_NUMBER => json::number(&take_numeric(reader)?),
        JSON_FALSE => Value::Bool(false),
        JSON_TRUE => Value::Bool(true),
        JSON_ARRAY => {
            let count = reader.take_u32().map_err(corrupted)?;
            let items: Result<Vec<Value>> = (0..count).map(|_| take_json(reader, depth + 1)).collect();
            Value::Array(items?)
        }
        JSON_OBJECT => {
            let mut map = Map::new();
            for _ in 0..reader.take_u32().map_err(corrupted)? {
                let name = take_text(reader)?;
                map.insert(name, take_json(reader, depth + 1)?);
            }
            Value::Object(map)
        }
        _ => return Err(corrupted("jsonb class")),
    })
}
