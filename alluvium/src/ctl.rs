//! `alluvium ctl`: questions and orders to a running system.

use clap::{Args, Subcommand};
use logstore::archive::{ARCHIVE_KEY, ArchiveId, RANGE_PREFIX, archived_ranges, give_up};
use logstore::client::{LogClient, MetadataClient};
use logstore::grpc::{Operator, RemoteLog};

use crate::ctl_branch::BranchArguments;
use crate::ctl_compactors::CompactorsArguments;
use crate::ctl_pages::ShardArguments;
use crate::log_options::{ClusterOptions, check_address};

/// Settings of `alluvium ctl`.
#[derive(Args)]
pub struct CtlArguments {
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Subcommand)]
enum CtlCommand {
    /// The log service.
    Log(LogArguments),
    /// Branches: the database as it was at some point, going its own way from there.
    Branch(BranchArguments),
    /// Shards and the page servers that serve them.
    Shard(ShardArguments),
    /// Shows the compactors that page servers have heard of, and what there is to rewrite.
    Compactors(CompactorsArguments),
}

#[derive(Args)]
struct LogArguments {
    /// Where some of the log nodes listen: host:port,host:port.
    #[arg(long, env = "ALLUVIUM_LOG_NODES", value_delimiter = ',', value_parser = check_address)]
    nodes: Vec<String>,

    #[command(flatten)]
    cluster: ClusterOptions,

    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand)]
enum LogCommand {
    /// Shows the nodes, who leads, and how far each has got.
    Status,
    /// Makes a node a member. Start it with the members' addresses: it catches up first and votes then.
    Add {
        /// Number of the new node.
        node_id: u64,
        /// Where it listens, host:port.
        #[arg(value_parser = check_address)]
        address: String,
    },
    /// Shows what of each branch is in the archive, or gives the archive up.
    Archive {
        /// The log is trimmed without the archive from now on. Start all nodes without --archive first, or they begin a
        /// new one. The objects stay.
        #[arg(long)]
        give_up: bool,
    },
    /// Removes a node. It loses its vote first; stop its process afterwards.
    Remove {
        /// Number of the node.
        node_id: u64,
    },
}

/// Does one thing and ends.
pub fn run(arguments: CtlArguments) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    match arguments.command {
        CtlCommand::Log(arguments) => runtime.block_on(log(arguments)),
        CtlCommand::Branch(arguments) => runtime.block_on(crate::ctl_branch::run(arguments)),
        CtlCommand::Shard(arguments) => runtime.block_on(crate::ctl_pages::run(arguments)),
        CtlCommand::Compactors(arguments) => runtime.block_on(crate::ctl_compactors::run(arguments)),
    }
}

async fn log(arguments: LogArguments) -> Result<(), String> {
    let LogArguments { nodes, cluster, command } = arguments;
    if nodes.is_empty() {
        return Err("--nodes names no log node".to_owned());
    }
    let token = cluster.token(&nodes)?;
    let addresses = nodes.clone();
    let operator = Operator::new(cluster.cluster_id, token, nodes);
    match command {
        LogCommand::Status => {
            let status = operator.status().await.map_err(|error| error.to_string())?;
            println!("term {}  committed {}  last {}", status.term, status.committed_index, status.last_index);
            println!("{:>5}  {:<24} {:<8} {:>9}  {:<7} incarnation", "node", "address", "role", "lag", "state");
            for node in status.nodes {
                let state = if node.is_active { "active" } else { "silent" };
                println!(
                    "{:>5}  {:<24} {:<8} {:>9}  {state:<7} {:x}",
                    node.node_id, node.address, node.role, node.lag_entries, node.incarnation
                );
            }
        }
        LogCommand::Add { node_id, address } => {
            operator.add(node_id, &address).await.map_err(|error| error.to_string())?;
            println!("log node {node_id} is a member; it votes once it runs and has caught up");
        }
        LogCommand::Archive { give_up } => archive(RemoteLog::new(addresses).map_err(text)?, give_up).await?,
        LogCommand::Remove { node_id } => {
            operator.remove(node_id).await.map_err(|error| error.to_string())?;
            println!("log node {node_id} is no longer a member");
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn archive(log: RemoteLog, gives_up: bool) -> Result<(), String> {
    let Some(noted) = log.get(ARCHIVE_KEY).await.map_err(text)? else {
        // An earlier attempt may have ended half way.
        if gives_up {
            give_up(&log, &log).await.map_err(text)?;
        }
        println!("the log is not archived");
        return Ok(());
    };
    let id = ArchiveId::decode(noted.bytes).map_err(text)?;
    if gives_up {
        give_up(&log, &log).await.map_err(text)?;
        println!("archive {id} is given up: the log is trimmed without it");
        return Ok(());
    }
    println!("archive {id}");
    println!("{:>8}  {:>17}  {:>17}  {:>17}", "branch", "begin", "end", "durable");
    for found in archived_ranges(&log.list(RANGE_PREFIX).await.map_err(text)?) {
        let (branch, range, _) = found.map_err(text)?;
        let durable = log.status(branch).await.map_err(text)?.durable_lsn;
        let [begin, end, durable] = [range.begin, range.end, durable].map(|lsn| lsn.to_string());
        println!("{:>8}  {begin:>17}  {end:>17}  {durable:>17}", branch.to_string());
    }
    Ok(())
}
