//! Mathematical functions.

use super::ScalarFunction;
use super::define::{float8, int4, int8, numeric, scalar};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType as T, Datum, Numeric};

macro_rules! float_functions {
    ($($name:literal => $eval:expr),* $(,)?) => {
        &[$(scalar($name, &[T::FLOAT8], T::FLOAT8, |_, args| {
            let eval: fn(f64) -> Result<f64> = $eval;
            eval(float8(&args[0])?).map(Datum::Float8)
        })),*]
    };
}

/// Functions of one double.
pub static FLOAT_FUNCTIONS: &[ScalarFunction] = float_functions! {
    "abs" => |x| Ok(x.abs()),
    "ceil" => |x| Ok(x.ceil()),
    "ceiling" => |x| Ok(x.ceil()),
    "floor" => |x| Ok(x.floor()),
    "round" => |x| Ok(x.round_ties_even()),
    "trunc" => |x| Ok(x.trunc()),
    "sign" => |x| Ok(if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { 0.0 }),
    "sqrt" => |x| if x < 0.0 { Err(negative_root()) } else { Ok(x.sqrt()) },
    "cbrt" => |x| Ok(x.cbrt()),
    "exp" => |x| in_range(x.exp(), x.is_finite(), x == f64::NEG_INFINITY),
    "ln" => |x| Ok(positive(x)?.ln()),
    "log" => |x| Ok(positive(x)?.log10()),
    "log10" => |x| Ok(positive(x)?.log10()),
    "degrees" => |x| in_range(x / RADIANS_PER_DEGREE, x.is_finite(), x == 0.0),
    "radians" => |x| in_range(x * RADIANS_PER_DEGREE, x.is_finite(), x == 0.0),
    "sin" => |x| angle(x).map(f64::sin),
    "cos" => |x| angle(x).map(f64::cos),
    "tan" => |x| angle(x).map(f64::tan),
    "cot" => |x| angle(x).map(|x| 1.0 / x.tan()),
    "asin" => |x| unit(x).map(f64::asin),
    "acos" => |x| unit(x).map(f64::acos),
    "atan" => |x| Ok(x.atan()),
    "sinh" => |x| Ok(x.sinh()),
    "cosh" => |x| Ok(x.cosh()),
    "tanh" => |x| Ok(x.tanh()),
    "asinh" => |x| Ok(x.asinh()),
    "acosh" => |x| if x < 1.0 { Err(input_range()) } else { Ok(x.acosh()) },
    "atanh" => |x| if x.abs() > 1.0 { Err(input_range()) } else { Ok(x.atanh()) },
    "sind" => |x| angle(x).map(sine_of_degrees),
    "cosd" => |x| angle(x).map(cosine_of_degrees),
    "tand" => |x| angle(x).map(|x| sine_of_degrees(x) / cosine_of_degrees(x)),
};

/// All others.
#[expect(clippy::disallowed_methods, reason = "random() is random by definition")]
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("abs", &[T::INT2], T::INT2, |_, args| match args[0] {
        Datum::Int2(value) => value.checked_abs().map(Datum::Int2).ok_or_else(|| integer_range("smallint")),
        _ => Err(super::define::unexpected(&args[0])),
    }),
    scalar("abs", &[T::INT4], T::INT4, |_, args| {
        int4(&args[0])?.checked_abs().map(Datum::Int4).ok_or_else(|| integer_range("integer"))
    }),
    scalar("abs", &[T::INT8], T::INT8, |_, args| {
        int8(&args[0])?.checked_abs().map(Datum::Int8).ok_or_else(|| integer_range("bigint"))
    }),
    scalar("abs", &[T::FLOAT4], T::FLOAT4, |_, args| Ok(Datum::Float4(float8(&args[0])?.abs() as f32))),
    scalar("abs", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.abs()))),
    scalar("ceil", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.ceil()))),
    scalar("ceiling", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.ceil()))),
    scalar("floor", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.floor()))),
    scalar("round", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.round(0)))),
    scalar("round", &[T::NUMERIC, T::INT4], T::NUMERIC, |_, args| {
        Ok(Datum::Numeric(numeric(&args[0])?.round(int4(&args[1])?.clamp(-131_072, 2_000))))
    }),
    scalar("trunc", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.trunc(0)))),
    scalar("trunc", &[T::NUMERIC, T::INT4], T::NUMERIC, |_, args| {
        Ok(Datum::Numeric(numeric(&args[0])?.trunc(int4(&args[1])?.clamp(-131_072, 2_000))))
    }),
    scalar("sign", &[T::NUMERIC], T::NUMERIC, |_, args| {
        let value = numeric(&args[0])?;
        Ok(Datum::Numeric(if value.is_nan() { Numeric::NAN } else { Numeric::from(value.signum()) }))
    }),
    scalar("mod", &[T::INT2, T::INT2], T::INT2, |_, args| {
        remainder(int8(&args[0])?, int8(&args[1])?).map(|rest| Datum::Int2(rest as i16))
    }),
    scalar("mod", &[T::INT4, T::INT4], T::INT4, |_, args| {
        remainder(int8(&args[0])?, int8(&args[1])?).map(|rest| Datum::Int4(rest as i32))
    }),
    scalar("mod", &[T::INT8, T::INT8], T::INT8, |_, args| remainder(int8(&args[0])?, int8(&args[1])?).map(Datum::Int8)),
    scalar("mod", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| {
        numeric(&args[0])?.rem(numeric(&args[1])?).map(Datum::Numeric)
    }),
    scalar("div", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| {
        numeric(&args[0])?.div_trunc(numeric(&args[1])?).map(Datum::Numeric)
    }),
    scalar("power", &[T::FLOAT8, T::FLOAT8], T::FLOAT8, |_, args| power(args)),
    scalar("pow", &[T::FLOAT8, T::FLOAT8], T::FLOAT8, |_, args| power(args)),
    scalar("power", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| power_numeric(args)),
    scalar("pow", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| power_numeric(args)),
    scalar("sqrt", &[T::NUMERIC], T::NUMERIC, |_, args| numeric(&args[0])?.sqrt().map(Datum::Numeric)),
    scalar("exp", &[T::NUMERIC], T::NUMERIC, |_, args| numeric(&args[0])?.exp().map(Datum::Numeric)),
    scalar("ln", &[T::NUMERIC], T::NUMERIC, |_, args| numeric(&args[0])?.ln().map(Datum::Numeric)),
    scalar("log", &[T::NUMERIC], T::NUMERIC, |_, args| numeric(&args[0])?.log(&Numeric::from(10)).map(Datum::Numeric)),
    scalar("log10", &[T::NUMERIC], T::NUMERIC, |_, args| {
        numeric(&args[0])?.log(&Numeric::from(10)).map(Datum::Numeric)
    }),
    scalar("log", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| {
        numeric(&args[1])?.log(numeric(&args[0])?).map(Datum::Numeric)
    }),
    scalar("atan2", &[T::FLOAT8, T::FLOAT8], T::FLOAT8, |_, args| {
        Ok(Datum::Float8(float8(&args[0])?.atan2(float8(&args[1])?)))
    }),
    scalar("pi", &[], T::FLOAT8, |_, _| Ok(Datum::Float8(std::f64::consts::PI))),
    scalar("random", &[], T::FLOAT8, |_, _| Ok(Datum::Float8(rand::random::<f64>()))).volatile(),
    scalar("gcd", &[T::INT4, T::INT4], T::INT4, |_, args| {
        i32::try_from(gcd(int8(&args[0])?, int8(&args[1])?)).map(Datum::Int4).map_err(|_| integer_range("integer"))
    }),
    scalar("gcd", &[T::INT8, T::INT8], T::INT8, |_, args| {
        i64::try_from(gcd(int8(&args[0])?, int8(&args[1])?)).map(Datum::Int8).map_err(|_| integer_range("bigint"))
    }),
    scalar("gcd", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| gcd_numeric(args).map(Datum::Numeric)),
    scalar("lcm", &[T::INT4, T::INT4], T::INT4, |_, args| {
        i32::try_from(lcm(int8(&args[0])?, int8(&args[1])?)).map(Datum::Int4).map_err(|_| integer_range("integer"))
    }),
    scalar("lcm", &[T::INT8, T::INT8], T::INT8, |_, args| {
        i64::try_from(lcm(int8(&args[0])?, int8(&args[1])?)).map(Datum::Int8).map_err(|_| integer_range("bigint"))
    }),
    scalar("lcm", &[T::NUMERIC, T::NUMERIC], T::NUMERIC, |_, args| {
        let divisor = gcd_numeric(args)?;
        let (a, b) = (numeric(&args[0])?, numeric(&args[1])?);
        if divisor.is_zero() || !divisor.is_finite() {
            return Ok(Datum::Numeric(divisor));
        }
        let scale = i32::from(a.scale().max(b.scale()).unwrap_or(0));
        Ok(Datum::Numeric(a.div_trunc(&divisor)?.mul(b)?.abs().round(scale)))
    }),
    scalar("factorial", &[T::INT8], T::NUMERIC, |_, args| {
        let limit = int8(&args[0])?;
        if limit < 0 {
            let message = "factorial of a negative number is undefined";
            return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
        }
        if limit > 32_177 {
            return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format"));
        }
        (2..=limit).try_fold(Numeric::ONE, |product, factor| product.mul(&factor.into())).map(Datum::Numeric)
    }),
    scalar("scale", &[T::NUMERIC], T::INT4, |_, args| {
        Ok(numeric(&args[0])?.scale().map_or(Datum::Null, |scale| Datum::Int4(scale.into())))
    }),
    scalar("min_scale", &[T::NUMERIC], T::INT4, |_, args| {
        Ok(numeric(&args[0])?.trim_scale().scale().map_or(Datum::Null, |scale| Datum::Int4(scale.into())))
    }),
    scalar("trim_scale", &[T::NUMERIC], T::NUMERIC, |_, args| Ok(Datum::Numeric(numeric(&args[0])?.trim_scale()))),
    scalar("width_bucket", &[T::NUMERIC, T::NUMERIC, T::NUMERIC, T::INT4], T::INT4, |_, args| {
        let (value, low, high) = (numeric(&args[0])?, numeric(&args[1])?, numeric(&args[2])?);
        let count = i64::from(int4(&args[3])?);
        check_buckets(count, low == high, value.is_nan() || low.is_nan() || high.is_nan())?;
        let (above, beyond) = if low < high { (value >= low, value >= high) } else { (value <= low, value <= high) };
        if !above || beyond {
            return Ok(Datum::Int4(if beyond { count as i32 + 1 } else { 0 }));
        }
        let part = value.sub(low)?.mul(&count.into())?.div_trunc(&high.sub(low)?)?;
        Ok(Datum::Int4(part.to_i64().unwrap_or(0) as i32 + 1))
    }),
    scalar("width_bucket", &[T::FLOAT8, T::FLOAT8, T::FLOAT8, T::INT4], T::INT4, |_, args| {
        let (value, low, high) = (float8(&args[0])?, float8(&args[1])?, float8(&args[2])?);
        let count = int4(&args[3])?;
        check_buckets(count.into(), low == high, value.is_nan() || low.is_nan() || high.is_nan())?;
        let (above, beyond) = if low < high { (value >= low, value >= high) } else { (value <= low, value <= high) };
        if !above || beyond {
            return Ok(Datum::Int4(if beyond { count + 1 } else { 0 }));
        }
        Ok(Datum::Int4(((value - low) / (high - low) * f64::from(count)) as i32 + 1))
    }),
];

fn integer_range(type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

fn input_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

fn negative_root() -> SqlError {
    let message = "cannot take square root of a negative number";
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

/// 22003 when a finite input gave an infinity, or one not zero gave zero.
fn in_range(result: f64, finite_input: bool, zero_allowed: bool) -> Result<f64> {
    let problem = match () {
        () if result.is_infinite() && finite_input => "overflow",
        () if result == 0.0 && !zero_allowed => "underflow",
        () => return Ok(result),
    };
    Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {problem}")))
}

fn positive(x: f64) -> Result<f64> {
    let problem = match () {
        () if x == 0.0 => "cannot take logarithm of zero",
        () if x < 0.0 => "cannot take logarithm of a negative number",
        () => return Ok(x),
    };
    Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, problem))
}

fn angle(x: f64) -> Result<f64> {
    if x.is_infinite() { Err(input_range()) } else { Ok(x) }
}

fn unit(x: f64) -> Result<f64> {
    if x.abs() > 1.0 { Err(input_range()) } else { Ok(x) }
}

const RADIANS_PER_DEGREE: f64 = 0.017_453_292_519_943_295;

/// Scaled so that 30 gives exactly one half.
fn sine_to_30(x: f64) -> f64 {
    (x * RADIANS_PER_DEGREE).sin() / (30.0 * RADIANS_PER_DEGREE).sin() / 2.0
}

/// Scaled so that 60 gives exactly one half.
fn cosine_to_60(x: f64) -> f64 {
    1.0 - (1.0 - (x * RADIANS_PER_DEGREE).cos()) / (1.0 - (60.0 * RADIANS_PER_DEGREE).cos()) / 2.0
}

fn sine_of_degrees(x: f64) -> f64 {
    let x = x % 360.0;
    let (sign, x) = if x < 0.0 { (-1.0, -x) } else { (1.0, x) };
    let (sign, x) = if x > 180.0 { (-sign, 360.0 - x) } else { (sign, x) };
    let x = if x > 90.0 { 180.0 - x } else { x };
    sign * if x <= 30.0 { sine_to_30(x) } else { cosine_to_60(90.0 - x) }
}

fn cosine_of_degrees(x: f64) -> f64 {
    let x = (x % 360.0).abs();
    let x = if x > 180.0 { 360.0 - x } else { x };
    let (sign, x) = if x > 90.0 { (-1.0, 180.0 - x) } else { (1.0, x) };
    sign * if x <= 60.0 { cosine_to_60(x) } else { sine_to_30(90.0 - x) }
}

fn remainder(a: i64, b: i64) -> Result<i64> {
    match b {
        0 => Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
        b => Ok(a.wrapping_rem(b)),
    }
}

fn power(args: &[Datum]) -> Result<Datum> {
    let (base, exponent) = (float8(&args[0])?, float8(&args[1])?);
    let invalid = |message| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
    if base == 0.0 && exponent < 0.0 {
        return invalid("zero raised to a negative power is undefined");
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return invalid("a negative number raised to a non-integer power yields a complex result");
    }
    let finite = base.is_finite() && exponent.is_finite();
    in_range(base.powf(exponent), finite, base == 0.0 || !finite).map(Datum::Float8)
}

fn power_numeric(args: &[Datum]) -> Result<Datum> {
    numeric(&args[0])?.power(numeric(&args[1])?).map(Datum::Numeric)
}

fn gcd(a: i64, b: i64) -> i128 {
    num_integer::gcd(i128::from(a), i128::from(b))
}

fn lcm(a: i64, b: i64) -> i128 {
    num_integer::lcm(i128::from(a), i128::from(b)).abs()
}

fn gcd_numeric(args: &[Datum]) -> Result<Numeric> {
    let (a, b) = (numeric(&args[0])?, numeric(&args[1])?);
    if !a.is_finite() || !b.is_finite() {
        return Ok(Numeric::NAN);
    }
    let scale = i32::from(a.scale().max(b.scale()).unwrap_or(0));
    let (mut a, mut b) = (a.abs(), b.abs());
    while !b.is_zero() {
        (a, b) = (b.clone(), a.rem(&b)?);
    }
    Ok(a.round(scale))
}

fn check_buckets(count: i64, equal_bounds: bool, nan: bool) -> Result<()> {
    let problem = match () {
        () if count <= 0 => "count must be greater than zero",
        () if nan => "operand, lower bound, and upper bound cannot be NaN",
        () if equal_bounds => "lower bound cannot equal upper bound",
        () => return Ok(()),
    };
    Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION, problem))
}
