//! Taking documents apart: types, lengths, elements, members.

use std::sync::Arc;

use serde_json::Value;

use super::define::{jsonb, scalar, string};
use super::json_path::as_text;
use super::{EvalContext, FunctionRows, ScalarFunction, TableFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType as T, Datum, Row, json};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("jsonb_typeof", &[T::JSONB], T::TEXT, |_, args| Ok(Datum::text(type_name(jsonb(&args[0])?)))),
    scalar("json_typeof", &[T::JSON], T::TEXT, |_, args| {
        Ok(Datum::text(type_name(&json::parse_jsonb(string(&args[0])?)?)))
    }),
    scalar("jsonb_array_length", &[T::JSONB], T::INT4, |_, args| array_length(jsonb(&args[0])?)),
    scalar("json_array_length", &[T::JSON], T::INT4, |_, args| array_length(&json::parse_jsonb(string(&args[0])?)?)),
    scalar("jsonb_pretty", &[T::JSONB], T::TEXT, |_, args| {
        let mut out = String::new();
        json::format_pretty(jsonb(&args[0])?, 0, &mut out);
        Ok(Datum::text(out))
    }),
    scalar("jsonb_strip_nulls", &[T::JSONB], T::JSONB, |_, args| {
        Ok(Datum::Jsonb(Arc::new(strip_nulls(jsonb(&args[0])?))))
    }),
];

macro_rules! table_functions {
    ($($name:literal ($arg:ident) -> [$($column:literal $type:ident),*] = $open:expr;)*) => {
        /// The set-returning ones.
        pub static TABLE_FUNCTIONS: &[TableFunction] = &[
            $(TableFunction { name: $name, args: &[T::$arg], columns: &[$(($column, T::$type)),*], open: $open },)*
        ];
    };
}

table_functions! {
    "jsonb_array_elements"(JSONB) -> ["value" JSONB] = |_, args| elements(args, |item| Datum::Jsonb(Arc::new(item)));
    "jsonb_array_elements_text"(JSONB) -> ["value" TEXT] = |_, args| elements(args, |item| as_text(Some(&item)));
    "jsonb_each"(JSONB) -> ["key" TEXT, "value" JSONB] = |_, args| each(args, |item| Datum::Jsonb(Arc::new(item)));
    "jsonb_each_text"(JSONB) -> ["key" TEXT, "value" TEXT] = |_, args| each(args, |item| as_text(Some(&item)));
    "jsonb_object_keys"(JSONB) -> ["jsonb_object_keys" TEXT] = |_, args| match &args[0] {
        Datum::Null => none(),
        from => match &**jsonb(from)? {
            Value::Object(map) => rows(map.keys().map(|key| vec![Datum::text(key)]).collect()),
            Value::Array(_) => Err(invalid("cannot call jsonb_object_keys on an array")),
            _ => Err(invalid("cannot call jsonb_object_keys on a scalar")),
        },
    };
    "json_array_elements"(JSON) -> ["value" JSON] = |context, args| json_elements(context, args, false);
    "json_array_elements_text"(JSON) -> ["value" TEXT] = |context, args| json_elements(context, args, true);
    "json_each"(JSON) -> ["key" TEXT, "value" JSON] = |_, args| json_each(args, false);
    "json_each_text"(JSON) -> ["key" TEXT, "value" TEXT] = |_, args| json_each(args, true);
    "json_object_keys"(JSON) -> ["json_object_keys" TEXT] = |_, args| match &args[0] {
        Datum::Null => none(),
        from => {
            let text = object_text(string(from)?, "json_object_keys")?;
            rows(members(text)?.into_iter().map(|(key, _)| vec![Datum::text(key)]).collect())
        }
    };
}

fn none() -> Result<FunctionRows> {
    Ok(Box::new(std::iter::empty()))
}

fn rows(rows: Vec<Row>) -> Result<FunctionRows> {
    Ok(Box::new(rows.into_iter().map(Ok)))
}

fn invalid(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn array_length(value: &Value) -> Result<Datum> {
    match value {
        Value::Array(items) => Ok(Datum::Int4(items.len() as i32)),
        Value::Object(_) => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }
}

fn strip_nulls(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(strip_nulls).collect()),
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, item)| !item.is_null());
            Value::Object(kept.map(|(key, item)| (key.clone(), strip_nulls(item))).collect())
        }
        scalar => scalar.clone(),
    }
}

fn elements(args: &[Datum], shown: fn(Value) -> Datum) -> Result<FunctionRows> {
    let Datum::Jsonb(from) = &args[0] else { return none() };
    match &**from {
        Value::Array(items) => {
            let items = items.clone();
            Ok(Box::new(items.into_iter().map(move |item| Ok(vec![shown(item)]))))
        }
        Value::Object(_) => Err(invalid("cannot extract elements from an object")),
        _ => Err(invalid("cannot extract elements from a scalar")),
    }
}

fn each(args: &[Datum], shown: fn(Value) -> Datum) -> Result<FunctionRows> {
    let Datum::Jsonb(from) = &args[0] else { return none() };
    match &**from {
        Value::Object(map) => {
            let map = map.clone();
            Ok(Box::new(map.into_iter().map(move |(key, item)| Ok(vec![Datum::text(key), shown(item)]))))
        }
        _ => Err(invalid("cannot call jsonb_each on a non-object")),
    }
}

fn json_elements(_: &EvalContext, args: &[Datum], as_texts: bool) -> Result<FunctionRows> {
    let Datum::Json(from) = &args[0] else { return none() };
    let text = from.trim();
    match text.as_bytes().first() {
        Some(b'[') => {
            let shown: Result<Vec<Row>> = items(text)?.into_iter().map(|item| Ok(vec![cut(item, as_texts)?])).collect();
            rows(shown?)
        }
        Some(b'{') => Err(invalid("cannot call json_array_elements on a non-array")),
        _ => Err(invalid("cannot call json_array_elements on a scalar")),
    }
}

fn json_each(args: &[Datum], as_texts: bool) -> Result<FunctionRows> {
    let Datum::Json(from) = &args[0] else { return none() };
    let text = object_text(from, "json_each")?;
    let pair = |(key, item): (String, &str)| Ok(vec![Datum::text(key), cut(item, as_texts)?]);
    let shown: Result<Vec<Row>> = members(text)?.into_iter().map(pair).collect();
    rows(shown?)
}

fn object_text<'a>(text: &'a str, function: &str) -> Result<&'a str> {
    let text = text.trim();
    match text.as_bytes().first() {
        Some(b'{') => Ok(text),
        Some(b'[') if function == "json_each" => Err(invalid("cannot deconstruct an array as an object")),
        Some(b'[') => Err(invalid(&format!("cannot call {function} on an array"))),
        _ if function == "json_each" => Err(invalid("cannot deconstruct a scalar")),
        _ => Err(invalid(&format!("cannot call {function} on a scalar"))),
    }
}

fn cut(item: &str, as_texts: bool) -> Result<Datum> {
    Ok(match (as_texts, item) {
        (false, item) => Datum::Json(item.into()),
        (true, "null") => Datum::Null,
        (true, item) if item.starts_with('"') => as_text(Some(&json::parse_jsonb(item)?)),
        (true, item) => Datum::text(item),
    })
}

/// The elements of a valid JSON array, each as the text it has there.
pub(super) fn items(text: &str) -> Result<Vec<&str>> {
    Ok(pieces(text))
}

/// The members of a valid JSON object: key, and the value's text.
pub(super) fn members(text: &str) -> Result<Vec<(String, &str)>> {
    let pair = |piece| -> Result<(String, &str)> {
        let piece: &str = piece;
        let end = string_end(piece);
        let key = match json::parse_jsonb(&piece[..end])? {
            Value::String(key) => key,
            _ => String::new(),
        };
        let value = piece[end..].trim_start().strip_prefix(':').unwrap_or("").trim();
        Ok((key, value))
    };
    pieces(text).into_iter().map(pair).collect()
}

/// What stands between the brackets, cut at the commas of the outer level.
fn pieces(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut pieces, mut depth, mut start, mut at) = (Vec::new(), 0, 1, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += string_end(&text[at..]) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 1 => {
                pieces.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    let last = text[start..text.len() - 1].trim();
    if !last.is_empty() {
        pieces.push(last);
    }
    pieces
}

/// Where the string literal that the text begins with ends.
fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}
