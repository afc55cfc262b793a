//! Functions of regular expressions.

use std::sync::Arc;

use regex::{Captures, Regex};

use super::define::{int4, scalar, string};
use super::{EvalContext, FunctionRows, ScalarFunction, TableFunction, regular_expression};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, BaseType, DataType as T, Datum, Row};

const TEXTS: T = T::array_of(BaseType::Text);

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("substring", &[T::TEXT, T::TEXT], T::TEXT, |_, args| {
        let regex = regular_expression(string(&args[1])?, false)?;
        Ok(regex.captures(string(&args[0])?).map_or(Datum::Null, |found| first_group(&found)))
    }),
    scalar("similar_to_escape", &[T::TEXT], T::TEXT, |_, args| similar(string(&args[0])?, Some('\\'))),
    scalar("similar_to_escape", &[T::TEXT, T::TEXT], T::TEXT, |_, args| {
        let mut escape = string(&args[1])?.chars();
        match (escape.next(), escape.next()) {
            (escape, None) => similar(string(&args[0])?, escape),
            _ => Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                .with_hint("Escape string must be empty or one character.")),
        }
    }),
    scalar("regexp_replace", &[T::TEXT, T::TEXT, T::TEXT], T::TEXT, |_, args| replace(args, "")),
    scalar("regexp_replace", &[T::TEXT, T::TEXT, T::TEXT, T::TEXT], T::TEXT, |_, args| {
        replace(args, string(&args[3])?)
    }),
    scalar("regexp_match", &[T::TEXT, T::TEXT], TEXTS, |_, args| single_match(args, "")),
    scalar("regexp_match", &[T::TEXT, T::TEXT, T::TEXT], TEXTS, |_, args| single_match(args, string(&args[2])?)),
    scalar("regexp_like", &[T::TEXT, T::TEXT], T::BOOL, |_, args| {
        Ok(Datum::Bool(compile(&args[1], "")?.0.is_match(string(&args[0])?)))
    }),
    scalar("regexp_like", &[T::TEXT, T::TEXT, T::TEXT], T::BOOL, |_, args| {
        Ok(Datum::Bool(compile(&args[1], string(&args[2])?)?.0.is_match(string(&args[0])?)))
    }),
    scalar("regexp_count", &[T::TEXT, T::TEXT], T::INT4, |_, args| {
        Ok(Datum::Int4(compile(&args[1], "")?.0.find_iter(string(&args[0])?).count() as i32))
    }),
    scalar("regexp_count", &[T::TEXT, T::TEXT, T::INT4], T::INT4, |_, args| {
        let (text, start) = (string(&args[0])?, int4(&args[2])?);
        if start <= 0 {
            let message = format!("invalid value for parameter \"start\": {start}");
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let at = text.char_indices().nth(start as usize - 1).map_or(text.len(), |(at, _)| at);
        Ok(Datum::Int4(compile(&args[1], "")?.0.find_iter(&text[at..]).count() as i32))
    }),
    scalar("regexp_substr", &[T::TEXT, T::TEXT], T::TEXT, |_, args| {
        Ok(compile(&args[1], "")?.0.find(string(&args[0])?).map_or(Datum::Null, |found| Datum::text(found.as_str())))
    }),
    scalar("regexp_split_to_array", &[T::TEXT, T::TEXT], TEXTS, |_, args| {
        Ok(texts(split(string(&args[0])?, &compile(&args[1], "")?.0)))
    }),
    scalar("regexp_split_to_array", &[T::TEXT, T::TEXT, T::TEXT], TEXTS, |_, args| {
        Ok(texts(split(string(&args[0])?, &compile(&args[1], string(&args[2])?)?.0)))
    }),
];

/// A pattern of SIMILAR TO as a regular expression.
fn similar(pattern: &str, escape: Option<char>) -> Result<Datum> {
    let mut out = String::from("^(?:");
    let (mut chars, mut in_brackets) = (pattern.chars(), false);
    while let Some(next) = chars.next() {
        match next {
            _ if Some(next) == escape => {
                if let Some(escaped) = chars.next() {
                    if !escaped.is_alphanumeric() {
                        out.push('\\');
                    }
                    out.push(escaped);
                }
            }
            '[' | ']' => {
                in_brackets = next == '[';
                out.push(next);
            }
            _ if in_brackets => {
                if next == '\\' {
                    out.push('\\');
                }
                out.push(next);
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => {
                out.push('\\');
                out.push(next);
            }
            _ => out.push(next),
        }
    }
    out.push_str(")$");
    Ok(Datum::text(out))
}

/// The set-returning ones.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[
    TableFunction {
        name: "regexp_matches",
        args: &[T::TEXT, T::TEXT],
        columns: &[("regexp_matches", TEXTS)],
        open: matches,
    },
    TableFunction {
        name: "regexp_matches",
        args: &[T::TEXT, T::TEXT, T::TEXT],
        columns: &[("regexp_matches", TEXTS)],
        open: matches,
    },
    TableFunction {
        name: "regexp_split_to_table",
        args: &[T::TEXT, T::TEXT],
        columns: &[("regexp_split_to_table", T::TEXT)],
        open: split_to_table,
    },
    TableFunction {
        name: "regexp_split_to_table",
        args: &[T::TEXT, T::TEXT, T::TEXT],
        columns: &[("regexp_split_to_table", T::TEXT)],
        open: split_to_table,
    },
];

fn texts(parts: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(Array::one_dimensional(T::TEXT, parts)))
}

/// The expression with its flags, and whether all matches are meant.
fn compile(pattern: &Datum, flags: &str) -> Result<(Arc<Regex>, bool)> {
    let (mut inline, mut ignore_case, mut all) = (String::new(), false, false);
    for flag in flags.chars() {
        match flag {
            'g' => all = true,
            'i' => ignore_case = true,
            'c' => ignore_case = false,
            // Newlines end what "." and negated sets match, and lines what "^" and "$" do.
            'n' | 'm' => inline.push_str("(?m-s)"),
            'p' => inline.push_str("(?-s)"),
            'w' => inline.push_str("(?m)"),
            's' => inline.push_str("(?s)"),
            'x' => inline.push_str("(?x)"),
            't' | 'b' | 'e' | 'q' => {}
            other => {
                let message = format!("invalid regular expression option: \"{other}\"");
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        }
    }
    let pattern = string(pattern)?;
    let pattern = if flags.contains('q') { regex::escape(pattern) } else { pattern.to_owned() };
    Ok((regular_expression(&format!("{inline}{pattern}"), ignore_case)?, all))
}

fn first_group(found: &Captures<'_>) -> Datum {
    let group = if found.len() > 1 { found.get(1) } else { found.get(0) };
    group.map_or(Datum::Null, |group| Datum::text(group.as_str()))
}

fn groups(found: &Captures<'_>) -> Datum {
    let first = if found.len() > 1 { 1 } else { 0 };
    let group = |index| found.get(index).map_or(Datum::Null, |group| Datum::text(group.as_str()));
    texts((first..found.len()).map(group).collect())
}

fn single_match(args: &[Datum], flags: &str) -> Result<Datum> {
    if flags.contains('g') {
        let error =
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "regexp_match() does not support the \"global\" option");
        return Err(error.with_hint("Use the regexp_matches function instead."));
    }
    let (regex, _) = compile(&args[1], flags)?;
    Ok(regex.captures(string(&args[0])?).map_or(Datum::Null, |found| groups(&found)))
}

/// `\1` to `\9` are groups, `\&` the whole match, `\\` a backslash.
fn replace(args: &[Datum], flags: &str) -> Result<Datum> {
    let (regex, all) = compile(&args[1], flags)?;
    let replacement = string(&args[2])?;
    let fill = |found: &Captures<'_>| {
        let mut out = String::new();
        let mut characters = replacement.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                out.push(character);
                continue;
            }
            match characters.next() {
                Some('&') => out.push_str(found.get(0).map_or("", |group| group.as_str())),
                Some(digit @ '1'..='9') => {
                    let index = digit as usize - '0' as usize;
                    out.push_str(found.get(index).map_or("", |group| group.as_str()));
                }
                Some('\\') | None => out.push('\\'),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
            }
        }
        out
    };
    let text = string(&args[0])?;
    let replaced = if all { regex.replace_all(text, fill) } else { regex.replace(text, fill) };
    Ok(Datum::text(replaced))
}

/// Empty matches at the ends, or right after another match, do not split.
fn split(text: &str, regex: &Regex) -> Vec<Datum> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for found in regex.find_iter(text) {
        if found.is_empty() && (found.start() == from || found.end() == text.len()) {
            continue;
        }
        parts.push(Datum::text(&text[from..found.start()]));
        from = found.end();
    }
    parts.push(Datum::text(&text[from..]));
    parts
}

fn flags(args: &[Datum]) -> Result<&str> {
    args.get(2).map_or(Ok(""), string)
}

fn matches(_: &EvalContext, args: &[Datum]) -> Result<FunctionRows> {
    if args.iter().any(Datum::is_null) {
        return Ok(Box::new(std::iter::empty()));
    }
    let (regex, all) = compile(&args[1], flags(args)?)?;
    let limit = if all { usize::MAX } else { 1 };
    let rows: Vec<Result<Row>> =
        regex.captures_iter(string(&args[0])?).take(limit).map(|found| Ok(vec![groups(&found)])).collect();
    Ok(Box::new(rows.into_iter()))
}

fn split_to_table(_: &EvalContext, args: &[Datum]) -> Result<FunctionRows> {
    if args.iter().any(Datum::is_null) {
        return Ok(Box::new(std::iter::empty()));
    }
    let (regex, _) = compile(&args[1], flags(args)?)?;
    Ok(Box::new(split(string(&args[0])?, &regex).into_iter().map(|part| Ok(vec![part]))))
}
