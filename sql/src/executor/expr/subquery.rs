//! Subqueries inside expressions.
//!
//! One that depends on nothing outside is run once and its answer kept: a value, a boolean, or for `IN` a
//! hash set. One that depends on enclosing rows is run for each, but not twice for the same values of the
//! columns that it reads, as long as it calls nothing volatile.

use super::Code;
use super::eval::{array_of, call_predicate};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::Context;
use crate::executor::hash::{RowSet, row_bytes};
use crate::executor::operators::Node;
use crate::functions::ScalarFunction;
use crate::types::{DataType, Datum, Row};

/// Answers of a correlated subquery that are remembered at most.
const REMEMBERED_ANSWERS: usize = 100_000;

/// What a compiled subquery is asked.
pub(crate) enum SubqueryQuestion {
    Scalar,
    Exists {
        negated: bool,
    },
    /// `left = ANY`, or with `negated` `left <> ALL`.
    In {
        left: Box<[Code]>,
        negated: bool,
    },
    /// One column and any operator.
    Quantified {
        left: Code,
        operator: &'static ScalarFunction,
        all: bool,
    },
    Array {
        element: DataType,
    },
}

/// A compiled subquery.
pub(crate) struct SubqueryCode {
    pub(crate) slot: usize,
    pub(crate) question: SubqueryQuestion,
    pub(crate) node: Node,
    /// Its rows are the same whenever it is run in this execution.
    pub(crate) constant: bool,
    /// Columns of enclosing rows (depth as seen inside, index) that it reads; `None`: its answers must not
    /// be remembered.
    pub(crate) reads: Option<Box<[(usize, usize)]>>,
}

/// What an execution remembers of a subquery.
#[derive(Default)]
pub(crate) struct SubqueryState {
    answer: Option<Datum>,
    set: Option<InSet>,
    rows: Option<Vec<Datum>>,
    remembered: RowSet,
    answers: Vec<Datum>,
}

/// The rows of an `IN` subquery.
#[derive(Default)]
struct InSet {
    /// Rows without NULL.
    rows: RowSet,
    with_null: Vec<Row>,
}

impl InSet {
    fn contains(&self, key: &[Datum]) -> Option<bool> {
        if self.rows.len() == 0 && self.with_null.is_empty() {
            return Some(false);
        }
        if !key.iter().any(Datum::is_null) {
            if self.rows.find(key).is_some() {
                return Some(true);
            }
            // Rows with NULLs leave it open unless one of their other columns differs.
            let open = self.with_null.iter().any(|row| row_matches(key, row).is_none());
            return if open { None } else { Some(false) };
        }
        let all = (0..self.rows.len()).map(|index| self.rows.row(index)).chain(&self.with_null);
        let mut answer = Some(false);
        for row in all {
            match row_matches(key, row) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => answer = None,
            }
        }
        answer
    }
}

/// Row-wise `=`, three-valued.
fn row_matches(a: &[Datum], b: &[Datum]) -> Option<bool> {
    let mut answer = Some(true);
    for (a, b) in a.iter().zip(b) {
        if a.is_null() || b.is_null() {
            answer = None;
        } else if super::compare(a, b).is_ne() {
            return Some(false);
        }
    }
    answer
}

fn boolean(value: Option<bool>) -> Datum {
    value.map_or(Datum::Null, Datum::Bool)
}

impl SubqueryCode {
    pub(super) fn eval(&self, row: &[Datum], cx: &Context) -> Result<Datum> {
        match &self.question {
            SubqueryQuestion::In { left, negated } => {
                let key = left.iter().map(|code| code.eval(row, cx)).collect::<Result<Row>>()?;
                let found = if self.constant {
                    self.constant_set(cx)?;
                    let state = cx.subquery(self.slot).borrow();
                    state.set.as_ref().expect("the set has been made").contains(&key)
                } else {
                    self.find(&key, row, cx)?
                };
                Ok(boolean(found.map(|found| found != *negated)))
            }
            SubqueryQuestion::Quantified { left, operator, all } => {
                let left = left.eval(row, cx)?;
                self.quantified(&left, operator, *all, row, cx)
            }
            _ if self.constant => {
                if let Some(answer) = &cx.subquery(self.slot).borrow().answer {
                    return Ok(answer.clone());
                }
                let answer = self.ask(row, cx)?;
                cx.subquery(self.slot).borrow_mut().answer = Some(answer.clone());
                Ok(answer)
            }
            _ => self.remembered(row, cx),
        }
    }

    /// The answer for this row, from memory if these values were met before.
    fn remembered(&self, row: &[Datum], cx: &Context) -> Result<Datum> {
        let Some(reads) = &self.reads else { return self.ask(row, cx) };
        let column = |&(depth, index): &(usize, usize)| {
            if depth == 1 { row[index].clone() } else { cx.outer(depth - 1, index) }
        };
        let key: Row = reads.iter().map(column).collect();
        {
            let state = cx.subquery(self.slot).borrow();
            if let Some(found) = state.remembered.find(&key) {
                return Ok(state.answers[found].clone());
            }
        }
        let answer = self.ask(row, cx)?;
        let mut state = cx.subquery(self.slot).borrow_mut();
        if state.answers.len() < REMEMBERED_ANSWERS {
            cx.charge(row_bytes(&key) * 2)?;
            state.remembered.insert(&key);
            state.answers.push(answer.clone());
        }
        Ok(answer)
    }

    /// Runs the subquery; `each` gets its rows until it gives false.
    fn run(&self, row: &[Datum], cx: &Context, mut each: impl FnMut(&mut Row) -> Result<bool>) -> Result<()> {
        cx.push_outer(if self.constant { Row::new() } else { row.to_vec() });
        let mut operator = self.node.open(cx);
        let mut out = Row::new();
        let result = (|| {
            while operator.next(cx, &mut out)? {
                if !each(&mut out)? {
                    break;
                }
            }
            Ok(())
        })();
        cx.pop_outer();
        result
    }

    /// Scalar, EXISTS and ARRAY.
    fn ask(&self, row: &[Datum], cx: &Context) -> Result<Datum> {
        match &self.question {
            SubqueryQuestion::Exists { negated } => {
                let mut exists = false;
                self.run(row, cx, |_| {
                    exists = true;
                    Ok(false)
                })?;
                Ok(Datum::Bool(exists != *negated))
            }
            SubqueryQuestion::Array { element } => {
                let mut values = Vec::new();
                self.run(row, cx, |found| {
                    cx.charge(row_bytes(found))?;
                    values.push(std::mem::take(&mut found[0]));
                    Ok(true)
                })?;
                array_of(values, *element)
            }
            _ => {
                let mut answer = None;
                self.run(row, cx, |found| {
                    if answer.is_some() {
                        let message = "more than one row returned by a subquery used as an expression";
                        return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message));
                    }
                    answer = Some(std::mem::take(&mut found[0]));
                    Ok(true)
                })?;
                Ok(answer.unwrap_or_default())
            }
        }
    }

    fn constant_set(&self, cx: &Context) -> Result<()> {
        if cx.subquery(self.slot).borrow().set.is_some() {
            return Ok(());
        }
        let mut set = InSet::default();
        self.run(&[], cx, |found| {
            cx.poll()?;
            if found.iter().any(Datum::is_null) {
                // All-NULL rows say the same; keep one.
                if !set.with_null.iter().any(|row| row.iter().all(Datum::is_null)) {
                    cx.charge(row_bytes(found))?;
                    set.with_null.push(found.clone());
                }
            } else if set.rows.insert(found).1 {
                cx.charge(row_bytes(found))?;
            }
            Ok(true)
        })?;
        cx.subquery(self.slot).borrow_mut().set = Some(set);
        Ok(())
    }

    fn find(&self, key: &[Datum], row: &[Datum], cx: &Context) -> Result<Option<bool>> {
        let mut answer = Some(false);
        self.run(row, cx, |found| {
            match row_matches(key, found) {
                Some(true) => {
                    answer = Some(true);
                    return Ok(false);
                }
                Some(false) => {}
                None => answer = None,
            }
            Ok(true)
        })?;
        Ok(answer)
    }

    fn quantified(
        &self,
        left: &Datum,
        operator: &'static ScalarFunction,
        all: bool,
        row: &[Datum],
        cx: &Context,
    ) -> Result<Datum> {
        let mut answer = Some(all);
        let mut check = |value: &Datum| -> Result<bool> {
            match call_predicate(operator, left, value, cx)? {
                Some(holds) if holds != all => {
                    answer = Some(!all);
                    return Ok(false);
                }
                Some(_) => {}
                None => answer = None,
            }
            Ok(true)
        };
        if !self.constant {
            self.run(row, cx, |found| check(&found[0]))?;
            return Ok(boolean(answer));
        }
        if cx.subquery(self.slot).borrow().rows.is_none() {
            let mut values = Vec::new();
            self.run(&[], cx, |found| {
                cx.charge(row_bytes(found))?;
                values.push(std::mem::take(&mut found[0]));
                Ok(true)
            })?;
            cx.subquery(self.slot).borrow_mut().rows = Some(values);
        }
        let state = cx.subquery(self.slot).borrow();
        for value in state.rows.as_ref().expect("the rows have been read") {
            if !check(value)? {
                break;
            }
        }
        Ok(boolean(answer))
    }
}
