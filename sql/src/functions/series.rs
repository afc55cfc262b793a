//! generate_series.

use std::sync::Arc;

use super::operators::mistyped;
use super::{EvalContext, TableFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum, Interval, Numeric, Row, datetime};

type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

fn zero_step() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero")
}

fn empty() -> Result<Rows> {
    Ok(Box::new(std::iter::empty()))
}

fn integers(_: &EvalContext, args: &[Datum]) -> Result<Rows> {
    if args.iter().any(Datum::is_null) {
        return empty();
    }
    let narrow = matches!(args[0], Datum::Int4(_));
    let number = |position: usize| args.get(position).map(Datum::as_i64);
    let (Some(Some(start)), Some(Some(stop)), step) = (number(0), number(1), number(2)) else {
        return Err(mistyped("generate_series", args));
    };
    let step = step.flatten().unwrap_or(1);
    if step == 0 {
        return Err(zero_step());
    }
    let mut next = Some(start);
    Ok(Box::new(std::iter::from_fn(move || {
        let value = next.filter(|value| if step > 0 { *value <= stop } else { *value >= stop })?;
        next = value.checked_add(step);
        Some(Ok(vec![if narrow { Datum::Int4(value as i32) } else { Datum::Int8(value) }]))
    })))
}

fn numerics(_: &EvalContext, args: &[Datum]) -> Result<Rows> {
    if args.iter().any(Datum::is_null) {
        return empty();
    }
    let (start, stop, step) = match args {
        [Datum::Numeric(start), Datum::Numeric(stop)] => (start.clone(), stop.clone(), Numeric::from(1i64)),
        [Datum::Numeric(start), Datum::Numeric(stop), Datum::Numeric(step)] => {
            (start.clone(), stop.clone(), step.clone())
        }
        _ => return Err(mistyped("generate_series", args)),
    };
    for (name, value) in [("start", &start), ("stop", &stop), ("step size", &step)] {
        if !value.is_finite() {
            let what = if value.is_nan() { "NaN" } else { "infinity" };
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{name} value cannot be {what}").replace("step size value", "step size"),
            ));
        }
    }
    if step.is_zero() {
        return Err(zero_step());
    }
    let mut next = Some(Ok(start));
    Ok(Box::new(std::iter::from_fn(move || {
        let value = match next.take()? {
            Ok(value) => value,
            Err(error) => return Some(Err(error)),
        };
        if if step.signum() > 0 { value > stop } else { value < stop } {
            return None;
        }
        next = Some(value.add(&step));
        Some(Ok(vec![Datum::Numeric(value)]))
    })))
}

fn timestamps(context: &EvalContext, args: &[Datum]) -> Result<Rows> {
    if args.iter().any(Datum::is_null) {
        return empty();
    }
    let (start, stop, step, zone) = match args {
        [Datum::Timestamp(start), Datum::Timestamp(stop), Datum::Interval(step)] => (*start, *stop, step.clone(), None),
        [Datum::Timestamptz(start), Datum::Timestamptz(stop), Datum::Interval(step)] => {
            (*start, *stop, step.clone(), Some(context.time_zone.clone()))
        }
        _ => return Err(mistyped("generate_series", args)),
    };
    let forward = match step.span_us() {
        0 => return Err(zero_step()),
        span => span > 0,
    };
    let mut next = Some(Ok(start));
    Ok(Box::new(std::iter::from_fn(move || {
        let value = match next.take()? {
            Ok(value) => value,
            Err(error) => return Some(Err(error)),
        };
        if if forward { value > stop } else { value < stop } {
            return None;
        }
        let step: &Arc<Interval> = &step;
        next = Some(match &zone {
            Some(zone) => datetime::add_interval_in_zone(value, step, zone),
            None => datetime::add_interval(value, step),
        });
        Some(Ok(vec![if zone.is_some() { Datum::Timestamptz(value) } else { Datum::Timestamp(value) }]))
    })))
}

const fn series(
    args: &'static [DataType],
    columns: &'static [(&'static str, DataType)],
    open: fn(&EvalContext, &[Datum]) -> Result<Rows>,
) -> TableFunction {
    TableFunction { name: "generate_series", args, columns, open }
}

macro_rules! table {
    ($($element:ident $open:ident $($arg:ident)*;)*) => {
        /// generate_series in all its forms.
        pub const TABLE_FUNCTIONS: &[TableFunction] = &[
            $(series(&[$(DataType::$arg),*], &[("generate_series", DataType::$element)], $open),)*
        ];
    };
}

table! {
    INT4 integers INT4 INT4;
    INT4 integers INT4 INT4 INT4;
    INT8 integers INT8 INT8;
    INT8 integers INT8 INT8 INT8;
    NUMERIC numerics NUMERIC NUMERIC;
    NUMERIC numerics NUMERIC NUMERIC NUMERIC;
    TIMESTAMP timestamps TIMESTAMP TIMESTAMP INTERVAL;
    TIMESTAMPTZ timestamps TIMESTAMPTZ TIMESTAMPTZ INTERVAL;
}
