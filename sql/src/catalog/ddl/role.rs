//! Roles: CREATE, ALTER and DROP ROLE (USER, GROUP), and membership.

use super::CommandTag;
use super::drop::missing;
use super::scram;
use super::syntax::Words;
use super::work::Work;
use crate::catalog::object::{Object, ObjectKind};
use crate::catalog::{BOOTSTRAP_ROLE_OID, Membership, Oid, Role, class};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{DataType, Datum};

/// CREATE ROLE, USER or GROUP; the words stand behind the kind.
pub(super) fn create(work: &mut Work<'_>, words: &mut Words, login: bool) -> Result<CommandTag> {
    let name = words.name()?;
    work.require_superuser_or(|role| role.create_role, "permission denied to create role")?;
    if name.starts_with("pg_") {
        return Err(SqlError::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved"))
            .with_detail("Role names starting with \"pg_\" are reserved."));
    }
    if matches!(name.as_str(), "public" | "none") {
        return Err(SqlError::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved")));
    }
    work.lock_name(0, &format!("role {name}"))?;
    if work.catalog.role_by_name(&name).is_some() {
        return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, format!("role \"{name}\" already exists")));
    }
    let plain = Role {
        superuser: false,
        login,
        create_db: false,
        create_role: false,
        replication: false,
        bypass_rls: false,
        ..Role::superuser(work.allocate_oid()?, name)
    };
    words.take(&["with"]);
    let (role, members) = options(work, words, plain)?;
    let oid = role.oid;
    work.put(Object::Role(role))?;
    for (member, admin_option) in members {
        work.add_member(oid, member, admin_option)?;
    }
    Ok(CommandTag("CREATE ROLE".into()))
}

/// Applies role options; roles that become members of it come back.
fn options(work: &Work<'_>, words: &mut Words, mut role: Role) -> Result<(Role, Vec<(Oid, bool)>)> {
    let mut members = Vec::new();
    while !words.is_end() {
        let Some(word) = words.take_any(&[
            "superuser",
            "nosuperuser",
            "createdb",
            "nocreatedb",
            "createrole",
            "nocreaterole",
            "inherit",
            "noinherit",
            "login",
            "nologin",
            "replication",
            "noreplication",
            "bypassrls",
            "nobypassrls",
            "encrypted",
            "password",
            "connection",
            "valid",
            "in",
            "role",
            "user",
            "admin",
            "sysid",
        ]) else {
            return Err(words.error());
        };
        let yes = !word.starts_with("no");
        match word.trim_start_matches("no") {
            "superuser" => {
                work.require_superuser_or(|_| false, "must be superuser to change superuser attribute")?;
                role.superuser = yes;
            }
            "createdb" => role.create_db = yes,
            "createrole" => role.create_role = yes,
            "inherit" => role.inherit = yes,
            "login" => role.login = yes,
            "replication" => role.replication = yes,
            "bypassrls" => role.bypass_rls = yes,
            "encrypted" => {
                words.expect(&["password"])?;
                role.password = password(work, words)?;
            }
            "password" => role.password = password(work, words)?,
            "connection" => {
                words.expect(&["limit"])?;
                role.connection_limit = i32::try_from(words.integer()?).unwrap_or(-1).max(-1);
            }
            "valid" => {
                words.expect(&["until"])?;
                let text = words.string()?;
                role.valid_until_us = match crate::types::text::parse(&text, DataType::TIMESTAMPTZ, work.context.eval)?
                {
                    // The infinities are no end.
                    Datum::Timestamptz(i64::MAX | i64::MIN) => None,
                    Datum::Timestamptz(microseconds) => Some(microseconds),
                    other => return Err(SqlError::internal(format!("{other:?} is no timestamptz"))),
                };
            }
            "in" => {
                if words.take_any(&["role", "group"]).is_none() {
                    return Err(words.error());
                }
                for name in words.list(Words::name)? {
                    let of = work.role_named(&name)?.oid;
                    let grantor = work.context.role;
                    role.member_of.push(Membership { role: of, admin_option: false, grantor });
                }
            }
            "sysid" => _ = words.integer()?,
            _ => {
                for name in words.list(Words::name)? {
                    members.push((work.role_named(&name)?.oid, word == "admin"));
                }
            }
        }
    }
    Ok((role, members))
}

/// The verifier of PASSWORD '…'; PASSWORD NULL is none.
fn password(work: &Work<'_>, words: &mut Words) -> Result<Option<String>> {
    if words.take(&["null"]) {
        return Ok(None);
    }
    let text = words.string()?;
    if text.is_empty() {
        work.notice(SqlState::SUCCESSFUL_COMPLETION, "empty string is not a valid password, clearing password");
        return Ok(None);
    }
    if scram::is_verifier(&text) {
        return Ok(Some(text));
    }
    let mut salt = [0; scram::SALT_BYTES];
    (work.context.random)(&mut salt);
    Ok(Some(scram::verifier(&text, &salt)))
}

/// ALTER ROLE, USER or GROUP.
pub(super) fn alter(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let tag = CommandTag("ALTER ROLE".into());
    if words.take(&["all"]) {
        return Err(SqlError::unsupported("ALTER ROLE ALL"));
    }
    let name = words.name()?;
    let role = lock(work, &name)?;
    let own = role.oid == work.context.role;
    if words.take(&["rename", "to"]) {
        work.require_superuser_or(|role| role.create_role, "permission denied to rename role")?;
        let to = words.name()?;
        words.expect_end()?;
        work.lock_name(0, &format!("role {to}"))?;
        if work.catalog.role_by_name(&to).is_some() {
            return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, format!("role \"{to}\" already exists")));
        }
        work.put(Object::Role(Role { name: to, ..role }))?;
        return Ok(tag);
    }
    if let Some(verb @ ("add" | "drop")) = words.take_any(&["add", "drop"]) {
        words.expect(&["user"])?;
        work.require_superuser_or(|role| role.create_role, "must have admin option on role")?;
        for name in words.list(Words::name)? {
            let member = work.role_named(&name)?.oid;
            match verb {
                "add" => work.add_member(role.oid, member, false)?,
                _ => work.remove_member(role.oid, member, false)?,
            }
        }
        return Ok(tag);
    }
    if words.peek("in") {
        return Err(SqlError::unsupported("ALTER ROLE … IN DATABASE"));
    }
    if words.peek("set") || words.peek("reset") {
        if !own {
            work.require_superuser_or(|role| role.create_role, "permission denied to alter role")?;
        }
        let mut role = role;
        change_settings(&mut role.settings, words)?;
        work.put(Object::Role(role))?;
        return Ok(tag);
    }
    words.take(&["with"]);
    // Everyone may change the own password.
    if !(own && (words.peek("password") || words.peek("encrypted"))) {
        work.require_superuser_or(|by| by.create_role && !role.superuser, "permission denied to alter role")?;
    }
    let (role, members) = options(work, words, role)?;
    let oid = role.oid;
    work.put(Object::Role(role))?;
    members.into_iter().try_for_each(|(member, admin)| work.add_member(oid, member, admin))?;
    Ok(tag)
}

/// `SET name TO value`, `SET name = value`, `RESET name`, `RESET ALL`.
pub(super) fn change_settings(settings: &mut Vec<(String, String)>, words: &mut Words) -> Result<()> {
    if words.take(&["reset"]) {
        if words.take(&["all"]) {
            settings.clear();
        } else {
            let name = words.name()?;
            settings.retain(|(known, _)| *known != name);
        }
        return words.expect_end();
    }
    words.expect(&["set"])?;
    let mut name = words.name()?;
    while words.take_token(&sqlparser::tokenizer::Token::Period) {
        name = format!("{name}.{}", words.name()?);
    }
    if !words.take(&["to"]) && !words.take_token(&sqlparser::tokenizer::Token::Eq) {
        return Err(words.error());
    }
    settings.retain(|(known, _)| *known != name);
    if !words.take(&["default"]) {
        settings.push((name, words.setting()?));
    }
    words.expect_end()
}

fn lock(work: &mut Work<'_>, name: &str) -> Result<Role> {
    let oid = work.role_named(name)?.oid;
    work.lock(oid, crate::store::TableLockMode::AccessExclusive)?;
    work.refresh()?;
    Ok(Role::clone(&*work.role_named(name)?))
}

/// DROP ROLE, USER or GROUP.
pub(super) fn drop(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let if_exists = words.take(&["if", "exists"]);
    let names = words.list(Words::name)?;
    words.expect_end()?;
    work.require_superuser_or(|role| role.create_role, "permission denied to drop role")?;
    for name in names {
        if work.catalog.role_by_name(&name).is_none() {
            missing(work, if_exists, SqlState::UNDEFINED_OBJECT, "role", &name)?;
            continue;
        }
        let role = lock(work, &name)?;
        if role.oid == work.context.role {
            return Err(SqlError::new(SqlState::OBJECT_IN_USE, "current user cannot be dropped"));
        }
        if role.oid == BOOTSTRAP_ROLE_OID {
            let message = format!("cannot drop role {name} because it is required by the database system");
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        let owned = work.owned_by(role.oid)?;
        if !owned.is_empty() {
            let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_detail(owned.join("\n")));
        }
        let members: Vec<_> = work
            .catalog
            .roles()
            .filter(|other| other.member_of.iter().any(|member| member.role == role.oid))
            .map(|other| other.oid)
            .collect();
        members.into_iter().try_for_each(|member| work.remove_member(role.oid, member, false))?;
        work.delete_comments(class::ROLE, role.oid)?;
        work.delete(ObjectKind::Role, role.oid)?;
    }
    Ok(CommandTag("DROP ROLE".into()))
}

impl Work<'_> {
    /// Makes `member` a member of `role`.
    pub fn add_member(&mut self, role: Oid, member: Oid, admin_option: bool) -> Result<()> {
        let catalog = &self.catalog;
        let name = |oid: Oid| catalog.role(oid).map_or_else(|| oid.to_string(), |role| role.name.clone());
        if catalog.is_member(role, member) {
            let message = format!("role \"{}\" is a member of role \"{}\"", name(role), name(member));
            return Err(SqlError::new(SqlState::INVALID_GRANT_OPERATION, message));
        }
        let grantor = self.context.role;
        let Some(found) = catalog.role(member) else { return Err(SqlError::internal("a role is gone")) };
        let mut changed = Role::clone(found);
        match changed.member_of.iter_mut().find(|membership| membership.role == role) {
            Some(known) => known.admin_option |= admin_option,
            None => changed.member_of.push(Membership { role, admin_option, grantor }),
        }
        self.put(Object::Role(changed))
    }

    /// Takes a membership, or only its admin option, away.
    pub fn remove_member(&mut self, role: Oid, member: Oid, option_only: bool) -> Result<()> {
        let Some(found) = self.catalog.role(member) else { return Ok(()) };
        let mut changed = Role::clone(found);
        match option_only {
            true => changed.member_of.iter_mut().filter(|of| of.role == role).for_each(|of| of.admin_option = false),
            false => changed.member_of.retain(|membership| membership.role != role),
        }
        self.put(Object::Role(changed))
    }

    /// What a role owns or has been granted, in any database.
    fn owned_by(&self, role: Oid) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for database in self.catalog.databases() {
            if database.owner == role {
                found.push(format!("owner of database {}", database.name));
            }
            let other;
            let catalog = if database.oid == self.context.database {
                &self.catalog
            } else {
                other = self.context.manager.committed(database.oid)?;
                &other
            };
            let schemas = catalog.schemas().filter(|schema| schema.owner == role);
            found.extend(schemas.map(|schema| format!("owner of schema {}", schema.name)));
            let granted = |grants: &[crate::catalog::Grant]| grants.iter().any(|grant| grant.grantee == role);
            let relations = catalog
                .tables()
                .map(|table| ("table", &table.name, table.owner, granted(&table.privileges)))
                .chain(catalog.views().map(|view| ("view", &view.name, view.owner, granted(&view.privileges))))
                .chain(
                    catalog
                        .sequences()
                        .map(|sequence| ("sequence", &sequence.name, sequence.owner, granted(&sequence.privileges))),
                );
            for (kind, name, owner, granted) in relations {
                if owner == role {
                    found.push(format!("owner of {kind} {name}"));
                } else if granted {
                    found.push(format!("privileges for {kind} {name}"));
                }
            }
        }
        Ok(found)
    }
}
