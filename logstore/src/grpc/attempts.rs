//! Pauses between attempts: they grow, and there are no more once nothing has succeeded for too long.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::LogError;

/// See the module.
pub(super) struct Attempts {
    /// How long nothing may succeed.
    pub(super) patience: Duration,
    first_pause: Duration,
    last_pause: Duration,
    pause: Duration,
    /// None between a success and the next attempt.
    deadline: Option<Instant>,
}

impl Attempts {
    pub(super) fn new(patience: Duration, first_pause: Duration, last_pause: Duration) -> Attempts {
        Attempts { patience, first_pause, last_pause, pause: first_pause, deadline: None }
    }

    /// When the attempts that begin now, or have begun, are over.
    pub(super) fn deadline(&mut self) -> Instant {
        let patience = self.patience;
        *self.deadline.get_or_insert_with(|| Instant::now() + patience)
    }

    /// An attempt has succeeded: later ones have all the time again.
    pub(super) fn succeeded(&mut self) {
        (self.deadline, self.pause) = (None, self.first_pause);
    }

    /// A pause after an attempt that failed with `error`; that error, if there is no time for another one.
    pub(super) async fn pause(&mut self, error: LogError) -> Result<(), LogError> {
        if Instant::now() + self.pause >= self.deadline() {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.last_pause);
        Ok(())
    }
}
