//! What a seed's run is like. Each seed has its own mixture (swarm testing): faults that hide each other are apart in
//! many runs.

use crate::random::Random;

/// Drawn at a run's begin. Times in milliseconds, chances in percent.
#[derive(Debug)]
pub struct Options {
    pub nodes: u64,
    /// How long there are faults.
    pub faulty_ms: u64,
    pub fault_every_ms: u64,
    pub loss: u64,
    pub duplicates: u64,
    pub delay_ms: (u64, u64),
    pub sync_ms: u64,
    pub crashes: bool,
    pub power_cuts: bool,
    pub crash_points: bool,
    pub partitions: bool,
    pub slow_disks: bool,
    pub full_disks: bool,
    pub failed_syncs: bool,
    pub pauses: bool,
    pub wipes: bool,
    pub membership: bool,
    pub trimming: bool,
    /// At the end only a majority is healed; else everything is, and all must come back in sync.
    pub heals_majority_only: bool,
}

impl Options {
    pub fn draw(random: &mut Random) -> Options {
        let nodes = if random.percent(75) { 3 } else { 5 };
        let lossy = random.percent(50);
        let shortest = random.below(3);
        let mut coin = |chance| random.percent(chance);
        let [crashes, power_cuts, crash_points, partitions, slow_disks] =
            [coin(50), coin(50), coin(40), coin(60), coin(30)];
        let [full_disks, failed_syncs, pauses] = [coin(20), coin(20), coin(30)];
        let [wipes, membership, trimming, heals_majority_only] = [coin(40), coin(40), coin(60), coin(50)];
        Options {
            nodes,
            faulty_ms: random.between(4_000, 12_000),
            fault_every_ms: random.between(150, 1_500),
            loss: if lossy { random.below(15) } else { 0 },
            duplicates: if lossy { random.below(10) } else { 0 },
            delay_ms: (shortest, shortest + random.between(1, 40)),
            sync_ms: random.below(5),
            crashes,
            power_cuts,
            crash_points,
            partitions,
            slow_disks,
            full_disks,
            failed_syncs,
            pauses,
            wipes,
            membership,
            trimming,
            heals_majority_only,
        }
    }
}
