//! Bounded retries. How long to wait, and by what randomness, is decided outside.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::ObjectError;

/// How often to try, and how to wait before trial `n` (counted from 1).
#[derive(Clone)]
pub struct RetryPolicy {
    attempts: u32,
    pause: Arc<dyn Fn(u32) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

impl RetryPolicy {
    /// `attempts` trials in all (at least one), with `pause(n)` awaited before retry `n`.
    pub fn new(attempts: u32, pause: impl Fn(u32) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> RetryPolicy {
        RetryPolicy { attempts: attempts.max(1), pause: Arc::new(pause) }
    }

    /// No second trial.
    pub fn none() -> RetryPolicy {
        RetryPolicy::new(1, |_| Box::pin(std::future::ready(())))
    }

    /// Retries at once: for tests.
    pub fn immediate(attempts: u32) -> RetryPolicy {
        RetryPolicy::new(attempts, |_| Box::pin(std::future::ready(())))
    }

    /// Waits `base × 2^n`, at most `most`, times `jitter()`, which answers between 0 and 1.
    pub fn exponential(
        attempts: u32,
        base: Duration,
        most: Duration,
        jitter: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> RetryPolicy {
        RetryPolicy::new(attempts, move |n| {
            let ceiling = base.saturating_mul(1 << n.saturating_sub(1).min(20)).min(most);
            let wait = ceiling.mul_f64(jitter().clamp(0.0, 1.0));
            Box::pin(tokio::time::sleep(wait))
        })
    }

    /// Trials in all.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits before retry `n`.
    pub(super) async fn wait(&self, n: u32) {
        (self.pause)(n).await;
    }

    /// Runs an operation that may be repeated until it succeeds, fails for good, or the trials are used up.
    pub(super) async fn run<T, F, Fut>(&self, mut operation: F) -> Result<T, ObjectError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ObjectError>>,
    {
        let mut trial = 1;
        loop {
            match operation().await {
                Err(error) if error.is_transient() && trial < self.attempts => {
                    self.wait(trial).await;
                    trial += 1;
                }
                outcome => return outcome,
            }
        }
    }
}
