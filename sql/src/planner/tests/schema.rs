//! A catalog made by DDL statements on the in-memory engine, and planning over it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::ddl::{self, DdlContext};
use crate::catalog::{BOOTSTRAP_ROLE_OID, Catalog, CatalogChanges, CatalogManager, POSTGRES_DATABASE_OID, Table};
use crate::error::Result;
use crate::functions::EvalContext;
use crate::parser::parse;
use crate::planner::{ExplainOptions, PlanContext, PlannedStatement, explain, plan};
use crate::store::{Interrupt, Store, TransactionOptions};
use crate::testing::MemoryStore;
use crate::types::DataType;

/// A database to plan against.
pub struct Database {
    catalog: Arc<Catalog>,
    rows: HashMap<String, f64>,
}

impl Database {
    /// Runs DDL statements, one on each line; `rows` says how large tables are.
    pub fn new(statements: &str, rows: &[(&str, f64)]) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let manager = CatalogManager::open(Arc::clone(&store)).unwrap();
        for statement in parse(statements).unwrap() {
            let transaction = store.begin(TransactionOptions::default(), Arc::new(Interrupt::default())).unwrap();
            let context = DdlContext {
                transaction: &transaction,
                manager: &manager,
                changes: &Mutex::<CatalogChanges>::default(),
                database: POSTGRES_DATABASE_OID,
                role: BOOTSTRAP_ROLE_OID,
                search_path: &["public".to_owned()],
                eval: &Arc::new(EvalContext::detached()),
                work_mem_bytes: 1 << 16,
                hash_memory: &Arc::default(),
                temporary_directory: Arc::from(std::env::temp_dir()),
                row_ids: &std::sync::Arc::default(),
                notices: &Mutex::default(),
                random: &|bytes| bytes.fill(7),
            };
            ddl::execute(&statement.ast, &context).unwrap_or_else(|error| panic!("{}: {error}", statement.text));
            transaction.commit().unwrap();
        }
        let rows = rows.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
        Self { catalog: manager.committed(POSTGRES_DATABASE_OID).unwrap(), rows }
    }

    /// Plans a statement with parameter types as a client would declare them.
    pub fn plan_with(&self, text: &str, hints: &[Option<DataType>]) -> Result<PlannedStatement> {
        let statements = parse(text)?;
        let estimate = |table: &Table| self.rows.get(&table.name).copied();
        let context = PlanContext {
            catalog: self.catalog.clone(),
            search_path: &["public".to_owned()],
            eval: Arc::new(EvalContext::detached()),
            parameter_hints: hints,
            source: text,
            row_estimate: Some(&estimate),
        };
        plan(&statements[0].ast, &context)
    }

    pub fn plan(&self, text: &str) -> Result<PlannedStatement> {
        self.plan_with(text, &[])
    }

    /// EXPLAIN (COSTS OFF), or the error.
    pub fn explain(&self, text: &str) -> String {
        let options =
            ExplainOptions { analyze: false, verbose: false, costs: false, timing: false, summary: false, json: false };
        match self.plan(text) {
            Ok(planned) => explain(&planned.plan, &options, None, 0).join("\n"),
            Err(error) => {
                let fields = error.fields();
                let position = fields.position.map_or(String::new(), |position| format!(" @{position}"));
                format!("{} {}{position}", fields.state.0, fields.message)
            }
        }
    }
}
