//! `extract` and `date_part`.

use super::super::define::{scalar, string, unexpected};
use super::super::{EvalContext, ScalarFunction};
use super::UNIX_EPOCH_SHIFT_US;
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil_from_days, day_of_week, day_of_year, iso_week, julian_day,
    local_from_utc, offset_at,
};
use crate::types::{DataType as T, Datum, Interval, Numeric};

macro_rules! parts {
    ($($name:literal $type:ident $result:ident $eval:ident;)*) => {
        /// The signatures.
        pub static FUNCTIONS: &[ScalarFunction] =
            &[$(scalar($name, &[T::TEXT, T::$type], T::$result, $eval).stable()),*];
    };
}

parts! {
    "extract" TIMESTAMP NUMERIC extract;
    "extract" TIMESTAMPTZ NUMERIC extract;
    "extract" DATE NUMERIC extract;
    "extract" TIME NUMERIC extract;
    "extract" INTERVAL NUMERIC extract;
    "date_part" DATE FLOAT8 date_part_of_date;
    "date_part" TIMESTAMP FLOAT8 date_part;
    "date_part" TIMESTAMPTZ FLOAT8 date_part;
    "date_part" TIME FLOAT8 date_part;
    "date_part" INTERVAL FLOAT8 date_part;
}

fn extract(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    Ok(field(context, string(&args[0])?, &args[1])?.map_or(Datum::Null, Datum::Numeric))
}

fn date_part(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    Ok(field(context, string(&args[0])?, &args[1])?.map_or(Datum::Null, |value| Datum::Float8(value.to_f64())))
}

/// A date is taken as a timestamp here.
fn date_part_of_date(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    date_part(context, &[args[0].clone(), Datum::Timestamp(super::moment(&args[1])?)])
}

fn type_of(value: &Datum) -> &'static str {
    value.natural_type().base.info().sql_name
}

fn unsupported(name: &str, value: &Datum) -> SqlError {
    let message = format!("unit \"{name}\" not supported for type {}", type_of(value));
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn unknown(name: &str, value: &Datum) -> SqlError {
    let message = format!("unit \"{name}\" not recognized for type {}", type_of(value));
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Names and their synonyms in one form.
pub(super) fn unit_name(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "microsecond" | "usec" | "usecs" | "us" | "useconds" => "microseconds",
        "millisecond" | "msec" | "msecs" | "ms" | "mseconds" => "milliseconds",
        "seconds" | "sec" | "secs" | "s" => "second",
        "minutes" | "min" | "mins" | "m" => "minute",
        "hours" | "hr" | "hrs" | "h" => "hour",
        "days" | "d" => "day",
        "weeks" | "w" => "week",
        "months" | "mon" | "mons" => "month",
        "quarters" | "qtr" => "quarter",
        "years" | "yr" | "yrs" | "y" => "year",
        "decades" | "dec" | "decs" => "decade",
        "centuries" | "cent" | "c" => "century",
        "millennia" | "mil" | "mils" => "millennium",
        "jd" | "j" => "julian",
        other => other,
    }
    .to_owned()
}

fn whole(value: i64) -> Option<Numeric> {
    Some(Numeric::from(value))
}

/// Years of centuries and millennia count from 1; there is no year 0.
fn century(year: i32, years: i32) -> i64 {
    i64::from(if year > 0 { (year + years - 1) / years } else { (year - years) / years })
}

fn field(context: &EvalContext, name: &str, value: &Datum) -> Result<Option<Numeric>> {
    let unit = unit_name(name);
    match value {
        Datum::Timestamp(us) => moment_field(&unit, name, value, *us, None),
        Datum::Timestamptz(us) => moment_field(&unit, name, value, *us, Some(context)),
        Datum::Date(days) => date_field(&unit, name, value, *days),
        Datum::Time(us) => match time_field(&unit, *us) {
            Some(found) => Ok(Some(found)),
            None if unit == "epoch" => Ok(Some(Numeric::new((*us).into(), 6))),
            None if is_known(&unit) => Err(unsupported(name, value)),
            None => Err(unknown(name, value)),
        },
        Datum::Interval(interval) => interval_field(&unit, name, value, interval),
        other => Err(unexpected(other)),
    }
}

fn is_known(unit: &str) -> bool {
    const UNITS: [&str; 15] = [
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "decade",
        "century",
        "millennium",
        "dow",
        "isodow",
        "doy",
        "isoyear",
        "julian",
        "timezone",
        "epoch",
    ];
    UNITS.contains(&unit) || matches!(unit, "timezone_hour" | "timezone_minute")
}

fn time_field(unit: &str, us: i64) -> Option<Numeric> {
    match unit {
        "microseconds" => whole(us % MINUTE_US),
        "milliseconds" => Some(Numeric::new((us % MINUTE_US).into(), 3)),
        "second" => Some(Numeric::new((us % MINUTE_US).into(), 6)),
        "minute" => whole(us / MINUTE_US % 60),
        "hour" => whole(us / HOUR_US),
        _ => None,
    }
}

fn day_field(unit: &str, days: i64) -> Option<Numeric> {
    let date = civil_from_days(days);
    match unit {
        "day" => whole(date.day.into()),
        "week" => whole(iso_week(days).1.into()),
        "month" => whole(date.month.into()),
        "quarter" => whole((i64::from(date.month) - 1) / 3 + 1),
        // There is no year 0: 1 BC is -1.
        "year" => whole(if date.year > 0 { date.year } else { date.year - 1 }.into()),
        "decade" => whole(i64::from(date.year).div_euclid(10)),
        "century" => whole(century(date.year, 100)),
        "millennium" => whole(century(date.year, 1_000)),
        "dow" => whole(day_of_week(days).into()),
        "isodow" => whole((i64::from(day_of_week(days)) + 6) % 7 + 1),
        "doy" => whole(day_of_year(date).into()),
        "isoyear" => {
            let year = iso_week(days).0;
            whole(if year > 0 { year } else { year - 1 }.into())
        }
        _ => None,
    }
}

/// What an infinity answers: itself for units that grow for ever, NULL for those that go round.
fn infinite_field(unit: &str, name: &str, value: &Datum, positive: bool) -> Result<Option<Numeric>> {
    match unit {
        "year" | "decade" | "century" | "millennium" | "julian" | "isoyear" | "epoch" => {
            Ok(Some(if positive { Numeric::INFINITY } else { Numeric::NEGATIVE_INFINITY }))
        }
        unit if is_known(unit) || time_field(unit, 0).is_some() => Ok(None),
        _ => Err(unknown(name, value)),
    }
}

fn moment_field(
    unit: &str,
    name: &str,
    value: &Datum,
    us: i64,
    zoned: Option<&EvalContext>,
) -> Result<Option<Numeric>> {
    if us == i64::MIN || us == i64::MAX {
        return infinite_field(unit, name, value, us == i64::MAX);
    }
    let local = zoned.map_or(us, |context| local_from_utc(&context.time_zone, us));
    let (days, time_us) = (local.div_euclid(DAY_US), local.rem_euclid(DAY_US));
    if let Some(found) = time_field(unit, time_us).or_else(|| day_field(unit, days)) {
        return Ok(Some(found));
    }
    match (unit, zoned) {
        ("epoch", _) => Ok(Some(Numeric::new(i128::from(us) + i128::from(UNIX_EPOCH_SHIFT_US), 6))),
        ("julian", _) => {
            let day = Numeric::from(julian_day(days));
            let fraction = Numeric::from(time_us).div(&Numeric::from(DAY_US))?;
            Ok(Some(if time_us == 0 { day } else { day.add(&fraction)? }))
        }
        ("timezone" | "timezone_hour" | "timezone_minute", Some(context)) => {
            let offset = i64::from(offset_at(&context.time_zone, us));
            Ok(whole(match unit {
                "timezone" => offset,
                "timezone_hour" => offset / 3_600,
                _ => offset / 60 % 60,
            }))
        }
        (unit, _) if is_known(unit) => Err(unsupported(name, value)),
        _ => Err(unknown(name, value)),
    }
}

fn date_field(unit: &str, name: &str, value: &Datum, days: i32) -> Result<Option<Numeric>> {
    if days == i32::MIN || days == i32::MAX {
        return infinite_field(unit, name, value, days == i32::MAX);
    }
    if let Some(found) = day_field(unit, days.into()) {
        return Ok(Some(found));
    }
    match unit {
        "epoch" => Ok(whole(i64::from(days) * (DAY_US / SECOND_US) + UNIX_EPOCH_SHIFT_US / SECOND_US)),
        "julian" => Ok(whole(julian_day(days.into()))),
        unit if is_known(unit) || time_field(unit, 0).is_some() => Err(unsupported(name, value)),
        _ => Err(unknown(name, value)),
    }
}

fn interval_field(unit: &str, name: &str, value: &Datum, interval: &Interval) -> Result<Option<Numeric>> {
    let (years, months, us) = (i64::from(interval.months / 12), i64::from(interval.months % 12), interval.microseconds);
    if let Some(found) = time_field(unit, us) {
        return Ok(Some(found));
    }
    Ok(match unit {
        "day" => whole(interval.days.into()),
        "month" => whole(months),
        "quarter" => whole(months / 3 + 1),
        "year" => whole(years),
        "decade" => whole(years / 10),
        "century" => whole(years / 100),
        "millennium" => whole(years / 1_000),
        "epoch" => {
            // A year counts 365.25 days here.
            let days = i128::from(interval.days) + i128::from(months) * 30;
            let seconds = i128::from(years) * 31_557_600 + days * 86_400;
            Some(Numeric::new(seconds * i128::from(SECOND_US) + i128::from(us), 6))
        }
        unit if is_known(unit) => return Err(unsupported(name, value)),
        _ => return Err(unknown(name, value)),
    })
}
