//! [`Rel`] → [`Plan`]: picks the operators and wires their columns.

use super::Planner;
use super::column_set::ColumnSet;
use super::cost;
use super::simplify::substitute;
use crate::binder::logical::{Rel, SetCall, WindowFunction};
use crate::binder::scalar::{Aggregate, ColumnId, Order, Scalar};
use crate::error::{Result, SqlError};
use crate::plan::{self, Node, OutputColumn, Plan, ProjectSetItem, SetOperation};
use crate::types::Datum;

/// What the operator above wants.
#[derive(Clone, Copy)]
pub(super) struct Demand<'a> {
    /// Columns, in the order that would suit best.
    pub columns: &'a [ColumnId],
    /// An order that would save a sort.
    pub order: &'a [Order],
    /// About how many rows are fetched.
    pub limit: Option<f64>,
    /// At most so many rows are fetched, exactly.
    pub top: Option<&'a Scalar>,
}

impl<'a> Demand<'a> {
    /// All rows in any order.
    pub fn all(columns: &'a [ColumnId]) -> Self {
        Self { columns, order: &[], limit: None, top: None }
    }

    /// How many of `rows` are fetched.
    pub fn fetched(&self, rows: f64) -> f64 {
        self.limit.map_or(rows, |limit| limit.min(rows))
    }
}

/// A plan whose output columns are known by id.
#[derive(Debug)]
pub(super) struct Physical {
    pub plan: Plan,
    pub layout: Vec<ColumnId>,
    /// It delivers the order that was asked for.
    pub sorted: bool,
}

impl Physical {
    pub fn with_order(mut self, sorted: bool, demand: &Demand<'_>) -> Self {
        self.sorted = sorted && !demand.order.is_empty();
        self
    }
}

impl Planner<'_> {
    pub(super) fn physical(
        &self,
        node: Node,
        layout: Vec<ColumnId>,
        rows: f64,
        startup_cost: f64,
        total_cost: f64,
    ) -> Physical {
        let columns = layout.iter().map(|id| self.output_column(*id)).collect();
        let plan = Plan { node, columns, rows: rows.max(0.0), startup_cost, total_cost: total_cost.max(startup_cost) };
        Physical { plan, layout, sorted: false }
    }

    pub(super) fn output_column(&self, id: ColumnId) -> OutputColumn {
        let origin = self.columns.table_column(id).map(|(table, position)| (table.oid, position as i16 + 1));
        OutputColumn { name: self.columns.name(id), data_type: self.columns.infos[id].data_type, origin }
    }

    /// A plan that puts out exactly these columns.
    pub(super) fn arranged(&mut self, rel: &Rel, output: &[ColumnId]) -> Result<Plan> {
        let planned = self.plan_rel(rel, &Demand::all(output))?;
        self.arrange(planned, output)
    }

    /// A plan of which only the rows count.
    pub(super) fn any_output(&mut self, rel: &Rel) -> Result<Plan> {
        let demand = Demand { limit: Some(1.0), ..Demand::all(&[]) };
        Ok(self.plan_rel(rel, &demand)?.plan)
    }

    /// Puts exactly these columns out.
    pub(super) fn arrange(&mut self, input: Physical, output: &[ColumnId]) -> Result<Plan> {
        if input.layout == output {
            return Ok(input.plan);
        }
        let exprs: Vec<Scalar> = output.iter().map(|id| self.columns.scalar(*id)).collect();
        let exprs = self.lower_all(&exprs, &input.layout)?;
        let (rows, startup, total) = (input.plan.rows, input.plan.startup_cost, input.plan.total_cost);
        let node = Node::Project { input: Box::new(input.plan), exprs };
        Ok(self.physical(node, output.to_vec(), rows, startup, total + rows * cost::OPERATOR).plan)
    }

    pub(super) fn plan_rel(&mut self, rel: &Rel, demand: &Demand<'_>) -> Result<Physical> {
        match rel {
            Rel::Values { rows, columns } => {
                let mut lowered = Vec::with_capacity(rows.len());
                for row in rows {
                    lowered.push(self.lower_all(row, &[])?);
                }
                let count = rows.len() as f64;
                Ok(self.physical(Node::Values { rows: lowered }, columns.clone(), count, 0.0, count * cost::ROW))
            }
            Rel::Scan(scan) => self.scan(scan, &[], demand),
            Rel::System { view, columns, .. } => {
                let node = Node::SystemScan { view, filter: None };
                Ok(self.physical(node, columns.clone(), cost::UNKNOWN_ROWS, 0.0, cost::UNKNOWN_ROWS * cost::ROW))
            }
            Rel::Function { function, args, ordinality, columns, .. } => {
                let args = self.lower_all(args, &[])?;
                let node = Node::FunctionScan { function, args, ordinality: *ordinality };
                Ok(self.physical(node, columns.clone(), cost::FUNCTION_ROWS, 0.0, cost::FUNCTION_ROWS * cost::ROW))
            }
            Rel::Cte { id, columns, .. } => {
                let rows = self.cte_rows.get(*id).copied().unwrap_or(cost::FUNCTION_ROWS);
                Ok(self.physical(Node::CteScan { id: *id }, columns.clone(), rows, 0.0, rows * cost::ROW))
            }
            Rel::Filter { input, predicates } => self.plan_filter(input, predicates, demand),
            Rel::Join { .. } => self.plan_join(rel, &[], demand),
            Rel::Map { input, exprs } => self.plan_map(input, exprs, demand),
            Rel::ProjectSet { input, sets } => self.plan_project_set(input, sets, demand),
            Rel::Aggregate { input, keys, aggregates, sets } => {
                self.plan_aggregate(input, keys, aggregates, sets.as_deref(), demand)
            }
            Rel::Window { input, calls } => {
                let mut wanted = pass_through(demand, |id| calls.iter().all(|(call, _)| *call != id));
                calls.iter().for_each(|(_, call)| call.for_each_scalar(&mut |scalar| want(scalar, &mut wanted)));
                self.keep_available(input, &mut wanted);
                let input = self.plan_rel(input, &Demand::all(&wanted))?;
                let mut lowered = Vec::with_capacity(calls.len());
                for (_, call) in calls {
                    lowered.push(plan::WindowCall {
                        function: match &call.function {
                            WindowFunction::Plain(plain) => plain.clone(),
                            WindowFunction::Aggregate(aggregate) => {
                                plan::WindowFunction::Aggregate(self.lower_aggregate(aggregate, &input.layout)?)
                            }
                        },
                        args: self.lower_all(&call.args, &input.layout)?,
                        partition_by: self.lower_all(&call.partition_by, &input.layout)?,
                        order_by: self.lower_order(&call.order_by, &input.layout)?,
                        frame: call.frame,
                        data_type: call.data_type,
                    });
                }
                let mut layout = input.layout.clone();
                layout.extend(calls.iter().map(|(id, _)| *id));
                let rows = input.plan.rows;
                let total = input.plan.total_cost + cost::sort(rows, None) + rows * cost::ROW;
                let startup = input.plan.total_cost;
                Ok(self.physical(
                    Node::Window { input: Box::new(input.plan), calls: lowered },
                    layout,
                    rows,
                    startup,
                    total,
                ))
            }
            Rel::Distinct { input, columns, on: None } => {
                let mut output = columns.clone();
                output.sort_unstable();
                output.dedup();
                if output.len() == columns.len() {
                    output.clone_from(columns);
                }
                let input = self.arranged(input, &output)?;
                let rows =
                    self.group_count(&output.iter().map(|id| self.columns.scalar(*id)).collect::<Vec<_>>(), input.rows);
                let total = input.total_cost + input.rows * cost::HASH_BUILD;
                let startup = input.startup_cost;
                Ok(self.physical(Node::Distinct { input: Box::new(input), on: None }, output, rows, startup, total))
            }
            Rel::Distinct { input, columns: _, on: Some(on) } => {
                let mut wanted = demand.columns.to_vec();
                on.iter().for_each(|scalar| want(scalar, &mut wanted));
                self.keep_available(input, &mut wanted);
                let input = self.plan_rel(input, &Demand::all(&wanted))?;
                let keys = self.lower_all(on, &input.layout)?;
                let rows = self.group_count(on, input.plan.rows);
                let (startup, total) = (input.plan.startup_cost, input.plan.total_cost + input.plan.rows * cost::ROW);
                let node = Node::Distinct { input: Box::new(input.plan), on: Some(keys) };
                Ok(self.physical(node, input.layout, rows, startup, total))
            }
            Rel::Sort { input, keys } => {
                let mut wanted = demand.columns.to_vec();
                keys.iter().for_each(|key| want(&key.expr, &mut wanted));
                self.keep_available(input, &mut wanted);
                let inner = Demand { columns: &wanted, order: keys, limit: demand.limit, top: None };
                let input = self.plan_rel(input, &inner)?;
                if input.sorted {
                    return Ok(input);
                }
                let lowered = self.lower_order(keys, &input.layout)?;
                let limit = match demand.top {
                    Some(top) => Some(self.lower(top, &[])?),
                    None => None,
                };
                let rows = demand.fetched(input.plan.rows);
                let startup = input.plan.total_cost + cost::sort(input.plan.rows, demand.limit);
                let node = Node::Sort { input: Box::new(input.plan), keys: lowered, limit };
                Ok(self.physical(node, input.layout, rows, startup, startup + rows * cost::OPERATOR))
            }
            Rel::Limit { input, limit, offset } => self.plan_limit(input, limit.as_ref(), offset.as_ref(), demand),
            Rel::SetOp { .. } => self.plan_set_operation(rel),
            Rel::With { ctes, input } => {
                let mut planned = Vec::with_capacity(ctes.len());
                for cte in ctes {
                    let base = self.arranged(&cte.query, &cte.output)?;
                    if self.cte_rows.len() <= cte.id {
                        self.cte_rows.resize(cte.id + 1, cost::FUNCTION_ROWS);
                    }
                    self.cte_rows[cte.id] = base.rows;
                    let recursive = match &cte.recursive {
                        Some((term, output, all)) => {
                            self.cte_rows[cte.id] = base.rows * 10.0;
                            Some((self.arranged(term, output)?, *all))
                        }
                        None => None,
                    };
                    planned.push(plan::Cte { id: cte.id, name: cte.name.clone(), plan: base, recursive });
                }
                let input = self.plan_rel(input, &Demand { order: &[], ..*demand })?;
                let (rows, startup, total) = (input.plan.rows, input.plan.startup_cost, input.plan.total_cost);
                let extra: f64 = planned.iter().map(|cte| cte.plan.total_cost).sum();
                let node = Node::With { ctes: planned, input: Box::new(input.plan) };
                Ok(self.physical(node, input.layout, rows, startup + extra, total + extra))
            }
            Rel::Lock { input, targets, recheck, wait } => {
                let mut output: Vec<ColumnId> = Vec::new();
                let mut places = Vec::with_capacity(targets.len());
                for target in targets {
                    let columns_at = output.len();
                    output.extend(target.scan.table.live_columns().map(|(position, _)| target.scan.first + position));
                    places.push((columns_at, output.len()));
                    output.push(target.scan.key());
                }
                let mut others: Vec<ColumnId> = demand.columns.to_vec();
                recheck.iter().for_each(|scalar| want(scalar, &mut others));
                self.keep_available(input, &mut others);
                for id in others {
                    if !output.contains(&id) {
                        output.push(id);
                    }
                }
                let input = self.arranged(input, &output)?;
                let recheck = self.lower_conjunction(recheck, &output)?;
                let targets = targets.iter().zip(places).map(|(target, (columns_at, key_at))| {
                    let table = target.scan.table.clone();
                    let exclusive = target.exclusive;
                    let referenced = if exclusive { self.referenced(&table, None)? } else { Vec::new() };
                    Ok(plan::LockTarget { table, columns_at, key_at, exclusive, referenced })
                });
                let targets = targets.collect::<Result<_>>()?;
                let (rows, startup, total) = (input.rows, input.startup_cost, input.total_cost);
                let node = Node::LockRows { input: Box::new(input), targets, recheck, wait: *wait };
                Ok(self.physical(node, output, rows, startup, total + rows * cost::ROW))
            }
            Rel::Insert(insert) => self.plan_insert(insert),
            Rel::Update(update) => self.plan_update(update),
            Rel::Delete(delete) => self.plan_delete(delete),
        }
    }

    /// Drops from a wish list what the input does not have (columns of queries around).
    pub(super) fn keep_available(&self, input: &Rel, wanted: &mut Vec<ColumnId>) {
        let available = ColumnSet::output(input);
        wanted.retain(|id| available.contains(*id));
    }

    fn plan_filter(&mut self, input: &Rel, predicates: &[Scalar], demand: &Demand<'_>) -> Result<Physical> {
        let never =
            |predicate: &Scalar| matches!(predicate, Scalar::Literal { value: Datum::Bool(false) | Datum::Null, .. });
        if predicates.iter().any(never) {
            let node = Node::Values { rows: Vec::new() };
            return Ok(self.physical(node, demand.columns.to_vec(), 0.0, 0.0, 0.0));
        }
        match input {
            Rel::Scan(scan) => return self.scan(scan, predicates, demand),
            Rel::Join { .. } => return self.plan_join(input, predicates, demand),
            Rel::System { view, columns, .. } => {
                let filter = self.lower_conjunction(predicates, columns)?;
                let rows = (cost::UNKNOWN_ROWS * self.selectivity_of_all(predicates)).max(1.0);
                let node = Node::SystemScan { view, filter };
                return Ok(self.physical(node, columns.clone(), rows, 0.0, cost::UNKNOWN_ROWS * cost::ROW));
            }
            _ => {}
        }
        let mut wanted = demand.columns.to_vec();
        predicates.iter().for_each(|scalar| want(scalar, &mut wanted));
        self.keep_available(input, &mut wanted);
        let input = self.plan_rel(input, &Demand { columns: &wanted, order: demand.order, limit: None, top: None })?;
        self.filtered(input, predicates)
    }

    /// A filter over a plan.
    pub(super) fn filtered(&mut self, input: Physical, predicates: &[Scalar]) -> Result<Physical> {
        let Some(predicate) = self.lower_conjunction(predicates, &input.layout)? else { return Ok(input) };
        let rows = (input.plan.rows * self.selectivity_of_all(predicates)).max(1.0);
        let total = input.plan.total_cost + input.plan.rows * cost::OPERATOR * predicates.len() as f64;
        let (startup, sorted) = (input.plan.startup_cost, input.sorted);
        let node = Node::Filter { input: Box::new(input.plan), predicate };
        let mut filtered = self.physical(node, input.layout, rows, startup, total);
        filtered.sorted = sorted;
        Ok(filtered)
    }

    fn plan_map(&mut self, input: &Rel, exprs: &[(ColumnId, Scalar)], demand: &Demand<'_>) -> Result<Physical> {
        let defined = |id: ColumnId| exprs.iter().find(|(column, _)| *column == id);
        let mut wanted = pass_through(demand, |id| defined(id).is_none());
        let volatile = |(_, expr): &(ColumnId, Scalar)| expr.is_volatile();
        for (id, expr) in exprs {
            if demand.columns.contains(id) || volatile(&(*id, expr.clone())) {
                want(expr, &mut wanted);
            }
        }
        self.keep_available(input, &mut wanted);
        let mut order = demand.order.to_vec();
        for key in &mut order {
            substitute(&mut key.expr, exprs);
        }
        let inner = Demand { columns: &wanted, order: &order, limit: demand.limit, top: demand.top };
        let input = self.plan_rel(input, &inner)?;
        if !demand.columns.iter().any(|id| defined(*id).is_some()) {
            return Ok(input);
        }
        let mut layout: Vec<ColumnId> = Vec::with_capacity(demand.columns.len());
        let mut lowered = Vec::with_capacity(demand.columns.len());
        for id in demand.columns {
            if layout.contains(id) {
                continue;
            }
            let expr = match defined(*id) {
                Some((_, expr)) => expr.clone(),
                None if input.layout.contains(id) => self.columns.scalar(*id),
                None => continue,
            };
            lowered.push(self.lower(&expr, &input.layout)?);
            layout.push(*id);
        }
        let (rows, startup, sorted) = (input.plan.rows, input.plan.startup_cost, input.sorted);
        let total = input.plan.total_cost + rows * cost::OPERATOR * lowered.len() as f64;
        let node = Node::Project { input: Box::new(input.plan), exprs: lowered };
        let mut mapped = self.physical(node, layout, rows, startup, total);
        mapped.sorted = sorted;
        Ok(mapped)
    }

    fn plan_project_set(&mut self, input: &Rel, sets: &[SetCall], demand: &Demand<'_>) -> Result<Physical> {
        let mut wanted = pass_through(demand, |id| sets.iter().all(|set| set.column != id));
        let passed = wanted.clone();
        sets.iter().flat_map(|set| &set.args).for_each(|scalar| want(scalar, &mut wanted));
        self.keep_available(input, &mut wanted);
        let input = self.plan_rel(input, &Demand::all(&wanted))?;
        let mut layout = Vec::new();
        let mut exprs = Vec::new();
        for id in passed.iter().filter(|id| input.layout.contains(id)) {
            let scalar = self.columns.scalar(*id);
            exprs.push(ProjectSetItem::Scalar(self.lower(&scalar, &input.layout)?));
            layout.push(*id);
        }
        for set in sets {
            let args = self.lower_all(&set.args, &input.layout)?;
            exprs.push(ProjectSetItem::Set { function: set.function, args });
            layout.push(set.column);
        }
        let rows = input.plan.rows * cost::FUNCTION_ROWS;
        let (startup, total) = (input.plan.startup_cost, input.plan.total_cost + rows * cost::ROW);
        Ok(self.physical(Node::ProjectSet { input: Box::new(input.plan), exprs }, layout, rows, startup, total))
    }

    fn plan_aggregate(
        &mut self,
        input: &Rel,
        keys: &[(ColumnId, Scalar)],
        aggregates: &[(ColumnId, Aggregate)],
        sets: Option<&[Vec<usize>]>,
        demand: &Demand<'_>,
    ) -> Result<Physical> {
        let needed: Vec<&(ColumnId, Aggregate)> =
            aggregates.iter().filter(|(id, _)| demand.columns.contains(id)).collect();
        let extremum = if keys.is_empty() && sets.is_none() { self.index_extremum(input, &needed) } else { None };
        let input = extremum.as_ref().unwrap_or(input);
        let mut wanted = Vec::new();
        keys.iter().for_each(|(_, key)| want(key, &mut wanted));
        needed.iter().for_each(|(_, aggregate)| aggregate.for_each_scalar(&mut |scalar| want(scalar, &mut wanted)));
        self.keep_available(input, &mut wanted);
        let input = self.plan_rel(input, &Demand::all(&wanted))?;
        let key_scalars: Vec<Scalar> = keys.iter().map(|(_, key)| key.clone()).collect();
        let lowered_keys = self.lower_all(&key_scalars, &input.layout)?;
        let mut calls = Vec::with_capacity(needed.len());
        for (_, aggregate) in &needed {
            calls.push(self.lower_aggregate(aggregate, &input.layout)?);
        }
        let mut layout: Vec<ColumnId> = keys.iter().map(|(id, _)| *id).collect();
        layout.extend(needed.iter().map(|(id, _)| *id));
        let rows = if keys.is_empty() { 1.0 } else { self.group_count(&key_scalars, input.plan.rows) }
            * sets.map_or(1.0, |sets| sets.len() as f64);
        let each =
            cost::OPERATOR * (calls.len() + keys.len()) as f64 + if keys.is_empty() { 0.0 } else { cost::HASH_PROBE };
        let startup = input.plan.total_cost + input.plan.rows * each * sets.map_or(1.0, |sets| sets.len() as f64);
        let node = Node::Aggregate {
            input: Box::new(input.plan),
            keys: lowered_keys,
            aggregates: calls,
            sets: sets.map(<[_]>::to_vec),
        };
        Ok(self.physical(node, layout, rows, startup, startup + rows * cost::ROW))
    }

    /// `min(x)` or `max(x)` alone over a table with an index on `x`: the first entry that is not NULL.
    fn index_extremum(&self, input: &Rel, aggregates: &[&(ColumnId, Aggregate)]) -> Option<Rel> {
        let [(_, aggregate)] = aggregates else { return None };
        let descending = match aggregate.function.name {
            "min" => false,
            "max" => true,
            _ => return None,
        };
        let [Scalar::Column { id, .. }] = aggregate.args.as_slice() else { return None };
        if aggregate.filter.is_some() {
            return None;
        }
        let scan = match input {
            Rel::Scan(scan) => scan,
            Rel::Filter { input, .. } => match input.as_ref() {
                Rel::Scan(scan) => scan,
                _ => return None,
            },
            _ => return None,
        };
        let position = id.checked_sub(scan.first)?;
        let indexed = super::access::indexes(&scan.table)
            .iter()
            .any(|(_, columns, _)| columns.iter().take(2).any(|column| column.column == position));
        if !indexed {
            return None;
        }
        let column = Scalar::Column { id: *id, data_type: aggregate.args[0].data_type() };
        let mut rel = input.clone();
        if !scan.table.columns[position].not_null {
            rel = rel.filtered(vec![Scalar::IsNull { expr: Box::new(column.clone()), negated: true }]);
        }
        let keys = vec![Order { expr: column, descending, nulls_first: descending }];
        let one = Scalar::Literal { value: Datum::Int8(1), data_type: crate::types::DataType::INT8 };
        Some(Rel::Limit { input: Box::new(Rel::Sort { input: Box::new(rel), keys }), limit: Some(one), offset: None })
    }

    /// How many groups rows fall into.
    pub(super) fn group_count(&self, keys: &[Scalar], rows: f64) -> f64 {
        let mut groups = 1.0;
        for key in keys {
            groups *= match key {
                Scalar::Column { id, .. } => self.distinct(*id),
                Scalar::Literal { .. } => 1.0,
                _ => cost::UNKNOWN_DISTINCT,
            };
        }
        groups.clamp(1.0, rows.max(1.0))
    }

    fn plan_limit(
        &mut self,
        input: &Rel,
        limit: Option<&Scalar>,
        offset: Option<&Scalar>,
        demand: &Demand<'_>,
    ) -> Result<Physical> {
        let number = |scalar: Option<&Scalar>| match scalar {
            None => Some(0.0),
            Some(Scalar::Literal { value, .. }) => value.as_i64().map(|number| number.max(0) as f64),
            Some(_) => None,
        };
        let fetched = limit.map(|_| number(limit).unwrap_or(100.0) + number(offset).unwrap_or(0.0));
        let top = match (limit, offset) {
            (Some(limit), None) => Some(limit.clone()),
            (Some(limit), Some(offset)) => crate::binder::add_int8(limit, offset, &self.context.eval),
            (None, _) => None,
        };
        let inner = Demand { columns: demand.columns, order: &[], limit: fetched, top: top.as_ref() };
        let input = self.plan_rel(input, &inner)?;
        let (limit, offset) = (
            limit.map(|limit| self.lower(limit, &[])).transpose()?,
            offset.map(|offset| self.lower(offset, &[])).transpose()?,
        );
        let rows = fetched.map_or(input.plan.rows, |fetched| fetched.min(input.plan.rows));
        let share = (rows / input.plan.rows.max(1.0)).min(1.0);
        let startup = input.plan.startup_cost;
        let total = startup + (input.plan.total_cost - startup) * share;
        Ok(self.physical(
            Node::Limit { input: Box::new(input.plan), limit, offset },
            input.layout,
            rows,
            startup,
            total,
        ))
    }

    fn plan_set_operation(&mut self, rel: &Rel) -> Result<Physical> {
        let Rel::SetOp { operation, all, left, left_columns, right, right_columns, columns } = rel else {
            return Err(SqlError::internal("not a set operation"));
        };
        if *operation == SetOperation::Union && *all {
            // A chain of UNION ALL leans to the left: one Append of all.
            let mut branches: Vec<(&Rel, &[ColumnId])> = vec![(right, right_columns)];
            let (mut rest, mut rest_columns) = (left.as_ref(), left_columns.as_slice());
            while let Rel::SetOp {
                operation: SetOperation::Union,
                all: true,
                left,
                left_columns,
                right,
                right_columns,
                columns,
            } = rest
                && columns.as_slice() == rest_columns
            {
                branches.push((right, right_columns));
                (rest, rest_columns) = (left, left_columns);
            }
            branches.push((rest, rest_columns));
            let mut inputs = Vec::with_capacity(branches.len());
            for (branch, output) in branches.into_iter().rev() {
                inputs.push(self.arranged(branch, output)?);
            }
            let rows = inputs.iter().map(|input| input.rows).sum();
            let total = inputs.iter().map(|input| input.total_cost).sum();
            return Ok(self.physical(Node::Append { inputs }, columns.clone(), rows, 0.0, total));
        }
        let left = self.arranged(left, left_columns)?;
        let right = self.arranged(right, right_columns)?;
        let rows = match operation {
            SetOperation::Union => left.rows + right.rows,
            SetOperation::Intersect => left.rows.min(right.rows),
            SetOperation::Except => left.rows,
        };
        let total = left.total_cost + right.total_cost + (left.rows + right.rows) * cost::HASH_BUILD;
        let node = Node::SetOp { operation: *operation, all: *all, left: Box::new(left), right: Box::new(right) };
        Ok(self.physical(node, columns.clone(), rows, 0.0, total))
    }
}

/// The demanded columns that meet a test.
fn pass_through(demand: &Demand<'_>, test: impl Fn(ColumnId) -> bool) -> Vec<ColumnId> {
    demand.columns.iter().copied().filter(|id| test(*id)).collect()
}

/// Adds the columns of a scalar to a wish list.
pub(super) fn want(scalar: &Scalar, wanted: &mut Vec<ColumnId>) {
    scalar.for_each_column(&mut |id| {
        if !wanted.contains(&id) {
            wanted.push(id);
        }
    });
}
