//! What the catalog knows of each object. Descriptors are immutable; a change makes a new one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::TreeId;

use crate::types::{DataType, Datum};

/// Object identifier, as in Postgres. User objects begin at [`FIRST_USER_OID`].
pub type Oid = u32;

/// OIDs below are Postgres' own, for system objects.
pub const FIRST_USER_OID: Oid = 16_384;

/// The superuser that a new store begins with (`postgres`), as in Postgres.
pub const BOOTSTRAP_ROLE_OID: Oid = 10;

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
    /// FOREIGN KEY constraints of this table: what its rows refer to.
    pub foreign_keys: Vec<ForeignKey>,
    /// What ANALYZE found.
    pub statistics: Option<Arc<TableStatistics>>,
    /// Storage parameters as `pg_class.reloptions` shows them (`fillfactor=70`). Kept and shown; pages here
    /// have no fill factor and no vacuum, so they change nothing.
    pub options: Vec<String>,
    /// Privileges granted, the owner's own (which are implied) left out.
    pub privileges: Vec<Grant>,
}

impl Table {
    /// A table of these columns, owned by the bootstrap role, with nothing else.
    pub fn new(oid: Oid, schema: Oid, name: impl Into<String>, columns: Vec<Column>, tree: TreeId) -> Self {
        Self {
            oid,
            schema,
            name: name.into(),
            owner: BOOTSTRAP_ROLE_OID,
            columns,
            tree,
            primary_key: None,
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            statistics: None,
            options: Vec::new(),
            privileges: Vec::new(),
        }
    }

    /// The columns that are not dropped, with their positions.
    pub fn live_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.dropped)
    }

    /// Position of the (not dropped) column of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.live_columns().find(|(_, column)| column.name == name).map(|(position, _)| position)
    }

    /// The secondary index of this OID.
    pub fn index(&self, oid: Oid) -> Option<&Arc<Index>> {
        self.indexes.iter().find(|index| index.oid == oid)
    }
}

/// What may be granted on a table, view or sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    /// Sequences: nextval, currval.
    Usage,
}

/// Privileges of one role on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom; 0 is PUBLIC.
    pub grantee: Oid,
    /// By whom.
    pub grantor: Oid,
    /// What, each with whether it may be granted on.
    pub privileges: Vec<(Privilege, bool)>,
}

/// A primary key: the clustering order of its table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// OID of its index as `pg_class` shows it.
    pub oid: Oid,
    /// `pg_constraint.oid`
    pub constraint_oid: Oid,
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

impl Column {
    /// A nullable column without default.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self {
            name: name.into(),
            data_type,
            not_null: false,
            default: None,
            identity: None,
            missing: Datum::Null,
            dropped: false,
        }
    }
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
    /// `pg_constraint.oid` of that constraint, else 0.
    pub constraint_oid: Oid,
    /// Root of its tree.
    pub tree: u64,
    /// False while it is being built: written to, never read.
    pub valid: bool,
    /// Storage parameters, as [`Table::options`].
    pub options: Vec<String>,
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
    /// `pg_constraint.oid`
    pub oid: Oid,
    /// Constraint name.
    pub name: String,
    /// The condition as SQL text.
    pub expression: String,
}

/// A FOREIGN KEY constraint: every row's columns are NULL or the key of a row of another table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// `pg_constraint.oid`
    pub oid: Oid,
    /// Constraint name.
    pub name: String,
    /// Positions in [`Table::columns`] of the referencing table.
    pub columns: Vec<usize>,
    /// The referenced table; may be the same.
    pub parent: Oid,
    /// Positions in the referenced table, in the order of `columns`.
    pub parent_columns: Vec<usize>,
    /// The primary key's or unique index' OID that makes the referenced columns a key.
    pub parent_index: Oid,
    /// MATCH FULL: some columns may be NULL only if all are.
    pub match_full: bool,
    /// What happens to rows that refer to a deleted one.
    pub on_delete: ForeignKeyAction,
    /// What happens to rows that refer to a changed key.
    pub on_update: ForeignKeyAction,
}

/// What is done about rows that refer to a key that goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ForeignKeyAction {
    /// The statement fails, unless the key is there again at its end.
    #[default]
    NoAction,
    /// The statement fails.
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

impl ForeignKeyAction {
    /// As in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::NoAction => "NO ACTION",
            Self::Restrict => "RESTRICT",
            Self::Cascade => "CASCADE",
            Self::SetNull => "SET NULL",
            Self::SetDefault => "SET DEFAULT",
        }
    }

    /// As in `pg_constraint`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::NoAction => "a",
            Self::Restrict => "r",
            Self::Cascade => "c",
            Self::SetNull => "n",
            Self::SetDefault => "d",
        }
    }
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
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// Type of the values at the time.
    pub data_type: DataType,
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
    /// Made for an identity column: it goes and comes with the column only.
    pub identity: bool,
    /// Names the row that holds its current value. ALTER SEQUENCE … RESTART and TRUNCATE … RESTART IDENTITY
    /// take a new one, so that they roll back with their transaction although nextval does not.
    pub state: u64,
    pub privileges: Vec<Grant>,
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
    /// The defining query, as SQL text: relations qualified, `*` expanded.
    pub query: String,
    /// Tables, views and sequences that it reads.
    pub dependencies: Vec<Oid>,
    pub privileges: Vec<Grant>,
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
    /// Refuses connections when false.
    pub allow_connections: bool,
    pub template: bool,
    /// -1 is no limit.
    pub connection_limit: i32,
    /// ALTER DATABASE … SET.
    pub settings: Vec<(String, String)>,
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
    pub inherit: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    /// -1 is no limit.
    pub connection_limit: i32,
    /// `SCRAM-SHA-256$…` verifier as in `pg_authid.rolpassword`.
    pub password: Option<String>,
    /// VALID UNTIL, microseconds since 2000-01-01 UTC.
    pub valid_until_us: Option<i64>,
    /// Roles that it is a member of.
    pub member_of: Vec<Membership>,
    /// ALTER ROLE … SET.
    pub settings: Vec<(String, String)>,
}

/// GRANT role TO role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Membership {
    pub role: Oid,
    pub admin_option: bool,
    pub grantor: Oid,
}

impl Default for ColumnStatistics {
    fn default() -> Self {
        Self {
            data_type: DataType::UNKNOWN,
            null_fraction: 0.0,
            distinct: 0.0,
            common: Vec::new(),
            histogram: Vec::new(),
        }
    }
}

impl Role {
    /// A role that may do everything and log in.
    pub fn superuser(oid: Oid, name: impl Into<String>) -> Self {
        Self {
            oid,
            name: name.into(),
            superuser: true,
            login: true,
            create_db: true,
            create_role: true,
            inherit: true,
            replication: true,
            bypass_rls: true,
            connection_limit: -1,
            password: None,
            valid_until_us: None,
            member_of: Vec::new(),
            settings: Vec::new(),
        }
    }
}

impl Database {
    /// A database that takes connections.
    pub fn new(oid: Oid, name: impl Into<String>, owner: Oid) -> Self {
        let (name, connection_limit, settings) = (name.into(), -1, Vec::new());
        Self { oid, name, owner, allow_connections: true, template: false, connection_limit, settings }
    }
}
