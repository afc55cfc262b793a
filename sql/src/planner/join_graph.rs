//! A tree of joins as a graph: leaves, what joins them, and what must come before what.
//!
//! Inner joins reorder freely. The right side of a left, semi or anti join is a leaf too, which may be
//! joined at any time after the leaves that its condition reads: those joins commute with inner joins on
//! other columns. So does a leaf that reads columns of others (LATERAL). Full joins stay as they are.

use super::Planner;
use super::column_set::ColumnSet;
use super::simplify::substitute;
use crate::binder::logical::{Rel, Scan};
use crate::binder::scalar::{ColumnId, Scalar};
use crate::plan::JoinKind;

/// Leaves are numbered; sets of leaves are bits.
pub(super) type Leaves = u64;

/// A join's input that is planned on its own.
#[derive(Debug)]
pub(super) struct Leaf<'r> {
    pub rel: &'r Rel,
    /// `Inner`, or how it is joined to what is there before it.
    pub kind: JoinKind,
    /// The condition of that join (not for inner ones).
    pub on: Vec<Scalar>,
    /// Leaves that must be there first.
    pub requires: Leaves,
    /// It reads columns of `requires` itself.
    pub lateral: bool,
    pub columns: ColumnSet,
}

impl<'r> Leaf<'r> {
    /// The table and its predicates, when it is one.
    pub fn scan(&self) -> Option<(&'r Scan, &'r [Scalar])> {
        match self.rel {
            Rel::Scan(scan) => Some((scan, &[])),
            Rel::Filter { input, predicates } => match input.as_ref() {
                Rel::Scan(scan) => Some((scan, predicates)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A predicate with the leaves that it reads.
#[derive(Debug)]
pub(super) struct Condition {
    pub scalar: Scalar,
    pub leaves: Leaves,
    /// For `left = right`: the leaves of both sides.
    pub sides: Option<(Leaves, Leaves)>,
}

/// The graph.
#[derive(Debug, Default)]
pub(super) struct JoinGraph<'r> {
    pub leaves: Vec<Leaf<'r>>,
    pub conditions: Vec<Condition>,
    /// Computed columns pulled above the joins.
    pub maps: Vec<(ColumnId, Scalar)>,
}

impl Planner<'_> {
    /// Takes a join tree with the predicates over it apart.
    pub(super) fn join_graph<'r>(&self, rel: &'r Rel, predicates: &[Scalar]) -> JoinGraph<'r> {
        let mut graph = JoinGraph::default();
        let mut conditions: Vec<Scalar> = predicates.to_vec();
        flatten(rel, &mut graph, &mut conditions);
        let maps = graph.maps.clone();
        conditions.iter_mut().for_each(|condition| substitute(condition, &maps));
        for leaf in &mut graph.leaves {
            leaf.on.iter_mut().for_each(|condition| substitute(condition, &maps));
        }
        let owner = |graph: &JoinGraph<'_>, set: &ColumnSet| -> Leaves {
            let leaves = graph.leaves.iter().enumerate().filter(|(_, leaf)| leaf.columns.intersects(set));
            leaves.fold(0, |bits, (at, _)| bits | 1 << at)
        };
        for at in 0..graph.leaves.len() {
            let mut read = ColumnSet::default();
            graph.leaves[at].on.iter().for_each(|condition| read.add(condition));
            let free = ColumnSet::free(graph.leaves[at].rel);
            let lateral = owner(&graph, &free) & !(1 << at);
            let mut requires = owner(&graph, &read) & !(1 << at) | lateral;
            if graph.leaves[at].kind != JoinKind::Inner && requires == 0 {
                // A condition on nothing to its left: the first leaf stands for "something".
                requires = if at == 0 { 0 } else { 1 };
            }
            graph.leaves[at].requires = requires;
            graph.leaves[at].lateral = lateral != 0;
        }
        graph.conditions = conditions
            .into_iter()
            .map(|scalar| {
                let leaves = owner(&graph, &ColumnSet::of(&scalar));
                let sides = self
                    .equi_sides(&scalar)
                    .map(|(left, right)| (owner(&graph, &ColumnSet::of(left)), owner(&graph, &ColumnSet::of(right))));
                Condition { scalar, leaves, sides }
            })
            .collect();
        graph
    }

    /// Both sides of an equality that a hash join can use.
    pub(super) fn equi_sides<'s>(&self, scalar: &'s Scalar) -> Option<(&'s Scalar, &'s Scalar)> {
        match scalar {
            Scalar::Distinct { left, right, negated: true } => Some((left.as_ref(), right.as_ref())),
            scalar => {
                let (left, right) = super::simplify::equality(scalar)?;
                // Values of different types have different hashes.
                hash_compatible(left, right).then_some((left, right))
            }
        }
        .filter(|(left, right)| {
            !left.is_volatile() && !right.is_volatile() && !left.has_subquery() && !right.has_subquery()
        })
    }
}

/// Whether equal values of both have equal hashes: numbers compare across widths by value, so only one
/// representation is safe.
fn hash_compatible(left: &Scalar, right: &Scalar) -> bool {
    use crate::types::BaseType as B;
    let (a, b) = (left.data_type(), right.data_type());
    let class = |base: B| match base {
        B::Text | B::Varchar | B::Name => 1,
        B::Int2 | B::Int4 | B::Int8 => 2,
        B::Oid | B::Regclass | B::Regtype | B::Regproc => 3,
        _ => 0,
    };
    a.same_type(b) || !a.array && !b.array && class(a.base) != 0 && class(a.base) == class(b.base)
}

fn flatten<'r>(rel: &'r Rel, graph: &mut JoinGraph<'r>, conditions: &mut Vec<Scalar>) {
    match rel {
        Rel::Join { kind: JoinKind::Inner, left, right, on } => {
            flatten(left, graph, conditions);
            flatten(right, graph, conditions);
            conditions.extend(on.iter().cloned());
        }
        Rel::Join { kind: kind @ (JoinKind::Left | JoinKind::Semi | JoinKind::Anti), left, right, on } => {
            flatten(left, graph, conditions);
            graph.add(right, *kind, on.clone());
        }
        Rel::Filter { input, predicates }
            if matches!(input.as_ref(), Rel::Join { kind, .. } if *kind != JoinKind::Full)
                && !predicates.iter().any(Scalar::is_volatile) =>
        {
            flatten(input, graph, conditions);
            conditions.extend(predicates.iter().cloned());
        }
        Rel::Map { input, exprs }
            if matches!(input.as_ref(), Rel::Join { kind, .. } if *kind != JoinKind::Full)
                && !exprs.iter().any(|(_, expr)| expr.is_volatile() || expr.has_subquery()) =>
        {
            flatten(input, graph, conditions);
            let mut exprs = exprs.clone();
            for (_, expr) in &mut exprs {
                substitute(expr, &graph.maps);
            }
            graph.maps.extend(exprs);
        }
        other => graph.add(other, JoinKind::Inner, Vec::new()),
    }
}

impl<'r> JoinGraph<'r> {
    fn add(&mut self, rel: &'r Rel, kind: JoinKind, on: Vec<Scalar>) {
        let columns = ColumnSet::output(rel);
        self.leaves.push(Leaf { rel, kind, on, requires: 0, lateral: false, columns });
    }
}
