//! Values as text: what PostgreSQL's input functions accept and its output functions print.

mod array;
mod bytea;
mod names;
mod numbers;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::sync::Arc;

use super::{BaseType, DataType, Datum, datetime, json, numeric::Numeric};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;

pub use array::{format_array, format_record, parse_array};
pub use bytea::{format_hex, parse_bytea};
pub(crate) use bytea::{parse_escape, parse_hex, put_hex};
pub use names::{format_type_oid, quote_identifier};
pub use numbers::{format_float4, format_float8, parse_float4, parse_float8, parse_integer};

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// 22P02 `invalid input syntax for type …`.
#[cold]
pub fn invalid_input(type_name: &str, text: &str) -> SqlError {
    let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
}

/// Reads a value as the type's input function does, modifier applied as on assignment: text too long for
/// varchar(n) is 22001. For an explicit cast, which cuts it, read with the bare type and cast.
pub fn parse(text: &str, data_type: DataType, context: &EvalContext) -> Result<Datum> {
    let value = parse_bare(text, data_type, context)?;
    if data_type.modifier < 0 { Ok(value) } else { super::cast::apply_modifier(value, data_type, false) }
}

fn parse_bare(text: &str, data_type: DataType, context: &EvalContext) -> Result<Datum> {
    use BaseType::*;
    if data_type.array {
        return parse_array(text, data_type, context);
    }
    let name = || data_type.base.info().sql_name;
    Ok(match data_type.base {
        Int4 => Datum::Int4(parse_integer(text, name())?),
        Int8 => Datum::Int8(parse_integer(text, name())?),
        Int2 => Datum::Int2(parse_integer(text, name())?),
        Text | Varchar | Unknown | PgNodeTree => Datum::Text(checked(text)?.into()),
        Bpchar => Datum::Bpchar(checked(text)?.into()),
        Name => Datum::Text(truncate_name(checked(text)?).into()),
        InternalChar => Datum::Text(checked(text)?.chars().take(1).collect::<String>().into()),
        Bool => Datum::Bool(parse_bool(text)?),
        Numeric => Datum::Numeric(self::Numeric::parse(text)?),
        Float8 => Datum::Float8(parse_float8(text)?),
        Float4 => Datum::Float4(parse_float4(text)?),
        Bytea => Datum::Bytea(parse_bytea(text)?),
        Date => Datum::Date(datetime::parse_date(text, context)?),
        Time => Datum::Time(datetime::parse_time(text, context)?),
        Timestamp => Datum::Timestamp(datetime::parse_timestamp(text, context)?),
        Timestamptz => Datum::Timestamptz(datetime::parse_timestamptz(text, context)?),
        Interval => Datum::Interval(Arc::new(datetime::parse_interval(text)?)),
        Uuid => Datum::Uuid(Arc::new(parse_uuid(text)?)),
        Json => {
            json::validate(checked(text)?)?;
            Datum::Json(text.into())
        }
        Jsonb => Datum::Jsonb(Arc::new(json::parse_jsonb(checked(text)?)?)),
        Oid => Datum::Oid(numbers::parse_oid(text, "oid")?),
        Xid => Datum::Oid(numbers::parse_oid(text, "xid")?),
        Regclass | Regtype | Regproc | Regnamespace | Regrole => {
            Datum::Oid(names::parse_object(text, data_type.base, context)?)
        }
        PgLsn => Datum::PgLsn(text.parse::<storage::Lsn>().map_err(|_| invalid_input("pg_lsn", text))?.0),
        OidVector | Int2Vector => array::parse_vector(text, data_type, context)?,
        Void => Datum::Null,
        Record => return Err(SqlError::unsupported("input of anonymous composite types")),
        Any | AnyArray | AnyElement | AnyCompatible | AnyCompatibleArray => {
            let message = format!("cannot accept a value of type {}", name());
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
    })
}

/// Text without the byte that text cannot hold.
fn checked(text: &str) -> Result<&str> {
    if text.as_bytes().contains(&0) {
        let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
        return Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message));
    }
    Ok(text)
}

/// A name cut to the length that names have.
pub fn truncate_name(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

fn parse_bool(text: &str) -> Result<bool> {
    let word = text.trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase();
    let prefix_of = |full: &str| !word.is_empty() && full.starts_with(word.as_str());
    match word.as_str() {
        "1" | "on" => Ok(true),
        "0" | "of" | "off" => Ok(false),
        _ if prefix_of("true") || prefix_of("yes") => Ok(true),
        _ if prefix_of("false") || prefix_of("no") => Ok(false),
        _ => Err(invalid_input("boolean", text)),
    }
}

/// 32 hexadecimal digits, hyphens after any four, braces around.
fn parse_uuid(text: &str) -> Result<[u8; 16]> {
    let invalid = || invalid_input("uuid", text);
    let bare = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(invalid)?,
        None => text,
    };
    let (mut uuid, mut digits, mut after_hyphen) = ([0u8; 16], 0usize, false);
    for byte in bare.bytes() {
        if byte == b'-' && digits > 0 && digits < 32 && digits.is_multiple_of(4) && !after_hyphen {
            after_hyphen = true;
            continue;
        }
        after_hyphen = false;
        let value = (byte as char).to_digit(16).filter(|_| digits < 32).ok_or_else(invalid)?;
        uuid[digits / 2] = uuid[digits / 2] << 4 | value as u8;
        digits += 1;
    }
    if digits == 32 && !after_hyphen { Ok(uuid) } else { Err(invalid()) }
}

/// Appends a value as the type's output function prints it. NULL appends nothing.
pub fn format(value: &Datum, data_type: DataType, context: &EvalContext, out: &mut String) {
    match value {
        Datum::Null => {}
        Datum::Int4(value) => put_integer((*value).into(), out),
        Datum::Int8(value) => put_integer(*value, out),
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => out.push_str(text),
        Datum::Bool(value) => out.push(if *value { 't' } else { 'f' }),
        Datum::Int2(value) => put_integer((*value).into(), out),
        Datum::Float4(value) => format_float4(*value, context.extra_float_digits, out),
        Datum::Float8(value) => format_float8(*value, context.extra_float_digits, out),
        Datum::Numeric(value) => {
            let _ = write!(out, "{value}");
        }
        Datum::Bytea(bytes) => format_hex(bytes, out),
        Datum::Date(days) => datetime::format_date(*days, out),
        Datum::Time(us) => datetime::format_time(*us, out),
        Datum::Timestamp(us) => datetime::format_timestamp(*us, out),
        Datum::Timestamptz(us) => datetime::format_timestamptz(*us, &context.time_zone, out),
        Datum::Interval(value) => datetime::format_interval(value, out),
        Datum::Uuid(value) => {
            let mut buffer = uuid::Uuid::encode_buffer();
            out.push_str(uuid::Uuid::from_bytes(**value).hyphenated().encode_lower(&mut buffer));
        }
        Datum::Jsonb(value) => json::format(value, out),
        Datum::Oid(oid) => names::format_object(*oid, data_type.base, context, out),
        Datum::PgLsn(lsn) => {
            let _ = write!(out, "{}", storage::Lsn(*lsn));
        }
        Datum::Array(array)
            if matches!(data_type.base, BaseType::OidVector | BaseType::Int2Vector) && !data_type.array =>
        {
            array::format_vector(array, context, out);
        }
        Datum::Array(array) => format_array(array, data_type.element().unwrap_or(array.element), context, out),
        Datum::Record(items) => format_record(items, context, out),
    }
}

/// The value's text in a string of its own.
pub fn to_string(value: &Datum, data_type: DataType, context: &EvalContext) -> String {
    let mut out = String::new();
    format(value, data_type, context, &mut out);
    out
}

/// Appends an integer; about a third of the time of `write!`.
fn put_integer(value: i64, out: &mut String) {
    let (mut buffer, mut start) = ([0u8; 20], 20);
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&buffer[start..]).expect("digits are ASCII"));
}
