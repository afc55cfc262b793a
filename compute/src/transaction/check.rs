//! The consistency check of pages: trees and page numbers as of one snapshot.
//!
//! Pages are read from the page servers, past the cache: that checks what is stored, checksums included, and
//! leaves the cache to those who work. Where the cache holds the same version, its bytes must be the same.
//! Memory at hand: a path of pages, some leaves ahead, a bit for each page of the branch.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pageserver::client::PageError;
use sql::error::{Result, SqlError, SqlState};
use sql::store::PageProblem;
use storage::btree::{self, Cursor, PageReader, SpaceCheck, TreeError, TreeVisitor};
use storage::page::Page;
use storage::upkeep::Upkeep;
use storage::{Lsn, PageNo, TreeId};

use crate::cache::{CacheError, PageCache};
use crate::sequencer::Sequencer;

/// Takes the problems; its error ends the check.
type Found<'f> = &'f mut dyn FnMut(PageProblem) -> Result<()>;

/// Why a page cannot be checked any further.
#[derive(Debug)]
enum CheckError {
    /// The page is the problem: a finding.
    Damaged(String),
    /// The check cannot go on.
    Stop(SqlError),
}

impl From<TreeError> for CheckError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Damaged { reason, .. } => Self::Damaged(reason.to_owned()),
            other => Self::Stop(crate::cache::tree_error(other)),
        }
    }
}

impl From<CheckError> for SqlError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Damaged(reason) => SqlError::new(SqlState::DATA_CORRUPTED, reason),
            CheckError::Stop(error) => error,
        }
    }
}

impl From<SqlError> for CheckError {
    fn from(error: SqlError) -> Self {
        Self::Stop(error)
    }
}

/// Pages as the page servers hold them at one LSN.
struct StoredReader {
    cache: Arc<PageCache>,
    at: Lsn,
    /// Asked for ahead, not yet read.
    ahead: RefCell<HashMap<PageNo, Result<Box<Page>, CacheError>>>,
}

impl StoredReader {
    fn judge(&self, number: PageNo, answer: Result<Box<Page>, CacheError>) -> Result<Box<Page>, CheckError> {
        let page = match answer {
            Ok(page) => page,
            Err(CacheError::Page(PageError::NotFound { .. })) => {
                return Err(CheckError::Damaged("page was never written".to_owned()));
            }
            Err(CacheError::Page(PageError::Damaged { reason, .. })) => return Err(CheckError::Damaged(reason)),
            Err(CacheError::Damaged { reason, .. }) => return Err(CheckError::Damaged(reason.to_owned())),
            Err(error) => return Err(CheckError::Stop(error.into())),
        };
        match self.cache.resident_bytes_are(number, self.at, &page) {
            Some(false) => Err(CheckError::Damaged("copy in memory differs from the stored page".to_owned())),
            _ => Ok(page),
        }
    }
}

impl PageReader for StoredReader {
    type Error = CheckError;
    type Ref<'a> = Box<Page>;
    type Owned = Box<Page>;

    fn page(&self, number: PageNo) -> Result<Box<Page>, CheckError> {
        let known = self.ahead.borrow_mut().remove(&number);
        let answer = match known {
            Some(answer) => answer,
            None => self.cache.read_stored(&[number], self.at).pop().expect("one answer for one page"),
        };
        self.judge(number, answer)
    }

    fn page_owned(&self, number: PageNo) -> Result<Box<Page>, CheckError> {
        self.page(number)
    }

    fn prefetch(&self, pages: &mut dyn Iterator<Item = PageNo>) {
        let pages: Vec<PageNo> = pages.collect();
        let answers = self.cache.read_stored(&pages, self.at);
        *self.ahead.borrow_mut() = pages.into_iter().zip(answers).collect();
    }
}

/// Passes a tree's problems on.
struct Report<'r, 'f> {
    tree: TreeId,
    space: &'r mut SpaceCheck,
    found: &'r mut Found<'f>,
    interrupted: &'r dyn Fn() -> Result<()>,
}

impl Report<'_, '_> {
    fn tell(&mut self, page: PageNo, problem: String) -> Result<(), CheckError> {
        (self.found)(PageProblem { tree: Some(self.tree), page, problem })?;
        Ok(())
    }
}

impl TreeVisitor<CheckError> for Report<'_, '_> {
    fn reach(&mut self, page: PageNo) -> bool {
        self.space.is_known(page) && self.space.reach(page)
    }

    fn problem(&mut self, page: PageNo, reason: &'static str) -> Result<(), CheckError> {
        self.tell(page, reason.to_owned())
    }

    fn unreadable(&mut self, page: PageNo, error: CheckError) -> Result<(), CheckError> {
        match error {
            CheckError::Damaged(reason) => self.tell(page, reason),
            stop => Err(stop),
        }
    }

    fn poll(&mut self) -> Result<(), CheckError> {
        Ok((self.interrupted)()?)
    }
}

/// See [`sql::store::Transaction::check_pages`]. `trees` are none of the caller's own.
pub(super) fn check_pages(
    sequencer: &Sequencer,
    at: Lsn,
    trees: &[TreeId],
    whole: bool,
    interrupted: &dyn Fn() -> Result<()>,
    mut found: Found<'_>,
) -> Result<()> {
    let reader = StoredReader { cache: sequencer.cache.clone(), at, ahead: RefCell::default() };
    let space = SpaceCheck::begin(&reader, &mut |page, reason| {
        Ok(found(PageProblem { tree: None, page, problem: reason.to_owned() })?)
    })?;
    let Some(mut space) = space else { return Ok(()) };
    let visit = |tree: TreeId, space: &mut SpaceCheck, found: &mut Found<'_>| -> Result<()> {
        let mut report = Report { tree, space, found, interrupted };
        btree::visit_tree(&reader, tree, &mut report)?;
        Ok(())
    };
    visit(sequencer.upkeep_tree, &mut space, &mut found)?;
    // Reserved and dropped pages first: a tree that reaches one of them is the one at fault.
    let mut cursor = Cursor::new(&reader, sequencer.upkeep_tree);
    let mut on_row = cursor.seek_first()?;
    while on_row {
        interrupted()?;
        match Upkeep::decode(cursor.key(), cursor.value()) {
            Ok(Upkeep::Run { first, pages }) => {
                for page in (first.0..first.0.saturating_add(pages)).map(PageNo) {
                    space.add(page, &mut |page, reason| {
                        found(PageProblem { tree: None, page, problem: format!("reserved for a load: {reason}") })
                    })?;
                }
            }
            Ok(Upkeep::Dropped { tree }) => visit(tree, &mut space, &mut found)?,
            Err(error) => {
                let problem = format!("upkeep tree: {error}");
                found(PageProblem { tree: Some(sequencer.upkeep_tree), page: sequencer.upkeep_tree.0, problem })?;
            }
        }
        on_row = cursor.next_row()?;
    }
    if whole {
        visit(sequencer.catalog_tree, &mut space, &mut found)?;
    }
    for tree in trees {
        visit(*tree, &mut space, &mut found)?;
    }
    if whole {
        space.finish(&mut |page, reason| {
            interrupted()?;
            found(PageProblem { tree: None, page, problem: reason.to_owned() })
        })?;
    }
    Ok(())
}
