//! `make_date` and its kin.

use std::sync::Arc;

use super::super::define::{float8, int4, scalar, string};
use super::super::{EvalContext, ScalarFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    DAY_US, HOUR_US, MINUTE_US, check_date, check_timestamp, days_from_civil, days_in_month, parse_zone,
    timestamp_from_parts, utc_from_local,
};
use crate::types::{DataType as T, Datum, Interval};

const I: T = T::INT4;
const F: T = T::FLOAT8;

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("make_date", &[I, I, I], T::DATE, |_, args| check_date(date(args)?).map(Datum::Date)),
    scalar("make_time", &[I, I, F], T::TIME, |_, args| time(args).map(Datum::Time)),
    scalar("make_timestamp", &[I, I, I, I, I, F], T::TIMESTAMP, |_, args| local(args).map(Datum::Timestamp)),
    scalar("make_timestamptz", &[I, I, I, I, I, F], T::TIMESTAMPTZ, |context, args| {
        check_timestamp(Some(utc_from_local(&context.time_zone, local(args)?))).map(Datum::Timestamptz)
    })
    .stable(),
    scalar("make_timestamptz", &[I, I, I, I, I, F, T::TEXT], T::TIMESTAMPTZ, |_, args| {
        let zone = parse_zone(string(&args[6])?)?;
        check_timestamp(Some(utc_from_local(&zone, local(args)?))).map(Datum::Timestamptz)
    })
    .stable(),
    // Arguments left out on the right count as 0.
    scalar("make_interval", &[], T::INTERVAL, make_interval),
    scalar("make_interval", &[I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I, I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I, I, I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I, I, I, I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I, I, I, I, I], T::INTERVAL, make_interval),
    scalar("make_interval", &[I, I, I, I, I, I, F], T::INTERVAL, make_interval),
];

fn out_of_range(message: String) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}

fn date(args: &[Datum]) -> Result<i64> {
    let (year, month, day) = (int4(&args[0])?, int4(&args[1])?, int4(&args[2])?);
    // There is no year 0; -1 is 1 BC.
    let astronomical = if year < 0 { year.saturating_add(1) } else { year };
    let valid = year != 0
        && (1..=12).contains(&month)
        && (1..=days_in_month(astronomical, month as u32) as i32).contains(&day)
        && (-4_713..=5_874_897).contains(&year);
    if !valid {
        return Err(out_of_range(format!("date field value out of range: {year}-{month:02}-{day:02}")));
    }
    Ok(days_from_civil(astronomical, month as u32, day as u32))
}

fn time(args: &[Datum]) -> Result<i64> {
    let (hour, minute, second) = (int4(&args[0])?, int4(&args[1])?, float8(&args[2])?);
    let seconds_us = (second * 1e6).round_ties_even();
    let total = i64::from(hour) * HOUR_US + i64::from(minute) * MINUTE_US + seconds_us as i64;
    let valid = (0..=24).contains(&hour)
        && (0..=59).contains(&minute)
        && (0.0..=60.0 * 1e6).contains(&seconds_us)
        && total <= DAY_US;
    match valid {
        true => Ok(total),
        false => Err(out_of_range(format!("time field value out of range: {hour}:{minute:02}:{second:02}"))),
    }
}

fn local(args: &[Datum]) -> Result<i64> {
    let (days, time_us) = (date(&args[..3])?, time(&args[3..6])?);
    timestamp_from_parts(days, time_us).ok_or_else(|| out_of_range("timestamp out of range".into()))
}

fn make_interval(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let overflow = || SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range");
    let field = |index: usize| args.get(index).map_or(Ok(0), int4).map(i64::from);
    let seconds = args.get(6).map_or(Ok(0.0), float8)?;
    if !seconds.is_finite() {
        return Err(overflow());
    }
    let months = field(0)? * 12 + field(1)?;
    let days = field(2)? * 7 + field(3)?;
    let time = field(4)? * HOUR_US + field(5)? * MINUTE_US + (seconds * 1e6).round_ties_even() as i64;
    Ok(Datum::Interval(Arc::new(Interval {
        months: i32::try_from(months).map_err(|_| overflow())?,
        days: i32::try_from(days).map_err(|_| overflow())?,
        microseconds: time,
    })))
}
