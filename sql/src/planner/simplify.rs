//! Predicates: substitution, OR factoring, and which of them reject NULLs.

use super::column_set::ColumnSet;
use crate::binder::constant;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::types::Datum;

/// Replaces columns by what defines them.
pub(super) fn substitute(scalar: &mut Scalar, definitions: &[(ColumnId, Scalar)]) {
    if definitions.is_empty() {
        return;
    }
    scalar.rewrite(&mut |part| {
        if let Scalar::Column { id, .. } = part
            && let Some((_, definition)) = definitions.iter().find(|(column, _)| column == id)
        {
            *part = definition.clone();
        }
    });
}

/// Flattens ANDs, and takes out of an OR what all its branches demand: `(a AND b) OR (a AND c)` is
/// `a AND (b OR c)`. Without it a join condition inside each branch (TPC-H 19) is not seen.
pub(super) fn conjuncts(predicate: Scalar, into: &mut Vec<Scalar>) {
    match predicate {
        Scalar::And(terms) => terms.into_iter().for_each(|term| conjuncts(term, into)),
        Scalar::Or(branches) => {
            let mut branches: Vec<Vec<Scalar>> = branches
                .into_iter()
                .map(|branch| match branch {
                    Scalar::And(terms) => terms,
                    term => vec![term],
                })
                .collect();
            let common: Vec<Scalar> = branches[0]
                .iter()
                .filter(|term| branches[1..].iter().all(|branch| branch.iter().any(|other| other.same(term))))
                .cloned()
                .collect();
            if common.is_empty() {
                into.push(Scalar::Or(branches.into_iter().map(constant::and).collect()));
                return;
            }
            for branch in &mut branches {
                branch.retain(|term| !common.iter().any(|shared| shared.same(term)));
            }
            into.extend(common);
            match constant::or(branches.into_iter().map(constant::and).collect()) {
                Scalar::Literal { value: Datum::Bool(true), .. } => {}
                rest => into.push(rest),
            }
        }
        Scalar::Literal { value: Datum::Bool(true), .. } => {}
        other => into.push(other),
    }
}

/// What an OR over columns of several relations says about each of them alone: from
/// `(a = 1 AND b = 2) OR (a = 3 AND b = 4)` follows `a = 1 OR a = 3`. The OR itself stays.
pub(super) fn implied_by_or(predicate: &Scalar, columns: &ColumnSet) -> Option<Scalar> {
    let Scalar::Or(branches) = predicate else { return None };
    let mut implied = Vec::with_capacity(branches.len());
    for branch in branches {
        let terms = match branch {
            Scalar::And(terms) => terms.as_slice(),
            term => std::slice::from_ref(term),
        };
        let own: Vec<Scalar> = terms
            .iter()
            .filter(|term| {
                let used = ColumnSet::of(term);
                !used.is_empty() && used.is_subset(columns) && !term.has_subquery() && !term.is_volatile()
            })
            .cloned()
            .collect();
        if own.is_empty() {
            return None;
        }
        implied.push(constant::and(own));
    }
    Some(constant::or(implied))
}

/// Whether a predicate is not true when all these columns are NULL: then an outer join that fills them
/// with NULL is an inner one.
pub(super) fn rejects_null(predicate: &Scalar, columns: &ColumnSet) -> bool {
    match predicate {
        Scalar::And(terms) => terms.iter().any(|term| rejects_null(term, columns)),
        Scalar::Or(terms) => terms.iter().all(|term| rejects_null(term, columns)),
        Scalar::Not(inner) => null_with(inner, columns),
        Scalar::IsNull { expr, negated: true } => null_with(expr, columns),
        Scalar::BooleanTest { expr, negated: false, .. } => null_with(expr, columns),
        Scalar::Literal { value: Datum::Null | Datum::Bool(false), .. } => true,
        other => null_with(other, columns),
    }
}

/// Whether a scalar is NULL when all these columns are.
fn null_with(scalar: &Scalar, columns: &ColumnSet) -> bool {
    match scalar {
        Scalar::Column { id, .. } => columns.contains(*id),
        Scalar::Call { function, args, .. } => function.strict && args.iter().any(|arg| null_with(arg, columns)),
        Scalar::Cast { expr, .. } | Scalar::Not(expr) => null_with(expr, columns),
        Scalar::InList { expr, .. } => null_with(expr, columns),
        Scalar::Quantified { expr, operator, all: false, .. } => operator.strict && null_with(expr, columns),
        Scalar::Literal { value, .. } => value.is_null(),
        Scalar::And(terms) | Scalar::Or(terms) => terms.iter().all(|term| null_with(term, columns)),
        _ => false,
    }
}

/// `left = right`, when the predicate is an equality.
pub(super) fn equality(predicate: &Scalar) -> Option<(&Scalar, &Scalar)> {
    match predicate {
        Scalar::Call { function, args, .. } if function.operator && function.name == "=" && args.len() == 2 => {
            Some((&args[0], &args[1]))
        }
        _ => None,
    }
}

/// Operator, column, other side — with the column moved to the left.
pub(super) fn comparison(predicate: &Scalar) -> Option<(&'static str, &Scalar, &Scalar)> {
    let Scalar::Call { function, args, .. } = predicate else { return None };
    if !function.operator || args.len() != 2 {
        return None;
    }
    let mirrored = match function.name {
        "=" => "=",
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        _ => return None,
    };
    match (&args[0], &args[1]) {
        (column @ Scalar::Column { .. }, other) => Some((function.name, column, other)),
        (other, column @ Scalar::Column { .. }) => Some((mirrored, column, other)),
        _ => None,
    }
}
