//! Who may begin to make a page: few at a time, the urgent first, and no more waiting than memory and patience allow.
//!
//! A page server that takes every request on answers none in time. So each request names its [`Priority`], and the process
//! keeps, for each of them, at most so many *in work* and so many *waiting*; beyond that it says at once that it is overloaded,
//! and whoever asks backs off. Waiting for the log counts as waiting: it costs memory, but holds up nobody.
//!
//! Rules:
//! 1. A request begins only while nobody more urgent waits and a place is free, its own priority's and one of all.
//! 2. Except that each priority may always have one in work: nothing starves.
//! 3. A request that its caller gives up leaves its place at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::client::Priority;
use crate::metrics as names;

#[cfg(test)]
mod tests;

/// Number of priorities.
const PRIORITIES: usize = Priority::ALL.len();

/// Limits of requests, for each priority in the order of [`Priority::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// In work at a time, all priorities together.
    pub most_working: usize,
    /// In work at a time.
    pub working: [usize; PRIORITIES],
    /// Waiting for the log or for a place.
    pub waiting: [usize; PRIORITIES],
}

impl Default for AdmissionSettings {
    fn default() -> AdmissionSettings {
        // Work is mostly waiting for an object store, else computation: more places than cores, few enough that a page
        // that begins is made soon.
        AdmissionSettings { most_working: 64, working: [64, 32, 8], waiting: [4096, 1024, 256] }
    }
}

/// The request was not taken on: too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests of {} priority wait already", priority.name())]
pub struct Overloaded {
    /// Of the request.
    pub priority: Priority,
    /// As many as may.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct Class {
    working: usize,
    /// Taken on and not in work.
    waiting: usize,
    /// Ready to begin, by ticket, oldest first.
    queue: BTreeMap<u64, oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    classes: [Class; PRIORITIES],
    next_ticket: u64,
}

struct Meters {
    waiting: metrics::Gauge,
    working: metrics::Gauge,
    refused: metrics::Counter,
}

struct Shared {
    settings: AdmissionSettings,
    state: Mutex<State>,
    meters: [Meters; PRIORITIES],
}

/// The door of one process. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("state", &self.shared.state.lock()).finish_non_exhaustive()
    }
}

impl State {
    fn may_begin(&self, settings: &AdmissionSettings, class: usize) -> bool {
        let own = self.classes[class].working;
        let all: usize = self.classes.iter().map(|class| class.working).sum();
        let nobody_before = self.classes[..class].iter().all(|class| class.queue.is_empty());
        own == 0 || (own < settings.working[class] && all < settings.most_working && nobody_before)
    }

    /// Lets begin whoever may.
    fn grant(&mut self, settings: &AdmissionSettings) {
        for class in 0..PRIORITIES {
            while !self.classes[class].queue.is_empty() && self.may_begin(settings, class) {
                let (_, begin) = self.classes[class].queue.pop_first().expect("not empty");
                // Else its caller gave up a moment ago.
                if begin.send(()).is_ok() {
                    self.classes[class].waiting -= 1;
                    self.classes[class].working += 1;
                }
            }
        }
    }
}

impl Admission {
    /// Nobody is in.
    pub fn new(settings: AdmissionSettings) -> Admission {
        let meters = Priority::ALL.map(|priority| Meters {
            waiting: metrics::gauge!(names::REQUESTS_WAITING, "priority" => priority.name()),
            working: metrics::gauge!(names::REQUESTS_WORKING, "priority" => priority.name()),
            refused: metrics::counter!(names::REQUESTS_REFUSED, "priority" => priority.name()),
        });
        Admission { shared: Arc::new(Shared { settings, state: Mutex::default(), meters }) }
    }

    /// Takes a request on, or refuses it.
    pub fn enter(&self, priority: Priority) -> Result<Waiting, Overloaded> {
        let class = priority.index();
        let mut state = self.shared.state.lock();
        if state.classes[class].waiting >= self.shared.settings.waiting[class] {
            self.shared.meters[class].refused.increment(1);
            return Err(Overloaded { priority, waiting: state.classes[class].waiting });
        }
        state.classes[class].waiting += 1;
        Ok(Waiting { shared: self.shared.clone(), class, began: false })
    }

    /// Shows in the metrics what is going on.
    pub fn report(&self) {
        let state = self.shared.state.lock();
        for (class, meters) in state.classes.iter().zip(&self.shared.meters) {
            meters.waiting.set(class.waiting as f64);
            meters.working.set(class.working as f64);
        }
    }
}

/// A request that was taken on. Dropping it gives its place up.
pub struct Waiting {
    shared: Arc<Shared>,
    class: usize,
    /// It counts as in work, and the [`Working`] has to take it off.
    began: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.began {
            self.shared.state.lock().classes[self.class].waiting -= 1;
        }
    }
}

/// In the queue; leaves it when dropped.
struct Queued<'a> {
    waiting: &'a mut Waiting,
    ticket: u64,
    begin: oneshot::Receiver<()>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.waiting.began {
            return;
        }
        let mut state = self.waiting.shared.state.lock();
        let class = self.waiting.class;
        // Told to begin at the moment of giving up: then it counts as in work.
        if state.classes[class].queue.remove(&self.ticket).is_none() && self.begin.try_recv().is_ok() {
            state.classes[class].working -= 1;
            state.classes[class].waiting += 1;
        }
        state.grant(&self.waiting.shared.settings);
    }
}

impl Waiting {
    /// Waits for a place and begins.
    pub async fn begin(mut self) -> Working {
        let shared = self.shared.clone();
        let class = self.class;
        let queued = {
            let mut state = shared.state.lock();
            if state.classes[class].queue.is_empty() && state.may_begin(&shared.settings, class) {
                state.classes[class].waiting -= 1;
                state.classes[class].working += 1;
                self.began = true;
                None
            } else {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                let (begin, told) = oneshot::channel();
                state.classes[class].queue.insert(ticket, begin);
                Some((ticket, told))
            }
        };
        if let Some((ticket, begin)) = queued {
            let mut queued = Queued { waiting: &mut self, ticket, begin };
            (&mut queued.begin).await.expect("whoever takes a ticket off the queue answers it");
            queued.waiting.began = true;
        }
        Working { shared, class }
    }
}

/// A request in work. Dropping it makes room for the next.
pub struct Working {
    shared: Arc<Shared>,
    class: usize,
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.classes[self.class].working -= 1;
        state.grant(&self.shared.settings);
    }
}
