//! Walking plans and expressions.

use std::sync::Arc;

use super::{Expr, IndexRange, Node, Plan, ProjectSetItem, SubqueryKind, WindowFunction};
use crate::table::ForeignKeyAccess;

impl Expr {
    /// The direct operands; a subquery's are those outside its plan.
    pub fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Expr::Literal { .. } | Expr::Column { .. } | Expr::Outer { .. } | Expr::Parameter { .. } => {}
            Expr::Call { args, .. }
            | Expr::And(args)
            | Expr::Or(args)
            | Expr::Coalesce { args, .. }
            | Expr::Extremum { args, .. }
            | Expr::ArrayLiteral { elements: args, .. }
            | Expr::Record(args) => args.iter().for_each(visit),
            Expr::Cast { expr, .. } | Expr::Not(expr) | Expr::IsNull { expr, .. } | Expr::BooleanTest { expr, .. } => {
                visit(expr)
            }
            Expr::Distinct { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Expr::Case { branches, otherwise, .. } => {
                for (condition, result) in branches {
                    visit(condition);
                    visit(result);
                }
                otherwise.iter().for_each(|otherwise| visit(otherwise));
            }
            Expr::InList { expr, list, .. } => {
                visit(expr);
                list.iter().for_each(visit);
            }
            Expr::Quantified { expr, array, .. } => {
                visit(expr);
                visit(array);
            }
            Expr::Subscript { array, indexes, .. } => {
                visit(array);
                indexes.iter().for_each(visit);
            }
            Expr::Subquery(subquery) => {
                if let SubqueryKind::Quantified { left, .. } = &subquery.kind {
                    left.iter().for_each(visit);
                }
            }
        }
    }

    /// The plans of the subqueries in it.
    pub fn for_each_subplan<'a>(&'a self, visit: &mut dyn FnMut(&'a Plan)) {
        self.for_each_child(&mut |child| child.for_each_subplan(visit));
        if let Expr::Subquery(subquery) = self {
            visit(&subquery.plan);
        }
    }
}

impl Plan {
    /// The direct inputs.
    pub fn for_each_input<'a>(&'a self, visit: &mut dyn FnMut(&'a Plan)) {
        match &self.node {
            Node::Values { .. }
            | Node::Constant { .. }
            | Node::SystemScan { .. }
            | Node::SeqScan { .. }
            | Node::IndexScan { .. }
            | Node::FunctionScan { .. }
            | Node::CteScan { .. } => {}
            Node::Filter { input, .. }
            | Node::Project { input, .. }
            | Node::ProjectSet { input, .. }
            | Node::Sort { input, .. }
            | Node::Limit { input, .. }
            | Node::Aggregate { input, .. }
            | Node::Window { input, .. }
            | Node::Distinct { input, .. }
            | Node::LockRows { input, .. }
            | Node::IndexJoin { left: input, .. } => visit(input),
            Node::NestedLoopJoin { left, right, .. }
            | Node::HashJoin { left, right, .. }
            | Node::SetOp { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Node::Append { inputs } => inputs.iter().for_each(visit),
            Node::With { ctes, input } => {
                for cte in ctes {
                    visit(&cte.plan);
                    cte.recursive.iter().for_each(|(term, _)| visit(term));
                }
                visit(input);
            }
            Node::Insert(insert) => visit(&insert.input),
            Node::Update(update) => visit(&update.input),
            Node::Delete(delete) => visit(&delete.input),
        }
    }

    /// The node's own expressions.
    pub fn for_each_expr<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        let range = |range: &'a IndexRange, visit: &mut dyn FnMut(&'a Expr)| {
            range.equal.iter().for_each(&mut *visit);
            range.lower.iter().chain(&range.upper).for_each(|(end, _)| visit(end));
        };
        match &self.node {
            Node::Constant { .. }
            | Node::CteScan { .. }
            | Node::SetOp { .. }
            | Node::Append { .. }
            | Node::With { .. } => {}
            Node::Values { rows } => rows.iter().flatten().for_each(visit),
            Node::SystemScan { filter, .. } | Node::SeqScan { filter, .. } => filter.iter().for_each(visit),
            Node::IndexScan { range: keys, filter, .. } | Node::IndexJoin { range: keys, filter, .. } => {
                range(keys, visit);
                filter.iter().for_each(visit);
            }
            Node::FunctionScan { args, .. } => args.iter().for_each(visit),
            Node::Filter { predicate, .. } => visit(predicate),
            Node::Project { exprs, .. } => exprs.iter().for_each(visit),
            Node::ProjectSet { exprs, .. } => exprs.iter().for_each(|item| match item {
                ProjectSetItem::Scalar(expr) => visit(expr),
                ProjectSetItem::Set { args, .. } => args.iter().for_each(&mut *visit),
            }),
            Node::NestedLoopJoin { on, .. } => on.iter().for_each(visit),
            Node::HashJoin { left_keys, right_keys, filter, .. } => {
                left_keys.iter().chain(right_keys).chain(filter).for_each(visit);
            }
            Node::Sort { keys, limit, .. } => {
                keys.iter().for_each(|key| visit(&key.expr));
                limit.iter().for_each(visit);
            }
            Node::Limit { limit, offset, .. } => limit.iter().chain(offset).for_each(visit),
            Node::Aggregate { keys, aggregates, .. } => {
                keys.iter().for_each(&mut *visit);
                aggregates.iter().for_each(|call| call.for_each_expr(visit));
            }
            Node::Window { calls, .. } => {
                for call in calls {
                    call.args.iter().chain(&call.partition_by).for_each(&mut *visit);
                    call.order_by.iter().for_each(|key| visit(&key.expr));
                    if let WindowFunction::Aggregate(aggregate) = &call.function {
                        aggregate.for_each_expr(visit);
                    }
                }
            }
            Node::Distinct { on, .. } => on.iter().flatten().for_each(visit),
            Node::LockRows { recheck, .. } => recheck.iter().for_each(visit),
            Node::Insert(insert) => {
                insert.values.iter().for_each(&mut *visit);
                insert.checks.iter().for_each(|(_, check)| visit(check));
                if let Some(update) = insert.on_conflict.as_ref().and_then(|conflict| conflict.update.as_ref()) {
                    update.assignments.iter().for_each(|(_, value)| visit(value));
                    update.filter.iter().for_each(&mut *visit);
                }
                insert.returning.iter().flatten().for_each(visit);
            }
            Node::Update(update) => {
                update.recheck.iter().for_each(&mut *visit);
                update.assignments.iter().for_each(|(_, value)| visit(value));
                update.checks.iter().for_each(|(_, check)| visit(check));
                update.returning.iter().flatten().for_each(visit);
            }
            Node::Delete(delete) => {
                delete.recheck.iter().for_each(&mut *visit);
                delete.returning.iter().flatten().for_each(visit);
            }
        }
    }

    /// Foreign keys that the node's writes must keep: those of the table, and those that refer to it.
    pub fn foreign_keys(&self) -> (&[Arc<ForeignKeyAccess>], &[Arc<ForeignKeyAccess>]) {
        match &self.node {
            Node::Insert(insert) => (&insert.references, &insert.referenced),
            Node::Update(update) => (&update.references, &update.referenced),
            Node::Delete(delete) => (&[], &delete.referenced),
            _ => (&[], &[]),
        }
    }

    /// The plans of the subqueries in the node's own expressions.
    pub fn for_each_subplan<'a>(&'a self, visit: &mut dyn FnMut(&'a Plan)) {
        self.for_each_expr(&mut |expr| expr.for_each_subplan(visit));
    }

    /// Every node of the tree, subqueries included.
    pub fn for_each_node<'a>(&'a self, visit: &mut dyn FnMut(&'a Plan)) {
        visit(self);
        self.for_each_subplan(&mut |subplan| subplan.for_each_node(visit));
        self.for_each_input(&mut |input| input.for_each_node(visit));
    }
}

impl super::AggregateCall {
    /// Its expressions.
    pub fn for_each_expr<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        self.args.iter().chain(&self.filter).for_each(&mut *visit);
        self.order_by.iter().for_each(|key| visit(&key.expr));
    }
}
