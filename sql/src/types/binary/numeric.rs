//! Numerics: digit count u16, weight i16, sign u16, display scale u16, then base-10000 digits.

use num_bigint::{BigInt, BigUint, Sign};

use super::malformed;
use crate::error::{Result, SqlError, SqlState};
use crate::types::DataType;
use crate::types::numeric::{MAX_SCALE, Numeric};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

pub(super) fn encode(value: &Numeric, out: &mut Vec<u8>) {
    let Some(scale) = value.scale() else {
        // Postgres shows a bit of its own representation in the scale of an infinity; receivers ignore it.
        let (sign, scale) = match value {
            value if value.is_nan() => (NAN, 0),
            value if value.signum() > 0 => (INFINITY, 0x20),
            _ => (NEGATIVE_INFINITY, 0x20),
        };
        return put_head(0, 0, sign, scale, out);
    };
    // Whole groups of four digits on both sides of the point.
    let groups_after = i32::from(scale.div_ceil(4));
    let shift = groups_after as u32 * 4 - u32::from(scale);
    let mut digits: Vec<u16> = Vec::new();
    let small = value.small().and_then(|(mantissa, _)| mantissa.unsigned_abs().checked_mul(10u128.pow(shift)));
    match small {
        Some(mut rest) => {
            while rest > 0 {
                digits.push((rest % 10_000) as u16);
                rest /= 10_000;
            }
        }
        None => {
            let mantissa = value.finite().map(|(mantissa, _)| mantissa).unwrap_or_default();
            let mut rest = mantissa.magnitude() * 10u32.pow(shift);
            let base = BigUint::from(10_000u32);
            while rest != BigUint::ZERO {
                let (quotient, digit) = num_integer::Integer::div_rem(&rest, &base);
                digits.push(u16::try_from(digit).unwrap_or(0));
                rest = quotient;
            }
        }
    }
    let weight = digits.len() as i32 - 1 - groups_after;
    let trailing = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..trailing);
    digits.reverse();
    let sign = if value.signum() < 0 { NEGATIVE } else { POSITIVE };
    let weight = if digits.is_empty() { 0 } else { weight };
    put_head(digits.len(), weight, sign, scale, out);
    digits.iter().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}

fn put_head(count: usize, weight: i32, sign: u16, scale: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

pub(super) fn decode(bytes: &[u8]) -> Result<Numeric> {
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| malformed(DataType::NUMERIC))?;
    let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) = (usize::from(field(0)), i64::from(field(2) as i16), field(4), field(6));
    let invalid = |what: &str| {
        SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, format!("invalid {what} in external \"numeric\" value"))
    };
    let negative = match sign {
        POSITIVE => false,
        NEGATIVE => true,
        NAN => return Ok(Numeric::NAN),
        INFINITY => return Ok(Numeric::INFINITY),
        NEGATIVE_INFINITY => return Ok(Numeric::NEGATIVE_INFINITY),
        _ => return Err(invalid("sign")),
    };
    if scale > MAX_SCALE {
        return Err(invalid("scale"));
    }
    if rest.len() != count * 2 {
        return Err(malformed(DataType::NUMERIC));
    }
    let mut magnitude = Magnitude::Small(0);
    for pair in rest.chunks_exact(2) {
        let digit = u16::from_be_bytes([pair[0], pair[1]]);
        if digit > 9_999 {
            return Err(invalid("digit"));
        }
        magnitude = magnitude.push(digit);
    }
    // Value = magnitude × 10000^(weight + 1 - count); the declared scale decides what is shown.
    let exponent = (weight + 1 - count as i64) * 4;
    let mantissa = BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, magnitude.into_big());
    let full = match exponent {
        0.. => Numeric::from_big(mantissa * BigInt::from(10).pow(exponent as u32), 0)?,
        _ => match u16::try_from(-exponent) {
            Ok(places) if places <= MAX_SCALE => Numeric::from_big(mantissa, places)?,
            _ => return Err(invalid("scale")),
        },
    };
    // Digits beyond the scale are cut, as numeric_recv does.
    Ok(full.trunc(scale.into()))
}

enum Magnitude {
    Small(u128),
    Big(BigUint),
}

impl Magnitude {
    fn push(self, digit: u16) -> Self {
        match self {
            Magnitude::Small(value) => {
                match value.checked_mul(10_000).and_then(|value| value.checked_add(digit.into())) {
                    Some(value) => Magnitude::Small(value),
                    None => Magnitude::Big(BigUint::from(value) * 10_000u32 + digit),
                }
            }
            Magnitude::Big(value) => Magnitude::Big(value * 10_000u32 + digit),
        }
    }

    fn into_big(self) -> BigUint {
        match self {
            Magnitude::Small(value) => value.into(),
            Magnitude::Big(value) => value,
        }
    }
}
