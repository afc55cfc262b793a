//! Roots, powers, exponentials and logarithms, with the result scales of PostgreSQL.
//!
//! Inside, numbers are fixed-point big integers with guard digits; only the result is rounded.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arithmetic::{MAX_RESULT_SCALE, MIN_SIGNIFICANT_DIGITS};
use super::{MAX_INTEGER_DIGITS, Numeric, big_power_of_ten, digit_count, divide_rounding_big, overflow};
use crate::error::{Result, SqlError, SqlState};

/// Digits computed beyond those asked for.
const GUARD_DIGITS: u32 = 12;

impl Numeric {
    /// The square root; 2201F for a negative value.
    pub fn sqrt(&self) -> Result<Self> {
        if !self.is_finite() {
            return self.sqrt_to_scale(0);
        }
        let weight = self.leading_group().0;
        self.sqrt_to_scale(self.result_scale(MIN_SIGNIFICANT_DIGITS - ((weight + 1) * 2 - 1), self))
    }

    /// The square root, rounded once to a number of decimal places, at least half of those of the value.
    pub fn sqrt_to_scale(&self, scale: u16) -> Result<Self> {
        if self.signum() < 0 {
            let message = "cannot take square root of a negative number";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        }
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let (mantissa, from) = self.finite_parts();
        // One digit more than shown decides the rounding.
        let shifted = mantissa * big_power_of_ten(2 * (u32::from(scale) + 1) - u32::from(from));
        Self::from_big(divide_rounding_big(&shifted.sqrt(), &BigInt::from(10)), scale)
    }

    /// e to the power of the value.
    pub fn exp(&self) -> Result<Self> {
        if !self.is_finite() {
            return Ok(if self.signum() < 0 { Self::ZERO } else { self.clone() });
        }
        let weight = (self.to_f64() * std::f64::consts::LOG10_E).clamp(-1000.0, 1000.0) as i32;
        self.exp_to_scale(self.result_scale(MIN_SIGNIFICANT_DIGITS - weight, self))
    }

    fn exp_to_scale(&self, scale: u16) -> Result<Self> {
        let estimate = self.to_f64();
        if estimate.abs() >= 6_000.0 {
            return if estimate > 0.0 { Err(overflow()) } else { Ok(Self::new(0, scale)) };
        }
        let integer_digits = (estimate * std::f64::consts::LOG10_E).max(0.0) as u32;
        let places = u32::from(scale) + integer_digits + GUARD_DIGITS;
        let value = exp_fixed(&self.to_fixed(places), places);
        Self::from_fixed(value, places, scale)
    }

    /// The natural logarithm; 2201E for zero and below.
    pub fn ln(&self) -> Result<Self> {
        self.check_logarithm()?;
        if !self.is_finite() {
            return Ok(self.clone());
        }
        self.ln_to_scale(self.result_scale(MIN_SIGNIFICANT_DIGITS - self.ln_weight(), self))
    }

    fn ln_to_scale(&self, scale: u16) -> Result<Self> {
        let places = u32::from(scale) + GUARD_DIGITS + 8;
        Self::from_fixed(self.ln_fixed(places), places, scale)
    }

    /// The logarithm to a base.
    pub fn log(&self, base: &Self) -> Result<Self> {
        base.check_logarithm()?;
        self.check_logarithm()?;
        if self.is_nan() || base.is_nan() {
            return Ok(Self::NAN);
        }
        match (base.is_finite(), self.is_finite()) {
            (false, true) => return Ok(Self::ZERO),
            (true, false) => return Ok(Self::infinity(base.cmp(&Self::ONE) as i32)),
            (false, false) => return Ok(Self::NAN),
            (true, true) => {}
        }
        let scale = self.result_scale(MIN_SIGNIFICANT_DIGITS - (self.ln_weight() - base.ln_weight()), base);
        let extra = (self.ln_weight().abs() + base.ln_weight().abs()) as u32;
        let places = u32::from(scale) + GUARD_DIGITS + 2 * extra;
        let divisor = base.ln_fixed(places);
        if divisor.is_zero() {
            return Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        let quotient = self.ln_fixed(places) * big_power_of_ten(places) / divisor;
        Self::from_fixed(quotient, places, scale)
    }

    fn check_logarithm(&self) -> Result<()> {
        let problem = match self.signum() {
            0 => "cannot take logarithm of zero",
            ..0 => "cannot take logarithm of a negative number",
            _ => return Ok(()),
        };
        Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, problem))
    }

    /// The value to the power of another.
    pub fn power(&self, exponent: &Self) -> Result<Self> {
        let (zero, one) = (self.is_zero(), *self == Self::ONE);
        if !self.is_finite() || !exponent.is_finite() {
            return self.power_special(exponent);
        }
        let whole = exponent.trunc(0) == *exponent;
        if zero && exponent.signum() < 0 {
            let message = "zero raised to a negative power is undefined";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        }
        if self.signum() < 0 && !whole {
            let message = "a negative number raised to a non-integer power yields a complex result";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        }
        if whole && let Some(exponent) = exponent.to_i64().and_then(|exponent| i32::try_from(exponent).ok()) {
            return self.power_integer(exponent, self.result_scale(MIN_SIGNIFICANT_DIGITS, self));
        }
        if zero {
            return Ok(Self::new(0, MIN_SIGNIFICANT_DIGITS as u16));
        }
        let (base, odd) = (self.abs(), self.signum() < 0 && exponent.finite_parts().0.is_odd_number());
        if one || base == Self::ONE {
            let scale = base.result_scale(MIN_SIGNIFICANT_DIGITS, exponent);
            let result = Self::ONE.rescale_up(scale);
            return Ok(if odd { result.neg() } else { result });
        }
        let estimate = exponent.to_f64() * ln_f64(&base);
        if estimate.abs() > 2_000.0 * 3.01 {
            return if estimate > 0.0 { Err(overflow()) } else { Ok(Self::new(0, MAX_RESULT_SCALE as u16)) };
        }
        let scale = base.result_scale(MIN_SIGNIFICANT_DIGITS - (estimate * std::f64::consts::LOG10_E) as i32, exponent);
        let integer_digits = (estimate * std::f64::consts::LOG10_E).max(0.0) as u32;
        let exponent_digits = exponent.leading_exponent().unwrap_or(0).max(0) as u32;
        let places = u32::from(scale) + integer_digits + exponent_digits + GUARD_DIGITS;
        let (mantissa, from) = exponent.finite_parts();
        let product = base.ln_fixed(places) * mantissa / big_power_of_ten(u32::from(from));
        let result = Self::from_fixed(exp_fixed(&product, places), places, scale)?;
        Ok(if odd { result.neg() } else { result })
    }

    /// As POSIX `pow` treats infinities and NaN.
    fn power_special(&self, exponent: &Self) -> Result<Self> {
        if self.is_nan() {
            return Ok(if exponent.is_zero() { Self::ONE } else { Self::NAN });
        }
        if exponent.is_nan() {
            return Ok(if *self == Self::ONE { Self::ONE } else { Self::NAN });
        }
        if exponent.is_finite() {
            let odd = exponent.trunc(0) == *exponent && exponent.rem(&Self::from(2))?.signum() != 0;
            return Ok(match (exponent.signum(), self.signum() < 0 && odd) {
                (0, _) => Self::ONE,
                (1.., true) => Self::NEGATIVE_INFINITY,
                (1.., false) => Self::INFINITY,
                _ => Self::ZERO,
            });
        }
        let grows = match self.abs().cmp(&Self::ONE) {
            std::cmp::Ordering::Equal => return Ok(Self::ONE),
            std::cmp::Ordering::Greater => exponent.signum() > 0,
            std::cmp::Ordering::Less => exponent.signum() < 0,
        };
        if grows && self.is_zero() {
            let message = "zero raised to a negative power is undefined";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        }
        Ok(if grows { Self::INFINITY } else { Self::ZERO })
    }

    /// By squaring, with as many significant digits as the result's scale needs.
    fn power_integer(&self, exponent: i32, scale: u16) -> Result<Self> {
        match exponent {
            0 => return Ok(Self::ONE.rescale_up(scale)),
            1 => return Ok(self.round(scale.into())),
            _ if self.is_zero() => return Ok(Self::new(0, scale)),
            _ => {}
        }
        let log10 = ln_f64(&self.abs()) * std::f64::consts::LOG10_E;
        let weight = log10 * f64::from(exponent);
        if weight > f64::from(MAX_INTEGER_DIGITS) {
            return Err(overflow());
        }
        if weight + 1.0 < -f64::from(scale) {
            return Ok(Self::new(0, scale));
        }
        let exponent_digits = exponent.unsigned_abs().ilog10();
        let kept = (weight.abs() as u32 + u32::from(scale) + exponent_digits).saturating_add(2 * GUARD_DIGITS);
        let (mut base, mut base_scale) = (self.finite_parts().0, i64::from(self.scale().unwrap_or(0)));
        let (mut result, mut result_scale) = (BigInt::one(), 0i64);
        let mut bits = exponent.unsigned_abs();
        loop {
            if bits & 1 == 1 {
                (result, result_scale) = shorten(&result * &base, result_scale + base_scale, kept);
            }
            bits >>= 1;
            if bits == 0 {
                break;
            }
            (base, base_scale) = shorten(&base * &base, base_scale * 2, kept);
        }
        let target = i64::from(scale);
        let (numerator, divisor) = if exponent > 0 { (result, BigInt::one()) } else { (BigInt::one(), result) };
        // value = numerator / divisor × 10^-power
        let power = if exponent > 0 { result_scale } else { -result_scale };
        let mantissa = if target >= power {
            divide_rounding_big(&(numerator * big_power_of_ten((target - power) as u32)), &divisor)
        } else {
            divide_rounding_big(&numerator, &(divisor * big_power_of_ten((power - target) as u32)))
        };
        Self::from_big(mantissa, scale)
    }

    /// Decimal weight of the logarithm, estimated as PostgreSQL does.
    fn ln_weight(&self) -> i32 {
        let (low, high) = (Self::new(9, 1), Self::new(11, 1));
        if *self >= low && *self <= high {
            let distance = self.sub(&Self::ONE).unwrap_or_default();
            let (weight, first) = distance.leading_group();
            return if first == 0 { 0 } else { weight * 4 + first.ilog10() as i32 };
        }
        let (weight, _) = self.leading_group();
        let digits = self.leading_digits((weight - 1) * 4);
        let estimate = f64::from(digits).ln() + f64::from((weight - 1) * 4) * std::f64::consts::LN_10;
        estimate.abs().log10() as i32
    }

    /// The value × 10^places.
    fn to_fixed(&self, places: u32) -> BigInt {
        let (mantissa, scale) = self.finite_parts();
        let shift = i64::from(places) - i64::from(scale);
        if shift >= 0 {
            mantissa * big_power_of_ten(shift as u32)
        } else {
            divide_rounding_big(&mantissa, &big_power_of_ten(shift.unsigned_abs() as u32))
        }
    }

    fn from_fixed(value: BigInt, places: u32, scale: u16) -> Result<Self> {
        Self::from_big(divide_rounding_big(&value, &big_power_of_ten(places - u32::from(scale))), scale)
    }

    /// ln × 10^places of a positive value: `v = m × 10^k`, `ln v = ln m + k ln 10`.
    fn ln_fixed(&self, places: u32) -> BigInt {
        let exponent = self.leading_exponent().unwrap_or(0);
        let (mantissa, scale) = self.finite_parts();
        // Values near 1 are not split: the two parts would cancel.
        let exponent = if (-1..=0).contains(&exponent) { 0 } else { exponent };
        let shift = i64::from(places) - i64::from(scale) - i64::from(exponent);
        let scaled = if shift >= 0 {
            mantissa * big_power_of_ten(shift as u32)
        } else {
            divide_rounding_big(&mantissa, &big_power_of_ten(shift.unsigned_abs() as u32))
        };
        let logarithm = ln_near_one(&scaled, places);
        match exponent {
            0 => logarithm,
            _ => logarithm + ln_near_one(&big_power_of_ten(places + 1), places) * exponent,
        }
    }
}

trait OddNumber {
    fn is_odd_number(&self) -> bool;
}

impl OddNumber for BigInt {
    fn is_odd_number(&self) -> bool {
        self.bit(0)
    }
}

fn ln_f64(value: &Numeric) -> f64 {
    let exponent = value.leading_exponent().unwrap_or(0);
    let digits = f64::from(value.leading_digits(exponent - 8));
    digits.ln() + f64::from(exponent - 8) * std::f64::consts::LN_10
}

/// Drops digits beyond `kept` significant ones.
fn shorten(mantissa: BigInt, scale: i64, kept: u32) -> (BigInt, i64) {
    let digits = digit_count(&mantissa);
    if digits <= kept {
        return (mantissa, scale);
    }
    let dropped = digits - kept;
    (divide_rounding_big(&mantissa, &big_power_of_ten(dropped)), scale - i64::from(dropped))
}

/// ln of a fixed-point number between 0.1 and 10: roots until close to 1, then 2 artanh((v-1)/(v+1)).
fn ln_near_one(value: &BigInt, places: u32) -> BigInt {
    const EXTRA: u32 = 6;
    let places_inside = places + EXTRA;
    let one = big_power_of_ten(places_inside);
    let mut value = value * big_power_of_ten(EXTRA);
    let mut doublings = 1u32;
    let tenth = &one / 10;
    while (&value - &one).abs() > tenth && doublings < 12 {
        value = (value * &one).sqrt();
        doublings += 1;
    }
    let ratio = (&value - &one) * &one / (&value + &one);
    let square = &ratio * &ratio / &one;
    let (mut sum, mut term, mut divisor) = (ratio.clone(), ratio, 1u32);
    loop {
        term = term * &square / &one;
        divisor += 2;
        let part = &term / divisor;
        if part.is_zero() {
            break;
        }
        sum += part;
    }
    divide_rounding_big(&(sum << doublings), &big_power_of_ten(EXTRA))
}

/// e^x in fixed point: Taylor series of x / 2^k, then k squarings.
fn exp_fixed(value: &BigInt, places: u32) -> BigInt {
    let whole = (value / big_power_of_ten(places)).abs().to_u32().unwrap_or(u32::MAX).max(1);
    let halvings = whole.ilog2() + 6;
    let extra = halvings + whole / 2 + 4;
    let places_inside = places + extra;
    let one = big_power_of_ten(places_inside);
    let reduced = (value * big_power_of_ten(extra)) >> halvings;
    let (mut sum, mut term, mut index) = (&one + &reduced, reduced.clone(), 1u32);
    loop {
        index += 1;
        term = &term * &reduced / &one / index;
        if term.is_zero() || term == BigInt::from(-1) {
            break;
        }
        sum += &term;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    divide_rounding_big(&sum, &big_power_of_ten(extra))
}
