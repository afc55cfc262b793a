//! The catalog: which databases, roles, schemas, tables, indexes, sequences and views there are.

mod descriptor;

pub use descriptor::{
    Check, Column, ColumnStatistics, Database, FIRST_USER_OID, Identity, Index, IndexColumn, Oid, PrimaryKey, Role,
    Schema, Sequence, Table, TableStatistics, View,
};

/// A relation of `pg_catalog` or `information_schema`, computed from the catalog when it is scanned.
pub struct SystemView {
    /// Schema.
    pub schema: &'static str,
    /// Name.
    pub name: &'static str,
}

impl std::fmt::Debug for SystemView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}
