//! Which joins, in which order: dynamic programming over sets of leaves while they are few, greedy beyond.
//! Only numbers are handled here; the plan of the order chosen is built by [`super::join`].

use hashbrown::HashMap;

use super::Planner;
use super::access::IndexPath;
use super::cost;
use super::estimate::unique_keys;
use super::join_graph::{JoinGraph, Leaves};
use crate::binder::scalar::Scalar;
use crate::plan::JoinKind;

/// Up to so many leaves every order is looked at.
const EXHAUSTIVE: usize = 10;

/// How two inputs are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Hash,
    NestedLoop,
    /// Through an index of the right leaf: position among [`LeafInfo::paths`] is found anew when building.
    Index,
}

/// The best way found to join a set of leaves.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub rows: f64,
    pub cost: f64,
    /// Left set, right set, method; none for a single leaf.
    pub split: Option<(Leaves, Leaves, Method)>,
}

/// What is known of a leaf.
#[derive(Debug)]
pub(super) struct LeafInfo {
    /// Rows after its own predicates.
    pub rows: f64,
    /// Cost of its own best plan.
    pub cost: f64,
    /// Rows of the table before predicates, for index lookups.
    pub table_rows: Option<f64>,
}

/// Costs of the joins of one graph.
pub(super) struct Orderer<'p, 'c, 'g, 'r> {
    pub planner: &'p Planner<'c>,
    pub graph: &'g JoinGraph<'r>,
    pub infos: &'g [LeafInfo],
    /// Selectivity of each condition.
    selectivities: Vec<f64>,
}

impl<'p, 'c, 'g, 'r> Orderer<'p, 'c, 'g, 'r> {
    pub fn new(planner: &'p Planner<'c>, graph: &'g JoinGraph<'r>, infos: &'g [LeafInfo]) -> Self {
        let mut orderer = Self { planner, graph, infos, selectivities: Vec::new() };
        orderer.selectivities = orderer.condition_selectivities();
        orderer
    }

    /// Conditions that together equate a unique key with another leaf are not independent: the pair gives
    /// one row of the key's table for each row of the other.
    fn condition_selectivities(&self) -> Vec<f64> {
        let conditions = &self.graph.conditions;
        let mut selectivities: Vec<f64> =
            conditions.iter().map(|condition| self.planner.selectivity(&condition.scalar)).collect();
        for (at, leaf) in self.graph.leaves.iter().enumerate() {
            let Some((scan, _)) = leaf.scan() else { continue };
            for other in 0..self.graph.leaves.len() {
                if other == at {
                    continue;
                }
                let pair = 1 << at | 1 << other;
                let equated: Vec<(usize, usize)> = conditions
                    .iter()
                    .enumerate()
                    .filter(|(_, condition)| condition.leaves == pair && condition.sides.is_some())
                    .filter_map(|(index, condition)| {
                        let (left, right) = super::simplify::equality(&condition.scalar)?;
                        [left, right].into_iter().find_map(|side| match side {
                            Scalar::Column { id, .. } if scan.columns().contains(id) => Some((index, id - scan.first)),
                            _ => None,
                        })
                    })
                    .collect();
                if equated.len() < 2 {
                    continue;
                }
                let whole = unique_keys(&scan.table)
                    .find(|key| key.iter().all(|column| equated.iter().any(|(_, position)| position == column)));
                if let Some(key) = whole {
                    let mut first = true;
                    for (index, position) in &equated {
                        if key.contains(position) {
                            selectivities[*index] =
                                if first { 1.0 / self.planner.table_rows(&scan.table) } else { 1.0 };
                            first = false;
                        }
                    }
                }
            }
        }
        selectivities
    }

    /// The best choice for every set reached.
    pub fn solve(&self) -> HashMap<Leaves, Choice> {
        let count = self.graph.leaves.len();
        let mut best: HashMap<Leaves, Choice> = HashMap::new();
        for (at, info) in self.infos.iter().enumerate() {
            best.insert(1 << at, Choice { rows: info.rows, cost: info.cost, split: None });
        }
        if count <= EXHAUSTIVE {
            self.exhaustive(&mut best)
        } else {
            self.greedy(&mut best)
        }
        best
    }

    fn exhaustive(&self, best: &mut HashMap<Leaves, Choice>) {
        let all: Leaves = (1 << self.graph.leaves.len()) - 1;
        for set in 1..=all {
            if set.count_ones() < 2 {
                continue;
            }
            let mut found: Option<Choice> = None;
            for connected in [true, false] {
                let mut left = (set - 1) & set;
                while left != 0 {
                    let right = set & !left;
                    if self.allowed(left, right)
                        && (!connected || self.connected(left, right))
                        && let (Some(l), Some(r)) = (best.get(&left), best.get(&right))
                        && (l.split.is_some() || self.may_start(left))
                    {
                        let choice = self.join(set, left, right, l, r);
                        if found.as_ref().is_none_or(|found| choice.cost < found.cost) {
                            found = Some(choice);
                        }
                    }
                    left = (left - 1) & set;
                }
                if found.is_some() {
                    break;
                }
            }
            if let Some(choice) = found {
                best.insert(set, choice);
            }
        }
    }

    /// Joins whatever pair is cheapest next.
    fn greedy(&self, best: &mut HashMap<Leaves, Choice>) {
        let mut parts: Vec<Leaves> = (0..self.graph.leaves.len()).map(|at| 1 << at).collect();
        while parts.len() > 1 {
            let mut found: Option<(usize, usize, Choice)> = None;
            for connected in [true, false] {
                for (a, left) in parts.iter().enumerate() {
                    for (b, right) in parts.iter().enumerate() {
                        if a == b
                            || !self.allowed(*left, *right)
                            || connected && !self.connected(*left, *right)
                            || left.count_ones() == 1 && !self.may_start(*left)
                        {
                            continue;
                        }
                        let choice = self.join(left | right, *left, *right, &best[left], &best[right]);
                        let better = found
                            .as_ref()
                            .is_none_or(|(.., found)| (choice.rows, choice.cost) < (found.rows, found.cost));
                        if better {
                            found = Some((a, b, choice));
                        }
                    }
                }
                if found.is_some() {
                    break;
                }
            }
            let Some((a, b, choice)) = found else { return };
            let set = parts[a] | parts[b];
            best.insert(set, choice);
            let (low, high) = (a.min(b), a.max(b));
            parts.remove(high);
            parts.remove(low);
            parts.push(set);
        }
    }

    /// Whether a single leaf may be the beginning of a join.
    fn may_start(&self, set: Leaves) -> bool {
        let leaf = &self.graph.leaves[set.trailing_zeros() as usize];
        leaf.kind == JoinKind::Inner && leaf.requires == 0
    }

    /// Whether the right set can be joined to the left one.
    fn allowed(&self, left: Leaves, right: Leaves) -> bool {
        if right.count_ones() == 1 {
            let leaf = &self.graph.leaves[right.trailing_zeros() as usize];
            return leaf.requires & !left == 0;
        }
        // A leaf that needs others is joined before its set becomes somebody's right side.
        true
    }

    fn connected(&self, left: Leaves, right: Leaves) -> bool {
        if right.count_ones() == 1 {
            let leaf = &self.graph.leaves[right.trailing_zeros() as usize];
            if leaf.kind != JoinKind::Inner || leaf.lateral {
                return true;
            }
        }
        self.graph.conditions.iter().any(|condition| {
            condition.leaves & left != 0 && condition.leaves & right != 0 && condition.leaves & !(left | right) == 0
        })
    }

    /// Rows of a set, whatever the order.
    fn rows(&self, set: Leaves) -> f64 {
        let mut rows = 1.0;
        for (at, leaf) in self.graph.leaves.iter().enumerate() {
            if set & 1 << at != 0 && leaf.kind == JoinKind::Inner {
                rows *= self.infos[at].rows;
            }
        }
        for (condition, selectivity) in self.graph.conditions.iter().zip(&self.selectivities) {
            if condition.leaves & !set == 0 && condition.leaves.count_ones() > 1 {
                rows *= selectivity;
            }
        }
        for (at, leaf) in self.graph.leaves.iter().enumerate() {
            if set & 1 << at == 0 {
                continue;
            }
            let matches = self.infos[at].rows * self.planner.selectivity_of_all(&leaf.on);
            match leaf.kind {
                JoinKind::Left => rows *= matches.max(1.0),
                JoinKind::Semi => rows *= self.semi_share(at),
                JoinKind::Anti => rows *= (1.0 - self.semi_share(at)).max(0.1),
                _ => {}
            }
        }
        rows.max(1.0)
    }

    /// Share of left rows that have a partner in a semi-joined leaf.
    fn semi_share(&self, at: usize) -> f64 {
        let leaf = &self.graph.leaves[at];
        let rows = self.infos[at].rows;
        let mut share: f64 = 1.0;
        for condition in &leaf.on {
            let Some((left, right)) = super::simplify::equality(condition) else {
                share *= 0.5;
                continue;
            };
            let distinct = |scalar: &Scalar| match scalar {
                Scalar::Column { id, .. } => self.planner.distinct(*id),
                _ => cost::UNKNOWN_DISTINCT,
            };
            let (left, right) = (distinct(left), distinct(right));
            let (inner, outer) = if leaf.columns.is_empty() { (right, left) } else { (right.min(rows), left) };
            share *= (inner.min(rows) / outer.max(1.0)).min(1.0);
        }
        share.clamp(0.001, 1.0)
    }

    fn join(&self, set: Leaves, left: Leaves, right: Leaves, l: &Choice, r: &Choice) -> Choice {
        let rows = self.rows(set);
        let output = rows * cost::ROW;
        let mut best = (f64::INFINITY, Method::NestedLoop);
        let single = right.count_ones() == 1;
        let leaf = &self.graph.leaves[right.trailing_zeros() as usize];
        let lateral = single && leaf.lateral;
        if !lateral && self.has_equality(left, right) {
            best = (l.cost + r.cost + r.rows * cost::HASH_BUILD + l.rows * cost::HASH_PROBE + output, Method::Hash);
        }
        if single
            && !lateral
            && let Some(table_rows) = self.infos[right.trailing_zeros() as usize].table_rows
            && let Some(path) = self.index_path(left, right.trailing_zeros() as usize)
        {
            let found = path.rows(table_rows);
            let cost = l.cost + l.rows * path.cost(found) + output;
            if cost < best.0 {
                best = (cost, Method::Index);
            }
        }
        let again = if lateral { r.cost } else { r.rows * cost::OPERATOR * 2.0 };
        let once = if lateral { 0.0 } else { r.cost };
        let looped = l.cost + once + l.rows * again + output;
        if looped < best.0 {
            best = (looped, Method::NestedLoop);
        }
        Choice { rows, cost: best.0, split: Some((left, right, best.1)) }
    }

    fn has_equality(&self, left: Leaves, right: Leaves) -> bool {
        if right.count_ones() == 1 {
            let leaf = &self.graph.leaves[right.trailing_zeros() as usize];
            if leaf.kind != JoinKind::Inner {
                return leaf.on.iter().any(|condition| self.planner.hash_keys(condition, &leaf.columns).is_some());
            }
        }
        self.graph.conditions.iter().any(|condition| match condition.sides {
            Some((a, b)) => {
                let covers = |inside: Leaves, set: Leaves| inside != 0 && inside & !set == 0;
                covers(a, left) && covers(b, right) || covers(a, right) && covers(b, left)
            }
            None => false,
        })
    }

    /// The best index of a leaf for lookups from a set of leaves.
    pub fn index_path(&self, left: Leaves, right: usize) -> Option<IndexPath> {
        let leaf = &self.graph.leaves[right];
        let (scan, own) = leaf.scan()?;
        let predicates = self.lookup_predicates(left, right, own);
        let outside = |value: &Scalar| {
            !super::column_set::ColumnSet::of(value).intersects(&leaf.columns)
                && !value.is_volatile()
                && !value.has_subquery()
        };
        let table_rows = self.infos[right].table_rows?;
        let from_left = |path: &IndexPath| path.decided.iter().any(|at| *at >= own.len()) && !path.equal.is_empty();
        self.planner
            .index_paths(scan, &predicates, &outside)
            .into_iter()
            .filter(from_left)
            .min_by(|a, b| a.cost(a.rows(table_rows)).total_cmp(&b.cost(b.rows(table_rows))))
    }

    /// What a lookup into a leaf may use: its own predicates, then the conditions that join it.
    pub fn lookup_predicates(&self, left: Leaves, right: usize, own: &[Scalar]) -> Vec<Scalar> {
        let leaf = &self.graph.leaves[right];
        let mut predicates = own.to_vec();
        if leaf.kind == JoinKind::Inner {
            let both = left | 1 << right;
            let joining = self.graph.conditions.iter().filter(|condition| {
                condition.leaves & 1 << right != 0 && condition.leaves & left != 0 && condition.leaves & !both == 0
            });
            predicates.extend(joining.map(|condition| condition.scalar.clone()));
        } else {
            predicates.extend(leaf.on.iter().cloned());
        }
        predicates
    }
}
