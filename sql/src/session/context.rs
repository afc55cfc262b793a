//! [`SessionContext`]: what statements, functions and system views of one session share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Notice, Server, SessionActivity, Settings, Severity};
use crate::catalog::{Catalog, CatalogChanges, Oid, SequenceSession};
use crate::error::{Result, SqlError};
use crate::functions::EvalContext;
use crate::interrupt::Interrupt;
use crate::store::Transaction;

/// Notices kept for a client that does not read them; more are dropped.
const MAX_NOTICES: usize = 1_000;

/// Shared by everything that runs for a session.
pub struct SessionContext {
    /// The compute's shared state.
    pub server: Arc<Server>,
    /// Settings.
    pub settings: Mutex<Settings>,
    /// Cancel and timeouts.
    pub interrupt: Arc<Interrupt>,
    /// The session as others see it.
    pub activity: Arc<SessionActivity>,
    /// OID of the role that connected.
    pub role: Oid,
    /// OID of the database.
    pub database: Oid,
    /// Values that this session took from sequences.
    pub sequences: Mutex<SequenceSession>,
    /// What the running transaction has changed in the catalog.
    pub changes: Mutex<CatalogChanges>,
    state: Mutex<State>,
    notices: Mutex<Vec<Notice>>,
}

#[derive(Default)]
struct State {
    transaction: Option<Arc<dyn Transaction>>,
    transaction_started_us: i64,
}

impl SessionContext {
    pub(super) fn new(
        server: Arc<Server>,
        settings: Settings,
        activity: Arc<SessionActivity>,
        role: Oid,
        database: Oid,
    ) -> Self {
        Self {
            interrupt: activity.interrupt.clone(),
            server,
            settings: Mutex::new(settings),
            activity,
            role,
            database,
            sequences: Mutex::default(),
            changes: Mutex::default(),
            state: Mutex::default(),
            notices: Mutex::default(),
        }
    }

    /// The catalog as the running transaction sees it.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        self.server.catalogs.catalog(self.database, &mut self.changes.lock())
    }

    /// The running transaction.
    pub fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        self.state.lock().transaction.clone()
    }

    pub(super) fn begin_transaction(&self, transaction: Arc<dyn Transaction>) {
        let now = (self.server.clock)();
        *self.state.lock() = State { transaction: Some(transaction), transaction_started_us: now };
        self.activity.now.lock().transaction_started_us = Some(now);
    }

    pub(super) fn end_transaction(&self, committed: bool) {
        *self.state.lock() = State::default();
        *self.changes.lock() = CatalogChanges::default();
        self.settings.lock().end_transaction(committed);
        self.activity.now.lock().transaction_started_us = None;
    }

    pub(super) fn catalog_mark(&self) -> usize {
        self.changes.lock().mark()
    }

    pub(super) fn rollback_catalog_to(&self, mark: usize) {
        self.changes.lock().rollback_to(mark);
    }

    /// The search path with `$user` filled in.
    pub fn search_path(&self) -> Vec<String> {
        let path = self.settings.lock().typed().search_path.clone();
        path.iter().map(|name| if name == "$user" { self.activity.user.clone() } else { name.clone() }).collect()
    }

    /// Whether the search path is `names`.
    pub(super) fn search_path_is(&self, names: &[String]) -> bool {
        let path = self.settings.lock().typed().search_path.clone();
        let user = &self.activity.user;
        path.iter().map(|name| if name == "$user" { user } else { name }).eq(names)
    }

    /// What functions of a statement that starts now may ask.
    pub fn eval_context(self: &Arc<Self>) -> Arc<EvalContext> {
        let now = (self.server.clock)();
        let started = match &*self.state.lock() {
            State { transaction: Some(_), transaction_started_us } => *transaction_started_us,
            _ => now,
        };
        let settings = self.settings.lock();
        let typed = settings.typed();
        Arc::new(EvalContext {
            transaction_timestamp_us: started,
            statement_timestamp_us: now,
            clock: self.server.clock.clone(),
            time_zone: typed.time_zone.clone(),
            date_order: typed.date_order,
            extra_float_digits: typed.extra_float_digits,
            session: self.clone(),
        })
    }

    /// Notes what the session does, for `pg_stat_activity`.
    pub fn begin_activity(&self, query: &str) {
        /// As much of a statement as `pg_stat_activity` shows, bytes.
        const SHOWN_BYTES: usize = 1024;
        let shown = &query[..query.floor_char_boundary(SHOWN_BYTES)];
        let mut now = self.activity.now.lock();
        now.state = super::ActivityState::Active;
        now.query_started_us = (self.server.clock)();
        if &*now.query != shown {
            now.query = Arc::from(shown);
        }
    }

    /// Keeps a notice for the client, if its severity is asked for.
    pub fn notify(&self, severity: Severity, notice: SqlError) {
        use super::settings::MessageLevel;
        let level = match severity {
            Severity::Notice => MessageLevel::Notice,
            Severity::Warning => MessageLevel::Warning,
            Severity::Error | Severity::Fatal => MessageLevel::Error,
        };
        let mut notices = self.notices.lock();
        if level >= self.settings.lock().typed().client_min_messages && notices.len() < MAX_NOTICES {
            notices.push(Notice { severity, fields: notice.fields().clone() });
        }
    }

    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.lock();
        if notices.is_empty() { Vec::new() } else { std::mem::take(&mut notices) }
    }
}
