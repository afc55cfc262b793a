//! Variance, standard deviation, and the two-argument statistics.

use super::super::operators::mistyped;
use super::super::{AggregateFunction, AggregateState, EvalContext};
use super::aggregate;
use crate::error::Result;
use crate::types::{DataType, Datum, Numeric};

/// What is asked of the squares.
#[derive(Clone, Copy)]
struct Wanted {
    sample: bool,
    root: bool,
}

/// Exact sums, for integers and numeric.
struct ExactSquares {
    wanted: Wanted,
    count: i64,
    sum: Numeric,
    squares: Numeric,
}

impl AggregateState for ExactSquares {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Ok(());
        }
        let value = args[0].as_numeric().ok_or_else(|| mistyped("variance", args))?;
        self.count += 1;
        self.sum = self.sum.add(&value)?;
        self.squares = self.squares.add(&value.mul(&value)?)?;
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        let least = if self.wanted.sample { 2 } else { 1 };
        if self.count < least {
            return Ok(Datum::Null);
        }
        let count = Numeric::from(self.count);
        let spread = count.mul(&self.squares)?.sub(&self.sum.mul(&self.sum)?)?;
        if spread.is_finite() && spread.signum() <= 0 {
            return Ok(Datum::Numeric(Numeric::from(0i64)));
        }
        let divisor = count.mul(&Numeric::from(if self.wanted.sample { self.count - 1 } else { self.count }))?;
        let variance = spread.div(&divisor)?;
        let places = variance.scale().unwrap_or(16);
        Ok(Datum::Numeric(if self.wanted.root { variance.sqrt_to_scale(places)? } else { variance }))
    }
}

/// Youngs and Cramer's updating sums, for floats.
struct FloatSquares {
    wanted: Wanted,
    count: f64,
    sum: f64,
    spread: f64,
}

impl AggregateState for FloatSquares {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if args[0].is_null() {
            return Ok(());
        }
        let value = args[0].as_f64().ok_or_else(|| mistyped("variance", args))?;
        self.count += 1.0;
        self.sum += value;
        if self.count > 1.0 {
            let difference = value * self.count - self.sum;
            self.spread += difference * difference / (self.count * (self.count - 1.0));
        } else if !value.is_finite() {
            self.spread = f64::NAN;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        let divisor = if self.wanted.sample { self.count - 1.0 } else { self.count };
        if divisor <= 0.0 {
            return Ok(Datum::Null);
        }
        let variance = self.spread / divisor;
        Ok(Datum::Float8(if self.wanted.root { variance.sqrt() } else { variance }))
    }
}

/// Sums over pairs (Y, X), for corr, covar and regr. Rows with a NULL do not count.
struct Pairs {
    finish: fn(&Pairs) -> Option<f64>,
    count: f64,
    sum_x: f64,
    spread_x: f64,
    sum_y: f64,
    spread_y: f64,
    spread_xy: f64,
}

impl AggregateState for Pairs {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if args[0].is_null() || args[1].is_null() {
            return Ok(());
        }
        let (Some(y), Some(x)) = (args[0].as_f64(), args[1].as_f64()) else {
            return Err(mistyped("a regression aggregate", args));
        };
        self.count += 1.0;
        self.sum_x += x;
        self.sum_y += y;
        if self.count > 1.0 {
            let (from_x, from_y) = (x * self.count - self.sum_x, y * self.count - self.sum_y);
            let scale = 1.0 / (self.count * (self.count - 1.0));
            self.spread_x += from_x * from_x * scale;
            self.spread_y += from_y * from_y * scale;
            self.spread_xy += from_x * from_y * scale;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok((self.finish)(self).map_or(Datum::Null, Datum::Float8))
    }
}

/// regr_count.
#[derive(Default)]
struct PairCount(i64);

impl AggregateState for PairCount {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        self.0 += i64::from(!args[0].is_null() && !args[1].is_null());
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(Datum::Int8(self.0))
    }
}

const fn when(condition: bool, value: f64) -> Option<f64> {
    if condition { Some(value) } else { None }
}

macro_rules! squares {
    ($($name:literal $sample:literal $root:literal;)*; pairs $($pair:literal = |$sums:ident| $result:expr;)*) => {
        /// The aggregates of this file.
        pub const AGGREGATES: &[AggregateFunction] = &[
            $(
                aggregate($name, &[DataType::INT2], DataType::NUMERIC, || exact($sample, $root)),
                aggregate($name, &[DataType::INT4], DataType::NUMERIC, || exact($sample, $root)),
                aggregate($name, &[DataType::INT8], DataType::NUMERIC, || exact($sample, $root)),
                aggregate($name, &[DataType::NUMERIC], DataType::NUMERIC, || exact($sample, $root)),
                aggregate($name, &[DataType::FLOAT4], DataType::FLOAT8, || float($sample, $root)),
                aggregate($name, &[DataType::FLOAT8], DataType::FLOAT8, || float($sample, $root)),
            )*
            $(
                aggregate($pair, &[DataType::FLOAT8, DataType::FLOAT8], DataType::FLOAT8, || pairs(|$sums| $result)),
            )*
            aggregate("regr_count", &[DataType::FLOAT8, DataType::FLOAT8], DataType::INT8, || {
                Box::new(PairCount::default())
            }),
        ];
    };
}

fn exact(sample: bool, root: bool) -> Box<dyn AggregateState> {
    let zero = Numeric::from(0i64);
    Box::new(ExactSquares { wanted: Wanted { sample, root }, count: 0, sum: zero.clone(), squares: zero })
}

fn float(sample: bool, root: bool) -> Box<dyn AggregateState> {
    Box::new(FloatSquares { wanted: Wanted { sample, root }, count: 0.0, sum: 0.0, spread: 0.0 })
}

fn pairs(finish: fn(&Pairs) -> Option<f64>) -> Box<dyn AggregateState> {
    Box::new(Pairs { finish, count: 0.0, sum_x: 0.0, spread_x: 0.0, sum_y: 0.0, spread_y: 0.0, spread_xy: 0.0 })
}

squares! {
    "variance" true false;
    "var_samp" true false;
    "var_pop" false false;
    "stddev" true true;
    "stddev_samp" true true;
    "stddev_pop" false true;
    ; pairs
    "covar_pop" = |sums| when(sums.count >= 1.0, sums.spread_xy / sums.count);
    "covar_samp" = |sums| when(sums.count >= 2.0, sums.spread_xy / (sums.count - 1.0));
    "corr" = |sums| when(
        sums.count >= 1.0 && sums.spread_x != 0.0 && sums.spread_y != 0.0,
        sums.spread_xy / (sums.spread_x * sums.spread_y).sqrt(),
    );
    "regr_avgx" = |sums| when(sums.count >= 1.0, sums.sum_x / sums.count);
    "regr_avgy" = |sums| when(sums.count >= 1.0, sums.sum_y / sums.count);
    "regr_sxx" = |sums| when(sums.count >= 1.0, sums.spread_x);
    "regr_syy" = |sums| when(sums.count >= 1.0, sums.spread_y);
    "regr_sxy" = |sums| when(sums.count >= 1.0, sums.spread_xy);
    "regr_slope" = |sums| when(sums.count >= 1.0 && sums.spread_x != 0.0, sums.spread_xy / sums.spread_x);
    "regr_intercept" = |sums| when(
        sums.count >= 1.0 && sums.spread_x != 0.0,
        (sums.sum_y - sums.sum_x * sums.spread_xy / sums.spread_x) / sums.count,
    );
    "regr_r2" = |sums| if sums.count < 1.0 || sums.spread_x == 0.0 {
        None
    } else if sums.spread_y == 0.0 {
        Some(1.0)
    } else {
        Some(sums.spread_xy * sums.spread_xy / (sums.spread_x * sums.spread_y))
    };
}
