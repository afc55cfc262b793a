//! Reading the golden files: cases with the answers that PostgreSQL 15 gave, one a line, tab separated.

use std::sync::Arc;

use super::datetime::parse_zone;
use crate::error::Result;
use crate::functions::EvalContext;

/// The settings under which the golden files were made.
pub(crate) fn context() -> EvalContext {
    let zone = parse_zone("America/New_York").expect("in the database");
    EvalContext { time_zone: zone, clock: Arc::new(|| 0), ..EvalContext::detached() }
}

/// Runs `answer` over each line's fields but the last, and compares with the last: the text of the value,
/// `<NULL>`, or `!` with SQLSTATE and message. Reports all differences at once.
pub(crate) fn check(file: &str, answer: impl Fn(&[&str]) -> Result<Option<String>>) {
    let mut differences = Vec::new();
    let mut count = 0;
    for line in file.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        count += 1;
        let mut fields: Vec<&str> = line.split('\t').collect();
        let expected = fields.pop().expect("a line has fields");
        let found = match answer(&fields) {
            Ok(text) => text.unwrap_or_else(|| "<NULL>".into()).replace('\n', "\\n"),
            Err(error) => format!("!{} {}", error.state().0, error.message()),
        };
        if found != expected {
            differences.push(format!("{fields:?}\n    expected {expected}\n    found    {found}"));
        }
    }
    assert!(count > 0, "no cases");
    assert!(differences.is_empty(), "{} of {count} cases differ:\n{}", differences.len(), differences.join("\n"));
}
