//! COMMENT ON.

use sqlparser::ast::{CommentObject, ObjectName};

use super::CommandTag;
use super::constraint::{FoundConstraint, find_constraint};
use super::syntax::Words;
use super::work::{QualifiedName, Work, name_parts, qualified, simple, undefined_relation};
use crate::catalog::object::{Object, comment_key};
use crate::catalog::{Oid, Relation, class};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

/// COMMENT ON anything but a constraint.
pub(super) fn comment(
    work: &mut Work<'_>,
    kind: CommentObject,
    name: &ObjectName,
    text: Option<&str>,
) -> Result<CommandTag> {
    let (class, object, sub) = match kind {
        CommentObject::Table | CommentObject::View | CommentObject::Index | CommentObject::Sequence => {
            let name = qualified(name, work)?;
            let found = lock(work, &name)?;
            let word = kind.to_string().to_lowercase();
            if found.kind_name() != word {
                let message = format!("\"{}\" is not a {word}", found.name());
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message.replace("a index", "an index")));
            }
            (class::RELATION, found.oid(), 0)
        }
        CommentObject::Column => {
            let mut parts = name_parts(name)?;
            let column = parts.pop().unwrap_or_default();
            let Some(relation) = parts.pop() else {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "column name must be qualified"));
            };
            let found = lock(work, &QualifiedName { schema: parts.pop(), name: relation })?;
            let at = match &found {
                Relation::Table(table) => table.column(&column),
                Relation::View(view) => view.columns.iter().position(|(name, _)| *name == column),
                _ => None,
            };
            let at = at.ok_or_else(|| {
                let message = format!("column \"{column}\" of relation \"{}\" does not exist", found.name());
                SqlError::new(SqlState::UNDEFINED_COLUMN, message)
            })?;
            (class::RELATION, found.oid(), at as i32 + 1)
        }
        CommentObject::Schema => {
            let name = simple(name)?;
            let oid = work.schema(&name)?;
            if let Some(schema) = work.catalog.schema(oid) {
                work.require_owner(schema.owner, "schema", &name)?;
            }
            (class::SCHEMA, oid, 0)
        }
        CommentObject::Database => {
            let name = simple(name)?;
            let database = work.catalog.database_by_name(&name).ok_or_else(|| {
                SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist"))
            })?;
            work.require_owner(database.owner, "database", &name)?;
            (class::DATABASE, database.oid, 0)
        }
        CommentObject::Role | CommentObject::User => {
            let role = work.role_named(&simple(name)?)?;
            work.require_superuser_or(|by| by.create_role, "permission denied to comment on role")?;
            (class::ROLE, role.oid, 0)
        }
        other => return Err(SqlError::unsupported(format!("COMMENT ON {other}"))),
    };
    set(work, class, object, sub, text)
}

/// COMMENT ON CONSTRAINT name ON table IS …
pub(super) fn on_constraint(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let name = words.name()?;
    words.expect(&["on"])?;
    words.take(&["table"]);
    let table = qualified(&words.qualified()?, work)?;
    words.expect(&["is"])?;
    let text = if words.take(&["null"]) { None } else { Some(words.string()?) };
    words.expect_end()?;
    let table = work.lock_table(&table, TableLockMode::ShareUpdateExclusive)?;
    let oid = match find_constraint(&table, &name) {
        Some(FoundConstraint::PrimaryKey) => table.primary_key.as_ref().map(|key| key.constraint_oid),
        Some(FoundConstraint::Unique(oid)) => table.index(oid).map(|index| index.constraint_oid),
        Some(FoundConstraint::Check(at)) => Some(table.checks[at].oid),
        Some(FoundConstraint::ForeignKey(at)) => Some(table.foreign_keys[at].oid),
        None => None,
    };
    let oid = oid.ok_or_else(|| {
        let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
        SqlError::new(SqlState::UNDEFINED_OBJECT, message)
    })?;
    set(work, class::CONSTRAINT, oid, 0, text.as_deref())
}

fn lock(work: &mut Work<'_>, name: &QualifiedName) -> Result<Relation> {
    let found = work.lock_relation(name, TableLockMode::ShareUpdateExclusive)?;
    let found = found.ok_or_else(|| undefined_relation(name))?;
    work.require_owner(found.owner(), found.kind_name(), found.name())?;
    Ok(found)
}

/// An empty comment is none.
fn set(work: &mut Work<'_>, class: Oid, object: Oid, sub: i32, text: Option<&str>) -> Result<CommandTag> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => {
            work.put(Object::Comment { class, object, sub, text: text.to_owned() })?;
        }
        None => work.delete_key(comment_key(work.context.database, class, object, sub))?,
    }
    Ok(CommandTag("COMMENT".into()))
}
