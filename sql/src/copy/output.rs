//! COPY TO: rows become bytes.

use super::binary::{write_end, write_header, write_tuple};
use super::{CopyFormat, CopyOptions};
use crate::error::Result;
use crate::functions::EvalContext;
use crate::plan::OutputColumn;
use crate::types::{DataType, Datum, text};

/// Writes rows in one of COPY's formats.
pub struct CopyOut {
    options: CopyOptions,
    names: Vec<String>,
    types: Vec<DataType>,
    force_quote: Vec<bool>,
    scratch: String,
}

impl CopyOut {
    /// For rows of these columns.
    pub fn new(columns: &[OutputColumn], options: CopyOptions) -> Result<Self> {
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        Ok(Self {
            force_quote: options.force_quote.resolve("FORCE_QUOTE", &names)?,
            names: names.into_iter().map(str::to_owned).collect(),
            types: columns.iter().map(|column| column.data_type).collect(),
            options,
            scratch: String::new(),
        })
    }

    /// Appends what stands before the first row.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if self.options.format == CopyFormat::Binary {
            write_header(out);
        } else if self.options.header {
            for position in 0..self.names.len() {
                self.delimit(position, out);
                let name = std::mem::take(&mut self.names[position]);
                match self.options.format {
                    CopyFormat::Csv => self.write_csv(&name, false, out),
                    _ => self.write_text(&name, out),
                }
            }
            out.push(b'\n');
        }
    }

    /// Appends a row.
    pub fn row(&mut self, row: &[Datum], eval: &EvalContext, out: &mut Vec<u8>) {
        if self.options.format == CopyFormat::Binary {
            write_tuple(row, &self.types, eval, out);
            return;
        }
        for (position, datum) in row.iter().enumerate() {
            self.delimit(position, out);
            if datum.is_null() {
                out.extend_from_slice(self.options.null.as_bytes());
                continue;
            }
            let mut value = std::mem::take(&mut self.scratch);
            value.clear();
            text::format(datum, self.types[position], eval, &mut value);
            match self.options.format {
                CopyFormat::Csv => self.write_csv(&value, self.force_quote[position], out),
                _ => self.write_text(&value, out),
            }
            self.scratch = value;
        }
        out.push(b'\n');
    }

    /// Appends what stands behind the last row.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if self.options.format == CopyFormat::Binary {
            write_end(out);
        }
    }

    fn delimit(&self, position: usize, out: &mut Vec<u8>) {
        if position > 0 {
            out.push(self.options.delimiter);
        }
    }

    fn write_text(&self, value: &str, out: &mut Vec<u8>) {
        for byte in value.bytes() {
            let escape = match byte {
                0x08 => b'b',
                0x0C => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0B => b'v',
                b'\\' => b'\\',
                byte if byte == self.options.delimiter => byte,
                byte => {
                    out.push(byte);
                    continue;
                }
            };
            out.extend_from_slice(&[b'\\', escape]);
        }
    }

    fn write_csv(&self, value: &str, force_quote: bool, out: &mut Vec<u8>) {
        let CopyOptions { delimiter, quote, escape, null, .. } = &self.options;
        let special = |byte: u8| byte == *delimiter || byte == *quote || matches!(byte, b'\n' | b'\r');
        let quoted =
            force_quote || value == null || (self.types.len() == 1 && value == "\\.") || value.bytes().any(special);
        if !quoted {
            out.extend_from_slice(value.as_bytes());
            return;
        }
        out.push(*quote);
        for byte in value.bytes() {
            if byte == *quote || byte == *escape {
                out.push(*escape);
            }
            out.push(byte);
        }
        out.push(*quote);
    }
}
