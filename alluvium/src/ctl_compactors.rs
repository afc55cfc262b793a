//! `alluvium ctl compactors`: who rewrites layers beside the page servers, and what there is to do.

use clap::Args;
use pageserver::cluster::directory::Directory;
use pageserver::compaction::JobKind;

use crate::cluster::{connect_jobs, connect_log};

/// Settings of `alluvium ctl compactors`.
#[derive(Args)]
pub struct CompactorsArguments {
    /// Nodes of the log service: host:port,host:port,host:port. Some are enough.
    #[arg(long, env = "ALLUVIUM_LOG_SERVICE", required = true, value_delimiter = ',')]
    log: Vec<String>,
}

/// Shows, of each page server, the compactors that it has heard of lately, and its jobs.
pub async fn run(arguments: CompactorsArguments) -> Result<(), String> {
    let snapshot = Directory::new(connect_log(&arguments.log)?).load().await.map_err(|error| error.to_string())?;
    for (id, server) in &snapshot.servers {
        let listed = match connect_jobs(&server.address) {
            Ok(jobs) => jobs.list().await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        let (workers, jobs) = match listed {
            Ok(seen) => seen,
            Err(error) => {
                println!("page server {id}: {error}");
                continue;
            }
        };
        println!("page server {id}: {} compactors, {} jobs", workers.len(), jobs.len());
        for worker in workers {
            println!("  compactor {} heard of {} ms ago", worker.name, worker.silent_ms);
        }
        for job in jobs {
            let kind = match job.kind {
                JobKind::Merge => "merge",
                JobKind::Image => "images",
            };
            let worker = if job.worker.is_empty() { "nobody yet" } else { &job.worker };
            let (lease, mib, seconds) = (job.lease, job.input_bytes >> 20, job.age_ms / 1000);
            println!("  {kind} of branch {} shard {}, {mib} MiB, for {seconds} s: {worker}", lease.branch, lease.shard);
        }
    }
    Ok(())
}
