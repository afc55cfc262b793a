//! What every subcommand needs of its surroundings: a runtime, a clock, randomness, sockets and signals.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use storage::BranchId;
use storage::object::RetryPolicy;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tonic::transport::server::TcpIncoming;

/// The branch that a new database begins with.
pub const MAIN_BRANCH: BranchId = BranchId(1);

/// A connection between tiers that does not come about in this time counts as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An idle connection between tiers is probed this often: the death of a machine shows in no other way.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Runs a subcommand to its end. `blocking_threads` beyond the workers may block at a time.
pub fn run<F: Future<Output = Result<(), String>>>(blocking_threads: usize, work: F) -> Result<(), String> {
    run_with(std::thread::available_parallelism().map_or(1, usize::from), blocking_threads, work)
}

/// The same with so many workers: a tier whose work is done by threads of its own needs few, and each that sleeps costs a
/// wake-up.
pub fn run_with<F: Future<Output = Result<(), String>>>(
    workers: usize,
    blocking_threads: usize,
    work: F,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .max_blocking_threads(blocking_threads)
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Refuses a `--memory` below `least_bytes`.
pub fn check_memory(memory_bytes: u64, least_bytes: u64) -> Result<(), String> {
    if memory_bytes < least_bytes {
        return Err(format!("--memory must be at least {} MiB", least_bytes >> 20));
    }
    Ok(())
}

/// How calls to the object store are repeated: six trials, about six seconds in all; half of each pause is random, so that
/// clients do not retry in step.
pub fn retry_policy() -> RetryPolicy {
    RetryPolicy::new(6, |retry| {
        let longest_ms = 100u64 << retry.min(6);
        #[expect(clippy::disallowed_methods, reason = "the shell is where randomness comes from")]
        let pause_ms = longest_ms / 2 + rand::random_range(0..=longest_ms / 2);
        Box::pin(tokio::time::sleep(Duration::from_millis(pause_ms)))
    })
}

/// Microseconds since 2000-01-01 UTC, as Postgres counts.
pub fn clock() -> i64 {
    /// 2000-01-01 after 1970-01-01.
    const POSTGRES_EPOCH_S: i64 = 946_684_800;
    #[expect(clippy::disallowed_methods, reason = "the shell is where the clock comes from")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_micros() as i64 - POSTGRES_EPOCH_S * 1_000_000
}

/// Listens, or says which option to change.
pub async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is taken by another server; stop it or choose another address with {option}")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// The connections that come to a listener, for a gRPC server, which takes settings of sockets for those it makes itself only.
/// Answers go out at once (TCP_NODELAY): else small ones wait until the other side has acknowledged the one before.
pub fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// The address that a listener got, which differs from the one asked for when that had port 0.
pub fn local_address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("no local address: {error}"))
}

/// Another tier's address (`host:port`), to be connected to when first used and again after each failure.
pub fn endpoint(address: &str, option: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{option}: {address:?} is not an address such as localhost:6400: {error}"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// Waits for Ctrl-C or SIGTERM, and tells which it was.
pub async fn signal() -> Result<&'static str, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("cannot listen for SIGTERM: {error}"))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok("interrupt"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}
