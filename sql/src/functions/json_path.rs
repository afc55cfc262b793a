//! Reaching into documents: `->`, `->>`, `#>`, `#>>`, `@>`, `?`, `-`, `#-`, `||`, and `jsonb_set`.
//!
//! json values are read as they were written: their text is cut, not printed anew.

use std::sync::Arc;

use serde_json::Value;

use super::ScalarFunction;
use super::define::{array, boolean, int4, jsonb, scalar, string};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType as T, Datum, json};

const TEXTS: T = T::array_of(BaseType::Text);

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("->", &[T::JSONB, T::TEXT], T::JSONB, |_, args| Ok(found(key(&args[0], &args[1])?))).infix(),
    scalar("->", &[T::JSONB, T::INT4], T::JSONB, |_, args| Ok(found(index(&args[0], &args[1])?))).infix(),
    scalar("->>", &[T::JSONB, T::TEXT], T::TEXT, |_, args| Ok(as_text(key(&args[0], &args[1])?))).infix(),
    scalar("->>", &[T::JSONB, T::INT4], T::TEXT, |_, args| Ok(as_text(index(&args[0], &args[1])?))).infix(),
    scalar("#>", &[T::JSONB, TEXTS], T::JSONB, |_, args| Ok(found(walk(jsonb(&args[0])?, &path(&args[1])?)))).infix(),
    scalar("#>>", &[T::JSONB, TEXTS], T::TEXT, |_, args| Ok(as_text(walk(jsonb(&args[0])?, &path(&args[1])?)))).infix(),
    scalar("jsonb_extract_path", &[T::JSONB, T::TEXT], T::JSONB, |_, args| {
        Ok(found(walk(jsonb(&args[0])?, &words(&args[1..])?)))
    })
    .variadic(),
    scalar("jsonb_extract_path_text", &[T::JSONB, T::TEXT], T::TEXT, |_, args| {
        Ok(as_text(walk(jsonb(&args[0])?, &words(&args[1..])?)))
    })
    .variadic(),
    scalar("->", &[T::JSON, T::TEXT], T::JSON, |_, args| slice(&args[0], &[string(&args[1])?], false)).infix(),
    scalar("->", &[T::JSON, T::INT4], T::JSON, |_, args| element(&args[0], int4(&args[1])?, false)).infix(),
    scalar("->>", &[T::JSON, T::TEXT], T::TEXT, |_, args| slice_key(&args[0], string(&args[1])?)).infix(),
    scalar("->>", &[T::JSON, T::INT4], T::TEXT, |_, args| element(&args[0], int4(&args[1])?, true)).infix(),
    scalar("#>", &[T::JSON, TEXTS], T::JSON, |_, args| slice(&args[0], &borrow(&path(&args[1])?), false)).infix(),
    scalar("#>>", &[T::JSON, TEXTS], T::TEXT, |_, args| slice(&args[0], &borrow(&path(&args[1])?), true)).infix(),
    scalar("json_extract_path", &[T::JSON, T::TEXT], T::JSON, |_, args| {
        slice(&args[0], &borrow(&words(&args[1..])?), false)
    })
    .variadic(),
    scalar("json_extract_path_text", &[T::JSON, T::TEXT], T::TEXT, |_, args| {
        slice(&args[0], &borrow(&words(&args[1..])?), true)
    })
    .variadic(),
    scalar("@>", &[T::JSONB, T::JSONB], T::BOOL, |_, args| Ok(Datum::Bool(contains(&args[0], &args[1])?))).infix(),
    scalar("<@", &[T::JSONB, T::JSONB], T::BOOL, |_, args| Ok(Datum::Bool(contains(&args[1], &args[0])?))).infix(),
    scalar("?", &[T::JSONB, T::TEXT], T::BOOL, |_, args| Ok(Datum::Bool(has(jsonb(&args[0])?, string(&args[1])?))))
        .infix(),
    scalar("?|", &[T::JSONB, TEXTS], T::BOOL, |_, args| {
        let document = jsonb(&args[0])?;
        Ok(Datum::Bool(array(&args[1])?.elements.iter().filter_map(Datum::as_str).any(|key| has(document, key))))
    })
    .infix(),
    scalar("?&", &[T::JSONB, TEXTS], T::BOOL, |_, args| {
        let document = jsonb(&args[0])?;
        Ok(Datum::Bool(array(&args[1])?.elements.iter().filter_map(Datum::as_str).all(|key| has(document, key))))
    })
    .infix(),
    scalar("||", &[T::JSONB, T::JSONB], T::JSONB, |_, args| {
        Ok(document(concatenate(jsonb(&args[0])?, jsonb(&args[1])?)))
    })
    .infix(),
    scalar("-", &[T::JSONB, T::TEXT], T::JSONB, |_, args| without(jsonb(&args[0])?, &[string(&args[1])?])).infix(),
    scalar("-", &[T::JSONB, TEXTS], T::JSONB, |_, args| {
        let keys: Vec<&str> = array(&args[1])?.elements.iter().filter_map(Datum::as_str).collect();
        without(jsonb(&args[0])?, &keys)
    })
    .infix(),
    scalar("-", &[T::JSONB, T::INT4], T::JSONB, |_, args| without_index(jsonb(&args[0])?, int4(&args[1])?)).infix(),
    scalar("#-", &[T::JSONB, TEXTS], T::JSONB, |_, args| delete_path(&args[0], &args[1])).infix(),
    scalar("jsonb_delete_path", &[T::JSONB, TEXTS], T::JSONB, |_, args| delete_path(&args[0], &args[1])),
    scalar("jsonb_set", &[T::JSONB, TEXTS, T::JSONB], T::JSONB, |_, args| set(args, true, Edit::Replace)),
    scalar("jsonb_set", &[T::JSONB, TEXTS, T::JSONB, T::BOOL], T::JSONB, |_, args| {
        set(args, boolean(&args[3])?, Edit::Replace)
    }),
    scalar("jsonb_insert", &[T::JSONB, TEXTS, T::JSONB], T::JSONB, |_, args| {
        set(args, true, Edit::Insert { after: false })
    }),
    scalar("jsonb_insert", &[T::JSONB, TEXTS, T::JSONB, T::BOOL], T::JSONB, |_, args| {
        set(args, true, Edit::Insert { after: boolean(&args[3])? })
    }),
];

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn document(value: Value) -> Datum {
    Datum::Jsonb(Arc::new(value))
}

fn found(value: Option<&Value>) -> Datum {
    value.map_or(Datum::Null, |value| document(value.clone()))
}

/// A string without its quotes, null as NULL, anything else as it prints.
pub(super) fn as_text(value: Option<&Value>) -> Datum {
    match value {
        None | Some(Value::Null) => Datum::Null,
        Some(Value::String(text)) => Datum::text(text),
        Some(value) => {
            let mut out = String::new();
            json::format(value, &mut out);
            Datum::text(out)
        }
    }
}

fn key<'a>(from: &'a Datum, wanted: &Datum) -> Result<Option<&'a Value>> {
    Ok(jsonb(from)?.as_object().and_then(|map| wanted.as_str().and_then(|wanted| map.get(wanted))))
}

fn index<'a>(from: &'a Datum, wanted: &Datum) -> Result<Option<&'a Value>> {
    let wanted = int4(wanted)?;
    Ok(jsonb(from)?.as_array().and_then(|items| items.get(position(items.len(), wanted.into())?)))
}

/// Negative positions count from the end.
fn position(length: usize, index: i64) -> Option<usize> {
    let index = if index < 0 { length as i64 + index } else { index };
    usize::try_from(index).ok()
}

/// The elements of a path; one that is NULL leads nowhere.
fn path(from: &Datum) -> Result<Vec<String>> {
    words(&array(from)?.elements)
}

fn words(items: &[Datum]) -> Result<Vec<String>> {
    items.iter().map(|item| if item.is_null() { Ok("\u{0}".into()) } else { Ok(string(item)?.to_owned()) }).collect()
}

fn borrow(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn walk<'a>(from: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(from, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(position(items.len(), step.trim().parse().ok()?)?),
        _ => None,
    })
}

fn contains(a: &Datum, b: &Datum) -> Result<bool> {
    Ok(json::contains(jsonb(a)?, jsonb(b)?))
}

fn has(document: &Value, key: &str) -> bool {
    match document {
        Value::Object(map) => map.contains_key(key),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(key)),
        Value::String(text) => text == key,
        _ => false,
    }
}

fn concatenate(a: &Value, b: &Value) -> Value {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().chain(b).map(|(key, value)| (key.clone(), value.clone()));
            json::object(pairs.collect())
        }
        _ => {
            let items = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            Value::Array(items(a).into_iter().chain(items(b)).collect())
        }
    }
}

fn without(from: &Value, keys: &[&str]) -> Result<Datum> {
    Ok(document(match from {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        Value::Array(items) => {
            let kept = items.iter().filter(|item| !item.as_str().is_some_and(|text| keys.contains(&text)));
            Value::Array(kept.cloned().collect())
        }
        _ => return Err(invalid("cannot delete from scalar")),
    }))
}

fn without_index(from: &Value, index: i32) -> Result<Datum> {
    match from {
        Value::Array(items) => {
            let mut items = items.clone();
            if let Some(at) = position(items.len(), index.into()).filter(|at| *at < items.len()) {
                items.remove(at);
            }
            Ok(document(Value::Array(items)))
        }
        Value::Object(_) => Err(invalid("cannot delete from object using integer index")),
        _ => Err(invalid("cannot delete from scalar")),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Edit {
    Replace,
    Insert { after: bool },
    Delete,
}

fn delete_path(from: &Datum, path_argument: &Datum) -> Result<Datum> {
    let from = jsonb(from)?;
    let steps = path(path_argument)?;
    if !from.is_object() && !from.is_array() {
        return Err(invalid("cannot delete path in scalar"));
    }
    let mut edited = Value::clone(from);
    edit(&mut edited, &steps, 1, None, false, Edit::Delete)?;
    Ok(document(edited))
}

fn set(args: &[Datum], create: bool, kind: Edit) -> Result<Datum> {
    let (from, steps, new) = (jsonb(&args[0])?, path(&args[1])?, jsonb(&args[2])?);
    if !from.is_object() && !from.is_array() {
        return Err(invalid("cannot set path in scalar"));
    }
    let mut edited = Value::clone(from);
    edit(&mut edited, &steps, 1, Some(new), create, kind)?;
    Ok(document(edited))
}

fn edit(
    value: &mut Value,
    steps: &[String],
    depth: usize,
    new: Option<&Value>,
    create: bool,
    kind: Edit,
) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    match value {
        Value::Object(map) if !rest.is_empty() => match map.get_mut(step) {
            Some(inner) => edit(inner, rest, depth + 1, new, create, kind),
            None => Ok(()),
        },
        Value::Object(map) => {
            let present = map.contains_key(step);
            match (kind, new) {
                (Edit::Delete, _) => {
                    map.shift_remove(step);
                }
                (Edit::Insert { .. }, _) if present => {
                    return Err(invalid("cannot replace existing key")
                        .with_hint("Try using the function jsonb_set to replace key value."));
                }
                (_, Some(new)) if present || create => {
                    let mut pairs: Vec<(String, Value)> = std::mem::take(map).into_iter().collect();
                    pairs.push((step.clone(), new.clone()));
                    *value = json::object(pairs);
                }
                _ => {}
            }
            Ok(())
        }
        Value::Array(items) => {
            let index: i64 = step.trim().parse().map_err(|_| {
                let message = format!("path element at position {depth} is not an integer: \"{step}\"");
                SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
            })?;
            let length = items.len() as i64;
            let at = if index < 0 { length + index } else { index };
            let inside = (0..length).contains(&at);
            if !rest.is_empty() {
                return match inside {
                    true => edit(&mut items[at as usize], rest, depth + 1, new, create, kind),
                    false => Ok(()),
                };
            }
            match (kind, new) {
                (Edit::Delete, _) if inside => {
                    items.remove(at as usize);
                }
                (Edit::Replace, Some(new)) if inside => items[at as usize] = new.clone(),
                (Edit::Insert { after }, Some(new)) if inside => {
                    items.insert(at as usize + usize::from(after), new.clone());
                }
                (Edit::Replace | Edit::Insert { .. }, Some(new)) if create => {
                    let at = if at < 0 { 0 } else { items.len() };
                    items.insert(at, new.clone());
                }
                _ => {}
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The text of the value at a path of a json, cut out of the whole; unquoted when `as_text`.
fn slice(from: &Datum, path: &[&str], as_text: bool) -> Result<Datum> {
    let mut rest = string(from)?.trim();
    for step in path {
        let next = match rest.as_bytes().first() {
            Some(b'{') => super::json::members(rest)?.into_iter().rev().find(|(key, _)| key == step).map(|pair| pair.1),
            Some(b'[') => {
                let items = super::json::items(rest)?;
                step.trim().parse().ok().and_then(|index| items.get(position(items.len(), index)?).copied())
            }
            _ => None,
        };
        match next {
            Some(next) => rest = next,
            None => return Ok(Datum::Null),
        }
    }
    finish(rest, as_text)
}

/// `json ->> key` looks into objects only.
fn slice_key(from: &Datum, key: &str) -> Result<Datum> {
    if string(from)?.trim().starts_with('{') { slice(from, &[key], true) } else { Ok(Datum::Null) }
}

fn element(from: &Datum, index: i32, as_text: bool) -> Result<Datum> {
    let text = string(from)?.trim();
    if !text.starts_with('[') {
        return Ok(Datum::Null);
    }
    let items = super::json::items(text)?;
    match position(items.len(), index.into()).and_then(|at| items.get(at)) {
        Some(item) => finish(item, as_text),
        None => Ok(Datum::Null),
    }
}

fn finish(text: &str, as_text: bool) -> Result<Datum> {
    Ok(match (as_text, text.as_bytes().first()) {
        (false, _) => Datum::Json(text.into()),
        (true, Some(b'"')) => match json::parse_jsonb(text)? {
            Value::String(text) => Datum::text(text),
            _ => Datum::Null,
        },
        (true, _) if text == "null" => Datum::Null,
        (true, _) => Datum::text(text),
    })
}
