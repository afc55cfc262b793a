//! `alluvium logstore`: one node of the log service.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use control::status::{ClusterStatus, StatusSource};
use logstore::cluster::{LogMember, MemberConfig};
use logstore::stream::Credentials;
use logstore::{LogStore, LogStoreConfig};
use pageserver::stream_filter::PageFiltering;
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::archive::ArchiveArguments;
use crate::directory::DataDirectory;
use crate::log_options::{ClusterOptions, parse_peers};
use crate::{admin, archive, shell, size};

/// Settings of `alluvium logstore`.
#[derive(Args)]
pub struct LogstoreArguments {
    /// Number of this node, 1 to 65535.
    #[arg(long, env = "ALLUVIUM_NODE_ID")]
    node_id: u64,

    #[command(flatten)]
    cluster: ClusterOptions,

    /// Where the nodes listen, this one included: 1=host:port,2=host:port,3=host:port. A cluster begins when all of them
    /// are there for the first time.
    #[arg(long, env = "ALLUVIUM_PEERS", value_parser = parse_peers)]
    peers: BTreeMap<u64, String>,

    /// Address to listen on, if it is not the one that the peers use.
    #[arg(long, env = "ALLUVIUM_LOG_LISTEN")]
    listen: Option<SocketAddr>,

    /// Where the log is kept.
    #[arg(long, env = "ALLUVIUM_DATA_DIR")]
    data_dir: PathBuf,

    /// Address for /metrics and /healthz. Keep it on loopback: it has no authentication.
    #[arg(long, env = "ALLUVIUM_ADMIN_LISTEN", default_value = "127.0.0.1:0")]
    admin_listen: SocketAddr,

    /// Size of a segment file. Counts for files that are begun from then on.
    #[arg(long, env = "ALLUVIUM_SEGMENT_SIZE", default_value = "64MiB", value_parser = size::parse)]
    segment_size: u64,

    /// The log's part of the disk: beyond it commits are refused with 53100 until the log can be trimmed.
    #[arg(long, env = "ALLUVIUM_LOG_BUDGET", default_value = "16GiB", value_parser = size::parse)]
    log_budget: u64,

    #[command(flatten)]
    archive: ArchiveArguments,
}

/// A quarter of a segment takes the longest append that computes make.
const LEAST_SEGMENT_BYTES: u64 = 32 << 20;

/// Runs until Ctrl-C or SIGTERM.
pub fn run(arguments: LogstoreArguments) -> Result<(), String> {
    // They only carry messages: the node has threads of its own.
    let workers = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
    shell::run_with(workers, 64, serve(arguments))
}

async fn serve(arguments: LogstoreArguments) -> Result<(), String> {
    let LogstoreArguments {
        node_id,
        cluster,
        peers,
        listen,
        data_dir,
        admin_listen,
        segment_size,
        log_budget,
        archive,
    } = arguments;
    let own = peers.get(&node_id).cloned().ok_or_else(|| format!("--peers does not name node {node_id}"))?;
    if segment_size < LEAST_SEGMENT_BYTES {
        return Err(format!("--segment-size must be at least {} MiB", LEAST_SEGMENT_BYTES >> 20));
    }
    let token = cluster.token(peers.values())?;
    let archive = archive.archive()?;
    let metrics = control::metrics::install()?;
    let listen = match listen {
        Some(listen) => listen,
        None => resolve(&own)?,
    };
    let listener = shell::bind(listen, "--listen").await?;
    let admin_listener = shell::bind(admin_listen, "--admin-listen").await?;
    let admin_address = shell::local_address(&admin_listener)?;
    let directory = DataDirectory::open(&data_dir)?;

    #[expect(clippy::disallowed_methods, reason = "the shell is where randomness comes from")]
    let (incarnation, election_seed) = (rand::random(), rand::random());
    let store = LogStoreConfig {
        node_id,
        peers: Vec::new(),
        incarnation,
        election_seed,
        segment_bytes: segment_size,
        budget_bytes: log_budget,
        checkpoint_every_bytes: (segment_size / 8).min(8 << 20),
        ..LogStoreConfig::new(directory.sub("log")?)
    };
    let credentials = Credentials { cluster: cluster.cluster_id, token, node_id };
    let config = MemberConfig { store, credentials, peers, filtering: Some(Arc::new(PageFiltering)) };
    let member = tokio::task::block_in_place(|| LogMember::start(config))
        .map_err(|error| format!("cannot open the log: {error}"))?;

    archive::read_from(member.store(), archive.as_ref());
    let serving = tokio::spawn(serve_grpc(member.incoming(listener), member.services()));
    admin::serve(admin_listener, metrics, LogNode { store: member.store().clone() });
    println!();
    println!("  Alluvium log node {node_id} is running.");
    println!();
    println!("    log    {listen}");
    println!("    watch  http://{admin_address}/");
    println!();

    let ended = tokio::select! {
        signal = shell::signal() => {
            tracing::info!("{}: stopping", signal?);
            Ok(())
        }
        reason = archive::run(member.store(), archive) => Err(reason),
        reason = member.ended() => Err(format!("the log node stops: {reason}")),
        served = serving => Err(match served {
            Ok(Ok(())) => "the log node has stopped serving".to_owned(),
            Ok(Err(error)) => format!("the log node cannot serve: {error}"),
            Err(error) => format!("serving ended abnormally: {error}"),
        }),
    };
    tokio::task::block_in_place(|| member.shutdown());
    ended
}

/// What this node says of itself: which branch's log it holds is the page server's and the compute's business.
struct LogNode {
    store: Arc<LogStore>,
}

#[async_trait]
impl StatusSource for LogNode {
    async fn status(&self) -> ClusterStatus {
        let reasons = match self.store.view().await {
            Ok(view) if view.leader.is_none() => vec!["no leader of the log cluster is known".to_owned()],
            Ok(_) => Vec::new(),
            Err(error) => vec![error.to_string()],
        };
        ClusterStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            healthy: reasons.is_empty(),
            reasons,
            compute: None,
            log: None,
            page_server: None,
        }
    }
}

async fn serve_grpc(
    incoming: ReceiverStream<std::io::Result<TcpStream>>,
    services: tonic::service::Routes,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .add_routes(services)
        .serve_with_incoming(incoming)
        .await
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address.to_socket_addrs().map_err(|error| format!("cannot resolve {address}: {error}"))?;
    found.next().ok_or_else(|| format!("{address} has no address; give one with --listen"))
}
