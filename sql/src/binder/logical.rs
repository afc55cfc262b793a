//! [`Rel`]: a bound query as relational operators, before planning.
//!
//! Every operator's output is a set of [`ColumnId`]s, unique in the statement. [`Rel::Map`] *adds*
//! computed columns to its input's; which columns really flow is decided by the planner from what is
//! asked for above. So a subquery in FROM that only renames or computes needs no operator of its own,
//! and disappears.

use std::sync::Arc;

use super::scalar::{Aggregate, ColumnId, Order, Scalar, SubqueryKind};
use crate::catalog::{Index, SystemView, Table};
use crate::functions::TableFunction;
use crate::plan::{JoinKind, SetOperation, WindowFrame};
use crate::store::WaitPolicy;
use crate::types::DataType;

/// A relational operator with its inputs.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Rel {
    Values {
        rows: Vec<Vec<Scalar>>,
        columns: Vec<ColumnId>,
    },
    Scan(Scan),
    System {
        view: &'static SystemView,
        columns: Vec<ColumnId>,
        alias: String,
    },
    Function {
        function: &'static TableFunction,
        args: Vec<Scalar>,
        ordinality: bool,
        columns: Vec<ColumnId>,
        alias: String,
    },
    /// Reads CTE `id`; its columns get ids of this reference.
    Cte {
        id: usize,
        name: String,
        columns: Vec<ColumnId>,
    },
    Join {
        kind: JoinKind,
        left: Box<Rel>,
        right: Box<Rel>,
        on: Vec<Scalar>,
    },
    Filter {
        input: Box<Rel>,
        predicates: Vec<Scalar>,
    },
    /// Adds columns to the input's.
    Map {
        input: Box<Rel>,
        exprs: Vec<(ColumnId, Scalar)>,
    },
    ProjectSet {
        input: Box<Rel>,
        sets: Vec<SetCall>,
    },
    Aggregate {
        input: Box<Rel>,
        keys: Vec<(ColumnId, Scalar)>,
        aggregates: Vec<(ColumnId, Aggregate)>,
        sets: Option<Vec<Vec<usize>>>,
    },
    Window {
        input: Box<Rel>,
        calls: Vec<(ColumnId, WindowCall)>,
    },
    /// DISTINCT over `columns`, or DISTINCT ON over an input sorted by `on`.
    Distinct {
        input: Box<Rel>,
        columns: Vec<ColumnId>,
        on: Option<Vec<Scalar>>,
    },
    Sort {
        input: Box<Rel>,
        keys: Vec<Order>,
    },
    Limit {
        input: Box<Rel>,
        limit: Option<Scalar>,
        offset: Option<Scalar>,
    },
    SetOp {
        operation: SetOperation,
        all: bool,
        left: Box<Rel>,
        left_columns: Vec<ColumnId>,
        right: Box<Rel>,
        right_columns: Vec<ColumnId>,
        columns: Vec<ColumnId>,
    },
    With {
        ctes: Vec<Cte>,
        input: Box<Rel>,
    },
    Lock {
        input: Box<Rel>,
        targets: Vec<LockItem>,
        recheck: Vec<Scalar>,
        wait: WaitPolicy,
    },
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
}

/// A table in FROM. Its columns are `first + position`, its key is `first + columns.len()`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Scan {
    pub table: Arc<Table>,
    pub first: ColumnId,
    pub alias: String,
}

/// A set-returning function in a select list.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SetCall {
    pub column: ColumnId,
    pub function: &'static TableFunction,
    pub args: Vec<Scalar>,
}

/// A window function call.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct WindowCall {
    pub function: WindowFunction,
    pub args: Vec<Scalar>,
    pub partition_by: Vec<Scalar>,
    pub order_by: Vec<Order>,
    pub frame: WindowFrame,
    pub data_type: DataType,
}

/// What is called over a window.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum WindowFunction {
    Plain(crate::plan::WindowFunction),
    Aggregate(Aggregate),
}

/// A common table expression.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Cte {
    pub id: usize,
    pub name: String,
    pub query: Rel,
    pub output: Vec<ColumnId>,
    /// The second term with its output, and whether UNION ALL.
    pub recursive: Option<(Rel, Vec<ColumnId>, bool)>,
    /// AS MATERIALIZED, or recursive: never merged into the query around it.
    pub materialized: bool,
}

/// A table whose rows are locked.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LockItem {
    pub scan: Scan,
    pub exclusive: bool,
}

/// INSERT.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Insert {
    pub table: Arc<Table>,
    pub input: Rel,
    /// One for each table column, over `input`.
    pub values: Vec<Scalar>,
    /// The row as CHECK, RETURNING and ON CONFLICT see it: `row_first + position`.
    pub row_first: ColumnId,
    /// The excluded row of ON CONFLICT.
    pub excluded_first: ColumnId,
    pub checks: Vec<(String, Scalar)>,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Vec<(ColumnId, Scalar)>>,
}

/// Assignments and WHERE of DO UPDATE.
pub type ConflictUpdate = (Vec<(usize, Scalar)>, Option<Scalar>);

/// ON CONFLICT.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct OnConflict {
    pub arbiter: Option<Option<Arc<Index>>>,
    /// DO UPDATE; none is DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// UPDATE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Update {
    pub target: Scan,
    pub input: Rel,
    pub recheck: Vec<Scalar>,
    pub assignments: Vec<(usize, Scalar)>,
    /// Over the target's columns, which stand for the new row.
    pub checks: Vec<(String, Scalar)>,
    pub returning: Option<Vec<(ColumnId, Scalar)>>,
}

/// DELETE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Delete {
    pub target: Scan,
    pub input: Rel,
    pub recheck: Vec<Scalar>,
    pub returning: Option<Vec<(ColumnId, Scalar)>>,
}

impl Scan {
    /// Id of the row's key.
    pub fn key(&self) -> ColumnId {
        self.first + self.table.columns.len()
    }

    /// Ids of all columns, the key's excluded.
    pub fn columns(&self) -> std::ops::Range<ColumnId> {
        self.first..self.first + self.table.columns.len()
    }
}

/// The direct inputs: for reading and, with `iter_mut, mut`, for changing them.
macro_rules! visit_inputs {
    ($of:expr, $visit:ident, $iter:ident $(, $mut:tt)?) => {
        match $of {
            Rel::Values { .. } | Rel::Scan(_) | Rel::System { .. } | Rel::Function { .. } | Rel::Cte { .. } => {}
            Rel::Join { left, right, .. } | Rel::SetOp { left, right, .. } => {
                $visit(left);
                $visit(right);
            }
            Rel::Filter { input, .. }
            | Rel::Map { input, .. }
            | Rel::ProjectSet { input, .. }
            | Rel::Aggregate { input, .. }
            | Rel::Window { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Lock { input, .. } => $visit(input),
            Rel::With { ctes, input } => {
                for cte in ctes {
                    $visit(&$($mut)? cte.query);
                    if let Some((term, _, _)) = &$($mut)? cte.recursive {
                        $visit(term);
                    }
                }
                $visit(input);
            }
            Rel::Insert(insert) => $visit(&$($mut)? insert.input),
            Rel::Update(update) => $visit(&$($mut)? update.input),
            Rel::Delete(delete) => $visit(&$($mut)? delete.input),
        }
    };
}

/// The operator's own scalars: for reading and, with `for_each_scalar_mut, iter_mut, mut`, for changing them.
macro_rules! visit_scalars {
    ($of:expr, $visit:ident, $walk:ident, $iter:ident $(, $mut:tt)?) => {
        match $of {
            Rel::Scan(_) | Rel::System { .. } | Rel::Cte { .. } | Rel::SetOp { .. } | Rel::With { .. } => {}
            Rel::Values { rows, .. } => rows.$iter().flatten().for_each($visit),
            Rel::Function { args, .. } => args.$iter().for_each($visit),
            Rel::Join { on, .. } => on.$iter().for_each($visit),
            Rel::Filter { predicates, .. } => predicates.$iter().for_each($visit),
            Rel::Map { exprs, .. } => exprs.$iter().for_each(|(_, expr)| $visit(expr)),
            Rel::ProjectSet { sets, .. } => sets.$iter().flat_map(|set| &$($mut)? set.args).for_each($visit),
            Rel::Aggregate { keys, aggregates, .. } => {
                keys.$iter().for_each(|(_, key)| $visit(key));
                aggregates.$iter().for_each(|(_, aggregate)| aggregate.$walk($visit));
            }
            Rel::Window { calls, .. } => calls.$iter().for_each(|(_, call)| call.$walk($visit)),
            Rel::Distinct { on, .. } => on.$iter().flatten().for_each($visit),
            Rel::Sort { keys, .. } => keys.$iter().for_each(|key| $visit(&$($mut)? key.expr)),
            Rel::Limit { limit, offset, .. } => limit.$iter().chain(offset).for_each($visit),
            Rel::Lock { recheck, .. } => recheck.$iter().for_each($visit),
            Rel::Insert(insert) => {
                insert.values.$iter().for_each(&mut *$visit);
                insert.checks.$iter().for_each(|(_, check)| $visit(check));
                for (assignments, filter) in insert.on_conflict.$iter().flat_map(|on| on.update.$iter()) {
                    assignments.$iter().for_each(|(_, value)| $visit(value));
                    filter.$iter().for_each(&mut *$visit);
                }
                insert.returning.$iter().flatten().for_each(|(_, expr)| $visit(expr));
            }
            Rel::Update(update) => {
                update.recheck.$iter().for_each(&mut *$visit);
                update.assignments.$iter().for_each(|(_, value)| $visit(value));
                update.checks.$iter().for_each(|(_, check)| $visit(check));
                update.returning.$iter().flatten().for_each(|(_, expr)| $visit(expr));
            }
            Rel::Delete(delete) => {
                delete.recheck.$iter().for_each(&mut *$visit);
                delete.returning.$iter().flatten().for_each(|(_, expr)| $visit(expr));
            }
        }
    };
}

impl Rel {
    /// One empty row.
    pub fn unit() -> Rel {
        Rel::Values { rows: vec![Vec::new()], columns: Vec::new() }
    }

    /// Adds predicates above it.
    pub fn filtered(self, predicates: Vec<Scalar>) -> Rel {
        match (self, predicates.is_empty()) {
            (rel, true) => rel,
            (Rel::Filter { input, predicates: mut present }, false) => {
                present.extend(predicates);
                Rel::Filter { input, predicates: present }
            }
            (rel, false) => Rel::Filter { input: Box::new(rel), predicates },
        }
    }

    /// Adds computed columns above it.
    pub fn mapped(self, exprs: Vec<(ColumnId, Scalar)>) -> Rel {
        if exprs.is_empty() { self } else { Rel::Map { input: Box::new(self), exprs } }
    }

    /// The direct inputs.
    pub fn for_each_input<'a>(&'a self, visit: &mut dyn FnMut(&'a Rel)) {
        visit_inputs!(self, visit, iter)
    }

    /// The direct inputs, mutably.
    pub fn for_each_input_mut(&mut self, visit: &mut dyn FnMut(&mut Rel)) {
        visit_inputs!(self, visit, iter_mut, mut)
    }

    /// The operator's own scalars.
    pub fn for_each_scalar<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        visit_scalars!(self, visit, for_each_scalar, iter)
    }

    /// The operator's own scalars, mutably.
    pub fn for_each_scalar_mut(&mut self, visit: &mut dyn FnMut(&mut Scalar)) {
        visit_scalars!(self, visit, for_each_scalar_mut, iter_mut, mut)
    }

    /// All scalars of the tree; queries inside scalars are left to the visitor.
    pub fn for_each_scalar_deep<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        self.for_each_scalar(visit);
        self.for_each_input(&mut |input| input.for_each_scalar_deep(visit));
    }

    /// All scalars of the tree, mutably; queries inside scalars are left to the visitor.
    pub fn for_each_scalar_deep_mut(&mut self, visit: &mut dyn FnMut(&mut Scalar)) {
        self.for_each_scalar_mut(visit);
        self.for_each_input_mut(&mut |input| input.for_each_scalar_deep_mut(visit));
    }

    /// Calls `visit` for every operator, inputs first, subqueries in scalars included.
    pub fn for_each_rel_mut(&mut self, visit: &mut dyn FnMut(&mut Rel)) {
        self.for_each_input_mut(&mut |input| input.for_each_rel_mut(visit));
        self.for_each_scalar_mut(&mut |scalar| {
            scalar.for_each_subquery_mut(&mut |query| query.for_each_rel_mut(visit));
        });
        visit(self);
    }

    /// The columns that it puts out.
    pub fn for_each_output(&self, visit: &mut dyn FnMut(ColumnId)) {
        match self {
            Rel::Values { columns, .. }
            | Rel::System { columns, .. }
            | Rel::Function { columns, .. }
            | Rel::Cte { columns, .. }
            | Rel::Distinct { columns, on: None, .. }
            | Rel::SetOp { columns, .. } => columns.iter().copied().for_each(visit),
            Rel::Scan(scan) => (scan.first..=scan.key()).for_each(visit),
            Rel::Join { kind, left, right, .. } => {
                left.for_each_output(visit);
                if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                    right.for_each_output(visit);
                }
            }
            Rel::Filter { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::Lock { input, .. }
            | Rel::With { input, .. } => input.for_each_output(visit),
            Rel::Map { input, exprs } => {
                input.for_each_output(visit);
                exprs.iter().for_each(|(id, _)| visit(*id));
            }
            Rel::ProjectSet { input, sets } => {
                input.for_each_output(visit);
                sets.iter().for_each(|set| visit(set.column));
            }
            Rel::Aggregate { keys, aggregates, .. } => {
                keys.iter().for_each(|(id, _)| visit(*id));
                aggregates.iter().for_each(|(id, _)| visit(*id));
            }
            Rel::Window { input, calls } => {
                input.for_each_output(visit);
                calls.iter().for_each(|(id, _)| visit(*id));
            }
            Rel::Insert(insert) => insert.returning.iter().flatten().for_each(|(id, _)| visit(*id)),
            Rel::Update(update) => update.returning.iter().flatten().for_each(|(id, _)| visit(*id)),
            Rel::Delete(delete) => delete.returning.iter().flatten().for_each(|(id, _)| visit(*id)),
        }
    }
}

impl WindowCall {
    /// Its scalars.
    pub fn for_each_scalar<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        self.args.iter().chain(&self.partition_by).for_each(&mut *visit);
        self.order_by.iter().for_each(|order| visit(&order.expr));
        if let WindowFunction::Aggregate(aggregate) = &self.function {
            aggregate.for_each_scalar(visit);
        }
    }

    /// Its scalars, mutably.
    pub fn for_each_scalar_mut(&mut self, visit: &mut dyn FnMut(&mut Scalar)) {
        self.args.iter_mut().chain(&mut self.partition_by).for_each(&mut *visit);
        self.order_by.iter_mut().for_each(|order| visit(&mut order.expr));
        if let WindowFunction::Aggregate(aggregate) = &mut self.function {
            aggregate.for_each_scalar_mut(visit);
        }
    }
}

impl Scalar {
    /// The queries of the subqueries in it, outermost only.
    pub fn for_each_subquery_mut(&mut self, visit: &mut dyn FnMut(&mut Rel)) {
        self.for_each_child_mut(&mut |child| child.for_each_subquery_mut(visit));
        if let Scalar::Subquery(subquery) = self {
            visit(&mut subquery.query);
        }
    }
}

impl SubqueryKind {
    /// Whether rows beyond the first matter.
    pub fn wants_one_row(&self) -> bool {
        matches!(self, SubqueryKind::Exists { .. })
    }
}
