//! Window functions: the input is kept whole, and sorted for each different window.

use std::cmp::Ordering;
use std::sync::Arc;

use super::aggregate::AggregateFunctionCode;
use super::sort::SortOrder;
use super::{Factory, Node, Operator};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::hash::row_bytes;
use crate::executor::{Code, Context, Reservation};
use crate::plan::WindowFrame;
use crate::types::{Datum, Row};

pub(crate) enum WindowFunctionCode {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile,
    Lag,
    Lead,
    FirstValue,
    LastValue,
    NthValue,
    Aggregate(AggregateFunctionCode),
}

pub(crate) struct WindowCallCode {
    pub(crate) function: WindowFunctionCode,
    pub(crate) args: Vec<Code>,
    /// Orders by the partition's keys only: equal rows are one partition.
    pub(crate) partition: SortOrder,
    /// Orders by the ORDER BY keys: equal rows are peers.
    pub(crate) order: SortOrder,
    pub(crate) ordered: bool,
    /// The same window as the call before: its sort serves.
    pub(crate) same_window: bool,
    pub(crate) frame: WindowFrame,
}

pub(crate) struct WindowCode {
    pub(crate) input: Node,
    pub(crate) calls: Vec<WindowCallCode>,
    pub(crate) width: usize,
}

struct Window {
    code: Arc<WindowCode>,
    input: Box<dyn Operator>,
    rows: Option<std::vec::IntoIter<Row>>,
    memory: Reservation,
}

impl Factory for WindowCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Window { input: self.input.open(cx), code: self, rows: None, memory: cx.reservation() })
    }
}

impl Operator for Window {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if self.rows.is_none() {
            self.rows = Some(self.compute(cx)?.into_iter());
        }
        cx.poll()?;
        match self.rows.as_mut().expect("computed above").next() {
            Some(row) => {
                *out = row;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// A row with the keys of the current window: partition keys appended, then order keys appended.
struct Keyed {
    row: Row,
    partition: Row,
    order: Row,
}

impl Window {
    fn compute(&mut self, cx: &Context) -> Result<Vec<Row>> {
        let code = &*self.code;
        let mut rows = Vec::new();
        let mut row = Row::new();
        while self.input.next(cx, &mut row)? {
            cx.poll()?;
            self.memory.grow(row_bytes(&row) * 2)?;
            rows.push(Keyed { row: std::mem::take(&mut row), partition: Row::new(), order: Row::new() });
        }
        for call in &code.calls {
            if !call.same_window {
                for keyed in &mut rows {
                    let mut input: Row = keyed.row[..code.width].to_vec();
                    call.partition.extend(&mut input, cx)?;
                    keyed.partition.clone_from(&input);
                    call.partition.strip(&mut input);
                    call.order.extend(&mut input, cx)?;
                    keyed.order = input;
                }
                rows.sort_by(|a, b| {
                    let partition = call.partition.compare(&a.partition, &b.partition);
                    partition.then_with(|| call.order.compare(&a.order, &b.order))
                });
            }
            let mut start = 0;
            while start < rows.len() {
                cx.poll()?;
                let same = |keyed: &&Keyed| {
                    call.partition.compare(&keyed.partition, &rows[start].partition) == Ordering::Equal
                };
                let length = rows[start..].iter().take_while(same).count();
                let values = Partition::new(call, &rows[start..start + length], code.width).values(cx)?;
                for (keyed, value) in rows[start..start + length].iter_mut().zip(values) {
                    keyed.row.push(value);
                }
                start += length;
            }
        }
        Ok(rows.into_iter().map(|keyed| keyed.row).collect())
    }
}

/// One partition and a call over it.
struct Partition<'a> {
    call: &'a WindowCallCode,
    rows: &'a [Keyed],
    width: usize,
    /// For each row the first of its peers and the one behind the last.
    peers: Vec<(usize, usize)>,
}

impl<'a> Partition<'a> {
    fn new(call: &'a WindowCallCode, rows: &'a [Keyed], width: usize) -> Self {
        let mut peers = Vec::with_capacity(rows.len());
        let mut start = 0;
        while start < rows.len() {
            let same = |keyed: &&Keyed| !call.ordered || call.order.compare(&keyed.order, &rows[start].order).is_eq();
            let end = start + rows[start..].iter().take_while(same).count();
            peers.resize(end, (start, end));
            start = end;
        }
        Self { call, rows, width, peers }
    }

    fn row(&self, number: usize) -> &[Datum] {
        &self.rows[number].row[..self.width]
    }

    fn arg(&self, position: usize, number: usize, cx: &Context) -> Result<Datum> {
        self.call.args.get(position).map_or(Ok(Datum::Null), |arg| arg.eval(self.row(number), cx))
    }

    /// An integer argument; `None` is NULL.
    fn integer(&self, position: usize, number: usize, cx: &Context) -> Result<Option<i64>> {
        match self.arg(position, number, cx)? {
            Datum::Null => Ok(None),
            value => {
                let integer = value.as_i64();
                integer.map(Some).ok_or_else(|| SqlError::internal(format!("window function argument {value:?}")))
            }
        }
    }

    /// The frame of a row: first row and the one behind the last.
    fn frame(&self, number: usize) -> (usize, usize) {
        let count = self.rows.len();
        match self.call.frame {
            WindowFrame::Whole => (0, count),
            WindowFrame::RangeToCurrent if !self.call.ordered => (0, count),
            WindowFrame::RangeToCurrent => (0, self.peers[number].1),
            WindowFrame::Rows { start, end } => {
                let at = |offset: i64| (number as i64).saturating_add(offset).clamp(0, count as i64) as usize;
                let first = start.map_or(0, at);
                let last = end.map_or(count, |offset| at(offset.saturating_add(1)));
                (first, last.max(first))
            }
        }
    }

    fn values(&self, cx: &Context) -> Result<Vec<Datum>> {
        if let WindowFunctionCode::Aggregate(aggregate) = &self.call.function {
            return self.aggregate(aggregate, cx);
        }
        let mut dense = 0;
        (0..self.rows.len())
            .map(|number| {
                cx.poll()?;
                dense += i64::from(self.peers[number].0 == number);
                self.value(number, dense, cx)
            })
            .collect()
    }

    fn value(&self, number: usize, dense_rank: i64, cx: &Context) -> Result<Datum> {
        let count = self.rows.len();
        let (first_peer, behind_peers) = self.peers[number];
        Ok(match &self.call.function {
            WindowFunctionCode::RowNumber => Datum::Int8(number as i64 + 1),
            WindowFunctionCode::Rank => Datum::Int8(first_peer as i64 + 1),
            WindowFunctionCode::DenseRank => Datum::Int8(dense_rank),
            WindowFunctionCode::PercentRank if count < 2 => Datum::Float8(0.0),
            WindowFunctionCode::PercentRank => Datum::Float8(first_peer as f64 / (count - 1) as f64),
            WindowFunctionCode::CumeDist => Datum::Float8(behind_peers as f64 / count as f64),
            WindowFunctionCode::Ntile => self.ntile(number, cx)?,
            WindowFunctionCode::Lag => self.shifted(number, -1, cx)?,
            WindowFunctionCode::Lead => self.shifted(number, 1, cx)?,
            WindowFunctionCode::FirstValue => {
                let (first, end) = self.frame(number);
                if first < end { self.arg(0, first, cx)? } else { Datum::Null }
            }
            WindowFunctionCode::LastValue => {
                let (first, end) = self.frame(number);
                if first < end { self.arg(0, end - 1, cx)? } else { Datum::Null }
            }
            WindowFunctionCode::NthValue => {
                let Some(nth) = self.integer(1, number, cx)? else { return Ok(Datum::Null) };
                if nth <= 0 {
                    return Err(SqlError::new(SqlState("22016"), "argument of nth_value must be greater than zero"));
                }
                let (first, end) = self.frame(number);
                let at = first as i64 + (nth - 1);
                if at < end as i64 { self.arg(0, at as usize, cx)? } else { Datum::Null }
            }
            WindowFunctionCode::Aggregate(_) => return Err(SqlError::internal("an aggregate is computed by frames")),
        })
    }

    fn ntile(&self, number: usize, cx: &Context) -> Result<Datum> {
        let Some(buckets) = self.integer(0, 0, cx)? else { return Ok(Datum::Null) };
        if buckets <= 0 {
            return Err(SqlError::new(SqlState("22014"), "argument of ntile must be greater than zero"));
        }
        let (count, number) = (self.rows.len() as i64, number as i64);
        let (size, larger) = (count / buckets, count % buckets);
        // The first `larger` buckets have one row more.
        let in_larger = larger * (size + 1);
        let bucket = if number < in_larger { number / (size + 1) } else { larger + (number - in_larger) / size };
        Ok(Datum::Int4((bucket + 1) as i32))
    }

    fn shifted(&self, number: usize, direction: i64, cx: &Context) -> Result<Datum> {
        let offset = if self.call.args.len() > 1 {
            match self.integer(1, number, cx)? {
                Some(offset) => offset,
                None => return Ok(Datum::Null),
            }
        } else {
            1
        };
        let at = (number as i64).checked_add(offset.saturating_mul(direction));
        match at.filter(|at| (0..self.rows.len() as i64).contains(at)) {
            Some(at) => self.arg(0, at as usize, cx),
            None => self.arg(2, number, cx),
        }
    }

    /// Frames that only grow at their end are folded once where the aggregate allows it, others anew for each row.
    fn aggregate(&self, call: &AggregateFunctionCode, cx: &Context) -> Result<Vec<Datum>> {
        let (mut args, mut memory) = (Row::new(), cx.reservation());
        let mut values: Vec<Datum> = Vec::with_capacity(self.rows.len());
        let mut state = call.state();
        let mut folded = (0, 0);
        for number in 0..self.rows.len() {
            let (first, end) = self.frame(number);
            if number > 0 && folded == (first, end) {
                let value = values[number - 1].clone();
                values.push(value);
                continue;
            }
            if folded.0 != first || folded.1 > end || !(state.resumable() || folded.1 == first) {
                state = call.state();
                folded = (first, first);
            }
            for member in folded.1..end {
                cx.poll()?;
                call.update(&mut state, self.row(member), cx, &mut args, &mut memory)?;
            }
            folded = (first, end);
            values.push(call.result(&mut state, cx)?);
        }
        Ok(values)
    }
}
