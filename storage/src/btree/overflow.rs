//! Writing and freeing values out of line.

use super::read::check_overflow;
use super::{PageWriter, TreeError};
use crate::bulk::BulkSink;
use crate::ids::{PageNo, TreeId};
use crate::page::{OVERFLOW_CAPACITY_BYTES, OverflowRef, head_capacity_bytes, head_pages, overflow_pages};
use crate::record::{PageRun, RedoOp};

/// Writes a value to new pages, which nothing points to yet.
pub fn write_overflow<W: PageWriter>(writer: &mut W, tree: TreeId, value: &[u8]) -> Result<OverflowRef, W::Error> {
    write_overflow_to(&mut Through(writer), tree, value)
}

struct Through<'a, W>(&'a mut W);

impl<W: PageWriter> BulkSink for Through<'_, W> {
    type Error = W::Error;

    fn allocate(&mut self) -> Result<PageNo, W::Error> {
        self.0.allocate()
    }

    fn write(&mut self, page: PageNo, op: &RedoOp<'_>) -> Result<(), W::Error> {
        self.0.apply(page, op)
    }
}

/// As [`write_overflow`], to pages that a bulk load owns.
pub fn write_overflow_to<S: BulkSink>(sink: &mut S, tree: TreeId, value: &[u8]) -> Result<OverflowRef, S::Error> {
    let numbers: Vec<PageNo> = (0..overflow_pages(value.len())).map(|_| sink.allocate()).collect::<Result<_, _>>()?;
    let (mut rest, mut pages) = (value, &numbers[..]);
    let mut named = Vec::new();
    while let Some((&head, after)) = pages.split_first() {
        let (followers, later) = after.split_at(head_pages(rest.len()));
        named.clear();
        named.extend(followers.iter().flat_map(|page| page.0.to_le_bytes()));
        let piece = take(&mut rest, head_capacity_bytes(followers.len()));
        let next = later.first().copied();
        sink.write(head, &RedoOp::Overflow { tree, next, pages: PageRun::new(&named), data: piece })?;
        for &page in followers {
            let data = take(&mut rest, OVERFLOW_CAPACITY_BYTES);
            sink.write(page, &RedoOp::Overflow { tree, next: None, pages: PageRun::new(&[]), data })?;
        }
        pages = later;
    }
    debug_assert!(rest.is_empty(), "{} bytes of the value are left", rest.len());
    Ok(OverflowRef { first: numbers[0], length_bytes: value.len() as u64 })
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> &'a [u8] {
    let (piece, left) = rest.split_at(bytes.min(rest.len()));
    *rest = left;
    piece
}

/// Gives a value's pages back. Its heads are in memory.
pub fn free_overflow<W: PageWriter>(writer: &mut W, tree: TreeId, reference: OverflowRef) -> Result<(), W::Error> {
    let mut pages = Vec::new();
    collect_overflow(writer, tree, reference, &mut pages)?;
    writer.free(&pages)
}

/// Appends the pages of a value to `pages`.
pub(super) fn collect_overflow<W: PageWriter>(
    writer: &W,
    tree: TreeId,
    reference: OverflowRef,
    pages: &mut Vec<PageNo>,
) -> Result<(), W::Error> {
    let limit = pages.len() + overflow_pages(usize::try_from(reference.length_bytes).unwrap_or(usize::MAX / 2));
    let mut head = Some(reference.first);
    while let Some(number) = head {
        let page = writer.latest(number)?;
        check_overflow(page, tree, number)?;
        pages.push(number);
        pages.extend(page.overflow_pages());
        if pages.len() > limit {
            let reason = "value has more pages than its length needs";
            return Err(TreeError::Damaged { tree, page: number, reason }.into());
        }
        head = page.overflow_next();
    }
    Ok(())
}
