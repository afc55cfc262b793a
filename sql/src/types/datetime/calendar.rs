//! The calendar.

/// Microseconds of a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE_US: i64 = 60 * SECOND_US;
/// Microseconds of an hour.
pub const HOUR_US: i64 = 60 * MINUTE_US;
/// Microseconds of a day.
pub const DAY_US: i64 = 24 * HOUR_US;

/// The first date: 4714-11-24 BC, Julian day 0.
pub const MIN_DATE_DAYS: i32 = -2_451_545;
/// The last date: 5874897-12-31.
pub const MAX_DATE_DAYS: i32 = 2_145_031_948;
/// The first timestamp: 4714-11-24 00:00:00 BC.
pub const MIN_TIMESTAMP_US: i64 = MIN_DATE_DAYS as i64 * DAY_US;
/// The last timestamp: 294276-12-31 23:59:59.999999.
pub const MAX_TIMESTAMP_US: i64 = 9_223_371_331_200_000_000 - 1;

/// Days from 0000-03-01 to 2000-01-01.
const EPOCH_SHIFT_DAYS: i64 = 730_425;
const DAYS_PER_ERA: i64 = 146_097;

/// A date of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilDate {
    /// Astronomical year: 0 is 1 BC.
    pub year: i32,
    /// 1 to 12
    pub month: u32,
    /// 1 to 31
    pub day: u32,
}

/// Days from 2000-01-01 to a date. Any day of month is counted on from the first.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = i64::from(year) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH_SHIFT_DAYS
}

/// The date so many days after 2000-01-01.
pub fn civil_from_days(days: i64) -> CivilDate {
    let days = days + EPOCH_SHIFT_DAYS;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    let year = (era * 400 + year_of_era) as i32 + i32::from(month <= 2);
    CivilDate { year, month, day }
}

/// Date and microseconds of the day of a timestamp.
pub fn civil_from_timestamp(timestamp_us: i64) -> (CivilDate, i64) {
    (civil_from_days(timestamp_us.div_euclid(DAY_US)), timestamp_us.rem_euclid(DAY_US))
}

/// The timestamp of days and microseconds, when it is in range.
pub fn timestamp_from_parts(days: i64, time_us: i64) -> Option<i64> {
    let timestamp = days.checked_mul(DAY_US)?.checked_add(time_us)?;
    (MIN_TIMESTAMP_US..=MAX_TIMESTAMP_US).contains(&timestamp).then_some(timestamp)
}

/// Leap year?
pub fn is_leap_year(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month.
pub fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap_year(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// 0 is Sunday.
pub fn day_of_week(days: i64) -> u32 {
    // 2000-01-01 was a Saturday.
    (days + 6).rem_euclid(7) as u32
}

/// 1 to 366.
pub fn day_of_year(date: CivilDate) -> u32 {
    (days_from_civil(date.year, date.month, date.day) - days_from_civil(date.year, 1, 1) + 1) as u32
}

/// ISO 8601 year and week of a day.
pub fn iso_week(days: i64) -> (i32, u32) {
    // A week belongs to the year of its Thursday.
    let thursday = days - (day_of_week(days) as i64 + 6).rem_euclid(7) + 3;
    let year = civil_from_days(thursday).year;
    (year, ((thursday - days_from_civil(year, 1, 1)) / 7 + 1) as u32)
}

/// Julian day number.
pub fn julian_day(days: i64) -> i64 {
    days + 2_451_545
}

/// Microseconds rounded to so many digits of a second, halves away from zero.
pub fn round_to_digits(microseconds: i64, digits: i32) -> i64 {
    let Ok(dropped @ 1..) = u32::try_from(6 - digits) else { return microseconds };
    let unit = 10i64.pow(dropped.min(6));
    let half = if microseconds < 0 { -unit / 2 } else { unit / 2 };
    match microseconds.checked_add(half) {
        Some(moved) => moved / unit * unit,
        None => microseconds / unit * unit,
    }
}
