//! For each left row, rows of a table by index.

use std::sync::Arc;

use super::index_scan::{Search, Searched};
use super::scan::RowOutput;
use super::{Factory, Node, Operator, passes};
use crate::error::{Result, SqlError};
use crate::executor::{Code, Context};
use crate::plan::JoinKind;
use crate::types::{Datum, Row};

/// The compiled join. `output` has no filter of its own.
pub(crate) struct IndexJoinCode {
    pub(crate) kind: JoinKind,
    pub(crate) left: Node,
    pub(crate) output: RowOutput,
    pub(crate) searched: Searched,
    /// Reads the left row followed by the table's columns.
    pub(crate) filter: Option<Code>,
}

struct IndexJoin {
    code: Arc<IndexJoinCode>,
    left: Box<dyn Operator>,
    row: Row,
    /// The left row has a search under way.
    searching: bool,
    matched: bool,
    search: Search,
}

impl Factory for IndexJoinCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        let left = self.left.open(cx);
        Box::new(IndexJoin {
            code: self,
            left,
            row: Row::new(),
            searching: false,
            matched: false,
            search: Search::Ended,
        })
    }
}

impl Operator for IndexJoin {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let IndexJoinCode { kind, output, searched, filter, .. } = &*self.code;
        loop {
            if !self.searching {
                if !self.left.next(cx, &mut self.row)? {
                    return Ok(false);
                }
                searched.start(&output.access, &self.row, cx, &mut self.search)?;
                self.searching = true;
                self.matched = false;
            }
            let left = &self.row;
            let found = searched.next(&output.access, cx, &mut self.search, |key, value| {
                out.clear();
                out.extend_from_slice(left);
                output.append(key, value, out)?;
                passes(filter.as_ref(), out, cx)
            })?;
            if found {
                self.matched = true;
                match kind {
                    JoinKind::Inner | JoinKind::Left => return Ok(true),
                    JoinKind::Semi => {
                        self.searching = false;
                        out.truncate(self.row.len());
                        return Ok(true);
                    }
                    JoinKind::Anti => self.searching = false,
                    JoinKind::Right | JoinKind::Full => {
                        return Err(SqlError::internal(format!("{kind:?} join by index")));
                    }
                }
                continue;
            }
            self.searching = false;
            if !self.matched && matches!(kind, JoinKind::Left | JoinKind::Anti) {
                out.clear();
                out.extend_from_slice(&self.row);
                if *kind == JoinKind::Left {
                    out.resize(self.row.len() + output.width(), Datum::Null);
                }
                return Ok(true);
            }
        }
    }
}
