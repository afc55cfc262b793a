//! The binary format of COPY.
//!
//! ```text
//! file   = signature "PGCOPY\n\xFF\r\n\0", flags i32, length of the extension i32, extension, tuple*, -1 i16
//! tuple  = number of fields i16, per field its length i32 (-1 is NULL) and its bytes in the type's binary form
//! ```

use super::MAX_LINE_BYTES;
use super::split::bad_format;
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{DataType, Datum};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xFF\r\n\0";
/// Flag bits that a reader must understand; none is defined for what we take.
const CRITICAL_FLAGS: i32 = 0xFFFF_0000_u32 as i32;

/// Appends what stands before the first tuple.
pub(super) fn write_header(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 8]);
}

/// Appends one row.
pub(super) fn write_tuple(row: &[Datum], types: &[DataType], eval: &EvalContext, out: &mut Vec<u8>) {
    out.extend_from_slice(&(row.len() as i16).to_be_bytes());
    for (datum, data_type) in row.iter().zip(types) {
        if datum.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        crate::types::binary::encode(datum, *data_type, eval, out);
        let length = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends the end marker.
pub(super) fn write_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i16).to_be_bytes());
}

/// Tuples out of a byte stream.
#[derive(Default)]
pub(super) struct BinaryReader {
    pending: Vec<u8>,
    start: usize,
    header_done: bool,
    ended: bool,
    /// Where the current tuple's fields stand in `pending`; `None` is NULL.
    fields: Vec<Option<std::ops::Range<usize>>>,
}

impl BinaryReader {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.drain(..self.start);
        self.start = 0;
        if self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            let message = format!("a row of COPY data is longer than {MAX_LINE_BYTES} bytes");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the end marker has come.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn int(&self, at: usize) -> Option<i32> {
        let bytes = self.pending.get(at..at + 4)?;
        Some(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// False: more bytes are needed.
    fn read_header(&mut self) -> Result<bool> {
        let known = self.pending.len().min(SIGNATURE.len());
        if self.pending[..known] != SIGNATURE[..known] {
            return Err(bad_format("COPY file signature not recognized"));
        }
        let (Some(flags), Some(extension)) = (self.int(SIGNATURE.len()), self.int(SIGNATURE.len() + 4)) else {
            return Ok(false);
        };
        if flags & CRITICAL_FLAGS != 0 {
            return Err(bad_format("unrecognized critical flags in COPY file header"));
        }
        let Ok(extension) = usize::try_from(extension) else {
            return Err(bad_format("invalid COPY file header (missing length)"));
        };
        let end = SIGNATURE.len() + 8 + extension;
        if self.pending.len() < end {
            return Ok(false);
        }
        self.start = end;
        self.header_done = true;
        Ok(true)
    }

    /// Finds the next tuple; false: there is none yet, or the end marker has come.
    pub(super) fn next_tuple(&mut self, columns: usize) -> Result<bool> {
        if self.ended || (!self.header_done && !self.read_header()?) {
            return Ok(false);
        }
        let mut at = self.start;
        let Some(count) = self.pending.get(at..at + 2) else { return Ok(false) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        at += 2;
        if count == -1 {
            self.ended = true;
            self.start = at;
            return Ok(false);
        }
        if usize::try_from(count) != Ok(columns) {
            return Err(bad_format(format!("row field count is {count}, expected {columns}")));
        }
        self.fields.clear();
        for _ in 0..columns {
            let Some(length) = self.int(at) else { return Ok(false) };
            at += 4;
            match usize::try_from(length) {
                Ok(length) => {
                    if length > MAX_LINE_BYTES {
                        return Err(bad_format("invalid field size"));
                    }
                    if self.pending.len() < at + length {
                        return Ok(false);
                    }
                    self.fields.push(Some(at..at + length));
                    at += length;
                }
                Err(_) if length == -1 => self.fields.push(None),
                Err(_) => return Err(bad_format("invalid field size")),
            }
        }
        self.start = at;
        Ok(true)
    }

    /// A field of the tuple found last.
    pub(super) fn field(&self, position: usize) -> Option<&[u8]> {
        self.fields[position].clone().map(|range| &self.pending[range])
    }

    /// All bytes have come.
    pub(super) fn finish(&self) -> Result<()> {
        if !self.header_done && !self.pending.is_empty() {
            return Err(bad_format("COPY file signature not recognized"));
        }
        if !self.ended && self.start < self.pending.len() {
            return Err(bad_format("unexpected EOF in COPY data"));
        }
        Ok(())
    }
}
