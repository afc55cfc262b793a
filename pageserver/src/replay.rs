//! From an earlier state of a page and the records after it to the page. Pure.

use bytes::Bytes;
use storage::page::Page;
use storage::record::{Record, RedoOp};
use storage::redo::redo;
use storage::{BranchId, Lsn, PageNo};

/// Why a page cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {page}: {reason}")]
pub struct ReplayError {
    /// The page.
    pub page: PageNo,
    /// What does not fit.
    pub reason: String,
}

/// A record that sets a sealed page up as it is; `None` for bytes that cannot be told by one.
pub fn image_record(branch: BranchId, page_no: PageNo, sealed: &[u8]) -> Option<Bytes> {
    let page = Page::open(sealed, branch, page_no).ok()?;
    let op = RedoOp::image_of(&page);
    let mut restored = Page::unused();
    redo(&mut restored, &op).ok()?;
    restored.set_lsn(page.lsn());
    if restored.bytes() != page.bytes() {
        return None;
    }
    let mut bytes = Vec::new();
    Record { page: page_no, op }.encode(&mut bytes);
    Some(Bytes::from(bytes))
}

/// Whether the page's earlier state does not matter once this record is known.
pub fn initializes_page(record: &[u8]) -> bool {
    Record::bytes_initialize_page(record)
}

/// A page on its way from an earlier state to a later one.
pub struct Replay {
    branch: BranchId,
    page_no: PageNo,
    page: Box<Page>,
}

impl Replay {
    /// Begins with a page sealed by a branch (this one or an ancestor), or with none.
    pub fn new(branch: BranchId, page_no: PageNo, base: Option<(BranchId, &[u8])>) -> Result<Replay, ReplayError> {
        let page = match base {
            Some((sealed_by, bytes)) => Page::open(bytes, sealed_by, page_no)
                .map_err(|damage| ReplayError { page: page_no, reason: damage.to_string() })?,
            None => Page::unused(),
        };
        Ok(Replay { branch, page_no, page })
    }

    /// Applies the next record.
    pub fn apply(&mut self, lsn: Lsn, record: &[u8]) -> Result<(), ReplayError> {
        let failed = |reason: String| ReplayError { page: self.page_no, reason: format!("record at {lsn}: {reason}") };
        let record = Record::decode_exact(record).map_err(|error| failed(error.to_string()))?;
        if record.page != self.page_no {
            return Err(failed(format!("belongs to page {}", record.page)));
        }
        redo(&mut self.page, &record.op).map_err(|error| failed(error.to_string()))?;
        self.page.set_lsn(lsn);
        Ok(())
    }

    /// The page, sealed, and the LSN of its last record.
    pub fn finish(self) -> (Bytes, Lsn) {
        (self.page.seal(self.branch, self.page_no), self.page.lsn())
    }
}

/// The sealed page after `records` (oldest first) are applied to `base`; `None` when there is neither.
pub fn replay<'a>(
    branch: BranchId,
    page_no: PageNo,
    base: Option<(BranchId, &[u8])>,
    records: impl ExactSizeIterator<Item = (Lsn, &'a [u8])>,
) -> Result<Option<(Bytes, Lsn)>, ReplayError> {
    if base.is_none() && records.len() == 0 {
        return Ok(None);
    }
    let mut replay = Replay::new(branch, page_no, base)?;
    for (lsn, record) in records {
        replay.apply(lsn, record)?;
    }
    Ok(Some(replay.finish()))
}
