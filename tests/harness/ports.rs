//! Ports for programs that must be told theirs, because others have to know it or it must stay over a restart.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those from which the system takes ports for outgoing connections: what was free a moment ago stays so.
const PORTS: Range<u16> = 20_000..32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on and that no other caller in this process gets.
pub fn free_port() -> u16 {
    // Neighbouring processes begin far from each other.
    let begin = std::process::id().wrapping_mul(7919) % PORTS.len() as u32;
    for _ in PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (begin + u32::from(step)).rem_euclid(PORTS.len() as u32) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
