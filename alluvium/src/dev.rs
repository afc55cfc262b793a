//! `alluvium dev`: the log service, a page server and a compute in one process, for real: the same crates
//! as in a cluster, joined in process, with a local directory for an object store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use compute::{Compute, ComputeConfig};
use logstore::archive::give_up;
use logstore::{LogStore, LogStoreConfig};
use pageserver::{PageServer, PageServerConfig};
use sql::store::Store;
use storage::object::ObjectStore;

use crate::archive::ArchiveArguments;
use crate::directory::DataDirectory;
use crate::front::{Front, FrontArguments};
use crate::governor::GovernorArguments;
use crate::status::Tiers;
use crate::{admin, archive, shell, size};

/// Settings of `alluvium dev`.
#[derive(Args)]
pub struct DevArguments {
    /// Where everything is kept: log, object store, caches.
    #[arg(long, env = "ALLUVIUM_DATA_DIR", default_value = "alluvium-data")]
    data_dir: PathBuf,

    #[command(flatten)]
    front: FrontArguments,

    #[command(flatten)]
    governor: GovernorArguments,

    /// Address of the admin API: status, health, metrics. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_ADMIN_LISTEN", default_value = "127.0.0.1:8432")]
    admin_listen: SocketAddr,

    /// Memory for caches and buffers of all tiers together, such as 512MiB or 4GiB.
    #[arg(long, env = "ALLUVIUM_MEMORY", default_value = "1GiB", value_parser = size::parse)]
    memory: u64,

    /// Keep the whole log instead of trimming what the page server has made durable.
    #[arg(long)]
    retain_log: bool,

    #[command(flatten)]
    archive: ArchiveArguments,
}

/// Less than this leaves no room for the pages that one transaction touches.
const LEAST_MEMORY_BYTES: u64 = 128 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: DevArguments) -> Result<(), String> {
    shell::check_memory(arguments.memory, LEAST_MEMORY_BYTES)?;
    arguments.front.check()?;
    // Sessions, and statements that block, share the workers; statements that block hand theirs on.
    shell::run(arguments.front.blocking_threads(), serve(arguments))
}

async fn serve(arguments: DevArguments) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "how long the start took, for the log")]
    let started = Instant::now();
    let step = |what: &str| tracing::info!("{what} ({:.0} ms)", started.elapsed().as_secs_f64() * 1e3);
    let metrics = control::metrics::install()?;
    let listener = shell::bind(arguments.front.listen, "--listen").await?;
    let admin_listener = shell::bind(arguments.admin_listen, "--admin-listen").await?;
    let (address, admin_address) = (shell::local_address(&listener)?, shell::local_address(&admin_listener)?);
    let archive = arguments.archive.archive()?;
    let directory = DataDirectory::open(&arguments.data_dir)?;
    step("data directory locked");

    // A sixteenth of the memory, as far as that makes sense: half for what consumers may ask for again, half for appends
    // under way.
    let log_memory = usize::try_from(arguments.memory / 16).map_err(|_| "--memory is too large".to_owned())?;
    let log_config = LogStoreConfig {
        retain_all: arguments.retain_log,
        recent_bytes: (log_memory / 2).clamp(1 << 20, 32 << 20),
        queue_bytes: (log_memory / 2).clamp(16 << 20, 64 << 20),
        ..LogStoreConfig::new(directory.sub("log")?)
    };
    let log = tokio::task::block_in_place(|| LogStore::open(log_config))
        .map_err(|error| format!("cannot open the log: {error}"))?;
    archive::read_from(&log, archive.as_ref());
    if archive.is_none() {
        // Nobody else could say so, and without it nothing would be trimmed any more.
        give_up(&*log.client(), &*log.metadata())
            .await
            .map_err(|error| format!("cannot give the log's archive up: {error}"))?;
    }
    step("log service open");

    let objects = directory.sub("objects")?;
    let objects = ObjectStore::open(&format!("file://{}", objects.display()), shell::retry_policy())
        .map_err(|error| format!("cannot open the object store: {error}"))?;
    let page_config = PageServerConfig {
        cache_dir: Some(directory.sub("pageserver")?),
        ..PageServerConfig::new(shell::MAIN_BRANCH, arguments.memory / 4)
    };
    let pages = PageServer::start(page_config, objects, log.client())
        .await
        .map_err(|error| format!("cannot start the page server: {error}"))?;
    let pages = Arc::new(pages);
    step("page server attached");

    let compute_memory = usize::try_from(arguments.memory / 16 * 7).map_err(|_| "--memory is too large".to_owned())?;
    let temporary = directory.sub("tmp")?;
    let compute_config = ComputeConfig {
        spill_directory: Some(temporary.clone()),
        spill_limit_bytes: arguments.front.spill_limit,
        governor: arguments.governor.config(),
        ..ComputeConfig::new(shell::MAIN_BRANCH, compute_memory)
    };
    let compute = Compute::start(compute_config, log.client(), pages.client())
        .await
        .map_err(|error| format!("cannot start the compute: {error}"))?;
    let store: Arc<dyn Store> = compute.clone();
    // The quarter that neither the compute nor the page server nor the log has.
    let hash_memory = arguments.memory / 4;
    let front = Front::start(&arguments.front, listener, store, temporary, hash_memory)?;
    step("compute open for writes");
    let own = pages.clone();
    let tiers = Tiers {
        branch: shell::MAIN_BRANCH,
        compute: Some(compute.clone()),
        log: Some(log.client()),
        pages: Some(pages.client()),
        page_problems: Some(Box::new(move || own.problems())),
    };
    admin::serve(admin_listener, metrics, tiers);
    banner(&arguments.data_dir, address, admin_address);

    tokio::select! {
        signal = shell::signal() => tracing::info!("{}: stopping", signal?),
        // After a disk failure the log acknowledges nothing more: end, and let a start find what is durable.
        reason = archive::run(&log, archive) => return Err(reason),
        reason = log.stopped() => return Err(format!("the log service has stopped: {reason}")),
    }
    front.stop().await?;
    let flushed = compute.shutdown().await;
    pages.shutdown().await;
    tokio::task::block_in_place(|| log.shutdown());
    flushed.map_err(|error| format!("the last commits may not be durable: {error}"))?;
    tracing::info!("stopped");
    Ok(())
}

fn banner(data_dir: &Path, address: SocketAddr, admin: SocketAddr) {
    println!();
    println!("  Alluvium {} is ready.", env!("CARGO_PKG_VERSION"));
    println!();
    println!("    psql   postgresql://postgres@{address}/postgres");
    println!("    data   {}", data_dir.display());
    println!("    watch  http://{admin}/");
    println!();
    println!("  Ctrl-C stops it.");
    println!();
}
