//! Builds the plan of a join tree in the order that [`super::join_order`] has chosen.

use hashbrown::HashMap;

use super::Planner;
use super::column_set::ColumnSet;
use super::cost;
use super::join_graph::{JoinGraph, Leaves};
use super::join_order::{Choice, LeafInfo, Method, Orderer};
use super::physical::{Demand, Physical, want};
use crate::binder::logical::Rel;
use crate::binder::scalar::{ColumnId, Scalar};
use crate::error::{Result, SqlError};
use crate::plan::{JoinKind, Node};

/// Keys of an equality: left side, right side, NULLs equal.
type HashKeys<'s> = (&'s Scalar, &'s Scalar, bool);

impl Planner<'_> {
    /// Plans a join tree with predicates over it.
    pub(super) fn plan_join(&mut self, rel: &Rel, predicates: &[Scalar], demand: &Demand<'_>) -> Result<Physical> {
        if let Rel::Join { kind: JoinKind::Full, left, right, on } = rel {
            let joined = self.full_join(left, right, on, predicates, demand)?;
            return self.filtered(joined, predicates);
        }
        let graph = self.join_graph(rel, predicates);
        let mut wanted: Vec<ColumnId> = Vec::new();
        for id in demand.columns {
            match graph.maps.iter().find(|(column, _)| column == id) {
                Some((_, expr)) => want(expr, &mut wanted),
                None => want(&self.columns.scalar(*id), &mut wanted),
            }
        }
        graph.conditions.iter().for_each(|condition| want(&condition.scalar, &mut wanted));
        graph.leaves.iter().flat_map(|leaf| &leaf.on).for_each(|condition| want(condition, &mut wanted));
        // What lateral leaves read of others.
        for leaf in graph.leaves.iter().filter(|leaf| leaf.lateral) {
            leaf.rel.for_each_scalar_deep(&mut |scalar| want(scalar, &mut wanted));
        }

        let mut infos = Vec::with_capacity(graph.leaves.len());
        let mut plans: Vec<Option<Physical>> = Vec::with_capacity(graph.leaves.len());
        for leaf in &graph.leaves {
            let table_rows = leaf.scan().map(|(scan, _)| self.table_rows(&scan.table));
            if leaf.lateral {
                infos.push(LeafInfo {
                    rows: cost::FUNCTION_ROWS,
                    cost: cost::FUNCTION_ROWS * cost::ROW,
                    table_rows: None,
                });
                plans.push(None);
                continue;
            }
            let own: Vec<ColumnId> = wanted.iter().copied().filter(|id| leaf.columns.contains(*id)).collect();
            let plan = self.plan_rel(leaf.rel, &Demand::all(&own))?;
            infos.push(LeafInfo { rows: plan.plan.rows.max(1.0), cost: plan.plan.total_cost, table_rows });
            plans.push(Some(plan));
        }
        let all: Leaves = if graph.leaves.len() == 64 { !0 } else { (1 << graph.leaves.len()) - 1 };
        let choices = Orderer::new(self, &graph, &infos).solve();
        let joined = self.build(all, &graph, &infos, &choices, &mut plans, &wanted)?;
        // Predicates that read no leaf at all (of queries around, or constant).
        let outer: Vec<Scalar> = graph.conditions.iter().filter(|c| c.leaves == 0).map(|c| c.scalar.clone()).collect();
        let joined = self.filtered(joined, &outer)?;
        if graph.maps.iter().any(|(id, _)| demand.columns.contains(id)) {
            return self.computed(joined, &graph.maps, demand);
        }
        Ok(joined)
    }

    /// Adds computed columns to a plan.
    fn computed(&mut self, input: Physical, maps: &[(ColumnId, Scalar)], demand: &Demand<'_>) -> Result<Physical> {
        let mut layout = Vec::new();
        let mut exprs = Vec::new();
        for id in demand.columns {
            if layout.contains(id) {
                continue;
            }
            let expr = match maps.iter().find(|(column, _)| column == id) {
                Some((_, expr)) => expr.clone(),
                None if input.layout.contains(id) => self.columns.scalar(*id),
                None => continue,
            };
            exprs.push(self.lower(&expr, &input.layout)?);
            layout.push(*id);
        }
        let (rows, startup) = (input.plan.rows, input.plan.startup_cost);
        let total = input.plan.total_cost + rows * cost::OPERATOR * exprs.len() as f64;
        let node = Node::Project { input: Box::new(input.plan), exprs };
        Ok(self.physical(node, layout, rows, startup, total))
    }

    fn build(
        &mut self,
        set: Leaves,
        graph: &JoinGraph<'_>,
        infos: &[LeafInfo],
        choices: &HashMap<Leaves, Choice>,
        plans: &mut [Option<Physical>],
        wanted: &[ColumnId],
    ) -> Result<Physical> {
        let choice =
            choices.get(&set).ok_or_else(|| SqlError::internal(format!("no join order for leaves {set:b}")))?;
        let Some((left_set, right_set, method)) = choice.split else {
            let plan = plans[set.trailing_zeros() as usize].take();
            return plan.ok_or_else(|| SqlError::internal("a leaf of a join is used twice"));
        };
        let left = self.build(left_set, graph, infos, choices, plans, wanted)?;
        let at = right_set.trailing_zeros() as usize;
        let single = right_set.count_ones() == 1;
        let (kind, lateral) =
            if single { (graph.leaves[at].kind, graph.leaves[at].lateral) } else { (JoinKind::Inner, false) };
        // Conditions that can be decided here for the first time.
        let here: Vec<Scalar> = graph
            .conditions
            .iter()
            .filter(|c| {
                c.leaves != 0 && c.leaves & !set == 0 && c.leaves & !left_set != 0 && c.leaves & !right_set != 0
            })
            .map(|c| c.scalar.clone())
            .collect();
        // Of one leaf alone, and not pushed to it (volatile, or on the nullable side of an outer join).
        let alone = |bits: Leaves| -> Vec<Scalar> {
            if bits.count_ones() != 1 {
                return Vec::new();
            }
            graph.conditions.iter().filter(|c| c.leaves == bits).map(|c| c.scalar.clone()).collect()
        };
        let (mut on, mut after) = match kind {
            JoinKind::Inner => (here, Vec::new()),
            _ => (graph.leaves[at].on.clone(), here),
        };
        let left = self.filtered(left, &alone(left_set))?;
        after.extend(alone(right_set));
        if kind == JoinKind::Inner {
            on.append(&mut after);
        }
        let estimate = (choice.rows, choice.cost);
        let joined = if lateral {
            self.lateral_join(kind, left, graph.leaves[at].rel, &graph.leaves[at].columns, &on, wanted, estimate)?
        } else if method == Method::Index {
            let path = Orderer::new(self, graph, infos)
                .index_path(left_set, at)
                .ok_or_else(|| SqlError::internal("the index of a join is gone"))?;
            let predicates = Orderer::new(self, graph, infos).lookup_predicates(
                left_set,
                at,
                graph.leaves[at].scan().map_or(&[][..], |(_, own)| own),
            );
            plans[at] = None;
            self.index_join(kind, left, graph, at, path, predicates, on, wanted, estimate)?
        } else {
            let right = self.build(right_set, graph, infos, choices, plans, wanted)?;
            self.join_plans(kind, left, right, on, estimate)?
        };
        self.filtered(joined, &after)
    }

    /// The keys of an equality between other columns and those of `right`: other side first.
    pub(super) fn hash_keys<'s>(&self, condition: &'s Scalar, right: &ColumnSet) -> Option<HashKeys<'s>> {
        let (a, b) = self.equi_sides(condition)?;
        let null_safe = matches!(condition, Scalar::Distinct { .. });
        let (in_a, in_b) = (ColumnSet::of(a), ColumnSet::of(b));
        if in_b.is_subset(right) && !in_b.is_empty() && !in_a.intersects(right) {
            Some((a, b, null_safe))
        } else if in_a.is_subset(right) && !in_a.is_empty() && !in_b.intersects(right) {
            Some((b, a, null_safe))
        } else {
            None
        }
    }

    /// A hash join where there is an equality, else a nested loop.
    fn join_plans(
        &mut self,
        kind: JoinKind,
        left: Physical,
        right: Physical,
        on: Vec<Scalar>,
        (rows, total): (f64, f64),
    ) -> Result<Physical> {
        let right_columns: ColumnSet = right.layout.iter().copied().collect();
        let left_columns: ColumnSet = left.layout.iter().copied().collect();
        let mut keys: Vec<(Scalar, Scalar, bool)> = Vec::new();
        let mut rest = Vec::new();
        for condition in on {
            match self.hash_keys(&condition, &right_columns) {
                Some((l, r, null_safe)) if ColumnSet::of(l).intersects(&left_columns) => {
                    keys.push((l.clone(), r.clone(), null_safe));
                }
                _ => rest.push(condition),
            }
        }
        let mut layout = left.layout.clone();
        layout.extend(&right.layout);
        let output = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { left.layout.clone() } else { layout.clone() };
        if keys.is_empty() {
            let on = self.lower_conjunction(&rest, &layout)?;
            let startup = left.plan.startup_cost + right.plan.startup_cost;
            let node = Node::NestedLoopJoin {
                kind,
                left: Box::new(left.plan),
                right: Box::new(right.plan),
                on,
                lateral: false,
            };
            return Ok(self.physical(node, output, rows, startup, total));
        }
        let mut left_keys = Vec::with_capacity(keys.len());
        let mut right_keys = Vec::with_capacity(keys.len());
        for (l, r, _) in &keys {
            left_keys.push(self.lower(l, &left.layout)?);
            right_keys.push(self.lower(r, &right.layout)?);
        }
        let filter = self.lower_conjunction(&rest, &layout)?;
        let startup = right.plan.total_cost + right.plan.rows * cost::HASH_BUILD;
        let node = Node::HashJoin {
            kind,
            left: Box::new(left.plan),
            right: Box::new(right.plan),
            left_keys,
            right_keys,
            null_safe: keys.iter().map(|(_, _, null_safe)| *null_safe).collect(),
            filter,
        };
        Ok(self.physical(node, output, rows, startup, total))
    }

    #[allow(clippy::too_many_arguments)]
    fn index_join(
        &mut self,
        kind: JoinKind,
        left: Physical,
        graph: &JoinGraph<'_>,
        at: usize,
        path: super::access::IndexPath,
        predicates: Vec<Scalar>,
        on: Vec<Scalar>,
        wanted: &[ColumnId],
        (rows, total): (f64, f64),
    ) -> Result<Physical> {
        let leaf = &graph.leaves[at];
        let (scan, _) = leaf.scan().ok_or_else(|| SqlError::internal("an index join needs a table"))?;
        let mut filters: Vec<Scalar> = predicates
            .into_iter()
            .enumerate()
            .filter(|(position, _)| !path.decided.contains(position))
            .map(|(_, predicate)| predicate)
            .collect();
        let decided = |condition: &Scalar| graph.conditions.iter().any(|c| c.scalar.same(condition));
        // Conditions that the lookup did not get to see (not joining these two alone).
        for condition in on {
            let seen = leaf.kind != JoinKind::Inner
                || decided(&condition) && {
                    let used = ColumnSet::of(&condition);
                    used.intersects(&leaf.columns) && !used.is_subset(&leaf.columns)
                };
            if !seen {
                filters.push(condition);
            }
        }
        let own: Vec<ColumnId> = wanted.iter().copied().filter(|id| leaf.columns.contains(*id)).collect();
        let (mut right_layout, mut output) = self.scan_output(scan, filters.iter(), &Demand::all(&own));
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            // Only the filter reads the right row.
            (right_layout, output) = self.scan_output(scan, filters.iter(), &Demand::all(&[]));
        }
        let range = self.range(&path, &left.layout)?;
        let mut layout = left.layout.clone();
        layout.extend(right_layout);
        let filter = self.lower_conjunction(&filters, &layout)?;
        let visible = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { left.layout } else { layout };
        let startup = left.plan.startup_cost;
        let node = Node::IndexJoin {
            kind,
            left: Box::new(left.plan),
            table: scan.table.clone(),
            index: path.index,
            range,
            output,
            filter,
        };
        Ok(self.physical(node, visible, rows, startup, total))
    }

    #[allow(clippy::too_many_arguments)]
    fn lateral_join(
        &mut self,
        kind: JoinKind,
        left: Physical,
        rel: &Rel,
        columns: &ColumnSet,
        on: &[Scalar],
        wanted: &[ColumnId],
        (rows, total): (f64, f64),
    ) -> Result<Physical> {
        let own: Vec<ColumnId> = wanted.iter().copied().filter(|id| columns.contains(*id)).collect();
        self.outer.push(left.layout.clone());
        let right = self.plan_rel(rel, &Demand::all(&own));
        self.outer.pop();
        let right = right?;
        let mut layout = left.layout.clone();
        layout.extend(&right.layout);
        let output = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { left.layout } else { layout.clone() };
        let on = self.lower_conjunction(on, &layout)?;
        let startup = left.plan.startup_cost;
        let node =
            Node::NestedLoopJoin { kind, left: Box::new(left.plan), right: Box::new(right.plan), on, lateral: true };
        Ok(self.physical(node, output, rows, startup, total))
    }

    fn full_join(
        &mut self,
        left: &Rel,
        right: &Rel,
        on: &[Scalar],
        predicates: &[Scalar],
        demand: &Demand<'_>,
    ) -> Result<Physical> {
        let mut wanted = demand.columns.to_vec();
        on.iter().chain(predicates).for_each(|scalar| want(scalar, &mut wanted));
        let (mut from_left, mut from_right) = (wanted.clone(), wanted);
        self.keep_available(left, &mut from_left);
        self.keep_available(right, &mut from_right);
        let left = self.plan_rel(left, &Demand::all(&from_left))?;
        let right = self.plan_rel(right, &Demand::all(&from_right))?;
        let rows = left.plan.rows + right.plan.rows;
        let total = left.plan.total_cost + right.plan.total_cost + rows * cost::HASH_BUILD;
        self.join_plans(JoinKind::Full, left, right, on.to_vec(), (rows, total))
    }
}
