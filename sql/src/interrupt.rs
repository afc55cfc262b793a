//! Cancel and timeouts, as seen by running code: one flag to poll, one way to be woken.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Result, SqlError, SqlState};

/// Why a statement must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptReason {
    /// A cancel request of the user.
    UserCancel = 1,
    /// statement_timeout passed.
    StatementTimeout = 2,
    /// The server is stopping or the session was terminated.
    Shutdown = 3,
    /// The client has gone: nobody waits for the answer.
    ClientGone = 4,
}

/// A session's interrupt flag. Cheap to poll; a lock wait registers a waker.
pub struct Interrupt {
    reason: AtomicU8,
    /// lock_timeout in force, milliseconds; 0 is none.
    lock_timeout_ms: AtomicU64,
    waker: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Wakes the session while it waits for its client.
    idle_waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self {
            reason: AtomicU8::new(0),
            lock_timeout_ms: AtomicU64::new(0),
            waker: Mutex::new(None),
            idle_waker: OnceLock::new(),
        }
    }
}

impl Interrupt {
    /// Asks the running statement to stop and wakes it if it waits.
    pub fn raise(&self, reason: InterruptReason) {
        self.reason.fetch_max(reason as u8, Ordering::AcqRel);
        if let Some(wake) = self.waker.lock().as_ref() {
            wake();
        }
        if let Some(wake) = self.idle_waker.get() {
            wake();
        }
    }

    /// Sets what wakes the session while it waits for its client. Once; later calls change nothing.
    pub fn set_idle_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let _ = self.idle_waker.set(waker);
    }

    /// Whether the session is to end, not only its statement.
    pub fn ends_session(&self) -> bool {
        self.reason.load(Ordering::Acquire) >= InterruptReason::Shutdown as u8
    }

    /// What was raised and not yet cleared.
    pub fn reason(&self) -> Option<InterruptReason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            1 => Some(InterruptReason::UserCancel),
            2 => Some(InterruptReason::StatementTimeout),
            3 => Some(InterruptReason::Shutdown),
            _ => Some(InterruptReason::ClientGone),
        }
    }

    /// Forgets a raised interrupt, unless it is to end the session; the session calls it between statements.
    pub fn clear(&self) {
        let cancel = |reason| (reason < InterruptReason::Shutdown as u8).then_some(0);
        let _ = self.reason.fetch_update(Ordering::AcqRel, Ordering::Acquire, cancel);
    }

    /// The error to stop with, when one was raised. Poll in every loop over rows.
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.reason.load(Ordering::Relaxed) {
            0 => Ok(()),
            raised => Err(Self::error(raised)),
        }
    }

    #[cold]
    fn error(raised: u8) -> SqlError {
        match raised {
            1 => SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request"),
            2 => SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout"),
            3 => SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"),
            _ => SqlError::new(SqlState::CONNECTION_FAILURE, "connection to client lost"),
        }
    }

    /// Sets what [`Interrupt::raise`] calls besides raising the flag. A waiter sets it, re-checks the
    /// flag, waits, and takes it away again.
    pub fn set_waker(&self, waker: Option<Box<dyn Fn() + Send>>) {
        *self.waker.lock() = waker;
    }

    /// lock_timeout in milliseconds; 0 is none.
    pub fn lock_timeout_ms(&self) -> u64 {
        self.lock_timeout_ms.load(Ordering::Relaxed)
    }

    /// Sets lock_timeout, in milliseconds.
    pub fn set_lock_timeout_ms(&self, milliseconds: u64) {
        self.lock_timeout_ms.store(milliseconds, Ordering::Relaxed);
    }
}
