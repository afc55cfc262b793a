//! Inputs one after the other.

use std::sync::Arc;

use super::{Factory, Node, Operator};
use crate::error::Result;
use crate::executor::Context;
use crate::types::Row;

pub(crate) struct AppendCode {
    pub(crate) inputs: Vec<Node>,
}

struct Append {
    code: Arc<AppendCode>,
    next: usize,
    current: Option<Box<dyn Operator>>,
}

impl Factory for AppendCode {
    fn open(self: Arc<Self>, _: &Context) -> Box<dyn Operator> {
        Box::new(Append { code: self, next: 0, current: None })
    }
}

impl Operator for Append {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        loop {
            if let Some(current) = &mut self.current {
                if current.next(cx, out)? {
                    return Ok(true);
                }
                self.current = None;
            }
            let Some(input) = self.code.inputs.get(self.next) else { return Ok(false) };
            self.next += 1;
            self.current = Some(input.open(cx));
        }
    }
}
