//! GRANT and REVOKE: privileges on tables, views and sequences, and membership in roles.
//!
//! What is kept is enforced. Schemas and databases may be used by everyone and created in by their owners;
//! granting USAGE or CONNECT on them is granting what all have, anything else there is refused.

use std::sync::Arc;

use super::CommandTag;
use super::syntax::Words;
use super::work::{QualifiedName, Work, qualified, undefined_relation};
use crate::catalog::{Grant, Oid, Privilege, Relation, Sequence, Table, View};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;
use sqlparser::tokenizer::Token;

/// Privileges as written; none is ALL.
type Wanted = Option<Vec<Privilege>>;

/// GRANT and REVOKE.
pub(super) fn execute(work: &mut Work<'_>, words: &mut Words, grant: bool) -> Result<CommandTag> {
    let tag = CommandTag(if grant { "GRANT" } else { "REVOKE" }.into());
    let option_only = !grant && words.take(&["grant", "option", "for"]);
    let admin_only = !grant && words.take(&["admin", "option", "for"]);
    let mut names = Vec::new();
    let all = words.take(&["all"]);
    if all {
        words.take(&["privileges"]);
    } else {
        names = words.list(Words::name)?;
    }
    if words.take_token(&Token::LParen) {
        return Err(SqlError::unsupported("a privilege on columns"));
    }
    if !words.take(&["on"]) {
        if all {
            return Err(words.error());
        }
        membership(work, words, &names, grant, admin_only)?;
        return Ok(tag);
    }
    let targets = targets(work, words, &names)?;
    words.expect(&[if grant { "to" } else { "from" }])?;
    let grantees = words.list(|words| {
        words.take(&["group"]);
        words.name()
    })?;
    let grantees = grantees
        .iter()
        .map(|name| if name == "public" { Ok(0) } else { work.role_named(name).map(|role| role.oid) })
        .collect::<Result<Vec<_>>>()?;
    let with_option = grant && words.take(&["with", "grant", "option"]);
    if words.take(&["granted", "by"]) {
        words.name()?;
    }
    words.take_any(&["cascade", "restrict"]);
    words.expect_end()?;
    // What may be granted on schemas and databases is no privilege of relations.
    let wanted = if all || targets.is_empty() {
        None
    } else {
        Some(names.iter().map(|name| privilege(name)).collect::<Result<_>>()?)
    };
    for target in targets {
        let change = Change { wanted: &wanted, grantees: &grantees, grant, with_option, option_only };
        change.apply(work, target)?;
    }
    Ok(tag)
}

fn privilege(name: &str) -> Result<Privilege> {
    Privilege::from_word(name)
        .ok_or_else(|| SqlError::new(SqlState::SYNTAX_ERROR, format!("unrecognized privilege type \"{name}\"")))
}

/// The relations after ON. Schemas and databases give none: what may be granted on them, everyone has.
fn targets(work: &mut Work<'_>, words: &mut Words, privileges: &[String]) -> Result<Vec<QualifiedName>> {
    if words.take(&["all"]) {
        let kind = words.take_any(&["tables", "sequences", "functions", "routines"]).ok_or_else(|| words.error())?;
        words.expect(&["in", "schema"])?;
        let schemas = words.list(Words::name)?;
        let mut found = Vec::new();
        for schema in schemas {
            let oid = work.schema(&schema)?;
            let mut add = |of: Oid, name: &str| {
                if of == oid {
                    found.push(QualifiedName { schema: Some(schema.clone()), name: name.to_owned() });
                }
            };
            match kind {
                "tables" => {
                    work.catalog.tables().for_each(|table| add(table.schema, &table.name));
                    work.catalog.views().for_each(|view| add(view.schema, &view.name));
                }
                "sequences" => work.catalog.sequences().for_each(|sequence| add(sequence.schema, &sequence.name)),
                _ => {}
            }
        }
        return Ok(found);
    }
    if let Some(kind) = words.take_any(&["schema", "database"]) {
        let names = words.list(Words::name)?;
        for name in names {
            match kind {
                "schema" => _ = work.schema(&name)?,
                _ if work.catalog.database_by_name(&name).is_none() => {
                    let message = format!("database \"{name}\" does not exist");
                    return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, message));
                }
                _ => {}
            }
        }
        let held_by_all = ["usage", "connect", "temporary", "temp"];
        if let Some(other) = privileges.iter().find(|name| !held_by_all.contains(&name.as_str())) {
            return Err(SqlError::unsupported(format!("privilege {} on a {kind}", other.to_uppercase())));
        }
        return Ok(Vec::new());
    }
    if let Some(kind) =
        words.take_any(&["function", "procedure", "routine", "type", "domain", "language", "tablespace"])
    {
        return Err(SqlError::unsupported(format!("a privilege on a {kind}")));
    }
    words.take_any(&["table", "sequence"]);
    let names = words.list(Words::qualified)?;
    names.iter().map(|name| qualified(name, work)).collect()
}

/// GRANT role TO role.
fn membership(work: &mut Work<'_>, words: &mut Words, roles: &[String], grant: bool, admin_only: bool) -> Result<()> {
    words.expect(&[if grant { "to" } else { "from" }])?;
    let members = words.list(Words::name)?;
    let admin = grant && words.take(&["with", "admin", "option"]);
    if words.take(&["granted", "by"]) {
        words.name()?;
    }
    words.take_any(&["cascade", "restrict"]);
    words.expect_end()?;
    for role in roles {
        let role = work.role_named(role)?;
        let holds_admin = work.current_role()?.member_of.iter().any(|of| of.role == role.oid && of.admin_option);
        let message = format!("must have admin option on role \"{}\"", role.name);
        work.require_superuser_or(|by| holds_admin || by.create_role && !role.superuser, &message)?;
        for member in &members {
            let member = work.role_named(member)?.oid;
            work.lock(member, TableLockMode::AccessExclusive)?;
            work.refresh()?;
            match grant {
                true => work.add_member(role.oid, member, admin)?,
                false => work.remove_member(role.oid, member, admin_only)?,
            }
        }
    }
    Ok(())
}

/// One GRANT or REVOKE on one relation.
struct Change<'a> {
    wanted: &'a Wanted,
    grantees: &'a [Oid],
    grant: bool,
    with_option: bool,
    option_only: bool,
}

impl Change<'_> {
    fn apply(&self, work: &mut Work<'_>, name: QualifiedName) -> Result<()> {
        use Privilege::*;
        let found =
            work.lock_relation(&name, TableLockMode::ShareUpdateExclusive)?.ok_or_else(|| undefined_relation(&name))?;
        let (mut grants, all): (Vec<Grant>, &[Privilege]) = match &found {
            Relation::Table(table) => {
                (table.privileges.clone(), &[Insert, Select, Update, Delete, Truncate, References, Trigger])
            }
            Relation::View(view) => {
                (view.privileges.clone(), &[Insert, Select, Update, Delete, Truncate, References, Trigger])
            }
            Relation::Sequence(sequence) => (sequence.privileges.clone(), &[Select, Update, Usage]),
            Relation::System(view) => return Err(super::work::system_relation(view.name)),
            Relation::Index(index) => {
                let message = format!("\"{}\" is an index", index.name());
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
        };
        let wanted = match self.wanted {
            None => all.to_vec(),
            Some(wanted) => wanted.clone(),
        };
        if let Some(other) = wanted.iter().find(|privilege| !all.contains(privilege)) {
            let message = format!("invalid privilege type {} for {}", other.word(), found.kind_name());
            return Err(SqlError::new(SqlState::INVALID_GRANT_OPERATION, message));
        }
        self.require_grantor(work, &found, &grants, &wanted)?;
        for grantee in self.grantees.iter().filter(|grantee| **grantee != found.owner()) {
            for privilege in &wanted {
                self.change_one(&mut grants, *grantee, *privilege, work.context.role);
            }
        }
        grants.retain(|grant| !grant.privileges.is_empty());
        work.put_relation(match found {
            Relation::Table(table) => Relation::Table(Arc::new(Table { privileges: grants, ..Table::clone(&table) })),
            Relation::View(view) => Relation::View(Arc::new(View { privileges: grants, ..View::clone(&view) })),
            Relation::Sequence(sequence) => {
                Relation::Sequence(Arc::new(Sequence { privileges: grants, ..Sequence::clone(&sequence) }))
            }
            other => other,
        })
    }

    /// The owner may grant all; others what they hold with grant option.
    fn require_grantor(&self, work: &Work<'_>, found: &Relation, grants: &[Grant], wanted: &[Privilege]) -> Result<()> {
        if work.require_owner(found.owner(), found.kind_name(), found.name()).is_ok() {
            return Ok(());
        }
        let may_grant = |privilege: &Privilege| {
            grants.iter().any(|grant| {
                work.catalog.is_member(work.context.role, grant.grantee)
                    && grant.privileges.contains(&(*privilege, true))
            })
        };
        if wanted.iter().all(may_grant) {
            return Ok(());
        }
        let message = format!("permission denied for {} {}", found.kind_name(), found.name());
        Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message))
    }

    fn change_one(&self, grants: &mut Vec<Grant>, grantee: Oid, privilege: Privilege, grantor: Oid) {
        if self.grant {
            let at = match grants.iter().position(|grant| grant.grantee == grantee) {
                Some(at) => at,
                None => {
                    grants.push(Grant { grantee, grantor, privileges: Vec::new() });
                    grants.len() - 1
                }
            };
            let held = &mut grants[at].privileges;
            match held.iter_mut().find(|(known, _)| *known == privilege) {
                Some((_, option)) => *option |= self.with_option,
                None => held.push((privilege, self.with_option)),
            }
            held.sort_unstable_by_key(|(privilege, _)| "arwdDxtU".find(privilege.letter()));
            return;
        }
        for grant in grants.iter_mut().filter(|grant| grant.grantee == grantee) {
            match self.option_only {
                true => grant
                    .privileges
                    .iter_mut()
                    .filter(|(known, _)| *known == privilege)
                    .for_each(|(_, option)| *option = false),
                false => grant.privileges.retain(|(known, _)| *known != privilege),
            }
        }
    }
}
