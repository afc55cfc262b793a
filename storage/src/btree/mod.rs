//! B+trees over pages.

mod access;

pub use access::{PageReader, PageWriter, TreeError};
