//! count, sum, avg, min, max, and the logical and bitwise ones.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::operators::datetime::{add_intervals, scale_interval};
use super::super::operators::mistyped;
use super::super::{AggregateFunction, AggregateState, EvalContext};
use super::aggregate;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType, Datum, Interval, Numeric};

/// Rows; with an argument, rows where it is not NULL.
#[derive(Default)]
struct Count(i64);

impl AggregateState for Count {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if !args.first().is_some_and(Datum::is_null) {
            self.0 += 1;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(Datum::Int8(self.0))
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// Sum and count of integers, exact: the sum of 2^63 values of 64 bits fits into 128.
#[derive(Default)]
struct Integers {
    sum: i128,
    count: i64,
}

impl Integers {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Ok(());
        }
        self.sum += i128::from(args[0].as_i64().ok_or_else(|| mistyped("an integer aggregate", args))?);
        self.count += 1;
        Ok(())
    }
}

macro_rules! integer_states {
    ($($name:ident = |$state:ident| $result:expr;)*) => {
        $(#[derive(Default)]
        struct $name(Integers);

        impl AggregateState for $name {
            fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
                self.0.add(args)
            }

            fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
                let $state = &self.0;
                if $state.count == 0 {
                    return Ok(Datum::Null);
                }
                $result
            }

            fn resumable(&self) -> bool {
                true
            }
        })*
    };
}

integer_states! {
    SumToInt8 = |state| i64::try_from(state.sum)
        .map(Datum::Int8)
        .map_err(|_| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"));
    SumToNumeric = |state| Ok(Datum::Numeric(Numeric::new(state.sum, 0)));
    AverageOfIntegers = |state| Numeric::new(state.sum, 0).div(&Numeric::from(state.count)).map(Datum::Numeric);
}

#[derive(Default)]
struct Numerics {
    sum: Option<Numeric>,
    count: i64,
    average: bool,
}

impl AggregateState for Numerics {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        match &args[0] {
            Datum::Null => return Ok(()),
            Datum::Numeric(value) => {
                self.sum = Some(match &self.sum {
                    Some(sum) => sum.add(value)?,
                    None => value.clone(),
                });
            }
            _ => return Err(mistyped("a numeric aggregate", args)),
        }
        self.count += 1;
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        match self.sum.clone() {
            None => Ok(Datum::Null),
            Some(sum) if self.average => sum.div(&Numeric::from(self.count)).map(Datum::Numeric),
            Some(sum) => Ok(Datum::Numeric(sum)),
        }
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// Floats; the result is float4 only for sum(float4).
#[derive(Default)]
struct Floats {
    sum: f64,
    single_sum: f32,
    count: i64,
    average: bool,
    single: bool,
}

impl AggregateState for Floats {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        match &args[0] {
            Datum::Null => return Ok(()),
            Datum::Float4(value) if self.single => {
                let finite = self.single_sum.is_finite() && value.is_finite();
                self.single_sum += value;
                check_overflow(finite, self.single_sum.is_infinite())?;
            }
            other => {
                let value = other.as_f64().ok_or_else(|| mistyped("a float aggregate", args))?;
                let finite = self.sum.is_finite() && value.is_finite();
                self.sum += value;
                check_overflow(finite, self.sum.is_infinite())?;
            }
        }
        self.count += 1;
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(match (self.count, self.single, self.average) {
            (0, ..) => Datum::Null,
            (_, true, _) => Datum::Float4(self.single_sum),
            (count, _, true) => Datum::Float8(self.sum / count as f64),
            (..) => Datum::Float8(self.sum),
        })
    }

    fn resumable(&self) -> bool {
        true
    }
}

fn check_overflow(finite_before: bool, infinite_after: bool) -> Result<()> {
    if finite_before && infinite_after {
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
    }
    Ok(())
}

#[derive(Default)]
struct Intervals {
    sum: Option<Interval>,
    count: i64,
    average: bool,
}

impl AggregateState for Intervals {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        match &args[0] {
            Datum::Null => return Ok(()),
            Datum::Interval(value) => {
                self.sum = Some(match &self.sum {
                    Some(sum) => add_intervals(sum, value)?,
                    None => **value,
                });
            }
            _ => return Err(mistyped("an interval aggregate", args)),
        }
        self.count += 1;
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        match self.sum {
            None => Ok(Datum::Null),
            Some(sum) if self.average => {
                scale_interval(&sum, 1.0 / self.count as f64).map(|value| Datum::Interval(Arc::new(value)))
            }
            Some(sum) => Ok(Datum::Interval(Arc::new(sum))),
        }
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// min (`wanted` is Less) and max (Greater).
struct Extreme {
    best: Datum,
    wanted: Ordering,
}

impl AggregateState for Extreme {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        let value = &args[0];
        // Of equal values the last, which matters where they look different: 0 and -0, 1.0 and 1.00.
        if !value.is_null() && (self.best.is_null() || self.best.compare(value) != self.wanted) {
            self.best = value.clone();
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(self.best.clone())
    }

    fn resumable(&self) -> bool {
        true
    }

    fn memory_bytes(&self) -> usize {
        64 + self.best.heap_bytes()
    }
}

/// Folds values of one type; NULL when there was none.
struct Fold {
    so_far: Datum,
    fold: fn(&Datum, &Datum) -> Option<Datum>,
}

impl AggregateState for Fold {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Ok(());
        }
        self.so_far = if self.so_far.is_null() {
            args[0].clone()
        } else {
            (self.fold)(&self.so_far, &args[0]).ok_or_else(|| mistyped("an aggregate", args))?
        };
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(self.so_far.clone())
    }

    fn resumable(&self) -> bool {
        true
    }
}

macro_rules! fold {
    ($symbol:tt $($variant:ident)*) => {
        || Box::new(Fold {
            so_far: Datum::Null,
            fold: |left, right| match (left, right) {
                $((Datum::$variant(left), Datum::$variant(right)) => Some(Datum::$variant(left $symbol right)),)*
                _ => None,
            },
        })
    };
}

fn and() -> Box<dyn AggregateState> {
    let fold = |left: &Datum, right: &Datum| match (left, right) {
        (Datum::Bool(left), Datum::Bool(right)) => Some(Datum::Bool(*left && *right)),
        _ => None,
    };
    Box::new(Fold { so_far: Datum::Null, fold })
}

fn or() -> Box<dyn AggregateState> {
    let fold = |left: &Datum, right: &Datum| match (left, right) {
        (Datum::Bool(left), Datum::Bool(right)) => Some(Datum::Bool(*left || *right)),
        _ => None,
    };
    Box::new(Fold { so_far: Datum::Null, fold })
}

fn min() -> Box<dyn AggregateState> {
    Box::new(Extreme { best: Datum::Null, wanted: Ordering::Less })
}

fn max() -> Box<dyn AggregateState> {
    Box::new(Extreme { best: Datum::Null, wanted: Ordering::Greater })
}

macro_rules! table {
    (ordered { $($ordered:expr;)* } bits { $($bits:ident;)* }) => {
        /// The aggregates of this file.
        pub const AGGREGATES: &[AggregateFunction] = &[
            aggregate("count", &[], DataType::INT8, || Box::new(Count::default())),
            aggregate("count", &[DataType::new(BaseType::Any)], DataType::INT8, || Box::new(Count::default())),
            aggregate("sum", &[DataType::INT2], DataType::INT8, || Box::new(SumToInt8::default())),
            aggregate("sum", &[DataType::INT4], DataType::INT8, || Box::new(SumToInt8::default())),
            aggregate("sum", &[DataType::INT8], DataType::NUMERIC, || Box::new(SumToNumeric::default())),
            aggregate("sum", &[DataType::NUMERIC], DataType::NUMERIC, || Box::new(Numerics::default())),
            aggregate("sum", &[DataType::FLOAT4], DataType::FLOAT4, || {
                Box::new(Floats { single: true, ..Floats::default() })
            }),
            aggregate("sum", &[DataType::FLOAT8], DataType::FLOAT8, || Box::new(Floats::default())),
            aggregate("sum", &[DataType::INTERVAL], DataType::INTERVAL, || Box::new(Intervals::default())),
            aggregate("avg", &[DataType::INT2], DataType::NUMERIC, || Box::new(AverageOfIntegers::default())),
            aggregate("avg", &[DataType::INT4], DataType::NUMERIC, || Box::new(AverageOfIntegers::default())),
            aggregate("avg", &[DataType::INT8], DataType::NUMERIC, || Box::new(AverageOfIntegers::default())),
            aggregate("avg", &[DataType::NUMERIC], DataType::NUMERIC, || {
                Box::new(Numerics { average: true, ..Numerics::default() })
            }),
            aggregate("avg", &[DataType::FLOAT4], DataType::FLOAT8, || {
                Box::new(Floats { average: true, ..Floats::default() })
            }),
            aggregate("avg", &[DataType::FLOAT8], DataType::FLOAT8, || {
                Box::new(Floats { average: true, ..Floats::default() })
            }),
            aggregate("avg", &[DataType::INTERVAL], DataType::INTERVAL, || {
                Box::new(Intervals { average: true, ..Intervals::default() })
            }),
            $(
                aggregate("min", &[$ordered], $ordered, min),
                aggregate("max", &[$ordered], $ordered, max),
            )*
            aggregate("bool_and", &[DataType::BOOL], DataType::BOOL, and),
            aggregate("every", &[DataType::BOOL], DataType::BOOL, and),
            aggregate("bool_or", &[DataType::BOOL], DataType::BOOL, or),
            $(
                aggregate("bit_and", &[DataType::$bits], DataType::$bits, fold!(& Int2 Int4 Int8)),
                aggregate("bit_or", &[DataType::$bits], DataType::$bits, fold!(| Int2 Int4 Int8)),
                aggregate("bit_xor", &[DataType::$bits], DataType::$bits, fold!(^ Int2 Int4 Int8)),
            )*
        ];
    };
}

table! {
    ordered {
        DataType::INT2; DataType::INT4; DataType::INT8; DataType::FLOAT4; DataType::FLOAT8; DataType::NUMERIC;
        DataType::TEXT; DataType::BPCHAR; DataType::DATE; DataType::TIME; DataType::TIMESTAMP;
        DataType::TIMESTAMPTZ; DataType::INTERVAL; DataType::OID; DataType::PG_LSN;
        DataType::new(BaseType::AnyArray);
    }
    bits { INT2; INT4; INT8; }
}
