//! Arrays, the catalog's vectors, and records.

use std::fmt::Write;
use std::sync::Arc;

use super::{format, parse};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{Array, BaseType, DataType, Datum};

const MAX_DIMENSIONS: usize = 6;

fn malformed(text: &str, detail: &str) -> SqlError {
    let error = SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""));
    error.with_detail(detail)
}

/// Reads `{1,NULL,"a b"}`, nested for more dimensions, bounds before it: `[0:1]={1,2}`.
pub fn parse_array(text: &str, data_type: DataType, context: &EvalContext) -> Result<Datum> {
    let element = data_type.element().unwrap_or(data_type);
    let mut rest = text.trim();
    let mut bounds = Vec::new();
    while let Some(after) = rest.strip_prefix('[') {
        let missing = || malformed(text, "Missing array dimension value.");
        let (inside, after) = after.split_once(']').ok_or_else(missing)?;
        let (lower, upper) = inside.split_once(':').unwrap_or(("1", inside));
        let number = |part: &str| part.trim().parse::<i32>().map_err(|_| missing());
        let (lower, upper) = (number(lower)?, number(upper)?);
        if upper < lower {
            let message = "upper bound cannot be less than lower bound";
            return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
        }
        bounds.push(((i64::from(upper) - i64::from(lower) + 1) as u32, lower));
        rest = after.trim_start();
    }
    if !bounds.is_empty() {
        rest = rest
            .strip_prefix('=')
            .ok_or_else(|| malformed(text, "Missing \"=\" after array dimensions."))?
            .trim_start();
    }
    if !rest.starts_with('{') {
        let detail = match bounds.is_empty() {
            true => "Array value must start with \"{\" or dimension information.",
            false => "Array contents must start with \"{\".",
        };
        return Err(malformed(text, detail));
    }
    let mut parser =
        Parser { text, rest, element, context, elements: Vec::new(), lengths: Vec::new(), leaf_depth: None };
    parser.list(0)?;
    if !parser.rest.trim().is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Parser { elements, lengths, .. } = parser;
    if elements.is_empty() {
        return Ok(Datum::Array(Arc::new(Array { element, dimensions: Vec::new(), elements })));
    }
    let lengths: Vec<u32> = lengths.into_iter().map(|length| length.unwrap_or(0)).collect();
    let dimensions = match bounds.is_empty() {
        true => lengths.iter().map(|length| (*length, 1)).collect(),
        false if bounds.iter().map(|bound| bound.0).eq(lengths.iter().copied()) => bounds,
        false => return Err(malformed(text, "Specified array dimensions do not match array contents.")),
    };
    Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    element: DataType,
    context: &'a EvalContext,
    elements: Vec<Datum>,
    /// Length of each dimension, once its first list is complete.
    lengths: Vec<Option<u32>>,
    /// Depth of the lists that hold elements.
    leaf_depth: Option<usize>,
}

impl<'a> Parser<'a> {
    fn malformed(&self, detail: &str) -> SqlError {
        malformed(self.text, detail)
    }

    /// A list from its `{` to its `}`.
    fn list(&mut self, depth: usize) -> Result<()> {
        if depth >= MAX_DIMENSIONS {
            let message = format!("number of array dimensions ({}) exceeds the maximum allowed (6)", depth + 1);
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        if self.lengths.len() <= depth {
            self.lengths.push(None);
        }
        self.rest = self.rest[1..].trim_start();
        let mut count = 0u32;
        if let Some(after) = self.rest.strip_prefix('}') {
            if depth > 0 {
                return Err(self.unexpected('}'));
            }
            self.rest = after;
            return self.close(depth, count);
        }
        loop {
            if self.rest.starts_with('{') {
                if self.leaf_depth.is_some_and(|leaf| leaf <= depth) {
                    return Err(self.unexpected('{'));
                }
                self.list(depth + 1)?;
            } else {
                if self.leaf_depth.is_some_and(|leaf| leaf != depth) || self.lengths.len() > depth + 1 {
                    return Err(self.ragged());
                }
                self.leaf_depth = Some(depth);
                let element = self.item()?;
                self.elements.push(element);
            }
            count += 1;
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                Some(',') => {
                    self.rest = self.rest[1..].trim_start();
                    if self.rest.starts_with('}') {
                        return Err(self.unexpected('}'));
                    }
                }
                Some('}') => {
                    self.rest = &self.rest[1..];
                    return self.close(depth, count);
                }
                Some(other) => return Err(self.unexpected(other)),
                None => return Err(self.malformed("Unexpected end of input.")),
            }
        }
    }

    fn close(&mut self, depth: usize, count: u32) -> Result<()> {
        match self.lengths[depth].replace(count) {
            Some(before) if before != count => Err(self.ragged()),
            _ => Ok(()),
        }
    }

    fn ragged(&self) -> SqlError {
        self.malformed("Multidimensional arrays must have sub-arrays with matching dimensions.")
    }

    fn unexpected(&self, character: char) -> SqlError {
        self.malformed(&format!("Unexpected \"{character}\" character."))
    }

    fn item(&mut self) -> Result<Datum> {
        let mut value = String::new();
        let quoted = self.rest.starts_with('"');
        if quoted {
            let mut characters = self.rest[1..].char_indices();
            loop {
                match characters.next() {
                    Some((at, '"')) => {
                        self.rest = &self.rest[at + 2..];
                        break;
                    }
                    Some((_, '\\')) => match characters.next() {
                        Some((_, escaped)) => value.push(escaped),
                        None => return Err(self.malformed("Unexpected end of input.")),
                    },
                    Some((_, character)) => value.push(character),
                    None => return Err(self.malformed("Unexpected end of input.")),
                }
            }
        } else {
            let (mut characters, mut kept, mut escaped) = (self.rest.char_indices(), 0, false);
            let end = loop {
                match characters.next() {
                    Some((at, ',' | '}')) => break at,
                    Some((_, character @ ('{' | '"'))) => return Err(self.unexpected(character)),
                    Some((_, '\\')) => match characters.next() {
                        Some((_, character)) => {
                            value.push(character);
                            (kept, escaped) = (value.len(), true);
                        }
                        None => return Err(self.malformed("Unexpected end of input.")),
                    },
                    Some((_, character)) => {
                        value.push(character);
                        if !character.is_ascii_whitespace() {
                            kept = value.len();
                        }
                    }
                    None => return Err(self.malformed("Unexpected end of input.")),
                }
            };
            self.rest = &self.rest[end..];
            value.truncate(kept);
            if value.is_empty() && !escaped {
                let next = self.rest.chars().next().unwrap_or('}');
                return Err(self.unexpected(next));
            }
            if value.eq_ignore_ascii_case("null") && !escaped {
                return Ok(Datum::Null);
            }
        }
        parse(&value, self.element, self.context)
    }
}

/// Appends an array whose elements are of a type.
pub fn format_array(array: &Array, element: DataType, context: &EvalContext, out: &mut String) {
    if array.dimensions.is_empty() {
        return out.push_str("{}");
    }
    if array.dimensions.iter().any(|(_, lower)| *lower != 1) {
        for (length, lower) in &array.dimensions {
            let _ = write!(out, "[{lower}:{}]", i64::from(*lower) + i64::from(*length) - 1);
        }
        out.push('=');
    }
    let mut elements = array.elements.iter();
    put_list(&array.dimensions, &mut elements, element, context, out);
}

fn put_list<'d>(
    dimensions: &[(u32, i32)],
    elements: &mut impl Iterator<Item = &'d Datum>,
    element: DataType,
    context: &EvalContext,
    out: &mut String,
) {
    let Some(((length, _), inner)) = dimensions.split_first() else { return };
    out.push('{');
    for index in 0..*length {
        if index > 0 {
            out.push(',');
        }
        if !inner.is_empty() {
            put_list(inner, elements, element, context, out);
            continue;
        }
        match elements.next() {
            None | Some(Datum::Null) => out.push_str("NULL"),
            Some(value) => put_quoted(value, element, context, out),
        }
    }
    out.push('}');
}

fn put_quoted(value: &Datum, element: DataType, context: &EvalContext, out: &mut String) {
    let start = out.len();
    format(value, element, context, out);
    let special = |byte: u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b'\x0b') || byte.is_ascii_whitespace();
    let text = &out[start..];
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.bytes().any(special) {
        return;
    }
    let text = out.split_off(start);
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

/// Appends `(1,,"a b")`.
pub fn format_record(items: &[Datum], context: &EvalContext, out: &mut String) {
    out.push('(');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if item.is_null() {
            continue;
        }
        let start = out.len();
        format(item, item.natural_type(), context, out);
        let special =
            |byte: u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',' | b'\x0b') || byte.is_ascii_whitespace();
        if out.len() > start && !out[start..].bytes().any(special) {
            continue;
        }
        let text = out.split_off(start);
        out.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                out.push(character);
            }
            out.push(character);
        }
        out.push('"');
    }
    out.push(')');
}

/// int2vector and oidvector: numbers between blanks, subscripts from 0.
pub(super) fn parse_vector(text: &str, data_type: DataType, context: &EvalContext) -> Result<Datum> {
    let element = data_type.element().unwrap_or(DataType::new(BaseType::Oid));
    let elements: Result<Vec<Datum>> =
        text.split_ascii_whitespace().map(|item| parse(item, element, context)).collect();
    let elements = elements?;
    let dimensions = vec![(elements.len() as u32, 0)];
    Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
}

pub(super) fn format_vector(array: &Array, context: &EvalContext, out: &mut String) {
    for (index, item) in array.elements.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        format(item, array.element, context, out);
    }
}
