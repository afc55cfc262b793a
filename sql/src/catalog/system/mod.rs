//! `pg_catalog` and `information_schema`: relations computed from a [`Catalog`] when they are scanned.
//!
//! Nothing of them is stored. Each relation is a [`SystemView`]: its columns, with Postgres 15's names and
//! types, and a function from a [`SystemContext`] to rows.

mod cluster;
mod empty;
mod information_schema;
mod listings;
mod relations;
mod routines;
mod rows;
mod types;

pub use relations::SEQUENCE_COLUMNS;
pub(super) use routines::{function_arguments, function_result};

use super::snapshot::{INFORMATION_SCHEMA_OID, PG_CATALOG_OID};
use super::{Catalog, Oid, Sequence, SequencePosition};
use crate::error::Result;
use crate::functions::EvalContext;
use crate::store::Store;
use crate::types::{DataType, Row};

/// A relation of `pg_catalog` or `information_schema`.
pub struct SystemView {
    /// `pg_class.oid`: Postgres' own for the tables that have a fixed one.
    pub oid: Oid,
    /// Schema.
    pub schema: &'static str,
    /// Name.
    pub name: &'static str,
    /// Columns.
    pub columns: &'static [(&'static str, DataType)],
    /// Computes all rows.
    pub rows: fn(&SystemContext<'_>) -> Result<Vec<Row>>,
}

impl std::fmt::Debug for SystemView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl SystemView {
    /// Whether Postgres has it as a table rather than a view over tables.
    pub fn is_table(&self) -> bool {
        self.schema == "pg_catalog" && self.oid < 10_000
    }

    /// Whether everyone may read it; `pg_authid` and `pg_shadow` hold passwords.
    pub fn readable_by_all(&self) -> bool {
        !matches!(self.name, "pg_authid" | "pg_shadow")
    }

    /// OID of its schema.
    pub fn schema_oid(&self) -> Oid {
        if self.schema == "pg_catalog" { PG_CATALOG_OID } else { INFORMATION_SCHEMA_OID }
    }
}

/// What the rows of a system view are computed from.
pub struct SystemContext<'a> {
    /// The catalog as the statement sees it.
    pub catalog: &'a Catalog,
    /// The engine.
    pub store: &'a dyn Store,
    /// The statement's evaluation context; [`crate::functions::SessionFunctions::system_information`] of its
    /// session answers what is not in the catalog.
    pub eval: &'a EvalContext,
}

impl SystemContext<'_> {
    /// What the session tells.
    pub fn information(&self) -> &dyn SystemInformation {
        self.eval.session.system_information()
    }

    fn search_path(&self) -> Vec<String> {
        self.information().search_path()
    }

    /// Name of a role, or its OID where it has been dropped.
    fn role_name(&self, oid: Oid) -> String {
        self.catalog.role(oid).map_or_else(|| oid.to_string(), |role| role.name.clone())
    }

    /// Name of the database.
    fn database_name(&self) -> &str {
        self.catalog.database(self.catalog.database_oid()).map_or("", |database| &database.name)
    }
}

/// What only the server knows: sessions, settings, locks. Each list is a snapshot of that moment.
#[allow(unused_variables)]
pub trait SystemInformation: Send + Sync {
    /// Who is connected, for `pg_stat_activity`.
    fn activity(&self) -> Vec<Activity> {
        Vec::new()
    }
    /// The session's settings, for `pg_settings`.
    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }
    /// Held and awaited locks, for `pg_locks`.
    fn locks(&self) -> Vec<LockEntry> {
        Vec::new()
    }
    /// The session's prepared statements.
    fn prepared_statements(&self) -> Vec<PreparedStatementEntry> {
        Vec::new()
    }
    /// The session's cursors.
    fn cursors(&self) -> Vec<CursorEntry> {
        Vec::new()
    }
    /// Schemas that unqualified names are looked up in.
    fn search_path(&self) -> Vec<String> {
        Vec::new()
    }
    /// The role whose rights count.
    fn current_role(&self) -> Oid {
        super::BOOTSTRAP_ROLE_OID
    }
    /// Where a sequence stands.
    fn sequence_position(&self, sequence: &Sequence) -> Option<SequencePosition> {
        None
    }
}

/// Answers nothing: for contexts without a session.
pub struct NoSystemInformation;

impl SystemInformation for NoSystemInformation {}

/// A session, as `pg_stat_activity` shows it. Times: microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Activity {
    pub pid: i32,
    pub database: Oid,
    pub role: Oid,
    pub application_name: String,
    pub client_address: Option<String>,
    pub client_port: Option<i32>,
    pub backend_start_us: i64,
    pub transaction_start_us: Option<i64>,
    pub query_start_us: Option<i64>,
    pub state_change_us: Option<i64>,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: String,
    pub wait_event: Option<(String, String)>,
    pub query: String,
}

/// A setting, as `pg_settings` shows it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub unit: Option<String>,
    pub category: String,
    pub description: String,
    /// `user`, `superuser`, `postmaster`, `internal` …
    pub context: String,
    /// `bool`, `integer`, `real`, `string`, `enum`.
    pub kind: String,
    /// `default`, `session`, `configuration file` …
    pub source: String,
    pub min: Option<String>,
    pub max: Option<String>,
    pub enum_values: Vec<String>,
    pub boot_value: String,
    pub reset_value: String,
}

/// A lock, as `pg_locks` shows it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct LockEntry {
    /// `relation` or `tuple`.
    pub kind: String,
    pub database: Oid,
    pub relation: Option<Oid>,
    pub pid: i32,
    /// `AccessShareLock` …
    pub mode: String,
    pub granted: bool,
}

/// A prepared statement, as `pg_prepared_statements` shows it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct PreparedStatementEntry {
    pub name: String,
    pub statement: String,
    pub prepare_time_us: i64,
    pub parameter_types: Vec<DataType>,
    pub from_sql: bool,
}

/// A cursor, as `pg_cursors` shows it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct CursorEntry {
    pub name: String,
    pub statement: String,
    pub holdable: bool,
    pub binary: bool,
    pub scrollable: bool,
    pub creation_time_us: i64,
}

/// All system views.
static VIEWS: &[&[SystemView]] = &[
    relations::VIEWS,
    types::VIEWS,
    cluster::VIEWS,
    routines::VIEWS,
    listings::VIEWS,
    empty::VIEWS,
    information_schema::VIEWS,
];

/// All system views.
pub fn views() -> impl Iterator<Item = &'static SystemView> {
    VIEWS.iter().flat_map(|group| group.iter())
}

/// A system view by schema and name.
pub(super) fn find(schema: Oid, name: &str) -> Option<&'static SystemView> {
    if schema != PG_CATALOG_OID && schema != INFORMATION_SCHEMA_OID {
        return None;
    }
    views().find(|view| view.name == name && view.schema_oid() == schema)
}

/// A system view by OID.
pub(super) fn find_by_oid(oid: Oid) -> Option<&'static SystemView> {
    views().find(|view| view.oid == oid)
}
