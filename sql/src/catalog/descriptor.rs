//! What the catalog knows of each object. Descriptors are immutable; a change makes a new one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::TreeId;

use crate::types::{DataType, Datum};

/// Object identifier, as in Postgres. User objects begin at [`FIRST_USER_OID`].
pub type Oid = u32;

/// OIDs below are Postgres' own, for system objects.
pub const FIRST_USER_OID: Oid = 16_384;

/// A table. Rows live in `tree`, keyed by the primary key's columns or, without one, by an 8-byte row id.
#[derive(Clone, Debug)]
pub struct Table {
    /// `pg_class.oid`
    pub oid: Oid,
    /// Schema's OID.
    pub schema: Oid,
    /// Name without schema.
    pub name: String,
    /// Owning role's OID.
    pub owner: Oid,
    /// All columns by attribute number (index 0 is attnum 1), dropped ones included: their values
    /// stay in old rows and are skipped.
    pub columns: Vec<Column>,
    /// The tree of the rows.
    pub tree: TreeId,
    /// The primary key; its columns, in order, are the rows' key.
    pub primary_key: Option<PrimaryKey>,
    /// Secondary indexes.
    pub indexes: Vec<Arc<Index>>,
    /// CHECK constraints.
    pub checks: Vec<Check>,
    /// What ANALYZE found.
    pub statistics: Option<Arc<TableStatistics>>,
}

/// A primary key: the clustering order of its table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// OID of its index as `pg_class` shows it.
    pub oid: Oid,
    /// Constraint and index name.
    pub name: String,
    /// Positions in [`Table::columns`].
    pub columns: Vec<usize>,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type with modifier.
    pub data_type: DataType,
    /// NOT NULL.
    pub not_null: bool,
    /// DEFAULT as SQL text, bound when a statement needs it.
    pub default: Option<String>,
    /// GENERATED … AS IDENTITY.
    pub identity: Option<Identity>,
    /// Value of rows written before the column was added.
    pub missing: Datum,
    /// Dropped: kept only so that old rows decode.
    pub dropped: bool,
}

/// GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// ALWAYS: an explicit value needs OVERRIDING SYSTEM VALUE.
    pub always: bool,
    /// The sequence behind it.
    pub sequence: Oid,
}

/// A secondary index. Entry key: the indexed columns, then the row's key (left out in a unique index
/// unless a column is NULL). Entry value: the row's key in a unique index's entries without NULL, else empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    /// `pg_class.oid`
    pub oid: Oid,
    /// Name.
    pub name: String,
    /// The table.
    pub table: Oid,
    /// What is indexed, in order.
    pub columns: Vec<IndexColumn>,
    /// UNIQUE.
    pub unique: bool,
    /// Made by a UNIQUE constraint (of the same name), not by CREATE INDEX.
    pub constraint: bool,
    /// Root of its tree.
    pub tree: u64,
    /// False while it is being built: written to, never read.
    pub valid: bool,
}

impl Index {
    /// The tree of the entries.
    pub fn tree(&self) -> TreeId {
        TreeId(storage::PageNo(self.tree))
    }
}

/// A column of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Position in [`Table::columns`].
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// A CHECK constraint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Constraint name.
    pub name: String,
    /// The condition as SQL text.
    pub expression: String,
}

/// What ANALYZE found about a table.
#[derive(Clone, Debug, Default)]
pub struct TableStatistics {
    /// Rows at the time.
    pub rows: f64,
    /// Mean encoded row width, bytes.
    pub row_bytes: f64,
    /// One per column of the table.
    pub columns: Vec<ColumnStatistics>,
}

/// What ANALYZE found about a column.
#[derive(Clone, Debug, Default)]
pub struct ColumnStatistics {
    /// Share of NULLs, 0 to 1.
    pub null_fraction: f64,
    /// Distinct values, estimated.
    pub distinct: f64,
    /// Most common values with their share of all rows, most common first.
    pub common: Vec<(Datum, f64)>,
    /// Bounds of equally full buckets of the other values, ascending.
    pub histogram: Vec<Datum>,
}

/// A sequence. Its definition lives here; its current value in its own catalog row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Sequence {
    pub oid: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    pub data_type: DataType,
    pub start: i64,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cache: i64,
    pub cycle: bool,
    /// Table and column position that own it (serial, identity, OWNED BY).
    pub owned_by: Option<(Oid, usize)>,
}

/// A view.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct View {
    pub oid: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    /// Output columns.
    pub columns: Vec<(String, DataType)>,
    /// The defining query, as SQL text.
    pub query: String,
}

/// A schema.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Schema {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
}

/// A database: a name space of schemas.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Database {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
}

/// A role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Role {
    pub oid: Oid,
    pub name: String,
    pub superuser: bool,
    pub login: bool,
    pub create_db: bool,
    pub create_role: bool,
    /// `SCRAM-SHA-256$…` verifier as in `pg_authid.rolpassword`.
    pub password: Option<String>,
}
