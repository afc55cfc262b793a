//! Giving pages back in the background: dropped trees, and what aborts and crashes have left unattached.
//!
//! Every piece of work is a row of the upkeep tree, and every step is a batch that does some of it and says
//! so there. So the thread may stop at any time.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sql::error::{Result, SqlError};
use storage::btree;
use storage::upkeep::Upkeep;

use crate::cache::SnapshotReader;
use crate::engine::Engine;
use crate::sequencer::PageRun;
use crate::threads::{self, Thread};

/// How long a step that failed (the log is full, a page server is away) is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// How long the thread waits for work before it looks whether it was overlooked.
const IDLE: Duration = Duration::from_secs(60);

/// Work for the thread.
pub(crate) struct ReclaimQueue {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    rows: VecDeque<Upkeep>,
    /// Also from the beginning: what earlier primaries have left over is not known yet.
    busy: bool,
    stop: bool,
}

impl Default for ReclaimQueue {
    fn default() -> Self {
        let state = State { rows: VecDeque::new(), busy: true, stop: false };
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }
}

impl ReclaimQueue {
    pub(crate) fn push(&self, rows: impl IntoIterator<Item = Upkeep>) {
        let mut rows = rows.into_iter().peekable();
        // Almost every commit has none, and must not pay for waking the thread.
        if rows.peek().is_some() {
            self.state.lock().rows.extend(rows);
            self.wake.notify_one();
        }
    }

    /// True when nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.rows.is_empty() && !state.busy
    }

    fn next(&self) -> Option<Upkeep> {
        let mut state = self.state.lock();
        loop {
            state.busy = false;
            if state.stop {
                return None;
            }
            if let Some(row) = state.rows.pop_front() {
                state.busy = true;
                return Some(row);
            }
            threads::wait_for(&self.wake, &mut state, IDLE);
        }
    }

    /// True when the thread must stop.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stop {
            threads::wait_for(&self.wake, &mut state, RETRY);
        }
        state.stop
    }
}

/// The thread. Dropping it stops it after its current step.
pub(crate) struct Reclaimer {
    queue: Arc<ReclaimQueue>,
    thread: Option<Thread>,
}

impl Reclaimer {
    /// Starts with what earlier primaries have left over.
    pub(crate) fn start(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let queue = engine.reclaim.clone();
        let for_thread = queue.clone();
        let weak = Arc::downgrade(engine);
        let opened_at = engine.positions.durable();
        let thread = Thread::spawn("reclaim", move || {
            let left_over = |engine: &Arc<Engine>| left_over(engine, opened_at);
            if let ControlFlow::Continue(rows) = until_done(&for_thread, &weak, left_over) {
                for_thread.push(rows);
                while let Some(row) = for_thread.next() {
                    if until_done(&for_thread, &weak, |engine| reclaim(engine, row)).is_break() {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.queue.state.lock().stop = true;
        self.queue.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && !thread.join()
        {
            tracing::error!("the reclaiming thread panicked");
        }
    }
}

/// Repeats `work` until it succeeds; breaks when the compute stops.
fn until_done<T>(
    queue: &ReclaimQueue,
    engine: &Weak<Engine>,
    work: impl Fn(&Arc<Engine>) -> Result<T>,
) -> ControlFlow<(), T> {
    loop {
        let Some(engine) = engine.upgrade() else { return ControlFlow::Break(()) };
        match work(&engine) {
            Ok(done) => return ControlFlow::Continue(done),
            Err(error) => tracing::warn!(%error, "cannot give pages back now"),
        }
        drop(engine);
        if queue.pause() {
            return ControlFlow::Break(());
        }
    }
}

/// Rows of the upkeep tree as the log was found at start.
fn left_over(engine: &Arc<Engine>, at: storage::Lsn) -> Result<Vec<Upkeep>> {
    let reader = SnapshotReader::new(engine.cache.clone(), at);
    let mut cursor = btree::Cursor::new(reader, engine.sequencer.upkeep_tree);
    let mut rows = Vec::new();
    let mut on_row = cursor.seek_first()?;
    while on_row {
        let row = Upkeep::decode(cursor.key(), cursor.value());
        rows.push(row.map_err(|error| SqlError::internal(format!("upkeep tree: {error}")))?);
        on_row = cursor.next_row()?;
    }
    Ok(rows)
}

fn reclaim(engine: &Arc<Engine>, row: Upkeep) -> Result<()> {
    match row {
        Upkeep::Run { first, pages } => engine.sequencer.free_run(PageRun { first, pages }),
        Upkeep::Dropped { tree } => {
            while !engine.sequencer.reclaim_step(tree)? {
                if engine.reclaim.state.lock().stop {
                    return Ok(());
                }
                engine.governor.pay_commit();
            }
            Ok(())
        }
    }
}
