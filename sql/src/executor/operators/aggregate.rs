//! GROUP BY, by hashing; grouping sets; DISTINCT, FILTER and ORDER BY inside calls.

use std::sync::Arc;

use super::sort::SortOrder;
use super::{Factory, Node, Operator, eval_into, passes};
use crate::error::Result;
use crate::executor::hash::{RowSet, hash_row, row_bytes};
use crate::executor::partitions::{Partition, Partitions, Source};
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
    input: Option<Box<dyn Operator>>,
    /// Groups that are complete.
    groups: std::vec::IntoIter<(Row, Vec<CallState>)>,
    /// Their memory.
    memory: Reservation,
    /// Rows of other groups, with the grouping set that they are to be grouped by.
    parts: Vec<(usize, Partition)>,
}

impl Factory for AggregateCode {
    fn open(self: Arc<Self>, cx: &Context) -> Box<dyn Operator> {
        Box::new(Aggregate {
            input: Some(self.input.open(cx)),
            code: self,
            groups: Vec::new().into_iter(),
            memory: cx.spilling_reservation(),
            parts: Vec::new(),
        })
    }
}

impl AggregateCode {
    fn states(&self) -> Vec<CallState> {
        self.calls.iter().map(AggregateFunctionCode::state).collect()
    }
}

/// The groups of one grouping set.
struct Groups<'c> {
    code: &'c AggregateCode,
    /// Position of the set.
    set: usize,
    keys: RowSet,
    states: Vec<Vec<CallState>>,
    level: u32,
    /// Rows of groups for which there was no memory.
    aside: Option<Partitions>,
}

impl<'c> Groups<'c> {
    fn new(code: &'c AggregateCode, set: usize, level: u32) -> Self {
        // Without keys there is a group even without rows.
        let states = if code.sets[set].contains(&true) { Vec::new() } else { vec![code.states()] };
        Self { code, set, keys: RowSet::default(), states, level, aside: None }
    }

    /// The states of the group that a row belongs to; none when the row is set aside. `key` is scratch.
    #[inline]
    fn of(
        &mut self,
        row: &[Datum],
        keys: &[Datum],
        key: &mut Row,
        memory: &mut Reservation,
        cx: &Context,
    ) -> Result<Option<&mut Vec<CallState>>> {
        let set = &self.code.sets[self.set];
        if !set.contains(&true) {
            return Ok(self.states.first_mut());
        }
        let key = if set.contains(&false) {
            key.clear();
            let members = keys.iter().zip(set);
            key.extend(members.map(|(value, member)| if *member { value.clone() } else { Datum::Null }));
            key
        } else {
            keys
        };
        let hash = hash_row(key);
        if let Some(group) = self.keys.find_hashed(hash, key) {
            return Ok(self.states.get_mut(group));
        }
        // Once a row was set aside, another of its group may come: no group is begun any more.
        let bytes = row_bytes(key) + self.code.calls.len() * STATE_BYTES;
        if self.aside.is_some() || !memory.grow_or_spill(bytes, self.level)? {
            self.aside.get_or_insert_with(|| Partitions::new(self.level, cx)).push(hash, row)?;
            return Ok(None);
        }
        let group = self.keys.insert_hashed(hash, key);
        self.states.push(self.code.states());
        Ok(self.states.get_mut(group))
    }
}

/// What the state of a call takes, about.
const STATE_BYTES: usize = 96;

impl Aggregate {
    /// Groups all rows of a source by some of the grouping sets.
    fn fold(&mut self, source: &mut Source, sets: &mut [Groups<'_>], cx: &Context) -> Result<()> {
        let code = Arc::clone(&self.code);
        self.memory = cx.spilling_reservation();
        let (mut row, mut keys, mut key, mut args) = (Row::new(), Row::new(), Row::new(), Row::new());
        while source.next(cx, &mut row)? {
            cx.poll()?;
            eval_into(&code.keys, &row, cx, &mut keys)?;
            for groups in &mut *sets {
                let Some(states) = groups.of(&row, &keys, &mut key, &mut self.memory, cx)? else { continue };
                for (call, state) in code.calls.iter().zip(states) {
                    call.update(state, &row, cx, &mut args, &mut self.memory)?;
                }
            }
        }
        let mut all = Vec::new();
        for groups in sets {
            let set = &code.sets[groups.set];
            for (number, states) in std::mem::take(&mut groups.states).into_iter().enumerate() {
                let key =
                    if set.contains(&true) { groups.keys.row(number).clone() } else { vec![Datum::Null; set.len()] };
                all.push((key, states));
            }
            if let Some(aside) = groups.aside.take() {
                let parts = aside.finish()?.into_iter().flatten();
                self.parts.extend(parts.map(|part| (groups.set, part)));
            }
        }
        self.groups = all.into_iter();
        Ok(())
    }

    /// The next groups; false when there are no more.
    fn fold_next(&mut self, cx: &Context) -> Result<bool> {
        let code = Arc::clone(&self.code);
        if let Some(input) = self.input.take() {
            // One table of groups for each grouping set.
            let mut sets: Vec<Groups<'_>> = (0..code.sets.len()).map(|set| Groups::new(&code, set, 0)).collect();
            self.fold(&mut Source::Input(input), &mut sets, cx)?;
            return Ok(true);
        }
        let Some((set, part)) = self.parts.pop() else { return Ok(false) };
        let mut groups = Groups::new(&code, set, part.level);
        self.fold(&mut Source::Run(part.rows.read()), std::slice::from_mut(&mut groups), cx)?;
        Ok(true)
    }
}

impl Operator for Aggregate {
    fn next(&mut self, cx: &Context, out: &mut Row) -> Result<bool> {
        let (key, states) = loop {
            match self.groups.next() {
                Some(group) => break group,
                None if self.fold_next(cx)? => {}
                None => return Ok(false),
            }
        };
        cx.poll()?;
        *out = key;
        for (call, mut state) in self.code.calls.iter().zip(states) {
            out.push(call.result(&mut state, cx)?);
        }
        Ok(true)
    }
}
