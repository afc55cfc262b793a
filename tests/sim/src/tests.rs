//! Seeds of the gate.

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
