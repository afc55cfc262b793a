//! What reading a page can fail with, and which SQLSTATE that is.

use pageserver::client::PageError;
use sql::error::{SqlError, SqlState};
use storage::btree::TreeError;
use storage::{Lsn, PageNo};

/// Why a page or what is in it could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheError {
    /// Raised by guarded readers only: fetch the page, then start over.
    #[error("page {page} as of {at} is not in memory")]
    Missing { page: PageNo, at: Lsn },
    /// What trees raise.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What page servers answer, retried where that helps.
    #[error(transparent)]
    Page(#[from] PageError),
    /// XX001. The page's bytes or its history contradict what is known of it.
    #[error("page {page} is damaged: {reason}")]
    Damaged { page: PageNo, reason: &'static str },
    /// 57014, 57P01, 08006. The statement that waited for the page has been told to stop.
    #[error("{0}")]
    Interrupted(SqlError),
    /// 53200. Everything in memory is pinned or newer than the durable LSN.
    #[error("no room in the page cache")]
    NoRoom,
}

impl From<CacheError> for SqlError {
    fn from(error: CacheError) -> Self {
        let text = error.to_string();
        match error {
            CacheError::Missing { .. } => SqlError::internal(text),
            CacheError::NoRoom => SqlError::new(SqlState::OUT_OF_MEMORY, text)
                .with_detail("All pages in memory are in use or not yet on a page server."),
            CacheError::Damaged { .. } => SqlError::new(SqlState::DATA_CORRUPTED, text),
            CacheError::Interrupted(error) => error,
            CacheError::Tree(error) => tree_error(error),
            CacheError::Page(error) => page_error(error),
        }
    }
}

/// A tree's error as a client sees it.
pub(crate) fn tree_error(error: TreeError) -> SqlError {
    let state = match error {
        TreeError::Damaged { .. } => SqlState::DATA_CORRUPTED,
        TreeError::KeyTooLong { .. } | TreeError::ValueTooLong { .. } => SqlState::PROGRAM_LIMIT_EXCEEDED,
        _ => SqlState::INTERNAL_ERROR,
    };
    SqlError::new(state, error.to_string())
}

/// PostgreSQL's code for a snapshot whose rows are gone.
const SNAPSHOT_TOO_OLD: SqlState = SqlState("72000");

fn page_error(error: PageError) -> SqlError {
    let text = error.to_string();
    match error {
        PageError::BelowHorizon { .. } => SqlError::new(SNAPSHOT_TOO_OLD, "snapshot too old").with_detail(text),
        PageError::Damaged { .. } | PageError::NotFound { .. } => SqlError::new(SqlState::DATA_CORRUPTED, text),
        PageError::Behind { .. }
        | PageError::NotServed { .. }
        | PageError::Unavailable { .. }
        | PageError::Overloaded { .. } => SqlError::new(SqlState::IO_ERROR, text),
    }
}
