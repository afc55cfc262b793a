//! CREATE SCHEMA and ALTER SCHEMA.

use sqlparser::ast::{AlterSchema, AlterSchemaOperation, Owner, SchemaName};

use super::CommandTag;
use super::work::{Work, identifier, simple};
use crate::catalog::object::Object;
use crate::catalog::{Oid, Schema};
use crate::error::{Result, SqlError, SqlState};
use crate::store::TableLockMode;

/// CREATE SCHEMA.
pub(super) fn create(work: &mut Work<'_>, name: &SchemaName, if_not_exists: bool) -> Result<CommandTag> {
    let tag = CommandTag("CREATE SCHEMA".into());
    let (name, owner) = match name {
        SchemaName::Simple(name) => (simple(name)?, work.context.role),
        SchemaName::UnnamedAuthorization(role) => {
            let role = work.role_named(&identifier(role))?;
            (role.name.clone(), role.oid)
        }
        SchemaName::NamedAuthorization(name, role) => (simple(name)?, work.role_named(&identifier(role))?.oid),
    };
    refuse_reserved(&name)?;
    work.require_superuser_or(|role| role.create_db, "permission denied for database")?;
    work.lock_name(SCHEMA_SPACE, &name)?;
    if work.catalog.schema_oid(&name).is_some() {
        if if_not_exists {
            work.notice(SqlState::DUPLICATE_SCHEMA, format!("schema \"{name}\" already exists, skipping"));
            return Ok(tag);
        }
        return Err(duplicate(&name));
    }
    let oid = work.allocate_oid()?;
    work.put(Object::Schema(Schema { oid, name, owner }))?;
    Ok(tag)
}

/// Name space of schema names for name locks: no schema has this OID.
const SCHEMA_SPACE: Oid = 1;

fn refuse_reserved(name: &str) -> Result<()> {
    if !name.starts_with("pg_") {
        return Ok(());
    }
    Err(SqlError::new(SqlState::RESERVED_NAME, format!("unacceptable schema name \"{name}\""))
        .with_detail("The prefix \"pg_\" is reserved for system schemas."))
}

fn duplicate(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_SCHEMA, format!("schema \"{name}\" already exists"))
}

/// ALTER SCHEMA.
pub(super) fn alter(work: &mut Work<'_>, statement: &AlterSchema) -> Result<CommandTag> {
    let name = simple(&statement.name)?;
    for operation in &statement.operations {
        let oid = work.schema(&name)?;
        work.lock(oid, TableLockMode::AccessExclusive)?;
        work.refresh()?;
        let Some(schema) = work.catalog.schema(oid).map(|schema| Schema::clone(schema)) else {
            return Err(super::work::system_relation(&name));
        };
        work.require_owner(schema.owner, "schema", &name)?;
        match operation {
            AlterSchemaOperation::Rename { name: to } => {
                let to = simple(to)?;
                refuse_reserved(&to)?;
                work.lock_name(SCHEMA_SPACE, &to)?;
                if work.catalog.schema_oid(&to).is_some() {
                    return Err(duplicate(&to));
                }
                work.refuse_renaming_under_views(oid, &format!("schema \"{name}\""))?;
                work.put(Object::Schema(Schema { name: to, ..schema }))?;
            }
            AlterSchemaOperation::OwnerTo { owner } => {
                let owner = work.owner(owner)?;
                work.put(Object::Schema(Schema { owner, ..schema }))?;
            }
            other => return Err(SqlError::unsupported(format!("ALTER SCHEMA {other}"))),
        }
    }
    Ok(CommandTag("ALTER SCHEMA".into()))
}

impl Work<'_> {
    /// The OID of a new owner.
    pub fn owner(&self, owner: &Owner) -> Result<Oid> {
        match owner {
            Owner::Ident(name) => Ok(self.role_named(&identifier(name))?.oid),
            Owner::CurrentRole | Owner::CurrentUser | Owner::SessionUser => Ok(self.context.role),
        }
    }

    /// 42501 unless the role is a superuser or has an attribute.
    pub fn require_superuser_or(&self, attribute: impl Fn(&crate::catalog::Role) -> bool, message: &str) -> Result<()> {
        let role = self.current_role()?;
        if role.superuser || attribute(role) {
            return Ok(());
        }
        Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message))
    }

    /// Views keep qualified names: a schema under them cannot be renamed yet.
    fn refuse_renaming_under_views(&self, schema: Oid, what: &str) -> Result<()> {
        let catalog = &self.catalog;
        let inside = |oid: &Oid| catalog.relation_by_oid(*oid).is_some_and(|relation| relation.schema() == schema);
        match catalog.views().find(|view| view.dependencies.iter().any(inside)) {
            None => Ok(()),
            Some(view) => {
                let feature = format!("renaming {what}, whose relations view \"{}\" reads,", view.name);
                Err(SqlError::unsupported(feature))
            }
        }
    }
}
