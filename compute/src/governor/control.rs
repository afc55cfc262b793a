//! From lags to a delay: pure, so that tests run it on a clock of their own.
//!
//! The delay per byte at `x = (lag − low) / (high − low)`, where low is a quarter of high:
//!
//! ```text
//!   x ≤ 0       none
//!   0 < x ≤ 1   1 ns × 15,000ˣ      a writer alone: 1 GB/s at first, 64 KiB/s at the limit
//!   x > 1       linearly on to four times as much, and no further
//! ```
//!
//! Lag grows by what all writers append less what the component takes, and their rate falls as the lag grows: it settles
//! where the two are equal, however many writers there are and however fast the component is. Exponential, because the
//! rate that must be met may be anything between a disk's and a crawl.
//!
//! **A slow component's limit is a time, not a size**: what a page server that reads 2 MiB/s has before it at a lag of
//! 512 MiB takes four minutes. So the limit of a component that readers wait for is what it has taken of late within ten seconds,
//! but an eighth of the configured one at least.

use std::collections::VecDeque;
use std::time::Duration;

/// Delay where delaying begins.
const FIRST_DELAY_PS: f64 = 1_000.0;
/// Delay at the limit.
const LIMIT_DELAY_PS: f64 = 15_000_000.0;
/// Delay far beyond it, in delays at the limit.
const LAST_DELAY_FACTOR: f64 = 4.0;
/// Positions are remembered for so long, to see how fast a component is.
const WINDOW: Duration = Duration::from_secs(5);
/// No speed is told from less than this.
const LEAST_WINDOW: Duration = Duration::from_secs(1);
/// A component this far behind is busy: how far it comes tells how fast it is.
const BUSY_BYTES: u64 = 1 << 20;
/// Readers should not wait longer than this for a component that takes what it can.
const CATCH_UP_WITHIN_SECONDS: u64 = 10;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    position: u64,
    lag_bytes: u64,
}

/// Somebody who follows the log (or what grows with it), as seen over the last seconds.
#[derive(Debug)]
pub(super) struct Component {
    configured_bytes: u64,
    readers_wait: bool,
    samples: VecDeque<Sample>,
}

impl Component {
    /// `limit_bytes` zero: never limits. `readers_wait`: its limit is a time too.
    pub(super) fn new(limit_bytes: u64, readers_wait: bool) -> Self {
        Self { configured_bytes: limit_bytes, readers_wait, samples: VecDeque::new() }
    }

    /// Where it is at a time since some beginning, and where it should be.
    pub(super) fn observe(&mut self, at: Duration, position: u64, head: u64) {
        while self.samples.len() > 1 && self.samples.front().is_some_and(|first| at.saturating_sub(first.at) > WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, position, lag_bytes: head.saturating_sub(position) });
    }

    pub(super) fn lag_bytes(&self) -> u64 {
        self.samples.back().map_or(0, |last| last.lag_bytes)
    }

    /// What it takes a second when it has all it could take; `None` while that is not known.
    pub(super) fn drain_bytes_per_second(&self) -> Option<u64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let window = last.at.checked_sub(first.at).filter(|window| *window >= LEAST_WINDOW)?;
        let is_busy = self.samples.iter().all(|sample| sample.lag_bytes >= BUSY_BYTES);
        is_busy.then(|| ((last.position.saturating_sub(first.position)) as f64 / window.as_secs_f64()) as u64)
    }

    /// The lag that should not be exceeded.
    pub(super) fn limit_bytes(&self) -> u64 {
        let configured = self.configured_bytes;
        match self.drain_bytes_per_second().filter(|_| self.readers_wait) {
            Some(drain) => drain.saturating_mul(CATCH_UP_WITHIN_SECONDS).clamp(configured / 8, configured),
            None => configured,
        }
    }

    /// What an appended byte costs because of it, in picoseconds.
    pub(super) fn delay_ps_per_byte(&self) -> u64 {
        let (high, lag) = (self.limit_bytes() as f64, self.lag_bytes() as f64);
        let low = high / 4.0;
        if high == 0.0 || lag <= low {
            return 0;
        }
        let x = (lag - low) / (high - low);
        let delay = FIRST_DELAY_PS * (LIMIT_DELAY_PS / FIRST_DELAY_PS).powf(x.min(1.0));
        (delay * x.clamp(1.0, LAST_DELAY_FACTOR)) as u64
    }
}
