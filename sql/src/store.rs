//! What SQL asks of the engine below it: ordered trees of bytes, snapshots, locks, transactions.
//!
//! `compute` implements these traits over the page cache, the sequencer and the log; the tests here
//! run on an in-memory implementation (`testing::MemoryStore`). Everything is synchronous: a call may
//! block its thread (page miss, lock wait), so callers on an async runtime enter a blocking section for
//! anything but point work. All handles are `Send + Sync` and owned (`Arc`), so that a suspended portal
//! can keep its cursors.
//!
//! **Statement layers.** A transaction's writes sit in a private overlay. Writes of the *running*
//! statement are kept apart until [`Transaction::end_statement`]: `get` and `scan` read the snapshot
//! plus the writes of earlier statements only (so a statement never meets its own writes: no Halloween
//! problem), while `get_latest` and `lock_row` also see the running statement's. Ending a statement with
//! [`StatementOutcome::Discard`] is statement-level atomicity.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Lsn, PageNo, TreeId};

use crate::error::Result;

/// SQL isolation levels. READ UNCOMMITTED behaves as READ COMMITTED, as in Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// A new snapshot for every statement.
    #[default]
    ReadCommitted,
    /// One snapshot for the transaction; 40001 on a row changed since.
    RepeatableRead,
    /// Validated at commit. Not in this version: `begin` answers 0A000.
    Serializable,
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    /// Isolation level.
    pub isolation: IsolationLevel,
    /// Writes answer 25006.
    pub read_only: bool,
}

/// Postgres' eight table lock modes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum TableLockMode {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

/// Row lock strength: `FOR SHARE` and `FOR KEY SHARE` share; updates, deletes and `FOR UPDATE` exclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RowLockMode {
    Share,
    Exclusive,
}

/// What to do when a lock is held by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Wait, bounded by lock_timeout (55P03), cancel (57014) and deadlock detection (40P01).
    Block,
    /// NOWAIT: 55P03 at once.
    Error,
    /// SKIP LOCKED: answers [`LockedRow::Skipped`].
    Skip,
}

/// The row as found once its lock is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockedRow {
    /// Still what the snapshot (plus earlier own statements) shows, or never existed.
    Unchanged,
    /// Changed after the snapshot (READ COMMITTED only): the latest value. Re-check the predicate.
    Changed(Bytes),
    /// Deleted after the snapshot (READ COMMITTED only).
    Deleted,
    /// Already written by the running statement: leave it alone.
    WrittenByThisStatement,
    /// [`WaitPolicy::Skip`] and somebody else holds it.
    Skipped,
}

/// Scan direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Direction {
    Forward,
    Backward,
}

/// A range of keys, by bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Lower end.
    pub lower: Bound<Bytes>,
    /// Upper end.
    pub upper: Bound<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange { lower: Bound::Unbounded, upper: Bound::Unbounded };

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: Bytes) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xFF) {
            end.pop();
        }
        let upper = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(Bytes::from(end))
            }
            None => Bound::Unbounded,
        };
        Self { lower: Bound::Included(prefix), upper }
    }
}

/// A position in a tree, at one snapshot. Begins before the first row of its range.
pub trait Cursor: Send {
    /// Steps to the next row; false at the end. After an error the cursor is at its end.
    fn advance(&mut self) -> Result<bool>;
    /// The current key. Panics before the first [`Cursor::advance`] that gave true.
    fn key(&self) -> &[u8];
    /// The current value, large ones assembled.
    fn value(&self) -> &[u8];
}

/// Fills a tree that this transaction has created, bottom-up, without holding it in memory.
pub trait BulkLoader: Send {
    /// Adds one row. Keys must ascend strictly; a key not above the last answers [`BulkPush::OutOfOrder`]
    /// and is not added.
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<BulkPush>;
    /// Attaches what was pushed; visible to later statements of the transaction and, at commit, to all.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Answer to [`BulkLoader::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BulkPush {
    Added,
    OutOfOrder,
}

/// A point in a transaction to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SavepointId(pub u64);

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementOutcome {
    /// Its writes join the transaction.
    Keep,
    /// Its writes are dropped. Its locks stay until the transaction's end.
    Discard,
}

/// Something wrong with a page, as [`Transaction::check_pages`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageProblem {
    /// The tree on whose way it was found; none for what belongs to the branch as a whole.
    pub tree: Option<TreeId>,
    /// The page.
    pub page: PageNo,
    /// What is wrong, for people.
    pub problem: String,
}

/// One running transaction.
///
/// Dropping the last handle of an unfinished transaction rolls it back.
pub trait Transaction: Send + Sync {
    /// The LSN that the running statement reads at.
    fn snapshot_lsn(&self) -> Lsn;
    /// Its options.
    fn options(&self) -> TransactionOptions;
    /// Opens a statement: a new snapshot under READ COMMITTED (the durable LSN now), an empty layer.
    fn begin_statement(&self) -> Result<()>;
    /// Opens a statement whose snapshot holds *every* commit applied by now, whatever the isolation level,
    /// waiting until they are durable. DDL calls it once it holds its table locks: locks are released
    /// before durability, so an index built at the durable LSN of that moment could miss rows.
    fn begin_statement_at_newest(&self) -> Result<()>;
    /// Closes the statement's layer.
    fn end_statement(&self, outcome: StatementOutcome);
    /// Marks a point between statements.
    fn savepoint(&self) -> SavepointId;
    /// Drops all writes after the point, which stays. Locks taken since are kept until the end.
    fn rollback_to(&self, savepoint: SavepointId);
    /// Forgets the point and those after it; their writes stay.
    fn release(&self, savepoint: SavepointId);

    /// The value at the snapshot (plus earlier statements' writes).
    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>>;
    /// Rows of a range at the snapshot (plus earlier statements' writes), in key order. A tree that did
    /// not exist at the snapshot reads as empty (a table rewritten or truncated since).
    fn scan(&self, tree: TreeId, range: KeyRange, direction: Direction) -> Result<Box<dyn Cursor>>;
    /// The newest value, committed by anyone or written here, the running statement's included. Only
    /// meaningful while this transaction holds the key's row lock.
    fn get_latest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>>;

    /// Locks a key (of an existing row or of one to be inserted) until the transaction ends and tells
    /// what became of the row since the snapshot. Raises 40001 under REPEATABLE READ when it changed.
    fn lock_row(&self, tree: TreeId, key: &[u8], mode: RowLockMode, wait: WaitPolicy) -> Result<LockedRow>;
    /// Locks a table (by any stable 64-bit name: its oid) until the transaction ends. False only with
    /// [`WaitPolicy::Skip`].
    fn lock_table(&self, table: u64, mode: TableLockMode, wait: WaitPolicy) -> Result<bool>;

    /// Inserts or replaces. The caller holds the row lock, or knows the key to be its own (row ids).
    fn put(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<()>;
    /// Deletes; a missing key is no error.
    fn delete(&self, tree: TreeId, key: &[u8]) -> Result<()>;

    /// Locks the keys of rows to be inserted, as [`Transaction::lock_row`] does, and tells whether nothing stands at
    /// any of them now, be it committed or written here. `keys` ascend strictly. After `false` any part of them may be
    /// locked.
    fn claim_absent(&self, tree: TreeId, keys: &[&[u8]]) -> Result<bool> {
        let own = self.is_own_tree(tree);
        for key in keys {
            if !own {
                self.lock_row(tree, key, RowLockMode::Exclusive, WaitPolicy::Block)?;
            }
            if self.get_latest(tree, key)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
    /// [`Transaction::put`] for many keys, which ascend strictly.
    fn put_all(&self, tree: TreeId, rows: Vec<(&[u8], Bytes)>) -> Result<()> {
        rows.into_iter().try_for_each(|(key, value)| self.put(tree, key, value))
    }

    /// A new empty tree, which exists for others once this transaction commits.
    fn create_tree(&self) -> Result<TreeId>;
    /// Drops a tree at commit; its pages are given back afterwards, in the background.
    fn drop_tree(&self, tree: TreeId) -> Result<()>;
    /// Whether this transaction created the tree, so that nobody else can see it.
    fn is_own_tree(&self, tree: TreeId) -> bool {
        let _ = tree;
        false
    }
    /// Loads into a tree created by this transaction and still empty.
    fn bulk_load(&self, tree: TreeId) -> Result<Box<dyn BulkLoader>>;

    /// Checks the pages of `trees` as of the running statement's snapshot: their checksums and structure, that none
    /// is free or reached twice, and that the copies in memory, where there are any, are the stored bytes. `whole`:
    /// `trees` are all that the catalog knows, so every other page must have another use or be free. `found` is told
    /// of each problem; its error ends the check. Trees that this transaction has made are passed over.
    ///
    /// A store without pages has nothing to check.
    fn check_pages(
        &self,
        trees: &[TreeId],
        whole: bool,
        found: &mut dyn FnMut(PageProblem) -> Result<()>,
    ) -> Result<()> {
        let _ = (trees, whole, found);
        Ok(())
    }

    /// Validates, applies and logs. `None`: nothing was written. The commit may be acknowledged once
    /// [`Store::wait_durable`] has answered for the LSN. The transaction is over, whatever comes back.
    fn commit(&self) -> Result<Option<Lsn>>;
    /// Drops all writes and locks. Idempotent, and harmless after a commit.
    fn rollback(&self);
    /// What an owner may do to the statement from outside: cancel and timeouts.
    fn interrupt(&self) -> &Arc<Interrupt>;
}

/// Somebody who follows the log and is so far behind that writers are slowed, as `alluvium_log_rate` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLimit {
    /// Who.
    pub component: String,
    /// Of what it is behind, for people.
    pub reason: String,
    /// How far.
    pub lag_bytes: u64,
    /// How far it should be at most; writers are slowed from a quarter of it on.
    pub limit_bytes: u64,
    /// What it has taken a second of late, as far as that is known.
    pub drain_bytes_per_second: Option<u64>,
    /// What writers have appended to the log a second of late.
    pub append_bytes_per_second: u64,
    /// For how long a writer waits for each KiB that it appends, microseconds.
    pub delay_us_per_kib: f64,
}

/// The engine of one compute.
pub trait Store: Send + Sync {
    /// Begins a transaction. `interrupt` is the session's; it outlives its transactions.
    fn begin(&self, options: TransactionOptions, interrupt: Arc<Interrupt>) -> Result<Arc<dyn Transaction>>;
    /// The newest LSN that a majority of the log has on disk.
    fn durable_lsn(&self) -> Lsn;
    /// Resolves when `lsn` is durable; 08007 when its fate cannot be known any more.
    fn wait_durable(&self, lsn: Lsn) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;
    /// Waits on this thread until `lsn` is durable. An engine that is driven by a runtime overrides it, so that
    /// the waiting thread is not one that the log's answer needs.
    fn block_until_durable(&self, lsn: Lsn) -> Result<()> {
        /// Wakes the thread that waits.
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = self.wait_durable(lsn);
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(result) => return result,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }
    /// Writes one row at once and for good, outside any transaction (sequence reservations). Answers its
    /// commit LSN; a later commit is durable only after it.
    fn put_immediate(&self, tree: TreeId, key: &[u8], value: Bytes) -> Result<Lsn>;
    /// The newest committed value, outside any snapshot.
    fn get_newest(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>>;
    /// The newest committed last row of a tree (its greatest key), for row id counters.
    fn last_key(&self, tree: TreeId) -> Result<Option<Bytes>>;
    /// The tree that holds the SQL catalog; exists from the first start.
    fn catalog_tree(&self) -> TreeId;
    /// The LSN of the newest *applied* commit that wrote to the catalog tree (at start: any LSN not below
    /// it), published before that commit's locks are released. Catalog and plan caches are keyed by it:
    /// whoever holds a table lock and finds its catalog's version here knows the table has not changed.
    fn catalog_version(&self) -> u64;
    /// What slows writers now. A store without others behind it has nothing that could.
    fn log_limits(&self) -> Vec<LogLimit> {
        Vec::new()
    }
}

pub use crate::interrupt::{Interrupt, InterruptReason};
