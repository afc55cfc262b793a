//! Checks a setting's text, normalises it, and decodes it into [`Typed`].

use super::{Definition, Kind, MessageLevel, Typed, Unit};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::DateOrder;
use crate::store::IsolationLevel;

/// Puts a checked value into its typed field.
pub type Apply = Box<dyn FnOnce(&mut Typed)>;

/// Before any setting has been applied.
pub fn defaults() -> Typed {
    Typed {
        statement_timeout_ms: 0,
        lock_timeout_ms: 0,
        idle_in_transaction_session_timeout_ms: 0,
        idle_session_timeout_ms: 0,
        work_mem_bytes: 0,
        extra_float_digits: 1,
        time_zone: jiff::tz::TimeZone::UTC,
        date_order: DateOrder::Mdy,
        search_path: [].into(),
        default_isolation: IsolationLevel::ReadCommitted,
        default_read_only: false,
        client_min_messages: MessageLevel::Notice,
    }
}

/// The normalised text of `value`, and what to change in [`Typed`] when the engine reads this setting.
pub fn check(definition: &Definition, value: &str) -> Result<(String, Option<Apply>)> {
    let text = match definition.kind {
        Kind::Bool => match parse_bool(value) {
            Some(true) => "on".to_owned(),
            Some(false) => "off".to_owned(),
            None => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", definition.name),
                ));
            }
        },
        Kind::Integer { min, max, unit } => {
            let number = parse_integer(value, unit).ok_or_else(|| invalid(definition, value))?;
            if !(min..=max).contains(&number) {
                let name = definition.name;
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("{number} is outside the valid range for parameter \"{name}\" ({min} .. {max})"),
                ));
            }
            number.to_string()
        }
        Kind::Enum(words) => check_word(definition, words, value)?,
        Kind::Text => value.to_owned(),
        Kind::TimeZone => return check_time_zone(definition, value),
        Kind::DateStyle => return check_date_style(definition, value),
        Kind::SearchPath => {
            let path: Vec<String> = split_identifiers(value).ok_or_else(|| invalid(definition, value))?;
            let apply: Apply = Box::new(move |typed| typed.search_path = path.into());
            return Ok((value.to_owned(), Some(apply)));
        }
    };
    let apply = apply(definition.name, &text);
    Ok((text, apply))
}

fn apply(name: &str, text: &str) -> Option<Apply> {
    let number = || text.parse::<i64>().expect("the value was checked");
    let unsigned = || u64::try_from(number()).expect("the range was checked");
    Some(match name {
        "statement_timeout" => {
            let value = unsigned();
            Box::new(move |typed| typed.statement_timeout_ms = value)
        }
        "lock_timeout" => {
            let value = unsigned();
            Box::new(move |typed| typed.lock_timeout_ms = value)
        }
        "idle_in_transaction_session_timeout" => {
            let value = unsigned();
            Box::new(move |typed| typed.idle_in_transaction_session_timeout_ms = value)
        }
        "idle_session_timeout" => {
            let value = unsigned();
            Box::new(move |typed| typed.idle_session_timeout_ms = value)
        }
        "work_mem" => {
            let value = usize::try_from(unsigned() * 1024).expect("the range was checked");
            Box::new(move |typed| typed.work_mem_bytes = value)
        }
        "extra_float_digits" => {
            let value = i32::try_from(number()).expect("the range was checked");
            Box::new(move |typed| typed.extra_float_digits = value)
        }
        "default_transaction_read_only" => {
            let value = text == "on";
            Box::new(move |typed| typed.default_read_only = value)
        }
        "default_transaction_isolation" => {
            let value = isolation(text);
            Box::new(move |typed| typed.default_isolation = value)
        }
        "client_min_messages" => {
            let value = match text {
                "error" => MessageLevel::Error,
                "warning" => MessageLevel::Warning,
                _ => MessageLevel::Notice,
            };
            Box::new(move |typed| typed.client_min_messages = value)
        }
        _ => return None,
    })
}

/// The isolation level of a checked setting.
pub fn isolation(text: &str) -> IsolationLevel {
    match text {
        "repeatable read" => IsolationLevel::RepeatableRead,
        "serializable" => IsolationLevel::Serializable,
        _ => IsolationLevel::ReadCommitted,
    }
}

fn invalid(definition: &Definition, value: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{}\": \"{value}\"", definition.name),
    )
}

fn check_word(definition: &Definition, words: &[&str], value: &str) -> Result<String> {
    // Names of encodings are compared by their letters and digits only: a driver may send `'utf-8'`, quotes
    // and all.
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let canonical = match (definition.name, value.to_ascii_lowercase().as_str()) {
        ("client_encoding", name) if matches!(plain(name).as_str(), "utf8" | "unicode") => "UTF8",
        ("standard_conforming_strings" | "synchronous_commit", "true" | "1" | "yes") => "on",
        ("quote_all_identifiers", "false" | "0" | "no") => "off",
        _ => value.trim(),
    };
    match words.iter().find(|word| word.eq_ignore_ascii_case(canonical)) {
        Some(word) => Ok((*word).to_owned()),
        None => {
            let shown: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
            Err(invalid(definition, value).with_hint(format!("Available values: {}.", shown.join(", "))))
        }
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1" => Some(true),
        "off" | "of" | "false" | "fals" | "fal" | "fa" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A number, with a unit of Postgres' (`5s`, `64MB`) where the setting has one; in the setting's unit.
fn parse_integer(value: &str, unit: Unit) -> Option<i64> {
    let value = value.trim();
    let digits = value.find(|character: char| !matches!(character, '0'..='9' | '.' | '-' | '+')).unwrap_or(value.len());
    let (number, suffix) = value.split_at(digits);
    let factor = match (unit, suffix.trim()) {
        (_, "") => 1.0,
        (Unit::Milliseconds, "us") => 0.001,
        (Unit::Milliseconds, "ms") => 1.0,
        (Unit::Milliseconds, "s") => 1_000.0,
        (Unit::Milliseconds, "min") => 60_000.0,
        (Unit::Milliseconds, "h") => 3_600_000.0,
        (Unit::Milliseconds, "d") => 86_400_000.0,
        (Unit::Kilobytes, "B") => 1.0 / 1024.0,
        (Unit::Kilobytes, "kB") => 1.0,
        (Unit::Kilobytes, "MB") => 1024.0,
        (Unit::Kilobytes, "GB") => 1024.0 * 1024.0,
        (Unit::Kilobytes, "TB") => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let scaled = (number * factor).round();
    (scaled.abs() < 9e15).then_some(scaled as i64)
}

fn check_time_zone(definition: &Definition, value: &str) -> Result<(String, Option<Apply>)> {
    let (name, zone) = parse_time_zone(value).ok_or_else(|| invalid(definition, value))?;
    Ok((name, Some(Box::new(move |typed| typed.time_zone = zone))))
}

/// An IANA name, `UTC`, or hours east of Greenwich.
fn parse_time_zone(value: &str) -> Option<(String, jiff::tz::TimeZone)> {
    let value = value.trim().trim_matches('\'');
    if value.eq_ignore_ascii_case("utc") || value.eq_ignore_ascii_case("gmt") || value.eq_ignore_ascii_case("default") {
        let name = if value.eq_ignore_ascii_case("gmt") { "GMT" } else { "UTC" };
        return Some((name.to_owned(), jiff::tz::TimeZone::UTC));
    }
    if let Ok(hours) = value.parse::<f64>() {
        let seconds = (hours * 3600.0).round();
        if seconds.abs() > 168.0 * 3600.0 {
            return None;
        }
        let offset = jiff::tz::Offset::from_seconds(seconds as i32).ok()?;
        let sign = if seconds < 0.0 { '-' } else { '+' };
        let opposite = if seconds < 0.0 { '+' } else { '-' };
        let (hours, minutes) = ((seconds.abs() / 3600.0) as i32, (seconds.abs() as i32 % 3600) / 60);
        let shown = if minutes == 0 { format!("{hours:02}") } else { format!("{hours:02}:{minutes:02}") };
        return Some((format!("<{sign}{shown}>{opposite}{shown}"), jiff::tz::TimeZone::fixed(offset)));
    }
    let zone = match jiff::tz::TimeZone::get(value) {
        Ok(zone) => zone,
        Err(_) => jiff::tz::TimeZone::posix(value).ok()?,
    };
    let name = zone.iana_name().unwrap_or(value).to_owned();
    Some((name, zone))
}

fn check_date_style(definition: &Definition, value: &str) -> Result<(String, Option<Apply>)> {
    let mut order = None;
    for word in value.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "iso" | "" => {}
            "mdy" | "us" | "noneuro" | "noneuropean" => order = Some(DateOrder::Mdy),
            "dmy" | "euro" | "european" => order = Some(DateOrder::Dmy),
            "ymd" => order = Some(DateOrder::Ymd),
            "postgres" | "sql" | "german" => {
                return Err(
                    SqlError::unsupported(format!("DateStyle {word}")).with_hint("Dates are printed in ISO style.")
                );
            }
            _ => return Err(invalid(definition, value)),
        }
    }
    let order = order.unwrap_or_default();
    let name = match order {
        DateOrder::Mdy => "MDY",
        DateOrder::Dmy => "DMY",
        DateOrder::Ymd => "YMD",
    };
    Ok((format!("ISO, {name}"), Some(Box::new(move |typed| typed.date_order = order))))
}

/// A comma-separated list of identifiers, quoted or folded to lower case.
fn split_identifiers(value: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"')?;
            (quoted[..end].to_owned(), &quoted[end + 1..])
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().trim_matches('\'').to_ascii_lowercase(), &rest[end..])
        };
        names.push(name);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    names.retain(|name| !name.is_empty());
    Some(names)
}

/// The value as SHOW prints it: whole numbers in their largest exact unit.
pub fn display(definition: &Definition, text: &str) -> String {
    let Kind::Integer { unit, .. } = definition.kind else { return text.to_owned() };
    let Ok(number) = text.parse::<i64>() else { return text.to_owned() };
    let units: &[(i64, &str)] = match unit {
        Unit::None => return text.to_owned(),
        Unit::Milliseconds => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")],
        Unit::Kilobytes => &[(1024 * 1024 * 1024, "TB"), (1024 * 1024, "GB"), (1024, "MB"), (1, "kB")],
    };
    match units.iter().find(|(size, _)| number != 0 && number % size == 0) {
        Some((size, name)) => format!("{}{name}", number / size),
        None => text.to_owned(),
    }
}
