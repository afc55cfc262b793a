//! `+ - * / %` and conversions, with the result scales of PostgreSQL.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::{MAX_SCALE, Numeric, Parts, big_power_of_ten, divide_rounding, divide_rounding_big, power_of_ten};
use crate::error::{Result, SqlError, SqlState};

/// Significant digits that a quotient (or a root, a logarithm …) has at least.
pub(super) const MIN_SIGNIFICANT_DIGITS: i32 = 16;
/// Fractional digits that such a result has at most.
pub(super) const MAX_RESULT_SCALE: i32 = 1_000;

fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

impl Numeric {
    /// The sum; scale of the longer operand.
    pub fn add(&self, other: &Self) -> Result<Self> {
        match (self.parts(), other.parts()) {
            (Parts::Small(a, x), Parts::Small(b, y)) => {
                if let Some((a, b, scale)) = align(a, x, b, y)
                    && let Some(sum) = a.checked_add(b)
                {
                    return Ok(Self::new(sum, scale));
                }
                self.combine_big(other, |a, b| a + b)
            }
            (Parts::NaN, _) | (_, Parts::NaN) => Ok(Self::NAN),
            (Parts::Infinity(a), Parts::Infinity(b)) => Ok(if a == b { self.clone() } else { Self::NAN }),
            (Parts::Infinity(_), _) => Ok(self.clone()),
            (_, Parts::Infinity(_)) => Ok(other.clone()),
            _ => self.combine_big(other, |a, b| a + b),
        }
    }

    /// The difference; scale of the longer operand.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        if let (Parts::Small(a, x), Parts::Small(b, y)) = (self.parts(), other.parts())
            && let Some((a, b, scale)) = align(a, x, b, y)
            && let Some(difference) = a.checked_sub(b)
        {
            return Ok(Self::new(difference, scale));
        }
        self.add(&other.neg())
    }

    /// The product; scales added.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        match (self.parts(), other.parts()) {
            (Parts::Small(a, x), Parts::Small(b, y)) => {
                if let Some(product) = a.checked_mul(b)
                    && x + y <= MAX_SCALE
                {
                    return Ok(Self::new(product, x + y));
                }
            }
            (Parts::NaN, _) | (_, Parts::NaN) => return Ok(Self::NAN),
            (Parts::Infinity(_), _) | (_, Parts::Infinity(_)) => {
                return Ok(Self::infinity(self.signum() * other.signum()));
            }
            _ => {}
        }
        let ((a, x), (b, y)) = (self.finite_parts(), other.finite_parts());
        let (product, scale) = (a * b, x + y);
        if scale > MAX_SCALE {
            let divisor = big_power_of_ten(u32::from(scale - MAX_SCALE));
            return Self::from_big(divide_rounding_big(&product, &divisor), MAX_SCALE);
        }
        Self::from_big(product, scale)
    }

    /// The quotient, rounded to at least 16 significant digits.
    pub fn div(&self, other: &Self) -> Result<Self> {
        match (self.parts(), other.parts()) {
            (Parts::NaN, _) | (_, Parts::NaN) | (Parts::Infinity(_), Parts::Infinity(_)) => Ok(Self::NAN),
            (_, Parts::Infinity(_)) => Ok(Self::ZERO),
            (_, Parts::Small(0, _)) => Err(division_by_zero()),
            (Parts::Infinity(_), _) => Ok(Self::infinity(self.signum() * other.signum())),
            _ => self.div_to_scale(other, self.quotient_scale(other)),
        }
    }

    /// The quotient of finite values rounded to `scale` fractional digits; the divisor is not zero.
    pub(super) fn div_to_scale(&self, other: &Self, scale: u16) -> Result<Self> {
        if let (Parts::Small(a, x), Parts::Small(b, y)) = (self.parts(), other.parts()) {
            let shift = i32::from(scale) + i32::from(y) - i32::from(x);
            if let Ok(shift) = u32::try_from(shift)
                && let Some(dividend) = power_of_ten(shift).and_then(|power| a.checked_mul(power))
            {
                return Ok(Self::new(divide_rounding(dividend, b), scale));
            }
        }
        let ((a, x), (b, y)) = (self.finite_parts(), other.finite_parts());
        let shift = i32::from(scale) + i32::from(y) - i32::from(x);
        let quotient = if shift >= 0 {
            divide_rounding_big(&(a * big_power_of_ten(shift as u32)), &b)
        } else {
            divide_rounding_big(&a, &(b * big_power_of_ten(shift.unsigned_abs())))
        };
        Self::from_big(quotient, scale)
    }

    /// PostgreSQL chooses the scale of a quotient from the operands' leading base-10000 digits.
    fn quotient_scale(&self, other: &Self) -> u16 {
        let (weight, first) = self.leading_group();
        let (divisor_weight, divisor_first) = other.leading_group();
        let quotient_weight = weight - divisor_weight - i32::from(first <= divisor_first);
        self.result_scale(MIN_SIGNIFICANT_DIGITS - quotient_weight * 4, other)
    }

    /// `scale`, but not below that of either operand nor above the limit.
    pub(super) fn result_scale(&self, scale: i32, other: &Self) -> u16 {
        let operands = self.scale().max(other.scale()).unwrap_or(0);
        scale.max(i32::from(operands)).clamp(0, MAX_RESULT_SCALE) as u16
    }

    /// Weight (exponent of base 10000) and value of the leading base-10000 digit; zeros for zero.
    pub(super) fn leading_group(&self) -> (i32, u32) {
        let Some(exponent) = self.leading_exponent() else { return (0, 0) };
        let weight = exponent.div_euclid(4);
        (weight, self.leading_digits(weight * 4))
    }

    /// The digits down to the place of `10^exponent`; a few, so that they fit.
    pub(super) fn leading_digits(&self, exponent: i32) -> u32 {
        let (mantissa, scale) = match self.parts() {
            Parts::Small(mantissa, scale) => (mantissa, scale),
            Parts::Big(mantissa, scale) => {
                let shift = i32::from(scale) + exponent;
                let digits = mantissa.magnitude() / big_power_of_ten(shift.max(0) as u32).magnitude();
                return digits.to_u32().unwrap_or(u32::MAX);
            }
            _ => return 0,
        };
        let shift = i32::from(scale) + exponent;
        let magnitude = mantissa.unsigned_abs();
        let digits = if shift >= 0 {
            power_of_ten(shift as u32).map_or(0, |power| magnitude / power as u128)
        } else {
            magnitude * 10u128.pow(shift.unsigned_abs())
        };
        digits as u32
    }

    /// The remainder of division cut towards zero; sign of the dividend.
    pub fn rem(&self, other: &Self) -> Result<Self> {
        match (self.parts(), other.parts()) {
            (Parts::NaN, _) | (_, Parts::NaN) => return Ok(Self::NAN),
            (_, Parts::Small(0, _)) => return Err(division_by_zero()),
            (Parts::Infinity(_), _) => return Ok(Self::NAN),
            (_, Parts::Infinity(_)) => return Ok(self.clone()),
            (Parts::Small(a, x), Parts::Small(b, y)) => {
                if let Some((a, b, scale)) = align(a, x, b, y) {
                    return Ok(Self::new(a.checked_rem(b).unwrap_or(0), scale));
                }
            }
            _ => {}
        }
        self.combine_big(other, |a, b| a % b)
    }

    /// The whole quotient, cut towards zero.
    pub fn div_trunc(&self, other: &Self) -> Result<Self> {
        if !self.is_finite() || !other.is_finite() || other.is_zero() {
            return Ok(self.div(other)?.trunc(0));
        }
        let ((a, x), (b, y)) = (self.finite_parts(), other.finite_parts());
        Self::from_big((a * big_power_of_ten(u32::from(y))) / (b * big_power_of_ten(u32::from(x))), 0)
    }

    /// The value with its sign turned.
    #[must_use]
    pub fn neg(&self) -> Self {
        match self.parts() {
            Parts::Small(mantissa, scale) => match mantissa.checked_neg() {
                Some(mantissa) => Self::new(mantissa, scale),
                None => Self::shared(-BigInt::from(mantissa), scale),
            },
            Parts::Big(mantissa, scale) => Self::shared(-mantissa, scale),
            Parts::NaN => Self::NAN,
            Parts::Infinity(positive) => Self::infinity(if positive { -1 } else { 1 }),
        }
    }

    /// The absolute value.
    #[must_use]
    pub fn abs(&self) -> Self {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// The infinity of a sign; NaN for 0 (infinity times zero).
    pub(super) fn infinity(sign: i32) -> Self {
        match sign {
            0 => Self::NAN,
            1.. => Self::INFINITY,
            _ => Self::NEGATIVE_INFINITY,
        }
    }

    /// Mantissa and scale; callers have dealt with NaN and the infinities.
    pub(super) fn finite_parts(&self) -> (BigInt, u16) {
        self.finite().expect("NaN and infinities are dealt with before")
    }

    fn combine_big(&self, other: &Self, operation: fn(BigInt, BigInt) -> BigInt) -> Result<Self> {
        let ((a, x), (b, y)) = (self.finite_parts(), other.finite_parts());
        let scale = x.max(y);
        let a = if x < scale { a * big_power_of_ten(u32::from(scale - x)) } else { a };
        let b = if y < scale { b * big_power_of_ten(u32::from(scale - y)) } else { b };
        Self::from_big(operation(a, b), scale)
    }

    /// The nearest whole number (halves away from zero), when it fits.
    pub fn to_i64(&self) -> Option<i64> {
        match self.round(0).parts() {
            Parts::Small(mantissa, _) => mantissa.to_i64(),
            _ => None,
        }
    }

    /// The nearest double; overflows to an infinity.
    pub fn to_f64(&self) -> f64 {
        match self.parts() {
            // Both operands are exact, so the one rounding of the division is the right one.
            Parts::Small(mantissa, scale) if mantissa.unsigned_abs() < 1 << 53 && scale <= 22 => {
                mantissa as f64 / POWERS_F64[usize::from(scale)]
            }
            Parts::Infinity(true) => f64::INFINITY,
            Parts::Infinity(false) => f64::NEG_INFINITY,
            Parts::NaN => f64::NAN,
            _ => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// The number with 15 significant digits, as PostgreSQL converts double precision.
    pub fn from_f64(value: f64) -> Self {
        Self::from_float(value, 14)
    }

    /// The number with 6 significant digits, as PostgreSQL converts real.
    pub fn from_f32(value: f32) -> Self {
        Self::from_float(value.into(), 5)
    }

    fn from_float(value: f64, fractional_digits: usize) -> Self {
        if value.is_nan() {
            return Self::NAN;
        }
        if value.is_infinite() {
            return if value > 0.0 { Self::INFINITY } else { Self::NEGATIVE_INFINITY };
        }
        let text = format!("{value:.fractional_digits$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        Self::parse(&format!("{digits}e{exponent}")).unwrap_or(Self::NAN)
    }
}

const POWERS_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Both mantissas at the larger scale, when they fit.
#[inline]
fn align(a: i128, x: u16, b: i128, y: u16) -> Option<(i128, i128, u16)> {
    if x == y {
        Some((a, b, x))
    } else if x < y {
        Some((a.checked_mul(power_of_ten(u32::from(y - x))?)?, b, y))
    } else {
        Some((a, b.checked_mul(power_of_ten(u32::from(x - y))?)?, x))
    }
}
