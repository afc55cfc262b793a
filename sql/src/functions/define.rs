//! Writing signatures: a call of [`scalar`] for each, and what differs from an immutable strict function.

use super::{EvalContext, ScalarFunction, Volatility};
use crate::error::{Result, SqlError};
use crate::types::{Array, DataType, Datum, Interval, Numeric};

/// What a scalar function does.
pub(crate) type Eval = fn(&EvalContext, &[Datum]) -> Result<Datum>;

/// An immutable, strict function.
pub(crate) const fn scalar(
    name: &'static str,
    args: &'static [DataType],
    result: DataType,
    eval: Eval,
) -> ScalarFunction {
    ScalarFunction {
        name,
        operator: false,
        args,
        variadic: false,
        result,
        strict: true,
        volatility: Volatility::Immutable,
        session: false,
        eval,
    }
}

/// A strict function that the session answers.
pub(crate) const fn session(name: &'static str, args: &'static [DataType], result: DataType) -> ScalarFunction {
    let function = scalar(name, args, result, |_, _| Err(SqlError::internal("a session function was called directly")));
    ScalarFunction { session: true, volatility: Volatility::Stable, ..function }
}

impl ScalarFunction {
    /// The same within a statement.
    pub(crate) const fn stable(self) -> Self {
        Self { volatility: Volatility::Stable, ..self }
    }

    /// May differ from call to call.
    pub(crate) const fn volatile(self) -> Self {
        Self { volatility: Volatility::Volatile, ..self }
    }

    /// Is called with NULLs.
    pub(crate) const fn nullable(self) -> Self {
        Self { strict: false, ..self }
    }

    /// Takes any number of its last argument.
    pub(crate) const fn variadic(self) -> Self {
        Self { variadic: true, ..self }
    }

    /// Is written as an operator.
    pub(crate) const fn infix(self) -> Self {
        Self { operator: true, ..self }
    }
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident -> $type:ty { $($pattern:pat => $value:expr),* $(,)? })*) => {
        $($(#[$doc])*
        pub(crate) fn $name(value: &Datum) -> Result<$type> {
            match value {
                $($pattern => Ok($value),)*
                other => Err(unexpected(other)),
            }
        })*
    };
}

/// An argument is not of the signature's type: the binder has left out a conversion.
#[cold]
pub(crate) fn unexpected(value: &Datum) -> SqlError {
    SqlError::internal(format!("a function was called with {value:?}"))
}

accessors! {
    /// The characters of an argument.
    string -> &str { Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => text }
    /// An int4.
    int4 -> i32 { Datum::Int4(value) => *value, Datum::Int2(value) => (*value).into() }
    /// An int8 (or narrower).
    int8 -> i64 { Datum::Int8(value) => *value, Datum::Int4(value) => (*value).into(), Datum::Int2(value) => (*value).into() }
    /// A float8.
    float8 -> f64 { Datum::Float8(value) => *value, Datum::Float4(value) => (*value).into() }
    /// A numeric.
    numeric -> &Numeric { Datum::Numeric(value) => value }
    /// A bool.
    boolean -> bool { Datum::Bool(value) => *value }
    /// The bytes of a bytea.
    bytea -> &bytes::Bytes { Datum::Bytea(bytes) => bytes }
    /// An interval.
    interval -> &Interval { Datum::Interval(value) => value }
    /// An array.
    array -> &Array { Datum::Array(array) => array }
    /// A jsonb.
    jsonb -> &std::sync::Arc<serde_json::Value> { Datum::Jsonb(document) => document }
}
