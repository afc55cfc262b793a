//! The shipper: groups of batches, on their way to the log.
//!
//! ```text
//!   sequencer ──group──► driver task ──append──► log          up to `MAX_GROUPS` under way, in order
//!                             │◄─────durable────┘
//!                             ├─► durable LSN, waiting sessions
//!                             └─► sequencer: seal what has gathered meanwhile
//! ```
//!
//! An idle shipper sends at once; a busy one lets commits gather until an append is answered, and a page is copied once per
//! group, not per commit. A log that is far away has several small groups under way, because a commit that missed one would wait
//! for half a round trip; one that is near has one at a time ([`Shipper::begin_group`]).
//!
//! The durable LSN advances by whole groups only: inside a group a page's versions are not told apart.
//!
//! An append is repeated until its outcome is known. With one writer per epoch that is safe: a gap whose end
//! lies past the group means that the group is in. *Fenced* ends this compute's writing for good; commits
//! whose durability nobody has confirmed get 08007.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use logstore::client::{LogClient, LogError};
use metrics::{Histogram, histogram};
use parking_lot::Mutex;
use sql::error::{Result, SqlError, SqlState};
use storage::{BranchId, Epoch, Lsn};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cache::PageCache;
use crate::positions::Positions;
use crate::sequencer::Sequencer;

/// Groups under way. More would hide a slow log better, but make for smaller groups and more page copies.
const MAX_GROUPS: usize = 4;
/// A log that can answer within this is near. Whoever waits for the group before its own then waits for half as long at most,
/// and the machines of all tiers do half as much for a commit: where they are busy, latency falls as well.
const NEAR_LOG: Duration = Duration::from_millis(5);
/// Answers of which the quickest tells how near the log is: their mean would tell how busy it is.
const ANSWERS_JUDGED: u32 = 64;
/// A group of this size is worth its messages, however near the log is.
const FULL_GROUP_BYTES: usize = 64 << 10;
/// Longest append; the log takes 8 MiB.
const APPEND_LIMIT_BYTES: usize = 6 << 20;
const FIRST_RETRY: Duration = Duration::from_millis(1);
const LAST_RETRY: Duration = Duration::from_millis(200);
/// How long a commit waits for a log that cannot be reached before its client is told that the outcome is
/// unknown.
const UNKNOWN_AFTER: Duration = Duration::from_secs(30);
/// The same once the log has said that it is full: nobody knows when there will be room. What has been applied cannot be taken
/// back, and is in the log as soon as there is: so its outcome is unknown, and not a refusal.
const UNKNOWN_WHILE_FULL_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked whether commits have waited that long.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What later commits are told when writing has ended for a reason that only an operator can look into.
pub(crate) const CANNOT_WRITE: &str = "this compute cannot write any more and must be restarted";
const FENCED: &str = "this compute is no longer the primary: another one has taken over";

/// Sealed batches: a contiguous piece of the log.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) start_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) bytes: Bytes,
    /// Offsets at which it may be cut into appends.
    pub(crate) cuts: Vec<usize>,
    /// Page versions that the cache had made when it was sealed.
    pub(crate) versions_made: u64,
}

/// See the module.
pub(crate) struct Shipper {
    positions: Arc<Positions>,
    groups: mpsc::Sender<Group>,
    under_way: AtomicUsize,
    /// The log answers quickly.
    log_is_near: AtomicBool,
    waiters: Mutex<Waiters>,
    /// Set once writing has ended, with the reason beside it.
    failed: AtomicBool,
    failure: Mutex<Option<SqlError>>,
    failed_notice: tokio::sync::Notify,
    /// The log's disk is full: new commits are refused, those under way wait.
    log_is_full: AtomicBool,
    /// Commits up to here were answered with 08007 while the log could not be reached.
    given_up: AtomicU64,
    pub(crate) group_count: AtomicU64,
    pub(crate) group_bytes: AtomicU64,
    /// From the sequencer's answer to durability.
    commit_latency_us: Histogram,
    group_size_bytes: Histogram,
}

#[derive(Default)]
struct Waiters {
    queue: BinaryHeap<Reverse<Waiter>>,
}

struct Waiter {
    lsn: Lsn,
    waker: Waker,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.lsn == other.lsn
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lsn.cmp(&other.lsn)
    }
}

impl Shipper {
    /// A shipper and the receiving end for [`drive`].
    pub(crate) fn new(positions: Arc<Positions>) -> (Arc<Self>, mpsc::Receiver<Group>) {
        let (groups, receiver) = mpsc::channel(MAX_GROUPS);
        let shipper = Self {
            positions,
            groups,
            under_way: AtomicUsize::new(0),
            log_is_near: AtomicBool::new(false),
            waiters: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            failed_notice: tokio::sync::Notify::new(),
            log_is_full: AtomicBool::new(false),
            given_up: AtomicU64::new(0),
            group_count: AtomicU64::new(0),
            group_bytes: AtomicU64::new(0),
            commit_latency_us: histogram!("alluvium_compute_commit_latency_us"),
            group_size_bytes: histogram!("alluvium_compute_group_size_bytes"),
        };
        (Arc::new(shipper), receiver)
    }

    /// The error to refuse a new commit with, if commits are not possible now.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) || self.log_is_full.load(Ordering::Relaxed) {
            return Err(self.refusal());
        }
        Ok(())
    }

    #[cold]
    fn refusal(&self) -> SqlError {
        self.failure.lock().clone().unwrap_or_else(|| {
            SqlError::new(SqlState::DISK_FULL, "the log service has no room for more")
                .with_hint("Reading goes on; writing resumes by itself when there is room.")
        })
    }

    /// Why writing has ended for good, if it has. A full log is not that: writing resumes.
    pub(crate) fn failure(&self) -> Option<SqlError> {
        self.failure.lock().clone()
    }

    /// Claims the right to send a group of so many bytes. By the sequencer's holder only.
    pub(crate) fn begin_group(&self, bytes: usize) -> bool {
        let one_at_a_time = bytes < FULL_GROUP_BYTES && self.log_is_near.load(Ordering::Relaxed);
        let limit = if one_at_a_time { 1 } else { MAX_GROUPS };
        if self.under_way.load(Ordering::Acquire) >= limit || self.failed.load(Ordering::Acquire) {
            return false;
        }
        self.under_way.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Sends a group claimed by [`Shipper::begin_group`].
    pub(crate) fn send(&self, group: Group) {
        self.group_count.fetch_add(1, Ordering::Relaxed);
        self.group_bytes.fetch_add(group.bytes.len() as u64, Ordering::Relaxed);
        self.group_size_bytes.record(group.bytes.len() as f64);
        if self.groups.try_send(group).is_err() {
            // The channel holds as many as may be under way: it can only be closed.
            self.fail(SqlError::new(SqlState::ADMIN_SHUTDOWN, "this compute is shutting down"));
        }
    }

    /// Ends writing for good, with the error that later commits get.
    pub(crate) fn fail(&self, error: SqlError) {
        self.failure.lock().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.failed_notice.notify_waiters();
        self.wake(Lsn::MAX);
    }

    /// Resolves when writing has ended for good, with the reason.
    pub(crate) async fn failed(&self) -> SqlError {
        let notice = self.failed_notice.notified();
        tokio::pin!(notice);
        // Before looking: a failure in between wakes it.
        notice.as_mut().enable();
        if self.failure().is_none() {
            notice.await;
        }
        self.failure().expect("set before the notice")
    }

    /// The log has granted a higher epoch to another.
    pub(crate) fn fenced(&self) {
        if !self.failed.load(Ordering::Acquire) {
            tracing::error!("the log has granted the branch to another compute");
            self.fail(SqlError::new(SqlState::ADMIN_SHUTDOWN, FENCED));
        }
    }

    fn durable(&self, end_lsn: Lsn, versions_made: u64, cache: &PageCache) {
        self.positions.raise_durable(end_lsn);
        cache.versions_droppable(versions_made);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        self.wake(end_lsn);
    }

    /// Wakes who waits for `upto` or less.
    fn wake(&self, upto: Lsn) {
        let mut woken = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            while waiters.queue.peek().is_some_and(|waiter| waiter.0.lsn <= upto) {
                woken.extend(waiters.queue.pop().map(|waiter| waiter.0.waker));
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// How it stands with an LSN: durable, lost from sight, or still open (`None`).
    fn outcome(&self, lsn: Lsn) -> Option<Result<()>> {
        if lsn <= self.positions.durable() {
            return Some(Ok(()));
        }
        if self.failed.load(Ordering::Acquire) || lsn.0 <= self.given_up.load(Ordering::Acquire) {
            return Some(Err(self.unknown(lsn)));
        }
        None
    }

    #[cold]
    fn unknown(&self, lsn: Lsn) -> SqlError {
        let error = SqlError::new(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            "the outcome of the transaction is unknown: the log service has not confirmed its commit",
        );
        let reason = self.failure.lock().as_ref().map(|failure| format!(" ({})", failure.message()));
        error.with_detail(format!("Its commit record ends at {lsn}{}.", reason.unwrap_or_default()))
    }

    /// Resolves when `lsn` is durable, or with 08007.
    pub(crate) fn wait_durable(self: &Arc<Self>, lsn: Lsn) -> DurableWait {
        DurableWait { shipper: self.clone(), lsn, began: Instant::now() }
    }
}

/// See [`Shipper::wait_durable`].
pub(crate) struct DurableWait {
    shipper: Arc<Shipper>,
    lsn: Lsn,
    began: Instant,
}

impl Future for DurableWait {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(outcome) = self.shipper.outcome(self.lsn) {
            self.shipper.commit_latency_us.record(self.began.elapsed().as_micros() as f64);
            return Poll::Ready(outcome);
        }
        let waiter = Waiter { lsn: self.lsn, waker: context.waker().clone() };
        self.shipper.waiters.lock().queue.push(Reverse(waiter));
        // It may have become durable before the waiter was in the queue.
        match self.shipper.outcome(self.lsn) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

/// Where groups go.
pub(crate) struct Destination {
    pub(crate) log: Arc<dyn LogClient>,
    pub(crate) branch: BranchId,
    pub(crate) epoch: Epoch,
}

/// Ends this compute's writing when its driver ends, whatever the reason: nobody may wait for an answer that cannot come.
struct Driving<'a>(&'a Shipper);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        // A reason that was given before stays.
        self.0.fail(SqlError::new(SqlState::ADMIN_SHUTDOWN, CANNOT_WRITE));
    }
}

/// Sends groups until the sequencer is gone or the log refuses for good.
pub(crate) async fn drive(
    shipper: Arc<Shipper>,
    mut groups: mpsc::Receiver<Group>,
    to: Destination,
    cache: Arc<PageCache>,
    sequencer: Weak<Sequencer>,
) {
    let _driving = Driving(&shipper);
    let mut under_way = FuturesUnordered::new();
    let mut answers = Answers::default();
    let mut seen = VecDeque::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some((end_lsn, versions_made, took, outcome)) = under_way.next(), if !under_way.is_empty() => match outcome {
                Ok(()) => {
                    if let Some(is_near) = answers.judge(took) {
                        shipper.log_is_near.store(is_near, Ordering::Relaxed);
                    }
                    shipper.durable(end_lsn, versions_made, &cache);
                    let Some(sequencer) = sequencer.upgrade() else { continue };
                    sequencer.seal_more();
                }
                Err(error) => return shipper.fail(ended(&error)),
            },
            group = groups.recv() => match group {
                Some(group) => {
                    let append = append(&shipper, &to, group);
                    under_way.push(append);
                }
                None => return,
            },
            _ = looks.tick() => shipper.give_up_when_due(&mut seen, under_way.is_empty()),
        }
    }
}

impl Shipper {
    /// Tells clients that have waited long enough that the outcome of their commits is unknown, also of those that gather behind
    /// the groups under way. `seen`: what was applied, and when; at most as many as there are looks within the longest patience.
    fn give_up_when_due(&self, seen: &mut VecDeque<(Instant, Lsn)>, is_idle: bool) {
        if is_idle {
            seen.clear();
            return;
        }
        let full = self.log_is_full.load(Ordering::Relaxed);
        let patience = if full { UNKNOWN_WHILE_FULL_AFTER } else { UNKNOWN_AFTER };
        seen.push_back((Instant::now(), self.positions.applied()));
        let mut due = None;
        while let Some((_, applied)) = seen.pop_front_if(|(since, _)| since.elapsed() > patience) {
            due = Some(applied);
        }
        let Some(due) = due.filter(|due| *due > self.positions.durable()) else { return };
        if self.given_up.fetch_max(due.0, Ordering::AcqRel) < due.0 {
            tracing::error!(until = %due, full, "commits cannot be confirmed; their clients are told so");
            self.wake(due);
        }
    }
}

/// What later commits are told once the log has refused for good.
fn ended(error: &LogError) -> SqlError {
    tracing::error!(%error, "the log refuses this compute's writes");
    let text = match error {
        LogError::Fenced { .. } => FENCED,
        _ => CANNOT_WRITE,
    };
    SqlError::new(SqlState::ADMIN_SHUTDOWN, text)
}

/// How near the log is, judged anew after every [`ANSWERS_JUDGED`] answers.
#[derive(Default)]
struct Answers {
    count: u32,
    quickest: Option<Duration>,
}

impl Answers {
    /// Counts an answer. Once there are enough, whether the log is near.
    fn judge(&mut self, took: Duration) -> Option<bool> {
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        (self.count, self.quickest) = (self.count + 1, Some(quickest));
        (self.count == ANSWERS_JUDGED).then(|| {
            *self = Answers::default();
            quickest <= NEAR_LOG
        })
    }
}

/// What became of a group: its end, the page versions that the cache had made, how long it took.
type Appended = (Lsn, u64, Duration, std::result::Result<(), LogError>);

/// Appends a group, in as many pieces as the log's limit makes necessary.
async fn append(shipper: &Shipper, to: &Destination, group: Group) -> Appended {
    let began = Instant::now();
    let mut outcome = Ok(());
    for (from, until) in pieces(&group) {
        let start_lsn = group.start_lsn.advance(from as u64);
        outcome = append_piece(shipper, to, start_lsn, group.bytes.slice(from..until)).await;
        if outcome.is_err() {
            break;
        }
    }
    (group.end_lsn, group.versions_made, began.elapsed(), outcome)
}

fn pieces(group: &Group) -> Vec<(usize, usize)> {
    let mut pieces = Vec::new();
    let (mut from, mut until) = (0, 0);
    for end in group.cuts.iter().copied().skip(1).chain([group.bytes.len()]) {
        if end - from > APPEND_LIMIT_BYTES && until > from {
            pieces.push((from, until));
            from = until;
        }
        until = end;
    }
    pieces.push((from, until));
    pieces
}

async fn append_piece(
    shipper: &Shipper,
    to: &Destination,
    start_lsn: Lsn,
    bytes: Bytes,
) -> std::result::Result<(), LogError> {
    let end_lsn = start_lsn.advance(bytes.len() as u64);
    let mut pause = FIRST_RETRY;
    loop {
        match to.log.append(to.branch, to.epoch, start_lsn, bytes.clone()).await {
            Ok(_) => {
                shipper.log_is_full.store(false, Ordering::Relaxed);
                return Ok(());
            }
            // The epoch is checked before the position: a gap tells that it is still ours.
            Err(LogError::Gap { end_lsn: end, .. }) if end >= end_lsn => return Ok(()),
            // An earlier group is being resent.
            Err(LogError::Gap { end_lsn: end, .. }) if end <= start_lsn => {}
            Err(LogError::Unavailable { reason }) => {
                tracing::warn!(%start_lsn, reason, "append not answered; sending again");
            }
            Err(LogError::NoSpace { reason }) => {
                if !shipper.log_is_full.swap(true, Ordering::Relaxed) {
                    tracing::error!(reason, "the log is full; commits are refused until there is room");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}
