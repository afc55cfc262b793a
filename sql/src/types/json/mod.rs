//! json and jsonb: validation, normalisation, printing, order, storage.
//!
//! A jsonb keeps object keys unique (the last wins) and sorted by length, then bytes, and numbers as exact
//! decimals in the form that numeric prints: two equal documents have one representation but for scales.

mod parse;
mod storage;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::{Map, Number, Value};

use super::Numeric;

pub use parse::{parse_jsonb, validate};
pub use storage::{decode, encode};

/// Nesting beyond which documents are refused: values are walked recursively.
pub const MAX_DEPTH: usize = 1_000;

/// The number as jsonb keeps it.
pub fn number(value: &Numeric) -> Value {
    Value::Number(Number::from_string_unchecked(value.to_string()))
}

/// The exact value of a number of a jsonb.
pub fn to_numeric(number: &Number) -> Numeric {
    Numeric::parse(number.as_str()).unwrap_or_default()
}

/// An object of pairs in any order; the last of equal keys wins.
pub fn object(mut pairs: Vec<(String, Value)>) -> Value {
    pairs.sort_by(|a, b| compare_keys(&a.0, &b.0));
    let mut map = Map::with_capacity(pairs.len());
    for (key, value) in pairs {
        map.insert(key, value);
    }
    Value::Object(map)
}

/// Keys go by length, then by bytes.
pub fn compare_keys(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// Appends the document as jsonb prints it: `{"a": 1, "b": [1, 2]}`.
pub fn format(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number.as_str()),
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                format(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                quote(key, out);
                out.push_str(": ");
                format(item, out);
            }
            out.push('}');
        }
    }
}

/// Appends the document over several lines, as `jsonb_pretty` prints it.
pub fn format_pretty(value: &Value, indent: usize, out: &mut String) {
    let line = |out: &mut String, indent: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    };
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, indent + 4);
                format_pretty(item, indent + 4, out);
            }
            line(out, indent);
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(out, indent + 4);
                quote(key, out);
                out.push_str(": ");
                format_pretty(item, indent + 4, out);
            }
            line(out, indent);
            out.push('}');
        }
        scalar => format(scalar, out),
    }
}

/// Appends a JSON string literal.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The btree order of jsonb: object > array > boolean > number > string > null; containers by size first.
/// At the top, the empty array comes before everything, as in PostgreSQL.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    match (empty(a), empty(b)) {
        (false, false) => compare_nested(a, b),
        (a, b) => b.cmp(&a),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Number(_) => 2,
        Value::Bool(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn compare_nested(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Number(a), Value::Number(b)) => to_numeric(a).cmp(&to_numeric(b)),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            let difference = a.iter().zip(b).map(|(a, b)| compare_nested(a, b)).find(|order| order.is_ne());
            difference.unwrap_or(Ordering::Equal)
        }),
        (Value::Object(a), Value::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b);
            let mut orders =
                pairs.map(|((x, a), (y, b))| x.as_bytes().cmp(y.as_bytes()).then_with(|| compare_nested(a, b)));
            orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Hashes a document; equal documents hash alike.
pub fn hash<H: Hasher>(value: &Value, state: &mut H) {
    state.write_u8(rank(value));
    match value {
        Value::Null => {}
        Value::Bool(value) => value.hash(state),
        Value::Number(number) => to_numeric(number).hash(state),
        Value::String(text) => text.hash(state),
        Value::Array(items) => {
            state.write_usize(items.len());
            items.iter().for_each(|item| hash(item, state));
        }
        Value::Object(map) => {
            state.write_usize(map.len());
            map.iter().for_each(|(key, item)| {
                key.hash(state);
                hash(item, state);
            });
        }
    }
}

/// Whether `a @> b`.
pub fn contains(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            b.iter().all(|(key, wanted)| a.get(key).is_some_and(|found| contains_nested(found, wanted)))
        }
        (Value::Array(a), Value::Array(b)) => {
            b.iter().all(|wanted| a.iter().any(|found| contains_nested(found, wanted)))
        }
        // An array may contain a bare scalar.
        (Value::Array(a), scalar) if rank(scalar) < 4 => a.iter().any(|found| compare_nested(found, scalar).is_eq()),
        _ => compare_nested(a, b).is_eq(),
    }
}

fn contains_nested(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => contains(a, b),
        _ => compare_nested(a, b).is_eq(),
    }
}

/// Rough bytes held by a document.
pub fn heap_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) => 0,
            Value::Number(number) => number.as_str().len(),
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(heap_bytes).sum(),
            Value::Object(map) => map.iter().map(|(key, item)| 64 + key.len() + heap_bytes(item)).sum(),
        }
}
