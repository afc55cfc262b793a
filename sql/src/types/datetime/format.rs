//! Printing in ISO style.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::calendar::{HOUR_US, MINUTE_US, SECOND_US, civil_from_days, civil_from_timestamp};
use super::zone::{format_offset, offset_at};
use crate::types::Interval;

/// Appends `2024-02-29`, `0044-03-15 BC` or an infinity.
pub fn format_date(days: i32, out: &mut String) {
    match days {
        i32::MIN => return out.push_str("-infinity"),
        i32::MAX => return out.push_str("infinity"),
        _ => {}
    }
    let date = civil_from_days(days.into());
    put_year(date.year, out);
    let _ = write!(out, "-{:02}-{:02}", date.month, date.day);
    put_era(date.year, out);
}

fn put_year(year: i32, out: &mut String) {
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}");
}

fn put_era(year: i32, out: &mut String) {
    if year <= 0 {
        out.push_str(" BC");
    }
}

/// Appends `04:05:06.789`.
pub fn format_time(time_us: i64, out: &mut String) {
    let (hours, minutes) = (time_us / HOUR_US, time_us % HOUR_US / MINUTE_US);
    let _ = write!(out, "{hours:02}:{minutes:02}:");
    put_seconds(time_us % MINUTE_US, out);
}

/// Seconds with two digits, and the fraction without trailing zeros.
fn put_seconds(microseconds: i64, out: &mut String) {
    let _ = write!(out, "{:02}", microseconds / SECOND_US);
    put_fraction(microseconds % SECOND_US, out);
}

fn put_fraction(fraction: i64, out: &mut String) {
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Appends `2024-02-29 04:05:06.789`.
pub fn format_timestamp(timestamp_us: i64, out: &mut String) {
    if put_infinity(timestamp_us, out) {
        return;
    }
    let year = put_timestamp(timestamp_us, out);
    put_era(year, out);
}

fn put_infinity(timestamp_us: i64, out: &mut String) -> bool {
    match timestamp_us {
        i64::MIN => out.push_str("-infinity"),
        i64::MAX => out.push_str("infinity"),
        _ => return false,
    }
    true
}

fn put_timestamp(timestamp_us: i64, out: &mut String) -> i32 {
    let (date, time_us) = civil_from_timestamp(timestamp_us);
    put_year(date.year, out);
    let _ = write!(out, "-{:02}-{:02} ", date.month, date.day);
    format_time(time_us, out);
    date.year
}

/// Appends `2024-02-29 04:05:06.789+01` in the zone.
pub fn format_timestamptz(utc_us: i64, zone: &TimeZone, out: &mut String) {
    if put_infinity(utc_us, out) {
        return;
    }
    let offset = offset_at(zone, utc_us);
    let year = put_timestamp(utc_us.saturating_add(i64::from(offset) * SECOND_US), out);
    format_offset(offset, out);
    put_era(year, out);
}

/// Appends `1 year 2 mons -3 days +04:05:06.7`.
pub fn format_interval(interval: &Interval, out: &mut String) {
    let start = out.len();
    let mut negative_before = false;
    let parts = [(interval.months / 12, "year"), (interval.months % 12, "mon"), (interval.days, "day")];
    for (value, unit) in parts {
        if value == 0 {
            continue;
        }
        let space = if out.len() > start { " " } else { "" };
        let plus = if negative_before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
        negative_before = value < 0;
    }
    let time = interval.microseconds;
    if time == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(' ');
    }
    match time {
        ..0 => out.push('-'),
        _ if negative_before => out.push('+'),
        _ => {}
    }
    let magnitude = time.unsigned_abs();
    let (hours, rest) = (magnitude / HOUR_US as u64, (magnitude % HOUR_US as u64) as i64);
    let _ = write!(out, "{hours:02}:{:02}:", rest / MINUTE_US);
    put_seconds(rest % MINUTE_US, out);
}
