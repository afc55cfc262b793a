//! COPY between a client and a table or a query.

use std::sync::Arc;

use sqlparser::ast::{CopySource, CopyTarget as Target, Ident, ObjectName, Statement};

use super::portal::State;
use super::prepared::fold;
use super::utility::Utility;
use super::{Fetched, Prepared, Session};
use crate::catalog::{Privilege, Relation, Table};
use crate::copy::{CopyFormat, CopyIn, CopyOptions, CopyOut, CopyTarget};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::parser::ParsedStatement;
use crate::plan::Node;
use crate::store::{Direction, KeyRange, StatementOutcome, TableLockMode, WaitPolicy};
use crate::types::Row;

/// A COPY that is going on.
pub(super) enum CopyInProgress {
    /// FROM STDIN.
    In(Box<CopyIn>),
    /// TO STDOUT.
    Out(Box<Out>),
}

pub(super) struct Out {
    execution: super::portal::Source,
    eval: Arc<EvalContext>,
    writer: CopyOut,
    line: Vec<u8>,
    begun: bool,
    rows: u64,
}

impl Session {
    /// Begins a COPY.
    pub(super) fn start_copy(&mut self, parsed: &ParsedStatement) -> Result<Utility> {
        let Statement::Copy { source, to, target, options, legacy_options, .. } = &parsed.ast else {
            return Err(SqlError::internal("start_copy was called for another statement"));
        };
        match (to, target) {
            (false, Target::Stdin) | (true, Target::Stdout) => {}
            (_, Target::File { .. } | Target::Program { .. }) => {
                return Err(SqlError::unsupported("COPY with a file or program on the server")
                    .with_hint("Use COPY FROM STDIN or COPY TO STDOUT, such as psql's \\copy does."));
            }
            _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "COPY needs FROM STDIN or TO STDOUT")),
        }
        let options = CopyOptions::of(options, legacy_options, !to)?;
        let binary = options.format == CopyFormat::Binary;
        self.heavy = true;
        self.park_portals("")?;
        if *to {
            let columns = self.start_copy_out(source, options)?;
            Ok(Utility::Fetched(Fetched::CopyOut { columns, binary }))
        } else {
            let columns = self.start_copy_in(source, options)?;
            Ok(Utility::Fetched(Fetched::CopyIn { columns, binary }))
        }
    }

    fn start_copy_in(&mut self, source: &CopySource, options: CopyOptions) -> Result<usize> {
        let CopySource::Table { table_name, columns } = source else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "COPY query cannot be used with FROM"));
        };
        let transaction = self.transaction()?;
        let table = self.copied_table(table_name)?;
        let table = if self.give_new_trees(&table)? { self.copied_table(table_name)? } else { table };
        let positions = column_positions(&table, columns)?;
        // What an INSERT of one row of parameters would do with defaults, coercions and checks, COPY does.
        let names: Vec<String> = positions.iter().map(|position| quoted(&table.columns[*position].name)).collect();
        let values: Vec<String> = (1..=positions.len()).map(|number| format!("${number}")).collect();
        let insert = if positions.is_empty() {
            format!("INSERT INTO {table_name} DEFAULT VALUES")
        } else {
            format!("INSERT INTO {table_name} ({}) VALUES ({})", names.join(", "), values.join(", "))
        };
        let (prepared, eval) = self.prepare_internal(&insert)?;
        let plan = self.locked_plan(&prepared, &eval)?;
        let Node::Insert(insert) = &plan.planned.plan.node else {
            return Err(SqlError::internal("an INSERT was not planned as one"));
        };
        let target = CopyTarget::of_insert(insert, positions);
        transaction.begin_statement()?;
        let context = self.exec_context(transaction, Arc::from([]), eval)?;
        let copy = CopyIn::begin(target, options, context)?;
        let columns = copy.columns();
        self.copy_in = Some(CopyInProgress::In(Box::new(copy)));
        Ok(columns)
    }

    /// An empty table that nobody else uses is given new trees, as TRUNCATE does: trees of this transaction
    /// are loaded in bulk, without holding all rows in memory until the commit. Whether it was done; when not,
    /// the rows go the way of INSERT.
    fn give_new_trees(&mut self, table: &Table) -> Result<bool> {
        let transaction = self.transaction()?;
        let catalog = self.context.catalog()?;
        if transaction.is_own_tree(table.tree)
            || transaction.options().read_only
            || !catalog.has_privilege(self.context.role, table.oid, Privilege::Truncate)
            || !transaction.lock_table(u64::from(table.oid), TableLockMode::AccessExclusive, WaitPolicy::Skip)?
            || !Arc::ptr_eq(&catalog, &self.context.catalog()?)
        {
            return Ok(false);
        }
        transaction.begin_statement_at_newest()?;
        let empty = transaction.scan(table.tree, KeyRange::ALL, Direction::Forward).and_then(|mut rows| rows.advance());
        transaction.end_statement(StatementOutcome::Keep);
        if empty? {
            return Ok(false);
        }
        let schema = catalog.schema_name(table.schema).unwrap_or("public");
        for mut statement in self.parse_script(&format!("TRUNCATE {}.{}", quoted(schema), quoted(&table.name)))? {
            if let Statement::Truncate(truncate) = &mut statement.ast {
                crate::catalog::ddl::mark_refill(truncate);
            }
            self.run_ddl(&statement.ast)?;
        }
        Ok(true)
    }

    fn start_copy_out(&mut self, source: &CopySource, options: CopyOptions) -> Result<usize> {
        let query = match source {
            CopySource::Table { table_name, columns } => {
                let table = self.copied_table(table_name)?;
                let positions = column_positions(&table, columns)?;
                let names: Vec<_> = positions.iter().map(|position| quoted(&table.columns[*position].name)).collect();
                format!("SELECT {} FROM {table_name}", names.join(", "))
            }
            CopySource::Query(query) => query.to_string(),
        };
        let (prepared, _) = self.prepare_internal(&query)?;
        let columns = prepared.columns.clone().unwrap_or_else(|| Arc::from([]));
        let writer = CopyOut::new(&columns, options)?;
        let State::Running(running) = self.start_plan(&prepared, Arc::from([]))? else {
            return Err(SqlError::internal("a query gives rows"));
        };
        let (execution, eval) = running.into_parts();
        let out = Out { execution, eval, writer, line: Vec::new(), begun: false, rows: 0 };
        self.copy_in = Some(CopyInProgress::Out(Box::new(out)));
        Ok(columns.len())
    }

    /// Prepares a statement of our own making.
    pub(super) fn prepare_internal(&mut self, text: &str) -> Result<(Arc<Prepared>, Arc<EvalContext>)> {
        let parsed = self.parse_script(text)?.pop();
        let prepared = Arc::new(self.prepare_parsed(parsed, &[])?);
        Ok((prepared, self.context.eval_context()))
    }

    fn copied_table(&self, name: &ObjectName) -> Result<Arc<Table>> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema.as_str()), name),
            _ => return Err(SqlError::unsupported("a table of another database")),
        };
        match self.context.catalog()?.require_relation(schema, name, &self.context.search_path())? {
            Relation::Table(table) => Ok(table),
            other => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy {} \"{}\"", other.kind_name(), other.name()),
            )
            .with_hint("Try the COPY (SELECT ...) TO variant.")),
        }
    }

    /// CopyData from the client.
    pub fn copy_data(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.copy_in {
            Some(CopyInProgress::In(copy)) => copy.push(bytes).map_err(|error| self.with_schema_name(error)),
            _ => Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "there is no COPY that takes data")),
        }
    }

    /// CopyDone: the command tag.
    pub fn copy_done(&mut self) -> Result<String> {
        let Some(CopyInProgress::In(copy)) = self.copy_in.take() else {
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "there is no COPY that takes data"));
        };
        let rows = copy.finish().map_err(|error| self.with_schema_name(error))?;
        self.end_copy();
        Ok(format!("COPY {rows}"))
    }

    /// CopyFail: the error to tell.
    pub fn copy_fail(&mut self, reason: &str) -> SqlError {
        self.copy_in = None;
        SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {reason}"))
    }

    /// Gives COPY TO's data, piece by piece, until `take` asks for a pause (`None`) or it is at its end: then
    /// the command tag.
    pub fn copy_out(&mut self, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<String>> {
        let Some(CopyInProgress::Out(out)) = &mut self.copy_in else {
            return Err(SqlError::internal("there is no COPY that gives data"));
        };
        if !out.begun {
            out.begun = true;
            out.writer.start(&mut out.line);
            if !out.line.is_empty() {
                take(&out.line);
            }
        }
        let mut row = Row::new();
        while out.execution.next(&mut row)? {
            out.rows += 1;
            out.line.clear();
            out.writer.row(&row, &out.eval, &mut out.line);
            if !take(&out.line) {
                return Ok(None);
            }
        }
        out.line.clear();
        out.writer.end(&mut out.line);
        if !out.line.is_empty() {
            take(&out.line);
        }
        let tag = format!("COPY {}", out.rows);
        self.copy_in = None;
        self.end_copy();
        Ok(Some(tag))
    }

    fn end_copy(&mut self) {
        if let Some(transaction) = self.current_transaction() {
            transaction.end_statement(StatementOutcome::Keep);
        }
    }
}

/// Positions of the named columns, or of all that are not dropped.
fn column_positions(table: &Table, names: &[Ident]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..table.columns.len()).filter(|position| !table.columns[*position].dropped).collect());
    }
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let name = fold(name);
        let found = table.columns.iter().position(|column| !column.dropped && column.name == name);
        let position = found.ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
            SqlError::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        if positions.contains(&position) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        positions.push(position);
    }
    Ok(positions)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
