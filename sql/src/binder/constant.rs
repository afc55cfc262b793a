//! Constant folding, and the identities of AND, OR, NOT and CASE.

use super::Binder;
use super::scalar::Scalar;
use crate::functions::{EvalContext, Volatility};
use crate::types::{DataType, Datum};

impl Binder<'_> {
    /// Evaluates an immutable call of literals. One that fails is left for run time: it may never be reached.
    pub(super) fn fold_call(&self, scalar: Scalar) -> Scalar {
        fold(scalar, &self.context.eval)
    }
}

/// Evaluates an immutable call of literals.
pub(crate) fn fold(scalar: Scalar, eval: &EvalContext) -> Scalar {
    let Scalar::Call { function, args, data_type } = &scalar else { return scalar };
    if function.volatility != Volatility::Immutable || function.session {
        return scalar;
    }
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        let Scalar::Literal { value, .. } = arg else {
            if function.strict && args.iter().any(is_null) && !args.iter().any(fails) {
                return Scalar::null(*data_type);
            }
            return scalar;
        };
        values.push(value.clone());
    }
    if function.strict && values.iter().any(Datum::is_null) {
        return Scalar::null(*data_type);
    }
    match (function.eval)(eval, &values) {
        Ok(value) => Scalar::Literal { value, data_type: *data_type },
        Err(_) => scalar,
    }
}

/// Whether it is a call of literals that was not folded: its error is the statement's.
fn fails(scalar: &Scalar) -> bool {
    let Scalar::Call { function, args, .. } = scalar else { return false };
    function.volatility == Volatility::Immutable
        && !function.session
        && args.iter().all(|arg| matches!(arg, Scalar::Literal { .. }))
}

fn is_null(scalar: &Scalar) -> bool {
    matches!(scalar, Scalar::Literal { value: Datum::Null, .. })
}

/// The value of a literal condition: `Some(None)` is NULL.
pub(crate) fn known(scalar: &Scalar) -> Option<Option<bool>> {
    match scalar {
        Scalar::Literal { value: Datum::Bool(value), .. } => Some(Some(*value)),
        Scalar::Literal { value: Datum::Null, .. } => Some(None),
        _ => None,
    }
}

/// AND of conditions.
pub(crate) fn and(terms: Vec<Scalar>) -> Scalar {
    let mut kept = Vec::with_capacity(terms.len());
    for term in terms {
        match known(&term) {
            Some(Some(true)) => {}
            Some(Some(false)) => return Scalar::bool(false),
            _ => match term {
                Scalar::And(inner) => kept.extend(inner),
                term => kept.push(term),
            },
        }
    }
    match kept.len() {
        0 => Scalar::bool(true),
        1 => kept.remove(0),
        _ => Scalar::And(kept),
    }
}

/// OR of conditions.
pub(crate) fn or(terms: Vec<Scalar>) -> Scalar {
    let mut kept = Vec::with_capacity(terms.len());
    for term in terms {
        match known(&term) {
            Some(Some(false)) => {}
            Some(Some(true)) => return Scalar::bool(true),
            _ => match term {
                Scalar::Or(inner) => kept.extend(inner),
                term => kept.push(term),
            },
        }
    }
    match kept.len() {
        0 => Scalar::bool(false),
        1 => kept.remove(0),
        _ => Scalar::Or(kept),
    }
}

/// NOT of a condition.
pub(crate) fn not(term: Scalar) -> Scalar {
    use super::scalar::SubqueryKind;
    match term {
        Scalar::Literal { value: Datum::Bool(value), .. } => Scalar::bool(!value),
        Scalar::Literal { value: Datum::Null, .. } => Scalar::null(DataType::BOOL),
        Scalar::Not(inner) => *inner,
        Scalar::IsNull { expr, negated } => Scalar::IsNull { expr, negated: !negated },
        Scalar::InList { expr, list, negated } => Scalar::InList { expr, list, negated: !negated },
        Scalar::Distinct { left, right, negated } => Scalar::Distinct { left, right, negated: !negated },
        Scalar::Subquery(mut subquery) => match &mut subquery.kind {
            SubqueryKind::Exists { negated } => {
                *negated = !*negated;
                Scalar::Subquery(subquery)
            }
            _ => Scalar::Not(Box::new(Scalar::Subquery(subquery))),
        },
        term => Scalar::Not(Box::new(term)),
    }
}

/// CASE: branches that are known not to be taken go away.
pub(crate) fn case(branches: Vec<(Scalar, Scalar)>, otherwise: Option<Box<Scalar>>, data_type: DataType) -> Scalar {
    let mut kept = Vec::with_capacity(branches.len());
    let mut otherwise = otherwise;
    for (condition, result) in branches {
        match known(&condition) {
            Some(Some(true)) => {
                otherwise = Some(Box::new(result));
                break;
            }
            Some(_) => {}
            None => kept.push((condition, result)),
        }
    }
    if kept.is_empty() {
        return otherwise.map_or_else(|| Scalar::null(data_type), |otherwise| *otherwise);
    }
    Scalar::Case { branches: kept, otherwise, data_type }
}
