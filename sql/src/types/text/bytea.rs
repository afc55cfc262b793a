//! bytea: hex and escape form in, hex form out.

use bytes::Bytes;

use crate::error::{Result, SqlError, SqlState};

/// Reads `\x0123`, or text with `\\` and `\ooo`.
pub fn parse_bytea(text: &str) -> Result<Bytes> {
    match text.strip_prefix("\\x") {
        Some(digits) => parse_hex(digits),
        None => parse_escape(text),
    }
}

/// Reads hexadecimal digits, white space between pairs allowed.
pub(crate) fn parse_hex(text: &str) -> Result<Bytes> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let digit = |c: char| c.to_digit(16).ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{c}\"")));
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut characters = text.chars();
    while let Some(first) = characters.next() {
        if matches!(first, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit(first)?;
        let second =
            characters.next().ok_or_else(|| invalid("invalid hexadecimal data: odd number of digits".into()))?;
        bytes.push((high << 4 | digit(second)?) as u8);
    }
    Ok(bytes.into())
}

/// Reads the escape form.
pub(crate) fn parse_escape(text: &str) -> Result<Bytes> {
    let invalid = || SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type bytea");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match *rest {
            [b'\\', ..] => {
                bytes.push(b'\\');
                rest = &rest[1..];
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &rest[3..];
            }
            _ => return Err(invalid()),
        }
    }
    Ok(bytes.into())
}

/// Appends `\x` and hexadecimal digits.
pub fn format_hex(bytes: &[u8], out: &mut String) {
    out.reserve(2 + bytes.len() * 2);
    out.push_str("\\x");
    put_hex(bytes, out);
}

/// Appends hexadecimal digits.
pub(crate) fn put_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
}
