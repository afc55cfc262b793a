//! Who runs the engine's threads and lets them wait: the operating system, or a simulator that lets one thread at a time
//! go on and decides when.
//!
//! The engine waits in few places, all of them slow: a page, a lock, the log, room. Each goes through here. A thread that
//! a [`Scheduler`] runs ([`run`]) asks that one; all others wait as threads do. Nothing else differs: a hot path that does
//! not wait does not come by.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, MutexGuard};
use tokio::runtime::Handle;

/// Runs threads one at a time, for simulation.
pub trait Scheduler: Send + Sync {
    /// Returns when `wait` is ready. It is polled on the calling thread; others run in between.
    fn wait(&self, wait: Pin<&mut dyn Future<Output = ()>>);
    /// Returns after `longest`, or earlier.
    fn pause(&self, longest: Duration);
    /// Begins a thread that is scheduled as the calling one is.
    fn spawn(&self, name: &'static str, body: Box<dyn FnOnce() + Send>);
}

thread_local! {
    static SCHEDULER: RefCell<Option<Arc<dyn Scheduler>>> = const { RefCell::new(None) };
}

/// Runs `body` on this thread, which belongs to `scheduler` from then on.
pub fn run(scheduler: Arc<dyn Scheduler>, body: impl FnOnce()) {
    SCHEDULER.with(|current| *current.borrow_mut() = Some(scheduler));
    body();
}

/// The scheduler of this thread, if it is not the operating system.
fn scheduler() -> Option<Arc<dyn Scheduler>> {
    SCHEDULER.with(|current| current.borrow().clone())
}

/// Waits for a future. The runtime is never driven by the calling thread alone: others do, or the scheduler.
pub(crate) fn block_on<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let Some(scheduler) = scheduler() else { return runtime.block_on(future) };
    let mut output = None;
    scheduler.wait(pin!(async { output = Some(future.await) }));
    output.expect("the scheduler returns when the future is ready")
}

/// Waits for a while.
#[expect(clippy::disallowed_methods, reason = "callers look again and again for what nobody tells")]
pub(crate) fn sleep(pause: Duration) {
    match scheduler() {
        Some(scheduler) => scheduler.pause(pause),
        None => std::thread::sleep(pause),
    }
}

/// Waits until notified, `longest` at most; or for less, without reason.
pub(crate) fn wait_for<T>(wake: &Condvar, guard: &mut MutexGuard<'_, T>, longest: Duration) {
    match scheduler() {
        Some(scheduler) => MutexGuard::unlocked(guard, || scheduler.pause(longest)),
        None => drop(wake.wait_for(guard, longest)),
    }
}

/// A thread of the engine's own.
pub(crate) struct Thread(Option<std::thread::JoinHandle<()>>);

impl Thread {
    pub(crate) fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
        match scheduler() {
            Some(scheduler) => {
                scheduler.spawn(name, Box::new(body));
                Ok(Thread(None))
            }
            None => Ok(Thread(Some(std::thread::Builder::new().name(name.into()).spawn(body)?))),
        }
    }

    /// The operating system's thread, to wake it from [`park`]; a scheduled one wakes by itself.
    pub(crate) fn handle(&self) -> Option<std::thread::Thread> {
        self.0.as_ref().map(|thread| thread.thread().clone())
    }

    /// Waits until it has ended; a scheduled one ends when it goes on the next time. False if it panicked.
    pub(crate) fn join(self) -> bool {
        let Some(thread) = self.0 else { return true };
        // A thread cannot wait for itself: it ends right after.
        thread.thread().id() == std::thread::current().id() || thread.join().is_ok()
    }
}

/// Waits until [`std::thread::Thread::unpark`], `longest` at most.
pub(crate) fn park(longest: Duration) {
    match scheduler() {
        Some(scheduler) => scheduler.pause(longest),
        None => std::thread::park_timeout(longest),
    }
}
