//! Little-endian reading of our own formats, with every length checked before it is used.

use bytes::{Buf, Bytes};

/// The bytes are not what their format says. Carries what was being read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Reads one `u8`.
pub fn get_u8(bytes: &mut Bytes, what: &'static str) -> Result<u8, Malformed> {
    if bytes.remaining() < 1 {
        return Err(Malformed(what));
    }
    Ok(bytes.get_u8())
}

/// Reads one `u64`.
pub fn get_u64(bytes: &mut Bytes, what: &'static str) -> Result<u64, Malformed> {
    if bytes.remaining() < 8 {
        return Err(Malformed(what));
    }
    Ok(bytes.get_u64_le())
}

/// Reads a count or length that may not exceed `limit`.
pub fn get_length(bytes: &mut Bytes, limit: usize, what: &'static str) -> Result<usize, Malformed> {
    if bytes.remaining() < 4 {
        return Err(Malformed(what));
    }
    let length = bytes.get_u32_le() as usize;
    if length > limit { Err(Malformed(what)) } else { Ok(length) }
}

/// Reads a length-prefixed byte string of at most `limit` bytes.
pub fn get_bytes(bytes: &mut Bytes, limit: usize, what: &'static str) -> Result<Bytes, Malformed> {
    let length = get_length(bytes, limit, what)?;
    if bytes.remaining() < length {
        return Err(Malformed(what));
    }
    Ok(bytes.split_to(length))
}

/// Reads a length-prefixed UTF-8 string of at most `limit` bytes.
pub fn get_string(bytes: &mut Bytes, limit: usize, what: &'static str) -> Result<String, Malformed> {
    String::from_utf8(get_bytes(bytes, limit, what)?.to_vec()).map_err(|_| Malformed(what))
}

/// Writes a length-prefixed byte string.
pub fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("our own limits lie far below 4 GiB");
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(bytes);
}

/// Writes one `u64`.
pub fn put_u64(buffer: &mut Vec<u8>, value: u64) {
    buffer.extend_from_slice(&value.to_le_bytes());
}
