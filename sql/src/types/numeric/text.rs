//! Numerics as text.

use std::fmt;

use num_bigint::BigInt;

use super::{MAX_INTEGER_DIGITS, MAX_SCALE, Numeric, Parts, big_power_of_ten, overflow};
use crate::error::{Result, SqlError, SqlState};

impl Numeric {
    /// Reads what PostgreSQL's numeric input accepts: digits with point and exponent, NaN, the infinities,
    /// white space around. 22P02 or 22003 otherwise.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            let message = format!("invalid input syntax for type numeric: \"{text}\"");
            SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
        };
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, unsigned) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, &trimmed[1..]),
            Some(b'+') => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Self::parse_special(negative, unsigned, unsigned.len() < trimmed.len()).ok_or_else(invalid);
        }
        let (number, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..]).ok_or_else(invalid)?),
            None => (unsigned, 0),
        };
        if exponent.unsigned_abs() >= i32::MAX as u64 / 2 {
            return Err(overflow());
        }
        let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if integer.is_empty() && fraction.is_empty() || !digits_only(integer) || !digits_only(fraction) {
            return Err(invalid());
        }
        Self::assemble(negative, integer, fraction, exponent)
    }

    fn parse_special(negative: bool, text: &str, signed: bool) -> Option<Self> {
        if text.eq_ignore_ascii_case("nan") {
            return (!signed).then_some(Self::NAN);
        }
        let infinite = text.eq_ignore_ascii_case("infinity") || text.eq_ignore_ascii_case("inf");
        infinite.then(|| Self::infinity(if negative { -1 } else { 1 }))
    }

    fn assemble(negative: bool, integer: &str, fraction: &str, exponent: i64) -> Result<Self> {
        let scale = (fraction.len() as i64).saturating_sub(exponent);
        let integer = integer.trim_start_matches('0');
        if scale > i64::from(MAX_SCALE) {
            return Err(overflow());
        }
        if integer.len() + fraction.len() <= 38 && (0..=38).contains(&scale) {
            let mut mantissa = 0i128;
            for digit in integer.bytes().chain(fraction.bytes()) {
                mantissa = mantissa * 10 + i128::from(digit - b'0');
            }
            return Ok(Self::new(if negative { -mantissa } else { mantissa }, scale as u16));
        }
        let digits = format!("{integer}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self::new(0, scale.max(0) as u16));
        }
        if digits.len() as i64 - scale > i64::from(MAX_INTEGER_DIGITS) {
            return Err(overflow());
        }
        let magnitude: BigInt = digits.parse().map_err(|_| overflow())?;
        let mantissa = if scale < 0 { magnitude * big_power_of_ten(scale.unsigned_abs() as u32) } else { magnitude };
        Self::from_big(if negative { -mantissa } else { mantissa }, scale.max(0) as u16)
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(i64::MAX))
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, digits, scale) = match self.parts() {
            Parts::NaN => return f.write_str("NaN"),
            Parts::Infinity(true) => return f.write_str("Infinity"),
            Parts::Infinity(false) => return f.write_str("-Infinity"),
            Parts::Small(mantissa, 0) => return write!(f, "{mantissa}"),
            Parts::Small(mantissa, scale) => {
                // 18 digits and fewer need no allocation.
                if let (Ok(mantissa), true) = (i64::try_from(mantissa), scale <= 18) {
                    let power = 10u64.pow(scale.into());
                    let magnitude = mantissa.unsigned_abs();
                    let sign = if mantissa < 0 { "-" } else { "" };
                    let width = usize::from(scale);
                    return write!(f, "{sign}{}.{:0width$}", magnitude / power, magnitude % power);
                }
                (mantissa < 0, mantissa.unsigned_abs().to_string(), scale)
            }
            Parts::Big(mantissa, scale) => (self.signum() < 0, mantissa.magnitude().to_string(), scale),
        };
        let scale = usize::from(scale);
        let sign = if negative { "-" } else { "" };
        if scale == 0 {
            write!(f, "{sign}{digits}")
        } else if digits.len() > scale {
            let (integer, fraction) = digits.split_at(digits.len() - scale);
            write!(f, "{sign}{integer}.{fraction}")
        } else {
            write!(f, "{sign}0.{digits:0>scale$}")
        }
    }
}
