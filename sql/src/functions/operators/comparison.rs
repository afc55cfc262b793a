//! `=`, `<>`, `<`, `<=`, `>`, `>=`, for every pair of types that Postgres compares.

use super::super::{EvalContext, ScalarFunction};
use super::{operator, stable};
use crate::error::Result;
use crate::types::{BaseType, DataType, Datum};

macro_rules! evaluators {
    ($($name:ident: $test:ident;)*) => {
        $(fn $name(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
            Ok(Datum::Bool(args[0].compare(&args[1]).$test()))
        })*
    };
}

evaluators! {
    equal: is_eq;
    not_equal: is_ne;
    less: is_lt;
    less_equal: is_le;
    greater: is_gt;
    greater_equal: is_ge;
}

/// Dates, timestamps and timestamptz against each other: brought to a common type first.
macro_rules! mixed_evaluators {
    ($($name:ident: $test:ident;)*) => {
        $(fn $name(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
            let (left, right) = super::datetime::common(&args[0], &args[1], context)?;
            Ok(Datum::Bool(left.compare(&right).$test()))
        })*
    };
}

mixed_evaluators! {
    mixed_equal: is_eq;
    mixed_not_equal: is_ne;
    mixed_less: is_lt;
    mixed_less_equal: is_le;
    mixed_greater: is_gt;
    mixed_greater_equal: is_ge;
}

const ANY_ARRAY: DataType = DataType::new(BaseType::AnyArray);

macro_rules! comparisons {
    (same { $($left:ident $right:ident;)* } mixed { $($mixed_left:ident $mixed_right:ident;)* }) => {
        /// Comparison operators.
        pub const OPERATORS: &[ScalarFunction] = &[
            $(
                operator("=", &[DataType::$left, DataType::$right], DataType::BOOL, equal),
                operator("<>", &[DataType::$left, DataType::$right], DataType::BOOL, not_equal),
                operator("<", &[DataType::$left, DataType::$right], DataType::BOOL, less),
                operator("<=", &[DataType::$left, DataType::$right], DataType::BOOL, less_equal),
                operator(">", &[DataType::$left, DataType::$right], DataType::BOOL, greater),
                operator(">=", &[DataType::$left, DataType::$right], DataType::BOOL, greater_equal),
            )*
            $(
                stable(operator("=", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_equal)),
                stable(operator("<>", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_not_equal)),
                stable(operator("<", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_less)),
                stable(operator("<=", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_less_equal)),
                stable(operator(">", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_greater)),
                stable(operator(">=", &[DataType::$mixed_left, DataType::$mixed_right], DataType::BOOL, mixed_greater_equal)),
            )*
            operator("=", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, equal),
            operator("<>", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, not_equal),
            operator("<", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, less),
            operator("<=", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, less_equal),
            operator(">", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, greater),
            operator(">=", &[ANY_ARRAY, ANY_ARRAY], DataType::BOOL, greater_equal),
        ];
    };
}

comparisons! {
    same {
        BOOL BOOL;
        INT2 INT2; INT2 INT4; INT2 INT8;
        INT4 INT2; INT4 INT4; INT4 INT8;
        INT8 INT2; INT8 INT4; INT8 INT8;
        FLOAT4 FLOAT4; FLOAT4 FLOAT8; FLOAT8 FLOAT4; FLOAT8 FLOAT8;
        NUMERIC NUMERIC;
        TEXT TEXT; BPCHAR BPCHAR; NAME NAME; NAME TEXT; TEXT NAME; INTERNAL_CHAR INTERNAL_CHAR;
        BYTEA BYTEA;
        DATE DATE; TIME TIME; TIMESTAMP TIMESTAMP; TIMESTAMPTZ TIMESTAMPTZ; INTERVAL INTERVAL;
        UUID UUID; JSONB JSONB; OID OID; PG_LSN PG_LSN; RECORD RECORD;
    }
    mixed {
        DATE TIMESTAMP; DATE TIMESTAMPTZ;
        TIMESTAMP DATE; TIMESTAMP TIMESTAMPTZ;
        TIMESTAMPTZ DATE; TIMESTAMPTZ TIMESTAMP;
    }
}
