//! [`Catalog`]: one immutable view of everything the catalog tree holds for a database.
//!
//! A catalog is a set of [`Object`]s with indexes over them by OID and by name. It is built by applying
//! rows of the catalog tree one by one, so that a transaction's private catalog is simply the newest
//! committed one with the transaction's own rows applied on top. Objects are shared (`Arc`): a copy
//! costs a few words per object, and is made only by DDL.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use storage::TreeId;

use super::object::{Object, ObjectKey, decode_row};
use super::system;
use super::{
    Database, ForeignKey, Oid, Privilege, Relation, Role, Schema, Sequence, Table, TableIndex, TableStatistics, View,
};
use crate::error::{Result, SqlError, SqlState};
use crate::store::{Direction, KeyRange, Store, Transaction};
use crate::types::text::quote_identifier;

/// `pg_namespace.oid` of `pg_catalog`.
pub const PG_CATALOG_OID: Oid = 11;
/// `pg_namespace.oid` of `public`.
pub const PUBLIC_SCHEMA_OID: Oid = 2200;
/// `pg_namespace.oid` of `information_schema`.
pub const INFORMATION_SCHEMA_OID: Oid = 13_000;

/// One database's objects, plus all databases and roles. Immutable and shared.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    version: u64,
    database: Oid,
    counters: TreeId,
    databases: BTreeMap<Oid, Arc<Database>>,
    roles: BTreeMap<Oid, Arc<Role>>,
    schemas: BTreeMap<Oid, Arc<Schema>>,
    tables: BTreeMap<Oid, Arc<Table>>,
    views: BTreeMap<Oid, Arc<View>>,
    sequences: BTreeMap<Oid, Arc<Sequence>>,
    comments: BTreeMap<(Oid, Oid, i32), Arc<str>>,
    statistics: BTreeMap<Oid, Arc<TableStatistics>>,
    /// Index and primary key OID → its table.
    index_tables: HashMap<Oid, Oid>,
    /// Table → tables that have foreign keys to it.
    referencing: HashMap<Oid, Vec<Oid>>,
    /// Schema → relation name → OID.
    names: HashMap<Oid, HashMap<String, Oid>>,
}

impl Catalog {
    /// Reads `database`'s catalog as the transaction's running statement sees it.
    ///
    /// Ordinary statements take it from a [`super::CatalogManager`] instead, which reads it only when it
    /// has changed.
    pub fn load(transaction: &dyn Transaction, store: &dyn Store, database: Oid) -> Result<Arc<Catalog>> {
        let mut catalog = Catalog { database, version: transaction.snapshot_lsn().0, ..Catalog::default() };
        let mut cursor = transaction.scan(store.catalog_tree(), KeyRange::ALL, Direction::Forward)?;
        while cursor.advance()? {
            transaction.interrupt().check()?;
            catalog.apply_row(cursor.key(), Some(cursor.value()))?;
        }
        Ok(Arc::new(catalog))
    }

    /// The catalog tree's LSN that it is known to hold; see [`Store::catalog_version`].
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The database whose objects these are.
    pub fn database_oid(&self) -> Oid {
        self.database
    }

    /// The tree of the OID counter and the sequences' current values.
    pub fn counters(&self) -> TreeId {
        self.counters
    }

    pub(super) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// Takes a row of the catalog tree; `None`: it was deleted. Rows of other databases are skipped.
    pub(super) fn apply_row(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let key = ObjectKey::decode(key)?;
        if key.database != 0 && key.database != self.database {
            return Ok(());
        }
        match value {
            Some(value) => self.insert(decode_row(key, value)?),
            None => self.remove(key),
        }
        Ok(())
    }

    /// Adds or replaces an object.
    pub(super) fn insert(&mut self, object: Object) {
        self.remove(object.key(self.database));
        match object {
            Object::Counters(tree) => self.counters = tree,
            Object::Database(database) => _ = self.databases.insert(database.oid, Arc::new(database)),
            Object::Role(role) => _ = self.roles.insert(role.oid, Arc::new(role)),
            Object::Schema(schema) => _ = self.schemas.insert(schema.oid, Arc::new(schema)),
            Object::View(view) => {
                self.add_name(view.schema, &view.name, view.oid);
                self.views.insert(view.oid, Arc::new(view));
            }
            Object::Sequence(sequence) => {
                self.add_name(sequence.schema, &sequence.name, sequence.oid);
                self.sequences.insert(sequence.oid, Arc::new(sequence));
            }
            Object::Table(mut table) => {
                table.statistics = self.statistics.get(&table.oid).cloned();
                self.add_name(table.schema, &table.name, table.oid);
                for (name, oid) in index_names(&table) {
                    self.add_name(table.schema, name, oid);
                    self.index_tables.insert(oid, table.oid);
                }
                for key in &table.foreign_keys {
                    let referencing = self.referencing.entry(key.parent).or_default();
                    if !referencing.contains(&table.oid) {
                        referencing.push(table.oid);
                    }
                }
                self.tables.insert(table.oid, Arc::new(table));
            }
            Object::Comment { class, object, sub, text } => {
                self.comments.insert((class, object, sub), Arc::from(text));
            }
            Object::Statistics(oid, statistics) => {
                let statistics = Arc::new(statistics);
                self.statistics.insert(oid, Arc::clone(&statistics));
                if let Some(table) = self.tables.get_mut(&oid) {
                    Arc::make_mut(table).statistics = Some(statistics);
                }
            }
        }
    }

    /// Takes an object away; a missing one is no error.
    pub(super) fn remove(&mut self, key: ObjectKey) {
        use super::object::ObjectKind;
        let oid = key.oid;
        match key.kind {
            ObjectKind::Counters => {}
            ObjectKind::Database => _ = self.databases.remove(&oid),
            ObjectKind::Role => _ = self.roles.remove(&oid),
            ObjectKind::Schema => _ = self.schemas.remove(&oid),
            ObjectKind::View => {
                if let Some(view) = self.views.remove(&oid) {
                    self.remove_name(view.schema, &view.name, oid);
                }
            }
            ObjectKind::Sequence => {
                if let Some(sequence) = self.sequences.remove(&oid) {
                    self.remove_name(sequence.schema, &sequence.name, oid);
                }
            }
            ObjectKind::Table => {
                if let Some(table) = self.tables.remove(&oid) {
                    self.remove_name(table.schema, &table.name, oid);
                    for (name, index) in index_names(&table) {
                        self.remove_name(table.schema, name, index);
                        self.index_tables.remove(&index);
                    }
                    for key in &table.foreign_keys {
                        if let Some(referencing) = self.referencing.get_mut(&key.parent) {
                            referencing.retain(|child| *child != oid);
                        }
                    }
                }
            }
            ObjectKind::Comment => _ = self.comments.remove(&(oid, key.object, key.sub)),
            ObjectKind::Statistics => {
                self.statistics.remove(&oid);
                if let Some(table) = self.tables.get_mut(&oid) {
                    Arc::make_mut(table).statistics = None;
                }
            }
        }
    }

    fn add_name(&mut self, schema: Oid, name: &str, oid: Oid) {
        self.names.entry(schema).or_default().insert(name.to_owned(), oid);
    }

    fn remove_name(&mut self, schema: Oid, name: &str, oid: Oid) {
        if let Some(names) = self.names.get_mut(&schema)
            && names.get(name) == Some(&oid)
        {
            names.remove(name);
        }
    }
}

/// Names and OIDs of a table's indexes, the primary key's included: they share the tables' name space.
fn index_names(table: &Table) -> impl Iterator<Item = (&str, Oid)> {
    let primary_key = table.primary_key.iter().map(|key| (key.name.as_str(), key.oid));
    primary_key.chain(table.indexes.iter().map(|index| (index.name.as_str(), index.oid)))
}

macro_rules! collections {
    ($($(#[$doc:meta])* $one:ident, $all:ident: $type:ident;)*) => {
        impl Catalog {
            $($(#[$doc])*
            pub fn $one(&self, oid: Oid) -> Option<&Arc<$type>> {
                self.$all.get(&oid)
            }

            /// All of them, by OID.
            pub fn $all(&self) -> impl Iterator<Item = &Arc<$type>> {
                self.$all.values()
            })*
        }
    };
}

collections! {
    /// The table of this OID.
    table, tables: Table;
    /// The view of this OID.
    view, views: View;
    /// The sequence of this OID.
    sequence, sequences: Sequence;
    /// The database of this OID.
    database, databases: Database;
    /// The role of this OID.
    role, roles: Role;
    /// The schema of this OID; built-in ones are not among them.
    schema, schemas: Schema;
}

/// Foreign keys.
impl Catalog {
    /// Foreign keys that refer to a table, with the tables that have them, by OID of the constraint.
    pub fn references_to(&self, table: Oid) -> Vec<(&Arc<Table>, &ForeignKey)> {
        let children = self.referencing.get(&table).into_iter().flatten().filter_map(|child| self.tables.get(child));
        let mut found: Vec<_> = children
            .flat_map(|child| child.foreign_keys.iter().map(move |key| (child, key)))
            .filter(|(_, key)| key.parent == table)
            .collect();
        found.sort_unstable_by_key(|(_, key)| key.oid);
        found
    }
}

/// Lookups by name.
impl Catalog {
    /// A relation by name: in `schema`, or else in the first schema of the path that has it. `pg_catalog`
    /// is searched first unless the path names it.
    pub fn relation(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<Relation> {
        if let Some(schema) = schema {
            return self.relation_in(self.schema_oid(schema)?, name);
        }
        if !search_path.iter().any(|schema| schema == "pg_catalog")
            && let Some(found) = self.relation_in(PG_CATALOG_OID, name)
        {
            return Some(found);
        }
        search_path.iter().find_map(|schema| self.relation_in(self.schema_oid(schema)?, name))
    }

    /// A relation by schema and name.
    pub fn relation_in(&self, schema: Oid, name: &str) -> Option<Relation> {
        match self.names.get(&schema).and_then(|names| names.get(name)) {
            Some(oid) => self.relation_by_oid(*oid),
            None => system::find(schema, name).map(Relation::System),
        }
    }

    /// A relation by OID.
    pub fn relation_by_oid(&self, oid: Oid) -> Option<Relation> {
        if let Some(table) = self.tables.get(&oid) {
            return Some(Relation::Table(Arc::clone(table)));
        }
        if let Some(index) = self.index_by_oid(oid) {
            return Some(Relation::Index(index));
        }
        if let Some(view) = self.views.get(&oid) {
            return Some(Relation::View(Arc::clone(view)));
        }
        if let Some(sequence) = self.sequences.get(&oid) {
            return Some(Relation::Sequence(Arc::clone(sequence)));
        }
        system::find_by_oid(oid).map(Relation::System)
    }

    /// An index (or primary key) by OID.
    pub fn index_by_oid(&self, oid: Oid) -> Option<TableIndex> {
        let table = Arc::clone(self.tables.get(self.index_tables.get(&oid)?)?);
        let index = table.index(oid).cloned();
        Some(TableIndex { table, index })
    }

    /// As [`Catalog::relation`], or the error that Postgres gives.
    pub fn require_relation(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Result<Relation> {
        self.relation(schema, name, search_path).ok_or_else(|| {
            let shown = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
            SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist"))
        })
    }

    /// OID of a schema by name, built-in ones included.
    pub fn schema_oid(&self, name: &str) -> Option<Oid> {
        match name {
            "pg_catalog" => Some(PG_CATALOG_OID),
            "information_schema" => Some(INFORMATION_SCHEMA_OID),
            _ => self.schemas.values().find(|schema| schema.name == name).map(|schema| schema.oid),
        }
    }

    /// Name of a schema by OID, built-in ones included.
    pub fn schema_name(&self, oid: Oid) -> Option<&str> {
        match oid {
            PG_CATALOG_OID => Some("pg_catalog"),
            INFORMATION_SCHEMA_OID => Some("information_schema"),
            _ => self.schemas.get(&oid).map(|schema| schema.name.as_str()),
        }
    }

    /// A role by name.
    pub fn role_by_name(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.values().find(|role| role.name == name)
    }

    /// A database by name.
    pub fn database_by_name(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.values().find(|database| database.name == name)
    }

    /// Whether the unqualified name finds this relation along the path.
    pub fn is_visible(&self, oid: Oid, search_path: &[String]) -> bool {
        self.relation_by_oid(oid).is_some_and(|relation| {
            self.relation(None, relation.name(), search_path).is_some_and(|found| found.oid() == oid)
        })
    }

    /// A comment: by catalog (`pg_class` …), object and, for columns, attribute number.
    pub fn comment(&self, class: Oid, object: Oid, sub: i32) -> Option<&str> {
        self.comments.get(&(class, object, sub)).map(|text| &**text)
    }

    /// All comments: catalog, object, sub-object, text.
    pub fn comments(&self) -> impl Iterator<Item = (Oid, Oid, i32, &str)> {
        self.comments.iter().map(|((class, object, sub), text)| (*class, *object, *sub, &**text))
    }
}

/// Rights.
impl Catalog {
    /// Whether `member` is `role`, or a member of it directly or through others.
    pub fn is_member(&self, member: Oid, role: Oid) -> bool {
        let (mut seen, mut open) = (Vec::new(), vec![member]);
        while let Some(next) = open.pop() {
            if next == role {
                return true;
            }
            if !seen.contains(&next) {
                seen.push(next);
                open.extend(self.role(next).iter().flat_map(|role| &role.member_of).map(|member| member.role));
            }
        }
        false
    }

    /// Whether `role` may do this with a table, view or sequence: as a superuser, its owner, or by a grant to
    /// it, to a role it is in, or to everyone. System views may be read by all.
    pub fn has_privilege(&self, role: Oid, relation: Oid, privilege: Privilege) -> bool {
        if self.role(role).is_some_and(|role| role.superuser) {
            return true;
        }
        let Some(relation) = self.relation_by_oid(relation) else { return false };
        let grants = match &relation {
            Relation::Table(table) => &table.privileges,
            Relation::View(view) => &view.privileges,
            Relation::Sequence(sequence) => &sequence.privileges,
            Relation::Index(index) => &index.table.privileges,
            Relation::System(view) => return privilege == Privilege::Select && view.readable_by_all(),
        };
        self.is_member(role, relation.owner())
            || grants.iter().any(|grant| {
                (grant.grantee == 0 || self.is_member(role, grant.grantee))
                    && grant.privileges.iter().any(|(granted, _)| *granted == privilege)
            })
    }

    /// 42501 unless [`Catalog::has_privilege`].
    pub fn require_privilege(&self, role: Oid, relation: Oid, privilege: Privilege) -> Result<()> {
        if self.has_privilege(role, relation, privilege) {
            return Ok(());
        }
        let found = self.relation_by_oid(relation);
        let (kind, name) = found.as_ref().map_or(("relation", ""), |found| (found.kind_name(), found.name()));
        Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {kind} {name}")))
    }
}

/// Names as text, for regclass and messages.
impl Catalog {
    /// A relation by the text of a regclass literal: `name` or `schema.name`, quoted where needed.
    pub fn relation_by_text(&self, text: &str, search_path: &[String]) -> Option<Relation> {
        let mut parts = split_identifier(text)?;
        let name = parts.pop()?;
        let schema = parts.pop();
        if let Some(database) = parts.pop()
            && (!parts.is_empty() || self.database(self.database).is_none_or(|own| own.name != database))
        {
            return None;
        }
        self.relation(schema.as_deref(), &name, search_path)
    }

    /// A relation's name as regclass shows it: qualified where the search path would not find it, quoted
    /// where needed.
    pub fn relation_name(&self, oid: Oid, search_path: &[String]) -> Option<String> {
        let relation = self.relation_by_oid(oid)?;
        let name = quote_identifier(relation.name());
        if self.is_visible(oid, search_path) {
            return Some(name);
        }
        Some(format!("{}.{name}", quote_identifier(self.schema_name(relation.schema()).unwrap_or_default())))
    }
}

/// Splits `a."B".c` into its identifiers, folded; 42602 when it is no name.
pub fn split_qualified_name(text: &str) -> Result<Vec<String>> {
    split_identifier(text).ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "invalid name syntax"))
}

fn split_identifier(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut chars) = (Vec::new(), text.trim().chars().peekable());
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => part.push(chars.next()?),
                    '"' => break,
                    other => part.push(other),
                }
            }
        } else {
            while let Some(next) = chars.next_if(|next| *next != '.' && !next.is_whitespace()) {
                part.extend(next.to_lowercase());
            }
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match chars.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}
