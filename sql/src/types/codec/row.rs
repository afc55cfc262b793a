//! Values as the bytes of a row's columns.
//!
//! ```text
//! bool 1 byte · int2, int4, int8, float4, float8, date, time, timestamp(tz), oid …, pg_lsn: little endian
//! interval    microseconds i64, days i32, months i32
//! uuid        16 bytes · text, varchar, char(n), json, name …: UTF-8 · bytea as it is · jsonb: see types::json
//! numeric     0..=250 scale, or 251 and scale u16; then the mantissa, little-endian two's complement, as few
//!             bytes as hold it; or one of 253 -Infinity, 254 Infinity, 255 NaN alone
//! array       dimensions u8, (length u32, lower bound i32)*, then per element its length u32 (u32::MAX is NULL)
//!             and its bytes
//! ```

use std::sync::Arc;

use bytes::Bytes;
use num_bigint::BigInt;
use storage::row::ColumnWidth;

use super::{corrupted, mismatch};
use crate::error::{Result, SqlError};
use crate::types::numeric::MAX_SCALE;
use crate::types::{Array, BaseType, DataType, Datum, Interval, Numeric, json};

const LONG_SCALE: u8 = 251;
const NEGATIVE_INFINITY: u8 = 253;
const INFINITY: u8 = 254;
const NAN: u8 = 255;
const NULL_ELEMENT: u32 = u32::MAX;
/// As in PostgreSQL (`MAXDIM`).
const MAX_DIMENSIONS: u8 = 6;

/// How a type's values are stored in a row.
pub fn column_width(data_type: DataType) -> ColumnWidth {
    use BaseType::*;
    if data_type.array {
        return ColumnWidth::Variable;
    }
    match data_type.base {
        Bool => ColumnWidth::Fixed(1),
        Int2 => ColumnWidth::Fixed(2),
        Int4 | Float4 | Date | Oid | Xid | Regproc | Regclass | Regtype | Regnamespace | Regrole => {
            ColumnWidth::Fixed(4)
        }
        Int8 | Float8 | Time | Timestamp | Timestamptz | PgLsn => ColumnWidth::Fixed(8),
        Interval | Uuid => ColumnWidth::Fixed(16),
        _ => ColumnWidth::Variable,
    }
}

/// Appends a value's bytes; NULL has none and is the row codec's business. Panics on NULL.
pub fn encode_value(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => panic!("NULL has no bytes"),
        Datum::Bool(value) => out.push(u8::from(*value)),
        Datum::Int2(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::Int4(value) | Datum::Date(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::Int8(value) | Datum::Time(value) | Datum::Timestamp(value) | Datum::Timestamptz(value) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        Datum::Float4(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::Float8(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::Numeric(value) => encode_numeric(value, out),
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => out.extend_from_slice(text.as_bytes()),
        Datum::Bytea(bytes) => out.extend_from_slice(bytes),
        Datum::Interval(value) => {
            out.extend_from_slice(&value.microseconds.to_le_bytes());
            out.extend_from_slice(&value.days.to_le_bytes());
            out.extend_from_slice(&value.months.to_le_bytes());
        }
        Datum::Uuid(value) => out.extend_from_slice(value.as_slice()),
        Datum::Jsonb(value) => json::encode(value, out),
        Datum::Oid(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::PgLsn(value) => out.extend_from_slice(&value.to_le_bytes()),
        Datum::Array(array) => encode_array(array, out),
        Datum::Record(items) => encode_elements(items, out),
    }
}

fn encode_array(array: &Array, out: &mut Vec<u8>) {
    out.push(array.dimensions.len() as u8);
    for (length, lower) in &array.dimensions {
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&lower.to_le_bytes());
    }
    encode_elements(&array.elements, out);
}

fn encode_elements(elements: &[Datum], out: &mut Vec<u8>) {
    for element in elements {
        if element.is_null() {
            out.extend_from_slice(&NULL_ELEMENT.to_le_bytes());
            continue;
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        encode_value(element, out);
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let Some(scale) = value.scale() else {
        out.push(match value {
            value if value.is_nan() => NAN,
            value if value.signum() > 0 => INFINITY,
            _ => NEGATIVE_INFINITY,
        });
        return;
    };
    if scale < u16::from(LONG_SCALE) {
        out.push(scale as u8);
    } else {
        out.push(LONG_SCALE);
        out.extend_from_slice(&scale.to_le_bytes());
    }
    match value.small() {
        Some((mantissa, _)) => {
            // A byte is spare when it only repeats the sign of the one below.
            let redundant = if mantissa < 0 { mantissa.leading_ones() } else { mantissa.leading_zeros() };
            let length = 16 - (redundant.saturating_sub(1) / 8) as usize;
            let length = if mantissa == 0 { 0 } else { length };
            out.extend_from_slice(&mantissa.to_le_bytes()[..length]);
        }
        None => out
            .extend_from_slice(&value.finite().map(|(mantissa, _)| mantissa.to_signed_bytes_le()).unwrap_or_default()),
    }
}

fn decode_numeric(bytes: &[u8]) -> Option<Numeric> {
    let (head, rest) = bytes.split_first()?;
    let (scale, mantissa) = match *head {
        NAN if rest.is_empty() => return Some(Numeric::NAN),
        INFINITY if rest.is_empty() => return Some(Numeric::INFINITY),
        NEGATIVE_INFINITY if rest.is_empty() => return Some(Numeric::NEGATIVE_INFINITY),
        LONG_SCALE => {
            let (scale, mantissa) = rest.split_first_chunk()?;
            (u16::from_le_bytes(*scale), mantissa)
        }
        scale if scale < LONG_SCALE => (scale.into(), rest),
        _ => return None,
    };
    if scale > MAX_SCALE {
        return None;
    }
    if mantissa.len() > 16 {
        return Numeric::from_big(BigInt::from_signed_bytes_le(mantissa), scale).ok();
    }
    let negative = mantissa.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xFF } else { 0 }; 16];
    wide[..mantissa.len()].copy_from_slice(mantissa);
    Some(Numeric::new(i128::from_le_bytes(wide), scale))
}

/// Reads a value of a type from what [`encode_value`] wrote. XX001 when the bytes are none.
#[inline]
pub fn decode_value(data_type: DataType, bytes: &[u8]) -> Result<Datum> {
    if data_type.array || matches!(data_type.base, BaseType::OidVector | BaseType::Int2Vector) {
        let element = data_type.element().unwrap_or(data_type);
        return decode_array(element, bytes).map(|array| Datum::Array(Arc::new(array)));
    }
    match data_type.base {
        BaseType::Bool => match bytes {
            [0] => Ok(Datum::Bool(false)),
            [1] => Ok(Datum::Bool(true)),
            _ => Err(corrupted("bool")),
        },
        BaseType::Int2 => Ok(Datum::Int2(i16::from_le_bytes(fixed(bytes)?))),
        BaseType::Int4 => Ok(Datum::Int4(i32::from_le_bytes(fixed(bytes)?))),
        BaseType::Int8 => Ok(Datum::Int8(i64::from_le_bytes(fixed(bytes)?))),
        BaseType::Float4 => Ok(Datum::Float4(f32::from_le_bytes(fixed(bytes)?))),
        BaseType::Float8 => Ok(Datum::Float8(f64::from_le_bytes(fixed(bytes)?))),
        BaseType::Numeric => decode_numeric(bytes).map(Datum::Numeric).ok_or_else(|| corrupted("numeric")),
        BaseType::Text
        | BaseType::Varchar
        | BaseType::Name
        | BaseType::InternalChar
        | BaseType::PgNodeTree
        | BaseType::Unknown => Ok(Datum::Text(text(bytes)?.into())),
        BaseType::Bpchar => Ok(Datum::Bpchar(text(bytes)?.into())),
        BaseType::Json => Ok(Datum::Json(text(bytes)?.into())),
        BaseType::Jsonb => {
            json::decode(bytes).map(|value| Datum::Jsonb(Arc::new(value))).ok_or_else(|| corrupted("jsonb"))
        }
        BaseType::Bytea => Ok(Datum::Bytea(Bytes::copy_from_slice(bytes))),
        BaseType::Date => Ok(Datum::Date(i32::from_le_bytes(fixed(bytes)?))),
        BaseType::Time => Ok(Datum::Time(i64::from_le_bytes(fixed(bytes)?))),
        BaseType::Timestamp => Ok(Datum::Timestamp(i64::from_le_bytes(fixed(bytes)?))),
        BaseType::Timestamptz => Ok(Datum::Timestamptz(i64::from_le_bytes(fixed(bytes)?))),
        BaseType::Interval => {
            let bytes: [u8; 16] = fixed(bytes)?;
            let half = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let microseconds = i128::from_le_bytes(bytes) as i64;
            Ok(Datum::Interval(Arc::new(Interval { months: half(12), days: half(8), microseconds })))
        }
        BaseType::Uuid => Ok(Datum::Uuid(Arc::new(fixed(bytes)?))),
        BaseType::Oid
        | BaseType::Xid
        | BaseType::Regproc
        | BaseType::Regclass
        | BaseType::Regtype
        | BaseType::Regnamespace
        | BaseType::Regrole => Ok(Datum::Oid(u32::from_le_bytes(fixed(bytes)?))),
        BaseType::PgLsn => Ok(Datum::PgLsn(u64::from_le_bytes(fixed(bytes)?))),
        _ => Err(SqlError::unsupported(format!("a column of type {}", data_type.name()))),
    }
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| corrupted(format_args!("{} bytes instead of {N}", bytes.len())))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(corrupted)
}

fn decode_array(element: DataType, bytes: &[u8]) -> Result<Array> {
    let short = || corrupted("array ends early");
    let (count, mut rest) = bytes.split_first().ok_or_else(short)?;
    if *count > MAX_DIMENSIONS {
        return Err(corrupted("array dimensions"));
    }
    let mut dimensions = Vec::with_capacity((*count).into());
    let mut total = u64::from(*count > 0);
    for _ in 0..*count {
        let (dimension, after) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let length = u32::from_le_bytes([dimension[0], dimension[1], dimension[2], dimension[3]]);
        let lower = i32::from_le_bytes([dimension[4], dimension[5], dimension[6], dimension[7]]);
        total = total.saturating_mul(length.into());
        dimensions.push((length, lower));
        rest = after;
    }
    if total > (rest.len() / 4) as u64 {
        return Err(short());
    }
    let mut elements = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        elements.push(match u32::from_le_bytes(*length) {
            NULL_ELEMENT => Datum::Null,
            length => {
                let (value, after) = rest.split_at_checked(length as usize).ok_or_else(short)?;
                rest = after;
                decode_value(element, value)?
            }
        });
    }
    match rest {
        [] => Ok(Array { element, dimensions, elements }),
        _ => Err(corrupted("array goes on after its end")),
    }
}

/// 42804-free check that a value has the representation of a type; XX000 names what was found.
pub(super) fn check(value: &Datum, data_type: DataType, fits: bool) -> Result<()> {
    if fits { Ok(()) } else { Err(mismatch(value, data_type)) }
}
