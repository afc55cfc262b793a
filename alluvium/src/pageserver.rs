//! `alluvium pageserver`: replays a branch's log into layers on the object store, and answers for its pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pageserver::cluster::agent::{Agent, Identity};
use pageserver::cluster::descendants::RegisteredDescendants;
use pageserver::cluster::directory::Directory;
use pageserver::cluster::record::MAX_TEXT_BYTES;
use pageserver::compaction::CompactionSettings;
use pageserver::compactors::Offers;
use pageserver::grpc::{JobService, PageService};
use pageserver::{PageHost, PageServerConfig};
use storage::layout::{MAX_SHARDS, STRIPE_PAGES, ShardLayout};
use tokio::sync::watch;
use tonic::transport::Server;
use uuid::Uuid;

use crate::cluster::connect_log;
use crate::directory::DataDirectory;
use crate::log_options::check_address;
use crate::status::Tiers;
use crate::store::StoreArguments;
use crate::{admin, compactor, shell, size};

/// Settings of `alluvium pageserver`.
#[derive(Args)]
pub struct PageServerArguments {
    /// What this process does. A compactor takes rewrites of layers off the page servers that have the same --log and --store; of
    /// the other options it uses --id, --admin-listen and --memory, 64 MiB for each job at a time.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_ROLE", value_enum, default_value = "pages")]
    role: Role,

    /// Address for computes.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_LISTEN", default_value = "127.0.0.1:6500")]
    listen: SocketAddr,

    /// Address that computes are told, host:port. Without this, the one it listens on.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_ADVERTISE", value_parser = check_address)]
    advertise: Option<String>,

    /// Name of this server among the page servers; it may be started again under it. Without this, its address.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_ID")]
    pub id: Option<String>,

    /// Into how many shards a new database is cut: they are spread over all page servers. `alluvium ctl shard split` makes
    /// them twice as many.
    #[arg(long, env = "ALLUVIUM_SHARDS", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    shards: u32,

    /// Address for /metrics and /healthz. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_ADMIN_LISTEN", default_value = "127.0.0.1:8433")]
    pub admin_listen: SocketAddr,

    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    pub log: Vec<String>,

    #[command(flatten)]
    pub store: StoreArguments,

    /// Where layers are cached. May be deleted at any time.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_DATA_DIR", default_value = "alluvium-pageserver")]
    data_dir: PathBuf,

    /// Limit of that cache.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_CACHE", default_value = "4GiB", value_parser = size::parse)]
    cache: u64,

    /// Distance in the log over which old states of the database stay readable, and branches can be made of them.
    #[arg(long, env = "ALLUVIUM_RETENTION", default_value = "1GiB", value_parser = size::parse)]
    retention: u64,

    /// Time over which old states stay readable, such as 7d, 12h or 30min: as long as this or --retention asks for.
    #[arg(long, env = "ALLUVIUM_RETENTION_TIME", default_value = "7d", value_parser = size::parse_duration)]
    retention_time: Duration,

    /// Memory for buffers and caches, such as 512MiB or 4GiB.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_MEMORY", default_value = "512MiB", value_parser = size::parse)]
    pub memory: u64,
}

/// What a process of `alluvium pageserver` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Serves pages.
    Pages,
    /// Rewrites layers for those who do.
    Compactor,
}

/// Less than this leaves no room for buffers of a useful size.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: PageServerArguments) -> Result<(), String> {
    shell::check_memory(arguments.memory, LEAST_MEMORY_BYTES)?;
    match arguments.role {
        Role::Pages => shell::run(64, serve(arguments)),
        Role::Compactor => shell::run(64, compactor::serve(arguments)),
    }
}

async fn serve(arguments: PageServerArguments) -> Result<(), String> {
    let metrics = control::metrics::install()?;
    let listener = shell::bind(arguments.listen, "--listen").await?;
    let admin_listener = shell::bind(arguments.admin_listen, "--admin-listen").await?;
    let (address, admin_address) = (shell::local_address(&listener)?, shell::local_address(&admin_listener)?);
    let log = connect_log(&arguments.log)?;
    let store = arguments.store.open().await?;
    let directory = DataDirectory::open(&arguments.data_dir)?;
    let directory_of_servers = Directory::new(log.clone());
    let descendants = RegisteredDescendants::new(directory_of_servers.clone(), store.clone());
    let defaults = PageServerConfig::new(shell::MAIN_BRANCH, arguments.memory / 4 * 3);
    let retention = size::retention(arguments.retention, arguments.retention_time);
    let offers = Arc::new(Offers::default());
    let config = PageServerConfig {
        offers: Some(offers.clone()),
        descendants: Some(Arc::new(descendants)),
        compaction: CompactionSettings { retention, ..defaults.compaction },
        cache_dir: Some(directory.sub("layers")?),
        cache_disk_bytes: arguments.cache,
        spill_disk_bytes: arguments.cache / 2,
        // The rest is for what is on its way: requests, answers, uploads and rewrites.
        ..defaults
    };
    let layout = ShardLayout::new(arguments.shards, STRIPE_PAGES).expect("the option's limits are the layout's");
    let address = arguments.advertise.unwrap_or_else(|| address.to_string());
    #[expect(clippy::disallowed_methods, reason = "names this process among those that had its name before")]
    let incarnation = Uuid::new_v4();
    let identity =
        Identity { id: arguments.id.unwrap_or_else(|| address.clone()), address: address.clone(), incarnation };
    if identity.id.is_empty() || identity.id.len() > MAX_TEXT_BYTES || address.len() > MAX_TEXT_BYTES {
        return Err(format!("--id and --advertise have 1 to {MAX_TEXT_BYTES} bytes"));
    }
    let pages = Arc::new(PageHost::new(config, store, log.clone()));
    let agent = Agent::new(identity, directory_of_servers, pages.clone());

    let service = Server::builder().add_service(PageService::new(pages.clone())).add_service(JobService::new(offers));
    let mut serving = tokio::spawn(service.serve_with_incoming(shell::incoming(listener)));
    let (stop, stopped) = watch::channel(false);
    let mut taking_part = tokio::spawn(agent.run(layout, stopped));
    let own = pages.clone();
    let tiers = Tiers {
        branch: shell::MAIN_BRANCH,
        compute: None,
        log: Some(log),
        pages: Some(pages.clone()),
        page_problems: Some(Box::new(move || own.problems())),
    };
    admin::serve(admin_listener, metrics, tiers);
    println!();
    println!("  Alluvium page server {} is ready.", env!("CARGO_PKG_VERSION"));
    println!();
    println!("    pages  {address}");
    println!("    watch  http://{admin_address}/");
    println!();

    tokio::select! {
        signal = shell::signal() => tracing::info!("{}: stopping", signal?),
        ended = &mut serving => return Err(format!("the page service has ended: {ended:?}")),
        ended = &mut taking_part => return match ended {
            Ok(Err(error)) => Err(error.to_string()),
            ended => Err(format!("this server no longer takes part in the cluster: {ended:?}")),
        },
    }
    stop.send_replace(true);
    match taking_part.await {
        Ok(outcome) => outcome.map_err(|error| error.to_string())?,
        Err(error) => return Err(format!("signing off failed: {error}")),
    }
    // Computes keep their streams open as long as they live: these are cut off.
    serving.abort();
    tracing::info!("stopped");
    Ok(())
}
