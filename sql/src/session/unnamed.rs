//! Plans of unnamed prepared statements. Drivers that prepare nothing by name send Parse with every execution, mostly
//! with a text that has come before: it is then neither parsed nor planned again.

use std::collections::HashMap;
use std::sync::Arc;

use sqlparser::ast::Statement;

use super::Prepared;
use super::prepared::{CachedPlan, is_plannable};

/// Statements that a session keeps.
const MAX_STATEMENTS: usize = 256;
/// Longest text kept, bytes.
const MAX_TEXT_BYTES: usize = 4_000;

/// By text, with the parameter types that the client gave.
#[derive(Default)]
pub(super) struct UnnamedPlans {
    statements: HashMap<Box<str>, Entry>,
}

enum Entry {
    /// Has come once, which is not worth keeping a plan for.
    Seen,
    Kept {
        hints: Box<[u32]>,
        prepared: Arc<Prepared>,
        /// As it was first planned: an execution may since have planned it anew, for a changed catalog but with the
        /// parameter types and column names of before.
        plan: Option<CachedPlan>,
    },
}

impl UnnamedPlans {
    pub(super) fn get(&self, text: &str, hints: &[u32]) -> Option<(Arc<Prepared>, Option<CachedPlan>)> {
        match self.statements.get(text)? {
            Entry::Kept { hints: known, prepared, plan } if **known == *hints => Some((prepared.clone(), plan.clone())),
            Entry::Kept { .. } | Entry::Seen => None,
        }
    }

    /// Notes a statement that has been prepared; keeps one that comes again.
    pub(super) fn insert(&mut self, text: &str, hints: &[u32], prepared: &Arc<Prepared>) {
        if text.len() > MAX_TEXT_BYTES || !is_fit(text, prepared) {
            return;
        }
        if let Some(entry) = self.statements.get_mut(text) {
            *entry = Entry::Kept { hints: hints.into(), prepared: prepared.clone(), plan: prepared.cached() };
            return;
        }
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(text.into(), Entry::Seen);
    }
}

/// A string is read when the statement is planned, and what it means may depend on settings (`'1/2/2026'`) or on the
/// time (`'now'`): such statements are planned every time. Other literals mean the same for ever.
fn is_fit(text: &str, prepared: &Prepared) -> bool {
    let Some(parsed) = &prepared.parsed else { return false };
    let dollar_quotes = text.as_bytes().windows(2).any(|pair| pair[0] == b'$' && !pair[1].is_ascii_digit());
    let always_the_same = matches!(
        parsed.ast,
        Statement::StartTransaction { .. } | Statement::Commit { .. } | Statement::Rollback { savepoint: None, .. }
    );
    (always_the_same || is_plannable(&parsed.ast)) && !text.contains('\'') && !dollar_quotes
}
