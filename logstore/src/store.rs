//! A log node with its thread: requests queue up while the disk is busy and are then written as one group.
//!
//! Nothing on the way of an append waits for a timer: the thread sleeps until a request arrives, writes everything that
//! has arrived by then, syncs once, and answers. The queue is bounded in bytes; a full one makes clients wait.
//!
//! The thread is a runtime of its own: it also reads and writes the connections on which appends and Raft's messages come
//! ([`crate::stream`]), so that none of them changes threads.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use metrics::histogram;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, Message};
use storage::object::ObjectStore;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::client::{LogClient, LogError, MetadataClient};
use crate::command::Command;
use crate::core::{CoreConfig, FetchRequest};
use crate::disk::Disk;
use crate::disk::local::LocalDisk;
use crate::identity::{MAX_NODE_ID, raft_id};
use crate::local::LocalClient;
use crate::members::{Member, Members};
use crate::node::{ClusterView, Node, NodeConfig, Read, Reply, SyncRequest};
use crate::published::Published;
use crate::segment::{MIN_SEGMENT_BYTES, SegmentSet, Spare, StoreError, read_entries};
use crate::stream::Connection;
use crate::subscription::to_log_error;
use crate::transport::{NoPeers, Transport};
use crate::writers::Writers;

/// Queue space is counted in units of this many bytes.
pub(crate) const PERMIT_BYTES: usize = 1024;
/// Messages of peers that wait to be taken; beyond it their senders wait.
const MESSAGE_QUEUE_BYTES: usize = 64 << 20;
/// Charged for a message beside its entries.
const MESSAGE_OVERHEAD_BYTES: usize = 1024;
/// A write that takes this long is slow, whatever the disk.
const SLOW_WRITE_MS: u64 = 200;
/// Followers learn what is committed with the next append, or after this if none comes.
const TELL_COMMIT_AFTER: Duration = Duration::from_millis(5);
/// Between two looks at where the writers are.
const WRITERS_PAUSE: Duration = Duration::from_secs(2);
/// Largest setting of the longest append.
const MAX_APPEND_BYTES: usize = 32 << 20;
/// Of writers and peers; those beyond are closed.
const MAX_CONNECTIONS: usize = 1024;
/// Requests for old entries that wait; Raft repeats what finds no room.
const MAX_FETCHES: usize = 64;

/// Settings of a log node. Begin with [`LogStoreConfig::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct LogStoreConfig {
    /// Directory of the segment files; made if it does not exist.
    pub data_dir: PathBuf,
    /// This node, 1 to 65535.
    pub node_id: u64,
    /// Members of the cluster when it is begun, this node included; none for a node that begins or joins a cluster
    /// together with others (see [`crate::cluster`]). Ignored once the log exists.
    pub peers: Vec<u64>,
    /// The incarnation that a node gets whose directory is empty: drawn at random by the caller. Zero where the members
    /// are named in `peers`.
    pub incarnation: u64,
    /// What election timeouts are drawn from: at random, and another for each node.
    pub election_seed: u64,
    /// Size of a segment file. At least 16 KiB.
    pub segment_bytes: u64,
    /// A checkpoint is written this often; a start reads about this much.
    pub checkpoint_every_bytes: u64,
    /// Longest append. At most a quarter of a segment, and 32 MiB: a record and a frame hold 64 MiB.
    pub max_append_bytes: usize,
    /// Requests that wait or are being written; beyond it clients wait.
    pub queue_bytes: usize,
    /// Recent log kept in memory for subscribers.
    pub recent_bytes: usize,
    /// Never trim, so that a test can read everything again.
    pub retain_all: bool,
    /// Trimming leaves at least this much.
    pub retention_bytes: u64,
    /// Appends are refused while the segments are larger than this: the log's part of the disk.
    pub budget_bytes: u64,
    /// Length of a Raft tick in milliseconds.
    pub tick_ms: u64,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
}

impl LogStoreConfig {
    /// A cluster of one in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        LogStoreConfig {
            data_dir: data_dir.into(),
            node_id: 1,
            peers: vec![1],
            incarnation: 0,
            election_seed: 1,
            segment_bytes: 64 << 20,
            checkpoint_every_bytes: 8 << 20,
            max_append_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            recent_bytes: 32 << 20,
            retain_all: false,
            retention_bytes: 0,
            budget_bytes: u64::MAX,
            tick_ms: 50,
            election_ticks: 20,
            heartbeat_ticks: 4,
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        let invalid = |reason: &str| Err(OpenError::Config { reason: reason.to_owned() });
        if self.node_id == 0 || self.node_id > MAX_NODE_ID {
            return invalid("node_id is 1 to 65535");
        }
        if !self.peers.is_empty() && (self.incarnation != 0 || !self.peers.contains(&self.node_id)) {
            return invalid("node_id is one of the peers, which have no incarnation");
        }
        if self.segment_bytes < MIN_SEGMENT_BYTES || !self.segment_bytes.is_multiple_of(4096) {
            return invalid("segment_bytes is at least 16 KiB and a multiple of 4096");
        }
        if self.max_append_bytes == 0 || self.max_append_bytes as u64 > self.segment_bytes / 4 {
            return invalid("max_append_bytes is at most a quarter of segment_bytes");
        }
        if self.max_append_bytes > MAX_APPEND_BYTES {
            return invalid("max_append_bytes is at most 32 MiB");
        }
        if self.queue_bytes < self.max_append_bytes + PERMIT_BYTES || self.queue_bytes > 1 << 40 {
            return invalid("queue_bytes holds at least one append");
        }
        if self.budget_bytes < 3 * self.segment_bytes {
            return invalid("budget_bytes holds at least three segments");
        }
        if self.tick_ms == 0 || self.heartbeat_ticks == 0 || self.election_ticks <= self.heartbeat_ticks {
            return invalid("election_ticks exceeds heartbeat_ticks, and neither is zero");
        }
        Ok(())
    }

    fn node(&self) -> NodeConfig {
        NodeConfig {
            core: CoreConfig {
                node_id: raft_id(self.node_id, self.incarnation),
                election_ticks: self.election_ticks,
                heartbeat_ticks: self.heartbeat_ticks,
                max_message_bytes: 1 << 20,
                max_inflight_messages: 256,
                max_uncommitted_bytes: (2 * self.queue_bytes as u64).max(4 << 20),
                max_committed_bytes_per_ready: 16 << 20,
                election_seed: self.election_seed,
            },
            voters: self.peers.clone(),
            segment_bytes: self.segment_bytes,
            checkpoint_every_bytes: self.checkpoint_every_bytes,
            max_append_bytes: self.max_append_bytes,
            recent_bytes: self.recent_bytes,
            retain_all: self.retain_all,
            retention_bytes: self.retention_bytes,
            budget_bytes: self.budget_bytes,
            slow_write_ms: SLOW_WRITE_MS,
        }
    }
}

/// Why the log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Change the settings.
    #[error("log settings: {reason}")]
    Config {
        /// The rule that is broken.
        reason: String,
    },
    /// Stop the other process, or choose another directory.
    #[error("log directory {directory} is in use by another process")]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be used.
    #[error("log directory {directory}: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What reaches the thread.
pub(crate) enum Request {
    Propose {
        command: Command,
        reply: Reply,
        _permit: OwnedSemaphorePermit,
    },
    Read(Read),
    Message(Box<Message>, OwnedSemaphorePermit),
    Unreachable(u64),
    Fetched(FetchRequest, Result<Vec<Entry>, StoreError>),
    /// A sync has ended, after so many microseconds.
    Synced(SyncRequest, std::io::Result<()>, u64),
    Bootstrap(Members, oneshot::Sender<bool>),
    /// To be served by the thread.
    Connection(Connection),
    Shutdown,
}

/// Between clients and the thread.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    pub(crate) permits: Arc<Semaphore>,
    message_permits: Arc<Semaphore>,
    pub(crate) queue_bytes: usize,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    /// Nobody takes requests any more; they are dropped, which their clients read as "gone".
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(queue_bytes: usize) -> Inbox {
        Inbox {
            queue: Mutex::default(),
            arrived: Notify::new(),
            permits: Arc::new(Semaphore::new(queue_bytes / PERMIT_BYTES)),
            message_permits: Arc::new(Semaphore::new(MESSAGE_QUEUE_BYTES / PERMIT_BYTES)),
            queue_bytes,
        }
    }

    pub(crate) fn push(&self, request: Request) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.requests.push_back(request);
            drop(queue);
            self.arrived.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.permits.close();
        self.message_permits.close();
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.requests.clear();
    }

    /// Takes a message from a peer; waits while too much is waiting already.
    pub(crate) async fn deliver(&self, message: Message) {
        let entries: usize = message.entries.iter().map(|entry| entry.data.len() + entry.context.len()).sum();
        let bytes = MESSAGE_OVERHEAD_BYTES + entries + message.get_snapshot().data.len();
        let permits = (bytes.min(MESSAGE_QUEUE_BYTES) / PERMIT_BYTES) as u32;
        if let Ok(permit) = self.message_permits.clone().acquire_many_owned(permits).await {
            self.push(Request::Message(Box::new(message), permit));
        }
    }

    /// Resolves when something has been pushed since the last time.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().requests.is_empty()
    }

    /// Everything that waits.
    pub(crate) fn take_all(&self) -> VecDeque<Request> {
        std::mem::take(&mut self.queue.lock().requests)
    }

    /// Waits for requests until `deadline`, and takes what one group may hold.
    async fn take(&self, deadline: Instant, limit_bytes: u64) -> Vec<Request> {
        while self.queue.lock().requests.is_empty() {
            if tokio::time::timeout_at(deadline.into(), self.arrived.notified()).await.is_err() {
                break;
            }
        }
        let mut queue = self.queue.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(request) = queue.requests.front() {
            bytes += match request {
                Request::Propose { command: Command::Append { bytes, .. }, .. } => bytes.len() as u64 + 256,
                Request::Propose { command: Command::CompareAndSwap { value: Some(value), .. }, .. } => {
                    value.len() as u64 + 2048
                }
                Request::Message(message, _) => {
                    2048 + message.entries.iter().map(|entry| entry.data.len() as u64 + 256).sum::<u64>()
                }
                _ => 2048,
            };
            if bytes > limit_bytes && !taken.is_empty() {
                break;
            }
            taken.extend(queue.requests.pop_front());
        }
        taken
    }
}

/// A running log node. Dropping it stops it in good order.
pub struct LogStore {
    inbox: Arc<Inbox>,
    published: Arc<Published>,
    segments: Arc<SegmentSet>,
    spare: Arc<Spare>,
    disk: Arc<dyn Disk>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    client: Arc<LocalClient>,
    writers: Arc<Writers>,
    raft_id: u64,
}

impl LogStore {
    /// Opens (or begins) the log of a cluster of one, or of a node whose peers are reached otherwise.
    pub fn open(config: LogStoreConfig) -> Result<LogStore, OpenError> {
        Self::open_with_transport(config, Box::new(NoPeers))
    }

    /// Opens a member of a cluster.
    pub fn open_with_transport(config: LogStoreConfig, transport: Box<dyn Transport>) -> Result<LogStore, OpenError> {
        config.check()?;
        let disk = LocalDisk::open(&config.data_dir).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::InUse { directory: config.data_dir.clone() },
            _ => OpenError::Directory { directory: config.data_dir.clone(), source },
        })?;
        Self::open_on(config, Arc::new(disk), transport)
    }

    /// Opens a member on any disk.
    pub fn open_on(
        config: LogStoreConfig,
        disk: Arc<dyn Disk>,
        mut transport: Box<dyn Transport>,
    ) -> Result<LogStore, OpenError> {
        config.check()?;
        let spare = Spare::new(disk.clone(), config.segment_bytes, true);
        let maker = {
            let spare = spare.clone();
            spawn("log-segments", move || spare.serve()).map_err(|source| directory_error(&config, source))?
        };
        let opened = Node::open(config.node(), disk.clone(), spare.clone(), &mut *transport);
        let mut node = match opened {
            Ok(node) => node,
            Err(error) => {
                spare.close();
                let _ = maker.join();
                return Err(error.into());
            }
        };
        let (published, segments) = (node.published().clone(), node.segments().clone());
        let inbox = Arc::new(Inbox::new(config.queue_bytes));
        let tick = Duration::from_millis(config.tick_ms);
        let raft_id = node.raft_id();
        // Old entries are read beside the writing thread: a follower that has fallen behind slows nobody else.
        let (fetches, to_fetch) = std::sync::mpsc::sync_channel::<FetchRequest>(MAX_FETCHES);
        node.set_reader(fetches);
        let reader = {
            let (inbox, segments) = (inbox.clone(), segments.clone());
            let read = move || {
                for request in to_fetch {
                    let entries = read_entries(&segments, request.low, request.high, request.max_bytes);
                    inbox.push(Request::Fetched(request, entries));
                }
            };
            spawn("log-reader", read).map_err(|source| directory_error(&config, source))?
        };
        let writers = Arc::<Writers>::default();
        // A disk that is slow delays what waits for it, and nothing else.
        let (syncs, to_sync) = std::sync::mpsc::sync_channel::<SyncRequest>(1);
        node.set_syncer(syncs);
        let syncer = {
            let inbox = inbox.clone();
            spawn("log-syncer", move || sync_until_closed(&to_sync, &inbox))
                .map_err(|source| directory_error(&config, source))?
        };
        let client = Arc::new(LocalClient {
            inbox: inbox.clone(),
            published: published.clone(),
            segments: segments.clone(),
            stopped: published.stopped(),
            append_seconds: histogram!("alluvium_log_append_seconds", "node" => config.node_id.to_string()),
            archive: Arc::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| directory_error(&config, source))?;
        let thread = {
            let writers = writers.clone();
            let client = client.clone();
            let serving = Serving { node, inbox: inbox.clone(), transport, client, writers, tick };
            spawn("log-writer", move || runtime.block_on(serving.run()))
                .map_err(|source| directory_error(&config, source))?
        };
        let threads = Mutex::new(vec![thread, maker, reader, syncer]);
        Ok(LogStore { inbox, published, segments, spare, disk, threads, client, writers, raft_id })
    }

    /// A client in this process.
    pub fn client(&self) -> Arc<dyn LogClient> {
        self.local_client()
    }

    /// The metadata map of this cluster.
    pub fn metadata(&self) -> Arc<dyn MetadataClient> {
        self.local_client()
    }

    pub(crate) fn local_client(&self) -> Arc<LocalClient> {
        self.client.clone()
    }

    /// From now on subscriptions read from this archive what is no longer in the log. Only the first call counts.
    pub fn set_archive(&self, archive: ObjectStore) {
        self.client.set_archive(archive);
    }

    /// Where those are who write to this node.
    pub fn writers(&self) -> &Arc<Writers> {
        &self.writers
    }

    /// What Raft calls this node: its number and incarnation.
    pub fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// Hands connections over to the thread; drops them once it has ended.
    pub(crate) fn adopter(&self) -> impl Fn(Connection) + Clone + Send + Sync + 'static {
        let inbox = self.inbox.clone();
        move |connection| inbox.push(Request::Connection(connection))
    }

    /// What this node sees of its cluster, without asking others.
    pub async fn view(&self) -> Result<ClusterView, LogError> {
        self.local_client().read(Read::View).await
    }

    /// Begins a cluster with these members, if this node is still blank. Only when all of them have said that they are.
    pub async fn bootstrap(&self, members: Members) -> Result<bool, LogError> {
        let (reply, begun) = oneshot::channel();
        self.inbox.push(Request::Bootstrap(members, reply));
        begun.await.map_err(|_| gone())
    }

    /// Adds a node to the cluster or changes what is known of it, if its incarnation is `expected`. The leader then
    /// brings Raft's membership into line.
    pub async fn set_member(&self, node_id: u64, expected: Option<u64>, member: Member) -> Result<(), LogError> {
        self.local_client().propose(Command::SetMember { node_id, expected, member }, 0).await.map(|_| ())
    }

    /// Removes a node from the cluster.
    pub async fn remove_member(&self, node_id: u64) -> Result<(), LogError> {
        self.local_client().propose(Command::RemoveMember { node_id }, 0).await.map(|_| ())
    }

    /// The transport could not reach `peer`.
    pub fn report_unreachable(&self, peer: u64) {
        self.inbox.push(Request::Unreachable(peer));
    }

    /// Resolves when the node has stopped, with the reason. After a failure of the disk the process should end: the
    /// node does not come back.
    pub async fn stopped(&self) -> LogError {
        let mut stopped = self.published.stopped();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Bytes of all segment files.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.total_bytes()
    }

    /// Stops in good order: what was acknowledged is on disk anyway; waiting requests are answered as unavailable.
    pub fn shutdown(&self) {
        self.inbox.push(Request::Shutdown);
        self.spare.close();
        for thread in self.threads.lock().drain(..) {
            // The thread's panic has been reported where it happened.
            let _ = thread.join();
        }
        // Clients and subscriptions may outlive the store; the directory is free all the same.
        self.disk.close();
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn directory_error(config: &LogStoreConfig, source: std::io::Error) -> OpenError {
    OpenError::Directory { directory: config.data_dir.clone(), source }
}

pub(crate) fn gone() -> LogError {
    LogError::Unavailable { reason: "the log node has stopped".into() }
}

/// Tells everybody that the node is gone, also when its thread panics.
struct StopGuard<'a> {
    inbox: &'a Inbox,
    published: Arc<Published>,
    reason: LogError,
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        self.published.stop(self.reason.clone());
        self.inbox.close();
    }
}

/// The thread that syncs.
#[expect(clippy::disallowed_methods, reason = "how long a sync takes tells a slow disk")]
fn sync_until_closed(to_sync: &std::sync::mpsc::Receiver<SyncRequest>, inbox: &Inbox) {
    for request in to_sync {
        let started = Instant::now();
        let outcome = request.unsynced.sync();
        inbox.push(Request::Synced(request, outcome, started.elapsed().as_micros() as u64));
    }
}

/// The thread.
struct Serving {
    node: Node,
    inbox: Arc<Inbox>,
    transport: Box<dyn Transport>,
    client: Arc<LocalClient>,
    writers: Arc<Writers>,
    tick: Duration,
}

impl Serving {
    /// To the end. As a task beside those of connections: what they push to it then costs no system call.
    async fn run(self) {
        if let Err(error) = tokio::spawn(self.serve()).await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the thread is what gives the node its ticks")]
    async fn serve(self) {
        let Serving { mut node, inbox, mut transport, client, writers, tick } = self;
        let mut guard = StopGuard { inbox: &inbox, published: node.published().clone(), reason: gone() };
        transport.start(&tokio::runtime::Handle::current());
        let mut next_tick = Instant::now() + tick;
        let mut next_look = next_tick;
        let mut tell_at = None;
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            if next_tick >= next_look {
                next_look = next_tick + WRITERS_PAUSE;
                if let Some(near) = writers.majority() {
                    node.lead_near(&near);
                }
            }
            let until = tell_at.map_or(next_tick, |tell_at| next_tick.min(tell_at));
            let limit_bytes = node.batch_limit_bytes();
            let mut requests = inbox.take(until, limit_bytes).await;
            for request in requests.extract_if(.., |request| matches!(request, Request::Connection(_))) {
                if let (Request::Connection(connection), Ok(permit)) =
                    (request, connections.clone().try_acquire_owned())
                {
                    let served = connection.serve(client.clone(), writers.clone());
                    tokio::spawn(served.map(|()| drop(permit)));
                }
            }
            if requests.is_empty() && tell_at.is_some_and(|tell_at| Instant::now() >= tell_at) {
                node.tell_commit();
            }
            match serve_batch(&mut node, requests, &mut *transport, &mut next_tick, tick) {
                Ok(true) if node.owes_commit() => {
                    tell_at = tell_at.or_else(|| Some(Instant::now() + TELL_COMMIT_AFTER));
                }
                Ok(true) => tell_at = None,
                Ok(false) => {
                    guard.reason = LogError::Unavailable { reason: "the log node was shut down".into() };
                    if let Err(error) = node.close() {
                        tracing::error!(%error, "closing the log failed");
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the log node stops");
                    guard.reason = to_log_error(&error);
                    let unknown = LogError::Unavailable { reason: format!("the log node has stopped: {error}") };
                    node.fail_pending(&unknown);
                    return;
                }
            }
        }
    }
}

/// One round: take requests, let time pass, write, answer. False: shut down.
fn serve_batch(
    node: &mut Node,
    mut requests: Vec<Request>,
    transport: &mut dyn Transport,
    next_tick: &mut Instant,
    tick: Duration,
) -> Result<bool, StoreError> {
    // Pipelined appends may have been queued by several tasks; in order of their position each finds its predecessor.
    requests.sort_by_key(|request| match request {
        Request::Propose { command: Command::Append { branch, epoch, start_lsn, .. }, .. } => {
            (1, branch.0, epoch.0, start_lsn.0)
        }
        Request::Shutdown => (2, 0, 0, 0),
        _ => (0, 0, 0, 0),
    });
    let mut running = true;
    let mut permits = Vec::new();
    for request in requests {
        match request {
            Request::Propose { command, reply, _permit } => {
                node.propose(&command, reply);
                permits.push(_permit);
            }
            Request::Read(read) => node.read(read),
            Request::Message(message, permit) => {
                node.step(*message);
                permits.push(permit);
            }
            Request::Fetched(request, entries) => node.fetched(request, entries)?,
            Request::Synced(request, outcome, us) => {
                node.synced(&request, outcome, us, transport)?;
            }
            Request::Bootstrap(members, reply) => drop(reply.send(node.bootstrap(members, transport)?)),
            Request::Unreachable(peer) => node.report_unreachable(peer),
            Request::Connection(_) => unreachable!("taken out before"),
            Request::Shutdown => running = false,
        }
    }
    #[expect(clippy::disallowed_methods, reason = "the thread is what gives the node its ticks")]
    let now = Instant::now();
    if now >= *next_tick {
        node.tick()?;
        // Ticks missed during a long write are not made up for: they would look like a dead leader.
        *next_tick = now + tick;
    }
    let syncs = node.syncs();
    node.run(transport)?;
    if node.syncs() > syncs {
        node.synced_in(now.elapsed().as_micros() as u64);
    }
    Ok(running)
}
