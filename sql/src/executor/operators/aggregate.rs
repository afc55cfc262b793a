//! GROUP BY, by hashing; grouping sets; DISTINCT, FILTER and ORDER BY inside calls.

use std::sync::Arc;

use super::sort::SortOrder;
use super::{Factory, Node, Operator, eval_into, passes};
use crate::error::Result;
use crate::executor::hash::{RowSet, row_bytes};
use crate::executor::{Code, Context, Reservation};
use crate::functions::{AggregateFunction, AggregateState};
use crate::types::{Datum, Row};

/// One compiled aggregate call.
pub(crate) struct AggregateFunctionCode {
    pub(crate) function: &'static AggregateFunction,
    pub(crate) args: Vec<Code>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Code>,
    /// ORDER BY inside the call, over a row of the arguments followed by the computed keys.
    pub(crate) order: Option<(SortOrder, Vec<Code>)>,
}

pub(crate) struct AggregateCode {
    pub(crate) input: Node,
    pub(crate) keys: Vec<Code>,
    pub(crate) calls: Vec<AggregateFunctionCode>,
    /// Which keys each grouping set groups by.
    pub(crate) sets: Vec<Vec<bool>>,
}

/// State of one call over one group.
pub(super) enum CallState {
    Plain(Box<dyn AggregateState>),
    /// Distinct arguments; folded at the end.
    Distinct(RowSet),
    /// Arguments with their sort keys; sorted and folded at the end.
    Ordered(Vec<Row>),
}

impl CallState {
    /// Whether rows may be added after a result has been taken.
    pub(super) fn resumable(&self) -> bool {
        matches!(self, CallState::Plain(state) if state.resumable())
    }
}

impl AggregateFunctionCode {
    pub(super) fn state(&self) -> CallState {
        if self.order.is_some() {
            CallState::Ordered(Vec::new())
        } else if self.distinct {
            CallState::Distinct(RowSet::default())
        } else {
            CallState::Plain((self.function.state)())
        }
    }

    /// Takes one input row. `args` is scratch.
    #[inline]
    pub(super) fn update(
        &self,
        state: &mut CallState,
        row: &[Datum],
        cx: &Context,
        args: &mut Row,
        memory: &mut Reservation,
    ) -> Result<()> {
        if !passes(self.filter.as_ref(), row, cx)? {
            return Ok(());
        }
        eval_into(&self.args, row, cx, args)?;
        match state {
            CallState::Plain(state) => state.update(cx.eval(), args),
            CallState::Distinct(seen) => {
                if seen.insert(args).1 {
                    memory.grow(row_bytes(args))?;
                }
                Ok(())
            }
            CallState::Ordered(rows) => {
                let (_, keys) = self.order.as_ref().expect("an ordered state has an order");
                for key in keys {
                    args.push(key.eval(row, cx)?);
                }
                memory.grow(row_bytes(args))?;
                rows.push(std::mem::take(args));
                Ok(())
            }
        }
    }

    /// The result of a state; it goes on only if it is [`CallState::resumable`].
    pub(super) fn result(&self, state: &mut CallState, cx: &Context) -> Result<Datum> {
        let mut plain = match state {
            CallState::Plain(state) => return state.finish(cx.eval()),
            CallState::Distinct(seen) => {
                // In order of the arguments, as Postgres' sort gives them.
                let mut rows: Vec<&Row> = (0..seen.len()).map(|number| seen.row(number)).collect();
                rows.sort();
                let mut plain = (self.function.state)();
                for row in rows {
                    cx.poll()?;
                    plain.update(cx.eval(), row)?;
                }
                plain
            }
            CallState::Ordered(rows) => {
                let mut rows = std::mem::take(rows);
                let (order, _) = self.order.as_ref().expect("an ordered state has an order");
                rows.sort_by(|a, b| order.compare(a, b));
                let mut plain = (self.function.state)();
                let mut seen = RowSet::default();
                for mut row in rows {
                    cx.poll()?;
                    row.truncate(self.args.len());
                    if !self.distinct || seen.insert(&row).1 {
                        plain.update(cx.eval(), &row)?;
                    }
                }
                plain
            }
        };
        plain.finish(cx.eval())
    }
}

struct Aggregate {
    code: Arc<AggregateCode>,
    input: Box<dyn Operator>,
    groups: Option<std::vec::IntoIter<(Row, Vec<CallState>)>>,
    memory: Reservation,
}

impl Factory for AggregateCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Aggregate { input: self.input.open(cx), code: self, groups: None, memory: cx.reservation() })
    }
}

impl AggregateCode {
    fn states(&self) -> Vec<CallState> {
        self.calls.iter().map(AggregateFunctionCode::state).collect()
    }
}

impl Aggregate {
    fn fold(&mut self, cx: &Context) -> Result<Vec<(Row, Vec<CallState>)>> {
        let code = &*self.code;
        // One table of groups for each grouping set.
        let mut sets: Vec<(RowSet, Vec<Vec<CallState>>)> = code.sets.iter().map(|_| Default::default()).collect();
        for (set, (_, states)) in code.sets.iter().zip(&mut sets) {
            // Without keys there is a group even without rows.
            if !set.contains(&true) {
                states.push(code.states());
            }
        }
        let (mut row, mut keys, mut key, mut args) = (Row::new(), Row::new(), Row::new(), Row::new());
        while self.input.next(cx, &mut row)? {
            cx.poll()?;
            eval_into(&code.keys, &row, cx, &mut keys)?;
            for (set, (groups, states)) in code.sets.iter().zip(&mut sets) {
                let group = if !set.contains(&true) {
                    0
                } else if set.contains(&false) {
                    key.clear();
                    let members = keys.iter().zip(set);
                    key.extend(members.map(|(value, member)| if *member { value.clone() } else { Datum::Null }));
                    find_group(code, groups, states, &key, &mut self.memory)?
                } else {
                    find_group(code, groups, states, &keys, &mut self.memory)?
                };
                for (call, state) in code.calls.iter().zip(&mut states[group]) {
                    call.update(state, &row, cx, &mut args, &mut self.memory)?;
                }
            }
        }
        let mut all = Vec::new();
        for (set, (groups, states)) in code.sets.iter().zip(sets) {
            for (number, states) in states.into_iter().enumerate() {
                let key = if set.contains(&true) { groups.row(number).clone() } else { vec![Datum::Null; set.len()] };
                all.push((key, states));
            }
        }
        Ok(all)
    }
}

#[inline]
fn find_group(
    code: &AggregateCode,
    groups: &mut RowSet,
    states: &mut Vec<Vec<CallState>>,
    key: &[Datum],
    memory: &mut Reservation,
) -> Result<usize> {
    let (group, added) = groups.insert(key);
    if added {
        memory.grow(row_bytes(key) + code.calls.len() * 96)?;
        states.push(code.states());
    }
    Ok(group)
}

impl Operator for Aggregate {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        if self.groups.is_none() {
            self.groups = Some(self.fold(cx)?.into_iter());
        }
        let Some((key, states)) = self.groups.as_mut().expect("folded above").next() else { return Ok(false) };
        cx.poll()?;
        *out = key;
        for (call, mut state) in self.code.calls.iter().zip(states) {
            out.push(call.result(&mut state, cx)?);
        }
        Ok(true)
    }
}
