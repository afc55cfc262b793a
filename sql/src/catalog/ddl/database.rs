//! Databases: CREATE, ALTER and DROP DATABASE.

use super::CommandTag;
use super::drop::missing;
use super::role::change_settings;
use super::syntax::Words;
use super::work::Work;
use crate::catalog::object::{Object, ObjectKey, ObjectKind};
use crate::catalog::{Database, Oid, PUBLIC_SCHEMA_OID, Schema, class};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;
use sqlparser::tokenizer::Token;

/// The options of CREATE and ALTER DATABASE.
fn options(work: &Work<'_>, words: &mut Words, database: &mut Database) -> Result<()> {
    while !words.is_end() {
        let Some(word) = words.take_any(&[
            "owner",
            "template",
            "encoding",
            "locale",
            "lc_collate",
            "lc_ctype",
            "locale_provider",
            "icu_locale",
            "tablespace",
            "allow_connections",
            "connection",
            "is_template",
            "strategy",
            "collation_version",
            "oid",
        ]) else {
            return Err(words.error());
        };
        if word == "connection" {
            words.expect(&["limit"])?;
        }
        words.take_token(&Token::Eq);
        if word == "connection" {
            database.connection_limit = i32::try_from(words.integer()?).unwrap_or(-1).max(-1);
            continue;
        }
        let value = words.setting()?;
        let truth = || match value.to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => {
                let message = format!("{word} requires a Boolean value");
                Err(SqlError::new(SqlState::SYNTAX_ERROR, message))
            }
        };
        match word {
            "owner" => database.owner = work.role_named(&value)?.oid,
            "allow_connections" => database.allow_connections = truth()?,
            "is_template" => database.template = truth()?,
            "template" if !matches!(value.as_str(), "template0" | "template1" | "default") => {
                return Err(SqlError::unsupported(format!("template database \"{value}\"")));
            }
            "encoding" if !matches!(value.to_uppercase().replace('-', "").as_str(), "UTF8" | "UNICODE" | "DEFAULT") => {
                return Err(SqlError::unsupported(format!("encoding \"{value}\"")));
            }
            "tablespace" if !matches!(value.as_str(), "pg_default" | "default") => {
                return Err(super::options::undefined_tablespace(&value));
            }
            "locale_provider" if value != "libc" => {
                return Err(SqlError::unsupported(format!("locale provider \"{value}\"")));
            }
            // Text compares by bytes whatever the locale; C.UTF-8 is what is shown.
            _ => {}
        }
    }
    Ok(())
}

/// CREATE DATABASE: a name space with schema `public`.
pub(super) fn create(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let name = words.name()?;
    work.require_superuser_or(|role| role.create_db, "permission denied to create database")?;
    work.lock_name(0, &format!("database {name}"))?;
    if work.catalog.database_by_name(&name).is_some() {
        return Err(duplicate(&name));
    }
    let mut database = Database::new(work.allocate_oid()?, name, work.context.role);
    words.take(&["with"]);
    options(work, words, &mut database)?;
    let (oid, owner) = (database.oid, database.owner);
    work.put(Object::Database(database))?;
    let public = Schema { oid: PUBLIC_SCHEMA_OID, name: "public".to_owned(), owner };
    work.put_in(oid, Object::Schema(public))?;
    Ok(CommandTag("CREATE DATABASE".into()))
}

fn duplicate(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_DATABASE, format!("database \"{name}\" already exists"))
}

fn lock(work: &mut Work<'_>, name: &str) -> Result<Option<Database>> {
    let Some(oid) = work.catalog.database_by_name(name).map(|database| database.oid) else { return Ok(None) };
    work.lock(oid, TableLockMode::AccessExclusive)?;
    work.refresh()?;
    let found = work.catalog.database(oid).map(|database| Database::clone(database));
    if let Some(database) = &found {
        work.require_owner(database.owner, "database", name)?;
    }
    Ok(found)
}

fn undefined(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist"))
}

/// ALTER DATABASE.
pub(super) fn alter(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let name = words.name()?;
    let mut database = lock(work, &name)?.ok_or_else(|| undefined(&name))?;
    if words.take(&["rename", "to"]) {
        let to = words.name()?;
        words.expect_end()?;
        if database.oid == work.context.database {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "current database cannot be renamed"));
        }
        work.lock_name(0, &format!("database {to}"))?;
        if work.catalog.database_by_name(&to).is_some() {
            return Err(duplicate(&to));
        }
        database.name = to;
    } else if words.take(&["owner", "to"]) {
        database.owner = work.role_named(&words.name()?)?.oid;
        words.expect_end()?;
    } else if words.peek("set") || words.peek("reset") {
        if words.take(&["set", "tablespace"]) {
            return Err(SqlError::unsupported("ALTER DATABASE … SET TABLESPACE"));
        }
        change_settings(&mut database.settings, words)?;
    } else {
        words.take(&["with"]);
        options(work, words, &mut database)?;
    }
    work.put(Object::Database(database))?;
    Ok(CommandTag("ALTER DATABASE".into()))
}

/// DROP DATABASE with everything in it.
pub(super) fn drop(work: &mut Work<'_>, words: &mut Words) -> Result<CommandTag> {
    let tag = CommandTag("DROP DATABASE".into());
    let if_exists = words.take(&["if", "exists"]);
    let name = words.name()?;
    let Some(database) = lock(work, &name)? else {
        missing(work, if_exists, SqlState::INVALID_CATALOG_NAME, "database", &name)?;
        return Ok(tag);
    };
    if database.oid == work.context.database {
        return Err(SqlError::new(SqlState::OBJECT_IN_USE, "cannot drop the currently open database"));
    }
    if database.template {
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, "cannot drop a template database"));
    }
    let sessions = work.context.eval.session.system_information().activity();
    let others = sessions.iter().filter(|session| session.database == database.oid).count();
    if others > 0 {
        let message = format!("database \"{name}\" is being accessed by other users");
        let plural = if others == 1 { "is 1 other session" } else { &format!("are {others} other sessions") };
        return Err(
            SqlError::new(SqlState::OBJECT_IN_USE, message).with_detail(format!("There {plural} using the database."))
        );
    }
    let inside = work.context.manager.committed(database.oid)?;
    let transaction = work.context.transaction;
    let mut keys: Vec<(ObjectKind, Oid)> = Vec::new();
    for table in inside.tables() {
        transaction.drop_tree(table.tree)?;
        table.indexes.iter().try_for_each(|index| transaction.drop_tree(index.tree()))?;
        keys.extend([(ObjectKind::Table, table.oid), (ObjectKind::Statistics, table.oid)]);
    }
    for sequence in inside.sequences() {
        transaction.delete(inside.counters(), &crate::catalog::sequence::key(sequence))?;
        keys.push((ObjectKind::Sequence, sequence.oid));
    }
    keys.extend(inside.views().map(|view| (ObjectKind::View, view.oid)));
    keys.extend(inside.schemas().map(|schema| (ObjectKind::Schema, schema.oid)));
    for (kind, oid) in keys {
        work.delete_key(ObjectKey::new(kind, database.oid, oid))?;
    }
    for (class, object, sub, _) in inside.comments() {
        let key = crate::catalog::object::comment_key(database.oid, class, object, sub);
        if key.database != 0 {
            work.delete_key(key)?;
        }
    }
    work.delete_comments(class::DATABASE, database.oid)?;
    work.delete(ObjectKind::Database, database.oid)?;
    Ok(tag)
}
