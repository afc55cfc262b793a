//! Arithmetic on numbers, with overflow checked as in Postgres, and bit operations.

use super::super::{EvalContext, ScalarFunction};
use super::{mistyped, operator};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum};

#[cold]
fn out_of_range(type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

#[cold]
fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// The integers of an argument list, whatever their widths.
fn integers(name: &str, args: &[Datum]) -> Result<(i64, i64)> {
    match (args[0].as_i64(), args[1].as_i64()) {
        (Some(left), Some(right)) => Ok((left, right)),
        _ => Err(mistyped(name, args)),
    }
}

macro_rules! integer_operators {
    ($($module:ident $type:ty, $variant:ident, $sql:literal;)*) => {
        $(mod $module {
            use super::*;

            fn narrow(value: Option<i64>) -> Result<Datum> {
                let value = value.and_then(|value| <$type>::try_from(value).ok());
                value.map(Datum::$variant).ok_or_else(|| out_of_range($sql))
            }
            pub fn add(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                let (left, right) = integers("+", args)?;
                narrow(left.checked_add(right))
            }
            pub fn subtract(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                let (left, right) = integers("-", args)?;
                narrow(left.checked_sub(right))
            }
            pub fn multiply(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                let (left, right) = integers("*", args)?;
                narrow(left.checked_mul(right))
            }
            pub fn divide(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                let (left, right) = integers("/", args)?;
                if right == 0 {
                    return Err(division_by_zero());
                }
                narrow(left.checked_div(right))
            }
            pub fn modulo(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                let (left, right) = integers("%", args)?;
                if right == 0 {
                    return Err(division_by_zero());
                }
                // The smallest integer modulo -1 overflows in hardware; its value is 0.
                narrow(Some(left.checked_rem(right).unwrap_or(0)))
            }
            pub fn negate(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                narrow(args[0].as_i64().ok_or_else(|| mistyped("-", args))?.checked_neg())
            }
            pub fn absolute(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                narrow(args[0].as_i64().ok_or_else(|| mistyped("@", args))?.checked_abs())
            }
            fn bits(name: &str, args: &[Datum], operation: fn($type, $type) -> $type) -> Result<Datum> {
                match (&args[0], &args[1]) {
                    (Datum::$variant(left), Datum::$variant(right)) => Ok(Datum::$variant(operation(*left, *right))),
                    _ => Err(mistyped(name, args)),
                }
            }
            pub fn bit_and(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                bits("&", args, |left, right| left & right)
            }
            pub fn bit_or(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                bits("|", args, |left, right| left | right)
            }
            pub fn bit_xor(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                bits("#", args, |left, right| left ^ right)
            }
            pub fn bit_not(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                bits("~", &[args[0].clone(), args[0].clone()], |left, _| !left)
            }
            // Shift counts beyond the width wrap, as the processors that Postgres runs on do it.
            pub fn shift_left(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                match (&args[0], &args[1]) {
                    (Datum::$variant(value), Datum::Int4(count)) => Ok(Datum::$variant(value.wrapping_shl(*count as u32))),
                    _ => Err(mistyped("<<", args)),
                }
            }
            pub fn shift_right(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
                match (&args[0], &args[1]) {
                    (Datum::$variant(value), Datum::Int4(count)) => Ok(Datum::$variant(value.wrapping_shr(*count as u32))),
                    _ => Err(mistyped(">>", args)),
                }
            }
        })*
    };
}

integer_operators! {
    int2 i16, Int2, "smallint";
    int4 i32, Int4, "integer";
    int8 i64, Int8, "bigint";
}

/// Of a module that has `operands`.
macro_rules! float_operators {
    ($type:ty, $variant:ident) => {
        fn check(value: $type, finite: bool, zero_is_fine: bool) -> Result<Datum> {
            if value.is_infinite() && finite {
                return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
            }
            if value == 0.0 && !zero_is_fine {
                return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow"));
            }
            Ok(Datum::$variant(value))
        }
        pub fn add(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let (left, right) = operands(args)?;
            check(left + right, left.is_finite() && right.is_finite(), true)
        }
        pub fn subtract(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let (left, right) = operands(args)?;
            check(left - right, left.is_finite() && right.is_finite(), true)
        }
        pub fn multiply(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let (left, right) = operands(args)?;
            check(left * right, left.is_finite() && right.is_finite(), left == 0.0 || right == 0.0)
        }
        pub fn divide(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let (left, right) = operands(args)?;
            if right == 0.0 && !left.is_nan() {
                return Err(division_by_zero());
            }
            check(left / right, left.is_finite() && right.is_finite(), left == 0.0 || right.is_infinite())
        }
    };
}

mod float4 {
    use super::*;

    fn operands(args: &[Datum]) -> Result<(f32, f32)> {
        match (&args[0], &args[1]) {
            (Datum::Float4(left), Datum::Float4(right)) => Ok((*left, *right)),
            _ => Err(mistyped("float4 arithmetic", args)),
        }
    }

    float_operators!(f32, Float4);
}

mod float8 {
    use super::*;

    fn operands(args: &[Datum]) -> Result<(f64, f64)> {
        match (args[0].as_f64(), args[1].as_f64()) {
            (Some(left), Some(right)) => Ok((left, right)),
            _ => Err(mistyped("float8 arithmetic", args)),
        }
    }

    float_operators!(f64, Float8);

    pub fn power(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
        let (base, exponent) = operands(args)?;
        if base == 0.0 && exponent < 0.0 {
            return Err(SqlError::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "zero raised to a negative power is undefined",
            ));
        }
        if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
            return Err(SqlError::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        check(base.powf(exponent), base.is_finite() && exponent.is_finite(), base == 0.0)
    }
    pub fn square_root(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
        match args[0].as_f64() {
            Some(value) if value < 0.0 => Err(SqlError::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            )),
            Some(value) => Ok(Datum::Float8(value.sqrt())),
            None => Err(mistyped("|/", args)),
        }
    }
    pub fn cube_root(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
        args[0].as_f64().map(|value| Datum::Float8(value.cbrt())).ok_or_else(|| mistyped("||/", args))
    }
}

fn negate_float(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match &args[0] {
        Datum::Float4(value) => Ok(Datum::Float4(-value)),
        Datum::Float8(value) => Ok(Datum::Float8(-value)),
        _ => Err(mistyped("-", args)),
    }
}

fn absolute_float(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match &args[0] {
        Datum::Float4(value) => Ok(Datum::Float4(value.abs())),
        Datum::Float8(value) => Ok(Datum::Float8(value.abs())),
        _ => Err(mistyped("@", args)),
    }
}

macro_rules! numeric_operators {
    ($($name:ident = $method:ident;)*) => {
        $(fn $name(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            match (&args[0], &args[1]) {
                (Datum::Numeric(left), Datum::Numeric(right)) => left.$method(right).map(Datum::Numeric),
                _ => Err(mistyped("numeric arithmetic", args)),
            }
        })*
    };
}

numeric_operators! {
    numeric_add = add;
    numeric_subtract = sub;
    numeric_multiply = mul;
    numeric_divide = div;
    numeric_modulo = rem;
    numeric_power = power;
}

fn numeric_negate(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match &args[0] {
        Datum::Numeric(value) => Ok(Datum::Numeric(value.neg())),
        _ => Err(mistyped("-", args)),
    }
}

fn numeric_absolute(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match &args[0] {
        Datum::Numeric(value) => Ok(Datum::Numeric(value.abs())),
        _ => Err(mistyped("@", args)),
    }
}

fn identity(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    Ok(args[0].clone())
}

macro_rules! table {
    (
        mixed { $($left:ident $right:ident $result:ident $module:ident;)* }
        integers { $($integer:ident $integer_module:ident;)* }
        floats { $($float_left:ident $float_right:ident $float_result:ident $float_module:ident;)* }
    ) => {
        /// Arithmetic operators.
        pub const OPERATORS: &[ScalarFunction] = &[
            $(
                operator("+", &[DataType::$left, DataType::$right], DataType::$result, $module::add),
                operator("-", &[DataType::$left, DataType::$right], DataType::$result, $module::subtract),
                operator("*", &[DataType::$left, DataType::$right], DataType::$result, $module::multiply),
                operator("/", &[DataType::$left, DataType::$right], DataType::$result, $module::divide),
            )*
            $(
                operator("%", &[DataType::$integer, DataType::$integer], DataType::$integer, $integer_module::modulo),
                operator("-", &[DataType::$integer], DataType::$integer, $integer_module::negate),
                operator("+", &[DataType::$integer], DataType::$integer, identity),
                operator("@", &[DataType::$integer], DataType::$integer, $integer_module::absolute),
                operator("&", &[DataType::$integer, DataType::$integer], DataType::$integer, $integer_module::bit_and),
                operator("|", &[DataType::$integer, DataType::$integer], DataType::$integer, $integer_module::bit_or),
                operator("#", &[DataType::$integer, DataType::$integer], DataType::$integer, $integer_module::bit_xor),
                operator("~", &[DataType::$integer], DataType::$integer, $integer_module::bit_not),
                operator("<<", &[DataType::$integer, DataType::INT4], DataType::$integer, $integer_module::shift_left),
                operator(">>", &[DataType::$integer, DataType::INT4], DataType::$integer, $integer_module::shift_right),
            )*
            $(
                operator("+", &[DataType::$float_left, DataType::$float_right], DataType::$float_result, $float_module::add),
                operator("-", &[DataType::$float_left, DataType::$float_right], DataType::$float_result, $float_module::subtract),
                operator("*", &[DataType::$float_left, DataType::$float_right], DataType::$float_result, $float_module::multiply),
                operator("/", &[DataType::$float_left, DataType::$float_right], DataType::$float_result, $float_module::divide),
            )*
            operator("-", &[DataType::FLOAT4], DataType::FLOAT4, negate_float),
            operator("-", &[DataType::FLOAT8], DataType::FLOAT8, negate_float),
            operator("+", &[DataType::FLOAT4], DataType::FLOAT4, identity),
            operator("+", &[DataType::FLOAT8], DataType::FLOAT8, identity),
            operator("@", &[DataType::FLOAT4], DataType::FLOAT4, absolute_float),
            operator("@", &[DataType::FLOAT8], DataType::FLOAT8, absolute_float),
            operator("^", &[DataType::FLOAT8, DataType::FLOAT8], DataType::FLOAT8, float8::power),
            operator("|/", &[DataType::FLOAT8], DataType::FLOAT8, float8::square_root),
            operator("||/", &[DataType::FLOAT8], DataType::FLOAT8, float8::cube_root),
            operator("+", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_add),
            operator("-", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_subtract),
            operator("*", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_multiply),
            operator("/", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_divide),
            operator("%", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_modulo),
            operator("^", &[DataType::NUMERIC, DataType::NUMERIC], DataType::NUMERIC, numeric_power),
            operator("-", &[DataType::NUMERIC], DataType::NUMERIC, numeric_negate),
            operator("+", &[DataType::NUMERIC], DataType::NUMERIC, identity),
            operator("@", &[DataType::NUMERIC], DataType::NUMERIC, numeric_absolute),
        ];
    };
}

table! {
    mixed {
        INT2 INT2 INT2 int2;
        INT2 INT4 INT4 int4; INT4 INT2 INT4 int4; INT4 INT4 INT4 int4;
        INT2 INT8 INT8 int8; INT8 INT2 INT8 int8; INT4 INT8 INT8 int8; INT8 INT4 INT8 int8; INT8 INT8 INT8 int8;
    }
    integers { INT2 int2; INT4 int4; INT8 int8; }
    floats {
        FLOAT4 FLOAT4 FLOAT4 float4;
        FLOAT4 FLOAT8 FLOAT8 float8; FLOAT8 FLOAT4 FLOAT8 float8; FLOAT8 FLOAT8 FLOAT8 float8;
    }
}
