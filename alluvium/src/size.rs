//! Sizes and durations on the command line: `512MiB`, `4GiB`, `1073741824`; `7d`, `12h`, `30min`, `90s`.

use std::time::Duration;

use pageserver::compaction::Retention;

/// Bytes of a size with an optional unit (powers of 1024).
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(format!("{unit:?} is not a unit of size; use B, KiB, MiB, GiB or TiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size; write 512MiB or 4GiB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is more than this machine can address"))
}

/// A duration with its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "s" => 1,
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(format!("{text:?} is not a duration; write 7d, 12h, 30min or 90s")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a duration; write 7d, 12h, 30min or 90s"))?;
    let microseconds = number.checked_mul(seconds).and_then(|seconds| seconds.checked_mul(1_000_000));
    microseconds.map(Duration::from_micros).ok_or_else(|| format!("{text} is longer than anyone can wait"))
}

/// How long history is kept.
pub fn retention(bytes: u64, time: Duration) -> Retention {
    Retention { bytes, time_us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_duration};

    #[test]
    fn durations() {
        let cases =
            [("7d", Some(604_800)), ("12 h", Some(43_200)), ("30min", Some(1800)), ("0s", Some(0)), ("7", None)];
        for (text, seconds) in cases {
            assert_eq!(parse_duration(text).ok().map(|duration| duration.as_secs()), seconds, "{text}");
        }
        assert!(parse_duration("999999999999999d").is_err() && parse_duration("-1d").is_err());
    }

    #[test]
    fn sizes_with_and_without_units() {
        let cases = [
            ("0", Some(0)),
            ("10", Some(10)),
            ("4KiB", Some(4096)),
            ("2 g", Some(2 << 30)),
            ("x", None),
            ("1 parsec", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text).ok(), bytes, "{text}");
        }
        assert!(parse("99999999999999999999").is_err());
        assert!(parse("99999999TiB").is_err());
    }
}
