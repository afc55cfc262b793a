//! Who is connected and doing what: the substance of `pg_stat_activity`, cancel and terminate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::interrupt::{Interrupt, InterruptReason};

/// What a session is at, as `pg_stat_activity.state` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ActivityState {
    Active,
    Idle,
    IdleInTransaction,
    IdleInTransactionAborted,
}

impl ActivityState {
    /// The word of `pg_stat_activity.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            ActivityState::Active => "active",
            ActivityState::Idle => "idle",
            ActivityState::IdleInTransaction => "idle in transaction",
            ActivityState::IdleInTransactionAborted => "idle in transaction (aborted)",
        }
    }
}

/// One connected session as others see it.
pub struct SessionActivity {
    /// Process number told to the client.
    pub process: u32,
    /// Secret that a cancel request must bring.
    pub secret: u32,
    /// Role name.
    pub user: String,
    /// Database name.
    pub database: String,
    /// OID of the database.
    pub database_oid: u32,
    /// `address:port` of the client.
    pub client: String,
    /// When it connected, microseconds since 2000-01-01 UTC.
    pub started_us: i64,
    /// Raised to cancel or terminate.
    pub interrupt: Arc<Interrupt>,
    /// What it does now.
    pub now: Mutex<Now>,
}

/// The changing part of [`SessionActivity`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Now {
    pub state: ActivityState,
    pub query: Arc<str>,
    pub query_started_us: i64,
    pub transaction_started_us: Option<i64>,
    pub application_name: Arc<str>,
}

/// All sessions of a compute.
#[derive(Default)]
pub struct Activity {
    sessions: Mutex<HashMap<u32, Arc<SessionActivity>>>,
    last_process: AtomicU32,
}

impl Activity {
    /// A process number that no connected session has.
    pub fn next_process(&self) -> u32 {
        // 31 bits: drivers read it as a signed number.
        (self.last_process.fetch_add(1, Ordering::Relaxed) & 0x7FFF_FFFF) + 1
    }

    /// Enters a session.
    pub fn enter(&self, session: Arc<SessionActivity>) {
        self.sessions.lock().insert(session.process, session);
    }

    /// Takes a session out.
    pub fn leave(&self, process: u32) {
        self.sessions.lock().remove(&process);
    }

    /// Sessions by process number.
    pub fn sessions(&self) -> Vec<Arc<SessionActivity>> {
        let mut sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        sessions.sort_by_key(|session| session.process);
        sessions
    }

    /// A session by its process number.
    pub fn session(&self, process: u32) -> Option<Arc<SessionActivity>> {
        self.sessions.lock().get(&process).cloned()
    }

    /// A cancel request from the wire: silently nothing when the secret is wrong, as in Postgres.
    pub fn cancel(&self, process: u32, secret: u32) {
        if let Some(session) = self.session(process)
            && session.secret == secret
            && session.now.lock().state == ActivityState::Active
        {
            session.interrupt.raise(InterruptReason::UserCancel);
        }
    }

    /// Asks every session to end.
    pub fn terminate_all(&self) {
        self.sessions.lock().values().for_each(|session| session.interrupt.raise(InterruptReason::Shutdown));
    }
}
