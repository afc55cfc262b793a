//! bytea and hashes: encode, decode, md5, sha.

use sha2::Digest;

use super::ScalarFunction;
use super::define::{bytea, int4, int8, scalar, string};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType as T, Datum};

/// The signatures.
pub static FUNCTIONS: &[ScalarFunction] = &[
    scalar("md5", &[T::TEXT], T::TEXT, |_, args| Ok(Datum::text(hex(&md5::Md5::digest(string(&args[0])?))))),
    scalar("md5", &[T::BYTEA], T::TEXT, |_, args| Ok(Datum::text(hex(&md5::Md5::digest(bytea(&args[0])?))))),
    scalar("sha224", &[T::BYTEA], T::BYTEA, |_, args| Ok(bytes(&sha2::Sha224::digest(bytea(&args[0])?)))),
    scalar("sha256", &[T::BYTEA], T::BYTEA, |_, args| Ok(bytes(&sha2::Sha256::digest(bytea(&args[0])?)))),
    scalar("sha384", &[T::BYTEA], T::BYTEA, |_, args| Ok(bytes(&sha2::Sha384::digest(bytea(&args[0])?)))),
    scalar("sha512", &[T::BYTEA], T::BYTEA, |_, args| Ok(bytes(&sha2::Sha512::digest(bytea(&args[0])?)))),
    scalar("encode", &[T::BYTEA, T::TEXT], T::TEXT, |_, args| encode(bytea(&args[0])?, string(&args[1])?)),
    scalar("decode", &[T::TEXT, T::TEXT], T::BYTEA, |_, args| decode(string(&args[0])?, string(&args[1])?)),
    scalar("get_byte", &[T::BYTEA, T::INT4], T::INT4, |_, args| {
        let (from, index) = (bytea(&args[0])?, int4(&args[1])?);
        let byte = usize::try_from(index).ok().and_then(|index| from.get(index));
        byte.map(|byte| Datum::Int4((*byte).into())).ok_or_else(|| index_error(index.into(), from.len()))
    }),
    scalar("set_byte", &[T::BYTEA, T::INT4, T::INT4], T::BYTEA, |_, args| {
        let (mut from, index) = (bytea(&args[0])?.to_vec(), int4(&args[1])?);
        let (length, value) = (from.len(), int4(&args[2])? as u8);
        let byte = usize::try_from(index).ok().and_then(|index| from.get_mut(index));
        *byte.ok_or_else(|| index_error(index.into(), length))? = value;
        Ok(Datum::Bytea(from.into()))
    }),
    scalar("get_bit", &[T::BYTEA, T::INT8], T::INT4, |_, args| {
        let (from, index) = (bytea(&args[0])?, int8(&args[1])?);
        let byte = usize::try_from(index).ok().and_then(|index| from.get(index / 8));
        let byte = byte.ok_or_else(|| index_error(index, from.len() * 8))?;
        Ok(Datum::Int4((byte >> (index % 8) & 1).into()))
    }),
];

fn index_error(index: i64, length: usize) -> SqlError {
    let message = format!("index {index} out of valid range, 0..{}", length as i64 - 1);
    SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    crate::types::text::put_hex(bytes, &mut out);
    out
}

fn bytes(from: &[u8]) -> Datum {
    Datum::Bytea(bytes::Bytes::copy_from_slice(from))
}

fn unknown_encoding(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized encoding: \"{name}\""))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(from: &[u8], encoding: &str) -> Result<Datum> {
    Ok(Datum::text(match encoding.to_ascii_lowercase().as_str() {
        "hex" => hex(from),
        "base64" => encode_base64(from),
        "escape" => {
            let mut out = String::with_capacity(from.len());
            for byte in from {
                match byte {
                    0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                    b'\\' => out.push_str("\\\\"),
                    byte => out.push(char::from(*byte)),
                }
            }
            out
        }
        _ => return Err(unknown_encoding(encoding)),
    }))
}

/// Base 64 in lines of 76 characters.
fn encode_base64(from: &[u8]) -> String {
    let mut out = String::with_capacity(from.len() * 4 / 3 + 4);
    for (index, chunk) in from.chunks(3).enumerate() {
        if index > 0 && index % 19 == 0 {
            out.push('\n');
        }
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = (group >> (18 - 6 * position) & 63) as usize;
            out.push(if position > chunk.len() { '=' } else { char::from(BASE64[digit]) });
        }
    }
    out
}

fn decode(from: &str, encoding: &str) -> Result<Datum> {
    Ok(Datum::Bytea(match encoding.to_ascii_lowercase().as_str() {
        "hex" => crate::types::text::parse_hex(from)?,
        "base64" => decode_base64(from)?.into(),
        "escape" => crate::types::text::parse_escape(from)?,
        _ => return Err(unknown_encoding(encoding)),
    }))
}

fn decode_base64(from: &str) -> Result<Vec<u8>> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let (mut out, mut group, mut digits, mut padding) = (Vec::with_capacity(from.len() * 3 / 4), 0u32, 0, 0);
    for character in from.chars() {
        if matches!(character, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        let value = match character {
            '=' if digits >= 2 => {
                padding += 1;
                0
            }
            '=' => return Err(invalid("unexpected \"=\" while decoding base64 sequence".into())),
            _ => {
                let value = BASE64.iter().position(|known| char::from(*known) == character && padding == 0);
                let message =
                    || invalid(format!("invalid symbol \"{character}\" found while decoding base64 sequence"));
                value.ok_or_else(message)? as u32
            }
        };
        group = group << 6 | value;
        digits += 1;
        if digits == 4 {
            out.extend_from_slice(&group.to_be_bytes()[1..4 - padding.min(2)]);
            (group, digits) = (0, 0);
        }
    }
    match digits {
        0 => Ok(out),
        _ => Err(invalid("invalid base64 end sequence".into())
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted.")),
    }
}
