//! Functions, operators and aggregates: their signatures, how calls are resolved, and what they do.

pub(crate) mod aggregates;
pub(crate) mod array;
mod binary_string;
mod check;
mod datetime;
pub(crate) mod define;
mod detached;
mod format_datetime;
mod format_number;
#[cfg(test)]
mod golden_tests;
mod json;
mod json_build;
mod json_path;
mod math;
mod misc;
mod operators;
mod parse_datetime;
mod regexp;
pub mod registry;
mod resolve;
mod series;
mod session;
mod string;
mod string_format;

use std::sync::Arc;

pub use operators::datetime::{add_intervals, date_to_timestamp, scale_interval};
pub use operators::other::{concatenate_arrays, with_element};
pub use operators::text::{like, regular_expression};
pub use resolve::{
    Resolved, common_type, resolve_aggregate, resolve_function, resolve_operator, resolve_table_function,
};

use crate::error::Result;
use crate::types::{BaseType, DataType, Datum, Row};

/// What a function may ask of its surroundings. The session fills it once a statement.
pub struct EvalContext {
    /// `transaction_timestamp()`: microseconds since 2000-01-01 UTC.
    pub transaction_timestamp_us: i64,
    /// `statement_timestamp()`.
    pub statement_timestamp_us: i64,
    /// Reads the clock (`clock_timestamp()`), microseconds since 2000-01-01 UTC.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// TimeZone setting.
    pub time_zone: jiff::tz::TimeZone,
    /// DateStyle setting: ISO output with this field order on input.
    pub date_order: DateOrder,
    /// extra_float_digits setting.
    pub extra_float_digits: i32,
    /// What needs the session, the catalog or the store (nextval, current_user, pg_get_indexdef …).
    pub session: Arc<dyn SessionFunctions>,
}

/// Order of day, month and year in ambiguous dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

/// Functions whose answer depends on session, catalog or store. Called by name with evaluated arguments;
/// their signatures are in the same registry as all others (`session: true`).
pub trait SessionFunctions: Send + Sync {
    /// Calls the function. Arguments have the types of the signature.
    fn call(&self, function: &'static ScalarFunction, args: &[Datum], context: &EvalContext) -> Result<Datum>;
    /// Name → OID for regclass input; None when there is no such relation.
    fn relation_oid(&self, name: &str) -> Result<Option<u32>>;
    /// OID → name for regclass output, qualified where the search path would not find it.
    fn relation_name(&self, oid: u32) -> Option<String>;
    /// The rows of `alluvium_check`: of one relation, or of everything.
    fn check(&self, _relation: Option<u32>) -> Result<Vec<Row>> {
        Err(crate::error::SqlError::unsupported("alluvium_check without a session"))
    }
    /// What system views ask that is not in the catalog.
    fn system_information(&self) -> &dyn crate::catalog::SystemInformation {
        &crate::catalog::NoSystemInformation
    }
}

/// Volatility, as in `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

/// A scalar function or operator with one signature.
pub struct ScalarFunction {
    /// Name as in `pg_proc`, or the operator's symbol.
    pub name: &'static str,
    /// Whether `name` is an operator.
    pub operator: bool,
    /// Argument types; the last repeats when `variadic`.
    pub args: &'static [DataType],
    /// Takes any number of the last argument.
    pub variadic: bool,
    /// Result type (polymorphic ones are resolved per call into `Expr::Call::data_type`).
    pub result: DataType,
    /// NULL in, NULL out, without a call.
    pub strict: bool,
    /// Volatility.
    pub volatility: Volatility,
    /// Answered by [`SessionFunctions::call`]; `eval` is not used.
    pub session: bool,
    /// The function. `args` has as many values as the call has arguments.
    pub eval: fn(&EvalContext, &[Datum]) -> Result<Datum>,
}

/// An aggregate with one signature.
pub struct AggregateFunction {
    /// Name.
    pub name: &'static str,
    /// Argument types; empty for `count(*)`.
    pub args: &'static [DataType],
    /// Result type.
    pub result: DataType,
    /// Makes an empty state.
    pub state: fn() -> Box<dyn AggregateState>,
}

/// State of one aggregate over one group.
pub trait AggregateState: Send {
    /// Takes one row's arguments, NULLs included.
    fn update(&mut self, context: &EvalContext, args: &[Datum]) -> Result<()>;
    /// The result. The state is not used afterwards, unless it is [`AggregateState::resumable`].
    fn finish(&mut self, context: &EvalContext) -> Result<Datum>;
    /// Whether more rows may be taken after `finish`: window frames that only grow are then folded once.
    fn resumable(&self) -> bool {
        false
    }
    /// Rough bytes held, for the memory limit.
    fn memory_bytes(&self) -> usize {
        64
    }
}

/// Rows of a set-returning function, made as they are asked for.
pub type FunctionRows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// A set-returning function.
pub struct TableFunction {
    /// Name.
    pub name: &'static str,
    /// Argument types.
    pub args: &'static [DataType],
    /// Output columns.
    pub columns: &'static [(&'static str, DataType)],
    /// Starts it. Rows are produced on demand.
    pub open: fn(&EvalContext, &[Datum]) -> Result<FunctionRows>,
}

macro_rules! named_debug {
    ($($name:ident),*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.name)
            }
        })*
    };
}
named_debug!(ScalarFunction, AggregateFunction, TableFunction);

/// A type as polymorphic signatures write it.
pub const ANY: DataType = DataType::new(BaseType::Unknown);
