//! Work that would hold up a runtime's other tasks: files, long computations.
//!
//! On a runtime with several threads it gets a thread of its own. On a runtime with one thread it runs in place: such a
//! runtime has nobody else to serve, or is a simulation, where everything happens in one order.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Whether the runtime that drives this task has one thread only.
pub fn runs_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Runs `work` beside the runtime's tasks; `None` when it panicked or the runtime ends.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if runs_alone() {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}
