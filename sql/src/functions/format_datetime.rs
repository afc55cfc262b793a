//! `to_char` of moments and intervals, and the templates that `to_date` and `to_timestamp` share with it.

use super::define::scalar;
use super::define::{interval, string};
use super::{EvalContext, ScalarFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil_from_timestamp, day_of_week, day_of_year, days_from_civil, iso_week,
    julian_day, local_from_utc, offset_at, zone_abbreviation,
};
use crate::types::{DataType as T, Datum};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("to_char", &[T::TIMESTAMP, T::TEXT], T::TEXT, to_char_timestamp),
    scalar("to_char", &[T::TIMESTAMPTZ, T::TEXT], T::TEXT, to_char_timestamp).stable(),
    scalar("to_char", &[T::INTERVAL, T::TEXT], T::TEXT, to_char_interval),
    scalar("timeofday", &[], T::TEXT, |context, _| {
        let args = [Datum::Timestamptz((context.clock)()), Datum::text("Dy Mon DD HH24:MI:SS.US YYYY TZ")];
        to_char_timestamp(context, &args)
    })
    .volatile(),
];

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// A pattern by its upper-case name, with the case it was written in.
    Field { name: &'static str, written: String, fill: bool, ordinal: Option<bool> },
    /// Anything else; `quoted` stood between double quotes.
    Literal { text: String, quoted: bool },
}

/// Longer patterns first, so that the first that fits is meant.
const PATTERNS: &[&str] = &[
    "SSSSS", "SSSS", "Y,YYY", "MONTH", "A.D.", "A.M.", "B.C.", "P.M.", "HH24", "HH12", "IYYY", "IDDD", "YYYY", "DAY",
    "DDD", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "IYY", "MON", "TZH", "TZM", "YYY", "AD", "AM", "BC", "CC", "DD",
    "DY", "HH", "ID", "IW", "IY", "MI", "MM", "MS", "OF", "PM", "RM", "SS", "TZ", "US", "WW", "YY", "D", "I", "J", "Q",
    "W", "Y",
];

/// Cuts a template into its pieces.
pub(super) fn pieces(template: &str) -> Vec<Piece> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    let literal = |pieces: &mut Vec<Piece>, text: &str, quoted: bool| match pieces.last_mut() {
        Some(Piece::Literal { text: last, quoted: same }) if *same == quoted => last.push_str(text),
        _ => pieces.push(Piece::Literal { text: text.to_owned(), quoted }),
    };
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (mut inside, mut characters) = (String::new(), rest[1..].char_indices());
            let mut end = rest.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        end = at + 2;
                        break;
                    }
                    '\\' => inside.extend(characters.next().map(|(_, escaped)| escaped)),
                    other => inside.push(other),
                }
            }
            literal(&mut pieces, &inside, true);
            rest = &rest[end..];
            continue;
        }
        if first == '\\' && rest[1..].starts_with('"') {
            literal(&mut pieces, "\"", true);
            rest = &rest[2..];
            continue;
        }
        let (mut fill, mut body) = (true, rest);
        loop {
            let prefix = body.get(..2).map(str::to_ascii_uppercase);
            match prefix.as_deref() {
                Some("FM") => (fill, body) = (false, &body[2..]),
                Some("FX" | "TM") => body = &body[2..],
                _ => break,
            }
        }
        let fits = |name: &&&str| body.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        let Some(name) = PATTERNS.iter().find(fits) else {
            let skipped = if body.len() < rest.len() { 0 } else { first.len_utf8() };
            literal(&mut pieces, &rest[..skipped], false);
            rest = if skipped == 0 { body } else { &rest[skipped..] };
            continue;
        };
        let written = body[..name.len()].to_owned();
        rest = &body[name.len()..];
        let ordinal = match rest.get(..2) {
            Some("TH") => Some(true),
            Some("th") => Some(false),
            _ => None,
        };
        if ordinal.is_some() {
            rest = &rest[2..];
        }
        pieces.push(Piece::Field { name, written, fill, ordinal });
    }
    pieces
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN_MONTHS: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// What a template can ask of a moment or an interval.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    /// Hours of an interval may exceed a day.
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    /// Days since 2000-01-01; none for intervals.
    days: Option<i64>,
    /// Offset and abbreviation of a timestamptz.
    zone: Option<(i32, String)>,
}

impl Parts {
    /// Days of an interval, months being of 30 days.
    fn days_together(&self) -> i64 {
        (self.year * 12 + self.month) * 30 + self.day
    }
}

pub(super) fn to_char_timestamp(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let (us, zoned) = match &args[0] {
        Datum::Timestamptz(us) => (*us, true),
        other => (super::datetime::moment(other)?, false),
    };
    if us == i64::MIN || us == i64::MAX {
        return Ok(Datum::Null);
    }
    let zone = zoned.then(|| (offset_at(&context.time_zone, us), zone_abbreviation(&context.time_zone, us)));
    let local = if zoned { local_from_utc(&context.time_zone, us) } else { us };
    let (date, time_us) = civil_from_timestamp(local);
    let parts = Parts {
        year: date.year.into(),
        month: date.month.into(),
        day: date.day.into(),
        hour: time_us / HOUR_US,
        minute: time_us / MINUTE_US % 60,
        second: time_us / SECOND_US % 60,
        microsecond: time_us % SECOND_US,
        days: Some(local.div_euclid(DAY_US)),
        zone,
    };
    print(&parts, string(&args[1])?)
}

fn to_char_interval(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let value = interval(&args[0])?;
    let us = value.microseconds;
    let parts = Parts {
        year: (value.months / 12).into(),
        month: (value.months % 12).into(),
        day: value.days.into(),
        hour: us / HOUR_US,
        minute: us / MINUTE_US % 60,
        second: us / SECOND_US % 60,
        microsecond: us % SECOND_US,
        days: None,
        zone: None,
    };
    print(&parts, string(&args[1])?)
}

/// What only a date has.
const CALENDAR: [&str; 14] =
    ["AD", "BC", "A.D.", "B.C.", "MONTH", "MON", "DAY", "DY", "D", "ID", "TZ", "TZH", "TZM", "OF"];

fn print(parts: &Parts, template: &str) -> Result<Datum> {
    if template.is_empty() {
        return Ok(Datum::Null);
    }
    let mut out = String::new();
    for piece in pieces(template) {
        match piece {
            Piece::Literal { text, .. } => out.push_str(&text),
            Piece::Field { name, .. } if parts.days.is_none() && CALENDAR.contains(&name) => {
                let message = "invalid format specification for an interval value";
                let error = SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message);
                return Err(error.with_hint("Intervals are not tied to specific calendar dates."));
            }
            Piece::Field { name, written, fill, ordinal } => {
                let start = out.len();
                field(parts, name, &written, fill, &mut out);
                if let Some(upper) = ordinal {
                    let ending = ordinal_ending(&out[start..]);
                    out.push_str(&if upper { ending.to_ascii_uppercase() } else { ending.to_owned() });
                }
            }
        }
    }
    Ok(Datum::text(out))
}

/// `st`, `nd`, `rd` or `th` for a number as printed.
pub(super) fn ordinal_ending(number: &str) -> &'static str {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    match digits.as_slice() {
        [.., '1', _] => "th",
        [.., '1'] => "st",
        [.., '2'] => "nd",
        [.., '3'] => "rd",
        _ => "th",
    }
}

/// A name in the case of its pattern: `MONTH`, `Month`, `month`.
fn cased(name: &str, written: &str) -> String {
    let mut letters = written.chars();
    match (letters.next().is_some_and(char::is_uppercase), letters.next().is_some_and(char::is_uppercase)) {
        (true, true) => name.to_ascii_uppercase(),
        (true, false) => name.to_owned(),
        _ => name.to_ascii_lowercase(),
    }
}

fn field(parts: &Parts, name: &str, written: &str, fill: bool, out: &mut String) {
    use std::fmt::Write;
    let put = |out: &mut String, value: i64, width: usize| {
        let _ = match fill {
            true => write!(out, "{value:0width$}"),
            false => write!(out, "{value}"),
        };
    };
    let put_name = |out: &mut String, text: String, width: usize| {
        let _ = if fill { write!(out, "{text:width$}") } else { write!(out, "{text}") };
    };
    let dated = parts.days.is_some();
    let year = if parts.year > 0 || !dated { parts.year } else { 1 - parts.year };
    let days = parts.days.unwrap_or(0);
    let twelve = if parts.hour % 12 == 0 { 12 } else { parts.hour % 12 };
    let afternoon = parts.hour % 24 >= 12;
    match name {
        // Only here the sign does not count in the width.
        "HH" | "HH12" => put(out, twelve, 2 + usize::from(twelve < 0)),
        "HH24" => put(out, parts.hour, 2 + usize::from(parts.hour < 0)),
        "MI" => put(out, parts.minute, 2 + usize::from(parts.minute < 0)),
        "SS" => put(out, parts.second, 2 + usize::from(parts.second < 0)),
        "MS" | "FF3" => out.push_str(&format!("{:03}", parts.microsecond / 1_000)),
        "US" | "FF6" => out.push_str(&format!("{:06}", parts.microsecond)),
        "FF1" => out.push_str(&format!("{:01}", parts.microsecond / 100_000)),
        "FF2" => out.push_str(&format!("{:02}", parts.microsecond / 10_000)),
        "FF4" => out.push_str(&format!("{:04}", parts.microsecond / 100)),
        "FF5" => out.push_str(&format!("{:05}", parts.microsecond / 10)),
        "SSSS" | "SSSSS" => {
            let _ = write!(out, "{}", parts.hour * 3_600 + parts.minute * 60 + parts.second);
        }
        "AM" | "PM" => out.push_str(&all_case(if afternoon { "PM" } else { "AM" }, written)),
        "A.M." | "P.M." => out.push_str(&all_case(if afternoon { "P.M." } else { "A.M." }, written)),
        "BC" | "AD" => out.push_str(&all_case(if parts.year > 0 { "AD" } else { "BC" }, written)),
        "B.C." | "A.D." => out.push_str(&all_case(if parts.year > 0 { "A.D." } else { "B.C." }, written)),
        "YYYY" => put(out, year, 4),
        "YYY" => put(out, year % 1_000, 3),
        "YY" => put(out, year % 100, 2),
        "Y" => put(out, year % 10, 1),
        "Y,YYY" => out.push_str(&format!("{},{:03}", year / 1_000, year % 1_000)),
        "IYYY" | "IYY" | "IY" | "I" => {
            let iso = if dated { i64::from(iso_week(days).0) } else { year };
            let iso = if iso > 0 || !dated { iso } else { 1 - iso };
            match name {
                "IYYY" => put(out, iso, 4),
                "IYY" => put(out, iso % 1_000, 3),
                "IY" => put(out, iso % 100, 2),
                _ => put(out, iso % 10, 1),
            }
        }
        "CC" => {
            let century = match parts.year {
                year if !dated => year / 100,
                year if year > 0 => (year + 99) / 100,
                year => (year - 1) / 100 - 1 + i64::from((year - 1) % 100 == 0),
            };
            // Here a minus takes no place.
            put(out, century, 2 + usize::from(century < 0));
        }
        "MM" => put(out, parts.month, 2),
        "MONTH" if parts.month > 0 => put_name(out, cased(MONTHS[parts.month as usize - 1], written), 9),
        "MON" if parts.month > 0 => out.push_str(&cased(&MONTHS[parts.month as usize - 1][..3], written)),
        "RM" if parts.month > 0 => {
            let roman = ROMAN_MONTHS[parts.month as usize - 1];
            let upper = written.starts_with('R');
            put_name(out, if upper { roman.to_owned() } else { roman.to_ascii_lowercase() }, 4);
        }
        "DAY" if dated => put_name(out, cased(DAYS[day_of_week(days) as usize], written), 9),
        "DY" if dated => out.push_str(&cased(&DAYS[day_of_week(days) as usize][..3], written)),
        "DD" => put(out, parts.day, 2),
        "DDD" if !dated => put(out, parts.days_together(), 3),
        "WW" if !dated => put(out, (parts.days_together() - 1) / 7 + 1, 2),
        "DDD" if dated => put(out, day_of_year(civil_from_timestamp(days * DAY_US).0).into(), 3),
        "IDDD" if dated => {
            let (iso_year, _) = iso_week(days);
            // Day 1 is the Monday of the week with January 4.
            let fourth = days_from_civil(iso_year, 1, 4);
            let monday = fourth - (i64::from(day_of_week(fourth)) + 6) % 7;
            put(out, days - monday + 1, 3);
        }
        "D" if dated => put(out, i64::from(day_of_week(days)) + 1, 1),
        "ID" if dated => put(out, (i64::from(day_of_week(days)) + 6) % 7 + 1, 1),
        "W" => put(out, (parts.day - 1) / 7 + 1, 1),
        "WW" if dated => put(out, (i64::from(day_of_year(civil_from_timestamp(days * DAY_US).0)) - 1) / 7 + 1, 2),
        "IW" if dated => put(out, iso_week(days).1.into(), 2),
        "Q" if parts.month > 0 => put(out, (parts.month - 1) / 3 + 1, 1),
        "J" if dated => put(out, julian_day(days), 1),
        "TZ" => {
            if let Some((_, abbreviation)) = &parts.zone {
                let upper = written.starts_with('T');
                out.push_str(&if upper { abbreviation.clone() } else { abbreviation.to_ascii_lowercase() });
            }
        }
        "TZH" => {
            let offset = parts.zone.as_ref().map_or(0, |zone| zone.0);
            let sign = if offset < 0 { '-' } else { '+' };
            out.push_str(&format!("{sign}{:02}", offset.abs() / 3_600));
        }
        "TZM" => out.push_str(&format!("{:02}", parts.zone.as_ref().map_or(0, |zone| zone.0).abs() / 60 % 60)),
        "OF" => {
            let offset = parts.zone.as_ref().map_or(0, |zone| zone.0);
            let sign = if offset < 0 { '-' } else { '+' };
            out.push_str(&format!("{sign}{:02}", offset.abs() / 3_600));
            if offset.abs() / 60 % 60 != 0 {
                out.push_str(&format!(":{:02}", offset.abs() / 60 % 60));
            }
        }
        _ => {}
    }
}

fn all_case(text: &str, written: &str) -> String {
    if written.starts_with(|c: char| c.is_ascii_uppercase()) { text.to_owned() } else { text.to_ascii_lowercase() }
}
