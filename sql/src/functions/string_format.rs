//! `format()`: `%s`, `%I`, `%L`, `%%`, with position, `-` and width.

use super::EvalContext;
use super::define::{int8, string};
use super::string::quote_literal;
use crate::error::{Result, SqlError, SqlState};
use crate::types::Datum;
use crate::types::text::{self, quote_identifier};

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Fills the arguments into the pattern.
pub(super) fn format(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() {
        return Ok(Datum::Null);
    }
    let (mut rest, mut out, mut next) = (string(&args[0])?, String::new(), 1usize);
    let unterminated = || invalid("unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".");
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut position = None;
        let (number, after) = leading_number(rest);
        if let (Some(number), Some(after)) = (number, after.strip_prefix('$')) {
            if number == 0 {
                return Err(invalid("format specifies argument 0, but arguments are numbered from 1"));
            }
            (position, rest) = (Some(number), after);
        }
        let mut left = false;
        while let Some(after) = rest.strip_prefix('-') {
            (left, rest) = (true, after);
        }
        let mut width = 0i64;
        if let Some(mut after) = rest.strip_prefix('*') {
            let (number, tail) = leading_number(after);
            let index = match (number, tail.strip_prefix('$')) {
                (Some(number), Some(tail)) => {
                    after = tail;
                    number
                }
                _ => {
                    next += 1;
                    next - 1
                }
            };
            width = match argument(args, index)? {
                Datum::Null => 0,
                value => int8(value)?,
            };
            rest = after;
        } else if let (Some(number), after) = leading_number(rest) {
            (width, rest) = (number as i64, after);
        }
        let conversion = rest.chars().next().ok_or_else(unterminated)?;
        rest = &rest[conversion.len_utf8()..];
        if !matches!(conversion, 's' | 'I' | 'L') {
            let error = invalid(format!("unrecognized format() type specifier \"{conversion}\""));
            return Err(error.with_hint("For a single \"%\" use \"%%\"."));
        }
        let index = position.unwrap_or(next);
        next = index + 1;
        let value = argument(args, index)?;
        let plain = || text::to_string(value, value.natural_type(), context);
        let piece = match (conversion, value.is_null()) {
            ('s', _) => plain(),
            ('I', true) => {
                let message = "null values cannot be formatted as an SQL identifier";
                return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
            }
            ('I', false) => quote_identifier(&plain()),
            (_, true) => "NULL".into(),
            (_, false) => quote_literal(&plain()),
        };
        let missing = (width.unsigned_abs() as usize).saturating_sub(piece.chars().count());
        let spaces = std::iter::repeat_n(' ', missing.min(1 << 20));
        if left || width < 0 {
            out.push_str(&piece);
            out.extend(spaces);
        } else {
            out.extend(spaces);
            out.push_str(&piece);
        }
    }
    out.push_str(rest);
    Ok(Datum::text(out))
}

fn argument(args: &[Datum], index: usize) -> Result<&Datum> {
    args.get(index).ok_or_else(|| invalid("too few arguments for format()"))
}

fn leading_number(text: &str) -> (Option<usize>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (text[..digits].parse().ok(), &text[digits..])
}
