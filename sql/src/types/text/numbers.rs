//! Integers and floats.

use super::invalid_input;
use crate::error::{Result, SqlError, SqlState};

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// Reads a decimal integer with white space around; 22003 when it is one that does not fit.
pub fn parse_integer<T: std::str::FromStr>(text: &str, type_name: &str) -> Result<T> {
    let trimmed = text.trim_matches(is_space);
    if let Ok(value) = trimmed.parse() {
        return Ok(value);
    }
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_input(type_name, text));
    }
    let message = format!("value \"{text}\" is out of range for type {type_name}");
    Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
}

/// Reads an OID; negative numbers wrap around, as strtoul has it.
pub(super) fn parse_oid(text: &str, type_name: &str) -> Result<u32> {
    let value: i64 = parse_integer(text, type_name)?;
    if value < i64::from(i32::MIN) || value > i64::from(u32::MAX) {
        let message = format!("value \"{text}\" is out of range for type {type_name}");
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    Ok(value as u32)
}

macro_rules! floats {
    ($($parse:ident, $float:ty, $name:literal);* $(;)?) => {
        $(
            #[doc = concat!("Reads a ", $name, "; 22003 when it overflows or vanishes.")]
            pub fn $parse(text: &str) -> Result<$float> {
                let trimmed = text.trim_matches(is_space);
                let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
                if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                    return special(trimmed).map(|value| value as $float).ok_or_else(|| invalid_input($name, text));
                }
                let value: $float = trimmed.parse().map_err(|_| invalid_input($name, text))?;
                let mantissa = digits.split(['e', 'E']).next().unwrap_or(digits);
                let vanished = value == 0.0 && mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
                if value.is_infinite() || vanished {
                    let message = format!("\"{trimmed}\" is out of range for type {}", $name);
                    return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
                }
                Ok(value)
            }
        )*
    };
}

floats! {
    parse_float4, f32, "real";
    parse_float8, f64, "double precision";
}

fn special(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "infinity" | "inf" | "+infinity" | "+inf" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Appends a double: the shortest text that reads back as it, or rounded when `extra_float_digits` is below 1.
pub fn format_float8(value: f64, extra_float_digits: i32, out: &mut String) {
    if put_special(value, out) {
        return;
    }
    if extra_float_digits <= 0 {
        return put_rounded(value, (15 + extra_float_digits).max(1) as usize, out);
    }
    let text = format!("{value:e}");
    put_shortest(&text, 15, out);
}

/// Appends a real, as [`format_float8`].
pub fn format_float4(value: f32, extra_float_digits: i32, out: &mut String) {
    if put_special(value.into(), out) {
        return;
    }
    if extra_float_digits <= 0 {
        return put_rounded(value.into(), (6 + extra_float_digits).max(1) as usize, out);
    }
    let text = format!("{value:e}");
    put_shortest(&text, 6, out);
}

fn put_special(value: f64, out: &mut String) -> bool {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        return false;
    }
    true
}

/// `%.{digits}g` of C.
fn put_rounded(value: f64, digits: usize, out: &mut String) {
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    put_shortest(&format!("{mantissa}e{exponent}"), digits as i32, out);
}

/// From `d.ddde±x` to fixed notation, unless the exponent is below -4 or not below `limit`.
fn put_shortest(scientific: &str, limit: i32, out: &mut String) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()));
        return;
    }
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{first}{rest}");
    if negative {
        out.push('-');
    }
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
        out.push_str(&digits);
        return;
    }
    let integer_digits = exponent as usize + 1;
    if digits.len() <= integer_digits {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', integer_digits - digits.len()));
    } else {
        out.push_str(&digits[..integer_digits]);
        out.push('.');
        out.push_str(&digits[integer_digits..]);
    }
}
