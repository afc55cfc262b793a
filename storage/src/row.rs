//! Rows: values of many columns in one byte string, any column readable without reading the others.
//!
//! ```text
//! row      = head, columns: u16, [null bitmap], fixed area, variable ends, variable bytes
//! head     1 byte: format version (high 4 bits, 1), has nulls (bit 0), width of an end (bits 1-2: 0 = 1, 1 = 2, 2 = 4 bytes)
//! columns  number of columns stored, little endian; columns added to the table later are absent
//! bitmap   one bit per stored column, lowest first, set = NULL; only when the head says so; spare bits 0
//! fixed    the fixed-width columns in column order, each at an offset known from the layout; NULLs zeroed
//! ends     per stored variable-width column where its bytes end, counted from the first variable byte
//! ```
//!
//! Integers are little endian. A row's length is exactly what its head implies. Integrity is the page's CRC;
//! this codec only has to survive bytes that are wrong.

#[cfg(test)]
mod tests;

/// How a column's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnWidth {
    /// Always this many bytes.
    Fixed(u8),
    /// Any number of bytes.
    Variable,
}

/// The bytes are not a row of the expected layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed row: {0}")]
pub struct MalformedRow(pub &'static str);

const VERSION: u8 = 1;
const HAS_NULLS: u8 = 1;
const END_WIDTH_SHIFT: u32 = 1;
const HEAD_BYTES: usize = 3;

/// Where a table's columns stand in its rows. Made once per table version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    slots: Vec<Slot>,
    /// Per number of stored columns: bytes of the fixed area, and count of variable columns.
    prefixes: Vec<(u32, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Fixed { offset: u32, width: u8 },
    Variable { ordinal: u16 },
}

impl RowLayout {
    /// The layout of columns stored in this order. Panics above 65,535 columns.
    pub fn new(widths: impl IntoIterator<Item = ColumnWidth>) -> Self {
        let (mut slots, mut prefixes) = (Vec::new(), vec![(0, 0)]);
        let (mut offset, mut ordinal) = (0u32, 0u16);
        for width in widths {
            slots.push(match width {
                ColumnWidth::Fixed(width) => {
                    let slot = Slot::Fixed { offset, width };
                    offset += u32::from(width);
                    slot
                }
                ColumnWidth::Variable => {
                    ordinal += 1;
                    Slot::Variable { ordinal: ordinal - 1 }
                }
            });
            prefixes.push((offset, ordinal));
        }
        assert!(slots.len() <= usize::from(u16::MAX), "{} columns in a row", slots.len());
        Self { slots, prefixes }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.slots.len()
    }
}

/// Builds rows of one layout, reusing its buffers.
#[derive(Debug, Default)]
pub struct RowEncoder {
    nulls: Vec<u8>,
    has_nulls: bool,
    columns: usize,
    fixed: Vec<u8>,
    ends: Vec<u32>,
    variable: Vec<u8>,
}

impl RowEncoder {
    /// An encoder; [`RowEncoder::begin`] starts each row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was pushed.
    pub fn begin(&mut self) {
        self.nulls.clear();
        self.has_nulls = false;
        self.columns = 0;
        self.fixed.clear();
        self.ends.clear();
        self.variable.clear();
    }

    fn next_column(&mut self) -> usize {
        let column = self.columns;
        if column.is_multiple_of(8) {
            self.nulls.push(0);
        }
        self.columns += 1;
        column
    }

    /// The next column is NULL.
    pub fn push_null(&mut self, layout: &RowLayout) {
        let column = self.next_column();
        self.nulls[column / 8] |= 1 << (column % 8);
        self.has_nulls = true;
        match layout.slots[column] {
            Slot::Fixed { width, .. } => self.fixed.resize(self.fixed.len() + usize::from(width), 0),
            Slot::Variable { .. } => self.ends.push(self.variable.len() as u32),
        }
    }

    /// The next column's value, which `write` appends. Panics when a fixed-width column gets another
    /// number of bytes than its width, or the row grows past 4 GiB: it could not be read back.
    pub fn push(&mut self, layout: &RowLayout, write: impl FnOnce(&mut Vec<u8>)) {
        let column = self.next_column();
        match layout.slots[column] {
            Slot::Fixed { offset, width } => {
                write(&mut self.fixed);
                let end = offset as usize + usize::from(width);
                assert_eq!(self.fixed.len(), end, "column {column} is {width} bytes wide");
            }
            Slot::Variable { .. } => {
                write(&mut self.variable);
                let end = u32::try_from(self.variable.len());
                self.ends.push(end.unwrap_or_else(|_| panic!("row of {} bytes", self.variable.len())));
            }
        }
    }

    /// Appends the row of the columns pushed since [`RowEncoder::begin`] to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let total = self.variable.len();
        let end_width = match total {
            0..=0xFF => 0,
            0x100..=0xFFFF => 1,
            _ => 2,
        };
        let ends_bytes = self.ends.len() << end_width;
        out.reserve(HEAD_BYTES + self.nulls.len() + self.fixed.len() + ends_bytes + total);
        out.push(VERSION << 4 | end_width << END_WIDTH_SHIFT | if self.has_nulls { HAS_NULLS } else { 0 });
        out.extend_from_slice(&(self.columns as u16).to_le_bytes());
        if self.has_nulls {
            out.extend_from_slice(&self.nulls);
        }
        out.extend_from_slice(&self.fixed);
        for end in &self.ends {
            out.extend_from_slice(&end.to_le_bytes()[..1 << end_width]);
        }
        out.extend_from_slice(&self.variable);
    }
}

/// A column of a row as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// The row was written before the column was added: take the column's missing value.
    Absent,
    /// The bytes of the value; of the column's width when that is fixed.
    Value(&'a [u8]),
}

/// Reads columns of one row, in any order, each in constant time.
#[derive(Clone, Copy, Debug)]
pub struct RowReader<'a> {
    layout: &'a RowLayout,
    columns: usize,
    /// Empty when no column is NULL.
    nulls: &'a [u8],
    fixed: &'a [u8],
    ends: &'a [u8],
    end_width: u8,
    variable: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// Checks the head and the lengths that follow from it.
    #[inline]
    pub fn new(layout: &'a RowLayout, row: &'a [u8]) -> Result<Self, MalformedRow> {
        let (head, rest) = row.split_first_chunk::<HEAD_BYTES>().ok_or(MalformedRow("shorter than its head"))?;
        if head[0] >> 4 != VERSION {
            return Err(MalformedRow("unknown format version"));
        }
        let end_width = head[0] >> END_WIDTH_SHIFT & 7;
        if end_width > 2 {
            return Err(MalformedRow("unknown width of ends"));
        }
        let columns = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let &(fixed_bytes, variables) =
            layout.prefixes.get(columns).ok_or(MalformedRow("more columns than the table"))?;
        let null_bytes = if head[0] & HAS_NULLS != 0 { columns.div_ceil(8) } else { 0 };
        let ends_bytes = usize::from(variables) << end_width;
        let cut = |bytes: &'a [u8], at: usize| bytes.split_at_checked(at).ok_or(MalformedRow("ends early"));
        let (nulls, rest) = cut(rest, null_bytes)?;
        let (fixed, rest) = cut(rest, fixed_bytes as usize)?;
        let (ends, variable) = cut(rest, ends_bytes)?;
        let reader = Self { layout, columns, nulls, fixed, ends, end_width, variable };
        let total = if variables == 0 { 0 } else { reader.end_of(usize::from(variables) - 1) };
        if total != variable.len() {
            return Err(MalformedRow("length of the variable part differs"));
        }
        Ok(reader)
    }

    /// Number of columns stored.
    pub fn columns(&self) -> usize {
        self.columns
    }

    #[inline]
    fn end_of(&self, ordinal: usize) -> usize {
        match self.end_width {
            0 => usize::from(self.ends[ordinal]),
            1 => usize::from(u16::from_le_bytes([self.ends[ordinal * 2], self.ends[ordinal * 2 + 1]])),
            _ => {
                let at = ordinal * 4;
                u32::from_le_bytes([self.ends[at], self.ends[at + 1], self.ends[at + 2], self.ends[at + 3]]) as usize
            }
        }
    }

    /// The column at a position of the layout. Panics beyond the layout.
    #[inline]
    pub fn field(&self, column: usize) -> Result<Field<'a>, MalformedRow> {
        let slot = self.layout.slots[column];
        if column >= self.columns {
            return Ok(Field::Absent);
        }
        if self.nulls.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 != 0) {
            return Ok(Field::Null);
        }
        match slot {
            Slot::Fixed { offset, width } => {
                let offset = offset as usize;
                Ok(Field::Value(&self.fixed[offset..offset + usize::from(width)]))
            }
            Slot::Variable { ordinal } => {
                let ordinal = usize::from(ordinal);
                let start = if ordinal == 0 { 0 } else { self.end_of(ordinal - 1) };
                let bytes = self.variable.get(start..self.end_of(ordinal));
                bytes.map(Field::Value).ok_or(MalformedRow("variable column out of bounds"))
            }
        }
    }
}
