//! `alluvium dev`: the log service, a page server and a compute in one process, for real: the same crates
//! as in a cluster, joined in process, with a local directory for an object store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use compute::wire::{Authentication, WireConfig};
use compute::{Compute, ComputeConfig};
use logstore::{LogStore, LogStoreConfig};
use pageserver::{PageServer, PageServerConfig};
use sql::session::Server;
use sql::store::Store;
use storage::BranchId;
use storage::object::{ObjectStore, RetryPolicy};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::directory::DataDirectory;
use crate::{admin, size};

/// Settings of `alluvium dev`.
#[derive(Args)]
pub struct DevArguments {
    /// Where everything is kept: log, object store, caches.
    #[arg(long, env = "ALLUVIUM_DATA_DIR", default_value = "alluvium-data")]
    data_dir: PathBuf,

    /// Address for Postgres clients. Clients on loopback need no password; others need SCRAM-SHA-256.
    #[arg(long, env = "ALLUVIUM_LISTEN", default_value = "127.0.0.1:5432")]
    listen: SocketAddr,

    /// Address for /metrics and /healthz. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_ADMIN_LISTEN", default_value = "127.0.0.1:8432")]
    admin_listen: SocketAddr,

    /// Memory for caches and buffers of all tiers together, such as 512MiB or 4GiB.
    #[arg(long, env = "ALLUVIUM_MEMORY", default_value = "1GiB", value_parser = size::parse)]
    memory: u64,

    /// Connections at once.
    #[arg(long, env = "ALLUVIUM_MAX_CONNECTIONS", default_value_t = 500)]
    max_connections: usize,

    /// Keep the whole log instead of trimming what the page server has made durable.
    #[arg(long)]
    retain_log: bool,

    /// Ask every client for a password, also on loopback.
    #[arg(long)]
    require_password: bool,
}

/// The one branch of `alluvium dev`.
const BRANCH: BranchId = BranchId(1);

/// Less than this leaves no room for the pages that one transaction touches.
const LEAST_MEMORY_BYTES: u64 = 128 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: DevArguments) -> Result<(), String> {
    if arguments.memory < LEAST_MEMORY_BYTES {
        return Err(format!("--memory must be at least {} MiB", LEAST_MEMORY_BYTES >> 20));
    }
    if arguments.max_connections < 10 {
        return Err("--max-connections must be at least 10".to_owned());
    }
    // Sessions, and statements that block, share the workers; statements that block hand theirs on.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(arguments.max_connections + 64)
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let result = runtime.block_on(serve(arguments));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn serve(arguments: DevArguments) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "how long the start took, for the log")]
    let started = Instant::now();
    let step = |what: &str| tracing::info!("{what} ({:.0} ms)", started.elapsed().as_secs_f64() * 1e3);
    let metrics = admin::install_metrics()?;
    let listener = bind(arguments.listen, "--listen").await?;
    let admin_listener = bind(arguments.admin_listen, "--admin-listen").await?;
    let local = |listener: &TcpListener| listener.local_addr().map_err(|error| format!("no local address: {error}"));
    let (address, admin_address) = (local(&listener)?, local(&admin_listener)?);
    let directory = DataDirectory::open(&arguments.data_dir)?;
    step("data directory locked");

    let log_config = LogStoreConfig { retain_all: arguments.retain_log, ..LogStoreConfig::new(directory.sub("log")?) };
    let log = tokio::task::block_in_place(|| LogStore::open(log_config))
        .map_err(|error| format!("cannot open the log: {error}"))?;
    step("log service open");

    let objects = directory.sub("objects")?;
    let objects = ObjectStore::open(&format!("file://{}", objects.display()), retry_policy())
        .map_err(|error| format!("cannot open the object store: {error}"))?;
    let page_config = PageServerConfig {
        cache_dir: Some(directory.sub("pageserver")?),
        ..PageServerConfig::new(BRANCH, arguments.memory / 4)
    };
    let pages = PageServer::start(page_config, objects, log.client())
        .await
        .map_err(|error| format!("cannot start the page server: {error}"))?;
    step("page server attached");

    let compute_memory = usize::try_from(arguments.memory / 2).map_err(|_| "--memory is too large".to_owned())?;
    let compute = Compute::start(ComputeConfig::new(BRANCH, compute_memory), log.client(), pages.client())
        .await
        .map_err(|error| format!("cannot start the compute: {error}"))?;
    let store: Arc<dyn Store> = compute.clone();
    let temporary = directory.sub("tmp")?;
    let server = tokio::task::block_in_place(|| Server::open(store.clone(), temporary, Arc::new(clock)))
        .map_err(|error| format!("cannot open the catalog: {error}"))?;
    step("compute open for writes");

    let (stop, stopped) = watch::channel(false);
    let authentication =
        if arguments.require_password { Authentication::ScramSha256 } else { Authentication::TrustLoopback };
    let wire = WireConfig { max_connections: arguments.max_connections, authentication, ..WireConfig::default() };
    let serving = tokio::spawn(compute::wire::serve(listener, Arc::new(server), wire, stopped));
    tokio::spawn(admin::serve(admin_listener, metrics, store));
    banner(&arguments.data_dir, address, admin_address);

    tokio::select! {
        signal = signal() => tracing::info!("{}: stopping", signal?),
        // After a disk failure the log acknowledges nothing more: end, and let a start find what is durable.
        reason = log.stopped() => return Err(format!("the log service has stopped: {reason}")),
    }
    // Nobody receives any more only when serving has ended by itself.
    let _ = stop.send(true);
    serving.await.map_err(|error| format!("the front end ended abnormally: {error}"))?;
    let flushed = compute.shutdown().await;
    pages.shutdown().await;
    tokio::task::block_in_place(|| log.shutdown());
    flushed.map_err(|error| format!("the last commits may not be durable: {error}"))?;
    tracing::info!("stopped");
    Ok(())
}

/// Six trials, about six seconds in all; half of each pause is random, so that clients do not retry in step.
fn retry_policy() -> RetryPolicy {
    RetryPolicy::new(6, |retry| {
        let longest_ms = 100u64 << retry.min(6);
        #[expect(clippy::disallowed_methods, reason = "the shell is where randomness comes from")]
        let pause_ms = longest_ms / 2 + rand::random_range(0..=longest_ms / 2);
        Box::pin(tokio::time::sleep(Duration::from_millis(pause_ms)))
    })
}

/// Microseconds since 2000-01-01 UTC, as Postgres counts.
fn clock() -> i64 {
    /// 2000-01-01 after 1970-01-01.
    const POSTGRES_EPOCH_S: i64 = 946_684_800;
    #[expect(clippy::disallowed_methods, reason = "the shell is where the clock comes from")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_micros() as i64 - POSTGRES_EPOCH_S * 1_000_000
}

async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is taken by another server; stop it or choose another address with {option}")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn banner(data_dir: &Path, address: SocketAddr, admin: SocketAddr) {
    println!();
    println!("  Alluvium {} is ready.", env!("CARGO_PKG_VERSION"));
    println!();
    println!("    psql   postgresql://postgres@{address}/postgres");
    println!("    data   {}", data_dir.display());
    println!("    health http://{admin}/healthz");
    println!("    watch  http://{admin}/metrics");
    println!();
    println!("  Ctrl-C stops it.");
    println!();
}

async fn signal() -> Result<&'static str, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("cannot listen for SIGTERM: {error}"))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok("interrupt"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}
