//! Subqueries in WHERE → joins.
//!
//! - `[NOT] EXISTS (q)` becomes a semi or anti join on the predicates of `q` that read outer columns.
//! - `x IN (q)` becomes a semi join; `x NOT IN (q)` an anti join, but only where neither side can be NULL
//!   (else a NULL in `q` must make the answer unknown, which a join cannot say).
//! - A scalar aggregate over rows that match the outer row (`x < (SELECT avg(y) … WHERE k = outer.k)`)
//!   becomes a left join with the aggregate grouped by `k`; where there are no rows, what the aggregates
//!   give over nothing (0 for count) is put in.
//!
//! What does not fit one of these stays a subquery and is run as one.

use super::Planner;
use super::column_set::ColumnSet;
use super::simplify::{conjuncts, equality, substitute};
use crate::binder::constant;
use crate::binder::logical::Rel;
use crate::binder::scalar::{ColumnId, Scalar, Subquery, SubqueryKind};
use crate::plan::JoinKind;
use crate::types::{DataType, Datum};

/// Kind, right side and condition.
type SemiJoin = (JoinKind, Rel, Vec<Scalar>);

impl Planner<'_> {
    /// Takes subqueries out of the predicates over `input`.
    pub(super) fn unnest(&mut self, mut input: Rel, predicates: Vec<Scalar>) -> (Rel, Vec<Scalar>) {
        if !predicates.iter().any(Scalar::has_subquery) {
            return (input, predicates);
        }
        let mut kept = Vec::with_capacity(predicates.len());
        let mut joins: Vec<SemiJoin> = Vec::new();
        for predicate in predicates {
            match predicate {
                Scalar::Subquery(subquery) => match self.semi_join(subquery) {
                    Ok(join) => joins.push(join),
                    Err(subquery) => kept.push(Scalar::Subquery(subquery)),
                },
                mut predicate => {
                    if predicate.has_subquery() {
                        input = self.join_scalar_subqueries(input, &mut predicate);
                    }
                    kept.push(predicate);
                }
            }
        }
        // Predicates on the input alone go below the joins when they are pushed on from here.
        for (kind, right, on) in joins {
            input = Rel::Join { kind, left: Box::new(input), right: Box::new(right), on };
        }
        (input, kept)
    }

    /// EXISTS, IN and NOT IN as (kind, right side, condition).
    fn semi_join(&mut self, subquery: Box<Subquery>) -> Result<SemiJoin, Box<Subquery>> {
        let kind = match &subquery.kind {
            SubqueryKind::Exists { negated } => {
                if *negated {
                    JoinKind::Anti
                } else {
                    JoinKind::Semi
                }
            }
            SubqueryKind::Quantified { operators, all: false, .. } if operators.iter().all(|op| op.name == "=") => {
                JoinKind::Semi
            }
            SubqueryKind::Quantified { left, operators, all: true }
                if operators.len() == 1
                    && operators[0].name == "<>"
                    && !self.nullable(&left[0])
                    && !self.nullable_output(&subquery.query, subquery.output[0]) =>
            {
                JoinKind::Anti
            }
            _ => return Err(subquery),
        };
        let exists = matches!(subquery.kind, SubqueryKind::Exists { .. });
        let free = ColumnSet::free(&subquery.query);
        if exists && free.is_empty() {
            // Asked once per statement as it is.
            return Err(subquery);
        }
        let original = subquery.clone();
        let Subquery { kind: asked, query, output, .. } = *subquery;
        let mut query = query;
        if exists {
            query = strip_for_exists(query);
        }
        let defined = ColumnSet::defined(&query);
        let mut on = Vec::new();
        let query = if free.is_empty() { query } else { pull_up(query, &defined, &mut on) };
        if !ColumnSet::free(&query).is_empty() || on.iter().any(Scalar::is_volatile) {
            return Err(original);
        }
        let mut outputs = ColumnSet::output(&query);
        if let SubqueryKind::Quantified { left, operators, .. } = asked {
            for ((left, operator), output) in left.into_iter().zip(operators).zip(&output) {
                outputs.insert(*output);
                let equal = match operator.name {
                    "=" => operator,
                    _ => match crate::binder::equal_operator(operator) {
                        Some(equal) => equal,
                        None => return Err(original),
                    },
                };
                on.push(Scalar::Call {
                    function: equal,
                    args: vec![left, self.columns.scalar(*output)],
                    data_type: DataType::BOOL,
                });
            }
        }
        // Pulled predicates may read only what the right side still puts out.
        let mut read = ColumnSet::default();
        on.iter().for_each(|condition| read.add(condition));
        let lost = read.minus(&outputs);
        let lost_inner: ColumnSet =
            (0..self.columns.infos.len()).filter(|id| lost.contains(*id) && defined.contains(*id)).collect();
        if !lost_inner.is_empty() {
            return Err(original);
        }
        Ok((kind, query, on))
    }

    /// Replaces correlated scalar aggregates inside a predicate by columns of a left join.
    fn join_scalar_subqueries(&mut self, input: Rel, predicate: &mut Scalar) -> Rel {
        let mut input = Some(input);
        self.replace_scalar(&mut input, predicate);
        input.expect("put back after every step")
    }

    fn replace_scalar(&mut self, input: &mut Option<Rel>, scalar: &mut Scalar) {
        if let Scalar::Subquery(subquery) = scalar
            && matches!(subquery.kind, SubqueryKind::Scalar)
        {
            if let Some((right, on, value)) = self.grouped_subquery(subquery) {
                let left = input.take().expect("put back after every step");
                *input = Some(Rel::Join { kind: JoinKind::Left, left: Box::new(left), right: Box::new(right), on });
                *scalar = value;
            }
            return;
        }
        // Only where it is evaluated whatever the others give: an error in a branch not taken must not show.
        match scalar {
            Scalar::Call { .. } | Scalar::Cast { .. } | Scalar::Not(_) | Scalar::InList { .. } => {
                scalar.for_each_child_mut(&mut |child| self.replace_scalar(input, child));
            }
            _ => {}
        }
    }

    /// The aggregate grouped by its correlation: right side, join condition, and the value to read.
    fn grouped_subquery(&mut self, subquery: &Subquery) -> Option<(Rel, Vec<Scalar>, Scalar)> {
        if ColumnSet::free(&subquery.query).is_empty() {
            return None;
        }
        let (exprs, aggregate) = match &subquery.query {
            Rel::Map { input, exprs } => (exprs.clone(), input.as_ref()),
            other => (Vec::new(), other),
        };
        let Rel::Aggregate { input, keys, aggregates, sets: None } = aggregate else { return None };
        if !keys.is_empty() || exprs.iter().any(|(_, expr)| expr.has_subquery() || expr.is_volatile()) {
            return None;
        }
        let defined = ColumnSet::defined(&subquery.query);
        let mut pulled = Vec::new();
        let inner = pull_up(input.as_ref().clone(), &defined, &mut pulled);
        let mut remaining = ColumnSet::free(&inner);
        aggregates.iter().for_each(|(_, aggregate)| {
            aggregate.for_each_scalar(&mut |scalar| {
                remaining.union_with(&ColumnSet::of(scalar).minus(&defined));
            })
        });
        exprs.iter().for_each(|(_, expr)| remaining.union_with(&ColumnSet::of(expr).minus(&defined)));
        if !remaining.is_empty() || pulled.is_empty() {
            return None;
        }
        let mut keys: Vec<(ColumnId, Scalar)> = Vec::new();
        let mut on = Vec::new();
        for condition in pulled {
            let (left, right) = equality(&condition)?;
            let inside =
                |scalar: &Scalar| ColumnSet::of(scalar).is_subset(&defined) && !ColumnSet::of(scalar).is_empty();
            let outside = |scalar: &Scalar| !ColumnSet::of(scalar).intersects(&defined);
            let (own, flipped) = match (inside(left) && outside(right), inside(right) && outside(left)) {
                (true, _) => (left.clone(), false),
                (_, true) => (right.clone(), true),
                _ => return None,
            };
            let id = match keys.iter().find(|(_, key)| key.same(&own)) {
                Some((id, _)) => *id,
                None => {
                    let id = match &own {
                        Scalar::Column { id, .. } => *id,
                        own => self.columns.add(own.data_type(), "key"),
                    };
                    keys.push((id, own));
                    id
                }
            };
            let mut joined = condition.clone();
            if let Scalar::Call { args, .. } = &mut joined {
                args[usize::from(flipped)] = self.columns.scalar(id);
            }
            on.push(joined);
        }
        let marker = self.columns.scalar(keys[0].0);
        let output = subquery.output[0];
        let over_nothing: Vec<(ColumnId, Scalar)> = aggregates
            .iter()
            .map(|(id, aggregate)| {
                let value = match aggregate.function.name {
                    "count" | "regr_count" => Scalar::Literal { value: Datum::Int8(0), data_type: DataType::INT8 },
                    _ => Scalar::null(aggregate.data_type),
                };
                (*id, value)
            })
            .collect();
        let mut empty = exprs
            .iter()
            .find(|(id, _)| *id == output)
            .map_or_else(|| self.columns.scalar(output), |(_, expr)| expr.clone());
        substitute(&mut empty, &over_nothing);
        let eval = &self.context.eval;
        empty.rewrite(&mut |part| {
            let taken = std::mem::replace(part, Scalar::bool(true));
            *part = constant::fold(taken, eval);
        });
        let value = self.columns.scalar(output);
        let value = match &empty {
            Scalar::Literal { value: Datum::Null, .. } => value,
            _ => {
                let data_type = value.data_type();
                let missing = Scalar::IsNull { expr: Box::new(marker), negated: false };
                Scalar::Case { branches: vec![(missing, empty)], otherwise: Some(Box::new(value)), data_type }
            }
        };
        let right = Rel::Aggregate { input: Box::new(inner), keys, aggregates: aggregates.clone(), sets: None };
        Some((right.mapped(exprs), on, value))
    }

    /// Whether a scalar may be NULL.
    fn nullable(&self, scalar: &Scalar) -> bool {
        match scalar {
            Scalar::Literal { value, .. } => value.is_null(),
            Scalar::Column { id, .. } => {
                self.columns.table_column(*id).is_none_or(|(table, position)| !table.columns[position].not_null)
                    || self.null_extended.contains(*id)
            }
            _ => true,
        }
    }

    /// Whether a query's output column may be NULL: it is not when it is a NOT NULL column that no outer
    /// join has filled.
    fn nullable_output(&self, query: &Rel, id: ColumnId) -> bool {
        match query {
            Rel::Scan(_) => self.nullable(&self.columns.scalar(id)),
            Rel::Filter { input, .. } | Rel::Sort { input, .. } | Rel::Limit { input, .. } => {
                self.nullable_output(input, id)
            }
            Rel::Map { input, exprs } => match exprs.iter().find(|(column, _)| *column == id) {
                Some((_, expr)) => match expr {
                    Scalar::Column { id, .. } => self.nullable_output(input, *id),
                    Scalar::Literal { value, .. } => value.is_null(),
                    _ => true,
                },
                None => self.nullable_output(input, id),
            },
            Rel::Join { kind: JoinKind::Inner, left, right, .. } => {
                let side = if ColumnSet::output(left).contains(id) { left } else { right };
                self.nullable_output(side, id)
            }
            Rel::Distinct { input, on: None, .. } => self.nullable_output(input, id),
            Rel::Aggregate { input, keys, sets: None, .. } => match keys.iter().find(|(key, _)| *key == id) {
                Some((_, Scalar::Column { id, .. })) => self.nullable_output(input, *id),
                _ => true,
            },
            _ => true,
        }
    }
}

/// For EXISTS only whether there is a row matters.
fn strip_for_exists(rel: Rel) -> Rel {
    match rel {
        Rel::Map { input, .. } | Rel::Sort { input, .. } | Rel::Distinct { input, on: None, .. } => {
            strip_for_exists(*input)
        }
        Rel::Limit { input, limit: Some(Scalar::Literal { value: Datum::Int8(1..), .. }) | None, offset: None } => {
            strip_for_exists(*input)
        }
        other => other,
    }
}

/// Takes predicates that read columns from outside (not in `defined`) out of a tree, where they may move
/// up: out of filters, and of the conditions of inner joins, under operators that keep rows as they are.
fn pull_up(rel: Rel, defined: &ColumnSet, pulled: &mut Vec<Scalar>) -> Rel {
    match rel {
        Rel::Filter { input, predicates } => {
            let mut all = Vec::new();
            predicates.into_iter().for_each(|predicate| conjuncts(predicate, &mut all));
            let (outer, own): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|predicate| !ColumnSet::of(predicate).is_subset(defined));
            // A subquery that itself reaches out further is left alone.
            let (stay, go): (Vec<_>, Vec<_>) = outer.into_iter().partition(Scalar::has_subquery);
            pulled.extend(go);
            let input = pull_up(*input, defined, pulled);
            input.filtered(own.into_iter().chain(stay).collect())
        }
        Rel::Join { kind: JoinKind::Inner, left, right, on } => {
            let (outer, own): (Vec<_>, Vec<_>) =
                on.into_iter().partition(|condition| !ColumnSet::of(condition).is_subset(defined));
            pulled.extend(outer);
            let left = Box::new(pull_up(*left, defined, pulled));
            let right = Box::new(pull_up(*right, defined, pulled));
            Rel::Join { kind: JoinKind::Inner, left, right, on: own }
        }
        Rel::Map { input, exprs } => {
            let input = pull_up(*input, defined, pulled);
            Rel::Map { input: Box::new(input), exprs }
        }
        Rel::Sort { input, keys } => {
            let input = pull_up(*input, defined, pulled);
            Rel::Sort { input: Box::new(input), keys }
        }
        other => other,
    }
}
