//! DROP, with what depends on the dropped.
//!
//! Indexes, constraints and owned sequences go with their table silently. Views over a relation and defaults
//! that draw from a sequence, and foreign keys that refer to a table, stop the DROP (2BP01) or, with CASCADE, go too.

use sqlparser::ast::{ObjectName, ObjectType};

use super::CommandTag;
use super::work::{QualifiedName, Work, qualified, simple, system_relation};
use crate::catalog::object::{ObjectKind, comment_key};
use crate::catalog::{Oid, Relation, Table, class};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

/// Something that a DROP takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Schema(Oid),
    Table(Oid),
    View(Oid),
    Sequence(Oid),
    /// The default of a column.
    Default(Oid, usize),
    /// A foreign key, by table and constraint.
    ForeignKey(Oid, Oid),
}

impl Target {
    /// OID of the object, or of its table.
    fn oid(self) -> Oid {
        match self {
            Target::Schema(oid) | Target::Table(oid) | Target::View(oid) | Target::Sequence(oid) => oid,
            Target::ForeignKey(_, oid) | Target::Default(oid, _) => oid,
        }
    }
}

/// Why a target is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Named in the statement.
    Named,
    /// Part of another target: goes without saying.
    Part,
    /// Depends on the target at this position.
    Dependent(usize),
}

/// DROP of relations and schemas.
pub(super) fn drop(
    work: &mut Work<'_>,
    kind: ObjectType,
    names: &[ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<CommandTag> {
    match kind {
        ObjectType::Table | ObjectType::View | ObjectType::Sequence => {
            let mut roots = Vec::new();
            for name in names {
                let name = qualified(name, work)?;
                roots.extend(find_root(work, &name, kind, if_exists)?);
            }
            work.drop_targets(roots, cascade)?;
        }
        ObjectType::Index => {
            for name in names {
                let name = qualified(name, work)?;
                drop_index(work, &name, if_exists, cascade)?;
            }
        }
        ObjectType::Schema => {
            let mut roots = Vec::new();
            for name in names {
                let name = simple(name)?;
                match work.catalog.schema_oid(&name) {
                    Some(oid) if oid < 2200 || work.catalog.schema(oid).is_none() => {
                        return Err(system_relation(&name));
                    }
                    Some(oid) => {
                        work.lock(oid, TableLockMode::AccessExclusive)?;
                        work.refresh()?;
                        if let Some(schema) = work.catalog.schema(oid) {
                            work.require_owner(schema.owner, "schema", &name)?;
                        }
                        roots.push(Target::Schema(oid));
                    }
                    None => missing(work, if_exists, SqlState::INVALID_SCHEMA_NAME, "schema", &name)?,
                }
            }
            work.drop_targets(roots, cascade)?;
        }
        other => return Err(SqlError::unsupported(format!("DROP {other}"))),
    }
    Ok(CommandTag(format!("DROP {kind}")))
}

/// A missing object: an error, or with IF EXISTS a notice.
pub(super) fn missing(work: &Work<'_>, if_exists: bool, state: SqlState, kind: &str, name: &str) -> Result<()> {
    if !if_exists {
        return Err(SqlError::new(state, format!("{kind} \"{name}\" does not exist")));
    }
    work.notice(SqlState::SUCCESSFUL_COMPLETION, format!("{kind} \"{name}\" does not exist, skipping"));
    Ok(())
}

fn find_root(work: &mut Work<'_>, name: &QualifiedName, kind: ObjectType, if_exists: bool) -> Result<Option<Target>> {
    let word = kind.to_string().to_lowercase();
    if let Some(schema) = &name.schema
        && work.catalog.schema_oid(schema).is_none()
    {
        missing(work, if_exists, SqlState::INVALID_SCHEMA_NAME, "schema", schema)?;
        return Ok(None);
    }
    let Some(found) = work.lock_relation(name, TableLockMode::AccessExclusive)? else {
        missing(work, if_exists, SqlState::UNDEFINED_TABLE, &word, &name.to_string())?;
        return Ok(None);
    };
    if let Relation::System(view) = &found {
        return Err(system_relation(view.name));
    }
    let target = match (&found, kind) {
        (Relation::Table(table), ObjectType::Table) => Target::Table(table.oid),
        (Relation::View(view), ObjectType::View) => Target::View(view.oid),
        (Relation::Sequence(sequence), ObjectType::Sequence) => {
            if sequence.identity
                && let Some((table, column)) = sequence.owned_by
                && let Some(table) = work.catalog.table(table)
            {
                let (column, table) = (&table.columns[column].name, &table.name);
                let message = format!(
                    "cannot drop sequence {} because column {column} of table {table} requires it",
                    sequence.name
                );
                let hint = format!("You can drop column {column} of table {table} instead.");
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_hint(hint));
            }
            Target::Sequence(sequence.oid)
        }
        _ => return Err(wrong_kind(&found, &word)),
    };
    work.require_owner(found.owner(), found.kind_name(), found.name())?;
    Ok(Some(target))
}

/// 42809 with the hint which DROP would do.
fn wrong_kind(found: &Relation, expected: &str) -> SqlError {
    let article = if matches!(expected.chars().next(), Some('a' | 'e' | 'i' | 'o' | 'u')) { "an" } else { "a" };
    let kind = found.kind_name();
    let other = if kind == "index" { "an" } else { "a" };
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not {article} {expected}", found.name()))
        .with_hint(format!("Use DROP {} to remove {other} {kind}.", kind.to_uppercase()))
}

/// DROP INDEX.
fn drop_index(work: &mut Work<'_>, name: &QualifiedName, if_exists: bool, cascade: bool) -> Result<()> {
    let found = match work.lock_relation(name, TableLockMode::AccessExclusive)? {
        None => return missing(work, if_exists, SqlState::UNDEFINED_OBJECT, "index", &name.to_string()),
        Some(Relation::Index(index)) => index,
        Some(other) => return Err(wrong_kind(&other, "index")),
    };
    work.require_owner(found.table.owner, "index", found.name())?;
    let (index, table) = (found.name().to_owned(), &found.table);
    let plain = found.index.as_ref().filter(|index| !index.constraint);
    let Some(plain) = plain else {
        let message =
            format!("cannot drop index {index} because constraint {index} on table {} requires it", table.name);
        let hint = format!("You can drop constraint {index} on table {} instead.", table.name);
        return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_hint(hint));
    };
    work.release_index(plain.oid, &format!("index {index}"), cascade)?;
    work.context.transaction.drop_tree(plain.tree())?;
    let table = work.catalog.table(table.oid).ok_or_else(|| SqlError::internal("a locked table is gone"))?;
    let mut table = Table::clone(table);
    table.indexes.retain(|index| index.oid != plain.oid);
    work.delete_comments(class::RELATION, plain.oid)?;
    work.put_table(table)
}

impl Work<'_> {
    /// Drops targets with everything that depends on them.
    pub fn drop_targets(&mut self, roots: Vec<Target>, cascade: bool) -> Result<()> {
        let targets = self.closure(roots)?;
        self.report(&targets, cascade)?;
        for (target, _) in targets {
            self.drop_one(target)?;
        }
        Ok(())
    }

    /// The targets and all that goes with them, each locked.
    fn closure(&mut self, roots: Vec<Target>) -> Result<Vec<(Target, Reason)>> {
        let mut targets: Vec<(Target, Reason)> = Vec::new();
        for root in roots {
            if !targets.iter().any(|(known, _)| *known == root) {
                targets.push((root, Reason::Named));
            }
        }
        let mut at = 0;
        while at < targets.len() {
            let (target, _) = targets[at];
            for (next, part) in self.dependents(target) {
                match targets.iter_mut().find(|(known, _)| *known == next) {
                    Some((_, reason)) if part && *reason != Reason::Named => *reason = Reason::Part,
                    Some(_) => {}
                    None => {
                        if let Target::Table(oid)
                        | Target::View(oid)
                        | Target::Sequence(oid)
                        | Target::ForeignKey(oid, _) = next
                        {
                            self.lock(oid, TableLockMode::AccessExclusive)?;
                        }
                        targets.push((next, if part { Reason::Part } else { Reason::Dependent(at) }));
                    }
                }
            }
            at += 1;
        }
        // Whatever was waited for may have changed meanwhile; what is locked now stays.
        self.refresh()?;
        Ok(targets)
    }

    /// What goes with a target; whether as a part of it.
    fn dependents(&self, target: Target) -> Vec<(Target, bool)> {
        let catalog = &self.catalog;
        let mut found = Vec::new();
        let views_over = |oid: Oid| {
            let reading = catalog.views().filter(move |view| view.dependencies.contains(&oid));
            reading.map(|view| (Target::View(view.oid), false))
        };
        match target {
            Target::Schema(schema) => {
                let inside = |oid: Oid| oid == schema;
                found.extend(catalog.tables().filter(|t| inside(t.schema)).map(|t| (Target::Table(t.oid), false)));
                found.extend(catalog.views().filter(|v| inside(v.schema)).map(|v| (Target::View(v.oid), false)));
                let sequences = catalog.sequences().filter(|s| inside(s.schema));
                found.extend(sequences.map(|s| (Target::Sequence(s.oid), false)));
            }
            Target::Table(oid) => {
                let owned = catalog.sequences().filter(|s| s.owned_by.is_some_and(|(table, _)| table == oid));
                found.extend(owned.map(|sequence| (Target::Sequence(sequence.oid), true)));
                let keys = catalog.references_to(oid).into_iter().filter(|(child, _)| child.oid != oid);
                let mut others: Vec<_> =
                    keys.map(|(child, key)| (Target::ForeignKey(child.oid, key.oid), false)).collect();
                others.extend(views_over(oid));
                others.sort_by_key(|(target, _)| target.oid());
                found.extend(others);
            }
            Target::View(oid) => found.extend(views_over(oid)),
            Target::Sequence(oid) => {
                found.extend(views_over(oid));
                for table in catalog.tables() {
                    for (position, column) in table.live_columns() {
                        let default = column.default.as_deref().unwrap_or_default();
                        if super::expression::sequences_of(default).contains(&oid) {
                            found.push((Target::Default(table.oid, position), false));
                        }
                    }
                }
            }
            Target::Default(..) | Target::ForeignKey(..) => {}
        }
        found
    }

    /// The error without CASCADE, the notice with it.
    fn report(&self, targets: &[(Target, Reason)], cascade: bool) -> Result<()> {
        let taken_with_table = |target: &Target| match target {
            Target::Default(table, _) | Target::ForeignKey(table, _) => {
                targets.iter().any(|(other, _)| *other == Target::Table(*table))
            }
            _ => false,
        };
        let dependents: Vec<_> = targets
            .iter()
            .filter_map(|(target, reason)| match reason {
                Reason::Dependent(on) if !taken_with_table(target) => Some((*target, *on)),
                _ => None,
            })
            .collect();
        if dependents.is_empty() {
            return Ok(());
        }
        if cascade {
            let lines: Vec<_> =
                dependents.iter().map(|(target, _)| format!("drop cascades to {}", self.describe(*target))).collect();
            self.cascade_notice(&lines);
            return Ok(());
        }
        let lines: Vec<_> = dependents
            .iter()
            .map(|(target, on)| format!("{} depends on {}", self.describe(*target), self.describe(targets[*on].0)))
            .collect();
        let message = match targets.iter().filter(|(_, reason)| *reason == Reason::Named).count() {
            1 => format!("cannot drop {} because other objects depend on it", self.describe(targets[0].0)),
            _ => "cannot drop desired object(s) because other objects depend on them".to_owned(),
        };
        Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
            .with_detail(lines.join("\n"))
            .with_hint("Use DROP ... CASCADE to drop the dependent objects too."))
    }

    /// The notice of a CASCADE; each line is `drop cascades to …`.
    pub fn cascade_notice(&self, lines: &[String]) {
        match lines {
            [] => {}
            [one] => self.notice(SqlState::SUCCESSFUL_COMPLETION, one),
            many => {
                let message = format!("drop cascades to {} other objects", many.len());
                let error = SqlError::new(SqlState::SUCCESSFUL_COMPLETION, message).with_detail(many.join("\n"));
                self.context.notices.lock().push(super::Notice { warning: false, error });
            }
        }
    }

    fn describe(&self, target: Target) -> String {
        match target {
            Target::Schema(oid) => format!("schema {}", self.catalog.schema_name(oid).unwrap_or_default()),
            Target::Table(oid) | Target::View(oid) | Target::Sequence(oid) => {
                let kind = match target {
                    Target::Table(_) => "table",
                    Target::View(_) => "view",
                    _ => "sequence",
                };
                format!("{kind} {}", self.shown_name(oid))
            }
            Target::ForeignKey(table, key) => self.describe_foreign_key((table, key)),
            Target::Default(table, column) => {
                let name = self.catalog.table(table).map_or("", |table| &table.columns[column].name);
                format!("default value for column {name} of table {}", self.shown_name(table))
            }
        }
    }

    /// Name of a relation, qualified where the search path would not find it.
    pub fn shown_name(&self, oid: Oid) -> String {
        self.catalog.relation_name(oid, self.context.search_path).unwrap_or_else(|| oid.to_string())
    }

    fn drop_one(&mut self, target: Target) -> Result<()> {
        let transaction = self.context.transaction;
        match target {
            Target::Schema(oid) => {
                self.delete_comments(class::SCHEMA, oid)?;
                self.delete(ObjectKind::Schema, oid)
            }
            Target::Table(oid) => {
                let Some(table) = self.catalog.table(oid).cloned() else { return Ok(()) };
                transaction.drop_tree(table.tree)?;
                for index in &table.indexes {
                    transaction.drop_tree(index.tree())?;
                    self.delete_comments(class::RELATION, index.oid)?;
                }
                let checks = table.checks.iter().map(|check| check.oid);
                let checks = checks.chain(table.foreign_keys.iter().map(|key| key.oid));
                let keys = table.indexes.iter().map(|index| index.constraint_oid);
                let primary = table.primary_key.iter().map(|key| key.constraint_oid);
                for constraint in checks.chain(keys).chain(primary) {
                    self.delete_comments(class::CONSTRAINT, constraint)?;
                }
                self.delete_comments(class::RELATION, oid)?;
                self.delete(ObjectKind::Statistics, oid)?;
                self.delete(ObjectKind::Table, oid)
            }
            Target::View(oid) => {
                self.delete_comments(class::RELATION, oid)?;
                self.delete(ObjectKind::View, oid)
            }
            Target::Sequence(oid) => {
                let Some(sequence) = self.catalog.sequence(oid).cloned() else { return Ok(()) };
                transaction.delete(self.catalog.counters(), &crate::catalog::sequence::key(&sequence))?;
                self.delete_comments(class::RELATION, oid)?;
                self.delete(ObjectKind::Sequence, oid)
            }
            Target::ForeignKey(table, key) => self.drop_foreign_key(table, key),
            Target::Default(oid, column) => {
                let Some(table) = self.catalog.table(oid) else { return Ok(()) };
                let mut table = Table::clone(table);
                table.columns[column].default = None;
                self.put_table(table)
            }
        }
    }

    /// Deletes the comments on an object and its columns.
    pub fn delete_comments(&mut self, class: Oid, object: Oid) -> Result<()> {
        let found: Vec<i32> = self
            .catalog
            .comments()
            .filter(|(known, of, ..)| (*known, *of) == (class, object))
            .map(|(_, _, sub, _)| sub)
            .collect();
        found.into_iter().try_for_each(|sub| self.delete_key(comment_key(self.context.database, class, object, sub)))
    }
}
