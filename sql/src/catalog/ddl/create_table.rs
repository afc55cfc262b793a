//! CREATE TABLE.

use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableLikeDefaults, CreateTableLikeKind, DataType as TypeName, Expr,
    GeneratedAs, Value,
};

use super::CommandTag;
use super::constraint::{ConstraintKind, NewConstraint};
use super::expression::default_text;
use super::foreign_key::NewForeignKey;
use super::options::table_options;
use super::sequence::{SequenceSpec, define};
use super::work::{Work, duplicate_relation, identifier, qualified, undefined_relation};
use crate::catalog::{Column, Identity, Oid, Relation, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{BaseType, DataType};

/// Most columns of a table, as in Postgres.
pub(super) const MAX_COLUMNS: usize = 1600;

/// A column as written, with the constraints that stood behind it.
pub(super) struct NewColumn {
    pub column: Column,
    pub constraints: Vec<NewConstraint>,
}

/// CREATE TABLE.
pub(super) fn create(work: &mut Work<'_>, statement: &CreateTable) -> Result<CommandTag> {
    refuse_unsupported(statement)?;
    let tag = CommandTag("CREATE TABLE".into());
    let name = qualified(&statement.name, work)?;
    let schema = work.creation_schema(&name)?;
    work.lock_name(schema, &name.name)?;
    if work.catalog.relation_in(schema, &name.name).is_some() {
        if statement.if_not_exists {
            let message = format!("relation \"{}\" already exists, skipping", name.name);
            work.notice(SqlState::DUPLICATE_TABLE, message);
            return Ok(tag);
        }
        return Err(duplicate_relation(&name.name));
    }
    if crate::parser::is_unlogged(statement) {
        let message = format!("table \"{}\" is logged like any other: the log is where its rows live", name.name);
        work.notice(SqlState::SUCCESSFUL_COMPLETION, message);
    }
    if let Some(query) = &statement.query {
        return super::create_table_as::create(work, schema, name.name, statement, query);
    }
    let oid = work.allocate_oid()?;
    let mut table = Table::new(oid, schema, name.name, Vec::new(), work.context.transaction.create_tree()?);
    table.owner = work.context.role;
    table.options = table_options(&statement.table_options)?;
    let mut constraints = Vec::new();
    if let Some(like) = &statement.like {
        copy_columns(work, &mut table, like)?;
    }
    for definition in &statement.columns {
        let new = work.new_column(&table, definition)?;
        add_column(&mut table, new.column)?;
        constraints.extend(new.constraints);
    }
    for constraint in &statement.constraints {
        constraints.push(NewConstraint::of_table(constraint)?);
    }
    // Keys first, so that a generated CHECK name never takes a key's.
    constraints.sort_by_key(|constraint| match constraint.kind {
        ConstraintKind::PrimaryKey(_) => 0,
        ConstraintKind::Unique(_) => 1,
        ConstraintKind::Check(..) => 2,
        ConstraintKind::ForeignKey(_) => 3,
    });
    for constraint in constraints {
        work.attach_constraint(&mut table, constraint)?;
    }
    work.put_table(table)?;
    Ok(tag)
}

fn refuse_unsupported(statement: &CreateTable) -> Result<()> {
    let refused = [
        (statement.temporary || statement.global.is_some(), "a temporary table"),
        (statement.partition_by.is_some() || statement.partition_of.is_some(), "table partitioning"),
        (statement.inherits.is_some(), "table inheritance"),
        (statement.on_commit.is_some(), "ON COMMIT"),
        (statement.clone.is_some(), "CLONE"),
        (statement.external, "an external table"),
        (statement.or_replace, "CREATE OR REPLACE TABLE"),
    ];
    match refused.into_iter().find(|(given, _)| *given) {
        Some((_, feature)) => Err(SqlError::unsupported(feature)),
        None => Ok(()),
    }
}

/// Appends a column, checking its name and the limit.
pub(super) fn add_column(table: &mut Table, column: Column) -> Result<()> {
    if table.column(&column.name).is_some() {
        let message = format!("column \"{}\" specified more than once", column.name);
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
    }
    if table.columns.len() >= MAX_COLUMNS {
        let message = format!("tables can have at most {MAX_COLUMNS} columns");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    table.columns.push(column);
    Ok(())
}

/// `LIKE source`: columns with their NOT NULL, and defaults when asked for.
fn copy_columns(work: &mut Work<'_>, table: &mut Table, like: &CreateTableLikeKind) -> Result<()> {
    let (CreateTableLikeKind::Parenthesized(like) | CreateTableLikeKind::Plain(like)) = like;
    let name = qualified(&like.name, work)?;
    let found = work.find(&name)?.ok_or_else(|| undefined_relation(&name))?;
    let defaults = matches!(like.defaults, Some(CreateTableLikeDefaults::Including));
    match found {
        Relation::Table(source) => {
            for (_, column) in source.live_columns() {
                let copy = Column {
                    not_null: column.not_null,
                    default: column.default.clone().filter(|_| defaults),
                    ..Column::new(&column.name, column.data_type)
                };
                add_column(table, copy)?;
            }
        }
        Relation::View(source) => {
            for (name, data_type) in &source.columns {
                add_column(table, Column::new(name, *data_type))?;
            }
        }
        other => {
            let message = format!("relation \"{}\" is invalid in LIKE clause", other.name());
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
    }
    Ok(())
}

/// The integer type behind `serial` and its kin.
fn serial_type(name: &TypeName) -> Option<DataType> {
    let TypeName::Custom(name, modifiers) = name else { return None };
    let [part] = name.0.as_slice() else { return None };
    let word = part.as_ident().filter(|ident| ident.quote_style.is_none() && modifiers.is_empty())?;
    match word.value.to_lowercase().as_str() {
        "serial" | "serial4" => Some(DataType::INT4),
        "bigserial" | "serial8" => Some(DataType::INT8),
        "smallserial" | "serial2" => Some(DataType::INT2),
        _ => None,
    }
}

/// A type that a column may have.
pub(super) fn column_type(name: &TypeName, column: &str) -> Result<DataType> {
    let data_type = super::work::data_type(name)?;
    match data_type.base {
        BaseType::Unknown | BaseType::Record | BaseType::Void | BaseType::AnyArray | BaseType::PgNodeTree => {
            let message = format!("column \"{column}\" has pseudo-type {name}");
            Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message))
        }
        _ => Ok(data_type),
    }
}

impl Work<'_> {
    /// A column of CREATE TABLE or ADD COLUMN. Sequences of serial and identity columns are created.
    pub fn new_column(&mut self, table: &Table, definition: &ColumnDef) -> Result<NewColumn> {
        let name = identifier(&definition.name);
        let serial = serial_type(&definition.data_type);
        let data_type = match serial {
            Some(data_type) => data_type,
            None => column_type(&definition.data_type, &name)?,
        };
        let mut column = Column::new(&name, data_type);
        let mut constraints = Vec::new();
        let (mut nullable, mut identity) = (None, None);
        for option in &definition.options {
            let mut constraint = |kind| constraints.push(NewConstraint::of_column(option.name.as_ref(), kind));
            match &option.option {
                ColumnOption::Null => set_nullable(&mut nullable, true, table, &name)?,
                ColumnOption::NotNull => set_nullable(&mut nullable, false, table, &name)?,
                ColumnOption::Default(expr) => {
                    if column.default.is_some() {
                        return Err(multiple("default values", table, &name));
                    }
                    column.default = default_of(self, expr)?;
                }
                ColumnOption::PrimaryKey(key) => {
                    super::constraint::supported(&key.characteristics, &key.index_options, &key.index_type)?;
                    set_nullable(&mut nullable, false, table, &name)?;
                    constraint(ConstraintKind::PrimaryKey(vec![name.clone()]));
                }
                ColumnOption::Unique(unique) => {
                    super::constraint::supported(&unique.characteristics, &unique.index_options, &unique.index_type)?;
                    constraint(ConstraintKind::Unique(vec![name.clone()]));
                }
                ColumnOption::Check(check) => {
                    constraint(ConstraintKind::Check(check.expr.clone()));
                }
                ColumnOption::ForeignKey(key) => {
                    constraint(ConstraintKind::ForeignKey(NewForeignKey::new(key, Some(&name))?));
                }
                ColumnOption::Generated { generated_as, sequence_options, generation_expr: None, .. }
                    if *generated_as != GeneratedAs::ExpStored =>
                {
                    if identity.is_some() {
                        return Err(multiple("identity specifications", table, &name));
                    }
                    let options = sequence_options.as_deref().unwrap_or_default();
                    identity = Some((*generated_as == GeneratedAs::Always, SequenceSpec::new(None, options)?));
                }
                ColumnOption::Generated { .. } => return Err(SqlError::unsupported("a generated column")),
                ColumnOption::Collation(collation) => require_collation(&collation.to_string())?,
                other => return Err(SqlError::unsupported(format!("column option \"{other}\""))),
            }
        }
        let position = table.columns.len();
        if serial.is_some() {
            if column.default.is_some() {
                return Err(multiple("default values", table, &name));
            }
            if nullable == Some(true) {
                return Err(conflicting_null(table, &name));
            }
            let spec = SequenceSpec { data_type: Some(data_type), ..SequenceSpec::default() };
            let sequence = self.column_sequence(table, (&name, position), &spec, false)?;
            column.default = Some(format!("nextval('{sequence}'::regclass)"));
        }
        if let Some((always, spec)) = identity {
            if column.default.is_some() {
                let message =
                    format!("both default and identity specified for column \"{name}\" of table \"{}\"", table.name);
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            if nullable == Some(true) {
                return Err(conflicting_null(table, &name));
            }
            column.identity = Some(self.new_identity(table, (&name, position), data_type, always, &spec)?);
        }
        if let Some(text) = column.default.as_ref().filter(|_| serial.is_none()) {
            self.check_default(text, &name, data_type)?;
        }
        column.not_null = nullable == Some(false) || serial.is_some() || column.identity.is_some();
        Ok(NewColumn { column, constraints })
    }

    /// Creates the sequence of an identity column.
    pub fn new_identity(
        &mut self,
        table: &Table,
        column: (&str, usize),
        data_type: DataType,
        always: bool,
        spec: &SequenceSpec,
    ) -> Result<Identity> {
        if super::sequence::sequence_type(data_type).is_err() {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        let spec = SequenceSpec { data_type: Some(data_type), ..spec.clone() };
        Ok(Identity { always, sequence: self.column_sequence(table, column, &spec, true)? })
    }

    fn column_sequence(
        &mut self,
        table: &Table,
        column: (&str, usize),
        spec: &SequenceSpec,
        identity: bool,
    ) -> Result<Oid> {
        let sequence = define(None, spec)?;
        self.create_column_sequence(table.schema, (&table.name, table.oid), column, sequence, identity)
    }
}

/// DEFAULT NULL is no default.
pub(super) fn default_of(work: &Work<'_>, expr: &Expr) -> Result<Option<String>> {
    match expr {
        Expr::Value(value) if value.value == Value::Null => Ok(None),
        _ => default_text(work, expr).map(Some),
    }
}

fn set_nullable(nullable: &mut Option<bool>, value: bool, table: &Table, column: &str) -> Result<()> {
    if nullable.is_some_and(|known| known != value) {
        return Err(conflicting_null(table, column));
    }
    *nullable = Some(value);
    Ok(())
}

fn conflicting_null(table: &Table, column: &str) -> SqlError {
    let message = format!("conflicting NULL/NOT NULL declarations for column \"{column}\" of table \"{}\"", table.name);
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

fn multiple(what: &str, table: &Table, column: &str) -> SqlError {
    let message = format!("multiple {what} specified for column \"{column}\" of table \"{}\"", table.name);
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

/// Text compares by bytes here, which is collation "C"; the database's default is the same.
pub(super) fn require_collation(name: &str) -> Result<()> {
    let plain = name.replace('"', "");
    match plain.strip_prefix("pg_catalog.").unwrap_or(&plain) {
        "default" | "C" | "POSIX" | "ucs_basic" => Ok(()),
        other => Err(SqlError::unsupported(format!("collation \"{other}\""))),
    }
}
