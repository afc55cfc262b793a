//! Sizes on the command line: `512MiB`, `4GiB`, `1073741824`.

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

#[cfg(test)]
mod tests {
    use super::parse;

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
