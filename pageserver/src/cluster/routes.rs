//! [`RoutedPages`]: page servers found through the directory, each asked for what it serves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::RwLock;
use storage::layout::ShardLayout;
use storage::{BranchId, Lsn, ShardId};
use tokio::time::Instant;

use super::directory::Directory;
use crate::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use crate::host::scatter;
use crate::scrub::ScrubReport;

/// A request without an answer for so long is looked at again: its shard may be served elsewhere by now.
const PATIENCE: Duration = Duration::from_secs(1);
/// The directory is read at most this often.
const REFRESH_DISTANCE: Duration = Duration::from_millis(50);
/// Trials of a batch before its failure is told. The caller waits and asks again.
const TRIALS: usize = 3;

/// Makes a client of the page server at an address.
pub type Connect = dyn Fn(&str) -> Arc<dyn PageClient> + Send + Sync;

#[derive(Clone, Debug)]
struct Route {
    layout: ShardLayout,
    /// By shard; empty: nobody's.
    addresses: Vec<String>,
}

impl Route {
    fn address(&self, shard: ShardId) -> &str {
        usize::try_from(shard.0).ok().and_then(|shard| self.addresses.get(shard)).map_or("", String::as_str)
    }
}

/// Page servers of any number of branches.
pub struct RoutedPages {
    directory: Directory,
    connect: Box<Connect>,
    routes: RwLock<HashMap<BranchId, Arc<Route>>>,
    /// Clients by address; those no longer named go with the next refresh.
    clients: RwLock<HashMap<String, Arc<dyn PageClient>>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
}

fn unavailable(reason: impl std::fmt::Display) -> PageError {
    PageError::Unavailable { reason: reason.to_string() }
}

fn wants_elsewhere(answer: &Result<PageImage, PageError>) -> bool {
    matches!(answer, Err(PageError::NotServed { .. } | PageError::Unavailable { .. }))
}

impl RoutedPages {
    /// `connect` should give lazy clients: it is called for whatever the directory names.
    pub fn new(
        directory: Directory,
        connect: impl Fn(&str) -> Arc<dyn PageClient> + Send + Sync + 'static,
    ) -> RoutedPages {
        RoutedPages {
            directory,
            connect: Box::new(connect),
            routes: RwLock::default(),
            clients: RwLock::default(),
            refreshed: tokio::sync::Mutex::default(),
        }
    }

    /// Reads the directory, unless somebody else just did.
    async fn refresh(&self) -> Result<(), PageError> {
        let asked = Instant::now();
        let mut refreshed = self.refreshed.lock().await;
        if let Some(last) = *refreshed {
            if last >= asked {
                return Ok(());
            }
            tokio::time::sleep_until(last + REFRESH_DISTANCE).await;
        }
        let snapshot = self.directory.load().await.map_err(unavailable)?;
        let address = |id: &str| snapshot.servers.get(id).map_or_else(String::new, |server| server.address.clone());
        let route = |record: &super::record::BranchRecord| Route {
            layout: record.layout,
            addresses: record.shards().map(|(_, placement)| address(&placement.owner)).collect(),
        };
        let routes: HashMap<_, _> =
            snapshot.branches.iter().map(|(branch, record)| (*branch, Arc::new(route(record)))).collect();
        self.clients.write().retain(|address, _| routes.values().any(|route| route.addresses.contains(address)));
        *self.routes.write() = routes;
        *refreshed = Some(Instant::now());
        Ok(())
    }

    async fn route(&self, branch: BranchId) -> Result<Arc<Route>, PageError> {
        let known = |routes: &HashMap<BranchId, Arc<Route>>| routes.get(&branch).cloned();
        if let Some(route) = known(&self.routes.read()) {
            return Ok(route);
        }
        self.refresh().await?;
        known(&self.routes.read()).ok_or_else(|| unavailable(format!("no page server knows branch {branch}")))
    }

    fn client(&self, address: &str) -> Arc<dyn PageClient> {
        if let Some(client) = self.clients.read().get(address) {
            return client.clone();
        }
        self.clients.write().entry(address.to_owned()).or_insert_with(|| (self.connect)(address)).clone()
    }

    /// Asks each shard for its pages, as they are distributed now: a split may have changed that.
    async fn ask_all(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        let layout = match self.route(branch).await {
            Ok(route) => route.layout,
            Err(error) => return vec![Err(error); requests.len()],
        };
        scatter(requests, |request| layout.shard_of(request.page), |shard, part| self.ask(branch, shard, part)).await
    }

    /// Asks one server for pages of one shard; gives up once the shard is another server's.
    async fn ask(&self, branch: BranchId, shard: ShardId, part: Vec<GetPage>) -> Vec<Result<PageImage, PageError>> {
        let failed = |error: PageError| vec![Err(error); part.len()];
        let route = match self.route(branch).await {
            Ok(route) => route,
            Err(error) => return failed(error),
        };
        let address = route.address(shard);
        if address.is_empty() {
            return failed(PageError::NotServed { branch, shard });
        }
        let client = self.client(address);
        let answers = client.get_pages(branch, &part);
        tokio::pin!(answers);
        loop {
            match tokio::time::timeout(PATIENCE, &mut answers).await {
                Ok(answers) => return answers,
                Err(_) => {
                    // Without the directory there is nothing better than to wait on.
                    let _ = self.refresh().await;
                    if self.route(branch).await.is_ok_and(|route| route.address(shard) != address) {
                        return failed(PageError::NotServed { branch, shard });
                    }
                }
            }
        }
    }
}

#[async_trait]
impl PageClient for RoutedPages {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        let mut answers = self.ask_all(branch, requests).await;
        for _ in 1..TRIALS {
            let again: Vec<_> = (0..answers.len()).filter(|&number| wants_elsewhere(&answers[number])).collect();
            if again.is_empty() {
                break;
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the directory of page servers cannot be read");
                break;
            }
            let part: Vec<_> = again.iter().map(|&number| requests[number]).collect();
            for (number, answer) in again.into_iter().zip(self.ask_all(branch, &part).await) {
                answers[number] = answer;
            }
        }
        // Whoever asks need not know of shards: it is to wait, and ask again.
        let told = |answer| match answer {
            Err(error @ PageError::NotServed { .. }) => Err(unavailable(error)),
            answer => answer,
        };
        answers.into_iter().map(told).collect()
    }

    async fn scrub(&self, branch: BranchId, shard: ShardId, pace: u64) -> Result<ScrubReport, PageError> {
        self.refresh().await?;
        let route = self.route(branch).await?;
        let address = route.address(shard);
        if address.is_empty() {
            return Err(PageError::NotServed { branch, shard });
        }
        self.client(address).scrub(branch, shard, pace).await
    }

    async fn lsn_at(&self, branch: BranchId, time_us: u64) -> Result<Option<Lsn>, PageError> {
        self.refresh().await?;
        let route = self.route(branch).await?;
        let mut addresses: Vec<_> = route.addresses.iter().filter(|address| !address.is_empty()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        // Each has seen all commits of the log as far as it has read it: the latest answer is of the one that knows most. That may
        // be the one that does not answer: without it the time would be looked up among too few commits.
        let asked = addresses.into_iter().map(|address| {
            let client = self.client(address);
            async move { client.lsn_at(branch, time_us).await }
        });
        let answers = join_all(asked).await;
        let best = answers.into_iter().reduce(|best, answer| Ok(best?.max(answer?)));
        best.unwrap_or_else(|| Err(unavailable(format!("nobody serves branch {branch}"))))
    }

    async fn status(&self, branch: BranchId) -> Result<PageServerStatus, PageError> {
        self.refresh().await?;
        let route = self.route(branch).await?;
        let mut addresses: Vec<_> = route.addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        let mut status: Option<PageServerStatus> = None;
        for address in addresses {
            if address.is_empty() {
                return Err(unavailable(format!("branch {branch} has shards that nobody serves")));
            }
            let one = self.client(&address).status(branch).await?;
            status = Some(status.map_or(one, |all| all.beside(one)));
        }
        status.ok_or_else(|| unavailable(format!("branch {branch} has no shards")))
    }
}
