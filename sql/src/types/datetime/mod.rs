//! Dates, times, timestamps and intervals: the calendar, and their text forms.
//!
//! Days and microseconds count from 2000-01-01. The calendar is the proleptic Gregorian one; year 0 is 1 BC.

mod arithmetic;
mod calendar;
mod format;
mod interval;
mod parse;

mod tokens;
mod zone;

pub use arithmetic::{add_interval, add_interval_in_zone, check_date, check_timestamp, is_infinite};
pub use calendar::{
    CivilDate, DAY_US, HOUR_US, MAX_DATE_DAYS, MAX_TIMESTAMP_US, MIN_DATE_DAYS, MIN_TIMESTAMP_US, MINUTE_US, SECOND_US,
    civil_from_days, civil_from_timestamp, day_of_week, day_of_year, days_from_civil, days_in_month, is_leap_year,
    iso_week, julian_day, round_to_digits, timestamp_from_parts,
};
pub use format::{format_date, format_interval, format_time, format_timestamp, format_timestamptz};
pub use interval::parse_interval;
pub use parse::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
pub use zone::{local_from_utc, offset_at, parse_zone, utc_from_local, zone_abbreviation};
