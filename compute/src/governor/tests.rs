//! The control law on a clock of its own, and the paying of debts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sql::error::SqlState;
use sql::store::{Interrupt, InterruptReason};

use super::control::Component;
use super::{Governor, LONGEST_COMMIT_DELAY, charge};
use crate::blocking::interruptible;

const MIB: u64 = 1 << 20;

#[test]
fn nothing_is_delayed_below_a_quarter_of_the_limit_and_more_the_further_behind() {
    let delay_at = |lag_mib: u64| {
        let mut component = Component::new(400 * MIB, false);
        component.observe(Duration::ZERO, 0, lag_mib * MIB);
        component.delay_ps_per_byte()
    };
    assert_eq!((delay_at(0), delay_at(100)), (0, 0));
    let delays: Vec<_> = (101..400).step_by(7).map(delay_at).collect();
    assert!(delays.is_sorted() && delays[0] >= 1_000, "{delays:?}");
    assert_eq!(delay_at(400), 15_000_000);
    assert!(delay_at(700) > delay_at(400));
    assert_eq!(delay_at(100_000), 60_000_000, "it never stands still");
    let mut unlimited = Component::new(0, false);
    unlimited.observe(Duration::ZERO, 0, u64::MAX);
    assert_eq!(unlimited.delay_ps_per_byte(), 0);
}

#[test]
fn what_a_slow_component_may_lag_is_a_time() {
    let limit_of = |rate_mib: u64, readers_wait: bool| {
        let mut component = Component::new(400 * MIB, readers_wait);
        for step in 0..60 {
            let at = Duration::from_millis(100 * step);
            let position = rate_mib * MIB * step / 10;
            component.observe(at, position, position + 80 * MIB);
        }
        component.limit_bytes() / MIB
    };
    assert_eq!(limit_of(100, true), 400);
    assert!((195..=205).contains(&limit_of(20, true)), "{}", limit_of(20, true));
    assert_eq!(limit_of(1, true), 50);
    assert_eq!(limit_of(1, false), 400);
}

/// Writers that wait for each of their appends, and a component that takes `drain` bytes a second: the lag stays
/// below the limit, and the rate settles at what the component takes.
fn settles(writers: u64, append_bytes: u64, drain_mib: u64) {
    let mut component = Component::new(256 * MIB, true);
    let (mut head, mut position) = (0f64, 0f64);
    let (mut worst, mut taken_late) = (0f64, 0f64);
    let tick = Duration::from_millis(100);
    const TICKS: u32 = 1200;
    for step in 0..TICKS {
        component.observe(tick * step, position as u64, head as u64);
        let delay_s = component.delay_ps_per_byte() as f64 / 1e12;
        // An append takes a millisecond besides, and no log takes more than 400 MiB a second.
        let append_s =
            (1e-3 + append_bytes as f64 * delay_s).max(append_bytes as f64 * writers as f64 / (400 << 20) as f64);
        head += writers as f64 * append_bytes as f64 / append_s * 0.1;
        let before = position;
        position = (position + (drain_mib * MIB) as f64 * 0.1).min(head);
        worst = worst.max(head - position);
        if step >= TICKS / 2 {
            taken_late += position - before;
        }
    }
    let rate_mib = taken_late / 60.0 / MIB as f64;
    let what =
        format!("{writers} writers of {append_bytes} bytes, {drain_mib} MiB/s: worst lag {worst}, {rate_mib} MiB/s");
    assert!(worst < 300.0 * MIB as f64, "{what}");
    assert!(rate_mib > 0.95 * drain_mib as f64, "{what}");
}

#[test]
fn the_rate_settles_at_what_the_slowest_takes() {
    for writers in [1, 4, 64] {
        for append_bytes in [64 << 10, MIB] {
            for drain_mib in [2, 20] {
                settles(writers, append_bytes, drain_mib);
            }
        }
    }
}

fn governor(delay_ps_per_byte: u64) -> Governor {
    let governor = Governor::default();
    governor.decide(delay_ps_per_byte, Vec::new());
    governor
}

fn delayed_us(governor: &Governor) -> u64 {
    governor.delayed_us.load(Ordering::Relaxed)
}

#[test]
fn debts_are_paid_once_and_small_ones_together() {
    let governor = governor(1_000_000);
    let begun = Instant::now();
    // As long as was asked for: how long a busy machine makes of it says nothing.
    let paid_ms = |bytes: u64, times: usize| {
        let before_us = delayed_us(&governor);
        for _ in 0..times {
            charge(bytes);
            governor.pay().expect("nobody interrupts");
        }
        (delayed_us(&governor) - before_us) / 1000
    };
    assert_eq!(paid_ms(100_000, 1), 100);
    assert_eq!(paid_ms(0, 10), 0);
    assert_eq!(paid_ms(100, 1000), 100, "small ones together");
    assert!(begun.elapsed() >= Duration::from_millis(195), "{:?}", begun.elapsed());
    governor.decide(0, Vec::new());
    assert_eq!(paid_ms(1 << 40, 1), 0, "nothing limits");
}

#[test]
fn a_cancel_ends_a_load_with_an_error_and_a_commit_without() {
    let governor = governor(60_000_000);
    let interrupt = std::sync::Arc::new(Interrupt::default());
    let _scope = interruptible(&interrupt);
    let waker = interrupt.clone();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        waker.raise(InterruptReason::UserCancel);
    });
    charge(1 << 30);
    // Without the cancel it would be most of a day.
    let error = governor.pay().expect_err("it was cancelled");
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    canceller.join().expect("it raised");
    let before_us = delayed_us(&governor);
    charge(1 << 30);
    governor.pay_commit();
    assert_eq!(delayed_us(&governor), before_us, "a raised interrupt ends the wait");
    interrupt.clear();
    charge(1 << 30);
    governor.pay_commit();
    assert_eq!(delayed_us(&governor) - before_us, LONGEST_COMMIT_DELAY.as_micros() as u64);
}
