//! Exact decimal numbers of any precision and scale.

/// A numeric value.
#[derive(Clone, Debug, PartialEq)]
pub struct Numeric {}
