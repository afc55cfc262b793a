//! The run: the world's events and the page servers' tasks on one runtime of one thread, whose clock is the simulation's.
//!
//! The runtime's time stands still while any task can go on, and then jumps to the next timer. The world's queue of events
//! is one task among the others: it sleeps until the next event.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::archive::Archive;
use crate::pages::store::SimStore;
use crate::pages::{Plane, PlaneReport};
use crate::random::Random;
use crate::world::{Report, World};

/// How long a healed cluster may take.
const RECOVERY_MS: u64 = 60_000;
const LOOK_EVERY_MS: u64 = 500;

/// The world, as tasks reach it.
pub struct Sim {
    world: Mutex<World>,
    changed: Notify,
    began: Instant,
}

impl Sim {
    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Does something in the world. Must not be called within itself.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.try_lock().expect("one thread, and never within itself");
        world.now = world.now.max(self.now());
        let done = act(&mut world);
        drop(world);
        self.changed.notify_one();
        done
    }

    /// Draws.
    pub fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        self.with(|world| draw(&mut world.random))
    }

    /// Adds to the trace.
    pub fn note(&self, what: &str, values: &[u64]) {
        self.with(|world| world.note(what, values));
    }

    /// Counts a fault.
    pub fn count(&self, what: &str) {
        self.with(|world| *world.counts.entry(what.to_owned()).or_default() += 1);
    }

    /// Waits.
    pub async fn sleep(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Handles the world's events when they are due.
pub async fn drive(sim: Arc<Sim>) {
    loop {
        let now = sim.now();
        let next = {
            let mut world = sim.world.try_lock().expect("one thread");
            world.handle_until(now);
            world.next_event()
        };
        let until = sim.began + Duration::from_millis(next.unwrap_or(now + 1_000).max(now));
        tokio::select! {
            biased;
            () = sim.changed.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

impl Sim {
    /// Around a world.
    pub fn new(world: World) -> Arc<Sim> {
        Arc::new(Sim { world: Mutex::new(world), changed: Notify::new(), began: Instant::now() })
    }
}

/// Runs a simulation on this thread.
pub fn block_on<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be built").block_on(run)
}

/// Runs one seed on this thread. Panics when a check fails.
pub fn run(seed: u64) -> Report {
    block_on(simulate(seed))
}

async fn simulate(seed: u64) -> Report {
    let sim = Sim::new(World::new(seed));
    let store = SimStore::of(&sim);
    let archive = store.as_ref().and_then(|store| Archive::start(&sim, store));
    sim.with(World::begin);
    let driver = tokio::spawn(drive(sim.clone()));
    let (has_pages, faulty_ms) = sim.with(|world| (world.options.pages.is_some(), world.options.faulty_ms));
    let plane = store.as_ref().filter(|_| has_pages).map(|store| Plane::start(&sim, store));
    sim.sleep(faulty_ms).await;
    let dead = sim.with(World::heal);
    if let Some(store) = &store {
        store.away_until(0);
    }
    if let Some(plane) = &plane {
        plane.heal();
    }
    let before = sim.with(|world| world.progress());
    let deadline = sim.now() + RECOVERY_MS;
    loop {
        sim.sleep(LOOK_EVERY_MS).await;
        let Some(wrong) = sim.with(|world| world.unhealed(&before)) else { break };
        assert!(sim.now() < deadline, "no recovery in {RECOVERY_MS} ms; dead {dead:?}: {wrong}");
    }
    let of_pages = match &plane {
        Some(plane) => plane.finish(RECOVERY_MS).await,
        None => PlaneReport::default(),
    };
    if let Some(archive) = &archive {
        archive.finish(RECOVERY_MS).await;
    }
    driver.abort();
    sim.with(|world| world.finish(&of_pages))
}
