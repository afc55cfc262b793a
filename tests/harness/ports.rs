//! Ports for programs that must be told theirs, because others have to know it or it must stay over a restart.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those from which the system takes ports for outgoing connections: what was free a moment ago stays so.
const PORTS: Range<u16> = 20_000..32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Listens on a port that [`free_port`] gave. A process that another thread is just starting may still have the socket with which
/// the port was tried: until its program runs, for a moment.
pub async fn listen(port: u16) -> tokio::net::TcpListener {
    for _ in 0..40 {
        match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("port {port}: {error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("port {port} is taken");
}

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
