//! Seeds of the gate.

use crate::latency::{Slow, with_a_slow_disk};
use crate::run;

#[test]
fn a_seed_repeats_itself_event_by_event() {
    for seed in [1, 2, 3, 4] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).trace, run(2).trace);
}

/// `ALLUVIUM_SIM_SEEDS` sets how many.
#[test]
fn seeds_hold() {
    let seeds = std::env::var("ALLUVIUM_SIM_SEEDS").map_or(100, |text| text.parse().expect("a number of seeds"));
    let mut acknowledged = 0;
    for seed in 1..=seeds {
        acknowledged += run(seed).acknowledged;
    }
    assert!(acknowledged > 100 * seeds, "{acknowledged} acknowledged appends make no test");
}

/// FAULTS 7. Whosever the slow disk is: a majority without it is there.
#[test]
fn one_slow_disk_of_three_does_not_slow_commits() {
    for slow in [Slow::Leader, Slow::Follower] {
        for factor in [10, 100, 1000] {
            let [healthy, degraded] = with_a_slow_disk(slow, factor);
            println!("{slow:?}, {factor} times slower: p50 and p99 {degraded:?} ms, healthy {healthy:?} ms");
            assert!(degraded.1 <= 2 * healthy.1, "{slow:?} × {factor}: {degraded:?} ms, healthy {healthy:?} ms");
        }
    }
}
