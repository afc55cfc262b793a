//! Making documents: `to_json`, `json_build_object` and their kin.

use std::sync::Arc;

use serde_json::Value;

use super::define::{array, boolean, scalar, string};
use super::{EvalContext, ScalarFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{format_timestamp, format_timestamptz};
use crate::types::{Array, BaseType, DataType as T, Datum, json, text};

const ANY: T = T::new(BaseType::Any);
const ELEMENT: T = T::new(BaseType::AnyElement);
const TEXTS: T = T::array_of(BaseType::Text);

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("to_json", &[ELEMENT], T::JSON, |context, args| Ok(to_json(context, &args[0]))).stable(),
    scalar("to_jsonb", &[ELEMENT], T::JSONB, |context, args| Ok(Datum::Jsonb(Arc::new(to_jsonb(context, &args[0])?))))
        .stable(),
    scalar("row_to_json", &[T::RECORD], T::JSON, |context, args| Ok(to_json(context, &args[0]))).stable(),
    scalar("row_to_json", &[T::RECORD, T::BOOL], T::JSON, |context, args| {
        boolean(&args[1])?;
        Ok(to_json(context, &args[0]))
    })
    .stable(),
    scalar("array_to_json", &[T::new(BaseType::AnyArray)], T::JSON, |context, args| Ok(to_json(context, &args[0])))
        .stable(),
    scalar("json_build_array", &[], T::JSON, |_, _| Ok(Datum::Json("[]".into()))).stable(),
    scalar("json_build_array", &[ANY], T::JSON, |context, args| {
        let mut out = String::from("[");
        for (index, item) in args.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            write_json(context, item, &mut out);
        }
        out.push(']');
        Ok(Datum::Json(out.into()))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("jsonb_build_array", &[], T::JSONB, |_, _| Ok(Datum::Jsonb(Arc::new(Value::Array(Vec::new()))))).stable(),
    scalar("jsonb_build_array", &[ANY], T::JSONB, |context, args| {
        let items: Result<Vec<Value>> = args.iter().map(|item| to_jsonb(context, item)).collect();
        Ok(Datum::Jsonb(Arc::new(Value::Array(items?))))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("json_build_object", &[], T::JSON, |_, _| Ok(Datum::Json("{}".into()))).stable(),
    scalar("json_build_object", &[ANY], T::JSON, |context, args| {
        check_pairs(args.len())?;
        let mut out = String::from("{");
        for (index, pair) in args.chunks(2).enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            if pair[0].is_null() {
                let message = format!("argument {} cannot be null", index * 2 + 1);
                let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
                return Err(error.with_hint("Object keys should be text."));
            }
            json::quote(&text::to_string(&pair[0], pair[0].natural_type(), context), &mut out);
            out.push_str(" : ");
            write_json(context, &pair[1], &mut out);
        }
        out.push('}');
        Ok(Datum::Json(out.into()))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("jsonb_build_object", &[], T::JSONB, |_, _| Ok(Datum::Jsonb(Arc::new(json::object(Vec::new()))))).stable(),
    scalar("jsonb_build_object", &[ANY], T::JSONB, |context, args| {
        check_pairs(args.len())?;
        let mut pairs = Vec::with_capacity(args.len() / 2);
        for (index, pair) in args.chunks(2).enumerate() {
            if pair[0].is_null() {
                let message = format!("argument {}: key must not be null", index * 2 + 1);
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            pairs.push((text::to_string(&pair[0], pair[0].natural_type(), context), to_jsonb(context, &pair[1])?));
        }
        Ok(Datum::Jsonb(Arc::new(json::object(pairs))))
    })
    .variadic()
    .nullable()
    .stable(),
    scalar("json_object", &[TEXTS], T::JSON, |_, args| Ok(json_text(&text_object(&pairs_of(array(&args[0])?)?)))),
    scalar("json_object", &[TEXTS, TEXTS], T::JSON, |_, args| {
        Ok(json_text(&text_object(&zip(array(&args[0])?, array(&args[1])?)?)))
    }),
    scalar("jsonb_object", &[TEXTS], T::JSONB, |_, args| json_object(&pairs_of(array(&args[0])?)?)),
    scalar("jsonb_object", &[TEXTS, TEXTS], T::JSONB, |_, args| json_object(&zip(array(&args[0])?, array(&args[1])?)?)),
];

fn json_text(text: &str) -> Datum {
    Datum::Json(text.into())
}

fn check_pairs(count: usize) -> Result<()> {
    if count.is_multiple_of(2) {
        return Ok(());
    }
    let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "argument list must have even number of elements");
    Err(error.with_hint("The arguments of json_build_object() must consist of alternating keys and values."))
}

/// The value as a json.
pub(crate) fn to_json(context: &EvalContext, value: &Datum) -> Datum {
    let mut out = String::new();
    write_json(context, value, &mut out);
    Datum::Json(out.into())
}

/// Appends the value as JSON text: numbers and bools bare, moments in ISO 8601, the rest as strings.
pub(crate) fn write_json(context: &EvalContext, value: &Datum, out: &mut String) {
    match value {
        Datum::Null => out.push_str("null"),
        Datum::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Datum::Json(text) => out.push_str(text),
        Datum::Jsonb(document) => json::format(document, out),
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => text::format(value, value.natural_type(), context, out),
        Datum::Float4(_) | Datum::Float8(_) | Datum::Numeric(_) => {
            let shown = text::to_string(value, value.natural_type(), context);
            // NaN and the infinities are no JSON numbers.
            if shown.ends_with(|c: char| c.is_ascii_digit()) { out.push_str(&shown) } else { json::quote(&shown, out) }
        }
        Datum::Array(array) => write_list(context, array, out),
        Datum::Record(items) => {
            out.push('{');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&format!("\"f{}\":", index + 1));
                write_json(context, item, out);
            }
            out.push('}');
        }
        _ => json::quote(&plain(context, value), out),
    }
}

/// Text of a value that becomes a JSON string; a `T` between date and time.
fn plain(context: &EvalContext, value: &Datum) -> String {
    let mut out = String::new();
    match value {
        Datum::Timestamp(us) => format_timestamp(*us, &mut out),
        Datum::Timestamptz(us) => {
            format_timestamptz(*us, &context.time_zone, &mut out);
            // Minutes of the offset are always written.
            let short = out.len() >= 3 && matches!(out.as_bytes()[out.len() - 3], b'+' | b'-');
            if short && out.contains(':') {
                out.push_str(":00");
            }
        }
        _ => return text::to_string(value, value.natural_type(), context),
    }
    match out.find(' ').filter(|at| out[at + 1..].starts_with(|c: char| c.is_ascii_digit())) {
        Some(at) => format!("{}T{}", &out[..at], &out[at + 1..]),
        None => out,
    }
}

fn write_list(context: &EvalContext, array: &Array, out: &mut String) {
    fn level(
        context: &EvalContext,
        dimensions: &[(u32, i32)],
        elements: &mut std::slice::Iter<'_, Datum>,
        out: &mut String,
    ) {
        let Some(((length, _), inner)) = dimensions.split_first() else { return };
        out.push('[');
        for index in 0..*length {
            if index > 0 {
                out.push(',');
            }
            match inner.is_empty() {
                true => write_json(context, elements.next().unwrap_or(&Datum::Null), out),
                false => level(context, inner, elements, out),
            }
        }
        out.push(']');
    }
    match array.dimensions.is_empty() {
        true => out.push_str("[]"),
        false => level(context, &array.dimensions, &mut array.elements.iter(), out),
    }
}

/// The value as a jsonb.
pub(crate) fn to_jsonb(context: &EvalContext, value: &Datum) -> Result<Value> {
    Ok(match value {
        Datum::Null => Value::Null,
        Datum::Bool(value) => Value::Bool(*value),
        Datum::Jsonb(document) => Value::clone(document),
        Datum::Text(text) => Value::String(text.to_string()),
        _ => {
            let mut out = String::new();
            write_json(context, value, &mut out);
            json::parse_jsonb(&out)?
        }
    })
}

type Pairs<'a> = Vec<(&'a Datum, &'a Datum)>;

fn pairs_of(from: &Array) -> Result<Pairs<'_>> {
    let error = |message| Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
    match from.dimensions.as_slice() {
        [] => {}
        [(length, _)] if length % 2 == 1 => return error("array must have even number of elements"),
        [_] | [_, (2, _)] => {}
        [_, _] => return error("array must have two columns"),
        _ => return error("wrong number of array subscripts"),
    }
    Ok(from.elements.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
}

fn zip<'a>(keys: &'a Array, values: &'a Array) -> Result<Pairs<'a>> {
    match keys.elements.len() == values.elements.len() {
        true => Ok(keys.elements.iter().zip(&values.elements).collect()),
        false => Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "mismatched array dimensions")),
    }
}

fn text_object(pairs: &Pairs<'_>) -> String {
    let mut out = String::from("{");
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        json::quote(key.as_str().unwrap_or(""), &mut out);
        out.push_str(" : ");
        match value.as_str() {
            Some(text) => json::quote(text, &mut out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    out
}

fn json_object(pairs: &Pairs<'_>) -> Result<Datum> {
    let value = |value: &Datum| value.as_str().map_or(Value::Null, |text| Value::String(text.to_owned()));
    let pairs: Result<Vec<(String, Value)>> =
        pairs.iter().map(|(key, item)| Ok((string(key)?.to_owned(), value(item)))).collect();
    Ok(Datum::Jsonb(Arc::new(json::object(pairs?))))
}
