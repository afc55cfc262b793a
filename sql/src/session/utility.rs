//! Utility statements: everything without a plan.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngCore;
use sqlparser::ast::{
    self, ContextModifier, DiscardObject, Reset, Set, Statement, TransactionAccessMode, TransactionIsolationLevel,
    TransactionMode,
};

use super::block::Modes;
use super::prepared::{fold, is_plannable, oids, text_column};
use super::{DEFINITIONS, Fetched, Scope, Session, Severity};
use crate::catalog::Relation;
use crate::catalog::ddl::{self, DdlContext};
use crate::error::{Result, SqlError, SqlState};
use crate::executor;
use crate::parser::ParsedStatement;
use crate::plan::OutputColumn;
use crate::store::{IsolationLevel, StatementOutcome, TableLockMode, WaitPolicy};
use crate::types::cast::{CastContext, can_cast, cast};
use crate::types::{DataType, Datum, Row};

/// What a utility statement gives.
pub(super) enum Utility {
    /// No rows.
    Fetched(Fetched),
    /// Rows.
    Rows { rows: Vec<Row>, tag: String },
    /// A plan that runs in the portal (EXECUTE).
    Running(super::portal::State),
}

pub(super) fn done(tag: &str) -> Result<Utility> {
    Ok(Utility::Fetched(Fetched::Complete(tag.to_owned())))
}

impl Session {
    /// Result columns of a utility statement, for Describe.
    pub(super) fn utility_columns(&mut self, parsed: &ParsedStatement) -> Result<Option<Arc<[OutputColumn]>>> {
        Ok(match &parsed.ast {
            Statement::Explain { .. } => Some(text_column("QUERY PLAN")),
            Statement::ShowVariable { variable } => match setting_name(variable).as_str() {
                "all" => Some(show_all_columns()),
                name => Some(text_column(&shown_name(name))),
            },
            Statement::Fetch { .. } if crate::parser::is_move(&parsed.ast) => None,
            Statement::Fetch { name, .. } => self.cursor_columns(&fold(name))?,
            Statement::Execute { name: Some(name), .. } => self.statement(&object_name(name))?.columns.clone(),
            _ => None,
        })
    }

    /// Runs a utility statement.
    pub(super) fn run_utility(
        &mut self,
        parsed: &ParsedStatement,
        parameters: &Arc<[Datum]>,
        types: &[DataType],
    ) -> Result<Utility> {
        self.check_acceptable(Some(&parsed.ast))?;
        match &parsed.ast {
            Statement::StartTransaction { modes, begin, statements, .. } => {
                if !statements.is_empty() {
                    return Err(SqlError::unsupported("BEGIN … END with statements"));
                }
                self.begin(modes_of(modes)?)?;
                done(if *begin { "BEGIN" } else { "START TRANSACTION" })
            }
            Statement::Commit { chain, .. } => {
                let tag = self.commit(*chain)?;
                done(tag)
            }
            Statement::Rollback { chain, savepoint: None } => {
                self.rollback(*chain)?;
                done("ROLLBACK")
            }
            Statement::Rollback { savepoint: Some(name), .. } => {
                self.rollback_to_savepoint(&fold(name))?;
                done("ROLLBACK")
            }
            Statement::Savepoint { name } => {
                self.savepoint(&fold(name))?;
                done("SAVEPOINT")
            }
            Statement::ReleaseSavepoint { name } => {
                self.release_savepoint(&fold(name))?;
                done("RELEASE")
            }
            Statement::Set(set) => self.set(set),
            Statement::Reset(reset) => {
                match &reset.reset {
                    Reset::ALL => self.context.settings.lock().reset_all(),
                    Reset::ConfigurationParameter(name) => {
                        self.context.settings.lock().reset(&dotted_name(name))?;
                    }
                }
                self.settings_changed();
                done("RESET")
            }
            Statement::ShowVariable { variable } => self.show(variable),
            Statement::Prepare { name, data_types, statement } => {
                if !is_plannable(statement) {
                    return Err(SqlError::unsupported("PREPARE of a utility statement"));
                }
                let types = data_types.iter().map(crate::binder::bind_type).collect::<Result<Vec<_>>>()?;
                let inner = ParsedStatement { ast: (**statement).clone(), ..parsed.clone() };
                self.prepare_sql(&fold(name), inner, &types)?;
                done("PREPARE")
            }
            Statement::Execute { name: Some(name), parameters, .. } => self.execute_sql(&object_name(name), parameters),
            Statement::Deallocate { name, .. } => {
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") {
                    self.close_statements();
                    return done("DEALLOCATE ALL");
                }
                let name = fold(name);
                self.statement(&name)?;
                self.close_statement(&name);
                done("DEALLOCATE")
            }
            Statement::Declare { stmts } => match stmts.as_slice() {
                [declare] => self.declare_cursor(declare, parsed, parameters, types),
                _ => Err(SqlError::unsupported("DECLARE of several names")),
            },
            Statement::Fetch { name, direction, .. } if crate::parser::is_move(&parsed.ast) => {
                self.move_cursor(&fold(name), direction)
            }
            Statement::Fetch { name, direction, into: None, .. } => self.fetch_cursor(&fold(name), direction),
            Statement::Close { cursor } => {
                self.close_cursor(cursor)?;
                done("CLOSE CURSOR")
            }
            Statement::Discard { object_type } => self.discard(object_type),
            Statement::UNLISTEN { .. } => done("UNLISTEN"),
            Statement::Lock(lock) => self.lock_tables(lock),
            Statement::Vacuum(vacuum) => self.vacuum(vacuum),
            Statement::Explain { .. } => self.explain(parsed, parameters, types),
            Statement::Copy { .. } => self.start_copy(parsed),
            statement if ddl::is_ddl(statement) => {
                let tag = self.run_ddl(statement)?;
                done(&tag)
            }
            other => match crate::parser::command(other) {
                Some(command) => self.run_command(command),
                None => Err(SqlError::unsupported(format!("statement {}", first_words(&other.to_string())))),
            },
        }
    }

    #[expect(clippy::disallowed_methods, reason = "salts of passwords must not repeat, also not in tests")]
    pub(super) fn run_ddl(&mut self, statement: &Statement) -> Result<String> {
        self.heavy = true;
        self.park_portals("")?;
        let transaction = self.transaction()?;
        let eval = self.context.eval_context();
        let notices = Mutex::new(Vec::new());
        let search_path = self.context.search_path();
        let context = DdlContext {
            transaction: &transaction,
            manager: &self.context.server.catalogs,
            changes: &self.context.changes,
            database: self.context.database,
            role: self.context.role,
            search_path: &search_path,
            eval: &eval,
            work_mem_bytes: self.context.settings.lock().typed().work_mem_bytes,
            row_ids: &self.context.server.row_ids,
            hash_memory: &self.context.server.hash_memory,
            temporary_directory: self.context.server.temporary_directory.clone(),
            notices: &notices,
            random: &|bytes| rand::rng().fill_bytes(bytes),
        };
        let result = ddl::execute(statement, &context);
        for notice in notices.into_inner() {
            self.notify(if notice.warning { Severity::Warning } else { Severity::Notice }, notice.error);
        }
        result.map(|tag| tag.0)
    }

    /// SQL's EXECUTE.
    fn execute_sql(&mut self, name: &str, arguments: &[ast::Expr]) -> Result<Utility> {
        let prepared = self.statement(name)?.clone();
        let (given, wanted) = (arguments.len(), prepared.parameters.len());
        if given != wanted {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .with_detail(format!("Expected {wanted} parameters but got {given}.")));
        }
        self.park_portals("")?;
        let values = self.execute_arguments(arguments, &prepared.parameters)?;
        Ok(Utility::Running(self.start_plan(&prepared, values)?))
    }

    /// Values of EXECUTE's arguments, coerced to the parameters' types as in an assignment.
    fn execute_arguments(&mut self, arguments: &[ast::Expr], types: &[DataType]) -> Result<Arc<[Datum]>> {
        if arguments.is_empty() {
            return Ok(Arc::from([]));
        }
        let list: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (prepared, eval) = self.prepare_internal(&format!("SELECT {}", list.join(", ")))?;
        let plan = self.locked_plan(&prepared, &eval)?;
        let transaction = self.transaction()?;
        transaction.begin_statement()?;
        let context = self.exec_context(transaction.clone(), Arc::from([]), eval.clone())?;
        let mut row = Row::new();
        executor::Execution::open(plan.compiled.clone(), context)?.next(&mut row)?;
        transaction.end_statement(StatementOutcome::Keep);
        let columns = &plan.planned.plan.columns;
        let coerce = |((value, column), to): ((&Datum, &OutputColumn), &DataType)| {
            if !can_cast(column.data_type, *to, CastContext::Assignment) {
                let (to, from) = (to.name(), column.data_type.name());
                let message = format!("parameter of type {from} cannot be coerced to the expected type {to}");
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                    .with_hint("You will need to rewrite or cast the expression."));
            }
            cast(value, column.data_type, *to, false, &eval)
        };
        row.iter().zip(columns).zip(types).map(coerce).collect()
    }

    fn set(&mut self, set: &Set) -> Result<Utility> {
        match set {
            Set::SingleAssignment { scope, variable, values, .. } => {
                let scope = match scope {
                    Some(ContextModifier::Local) => Scope::Local,
                    _ => Scope::Session,
                };
                let name = dotted_name(variable);
                if let [ast::Expr::Identifier(word)] = values.as_slice()
                    && word.quote_style.is_none()
                    && word.value.eq_ignore_ascii_case("default")
                {
                    self.context.settings.lock().reset(&name)?;
                } else {
                    let value = values.iter().map(value_text).collect::<Result<Vec<_>>>()?.join(", ");
                    self.assign(&name, &value, scope)?;
                }
            }
            Set::SetTimeZone { local, value } => {
                let scope = if *local { Scope::Local } else { Scope::Session };
                let value = value_text(value)?;
                let value = if value.eq_ignore_ascii_case("local") { "UTC".to_owned() } else { value };
                self.assign("TimeZone", &value, scope)?;
            }
            Set::SetNames { charset_name, .. } => {
                self.assign("client_encoding", &charset_name.value, Scope::Session)?
            }
            Set::SetNamesDefault {} => self.context.settings.lock().reset("client_encoding")?,
            Set::SetTransaction { modes, snapshot: None, session } => {
                let modes = modes_of(modes)?;
                if *session {
                    let mut settings = self.context.settings.lock();
                    if let Some(isolation) = modes.isolation {
                        let name = super::block::isolation_name(isolation);
                        settings.set("default_transaction_isolation", name, Scope::Session)?;
                    }
                    if let Some(read_only) = modes.read_only {
                        let value = if read_only { "on" } else { "off" };
                        settings.set("default_transaction_read_only", value, Scope::Session)?;
                    }
                } else {
                    self.set_transaction_modes(modes)?;
                }
            }
            Set::SetRole { role_name, .. } => {
                let wanted = role_name.as_ref().map_or("none".to_owned(), fold);
                if wanted != "none" && wanted != self.context.activity.user {
                    return Err(SqlError::unsupported("SET ROLE to another role"));
                }
            }
            other => return Err(SqlError::unsupported(format!("SET {other}"))),
        }
        self.settings_changed();
        done("SET")
    }

    fn assign(&mut self, name: &str, value: &str, scope: Scope) -> Result<()> {
        match name.to_ascii_lowercase().as_str() {
            "transaction_isolation" => {
                let modes = Modes { isolation: Some(isolation_level(value)?), ..Modes::default() };
                self.set_transaction_modes(modes)
            }
            "transaction_read_only" => {
                let read_only = matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1");
                self.set_transaction_modes(Modes { read_only: Some(read_only), ..Modes::default() })
            }
            _ => self.context.settings.lock().set(name, value, scope),
        }
    }

    /// Settings that others look at were possibly changed.
    pub(super) fn settings_changed(&self) {
        let settings = self.context.settings.lock();
        self.context.interrupt.set_lock_timeout_ms(settings.typed().lock_timeout_ms);
        if let Ok(name) = settings.show("application_name") {
            self.context.activity.now.lock().application_name = Arc::from(name);
        }
    }

    fn show(&mut self, variable: &[ast::Ident]) -> Result<Utility> {
        let settings = self.context.settings.lock();
        let name = setting_name(variable);
        let rows = if name == "all" {
            settings
                .all()
                .map(|(definition, value)| {
                    vec![Datum::text(definition.name), Datum::text(value), Datum::text(definition.description)]
                })
                .collect()
        } else {
            vec![vec![Datum::text(settings.show(&name)?)]]
        };
        Ok(Utility::Rows { rows, tag: "SHOW".to_owned() })
    }

    fn discard(&mut self, object: &DiscardObject) -> Result<Utility> {
        match object {
            DiscardObject::ALL => {
                if self.transaction_status() != super::TransactionStatus::Idle {
                    return Err(SqlError::new(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.close_statements();
                self.context.settings.lock().reset_all();
                self.context.sequences.lock().discard();
                self.settings_changed();
            }
            DiscardObject::SEQUENCES => self.context.sequences.lock().discard(),
            // Plans are made anew when they must be; there are no temporary tables.
            DiscardObject::PLANS | DiscardObject::TEMP => {}
        }
        done(&format!("DISCARD {object}"))
    }

    fn lock_tables(&mut self, lock: &ast::Lock) -> Result<Utility> {
        if self.transaction_status() != super::TransactionStatus::InTransaction {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "LOCK TABLE can only be used in transaction blocks",
            ));
        }
        let transaction = self.transaction()?;
        let mode = lock.lock_mode.as_ref().map_or(TableLockMode::AccessExclusive, table_lock_mode);
        let wait = if lock.nowait { WaitPolicy::Error } else { WaitPolicy::Block };
        let catalog = self.context.catalog()?;
        let search_path = self.context.search_path();
        for table in &lock.tables {
            let parts: Vec<String> = table.name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
            let (schema, name) = match parts.as_slice() {
                [name] => (None, name),
                [schema, name] => (Some(schema.as_str()), name),
                _ => return Err(SqlError::unsupported("LOCK TABLE of another database")),
            };
            match catalog.require_relation(schema, name, &search_path)? {
                Relation::Table(table) => {
                    transaction.lock_table(u64::from(table.oid), mode, wait)?;
                }
                other => {
                    let message = format!("\"{}\" is not a table", other.name());
                    return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
                }
            }
        }
        done("LOCK TABLE")
    }

    fn explain(&mut self, parsed: &ParsedStatement, parameters: &Arc<[Datum]>, types: &[DataType]) -> Result<Utility> {
        let options = crate::planner::ExplainOptions::of(&parsed.ast)?;
        let Statement::Explain { statement, .. } = &parsed.ast else { unreachable!("called for EXPLAIN") };
        self.park_portals("")?;
        let transaction = self.transaction()?;
        let eval = self.context.eval_context();
        let inner = ParsedStatement { ast: (**statement).clone(), ..parsed.clone() };
        if !is_plannable(&inner.ast) {
            return Err(SqlError::unsupported(format!("EXPLAIN of {}", first_words(&inner.ast.to_string()))));
        }
        let prepared = self.prepare_parsed(Some(inner), &oids(types))?;
        let plan = self.locked_plan(&prepared, &eval)?;
        let started_us = (self.context.server.clock)();
        let actuals = if options.analyze {
            transaction.begin_statement()?;
            let context = self.exec_context(transaction.clone(), parameters.clone(), eval)?;
            let (actuals, taken) = crate::executor::run_instrumented(plan.compiled.clone(), context)?;
            transaction.end_statement(crate::store::StatementOutcome::Keep);
            if let Some(taken) = taken {
                self.follow_taken_keys(taken)?;
            }
            Some(actuals)
        } else {
            None
        };
        let execution_us = (self.context.server.clock)() - started_us;
        let lines = crate::planner::explain(&plan.planned.plan, &options, actuals.as_ref(), execution_us);
        let rows = lines.into_iter().map(|line| vec![Datum::text(line)]).collect();
        Ok(Utility::Rows { rows, tag: "EXPLAIN".to_owned() })
    }
}

fn modes_of(modes: &[TransactionMode]) -> Result<Modes> {
    let mut result = Modes::default();
    for mode in modes {
        match mode {
            TransactionMode::AccessMode(access) => {
                result.read_only = Some(matches!(access, TransactionAccessMode::ReadOnly));
            }
            TransactionMode::IsolationLevel(level) => {
                result.isolation = Some(match level {
                    TransactionIsolationLevel::ReadUncommitted | TransactionIsolationLevel::ReadCommitted => {
                        IsolationLevel::ReadCommitted
                    }
                    TransactionIsolationLevel::RepeatableRead => IsolationLevel::RepeatableRead,
                    TransactionIsolationLevel::Serializable => IsolationLevel::Serializable,
                    TransactionIsolationLevel::Snapshot => {
                        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"SNAPSHOT\""));
                    }
                });
            }
        }
    }
    Ok(result)
}

fn isolation_level(text: &str) -> Result<IsolationLevel> {
    match text.to_ascii_lowercase().as_str() {
        "read committed" | "read uncommitted" => Ok(IsolationLevel::ReadCommitted),
        "repeatable read" => Ok(IsolationLevel::RepeatableRead),
        "serializable" => Ok(IsolationLevel::Serializable),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"transaction_isolation\": \"{text}\""),
        )),
    }
}

/// A value of SET as text: words, strings and numbers stand for themselves.
fn value_text(value: &ast::Expr) -> Result<String> {
    Ok(match value {
        ast::Expr::Identifier(word) => word.value.clone(),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => format!("-{}", value_text(expr)?),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Plus, expr } => value_text(expr)?,
        ast::Expr::Interval(interval) => value_text(&interval.value)?,
        other => {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\"")));
        }
    })
}

fn object_name(name: &ast::ObjectName) -> String {
    name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect::<Vec<_>>().join(".")
}

fn dotted_name(name: &ast::ObjectName) -> String {
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.clone()).collect();
    parts.join(".")
}

/// The name that SHOW was given: SHOW TIME ZONE and SHOW TRANSACTION ISOLATION LEVEL are several words.
fn setting_name(variable: &[ast::Ident]) -> String {
    let words: Vec<_> = variable.iter().map(|ident| ident.value.to_ascii_lowercase()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["time", "zone"] => "TimeZone".to_owned(),
        ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
        ["session", "authorization"] => "session_authorization".to_owned(),
        words => words.join("."),
    }
}

fn shown_name(name: &str) -> String {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name.eq_ignore_ascii_case(name))
        .map_or_else(|| name.to_owned(), |definition| definition.name.to_owned())
}

fn show_all_columns() -> Arc<[OutputColumn]> {
    ["name", "setting", "description"]
        .map(|name| OutputColumn { name: name.to_owned(), data_type: DataType::TEXT, origin: None })
        .into_iter()
        .collect()
}

fn table_lock_mode(mode: &ast::LockTableMode) -> TableLockMode {
    match mode {
        ast::LockTableMode::AccessShare => TableLockMode::AccessShare,
        ast::LockTableMode::RowShare => TableLockMode::RowShare,
        ast::LockTableMode::RowExclusive => TableLockMode::RowExclusive,
        ast::LockTableMode::ShareUpdateExclusive => TableLockMode::ShareUpdateExclusive,
        ast::LockTableMode::Share => TableLockMode::Share,
        ast::LockTableMode::ShareRowExclusive => TableLockMode::ShareRowExclusive,
        ast::LockTableMode::Exclusive => TableLockMode::Exclusive,
        ast::LockTableMode::AccessExclusive => TableLockMode::AccessExclusive,
    }
}

fn first_words(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
