//! Commands of Postgres that have no tree of their own here: those refused by name (0A000), and those that need
//! hardly anything but their name (REINDEX, CHECKPOINT, SET CONSTRAINTS).
//!
//! They travel as a `PRAGMA` node, which no Postgres statement becomes, so that they are judged when they run:
//! in an aborted transaction block they answer as any other statement does.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Statement, Value};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::{is_word, keyword};
use crate::error::{Result, SqlError, SqlState};

/// Name of the carrying node.
const CARRIER: &str = "alluvium_command";

/// Heads of commands that are refused, longer ones before their beginnings. `OR REPLACE` and the like after the
/// verb are passed over.
const REFUSED: &[&str] = &[
    "ALTER AGGREGATE",
    "ALTER COLLATION",
    "ALTER CONVERSION",
    "ALTER DEFAULT PRIVILEGES",
    "ALTER DOMAIN",
    "ALTER EVENT TRIGGER",
    "ALTER EXTENSION",
    "ALTER FOREIGN DATA WRAPPER",
    "ALTER FOREIGN TABLE",
    "ALTER FUNCTION",
    "ALTER LANGUAGE",
    "ALTER LARGE OBJECT",
    "ALTER MATERIALIZED VIEW",
    "ALTER OPERATOR CLASS",
    "ALTER OPERATOR FAMILY",
    "ALTER OPERATOR",
    "ALTER POLICY",
    "ALTER PROCEDURE",
    "ALTER PUBLICATION",
    "ALTER ROUTINE",
    "ALTER RULE",
    "ALTER SERVER",
    "ALTER STATISTICS",
    "ALTER SUBSCRIPTION",
    "ALTER SYSTEM",
    "ALTER TABLESPACE",
    "ALTER TEXT SEARCH CONFIGURATION",
    "ALTER TEXT SEARCH DICTIONARY",
    "ALTER TEXT SEARCH PARSER",
    "ALTER TEXT SEARCH TEMPLATE",
    "ALTER TRIGGER",
    "ALTER TYPE",
    "ALTER USER MAPPING",
    "CALL",
    "CLUSTER",
    "COMMIT PREPARED",
    "CREATE ACCESS METHOD",
    "CREATE AGGREGATE",
    "CREATE CAST",
    "CREATE COLLATION",
    "CREATE CONVERSION",
    "CREATE DOMAIN",
    "CREATE EVENT TRIGGER",
    "CREATE EXTENSION",
    "CREATE FOREIGN DATA WRAPPER",
    "CREATE FOREIGN TABLE",
    "CREATE FUNCTION",
    "CREATE LANGUAGE",
    "CREATE MATERIALIZED VIEW",
    "CREATE OPERATOR CLASS",
    "CREATE OPERATOR FAMILY",
    "CREATE OPERATOR",
    "CREATE POLICY",
    "CREATE PROCEDURE",
    "CREATE PUBLICATION",
    "CREATE RULE",
    "CREATE SERVER",
    "CREATE STATISTICS",
    "CREATE SUBSCRIPTION",
    "CREATE TABLESPACE",
    "CREATE TEXT SEARCH CONFIGURATION",
    "CREATE TEXT SEARCH DICTIONARY",
    "CREATE TEXT SEARCH PARSER",
    "CREATE TEXT SEARCH TEMPLATE",
    "CREATE TRANSFORM",
    "CREATE TRIGGER",
    "CREATE TYPE",
    "CREATE USER MAPPING",
    "DO",
    "DROP ACCESS METHOD",
    "DROP AGGREGATE",
    "DROP CAST",
    "DROP COLLATION",
    "DROP CONVERSION",
    "DROP DOMAIN",
    "DROP EVENT TRIGGER",
    "DROP EXTENSION",
    "DROP FOREIGN DATA WRAPPER",
    "DROP FOREIGN TABLE",
    "DROP FUNCTION",
    "DROP LANGUAGE",
    "DROP MATERIALIZED VIEW",
    "DROP OPERATOR CLASS",
    "DROP OPERATOR FAMILY",
    "DROP OPERATOR",
    "DROP OWNED",
    "DROP POLICY",
    "DROP PROCEDURE",
    "DROP PUBLICATION",
    "DROP ROUTINE",
    "DROP RULE",
    "DROP SERVER",
    "DROP STATISTICS",
    "DROP SUBSCRIPTION",
    "DROP TABLESPACE",
    "DROP TEXT SEARCH CONFIGURATION",
    "DROP TEXT SEARCH DICTIONARY",
    "DROP TEXT SEARCH PARSER",
    "DROP TEXT SEARCH TEMPLATE",
    "DROP TRANSFORM",
    "DROP TRIGGER",
    "DROP TYPE",
    "DROP USER MAPPING",
    "IMPORT FOREIGN SCHEMA",
    "LISTEN",
    "LOAD",
    "MERGE",
    "NOTIFY",
    "PREPARE TRANSACTION",
    "REASSIGN OWNED",
    "REFRESH MATERIALIZED VIEW",
    "ROLLBACK PREPARED",
    "SECURITY LABEL",
];

/// Words between CREATE and the kind of object.
const MODIFIERS: &[&str] = &["or", "replace", "trusted", "procedural", "constraint", "default"];

/// A command that is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Refused by this name.
    Refused(String),
    /// CHECKPOINT.
    Checkpoint,
    /// REINDEX of an `index`, `table`, `schema`, `database` or `system`.
    Reindex {
        /// Which of them.
        kind: String,
        /// Its name.
        name: Option<ObjectName>,
    },
    /// SET CONSTRAINTS of these names; none is ALL.
    SetConstraints(Option<ObjectName>),
}

/// The command in a carrying node.
pub fn command(statement: &Statement) -> Option<Command> {
    let Statement::Pragma { name: ObjectName(parts), value: Some(value), .. } = statement else { return None };
    let (first, rest) = parts.split_first()?;
    if first.as_ident()?.value != CARRIER {
        return None;
    }
    let Value::SingleQuotedString(head) = &value.value else { return None };
    let name = (!rest.is_empty()).then(|| ObjectName(rest.to_vec()));
    Some(match head.split_once(' ') {
        None if head == "CHECKPOINT" => Command::Checkpoint,
        Some(("REINDEX", kind)) => Command::Reindex { kind: kind.to_owned(), name },
        Some(("SET", "CONSTRAINTS")) => Command::SetConstraints(name),
        _ => Command::Refused(head.clone()),
    })
}

/// The statement that carries a command, if these are its tokens.
pub(super) fn carrier(tokens: &[TokenWithSpan]) -> Result<Option<Statement>> {
    if keyword(tokens.first()) == Keyword::PREPARE
        && is_word(tokens.get(1), "transaction")
        && !matches!(tokens.get(2).map(|token| &token.token), Some(Token::SingleQuotedString(_)))
    {
        return Ok(None);
    }
    if is_word(tokens.first(), "checkpoint") {
        return at_end(tokens, 1).map(|()| Some(carry("CHECKPOINT", Vec::new())));
    }
    if is_word(tokens.first(), "reindex") {
        return reindex(tokens).map(Some);
    }
    if keyword(tokens.first()) == Keyword::SET && is_word(tokens.get(1), "constraints") {
        return set_constraints(tokens).map(Some);
    }
    Ok(REFUSED.iter().find(|head| begins_with(tokens, head)).map(|head| carry(head, Vec::new())))
}

fn begins_with(tokens: &[TokenWithSpan], head: &str) -> bool {
    let mut words = head.split(' ');
    if !words.next().is_some_and(|verb| is_word(tokens.first(), verb)) {
        return false;
    }
    let mut at = 1;
    // `ALTER DEFAULT PRIVILEGES` is the one command that has such a word in its name.
    while !is_word(tokens.get(at + 1), "privileges")
        && MODIFIERS.iter().any(|modifier| is_word(tokens.get(at), modifier))
    {
        at += 1;
    }
    words.enumerate().all(|(offset, word)| is_word(tokens.get(at + offset), word))
}

fn carry(head: &str, name: Vec<ObjectNamePart>) -> Statement {
    let mut parts = vec![ObjectNamePart::Identifier(Ident::new(CARRIER))];
    parts.extend(name);
    Statement::Pragma {
        name: ObjectName(parts),
        value: Some(Value::SingleQuotedString(head.to_owned()).into()),
        is_eq: false,
    }
}

/// `REINDEX [ ( option, … ) ] { INDEX | TABLE | SCHEMA | DATABASE | SYSTEM } [ CONCURRENTLY ] name`.
fn reindex(tokens: &[TokenWithSpan]) -> Result<Statement> {
    let mut at = 1;
    if matches!(tokens.get(at).map(|token| &token.token), Some(Token::LParen)) {
        while !matches!(tokens.get(at).map(|token| &token.token), Some(Token::RParen) | None) {
            at += 1;
        }
        at += 1;
    }
    let kinds = ["index", "table", "schema", "database", "system"];
    let Some(kind) = kinds.into_iter().find(|kind| is_word(tokens.get(at), kind)) else {
        return Err(unexpected(tokens, at));
    };
    at += 1;
    if is_word(tokens.get(at), "concurrently") {
        at += 1;
    }
    let name = dotted(tokens, &mut at)?;
    at_end(tokens, at)?;
    Ok(carry(&format!("REINDEX {kind}"), name))
}

/// `SET CONSTRAINTS { ALL | name, … } { DEFERRED | IMMEDIATE }`. Of several names the first is kept.
fn set_constraints(tokens: &[TokenWithSpan]) -> Result<Statement> {
    let mut at = 2;
    let mut first = Vec::new();
    if keyword(tokens.get(at)) == Keyword::ALL {
        at += 1;
    } else {
        first = dotted(tokens, &mut at)?;
        while matches!(tokens.get(at).map(|token| &token.token), Some(Token::Comma)) {
            at += 1;
            dotted(tokens, &mut at)?;
        }
    }
    if !is_word(tokens.get(at), "deferred") && !is_word(tokens.get(at), "immediate") {
        return Err(unexpected(tokens, at));
    }
    at_end(tokens, at + 1)?;
    Ok(carry("SET CONSTRAINTS", first))
}

fn dotted(tokens: &[TokenWithSpan], at: &mut usize) -> Result<Vec<ObjectNamePart>> {
    let mut parts = Vec::new();
    loop {
        let Some(Token::Word(word)) = tokens.get(*at).map(|token| &token.token) else {
            return Err(unexpected(tokens, *at));
        };
        parts.push(ObjectNamePart::Identifier(word.clone().into_ident(tokens[*at].span)));
        *at += 1;
        if !matches!(tokens.get(*at).map(|token| &token.token), Some(Token::Period)) {
            return Ok(parts);
        }
        *at += 1;
    }
}

fn at_end(tokens: &[TokenWithSpan], at: usize) -> Result<()> {
    if at >= tokens.len() { Ok(()) } else { Err(unexpected(tokens, at)) }
}

fn unexpected(tokens: &[TokenWithSpan], at: usize) -> SqlError {
    let message = match tokens.get(at) {
        Some(token) => format!("syntax error at or near \"{}\"", token.token),
        None => "syntax error at end of input".to_owned(),
    };
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

/// Clauses that sqlparser does not read, by the kind of object that they stand in (a word at a statement's beginning; empty:
/// anywhere), and what a refusal calls them.
const CLAUSES: &[(&str, &[&str], &str)] = &[
    ("table", &["exclude", "using"], "an EXCLUDE constraint"),
    ("table", &["exclude", "("], "an EXCLUDE constraint"),
    ("table", &["attach", "partition"], "table partitioning"),
    ("table", &["detach", "partition"], "table partitioning"),
    ("table", &["enable", "trigger"], "ALTER TABLE ENABLE TRIGGER"),
    ("table", &["disable", "trigger"], "ALTER TABLE DISABLE TRIGGER"),
    ("table", &["enable", "rule"], "ALTER TABLE ENABLE RULE"),
    ("table", &["disable", "rule"], "ALTER TABLE DISABLE RULE"),
    ("table", &["enable", "always"], "ALTER TABLE ENABLE ALWAYS"),
    ("table", &["enable", "replica"], "ALTER TABLE ENABLE REPLICA"),
    ("table", &["force", "row"], "row-level security"),
    ("table", &["replica", "identity"], "REPLICA IDENTITY"),
    ("table", &["set", "logged"], "ALTER TABLE SET LOGGED"),
    ("table", &["set", "unlogged"], "ALTER TABLE SET UNLOGGED"),
    ("table", &["set", "access"], "a table access method"),
    ("table", &["using", "heap"], "a table access method"),
    ("table", &["set", "without"], "ALTER TABLE SET WITHOUT"),
    ("table", &["set", "compression"], "a column's COMPRESSION"),
    ("table", &["compression"], "a column's COMPRESSION"),
    ("table", &["set", "("], "ALTER TABLE SET of parameters"),
    ("table", &["reset", "("], "ALTER TABLE RESET of parameters"),
    ("table", &["drop", "expression"], "a generated column"),
    ("table", &["cluster", "on"], "ALTER TABLE CLUSTER ON"),
    ("table", &["not", "of"], "a typed table"),
    ("table", &["alter", "constraint"], "ALTER TABLE ALTER CONSTRAINT"),
    ("table", &["inherit"], "table inheritance"),
    ("table", &["inherits"], "table inheritance"),
    ("table", &["partition"], "table partitioning"),
    ("table", &["of"], "a typed table"),
    ("table", &["tablespace"], "a tablespace"),
    ("table", &["nulls", "not", "distinct"], "UNIQUE NULLS NOT DISTINCT"),
    ("table", &["including"], "LIKE … INCLUDING"),
    ("table", &["excluding"], "LIKE … EXCLUDING"),
    ("table", &["include", "("], "INCLUDE in a constraint"),
    ("table", &["using", "index"], "a constraint USING INDEX"),
    ("index", &["tablespace"], "a tablespace"),
    ("view", &["recursive"], "CREATE RECURSIVE VIEW"),
    ("view", &["check", "option"], "WITH CHECK OPTION"),
    ("view", &["with", "("], "an option of a view"),
    ("schema", &["create"], "CREATE SCHEMA with objects in it"),
    ("on", &["function"], "COMMENT ON FUNCTION"),
    ("on", &["procedure"], "COMMENT ON PROCEDURE"),
    ("on", &["aggregate"], "COMMENT ON AGGREGATE"),
    ("on", &["operator"], "COMMENT ON OPERATOR"),
    ("on", &["cast"], "COMMENT ON CAST"),
    ("on", &["trigger"], "COMMENT ON TRIGGER"),
    ("on", &["rule"], "COMMENT ON RULE"),
    ("on", &["language"], "COMMENT ON LANGUAGE"),
    ("on", &["large", "object"], "COMMENT ON LARGE OBJECT"),
    ("", &["rows", "from"], "ROWS FROM"),
    ("", &["using", "<"], "ORDER BY USING"),
    ("", &["using", ">"], "ORDER BY USING"),
];

/// What a text that does not parse uses of Postgres' syntax and we do not have, by name.
pub(super) fn unsupported_clause(tokens: &[TokenWithSpan]) -> Option<&'static str> {
    let is = |at: usize, text: &str| match tokens.get(at).map(|token| &token.token) {
        Some(token @ (Token::LParen | Token::Lt | Token::Gt)) => token.to_string() == text,
        _ => is_word(tokens.get(at), text),
    };
    let of_kind = |kind: &str| kind.is_empty() || (1..5).any(|at| is(at, kind));
    let definition = ["create", "alter", "comment"].iter().any(|verb| is(0, verb));
    let stands = |words: &[&str]| {
        (1..tokens.len()).any(|at| words.iter().enumerate().all(|(offset, word)| is(at + offset, word)))
    };
    CLAUSES
        .iter()
        .find(|(kind, words, _)| (kind.is_empty() || definition) && of_kind(kind) && stands(words))
        .map(|(_, _, name)| *name)
}
