//! Redo: applies one operation to one page.
//!
//! A pure function of the page's bytes and the operation, used by the writer that makes a record and by
//! everybody who replays it, so that all hold the same bytes. It leaves the page LSN alone: after a
//! batch's last record, [`Page::set_lsn`] stamps every page that the batch touched.

use crate::page::{HEADER_BYTES, PAGE_SIZE_BYTES, Page, PageDamage, PageKind};
use crate::record::RedoOp;
use crate::varint::DecodeError;

/// The operation does not suit the page, or its bytes do not decode. On replay the log or the page is
/// damaged: stop serving the page (XX001).
///
/// The page's content is unspecified after an error, but its structure is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record cannot be replayed: {0}")]
pub struct RedoError(pub &'static str);

impl From<DecodeError> for RedoError {
    fn from(error: DecodeError) -> Self {
        RedoError(error.0)
    }
}

/// Applies `op` to `page`.
pub fn redo(page: &mut Page, op: &RedoOp<'_>) -> Result<(), RedoError> {
    match *op {
        RedoOp::Format { level, flags, tree, prefix } => {
            let kind = if level == 0 { PageKind::Leaf } else { PageKind::Internal };
            check_flags(flags)?;
            page.format_slotted(kind, level, flags, tree, prefix)
        }
        RedoOp::Insert { slot, entry } => page.insert_entry(slot.into(), entry),
        RedoOp::InsertRun { slot, entries } => {
            for (number, entry) in entries.iter().enumerate() {
                page.insert_entry(usize::from(slot) + number, entry?)?;
            }
            Ok(())
        }
        RedoOp::Update { slot, value, out_of_line } => page.replace_value(slot.into(), value, out_of_line),
        RedoOp::Splice { slot, keep_front, keep_back, middle } => {
            page.splice_value(slot.into(), keep_front.into(), keep_back.into(), middle)
        }
        RedoOp::Delete { slot, count } => page.remove_entries(slot.into(), count.into()),
        RedoOp::Rebuild { prefix_len } => page.rebuild(prefix_len.into()),
        RedoOp::SetFlags { flags } => {
            check_flags(flags)?;
            if !page.is_slotted() {
                return Err(RedoError("only roots of trees have flags"));
            }
            page.set_flags(flags);
            Ok(())
        }
        RedoOp::Image { start, end } => restore(page, start, end),
        RedoOp::Overflow { tree, next, pages, data } => page.format_overflow(tree, next, pages, data),
        RedoOp::MetaFormat { catalog, upkeep, next_page } => page.format_meta(catalog, upkeep, next_page),
        RedoOp::MetaExtend { count } => page.meta_extend(count),
        RedoOp::MetaPop { count } => page.meta_pop(count.into()),
        RedoOp::MetaPush { pages } => page.meta_push(pages),
        RedoOp::MetaSpill { head } => page.meta_spill(head),
        RedoOp::MetaRefill { next, pages } => page.meta_refill(next, pages),
        RedoOp::FreeList { next, pages } => page.format_free_list(next, pages),
    }
}

fn check_flags(flags: u8) -> Result<(), RedoError> {
    if flags & !crate::page::FLAG_OVERFLOW == 0 { Ok(()) } else { Err(RedoError("unknown flags")) }
}

fn restore(page: &mut Page, start: &[u8], end: &[u8]) -> Result<(), RedoError> {
    if start.len() < HEADER_BYTES || start.len() + end.len() > PAGE_SIZE_BYTES {
        return Err(RedoError("image is not a page"));
    }
    let lsn = page.lsn();
    page.clear();
    let bytes = page.bytes_mut();
    bytes[..start.len()].copy_from_slice(start);
    bytes[PAGE_SIZE_BYTES - end.len()..].copy_from_slice(end);
    if page.kind() == PageKind::Unused {
        page.clear();
        return Err(RedoError("image of an unused page"));
    }
    page.set_lsn(lsn);
    page.check().map_err(|damage| {
        page.clear();
        RedoError(match damage {
            PageDamage::Structure { reason } => reason,
            _ => "image of an unknown format version",
        })
    })
}
