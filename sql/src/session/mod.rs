//! Sessions: what happens between two messages of a client. Statements, transaction blocks, prepared
//! statements, portals, cursors, settings; no sockets. `compute`'s wire front end drives it:
//!
//! ```text
//! Query:    parse_script → for each: run_statement → fetch … → end_statement_group
//! Extended: prepare → bind → describe → fetch … → Sync: end_statement_group
//! ```
//!
//! **Transaction blocks.** Statements outside a block run in an implicit transaction that lasts until
//! [`Session::end_statement_group`] (the end of a Query message, or Sync). A commit leaves its LSN in
//! [`Session::take_commit_lsn`]: the caller awaits its durability before the client hears of it.
//!
//! Calls block (locks, page misses, long statements): see [`Session::is_quick`].

mod activity;
mod block;
mod check;
mod connect;
mod context;
mod copy;
mod cursor;
mod foreign_keys;
mod format;
mod functions;
mod literals;
mod maintenance;
mod portal;
mod prepared;
mod privileges;
mod settings;
mod unnamed;
mod utility;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::Lsn;

pub use activity::{Activity, ActivityState, Now, SessionActivity};
pub use connect::ConnectionRequest;
pub use context::SessionContext;
pub use format::{Format, Severity, TransactionStatus};
pub use portal::{Fetched, RowSink};
pub use prepared::{Described, Prepared};
pub use settings::{Context as SettingContext, DEFINITIONS, Definition, Kind, Scope, Settings, Unit};

use crate::catalog::{CatalogManager, POSTGRES_DATABASE_OID};
use crate::error::{ErrorFields, Result, SqlError, SqlState};
use crate::executor::HashMemory;
use crate::store::Store;
use crate::table::RowIds;

/// What all sessions of one compute share.
pub struct Server {
    /// The engine.
    pub store: Arc<dyn Store>,
    /// Newest catalog of each database.
    pub catalogs: CatalogManager,
    /// Row id counters of tables without primary key.
    pub row_ids: Arc<RowIds>,
    /// Connected sessions.
    pub activity: Activity,
    /// Microseconds since 2000-01-01 UTC.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// What the hash tables of all statements may take together.
    pub hash_memory: Arc<HashMemory>,
    /// Where sorts spill.
    pub temporary_directory: Arc<Path>,
    /// When the server started.
    pub started_us: i64,
}

impl Server {
    /// Opens the catalog, writing its first objects into an empty store. `clock` gives microseconds since
    /// 2000-01-01 UTC; `temporary_directory` is where sorts and hashes spill, and is emptied.
    pub fn open(
        store: Arc<dyn Store>,
        temporary_directory: PathBuf,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let shown = temporary_directory.display();
            SqlError::new(SqlState::IO_ERROR, format!("cannot empty the temporary directory {shown}: {error}"))
        };
        for left_over in std::fs::read_dir(&temporary_directory).map_err(failed)? {
            std::fs::remove_file(left_over.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(Self {
            catalogs: CatalogManager::open(store.clone())?,
            row_ids: Arc::default(),
            hash_memory: Arc::default(),
            activity: Activity::default(),
            started_us: clock(),
            clock,
            temporary_directory: Arc::from(temporary_directory),
            store,
        })
    }

    /// The same with a limit to what the hash tables of all statements may take together.
    pub fn with_hash_memory(self, bytes: usize) -> Self {
        Self { hash_memory: Arc::new(HashMemory::new(bytes)), ..self }
    }

    /// Whether a role is a superuser; false for an unknown one.
    pub fn is_superuser(&self, role: &str) -> Result<bool> {
        let catalog = self.catalogs.committed(POSTGRES_DATABASE_OID)?;
        Ok(catalog.role_by_name(role).is_some_and(|role| role.superuser))
    }
}

/// A notice for the client.
#[derive(Clone, Debug)]
pub struct Notice {
    /// NOTICE or WARNING.
    pub severity: Severity,
    /// What it says.
    pub fields: ErrorFields,
}

/// One client's session.
pub struct Session {
    context: Arc<SessionContext>,
    block: block::Block,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, portal::Portal>,
    copy_in: Option<copy::CopyInProgress>,
    commit_lsn: Option<Lsn>,
    /// Plans of simple statements by their text without literals; `None` for one seen once, or unfit.
    simple_plans: HashMap<String, Option<Arc<Prepared>>>,
    /// Plans of unnamed statements.
    unnamed_plans: unnamed::UnnamedPlans,
    /// Plans of what foreign keys do, by their text.
    action_plans: HashMap<String, Arc<Prepared>>,
    /// Whether the transaction did more than point work: its commit may take long.
    heavy: bool,
}

impl Session {
    /// What functions and statements of this session share.
    pub fn context(&self) -> &Arc<SessionContext> {
        &self.context
    }

    /// The LSN of a commit that the client has not been told of; await its durability first.
    pub fn take_commit_lsn(&mut self) -> Option<Lsn> {
        self.commit_lsn.take()
    }

    /// Notices since the last call, those below `client_min_messages` left out.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.context.take_notices()
    }

    /// Status for ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.block.status()
    }

    /// Ends the session: rolls back and leaves the activity table.
    pub fn close(&mut self) {
        self.portals.clear();
        self.copy_in = None;
        self.abort_transaction();
        self.context.server.activity.leave(self.context.activity.process);
    }

    pub(crate) fn notify(&self, severity: Severity, notice: SqlError) {
        self.context.notify(severity, notice);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
