//! Result rows as DataRow messages, written straight into the output buffer.

use bytes::BufMut;
use sql::error::{Result, SqlError, SqlState};
use sql::functions::EvalContext;
use sql::plan::OutputColumn;
use sql::session::{Format, RowSink};
use sql::types::Datum;

use super::{backend, limits};

/// Longest DataRow, bytes: the protocol's lengths are signed 32-bit numbers.
const LONGEST_ROW_BYTES: usize = 1 << 30;

/// Writes rows into the output buffer; asks for a pause when it is full.
pub struct Rows<'a> {
    output: &'a mut Vec<u8>,
    text: String,
}

impl<'a> Rows<'a> {
    /// Appends to `output`.
    pub fn new(output: &'a mut Vec<u8>) -> Self {
        Self { output, text: String::new() }
    }
}

impl RowSink for Rows<'_> {
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], formats: &[Format], eval: &EvalContext) -> Result<bool> {
        debug_assert_eq!(row.len(), columns.len(), "a row has the columns that were announced");
        let out = &mut *self.output;
        out.put_u8(b'D');
        let start = out.len();
        out.put_u32(0);
        out.put_u16(u16::try_from(columns.len()).expect("the binder bounds result columns"));
        for (position, (value, column)) in row.iter().zip(columns).enumerate() {
            if value.is_null() {
                out.put_i32(-1);
                continue;
            }
            let length_at = out.len();
            out.put_u32(0);
            match Format::of_column(formats, position) {
                Format::Text => {
                    self.text.clear();
                    sql::types::text::format(value, column.data_type, eval, &mut self.text);
                    out.put_slice(self.text.as_bytes());
                }
                Format::Binary => sql::types::binary::encode(value, column.data_type, eval, out),
            }
            let length = out.len() - length_at - 4;
            out[length_at..length_at + 4].copy_from_slice(&(length as u32).to_be_bytes());
        }
        let length = out.len() - start;
        if length > LONGEST_ROW_BYTES {
            out.truncate(start - 1);
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("result row of {length} bytes exceeds the limit of {LONGEST_ROW_BYTES} bytes"),
            ));
        }
        backend::finish(out, start);
        Ok(out.len() < limits::OUTPUT_FLUSH_BYTES)
    }
}
