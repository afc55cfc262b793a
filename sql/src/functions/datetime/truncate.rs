//! `date_trunc` and `date_bin`.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::super::define::{interval, scalar, string};
use super::super::{EvalContext, ScalarFunction};
use super::extract::unit_name;
use super::moment;
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    DAY_US, HOUR_US, MINUTE_US, SECOND_US, check_timestamp, civil_from_days, day_of_week, days_from_civil, is_infinite,
    local_from_utc, parse_zone, utc_from_local,
};
use crate::types::{DataType as T, Datum, Interval};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("date_trunc", &[T::TEXT, T::TIMESTAMP], T::TIMESTAMP, |_, args| {
        let us = moment(&args[1])?;
        truncate(string(&args[0])?, us, "timestamp without time zone").map(Datum::Timestamp)
    }),
    scalar("date_trunc", &[T::TEXT, T::TIMESTAMPTZ], T::TIMESTAMPTZ, |context: &EvalContext, args| {
        in_zone(string(&args[0])?, moment(&args[1])?, &context.time_zone).map(Datum::Timestamptz)
    })
    .stable(),
    scalar("date_trunc", &[T::TEXT, T::TIMESTAMPTZ, T::TEXT], T::TIMESTAMPTZ, |_, args| {
        let zone = parse_zone(string(&args[2])?)?;
        in_zone(string(&args[0])?, moment(&args[1])?, &zone).map(Datum::Timestamptz)
    })
    .stable(),
    scalar("date_trunc", &[T::TEXT, T::INTERVAL], T::INTERVAL, |_, args| {
        let truncated = truncate_interval(string(&args[0])?, interval(&args[1])?)?;
        Ok(Datum::Interval(Arc::new(truncated)))
    }),
    scalar("date_bin", &[T::INTERVAL, T::TIMESTAMP, T::TIMESTAMP], T::TIMESTAMP, |_, args| {
        bin(interval(&args[0])?, moment(&args[1])?, moment(&args[2])?).map(Datum::Timestamp)
    }),
    scalar("date_bin", &[T::INTERVAL, T::TIMESTAMPTZ, T::TIMESTAMPTZ], T::TIMESTAMPTZ, |_, args| {
        bin(interval(&args[0])?, moment(&args[1])?, moment(&args[2])?).map(Datum::Timestamptz)
    }),
];

fn wrong_unit(name: &str, type_name: &str) -> SqlError {
    let unit = unit_name(name);
    let known = unit == "week" || unit.starts_with("timezone");
    let (state, problem) = match known {
        true => (SqlState::FEATURE_NOT_SUPPORTED, "not supported"),
        false => (SqlState::INVALID_PARAMETER_VALUE, "not recognized"),
    };
    SqlError::new(state, format!("unit \"{name}\" {problem} for type {type_name}"))
}

fn in_zone(name: &str, utc_us: i64, zone: &TimeZone) -> Result<i64> {
    const TYPE: &str = "timestamp with time zone";
    if is_infinite(utc_us) {
        return truncate(name, utc_us, TYPE);
    }
    let unit = unit_name(name);
    let local = local_from_utc(zone, utc_us);
    let truncated = truncate(name, local, TYPE)?;
    // Below a day the offset stays, so that a repeated hour stays itself.
    match unit.as_str() {
        "hour" | "minute" | "second" | "milliseconds" | "microseconds" => Ok(utc_us - (local - truncated)),
        _ => check_timestamp(Some(utc_from_local(zone, truncated))),
    }
}

fn truncate(name: &str, us: i64, type_name: &str) -> Result<i64> {
    let unit = unit_name(name);
    let down = |size: i64| us.div_euclid(size) * size;
    let days = us.div_euclid(DAY_US);
    let start_of = |year: i32, month: u32| days_from_civil(year, month, 1) * DAY_US;
    let date = if is_infinite(us) { civil_from_days(0) } else { civil_from_days(days) };
    // The first year of the group that a year belongs to, counting from 1.
    let first = |years: i32| match date.year > 0 {
        true => (date.year - 1) / years * years + 1,
        false => -((years - 1 - (date.year - 1)) / years * years) + 1,
    };
    let truncated = match unit.as_str() {
        "microseconds" => us,
        "milliseconds" => down(1_000),
        "second" => down(SECOND_US),
        "minute" => down(MINUTE_US),
        "hour" => down(HOUR_US),
        "day" => down(DAY_US),
        "week" => (days - (i64::from(day_of_week(days)) + 6) % 7) * DAY_US,
        "month" => start_of(date.year, date.month),
        "quarter" => start_of(date.year, (date.month - 1) / 3 * 3 + 1),
        "year" => start_of(date.year, 1),
        "decade" => start_of(date.year.div_euclid(10) * 10, 1),
        "century" => start_of(first(100), 1),
        "millennium" => start_of(first(1_000), 1),
        _ => return Err(wrong_unit(name, type_name)),
    };
    if is_infinite(us) { Ok(us) } else { check_timestamp(Some(truncated)) }
}

fn truncate_interval(name: &str, value: &Interval) -> Result<Interval> {
    let cut = |size: i64| Interval { microseconds: value.microseconds / size * size, ..*value };
    let months = |size: i32| Interval { months: value.months / size * size, days: 0, microseconds: 0 };
    Ok(match unit_name(name).as_str() {
        "microseconds" => *value,
        "milliseconds" => cut(1_000),
        "second" => cut(SECOND_US),
        "minute" => cut(MINUTE_US),
        "hour" => cut(HOUR_US),
        "day" => Interval { microseconds: 0, ..*value },
        "month" => months(1),
        "quarter" => months(3),
        "year" => months(12),
        "decade" => months(120),
        "century" => months(1_200),
        "millennium" => months(12_000),
        _ => return Err(wrong_unit(name, "interval")),
    })
}

fn bin(stride: &Interval, us: i64, origin: i64) -> Result<i64> {
    let error = |state, message| Err(SqlError::new(state, message));
    if is_infinite(us) {
        return Ok(us);
    }
    if is_infinite(origin) {
        return error(SqlState::DATETIME_FIELD_OVERFLOW, "origin out of range");
    }
    if stride.months != 0 {
        let message = "timestamps cannot be binned into intervals containing months or years";
        return error(SqlState::FEATURE_NOT_SUPPORTED, message);
    }
    let size = i64::from(stride.days).checked_mul(DAY_US).and_then(|days| days.checked_add(stride.microseconds));
    match size {
        None => error(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"),
        Some(..=0) => error(SqlState::DATETIME_FIELD_OVERFLOW, "stride must be greater than zero"),
        Some(size) => {
            let distance = i128::from(us) - i128::from(origin);
            let start = i128::from(origin) + distance.div_euclid(size.into()) * i128::from(size);
            check_timestamp(i64::try_from(start).ok())
        }
    }
}
