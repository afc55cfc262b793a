//! [`Work`]: one running DDL statement. Locks, names, and the catalog as changed so far.

use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::{DdlContext, Notice};
use crate::catalog::object::{Object, ObjectKey, ObjectKind};
use crate::catalog::{Catalog, INFORMATION_SCHEMA_OID, Oid, PG_CATALOG_OID, Relation, Role, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::store::{RowLockMode, StatementOutcome, TableLockMode, WaitPolicy};
use crate::types::DataType;

/// Longest name, bytes; longer ones are cut, as Postgres does (`NAMEDATALEN` - 1).
pub(crate) const MAX_NAME_BYTES: usize = 63;

/// A running DDL statement.
pub(super) struct Work<'a> {
    pub context: &'a DdlContext<'a>,
    /// The newest catalog with this transaction's changes.
    pub catalog: Arc<Catalog>,
}

/// A name of an object, with the schema it was given with.
#[derive(Clone, Debug)]
pub(super) struct QualifiedName {
    pub schema: Option<String>,
    pub name: String,
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.schema.iter().try_for_each(|schema| write!(f, "{schema}."))?;
        f.write_str(&self.name)
    }
}

/// An identifier as it is stored: folded to lower case unless quoted, cut to 63 bytes.
pub(super) fn identifier(ident: &Ident) -> String {
    let mut name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    truncate_name(&mut name);
    name
}

/// Cuts a name to [`MAX_NAME_BYTES`] at a character boundary.
pub(super) fn truncate_name(name: &mut String) {
    if name.len() > MAX_NAME_BYTES {
        let end = (0..=MAX_NAME_BYTES).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
    }
}

/// The identifiers of a dotted name.
pub(super) fn name_parts(name: &ObjectName) -> Result<Vec<String>> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(identifier(ident)),
        ObjectNamePart::Function(_) => Err(SqlError::unsupported("a function as a name")),
    };
    name.0.iter().map(part).collect()
}

/// `name`, `schema.name` or, of the current database, `database.schema.name`.
pub(super) fn qualified(name: &ObjectName, work: &Work<'_>) -> Result<QualifiedName> {
    let mut parts = name_parts(name)?;
    let last = parts.pop().ok_or_else(|| SqlError::new(SqlState::SYNTAX_ERROR, "a name is expected"))?;
    let schema = parts.pop();
    if let Some(database) = parts.pop()
        && (!parts.is_empty() || work.catalog.database(work.context.database).is_none_or(|own| own.name != database))
    {
        return Err(SqlError::unsupported(format!("the cross-database reference \"{name}\"")));
    }
    Ok(QualifiedName { schema, name: last })
}

/// The type that a type name means.
pub(super) fn data_type(name: &sqlparser::ast::DataType) -> Result<DataType> {
    DataType::from_name(&name.to_string())
}

/// A name of one part.
pub(super) fn simple(name: &ObjectName) -> Result<String> {
    match name_parts(name)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("\"{name}\" must not be qualified"))),
    }
}

impl<'a> Work<'a> {
    pub fn new(context: &'a DdlContext<'a>) -> Result<Self> {
        let catalog = context.manager.catalog(context.database, &mut context.changes.lock())?;
        Ok(Self { context, catalog })
    }

    /// Reads the catalog again: after every lock that was waited for.
    pub fn refresh(&mut self) -> Result<()> {
        self.catalog = self.context.manager.catalog(self.context.database, &mut self.context.changes.lock())?;
        Ok(())
    }

    /// Ends the statement layer and opens one that sees every commit and everything written so far.
    pub fn next_layer(&self) -> Result<()> {
        self.context.transaction.end_statement(StatementOutcome::Keep);
        self.context.transaction.begin_statement_at_newest()
    }

    /// Writes an object of the session's database.
    pub fn put(&mut self, object: Object) -> Result<()> {
        self.put_in(self.context.database, object)
    }

    /// Writes an object of any database.
    pub fn put_in(&mut self, database: Oid, object: Object) -> Result<()> {
        let key = object.key(database).encode();
        let value = object.encode()?;
        let tree = self.context.manager.store().catalog_tree();
        self.context.transaction.put(tree, &key, value.clone())?;
        self.context.changes.lock().push(key, Some(value));
        if database == self.context.database {
            Arc::make_mut(&mut self.catalog).insert(object);
        }
        Ok(())
    }

    /// Writes a table.
    pub fn put_table(&mut self, table: Table) -> Result<()> {
        self.put(Object::Table(table))
    }

    /// Deletes an object, and its comments.
    pub fn delete(&mut self, kind: ObjectKind, oid: Oid) -> Result<()> {
        let database = match kind {
            ObjectKind::Database | ObjectKind::Role => 0,
            _ => self.context.database,
        };
        self.delete_key(ObjectKey::new(kind, database, oid))
    }

    pub fn delete_key(&mut self, key: ObjectKey) -> Result<()> {
        let bytes = key.encode();
        let tree = self.context.manager.store().catalog_tree();
        self.context.transaction.delete(tree, &bytes)?;
        self.context.changes.lock().push(bytes, None);
        if key.database == 0 || key.database == self.context.database {
            Arc::make_mut(&mut self.catalog).remove(key);
        }
        Ok(())
    }

    pub fn allocate_oid(&self) -> Result<Oid> {
        self.context.manager.allocate_oid()
    }

    /// Locks an object by OID until the transaction ends.
    pub fn lock(&self, oid: Oid, mode: TableLockMode) -> Result<()> {
        self.context.transaction.lock_table(u64::from(oid), mode, WaitPolicy::Block).map(drop)
    }

    /// Locks a name that is to be taken, and reads the catalog again: two sessions creating the same name
    /// wait for each other. `space` is the schema, or 0 for databases and roles.
    pub fn lock_name(&mut self, space: Oid, name: &str) -> Result<()> {
        let mut key = vec![u8::MAX];
        key.extend(if space == 0 { 0 } else { self.context.database }.to_be_bytes());
        key.extend(space.to_be_bytes());
        key.extend(name.as_bytes());
        let tree = self.context.manager.store().catalog_tree();
        self.context.transaction.lock_row(tree, &key, RowLockMode::Exclusive, WaitPolicy::Block)?;
        self.refresh()
    }

    /// Finds a relation, locks it and reads the catalog again until the name still means the locked one.
    pub fn lock_relation(&mut self, name: &QualifiedName, mode: TableLockMode) -> Result<Option<Relation>> {
        loop {
            let Some(found) = self.find(name)? else { return Ok(None) };
            if matches!(found, Relation::System(_)) {
                return Ok(Some(found));
            }
            let locked = match &found {
                Relation::Index(index) => index.table.oid,
                other => other.oid(),
            };
            self.lock(locked, mode)?;
            self.refresh()?;
            match self.find(name)? {
                Some(again) if again.oid() == found.oid() => return Ok(Some(again)),
                _ => {}
            }
        }
    }

    /// A relation by name. A schema that does not exist is an error only where Postgres has one.
    pub fn find(&self, name: &QualifiedName) -> Result<Option<Relation>> {
        Ok(self.catalog.relation(name.schema.as_deref(), &name.name, self.context.search_path))
    }

    /// The table of this name, locked.
    pub fn lock_table(&mut self, name: &QualifiedName, mode: TableLockMode) -> Result<Arc<Table>> {
        match self.lock_relation(name, mode)? {
            Some(Relation::Table(table)) => {
                self.require_owner(table.owner, "table", &table.name)?;
                Ok(table)
            }
            Some(Relation::System(view)) => Err(system_relation(view.name)),
            Some(other) => {
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a table", other.name())))
            }
            None => Err(undefined_relation(name)),
        }
    }

    /// OID of an existing schema.
    pub fn schema(&self, name: &str) -> Result<Oid> {
        self.catalog
            .schema_oid(name)
            .ok_or_else(|| SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")))
    }

    /// The schema that a new object goes to, locked against being dropped.
    pub fn creation_schema(&mut self, name: &QualifiedName) -> Result<Oid> {
        let schema = match &name.schema {
            Some(schema) if schema == "pg_temp" => return Err(SqlError::unsupported("a temporary object")),
            Some(schema) => self.schema(schema)?,
            None => {
                self.context.search_path.iter().find_map(|name| self.catalog.schema_oid(name)).ok_or_else(|| {
                    SqlError::new(SqlState::INVALID_SCHEMA_NAME, "no schema has been selected to create in")
                })?
            }
        };
        if schema == PG_CATALOG_OID || schema == INFORMATION_SCHEMA_OID {
            let shown = format!("{}.{}", self.catalog.schema_name(schema).unwrap_or_default(), name.name);
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to create \"{shown}\""),
            )
            .with_detail("System catalog modifications are currently disallowed."));
        }
        self.lock(schema, TableLockMode::AccessShare)?;
        self.refresh()?;
        match self.catalog.schema_name(schema) {
            Some(_) => Ok(schema),
            None => Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, "the schema was dropped meanwhile")),
        }
    }

    /// A name for a generated object: `parts` joined by underscores, cut to fit, with a number where taken.
    pub fn free_name(&self, schema: Oid, base: &str, suffix: &str, taken: &[String]) -> String {
        for attempt in 0.. {
            let label = if attempt == 0 { suffix.to_owned() } else { format!("{suffix}{attempt}") };
            let mut name = base.to_owned();
            while name.len() + 1 + label.len() > MAX_NAME_BYTES {
                name.pop();
            }
            let name = format!("{name}_{label}");
            if self.catalog.relation_in(schema, &name).is_none() && !taken.contains(&name) {
                return name;
            }
        }
        unreachable!("the numbers do not end")
    }

    pub fn current_role(&self) -> Result<&Arc<Role>> {
        self.catalog
            .role(self.context.role)
            .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, "the current role has been dropped"))
    }

    pub fn is_superuser(&self) -> Result<bool> {
        Ok(self.current_role()?.superuser)
    }

    /// 42501 unless the role is the owner (or a member of it) or a superuser.
    pub fn require_owner(&self, owner: Oid, kind: &str, name: &str) -> Result<()> {
        if self.is_superuser()? || self.catalog.is_member(self.context.role, owner) {
            return Ok(());
        }
        Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("must be owner of {kind} {name}")))
    }

    pub fn role_named(&self, name: &str) -> Result<Arc<Role>> {
        let role = match name {
            "current_user" | "current_role" | "session_user" => Some(self.current_role()?),
            _ => self.catalog.role_by_name(name),
        };
        role.cloned()
            .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")))
    }

    /// Sends a NOTICE.
    pub fn notice(&self, state: SqlState, message: impl Into<String>) {
        self.context.notices.lock().push(Notice { warning: false, error: SqlError::new(state, message) });
    }
}

impl Work<'_> {
    /// Sends a WARNING.
    pub fn warning(&self, message: String) {
        self.context.notices.lock().push(Notice { warning: true, error: SqlError::new(SqlState::WARNING, message) });
    }
}

/// 42P01.
pub(super) fn undefined_relation(name: &QualifiedName) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

/// 42501 for changes to system relations.
pub(super) fn system_relation(name: &str) -> SqlError {
    SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied: \"{name}\" is a system catalog"))
}

/// 42P07.
pub(super) fn duplicate_relation(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
}
