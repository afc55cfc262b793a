//! Evaluating what the catalog keeps as text: defaults of new columns, checks over existing rows, USING.

use std::sync::Arc;

use sqlparser::ast::Statement;

use super::work::Work;
use crate::binder::{ScalarColumns, bind_scalar};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{ExecContext, Execution, Prepared};
use crate::functions::Volatility;
use crate::plan::{Expr, Node, OutputColumn, Plan, ScanOutput};
use crate::planner::{PlanContext, PlannedStatement};
use crate::table::check_violation;
use crate::types::{DataType, Datum, Row};

/// Columns of a table as an expression over its rows may name them; dropped ones have no name.
fn scope(table: &Table) -> Vec<(String, DataType)> {
    let name = |column: &crate::catalog::Column| if column.dropped { String::new() } else { column.name.clone() };
    table.columns.iter().map(|column| (name(column), column.data_type)).collect()
}

/// A plan without estimates.
fn node_plan(node: Node, types: impl Iterator<Item = DataType>) -> Arc<Plan> {
    let columns = types.map(|data_type| OutputColumn { name: String::new(), data_type, origin: None });
    Arc::new(Plan { node, columns: columns.collect(), rows: 0.0, startup_cost: 0.0, total_cost: 0.0 })
}

/// A scan of all columns of a table, followed by the row's key.
fn scan(table: &Arc<Table>, filter: Option<Expr>) -> Arc<Plan> {
    let alias = Arc::from(table.name.as_str());
    let output = ScanOutput { columns: (0..table.columns.len()).collect(), with_key: true, alias };
    let types = table.columns.iter().map(|column| column.data_type).chain([DataType::BYTEA]);
    node_plan(Node::SeqScan { table: Arc::clone(table), output, filter }, types)
}

impl Work<'_> {
    /// Binds an expression over a table's rows, or over none.
    pub fn bind(&self, text: &str, table: Option<&Table>, target: Option<DataType>) -> Result<Expr> {
        let columns = table.map(scope).unwrap_or_default();
        let relation = table.map_or("", |table| &table.name);
        bind_scalar(text, ScalarColumns { relation, columns: &columns }, target, &self.plan_context())
    }

    /// Refuses a default that does not fit its column: 42804.
    pub fn check_default(&self, text: &str, column: &str, data_type: DataType) -> Result<Expr> {
        self.bind(text, None, Some(data_type)).map_err(|error| {
            if error.state() == SqlState::UNDEFINED_COLUMN {
                let message = "cannot use column reference in DEFAULT expression";
                return SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message);
            }
            if error.state() != SqlState::DATATYPE_MISMATCH {
                return error;
            }
            let found = self.bind(text, None, None).map_or_else(|_| "unknown".into(), |expr| expr.data_type().name());
            let message = format!(
                "column \"{column}\" is of type {} but default expression is of type {found}",
                data_type.name()
            );
            SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
        })
    }

    /// Refuses a CHECK condition that is not boolean.
    pub fn check_condition(&self, text: &str, table: &Table) -> Result<()> {
        let found = self.bind(text, Some(table), None)?.data_type();
        if found.same_type(DataType::BOOL) {
            return Ok(());
        }
        let message = format!("argument of CHECK must be type boolean, not type {}", found.name());
        Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message))
    }

    /// Plans a query on the catalog as changed so far.
    pub fn plan_query(&self, statement: &Statement) -> Result<PlannedStatement> {
        let planned = crate::planner::plan(statement, &self.plan_context())?;
        if !planned.parameters.is_empty() {
            return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
        }
        Ok(planned)
    }

    fn plan_context(&self) -> PlanContext<'_> {
        PlanContext {
            catalog: Arc::clone(&self.catalog),
            search_path: self.context.search_path,
            eval: Arc::clone(self.context.eval),
            parameter_hints: &[],
            source: "",
            row_estimate: None,
        }
    }

    /// Opens a plan in the running statement layer.
    pub fn execute(&self, plan: Arc<Plan>) -> Result<Execution> {
        let context = ExecContext {
            transaction: Arc::clone(self.context.transaction),
            store: Arc::clone(self.context.manager.store()),
            catalog: Arc::clone(&self.catalog),
            params: Arc::from([]),
            eval: Arc::clone(self.context.eval),
            row_ids: Arc::clone(self.context.row_ids),
            work_mem_bytes: self.context.work_mem_bytes,
            hash_memory: Arc::clone(self.context.hash_memory),
            temporary_directory: Arc::clone(&self.context.temporary_directory),
        };
        Execution::open(Arc::new(Prepared::new(plan)?), context)
    }

    /// The value of an expression that reads no row.
    pub fn evaluate(&self, expr: Expr) -> Result<Datum> {
        let data_type = expr.data_type();
        let mut execution =
            self.execute(node_plan(Node::Values { rows: vec![vec![expr]] }, [data_type].into_iter()))?;
        let mut row = Row::new();
        execution.next(&mut row)?;
        Ok(row.into_iter().next().unwrap_or(Datum::Null))
    }

    /// Calls `visit` with the key of every row and its columns, some of them computed anew from the row.
    pub fn for_each_computed(
        &self,
        table: &Arc<Table>,
        computed: Vec<(usize, Expr)>,
        visit: &mut dyn FnMut(&[u8], &Row) -> Result<()>,
    ) -> Result<()> {
        let input = scan(table, None);
        let column = |(index, column): (usize, &OutputColumn)| Expr::Column { index, data_type: column.data_type };
        let mut exprs: Vec<_> = input.columns.iter().enumerate().map(column).collect();
        let key = exprs.len() - 1;
        // A column added by this statement stands after the key, which moves behind it.
        let key_expr = exprs.remove(key);
        for (position, expr) in computed {
            if position < exprs.len() { exprs[position] = expr } else { exprs.push(expr) }
        }
        exprs.push(key_expr);
        let types: Vec<_> = exprs.iter().map(Expr::data_type).collect();
        let mut execution = self.execute(node_plan(
            Node::Project { input: Box::new(Arc::unwrap_or_clone(input)), exprs },
            types.into_iter(),
        ))?;
        let mut row = Row::new();
        while execution.next(&mut row)? {
            match row.pop() {
                Some(Datum::Bytea(key)) => visit(&key, &row)?,
                other => return Err(SqlError::internal(format!("a row's key is {other:?}"))),
            }
        }
        Ok(())
    }

    /// 23514 when a row does not obey a condition. The statement layer must be at the newest snapshot.
    pub fn validate_check(&self, table: &Arc<Table>, name: &str, text: &str) -> Result<()> {
        // NULL obeys: only a false condition is found.
        let filter = Expr::Not(Box::new(self.bind(text, Some(table), None)?));
        let mut execution = self.execute(scan(table, Some(filter)))?;
        let mut row = Row::new();
        if !execution.next(&mut row)? {
            return Ok(());
        }
        let message = format!("check constraint \"{name}\" of relation \"{}\" is violated by some row", table.name);
        let shown = check_violation(table, name, &row[..table.columns.len()], self.context.eval);
        let error = SqlError::new(shown.state(), message);
        Err(error.of_table(table.schema, &table.name).with_constraint(name))
    }

    /// 23502 when a column has a NULL. The statement layer must be at the newest snapshot.
    pub fn validate_not_null(&self, table: &Arc<Table>, column: usize) -> Result<()> {
        let data_type = table.columns[column].data_type;
        let read = Expr::Column { index: column, data_type };
        let filter = Expr::IsNull { expr: Box::new(read), negated: false };
        let mut row = Row::new();
        if !self.execute(scan(table, Some(filter)))?.next(&mut row)? {
            return Ok(());
        }
        let name = &table.columns[column].name;
        let message = format!("column \"{name}\" of relation \"{}\" contains null values", table.name);
        Err(SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
            .of_table(table.schema, &table.name)
            .with_column(name.clone()))
    }

    /// Whether a table has no row at all.
    pub fn is_empty(&self, table: &Arc<Table>) -> Result<bool> {
        Ok(!self.execute(scan(table, None))?.next(&mut Row::new())?)
    }
}

/// Whether an expression gives another value for each row although it reads none: nextval, random.
pub(super) fn is_volatile(expr: &Expr) -> bool {
    let volatile = |exprs: &[Expr]| exprs.iter().any(is_volatile);
    match expr {
        Expr::Call { function, args, .. } => function.volatility == Volatility::Volatile || volatile(args),
        Expr::Cast { expr, .. } | Expr::Not(expr) | Expr::IsNull { expr, .. } | Expr::BooleanTest { expr, .. } => {
            is_volatile(expr)
        }
        Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce { args, .. }
        | Expr::Extremum { args, .. }
        | Expr::ArrayLiteral { elements: args, .. }
        | Expr::Record(args) => volatile(args),
        Expr::Distinct { left, right, .. } => is_volatile(left) || is_volatile(right),
        Expr::Case { branches, otherwise, .. } => {
            branches.iter().any(|(when, then)| is_volatile(when) || is_volatile(then))
                || otherwise.as_ref().is_some_and(|expr| is_volatile(expr))
        }
        Expr::InList { expr, list, .. } => is_volatile(expr) || volatile(list),
        Expr::Quantified { expr, array, .. } => is_volatile(expr) || is_volatile(array),
        Expr::Subscript { array, indexes, .. } => is_volatile(array) || volatile(indexes),
        Expr::Literal { .. } | Expr::Column { .. } | Expr::Outer { .. } | Expr::Parameter { .. } => false,
        Expr::Subquery(_) => true,
    }
}
