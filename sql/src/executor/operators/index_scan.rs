//! Scans by primary key or secondary index.

use std::sync::Arc;

use super::scan::RowOutput;
use super::{Factory, Operator};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{Code, Context};
use crate::store::{Cursor, Direction, KeyRange};
use crate::table::{IndexAccess, KeyColumn, TableAccess, ValueRange, key_range};
use crate::types::codec::encode_key;
use crate::types::{Datum, Row};

/// A compiled [`crate::plan::IndexRange`].
pub(crate) struct RangeCode {
    pub(crate) equal: Box<[Code]>,
    pub(crate) lower: Option<(Code, bool)>,
    pub(crate) upper: Option<(Code, bool)>,
}

/// What is searched, and how.
pub(crate) struct Searched {
    /// `None`: the table itself, by its primary key.
    pub(crate) index: Option<IndexAccess>,
    pub(crate) range: RangeCode,
    /// The range names one key: every column of the primary key, or of a unique index, by equality.
    pub(crate) point: bool,
    pub(crate) backward: bool,
}

impl Searched {
    fn columns<'a>(&'a self, access: &'a TableAccess) -> &'a [KeyColumn] {
        self.index.as_ref().map_or(access.key_columns(), IndexAccess::columns)
    }

    /// The key of a point search over `row`; false when a NULL makes it find nothing.
    #[inline]
    pub(crate) fn point_key(
        &self,
        access: &TableAccess,
        row: &[Datum],
        cx: &Context,
        key: &mut Vec<u8>,
    ) -> Result<bool> {
        key.clear();
        for (code, column) in self.range.equal.iter().zip(self.columns(access)) {
            let mut scratch = Datum::Null;
            let value = code.operand(row, cx, &mut scratch)?;
            if value.is_null() {
                return Ok(false);
            }
            encode_key(value, column.data_type, column.order, key)?;
        }
        Ok(true)
    }

    /// The range of a search over `row`; `None` when a NULL makes it find nothing.
    pub(crate) fn key_range(&self, access: &TableAccess, row: &[Datum], cx: &Context) -> Result<Option<KeyRange>> {
        let equal = self.range.equal.iter().map(|code| code.eval(row, cx)).collect::<Result<Row>>()?;
        let end = |end: &Option<(Code, bool)>| {
            end.as_ref().map(|(code, included)| Ok((code.eval(row, cx)?, *included))).transpose()
        };
        let (lower, upper) = (end(&self.range.lower)?, end(&self.range.upper)?);
        let range = ValueRange {
            equal: &equal,
            lower: lower.as_ref().map(|(value, included)| (value, *included)),
            upper: upper.as_ref().map(|(value, included)| (value, *included)),
        };
        key_range(self.columns(access), &range)
    }

    /// Starts a search over `row`.
    pub(crate) fn start(&self, access: &TableAccess, row: &[Datum], cx: &Context, search: &mut Search) -> Result<()> {
        if self.point {
            let mut key = Vec::with_capacity(32);
            let found = self.point_key(access, row, cx, &mut key)?;
            *search = if found { Search::Point(key) } else { Search::Ended };
            return Ok(());
        }
        let direction = if self.backward { Direction::Backward } else { Direction::Forward };
        let tree = self.index.as_ref().map_or(access.tree(), IndexAccess::tree);
        *search = match self.key_range(access, row, cx)? {
            None => Search::Ended,
            Some(range) => Search::Range(cx.transaction().scan(tree, range, direction)?),
        };
        Ok(())
    }

    /// The next row found: `each` gets its key and value and tells whether it was what its caller wants.
    #[inline]
    pub(crate) fn next(
        &self,
        access: &TableAccess,
        cx: &Context,
        search: &mut Search,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<bool> {
        match search {
            Search::Ended => Ok(false),
            Search::Point(_) => {
                let Search::Point(key) = std::mem::replace(search, Search::Ended) else { return Ok(false) };
                let Some(index) = &self.index else {
                    let found = cx.transaction().get(access.tree(), &key)?;
                    return found.map_or(Ok(false), |value| each(&key, &value));
                };
                let Some(row_key) = cx.transaction().get(index.tree(), &key)? else { return Ok(false) };
                let value = cx.transaction().get(access.tree(), &row_key)?.ok_or_else(|| dangling(index))?;
                each(&row_key, &value)
            }
            Search::Range(cursor) => {
                while cursor.advance()? {
                    cx.poll()?;
                    let wanted = match &self.index {
                        None => each(cursor.key(), cursor.value())?,
                        Some(index) => {
                            let row_key = index.row_key(cursor.key(), cursor.value())?;
                            let value = cx.transaction().get(access.tree(), row_key)?;
                            each(row_key, &value.ok_or_else(|| dangling(index))?)?
                        }
                    };
                    if wanted {
                        return Ok(true);
                    }
                }
                *search = Search::Ended;
                Ok(false)
            }
        }
    }
}

#[cold]
fn dangling(index: &IndexAccess) -> SqlError {
    let message = format!("index \"{}\" has an entry without a row", index.index().name);
    SqlError::new(SqlState::DATA_CORRUPTED, message)
}

/// A search under way.
pub(crate) enum Search {
    Ended,
    /// The key that is still to be looked up.
    Point(Vec<u8>),
    Range(Box<dyn Cursor>),
}

/// Rows by primary key or index, in its order or backward.
pub(crate) struct IndexScanCode {
    pub(crate) output: RowOutput,
    pub(crate) searched: Searched,
}

struct IndexScan {
    code: Arc<IndexScanCode>,
    search: Option<Search>,
}

impl Factory for IndexScanCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(IndexScan { code: self, search: None })
    }
}

impl Operator for IndexScan {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let IndexScanCode { output, searched } = &*self.code;
        let search = match &mut self.search {
            Some(search) => search,
            empty => {
                let search = empty.insert(Search::Ended);
                searched.start(&output.access, &[], cx, search)?;
                search
            }
        };
        searched.next(&output.access, cx, search, |key, value| output.put(key, value, cx, out))
    }
}
