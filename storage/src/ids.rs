//! The words of the system as types: log positions, epochs, branches, pages, trees, shards.
//!
//! A function that takes a `PageNo` cannot be handed an `Lsn`. None of these types does arithmetic
//! that its meaning does not have.

use std::fmt;
use std::str::FromStr;

/// Byte position in a branch's log. `Lsn(n)` stands *between* bytes `n - 1` and `n`: a batch that
/// occupies `[start, end)` has been applied by a page whose LSN is `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The beginning of every log.
    pub const ZERO: Lsn = Lsn(0);
    /// Larger than any LSN that a log can reach.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position `bytes` further on. Panics on overflow: no log is 2^64 bytes long.
    #[must_use]
    pub fn advance(self, bytes: u64) -> Lsn {
        Lsn(self.0.checked_add(bytes).unwrap_or_else(|| panic!("LSN {self} + {bytes} overflows")))
    }

    /// Bytes from `earlier` to `self`. Panics when `earlier` is later.
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.checked_sub(earlier.0).unwrap_or_else(|| panic!("LSN {self} lies before {earlier}"))
    }
}

/// Printed like PostgreSQL's `pg_lsn`: two hexadecimal halves.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid LSN {text:?}: expected two hexadecimal numbers separated by a slash, such as 16/B374D848")]
pub struct ParseLsnError {
    /// What was given.
    pub text: String,
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let shaped = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            shaped.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError { text: text.to_owned() })
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

identifier! {
    /// Writer generation of a branch, granted by the log service; a higher one fences all lower.
    Epoch
}
identifier! {
    /// One line of history: one log stream and one page space.
    BranchId
}
identifier! {
    /// Page number within a branch. Pages are [`crate::page::PAGE_SIZE_BYTES`] long.
    PageNo
}
identifier! {
    /// A slice of a branch's page space, served by one page server at a time.
    ShardId
}
identifier! {
    /// Ownership generation of a shard; part of every object key that the owner writes.
    Generation
}

/// A B+tree, named by its root page, which never moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(pub PageNo);

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
