//! Sequential scans, and what all scans share: putting out the wanted columns of a stored row.

use std::sync::Arc;

use bytes::Bytes;

use super::{Factory, Operator};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::plan::ScanOutput;
use crate::store::{Cursor, Direction, KeyRange};
use crate::table::{ColumnDecoder, TableAccess, decode_columns};
use crate::types::{Datum, Row};

/// Which columns of a stored row are put out, under which condition. Columns that only the output needs are
/// decoded after the filter has let the row through.
pub(crate) struct RowOutput {
    pub(crate) access: Arc<TableAccess>,
    with_key: bool,
    filter: Option<Code>,
    /// Position in the output and decoder of the columns that the filter reads.
    early: Vec<(usize, ColumnDecoder)>,
    /// The others.
    late: Vec<(usize, ColumnDecoder)>,
    all: Vec<ColumnDecoder>,
}

impl RowOutput {
    /// `reads`: which output columns the filter reads; `None` when it may read any.
    pub(crate) fn new(
        access: Arc<TableAccess>,
        output: &ScanOutput,
        filter: Option<Code>,
        reads: Option<&[usize]>,
    ) -> Self {
        let all = access.codec().decoders(&output.columns);
        let numbered = all.iter().cloned().enumerate();
        let (early, late) = numbered.partition(|(at, _)| reads.is_none_or(|reads| reads.contains(at)));
        Self { access, with_key: output.with_key, filter, early, late, all }
    }

    /// Number of output columns.
    pub(crate) fn width(&self) -> usize {
        self.all.len() + usize::from(self.with_key)
    }

    /// Replaces `out` by the row if it passes the filter.
    #[inline]
    pub(crate) fn put(&self, key: &[u8], value: &[u8], cx: &Context, out: &mut Row) -> Result<bool> {
        let reader = self.access.codec().reader(value)?;
        out.clear();
        let Some(filter) = &self.filter else {
            decode_columns(&reader, &self.all, out)?;
            if self.with_key {
                out.push(Datum::Bytea(Bytes::copy_from_slice(key)));
            }
            return Ok(true);
        };
        out.resize(self.width(), Datum::Null);
        for (at, decoder) in &self.early {
            out[*at] = decoder.read(&reader)?;
        }
        if !filter.test(out, cx)? {
            return Ok(false);
        }
        for (at, decoder) in &self.late {
            out[*at] = decoder.read(&reader)?;
        }
        if self.with_key {
            out[self.all.len()] = Datum::Bytea(Bytes::copy_from_slice(key));
        }
        Ok(true)
    }

    /// Appends the output columns to `out`; the filter is not applied.
    pub(crate) fn append(&self, key: &[u8], value: &[u8], out: &mut Row) -> Result<()> {
        decode_columns(&self.access.codec().reader(value)?, &self.all, out)?;
        if self.with_key {
            out.push(Datum::Bytea(Bytes::copy_from_slice(key)));
        }
        Ok(())
    }
}

/// Whole table in key order.
pub(crate) struct SeqScanCode {
    pub(crate) output: RowOutput,
}

struct SeqScan {
    code: Arc<SeqScanCode>,
    cursor: Option<Box<dyn Cursor>>,
}

impl Factory for SeqScanCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(SeqScan { code: self, cursor: None })
    }
}

impl Operator for SeqScan {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let output = &self.code.output;
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            empty => empty.insert(cx.transaction().scan(output.access.tree(), KeyRange::ALL, Direction::Forward)?),
        };
        while cursor.advance()? {
            cx.poll()?;
            if output.put(cursor.key(), cursor.value(), cx, out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
