//! Statements about upkeep that has nothing to do here (VACUUM, REINDEX, CHECKPOINT), and those refused by name.

use sqlparser::ast::{ObjectName, VacuumStatement};

use super::prepared::fold;
use super::utility::{Utility, done};
use super::{Session, Severity, TransactionStatus};
use crate::catalog::Relation;
use crate::error::{Result, SqlError, SqlState};
use crate::parser::Command;

impl Session {
    fn nothing_to_do(&self, message: &str, detail: &str) {
        let notice = SqlError::new(SqlState::SUCCESSFUL_COMPLETION, message).with_detail(detail);
        self.notify(Severity::Notice, notice);
    }

    /// VACUUM; its ANALYZE is run.
    pub(super) fn vacuum(&mut self, vacuum: &VacuumStatement) -> Result<Utility> {
        self.nothing_to_do(
            "VACUUM has nothing to do: old row versions are never stored in tables",
            "Pages are versioned by LSN; history is dropped with the layers that hold it.",
        );
        if crate::parser::vacuum_analyzes(vacuum) {
            let analyze = vacuum.table_name.as_ref().map_or("ANALYZE".to_owned(), |name| format!("ANALYZE {name}"));
            for statement in self.parse_script(&analyze)? {
                self.run_ddl(&statement.ast)?;
            }
        }
        done("VACUUM")
    }

    /// A command that the parser carries.
    pub(super) fn run_command(&mut self, command: Command) -> Result<Utility> {
        match command {
            Command::Refused(head) => Err(SqlError::unsupported(head)),
            Command::Checkpoint => {
                self.nothing_to_do(
                    "CHECKPOINT has nothing to do: a restart replays nothing",
                    "Commits are durable in the log; page servers make pages of it at their own pace.",
                );
                done("CHECKPOINT")
            }
            Command::Reindex { kind, name } => {
                if let Some(name) = &name {
                    self.require_reindexable(&kind, name)?;
                }
                self.nothing_to_do(
                    "REINDEX has nothing to do: indexes do not bloat",
                    "Dead entries are never stored in an index, and its pages are checked by checksum.",
                );
                done("REINDEX")
            }
            Command::SetConstraints(_) if self.transaction_status() != TransactionStatus::InTransaction => {
                let message = "SET CONSTRAINTS can only be used in transaction blocks";
                self.notify(Severity::Warning, SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, message));
                done("SET CONSTRAINTS")
            }
            // No constraint is deferrable, so ALL changes nothing.
            Command::SetConstraints(None) => done("SET CONSTRAINTS"),
            Command::SetConstraints(Some(name)) => {
                let shown = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect::<Vec<_>>().join(".");
                let constraint = shown.rsplit('.').next().unwrap_or_default();
                let catalog = self.context.catalog()?;
                Err(if catalog.constraint_named(constraint) {
                    let message = format!("constraint \"{shown}\" is not deferrable");
                    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
                } else {
                    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("constraint \"{shown}\" does not exist"))
                })
            }
        }
    }

    /// The errors of a REINDEX that names nothing.
    fn require_reindexable(&mut self, kind: &str, name: &ObjectName) -> Result<()> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        let (schema, last) = match parts.as_slice() {
            [last] => (None, last),
            [schema, last] => (Some(schema.as_str()), last),
            _ => return Err(SqlError::unsupported(format!("the cross-database reference \"{name}\""))),
        };
        self.transaction()?;
        let catalog = self.context.catalog()?;
        let search_path = self.context.search_path();
        let wrong = |message: String| Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        match kind {
            "index" => match catalog.require_relation(schema, last, &search_path)? {
                Relation::Index(_) => Ok(()),
                other => wrong(format!("\"{}\" is not an index", other.name())),
            },
            "table" => match catalog.require_relation(schema, last, &search_path)? {
                Relation::Table(_) => Ok(()),
                other => wrong(format!("\"{}\" is not a table or materialized view", other.name())),
            },
            "schema" if catalog.schema_oid(last).is_none() => {
                Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{last}\" does not exist")))
            }
            "database" | "system"
                if catalog.database_by_name(last).is_none() || last.as_str() != &*self.context.activity.database =>
            {
                Err(SqlError::unsupported("REINDEX of a database other than the open one"))
            }
            _ => Ok(()),
        }
    }
}
