//! Transaction blocks: implicit and explicit transactions, savepoints, failure.

use std::sync::Arc;

use super::{Session, Settings, Severity, TransactionStatus};
use crate::error::{Result, SqlError, SqlState};
use crate::store::{IsolationLevel, SavepointId, StatementOutcome, Transaction, TransactionOptions};

/// Where a session stands between transactions.
#[derive(Default)]
pub(super) enum Block {
    /// No transaction.
    #[default]
    Idle,
    /// One that ends with the statement group.
    Implicit(Open),
    /// One begun by BEGIN.
    Explicit(Open),
    /// One begun by BEGIN in which a statement failed. With savepoints it is still there to go back to.
    Failed(Option<Open>),
}

/// A transaction of this session.
pub(super) struct Open {
    pub transaction: Arc<dyn Transaction>,
    savepoints: Vec<Savepoint>,
    /// Whether a statement has run: the isolation level is fixed from then on.
    started: bool,
}

struct Savepoint {
    name: String,
    id: SavepointId,
    settings: Settings,
    catalog_mark: usize,
}

/// Modes of BEGIN and SET TRANSACTION.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modes {
    pub isolation: Option<IsolationLevel>,
    pub read_only: Option<bool>,
}

impl Block {
    pub fn status(&self) -> TransactionStatus {
        match self {
            Block::Idle | Block::Implicit(_) => TransactionStatus::Idle,
            Block::Explicit(_) => TransactionStatus::InTransaction,
            Block::Failed(_) => TransactionStatus::Failed,
        }
    }

    fn open(&mut self) -> Option<&mut Open> {
        match self {
            Block::Implicit(open) | Block::Explicit(open) => Some(open),
            Block::Idle | Block::Failed(_) => None,
        }
    }
}

fn no_transaction(statement: &str) -> SqlError {
    SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, format!("{statement} can only be used in transaction blocks"))
}

impl Session {
    /// 25P02 unless statements are accepted.
    pub(super) fn check_not_failed(&self) -> Result<()> {
        match self.block {
            Block::Failed(_) => Err(SqlError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )),
            _ => Ok(()),
        }
    }

    /// The running transaction, begun implicitly when there is none.
    pub(super) fn transaction(&mut self) -> Result<Arc<dyn Transaction>> {
        self.check_not_failed()?;
        if matches!(self.block, Block::Idle) {
            self.block = Block::Implicit(self.start_transaction(Modes::default())?);
        }
        let open = self.block.open().expect("neither idle nor failed");
        open.started = true;
        Ok(open.transaction.clone())
    }

    /// The running transaction, if there is one.
    pub(super) fn current_transaction(&mut self) -> Option<&Arc<dyn Transaction>> {
        self.block.open().map(|open| &open.transaction)
    }

    fn start_transaction(&mut self, modes: Modes) -> Result<Open> {
        let options = {
            let mut settings = self.context.settings.lock();
            let isolation = modes.isolation.unwrap_or(settings.typed().default_isolation);
            let read_only = modes.read_only.unwrap_or(settings.typed().default_read_only);
            settings.overwrite("transaction_isolation", isolation_name(isolation));
            settings.overwrite("transaction_read_only", if read_only { "on" } else { "off" });
            TransactionOptions { isolation, read_only }
        };
        let transaction = self.context.server.store.begin(options, self.context.interrupt.clone())?;
        self.context.begin_transaction(transaction.clone());
        self.heavy = false;
        Ok(Open { transaction, savepoints: Vec::new(), started: false })
    }

    /// BEGIN.
    pub(super) fn begin(&mut self, modes: Modes) -> Result<()> {
        match std::mem::take(&mut self.block) {
            Block::Idle => self.block = Block::Explicit(self.start_transaction(modes)?),
            Block::Implicit(open) => {
                // BEGIN amid a group of statements: what ran before it belongs to the block, as in Postgres.
                self.block = Block::Explicit(open);
                self.set_transaction_modes(modes)?;
            }
            explicit @ Block::Explicit(_) => {
                self.block = explicit;
                let message = "there is already a transaction in progress";
                self.notify(Severity::Warning, SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, message));
                self.set_transaction_modes(modes)?;
            }
            failed @ Block::Failed(_) => {
                self.block = failed;
                self.check_not_failed()?;
            }
        }
        Ok(())
    }

    /// SET TRANSACTION.
    pub(super) fn set_transaction_modes(&mut self, modes: Modes) -> Result<()> {
        self.check_not_failed()?;
        let options = match &self.block {
            Block::Explicit(open) | Block::Implicit(open) => open.transaction.options(),
            Block::Idle | Block::Failed(_) => {
                let message = "SET TRANSACTION can only be used in transaction blocks";
                self.notify(Severity::Warning, SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, message));
                return Ok(());
            }
        };
        let wanted = TransactionOptions {
            isolation: modes.isolation.unwrap_or(options.isolation),
            read_only: modes.read_only.unwrap_or(options.read_only),
        };
        if wanted == options {
            return Ok(());
        }
        let open = self.block.open().expect("checked above");
        if open.started || !open.savepoints.is_empty() {
            return Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                if wanted.isolation == options.isolation {
                    "transaction read-write mode must be set before any query"
                } else {
                    "SET TRANSACTION ISOLATION LEVEL must be called before any query"
                },
            ));
        }
        // Nothing has run yet: a new transaction with the wanted options is the same one.
        open.transaction.rollback();
        let modes = Modes { isolation: Some(wanted.isolation), read_only: Some(wanted.read_only) };
        let fresh = self.start_transaction(modes)?;
        *self.block.open().expect("checked above") = fresh;
        Ok(())
    }

    /// COMMIT. Answers the command tag: a failed transaction's COMMIT is a ROLLBACK.
    pub(super) fn commit(&mut self, chain: bool) -> Result<&'static str> {
        let modes = self.chain_modes();
        let tag = match std::mem::take(&mut self.block) {
            Block::Idle => {
                self.warn_no_transaction();
                "COMMIT"
            }
            Block::Implicit(open) => {
                self.warn_no_transaction();
                self.commit_open(open)?;
                "COMMIT"
            }
            Block::Explicit(open) => {
                self.commit_open(open)?;
                "COMMIT"
            }
            Block::Failed(open) => {
                self.roll_back_open(open);
                "ROLLBACK"
            }
        };
        if chain {
            self.block = Block::Explicit(self.start_transaction(modes)?);
        }
        Ok(tag)
    }

    /// ROLLBACK.
    pub(super) fn rollback(&mut self, chain: bool) -> Result<()> {
        let modes = self.chain_modes();
        match std::mem::take(&mut self.block) {
            Block::Idle => self.warn_no_transaction(),
            Block::Implicit(open) => {
                self.warn_no_transaction();
                self.roll_back_open(Some(open));
            }
            Block::Explicit(open) => self.roll_back_open(Some(open)),
            Block::Failed(open) => self.roll_back_open(open),
        }
        if chain {
            self.block = Block::Explicit(self.start_transaction(modes)?);
        }
        Ok(())
    }

    fn chain_modes(&mut self) -> Modes {
        self.block.open().map_or(Modes::default(), |open| {
            let options = open.transaction.options();
            Modes { isolation: Some(options.isolation), read_only: Some(options.read_only) }
        })
    }

    fn warn_no_transaction(&self) {
        let message = "there is no transaction in progress";
        self.notify(Severity::Warning, SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, message));
    }

    fn commit_open(&mut self, open: Open) -> Result<()> {
        // Portals and cursors read at the transaction's snapshots.
        self.end_portals();
        let committed = open.transaction.commit();
        self.context.end_transaction(committed.is_ok());
        self.commit_lsn = committed?.or(self.commit_lsn);
        Ok(())
    }

    fn roll_back_open(&mut self, open: Option<Open>) {
        self.end_portals();
        if let Some(open) = open {
            open.transaction.rollback();
        }
        self.context.end_transaction(false);
    }

    /// Rolls back whatever is open; the session's end.
    pub(super) fn abort_transaction(&mut self) {
        match std::mem::take(&mut self.block) {
            Block::Idle => {}
            Block::Implicit(open) | Block::Explicit(open) => self.roll_back_open(Some(open)),
            Block::Failed(open) => self.roll_back_open(open),
        }
    }

    /// Ends the implicit transaction, if there is one: commits. Call at Sync and at the end of a Query.
    pub fn end_statement_group(&mut self) -> Result<()> {
        match std::mem::take(&mut self.block) {
            Block::Implicit(open) => self.commit_open(open)?,
            other => self.block = other,
        }
        Ok(())
    }

    /// A statement failed: its writes go; an implicit transaction is rolled back, a block is failed.
    pub fn statement_failed(&mut self) {
        self.copy_in = None;
        self.context.interrupt.clear();
        match std::mem::take(&mut self.block) {
            Block::Idle => {}
            Block::Implicit(open) => self.roll_back_open(Some(open)),
            Block::Explicit(open) if open.savepoints.is_empty() => {
                // Nothing can be gone back to: give the locks back at once.
                self.end_portals();
                open.transaction.rollback();
                self.block = Block::Failed(None);
            }
            Block::Explicit(open) => {
                self.end_portals();
                open.transaction.end_statement(StatementOutcome::Discard);
                self.block = Block::Failed(Some(open));
            }
            failed @ Block::Failed(_) => self.block = failed,
        }
    }

    /// SAVEPOINT.
    pub(super) fn savepoint(&mut self, name: &str) -> Result<()> {
        self.check_not_failed()?;
        let settings = self.context.settings.lock().clone();
        let catalog_mark = self.context.catalog_mark();
        let Block::Explicit(open) = &mut self.block else { return Err(no_transaction("SAVEPOINT")) };
        let id = open.transaction.savepoint();
        open.savepoints.push(Savepoint { name: name.to_owned(), id, settings, catalog_mark });
        Ok(())
    }

    /// RELEASE SAVEPOINT.
    pub(super) fn release_savepoint(&mut self, name: &str) -> Result<()> {
        self.check_not_failed()?;
        let Block::Explicit(open) = &mut self.block else { return Err(no_transaction("RELEASE SAVEPOINT")) };
        let position = position_of(&open.savepoints, name)?;
        open.transaction.release(open.savepoints[position].id);
        open.savepoints.truncate(position);
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT: also what brings a failed transaction back.
    pub(super) fn rollback_to_savepoint(&mut self, name: &str) -> Result<()> {
        let mut open = match std::mem::take(&mut self.block) {
            Block::Explicit(open) | Block::Failed(Some(open)) => open,
            Block::Failed(None) => {
                self.block = Block::Failed(None);
                return Err(missing_savepoint(name));
            }
            other => {
                self.block = other;
                return Err(no_transaction("ROLLBACK TO SAVEPOINT"));
            }
        };
        let found = position_of(&open.savepoints, name);
        if let Ok(position) = found {
            self.end_portals();
            open.savepoints.truncate(position + 1);
            let savepoint = &open.savepoints[position];
            open.transaction.rollback_to(savepoint.id);
            self.context.settings.lock().rollback_to(&savepoint.settings);
            self.context.rollback_catalog_to(savepoint.catalog_mark);
            self.block = Block::Explicit(open);
            return Ok(());
        }
        self.block = Block::Failed(Some(open));
        found.map(drop)
    }
}

fn position_of(savepoints: &[Savepoint], name: &str) -> Result<usize> {
    savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| missing_savepoint(name))
}

fn missing_savepoint(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_SAVEPOINT_SPECIFICATION, format!("savepoint \"{name}\" does not exist"))
}

/// The name that `transaction_isolation` shows.
pub(super) fn isolation_name(isolation: IsolationLevel) -> &'static str {
    match isolation {
        IsolationLevel::ReadCommitted => "read committed",
        IsolationLevel::RepeatableRead => "repeatable read",
        IsolationLevel::Serializable => "serializable",
    }
}
