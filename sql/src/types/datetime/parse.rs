//! Reading dates, times and timestamps in the many forms that PostgreSQL accepts.

use jiff::tz::TimeZone;

use super::calendar::{
    DAY_US, HOUR_US, MAX_DATE_DAYS, MIN_DATE_DAYS, MINUTE_US, SECOND_US, civil_from_timestamp, days_from_civil,
    days_in_month, timestamp_from_parts,
};
use super::tokens::{Token, tokenize};
use super::zone::{abbreviation_offset, local_from_utc, named_zone, parse_offset, unknown_zone, utc_from_local};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::{DateOrder, EvalContext};

/// Why an input is refused; the text and the type make the message.
pub(super) enum Problem {
    Syntax,
    Range,
    /// A month or day out of range that another field order might have read.
    FieldOrder,
    Displacement,
    Zone(String),
}

impl Problem {
    #[cold]
    pub(super) fn error(self, text: &str, type_name: &str) -> SqlError {
        match self {
            Problem::Syntax => {
                let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
                SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message)
            }
            Problem::Range => out_of_field(text),
            Problem::FieldOrder => out_of_field(text).with_hint("Perhaps you need a different \"datestyle\" setting."),
            Problem::Displacement => {
                let message = format!("time zone displacement out of range: \"{text}\"");
                SqlError::new(SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE, message)
            }
            Problem::Zone(name) => unknown_zone(&name),
        }
    }
}

fn out_of_field(text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
}

/// The zone of an input.
enum Zone {
    Offset(i32),
    Named(TimeZone),
}

/// What special words stand for.
enum Special {
    Infinity(bool),
    Epoch,
    Now,
    /// Days from today.
    Day(i64),
}

/// The fields found in an input.
#[derive(Default)]
struct Fields {
    year: Option<i32>,
    /// Written with one or two digits.
    short_year: bool,
    month: Option<u32>,
    day: Option<u32>,
    julian: Option<i64>,
    time_us: Option<i64>,
    /// True: afternoon.
    meridian: Option<bool>,
    before_christ: Option<bool>,
    zone: Option<Zone>,
    special: Option<Special>,
    /// Month given as a word.
    named_month: bool,
}

/// Months by name or prefix of at least three letters.
pub(super) fn month_of(word: &str) -> Option<u32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    if word == "sept" {
        return Some(9);
    }
    let found = NAMES.iter().position(|name| *name == word || word.len() == 3 && name.starts_with(word))?;
    Some(found as u32 + 1)
}

fn is_weekday(word: &str) -> bool {
    const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    NAMES.iter().any(|name| *name == word || word.len() == 3 && name.starts_with(word))
        || matches!(word, "tues" | "wednes" | "weds" | "thur" | "thurs")
}

/// `HH:MM[:SS[.fraction]]` or `MM:SS.fraction` as microseconds.
fn parse_clock(text: &str) -> Result<i64, Problem> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &str| part.parse::<i64>().map_err(|_| Problem::Syntax);
    let (hours, minutes, seconds) = match parts.as_slice() {
        [minutes, seconds] if seconds.contains('.') => (0, number(minutes)?, *seconds),
        [hours, minutes] => (number(hours)?, number(minutes)?, "0"),
        [hours, minutes, seconds] => (number(hours)?, number(minutes)?, *seconds),
        _ => return Err(Problem::Syntax),
    };
    let seconds_us = parse_seconds(seconds)?;
    let total = hours * HOUR_US + minutes * MINUTE_US + seconds_us;
    // 24:00:00 and a leap second are let through.
    if minutes > 59 || seconds_us > 60 * SECOND_US || hours > 24 || total > DAY_US {
        return Err(Problem::Range);
    }
    Ok(total)
}

/// Seconds with an optional fraction, rounded to microseconds.
fn parse_seconds(text: &str) -> Result<i64, Problem> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Problem::Syntax)? };
    whole.checked_mul(SECOND_US).and_then(|us| us.checked_add(fraction_us(fraction)?)).ok_or(Problem::Syntax)
}

/// Digits after the point as microseconds, rounded to the nearest (halves to even, like rint).
pub(super) fn fraction_us(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: f64 = format!("0.{digits}").parse().ok()?;
    Some((fraction * 1e6).round_ties_even() as i64)
}

impl Fields {
    fn read(tokens: &[Token], order: DateOrder, time_only: bool) -> Result<Self, Problem> {
        let mut fields = Fields::default();
        // Number tokens are held back until it is known whether the month is a word.
        let mut numbers: Vec<&str> = Vec::new();
        fields.named_month = tokens.iter().any(|token| match token {
            Token::Word(word) => month_of(word).is_some(),
            _ => false,
        });
        for (index, token) in tokens.iter().enumerate() {
            match token {
                Token::Time(text) => {
                    if fields.time_us.replace(parse_clock(text)?).is_some() {
                        return Err(Problem::Syntax);
                    }
                }
                Token::Date(parts) => fields.date(parts, order)?,
                Token::Number(digits) => {
                    let next_is_meridian =
                        matches!(tokens.get(index + 1), Some(Token::Word(word)) if word == "am" || word == "pm");
                    let after_t = index > 0 && tokens[index - 1] == Token::Word("t".into());
                    if next_is_meridian || after_t || time_only && digits.len() >= 4 {
                        fields.packed_time(digits, "")?;
                    } else if fields.julian == Some(i64::MIN) {
                        fields.julian = digits.parse().ok().map(|day: i64| day - 2_451_545);
                    } else {
                        fields.number(digits, &mut numbers)?;
                    }
                }
                Token::Decimal(text) => {
                    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                    match whole.len() {
                        // Day of the year: 1999.008.
                        4 if fraction.len() == 3 && fields.day.is_none() => {
                            fields.date(&[whole.to_owned(), fraction.to_owned()], order)?;
                        }
                        14 => {
                            fields.packed_date(&whole[..8])?;
                            fields.packed_time(&whole[8..], fraction)?;
                        }
                        4 | 6 => fields.packed_time(whole, fraction)?,
                        _ => return Err(Problem::Syntax),
                    }
                }
                Token::Word(word) => fields.word(word)?,
                Token::Signed(sign, text) => fields.signed(*sign, text)?,
            }
        }
        if !numbers.is_empty() {
            let parts: Vec<String> = numbers.iter().map(|digits| (*digits).to_owned()).collect();
            fields.assign(&parts, order)?;
        }
        Ok(fields)
    }

    fn number<'t>(&mut self, digits: &'t str, numbers: &mut Vec<&'t str>) -> Result<(), Problem> {
        let have_date = self.day.is_some() || self.julian.is_some();
        match digits.len() {
            8 if !have_date && !self.named_month => self.packed_date(digits),
            9.. => Err(Problem::Range),
            6 if !have_date && !self.named_month => {
                self.short_year = true;
                self.packed_date(digits)
            }
            4 | 6 if have_date && self.time_us.is_none() => self.packed_time(digits, ""),
            _ if have_date => Err(Problem::Syntax),
            _ => {
                numbers.push(digits);
                Ok(())
            }
        }
    }

    fn packed_date(&mut self, digits: &str) -> Result<(), Problem> {
        let (year, rest) = digits.split_at(digits.len() - 4);
        let number = |part: &str| part.parse::<u32>().map_err(|_| Problem::Syntax);
        self.set_date(number(year)? as i32, number(&rest[..2])?, number(&rest[2..])?)
    }

    fn set_date(&mut self, year: i32, month: u32, day: u32) -> Result<(), Problem> {
        if self.day.is_some() {
            return Err(Problem::Syntax);
        }
        (self.year, self.month, self.day) = (Some(year), Some(month), Some(day));
        Ok(())
    }

    fn packed_time(&mut self, digits: &str, fraction: &str) -> Result<(), Problem> {
        let number = |part: &str| part.parse::<i64>().map_err(|_| Problem::Syntax);
        let (hours, minutes, seconds) = match digits.len() {
            1 | 2 => (number(digits)?, 0, 0),
            4 => (number(&digits[..2])?, number(&digits[2..])?, 0),
            6 => (number(&digits[..2])?, number(&digits[2..4])?, number(&digits[4..])?),
            _ => return Err(Problem::Syntax),
        };
        let total = hours * HOUR_US + minutes * MINUTE_US + seconds * SECOND_US;
        if minutes > 59 || seconds > 60 || total > DAY_US {
            return Err(Problem::Range);
        }
        let fraction = fraction_us(fraction).ok_or(Problem::Syntax)?;
        match self.time_us.replace(total + fraction) {
            None => Ok(()),
            Some(_) => Err(Problem::Syntax),
        }
    }

    fn date(&mut self, parts: &[String], order: DateOrder) -> Result<(), Problem> {
        if self.day.is_some() || parts.iter().any(String::is_empty) || parts.len() > 3 {
            return Err(Problem::Syntax);
        }
        // 1999-Jan-08 and 08-Jan-1999: the month is the word among them.
        if let Some(at) = parts.iter().position(|part| part.starts_with(|c: char| c.is_ascii_lowercase())) {
            self.month = Some(month_of(&parts[at]).ok_or(Problem::Syntax)?);
            self.named_month = true;
            let rest: Vec<String> =
                parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, p)| p.clone()).collect();
            return self.assign(&rest, order);
        }
        if let [year, day] = parts
            && year.len() >= 4
            && day.len() == 3
        {
            // Day of the year: 1999-008.
            let (year, day) = (parse_i32(year)?, parse_i32(day)?);
            self.set_date(year, 1, 1)?;
            self.julian = Some(days_from_civil(year, 1, 1) + i64::from(day) - 1);
            return Ok(());
        }
        self.assign(parts, order)
    }

    /// Gives two or three numbers their meaning by the field order.
    fn assign(&mut self, parts: &[String], order: DateOrder) -> Result<(), Problem> {
        let is_year = |part: &String| part.len() > 2;
        let number = |part: &String| part.parse::<u32>().map_err(|_| Problem::Range);
        let (year, month, day) = match (self.named_month, parts) {
            (true, [a, b]) if is_year(a) => (a, None, b),
            (true, [a, b]) if is_year(b) || order != DateOrder::Ymd => (b, None, a),
            (true, [a, b]) => (a, None, b),
            (false, [a, b, c]) if is_year(a) => (a, Some(b), c),
            (false, [a, b, c]) => match order {
                DateOrder::Mdy => (c, Some(a), b),
                DateOrder::Dmy => (c, Some(b), a),
                DateOrder::Ymd => (a, Some(b), c),
            },
            _ => return Err(Problem::Syntax),
        };
        self.short_year |= !is_year(year);
        let month = match month {
            Some(month) => number(month)?,
            None => self.month.ok_or(Problem::Syntax)?,
        };
        self.set_date(parse_i32(year)?, month, number(day)?)
    }

    fn word(&mut self, word: &str) -> Result<(), Problem> {
        match word {
            "am" | "pm" => {
                self.meridian = Some(word == "pm");
                return Ok(());
            }
            "bc" | "ad" => {
                self.before_christ = Some(word == "bc");
                return Ok(());
            }
            "t" | "at" | "on" => return Ok(()),
            "j" => {
                self.julian = Some(i64::MIN);
                return Ok(());
            }
            "allballs" => {
                self.time_us = Some(0);
                self.zone = Some(Zone::Offset(0));
                return Ok(());
            }
            _ => {}
        }
        let special = match word {
            "infinity" => Some(Special::Infinity(true)),
            "epoch" => Some(Special::Epoch),
            "now" => Some(Special::Now),
            "today" => Some(Special::Day(0)),
            "tomorrow" => Some(Special::Day(1)),
            "yesterday" => Some(Special::Day(-1)),
            _ => None,
        };
        if special.is_some() {
            if self.special.is_some() {
                return Err(Problem::Syntax);
            }
            self.special = special;
            return Ok(());
        }
        if let Some(month) = month_of(word) {
            self.month = Some(month);
            return Ok(());
        }
        if is_weekday(word) {
            return Ok(());
        }
        if self.zone.is_some() {
            return Err(Problem::Syntax);
        }
        self.zone = Some(match abbreviation_offset(word) {
            Some(seconds) => Zone::Offset(seconds),
            None => match named_zone(word) {
                Some(zone) => Zone::Named(zone),
                None if word.contains('/') => return Err(Problem::Zone(word.to_owned())),
                None => return Err(Problem::Syntax),
            },
        });
        Ok(())
    }

    fn signed(&mut self, sign: char, text: &str) -> Result<(), Problem> {
        if text.starts_with(|c: char| c.is_ascii_lowercase()) {
            if text != "infinity" {
                return Err(Problem::Syntax);
            }
            self.special = Some(Special::Infinity(sign == '+'));
            return Ok(());
        }
        if self.zone.is_some() && !matches!(self.zone, Some(Zone::Offset(0))) {
            return Err(Problem::Syntax);
        }
        let offset = parse_offset(&format!("{sign}{text}")).ok_or(Problem::Displacement)?;
        // After a zone's name the sign is that of POSIX: UTC+3 lies west.
        let offset = if self.zone.is_some() { -offset } else { offset };
        self.zone = Some(Zone::Offset(offset));
        Ok(())
    }

    /// Days of the date, its fields checked.
    fn days(&self) -> Result<i64, Problem> {
        if let Some(julian) = self.julian {
            return if julian == i64::MIN { Err(Problem::Syntax) } else { Ok(julian) };
        }
        let (Some(year), Some(month), Some(day)) = (self.year, self.month, self.day) else {
            return Err(Problem::Syntax);
        };
        let year = match (self.before_christ, self.short_year) {
            (Some(_), _) if year <= 0 => return Err(Problem::Range),
            (Some(true), _) => 1 - year,
            (None, true) if year < 70 => year + 2000,
            (None, true) if year < 100 => year + 1900,
            _ if year == 0 => return Err(Problem::Range),
            _ => year,
        };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Problem::FieldOrder);
        }
        if day > days_in_month(year, month) {
            return Err(Problem::Range);
        }
        Ok(days_from_civil(year, month, day))
    }

    /// Microseconds of the day.
    fn time(&self) -> Result<i64, Problem> {
        let time_us = self.time_us.unwrap_or(0);
        let hours = time_us / HOUR_US;
        match self.meridian {
            Some(_) if self.time_us.is_none() => Err(Problem::Syntax),
            Some(_) if hours > 12 => Err(Problem::Range),
            Some(false) if hours == 12 => Ok(time_us - 12 * HOUR_US),
            Some(true) if hours != 12 => Ok(time_us + 12 * HOUR_US),
            _ => Ok(time_us),
        }
    }
}

fn parse_i32(digits: &str) -> Result<i32, Problem> {
    digits.parse().map_err(|_| Problem::Range)
}

/// A local timestamp and the zone given with it, or an infinity.
enum Moment {
    Infinity(bool),
    Local { days: i64, time_us: i64, zone: Option<Zone> },
    Utc(i64),
}

fn parse_moment(text: &str, context: &EvalContext) -> Result<Moment, Problem> {
    let tokens = tokenize(text).filter(|tokens| !tokens.is_empty()).ok_or(Problem::Syntax)?;
    let fields = Fields::read(&tokens, context.date_order, false)?;
    match fields.special {
        Some(_) if fields.day.is_some() => Err(Problem::Syntax),
        Some(Special::Infinity(positive)) if tokens.len() == 1 => Ok(Moment::Infinity(positive)),
        Some(Special::Infinity(_)) => Err(Problem::Syntax),
        Some(Special::Epoch) => Ok(Moment::Utc(-946_684_800 * SECOND_US)),
        Some(Special::Now) => Ok(Moment::Utc(context.transaction_timestamp_us)),
        Some(Special::Day(shift)) => {
            let local = local_from_utc(&context.time_zone, context.transaction_timestamp_us);
            let time_us = fields.time()?;
            Ok(Moment::Local { days: local.div_euclid(DAY_US) + shift, time_us, zone: fields.zone })
        }
        None => {
            let (days, time_us) = (fields.days()?, fields.time()?);
            Ok(Moment::Local { days, time_us, zone: fields.zone })
        }
    }
}

fn timestamp_range(text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{text}\""))
}

fn infinity(positive: bool) -> i64 {
    if positive { i64::MAX } else { i64::MIN }
}

/// Reads a timestamp; a zone in it is ignored.
pub fn parse_timestamp(text: &str, context: &EvalContext) -> Result<i64> {
    match parse_moment(text, context).map_err(|problem| problem.error(text, "timestamp"))? {
        Moment::Infinity(positive) => Ok(infinity(positive)),
        Moment::Utc(utc_us) if text.trim().eq_ignore_ascii_case("epoch") => Ok(utc_us),
        Moment::Utc(utc_us) => Ok(local_from_utc(&context.time_zone, utc_us)),
        Moment::Local { days, time_us, .. } => timestamp_from_parts(days, time_us).ok_or_else(|| timestamp_range(text)),
    }
}

/// Reads a timestamp with time zone; one without is of the session's zone.
pub fn parse_timestamptz(text: &str, context: &EvalContext) -> Result<i64> {
    let problem = |problem: Problem| problem.error(text, "timestamp with time zone");
    match parse_moment(text, context).map_err(problem)? {
        Moment::Infinity(positive) => Ok(infinity(positive)),
        Moment::Utc(utc_us) => Ok(utc_us),
        Moment::Local { days, time_us, zone } => {
            // A day more on either side: the zone may bring it back into range.
            let local = days.checked_mul(DAY_US).and_then(|us| us.checked_add(time_us));
            let local = local.ok_or_else(|| timestamp_range(text))?;
            let utc = match zone {
                Some(Zone::Offset(seconds)) => local.saturating_sub(i64::from(seconds) * SECOND_US),
                Some(Zone::Named(zone)) => utc_from_local(&zone, local),
                None => utc_from_local(&context.time_zone, local),
            };
            timestamp_from_parts(0, utc).ok_or_else(|| timestamp_range(text))
        }
    }
}

/// Reads a date; a time in it is ignored.
pub fn parse_date(text: &str, context: &EvalContext) -> Result<i32> {
    if let Some(days) = plain_date(text) {
        return Ok(days);
    }
    let days = match parse_moment(text, context).map_err(|problem| problem.error(text, "date"))? {
        Moment::Infinity(positive) => return Ok(if positive { i32::MAX } else { i32::MIN }),
        Moment::Utc(utc_us) if text.trim().eq_ignore_ascii_case("epoch") => utc_us.div_euclid(DAY_US),
        Moment::Utc(utc_us) => local_from_utc(&context.time_zone, utc_us).div_euclid(DAY_US),
        Moment::Local { days, .. } => days,
    };
    let range = || SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: \"{text}\""));
    i32::try_from(days).ok().filter(|days| (MIN_DATE_DAYS..=MAX_DATE_DAYS).contains(days)).ok_or_else(range)
}

/// The common form `YYYY-MM-DD`, without tokens.
fn plain_date(text: &str) -> Option<i32> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let (year, month, day) = (number(0..4)? as i32, number(5..7)?, number(8..10)?);
    let valid = year > 0 && (1..=12).contains(&month) && day > 0 && day <= days_in_month(year, month);
    valid.then(|| days_from_civil(year, month, day) as i32)
}

/// Reads a time of day; a date before it is ignored.
pub fn parse_time(text: &str, context: &EvalContext) -> Result<i64> {
    let read = || -> Result<i64, Problem> {
        let tokens = tokenize(text).filter(|tokens| !tokens.is_empty()).ok_or(Problem::Syntax)?;
        let dated = tokens.iter().any(|token| matches!(token, Token::Date(_)));
        let fields = Fields::read(&tokens, context.date_order, !dated)?;
        match fields.special {
            Some(Special::Now) => {
                return Ok(civil_from_timestamp(local_from_utc(&context.time_zone, context.transaction_timestamp_us)).1);
            }
            Some(_) => return Err(Problem::Syntax),
            None => {}
        }
        if fields.time_us.is_none() {
            return Err(Problem::Syntax);
        }
        if fields.day.is_some() {
            fields.days()?;
        }
        fields.time()
    };
    read().map_err(|problem| problem.error(text, "time"))
}
