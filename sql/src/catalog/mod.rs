//! The catalog: which databases, roles, schemas, tables, indexes, sequences and views there are.
//!
//! - [`Catalog`] is an immutable view of one database's objects; [`CatalogManager`] keeps the newest one and
//!   [`CatalogChanges`] what a transaction has changed on top.
//! - [`ddl::execute`] changes it. [`system`] shows it as `pg_catalog` and `information_schema`.
//! - Descriptors ([`Table`], [`Index`], …) are what planner and executor work with.

mod counter;
mod datum_codec;
pub mod ddl;
mod definition;
mod descriptor;
pub mod functions;
mod manager;
mod object;
mod relation;
mod sequence;
mod snapshot;
pub mod system;
#[cfg(test)]
mod tests;

pub use ddl::{CommandTag, DdlContext, Notice};
pub use definition::Constraint;
pub use descriptor::{
    BOOTSTRAP_ROLE_OID, Check, Column, ColumnStatistics, Database, FIRST_USER_OID, ForeignKey, ForeignKeyAction, Grant,
    Identity, Index, IndexColumn, Membership, Oid, PrimaryKey, Privilege, Role, Schema, Sequence, Table,
    TableStatistics, View,
};
pub use manager::{CatalogChanges, CatalogManager, POSTGRES_DATABASE_OID, TEMPLATE_DATABASE_OID};
pub use relation::{Relation, TableIndex};
pub use sequence::{SequencePosition, SequenceSession, Sequences};
pub use snapshot::{Catalog, INFORMATION_SCHEMA_OID, PG_CATALOG_OID, PUBLIC_SCHEMA_OID, split_qualified_name};
pub use system::{
    Activity, CursorEntry, LockEntry, NoSystemInformation, PreparedStatementEntry, Setting, SystemContext,
    SystemInformation, SystemView,
};

/// OIDs of the system catalogs that comments and dependencies refer to.
pub mod class {
    use super::Oid;

    /// `pg_class`
    pub const RELATION: Oid = 1259;
    /// `pg_authid`
    pub const ROLE: Oid = 1260;
    /// `pg_database`
    pub const DATABASE: Oid = 1262;
    /// `pg_constraint`
    pub const CONSTRAINT: Oid = 2606;
    /// `pg_namespace`
    pub const SCHEMA: Oid = 2615;
}
