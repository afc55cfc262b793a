//! `to_date` and `to_timestamp` with a template.

use super::define::{scalar, string};
use super::format_datetime::{DAYS, MONTHS, Piece, ROMAN_MONTHS, pieces};
use super::{EvalContext, ScalarFunction};
use crate::error::{Result, SqlError, SqlState};
use crate::types::datetime::{
    HOUR_US, MINUTE_US, SECOND_US, check_date, check_timestamp, day_of_week, days_from_civil, days_in_month,
    is_leap_year, timestamp_from_parts, utc_from_local,
};
use crate::types::{DataType as T, Datum};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("to_date", &[T::TEXT, T::TEXT], T::DATE, |_, args| {
        let fields = read(string(&args[0])?, string(&args[1])?)?;
        check_date(fields.days(string(&args[0])?)?).map(Datum::Date)
    })
    .stable(),
    scalar("to_timestamp", &[T::TEXT, T::TEXT], T::TIMESTAMPTZ, to_timestamp).stable(),
];

fn to_timestamp(context: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let text = string(&args[0])?;
    let fields = read(text, string(&args[1])?)?;
    let (days, time_us) = (fields.days(text)?, fields.time(text)?);
    let local = timestamp_from_parts(days, time_us).ok_or_else(|| out_of_range(text))?;
    let utc = match fields.offset_hours {
        Some(hours) => {
            let minutes = i64::from(fields.offset_minutes.unwrap_or(0)) * if fields.offset_negative { -1 } else { 1 };
            local - i64::from(hours) * HOUR_US - minutes * MINUTE_US
        }
        None => utc_from_local(&context.time_zone, local),
    };
    check_timestamp(Some(utc)).map(Datum::Timestamptz)
}

fn out_of_range(text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message)
}

/// What a text gave for the fields of its template.
#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    week: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    century: Option<i64>,
    before_christ: bool,
    hour: i64,
    twelve: bool,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    microsecond: i64,
    seconds_of_day: Option<i64>,
    offset_hours: Option<i32>,
    offset_minutes: Option<i32>,
    offset_negative: bool,
}

fn read(text: &str, template: &str) -> Result<Fields> {
    let mut fields = Fields::default();
    let template = pieces(template);
    let mut rest = text;
    for (position, piece) in template.iter().enumerate() {
        match piece {
            Piece::Literal { text: literal, quoted: true } => {
                // Quoted text skips as many characters.
                let skipped = literal.chars().count();
                rest = rest.char_indices().nth(skipped).map_or("", |(at, _)| &rest[at..]);
            }
            Piece::Literal { text: literal, .. } => {
                for character in literal.chars() {
                    if is_separator(character) {
                        rest = rest.trim_start();
                        if let Some(after) = rest.strip_prefix(is_separator) {
                            // A sign may belong to the number that follows.
                            let sign_of_next = rest.starts_with(['-', '+']) && character.is_whitespace();
                            rest = if sign_of_next { rest } else { after };
                        }
                    } else {
                        let mut characters = rest.chars();
                        characters.next();
                        rest = characters.as_str();
                    }
                }
            }
            Piece::Field { name, ordinal, .. } => {
                rest = rest.trim_start();
                if rest.is_empty() {
                    break;
                }
                let digits_follow =
                    matches!(template.get(position + 1), Some(Piece::Field { name, .. }) if takes_digits(name));
                rest = fields.take(name, rest, digits_follow)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    Ok(fields)
}

fn is_separator(character: char) -> bool {
    character.is_ascii() && !character.is_ascii_alphanumeric()
}

fn takes_digits(name: &str) -> bool {
    !matches!(
        name,
        "MONTH"
            | "MON"
            | "DAY"
            | "DY"
            | "RM"
            | "AM"
            | "PM"
            | "A.M."
            | "P.M."
            | "AD"
            | "BC"
            | "A.D."
            | "B.C."
            | "TZ"
            | "TZH"
            | "OF"
    )
}

/// Reads a number of at most `width` digits, of any length when nothing numeric follows.
fn number<'a>(name: &str, text: &'a str, width: usize, digits_follow: bool) -> Result<(i64, &'a str, usize)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let signed = text.len() - unsigned.len();
    let limit = if digits_follow { width } else { 18 };
    let count = unsigned.bytes().take(limit).take_while(u8::is_ascii_digit).count();
    if count == 0 {
        let shown: String = text.chars().take(width).collect();
        let error = invalid(format!("invalid value \"{shown}\" for \"{name}\""));
        return Err(error.with_detail("Value must be an integer."));
    }
    let value: i64 = unsigned[..count].parse().map_err(|_| out_of_range(text))?;
    let value = if text.starts_with('-') { -value } else { value };
    Ok((value, &text[signed + count..], count))
}

/// The position of the name that the text begins with, whole or cut to three letters.
fn name_in<'a>(names: &[&str], text: &'a str, name: &str, whole: bool) -> Result<(usize, &'a str)> {
    for (index, known) in names.iter().enumerate() {
        let wanted = if whole { known } else { &known[..3] };
        if text.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted)) {
            return Ok((index, &text[wanted.len()..]));
        }
    }
    let shown: String = text.chars().take_while(|c| !c.is_whitespace()).collect();
    let error = invalid(format!("invalid value \"{shown}\" for \"{name}\""));
    Err(error.with_detail("The given value did not match any of the allowed values for this field."))
}

impl Fields {
    fn take<'a>(&mut self, name: &str, text: &'a str, digits_follow: bool) -> Result<&'a str> {
        let simple = |width: usize| number(name, text, width, digits_follow);
        let mut put = |slot: fn(&mut Fields) -> &mut Option<i64>, width: usize| -> Result<&'a str> {
            let (value, rest, _) = number(name, text, width, digits_follow)?;
            *slot(self) = Some(value);
            Ok(rest)
        };
        match name {
            "YYYY" => put(|fields| &mut fields.year, 4),
            "IYYY" => put(|fields| &mut fields.iso_year, 4),
            "MM" => put(|fields| &mut fields.month, 2),
            "DD" => put(|fields| &mut fields.day, 2),
            "DDD" => put(|fields| &mut fields.day_of_year, 3),
            "J" => put(|fields| &mut fields.julian, 7),
            "WW" => put(|fields| &mut fields.week, 2),
            "IW" => put(|fields| &mut fields.iso_week, 2),
            "ID" => put(|fields| &mut fields.iso_day, 1),
            "CC" => put(|fields| &mut fields.century, 2),
            "SSSS" | "SSSSS" => put(|fields| &mut fields.seconds_of_day, 5),
            "YYY" | "YY" | "Y" => {
                let (value, rest, count) = simple(name.len())?;
                // Few digits mean a year near 2000.
                self.year = Some(match count {
                    1 | 2 if value < 70 => value + 2000,
                    1 | 2 => value + 1900,
                    3 if value < 520 => value + 2000,
                    3 => value + 1000,
                    _ => value,
                });
                Ok(rest)
            }
            "Y,YYY" => {
                let (thousands, rest, _) = number(name, text, 9, false)?;
                let (value, rest, _) = number(name, rest.strip_prefix(',').unwrap_or(rest), 3, true)?;
                self.year = Some(thousands * 1_000 + value);
                Ok(rest)
            }
            "HH" | "HH12" | "HH24" => {
                let (value, rest, _) = simple(2)?;
                (self.hour, self.twelve) = (value, name != "HH24");
                Ok(rest)
            }
            "MI" => simple(2).map(|(value, rest, _)| {
                self.minute = value;
                rest
            }),
            "SS" => simple(2).map(|(value, rest, _)| {
                self.second = value;
                rest
            }),
            "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                let width = match name {
                    "MS" => 3,
                    "US" => 6,
                    other => usize::from(other.as_bytes()[2] - b'0'),
                };
                let (value, rest, count) = number(name, text, width, true)?;
                // Digits after a point: ".5" is 500 milliseconds.
                self.microsecond += value * 10i64.pow(6 - count.min(6) as u32);
                Ok(rest)
            }
            "AM" | "PM" | "A.M." | "P.M." => {
                let word: String = text.chars().filter(|c| *c != '.').take(2).collect();
                self.afternoon = match word.to_ascii_lowercase().as_str() {
                    "am" => Some(false),
                    "pm" => Some(true),
                    _ => return name_in(&[], text, name, true).map(|(_, rest)| rest),
                };
                Ok(text.get(name.len()..).unwrap_or(""))
            }
            "AD" | "BC" | "A.D." | "B.C." => {
                self.before_christ = text.starts_with(['b', 'B']);
                Ok(text.get(name.len()..).unwrap_or(""))
            }
            "MONTH" | "MON" => {
                let (index, rest) = name_in(&MONTHS, text, name, name == "MONTH")?;
                self.month = Some(index as i64 + 1);
                Ok(rest)
            }
            "DAY" | "DY" => name_in(&DAYS, text, name, name == "DAY").map(|(_, rest)| rest),
            "RM" => {
                let letters =
                    text.bytes().take_while(|byte| matches!(byte.to_ascii_uppercase(), b'I' | b'V' | b'X')).count();
                let index = ROMAN_MONTHS.iter().position(|roman| roman.eq_ignore_ascii_case(&text[..letters]));
                let index = index.ok_or_else(|| invalid(format!("invalid value \"{text}\" for \"RM\"")))?;
                self.month = Some(index as i64 + 1);
                Ok(&text[letters..])
            }
            "TZH" | "OF" => {
                self.offset_negative = text.starts_with('-');
                let (value, rest, _) = number(name, text, 2, true)?;
                self.offset_hours = Some(value as i32);
                match (name, rest.strip_prefix(':')) {
                    ("OF", Some(minutes)) => self.take("TZM", minutes, false),
                    _ => Ok(rest),
                }
            }
            "TZM" => {
                let (value, rest, _) = number(name, text, 2, true)?;
                self.offset_minutes = Some(value as i32);
                Ok(rest)
            }
            "TZ" => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "formatting field \"TZ\" is only supported in to_char",
            )),
            // Q, D, W and the short ISO years are read and do not count.
            other => number(other, text, other.len(), digits_follow).map(|(_, rest, _)| rest),
        }
    }

    fn days(&self, text: &str) -> Result<i64> {
        if let Some(julian) = self.julian {
            return Ok(julian - 2_451_545);
        }
        if let Some(week) = self.iso_week {
            let year = self.iso_year.or(self.year).unwrap_or(1) as i32;
            let fourth = days_from_civil(year, 1, 4);
            let monday = fourth - (i64::from(day_of_week(fourth)) + 6) % 7;
            return Ok(monday + (week - 1) * 7 + self.iso_day.unwrap_or(1) - 1);
        }
        let year = self.year.or(self.iso_year);
        let year = match (year, self.century) {
            (Some(year), _) if year < 0 => year + 1,
            (Some(year), _) if self.before_christ => 1 - year,
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            // Left out, the year is 1 BC, as in Postgres.
            (None, None) => 0,
        };
        let year = i32::try_from(year).map_err(|_| out_of_range(text))?;
        if let Some(day) = self.day_of_year {
            let limit = if is_leap_year(year) { 366 } else { 365 };
            return if (1..=limit).contains(&day) {
                Ok(days_from_civil(year, 1, 1) + day - 1)
            } else {
                Err(out_of_range(text))
            };
        }
        let day = match self.week {
            Some(week) if self.day.is_none() => return Ok(days_from_civil(year, 1, 1) + (week - 1) * 7),
            _ => self.day.unwrap_or(1),
        };
        let month = self.month.unwrap_or(1);
        if !(1..=12).contains(&month) || !(1..=i64::from(days_in_month(year, month as u32))).contains(&day) {
            return Err(out_of_range(text));
        }
        Ok(days_from_civil(year, month as u32, day as u32))
    }

    fn time(&self, text: &str) -> Result<i64> {
        if let Some(seconds) = self.seconds_of_day {
            return Ok(seconds * SECOND_US + self.microsecond);
        }
        let mut hour = self.hour;
        if self.twelve && (self.afternoon.is_some() || hour > 12) {
            if !(1..=12).contains(&hour) {
                let error = invalid(format!("hour \"{hour}\" is invalid for the 12-hour clock"));
                return Err(error.with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = hour % 12 + if self.afternoon == Some(true) { 12 } else { 0 };
        }
        if !(0..24).contains(&hour) || !(0..60).contains(&self.minute) || !(0..60).contains(&self.second) {
            return Err(out_of_range(text));
        }
        Ok(hour * HOUR_US + self.minute * MINUTE_US + self.second * SECOND_US + self.microsecond)
    }
}
