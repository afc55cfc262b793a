//! PRIMARY KEY, UNIQUE and CHECK: from syntax to descriptors. FOREIGN KEY goes on in `foreign_key`.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    ConstraintCharacteristics, DeferrableInitial, Expr, Ident, IndexColumn as AstIndexColumn, IndexOption, IndexType,
    NullsDistinctOption, TableConstraint, visit_expressions,
};

use super::foreign_key::NewForeignKey;
use super::work::{Work, identifier};
use crate::catalog::{Check, Index, IndexColumn, Oid, PrimaryKey, Table};
use crate::error::{Result, SqlError, SqlState};

/// Most columns of a key, as Postgres' `INDEX_MAX_KEYS`.
pub(super) const MAX_KEY_COLUMNS: usize = 32;

/// A constraint as written.
#[derive(Clone, Debug)]
pub(super) struct NewConstraint {
    pub name: Option<String>,
    pub kind: ConstraintKind,
}

#[derive(Clone, Debug)]
pub(super) enum ConstraintKind {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    Check(Box<Expr>),
    ForeignKey(NewForeignKey),
}

impl NewConstraint {
    /// A table constraint.
    pub fn of_table(constraint: &TableConstraint) -> Result<Self> {
        match constraint {
            TableConstraint::PrimaryKey(key) => {
                supported(&key.characteristics, &key.index_options, &key.index_type)?;
                Ok(Self {
                    name: key.name.as_ref().map(identifier),
                    kind: ConstraintKind::PrimaryKey(key_columns(&key.columns)?),
                })
            }
            TableConstraint::Unique(unique) => {
                supported(&unique.characteristics, &unique.index_options, &unique.index_type)?;
                if unique.nulls_distinct == NullsDistinctOption::NotDistinct {
                    return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
                }
                Ok(Self {
                    name: unique.name.as_ref().map(identifier),
                    kind: ConstraintKind::Unique(key_columns(&unique.columns)?),
                })
            }
            TableConstraint::Check(check) => {
                Ok(Self { name: check.name.as_ref().map(identifier), kind: ConstraintKind::Check(check.expr.clone()) })
            }
            TableConstraint::ForeignKey(key) => Ok(Self {
                name: key.name.as_ref().map(identifier),
                kind: ConstraintKind::ForeignKey(NewForeignKey::new(key, None)?),
            }),
            other => Err(SqlError::unsupported(format!("table constraint \"{other}\""))),
        }
    }

    /// A column's PRIMARY KEY, UNIQUE or CHECK.
    pub fn of_column(name: Option<&Ident>, kind: ConstraintKind) -> Self {
        Self { name: name.map(identifier), kind }
    }
}

/// Refuses what a key constraint may carry and we do not keep.
pub(super) fn supported(
    characteristics: &Option<ConstraintCharacteristics>,
    options: &[IndexOption],
    index_type: &Option<IndexType>,
) -> Result<()> {
    if let Some(characteristics) = characteristics {
        if characteristics.deferrable == Some(true)
            || matches!(characteristics.initially, Some(DeferrableInitial::Deferred))
        {
            return Err(SqlError::unsupported("a DEFERRABLE constraint"));
        }
        if characteristics.enforced == Some(false) {
            return Err(SqlError::unsupported("a NOT ENFORCED constraint"));
        }
    }
    if let Some(option) = options.first() {
        return Err(SqlError::unsupported(format!("index option \"{option}\"")));
    }
    match index_type {
        None | Some(IndexType::BTree) => Ok(()),
        Some(other) => Err(SqlError::unsupported(format!("index method \"{other}\""))),
    }
}

fn key_columns(columns: &[AstIndexColumn]) -> Result<Vec<String>> {
    let name = |column: &AstIndexColumn| match &column.column.expr {
        Expr::Identifier(ident) => Ok(identifier(ident)),
        other => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("a column name is expected, not \"{other}\""))),
    };
    columns.iter().map(name).collect()
}

/// Positions of a key's columns.
fn positions(table: &Table, columns: &[String]) -> Result<Vec<usize>> {
    if columns.len() > MAX_KEY_COLUMNS {
        let message = format!("cannot use more than {MAX_KEY_COLUMNS} columns in an index");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    let mut found = Vec::with_capacity(columns.len());
    for name in columns {
        let position = table.column(name).ok_or_else(|| {
            let message = format!("column \"{name}\" named in key does not exist");
            SqlError::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        if found.contains(&position) {
            let message = format!("column \"{name}\" appears twice in key");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        super::index::require_indexable(&table.columns[position])?;
        found.push(position);
    }
    Ok(found)
}

/// The column that an expression reads, when it reads exactly one: Postgres names the CHECK after it.
fn only_column(expr: &Expr, table: &Table) -> Option<String> {
    let mut columns: Vec<String> = Vec::new();
    let _ = visit_expressions(expr, |inner| {
        let ident = match inner {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        if let Some(ident) = ident {
            let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
            if table.column(&name).is_some() && !columns.contains(&name) {
                columns.push(name);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    if columns.len() == 1 { columns.pop() } else { None }
}

impl Work<'_> {
    /// Puts a constraint into the descriptor of a table whose rows obey it, with new trees for its index.
    pub fn attach_constraint(&mut self, table: &mut Table, constraint: NewConstraint) -> Result<()> {
        match constraint.kind {
            ConstraintKind::PrimaryKey(columns) => {
                if table.primary_key.is_some() {
                    let message = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
                    return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                let columns = positions(table, &columns)?;
                let name = self.index_name(table, constraint.name, &[], "pkey")?;
                columns.iter().for_each(|column| table.columns[*column].not_null = true);
                let (oid, constraint_oid) = (self.allocate_oid()?, self.allocate_oid()?);
                table.primary_key = Some(PrimaryKey { oid, constraint_oid, name, columns });
            }
            ConstraintKind::Unique(names) => {
                let columns = positions(table, &names)?;
                let name = self.index_name(table, constraint.name, &names, "key")?;
                let ascending = |column| IndexColumn { column, descending: false, nulls_first: false };
                let (oid, constraint_oid) = (self.allocate_oid()?, self.allocate_oid()?);
                table.indexes.push(Arc::new(Index {
                    oid,
                    name,
                    table: table.oid,
                    columns: columns.into_iter().map(ascending).collect(),
                    unique: true,
                    constraint: true,
                    constraint_oid,
                    tree: self.context.transaction.create_tree()?.0.0,
                    valid: true,
                    options: Vec::new(),
                }));
            }
            ConstraintKind::Check(expr) => {
                let column = only_column(&expr, table);
                let expression = expr.to_string();
                self.check_condition(&expression, table)?;
                let name = self.check_name(table, constraint.name, column)?;
                table.checks.push(Check { oid: self.allocate_oid()?, name, expression });
            }
            ConstraintKind::ForeignKey(new) => self.attach_foreign_key(table, constraint.name, new)?,
        }
        Ok(())
    }

    /// The given name of an index, if it is free, or a generated one. The name is locked.
    pub fn index_name(
        &mut self,
        table: &Table,
        given: Option<String>,
        columns: &[String],
        suffix: &str,
    ) -> Result<String> {
        let own: Vec<String> = names_of(table);
        let name = match given {
            Some(name) => name,
            None => {
                let base =
                    std::iter::once(&table.name).chain(columns).map(String::as_str).collect::<Vec<_>>().join("_");
                self.free_name(table.schema, &base, suffix, &own)
            }
        };
        self.lock_name(table.schema, &name)?;
        if own.contains(&name) || self.catalog.relation_in(table.schema, &name).is_some() {
            return Err(super::work::duplicate_relation(&name));
        }
        self.require_free_constraint(table, &name)?;
        Ok(name)
    }

    fn check_name(&self, table: &Table, given: Option<String>, column: Option<String>) -> Result<String> {
        if let Some(name) = given {
            self.require_free_constraint(table, &name)?;
            return Ok(name);
        }
        let base = column.map_or_else(|| table.name.clone(), |column| format!("{}_{column}", table.name));
        let taken: Vec<String> = table.checks.iter().map(|check| check.name.clone()).collect();
        Ok(self.free_name(table.schema, &base, "check", &taken))
    }

    /// 42710 when the table has a constraint of this name.
    pub fn require_free_constraint(&self, table: &Table, name: &str) -> Result<()> {
        if find_constraint(table, name).is_none() {
            return Ok(());
        }
        let message = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
        Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message))
    }
}

/// Names that a table not yet in the catalog takes.
fn names_of(table: &Table) -> Vec<String> {
    let indexes = table.indexes.iter().map(|index| index.name.clone());
    indexes.chain(table.primary_key.iter().map(|key| key.name.clone())).chain([table.name.clone()]).collect()
}

/// A constraint of a table, by name.
pub(super) enum FoundConstraint {
    PrimaryKey,
    /// OID of the index.
    Unique(Oid),
    /// Position among the checks.
    Check(usize),
    /// Position among the foreign keys.
    ForeignKey(usize),
}

/// Finds a constraint by name.
pub(super) fn find_constraint(table: &Table, name: &str) -> Option<FoundConstraint> {
    if table.primary_key.as_ref().is_some_and(|key| key.name == name) {
        return Some(FoundConstraint::PrimaryKey);
    }
    if let Some(index) = table.indexes.iter().find(|index| index.constraint && index.name == name) {
        return Some(FoundConstraint::Unique(index.oid));
    }
    if let Some(at) = table.foreign_keys.iter().position(|key| key.name == name) {
        return Some(FoundConstraint::ForeignKey(at));
    }
    table.checks.iter().position(|check| check.name == name).map(FoundConstraint::Check)
}
