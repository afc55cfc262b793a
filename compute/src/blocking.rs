//! How synchronous engine code waits: on a thread of its own it just waits, on a runtime's worker it
//! first tells the runtime, so that the worker's other tasks move elsewhere.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `wait`, which may block the thread for long.
pub(crate) fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Waits for a future from synchronous code. On a current-thread runtime's own thread this would wait for
/// itself; the engine is never run there.
pub(crate) fn block_on<F: Future>(runtime: &Handle, future: F) -> F::Output {
    blocking(|| runtime.block_on(future))
}
