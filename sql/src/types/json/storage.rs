//! jsonb in rows.
//!
//! ```text
//! value   = tag, content
//! tag     0 null · 1 false · 2 true · 3 number: text · 4 string: text · 5 array: count, value* · 6 object: count, (text, value)*
//! text    = length, UTF-8 bytes;   length and count: unsigned LEB128, at most 5 bytes
//! ```

use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const STRING: u8 = 4;
const ARRAY: u8 = 5;
const OBJECT: u8 = 6;

/// Appends the document.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Number(number) => {
            out.push(NUMBER);
            put_text(number.as_str(), out);
        }
        Value::String(text) => {
            out.push(STRING);
            put_text(text, out);
        }
        Value::Array(items) => {
            out.push(ARRAY);
            put_length(items.len(), out);
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Object(map) => {
            out.push(OBJECT);
            put_length(map.len(), out);
            for (key, item) in map {
                put_text(key, out);
                encode(item, out);
            }
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Reads a document that takes all of `bytes`; `None` when it is malformed.
pub fn decode(mut bytes: &[u8]) -> Option<Value> {
    let value = take_value(&mut bytes, 0)?;
    bytes.is_empty().then_some(value)
}

fn take_value(bytes: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (tag, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match *tag {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        NUMBER => Value::Number(Number::from_string_unchecked(take_text(bytes)?.into())),
        STRING => Value::String(take_text(bytes)?.into()),
        ARRAY => {
            let count = take_length(bytes)?;
            let mut items = Vec::with_capacity(count.min(bytes.len()));
            for _ in 0..count {
                items.push(take_value(bytes, depth + 1)?);
            }
            Value::Array(items)
        }
        OBJECT => {
            let count = take_length(bytes)?;
            let mut map = Map::with_capacity(count.min(bytes.len()));
            for _ in 0..count {
                let key = take_text(bytes)?.to_owned();
                map.insert(key, take_value(bytes, depth + 1)?);
            }
            Value::Object(map)
        }
        _ => return None,
    })
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_length(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}
