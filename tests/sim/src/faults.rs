//! What goes wrong, and how it ends.

use std::collections::BTreeSet;

use crate::options::Options;
use crate::random::Random;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends; what it wrote stays.
    Crash,
    /// The machine stops: what was not synced is kept in part.
    PowerCut,
    /// The machine stops at one of its next operations on the disk.
    CrashPoint,
    /// Some links stop, in one direction or both.
    Partition,
    /// Syncs take long for a while.
    SlowDisk,
    /// New segments find no room for a while.
    FullDisk,
    /// The next sync fails.
    FailedSync,
    /// The process does nothing for a while, and then goes on.
    Pause,
    /// A node loses its disk.
    Wipe,
    /// An operator adds or removes a node.
    Membership,
}

/// The faults of this run.
pub fn enabled(options: &Options) -> Vec<Fault> {
    let all = [
        (options.crashes, Fault::Crash),
        (options.power_cuts, Fault::PowerCut),
        (options.crash_points, Fault::CrashPoint),
        (options.partitions, Fault::Partition),
        (options.slow_disks, Fault::SlowDisk),
        (options.full_disks, Fault::FullDisk),
        (options.failed_syncs, Fault::FailedSync),
        (options.pauses, Fault::Pause),
        (options.wipes, Fault::Wipe),
        (options.membership, Fault::Membership),
    ];
    all.into_iter().filter(|(enabled, _)| *enabled).map(|(_, fault)| fault).collect()
}

/// Links that carry nothing, from one machine to another.
#[derive(Default)]
pub struct Links {
    cut: BTreeSet<(u64, u64)>,
}

impl Links {
    pub fn carry(&self, from: u64, to: u64) -> bool {
        !self.cut.contains(&(from, to))
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Cuts some machines off from the others: wholly, or in one direction only.
    pub fn partition(&mut self, machines: &[u64], random: &mut Random) {
        self.heal();
        let side: BTreeSet<u64> = machines.iter().copied().filter(|_| random.percent(40)).collect();
        let direction = random.below(3);
        for &from in machines {
            for &to in machines {
                let leaves = side.contains(&from) && !side.contains(&to);
                let enters = !side.contains(&from) && side.contains(&to);
                if (leaves && direction != 1) || (enters && direction != 2) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// Cuts `machine` off.
    pub fn isolate(&mut self, machine: u64, machines: &[u64]) {
        for &other in machines {
            self.cut.insert((machine, other));
            self.cut.insert((other, machine));
        }
    }
}
