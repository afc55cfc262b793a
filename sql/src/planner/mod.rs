//! Bound statement → [`Plan`](crate::plan::Plan).

mod context;

pub use context::{PlanContext, PlannedStatement, StatementKind};

use crate::error::{Result, SqlError};

/// Binds and plans a SELECT, INSERT, UPDATE, DELETE, VALUES or TABLE statement.
pub fn plan(_ast: &sqlparser::ast::Statement, _context: &PlanContext<'_>) -> Result<PlannedStatement> {
    Err(SqlError::unsupported("this statement"))
}
