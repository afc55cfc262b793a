//! `alluvium pageserver --role compactor`: does rewrites for the page servers, and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use pageserver::cluster::directory::Directory;
use pageserver::cluster::record::MAX_TEXT_BYTES;
use pageserver::compactors::{Discovery, Worker};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::{connect_jobs, connect_log};
use crate::pageserver::PageServerArguments;
use crate::status::Tiers;
use crate::{admin, shell};

/// What one rewrite takes at most, with what is on its way to the object store.
const JOB_MEMORY_BYTES: u64 = 64 << 20;
/// After a signal, what jobs need to notice that they are to end, and to delete what they have begun.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Runs until Ctrl-C or SIGTERM.
pub async fn serve(arguments: PageServerArguments) -> Result<(), String> {
    let metrics = control::metrics::install()?;
    let admin_listener = shell::bind(arguments.admin_listen, "--admin-listen").await?;
    let admin_address = shell::local_address(&admin_listener)?;
    let log = connect_log(&arguments.log)?;
    let store = arguments.store.open().await?;
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let jobs = (arguments.memory / JOB_MEMORY_BYTES).clamp(1, processors);
    #[expect(clippy::disallowed_methods, reason = "names this process among its like")]
    let name = arguments.id.unwrap_or_else(|| format!("compactor-{:08x}", rand::random::<u32>()));
    if name.is_empty() || name.len() > MAX_TEXT_BYTES {
        return Err(format!("--id has 1 to {MAX_TEXT_BYTES} bytes"));
    }
    let servers = Discovery::new(Directory::new(log.clone()), connect_jobs);
    let looking = tokio::spawn(servers.clone().keep_looking());
    let (worker, (stop, stopped)) = (Arc::new(Worker::new(name.clone(), store)), watch::channel(false));
    let mut running = JoinSet::new();
    for slot in 0..jobs {
        let slot = usize::try_from(slot).expect("no more than processors");
        running.spawn(worker.clone().run(slot, servers.clone(), stopped.clone()));
    }
    let tiers = Tiers { branch: shell::MAIN_BRANCH, compute: None, log: Some(log), pages: None, page_problems: None };
    admin::serve(admin_listener, metrics, tiers);
    println!();
    println!("  Alluvium compactor {} is ready.", env!("CARGO_PKG_VERSION"));
    println!();
    println!("    name   {name}");
    println!("    jobs   {jobs}");
    println!("    watch  http://{admin_address}/");
    println!();

    tokio::select! {
        signal = shell::signal() => tracing::info!("{}: stopping", signal?),
        ended = running.join_next() => return Err(format!("a worker has ended: {ended:?}")),
    }
    stop.send_replace(true);
    // Whatever is left undone, the page servers do themselves.
    let _ = tokio::time::timeout(END_WITHIN, async { while running.join_next().await.is_some() {} }).await;
    looking.abort();
    tracing::info!("stopped");
    Ok(())
}
