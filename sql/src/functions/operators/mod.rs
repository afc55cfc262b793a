//! Operators, by what they work on. Each table has one entry per signature, as `pg_operator` has.

pub(super) mod arithmetic;
pub(super) mod comparison;
pub(super) mod datetime;
pub(super) mod other;
pub(super) mod text;

use super::{EvalContext, ScalarFunction, Volatility};
use crate::error::{Result, SqlError};
use crate::types::{DataType, Datum};

/// A strict, immutable operator.
pub(super) const fn operator(
    name: &'static str,
    args: &'static [DataType],
    result: DataType,
    eval: fn(&EvalContext, &[Datum]) -> Result<Datum>,
) -> ScalarFunction {
    ScalarFunction {
        name,
        operator: true,
        args,
        variadic: false,
        result,
        strict: true,
        volatility: Volatility::Immutable,
        session: false,
        eval,
    }
}

/// The same, but its answer depends on the TimeZone setting.
pub(super) const fn stable(mut function: ScalarFunction) -> ScalarFunction {
    function.volatility = Volatility::Stable;
    function
}

/// The arguments are not of the signature's types: the binder has coerced wrongly.
#[cold]
pub(super) fn mistyped(name: &str, args: &[Datum]) -> SqlError {
    SqlError::internal(format!("{name} was called with {args:?}"))
}
