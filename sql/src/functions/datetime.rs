//! Date and time functions.

pub(super) mod extract;
pub(super) mod make;
pub(super) mod truncate;

use super::define::{float8, int4, interval, scalar, string, unexpected};
use super::{EvalContext, ScalarFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    self, DAY_US, SECOND_US, add_interval_in_zone, check_timestamp, civil_from_timestamp, days_in_month, is_infinite,
    local_from_utc, parse_zone, round_to_digits, utc_from_local,
};
use crate::types::{DataType as T, Datum, Interval};

/// Microseconds between the Unix epoch and 2000-01-01.
pub(super) const UNIX_EPOCH_SHIFT_US: i64 = 946_684_800 * SECOND_US;

/// What tells the time.
pub static CLOCK: &[ScalarFunction] = &[
    scalar("now", &[], T::TIMESTAMPTZ, |context, _| Ok(now(context))).stable(),
    scalar("transaction_timestamp", &[], T::TIMESTAMPTZ, |context, _| Ok(now(context))).stable(),
    scalar("current_timestamp", &[], T::TIMESTAMPTZ, |context, _| Ok(now(context))).stable(),
    scalar("current_timestamp", &[T::INT4], T::TIMESTAMPTZ, |context, args| {
        Ok(Datum::Timestamptz(round_to_digits(context.transaction_timestamp_us, int4(&args[0])?.clamp(0, 6))))
    })
    .stable(),
    scalar("statement_timestamp", &[], T::TIMESTAMPTZ, |context, _| {
        Ok(Datum::Timestamptz(context.statement_timestamp_us))
    })
    .stable(),
    scalar("clock_timestamp", &[], T::TIMESTAMPTZ, |context, _| Ok(Datum::Timestamptz((context.clock)()))).volatile(),
    scalar("localtimestamp", &[], T::TIMESTAMP, |context, _| Ok(Datum::Timestamp(local_now(context)))).stable(),
    scalar("localtimestamp", &[T::INT4], T::TIMESTAMP, |context, args| {
        Ok(Datum::Timestamp(round_to_digits(local_now(context), int4(&args[0])?.clamp(0, 6))))
    })
    .stable(),
    scalar("localtime", &[], T::TIME, |context, _| Ok(Datum::Time(local_now(context).rem_euclid(DAY_US)))).stable(),
    scalar("localtime", &[T::INT4], T::TIME, |context, args| {
        let time = local_now(context).rem_euclid(DAY_US);
        Ok(Datum::Time(round_to_digits(time, int4(&args[0])?.clamp(0, 6))))
    })
    .stable(),
    scalar("current_date", &[], T::DATE, |context, _| Ok(Datum::Date(local_now(context).div_euclid(DAY_US) as i32)))
        .stable(),
];

fn now(context: &EvalContext) -> Datum {
    Datum::Timestamptz(context.transaction_timestamp_us)
}

fn local_now(context: &EvalContext) -> i64 {
    local_from_utc(&context.time_zone, context.transaction_timestamp_us)
}

/// The microseconds of a timestamp of either kind.
pub(super) fn moment(value: &Datum) -> Result<i64> {
    match value {
        Datum::Timestamp(us) | Datum::Timestamptz(us) => Ok(*us),
        Datum::Date(i32::MIN) => Ok(i64::MIN),
        Datum::Date(i32::MAX) => Ok(i64::MAX),
        Datum::Date(days) => Ok(i64::from(*days) * DAY_US),
        other => Err(unexpected(other)),
    }
}

/// What works on moments.
pub static MOMENTS: &[ScalarFunction] = &[
    scalar("isfinite", &[T::DATE], T::BOOL, |_, args| Ok(Datum::Bool(!is_infinite(moment(&args[0])?)))),
    scalar("isfinite", &[T::TIMESTAMP], T::BOOL, |_, args| Ok(Datum::Bool(!is_infinite(moment(&args[0])?)))),
    scalar("isfinite", &[T::TIMESTAMPTZ], T::BOOL, |_, args| Ok(Datum::Bool(!is_infinite(moment(&args[0])?)))),
    scalar("isfinite", &[T::INTERVAL], T::BOOL, |_, _| Ok(Datum::Bool(true))),
    scalar("timezone", &[T::TEXT, T::TIMESTAMPTZ], T::TIMESTAMP, |_, args| {
        let (zone, utc) = (parse_zone(string(&args[0])?)?, moment(&args[1])?);
        Ok(Datum::Timestamp(if is_infinite(utc) { utc } else { local_from_utc(&zone, utc) }))
    }),
    scalar("timezone", &[T::TEXT, T::TIMESTAMP], T::TIMESTAMPTZ, |_, args| {
        let (zone, local) = (parse_zone(string(&args[0])?)?, moment(&args[1])?);
        Ok(Datum::Timestamptz(if is_infinite(local) {
            local
        } else {
            check_timestamp(Some(utc_from_local(&zone, local)))?
        }))
    }),
    scalar("timezone", &[T::INTERVAL, T::TIMESTAMPTZ], T::TIMESTAMP, |_, args| {
        let (shift, utc) = (zone_interval(&args[0])?, moment(&args[1])?);
        Ok(Datum::Timestamp(if is_infinite(utc) { utc } else { check_timestamp(utc.checked_add(shift))? }))
    }),
    scalar("timezone", &[T::INTERVAL, T::TIMESTAMP], T::TIMESTAMPTZ, |_, args| {
        let (shift, local) = (zone_interval(&args[0])?, moment(&args[1])?);
        Ok(Datum::Timestamptz(if is_infinite(local) { local } else { check_timestamp(local.checked_sub(shift))? }))
    }),
    scalar("age", &[T::TIMESTAMP, T::TIMESTAMP], T::INTERVAL, |_, args| age(moment(&args[0])?, moment(&args[1])?)),
    scalar("age", &[T::TIMESTAMPTZ, T::TIMESTAMPTZ], T::INTERVAL, |context, args| {
        let local =
            |value| moment(value).map(|us| if is_infinite(us) { us } else { local_from_utc(&context.time_zone, us) });
        age(local(&args[0])?, local(&args[1])?)
    })
    .stable(),
    scalar("age", &[T::TIMESTAMP], T::INTERVAL, |context, args| {
        age(local_now(context).div_euclid(DAY_US) * DAY_US, moment(&args[0])?)
    })
    .stable(),
    scalar("age", &[T::TIMESTAMPTZ], T::INTERVAL, |context, args| {
        let local = local_from_utc(&context.time_zone, moment(&args[0])?);
        age(local_now(context).div_euclid(DAY_US) * DAY_US, local)
    })
    .stable(),
    scalar("justify_days", &[T::INTERVAL], T::INTERVAL, |_, args| justify(*interval(&args[0])?, false, true)),
    scalar("justify_hours", &[T::INTERVAL], T::INTERVAL, |_, args| justify(*interval(&args[0])?, true, false)),
    scalar("justify_interval", &[T::INTERVAL], T::INTERVAL, |_, args| justify(*interval(&args[0])?, true, true)),
    scalar("date_add", &[T::TIMESTAMPTZ, T::INTERVAL], T::TIMESTAMPTZ, |context, args| {
        add_interval_in_zone(moment(&args[0])?, interval(&args[1])?, &context.time_zone).map(Datum::Timestamptz)
    })
    .stable(),
    scalar("overlaps", &[T::TIMESTAMP, T::TIMESTAMP, T::TIMESTAMP, T::TIMESTAMP], T::BOOL, |_, args| overlaps(args))
        .nullable(),
    scalar("overlaps", &[T::TIMESTAMPTZ, T::TIMESTAMPTZ, T::TIMESTAMPTZ, T::TIMESTAMPTZ], T::BOOL, |_, args| {
        overlaps(args)
    })
    .nullable(),
    scalar("to_timestamp", &[T::FLOAT8], T::TIMESTAMPTZ, |_, args| {
        let seconds = float8(&args[0])?;
        if seconds.is_nan() {
            return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp cannot be NaN"));
        }
        if seconds.is_infinite() {
            return Ok(Datum::Timestamptz(if seconds > 0.0 { i64::MAX } else { i64::MIN }));
        }
        let us = (seconds * 1e6).round_ties_even() - UNIX_EPOCH_SHIFT_US as f64;
        let message =
            || SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{seconds}\""));
        // Whole seconds and the fraction apart: their product would lose digits far from the epoch.
        let whole = seconds.floor();
        if us.abs() > 9.3e18 {
            return Err(message());
        }
        let us = (whole as i64).checked_mul(SECOND_US).and_then(|us| us.checked_sub(UNIX_EPOCH_SHIFT_US));
        let fraction = ((seconds - whole) * 1e6).round_ties_even() as i64;
        check_timestamp(us.and_then(|us| us.checked_add(fraction))).map(Datum::Timestamptz).map_err(|_| message())
    }),
];

/// A zone given as an interval east of UTC.
fn zone_interval(value: &Datum) -> Result<i64> {
    let value = interval(value)?;
    if value.months != 0 || value.days != 0 {
        let mut shown = String::new();
        datetime::format_interval(value, &mut shown);
        let message = format!("interval time zone \"{shown}\" must not include months or days");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(value.microseconds)
}

/// Years, months, days and time between two timestamps, field by field.
fn age(left: i64, right: i64) -> Result<Datum> {
    if is_infinite(left) || is_infinite(right) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range"));
    }
    let ((later, later_us), (earlier, earlier_us)) = match left >= right {
        true => (civil_from_timestamp(left), civil_from_timestamp(right)),
        false => (civil_from_timestamp(right), civil_from_timestamp(left)),
    };
    let mut microseconds = later_us - earlier_us;
    let mut days = later.day as i32 - earlier.day as i32;
    let mut months = (later.year - earlier.year) * 12 + later.month as i32 - earlier.month as i32;
    if microseconds < 0 {
        (microseconds, days) = (microseconds + DAY_US, days - 1);
    }
    if days < 0 {
        // Days are borrowed from the month of the earlier date.
        (days, months) = (days + days_in_month(earlier.year, earlier.month) as i32, months - 1);
    }
    let sign = if left >= right { 1 } else { -1 };
    Ok(Datum::Interval(std::sync::Arc::new(Interval {
        months: months * sign,
        days: days * sign,
        microseconds: microseconds * i64::from(sign),
    })))
}

fn justify(value: Interval, hours: bool, days: bool) -> Result<Datum> {
    let overflow = || SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range");
    let (mut total_days, mut microseconds) = (i64::from(value.days), value.microseconds);
    let mut months = i64::from(value.months);
    if hours {
        total_days += microseconds / DAY_US;
        microseconds %= DAY_US;
    }
    if days {
        months += total_days / 30;
        total_days %= 30;
    }
    // One sign for all fields that are brought together.
    if days && hours && (months > 0 && (total_days < 0 || total_days == 0 && microseconds < 0)) {
        (total_days, months) = (total_days + 30, months - 1);
    } else if days && hours && (months < 0 && (total_days > 0 || total_days == 0 && microseconds > 0)) {
        (total_days, months) = (total_days - 30, months + 1);
    } else if days && !hours && months > 0 && total_days < 0 {
        (total_days, months) = (total_days + 30, months - 1);
    } else if days && !hours && months < 0 && total_days > 0 {
        (total_days, months) = (total_days - 30, months + 1);
    }
    if hours && total_days > 0 && microseconds < 0 {
        (microseconds, total_days) = (microseconds + DAY_US, total_days - 1);
    } else if hours && total_days < 0 && microseconds > 0 {
        (microseconds, total_days) = (microseconds - DAY_US, total_days + 1);
    }
    let months = i32::try_from(months).map_err(|_| overflow())?;
    let days = i32::try_from(total_days).map_err(|_| overflow())?;
    Ok(Datum::Interval(std::sync::Arc::new(Interval { months, days, microseconds })))
}

/// (start, end) OVERLAPS (start, end); a NULL end makes the answer unknown where it matters.
fn overlaps(args: &[Datum]) -> Result<Datum> {
    let period = |a: &Datum, b: &Datum| -> Option<(Datum, Datum)> {
        match (a.is_null(), b.is_null()) {
            (true, true) => None,
            (true, false) => Some((b.clone(), Datum::Null)),
            (false, true) => Some((a.clone(), Datum::Null)),
            (false, false) if a.compare(b).is_gt() => Some((b.clone(), a.clone())),
            (false, false) => Some((a.clone(), b.clone())),
        }
    };
    let (Some(first), Some(second)) = (period(&args[0], &args[1]), period(&args[2], &args[3])) else {
        return Ok(Datum::Null);
    };
    let (earlier, later) = if first.0.compare(&second.0).is_le() { (first, second) } else { (second, first) };
    if earlier.0.compare(&later.0).is_eq() {
        return Ok(if earlier.1.is_null() || later.1.is_null() { Datum::Null } else { Datum::Bool(true) });
    }
    match earlier.1 {
        Datum::Null => Ok(Datum::Null),
        end => Ok(Datum::Bool(later.0.compare(&end).is_lt())),
    }
}
