//! SQL cursors: DECLARE, FETCH, MOVE, CLOSE. A cursor is a portal that is read by SQL.

use std::sync::Arc;

use sqlparser::ast::{CloseCursor, Declare, FetchDirection, Value, ValueWithSpan};

use super::portal::{Portal, State, missing_portal};
use super::prepared::{fold, oids};
use super::utility::Utility;
use super::{Fetched, Format, RowSink, Session, TransactionStatus};
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::parser::ParsedStatement;
use crate::plan::OutputColumn;
use crate::types::{DataType, Datum, Row};

/// Collects rows.
struct Collect {
    rows: Vec<Row>,
    bytes: usize,
    limit_bytes: usize,
}

impl RowSink for Collect {
    fn row(&mut self, row: &[Datum], _: &[OutputColumn], _: &[Format], _: &EvalContext) -> Result<bool> {
        self.bytes += row.iter().map(Datum::heap_bytes).sum::<usize>() + std::mem::size_of_val(row);
        if self.bytes > self.limit_bytes {
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, "rows of one FETCH exceed work_mem")
                .with_hint("Fetch fewer rows at a time, or raise work_mem."));
        }
        self.rows.push(row.to_vec());
        Ok(true)
    }
}

/// Counts rows.
struct Skip(u64);

impl RowSink for Skip {
    fn row(&mut self, _: &[Datum], _: &[OutputColumn], _: &[Format], _: &EvalContext) -> Result<bool> {
        self.0 += 1;
        Ok(true)
    }
}

impl Session {
    /// DECLARE … CURSOR FOR query.
    pub(super) fn declare_cursor(
        &mut self,
        declare: &Declare,
        parsed: &ParsedStatement,
        parameters: &Arc<[Datum]>,
        types: &[DataType],
    ) -> Result<Utility> {
        let (Some(name), Some(query)) = (declare.names.first(), &declare.for_query) else {
            return Err(SqlError::unsupported("DECLARE of anything but a cursor"));
        };
        if declare.hold == Some(true) {
            return Err(SqlError::unsupported("DECLARE CURSOR WITH HOLD"));
        }
        if declare.scroll == Some(true) {
            return Err(SqlError::unsupported("DECLARE SCROLL CURSOR"));
        }
        let name = fold(name);
        if self.transaction_status() != TransactionStatus::InTransaction {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.portals.contains_key(&name) {
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
        }
        let parsed = ParsedStatement { ast: sqlparser::ast::Statement::Query(query.clone()), ..parsed.clone() };
        let prepared = Arc::new(self.prepare_parsed(Some(parsed), &oids(types))?);
        self.park_portals("")?;
        let state = self.start_plan(&prepared, parameters.clone())?;
        let formats = if declare.binary == Some(true) { vec![Format::Binary] } else { Vec::new() };
        self.portals.insert(name, Portal { state, ..Portal::new(prepared, parameters.clone(), formats) });
        Ok(Utility::Fetched(Fetched::Complete("DECLARE CURSOR".to_owned())))
    }

    /// FETCH.
    pub(super) fn fetch_cursor(&mut self, name: &str, direction: &FetchDirection) -> Result<Utility> {
        let limit_bytes = self.context.settings.lock().typed().work_mem_bytes;
        let mut collect = Collect { rows: Vec::new(), bytes: 0, limit_bytes };
        self.advance_cursor(name, direction, &mut collect)?;
        Ok(Utility::Rows { rows: collect.rows, tag: "FETCH".to_owned() })
    }

    /// MOVE.
    pub(super) fn move_cursor(&mut self, name: &str, direction: &FetchDirection) -> Result<Utility> {
        let mut skipped = Skip(0);
        self.advance_cursor(name, direction, &mut skipped)?;
        Ok(Utility::Fetched(Fetched::Complete(format!("MOVE {}", skipped.0))))
    }

    fn advance_cursor(&mut self, name: &str, direction: &FetchDirection, sink: &mut dyn RowSink) -> Result<()> {
        let portal = self.portals.get(name).ok_or_else(|| missing_cursor(name))?;
        let mut limit = match direction {
            FetchDirection::Next => 1,
            FetchDirection::All | FetchDirection::ForwardAll => u64::MAX,
            FetchDirection::Count { limit } => count(limit)?,
            FetchDirection::Forward { limit } => limit.as_ref().map_or(Ok(1), count)?,
            other => {
                return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
                    .with_detail(format!("FETCH {other} was asked for; SCROLL cursors are not supported.")));
            }
        };
        if limit > 0 && !matches!(portal.state, State::Done) {
            self.pull(name, &mut limit, sink)?;
        }
        Ok(())
    }

    /// Columns that a FETCH from the cursor gives.
    pub(super) fn cursor_columns(&self, name: &str) -> Result<Option<Arc<[OutputColumn]>>> {
        self.portals.get(name).map(|portal| portal.columns.clone()).ok_or_else(|| missing_cursor(name))
    }

    /// CLOSE.
    pub(super) fn close_cursor(&mut self, cursor: &CloseCursor) -> Result<()> {
        match cursor {
            CloseCursor::All => self.end_portals(),
            CloseCursor::Specific { name } => {
                let name = fold(name);
                self.portals.remove(&name).ok_or_else(|| missing_cursor(&name))?;
            }
        }
        Ok(())
    }
}

fn missing_cursor(name: &str) -> SqlError {
    let portal = missing_portal(name);
    SqlError::new(portal.state(), format!("cursor \"{name}\" does not exist"))
}

fn count(limit: &ValueWithSpan) -> Result<u64> {
    match &limit.value {
        Value::Number(digits, _) => digits.parse().map_err(|_| {
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value {digits} is out of range"))
        }),
        other => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\""))),
    }
}
