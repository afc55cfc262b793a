//! `IN` over a list of constants, as a hash set.

use crate::executor::hash::RowSet;
use crate::types::Datum;

/// The constants of an `IN` list.
pub(crate) struct ConstantList {
    values: RowSet,
    has_null: bool,
}

impl ConstantList {
    pub(crate) fn new(values: impl IntoIterator<Item = Datum>) -> Self {
        let mut list = Self { values: RowSet::default(), has_null: false };
        for value in values {
            if value.is_null() {
                list.has_null = true;
            } else {
                list.values.insert(&[value]);
            }
        }
        list
    }

    /// Whether a value is in the list; `None` when NULL keeps that open.
    pub(crate) fn contains(&self, value: Datum) -> Option<bool> {
        if value.is_null() {
            return None;
        }
        if self.values.find(&[value]).is_some() {
            return Some(true);
        }
        if self.has_null { None } else { Some(false) }
    }
}
