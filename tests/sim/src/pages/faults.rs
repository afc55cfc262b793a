//! What happens to page servers and the object store.

use std::sync::Arc;

use super::Plane;
use super::process::Process;

/// One fault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process ends.
    Crash,
    /// The process ends just before or after one of its next durable steps.
    CrashPoint,
    /// The process does nothing for a while, long enough for others to think it dead, and then goes on.
    Pause,
    /// The server stops in good order, and starts again.
    Restart,
    /// A server more.
    Join,
    /// A compute ends.
    ComputeCrash,
    /// A compute ends just before or after it takes an epoch or appends.
    ComputeCrashPoint,
    /// A compute does nothing for a while, so that another takes over, and goes on.
    ComputePause,
    /// A wall clock jumps by up to an hour, forth or back.
    ClockJump,
    /// The object store answers nobody for a while.
    Outage,
}

const MOST_SERVERS: usize = 4;
const HOUR_US: u64 = 3_600_000_000;

/// Injects faults until the end.
pub async fn inject(plane: Arc<Plane>) {
    let sim = plane.sim.clone();
    let (every_ms, faults) = sim.with(|world| {
        let pages = world.options.pages.as_ref().expect("there are page servers");
        let all = [
            (pages.crashes, Fault::Crash),
            (pages.crash_points, Fault::CrashPoint),
            (pages.crash_points, Fault::CrashPoint),
            (pages.pauses, Fault::Pause),
            (pages.restarts, Fault::Restart),
            (pages.restarts, Fault::Join),
            (world.options.store.as_ref().is_some_and(|store| store.outages), Fault::Outage),
            (pages.clock_jumps(), Fault::ClockJump),
            (pages.computes && pages.crashes, Fault::ComputeCrash),
            (pages.computes && pages.crash_points, Fault::ComputeCrashPoint),
            (pages.computes && pages.pauses, Fault::ComputePause),
        ];
        let faults: Vec<_> = all.into_iter().filter(|(enabled, _)| *enabled).map(|(_, fault)| fault).collect();
        (world.options.fault_every_ms, faults)
    });
    while !plane.is_healed() {
        let pause = sim.random(|random| every_ms / 2 + random.below(2 * every_ms));
        sim.sleep(pause).await;
        let Some(fault) = sim.random(|random| random.one_of(&faults)) else { return };
        if plane.is_healed() {
            return;
        }
        let running: Vec<u64> = plane.servers.lock().keys().copied().collect();
        let computes: Vec<u64> = plane.computes.lock().keys().copied().collect();
        let of_compute = matches!(fault, Fault::ComputeCrash | Fault::ComputeCrashPoint | Fault::ComputePause);
        let all = [&running[..], &computes[..]].concat();
        let candidates = match fault {
            Fault::ClockJump => &all,
            _ if of_compute => &computes,
            _ => &running,
        };
        let Some(id) = sim.random(|random| random.one_of(candidates)) else { continue };
        sim.note("server fault", &[fault as u64, id]);
        sim.count(&format!("Server{fault:?}"));
        let (points, pause_ms, away_ms) =
            sim.random(|random| (random.between(1, 40), random.between(100, 6_000), random.between(500, 8_000)));
        let on_process = |act: &dyn Fn(&super::servers::Server)| plane.servers.lock().get(&id).map(act);
        let on_compute = |act: &dyn Fn(&Process)| plane.computes.lock().get(&id).cloned().map(|process| act(&process));
        match fault {
            Fault::ComputeCrash => drop(on_compute(&|process| process.end())),
            Fault::ComputeCrashPoint => drop(on_compute(&|process| process.crash_in(points))),
            Fault::ComputePause => drop(on_compute(&|process| process.pause_until(sim.now() + pause_ms))),
            Fault::Crash => drop(on_process(&|server| server.process.end())),
            Fault::CrashPoint => drop(on_process(&|server| server.process.crash_in(points))),
            Fault::Pause => drop(on_process(&|server| server.process.pause_until(sim.now() + pause_ms))),
            Fault::Restart => {
                on_process(&|server| {
                    server.stop.send_replace(true);
                });
            }
            Fault::Join if running.len() < MOST_SERVERS => plane.add_server(),
            Fault::Join => {}
            Fault::ClockJump => {
                let ahead_us = sim.random(|random| if random.percent(30) { 0 } else { random.below(HOUR_US) });
                plane.clocks.lock().insert(id, ahead_us);
            }
            Fault::Outage => plane.store.away_until(sim.now() + away_ms),
        }
    }
}
