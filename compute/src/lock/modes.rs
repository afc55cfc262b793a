//! Postgres' table lock modes as sets, and which exclude which.

use sql::store::{RowLockMode, TableLockMode};

/// A set of lock modes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockModes(u8);

const ALL: [TableLockMode; 8] = [
    TableLockMode::AccessShare,
    TableLockMode::RowShare,
    TableLockMode::RowExclusive,
    TableLockMode::ShareUpdateExclusive,
    TableLockMode::Share,
    TableLockMode::ShareRowExclusive,
    TableLockMode::Exclusive,
    TableLockMode::AccessExclusive,
];

impl LockModes {
    /// No mode.
    pub(crate) const NONE: LockModes = LockModes(0);

    /// The set of one mode.
    pub(crate) const fn of(mode: TableLockMode) -> Self {
        Self(1 << mode as u8)
    }

    /// A row mode, as the table mode with the same conflicts: Share admits Share, AccessExclusive nothing.
    pub(crate) const fn of_row(mode: RowLockMode) -> Self {
        match mode {
            RowLockMode::Share => Self::of(TableLockMode::Share),
            RowLockMode::Exclusive => Self::of(TableLockMode::AccessExclusive),
        }
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when whoever holds `self` need not ask for `other`: it holds that, or keeps everybody out.
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.contains(other) || self.contains(Self::of(TableLockMode::AccessExclusive))
    }

    const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True when a holder of `self` keeps out a request for `other`. Symmetric.
    pub(crate) fn conflicts_with(self, other: Self) -> bool {
        ALL.iter().any(|mode| self.contains(Self::of(*mode)) && other.intersects(conflicts_of(*mode)))
    }

    /// True for table modes that exclude those who write rows.
    pub(crate) fn keeps_writers_out(self) -> bool {
        self.conflicts_with(Self::of(TableLockMode::RowExclusive))
    }

    /// The strongest mode's name, as Postgres writes it.
    pub(crate) fn name(self) -> &'static str {
        match ALL.iter().rev().find(|mode| self.contains(Self::of(**mode))) {
            Some(TableLockMode::AccessShare) => "AccessShareLock",
            Some(TableLockMode::RowShare) => "RowShareLock",
            Some(TableLockMode::RowExclusive) => "RowExclusiveLock",
            Some(TableLockMode::ShareUpdateExclusive) => "ShareUpdateExclusiveLock",
            Some(TableLockMode::Share) => "ShareLock",
            Some(TableLockMode::ShareRowExclusive) => "ShareRowExclusiveLock",
            Some(TableLockMode::Exclusive) => "ExclusiveLock",
            Some(TableLockMode::AccessExclusive) => "AccessExclusiveLock",
            None => "NoLock",
        }
    }
}

/// PostgreSQL's documentation, 13.3.1, table "Conflicting Lock Modes". Bits from AccessShare (lowest) up.
const fn conflicts_of(mode: TableLockMode) -> LockModes {
    LockModes(match mode {
        TableLockMode::AccessShare => 0b1000_0000,
        TableLockMode::RowShare => 0b1100_0000,
        TableLockMode::RowExclusive => 0b1111_0000,
        TableLockMode::ShareUpdateExclusive => 0b1111_1000,
        TableLockMode::Share => 0b1110_1100,
        TableLockMode::ShareRowExclusive => 0b1111_1100,
        TableLockMode::Exclusive => 0b1111_1110,
        TableLockMode::AccessExclusive => 0b1111_1111,
    })
}
