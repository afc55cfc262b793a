//! Portals: a statement with its parameters, running or about to run.

use std::collections::VecDeque;
use std::sync::Arc;

use sqlparser::ast::Statement;

use super::literals::{Literal, Normalized, normalize};
use super::prepared::is_plannable;
use super::{Format, Prepared, Session};
use crate::error::{Result, SqlError, SqlState};
use crate::executor::{ExecContext, Execution, Finished};
use crate::functions::EvalContext;
use crate::parser::ParsedStatement;
use crate::plan::OutputColumn;
use crate::store::StatementOutcome;
use crate::types::{DataType, Datum, Row};

/// A statement bound to its parameters.
pub struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) parameters: Arc<[Datum]>,
    pub(super) columns: Option<Arc<[OutputColumn]>>,
    pub(super) formats: Vec<Format>,
    pub(super) state: State,
    /// Rows put out so far, for the command tag.
    pub(super) rows: u64,
}

pub(super) enum State {
    /// Not run yet.
    New,
    /// A plan that has rows to give.
    Running(Box<Running>),
    /// Rows that are already there: a utility statement's, or a suspended plan's remaining ones.
    Rows { rows: VecDeque<Row>, tag: String, eval: Arc<EvalContext> },
    /// Ended; the tag it gave.
    Done,
}

pub(super) struct Running {
    source: Source,
    eval: Arc<EvalContext>,
    tag: &'static str,
}

/// Where the rows of a running statement come from.
pub(super) enum Source {
    /// Operators that run as rows are asked for.
    Execution(Execution),
    /// A statement that had to do all its work first: it has foreign keys to keep.
    Finished(Finished),
}

impl Source {
    /// The next row, as [`Execution::next`].
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool> {
        match self {
            Self::Execution(execution) => execution.next(row),
            Self::Finished(finished) => finished.next(row),
        }
    }

    fn rows_affected(&self) -> Option<u64> {
        match self {
            Self::Execution(execution) => execution.rows_affected(),
            Self::Finished(finished) => finished.rows_affected(),
        }
    }
}

impl Running {
    /// What runs, and what its values are formatted with.
    pub(super) fn into_parts(self) -> (Source, Arc<EvalContext>) {
        (self.source, self.eval)
    }
}

/// How a fetch ended.
pub enum Fetched {
    /// The sink asked for a pause: write out, then fetch on.
    Paused,
    /// The row limit was reached and there may be more.
    Suspended,
    /// The statement has ended; its command tag.
    Complete(String),
    /// There was no statement.
    Empty,
    /// COPY FROM STDIN: send data with [`Session::copy_data`].
    CopyIn {
        /// Number of columns.
        columns: usize,
        /// Binary format.
        binary: bool,
    },
    /// COPY TO STDOUT: take data with [`Session::copy_out`].
    CopyOut {
        /// Number of columns.
        columns: usize,
        /// Binary format.
        binary: bool,
    },
}

/// Takes result rows.
pub trait RowSink {
    /// One row of `columns`, to be put out in `formats`. False asks for a pause after this row.
    fn row(&mut self, row: &[Datum], columns: &[OutputColumn], formats: &[Format], eval: &EvalContext) -> Result<bool>;
}

/// Plans of simple statements that a session keeps.
const MAX_SIMPLE_PLANS: usize = 256;

/// Name of the portal of a simple query; no client can name it.
const SIMPLE: &str = "\0simple";

impl Session {
    /// Prepares and binds one statement of a simple query. Rows come from [`Session::fetch_simple`].
    pub fn run_statement(&mut self, parsed: ParsedStatement) -> Result<Option<Arc<[OutputColumn]>>> {
        self.check_acceptable(Some(&parsed.ast))?;
        let prepared = self.prepare_parsed(Some(parsed), &[])?;
        if !prepared.parameters.is_empty() {
            return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
        }
        let portal = Portal::new(Arc::new(prepared), Arc::from([]), Vec::new());
        let columns = portal.columns.clone();
        self.portals.insert(SIMPLE.to_owned(), portal);
        Ok(columns)
    }

    /// Like parsing a Query message and [`Session::run_statement`], for a single statement that has come before
    /// with other literals: answers with its columns. `None`: run it the ordinary way.
    pub fn run_repeated(&mut self, text: &str) -> Result<Option<Option<Arc<[OutputColumn]>>>> {
        let Some(Normalized { text, literals }) = normalize(text) else { return Ok(None) };
        let prepared = match self.simple_plans.get(&text) {
            Some(Some(prepared)) => prepared.clone(),
            Some(None) => match self.prepare_repeated(&text, &literals) {
                Some(prepared) => {
                    let prepared = Arc::new(prepared);
                    self.simple_plans.insert(text, Some(prepared.clone()));
                    prepared
                }
                None => return Ok(None),
            },
            None => {
                if self.simple_plans.len() >= MAX_SIMPLE_PLANS {
                    self.simple_plans.clear();
                }
                self.simple_plans.insert(text, None);
                return Ok(None);
            }
        };
        let values = if literals.is_empty() {
            Arc::from([])
        } else {
            let eval = self.context.eval_context();
            let value = |(literal, data_type): (&Literal, &DataType)| match literal {
                Literal::Int4(number) => Some(Datum::Int4(*number)),
                Literal::Int8(number) => Some(Datum::Int8(*number)),
                Literal::Text(text) => crate::types::text::parse(text, *data_type, &eval).ok(),
            };
            match literals.iter().zip(&prepared.parameters).map(value).collect::<Option<Arc<[Datum]>>>() {
                Some(values) => values,
                // The ordinary way tells what is wrong with it, and where.
                None => return Ok(None),
            }
        };
        self.check_acceptable(prepared.parsed.as_ref().map(|parsed| &parsed.ast))?;
        let portal = Portal::new(prepared, values, Vec::new());
        let columns = portal.columns.clone();
        self.portals.insert(SIMPLE.to_owned(), portal);
        Ok(Some(columns))
    }

    /// Prepares a statement without its literals; `None` when that does not do.
    fn prepare_repeated(&mut self, text: &str, literals: &[Literal]) -> Option<Prepared> {
        let mut parsed = self.parse_script(text).ok()?;
        let parsed = parsed.pop().filter(|_| parsed.is_empty())?;
        let kept = is_plannable(&parsed.ast)
            || matches!(
                parsed.ast,
                Statement::StartTransaction { .. }
                    | Statement::Commit { .. }
                    | Statement::Rollback { savepoint: None, .. }
            );
        if !kept || self.check_acceptable(Some(&parsed.ast)).is_err() {
            return None;
        }
        let hints: Vec<u32> = literals
            .iter()
            .map(|literal| match literal {
                Literal::Int4(_) => DataType::INT4.oid(),
                Literal::Int8(_) => DataType::INT8.oid(),
                Literal::Text(_) => 0,
            })
            .collect();
        let prepared = self.prepare_parsed(Some(parsed), &hints).ok()?;
        (prepared.parameters.len() == literals.len() || literals.is_empty()).then_some(prepared)
    }

    /// Rows of the simple query's current statement.
    pub fn fetch_simple(&mut self, sink: &mut dyn RowSink) -> Result<Fetched> {
        let fetched = self.fetch(SIMPLE, &mut u64::MAX.clone(), sink)?;
        if !matches!(fetched, Fetched::Paused | Fetched::CopyOut { .. }) {
            self.portals.remove(SIMPLE);
        }
        Ok(fetched)
    }

    /// Ends the simple query's portal.
    pub fn close_simple(&mut self) {
        self.portals.remove(SIMPLE);
    }

    /// Bind message. `parameters` are the values on the wire, decoded by the statement's types.
    pub fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameter_formats: &[Format],
        parameters: &[Option<&[u8]>],
        result_formats: &[Format],
    ) -> Result<()> {
        let prepared = self.statement(statement)?.clone();
        self.check_acceptable(prepared.parsed.as_ref().map(|parsed| &parsed.ast))?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, format!("portal \"{portal}\" already exists")));
        }
        let (given, wanted) = (parameters.len(), prepared.parameters.len());
        if parameter_formats.len() > 1 && parameter_formats.len() != given {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!("bind message has {} parameter formats but {given} parameters", parameter_formats.len()),
            ));
        }
        if given != wanted {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {given} parameters, but prepared statement \"{statement}\" requires {wanted}"
                ),
            ));
        }
        let columns = prepared.columns.as_ref().map_or(0, |columns| columns.len());
        if result_formats.len() > 1 && result_formats.len() != columns {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!("bind message has {} result formats but query has {columns} columns", result_formats.len()),
            ));
        }
        let values = if parameters.is_empty() {
            Arc::from([])
        } else {
            let eval = self.context.eval_context();
            let decode = |(position, value): (usize, &Option<&[u8]>)| {
                let Some(bytes) = value else { return Ok(Datum::Null) };
                let data_type = prepared.parameters[position];
                match Format::of_column(parameter_formats, position) {
                    Format::Binary => crate::types::binary::decode(bytes, data_type, &eval),
                    Format::Text => std::str::from_utf8(bytes)
                        .map_err(|_| not_utf8())
                        .and_then(|text| crate::types::text::parse(text, data_type, &eval)),
                }
                .map_err(|error| with_parameter_context(error, position))
            };
            parameters.iter().enumerate().map(decode).collect::<Result<Arc<[_]>>>()?
        };
        self.portals.insert(portal.to_owned(), Portal::new(prepared, values, result_formats.to_vec()));
        Ok(())
    }

    /// Describe of a portal: its columns and their formats.
    pub fn describe_portal(&self, name: &str) -> Result<Option<(Arc<[OutputColumn]>, Vec<Format>)>> {
        let portal = self.portals.get(name).ok_or_else(|| missing_portal(name))?;
        Ok(portal.columns.clone().map(|columns| (columns, portal.formats.clone())))
    }

    /// Close of a portal; a missing one is no error.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// The portal's statement, for the log and the activity table.
    pub fn portal_text(&self, name: &str) -> &str {
        self.portals.get(name).map_or("", |portal| portal.prepared.text())
    }

    /// Whether the portal will run for microseconds: point work, or a statement that touches no rows. Anything
    /// else belongs into a section that may block its thread.
    pub fn is_quick(&self, name: &str) -> bool {
        let Some(portal) = self.portals.get(name) else { return true };
        match (&portal.state, portal.prepared.cached()) {
            (State::New, Some(plan)) => plan.point,
            (State::New, None) => match portal.prepared.parsed.as_ref().map(|parsed| &parsed.ast) {
                Some(Statement::Commit { .. }) => !self.heavy,
                Some(
                    Statement::StartTransaction { .. }
                    | Statement::Rollback { .. }
                    | Statement::Savepoint { .. }
                    | Statement::ReleaseSavepoint { .. }
                    | Statement::Set(_)
                    | Statement::ShowVariable { .. },
                )
                | None => true,
                Some(_) => false,
            },
            (State::Running(_), _) => false,
            (State::Rows { .. } | State::Done, _) => true,
        }
    }

    /// Whether ending the statement group takes microseconds.
    pub fn commit_is_quick(&self) -> bool {
        !self.heavy
    }

    /// [`Session::is_quick`] for the simple query's statement.
    pub fn simple_is_quick(&self) -> bool {
        self.is_quick(SIMPLE)
    }

    /// Execute message: runs the portal, giving at most `limit` rows to `sink`; `limit` is counted down.
    /// On an error the caller must call [`Session::statement_failed`].
    pub fn fetch(&mut self, name: &str, limit: &mut u64, sink: &mut dyn RowSink) -> Result<Fetched> {
        self.advance(name, limit, sink).map_err(|error| self.with_schema_name(error))
    }

    /// Adds the name of the schema to an error that knows its OID.
    pub(super) fn with_schema_name(&self, error: SqlError) -> SqlError {
        let fields = error.fields();
        let (Some(oid), None) = (fields.schema_oid, &fields.schema) else { return error };
        let Ok(catalog) = self.context.catalog() else { return error };
        match catalog.schema_name(oid) {
            Some(name) => error.with_schema(name),
            None => error,
        }
    }

    fn advance(&mut self, name: &str, limit: &mut u64, sink: &mut dyn RowSink) -> Result<Fetched> {
        let portal = self.portals.get(name).ok_or_else(|| missing_portal(name))?;
        let Some(parsed) = &portal.prepared.parsed else { return Ok(Fetched::Empty) };
        if matches!(portal.state, State::New) {
            let (prepared, parameters) = (portal.prepared.clone(), portal.parameters.clone());
            if is_plannable(&parsed_statement(&prepared).ast) {
                self.park_portals(name)?;
                let state = self.start_plan(&prepared, parameters)?;
                self.portals.get_mut(name).expect("still there").state = state;
            } else {
                let parsed = parsed_statement(&prepared).clone();
                match self.run_utility(&parsed, &parameters, &prepared.parameters)? {
                    super::utility::Utility::Fetched(fetched) => {
                        // COMMIT and ROLLBACK have closed the portal already.
                        if let Some(portal) = self.portals.get_mut(name) {
                            portal.state = State::Done;
                        }
                        return Ok(fetched);
                    }
                    super::utility::Utility::Running(state) => {
                        self.portals.get_mut(name).expect("still there").state = state;
                    }
                    super::utility::Utility::Rows { rows, tag } => {
                        let eval = self.context.eval_context();
                        self.portals.get_mut(name).expect("still there").state =
                            State::Rows { rows: rows.into(), tag, eval };
                    }
                }
            }
        } else {
            self.check_acceptable(Some(&parsed.ast))?;
        }
        self.pull(name, limit, sink)
    }

    pub(super) fn start_plan(&mut self, prepared: &Arc<Prepared>, parameters: Arc<[Datum]>) -> Result<State> {
        let transaction = self.transaction()?;
        let eval = self.context.eval_context();
        let plan = self.locked_plan(prepared, &eval)?;
        self.heavy |= !plan.point;
        transaction.begin_statement()?;
        let context = self.exec_context(transaction.clone(), parameters, eval.clone())?;
        let execution = Execution::open(plan.compiled.clone(), context)?;
        let source = if plan.compiled.has_foreign_keys() {
            let mut finished = execution.run_out()?;
            transaction.end_statement(StatementOutcome::Keep);
            if let Some(taken) = finished.take_taken_keys() {
                self.follow_taken_keys(taken)?;
            }
            Source::Finished(finished)
        } else {
            Source::Execution(execution)
        };
        Ok(State::Running(Box::new(Running { source, eval, tag: plan.tag() })))
    }

    /// What an execution needs of this session.
    pub(super) fn exec_context(
        &self,
        transaction: Arc<dyn crate::store::Transaction>,
        params: Arc<[Datum]>,
        eval: Arc<EvalContext>,
    ) -> Result<ExecContext> {
        let server = &self.context.server;
        Ok(ExecContext {
            transaction,
            store: server.store.clone(),
            catalog: self.context.catalog()?,
            params,
            eval,
            row_ids: server.row_ids.clone(),
            work_mem_bytes: self.context.settings.lock().typed().work_mem_bytes,
            hash_memory: server.hash_memory.clone(),
            temporary_directory: server.temporary_directory.clone(),
        })
    }

    pub(super) fn pull(&mut self, name: &str, limit: &mut u64, sink: &mut dyn RowSink) -> Result<Fetched> {
        let portal = self.portals.get_mut(name).ok_or_else(|| missing_portal(name))?;
        let columns = portal.columns.clone();
        let columns = columns.as_deref().unwrap_or_default();
        match &mut portal.state {
            State::New => unreachable!("a new portal has been started"),
            State::Done => {
                // A query that has given its last row gives none.
                if let Some(plan) = portal.prepared.cached().filter(|_| portal.columns.is_some()) {
                    return Ok(Fetched::Complete(complete_tag(plan.tag(), 0)));
                }
                // Running a finished data change again must not repeat it.
                Err(SqlError::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                ))
            }
            State::Rows { rows, tag, eval } => {
                while let Some(row) = rows.pop_front() {
                    portal.rows += 1;
                    *limit -= 1;
                    let more = sink.row(&row, columns, &portal.formats, eval)?;
                    if *limit == 0 {
                        return Ok(Fetched::Suspended);
                    }
                    if !more {
                        return Ok(Fetched::Paused);
                    }
                }
                let tag = complete_tag(tag, portal.rows);
                portal.state = State::Done;
                Ok(Fetched::Complete(tag))
            }
            State::Running(running) => {
                let mut row = Row::new();
                while running.source.next(&mut row)? {
                    portal.rows += 1;
                    *limit -= 1;
                    let more = sink.row(&row, columns, &portal.formats, &running.eval)?;
                    if *limit == 0 {
                        return Ok(Fetched::Suspended);
                    }
                    if !more {
                        return Ok(Fetched::Paused);
                    }
                }
                let affected = running.source.rows_affected().unwrap_or(portal.rows);
                let tag = complete_tag(running.tag, affected);
                portal.state = State::Done;
                if let Some(transaction) = self.current_transaction() {
                    transaction.end_statement(StatementOutcome::Keep);
                }
                Ok(Fetched::Complete(tag))
            }
        }
    }

    /// Before another statement begins: a suspended portal reads the rest of its rows into memory, at its
    /// own snapshot, since a statement's snapshot ends with it.
    pub(super) fn park_portals(&mut self, except: &str) -> Result<()> {
        let running: Vec<String> = self
            .portals
            .iter()
            .filter(|(name, portal)| *name != except && matches!(portal.state, State::Running(_)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in running {
            let limit_bytes = self.context.settings.lock().typed().work_mem_bytes;
            let portal = self.portals.get_mut(&name).expect("listed above");
            let State::Running(running) = &mut portal.state else { continue };
            let mut rows = VecDeque::new();
            let mut row = Row::new();
            let mut bytes = 0;
            while running.source.next(&mut row)? {
                bytes += row.iter().map(Datum::heap_bytes).sum::<usize>()
                    + row.len() * std::mem::size_of::<Datum>()
                    + std::mem::size_of::<Row>();
                if bytes > limit_bytes {
                    return Err(SqlError::new(
                        SqlState::OUT_OF_MEMORY,
                        format!("the rest of portal \"{name}\" exceeds work_mem"),
                    )
                    .with_detail("A suspended portal is kept in memory while other statements run.")
                    .with_hint("Read the portal to its end first, or raise work_mem."));
                }
                rows.push_back(std::mem::take(&mut row));
            }
            let tag = running.tag.to_owned();
            let eval = running.eval.clone();
            portal.state = State::Rows { rows, tag, eval };
            if let Some(transaction) = self.current_transaction() {
                transaction.end_statement(StatementOutcome::Keep);
            }
        }
        Ok(())
    }

    /// Drops portals at a transaction's end.
    pub(super) fn end_portals(&mut self) {
        self.portals.clear();
    }
}

impl Portal {
    pub(super) fn new(prepared: Arc<Prepared>, parameters: Arc<[Datum]>, formats: Vec<Format>) -> Self {
        let columns = prepared.columns.clone();
        Self { prepared, parameters, columns, formats, state: State::New, rows: 0 }
    }
}

fn parsed_statement(prepared: &Prepared) -> &ParsedStatement {
    prepared.parsed.as_ref().expect("an empty query has been answered")
}

fn complete_tag(tag: &str, rows: u64) -> String {
    match tag {
        "INSERT" => format!("INSERT 0 {rows}"),
        "SELECT" | "UPDATE" | "DELETE" | "FETCH" => format!("{tag} {rows}"),
        other => other.to_owned(),
    }
}

pub(super) fn missing_portal(name: &str) -> SqlError {
    let message = format!("portal \"{name}\" does not exist");
    SqlError::new(SqlState::INVALID_CURSOR_NAME, message)
}

fn not_utf8() -> SqlError {
    SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
}

fn with_parameter_context(error: SqlError, position: usize) -> SqlError {
    if error.fields().context.is_some() {
        return error;
    }
    error.with_context(format!("unnamed portal parameter ${}", position + 1))
}
