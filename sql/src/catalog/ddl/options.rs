//! Storage parameters: `WITH (fillfactor = 70)` on tables and indexes.
//!
//! Postgres' parameters are taken and shown in `pg_class.reloptions`, so that schemas written for Postgres
//! load unchanged. They change nothing: pages here have no fill factor, and there is no vacuum to tune.

use sqlparser::ast::{BinaryOperator, CreateTableOptions, Expr, SqlOption, Value};

use super::work::identifier;
use crate::error::{Result, SqlError, SqlState};

const TABLE_PARAMETERS: &[&str] = &[
    "fillfactor",
    "toast_tuple_target",
    "parallel_workers",
    "user_catalog_table",
    "vacuum_index_cleanup",
    "vacuum_truncate",
    "log_autovacuum_min_duration",
];

const INDEX_PARAMETERS: &[&str] = &["fillfactor", "deduplicate_items"];

/// The parameters of a CREATE TABLE, as `name=value`.
pub(super) fn table_options(options: &CreateTableOptions) -> Result<Vec<String>> {
    let given = match options {
        CreateTableOptions::None => return Ok(Vec::new()),
        CreateTableOptions::With(given) => given,
        CreateTableOptions::Options(given)
        | CreateTableOptions::Plain(given)
        | CreateTableOptions::TableProperties(given) => match given.first() {
            None => return Ok(Vec::new()),
            Some(SqlOption::TableSpace(space)) if space.name.eq_ignore_ascii_case("pg_default") => {
                return Ok(Vec::new());
            }
            Some(SqlOption::TableSpace(space)) => return Err(undefined_tablespace(&space.name)),
            Some(option) => return Err(SqlError::unsupported(format!("table option \"{option}\""))),
        },
    };
    table_parameters(given)
}

/// Table parameters of WITH or SET.
pub(super) fn table_parameters(given: &[SqlOption]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for option in given {
        let (name, value) = match option {
            SqlOption::KeyValue { key, value } => (identifier(key), literal(value)?),
            SqlOption::Ident(key) => (identifier(key), "true".to_owned()),
            other => return Err(SqlError::unsupported(format!("table option \"{other}\""))),
        };
        if name == "oids" {
            if matches!(value.as_str(), "true" | "on" | "1") {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "tables declared WITH OIDS are not supported",
                ));
            }
            continue;
        }
        let known =
            TABLE_PARAMETERS.contains(&name.as_str()) || name.starts_with("autovacuum_") || name.starts_with("toast.");
        checked(&name, &value, known)?;
        found.push(format!("{name}={value}"));
    }
    Ok(found)
}

/// The parameters of a CREATE INDEX.
pub(super) fn index_options(options: &[Expr]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for option in options {
        let (name, value) = match option {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match left.as_ref() {
                Expr::Identifier(key) => (identifier(key), literal(right)?),
                other => return Err(SqlError::unsupported(format!("index option \"{other}\""))),
            },
            Expr::Identifier(key) => (identifier(key), "true".to_owned()),
            other => return Err(SqlError::unsupported(format!("index option \"{other}\""))),
        };
        checked(&name, &value, INDEX_PARAMETERS.contains(&name.as_str()))?;
        found.push(format!("{name}={value}"));
    }
    Ok(found)
}

fn checked(name: &str, value: &str, known: bool) -> Result<()> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    if !known {
        return Err(invalid(format!("unrecognized parameter \"{name}\"")));
    }
    if name == "fillfactor" {
        let factor = value
            .parse::<i64>()
            .map_err(|_| invalid(format!("invalid value for integer option \"fillfactor\": {value}")))?;
        if !(10..=100).contains(&factor) {
            return Err(invalid(format!("value {factor} out of bounds for option \"fillfactor\""))
                .with_detail("Valid values are between \"10\" and \"100\"."));
        }
    }
    Ok(())
}

fn literal(value: &Expr) -> Result<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Ok(text.clone()),
            Value::Boolean(truth) => Ok(truth.to_string()),
            other => Ok(other.to_string()),
        },
        Expr::Identifier(word) => Ok(identifier(word)),
        other => Ok(other.to_string()),
    }
}

/// 42704.
pub(super) fn undefined_tablespace(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("tablespace \"{name}\" does not exist"))
}
