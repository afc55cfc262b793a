//! SQL text in, rows out: parser, binder, planner and executor over the in-memory engine.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast::Statement;

use crate::catalog::ddl::{self, DdlContext};
use crate::catalog::{BOOTSTRAP_ROLE_OID, CatalogChanges, CatalogManager, POSTGRES_DATABASE_OID};
use crate::error::{Result, SqlError};
use crate::executor::{ExecContext, Execution, Prepared};
use crate::functions::EvalContext;
use crate::parser::{ParsedStatement, parse};
use crate::planner::{PlanContext, plan};
use crate::store::{Interrupt, StatementOutcome, Store, TransactionOptions};
use crate::table::RowIds;
use crate::testing::MemoryStore;
use crate::types::{Row, text};

pub struct Engine {
    store: Arc<dyn Store>,
    manager: CatalogManager,
    row_ids: Arc<RowIds>,
    eval: Arc<EvalContext>,
}

impl Engine {
    pub fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let manager = CatalogManager::open(Arc::clone(&store)).unwrap();
        let eval = Arc::new(EvalContext::detached());
        Self { store, manager, row_ids: Arc::default(), eval }
    }

    /// Runs one statement; rows as psql's unaligned output shows them, or SQLSTATE and message of the error.
    pub fn show(&self, sql: &str) -> String {
        match parse(sql).and_then(|statements| match statements.as_slice() {
            [statement] => self.run(statement),
            _ => Err(SqlError::internal("one statement at a time")),
        }) {
            Ok(rows) => rows.join("\n"),
            Err(error) => format!("ERROR {}: {}", error.state().0, error.message()),
        }
    }

    fn run(&self, statement: &ParsedStatement) -> Result<Vec<String>> {
        let transaction = self.store.begin(TransactionOptions::default(), Arc::new(Interrupt::default()))?;
        let plannable = matches!(
            statement.ast,
            Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
        );
        let search_path = ["public".to_owned()];
        if !plannable {
            let context = DdlContext {
                transaction: &transaction,
                manager: &self.manager,
                changes: &Mutex::<CatalogChanges>::default(),
                database: POSTGRES_DATABASE_OID,
                role: BOOTSTRAP_ROLE_OID,
                search_path: &search_path,
                eval: &self.eval,
                work_mem_bytes: 1 << 20,
                hash_memory: &Arc::default(),
                temporary_directory: Arc::from(std::env::temp_dir()),
                notices: &Mutex::default(),
                random: &|bytes| bytes.fill(7),
                row_ids: &self.row_ids,
            };
            ddl::execute(&statement.ast, &context)?;
            transaction.commit()?;
            return Ok(Vec::new());
        }
        let catalog = self.manager.committed(POSTGRES_DATABASE_OID)?;
        let context = PlanContext {
            catalog: catalog.clone(),
            search_path: &search_path,
            eval: self.eval.clone(),
            parameter_hints: &[],
            source: &statement.source,
            row_estimate: None,
        };
        let planned = plan(&statement.ast, &context)?;
        let types: Vec<_> = planned.plan.columns.iter().map(|column| column.data_type).collect();
        let prepared = Arc::new(Prepared::new(planned.plan)?);
        transaction.begin_statement()?;
        let context = ExecContext {
            transaction: transaction.clone(),
            store: self.store.clone(),
            catalog,
            params: Arc::from([]),
            eval: self.eval.clone(),
            row_ids: self.row_ids.clone(),
            work_mem_bytes: 1 << 20,
            hash_memory: Arc::default(),
            temporary_directory: Arc::from(std::env::temp_dir()),
        };
        let mut execution = Execution::open(prepared, context)?;
        let mut row = Row::new();
        let mut lines = Vec::new();
        while execution.next(&mut row)? {
            let shown = row.iter().zip(&types).map(|(value, data_type)| match value.is_null() {
                true => String::new(),
                false => text::to_string(value, *data_type, &self.eval),
            });
            lines.push(shown.collect::<Vec<_>>().join("|"));
        }
        drop(execution);
        transaction.end_statement(StatementOutcome::Keep);
        transaction.commit()?;
        Ok(lines)
    }
}
