//! Ordered-set aggregates: percentile_cont, percentile_disc, mode. The executor sorts; the value of WITHIN GROUP is the
//! last argument, so the fraction stands before it.

use std::sync::Arc;

use super::super::operators::mistyped;
use super::super::{AggregateFunction, AggregateState, EvalContext};
use super::aggregate;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, BaseType, DataType, Datum};

/// Names of the functions that need WITHIN GROUP.
pub const ORDERED_SET: [&str; 3] = ["mode", "percentile_cont", "percentile_disc"];

/// What is asked of the sorted values.
#[derive(Clone, Copy)]
enum Wanted {
    /// The value at a fraction of the way, between two where it falls there.
    Continuous,
    /// The first value that has the fraction of all at or below it.
    Discrete,
    /// The commonest value.
    Mode,
}

/// Keeps the values, which come sorted.
struct OrderedSet {
    wanted: Wanted,
    fraction: Datum,
    values: Vec<Datum>,
    bytes: usize,
}

impl OrderedSet {
    fn boxed(wanted: Wanted) -> Box<dyn AggregateState> {
        Box::new(Self { wanted, fraction: Datum::Null, values: Vec::new(), bytes: 0 })
    }

    /// The answer to one fraction.
    fn at(&self, fraction: &Datum) -> Result<Datum> {
        let fraction = match fraction {
            Datum::Null => return Ok(Datum::Null),
            Datum::Float8(fraction) => *fraction,
            other => return Err(mistyped("percentile", std::slice::from_ref(other))),
        };
        if !(0.0..=1.0).contains(&fraction) {
            let message = format!("percentile value {fraction} is not between 0 and 1");
            return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
        }
        let last = self.values.len() - 1;
        if let Wanted::Discrete = self.wanted {
            let rank = (fraction * self.values.len() as f64).ceil() as usize;
            return Ok(self.values[rank.saturating_sub(1).min(last)].clone());
        }
        let place = fraction * last as f64;
        let (low, high) = (place.floor() as usize, (place.ceil() as usize).min(last));
        match (&self.values[low], &self.values[high]) {
            (Datum::Float8(below), Datum::Float8(above)) if low != high => {
                Ok(Datum::Float8(below + (place - place.floor()) * (above - below)))
            }
            (value, _) => Ok(value.clone()),
        }
    }

    fn mode(&self) -> Datum {
        let (mut best, mut best_length, mut start) = (&self.values[0], 0, 0);
        for at in 1..=self.values.len() {
            let ends = self.values.get(at).is_none_or(|value| value.compare(&self.values[start]).is_ne());
            if ends {
                if at - start > best_length {
                    (best, best_length) = (&self.values[start], at - start);
                }
                start = at;
            }
        }
        best.clone()
    }
}

impl AggregateState for OrderedSet {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        let (Some(value), fraction) = (args.last(), &args[0]) else { return Err(mistyped("percentile", args)) };
        if self.values.is_empty() && args.len() > 1 {
            self.fraction = fraction.clone();
        }
        if !value.is_null() {
            self.bytes += std::mem::size_of::<Datum>() + value.heap_bytes();
            self.values.push(value.clone());
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        if let Wanted::Mode = self.wanted {
            return Ok(self.mode());
        }
        let Datum::Array(fractions) = &self.fraction else { return self.at(&self.fraction) };
        let elements = fractions.elements.iter().map(|fraction| self.at(fraction)).collect::<Result<Vec<_>>>()?;
        let element = self.values[0].natural_type();
        Ok(Datum::Array(Arc::new(Array { element, dimensions: fractions.dimensions.clone(), elements })))
    }

    fn memory_bytes(&self) -> usize {
        64 + self.bytes
    }
}

const ELEMENT: DataType = DataType::new(BaseType::AnyElement);
const ARRAY: DataType = DataType::new(BaseType::AnyArray);
const FLOATS: DataType = DataType::array_of(BaseType::Float8);

/// The aggregates of this file.
pub const AGGREGATES: &[AggregateFunction] = &[
    aggregate("percentile_cont", &[DataType::FLOAT8, DataType::FLOAT8], DataType::FLOAT8, || {
        OrderedSet::boxed(Wanted::Continuous)
    }),
    aggregate("percentile_cont", &[FLOATS, DataType::FLOAT8], FLOATS, || OrderedSet::boxed(Wanted::Continuous)),
    aggregate("percentile_disc", &[DataType::FLOAT8, ELEMENT], ELEMENT, || OrderedSet::boxed(Wanted::Discrete)),
    aggregate("percentile_disc", &[FLOATS, ELEMENT], ARRAY, || OrderedSet::boxed(Wanted::Discrete)),
    aggregate("mode", &[ELEMENT], ELEMENT, || OrderedSet::boxed(Wanted::Mode)),
];
