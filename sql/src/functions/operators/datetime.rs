//! Arithmetic on dates, times, timestamps and intervals.

use std::sync::Arc;

use super::super::{EvalContext, ScalarFunction};
use super::{mistyped, operator, stable};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{self, DAY_US};
use crate::types::{DataType, Datum, Interval};

#[cold]
fn interval_out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

#[cold]
fn infinite(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("cannot subtract infinite {what}"))
}

fn interval(value: Interval) -> Datum {
    Datum::Interval(Arc::new(value))
}

/// Midnight of a date as a `timestamp`; infinities stay.
pub fn date_to_timestamp(days: i32) -> Result<i64> {
    match days {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        days => i64::from(days)
            .checked_mul(DAY_US)
            .filter(|value| *value <= datetime::MAX_TIMESTAMP_US)
            .ok_or_else(|| SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    }
}

/// Two of date, timestamp and timestamptz brought to one type.
pub(super) fn common(left: &Datum, right: &Datum, context: &EvalContext) -> Result<(Datum, Datum)> {
    let zoned = matches!(left, Datum::Timestamptz(_)) || matches!(right, Datum::Timestamptz(_));
    let convert = |value: &Datum| -> Result<Datum> {
        let local = match value {
            Datum::Date(days) => date_to_timestamp(*days)?,
            Datum::Timestamp(local) => *local,
            Datum::Timestamptz(_) => return Ok(value.clone()),
            _ => return Err(mistyped("a comparison of dates", std::slice::from_ref(value))),
        };
        Ok(if zoned {
            Datum::Timestamptz(if datetime::is_infinite(local) {
                local
            } else {
                datetime::utc_from_local(&context.time_zone, local)
            })
        } else {
            Datum::Timestamp(local)
        })
    };
    Ok((convert(left)?, convert(right)?))
}

fn date_plus_days(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (days, count) = match args {
        [Datum::Date(days), Datum::Int4(count)] | [Datum::Int4(count), Datum::Date(days)] => (*days, i64::from(*count)),
        _ => return Err(mistyped("+", args)),
    };
    shift_date(days, count)
}

fn date_minus_days(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Date(days), Datum::Int4(count)] => shift_date(*days, -i64::from(*count)),
        _ => Err(mistyped("-", args)),
    }
}

fn shift_date(days: i32, count: i64) -> Result<Datum> {
    if days == i32::MIN || days == i32::MAX {
        return Ok(Datum::Date(days));
    }
    datetime::check_date(i64::from(days) + count).map(Datum::Date)
}

fn date_minus_date(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Date(i32::MIN | i32::MAX), _] | [_, Datum::Date(i32::MIN | i32::MAX)] => Err(infinite("dates")),
        [Datum::Date(left), Datum::Date(right)] => Ok(Datum::Int4(left - right)),
        _ => Err(mistyped("-", args)),
    }
}

fn date_plus_time(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Date(days), Datum::Time(time)] | [Datum::Time(time), Datum::Date(days)] => {
            let midnight = date_to_timestamp(*days)?;
            if datetime::is_infinite(midnight) {
                return Ok(Datum::Timestamp(midnight));
            }
            datetime::check_timestamp(midnight.checked_add(*time)).map(Datum::Timestamp)
        }
        _ => Err(mistyped("+", args)),
    }
}

/// date, timestamp or timestamptz plus interval, in either order.
fn plus_interval(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [moment, Datum::Interval(interval)] | [Datum::Interval(interval), moment] => shift(moment, interval, context),
        _ => Err(mistyped("+", args)),
    }
}

fn minus_interval(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [moment, Datum::Interval(interval)] => shift(moment, &interval.negated()?, context),
        _ => Err(mistyped("-", args)),
    }
}

fn shift(moment: &Datum, interval: &Interval, context: &EvalContext) -> Result<Datum> {
    match moment {
        Datum::Date(days) => datetime::add_interval(date_to_timestamp(*days)?, interval).map(Datum::Timestamp),
        Datum::Timestamp(local) => datetime::add_interval(*local, interval).map(Datum::Timestamp),
        Datum::Timestamptz(instant) => {
            datetime::add_interval_in_zone(*instant, interval, &context.time_zone).map(Datum::Timestamptz)
        }
        // Only the time of day counts, around the clock.
        Datum::Time(time) => Ok(Datum::Time((time + interval.microseconds % DAY_US).rem_euclid(DAY_US))),
        _ => Err(mistyped("interval arithmetic", std::slice::from_ref(moment))),
    }
}

fn timestamp_difference(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = match args {
        [Datum::Timestamp(left), Datum::Timestamp(right)] | [Datum::Timestamptz(left), Datum::Timestamptz(right)] => {
            (*left, *right)
        }
        _ => return Err(mistyped("-", args)),
    };
    if datetime::is_infinite(left) || datetime::is_infinite(right) {
        return Err(infinite("timestamps"));
    }
    let microseconds = left.checked_sub(right).ok_or_else(interval_out_of_range)?;
    let days = i32::try_from(microseconds / DAY_US).map_err(|_| interval_out_of_range())?;
    Ok(interval(Interval { months: 0, days, microseconds: microseconds % DAY_US }))
}

fn time_difference(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Time(left), Datum::Time(right)] => {
            Ok(interval(Interval { months: 0, days: 0, microseconds: left - right }))
        }
        _ => Err(mistyped("-", args)),
    }
}

fn intervals(args: &[Datum]) -> Result<(&Interval, &Interval)> {
    match args {
        [Datum::Interval(left), Datum::Interval(right)] => Ok((left, right)),
        _ => Err(mistyped("interval arithmetic", args)),
    }
}

/// Sum of two intervals, field by field.
pub fn add_intervals(left: &Interval, right: &Interval) -> Result<Interval> {
    let sum = || {
        Some(Interval {
            months: left.months.checked_add(right.months)?,
            days: left.days.checked_add(right.days)?,
            microseconds: left.microseconds.checked_add(right.microseconds)?,
        })
    };
    sum().ok_or_else(interval_out_of_range)
}

fn interval_plus_interval(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = intervals(args)?;
    add_intervals(left, right).map(interval)
}

fn interval_minus_interval(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (left, right) = intervals(args)?;
    add_intervals(left, &right.negated()?).map(interval)
}

fn negate_interval(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Interval(value)] => value.negated().map(interval),
        _ => Err(mistyped("-", args)),
    }
}

/// An interval times a factor. What is left over of months goes into days (of 30 to a month), what is left
/// over of days into the time, as in Postgres.
pub fn scale_interval(value: &Interval, factor: f64) -> Result<Interval> {
    let in_range = |number: f64, limit: f64| number.is_finite() && number.abs() < limit;
    let months = f64::from(value.months) * factor;
    let days = f64::from(value.days) * factor;
    if !in_range(months, 2_147_483_648.0) || !in_range(days, 2_147_483_648.0) {
        return Err(interval_out_of_range());
    }
    let round_us = |seconds: f64| (seconds * 1e6).round() / 1e6;
    let (whole_months, whole_days) = (months.trunc(), days.trunc());
    let month_remainder_days = round_us((months - whole_months) * 30.0);
    let mut seconds = round_us((days - whole_days + month_remainder_days - month_remainder_days.trunc()) * 86_400.0);
    let mut total_days = whole_days + month_remainder_days.trunc();
    if seconds.abs() >= 86_400.0 {
        total_days += (seconds / 86_400.0).trunc();
        seconds -= (seconds / 86_400.0).trunc() * 86_400.0;
    }
    let microseconds = (value.microseconds as f64 * factor + seconds * 1e6).round_ties_even();
    if !in_range(total_days, 2_147_483_648.0) || !in_range(microseconds, 9.223_372_036_854_775e18) {
        return Err(interval_out_of_range());
    }
    Ok(Interval { months: whole_months as i32, days: total_days as i32, microseconds: microseconds as i64 })
}

fn interval_times(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Interval(value), Datum::Float8(factor)] | [Datum::Float8(factor), Datum::Interval(value)] => {
            scale_interval(value, *factor).map(interval)
        }
        _ => Err(mistyped("*", args)),
    }
}

fn interval_divided(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Interval(_), Datum::Float8(divisor)] if *divisor == 0.0 => {
            Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"))
        }
        [Datum::Interval(value), Datum::Float8(divisor)] => scale_interval(value, 1.0 / divisor).map(interval),
        _ => Err(mistyped("/", args)),
    }
}

const D: DataType = DataType::DATE;
const T: DataType = DataType::TIME;
const TS: DataType = DataType::TIMESTAMP;
const TZ: DataType = DataType::TIMESTAMPTZ;
const I: DataType = DataType::INTERVAL;

/// Date and time operators.
pub const OPERATORS: &[ScalarFunction] = &[
    operator("+", &[D, DataType::INT4], D, date_plus_days),
    operator("+", &[DataType::INT4, D], D, date_plus_days),
    operator("-", &[D, DataType::INT4], D, date_minus_days),
    operator("-", &[D, D], DataType::INT4, date_minus_date),
    operator("+", &[D, T], TS, date_plus_time),
    operator("+", &[T, D], TS, date_plus_time),
    operator("+", &[D, I], TS, plus_interval),
    operator("+", &[I, D], TS, plus_interval),
    operator("-", &[D, I], TS, minus_interval),
    operator("+", &[TS, I], TS, plus_interval),
    operator("+", &[I, TS], TS, plus_interval),
    operator("-", &[TS, I], TS, minus_interval),
    stable(operator("+", &[TZ, I], TZ, plus_interval)),
    stable(operator("+", &[I, TZ], TZ, plus_interval)),
    stable(operator("-", &[TZ, I], TZ, minus_interval)),
    operator("+", &[T, I], T, plus_interval),
    operator("+", &[I, T], T, plus_interval),
    operator("-", &[T, I], T, minus_interval),
    operator("-", &[TS, TS], I, timestamp_difference),
    operator("-", &[TZ, TZ], I, timestamp_difference),
    operator("-", &[T, T], I, time_difference),
    operator("+", &[I, I], I, interval_plus_interval),
    operator("-", &[I, I], I, interval_minus_interval),
    operator("-", &[I], I, negate_interval),
    operator("*", &[I, DataType::FLOAT8], I, interval_times),
    operator("*", &[DataType::FLOAT8, I], I, interval_times),
    operator("/", &[I, DataType::FLOAT8], I, interval_divided),
];
