//! What the tests stand on: a store, tables, shorthand for plans and expressions.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::{Catalog, Column, Index, IndexColumn, PrimaryKey, Table};
use crate::error::{Result, SqlError};
use crate::executor::{ExecContext, Execution, HashMemory, Prepared};
use crate::functions::{
    AggregateFunction, AggregateState, DateOrder, EvalContext, ScalarFunction, SessionFunctions, Volatility,
};
use crate::interrupt::Interrupt;
use crate::plan::{AggregateCall, Expr, IndexRange, Node, OutputColumn, Plan, ScanOutput, SortKey};
use crate::store::{IsolationLevel, StatementOutcome, Store, Transaction, TransactionOptions};
use crate::table::RowIds;
use crate::testing::MemoryStore;
use crate::types::{DataType, Datum, Row};

pub(crate) struct NoSession;

impl SessionFunctions for NoSession {
    fn call(&self, function: &'static ScalarFunction, _: &[Datum], _: &EvalContext) -> Result<Datum> {
        Err(SqlError::unsupported(function.name))
    }
    fn relation_oid(&self, _: &str) -> Result<Option<u32>> {
        Ok(None)
    }
    fn relation_name(&self, _: u32) -> Option<String> {
        None
    }
}

pub(crate) fn eval_context() -> Arc<EvalContext> {
    Arc::new(EvalContext {
        transaction_timestamp_us: 0,
        statement_timestamp_us: 0,
        clock: Arc::new(|| 0),
        time_zone: jiff::tz::TimeZone::UTC,
        date_order: DateOrder::Mdy,
        extra_float_digits: 1,
        session: Arc::new(NoSession),
    })
}

pub(crate) struct Bed {
    pub(crate) store: MemoryStore,
    row_ids: Arc<RowIds>,
    pub(crate) work_mem_bytes: usize,
    pub(crate) hash_memory: Arc<HashMemory>,
    next_oid: std::cell::Cell<u32>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            row_ids: Arc::default(),
            work_mem_bytes: 4 << 20,
            hash_memory: Arc::default(),
            next_oid: std::cell::Cell::new(20_000),
        }
    }

    fn oid(&self) -> u32 {
        self.next_oid.set(self.next_oid.get() + 1);
        self.next_oid.get()
    }

    pub(crate) fn begin(&self, isolation: IsolationLevel) -> Arc<dyn Transaction> {
        let options = TransactionOptions { isolation, read_only: false };
        self.store.begin(options, Arc::new(Interrupt::default())).expect("begin")
    }

    /// A table of int4 columns `a`, `b`, …; `key` columns are its primary key; each index is its columns and
    /// whether it is unique.
    pub(crate) fn table(&self, name: &str, columns: usize, key: &[usize], indexes: &[(&[usize], bool)]) -> Arc<Table> {
        let types = vec![DataType::INT4; columns];
        self.typed_table(name, &types, key, indexes)
    }

    pub(crate) fn typed_table(
        &self,
        name: &str,
        types: &[DataType],
        key: &[usize],
        indexes: &[(&[usize], bool)],
    ) -> Arc<Table> {
        let transaction = self.begin(IsolationLevel::ReadCommitted);
        transaction.begin_statement().expect("statement");
        let columns = types.iter().enumerate().map(|(position, data_type)| {
            let mut column = Column::new(((b'a' + position as u8) as char).to_string(), *data_type);
            column.not_null = key.contains(&position);
            column
        });
        let tree = transaction.create_tree().expect("tree");
        let mut table = Table::new(self.oid(), 2200, name, columns.collect(), tree);
        if !key.is_empty() {
            table.primary_key = Some(PrimaryKey {
                oid: self.oid(),
                constraint_oid: 0,
                name: format!("{name}_pkey"),
                columns: key.to_vec(),
            });
        }
        for (columns, unique) in indexes {
            let columns =
                columns.iter().map(|column| IndexColumn { column: *column, descending: false, nulls_first: false });
            table.indexes.push(Arc::new(Index {
                oid: self.oid(),
                name: format!("{name}_index{}", table.indexes.len()),
                table: table.oid,
                columns: columns.collect(),
                unique: *unique,
                constraint: false,
                constraint_oid: 0,
                tree: transaction.create_tree().expect("tree").0.0,
                valid: true,
                options: Vec::new(),
            }));
        }
        transaction.end_statement(StatementOutcome::Keep);
        transaction.commit().expect("commit");
        Arc::new(table)
    }

    pub(crate) fn context(&self, transaction: Arc<dyn Transaction>, params: &[Datum]) -> ExecContext {
        ExecContext {
            transaction,
            store: Arc::new(self.store.clone()),
            catalog: Arc::new(Catalog::default()),
            params: params.into(),
            eval: eval_context(),
            row_ids: Arc::clone(&self.row_ids),
            work_mem_bytes: self.work_mem_bytes,
            hash_memory: Arc::clone(&self.hash_memory),
            temporary_directory: Arc::from(Path::new("/tmp")),
        }
    }

    /// Runs a plan as one statement of `transaction`: its rows, and the rows affected.
    pub(crate) fn run_in(
        &self,
        transaction: &Arc<dyn Transaction>,
        plan: Plan,
        params: &[Datum],
    ) -> Result<(Vec<Row>, u64)> {
        transaction.begin_statement()?;
        let result = (|| {
            let prepared = Arc::new(Prepared::new(Arc::new(plan))?);
            let mut execution = Execution::open(prepared, self.context(Arc::clone(transaction), params))?;
            let (mut rows, mut row) = (Vec::new(), Row::new());
            while execution.next(&mut row)? {
                rows.push(std::mem::take(&mut row));
            }
            let affected = execution.rows_affected().unwrap_or(rows.len() as u64);
            Ok((rows, affected))
        })();
        let outcome = if result.is_ok() { StatementOutcome::Keep } else { StatementOutcome::Discard };
        transaction.end_statement(outcome);
        result
    }

    /// Runs a plan in a transaction of its own.
    pub(crate) fn run(&self, plan: Plan) -> Result<(Vec<Row>, u64)> {
        let transaction = self.begin(IsolationLevel::ReadCommitted);
        let result = self.run_in(&transaction, plan, &[])?;
        transaction.commit()?;
        Ok(result)
    }

    pub(crate) fn rows(&self, plan: Plan) -> Vec<Row> {
        self.run(plan).expect("the plan runs").0
    }

    /// Inserts rows into a table.
    pub(crate) fn fill(&self, table: &Arc<Table>, rows: &[Row]) {
        self.run(insert(table, values(rows), None)).expect("insert");
    }

    /// All rows of a table in key order, as text.
    pub(crate) fn contents(&self, table: &Arc<Table>) -> String {
        show(&self.rows(seq_scan(table, None)))
    }
}

/// Rows as `1 2 null; …`.
pub(crate) fn show(rows: &[Row]) -> String {
    let datum = |datum: &Datum| match datum {
        Datum::Null => "null".to_owned(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int4(value) => value.to_string(),
        Datum::Int8(value) => value.to_string(),
        Datum::Float8(value) => value.to_string(),
        Datum::Text(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let row = |row: &Row| row.iter().map(datum).collect::<Vec<_>>().join(" ");
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

/// Rows in an order of their own, for results whose order is open.
pub(crate) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

pub(crate) fn ints(values: &[i32]) -> Row {
    values.iter().map(|value| Datum::Int4(*value)).collect()
}

pub(crate) fn plan(node: Node, columns: usize) -> Plan {
    let column = OutputColumn { name: "c".to_owned(), data_type: DataType::INT4, origin: None };
    Plan { node, columns: vec![column; columns], rows: 1.0, startup_cost: 0.0, total_cost: 1.0 }
}

pub(crate) fn col(index: usize) -> Expr {
    Expr::Column { index, data_type: DataType::INT4 }
}

pub(crate) fn outer(depth: usize, index: usize) -> Expr {
    Expr::Outer { depth, index, data_type: DataType::INT4 }
}

pub(crate) fn int(value: i32) -> Expr {
    Expr::Literal { value: Datum::Int4(value), data_type: DataType::INT4 }
}

pub(crate) fn null() -> Expr {
    Expr::Literal { value: Datum::Null, data_type: DataType::INT4 }
}

const INT4_PAIR: &[DataType] = &[DataType::INT4, DataType::INT4];

const fn operator(
    name: &'static str,
    result: DataType,
    eval: fn(&EvalContext, &[Datum]) -> Result<Datum>,
) -> ScalarFunction {
    ScalarFunction {
        name,
        operator: true,
        args: INT4_PAIR,
        variadic: false,
        result,
        strict: true,
        volatility: Volatility::Immutable,
        session: false,
        eval,
    }
}

fn divide(_: &EvalContext, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Int4(_), Datum::Int4(0)] => {
            Err(SqlError::new(crate::error::SqlState::DIVISION_BY_ZERO, "division by zero"))
        }
        [Datum::Int4(a), Datum::Int4(b)] => Ok(Datum::Int4(a / b)),
        _ => Err(SqlError::internal("arguments")),
    }
}

fn out_of_range(_: &EvalContext, _: &[Datum]) -> Result<Datum> {
    Err(SqlError::new(crate::error::SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range"))
}

fn compare_with(args: &[Datum], holds: fn(std::cmp::Ordering) -> bool) -> Result<Datum> {
    Ok(Datum::Bool(holds(args[0].cmp(&args[1]))))
}

pub(crate) static EQUAL: ScalarFunction =
    operator("=", DataType::BOOL, |_, args| compare_with(args, |order| order.is_eq()));
pub(crate) static NOT_EQUAL: ScalarFunction =
    operator("<>", DataType::BOOL, |_, args| compare_with(args, |order| order.is_ne()));
pub(crate) static LESS: ScalarFunction =
    operator("<", DataType::BOOL, |_, args| compare_with(args, |order| order.is_lt()));
pub(crate) static ADD: ScalarFunction = operator("+", DataType::INT4, out_of_range);
pub(crate) static DIVIDE: ScalarFunction = operator("/", DataType::INT4, divide);

pub(crate) fn call(function: &'static ScalarFunction, left: Expr, right: Expr) -> Expr {
    Expr::Call { function, args: vec![left, right], data_type: function.result }
}

pub(crate) fn eq(left: Expr, right: Expr) -> Expr {
    call(&EQUAL, left, right)
}

pub(crate) fn less(left: Expr, right: Expr) -> Expr {
    call(&LESS, left, right)
}

pub(crate) fn add(left: Expr, right: Expr) -> Expr {
    call(&ADD, left, right)
}

/// Sum of int4 as int8; NULL of nothing.
#[derive(Default)]
struct Sum(Option<i64>);

impl AggregateState for Sum {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        if let Some(value) = args[0].as_i64() {
            self.0 = Some(self.0.unwrap_or(0) + value);
        }
        Ok(())
    }
    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(self.0.map_or(Datum::Null, Datum::Int8))
    }
    fn resumable(&self) -> bool {
        true
    }
}

/// Arguments joined by commas, in the order in which they come.
#[derive(Default)]
struct List(String);

impl AggregateState for List {
    fn update(&mut self, _: &EvalContext, args: &[Datum]) -> Result<()> {
        self.0 += &format!("{},", args[0].as_i64().map_or("null".to_owned(), |value| value.to_string()));
        Ok(())
    }
    fn finish(&mut self, _: &EvalContext) -> Result<Datum> {
        Ok(Datum::text(&self.0))
    }
}

pub(crate) static SUM: AggregateFunction = AggregateFunction {
    name: "sum",
    args: &[DataType::INT4],
    result: DataType::INT8,
    state: || Box::new(Sum::default()),
};
pub(crate) static LIST: AggregateFunction = AggregateFunction {
    name: "list",
    args: &[DataType::INT4],
    result: DataType::TEXT,
    state: || Box::new(List::default()),
};

pub(crate) fn aggregate(function: &'static AggregateFunction, arg: Expr) -> AggregateCall {
    let data_type = function.result;
    AggregateCall { function, args: vec![arg], distinct: false, filter: None, order_by: Vec::new(), data_type }
}

pub(crate) fn values(rows: &[Row]) -> Plan {
    let width = rows.first().map_or(0, Row::len);
    plan(Node::Constant { rows: Arc::new(rows.to_vec()) }, width)
}

pub(crate) fn all_columns(table: &Table) -> ScanOutput {
    let alias = Arc::from(table.name.as_str());
    ScanOutput { columns: (0..table.columns.len()).collect(), with_key: false, alias }
}

pub(crate) fn seq_scan(table: &Arc<Table>, filter: Option<Expr>) -> Plan {
    plan(Node::SeqScan { table: Arc::clone(table), output: all_columns(table), filter }, table.columns.len())
}

/// The input of an UPDATE or DELETE.
pub(crate) fn target_scan(table: &Arc<Table>, filter: Option<Expr>) -> Plan {
    let output = ScanOutput { with_key: true, ..all_columns(table) };
    plan(Node::SeqScan { table: Arc::clone(table), output, filter }, table.columns.len() + 1)
}

pub(crate) fn range(equal: Vec<Expr>) -> IndexRange {
    IndexRange { equal, lower: None, upper: None }
}

pub(crate) fn index_scan(table: &Arc<Table>, index: Option<usize>, range: IndexRange, backward: bool) -> Plan {
    let index = index.map(|index| Arc::clone(&table.indexes[index]));
    let output = all_columns(table);
    plan(
        Node::IndexScan { table: Arc::clone(table), index, range, backward, output, filter: None },
        table.columns.len(),
    )
}

pub(crate) fn sort_key(expr: Expr) -> SortKey {
    SortKey { expr, descending: false, nulls_first: false }
}

pub(crate) fn insert(table: &Arc<Table>, input: Plan, returning: Option<Vec<Expr>>) -> Plan {
    let values = (0..table.columns.len()).map(col).collect();
    let width = returning.as_ref().map_or(0, Vec::len);
    let insert = crate::plan::Insert {
        table: Arc::clone(table),
        input,
        values,
        checks: Vec::new(),
        references: Vec::new(),
        referenced: Vec::new(),
        on_conflict: None,
        returning,
    };
    plan(Node::Insert(Box::new(insert)), width)
}

pub(crate) fn update(
    table: &Arc<Table>,
    filter: Option<Expr>,
    assignments: Vec<(usize, Expr)>,
    returning: Option<Vec<Expr>>,
) -> Plan {
    let width = returning.as_ref().map_or(0, Vec::len);
    let update = crate::plan::Update {
        table: Arc::clone(table),
        input: target_scan(table, filter.clone()),
        recheck: filter,
        assignments,
        checks: Vec::new(),
        references: Vec::new(),
        referenced: Vec::new(),
        returning,
    };
    plan(Node::Update(Box::new(update)), width)
}

pub(crate) fn delete(table: &Arc<Table>, filter: Option<Expr>, returning: Option<Vec<Expr>>) -> Plan {
    let width = returning.as_ref().map_or(0, Vec::len);
    let input = target_scan(table, filter.clone());
    let (table, referenced) = (Arc::clone(table), Vec::new());
    plan(Node::Delete(Box::new(crate::plan::Delete { table, input, recheck: filter, referenced, returning })), width)
}
