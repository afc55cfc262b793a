//! `alluvium pageserver`: replays a branch's log into layers on the object store, and answers for its pages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use pageserver::grpc::PageService;
use pageserver::{PageServer, PageServerConfig};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::cluster::connect_log;
use crate::directory::DataDirectory;
use crate::status::Tiers;
use crate::store::StoreArguments;
use crate::{admin, shell, size};

/// Settings of `alluvium pageserver`.
#[derive(Args)]
pub struct PageServerArguments {
    /// Address for computes.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_LISTEN", default_value = "127.0.0.1:6500")]
    listen: SocketAddr,

    /// Address for /metrics and /healthz. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_ADMIN_LISTEN", default_value = "127.0.0.1:8433")]
    admin_listen: SocketAddr,

    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    log: Vec<String>,

    #[command(flatten)]
    store: StoreArguments,

    /// Where layers are cached. May be deleted at any time.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_DATA_DIR", default_value = "alluvium-pageserver")]
    data_dir: PathBuf,

    /// Limit of that cache.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_CACHE", default_value = "4GiB", value_parser = size::parse)]
    cache: u64,

    /// Memory for buffers and caches, such as 512MiB or 4GiB.
    #[arg(long, env = "ALLUVIUM_PAGESERVER_MEMORY", default_value = "512MiB", value_parser = size::parse)]
    memory: u64,
}

/// Less than this leaves no room for buffers of a useful size.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: PageServerArguments) -> Result<(), String> {
    shell::check_memory(arguments.memory, LEAST_MEMORY_BYTES)?;
    shell::run(64, serve(arguments))
}

async fn serve(arguments: PageServerArguments) -> Result<(), String> {
    let metrics = control::metrics::install()?;
    let listener = shell::bind(arguments.listen, "--listen").await?;
    let admin_listener = shell::bind(arguments.admin_listen, "--admin-listen").await?;
    let (address, admin_address) = (shell::local_address(&listener)?, shell::local_address(&admin_listener)?);
    let log = connect_log(&arguments.log)?;
    let store = arguments.store.open().await?;
    let directory = DataDirectory::open(&arguments.data_dir)?;
    let config = PageServerConfig {
        cache_dir: Some(directory.sub("layers")?),
        cache_disk_bytes: arguments.cache,
        // The rest is for what is on its way: requests, answers, uploads and rewrites.
        ..PageServerConfig::new(shell::MAIN_BRANCH, arguments.memory / 4 * 3)
    };
    let pages = PageServer::start(config, store, log.clone())
        .await
        .map_err(|error| format!("cannot start the page server: {error}"))?;
    let pages = Arc::new(pages);

    let service = Server::builder().add_service(PageService::new(pages.client()));
    let mut serving = tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
    let tiers = Tiers { compute: None, log: Some(log), pages: Some(pages.client()), own_pages: Some(pages.clone()) };
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
    }
    pages.shutdown().await;
    // Computes keep their streams open as long as they live: these are cut off.
    serving.abort();
    tracing::info!("stopped");
    Ok(())
}
