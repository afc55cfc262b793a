//! Reaching the other tiers over the network.

use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use logstore::client::{LogClient, MetadataClient};
use logstore::grpc::RemoteLog;
use pageserver::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use pageserver::cluster::agent::{MAIN_BRANCH, MAIN_NAME};
use pageserver::cluster::branches::log_of;
use pageserver::cluster::directory::Directory;
use pageserver::cluster::routes::RoutedPages;
use pageserver::compactors::JobSource;
use pageserver::grpc::{GrpcJobs, GrpcPageClient};
use storage::BranchId;

use crate::shell;

/// A batch of pages that gets no answer for this long counts as unanswered. Longer than a page server waits for the log.
const PAGES_TIMEOUT: Duration = Duration::from_secs(35);

/// A client of the log service at `--log`: one node or several; it finds the leader by itself.
pub fn connect_log(addresses: &[String]) -> Result<Arc<RemoteLog>, String> {
    let log = RemoteLog::new(addresses.to_vec()).map_err(|error| format!("--log: {error}"))?;
    Ok(Arc::new(log))
}

/// The same for who writes: the log node on the writer's machine is to lead, if there is one.
pub fn connect_writer(addresses: &[String], near: Option<&str>) -> Result<Arc<RemoteLog>, String> {
    let near = match near {
        Some(near) => near.to_owned(),
        None => on_this_machine(addresses).unwrap_or_default(),
    };
    let log = RemoteLog::beside(addresses.to_vec(), near).map_err(|error| format!("--log: {error}"))?;
    Ok(Arc::new(log))
}

/// The one address of these at which this machine can listen.
fn on_this_machine(addresses: &[String]) -> Option<String> {
    let is_local = |address: &&String| {
        // A socket that sends nothing: only the address counts, not the port.
        let mut found = address.to_socket_addrs().ok()?;
        found.any(|address| UdpSocket::bind((address.ip(), 0)).is_ok()).then_some(())
    };
    let mut local = addresses.iter().filter(|address| is_local(address).is_some());
    let first = local.next()?;
    // Several are a machine for trials, where no way is shorter than another.
    local.next().is_none().then(|| first.clone())
}

/// A page server answers questions about jobs at once.
const JOBS_TIMEOUT: Duration = Duration::from_secs(3);

/// The jobs of one page server.
pub fn connect_jobs(address: &str) -> Result<Arc<dyn JobSource>, String> {
    Ok(Arc::new(GrpcJobs::new(shell::endpoint(address, "a page server")?.connect_lazy(), JOBS_TIMEOUT)))
}

/// A client of one page server.
pub fn connect_page_server(address: &str) -> Result<GrpcPageClient, String> {
    Ok(GrpcPageClient::new(shell::endpoint(address, "a page server")?.connect_lazy(), PAGES_TIMEOUT))
}

/// A client of all page servers that the directory in the log's metadata map names.
pub fn find_pages(metadata: Arc<dyn MetadataClient>) -> RoutedPages {
    RoutedPages::new(Directory::new(metadata), |address| match connect_page_server(address) {
        Ok(client) => Arc::new(client),
        Err(reason) => Arc::new(Unreachable(reason)),
    })
}

/// A branch's number, and the log in its LSNs.
pub async fn find_branch(name: &str, log: Arc<RemoteLog>) -> Result<(BranchId, Arc<dyn LogClient>), String> {
    let snapshot = match Directory::new(log.clone()).load().await {
        Ok(snapshot) => snapshot,
        Err(error) => return Err(format!("branches cannot be looked up: {error}")),
    };
    match snapshot.branch(name) {
        Some(record) => {
            let log = log_of(&snapshot, record.branch, log).map_err(|error| error.to_string())?;
            Ok((record.branch, log))
        }
        // A database without page servers, as yet.
        None if name == MAIN_NAME && snapshot.branches.is_empty() => Ok((MAIN_BRANCH, log)),
        None => Err(format!("there is no branch {name:?}; `alluvium ctl branch list` shows them")),
    }
}

/// A page server that gave an address which is none.
struct Unreachable(String);

impl Unreachable {
    fn error(&self) -> PageError {
        PageError::Unavailable { reason: self.0.clone() }
    }
}

#[async_trait]
impl PageClient for Unreachable {
    async fn get_pages(&self, _: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        vec![Err(self.error()); requests.len()]
    }

    async fn status(&self, _: BranchId) -> Result<PageServerStatus, PageError> {
        Err(self.error())
    }
}
