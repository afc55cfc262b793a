//! LIMIT and OFFSET.

use std::sync::Arc;

use super::{Factory, Node, Operator};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{Code, Context};
use crate::types::{Datum, Row};

pub(crate) struct LimitCode {
    pub(crate) input: Node,
    pub(crate) limit: Option<Code>,
    pub(crate) offset: Option<Code>,
}

struct Limit {
    code: Arc<LimitCode>,
    input: Box<dyn Operator>,
    /// Rows still to give; `None` before the first call.
    left: Option<u64>,
}

impl Factory for LimitCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Limit { input: self.input.open(cx), code: self, left: None })
    }
}

impl Operator for Limit {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let left = match &mut self.left {
            Some(left) => left,
            empty => {
                let limit = self.code.limit.as_ref().map(|limit| row_count(limit, cx, false)).transpose()?.flatten();
                let offset = self.code.offset.as_ref().map(|offset| row_count(offset, cx, true)).transpose()?.flatten();
                let left = empty.insert(limit.unwrap_or(u64::MAX));
                for _ in 0..offset.unwrap_or(0) {
                    if *left == 0 || !self.input.next(cx, out)? {
                        *left = 0;
                        break;
                    }
                }
                left
            }
        };
        if *left == 0 || !self.input.next(cx, out)? {
            *left = 0;
            return Ok(false);
        }
        *left -= 1;
        Ok(true)
    }
}

/// Value of a LIMIT or OFFSET; `None` is NULL, which means none.
pub(super) fn row_count(code: &Code, cx: &Context, offset: bool) -> Result<Option<u64>> {
    let count = match code.eval(&[], cx)? {
        Datum::Null => return Ok(None),
        Datum::Int8(count) => count,
        Datum::Int4(count) => i64::from(count),
        Datum::Int2(count) => i64::from(count),
        other => return Err(SqlError::internal(format!("LIMIT of {other:?}"))),
    };
    match u64::try_from(count) {
        Ok(count) => Ok(Some(count)),
        Err(_) if offset => {
            Err(SqlError::new(SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE, "OFFSET must not be negative"))
        }
        Err(_) => Err(SqlError::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT must not be negative")),
    }
}
