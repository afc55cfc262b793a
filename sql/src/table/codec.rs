//! Rows of a table as bytes, and single columns of them back as values.

use storage::row::{Field, MalformedRow, RowEncoder, RowLayout, RowReader};

use super::{MAX_KEY_BYTES, MAX_ROW_BYTES};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::types::codec::{column_width, decode_value, encode_value};
use crate::types::{DataType, Datum, Row};

/// How one column is read.
#[derive(Clone, Debug)]
pub(crate) struct ColumnDecoder {
    /// Position in the table.
    pub(crate) column: usize,
    data_type: DataType,
    missing: Datum,
    dropped: bool,
}

/// Encodes and decodes the rows of one version of a table.
#[derive(Debug)]
pub struct RowCodec {
    layout: RowLayout,
    columns: Vec<ColumnDecoder>,
}

impl RowCodec {
    /// The codec of a table's rows.
    pub fn new(table: &Table) -> Self {
        let widths = table.columns.iter().map(|column| column_width(column.data_type));
        let columns = table.columns.iter().enumerate().map(|(position, column)| ColumnDecoder {
            column: position,
            data_type: column.data_type,
            missing: column.missing.clone(),
            dropped: column.dropped,
        });
        Self { layout: RowLayout::new(widths), columns: columns.collect() }
    }

    /// Appends the bytes of a row of all columns (dropped ones are stored as NULL).
    pub fn encode(&self, row: &[Datum], encoder: &mut RowEncoder, out: &mut Vec<u8>) -> Result<()> {
        assert_eq!(row.len(), self.columns.len(), "a row has every column of its table");
        encoder.begin();
        let mut bytes = 0;
        for (datum, column) in row.iter().zip(&self.columns) {
            bytes += variable_bytes(datum);
            if bytes > MAX_ROW_BYTES {
                let message = format!("row is too big: its size exceeds the maximum of {MAX_ROW_BYTES} bytes");
                return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
            }
            if datum.is_null() || column.dropped {
                encoder.push_null(&self.layout);
            } else {
                encoder.push(&self.layout, |out| encode_value(datum, out));
            }
        }
        encoder.finish(out);
        Ok(())
    }

    /// Decoders of the columns at these positions.
    pub(crate) fn decoders(&self, columns: &[usize]) -> Vec<ColumnDecoder> {
        columns.iter().map(|column| self.columns[*column].clone()).collect()
    }

    /// Opens a row's bytes.
    #[inline]
    pub(crate) fn reader<'a>(&'a self, bytes: &'a [u8]) -> Result<RowReader<'a>> {
        RowReader::new(&self.layout, bytes).map_err(damaged)
    }

    /// Appends the columns at `columns` to `out`.
    pub fn decode(&self, bytes: &[u8], columns: &[usize], out: &mut Row) -> Result<()> {
        let reader = self.reader(bytes)?;
        for column in columns {
            out.push(self.columns[*column].read(&reader)?);
        }
        Ok(())
    }

    /// Appends all columns to `out`, by position.
    pub fn decode_all(&self, bytes: &[u8], out: &mut Row) -> Result<()> {
        let reader = self.reader(bytes)?;
        out.reserve(self.columns.len());
        self.columns.iter().try_for_each(|column| {
            out.push(column.read(&reader)?);
            Ok(())
        })
    }
}

impl ColumnDecoder {
    /// The column's value in a row.
    #[inline]
    pub(crate) fn read(&self, reader: &RowReader<'_>) -> Result<Datum> {
        match reader.field(self.column).map_err(damaged)? {
            Field::Value(bytes) => decode_value(self.data_type, bytes),
            Field::Null => Ok(Datum::Null),
            Field::Absent => Ok(self.missing.clone()),
        }
    }
}

/// Appends the decoders' columns to `out`.
#[inline]
pub(crate) fn decode_columns(reader: &RowReader<'_>, decoders: &[ColumnDecoder], out: &mut Row) -> Result<()> {
    for decoder in decoders {
        out.push(decoder.read(reader)?);
    }
    Ok(())
}

#[cold]
fn damaged(error: MalformedRow) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, error.to_string())
}

/// Bytes of the values that can be long; the others do not matter to the row limit.
fn variable_bytes(datum: &Datum) -> usize {
    match datum {
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => text.len(),
        Datum::Bytea(bytes) => bytes.len(),
        Datum::Array(array) => array.elements.iter().map(|element| 4 + variable_bytes(element)).sum(),
        Datum::Jsonb(json) => json_bytes(json),
        _ => 16,
    }
}

/// Length of a JSON value's text, roughly.
fn json_bytes(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(items) => items.iter().map(|item| 1 + json_bytes(item)).sum(),
        serde_json::Value::Object(fields) => fields.iter().map(|(name, item)| 4 + name.len() + json_bytes(item)).sum(),
        _ => 8,
    }
}

/// 54000 for a key longer than a tree takes. `of` names what has the key.
pub(super) fn check_key_length(key: &[u8], of: &str) -> Result<()> {
    if key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    let message = format!("index row size {} exceeds maximum {MAX_KEY_BYTES} for index \"{of}\"", key.len());
    Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
        .with_hint("Values larger than 1/3 of a page cannot be indexed."))
}
