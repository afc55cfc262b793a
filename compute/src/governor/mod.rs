//! The governor: writers are slowed, smoothly, while somebody behind them lags.
//!
//! ```text
//!   commit, load ──bytes──► debt of the thread ──paid where no lock is held──► delay = bytes × delay per byte
//!                                                                                       ▲
//!   page servers, archiver, log ──positions──► watch task ──lag──► control law ─────────┘
//! ```
//!
//! Without it a page server that cannot keep up falls behind without bound, and reads of what it has not yet seen wait
//! for as long as it is behind. Each *component* has a lag in bytes, and a limit. Below a quarter of the limit nothing is
//! delayed; between there and the limit the delay per appended byte grows exponentially (see [`control`]), so that
//! the rate settles where the component keeps up. A delay is proportional to the bytes appended: a load that
//! causes the lag feels it, small commits beside it hardly do. Past the limit the delay keeps growing to a bound and no
//! further: writing never stops altogether as long as the log takes it.
//!
//! **What is appended is a debt of the thread that appended it** ([`charge`], under the sequencer's lock: one addition). It
//! is paid outside all locks: by a commit after it has released its row locks and before its client is answered, by a
//! load after each batch of pages. A load's wait ends with an error when its statement is interrupted; a commit's ends
//! early, as what is committed is committed. Reading pays nothing, ever.

mod control;
#[cfg(test)]
mod tests;
mod watch;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use sql::error::Result;
use sql::store::LogLimit;

use crate::blocking::{INTERRUPT_POLL, blocking, check_interrupt};
use crate::threads;
pub(crate) use watch::Watch;

/// A commit waits no longer than this, whatever it owes: its session must not look dead.
const LONGEST_COMMIT_DELAY: Duration = Duration::from_secs(1);
/// Debts below this are gathered, and paid by whoever completes them: a shorter pause costs more than it is long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// How far others may fall behind before writers are slowed: at a quarter of these they begin to be. Bytes; zero sets
/// no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GovernorConfig {
    /// Log that the slowest page server has not read.
    pub ingest_lag_bytes: u64,
    /// Log that is not in layers on the object store.
    pub flush_lag_bytes: u64,
    /// Log that the archiver, if there is one, has not put on the object store.
    pub archive_lag_bytes: u64,
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self { ingest_lag_bytes: 512 << 20, flush_lag_bytes: 4 << 30, archive_lag_bytes: 4 << 30 }
    }
}

impl GovernorConfig {
    /// No limits, for measurements without page servers.
    pub const OFF: Self = Self { ingest_lag_bytes: 0, flush_lag_bytes: 0, archive_lag_bytes: 0 };
}

thread_local! {
    static DEBT_BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Notes that this thread has appended so many bytes to the log.
#[inline]
pub(crate) fn charge(bytes: u64) {
    DEBT_BYTES.with(|debt| debt.set(debt.get().saturating_add(bytes)));
}

/// See the module.
#[derive(Default)]
pub(crate) struct Governor {
    /// Zero: nothing limits.
    delay_ps_per_byte: AtomicU64,
    /// Small debts gathered, in nanoseconds, ever.
    gathered_ns: AtomicU64,
    limits: Mutex<Vec<LogLimit>>,
    delayed_us: AtomicU64,
    delays: AtomicU64,
}

impl Governor {
    /// What limits writers now: nothing, mostly.
    pub(crate) fn limits(&self) -> Vec<LogLimit> {
        self.limits.lock().clone()
    }

    /// Sets what limits, and how much a byte costs.
    fn decide(&self, delay_ps_per_byte: u64, limits: Vec<LogLimit>) {
        let before = self.delay_ps_per_byte.swap(delay_ps_per_byte, Ordering::Relaxed);
        let mut known = self.limits.lock();
        if before == 0
            && let Some(first) = limits.first()
        {
            tracing::info!(component = first.component, reason = first.reason, "writers are slowed");
        } else if before != 0 && delay_ps_per_byte == 0 {
            tracing::info!("writers are no longer slowed");
        }
        *known = limits;
    }

    /// Pays for what this thread has appended, until interrupted. The caller holds no lock.
    pub(crate) fn pay(&self) -> Result<()> {
        let bytes = DEBT_BYTES.take();
        if self.delay_ps_per_byte.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.wait(bytes, Duration::MAX)
    }

    /// Pays for a commit, which stands whatever happens: the wait is bounded, and a raised interrupt ends it.
    pub(crate) fn pay_commit(&self) {
        let bytes = DEBT_BYTES.take();
        if self.delay_ps_per_byte.load(Ordering::Relaxed) != 0 {
            // An interrupt has nothing left to stop.
            let _ = self.wait(bytes, LONGEST_COMMIT_DELAY);
        }
    }

    /// Waits the delay of so many bytes, at what a byte costs meanwhile.
    #[cold]
    fn wait(&self, bytes: u64, longest: Duration) -> Result<()> {
        let mut left_bytes = bytes;
        let mut waited = Duration::ZERO;
        while left_bytes > 0 && waited < longest {
            let delay_ps = self.delay_ps_per_byte.load(Ordering::Relaxed);
            if delay_ps == 0 {
                break;
            }
            let owed = Duration::from_nanos(left_bytes.saturating_mul(delay_ps) / 1000);
            let pause = match owed < SHORTEST_PAUSE {
                true if self.completes_a_pause(owed) => SHORTEST_PAUSE,
                true => break,
                false => owed.min(INTERRUPT_POLL).min(longest - waited),
            };
            check_interrupt()?;
            blocking(|| threads::sleep(pause));
            waited += pause;
            self.delayed_us.fetch_add(pause.as_micros() as u64, Ordering::Relaxed);
            let paid_bytes = (pause.as_nanos() as u64).saturating_mul(1000) / delay_ps;
            left_bytes = left_bytes.saturating_sub(paid_bytes.max(1));
        }
        if waited > Duration::ZERO {
            self.delays.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gathers a debt that is too small for a pause of its own; true for whoever makes it large enough.
    fn completes_a_pause(&self, owed: Duration) -> bool {
        let (owed_ns, pause_ns) = (owed.as_nanos() as u64, SHORTEST_PAUSE.as_nanos() as u64);
        let before = self.gathered_ns.fetch_add(owed_ns, Ordering::Relaxed);
        before / pause_ns != before.wrapping_add(owed_ns) / pause_ns
    }

    pub(crate) fn publish(&self) {
        gauge!("alluvium_governor_delay_ns_per_byte")
            .set(self.delay_ps_per_byte.load(Ordering::Relaxed) as f64 / 1000.0);
        counter!("alluvium_governor_delayed_us_total").absolute(self.delayed_us.load(Ordering::Relaxed));
        counter!("alluvium_governor_delays_total").absolute(self.delays.load(Ordering::Relaxed));
    }
}
