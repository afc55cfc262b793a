//! [`CatalogManager`]: what all sessions of a store share of the catalog, and [`CatalogChanges`]: what one
//! transaction has changed of it.
//!
//! The newest committed catalog of each database is kept under the LSN of the commit it holds. It is used
//! only while that is [`Store::catalog_version`], which rises when a commit is *applied*, before its locks
//! are released. Reading it anew waits until that commit is durable: no session ever plans with objects
//! that a lost log tail could take back, or whose trees its own snapshot does not hold.
//!
//! **Order for a statement:** take the catalog, plan, lock the tables, take the catalog again (same `Arc`:
//! go on; else plan anew), and only then `begin_statement`: its snapshot then holds every object planned with.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::Lsn;

use super::counter::OidAllocator;
use super::object::Object;
use super::sequence::Sequences;
use super::snapshot::PUBLIC_SCHEMA_OID;
use super::{BOOTSTRAP_ROLE_OID, Catalog, Database, Oid, Role, Schema};
use crate::error::Result;
use crate::store::{Direction, Interrupt, KeyRange, StatementOutcome, Store, Transaction, TransactionOptions};

/// `pg_database.oid` of the database `postgres`, as in Postgres 15.
pub const POSTGRES_DATABASE_OID: Oid = 5;
/// `pg_database.oid` of `template1`.
pub const TEMPLATE_DATABASE_OID: Oid = 1;

/// What the sessions of one store share of the catalog. One for each [`Store`].
pub struct CatalogManager {
    store: Arc<dyn Store>,
    /// Database → newest committed catalog.
    cached: Mutex<HashMap<Oid, Arc<Catalog>>>,
    oids: OidAllocator,
    sequences: Sequences,
}

/// What a transaction has changed in the catalog so far: rows of the catalog tree, in order. The session
/// keeps one for each transaction, and cuts it back when it returns to a savepoint.
#[derive(Default)]
pub struct CatalogChanges {
    rows: Vec<(Bytes, Option<Bytes>)>,
    /// The catalog with all `rows` applied, and the committed one it was made from.
    merged: Option<(Arc<Catalog>, Arc<Catalog>)>,
}

impl CatalogChanges {
    /// How many changes there are: take it at SAVEPOINT.
    pub fn mark(&self) -> usize {
        self.rows.len()
    }

    /// Forgets the changes after a mark: ROLLBACK TO SAVEPOINT.
    pub fn rollback_to(&mut self, mark: usize) {
        if mark < self.rows.len() {
            self.rows.truncate(mark);
            self.merged = None;
        }
    }

    /// Whether the transaction has changed the catalog.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn push(&mut self, key: Bytes, value: Option<Bytes>) {
        self.rows.push((key, value));
        self.merged = None;
    }
}

impl CatalogManager {
    /// Opens the catalog of a store, writing the first objects when it is empty.
    pub fn open(store: Arc<dyn Store>) -> Result<Self> {
        let transaction = store.begin(TransactionOptions::default(), Arc::new(Interrupt::default()))?;
        transaction.begin_statement_at_newest()?;
        let mut cursor = transaction.scan(store.catalog_tree(), KeyRange::ALL, Direction::Forward)?;
        let empty = !cursor.advance()?;
        drop(cursor);
        if empty {
            Catalog::bootstrap(&*transaction, &*store)?;
        }
        transaction.end_statement(StatementOutcome::Keep);
        if let Some(lsn) = transaction.commit()? {
            store.block_until_durable(lsn)?;
        }
        let manager = Self { oids: OidAllocator::new(), sequences: Sequences::new(), cached: Mutex::default(), store };
        Ok(manager)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Sequences' shared state.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// The newest committed catalog of a database, read again only when the catalog has changed.
    pub fn committed(&self, database: Oid) -> Result<Arc<Catalog>> {
        let version = self.store.catalog_version();
        if let Some(catalog) = self.cached.lock().get(&database)
            && catalog.version() >= version
        {
            return Ok(Arc::clone(catalog));
        }
        let catalog = self.read(database, version)?;
        self.cached.lock().insert(database, Arc::clone(&catalog));
        Ok(catalog)
    }

    /// The catalog as a transaction sees it: the newest committed one with its own changes on top. The
    /// same `Arc` comes back as long as nothing has changed.
    pub fn catalog(&self, database: Oid, changes: &mut CatalogChanges) -> Result<Arc<Catalog>> {
        let committed = self.committed(database)?;
        if changes.is_empty() {
            return Ok(committed);
        }
        if let Some((base, merged)) = &changes.merged
            && Arc::ptr_eq(base, &committed)
        {
            return Ok(Arc::clone(merged));
        }
        let mut merged = Catalog::clone(&committed);
        for (key, value) in &changes.rows {
            merged.apply_row(key, value.as_deref())?;
        }
        let merged = Arc::new(merged);
        changes.merged = Some((committed, Arc::clone(&merged)));
        Ok(merged)
    }

    /// A new OID, unique in the cluster and never used before, also after a crash.
    pub fn allocate_oid(&self) -> Result<Oid> {
        let counters = self.cached.lock().values().next().map(|catalog| catalog.counters());
        let counters = match counters {
            Some(counters) => counters,
            None => self.committed(POSTGRES_DATABASE_OID)?.counters(),
        };
        self.oids.allocate(&*self.store, counters)
    }

    fn read(&self, database: Oid, version: u64) -> Result<Arc<Catalog>> {
        self.store.block_until_durable(Lsn(version))?;
        let transaction = self.store.begin(TransactionOptions::default(), Arc::new(Interrupt::default()))?;
        transaction.begin_statement()?;
        let mut catalog = Arc::unwrap_or_clone(Catalog::load(&*transaction, &*self.store, database)?);
        // It may hold later commits already; it is known to hold this one.
        catalog.set_version(version);
        transaction.rollback();
        Ok(Arc::new(catalog))
    }
}

impl Catalog {
    /// Writes what an empty store begins with: role `postgres` (superuser), databases `postgres` and
    /// `template1`, and their schema `public`.
    pub fn bootstrap(transaction: &dyn Transaction, store: &dyn Store) -> Result<()> {
        let put = |database: Oid, object: Object| {
            transaction.put(store.catalog_tree(), &object.key(database).encode(), object.encode()?)
        };
        put(0, Object::Counters(transaction.create_tree()?))?;
        put(0, Object::Role(Role::superuser(BOOTSTRAP_ROLE_OID, "postgres")))?;
        let owner = BOOTSTRAP_ROLE_OID;
        for (database, name) in [(POSTGRES_DATABASE_OID, "postgres"), (TEMPLATE_DATABASE_OID, "template1")] {
            let template = database == TEMPLATE_DATABASE_OID;
            put(0, Object::Database(Database { template, ..Database::new(database, name, owner) }))?;
            put(database, Object::Schema(Schema { oid: PUBLIC_SCHEMA_OID, name: "public".to_owned(), owner }))?;
        }
        Ok(())
    }
}
