//! B+trees over pages.
//!
//! A tree is named by its root page, which never moves: when the root is full its content is pushed down
//! into a new page. Rows live in leaves; internal pages hold truncated separators. There are no sibling
//! pointers and no latches: a reader works at one LSN, at which every page is immutable, and the one
//! writer changes the latest versions (DESIGN §1).
//!
//! | to … | use |
//! |---|---|
//! | read one row, or many sorted ones | [`get`], [`get_many`] |
//! | scan | [`Cursor`] |
//! | find out, outside the sequencer, which pages a change will touch | [`locate`] |
//! | make sure, inside it, that a change cannot fail half way | [`prepare`] |
//! | change a tree | [`apply_sorted`] |
//! | put leaves built elsewhere in place of present ones | [`find_leaf_at`], [`measure_replacement`], [`replace_leaf`] |
//! | build one from sorted rows | [`crate::bulk`] |
//! | give a dropped one's pages back | [`reclaim_step`] |
//! | verify one | [`visit_tree`], [`SpaceCheck`] |
//!
//! Errors of an implementation of [`PageReader`] pass through; those of trees themselves are [`TreeError`].

mod access;
mod check;
mod cursor;
mod merge;
mod overflow;
mod prepare;
mod read;
mod reclaim;
mod replace;
mod space;
mod split;
#[cfg(test)]
mod tests;
mod write;

pub use access::{PageReader, PageWriter, TreeError};
pub use check::{TreeReport, TreeSummary, TreeVisitor, check_tree, visit_tree};
pub use cursor::Cursor;
pub use overflow::{free_overflow, write_overflow, write_overflow_to};
pub(crate) use prepare::is_inline;
pub use prepare::{Prepared, check_limits, prepare};
pub use read::{LocatedPages, Value, get, get_many, locate, read_overflow};
pub use reclaim::{Reclaimed, reclaim_step};
pub use replace::{
    LeafAt, Replacement, ReplacementNeeds, collect_value, count_leaves, find_leaf_at, finish_replacing,
    measure_replacement, replace_leaf,
};
pub use space::{PageSet, SpaceCheck, check_space};
pub(crate) use split::separator_len;
pub use write::{apply_sorted, apply_sorted_afresh, write_sorted};

/// Longest value: the longest row that SQL offers, and some room for its encoding.
pub const MAX_VALUE_BYTES: usize = (256 << 20) + (64 << 10);
