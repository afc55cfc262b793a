//! Golden scripts: SQL from text to rows, over the in-memory engine. What is expected is what PostgreSQL 15 answers.
//!
//! A script is a list of blocks with an empty line between them: a statement, `----`, and its answer. Rows are
//! written as `psql -At` writes them with `NULL` for NULL; other statements answer with their command tag,
//! errors with `ERROR: <SQLSTATE>: <message>` and their detail. Lines that begin with `#` are comments.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use sql::catalog::ddl::{self, DdlContext};
use sql::catalog::{BOOTSTRAP_ROLE_OID, CatalogChanges, CatalogManager, POSTGRES_DATABASE_OID};
use sql::error::{Result, SqlError, SqlState};
use sql::executor::{ExecContext, Execution, Prepared};
use sql::functions::EvalContext;
use sql::parser::{ParsedStatement, parse};
use sql::planner::{PlanContext, StatementKind, plan};
use sql::store::{Interrupt, StatementOutcome, Store, Transaction, TransactionOptions};
use sql::table::RowIds;
use sql::testing::MemoryStore;
use sql::types::{Row, text};
use sqlparser::ast::Statement;

/// A connection, as far as scripts need one.
struct Client {
    store: Arc<dyn Store>,
    manager: CatalogManager,
    row_ids: Arc<RowIds>,
    transaction: Option<Open>,
    work_mem_bytes: usize,
}

struct Open {
    transaction: Arc<dyn Transaction>,
    changes: Mutex<CatalogChanges>,
    failed: bool,
}

impl Client {
    fn new(work_mem_bytes: usize) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let manager = CatalogManager::open(Arc::clone(&store)).expect("an empty store opens");
        Self { store, manager, row_ids: Arc::default(), transaction: None, work_mem_bytes }
    }

    fn begin(&self) -> Result<Open> {
        let transaction = self.store.begin(TransactionOptions::default(), Arc::new(Interrupt::default()))?;
        Ok(Open { transaction, changes: Mutex::default(), failed: false })
    }

    /// Runs one statement in the open transaction or one of its own; answers its lines.
    fn run(&mut self, statement: &ParsedStatement) -> Result<String> {
        match &statement.ast {
            Statement::StartTransaction { .. } => {
                self.transaction = Some(self.begin()?);
                return Ok("BEGIN".to_owned());
            }
            Statement::Commit { .. } | Statement::Rollback { .. } => {
                let open = self.transaction.take().expect("a transaction is open");
                if open.failed || matches!(statement.ast, Statement::Rollback { .. }) {
                    open.transaction.rollback();
                    return Ok("ROLLBACK".to_owned());
                }
                open.transaction.commit()?;
                return Ok("COMMIT".to_owned());
            }
            _ => {}
        }
        let explicit = self.transaction.is_some();
        let mut open = match self.transaction.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        if open.failed {
            self.transaction = Some(open);
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new(SqlState::IN_FAILED_SQL_TRANSACTION, message));
        }
        let result = self.run_in(&open, statement);
        if explicit {
            open.failed = result.is_err();
            self.transaction = Some(open);
        } else if result.is_ok() {
            open.transaction.commit()?;
        } else {
            open.transaction.rollback();
        }
        result
    }

    fn run_in(&self, open: &Open, statement: &ParsedStatement) -> Result<String> {
        let eval = Arc::new(EvalContext::detached());
        let search_path = ["public".to_owned()];
        if ddl::is_ddl(&statement.ast) {
            let context = DdlContext {
                transaction: &open.transaction,
                manager: &self.manager,
                changes: &open.changes,
                database: POSTGRES_DATABASE_OID,
                role: BOOTSTRAP_ROLE_OID,
                search_path: &search_path,
                eval: &eval,
                work_mem_bytes: self.work_mem_bytes,
                hash_memory: &Arc::default(),
                temporary_directory: Arc::from(std::env::temp_dir()),
                notices: &Mutex::default(),
                row_ids: &self.row_ids,
                random: &|bytes| bytes.fill(7),
            };
            return ddl::execute(&statement.ast, &context).map(|tag| tag.0);
        }
        let catalog = self.manager.catalog(POSTGRES_DATABASE_OID, &mut open.changes.lock())?;
        let planned = plan(
            &statement.ast,
            &PlanContext {
                catalog: Arc::clone(&catalog),
                search_path: &search_path,
                eval: Arc::clone(&eval),
                parameter_hints: &[],
                source: &statement.text,
                row_estimate: None,
            },
        )?;
        open.transaction.begin_statement()?;
        let context = ExecContext {
            transaction: Arc::clone(&open.transaction),
            store: Arc::clone(&self.store),
            catalog,
            params: Arc::from([]),
            eval: Arc::clone(&eval),
            row_ids: Arc::clone(&self.row_ids),
            work_mem_bytes: self.work_mem_bytes,
            hash_memory: Arc::default(),
            temporary_directory: Arc::from(std::env::temp_dir()),
        };
        let result = (|| {
            let prepared = Arc::new(Prepared::new(Arc::clone(&planned.plan))?);
            let mut execution = Execution::open(prepared, context)?;
            let (mut lines, mut row) = (String::new(), Row::new());
            while execution.next(&mut row)? {
                for (position, (datum, column)) in row.iter().zip(&planned.plan.columns).enumerate() {
                    lines.push_str(if position > 0 { "|" } else { "" });
                    if datum.is_null() {
                        lines.push_str("NULL");
                    } else {
                        text::format(datum, column.data_type, &eval, &mut lines);
                    }
                }
                lines.push('\n');
            }
            let affected = execution.rows_affected().unwrap_or(0);
            match planned.kind {
                StatementKind::Select => {}
                StatementKind::Insert => writeln!(lines, "INSERT 0 {affected}").expect("a string takes text"),
                StatementKind::Update => writeln!(lines, "UPDATE {affected}").expect("a string takes text"),
                StatementKind::Delete => writeln!(lines, "DELETE {affected}").expect("a string takes text"),
            }
            Ok(lines.trim_end_matches('\n').to_owned())
        })();
        let outcome = if result.is_ok() { StatementOutcome::Keep } else { StatementOutcome::Discard };
        open.transaction.end_statement(outcome);
        result
    }

    fn answer(&mut self, text: &str) -> String {
        let result = parse(text).and_then(|statements| self.run(&statements[0]));
        result.unwrap_or_else(|error| {
            let fields = error.fields();
            let detail = fields.detail.as_ref().map_or(String::new(), |detail| format!("\nDETAIL:  {detail}"));
            format!("ERROR:  {}: {}{detail}", fields.state.0, fields.message)
        })
    }
}

/// Runs a script; answers what differs.
fn check(script: &Path, work_mem_bytes: usize) -> String {
    let mut client = Client::new(work_mem_bytes);
    let content = std::fs::read_to_string(script).expect("a script is a readable file");
    let mut failures = String::new();
    for block in content.split("\n\n") {
        let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
        let block = lines.join("\n");
        let Some((statement, expected)) = block.split_once("\n----") else { continue };
        let answer = client.answer(statement.trim());
        if answer.trim() != expected.trim() {
            let name = script.file_name().unwrap_or_default().to_string_lossy();
            let expected = expected.trim();
            writeln!(failures, "{name}: {statement}\n-- expected\n{expected}\n-- found\n{answer}\n")
                .expect("a string takes text");
        }
    }
    failures
}

#[test]
fn scripts_answer_as_postgres_answers() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut scripts: Vec<_> = std::fs::read_dir(directory)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    scripts.sort();
    // The second round sends every sort and every kept result through temporary files.
    let failures: String =
        scripts.iter().flat_map(|script| [4 << 20, 100].map(|work_mem| check(script, work_mem))).collect();
    assert!(!scripts.is_empty() && failures.is_empty(), "\n{failures}");
}
