//! From an earlier state of a page and the records after it to the page. Pure.

use bytes::Bytes;
use storage::page::Page;
use storage::record::Record;
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

/// Whether the page's earlier state does not matter once this record is known.
pub fn initializes_page(record: &[u8]) -> bool {
    Record::decode_exact(record).is_ok_and(|record| record.op.initializes_page())
}

/// The sealed page after `records` (oldest first) are applied to `base`; `None` when there is neither.
pub fn replay<'a>(
    branch: BranchId,
    page_no: PageNo,
    base: Option<&[u8]>,
    records: impl ExactSizeIterator<Item = (Lsn, &'a [u8])>,
) -> Result<Option<(Bytes, Lsn)>, ReplayError> {
    let failed = |reason: String| ReplayError { page: page_no, reason };
    if base.is_none() && records.len() == 0 {
        return Ok(None);
    }
    let mut page = match base {
        Some(bytes) => Page::open(bytes, branch, page_no).map_err(|damage| failed(damage.to_string()))?,
        None => Page::unused(),
    };
    for (lsn, bytes) in records {
        let record = Record::decode_exact(bytes).map_err(|e| failed(format!("record at {lsn}: {e}")))?;
        if record.page != page_no {
            return Err(failed(format!("record at {lsn} belongs to page {}", record.page)));
        }
        redo(&mut page, &record.op).map_err(|e| failed(format!("record at {lsn}: {e}")))?;
        page.set_lsn(lsn);
    }
    let lsn = page.lsn();
    Ok(Some((page.seal(branch, page_no), lsn)))
}
