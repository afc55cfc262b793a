//! Threads of a simulated process: real ones, of which at most one runs, and only while the simulation's own thread stands
//! still in the task that stands for it.
//!
//! ```text
//!   runtime ──poll──► task of the thread ──baton──► thread runs ── waits for a future that is not ready ──┐
//!      ▲                                                                                                  │
//!      └────────────────────────── pending ◄──────────────── baton ◄──────────────────────────────────────┘
//! ```
//!
//! A thread polls what it waits for with the task's own waker, so that waking one wakes the other. So every run of a thread is a
//! poll of a task in the simulation's order. A thread whose process has ended gets the baton no more: it stands where it was,
//! with all that it held, as one of a killed process does, until the seed's process ends.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use compute::threads::Scheduler;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::pages::process::Process;

/// What such a thread's stack has room for.
const STACK_BYTES: usize = 1 << 20;
/// Who looks again and again for something does so this often, at least.
const LONGEST_PAUSE_MS: u64 = 10;

enum Turn {
    Simulation,
    Thread(Waker),
    Ended,
}

struct Baton {
    turn: Mutex<Turn>,
    passed: Condvar,
}

impl Baton {
    /// Of the simulation: lets the thread run until it waits; true once it has ended.
    fn lend(&self, waker: &Waker) -> bool {
        let mut turn = self.turn.lock();
        if !matches!(*turn, Turn::Ended) {
            *turn = Turn::Thread(waker.clone());
            self.passed.notify_all();
            while matches!(*turn, Turn::Thread(_)) {
                self.passed.wait(&mut turn);
            }
        }
        matches!(*turn, Turn::Ended)
    }

    /// Of the thread: waits for its turn.
    fn take(&self) -> Waker {
        let mut turn = self.turn.lock();
        loop {
            if let Turn::Thread(waker) = &*turn {
                return waker.clone();
            }
            self.passed.wait(&mut turn);
        }
    }

    fn give_back(&self, to: Turn) {
        *self.turn.lock() = to;
        self.passed.notify_all();
    }
}

thread_local! {
    static BATON: RefCell<Option<(Arc<Baton>, Waker)>> = const { RefCell::new(None) };
}

/// Threads of one process.
struct Threads {
    process: Arc<Process>,
    runtime: Handle,
}

/// Begins a thread of a process. It ends with that.
pub fn spawn(process: &Arc<Process>, name: &'static str, body: impl FnOnce() + Send + 'static) {
    Threads { process: process.clone(), runtime: Handle::current() }.spawn(name, Box::new(body));
}

/// Waits on a thread that [`spawn`] began.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let (baton, mut waker) = BATON.with(|current| current.borrow().clone()).expect("a thread of the simulation");
    let output = loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            break output;
        }
        baton.give_back(Turn::Simulation);
        waker = baton.take();
    };
    BATON.with(|current| *current.borrow_mut() = Some((baton, waker)));
    output
}

/// Gives the thread the baton whenever it is woken, while its process runs.
async fn drive(process: Arc<Process>, baton: Arc<Baton>) {
    let mut gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    std::future::poll_fn(|context| {
        if gate.is_none() && !process.runs() {
            let process = process.clone();
            gate = Some(Box::pin(async move { process.gate().await }));
        }
        if let Some(waiting) = &mut gate {
            if waiting.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            gate = None;
        }
        if baton.lend(context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Scheduler for Threads {
    fn wait(&self, wait: Pin<&mut dyn Future<Output = ()>>) {
        block_on(wait);
    }

    fn pause(&self, longest: Duration) {
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let pause_ms = longest_ms.clamp(1, LONGEST_PAUSE_MS);
        block_on(tokio::time::sleep(Duration::from_millis(pause_ms)));
    }

    fn spawn(&self, name: &'static str, body: Box<dyn FnOnce() + Send>) {
        let baton = Arc::new(Baton { turn: Mutex::new(Turn::Simulation), passed: Condvar::new() });
        let (of_thread, runtime) = (baton.clone(), self.runtime.clone());
        let scheduler = Arc::new(Threads { process: self.process.clone(), runtime: self.runtime.clone() });
        let run = move || {
            let waker = of_thread.take();
            BATON.with(|current| *current.borrow_mut() = Some((of_thread.clone(), waker)));
            let _inside = runtime.enter();
            compute::threads::run(scheduler, body);
            BATON.with(|current| current.borrow_mut().take());
            of_thread.give_back(Turn::Ended);
        };
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        thread.spawn(run).expect("a thread can be started");
        self.process.spawn(drive(self.process.clone(), baton));
    }
}
