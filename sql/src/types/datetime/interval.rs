//! Reading intervals: PostgreSQL's verbose form, the SQL standard's, and ISO 8601 durations.

use super::calendar::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};
use super::parse::{Problem, fraction_us};
use crate::error::{Result, SqlError, SqlState};
use crate::types::Interval;

/// Sums of fields, wide enough not to overflow before the end.
#[derive(Default)]
struct Sums {
    months: i128,
    days: i128,
    microseconds: i128,
}

/// A number with its fraction apart; the fraction has the number's sign.
#[derive(Clone, Copy)]
struct Amount {
    whole: i64,
    fraction: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Months(i64),
    Days(i64),
    Microseconds(i64),
}

fn unit_of(word: &str) -> Option<Unit> {
    use Unit::*;
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            Microseconds(1)
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            Microseconds(1_000)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Microseconds(SECOND_US),
        "m" | "min" | "mins" | "minute" | "minutes" => Microseconds(MINUTE_US),
        "h" | "hr" | "hrs" | "hour" | "hours" => Microseconds(HOUR_US),
        "d" | "day" | "days" => Days(1),
        "w" | "week" | "weeks" => Days(7),
        "mon" | "mons" | "month" | "months" => Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Months(12),
        "dec" | "decs" | "decade" | "decades" => Months(120),
        "c" | "cent" | "century" | "centuries" => Months(1_200),
        "mil" | "mils" | "millennia" | "millennium" => Months(12_000),
        _ => return None,
    })
}

impl Sums {
    fn add(&mut self, amount: Amount, unit: Unit) {
        let whole = i128::from(amount.whole);
        match unit {
            Unit::Microseconds(size) => {
                self.microseconds += whole * i128::from(size);
                self.microseconds += (amount.fraction * size as f64).round_ties_even() as i128;
            }
            Unit::Days(size) => {
                self.days += whole * i128::from(size);
                self.add_fraction_of_days(amount.fraction * size as f64);
            }
            Unit::Months(1) => {
                self.months += whole;
                self.add_fraction_of_days(amount.fraction * 30.0);
            }
            Unit::Months(size) => {
                self.months += whole * i128::from(size);
                self.months += (amount.fraction * size as f64).round_ties_even() as i128;
            }
        }
    }

    fn add_fraction_of_days(&mut self, days: f64) {
        let whole = days.trunc();
        self.days += whole as i128;
        self.microseconds += ((days - whole) * DAY_US as f64).round_ties_even() as i128;
    }

    fn finish(self) -> Option<Interval> {
        Some(Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            microseconds: i64::try_from(self.microseconds).ok()?,
        })
    }
}

/// Reads an interval.
pub fn parse_interval(text: &str) -> Result<Interval> {
    let trimmed = text.trim();
    let sums = match trimmed.strip_prefix(['P', 'p']) {
        Some(duration) => parse_iso(&duration.to_ascii_uppercase()),
        None => parse_verbose(&trimmed.to_ascii_lowercase()),
    };
    let sums = sums.map_err(|problem| match problem {
        Problem::Range => out_of_range(text),
        other => other.error(text, "interval"),
    })?;
    sums.finish().ok_or_else(|| out_of_range(text))
}

fn out_of_range(text: &str) -> SqlError {
    let message = format!("interval field value out of range: \"{text}\"");
    SqlError::new(SqlState::INTERVAL_FIELD_OVERFLOW, message)
}

enum Item<'a> {
    /// Sign, digits, fraction digits.
    Number(Amount),
    /// Years and months of the SQL standard.
    YearMonth(i64),
    Clock(i64),
    Word(&'a str),
}

fn parse_verbose(text: &str) -> Result<Sums, Problem> {
    let mut items = items_of(text)?;
    let mut ago = false;
    if let Some(Item::Word("ago")) = items.last() {
        items.pop();
        ago = true;
    }
    // The SQL standard's form, one leading minus for all, holds only where every field is unsigned but the first.
    let mut sums = Sums::default();
    let mut pending: Option<Amount> = None;
    let mut any = false;
    let mut seen: Vec<Unit> = Vec::new();
    let mut once = |units: &[Unit]| match units.iter().any(|unit| seen.contains(unit)) {
        true => Err(Problem::Syntax),
        false => {
            seen.extend_from_slice(units);
            Ok(())
        }
    };
    const CLOCK: [Unit; 3] =
        [Unit::Microseconds(HOUR_US), Unit::Microseconds(MINUTE_US), Unit::Microseconds(SECOND_US)];
    for item in &items {
        match (item, pending.take()) {
            (Item::Word(word), Some(amount)) => {
                let unit = unit_of(word).ok_or(Problem::Syntax)?;
                once(&[unit])?;
                sums.add(amount, unit);
            }
            // Unit without number.
            (Item::Word(_), None) => return Err(Problem::Syntax),
            // A bare number before a clock counts days.
            (Item::Clock(us), amount) => {
                once(&CLOCK)?;
                if let Some(amount) = amount {
                    once(&[Unit::Days(1)])?;
                    sums.add(amount, Unit::Days(1));
                }
                sums.microseconds += i128::from(*us);
            }
            (Item::YearMonth(months), None) => {
                once(&[Unit::Months(12), Unit::Months(1)])?;
                sums.months += i128::from(*months);
            }
            (Item::Number(amount), None) => pending = Some(*amount),
            (Item::Number(_) | Item::YearMonth(_), Some(_)) => return Err(Problem::Syntax),
        }
        any = true;
    }
    if let Some(amount) = pending {
        once(&CLOCK[2..])?;
        sums.add(amount, Unit::Microseconds(SECOND_US));
    }
    if !any {
        return Err(Problem::Syntax);
    }
    if ago {
        sums = Sums { months: -sums.months, days: -sums.days, microseconds: -sums.microseconds };
    }
    Ok(sums)
}

fn items_of(text: &str) -> Result<Vec<Item<'_>>, Problem> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',', '@']);
        let Some(first) = rest.chars().next() else { return Ok(items) };
        if first.is_ascii_lowercase() {
            let length = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
            items.push(Item::Word(&rest[..length]));
            rest = rest[length..].strip_prefix('.').unwrap_or(&rest[length..]);
            continue;
        }
        let (negative, unsigned) = match first {
            '-' => (true, rest[1..].trim_start()),
            '+' => (false, rest[1..].trim_start()),
            _ => (false, rest),
        };
        let length =
            unsigned.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':' | '-')).unwrap_or(unsigned.len());
        // A minus only joins years to months.
        let dash = unsigned[..length].find('-').filter(|at| *at > 0).unwrap_or(length);
        let joined = dash < length && unsigned[dash + 1..].starts_with(|c: char| c.is_ascii_digit());
        let length = if joined { length } else { dash };
        let number = &unsigned[..length];
        if number.is_empty() {
            return Err(Problem::Syntax);
        }
        let sign = if negative { -1 } else { 1 };
        items.push(if number.contains(':') {
            Item::Clock(sign * parse_clock(number)?)
        } else if joined {
            let (years, months) = number.split_once('-').ok_or(Problem::Syntax)?;
            let parse = |part: &str| part.parse::<i64>().map_err(|_| Problem::Syntax);
            let months = parse(months)?;
            if months >= 12 {
                return Err(Problem::Range);
            }
            Item::YearMonth(sign * (parse(years)?.checked_mul(12).ok_or(Problem::Range)? + months))
        } else {
            Item::Number(parse_amount(number, negative)?)
        });
        rest = &unsigned[length..];
    }
}

/// `HH:MM`, `HH:MM:SS.fraction` or `MM:SS.fraction`; hours have no limit.
fn parse_clock(text: &str) -> Result<i64, Problem> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &str| part.parse::<i64>().map_err(|_| Problem::Syntax);
    let (hours, minutes, seconds) = match parts.as_slice() {
        [minutes, seconds] if seconds.contains('.') => (0, number(minutes)?, *seconds),
        [hours, minutes] => (number(hours)?, number(minutes)?, "0"),
        [hours, minutes, seconds] => (number(hours)?, number(minutes)?, *seconds),
        _ => return Err(Problem::Syntax),
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole = number(whole)?;
    if minutes > 59 || whole > 60 {
        return Err(Problem::Range);
    }
    let fraction = fraction_us(fraction).ok_or(Problem::Syntax)?;
    hours.checked_mul(HOUR_US).map(|us| us + minutes * MINUTE_US + whole * SECOND_US + fraction).ok_or(Problem::Range)
}

fn parse_amount(text: &str, negative: bool) -> Result<Amount, Problem> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(Problem::Syntax);
    }
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(Problem::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Problem::Range)? };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().map_err(|_| Problem::Syntax)? };
    let sign: i64 = if negative { -1 } else { 1 };
    Ok(Amount { whole: whole * sign, fraction: fraction * f64::from(sign as i32) })
}

/// `1Y2M3DT4H5M6.7S`, the leading P taken off; weeks too.
fn parse_iso(text: &str) -> Result<Sums, Problem> {
    let mut sums = Sums::default();
    let (mut rest, mut in_time, mut any) = (text, false, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (rest, in_time) = (after, true);
            continue;
        }
        let (negative, unsigned) = match rest.as_bytes()[0] {
            b'-' => (true, &rest[1..]),
            b'+' => (false, &rest[1..]),
            _ => (false, rest),
        };
        let length = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(Problem::Syntax)?;
        let amount = parse_amount(&unsigned[..length], negative)?;
        let unit = match (unsigned.as_bytes()[length], in_time) {
            (b'Y', false) => Unit::Months(12),
            (b'M', false) => Unit::Months(1),
            (b'W', false) => Unit::Days(7),
            (b'D', false) => Unit::Days(1),
            (b'H', true) => Unit::Microseconds(HOUR_US),
            (b'M', true) => Unit::Microseconds(MINUTE_US),
            (b'S', true) => Unit::Microseconds(SECOND_US),
            _ => return Err(Problem::Syntax),
        };
        sums.add(amount, unit);
        any = true;
        rest = &unsigned[length + 1..];
    }
    if any { Ok(sums) } else { Err(Problem::Syntax) }
}
