//! What may be wrong with a history, by name.

use std::fmt;

/// Names of what is wrong. Those with a G are Adya's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// G0: transactions overwrite each other in a circle.
    DirtyWrite,
    /// G1a: what a transaction that was given up appended, or took back, was read.
    AbortedRead,
    /// G1b: a part of what a transaction appended was read.
    IntermediateRead,
    /// G1c: transactions depend on each other in a circle.
    CircularInformationFlow,
    /// Two transactions read the same list and both wrote behind it.
    LostUpdate,
    /// A list that a transaction read twice had changed meanwhile, or a statement's snapshot was older than the one before.
    NonRepeatableRead,
    /// G-single: what a transaction read is not of one snapshot.
    ReadSkew,
    /// The same with several transactions whose snapshots do not fit together.
    NonadjacentCycle,
    /// What was acknowledged is nowhere.
    LostAppend,
    /// A value stands in a list twice.
    DuplicateAppend,
    /// A value that nobody appended there.
    UnknownValue,
    /// No order of appends explains what was read of a key.
    IncompatibleOrder,
    /// A transaction does not find what it has appended itself, as it has.
    OwnAppendsMissing,
    /// What was acknowledged before was not read.
    StaleRead,
    /// Something was read before its commit was asked for.
    EarlyRead,
    /// The order of commits is not the one in which they were asked for and told.
    TimeReversal,
}

impl Anomaly {
    fn name(self) -> &'static str {
        match self {
            Anomaly::DirtyWrite => "G0 (dirty write)",
            Anomaly::AbortedRead => "G1a (aborted read)",
            Anomaly::IntermediateRead => "G1b (intermediate read)",
            Anomaly::CircularInformationFlow => "G1c (circular information flow)",
            Anomaly::LostUpdate => "lost update",
            Anomaly::NonRepeatableRead => "non-repeatable read",
            Anomaly::ReadSkew => "G-single (read skew)",
            Anomaly::NonadjacentCycle => "G-nonadjacent",
            Anomaly::LostAppend => "lost append",
            Anomaly::DuplicateAppend => "duplicate append",
            Anomaly::UnknownValue => "unknown value",
            Anomaly::IncompatibleOrder => "incompatible order",
            Anomaly::OwnAppendsMissing => "own appends missing",
            Anomaly::StaleRead => "stale read",
            Anomaly::EarlyRead => "early read",
            Anomaly::TimeReversal => "time reversal",
        }
    }
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub anomaly: Anomaly,
    /// Those concerned, by their place in the history.
    pub transactions: Vec<usize>,
    /// For people.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, transactions {:?}: {}", self.anomaly.name(), self.transactions, self.text)
    }
}
