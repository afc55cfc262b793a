//! `alluvium compute`: the primary of a branch, with the log service and page servers elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use compute::{Compute, ComputeConfig};
use pageserver::client::PageClient;
use sql::store::Store;

use crate::cluster::{connect_page_server, connect_writer, find_branch, find_pages};
use crate::directory::DataDirectory;
use crate::front::{Front, FrontArguments};
use crate::governor::GovernorArguments;
use crate::status::Tiers;
use crate::{admin, shell, size};

/// Settings of `alluvium compute`.
#[derive(Args)]
pub struct ComputeArguments {
    #[command(flatten)]
    front: FrontArguments,

    #[command(flatten)]
    governor: GovernorArguments,

    /// The branch to write, by name or number.
    #[arg(long, env = "ALLUVIUM_BRANCH", default_value = "main")]
    branch: String,

    /// Address for /metrics and /healthz. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_ADMIN_LISTEN", default_value = "127.0.0.1:8432")]
    admin_listen: SocketAddr,

    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    log: Vec<String>,

    /// The log node on this machine, as the nodes name each other: it is to lead, so that commits take a short way. Without
    /// this, the one of --log that has an address of this machine.
    #[arg(long, env = "ALLUVIUM_LOG_NEAR")]
    log_near: Option<String>,

    /// The one page server that serves all shards: host:port. Without this, page servers are found by themselves.
    #[arg(long, env = "ALLUVIUM_PAGES")]
    pages: Option<String>,

    /// Where sorts and large transactions go that do not fit into memory. Emptied at start; holds nothing that lasts.
    #[arg(long, env = "ALLUVIUM_TEMP_DIR", default_value = "alluvium-tmp")]
    temp_dir: PathBuf,

    /// Memory for caches, such as 512MiB or 4GiB.
    #[arg(long, env = "ALLUVIUM_MEMORY", default_value = "1GiB", value_parser = size::parse)]
    memory: u64,
}

/// Less than this leaves no room for the pages that one transaction touches.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: ComputeArguments) -> Result<(), String> {
    shell::check_memory(arguments.memory, LEAST_MEMORY_BYTES)?;
    arguments.front.check()?;
    // Sessions, and statements that block, share the workers; statements that block hand theirs on.
    shell::run(arguments.front.blocking_threads(), serve(arguments))
}

async fn serve(arguments: ComputeArguments) -> Result<(), String> {
    let metrics = control::metrics::install()?;
    let listener = shell::bind(arguments.front.listen, "--listen").await?;
    let admin_listener = shell::bind(arguments.admin_listen, "--admin-listen").await?;
    let (address, admin_address) = (shell::local_address(&listener)?, shell::local_address(&admin_listener)?);
    let directory = DataDirectory::open(&arguments.temp_dir)?;
    let log = connect_writer(&arguments.log, arguments.log_near.as_deref())?;
    let pages: Arc<dyn PageClient> = match &arguments.pages {
        Some(address) => Arc::new(connect_page_server(address)?),
        None => Arc::new(find_pages(log.clone())),
    };
    let (branch, log) = find_branch(&arguments.branch, log).await?;
    // Some of it is headroom for sessions.
    let memory = usize::try_from(arguments.memory / 4 * 3).map_err(|_| "--memory is too large".to_owned())?;
    let temporary = directory.sub("spilled")?;
    let config = ComputeConfig {
        spill_directory: Some(temporary.clone()),
        spill_limit_bytes: arguments.front.spill_limit,
        governor: arguments.governor.config(),
        ..ComputeConfig::new(branch, memory)
    };
    let compute = Compute::start(config, log.clone(), pages.clone())
        .await
        .map_err(|error| format!("cannot start the compute: {error}"))?;
    let store: Arc<dyn Store> = compute.clone();
    let front = Front::start(&arguments.front, listener, store, temporary, arguments.memory / 4)?;
    let tiers =
        Tiers { branch, compute: Some(compute.clone()), log: Some(log), pages: Some(pages), page_problems: None };
    admin::serve(admin_listener, metrics, tiers);
    println!();
    println!("  Alluvium compute {} is ready.", env!("CARGO_PKG_VERSION"));
    println!();
    println!("    psql   postgresql://postgres@{address}/postgres");
    println!("    watch  http://{admin_address}/");
    println!();

    let failed = tokio::select! {
        signal = shell::signal() => {
            tracing::info!("{}: stopping", signal?);
            None
        }
        // Its sessions would read what another compute has long changed.
        failure = compute.failed() => Some(failure),
    };
    front.stop().await?;
    if let Some(failure) = failed {
        return Err(failure.message().to_owned());
    }
    compute.shutdown().await.map_err(|error| format!("the last commits may not be durable: {error}"))?;
    tracing::info!("stopped");
    Ok(())
}
