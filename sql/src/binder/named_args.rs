//! Named arguments, `make_interval(days => 10)`: brought into the order of the signature. Known are the functions that
//! Postgres' documentation calls this way.

use sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, Value};

use super::names::fold;
use crate::error::{Result, SqlError, SqlState};

/// Names of a function's arguments in order, and whether a missing one is zero.
const SIGNATURES: &[(&str, &[&str], bool)] = &[
    ("make_interval", &["years", "months", "weeks", "days", "hours", "mins", "secs"], true),
    ("make_date", &["year", "month", "day"], false),
    ("make_time", &["hour", "min", "sec"], false),
    ("make_timestamp", &["year", "month", "mday", "hour", "min", "sec"], false),
    ("make_timestamptz", &["year", "month", "mday", "hour", "min", "sec", "timezone"], false),
    ("jsonb_set", &["jsonb_in", "path", "replacement", "create_if_missing"], false),
    ("jsonb_insert", &["jsonb_in", "path", "replacement", "insert_after"], false),
];

/// Arguments by position; `None`: there are no named ones.
pub(super) fn positional(function: &str, args: &[FunctionArg]) -> Result<Option<Vec<FunctionArg>>> {
    let is_named = |arg: &FunctionArg| {
        matches!(arg, FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. }) || assigned(arg).is_some()
    };
    if !args.iter().any(is_named) {
        return Ok(None);
    }
    let Some((_, names, zero)) = SIGNATURES.iter().find(|(name, ..)| *name == function) else {
        return Err(SqlError::unsupported(format!("function {function} with named arguments")));
    };
    let mut ordered: Vec<Option<FunctionArg>> = vec![None; names.len()];
    let mut named = false;
    for (at, arg) in args.iter().enumerate() {
        // `name := value`, the older way to write it.
        let arg = &assigned(arg).unwrap_or_else(|| arg.clone());
        let (place, value) = match arg {
            FunctionArg::Named { name, arg, .. } | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                named = true;
                let name = fold(name);
                let place = names.iter().position(|known| *known == name).ok_or_else(|| no_function(function))?;
                (place, arg.clone())
            }
            FunctionArg::Unnamed(value) if !named => (at, value.clone()),
            FunctionArg::Unnamed(_) => {
                let message = "positional argument cannot follow named argument";
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            FunctionArg::ExprNamed { .. } => return Err(SqlError::unsupported("an expression as an argument's name")),
        };
        let slot = ordered.get_mut(place).ok_or_else(|| no_function(function))?;
        if slot.is_some() {
            let message = format!("argument name \"{}\" used more than once", names[place]);
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        *slot = Some(FunctionArg::Unnamed(value));
    }
    while !zero && ordered.last().is_some_and(Option::is_none) {
        ordered.pop();
    }
    let literal = || {
        let zero = Value::Number("0".to_owned(), false);
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(zero.into())))
    };
    let filled = ordered.into_iter().map(|arg| match arg {
        Some(arg) => Ok(arg),
        None if *zero => Ok(literal()),
        None => Err(no_function(function)),
    });
    filled.collect::<Result<Vec<_>>>().map(Some)
}

/// `name := value` as a named argument.
fn assigned(arg: &FunctionArg) -> Option<FunctionArg> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Assignment, right })) =
        arg
    else {
        return None;
    };
    let Expr::Identifier(name) = left.as_ref() else { return None };
    let (name, arg) = (name.clone(), FunctionArgExpr::Expr(Expr::clone(right)));
    Some(FunctionArg::Named { name, arg, operator: FunctionArgOperator::Assignment })
}

fn no_function(function: &str) -> SqlError {
    let message = format!("function {function} does not exist with these argument names");
    SqlError::new(SqlState::UNDEFINED_FUNCTION, message)
}
