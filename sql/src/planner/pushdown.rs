//! Moves predicates to where they can first be decided, turns outer joins whose NULL rows are rejected
//! into inner ones, and subqueries in predicates into joins ([`super::decorrelate`]).

use super::Planner;
use super::column_set::ColumnSet;
use super::simplify::{conjuncts, implied_by_or, rejects_null, substitute};
use crate::binder::logical::Rel;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::plan::JoinKind;

impl Planner<'_> {
    /// Rewrites a tree.
    pub(super) fn optimize(&mut self, rel: Rel) -> Rel {
        self.push(rel, Vec::new())
    }

    /// Rewrites a tree under predicates that its output must meet.
    fn push(&mut self, rel: Rel, mut predicates: Vec<Scalar>) -> Rel {
        match rel {
            Rel::Filter { input, predicates: own } => {
                for predicate in own {
                    conjuncts(predicate, &mut predicates);
                }
                let (input, predicates) = self.unnest(*input, predicates);
                self.push(input, predicates)
            }
            Rel::Map { input, exprs } => {
                let fixed: ColumnSet = exprs
                    .iter()
                    .filter(|(_, expr)| expr.is_volatile() || expr.has_subquery())
                    .map(|(id, _)| *id)
                    .collect();
                let (stay, mut go) = split(predicates, |p| ColumnSet::of(p).intersects(&fixed) || p.is_volatile());
                go.iter_mut().for_each(|predicate| substitute(predicate, &exprs));
                let input = self.push(*input, go);
                let exprs = self.inner_all(exprs);
                self.above(Rel::Map { input: Box::new(input), exprs }, stay)
            }
            Rel::Join { kind: JoinKind::Right, left, right, on } => {
                self.push(Rel::Join { kind: JoinKind::Left, left: right, right: left, on }, predicates)
            }
            Rel::Join { kind, left, right, on } => self.push_join(kind, *left, *right, on, predicates),
            Rel::Aggregate { input, keys, aggregates, sets } => {
                let grouped: ColumnSet = keys.iter().map(|(id, _)| *id).collect();
                let computed: ColumnSet = aggregates.iter().map(|(id, _)| *id).collect();
                // One group over no rows still gives a row, and a NULL key of another grouping set is not the
                // column: only predicates on plain keys pass.
                let pushable = sets.is_none() && !keys.is_empty();
                let (stay, mut go) = split(predicates, |p| {
                    let used = ColumnSet::of(p);
                    !pushable
                        || used.intersects(&computed)
                        || !used.intersects(&grouped)
                        || p.is_volatile()
                        || p.has_subquery()
                });
                go.iter_mut().for_each(|predicate| substitute(predicate, &keys));
                let input = self.push(*input, go);
                self.above(Rel::Aggregate { input: Box::new(input), keys, aggregates, sets }, stay)
            }
            Rel::ProjectSet { input, sets } => {
                let produced: ColumnSet = sets.iter().map(|set| set.column).collect();
                let (stay, go) = split(predicates, |p| ColumnSet::of(p).intersects(&produced) || p.is_volatile());
                let input = self.push(*input, go);
                self.above(Rel::ProjectSet { input: Box::new(input), sets }, stay)
            }
            Rel::Distinct { input, columns, on: None } => {
                let (stay, go) = split(predicates, Scalar::is_volatile);
                let input = self.push(*input, go);
                self.above(Rel::Distinct { input: Box::new(input), columns, on: None }, stay)
            }
            Rel::Sort { input, keys } => {
                let input = self.push(*input, predicates);
                Rel::Sort { input: Box::new(input), keys }
            }
            Rel::With { ctes, input } => {
                let ctes = ctes
                    .into_iter()
                    .map(|mut cte| {
                        cte.query = self.optimize(cte.query);
                        cte.recursive = cte.recursive.map(|(term, output, all)| (self.optimize(term), output, all));
                        cte
                    })
                    .collect();
                let input = self.push(*input, predicates);
                Rel::With { ctes, input: Box::new(input) }
            }
            Rel::SetOp { operation, all, left, left_columns, right, right_columns, columns } => {
                let (stay, go) = split(predicates, |p| p.is_volatile() || p.has_subquery());
                let renamed = |to: &[ColumnId]| -> Vec<Scalar> {
                    let map: Vec<(ColumnId, Scalar)> =
                        columns.iter().zip(to).map(|(from, to)| (*from, self.columns.scalar(*to))).collect();
                    let mut moved = go.clone();
                    moved.iter_mut().for_each(|predicate| substitute(predicate, &map));
                    moved
                };
                let (for_left, for_right) = (renamed(&left_columns), renamed(&right_columns));
                let left = Box::new(self.push(*left, for_left));
                let right = Box::new(self.push(*right, for_right));
                let rel = Rel::SetOp { operation, all, left, left_columns, right, right_columns, columns };
                self.above(rel, stay)
            }
            mut other => {
                // Windows, limits, DISTINCT ON, locks, DML: nothing passes; leaves: nothing to pass to.
                let mut inputs = Vec::new();
                other.for_each_input_mut(&mut |input| inputs.push(std::mem::replace(input, Rel::unit())));
                let mut done = inputs.into_iter().map(|input| self.optimize(input)).collect::<Vec<_>>().into_iter();
                other.for_each_input_mut(&mut |input| {
                    if let Some(next) = done.next() {
                        *input = next;
                    }
                });
                self.inner_scalars(&mut other);
                self.above(other, predicates)
            }
        }
    }

    fn push_join(&mut self, kind: JoinKind, left: Rel, right: Rel, on: Vec<Scalar>, predicates: Vec<Scalar>) -> Rel {
        let (left_columns, right_columns) = (ColumnSet::output(&left), ColumnSet::output(&right));
        let mut conditions = Vec::new();
        on.into_iter().for_each(|condition| conjuncts(condition, &mut conditions));
        match kind {
            JoinKind::Inner => {
                conditions.extend(predicates);
                let (mut to_left, mut to_right, mut stay) = (Vec::new(), Vec::new(), Vec::new());
                for condition in conditions {
                    let used = ColumnSet::of(&condition);
                    if condition.is_volatile() {
                        stay.push(condition);
                    } else if !used.intersects(&right_columns) {
                        to_left.push(condition);
                    } else if !used.intersects(&left_columns) {
                        to_right.push(condition);
                    } else {
                        to_left.extend(implied_by_or(&condition, &left_columns));
                        to_right.extend(implied_by_or(&condition, &right_columns));
                        stay.push(condition);
                    }
                }
                let left = Box::new(self.push(left, to_left));
                let right = Box::new(self.push(right, to_right));
                let on = self.inner_list(stay);
                Rel::Join { kind, left, right, on }
            }
            JoinKind::Left => {
                if predicates.iter().any(|predicate| rejects_null(predicate, &right_columns)) {
                    return self.push_join(JoinKind::Inner, left, right, conditions, predicates);
                }
                let (above, to_left) =
                    split(predicates, |p| ColumnSet::of(p).intersects(&right_columns) || p.is_volatile());
                let (stay, to_right) =
                    split(conditions, |c| ColumnSet::of(c).intersects(&left_columns) || c.is_volatile());
                let left = Box::new(self.push(left, to_left));
                let right = Box::new(self.push(right, to_right));
                let on = self.inner_list(stay);
                self.above(Rel::Join { kind, left, right, on }, above)
            }
            JoinKind::Semi | JoinKind::Anti => {
                let (above, mut to_left) = split(predicates, Scalar::is_volatile);
                let (mut stay, to_right) =
                    split(conditions, |c| ColumnSet::of(c).intersects(&left_columns) || c.is_volatile());
                if kind == JoinKind::Semi {
                    let (both, only_left) = split(stay, |c| ColumnSet::of(c).intersects(&right_columns));
                    stay = both;
                    to_left.extend(only_left);
                }
                let left = Box::new(self.push(left, to_left));
                let right = Box::new(self.push(right, to_right));
                let on = self.inner_list(stay);
                self.above(Rel::Join { kind, left, right, on }, above)
            }
            JoinKind::Full => {
                let rejects = |columns: &ColumnSet| predicates.iter().any(|p| rejects_null(p, columns));
                match (rejects(&left_columns), rejects(&right_columns)) {
                    (true, true) => return self.push_join(JoinKind::Inner, left, right, conditions, predicates),
                    (true, false) => return self.push_join(JoinKind::Left, left, right, conditions, predicates),
                    (false, true) => return self.push_join(JoinKind::Left, right, left, conditions, predicates),
                    (false, false) => {}
                }
                let left = Box::new(self.optimize(left));
                let right = Box::new(self.optimize(right));
                let on = self.inner_list(conditions);
                self.above(Rel::Join { kind, left, right, on }, predicates)
            }
            JoinKind::Right => self.push_join(JoinKind::Left, right, left, conditions, predicates),
        }
    }

    /// Predicates that stay over an operator.
    fn above(&mut self, rel: Rel, predicates: Vec<Scalar>) -> Rel {
        let predicates = self.inner_list(predicates);
        rel.filtered(predicates)
    }

    fn inner_list(&mut self, mut scalars: Vec<Scalar>) -> Vec<Scalar> {
        scalars.iter_mut().for_each(|scalar| self.inner(scalar));
        scalars
    }

    fn inner_all(&mut self, mut exprs: Vec<(ColumnId, Scalar)>) -> Vec<(ColumnId, Scalar)> {
        exprs.iter_mut().for_each(|(_, expr)| self.inner(expr));
        exprs
    }

    fn inner_scalars(&mut self, rel: &mut Rel) {
        rel.for_each_scalar_mut(&mut |scalar| self.inner(scalar));
    }

    /// Rewrites the queries of the subqueries that stay in a scalar.
    fn inner(&mut self, scalar: &mut Scalar) {
        if !scalar.has_subquery() {
            return;
        }
        scalar.for_each_subquery_mut(&mut |query| {
            let taken = std::mem::replace(query, Rel::unit());
            *query = self.optimize(taken);
        });
    }
}

fn split(predicates: Vec<Scalar>, stays: impl Fn(&Scalar) -> bool) -> (Vec<Scalar>, Vec<Scalar>) {
    predicates.into_iter().partition(|predicate| stays(predicate))
}
