//! What needs no whole seed. Those are in `tests/seeds.rs`.

use crate::latency::{Slow, with_a_slow_disk};

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
