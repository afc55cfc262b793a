//! Window function calls.

use sqlparser::ast::{self, Function, NamedWindowExpr, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType};

use super::call::Call;
use super::logical::{WindowCall, WindowFunction};
use super::names::{Clause, Level, Scope, fold};
use super::resolve::{self, Context};
use super::scalar::{Order, Scalar};
use super::{Binder, order};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::{WindowFrame, WindowFunction as Plain};
use crate::types::DataType;

impl Binder<'_> {
    /// WINDOW name AS (…).
    pub(super) fn define_windows(&mut self, named: &[ast::NamedWindowDefinition], level: &Level) -> Result<()> {
        for ast::NamedWindowDefinition(name, definition) in named {
            let spec = match definition {
                NamedWindowExpr::WindowSpec(spec) => spec.clone(),
                NamedWindowExpr::NamedWindow(other) => find_window(level, &fold(other))?,
            };
            level.window_definitions.borrow_mut().push((fold(name), spec));
        }
        Ok(())
    }

    pub(super) fn window_call(&mut self, call: &Call<'_>, function: &Function, scope: &Scope<'_>) -> Result<Scalar> {
        if !scope.clause.allows_windows() {
            return Err(SqlError::new(
                SqlState::WINDOWING_ERROR,
                format!("window functions are not allowed in {}", scope.clause.name()),
            ));
        }
        if scope.level.in_window.get() {
            return Err(SqlError::new(SqlState::WINDOWING_ERROR, "window function calls cannot be nested"));
        }
        if call.distinct {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "DISTINCT is not implemented for window functions",
            ));
        }
        let spec = match &function.over {
            Some(WindowType::WindowSpec(spec)) => match &spec.window_name {
                None => spec.clone(),
                Some(name) => {
                    let base = find_window(scope.level, &fold(name))?;
                    let mut merged = spec.clone();
                    merged.window_name = None;
                    merged.partition_by = base.partition_by;
                    if merged.order_by.is_empty() {
                        merged.order_by = base.order_by;
                    }
                    merged
                }
            },
            Some(WindowType::NamedWindow(name)) => find_window(scope.level, &fold(name))?,
            None => WindowSpec { window_name: None, partition_by: vec![], order_by: vec![], window_frame: None },
        };
        scope.level.in_window.set(true);
        let bound = self.window_parts(call, function, &spec, scope);
        scope.level.in_window.set(false);
        let bound = bound?;
        let id = self.columns.add(bound.data_type, &call.name);
        scope.level.windows.borrow_mut().push((id, bound));
        Ok(self.columns.scalar(id))
    }

    fn window_parts(
        &mut self,
        call: &Call<'_>,
        function: &Function,
        spec: &WindowSpec,
        scope: &Scope<'_>,
    ) -> Result<WindowCall> {
        let mut partition_by = Vec::with_capacity(spec.partition_by.len());
        for expr in &spec.partition_by {
            let scalar = self.expr(expr, scope)?;
            partition_by.push(self.settle(scalar)?);
        }
        let mut order_by: Vec<Order> = Vec::with_capacity(spec.order_by.len());
        for item in &spec.order_by {
            let scalar = self.expr(&item.expr, scope)?;
            let scalar = self.settle(scalar)?;
            order_by.push(order::key(scalar, item));
        }
        let frame = frame(spec, !order_by.is_empty())?;
        let window =
            |function, args, data_type| WindowCall { function, args, partition_by, order_by, frame, data_type };
        if let Some((plain, result)) = plain_function(&call.name) {
            if function.filter.is_some() {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "FILTER is not implemented for non-aggregate window functions",
                ));
            }
            let args = self.args(call.args, scope)?;
            let (args, result) = self.window_args(&call.name, args, result)?;
            return Ok(window(WindowFunction::Plain(plain), args, result));
        }
        if !resolve::is_aggregate(&call.name) {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("OVER specified, but {} is not a window function nor an aggregate function", call.name),
            ));
        }
        if !call.order_by.is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "aggregate ORDER BY is not implemented for window functions",
            ));
        }
        // Its arguments may hold aggregates of the level: sum(sum(x)) OVER ().
        let args = if call.star { Vec::new() } else { self.args(call.args, scope)? };
        let types: Vec<DataType> = args.iter().map(Scalar::data_type).collect();
        let resolved = resolve::aggregate(&call.name, &types)?;
        let mut coerced = Vec::with_capacity(args.len());
        for (position, arg) in args.into_iter().enumerate() {
            let to = resolved.args.get(position).copied().unwrap_or(arg.data_type());
            coerced.push(self.coerce(arg, to, Context::Implicit)?);
        }
        let filter = match function.filter.as_deref() {
            Some(filter) => Some(self.condition(filter, &scope.in_clause(Clause::Filter), "FILTER")?),
            None => None,
        };
        let aggregate = super::scalar::Aggregate {
            function: resolved.function,
            args: coerced,
            distinct: false,
            filter,
            order_by: Vec::new(),
            data_type: resolved.result,
        };
        Ok(window(WindowFunction::Aggregate(aggregate), Vec::new(), resolved.result))
    }

    /// Checks and coerces the arguments of a plain window function; `None`: it answers its argument's type.
    fn window_args(
        &mut self,
        name: &str,
        args: Vec<Scalar>,
        result: Option<DataType>,
    ) -> Result<(Vec<Scalar>, DataType)> {
        let accepted = match name {
            "ntile" => 1..=1,
            "lag" | "lead" => 1..=3,
            "first_value" | "last_value" => 1..=1,
            "nth_value" => 2..=2,
            _ => 0..=0,
        };
        if !accepted.contains(&args.len()) {
            let types: Vec<String> = args.iter().map(|arg| arg.data_type().name()).collect();
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function {name}({}) does not exist", types.join(", ")),
            )
            .with_hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            ));
        }
        let mut args = args;
        if name == "ntile" {
            let buckets = args.remove(0);
            args.push(self.coerce(buckets, DataType::INT4, Context::Implicit)?);
        } else if !args.is_empty() {
            if matches!(name, "lag" | "lead") && args.len() == 3 {
                let default = args.pop().expect("three arguments");
                let value = args.remove(0);
                let (mut pair, _) = self.unify(vec![value, default], "CASE")?;
                let default = pair.pop().expect("two values");
                args.insert(0, pair.pop().expect("two values"));
                args.push(default);
            }
            let value = args.remove(0);
            args.insert(0, self.settle(value)?);
            if args.len() > 1 {
                let offset = args.remove(1);
                args.insert(1, self.coerce(offset, DataType::INT4, Context::Implicit)?);
            }
        }
        let data_type = result.unwrap_or_else(|| args[0].data_type());
        Ok((args, data_type))
    }
}

/// Window functions that are no aggregates, with their result; `None`: the type of the first argument.
pub(super) fn plain_function(name: &str) -> Option<(Plain, Option<DataType>)> {
    Some(match name {
        "row_number" => (Plain::RowNumber, Some(DataType::INT8)),
        "rank" => (Plain::Rank, Some(DataType::INT8)),
        "dense_rank" => (Plain::DenseRank, Some(DataType::INT8)),
        "percent_rank" => (Plain::PercentRank, Some(DataType::FLOAT8)),
        "cume_dist" => (Plain::CumeDist, Some(DataType::FLOAT8)),
        "ntile" => (Plain::Ntile, Some(DataType::INT4)),
        "lag" => (Plain::Lag, None),
        "lead" => (Plain::Lead, None),
        "first_value" => (Plain::FirstValue, None),
        "last_value" => (Plain::LastValue, None),
        "nth_value" => (Plain::NthValue, None),
        _ => return None,
    })
}

fn find_window(level: &Level, name: &str) -> Result<WindowSpec> {
    let definitions = level.window_definitions.borrow();
    definitions
        .iter()
        .find(|(defined, _)| defined == name)
        .map(|(_, spec)| spec.clone())
        .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("window \"{name}\" does not exist")))
}

fn frame(spec: &WindowSpec, ordered: bool) -> Result<WindowFrame> {
    let default = if ordered { WindowFrame::RangeToCurrent } else { WindowFrame::Whole };
    let Some(frame) = &spec.window_frame else { return Ok(default) };
    let end = frame.end_bound.clone().unwrap_or(WindowFrameBound::CurrentRow);
    if matches!(frame.start_bound, WindowFrameBound::Following(None)) {
        return Err(SqlError::new(SqlState::WINDOWING_ERROR, "frame start cannot be UNBOUNDED FOLLOWING"));
    }
    if matches!(end, WindowFrameBound::Preceding(None)) {
        return Err(SqlError::new(SqlState::WINDOWING_ERROR, "frame end cannot be UNBOUNDED PRECEDING"));
    }
    match (frame.units, &frame.start_bound, &end) {
        (_, WindowFrameBound::Preceding(None), WindowFrameBound::Following(None)) => Ok(WindowFrame::Whole),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(None), WindowFrameBound::CurrentRow) => Ok(default),
        (WindowFrameUnits::Rows, start, end) => Ok(WindowFrame::Rows { start: bound(start)?, end: bound(end)? }),
        _ => Err(SqlError::unsupported("this window frame")),
    }
}

fn bound(bound: &WindowFrameBound) -> Result<Option<i64>> {
    let number = |expr: &ast::Expr| match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => digits.parse::<i64>().ok(),
            _ => None,
        },
        _ => None,
    };
    let offset = |expr: &ast::Expr| {
        number(expr).ok_or_else(|| SqlError::unsupported("a frame offset that is not an integer literal"))
    };
    Ok(match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(None) | WindowFrameBound::Following(None) => None,
        WindowFrameBound::Preceding(Some(expr)) => Some(-offset(expr)?),
        WindowFrameBound::Following(Some(expr)) => Some(offset(expr)?),
    })
}
