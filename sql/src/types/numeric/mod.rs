//! Exact decimal numbers of any precision and scale.
//!
//! A finite value is `mantissa × 10^-scale`; the scale is also the number of fractional digits shown, as
//! in PostgreSQL. Mantissas that fit in 128 bits are kept inline and take the fast paths; others are
//! shared big integers. A value has exactly one representation for each scale: inline whenever it fits.

mod arithmetic;
mod functions;
#[cfg(test)]
mod tests;
mod text;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::error::{Result, SqlError, SqlState};

/// Fractional digits that a value can have.
pub const MAX_SCALE: u16 = 16_383;
/// Digits before the decimal point that a value can have.
pub const MAX_INTEGER_DIGITS: u32 = 131_072;
/// Precision and scale that a declared type can have.
pub const MAX_PRECISION: i32 = 1_000;

/// A numeric value.
#[derive(Clone, Debug)]
pub struct Numeric(Repr);

#[derive(Clone, Debug)]
enum Repr {
    /// A 128-bit mantissa in two halves: keeps the alignment of [`crate::types::Datum`] at 8 bytes.
    Small {
        high: i64,
        low: u64,
        scale: u16,
    },
    Big(Arc<Big>),
    NaN,
    Infinity,
    NegativeInfinity,
}

/// A mantissa beyond 128 bits.
#[derive(Debug)]
struct Big {
    mantissa: BigInt,
    scale: u16,
}

/// What a numeric is, for matching.
enum Parts<'a> {
    Small(i128, u16),
    Big(&'a BigInt, u16),
    NaN,
    /// True: positive.
    Infinity(bool),
}

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// `10^exponent`, when it fits.
fn power_of_ten(exponent: u32) -> Option<i128> {
    POWERS.get(exponent as usize).copied()
}

fn big_power_of_ten(exponent: u32) -> BigInt {
    match power_of_ten(exponent) {
        Some(power) => power.into(),
        None => BigInt::from(10).pow(exponent),
    }
}

/// Decimal digits of the absolute value; 0 for 0.
fn digit_count(mantissa: &BigInt) -> u32 {
    if mantissa.is_zero() {
        return 0;
    }
    let bits = mantissa.bits();
    // log10(2) rounded down: the estimate is exact or one too small.
    let estimate = ((bits - 1) as f64 * std::f64::consts::LOG10_2) as u32;
    if mantissa.magnitude() >= big_power_of_ten(estimate + 1).magnitude() {
        estimate + 2
    } else if mantissa.magnitude() >= big_power_of_ten(estimate).magnitude() {
        estimate + 1
    } else {
        estimate
    }
}

/// Quotient rounded half away from zero.
fn divide_rounding(dividend: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let twice_exceeds = remainder.unsigned_abs() >= divisor.unsigned_abs() - remainder.unsigned_abs();
    match twice_exceeds && remainder != 0 {
        true if (dividend < 0) == (divisor < 0) => quotient + 1,
        true => quotient - 1,
        false => quotient,
    }
}

fn divide_rounding_big(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let (quotient, remainder) = num_integer::Integer::div_rem(dividend, divisor);
    if remainder.magnitude() * 2u8 < *divisor.magnitude() {
        quotient
    } else if dividend.is_negative() == divisor.is_negative() {
        quotient + 1
    } else {
        quotient - 1
    }
}

pub(super) fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

impl Numeric {
    /// 0
    pub const ZERO: Numeric = Numeric::new(0, 0);
    /// 1
    pub const ONE: Numeric = Numeric::new(1, 0);
    /// NaN; equal to itself and above all others.
    pub const NAN: Numeric = Numeric(Repr::NaN);
    /// Infinity
    pub const INFINITY: Numeric = Numeric(Repr::Infinity);
    /// -Infinity
    pub const NEGATIVE_INFINITY: Numeric = Numeric(Repr::NegativeInfinity);

    /// `mantissa × 10^-scale`. The scale is at most [`MAX_SCALE`].
    pub const fn new(mantissa: i128, scale: u16) -> Self {
        assert!(scale <= MAX_SCALE, "scale above the limit");
        Self(Repr::Small { high: (mantissa >> 64) as i64, low: mantissa as u64, scale })
    }

    /// `mantissa × 10^-scale`, of any size; 22003 beyond the limits of the type.
    pub fn from_big(mantissa: BigInt, scale: u16) -> Result<Self> {
        if let Some(small) = mantissa.to_i128() {
            return Ok(Self::new(small, scale));
        }
        if scale > MAX_SCALE || digit_count(&mantissa) > MAX_INTEGER_DIGITS + u32::from(scale) {
            return Err(overflow());
        }
        Ok(Self(Repr::Big(Arc::new(Big { mantissa, scale }))))
    }

    fn parts(&self) -> Parts<'_> {
        match &self.0 {
            Repr::Small { high, low, scale } => Parts::Small(i128::from(*high) << 64 | i128::from(*low), *scale),
            Repr::Big(big) => Parts::Big(&big.mantissa, big.scale),
            Repr::NaN => Parts::NaN,
            Repr::Infinity => Parts::Infinity(true),
            Repr::NegativeInfinity => Parts::Infinity(false),
        }
    }

    /// Mantissa and scale of a finite value.
    pub fn finite(&self) -> Option<(BigInt, u16)> {
        match self.parts() {
            Parts::Small(mantissa, scale) => Some((mantissa.into(), scale)),
            Parts::Big(mantissa, scale) => Some((mantissa.clone(), scale)),
            _ => None,
        }
    }

    /// Mantissa and scale when the mantissa fits in 128 bits.
    pub fn small(&self) -> Option<(i128, u16)> {
        match self.parts() {
            Parts::Small(mantissa, scale) => Some((mantissa, scale)),
            _ => None,
        }
    }

    /// Fractional digits shown; `None` for NaN and the infinities.
    pub fn scale(&self) -> Option<u16> {
        match self.parts() {
            Parts::Small(_, scale) | Parts::Big(_, scale) => Some(scale),
            _ => None,
        }
    }

    /// NaN?
    pub fn is_nan(&self) -> bool {
        matches!(self.0, Repr::NaN)
    }

    /// Neither NaN nor an infinity?
    pub fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Small { .. } | Repr::Big(_))
    }

    /// -1, 0 or 1; NaN counts as positive.
    pub fn signum(&self) -> i32 {
        match self.parts() {
            Parts::Small(mantissa, _) => mantissa.signum() as i32,
            Parts::Big(mantissa, _) if mantissa.sign() == Sign::Minus => -1,
            Parts::Infinity(false) => -1,
            _ => 1,
        }
    }

    /// Zero of any scale?
    pub fn is_zero(&self) -> bool {
        self.signum() == 0
    }

    /// Decimal exponent of the leading digit (0 for 1 to 9); `None` for zero and non-finite values.
    pub(crate) fn leading_exponent(&self) -> Option<i32> {
        match self.parts() {
            Parts::Small(0, _) => None,
            Parts::Small(mantissa, scale) => Some(mantissa.unsigned_abs().ilog10() as i32 - i32::from(scale)),
            Parts::Big(mantissa, scale) => Some(digit_count(mantissa) as i32 - 1 - i32::from(scale)),
            _ => None,
        }
    }

    /// The value rounded half away from zero to `places` fractional digits (negative: to tens, hundreds …),
    /// shown with at least none.
    #[must_use]
    pub fn round(&self, places: i32) -> Self {
        self.cut(places, divide_rounding, divide_rounding_big)
    }

    /// The value cut to `places` fractional digits.
    #[must_use]
    pub fn trunc(&self, places: i32) -> Self {
        self.cut(places, |a, b| a / b, |a, b| a / b)
    }

    /// The greatest whole number not above.
    #[must_use]
    pub fn floor(&self) -> Self {
        self.cut(0, num_integer::div_floor, num_integer::Integer::div_floor)
    }

    /// The smallest whole number not below.
    #[must_use]
    pub fn ceil(&self) -> Self {
        self.cut(0, num_integer::div_ceil, num_integer::Integer::div_ceil)
    }

    fn cut(&self, places: i32, small: fn(i128, i128) -> i128, big: fn(&BigInt, &BigInt) -> BigInt) -> Self {
        let places = places.clamp(-(MAX_INTEGER_DIGITS as i32) - 1, i32::from(MAX_SCALE));
        let shown = places.max(0) as u16;
        let (mantissa, scale) = match self.parts() {
            Parts::Small(mantissa, scale) => {
                let dropped = i32::from(scale) - places;
                if dropped <= 0 {
                    return self.rescale_up(shown);
                }
                match (power_of_ten(dropped as u32), power_of_ten((-places).max(0) as u32)) {
                    (Some(divisor), Some(factor)) => {
                        let quotient = small(mantissa, divisor);
                        if let Some(mantissa) = quotient.checked_mul(factor) {
                            return Self::new(mantissa, shown);
                        }
                    }
                    (None, _) if mantissa == 0 => return Self::new(0, shown),
                    _ => {}
                }
                (BigInt::from(mantissa), scale)
            }
            Parts::Big(mantissa, scale) => (mantissa.clone(), scale),
            _ => return self.clone(),
        };
        let dropped = i32::from(scale) - places;
        if dropped <= 0 {
            return self.rescale_up(shown);
        }
        let quotient = big(&mantissa, &big_power_of_ten(dropped as u32));
        let mantissa = quotient * big_power_of_ten((-places).max(0) as u32);
        Self::from_big(mantissa, shown).unwrap_or_else(|_| self.clone())
    }

    /// The same value shown with `scale` digits, which is not below the present one.
    fn rescale_up(&self, scale: u16) -> Self {
        match self.parts() {
            Parts::Small(mantissa, from) => {
                let power = power_of_ten(u32::from(scale - from));
                match power.and_then(|power| mantissa.checked_mul(power)) {
                    Some(mantissa) => Self::new(mantissa, scale),
                    None => Self::shared(mantissa * big_power_of_ten(u32::from(scale - from)), scale),
                }
            }
            Parts::Big(mantissa, from) => Self::shared(mantissa * big_power_of_ten(u32::from(scale - from)), scale),
            _ => self.clone(),
        }
    }

    /// Like [`Numeric::from_big`] where the limits are known to hold.
    fn shared(mantissa: BigInt, scale: u16) -> Self {
        match mantissa.to_i128() {
            Some(small) => Self::new(small, scale),
            None => Self(Repr::Big(Arc::new(Big { mantissa, scale }))),
        }
    }

    /// Fits the value to a column of `numeric(p, s)`: rounds, then 22003 when too large. -1 is no limit.
    pub fn apply_modifier(&self, modifier: i32) -> Result<Self> {
        let Some((precision, scale)) = Self::precision_and_scale(modifier) else { return Ok(self.clone()) };
        let field = |detail: String| {
            let detail = format!("A field with precision {precision}, scale {scale} {detail}.");
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(detail)
        };
        match self.parts() {
            Parts::NaN => return Ok(self.clone()),
            Parts::Infinity(_) => return Err(field("cannot hold an infinite value".into())),
            _ => {}
        }
        let rounded = self.round(scale);
        let integer_digits = precision - scale;
        if rounded.leading_exponent().is_some_and(|exponent| exponent >= integer_digits) {
            let limit = if integer_digits == 0 { "1".into() } else { format!("10^{integer_digits}") };
            return Err(field(format!("must round to an absolute value less than {limit}")));
        }
        Ok(rounded)
    }

    /// What a `typmod` says; `None` for -1.
    pub fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
        let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
        Some((packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024))
    }

    /// The `typmod` of `numeric(precision, scale)`.
    pub fn modifier(precision: i32, scale: i32) -> i32 {
        (precision << 16 | scale & 0x7FF) + 4
    }

    /// The least scale that shows the value exactly, and the mantissa for it.
    pub(crate) fn stripped(&self) -> Option<(BigInt, u16)> {
        match self.parts() {
            Parts::Small(mantissa, scale) => {
                let (mantissa, scale) = strip_small(mantissa, scale);
                Some((mantissa.into(), scale))
            }
            Parts::Big(mantissa, scale) => {
                let (mut mantissa, mut scale) = (mantissa.clone(), scale);
                let ten = BigInt::from(10);
                while scale > 0 {
                    let (quotient, remainder) = num_integer::Integer::div_rem(&mantissa, &ten);
                    if !remainder.is_zero() {
                        break;
                    }
                    (mantissa, scale) = (quotient, scale - 1);
                }
                Some((mantissa, scale))
            }
            _ => None,
        }
    }

    /// The value without trailing fractional zeros.
    #[must_use]
    pub fn trim_scale(&self) -> Self {
        self.stripped().map_or_else(|| self.clone(), |(mantissa, scale)| Self::shared(mantissa, scale))
    }
}

fn strip_small(mut mantissa: i128, mut scale: u16) -> (i128, u16) {
    while scale > 0 && mantissa % 10 == 0 {
        (mantissa, scale) = (mantissa / 10, scale - 1);
    }
    (mantissa, scale)
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |parts: &Parts<'_>| match parts {
            Parts::Infinity(false) => 0,
            Parts::Small(..) | Parts::Big(..) => 1,
            Parts::Infinity(true) => 2,
            Parts::NaN => 3,
        };
        match (self.parts(), other.parts()) {
            (Parts::Small(a, x), Parts::Small(b, y)) if x == y => a.cmp(&b),
            (Parts::Small(a, x), Parts::Small(b, y)) => {
                let scaled = |mantissa: i128, by: i32| match by {
                    ..=0 => Some(mantissa),
                    by => power_of_ten(by as u32).and_then(|power| mantissa.checked_mul(power)),
                };
                let difference = i32::from(x) - i32::from(y);
                match (scaled(a, -difference), scaled(b, difference)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => compare_big(&a.into(), x, &b.into(), y),
                }
            }
            (Parts::Small(a, x), Parts::Big(b, y)) => compare_big(&a.into(), x, b, y),
            (Parts::Big(a, x), Parts::Small(b, y)) => compare_big(a, x, &b.into(), y),
            (Parts::Big(a, x), Parts::Big(b, y)) => compare_big(a, x, b, y),
            (a, b) => rank(&a).cmp(&rank(&b)),
        }
    }
}

fn compare_big(a: &BigInt, x: u16, b: &BigInt, y: u16) -> Ordering {
    match x.cmp(&y) {
        Ordering::Equal => a.cmp(b),
        Ordering::Less => (a * big_power_of_ten(u32::from(y - x))).cmp(b),
        Ordering::Greater => a.cmp(&(b * big_power_of_ten(u32::from(x - y)))),
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Equality of values: `1.0` equals `1.00`, NaN equals NaN.
impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.parts() {
            Parts::Small(mantissa, scale) => strip_small(mantissa, scale).hash(state),
            Parts::Big(..) => {
                let (mantissa, scale) = self.stripped().unwrap_or_default();
                match mantissa.to_i128() {
                    Some(small) => (small, scale).hash(state),
                    None => (mantissa, scale).hash(state),
                }
            }
            Parts::NaN => 1u8.hash(state),
            Parts::Infinity(positive) => (2u8, positive).hash(state),
        }
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Numeric {
            fn from(value: $integer) -> Self {
                Self::new(value.into(), 0)
            }
        })*
    };
}
from_integers!(i16, i32, i64, i128, u32, u64);

impl Default for Numeric {
    fn default() -> Self {
        Self::ZERO
    }
}
