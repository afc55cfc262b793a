//! Namespaces and scopes: what a name in an expression can mean.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, WindowSpec};

use super::logical::{Scan, SetCall, WindowCall};
use super::scalar::{Aggregate, ColumnId, Scalar};
use crate::error::{Result, SqlError, SqlState};
use crate::types::DataType;

/// One entry of FROM.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Alias, or the relation's name. Empty: cannot be named.
    pub alias: String,
    /// Schema, when it may be named with it (no alias given).
    pub schema: Option<String>,
    /// Its columns.
    pub columns: ItemColumns,
    /// The relation's OID, for `tableoid`.
    pub oid: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) enum ItemColumns {
    /// A table under its own column names.
    Table(Scan),
    /// Anything else: names and what they stand for.
    Listed(Arc<[(String, Scalar)]>),
}

/// What FROM brings into scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    pub items: Vec<Item>,
    /// Columns by unqualified name in `*` order, once JOIN USING has merged some; none: those of all items.
    pub merged: Option<Vec<(String, Scalar)>>,
}

/// Which clause an expression stands in: it decides what may be called there, and what messages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    Select,
    Where,
    On,
    GroupBy,
    Having,
    OrderBy,
    DistinctOn,
    Values,
    Limit,
    Update,
    Returning,
    From,
    Filter,
    Default,
    Check,
}

impl Clause {
    /// As Postgres' messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::On => "JOIN conditions",
            Clause::GroupBy => "GROUP BY",
            Clause::Having => "HAVING",
            Clause::OrderBy => "ORDER BY",
            Clause::DistinctOn => "DISTINCT ON",
            Clause::Values => "VALUES",
            Clause::Limit => "LIMIT",
            Clause::Update => "UPDATE",
            Clause::Returning => "RETURNING",
            Clause::From => "functions in FROM",
            Clause::Filter => "FILTER",
            Clause::Default => "DEFAULT expressions",
            Clause::Check => "check constraints",
        }
    }

    pub fn allows_aggregates(self) -> bool {
        matches!(self, Clause::Select | Clause::Having | Clause::OrderBy | Clause::DistinctOn)
    }

    pub fn allows_windows(self) -> bool {
        matches!(self, Clause::Select | Clause::OrderBy | Clause::DistinctOn)
    }
}

/// What binding a query level collects.
#[derive(Default)]
pub(super) struct Level {
    pub aggregates: RefCell<Vec<(ColumnId, Aggregate)>>,
    pub windows: RefCell<Vec<(ColumnId, WindowCall)>>,
    pub sets: RefCell<Vec<SetCall>>,
    pub window_definitions: RefCell<Vec<(String, WindowSpec)>>,
    /// GROUPING(…) calls: the column and its arguments, resolved once the groups are known.
    pub groupings: RefCell<Vec<(ColumnId, Vec<Scalar>)>>,
    /// Within an aggregate's arguments.
    pub in_aggregate: Cell<bool>,
    /// Within a window call's arguments.
    pub in_window: Cell<bool>,
}

/// Where an expression is bound: the names of its query level, and those around it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub namespace: &'a Namespace,
    pub parent: Option<&'a Scope<'a>>,
    pub level: &'a Level,
    pub clause: Clause,
}

impl<'a> Scope<'a> {
    pub fn in_clause(&self, clause: Clause) -> Scope<'a> {
        Scope { clause, ..*self }
    }
}

impl Item {
    pub fn for_each_column(&self, visit: &mut dyn FnMut(&str, Scalar)) {
        match &self.columns {
            ItemColumns::Table(scan) => {
                for (position, column) in scan.table.live_columns() {
                    let id = scan.first + position;
                    visit(&column.name, Scalar::Column { id, data_type: column.data_type });
                }
            }
            ItemColumns::Listed(columns) => columns.iter().for_each(|(name, scalar)| visit(name, scalar.clone())),
        }
    }

    /// The column of a name, and how many there are of it.
    fn find(&self, name: &str) -> (Option<Scalar>, usize) {
        match &self.columns {
            ItemColumns::Table(scan) => match scan.table.column(name) {
                Some(position) => {
                    let data_type = scan.table.columns[position].data_type;
                    (Some(Scalar::Column { id: scan.first + position, data_type }), 1)
                }
                None => (None, 0),
            },
            ItemColumns::Listed(columns) => {
                let mut found = columns.iter().filter(|(column, _)| column == name);
                match found.next() {
                    Some((_, scalar)) => (Some(scalar.clone()), 1 + found.count()),
                    None => (None, 0),
                }
            }
        }
    }

    /// `tableoid`; the other system columns of Postgres tell of things that are not here.
    fn system_column(&self, name: &str) -> Result<Option<Scalar>> {
        match (self.oid, name) {
            (Some(oid), "tableoid") => {
                Ok(Some(Scalar::Literal { value: crate::types::Datum::Oid(oid), data_type: DataType::OID }))
            }
            (Some(_), "ctid" | "xmin" | "xmax" | "cmin" | "cmax") => {
                Err(SqlError::unsupported(format!("system column {name}")))
            }
            _ => Ok(None),
        }
    }

    fn answers_to(&self, schema: Option<&str>, name: &str) -> bool {
        self.alias == name && !self.alias.is_empty() && (schema.is_none() || self.schema.as_deref() == schema)
    }

    /// Whether the column is one of its own.
    fn owns(&self, id: ColumnId) -> bool {
        match &self.columns {
            ItemColumns::Table(scan) => (scan.first..=scan.key()).contains(&id),
            ItemColumns::Listed(columns) => {
                columns.iter().any(|(_, scalar)| scalar.any(&|s| matches!(s, Scalar::Column { id: c, .. } if *c == id)))
            }
        }
    }
}

impl Namespace {
    pub fn for_each_visible(&self, visit: &mut dyn FnMut(&str, Scalar)) {
        match &self.merged {
            Some(columns) => columns.iter().for_each(|(name, scalar)| visit(name, scalar.clone())),
            None => self.items.iter().for_each(|item| item.for_each_column(visit)),
        }
    }

    pub fn visible(&self) -> Vec<(String, Scalar)> {
        let mut columns = Vec::new();
        self.for_each_visible(&mut |name, scalar| columns.push((name.to_owned(), scalar)));
        columns
    }

    /// Whether the column comes from here.
    pub fn owns(&self, id: ColumnId) -> bool {
        self.items.iter().any(|item| item.owns(id))
    }

    /// An unqualified column.
    pub fn column(&self, name: &str) -> Result<Option<Scalar>> {
        let (mut found, mut count) = (None, 0);
        match &self.merged {
            Some(columns) => {
                for (column, scalar) in columns {
                    if column == name {
                        count += 1;
                        found = Some(scalar.clone());
                    }
                }
            }
            None => {
                for item in &self.items {
                    let (scalar, matches) = item.find(name);
                    if scalar.is_some() {
                        found = scalar;
                    }
                    count += matches;
                }
            }
        }
        if count > 1 {
            return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{name}\" is ambiguous")));
        }
        Ok(found)
    }

    pub fn item(&self, schema: Option<&str>, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.answers_to(schema, name))
    }

    /// Adds another FROM entry's names.
    pub fn join(&mut self, other: Namespace) -> Result<()> {
        for item in &other.items {
            if !item.alias.is_empty()
                && self.items.iter().any(|present| {
                    present.alias == item.alias && (present.schema == item.schema || present.schema.is_none())
                })
            {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", item.alias),
                ));
            }
        }
        if self.merged.is_some() || other.merged.is_some() {
            let mut merged = self.visible();
            merged.extend(other.visible());
            self.merged = Some(merged);
        }
        self.items.extend(other.items);
        Ok(())
    }
}

/// What a column name was found to be.
pub(super) enum Found {
    Column(Scalar),
    /// A whole row of FROM.
    Row(Vec<Scalar>),
}

impl Scope<'_> {
    /// An unqualified name, in this level or the nearest one around it that has it.
    pub fn unqualified(&self, name: &str) -> Result<Option<Found>> {
        let mut scope = Some(self);
        while let Some(level) = scope {
            if let Some(found) = level.namespace.column(name)? {
                return Ok(Some(Found::Column(found)));
            }
            scope = level.parent;
        }
        let mut scope = Some(self);
        while let Some(level) = scope {
            if let Some(item) = level.namespace.item(None, name) {
                return Ok(Some(Found::Row(columns_of(item))));
            }
            scope = level.parent;
        }
        for item in &self.namespace.items {
            if let Some(scalar) = item.system_column(name)? {
                return Ok(Some(Found::Column(scalar)));
            }
        }
        Ok(None)
    }

    /// The FROM entry of a name.
    pub fn item(&self, schema: Option<&str>, name: &str) -> Option<&Item> {
        let mut scope = Some(self);
        while let Some(level) = scope {
            if let Some(item) = level.namespace.item(schema, name) {
                return Some(item);
            }
            scope = level.parent;
        }
        None
    }

    /// The error of a name that no FROM entry answers to, though one may stand for the table under an alias.
    pub fn no_entry(&self, relation: &str) -> SqlError {
        let mut scope = Some(self);
        while let Some(level) = scope {
            let aliased = level
                .namespace
                .items
                .iter()
                .find(|item| matches!(&item.columns, ItemColumns::Table(scan) if scan.table.name == relation));
            if let Some(item) = aliased {
                let message = format!("invalid reference to FROM-clause entry for table \"{relation}\"");
                let hint = format!("Perhaps you meant to reference the table alias \"{}\".", item.alias);
                return SqlError::new(SqlState::UNDEFINED_TABLE, message).with_hint(hint);
            }
            scope = level.parent;
        }
        SqlError::new(SqlState::UNDEFINED_TABLE, format!("missing FROM-clause entry for table \"{relation}\""))
    }

    /// `relation.column`.
    pub fn qualified(&self, schema: Option<&str>, relation: &str, column: &str) -> Result<Scalar> {
        let Some(item) = self.item(schema, relation) else { return Err(self.no_entry(relation)) };
        match item.find(column) {
            (Some(_), 2..) => {
                Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{column}\" is ambiguous")))
            }
            (Some(scalar), _) => Ok(scalar),
            (None, _) => match item.system_column(column)? {
                Some(scalar) => Ok(scalar),
                None => {
                    Err(SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column {relation}.{column} does not exist")))
                }
            },
        }
    }
}

/// An item's columns.
pub(super) fn columns_of(item: &Item) -> Vec<Scalar> {
    let mut columns = Vec::new();
    item.for_each_column(&mut |_, scalar| columns.push(scalar));
    columns
}

/// An identifier as the catalog has it: folded to lower case unless quoted.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None if ident.value.bytes().any(|byte| byte.is_ascii_uppercase()) => ident.value.to_ascii_lowercase(),
        None => ident.value.clone(),
    }
}

/// Splits `[database.][schema.]name`.
pub fn split_name(name: &ObjectName) -> Result<(Option<String>, String)> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => parts.push(fold(ident)),
            ObjectNamePart::Function(_) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("improper qualified name: {name}")));
            }
        }
    }
    let last = parts.pop();
    match (last, parts.pop(), parts.len()) {
        (Some(name), schema, 0 | 1) => Ok((schema, name)),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("improper qualified name (too many dotted names): {name}"),
        )),
    }
}
