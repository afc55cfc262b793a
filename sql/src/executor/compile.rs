//! From [`Plan`] to compiled operators and expressions.

mod expression;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::actuals::identity;
use super::context::Shape;
use super::expr::Code;
use super::operators::*;
use crate::catalog::{Index, Table};
use crate::error::{Result, SqlError};
use crate::plan::{self, AggregateCall, Expr, IndexRange, JoinKind, Plan, ScanOutput, SortKey, WindowFunction};
use crate::store::RowLockMode;
use crate::table::{IndexAccess, TableAccess, UniqueKey};

/// Compiles a statement's plan.
pub(super) fn compile(plan: &Plan) -> Result<(Node, Shape)> {
    let mut compiler = Compiler::default();
    let root = compiler.node(plan, true)?;
    Ok((root, compiler.shape))
}

/// Compiles expressions over one row.
pub(super) fn compile_exprs(exprs: &[Expr]) -> Result<(Vec<Code>, Shape)> {
    let mut compiler = Compiler::default();
    let codes = compiler.exprs(exprs)?;
    Ok((codes, compiler.shape))
}

/// A subquery being compiled.
#[derive(Default)]
struct Scope {
    /// Number of enclosing rows inside it.
    level: usize,
    /// Columns of enclosing rows that it reads: depth as seen inside, index.
    reads: BTreeSet<(usize, usize)>,
    /// It depends on more than those: volatile functions, a CTE that may change.
    unstable: bool,
    /// It reads a CTE whose rows may change between two runs.
    changing_cte: bool,
}

/// Where a CTE is read from.
#[derive(Clone, Copy)]
struct CteBinding {
    slot: usize,
    /// Its recursive term is being compiled: reads go to the working table.
    working: bool,
    /// Number of enclosing rows where its WITH stands.
    level: usize,
}

#[derive(Default)]
struct Compiler {
    shape: Shape,
    /// Number of enclosing rows where we are.
    level: usize,
    scopes: Vec<Scope>,
    ctes: HashMap<usize, CteBinding>,
    accesses: HashMap<*const Table, Arc<TableAccess>>,
}

impl Compiler {
    fn access(&mut self, table: &Arc<Table>) -> Arc<TableAccess> {
        let access = self.accesses.entry(Arc::as_ptr(table)).or_insert_with(|| Arc::new(TableAccess::new(table)));
        Arc::clone(access)
    }

    fn optional(&mut self, expr: Option<&Expr>) -> Result<Option<Code>> {
        expr.map(|expr| self.expr(expr)).transpose()
    }

    fn returning(&mut self, exprs: Option<&Vec<Expr>>) -> Result<Option<Vec<Code>>> {
        exprs.map(|exprs| self.exprs(exprs)).transpose()
    }

    fn exprs(&mut self, exprs: &[Expr]) -> Result<Vec<Code>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn assignments(&mut self, assignments: &[(usize, Expr)]) -> Result<Vec<(usize, Code)>> {
        assignments.iter().map(|(column, expr)| Ok((*column, self.expr(expr)?))).collect()
    }

    fn checks(&mut self, checks: &[(String, Expr)]) -> Result<Vec<(String, Code)>> {
        checks.iter().map(|(name, expr)| Ok((name.clone(), self.expr(expr)?))).collect()
    }

    /// Something deeper than the current level by one row.
    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.level += 1;
        let result = work(self);
        self.level -= 1;
        result
    }

    fn order(&mut self, keys: &[SortKey], width: usize) -> Result<SortOrder> {
        let codes = keys.iter().map(|key| self.expr(&key.expr)).collect::<Result<Vec<_>>>()?;
        Ok(SortOrder::new(keys, codes, width))
    }

    fn output(&mut self, table: &Arc<Table>, output: &ScanOutput, filter: Option<&Expr>) -> Result<RowOutput> {
        let reads = filter.map(expression::columns_read);
        let filter = self.optional(filter)?;
        let access = self.access(table);
        Ok(RowOutput::new(access, output, filter, reads.flatten().as_deref()))
    }

    fn searched(
        &mut self,
        table: &Arc<Table>,
        index: Option<&Arc<Index>>,
        range: &IndexRange,
        backward: bool,
    ) -> Result<Searched> {
        let end = |compiler: &mut Self, end: &Option<(Expr, bool)>| {
            end.as_ref().map(|(expr, included)| Ok((compiler.expr(expr)?, *included))).transpose()
        };
        let code = RangeCode {
            equal: self.exprs(&range.equal)?.into(),
            lower: end(self, &range.lower)?,
            upper: end(self, &range.upper)?,
        };
        let complete = match index {
            None => table.primary_key.as_ref().is_some_and(|key| key.columns.len() == range.equal.len()),
            Some(index) => index.unique && index.columns.len() == range.equal.len(),
        };
        Ok(Searched {
            point: complete && range.lower.is_none() && range.upper.is_none(),
            index: index.map(|index| IndexAccess::new(table, index)),
            range: code,
            backward,
        })
    }

    fn boxed(&mut self, plan: &Plan) -> Result<Node> {
        self.node(plan, false)
    }

    /// Compiles a node. `main`: it is the statement itself.
    fn node(&mut self, plan: &Plan, main: bool) -> Result<Node> {
        let factory = self.factory(plan, main)?;
        Ok(Node::new(factory, identity(plan)))
    }

    fn factory(&mut self, plan: &Plan, main: bool) -> Result<Arc<dyn Factory>> {
        Ok(match &plan.node {
            plan::Node::Values { rows } => {
                let rows = rows.iter().map(|row| self.exprs(row)).collect::<Result<Vec<_>>>()?;
                Arc::new(ValuesCode { rows })
            }
            plan::Node::Constant { rows } => Arc::new(ConstantCode { rows: Arc::clone(rows) }),
            plan::Node::SystemScan { view, filter } => {
                Arc::new(SystemScanCode { view, filter: self.optional(filter.as_ref())? })
            }
            plan::Node::SeqScan { table, output, filter } => {
                Arc::new(SeqScanCode { output: self.output(table, output, filter.as_ref())? })
            }
            plan::Node::IndexScan { table, index, range, backward, output, filter } => Arc::new(IndexScanCode {
                searched: self.searched(table, index.as_ref(), range, *backward)?,
                output: self.output(table, output, filter.as_ref())?,
            }),
            plan::Node::FunctionScan { function, args, ordinality } => {
                Arc::new(FunctionScanCode { function, args: self.exprs(args)?, ordinality: *ordinality })
            }
            plan::Node::Filter { input, predicate } => {
                Arc::new(FilterCode { input: self.boxed(input)?, predicate: self.expr(predicate)? })
            }
            plan::Node::Project { input, exprs } => {
                let passes = |(at, expr): (usize, &Expr)| matches!(expr, Expr::Column { index, .. } if *index == at);
                let identity = exprs.len() == input.columns.len() && exprs.iter().enumerate().all(passes);
                Arc::new(ProjectCode { input: self.boxed(input)?, exprs: self.exprs(exprs)?, identity })
            }
            plan::Node::ProjectSet { input, exprs } => {
                let input = self.boxed(input)?;
                let item = |item: &plan::ProjectSetItem| {
                    Ok(match item {
                        plan::ProjectSetItem::Scalar(expr) => ProjectSetItemCode::Scalar(self.expr(expr)?),
                        plan::ProjectSetItem::Set { function, args } => {
                            ProjectSetItemCode::Set { function, args: self.exprs(args)? }
                        }
                    })
                };
                Arc::new(ProjectSetCode { input, items: exprs.iter().map(item).collect::<Result<_>>()? })
            }
            plan::Node::NestedLoopJoin { kind, left, right, on, lateral } => {
                if *lateral && matches!(kind, JoinKind::Right | JoinKind::Full) {
                    return Err(SqlError::internal("a lateral join keeps its left side only"));
                }
                Arc::new(NestedLoopCode {
                    kind: *kind,
                    left: self.boxed(left)?,
                    right: if *lateral { self.nested(|inner| inner.boxed(right))? } else { self.boxed(right)? },
                    on: self.optional(on.as_ref())?,
                    lateral: *lateral,
                    left_width: left.columns.len(),
                    right_width: right.columns.len(),
                })
            }
            plan::Node::IndexJoin { kind, left, table, index, range, output, filter } => {
                if matches!(kind, JoinKind::Right | JoinKind::Full) {
                    return Err(SqlError::internal("a join by index keeps its left side only"));
                }
                Arc::new(IndexJoinCode {
                    kind: *kind,
                    left: self.boxed(left)?,
                    searched: self.searched(table, index.as_ref(), range, false)?,
                    output: self.output(table, output, None)?,
                    filter: self.optional(filter.as_ref())?,
                })
            }
            plan::Node::HashJoin { kind, left, right, left_keys, right_keys, null_safe, filter } => {
                Arc::new(HashJoinCode {
                    kind: *kind,
                    left: self.boxed(left)?,
                    right: self.boxed(right)?,
                    left_keys: self.exprs(left_keys)?,
                    right_keys: self.exprs(right_keys)?,
                    null_safe: null_safe.clone(),
                    filter: self.optional(filter.as_ref())?,
                    left_width: left.columns.len(),
                    right_width: right.columns.len(),
                })
            }
            plan::Node::Sort { input, keys, limit } => Arc::new(SortCode {
                order: Arc::new(self.order(keys, input.columns.len())?),
                input: self.boxed(input)?,
                limit: self.optional(limit.as_ref())?,
            }),
            plan::Node::Limit { input, limit, offset } => Arc::new(LimitCode {
                input: self.boxed(input)?,
                limit: self.optional(limit.as_ref())?,
                offset: self.optional(offset.as_ref())?,
            }),
            plan::Node::Aggregate { input, keys, aggregates, sets } => {
                let all: Vec<usize> = (0..keys.len()).collect();
                let sets = sets.as_ref().map_or_else(|| std::slice::from_ref(&all), Vec::as_slice);
                let sets = sets.iter().map(|set| (0..keys.len()).map(|key| set.contains(&key)).collect());
                Arc::new(AggregateCode {
                    input: self.boxed(input)?,
                    keys: self.exprs(keys)?,
                    calls: aggregates.iter().map(|call| self.aggregate(call)).collect::<Result<_>>()?,
                    sets: sets.collect(),
                })
            }
            plan::Node::Window { input, calls } => {
                let width = input.columns.len();
                let input = self.boxed(input)?;
                let mut codes: Vec<WindowCallCode> = Vec::new();
                for (number, call) in calls.iter().enumerate() {
                    let previous = number.checked_sub(1).map(|previous| &calls[previous]);
                    codes.push(self.window_call(call, previous, width)?);
                }
                Arc::new(WindowCode { input, calls: codes, width })
            }
            plan::Node::Distinct { input, on: None } => Arc::new(DistinctCode { input: self.boxed(input)? }),
            plan::Node::Distinct { input, on: Some(on) } => {
                Arc::new(DistinctOnCode { input: self.boxed(input)?, on: self.exprs(on)? })
            }
            plan::Node::SetOp { operation: plan::SetOperation::Union, all, left, right } => {
                let both = Arc::new(AppendCode { inputs: vec![self.boxed(left)?, self.boxed(right)?] });
                if *all { both } else { Arc::new(DistinctCode { input: Node::hidden(both) }) }
            }
            plan::Node::SetOp { operation, all, left, right } => Arc::new(SetOperationCode {
                operation: *operation,
                all: *all,
                left: self.boxed(left)?,
                right: self.boxed(right)?,
            }),
            plan::Node::Append { inputs } => {
                Arc::new(AppendCode { inputs: inputs.iter().map(|input| self.boxed(input)).collect::<Result<_>>()? })
            }
            plan::Node::With { ctes, input } => {
                let ctes = ctes.iter().map(|cte| self.cte(cte)).collect::<Result<_>>()?;
                Arc::new(WithCode { ctes, input: self.node(input, main)? })
            }
            plan::Node::CteScan { id } => self.cte_scan(*id)?,
            plan::Node::LockRows { input, targets, recheck, wait } => Arc::new(LockRowsCode {
                input: self.boxed(input)?,
                targets: targets.iter().map(|target| self.lock_target(target)).collect(),
                recheck: self.optional(recheck.as_ref())?,
                wait: *wait,
            }),
            plan::Node::Insert(insert) => {
                let access = self.access(&insert.table);
                let conflict = insert.on_conflict.as_ref().map(|action| self.conflict(&access, action)).transpose()?;
                Arc::new(InsertCode {
                    access,
                    // Rows loaded in bulk are not found by rows that refer to them.
                    many: !matches!(insert.input.node, plan::Node::Values { .. })
                        && insert.references.iter().all(|reference| reference.parent().oid != insert.table.oid),
                    input: self.boxed(&insert.input)?,
                    values: self.exprs(&insert.values)?,
                    checks: self.checks(&insert.checks)?,
                    conflict,
                    references: insert.references.clone(),
                    referenced: insert.referenced.clone(),
                    returning: self.returning(insert.returning.as_ref())?,
                    main,
                })
            }
            plan::Node::Update(update) => Arc::new(UpdateCode {
                access: self.access(&update.table),
                input: self.boxed(&update.input)?,
                recheck: self.optional(update.recheck.as_ref())?,
                assignments: self.assignments(&update.assignments)?,
                checks: self.checks(&update.checks)?,
                references: update.references.clone(),
                referenced: update.referenced.clone(),
                returning: self.returning(update.returning.as_ref())?,
                main,
            }),
            plan::Node::Delete(delete) => Arc::new(DeleteCode {
                access: self.access(&delete.table),
                input: self.boxed(&delete.input)?,
                recheck: self.optional(delete.recheck.as_ref())?,
                referenced: delete.referenced.clone(),
                returning: self.returning(delete.returning.as_ref())?,
                main,
            }),
        })
    }

    fn aggregate(&mut self, call: &AggregateCall) -> Result<AggregateFunctionCode> {
        let order = if call.order_by.is_empty() {
            None
        } else {
            // Keys stand behind the arguments, in order.
            let width = call.args.len();
            let positions = (0..call.order_by.len()).map(|key| Code::Column(width + key)).collect();
            let keys = call.order_by.iter().map(|key| self.expr(&key.expr)).collect::<Result<Vec<_>>>()?;
            Some((SortOrder::new(&call.order_by, positions, width), keys))
        };
        Ok(AggregateFunctionCode {
            function: call.function,
            args: self.exprs(&call.args)?,
            distinct: call.distinct,
            filter: self.optional(call.filter.as_ref())?,
            order,
        })
    }

    fn window_call(
        &mut self,
        call: &plan::WindowCall,
        previous: Option<&plan::WindowCall>,
        width: usize,
    ) -> Result<WindowCallCode> {
        let partition: Vec<SortKey> = call
            .partition_by
            .iter()
            .map(|expr| SortKey { expr: expr.clone(), descending: false, nulls_first: false })
            .collect();
        let window = |call: &plan::WindowCall| format!("{:?} {:?}", call.partition_by, call.order_by);
        Ok(WindowCallCode {
            function: match &call.function {
                WindowFunction::RowNumber => WindowFunctionCode::RowNumber,
                WindowFunction::Rank => WindowFunctionCode::Rank,
                WindowFunction::DenseRank => WindowFunctionCode::DenseRank,
                WindowFunction::PercentRank => WindowFunctionCode::PercentRank,
                WindowFunction::CumeDist => WindowFunctionCode::CumeDist,
                WindowFunction::Ntile => WindowFunctionCode::Ntile,
                WindowFunction::Lag => WindowFunctionCode::Lag,
                WindowFunction::Lead => WindowFunctionCode::Lead,
                WindowFunction::FirstValue => WindowFunctionCode::FirstValue,
                WindowFunction::LastValue => WindowFunctionCode::LastValue,
                WindowFunction::NthValue => WindowFunctionCode::NthValue,
                WindowFunction::Aggregate(aggregate) => WindowFunctionCode::Aggregate(self.aggregate(aggregate)?),
            },
            args: self.exprs(&call.args)?,
            partition: self.order(&partition, width)?,
            order: self.order(&call.order_by, width)?,
            ordered: !call.order_by.is_empty(),
            same_window: previous.is_some_and(|previous| window(previous) == window(call)),
            frame: call.frame,
        })
    }

    fn cte(&mut self, cte: &plan::Cte) -> Result<Arc<CteCode>> {
        let slot = self.shape.ctes;
        self.shape.ctes += 1;
        let binding = CteBinding { slot, working: false, level: self.level };
        let modifies = matches!(cte.plan.node, plan::Node::Insert(_) | plan::Node::Update(_) | plan::Node::Delete(_));
        let node = self.boxed(&cte.plan)?;
        let recursive = match &cte.recursive {
            None => None,
            Some((term, all)) => {
                self.ctes.insert(cte.id, CteBinding { working: true, ..binding });
                Some((self.boxed(term)?, *all))
            }
        };
        self.ctes.insert(cte.id, binding);
        Ok(Arc::new(CteCode { slot, node, recursive, modifies }))
    }

    fn cte_scan(&mut self, id: usize) -> Result<Arc<dyn Factory>> {
        let binding = *self.ctes.get(&id).ok_or_else(|| SqlError::internal(format!("CTE {id} is not in scope")))?;
        for scope in &mut self.scopes {
            // A CTE inside the subquery is part of it; one outside stands still unless its WITH runs again.
            if binding.level < scope.level && (binding.working || binding.level > 0) {
                scope.changing_cte = true;
            }
        }
        Ok(if binding.working {
            Arc::new(WorkTableCode { slot: binding.slot })
        } else {
            Arc::new(CteScanCode { slot: binding.slot })
        })
    }

    fn lock_target(&mut self, target: &plan::LockTarget) -> LockTargetCode {
        LockTargetCode {
            access: self.access(&target.table),
            columns_at: target.columns_at,
            key_at: target.key_at,
            mode: if target.exclusive { RowLockMode::Exclusive } else { RowLockMode::Share },
            columns: target.table.live_columns().map(|(position, _)| position).collect(),
            referenced: target.referenced.clone(),
        }
    }

    fn conflict(&mut self, access: &TableAccess, action: &plan::OnConflict) -> Result<ConflictAction> {
        let arbiters = match &action.arbiter {
            None => access.unique_keys().collect(),
            Some(None) => vec![UniqueKey::Primary],
            Some(Some(index)) => {
                let position = access.indexes().iter().position(|known| known.index().oid == index.oid);
                let position = position.ok_or_else(|| SqlError::internal("ON CONFLICT names another table's index"))?;
                vec![UniqueKey::Index(position)]
            }
        };
        let update = match &action.update {
            None => None,
            Some(update) => Some(ConflictUpdateCode {
                assignments: self.assignments(&update.assignments)?,
                filter: self.optional(update.filter.as_ref())?,
            }),
        };
        Ok(ConflictAction { arbiters, update })
    }
}
