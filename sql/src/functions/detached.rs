//! An evaluation context without a session: for constants, stored defaults of the catalog, and tests.

use std::sync::Arc;

use super::{DateOrder, EvalContext, ScalarFunction, SessionFunctions};
use crate::error::{Result, SqlError};
use crate::types::Datum;

struct NoSession;

impl SessionFunctions for NoSession {
    fn call(&self, function: &'static ScalarFunction, _: &[Datum], _: &EvalContext) -> Result<Datum> {
        Err(SqlError::unsupported(format!("{}() outside of a session", function.name)))
    }

    fn relation_oid(&self, _: &str) -> Result<Option<u32>> {
        Ok(None)
    }

    fn relation_name(&self, _: u32) -> Option<String> {
        None
    }
}

impl EvalContext {
    /// A context in UTC, at 2000-01-01, with default settings and no session.
    pub fn detached() -> Self {
        Self {
            transaction_timestamp_us: 0,
            statement_timestamp_us: 0,
            clock: Arc::new(|| 0),
            time_zone: jiff::tz::TimeZone::UTC,
            date_order: DateOrder::default(),
            extra_float_digits: 1,
            session: Arc::new(NoSession),
        }
    }
}
