//! String functions.

use super::ScalarFunction;
use super::define::{bytea, int4, int8, scalar, string};
use crate::error::{Result, SqlError, SqlState};
use crate::types::text::quote_identifier;
use crate::types::{BaseType, DataType as T, Datum, text};

const ANY: T = T::new(BaseType::Any);

/// Longest text that a function makes, as in PostgreSQL (`MaxAllocSize`).
const MAX_TEXT_BYTES: usize = 0x3FFF_FFFF;

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("length", &[T::TEXT], T::INT4, |_, args| Ok(count(string(&args[0])?))),
    scalar("length", &[T::BPCHAR], T::INT4, |_, args| Ok(count(string(&args[0])?.trim_end_matches(' ')))),
    scalar("length", &[T::BYTEA], T::INT4, |_, args| Ok(Datum::Int4(bytea(&args[0])?.len() as i32))),
    scalar("char_length", &[T::TEXT], T::INT4, |_, args| Ok(count(string(&args[0])?))),
    scalar("char_length", &[T::BPCHAR], T::INT4, |_, args| Ok(count(string(&args[0])?.trim_end_matches(' ')))),
    scalar("character_length", &[T::TEXT], T::INT4, |_, args| Ok(count(string(&args[0])?))),
    scalar("character_length", &[T::BPCHAR], T::INT4, |_, args| Ok(count(string(&args[0])?.trim_end_matches(' ')))),
    scalar("octet_length", &[T::TEXT], T::INT4, |_, args| Ok(Datum::Int4(string(&args[0])?.len() as i32))),
    scalar("octet_length", &[T::BPCHAR], T::INT4, |_, args| Ok(Datum::Int4(string(&args[0])?.len() as i32))),
    scalar("octet_length", &[T::BYTEA], T::INT4, |_, args| Ok(Datum::Int4(bytea(&args[0])?.len() as i32))),
    scalar("bit_length", &[T::TEXT], T::INT4, |_, args| Ok(Datum::Int4(string(&args[0])?.len() as i32 * 8))),
    scalar("bit_length", &[T::BYTEA], T::INT4, |_, args| Ok(Datum::Int4(bytea(&args[0])?.len() as i32 * 8))),
    scalar("lower", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(lower(string(&args[0])?)))),
    scalar("upper", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(upper(string(&args[0])?)))),
    scalar("initcap", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(initcap(string(&args[0])?)))),
    scalar("substr", &[T::TEXT, T::INT4], T::TEXT, |_, args| substring(args)),
    scalar("substr", &[T::TEXT, T::INT4, T::INT4], T::TEXT, |_, args| substring(args)),
    scalar("substring", &[T::TEXT, T::INT4], T::TEXT, |_, args| substring(args)),
    scalar("substring", &[T::TEXT, T::INT4, T::INT4], T::TEXT, |_, args| substring(args)),
    scalar("substr", &[T::BYTEA, T::INT4], T::BYTEA, |_, args| substring_bytes(args)),
    scalar("substr", &[T::BYTEA, T::INT4, T::INT4], T::BYTEA, |_, args| substring_bytes(args)),
    scalar("substring", &[T::BYTEA, T::INT4], T::BYTEA, |_, args| substring_bytes(args)),
    scalar("substring", &[T::BYTEA, T::INT4, T::INT4], T::BYTEA, |_, args| substring_bytes(args)),
    scalar("position", &[T::TEXT, T::TEXT], T::INT4, |_, args| position(string(&args[0])?, string(&args[1])?)),
    scalar("position", &[T::BYTEA, T::BYTEA], T::INT4, |_, args| {
        let (bytes, wanted) = (bytea(&args[0])?, bytea(&args[1])?);
        if wanted.is_empty() {
            return Ok(Datum::Int4(1));
        }
        let found = bytes.windows(wanted.len()).position(|window| window == wanted.as_ref());
        Ok(Datum::Int4(found.map_or(0, |at| at as i32 + 1)))
    }),
    scalar("strpos", &[T::TEXT, T::TEXT], T::INT4, |_, args| position(string(&args[0])?, string(&args[1])?)),
    scalar("btrim", &[T::TEXT], T::TEXT, |_, args| trim(args, true, true)),
    scalar("btrim", &[T::TEXT, T::TEXT], T::TEXT, |_, args| trim(args, true, true)),
    scalar("ltrim", &[T::TEXT], T::TEXT, |_, args| trim(args, true, false)),
    scalar("ltrim", &[T::TEXT, T::TEXT], T::TEXT, |_, args| trim(args, true, false)),
    scalar("rtrim", &[T::TEXT], T::TEXT, |_, args| trim(args, false, true)),
    scalar("rtrim", &[T::TEXT, T::TEXT], T::TEXT, |_, args| trim(args, false, true)),
    scalar("replace", &[T::TEXT, T::TEXT, T::TEXT], T::TEXT, |_, args| {
        let (from, old) = (string(&args[0])?, string(&args[1])?);
        match old.is_empty() {
            true => Ok(args[0].clone()),
            false => Ok(Datum::text(from.replace(old, string(&args[2])?))),
        }
    }),
    scalar("split_part", &[T::TEXT, T::TEXT, T::INT4], T::TEXT, |_, args| split_part(args)),
    scalar("left", &[T::TEXT, T::INT4], T::TEXT, |_, args| {
        let (from, wanted) = (string(&args[0])?, int4(&args[1])?);
        Ok(Datum::text(&from[..place(from, wanted)]))
    }),
    scalar("right", &[T::TEXT, T::INT4], T::TEXT, |_, args| {
        let (from, wanted) = (string(&args[0])?, int4(&args[1])?);
        // The last n characters, or all but the first -n.
        let cut = if wanted >= 0 {
            from.chars().count().saturating_sub(wanted as usize)
        } else {
            wanted.unsigned_abs() as usize
        };
        Ok(Datum::text(&from[character_at(from, cut)..]))
    }),
    scalar("lpad", &[T::TEXT, T::INT4], T::TEXT, |_, args| pad(args, true)),
    scalar("lpad", &[T::TEXT, T::INT4, T::TEXT], T::TEXT, |_, args| pad(args, true)),
    scalar("rpad", &[T::TEXT, T::INT4], T::TEXT, |_, args| pad(args, false)),
    scalar("rpad", &[T::TEXT, T::INT4, T::TEXT], T::TEXT, |_, args| pad(args, false)),
    scalar("repeat", &[T::TEXT, T::INT4], T::TEXT, |_, args| {
        let (from, times) = (string(&args[0])?, int4(&args[1])?.max(0) as usize);
        check_length(from.len().saturating_mul(times))?;
        Ok(Datum::text(from.repeat(times)))
    }),
    scalar("reverse", &[T::TEXT], T::TEXT, |_, args| {
        Ok(Datum::text(string(&args[0])?.chars().rev().collect::<String>()))
    }),
    scalar("concat", &[ANY], T::TEXT, |context, args| {
        let mut out = String::new();
        args.iter().for_each(|value| text::format(value, value.natural_type(), context, &mut out));
        Ok(Datum::text(out))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("concat_ws", &[T::TEXT, ANY], T::TEXT, |context, args| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let separator = string(&args[0])?;
        let parts = args[1..].iter().filter(|value| !value.is_null());
        let parts: Vec<String> = parts.map(|value| text::to_string(value, value.natural_type(), context)).collect();
        Ok(Datum::text(parts.join(separator)))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("format", &[T::TEXT], T::TEXT, super::string_format::format).nullable().stable(),
    scalar("format", &[T::TEXT, ANY], T::TEXT, super::string_format::format).variadic().nullable().stable(),
    scalar("ascii", &[T::TEXT], T::INT4, |_, args| {
        Ok(Datum::Int4(string(&args[0])?.chars().next().map_or(0, |first| first as i32)))
    }),
    scalar("chr", &[T::INT4], T::TEXT, |_, args| chr(int4(&args[0])?)),
    scalar("to_hex", &[T::INT4], T::TEXT, |_, args| Ok(Datum::text(format!("{:x}", int4(&args[0])?)))),
    scalar("to_hex", &[T::INT8], T::TEXT, |_, args| Ok(Datum::text(format!("{:x}", int8(&args[0])?)))),
    scalar("translate", &[T::TEXT, T::TEXT, T::TEXT], T::TEXT, |_, args| {
        let from: Vec<char> = string(&args[1])?.chars().collect();
        let to: Vec<char> = string(&args[2])?.chars().collect();
        let change = |c: char| match from.iter().position(|known| *known == c) {
            Some(at) => to.get(at).copied(),
            None => Some(c),
        };
        Ok(Datum::text(string(&args[0])?.chars().filter_map(change).collect::<String>()))
    }),
    scalar("overlay", &[T::TEXT, T::TEXT, T::INT4], T::TEXT, |_, args| overlay(args)),
    scalar("overlay", &[T::TEXT, T::TEXT, T::INT4, T::INT4], T::TEXT, |_, args| overlay(args)),
    scalar("starts_with", &[T::TEXT, T::TEXT], T::BOOL, |_, args| {
        Ok(Datum::Bool(string(&args[0])?.starts_with(string(&args[1])?)))
    }),
    scalar("quote_ident", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(quote_identifier(string(&args[0])?)))),
    scalar("quote_literal", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(quote_literal(string(&args[0])?)))),
    scalar("quote_literal", &[T::new(BaseType::AnyElement)], T::TEXT, |context, args| {
        Ok(Datum::text(quote_literal(&text::to_string(&args[0], args[0].natural_type(), context))))
    })
    .stable(),
    scalar("quote_nullable", &[T::TEXT], T::TEXT, quote_nullable).nullable(),
    scalar("quote_nullable", &[T::new(BaseType::AnyElement)], T::TEXT, quote_nullable).nullable().stable(),
    scalar("pg_client_encoding", &[], T::NAME, |_, _| Ok(Datum::text("UTF8"))).stable(),
];

fn count(text: &str) -> Datum {
    Datum::Int4(if text.is_ascii() { text.len() } else { text.chars().count() } as i32)
}

/// Lower case, one character for each.
pub(crate) fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().map(|c| one(c, c.to_lowercase())).collect() }
}

/// Upper case, one character for each.
pub(crate) fn upper(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { text.chars().map(|c| one(c, c.to_uppercase())).collect() }
}

/// The mapping of a character when it is a single one; the C library knows no others.
fn one(character: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(single), None) => single,
        _ => character,
    }
}

/// Capitals at the beginning of words.
pub(crate) fn initcap(text: &str) -> String {
    let mut inside = false;
    let change = |c: char| {
        let changed = if inside { one(c, c.to_lowercase()) } else { one(c, c.to_uppercase()) };
        inside = c.is_alphanumeric();
        changed
    };
    text.chars().map(change).collect()
}

/// Byte position of a character, or the end.
fn character_at(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

/// Byte position after the first n characters, or before the last -n.
fn place(text: &str, count: i32) -> usize {
    match count {
        0.. => character_at(text, count as usize),
        _ => character_at(text, text.chars().count().saturating_sub(count.unsigned_abs() as usize)),
    }
}

/// First and last position (from 0, exclusive) of `start` and `length` counted from 1; 22011 for a negative length.
fn range(args: &[Datum]) -> Result<(usize, Option<usize>)> {
    let start = i64::from(int4(&args[1])?);
    let Some(length) = args.get(2) else { return Ok(((start - 1).max(0) as usize, None)) };
    let length = i64::from(int4(length)?);
    if length < 0 {
        return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    Ok(((start - 1).max(0) as usize, Some((start - 1 + length).max(0) as usize)))
}

fn substring(args: &[Datum]) -> Result<Datum> {
    let from = string(&args[0])?;
    let (start, end) = range(args)?;
    let start_at = character_at(from, start);
    let end_at = end.map_or(from.len(), |end| character_at(from, end));
    Ok(Datum::text(from.get(start_at..end_at).unwrap_or("")))
}

fn substring_bytes(args: &[Datum]) -> Result<Datum> {
    let from = bytea(&args[0])?;
    let (start, end) = range(args)?;
    let end = end.unwrap_or(from.len()).min(from.len());
    Ok(Datum::Bytea(if start < end { from.slice(start..end) } else { bytes::Bytes::new() }))
}

fn position(text: &str, wanted: &str) -> Result<Datum> {
    Ok(Datum::Int4(text.find(wanted).map_or(0, |at| text[..at].chars().count() as i32 + 1)))
}

fn trim(args: &[Datum], left: bool, right: bool) -> Result<Datum> {
    let mut rest = string(&args[0])?;
    let set: Vec<char> = args.get(1).map_or(Ok(" "), string)?.chars().collect();
    if left {
        rest = rest.trim_start_matches(|c| set.contains(&c));
    }
    if right {
        rest = rest.trim_end_matches(|c| set.contains(&c));
    }
    Ok(Datum::text(rest))
}

fn split_part(args: &[Datum]) -> Result<Datum> {
    let (from, separator, field) = (string(&args[0])?, string(&args[1])?, int4(&args[2])?);
    if field == 0 {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "field position must not be zero"));
    }
    let index = field.unsigned_abs() as usize - 1;
    let part = match (separator.is_empty() || from.is_empty(), field > 0) {
        (true, _) => (index == 0).then_some(from),
        (false, true) => from.split(separator).nth(index),
        // Occurrences are found from the left, then counted from the right.
        (false, false) => {
            let parts: Vec<&str> = from.split(separator).collect();
            parts.len().checked_sub(index + 1).map(|at| parts[at])
        }
    };
    Ok(Datum::text(part.unwrap_or("")))
}

fn check_length(bytes: usize) -> Result<()> {
    match bytes {
        0..=MAX_TEXT_BYTES => Ok(()),
        _ => Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large")),
    }
}

fn pad(args: &[Datum], left: bool) -> Result<Datum> {
    let (from, wanted) = (string(&args[0])?, int4(&args[1])?.max(0) as usize);
    let fill = args.get(2).map_or(Ok(" "), string)?;
    let present = from.chars().count();
    if present >= wanted || fill.is_empty() {
        return Ok(Datum::text(&from[..character_at(from, wanted)]));
    }
    check_length((wanted - present).saturating_mul(4))?;
    let filler: String = fill.chars().cycle().take(wanted - present).collect();
    Ok(Datum::text(if left { filler + from } else { from.to_owned() + &filler }))
}

fn overlay(args: &[Datum]) -> Result<Datum> {
    let (from, new, start) = (string(&args[0])?, string(&args[1])?, int4(&args[2])?);
    if start <= 0 {
        return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let length = match args.get(3) {
        Some(length) => int4(length)?,
        None => new.chars().count() as i32,
    };
    let head = character_at(from, start as usize - 1);
    let tail = (i64::from(start) - 1 + i64::from(length)).max(0) as usize;
    Ok(Datum::text(format!("{}{new}{}", &from[..head], &from[character_at(from, tail)..])))
}

fn chr(code: i32) -> Result<Datum> {
    let error = |state, message: String| Err(SqlError::new(state, message));
    match code {
        0 => error(SqlState::PROGRAM_LIMIT_EXCEEDED, "null character not permitted".into()),
        ..0 => error(SqlState::INVALID_PARAMETER_VALUE, "character number must be positive".into()),
        _ => match char::from_u32(code as u32) {
            Some(character) => Ok(Datum::text(character.to_string())),
            None if code > 0x10_FFFF => {
                error(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("requested character too large for encoding: {code}"))
            }
            None => {
                error(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("requested character not valid for encoding: {code}"))
            }
        },
    }
}

/// The text as a literal of SQL.
pub(crate) fn quote_literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E" } else { "" };
    format!("{prefix}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn quote_nullable(context: &super::EvalContext, args: &[Datum]) -> Result<Datum> {
    Ok(Datum::text(match &args[0] {
        Datum::Null => "NULL".into(),
        value => quote_literal(&text::to_string(value, value.natural_type(), context)),
    }))
}
