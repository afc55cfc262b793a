//! `alluvium ctl branch`: making, listing and deleting branches.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use pageserver::client::PageClient;
use pageserver::cluster::branches::{BranchPoint, Branches, NewBranch};
use pageserver::cluster::directory::Directory;
use storage::Lsn;

use crate::cluster::{connect_log, find_pages};
use crate::size;

/// Settings of `alluvium ctl branch`.
#[derive(Args)]
pub struct BranchArguments {
    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    log: Vec<String>,

    #[command(subcommand)]
    command: BranchCommand,
}

#[derive(Subcommand)]
enum BranchCommand {
    /// Makes a branch of another one, of any size, in a moment: nothing is copied. Open it with `alluvium compute --branch`.
    Create {
        /// Its name.
        name: String,
        /// The branch it comes from, by name or number.
        #[arg(long, default_value = "main")]
        parent: String,
        /// Leave the parent at this LSN, such as 0/16B3748. Without --at and --time: at the end of what is durable.
        #[arg(long, conflicts_with = "time")]
        at: Option<Lsn>,
        /// Leave the parent at this time, such as 2026-11-20T14:00:00Z: to within half a second, never after it.
        #[arg(long)]
        time: Option<jiff::Timestamp>,
    },
    /// Shows all branches.
    List,
    /// Says how much of a branch's history is kept: as long as either of the two asks for.
    Retention {
        /// Its name or number.
        name: String,
        /// Distance in the log, such as 10GiB. Without both: what the page servers were told when they were started.
        #[arg(long, value_parser = size::parse, requires = "time")]
        bytes: Option<u64>,
        /// Time, such as 7d, 12h or 30min.
        #[arg(long, value_parser = size::parse_duration, requires = "bytes")]
        time: Option<Duration>,
    },
    /// Keeps history from an LSN on readable for a time, whatever the retention says. Again under the same name: changes that.
    Lease {
        /// Name of the lease, which its holder has for itself.
        name: String,
        /// Oldest LSN that is to stay readable, such as 0/16B3748.
        lsn: Lsn,
        /// The branch, by name or number.
        #[arg(long, default_value = "main")]
        branch: String,
        /// How long, such as 1h; a day at most.
        #[arg(long = "for", default_value = "1h", value_parser = size::parse_duration)]
        time: Duration,
    },
    /// Gives a lease up.
    Release {
        /// Name of the lease.
        name: String,
        /// The branch, by name or number.
        #[arg(long, default_value = "main")]
        branch: String,
    },
    /// Deletes a branch that no other comes from. It cannot be brought back.
    Delete {
        /// Its name or number.
        name: String,
    },
}

/// How long a new branch may take to be served before it is said that it is not yet.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Does one thing and ends.
pub async fn run(arguments: BranchArguments) -> Result<(), String> {
    let log = connect_log(&arguments.log)?;
    let directory = Directory::new(log.clone());
    let pages = Arc::new(find_pages(log.clone()));
    let branches = Branches::new(directory.clone(), log, pages.clone());
    let microseconds = |time: jiff::Timestamp| u64::try_from(time.as_microsecond()).unwrap_or(0);
    let now_us = microseconds(jiff::Timestamp::now());
    match arguments.command {
        BranchCommand::Create { name, parent, at, time } => {
            let point = match (at, time) {
                (Some(lsn), _) => BranchPoint::At(lsn),
                (None, Some(time)) => BranchPoint::Time(microseconds(time)),
                (None, None) => BranchPoint::Now,
            };
            let wanted = NewBranch { name: &name, parent: &parent, point, now_us };
            let record = branches.create(&wanted).await.map_err(told)?;
            let (parent_branch, branch_lsn) = record.parent.ok_or("the branch has no parent")?;
            println!("branch {name} is number {}, from {parent} ({parent_branch}) at {branch_lsn}", record.branch);
            let served = async {
                while pages.status(record.branch).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            if tokio::time::timeout(SERVED_WITHIN, served).await.is_err() {
                println!("no page server serves all of it yet");
            }
        }
        BranchCommand::List => {
            let snapshot = directory.load().await.map_err(told)?;
            println!("{:>6}  {:<24} {:<24} {:<18} made", "number", "name", "parent", "at");
            for record in snapshot.branches.values() {
                let name_of = |branch| snapshot.branches.get(&branch).map_or("?", |record| record.name.as_str());
                let (parent, at) =
                    record.parent.map_or(("", String::new()), |(parent, lsn)| (name_of(parent), lsn.to_string()));
                let made = i64::try_from(record.created_us).ok().filter(|made| *made > 0);
                let made = made.and_then(|made| jiff::Timestamp::from_microsecond(made).ok());
                let made = made.map_or_else(String::new, |made| made.to_string());
                let state = if record.deleting { " (being deleted)" } else { "" };
                println!("{:>6}  {:<24} {parent:<24} {at:<18} {made}{state}", record.branch, record.name);
            }
        }
        BranchCommand::Retention { name, bytes, time } => {
            let retention = bytes.zip(time).map(|(bytes, time)| size::retention(bytes, time));
            branches.retain(&name, retention).await.map_err(told)?;
            println!("the retention of branch {name} is set");
        }
        BranchCommand::Lease { name, lsn, branch, time } => {
            let until_us = now_us.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            branches.lease(&name, &branch, lsn, until_us, now_us).await.map_err(told)?;
            println!("branch {branch} stays readable from {lsn} on for {} s", time.as_secs());
        }
        BranchCommand::Release { name, branch } => {
            branches.release(&name, &branch).await.map_err(told)?;
            println!("lease {name} is given up");
        }
        BranchCommand::Delete { name } => {
            branches.delete(&name).await.map_err(told)?;
            println!("branch {name} is deleted");
        }
    }
    Ok(())
}
