//! Text: concatenation, LIKE, regular expressions, prefixes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use regex::Regex;

use super::super::{EvalContext, ScalarFunction};
use super::{mistyped, operator};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum};

fn texts<'a>(name: &str, args: &'a [Datum]) -> Result<(&'a str, &'a str)> {
    match (args[0].as_str(), args[1].as_str()) {
        (Some(left), Some(right)) => Ok((left, right)),
        _ => Err(mistyped(name, args)),
    }
}

fn concatenate(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = texts("||", args)?;
    Ok(Datum::Text([left, right].concat().into()))
}

fn concatenate_bytes(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Bytea(left), Datum::Bytea(right)] => Ok(Datum::Bytea([&left[..], &right[..]].concat().into())),
        _ => Err(mistyped("||", args)),
    }
}

#[cold]
fn ends_with_escape() -> SqlError {
    SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "LIKE pattern must not end with escape character")
}

/// LIKE: `%` any text, `_` any character, backslash makes the next character literal. Byte-wise and greedy
/// over the last `%`, so that the time is at most the product of both lengths and no memory is needed.
pub fn like(text: &str, pattern: &str) -> Result<bool> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut wanted) = (0, 0);
    // Where to go on when a character does not fit: behind the last `%`, one character further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match pattern.get(wanted) {
            Some(b'%') => {
                wanted += 1;
                if wanted == pattern.len() {
                    return Ok(true);
                }
                retry = Some((at, wanted));
                continue;
            }
            Some(b'_') if at < text.len() => {
                at += character_bytes(text[at]);
                wanted += 1;
                true
            }
            Some(b'\\') => {
                let literal = *pattern.get(wanted + 1).ok_or_else(ends_with_escape)?;
                let fits = text.get(at) == Some(&literal);
                if fits {
                    at += 1;
                    wanted += 2;
                }
                fits
            }
            Some(literal) => {
                let fits = *literal != b'_' && text.get(at) == Some(literal);
                if fits {
                    at += 1;
                    wanted += 1;
                }
                fits
            }
            None if at == text.len() => return Ok(true),
            None => false,
        };
        if fits {
            continue;
        }
        match &mut retry {
            Some((from, after)) if *from < text.len() => {
                *from += character_bytes(text[*from]);
                (at, wanted) = (*from, *after);
            }
            _ => return Ok(false),
        }
    }
}

/// Length of the UTF-8 character that begins with this byte.
fn character_bytes(first: u8) -> usize {
    match first {
        0..=0xBF => 1,
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
    }
}

fn ilike(text: &str, pattern: &str) -> Result<bool> {
    like(&text.to_lowercase(), &pattern.to_lowercase())
}

/// A compiled regular expression, with Postgres' syntax brought to the crate's. Compiled ones are kept.
pub fn regular_expression(pattern: &str, ignore_case: bool) -> Result<Arc<Regex>> {
    const KEPT: usize = 256;
    type Compiled = HashMap<(String, bool), Arc<Regex>>;
    static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
    let key = (pattern.to_owned(), ignore_case);
    if let Some(found) = COMPILED.lock().as_ref().and_then(|compiled| compiled.get(&key)) {
        return Ok(found.clone());
    }
    // Postgres' embedded options and class shorthands agree with the crate's for what is common: (?i), \d,
    // \w, \s, [[:alpha:]], \y is its word boundary.
    let translated = pattern.replace("\\y", "\\b").replace("\\m", "\\b{start}").replace("\\M", "\\b{end}");
    let regex = regex::RegexBuilder::new(translated.strip_prefix("***:").unwrap_or(&translated))
        .case_insensitive(ignore_case)
        .dot_matches_new_line(true)
        .size_limit(8 << 20)
        .build()
        .map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("unknown").trim_start_matches("error: ").to_owned();
            SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
        })?;
    let regex = Arc::new(regex);
    let mut compiled = COMPILED.lock();
    let compiled = compiled.get_or_insert_default();
    if compiled.len() >= KEPT {
        compiled.clear();
    }
    compiled.insert(key, regex.clone());
    Ok(regex)
}

macro_rules! matchers {
    ($($name:ident($symbol:literal) = |$text:ident, $pattern:ident| $body:expr;)*) => {
        $(fn $name(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let ($text, $pattern) = texts($symbol, args)?;
            Ok(Datum::Bool($body))
        })*
    };
}

matchers! {
    is_like("~~") = |text, pattern| like(text, pattern)?;
    is_not_like("!~~") = |text, pattern| !like(text, pattern)?;
    is_ilike("~~*") = |text, pattern| ilike(text, pattern)?;
    is_not_ilike("!~~*") = |text, pattern| !ilike(text, pattern)?;
    matches("~") = |text, pattern| regular_expression(pattern, false)?.is_match(text);
    matches_not("!~") = |text, pattern| !regular_expression(pattern, false)?.is_match(text);
    matches_ignoring_case("~*") = |text, pattern| regular_expression(pattern, true)?.is_match(text);
    matches_not_ignoring_case("!~*") = |text, pattern| !regular_expression(pattern, true)?.is_match(text);
    starts_with("^@") = |text, prefix| text.starts_with(prefix);
}

macro_rules! text_operators {
    ($($symbol:literal $function:ident;)*) => {
        /// Text operators. `anything || text` is resolved by the binder's cast to text.
        pub const OPERATORS: &[ScalarFunction] = &[
            operator("||", &[DataType::TEXT, DataType::TEXT], DataType::TEXT, concatenate),
            operator("||", &[DataType::BYTEA, DataType::BYTEA], DataType::BYTEA, concatenate_bytes),
            $(operator($symbol, &[DataType::TEXT, DataType::TEXT], DataType::BOOL, $function),)*
            $(operator($symbol, &[DataType::BPCHAR, DataType::TEXT], DataType::BOOL, $function),)*
            $(operator($symbol, &[DataType::NAME, DataType::TEXT], DataType::BOOL, $function),)*
        ];
    };
}

text_operators! {
    "~~" is_like;
    "!~~" is_not_like;
    "~~*" is_ilike;
    "!~~*" is_not_ilike;
    "~" matches;
    "!~" matches_not;
    "~*" matches_ignoring_case;
    "!~*" matches_not_ignoring_case;
    "^@" starts_with;
}
