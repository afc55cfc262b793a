//! Names and types: syntax tree → `Rel` and `Scalar`, every name resolved and every coercion
//! explicit, by Postgres' rules.
//!
//! One `Binder` binds one statement. A query level is a `names::Scope` (its FROM's names, the level
//! around it) and a `names::Level` (aggregates, window calls and set-returning calls met so far, which
//! become operators under the level's output). Columns carry ids unique in the statement, so an outer
//! reference is just a column of another level.

mod call;
mod coerce;
mod conflict;
pub(crate) mod constant;
mod data_types;
mod dml;
mod expr;
mod from;
mod group;
mod insert;
pub mod logical;
mod named_args;
mod names;
mod order;
mod output_names;
mod query;
mod resolve;
pub mod scalar;
mod scalar_entry;
mod select;
mod set_operation;
mod special;
mod subquery;
mod window;
mod with;

use std::sync::Arc;

use sqlparser::ast::{self, Statement};
use sqlparser::tokenizer::Span;

pub use data_types::data_type;
pub use data_types::data_type as bind_type;
pub use names::{fold, split_name};
pub(crate) use resolve::{add_int8, equal_operator, unnest};
pub use scalar_entry::{ScalarColumns, bind_scalar};

use crate::catalog::{Oid, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::parser::character_position;
use crate::planner::{PlanContext, StatementKind};
use crate::store::TableLockMode;
use crate::types::DataType;
use logical::Rel;
use scalar::{ColumnId, Scalar};

/// Deepest nesting of expressions and queries that is bound.
const MAX_DEPTH: usize = 400;

/// What is known of a column of the statement.
#[derive(Clone, Debug)]
pub struct ColumnInfo {
    /// Type.
    pub data_type: DataType,
    /// The table (position in [`Columns::tables`]) and position in it, for a plain table column.
    pub origin: Option<(usize, usize)>,
    /// Its name, where it is not a table's column.
    pub name: Option<Arc<str>>,
}

/// All columns of the statement.
#[derive(Default, Debug)]
pub struct Columns {
    /// By [`ColumnId`].
    pub infos: Vec<ColumnInfo>,
    /// Tables scanned, with their aliases; one entry for each occurrence.
    pub tables: Vec<(Arc<Table>, String)>,
}

impl Columns {
    /// The table column behind an id.
    pub fn table_column(&self, id: ColumnId) -> Option<(&Arc<Table>, usize)> {
        let (table, position) = self.infos[id].origin?;
        let table = &self.tables[table].0;
        (position < table.columns.len()).then_some((table, position))
    }

    /// Name for messages and EXPLAIN.
    pub fn name(&self, id: ColumnId) -> String {
        let info = &self.infos[id];
        match (&info.name, info.origin) {
            (Some(name), _) => name.to_string(),
            (None, Some((table, position))) => match self.tables[table].0.columns.get(position) {
                Some(column) => column.name.clone(),
                None => "ctid".to_owned(),
            },
            (None, None) => format!("column {id}"),
        }
    }

    /// Alias of the table that a column is of.
    pub fn alias(&self, id: ColumnId) -> Option<&str> {
        let (table, _) = self.infos.get(id)?.origin?;
        Some(&self.tables[table].1)
    }

    /// Name with the table's alias.
    pub fn qualified_name(&self, id: ColumnId) -> String {
        match self.infos[id].origin {
            Some((table, _)) => format!("{}.{}", self.tables[table].1, self.name(id)),
            None => self.name(id),
        }
    }

    /// A new computed column.
    pub fn add(&mut self, data_type: DataType, name: &str) -> ColumnId {
        self.infos.push(ColumnInfo { data_type, origin: None, name: Some(Arc::from(name)) });
        self.infos.len() - 1
    }

    /// Ids for a table's columns and its key.
    pub fn add_table(&mut self, table: &Arc<Table>, alias: &str) -> ColumnId {
        let first = self.infos.len();
        let entry = self.tables.len();
        self.tables.push((Arc::clone(table), alias.to_owned()));
        self.infos.extend(table.columns.iter().enumerate().map(|(position, column)| ColumnInfo {
            data_type: column.data_type,
            origin: Some((entry, position)),
            name: None,
        }));
        self.infos.push(ColumnInfo {
            data_type: DataType::BYTEA,
            origin: Some((entry, table.columns.len())),
            name: None,
        });
        first
    }

    /// The column as a scalar.
    pub fn scalar(&self, id: ColumnId) -> Scalar {
        Scalar::Column { id, data_type: self.infos[id].data_type }
    }
}

/// An output column of a query.
#[derive(Clone, Debug)]
pub struct Output {
    /// Name as the client sees it.
    pub name: String,
    /// Which column.
    pub id: ColumnId,
}

/// A bound query.
#[derive(Debug)]
pub struct Query {
    /// Operators.
    pub rel: Rel,
    /// Output, in order.
    pub output: Vec<Output>,
}

/// A bound statement.
#[derive(Debug)]
pub struct Bound {
    /// The query or DML.
    pub query: Query,
    /// All columns of it.
    pub columns: Columns,
    /// Parameter types.
    pub parameters: Vec<DataType>,
    /// Tables to lock.
    pub tables: Vec<(Oid, TableLockMode)>,
    /// Views and system views it went through.
    pub relations: Vec<Oid>,
    /// Kind, for the tag.
    pub kind: StatementKind,
    /// Whether it may write or lock rows.
    pub writes: bool,
    /// How many CTE ids are in use.
    pub ctes: usize,
}

/// Binds one statement.
pub(crate) struct Binder<'c> {
    context: &'c PlanContext<'c>,
    pub(crate) columns: Columns,
    /// Types so far; unknown until something decides.
    parameters: Vec<DataType>,
    tables: Vec<(Oid, TableLockMode)>,
    relations: Vec<Oid>,
    writes: bool,
    /// CTEs in scope, innermost last.
    ctes: Vec<with::CteEntry>,
    next_cte: usize,
    depth: usize,
    /// Views being expanded, against endless recursion.
    views: Vec<Oid>,
    /// Where columns were first met outside aggregates, for the grouping error.
    uses: Vec<(ColumnId, Span)>,
    /// Positions refer to the statement's text; not while a view or a default is bound.
    has_source: bool,
}

impl<'c> Binder<'c> {
    pub(crate) fn new(context: &'c PlanContext<'c>) -> Self {
        let hint = |hint: &Option<DataType>| hint.unwrap_or(DataType::UNKNOWN);
        Self {
            context,
            columns: Columns::default(),
            parameters: context.parameter_hints.iter().map(hint).collect(),
            tables: Vec::new(),
            relations: Vec::new(),
            writes: false,
            ctes: Vec::new(),
            next_cte: 0,
            depth: 0,
            views: Vec::new(),
            uses: Vec::new(),
            has_source: !context.source.is_empty(),
        }
    }

    /// Binds a whole statement.
    pub(crate) fn statement(mut self, statement: &Statement) -> Result<Bound> {
        let (query, kind) = match statement {
            Statement::Query(query) => {
                let kind = match query.body.as_ref() {
                    ast::SetExpr::Insert(_) => StatementKind::Insert,
                    ast::SetExpr::Update(_) => StatementKind::Update,
                    ast::SetExpr::Delete(_) => StatementKind::Delete,
                    _ => StatementKind::Select,
                };
                (self.query(query, None, true)?, kind)
            }
            Statement::Insert(insert) => (self.insert(insert, None)?, StatementKind::Insert),
            Statement::Update(update) => (self.update(update, None)?, StatementKind::Update),
            Statement::Delete(delete) => (self.delete(delete, None)?, StatementKind::Delete),
            Statement::Merge(_) => return Err(SqlError::unsupported("MERGE")),
            other => {
                let text = other.to_string();
                let words: Vec<_> = text.split_whitespace().take(2).collect();
                return Err(SqlError::unsupported(format!("planning {}", words.join(" "))));
            }
        };
        self.finish(query, kind)
    }

    fn finish(self, query: Query, kind: StatementKind) -> Result<Bound> {
        if let Some(index) = self.parameters.iter().position(|data_type| data_type.is_unknown()) {
            return Err(SqlError::new(
                SqlState::INDETERMINATE_DATATYPE,
                format!("could not determine data type of parameter ${}", index + 1),
            ));
        }
        Ok(Bound {
            query,
            columns: self.columns,
            parameters: self.parameters,
            tables: self.tables,
            relations: self.relations,
            kind,
            writes: self.writes,
            ctes: self.next_cte,
        })
    }

    /// Notes a table to lock; the strongest mode wins.
    fn lock_table(&mut self, oid: Oid, mode: TableLockMode) {
        match self.tables.iter_mut().find(|(table, _)| *table == oid) {
            Some((_, present)) => *present = (*present).max(mode),
            None => self.tables.push((oid, mode)),
        }
    }

    fn depends_on(&mut self, oid: Oid) {
        if !self.relations.contains(&oid) {
            self.relations.push(oid);
        }
    }

    /// Adds the position of a piece of text to an error that has none.
    fn place(&self, error: SqlError, span: Span) -> SqlError {
        if !self.has_source || span.start.line == 0 || error.fields().position.is_some() {
            return error;
        }
        error.at(character_position(self.context.source, span.start))
    }

    /// The same, at the parenthesis that opens before a subquery.
    fn place_parenthesis(&self, error: SqlError, span: Span) -> SqlError {
        if !self.has_source || span.start.line == 0 || error.fields().position.is_some() {
            return error;
        }
        let text = self.context.source;
        let inner = crate::parser::byte_offset(text, span.start).min(text.len());
        match text[..inner].rfind('(') {
            Some(offset) => error.at(text[..offset].chars().count() as u32 + 1),
            None => self.place(error, span),
        }
    }

    /// Runs a step one level deeper.
    fn nested<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(crate::parser::too_deep());
        }
        self.depth += 1;
        let result = step(self);
        self.depth -= 1;
        result
    }
}
