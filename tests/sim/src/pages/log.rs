//! A process' client of the simulated log: the contract of the real one over gRPC, on the simulated network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use logstore::client::{
    BranchStatus, EpochGrant, LogChunk, LogClient, LogError, MetadataClient, MetadataSnapshot, MetadataValue,
    SwapOutcome,
};
use logstore::command::Command;
use logstore::filter::{Filtering, Pieces, StreamFilter, filtered, unfiltered};
use logstore::machine::Outcome;
use pageserver::stream_filter::PageFiltering;
use storage::{BranchId, Epoch, Lsn};

use super::process::Process;
use crate::clients::{Ask, Asked};
use crate::options::PageOptions;

/// A call without an answer is given up.
const TIMEOUT: Duration = Duration::from_millis(400);
/// How long a call looks for a node that can answer.
const PATIENCE_MS: u64 = 3_000;
const PAUSE_MS: u64 = 50;
/// How often a stream looks whether its node is still there.
const KEEPALIVE: Duration = Duration::from_millis(300);

/// See the module.
pub struct SimLog {
    process: Arc<Process>,
    /// The node that it believes to lead.
    target: AtomicU64,
}

fn unavailable(reason: &str) -> LogError {
    LogError::Unavailable { reason: reason.to_owned() }
}

impl SimLog {
    pub fn new(process: Arc<Process>) -> Arc<SimLog> {
        // Any of the addresses that it was given.
        let target = process.sim.with(|world| world.random.one_of(&world.all()).unwrap_or(1));
        Arc::new(SimLog { process, target: AtomicU64::new(target) })
    }

    fn move_on(&self, leader: Option<&str>) {
        let leader = leader.and_then(|leader| leader.parse().ok());
        let any = || self.process.sim.with(|world| world.random.one_of(&world.all()).unwrap_or(1));
        self.target.store(leader.unwrap_or_else(any), Ordering::Relaxed);
    }

    /// Asks until there is an answer. What may not be repeated is asked once more only if it was surely not done.
    async fn ask(&self, ask: Ask, may_repeat: bool) -> Result<Asked, LogError> {
        self.process.gate().await;
        let deadline = self.process.sim.now() + PATIENCE_MS;
        loop {
            let target = self.target.load(Ordering::Relaxed);
            let asked = ask.clone();
            let answer = self.process.sim.with(|world| world.ask(self.process.id, target, asked));
            let answered = tokio::time::timeout(TIMEOUT, answer).await;
            self.process.gate().await;
            let error = match answered {
                Ok(Ok(Ok(answer))) => return Ok(answer),
                Ok(Ok(Err(LogError::NotLeader { leader }))) => {
                    self.move_on(leader.as_deref());
                    unavailable("no leader")
                }
                Ok(Ok(Err(error @ LogError::Unavailable { .. }))) if may_repeat => error,
                Ok(Ok(Err(error))) => return Err(error),
                Ok(Err(_)) | Err(_) => {
                    self.move_on(None);
                    if !may_repeat {
                        return Err(unavailable("no answer; it may have been done"));
                    }
                    unavailable("no answer")
                }
            };
            if self.process.sim.now() >= deadline {
                return Err(error);
            }
            self.process.sim.sleep(PAUSE_MS).await;
        }
    }

    async fn order(&self, command: Command, may_repeat: bool) -> Result<Outcome, LogError> {
        self.process.point().await;
        let outcome = self.ask(Ask::Command(command), may_repeat).await;
        self.process.point().await;
        match outcome? {
            Asked::Outcome(outcome) => Ok(outcome),
            _ => panic!("a command was answered by something else"),
        }
    }
}

#[async_trait]
impl LogClient for SimLog {
    async fn acquire_epoch(&self, branch: BranchId) -> Result<EpochGrant, LogError> {
        match self.order(Command::AcquireEpoch { branch }, false).await? {
            Outcome::Granted(grant) => {
                self.process.sim.with(|world| world.history.granted(branch, grant.epoch, grant.end_lsn));
                Ok(grant)
            }
            other => panic!("an epoch was asked for, and {other:?} answered"),
        }
    }

    async fn append(&self, branch: BranchId, epoch: Epoch, start_lsn: Lsn, bytes: Bytes) -> Result<Lsn, LogError> {
        let length = bytes.len();
        self.process.sim.with(|world| world.history.sent(branch, start_lsn, epoch, bytes.clone()));
        match self.order(Command::Append { branch, epoch, start_lsn, bytes }, false).await? {
            Outcome::Appended { end_lsn } => {
                self.process.sim.with(|world| world.history.acknowledged(branch, epoch, start_lsn, length));
                Ok(end_lsn)
            }
            other => panic!("an append was answered by {other:?}"),
        }
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let process = self.process.clone();
        process.gate().await;
        let sim = process.sim.clone();
        let delay = sim.with(|world| world.delay());
        sim.sleep(delay).await;
        // Any node serves a stream.
        let opened = sim.with(|world| {
            let node = world.random.one_of(&world.running())?;
            let machine = &world.machines[&node];
            let stream = match &machine.hosted {
                None => std::future::ready(machine.node.as_ref()?.subscribe(branch, from_lsn)).boxed(),
                Some(hosted) => {
                    let client = hosted.driven.client();
                    async move { client.subscribe(branch, from_lsn).await }.boxed()
                }
            };
            (world.links.carry(process.id, node) && machine.busy_until <= world.now && !machine.disk.crashed())
                .then_some((node, machine.life, stream))
        });
        let Some((node, life, stream)) = opened else {
            sim.sleep(TIMEOUT.as_millis() as u64).await;
            process.gate().await;
            return Err(unavailable("the node does not answer"));
        };
        // With an archive the node asks its own log first.
        let stream = tokio::time::timeout(TIMEOUT, stream).await;
        let stream = stream.unwrap_or_else(|_| Err(unavailable("the node does not answer")))?;
        let following = Following { process, branch, node, life, stream, ended: false };
        let chunks = futures::stream::unfold(following, |mut following| async move {
            if following.ended {
                return None;
            }
            let next = following.next().await;
            following.ended = next.is_err();
            Some((next, following))
        });
        Ok(chunks.boxed())
    }

    /// As the serving side of the network does it.
    async fn subscribe_filtered(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
        filter: &StreamFilter,
    ) -> Result<Pieces, LogError> {
        let chunks = self.subscribe(branch, from_lsn).await?;
        let filters = self.process.sim.with(|world| world.options.pages.as_ref().is_some_and(PageOptions::filters));
        if !filters {
            return Ok(unfiltered(chunks));
        }
        let filtering: Arc<dyn Filtering> = Arc::new(PageFiltering);
        let pieces = filtered(chunks, &filtering, filter, branch, from_lsn)?;
        Ok(pieces.inspect(|piece| assert!(!matches!(piece, Err(LogError::Corrupt { .. })), "{piece:?}")).boxed())
    }

    async fn status(&self, branch: BranchId) -> Result<BranchStatus, LogError> {
        match self.ask(Ask::Status(branch), true).await? {
            Asked::Status(status) => Ok(status),
            _ => panic!("a status was asked for, something else was answered"),
        }
    }

    async fn report_consumer(&self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<(), LogError> {
        let consumer = consumer.to_owned();
        self.process.sim.with(|world| world.trimming.reported(branch, &consumer, durable_lsn));
        self.order(Command::ReportConsumer { branch, consumer, durable_lsn }, true).await.map(|_| ())
    }
}

/// A stream of chunks from one node, as long as that lives and can be reached.
struct Following {
    process: Arc<Process>,
    branch: BranchId,
    node: u64,
    life: u64,
    stream: BoxStream<'static, Result<LogChunk, LogError>>,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Result<LogChunk, LogError> {
        let sim = self.process.sim.clone();
        loop {
            let found = tokio::time::timeout(KEEPALIVE, self.stream.next()).await;
            self.process.gate().await;
            let delay = sim.with(|world| {
                let machine = world.machines.get(&self.node).filter(|machine| machine.node.is_some());
                let is_there = machine.is_some_and(|machine| machine.life == self.life && !machine.disk.crashed());
                (is_there && world.links.carry(self.node, self.process.id)).then(|| world.delay())
            });
            let Some(delay) = delay else { return Err(unavailable("the stream was cut off")) };
            let Ok(found) = found else { continue };
            let chunk = found.ok_or_else(|| unavailable("the node ended the stream"))?;
            if let Err(LogError::Corrupt { reason }) = &chunk {
                panic!("node {} gives {}: {reason}", self.node, self.branch);
            }
            let chunk = chunk?;
            sim.with(|world| {
                world.note("chunk", &[self.process.id, self.branch.0, chunk.start_lsn.0, chunk.bytes.len() as u64]);
                world.show(self.branch, &chunk, self.node);
                let node = world.machines.get(&self.node).and_then(|machine| machine.node.as_ref());
                world.archived_groups +=
                    u64::from(node.is_some_and(|node| chunk.start_lsn < node.first_lsn(self.branch)));
            });
            sim.sleep(delay).await;
            self.process.gate().await;
            return Ok(chunk);
        }
    }
}

#[async_trait]
impl MetadataClient for SimLog {
    async fn get(&self, key: &str) -> Result<Option<MetadataValue>, LogError> {
        match self.ask(Ask::Get(key.to_owned()), true).await? {
            Asked::Value(value) => Ok(value),
            _ => panic!("a value was asked for, something else was answered"),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, MetadataValue)>, LogError> {
        match self.ask(Ask::List(prefix.to_owned()), true).await? {
            Asked::List(list) => Ok(list),
            _ => panic!("a list was asked for, something else was answered"),
        }
    }

    /// Looks again and again, which shows what a watch may show.
    async fn watch(&self, prefix: &str) -> Result<BoxStream<'static, Result<MetadataSnapshot, LogError>>, LogError> {
        let looking = (SimLog::new(self.process.clone()), prefix.to_owned(), None::<Vec<_>>, 0);
        let every_ms = self.process.sim.with(|world| world.options.watch_every_ms);
        let states = futures::stream::unfold(looking, move |(log, prefix, last, index)| async move {
            loop {
                match log.list(&prefix).await {
                    Ok(values) if Some(&values) != last.as_ref() => {
                        let snapshot = MetadataSnapshot { index: index + 1, values: values.clone() };
                        return Some((Ok(snapshot), (log, prefix, Some(values), index + 1)));
                    }
                    Ok(_) => log.process.sim.sleep(every_ms).await,
                    Err(error) => return Some((Err(error), (log, prefix, last, index))),
                }
            }
        });
        Ok(states.boxed())
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<Bytes>,
    ) -> Result<SwapOutcome, LogError> {
        let command = Command::CompareAndSwap { key: key.to_owned(), expected, value };
        match self.order(command, false).await? {
            Outcome::Swapped { version } => Ok(SwapOutcome::Swapped { version }),
            Outcome::Conflict { current } => Ok(SwapOutcome::Conflict { current }),
            other => panic!("a swap was answered by {other:?}"),
        }
    }
}
