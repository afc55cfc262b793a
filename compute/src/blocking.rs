//! How synchronous engine code waits: on a thread of its own it just waits, on a runtime's worker it
//! first tells the runtime, so that the worker's other tasks move elsewhere.
//!
//! **Interrupts.** A cancel, a timeout, the end of the session or of its client must also end waits deep in the engine:
//! for a page, for memory, for the log. Whoever runs a statement names its [`Interrupt`] with [`interruptible`] for as
//! long as it runs on this thread; waits ask for it here instead of handing it through every call. Work that must not
//! be given up half way is done under [`shielded`]; threads of the engine's own have none.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use sql::error::Result;
use sql::store::Interrupt;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::threads;

/// How often a wait that nobody wakes looks whether it has been interrupted.
pub(crate) const INTERRUPT_POLL: Duration = Duration::from_millis(20);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Interrupt>>> = const { RefCell::new(None) };
}

/// Puts back what was in force before.
pub(crate) struct Scope(Option<Arc<Interrupt>>);

impl Drop for Scope {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with(|current| *current.borrow_mut() = before);
    }
}

/// Waits of this thread end when `interrupt` is raised, until the scope is dropped.
pub(crate) fn interruptible(interrupt: &Arc<Interrupt>) -> Scope {
    Scope(CURRENT.with(|current| current.borrow_mut().replace(interrupt.clone())))
}

/// Waits of this thread are not interrupted, until the scope is dropped.
pub(crate) fn shielded() -> Scope {
    Scope(CURRENT.with(|current| current.borrow_mut().take()))
}

/// The error to stop with, when the statement of this thread was interrupted.
pub(crate) fn check_interrupt() -> Result<()> {
    CURRENT.with(|current| current.borrow().as_ref().map_or(Ok(()), |interrupt| interrupt.check()))
}

/// Runs `wait`, which may block the thread for long.
pub(crate) fn blocking<R>(wait: impl FnOnce() -> R) -> R {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Waits for a future from synchronous code, until the statement of this thread is interrupted: the future is
/// dropped then. The engine is never run on a current-thread runtime's own thread, where this would wait for itself.
pub(crate) fn block_on<F: Future>(runtime: &Handle, future: F) -> Result<F::Output> {
    let Some(interrupt) = CURRENT.with(|current| current.borrow().clone()) else {
        return Ok(blocking(|| threads::block_on(runtime, future)));
    };
    let raised = Arc::new(tokio::sync::Notify::new());
    let wake = raised.clone();
    interrupt.set_waker(Some(Box::new(move || wake.notify_one())));
    let outcome = interrupt.check().and_then(|()| {
        blocking(|| {
            threads::block_on(runtime, async {
                tokio::select! {
                    biased;
                    output = future => Ok(output),
                    error = interrupted(&interrupt, &raised) => Err(error),
                }
            })
        })
    });
    interrupt.set_waker(None);
    outcome
}

/// Resolves when the interrupt has been raised.
async fn interrupted(interrupt: &Interrupt, raised: &tokio::sync::Notify) -> sql::error::SqlError {
    loop {
        raised.notified().await;
        if let Err(error) = interrupt.check() {
            return error;
        }
    }
}
