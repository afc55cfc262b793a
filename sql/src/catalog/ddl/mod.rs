//! DDL: statements that change the catalog, inside the caller's transaction.
//!
//! [`execute`] opens and closes the statement layers of the transaction itself (some statements need
//! several): the session calls it *between* `begin_statement`/`end_statement` pairs, and on an error finds
//! the transaction and [`CatalogChanges`] as they were before. Locks come first: names and tables are locked,
//! then the catalog is read again, then things are decided.

mod alter_relation;
mod alter_table;
mod analyze;
mod build;
mod comment;
mod constraint;
mod create_table;
mod create_table_as;
mod database;
mod drop;
mod evaluate;
mod expression;
mod foreign_key;
mod index;
mod options;
mod privilege;
mod recluster;
mod role;
mod schema;
pub mod scram;
mod sequence;
pub mod syntax;
mod truncate;
mod view;
mod work;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast::Statement;

pub(super) use self::expression::{mentions_column, sequences_of};
use self::syntax::Words;
pub(crate) use self::truncate::mark_refill;
use self::work::Work;
use super::{CatalogChanges, CatalogManager, Oid};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::HashMemory;
use crate::functions::EvalContext;
use crate::store::{StatementOutcome, Transaction};
use crate::table::RowIds;

/// What a statement that answers with a command tag answers: `CREATE TABLE`, `SELECT 3` …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTag(pub String);

/// What DDL works with.
pub struct DdlContext<'a> {
    /// The transaction, outside of any statement layer.
    pub transaction: &'a Arc<dyn Transaction>,
    /// The store's catalog.
    pub manager: &'a CatalogManager,
    /// What this transaction has changed in the catalog.
    pub changes: &'a Mutex<CatalogChanges>,
    /// The session's database.
    pub database: Oid,
    /// The role whose rights count (`current_user`).
    pub role: Oid,
    /// Effective search path, `$user` resolved. New objects go to its first existing schema.
    pub search_path: &'a [String],
    /// For expressions.
    pub eval: &'a Arc<EvalContext>,
    /// Memory for sorts before they go to disk.
    pub work_mem_bytes: usize,
    /// What hash tables may take.
    pub hash_memory: &'a Arc<HashMemory>,
    /// Where temporary files are made.
    pub temporary_directory: Arc<Path>,
    /// Row ids of the store.
    pub row_ids: &'a Arc<RowIds>,
    /// Takes notices, to be sent before the command tag.
    pub notices: &'a Mutex<Vec<Notice>>,
    /// Fills bytes at random: salts of password verifiers.
    pub random: &'a (dyn Fn(&mut [u8]) + Send + Sync),
}

/// A NOTICE or WARNING.
#[derive(Clone, Debug)]
pub struct Notice {
    /// WARNING rather than NOTICE.
    pub warning: bool,
    /// Its fields. The SQLSTATE is 00000 where nothing better fits.
    pub error: SqlError,
}

/// Whether [`execute`] takes the statement.
pub fn is_ddl(statement: &Statement) -> bool {
    syntax::carried(statement).is_some()
        || matches!(
            statement,
            Statement::CreateTable(_)
                | Statement::AlterTable(_)
                | Statement::Drop { .. }
                | Statement::CreateIndex(_)
                | Statement::AlterIndex { .. }
                | Statement::CreateSchema { .. }
                | Statement::AlterSchema(_)
                | Statement::CreateDatabase { .. }
                | Statement::CreateSequence { .. }
                | Statement::CreateView(_)
                | Statement::AlterView { .. }
                | Statement::CreateRole(_)
                | Statement::AlterRole { .. }
                | Statement::CreateUser(_)
                | Statement::AlterUser(_)
                | Statement::Grant(_)
                | Statement::Revoke(_)
                | Statement::Comment { .. }
                | Statement::Truncate(_)
                | Statement::Analyze(_)
        )
}

/// Runs a DDL statement.
pub fn execute(statement: &Statement, context: &DdlContext<'_>) -> Result<CommandTag> {
    let transaction = context.transaction;
    if transaction.options().read_only {
        let text = syntax::carried(statement).map_or_else(|| statement.to_string(), str::to_owned);
        let command = syntax::head(&text);
        let message = format!("cannot execute {command} in a read-only transaction");
        return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
    }
    let mark = context.changes.lock().mark();
    let savepoint = transaction.savepoint();
    let result = transaction.begin_statement().and_then(|()| dispatch(statement, &mut Work::new(context)?));
    match &result {
        Ok(_) => transaction.end_statement(StatementOutcome::Keep),
        Err(_) => {
            transaction.end_statement(StatementOutcome::Discard);
            transaction.rollback_to(savepoint);
            context.changes.lock().rollback_to(mark);
        }
    }
    transaction.release(savepoint);
    result
}

/// The statements that travel in a carrying node.
fn dispatch_carried(text: &str, work: &mut Work<'_>) -> Result<CommandTag> {
    let words = &mut Words::new(text)?;
    let verb = words.name()?;
    if matches!(verb.as_str(), "grant" | "revoke") {
        return privilege::execute(work, words, verb == "grant");
    }
    let kind = words.name()?;
    match (verb.as_str(), kind.as_str()) {
        ("create", "role" | "group") => role::create(work, words, false),
        ("create", "user") => role::create(work, words, true),
        ("alter", "role" | "user" | "group") => role::alter(work, words),
        ("drop", "role" | "user" | "group") => role::drop(work, words),
        ("create", "database") => database::create(work, words),
        ("alter", "database") => database::alter(work, words),
        ("drop", "database") => database::drop(work, words),
        ("create", "sequence") => sequence::create(work, words),
        ("alter", "table" | "view" | "index" | "sequence") => alter_relation::alter(work, words, &kind),
        ("comment", "on") => {
            words.expect(&["constraint"])?;
            comment::on_constraint(work, words)
        }
        _ => Err(words.error()),
    }
}

fn dispatch(statement: &Statement, work: &mut Work<'_>) -> Result<CommandTag> {
    if let Some(text) = syntax::carried(statement) {
        return dispatch_carried(text, work);
    }
    match statement {
        Statement::CreateTable(create) => create_table::create(work, create),
        Statement::Drop { object_type, names, if_exists, cascade, .. } => {
            drop::drop(work, *object_type, names, *if_exists, *cascade)
        }
        Statement::Analyze(statement) => analyze::analyze(work, statement),
        Statement::AlterTable(alter) => alter_table::alter(work, alter),
        Statement::CreateIndex(create) => index::create(work, create),
        Statement::CreateView(create) => view::create(work, create),
        Statement::Truncate(statement) => truncate::truncate(work, statement),
        Statement::CreateSchema { schema_name, if_not_exists, .. } => schema::create(work, schema_name, *if_not_exists),
        Statement::AlterSchema(statement) => schema::alter(work, statement),
        Statement::Comment { object_type, object_name, comment, .. } => {
            comment::comment(work, *object_type, object_name, comment.as_deref())
        }
        other => Err(SqlError::unsupported(syntax::head(&other.to_string()))),
    }
}
