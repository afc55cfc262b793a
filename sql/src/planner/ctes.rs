//! CTEs that are read once, have no effects and were not asked to be materialized are merged into the
//! query that reads them, as Postgres does since version 12: predicates can then reach into them.

use crate::binder::logical::Rel;
use crate::binder::scalar::{ColumnId, Scalar};

/// Merges all such CTEs of a statement.
pub(super) fn merge(rel: &mut Rel, output: &mut [ColumnId]) {
    loop {
        let mut counts: Vec<usize> = Vec::new();
        count(rel, &mut counts);
        let mut taken: Option<(usize, Rel, Vec<ColumnId>)> = None;
        rel.for_each_rel_mut(&mut |rel| {
            let Rel::With { ctes, input } = rel else { return };
            if taken.is_none()
                && let Some(at) = ctes.iter().position(|cte| {
                    !cte.materialized
                        && cte.recursive.is_none()
                        && counts.get(cte.id).copied() == Some(1)
                        && !has_effects(&cte.query)
                })
            {
                let cte = ctes.remove(at);
                taken = Some((cte.id, cte.query, cte.output));
            }
            // A SELECT that nobody reads need not run.
            ctes.retain(|cte| counts.get(cte.id).copied().unwrap_or(0) > 0 || has_effects(&cte.query));
            if ctes.is_empty() {
                *rel = std::mem::replace(input, Rel::unit());
            }
        });
        let Some((id, query, columns)) = taken else { return };
        let mut query = Some(query);
        let mut renames: Vec<(ColumnId, ColumnId)> = Vec::new();
        rel.for_each_rel_mut(&mut |rel| {
            if let Rel::Cte { id: read, columns: named, .. } = rel
                && *read == id
                && let Some(query) = query.take()
            {
                renames = named.iter().copied().zip(columns.iter().copied()).collect();
                *rel = query;
            }
        });
        rename(rel, &renames);
        for column in output.iter_mut() {
            *column = renamed(*column, &renames);
        }
    }
}

fn renamed(id: ColumnId, renames: &[(ColumnId, ColumnId)]) -> ColumnId {
    renames.iter().find(|(from, _)| *from == id).map_or(id, |(_, to)| *to)
}

/// Renames column references everywhere, lists of columns included.
fn rename(rel: &mut Rel, renames: &[(ColumnId, ColumnId)]) {
    let in_scalar = |scalar: &mut Scalar| {
        if let Scalar::Column { id, .. } = scalar {
            *id = renamed(*id, renames);
        }
        if let Scalar::Subquery(subquery) = scalar {
            subquery.output.iter_mut().for_each(|id| *id = renamed(*id, renames));
        }
    };
    rel.for_each_rel_mut(&mut |rel| {
        rel.for_each_scalar_mut(&mut |scalar| {
            rename_scalar(scalar, &in_scalar);
        });
        match rel {
            Rel::Distinct { columns, .. } => columns.iter_mut().for_each(|id| *id = renamed(*id, renames)),
            Rel::SetOp { left_columns, right_columns, .. } => {
                left_columns.iter_mut().chain(right_columns).for_each(|id| *id = renamed(*id, renames));
            }
            Rel::Aggregate { keys, .. } => {
                // A plain key goes by its column's own id.
                for (id, key) in keys {
                    if let Scalar::Column { id: read, .. } = key
                        && renamed(*id, renames) == *read
                    {
                        *id = *read;
                    }
                }
            }
            Rel::With { ctes, .. } => {
                for cte in ctes {
                    cte.output.iter_mut().for_each(|id| *id = renamed(*id, renames));
                    if let Some((_, output, _)) = &mut cte.recursive {
                        output.iter_mut().for_each(|id| *id = renamed(*id, renames));
                    }
                }
            }
            _ => {}
        }
    });
}

/// One scalar's own columns; those of its subqueries' queries are visited with their operators.
fn rename_scalar(scalar: &mut Scalar, rename: &dyn Fn(&mut Scalar)) {
    scalar.for_each_child_mut(&mut |child| rename_scalar(child, rename));
    rename(scalar);
}

fn count(rel: &Rel, counts: &mut Vec<usize>) {
    if let Rel::Cte { id, .. } = rel {
        if counts.len() <= *id {
            counts.resize(id + 1, 0);
        }
        counts[*id] += 1;
    }
    rel.for_each_input(&mut |input| count(input, counts));
    rel.for_each_scalar(&mut |scalar| count_in(scalar, counts));
}

fn count_in(scalar: &Scalar, counts: &mut Vec<usize>) {
    if let Scalar::Subquery(subquery) = scalar {
        count(&subquery.query, counts);
    }
    scalar.for_each_child(&mut |child| count_in(child, counts));
}

/// Whether it writes, locks rows or calls something volatile.
fn has_effects(rel: &Rel) -> bool {
    if matches!(rel, Rel::Insert(_) | Rel::Update(_) | Rel::Delete(_) | Rel::Lock { .. }) {
        return true;
    }
    let mut found = false;
    rel.for_each_scalar(&mut |scalar| found = found || scalar.is_volatile());
    rel.for_each_input(&mut |input| found = found || has_effects(input));
    found
}
