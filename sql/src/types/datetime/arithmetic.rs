//! Adding intervals to moments. Infinite moments stay what they are.

use jiff::tz::TimeZone;

use super::{
    DAY_US, MAX_DATE_DAYS, MAX_TIMESTAMP_US, MIN_DATE_DAYS, MIN_TIMESTAMP_US, civil_from_timestamp, days_from_civil,
    days_in_month, local_from_utc, utc_from_local,
};
use crate::error::{Result, SqlError, SqlState};
use crate::types::Interval;

#[cold]
fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

/// A `date` if `days` after 2000-01-01 is one; 22008 else.
pub fn check_date(days: i64) -> Result<i32> {
    let date = i32::try_from(days).ok().filter(|days| (MIN_DATE_DAYS..=MAX_DATE_DAYS).contains(days));
    date.ok_or_else(|| out_of_range("date"))
}

/// A `timestamp` if `microseconds` after 2000-01-01 is one; 22008 else.
pub fn check_timestamp(microseconds: Option<i64>) -> Result<i64> {
    let timestamp = microseconds.filter(|value| (MIN_TIMESTAMP_US..=MAX_TIMESTAMP_US).contains(value));
    timestamp.ok_or_else(|| out_of_range("timestamp"))
}

/// Whether a timestamp is `infinity` or `-infinity`.
pub fn is_infinite(timestamp_us: i64) -> bool {
    timestamp_us == i64::MIN || timestamp_us == i64::MAX
}

/// Adds months to a timestamp's date; the day is cut to the month's length.
fn add_months(timestamp_us: i64, months: i32) -> Result<i64> {
    if months == 0 {
        return Ok(timestamp_us);
    }
    let (date, time_us) = civil_from_timestamp(timestamp_us);
    let month_number = i64::from(date.year) * 12 + i64::from(date.month) - 1 + i64::from(months);
    let year = i32::try_from(month_number.div_euclid(12)).map_err(|_| out_of_range("timestamp"))?;
    let month = month_number.rem_euclid(12) as u32 + 1;
    let days = days_from_civil(year, month, date.day.min(days_in_month(year, month)));
    check_timestamp(days.checked_mul(DAY_US).and_then(|midnight| midnight.checked_add(time_us)))
}

/// `timestamp + interval`: months first, then days, then time.
pub fn add_interval(timestamp_us: i64, interval: &Interval) -> Result<i64> {
    if is_infinite(timestamp_us) {
        return Ok(timestamp_us);
    }
    let shifted = add_months(timestamp_us, interval.months)?;
    let shifted = check_timestamp(shifted.checked_add(i64::from(interval.days) * DAY_US))?;
    check_timestamp(shifted.checked_add(interval.microseconds))
}

/// `timestamptz + interval`: months and days are counted on the zone's clock, time on the absolute scale.
pub fn add_interval_in_zone(utc_us: i64, interval: &Interval, zone: &TimeZone) -> Result<i64> {
    if is_infinite(utc_us) {
        return Ok(utc_us);
    }
    let mut shifted = utc_us;
    if interval.months != 0 || interval.days != 0 {
        let local = add_months(local_from_utc(zone, utc_us), interval.months)?;
        let local = check_timestamp(local.checked_add(i64::from(interval.days) * DAY_US))?;
        shifted = check_timestamp(Some(utc_from_local(zone, local)))?;
    }
    check_timestamp(shifted.checked_add(interval.microseconds))
}

impl Interval {
    /// All its fields with their signs turned.
    pub fn negated(&self) -> Result<Interval> {
        let negated = || {
            Some(Interval {
                months: self.months.checked_neg()?,
                days: self.days.checked_neg()?,
                microseconds: self.microseconds.checked_neg()?,
            })
        };
        negated().ok_or_else(|| out_of_range("interval"))
    }
}
