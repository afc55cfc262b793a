//! Time zones: offsets at an instant, and zones by name.
//!
//! The zone database covers the years -9999 to 9999. Other years are taken as the year at the same place of the
//! 400-year cycle, whose weekdays are the same.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::calendar::{DAY_US, SECOND_US, civil_from_timestamp};
use crate::error::{Result, SqlError, SqlState};

/// Seconds from the Unix epoch to 2000-01-01.
const EPOCH_SECONDS: i64 = 946_684_800;
/// Years that the zone database is asked for; both ends are multiples of 400.
const FIRST_YEAR: i32 = -8_000;
const LAST_YEAR: i32 = 8_000;
const CYCLE_US: i64 = 146_097 * DAY_US;

/// Moves a timestamp by whole 400-year cycles into the years that the database covers.
fn into_covered_years(timestamp_us: i64) -> i64 {
    let year = civil_from_timestamp(timestamp_us).0.year;
    if (FIRST_YEAR..LAST_YEAR).contains(&year) {
        return timestamp_us;
    }
    let limit = if year < 0 { FIRST_YEAR } else { LAST_YEAR - 400 };
    let cycles = i64::from((year - limit).div_euclid(400));
    timestamp_us - cycles * CYCLE_US
}

/// The zone's offset from UTC in seconds, east positive, at a UTC timestamp.
pub fn offset_at(zone: &TimeZone, utc_us: i64) -> i32 {
    let utc_us = into_covered_years(utc_us);
    match Timestamp::new(utc_us.div_euclid(SECOND_US) + EPOCH_SECONDS, 0) {
        Ok(instant) => zone.to_offset(instant).seconds(),
        Err(_) => 0,
    }
}

/// Local time of a UTC timestamp.
pub fn local_from_utc(zone: &TimeZone, utc_us: i64) -> i64 {
    utc_us.saturating_add(i64::from(offset_at(zone, utc_us)) * SECOND_US)
}

/// UTC of a local time. In a gap the offset before it counts, in a fold the one after, as in PostgreSQL.
pub fn utc_from_local(zone: &TimeZone, local_us: i64) -> i64 {
    let (date, time_us) = civil_from_timestamp(into_covered_years(local_us));
    let second_of_day = time_us / SECOND_US;
    let parts = DateTime::new(
        date.year as i16,
        date.month as i8,
        date.day as i8,
        (second_of_day / 3_600) as i8,
        (second_of_day / 60 % 60) as i8,
        (second_of_day % 60) as i8,
        0,
    );
    let offset = parts.map_or(Offset::UTC, |parts| match zone.to_ambiguous_timestamp(parts).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { after, .. } => after,
    });
    local_us.saturating_sub(i64::from(offset.seconds()) * SECOND_US)
}

/// The abbreviation in force at a UTC timestamp, such as `CEST`; offsets for zones without.
pub fn zone_abbreviation(zone: &TimeZone, utc_us: i64) -> String {
    let utc_us = into_covered_years(utc_us);
    match Timestamp::new(utc_us.div_euclid(SECOND_US) + EPOCH_SECONDS, 0) {
        Ok(instant) => zone.to_offset_info(instant).abbreviation().to_owned(),
        Err(_) => "UTC".into(),
    }
}

/// Abbreviations that input accepts, as in PostgreSQL's default set: minutes east of UTC.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("acdt", 630),
    ("acst", 570),
    ("adt", -180),
    ("aest", 600),
    ("aedt", 660),
    ("akdt", -480),
    ("akst", -540),
    ("art", -180),
    ("ast", -240),
    ("awst", 480),
    ("bdst", 120),
    ("brst", -120),
    ("brt", -180),
    ("bst", 60),
    ("cadt", 630),
    ("cast", 570),
    ("cct", 480),
    ("cdt", -300),
    ("cest", 120),
    ("cet", 60),
    ("cetdst", 120),
    ("chadt", 825),
    ("chast", 765),
    ("clst", -180),
    ("clt", -240),
    ("cot", -300),
    ("cst", -360),
    ("eat", 180),
    ("edt", -240),
    ("eest", 180),
    ("eet", 120),
    ("eetdst", 180),
    ("est", -300),
    ("fet", 180),
    ("gmt", 0),
    ("hkt", 480),
    ("hst", -600),
    ("ict", 420),
    ("idt", 180),
    ("ist", 120),
    ("jst", 540),
    ("kst", 540),
    ("mdt", -360),
    ("mest", 120),
    ("met", 60),
    ("metdst", 120),
    ("msd", 240),
    ("msk", 180),
    ("mst", -420),
    ("ndt", -150),
    ("nft", -210),
    ("npt", 345),
    ("nst", -210),
    ("nzdt", 780),
    ("nzst", 720),
    ("pdt", -420),
    ("pkt", 300),
    ("pst", -480),
    ("sast", 120),
    ("sgt", 480),
    ("uct", 0),
    ("ut", 0),
    ("utc", 0),
    ("wat", 60),
    ("wast", 120),
    ("wdt", 540),
    ("west", 60),
    ("wet", 0),
    ("wetdst", 60),
    ("wita", 480),
    ("wib", 420),
    ("wit", 540),
    ("z", 0),
    ("zulu", 0),
];

/// Offset in seconds of an abbreviation (lower case).
pub(super) fn abbreviation_offset(name: &str) -> Option<i32> {
    ABBREVIATIONS.iter().find(|(known, _)| *known == name).map(|(_, minutes)| minutes * 60)
}

/// A zone by its name in the database, any case.
pub(super) fn named_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())
}

/// An offset as `+HH`, `-HH:MM`, `+HHMM`, `+HH:MM:SS`: seconds east of UTC.
pub(super) fn parse_offset(text: &str) -> Option<i32> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'+' => (false, &text[1..]),
        b'-' => (true, &text[1..]),
        _ => return None,
    };
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i32>().ok())?;
    let parts: Vec<&str> = digits.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [packed] if packed.len() > 2 => {
            let packed = number(packed)?;
            (packed / 100, packed % 100, 0)
        }
        [hours] => (number(hours)?, 0, 0),
        [hours, minutes] => (number(hours)?, number(minutes)?, 0),
        [hours, minutes, seconds] => (number(hours)?, number(minutes)?, number(seconds)?),
        _ => return None,
    };
    if hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    let total = hours * 3_600 + minutes * 60 + seconds;
    Some(if negative { -total } else { total })
}

/// A zone as AT TIME ZONE and SET TimeZone name it: of the database, an abbreviation, or a POSIX offset
/// (whose sign is turned: `UTC+3` lies west). 22023 when there is none.
pub fn parse_zone(name: &str) -> Result<TimeZone> {
    let trimmed = name.trim();
    let lower = trimmed.to_ascii_lowercase();
    let fixed = |seconds: i32| Offset::from_seconds(seconds).ok().map(TimeZone::fixed);
    let posix = || {
        let at = lower.find(['+', '-'])?;
        lower[..at].bytes().all(|byte| byte.is_ascii_alphabetic()).then(|| parse_offset(&lower[at..]))?
    };
    let zone = if matches!(lower.as_str(), "utc" | "gmt" | "z" | "zulu") {
        Some(TimeZone::UTC)
    } else {
        abbreviation_offset(&lower).and_then(fixed).or_else(|| named_zone(trimmed))
    };
    zone.or_else(|| posix().and_then(|seconds| fixed(-seconds))).ok_or_else(|| unknown_zone(name))
}

pub(super) fn unknown_zone(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"))
}

/// Appends `+02`, `-03:30` or `+00:19:32`.
pub(super) fn format_offset(seconds: i32, out: &mut String) {
    use std::fmt::Write;
    let magnitude = i64::from(seconds.unsigned_abs());
    let (hours, minutes, rest) = (magnitude / 3_600, magnitude / 60 % 60, magnitude % 60);
    let sign = if seconds < 0 { '-' } else { '+' };
    let _ = write!(out, "{sign}{hours:02}");
    if minutes != 0 || rest != 0 {
        let _ = write!(out, ":{minutes:02}");
    }
    if rest != 0 {
        let _ = write!(out, ":{rest:02}");
    }
}
