//! A log and page servers in memory, for tests and benches: the smallest that keep the contracts, and strict
//! about what they are asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use logstore::client::{BranchStatus, EpochGrant, LogChunk, LogClient, LogError};
use pageserver::client::{GetPage, PageClient, PageError, PageImage, PageServerStatus};
use parking_lot::Mutex;
use sql::error::SqlError;
use storage::batch::BatchDecoder;
use storage::page::Page;
use storage::record::Record;
use storage::redo::redo;
use storage::{BranchId, Epoch, Lsn, PageNo, TreeId};
use tokio::sync::watch;

use crate::compute::Compute;
use crate::sequencer::{Commit, CommitTree};
use crate::transaction::{TreeWrites, Write, Writes};

/// One branch's log.
#[derive(Default)]
pub struct MemoryLog {
    state: Mutex<LogState>,
    /// While true, appends are taken and not answered.
    held: watch::Sender<bool>,
    /// Before an append is answered.
    delay: Option<Duration>,
}

#[derive(Default)]
struct LogState {
    epoch: Epoch,
    end_lsn: Lsn,
    chunks: Vec<LogChunk>,
    /// Answers for the next appends: none, the error *after* taking the append (its answer got lost), or
    /// instead of taking it.
    faults: Vec<Fault>,
}

/// What goes wrong with an append.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is taken, and its answer is lost.
    LostAnswer,
    /// It is not taken.
    Refused(LogError),
    /// The caller's side panics.
    Panics,
}

impl MemoryLog {
    /// A log whose appends take a while.
    pub fn slow(delay: Duration) -> Self {
        Self { delay: Some(delay), ..Self::default() }
    }

    /// A log that already holds these bytes.
    pub fn holding(bytes: Bytes) -> Self {
        let log = Self::default();
        {
            let mut state = log.state.lock();
            state.epoch = Epoch(1);
            state.end_lsn = Lsn(bytes.len() as u64);
            state.chunks.push(LogChunk { start_lsn: Lsn::ZERO, epoch: Epoch(1), bytes });
        }
        log
    }

    /// Leaves appends unanswered, or answers all that wait.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Plans the next appends' faults.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    /// All bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
    }

    /// Bytes so far.
    pub fn end_lsn(&self) -> Lsn {
        self.state.lock().end_lsn
    }

    fn take(&self, branch: BranchId, epoch: Epoch, start_lsn: Lsn, bytes: Bytes) -> Result<Lsn, LogError> {
        let mut state = self.state.lock();
        let fault = if state.faults.is_empty() { None } else { Some(state.faults.remove(0)) };
        match &fault {
            Some(Fault::Refused(error)) => return Err(error.clone()),
            Some(Fault::Panics) => panic!("a fault that a test has planned"),
            Some(Fault::LostAnswer) | None => {}
        }
        if epoch != state.epoch {
            return Err(LogError::Fenced { branch, epoch, current: state.epoch, end_lsn: state.end_lsn });
        }
        if start_lsn != state.end_lsn {
            return Err(LogError::Gap { branch, start_lsn, end_lsn: state.end_lsn });
        }
        state.end_lsn = start_lsn.advance(bytes.len() as u64);
        state.chunks.push(LogChunk { start_lsn, epoch, bytes });
        if fault.is_some() {
            return Err(LogError::Unavailable { reason: "the answer was lost".into() });
        }
        Ok(state.end_lsn)
    }
}

#[async_trait]
impl LogClient for MemoryLog {
    async fn acquire_epoch(&self, _branch: BranchId) -> Result<EpochGrant, LogError> {
        let mut state = self.state.lock();
        state.epoch = Epoch(state.epoch.0 + 1);
        Ok(EpochGrant { epoch: state.epoch, end_lsn: state.end_lsn })
    }

    async fn append(&self, branch: BranchId, epoch: Epoch, start_lsn: Lsn, bytes: Bytes) -> Result<Lsn, LogError> {
        let taken = self.take(branch, epoch, start_lsn, bytes);
        if let Some(delay) = self.delay {
            tokio::time::sleep(delay).await;
        }
        if *self.held.borrow() {
            let mut held = self.held.subscribe();
            let _ = held.wait_for(|held| !held).await;
        }
        taken
    }

    async fn subscribe(
        &self,
        branch: BranchId,
        from_lsn: Lsn,
    ) -> Result<BoxStream<'static, Result<LogChunk, LogError>>, LogError> {
        let _ = branch;
        let chunks = self.state.lock().chunks.clone();
        let later = chunks.into_iter().filter(move |chunk| chunk.start_lsn.0 + chunk.bytes.len() as u64 > from_lsn.0);
        Ok(futures::stream::iter(later.map(Ok)).chain(futures::stream::pending()).boxed())
    }

    async fn status(&self, _branch: BranchId) -> Result<BranchStatus, LogError> {
        let state = self.state.lock();
        let (epoch, durable_lsn) = (state.epoch, state.end_lsn);
        Ok(BranchStatus { epoch, first_lsn: Lsn::ZERO, durable_lsn, consumers: Vec::new() })
    }

    async fn report_consumer(&self, _branch: BranchId, _consumer: &str, _durable: Lsn) -> Result<(), LogError> {
        Ok(())
    }
}

/// A commit without a transaction around it: what the sequencer alone is measured with.
pub struct BareCommit(Commit);

impl BareCommit {
    /// A commit that puts these rows; trees ascend, and a tree's rows stand together.
    pub fn new(puts: impl IntoIterator<Item = (TreeId, Vec<u8>, Bytes)>) -> Self {
        let mut trees: Vec<(TreeId, TreeWrites)> = Vec::new();
        for (tree, key, value) in puts {
            if trees.last().is_none_or(|(last, _)| *last != tree) {
                trees.push((tree, TreeWrites::new()));
            }
            let (_, writes) = trees.last_mut().expect("pushed above");
            writes.insert(key.into(), Write::Put(value));
        }
        assert!(trees.is_sorted_by_key(|(tree, _)| *tree), "trees of a commit ascend");
        let trees = trees
            .into_iter()
            .map(|(tree, writes)| CommitTree { tree, writes: Writes::of_memory(tree, writes) })
            .collect();
        Self(Commit { trees, ..Commit::default() })
    }

    /// Applies it and lays it out in the log; does not wait until it is durable.
    pub fn run(&self, compute: &Compute) -> Result<Lsn, SqlError> {
        let committed = compute.engine().sequencer.commit(&self.0)?;
        committed.ok_or_else(|| SqlError::internal("the commit does not fit into the page cache"))
    }
}

/// Page servers that replay a [`MemoryLog`] page by page.
pub struct ReplayPages {
    log: Arc<MemoryLog>,
    state: Mutex<Replay>,
}

struct Replay {
    decoder: BatchDecoder,
    fed_chunks: usize,
    /// Encoded records by page, each with its batch's end.
    history: HashMap<PageNo, Vec<(Lsn, Bytes)>>,
    /// The last answer for a page, to go on from.
    latest: BTreeMap<PageNo, Box<Page>>,
    answered: u64,
}

impl ReplayPages {
    /// Pages of that log.
    pub fn new(log: Arc<MemoryLog>) -> Self {
        let state = Replay {
            decoder: BatchDecoder::new(Lsn::ZERO),
            fed_chunks: 0,
            history: HashMap::new(),
            latest: BTreeMap::new(),
            answered: 0,
        };
        Self { log, state: Mutex::new(state) }
    }

    /// Pages given so far.
    pub fn answered(&self) -> u64 {
        self.state.lock().answered
    }

    /// The page as of an LSN, from the log.
    pub fn page_at(&self, page: PageNo, at: Lsn) -> Option<Box<Page>> {
        let mut state = self.state.lock();
        state.catch_up(&self.log);
        state.replay(page, at)
    }

    fn answer(&self, branch: BranchId, request: &GetPage) -> Result<PageImage, PageError> {
        let GetPage { page, at, not_modified_since, .. } = *request;
        let mut state = self.state.lock();
        state.catch_up(&self.log);
        let reached = state.decoder.resume_lsn();
        assert!(not_modified_since <= at, "page {page} asked for at {at} and not modified since {not_modified_since}");
        if reached < not_modified_since {
            return Err(PageError::Behind { page, at, reached });
        }
        if let Some(history) = state.history.get(&page) {
            let lie = history.iter().find(|(lsn, _)| *lsn > not_modified_since && *lsn <= at);
            assert!(lie.is_none(), "page {page} asked for at {at} was modified at {lie:?}, after {not_modified_since}");
        }
        state.answered += 1;
        let found = state.replay(page, at).ok_or(PageError::NotFound { page, at })?;
        Ok(PageImage { bytes: found.seal(branch, page), page_lsn: found.lsn() })
    }
}

impl Replay {
    fn catch_up(&mut self, log: &MemoryLog) {
        let chunks: Vec<LogChunk> = log.state.lock().chunks[self.fed_chunks..].to_vec();
        self.fed_chunks += chunks.len();
        for chunk in chunks {
            self.decoder.feed(chunk.start_lsn, chunk.epoch, chunk.bytes).expect("the log is sound");
        }
        while let Some(batch) = self.decoder.next_batch() {
            for record in batch.records() {
                let record = record.expect("the log is sound");
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                self.history.entry(record.page).or_default().push((batch.end_lsn, Bytes::from(bytes)));
            }
        }
    }

    fn replay(&mut self, page: PageNo, at: Lsn) -> Option<Box<Page>> {
        let history = self.history.get(&page)?;
        let mut replayed = self.latest.get(&page).filter(|known| known.lsn() <= at).cloned().unwrap_or_default();
        let known = replayed.lsn();
        let mut any = known > Lsn::ZERO;
        for (lsn, record) in history.iter().filter(|(lsn, _)| *lsn > known && *lsn <= at) {
            let record = Record::decode_exact(record).expect("encoded by us");
            redo(&mut replayed, &record.op).unwrap_or_else(|error| panic!("{error}: {record:?} on {replayed:?}"));
            replayed.set_lsn(*lsn);
            any = true;
        }
        if !any {
            return None;
        }
        self.latest.insert(page, replayed.clone());
        Some(replayed)
    }
}

#[async_trait]
impl PageClient for ReplayPages {
    async fn get_pages(&self, branch: BranchId, requests: &[GetPage]) -> Vec<Result<PageImage, PageError>> {
        requests.iter().map(|request| self.answer(branch, request)).collect()
    }

    async fn status(&self, _branch: BranchId) -> Result<PageServerStatus, PageError> {
        let mut state = self.state.lock();
        state.catch_up(&self.log);
        let reached = state.decoder.resume_lsn();
        Ok(PageServerStatus { ingested_lsn: reached, durable_lsn: Lsn::ZERO, horizon_lsn: Lsn::ZERO, layers: 0 })
    }
}
