//! What ALTER can do to any relation: RENAME TO, OWNER TO, SET SCHEMA.

use std::sync::Arc;

use super::CommandTag;
use super::drop::missing;
use super::syntax::Words;
use super::work::{QualifiedName, Work, duplicate_relation, qualified, system_relation, undefined_relation};
use crate::catalog::object::Object;
use crate::catalog::{Index, Oid, Relation, Sequence, Table, View};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

fn locked(work: &mut Work<'_>, name: &QualifiedName) -> Result<Relation> {
    match work.lock_relation(name, TableLockMode::AccessExclusive)? {
        Some(Relation::System(view)) => Err(system_relation(view.name)),
        Some(found) => {
            work.require_owner(found.owner(), found.kind_name(), found.name())?;
            Ok(found)
        }
        None => Err(undefined_relation(name)),
    }
}

/// The views over a relation follow its new name.
fn follow(work: &mut Work<'_>, relation: &Relation, schema: &str, name: &str) -> Result<()> {
    let old_schema = work.catalog.schema_name(relation.schema()).unwrap_or_default().to_owned();
    let reading: Vec<_> =
        work.catalog.views().filter(|view| view.dependencies.contains(&relation.oid())).cloned().collect();
    for view in reading {
        let query = super::view::rename_relation(&view.query, (&old_schema, relation.name()), (schema, name))?;
        work.put(Object::View(View { query, ..View::clone(&view) }))?;
    }
    Ok(())
}

/// RENAME TO.
pub(super) fn rename(work: &mut Work<'_>, name: &QualifiedName, to: String) -> Result<()> {
    let found = locked(work, name)?;
    let schema = found.schema();
    work.lock_name(schema, &to)?;
    if work.catalog.relation_in(schema, &to).is_some() {
        return Err(duplicate_relation(&to));
    }
    if let Relation::Index(index) = &found {
        let mut table = Table::clone(&index.table);
        rename_index(&mut table, index.name(), &to);
        return work.put_table(table);
    }
    let schema_name = work.catalog.schema_name(schema).unwrap_or_default().to_owned();
    follow(work, &found, &schema_name, &to)?;
    put_relation(work, found, |_, _, name| name.clone_from(&to))
}

/// OWNER TO. Owned sequences go along.
pub(super) fn set_owner(work: &mut Work<'_>, name: &QualifiedName, owner: Oid) -> Result<()> {
    let found = locked(work, name)?;
    if matches!(found, Relation::Index(_)) {
        let message = format!("cannot change owner of index \"{}\"", found.name());
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
            .with_hint("Change the ownership of the index's table instead."));
    }
    let owned = owned_sequences(work, found.oid());
    put_relation(work, found, |_, current, _| *current = owner)?;
    owned.into_iter().try_for_each(|sequence| put_relation(work, sequence, |_, current, _| *current = owner))
}

fn owned_sequences(work: &Work<'_>, table: Oid) -> Vec<Relation> {
    let owned = work.catalog.sequences().filter(|sequence| sequence.owned_by.is_some_and(|(of, _)| of == table));
    owned.cloned().map(Relation::Sequence).collect()
}

/// SET SCHEMA. Indexes and owned sequences go along.
pub(super) fn set_schema(work: &mut Work<'_>, name: &QualifiedName, schema: &str) -> Result<()> {
    let found = locked(work, name)?;
    if let Relation::Index(index) = &found {
        let message = format!("\"{}\" is not a table, view, or sequence", index.name());
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    }
    let target = QualifiedName { schema: Some(schema.to_owned()), name: found.name().to_owned() };
    let to = work.creation_schema(&target)?;
    let mut names = vec![found.name().to_owned()];
    if let Relation::Table(table) = &found {
        names.extend(table.indexes.iter().map(|index| index.name.clone()));
        names.extend(table.primary_key.iter().map(|key| key.name.clone()));
    }
    let owned = owned_sequences(work, found.oid());
    names.extend(owned.iter().map(|sequence| sequence.name().to_owned()));
    for name in names {
        work.lock_name(to, &name)?;
        if work.catalog.relation_in(to, &name).is_some() {
            let message = format!("relation \"{name}\" already exists in schema \"{schema}\"");
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
    }
    for relation in owned.into_iter().chain([found]) {
        let name = relation.name().to_owned();
        follow(work, &relation, schema, &name)?;
        put_relation(work, relation, |current, _, _| *current = to)?;
    }
    Ok(())
}

/// ALTER VIEW … RENAME COLUMN: the query keeps its own names, the view shows another.
pub(super) fn rename_view_column(work: &mut Work<'_>, name: &QualifiedName, from: &str, to: String) -> Result<()> {
    let Relation::View(view) = locked(work, name)? else { return Err(undefined_relation(name)) };
    if view.columns.iter().any(|(column, _)| *column == to) {
        let message = format!("column \"{to}\" of relation \"{}\" already exists", view.name);
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
    }
    let at = view
        .columns
        .iter()
        .position(|(column, _)| column == from)
        .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{from}\" does not exist")))?;
    if work.catalog.views().any(|other| other.dependencies.contains(&view.oid)) {
        return Err(SqlError::unsupported("renaming a column of a view that other views read"));
    }
    let mut view = View::clone(&view);
    view.columns[at].0 = to;
    work.put(Object::View(view))
}

/// Renames an index of a table.
pub(super) fn rename_index(table: &mut Table, from: &str, to: &str) {
    if let Some(key) = table.primary_key.as_mut().filter(|key| key.name == from) {
        key.name = to.to_owned();
    }
    for index in &mut table.indexes {
        if index.name == from {
            *index = Arc::new(Index { name: to.to_owned(), ..Index::clone(index) });
        }
    }
}

/// Writes a relation under another schema, owner or name.
fn put_relation(
    work: &mut Work<'_>,
    relation: Relation,
    change: impl Fn(&mut Oid, &mut Oid, &mut String),
) -> Result<()> {
    match relation {
        Relation::Table(table) => {
            let mut table = Table::clone(&table);
            change(&mut table.schema, &mut table.owner, &mut table.name);
            work.put_table(table)
        }
        Relation::View(view) => {
            let mut view = View::clone(&view);
            change(&mut view.schema, &mut view.owner, &mut view.name);
            work.put(Object::View(view))
        }
        Relation::Sequence(sequence) => {
            let mut sequence = Sequence::clone(&sequence);
            change(&mut sequence.schema, &mut sequence.owner, &mut sequence.name);
            work.put(Object::Sequence(sequence))
        }
        Relation::Index(_) | Relation::System(_) => Err(SqlError::internal("no relation of its own")),
    }
}

impl Work<'_> {
    /// Writes a table, view or sequence.
    pub fn put_relation(&mut self, relation: Relation) -> Result<()> {
        put_relation(self, relation, |_, _, _| {})
    }
}

/// ALTER VIEW, INDEX, SEQUENCE or TABLE, of what the parser does not know.
pub(super) fn alter(work: &mut Work<'_>, words: &mut Words, kind: &str) -> Result<CommandTag> {
    let tag = CommandTag(format!("ALTER {}", kind.to_uppercase()));
    let if_exists = words.take(&["if", "exists"]);
    words.take(&["only"]);
    let name = qualified(&words.qualified()?, work)?;
    match work.find(&name)? {
        None if if_exists => {
            missing(work, true, SqlState::UNDEFINED_TABLE, "relation", &name.to_string())?;
            return Ok(tag);
        }
        None => return Err(undefined_relation(&name)),
        Some(found) if kind != "table" && found.kind_name() != kind => {
            let message = format!("\"{}\" is not a {kind}", found.name()).replace("a index", "an index");
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        Some(_) => {}
    }
    if words.take(&["rename", "to"]) {
        let to = words.name()?;
        words.expect_end()?;
        rename(work, &name, to)?;
    } else if words.take(&["set", "schema"]) {
        let schema = words.name()?;
        words.expect_end()?;
        set_schema(work, &name, &schema)?;
    } else if words.take(&["owner", "to"]) {
        let owner = work.role_named(&words.name()?)?.oid;
        words.expect_end()?;
        set_owner(work, &name, owner)?;
    } else if kind == "view" && words.take(&["rename"]) {
        words.take(&["column"]);
        let from = words.name()?;
        words.expect(&["to"])?;
        let to = words.name()?;
        words.expect_end()?;
        rename_view_column(work, &name, &from, to)?;
    } else if kind == "sequence" {
        super::sequence::alter(work, &name, words)?;
    } else if kind == "table" && words.take(&["alter"]) {
        alter_identity(work, &name, words)?;
    } else {
        return Err(SqlError::unsupported(format!("this form of ALTER {}", kind.to_uppercase())));
    }
    Ok(tag)
}

/// ALTER COLUMN … DROP IDENTITY, SET GENERATED, SET STATISTICS, SET STORAGE.
fn alter_identity(work: &mut Work<'_>, name: &QualifiedName, words: &mut Words) -> Result<()> {
    words.take(&["column"]);
    let column = words.name()?;
    let table = work.lock_table(name, TableLockMode::AccessExclusive)?;
    let at = table.column(&column).ok_or_else(|| {
        let message = format!("column \"{column}\" of relation \"{}\" does not exist", table.name);
        SqlError::new(SqlState::UNDEFINED_COLUMN, message)
    })?;
    let not_identity = || format!("column \"{column}\" of relation \"{}\" is not an identity column", table.name);
    let mut changed = Table::clone(&table);
    if words.take(&["drop", "identity"]) {
        let if_exists = words.take(&["if", "exists"]);
        words.expect_end()?;
        let Some(identity) = changed.columns[at].identity.take() else {
            if if_exists {
                work.notice(SqlState::SUCCESSFUL_COMPLETION, not_identity() + ", skipping");
                return Ok(());
            }
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, not_identity()));
        };
        work.put_table(changed)?;
        return work.drop_targets(vec![super::drop::Target::Sequence(identity.sequence)], true);
    }
    if words.take(&["set", "generated"]) {
        let always = words.take(&["always"]);
        if !always {
            words.expect(&["by", "default"])?;
        }
        words.expect_end()?;
        let Some(identity) = &mut changed.columns[at].identity else {
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, not_identity()));
        };
        identity.always = always;
        return work.put_table(changed);
    }
    // Neither changes how a column is stored here: every column is sampled, and large values go out of line.
    if words.take(&["set", "statistics"]) {
        words.integer()?;
        return words.expect_end();
    }
    if words.take(&["set", "storage"]) {
        words.name()?;
        return words.expect_end();
    }
    Err(words.error())
}
