//! `alluvium ctl shard`: which page server serves what, and moving shards between them.

use std::sync::Arc;

use clap::{Args, Subcommand};
use pageserver::client::PageClient;
use pageserver::cluster::branches::Branches;
use pageserver::cluster::directory::{Directory, DirectoryError, Snapshot};
use pageserver::cluster::record::BranchRecord;
use storage::ShardId;

use crate::cluster::{connect_log, find_pages};
use crate::size;

/// Settings of `alluvium ctl shard`.
#[derive(Args)]
pub struct ShardArguments {
    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    log: Vec<String>,

    #[command(subcommand)]
    command: ShardCommand,
}

#[derive(Subcommand)]
enum ShardCommand {
    /// Shows the page servers, and who serves which shard.
    List,
    /// Checks shards: every object by its checksums, every page by making it. Ends with an error if anything is damaged.
    Scrub {
        /// Branch, by name or number.
        #[arg(long, default_value = "main")]
        branch: String,
        /// Number of the shard. Without it: all shards, one after another.
        shard: Option<u64>,
        /// Bytes that are read from the object store in a second.
        #[arg(long, default_value = "64MiB", value_parser = size::parse)]
        pace: u64,
    },
    /// Cuts each shard of a branch in two, and those of the branches that come from it. Nothing is copied, and pages stay
    /// readable; the new shards spread over the page servers by themselves.
    Split {
        /// Branch, by name or number.
        #[arg(long, default_value = "main")]
        branch: String,
    },
    /// Moves a shard to another page server, which gets ready while the shard is served where it is.
    Move {
        /// Branch, by name or number.
        #[arg(long, default_value = "main")]
        branch: String,
        /// Number of the shard.
        shard: u64,
        /// Id of the page server.
        to: String,
    },
}

fn find<'a>(snapshot: &'a Snapshot, branch: &str) -> Result<&'a BranchRecord, String> {
    snapshot.branch(branch).ok_or_else(|| format!("there is no branch {branch:?}"))
}

/// Does one thing and ends.
pub async fn run(arguments: ShardArguments) -> Result<(), String> {
    let log = connect_log(&arguments.log)?;
    let directory = Directory::new(log.clone());
    let snapshot = directory.load().await.map_err(|error| error.to_string())?;
    match arguments.command {
        ShardCommand::List => list(&snapshot),
        ShardCommand::Split { branch } => {
            let pages = Arc::new(find_pages(log.clone()));
            let shards =
                Branches::new(directory, log, pages).split(&branch).await.map_err(|error| error.to_string())?;
            println!("branch {branch} has {shards} shards now");
        }
        ShardCommand::Scrub { branch, shard, pace } => {
            let record = find(&snapshot, &branch)?;
            let pages = find_pages(log);
            let mut damages = 0;
            for id in record.layout.ids().filter(|id| shard.is_none_or(|shard| id.0 == shard)) {
                let report = pages.scrub(record.branch, id, pace).await.map_err(|error| error.to_string())?;
                let (layers, mib) = (report.layers, report.bytes >> 20);
                println!(
                    "shard {id}: {layers} layers of {mib} MiB, {} pages, {} damages",
                    report.pages, report.damages
                );
                report.damaged.iter().for_each(|damage| println!("  {damage}"));
                damages += report.damages;
            }
            if damages > 0 {
                return Err(format!("{damages} damages in branch {}", record.name));
            }
        }
        ShardCommand::Move { branch, shard, to } => {
            let record = find(&snapshot, &branch)?;
            if !snapshot.servers.contains_key(&to) {
                return Err(format!("there is no page server {to:?}"));
            }
            order_move(&directory, record, ShardId(shard), &to).await.map_err(|error| error.to_string())?;
            println!("shard {shard} of branch {} is on its way to {to}", record.name);
        }
    }
    Ok(())
}

fn list(snapshot: &Snapshot) {
    for (id, server) in &snapshot.servers {
        println!("page server {id:<24} at {}", server.address);
    }
    for record in snapshot.branches.values() {
        for (shard, placement) in record.shards() {
            let owner = if placement.owner.is_empty() { "nobody" } else { &placement.owner };
            let moving = if placement.moving_to.is_empty() { "" } else { ", moving to " };
            println!("branch {} shard {shard}: {owner}{moving}{}", record.name, placement.moving_to);
        }
    }
}

async fn order_move(
    directory: &Directory,
    record: &BranchRecord,
    shard: ShardId,
    to: &str,
) -> Result<(), DirectoryError> {
    let refuse = |reason: String| Err(DirectoryError::Refused(reason));
    let change = |found: Option<BranchRecord>| {
        let Some(mut found) = found else { return refuse("the branch is no longer there".to_owned()) };
        match found.placement_mut(shard) {
            None => return refuse(format!("branch {} has no shard {shard}", record.name)),
            Some(placement) if !placement.moving_to.is_empty() => {
                return refuse(format!("shard {shard} is already moving to {}", placement.moving_to));
            }
            Some(placement) if placement.owner == to => return refuse(format!("shard {shard} is on {to}")),
            Some(placement) => to.clone_into(&mut placement.moving_to),
        }
        Ok(Some(found))
    };
    directory.change_branch(record.branch, &change).await
}
