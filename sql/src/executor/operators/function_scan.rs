//! Set-returning functions in FROM.

use std::sync::Arc;

use super::{Factory, Operator};
use crate::error::Result;
use crate::executor::{Code, Context};
use crate::functions::TableFunction;
use crate::types::{Datum, Row};

/// Rows of a set-returning function.
pub(super) type FunctionRows = Box<dyn Iterator<Item = Result<Row>> + Send>;

pub(crate) struct FunctionScanCode {
    pub(crate) function: &'static TableFunction,
    pub(crate) args: Vec<Code>,
    pub(crate) ordinality: bool,
}

struct FunctionScan {
    code: Arc<FunctionScanCode>,
    rows: Option<FunctionRows>,
    number: i64,
}

impl Factory for FunctionScanCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(FunctionScan { code: self, rows: None, number: 0 })
    }
}

/// Evaluates the arguments over `row` and starts the function.
pub(super) fn start(function: &TableFunction, args: &[Code], row: &[Datum], cx: &Context) -> Result<FunctionRows> {
    let args = args.iter().map(|arg| arg.eval(row, cx)).collect::<Result<Vec<_>>>()?;
    (function.open)(cx.eval(), &args)
}

impl Operator for FunctionScan {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            empty => empty.insert(start(self.code.function, &self.code.args, &[], cx)?),
        };
        cx.poll()?;
        let Some(row) = rows.next() else { return Ok(false) };
        *out = row?;
        self.number += 1;
        if self.code.ordinality {
            out.push(Datum::Int8(self.number));
        }
        Ok(true)
    }
}
