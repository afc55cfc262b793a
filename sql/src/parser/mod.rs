//! SQL text → statements. sqlparser does the work with its PostgreSQL dialect; what it lacks of the
//! syntax that psql, pgbench and drivers send is rewritten in the token stream before (`rewrite`), and
//! its errors are turned into Postgres' (`syntax error at or near "x"`, with position).
//!
//! Bounds: text of [`MAX_STATEMENT_BYTES`], nesting of [`MAX_NESTING`], operator chains of
//! [`MAX_CHAIN`]; beyond them 54000 or 54001 instead of an exhausted stack.

mod commands;
mod cursor;
mod limits;
mod position;
mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlparser::ast::{self, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

pub use commands::{Command, command};
pub use cursor::is_move;
pub(crate) use limits::too_deep;
pub use limits::{MAX_CHAIN, MAX_NESTING, MAX_STATEMENT_BYTES};
pub use position::{byte_offset, character_position};
pub use rewrite::{
    Overriding, analyze_of_vacuum, copy_forces_all_quotes, is_unlogged, overriding, symmetric, vacuum_analyzes,
};

use crate::error::{Result, SqlError, SqlState};

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct ParsedStatement {
    /// Syntax tree. Its spans are lines and columns of `source`.
    pub ast: Statement,
    /// The statement's own text, without the semicolon.
    pub text: String,
    /// The whole query string, which error positions refer to.
    pub source: Arc<str>,
}

/// Parses a query string of any number of statements separated by semicolons.
pub fn parse(text: &str) -> Result<Vec<ParsedStatement>> {
    limits::check_length(text)?;
    let tokens = tokenize(text)?;
    let source: Arc<str> = Arc::from(text);
    let mut statements = Vec::new();
    for statement in tokens.split(|token| token.token == Token::SemiColon) {
        let (Some(first), Some(last)) = (statement.first(), statement.last()) else { continue };
        let start = byte_offset(text, first.span.start);
        let end = byte_offset(text, last.span.end);
        let ast = parse_tokens(statement.to_vec(), text)?;
        statements.push(ParsedStatement { ast, text: text[start..end].to_owned(), source: source.clone() });
    }
    Ok(statements)
}

/// Parses one query (a view's definition).
pub fn parse_query(text: &str) -> Result<Box<ast::Query>> {
    let mut statements = parse(text)?;
    match (statements.pop().map(|statement| statement.ast), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => Ok(query),
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "a single query is expected")),
    }
}

/// Parses one scalar expression (a default or a check condition).
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    limits::check_length(text)?;
    let mut tokens = tokenize(text)?;
    limits::check_shape(&tokens)?;
    rewrite::rewrite(&mut tokens);
    let dialect = PostgreSqlDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(limits::PARSER_DEPTH).with_tokens_with_locations(tokens.clone());
    let expr = parser.parse_expr().map_err(|error| to_sql_error(error, &tokens, text))?;
    expect_end(&parser, text)?;
    Ok(expr)
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>> {
    let dialect = PostgreSqlDialect {};
    let mut tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| {
        let start = byte_offset(text, error.location);
        let near = &text[start.min(text.len())..];
        let message = match error.message.as_str() {
            m if m.contains("Unterminated string") => format!("unterminated quoted string at or near \"{near}\""),
            m if m.contains("Unterminated dollar") => {
                format!("unterminated dollar-quoted string at or near \"{near}\"")
            }
            m if m.contains("multi-line comment") => format!("unterminated /* comment at or near \"{near}\""),
            m if m.contains("close quote") || m.contains("delimited identifier") => {
                format!("unterminated quoted identifier at or near \"{near}\"")
            }
            _ if near.is_empty() => "syntax error at end of input".to_owned(),
            _ => format!("syntax error at or near \"{}\"", near.chars().next().unwrap_or(' ')),
        };
        SqlError::new(SqlState::SYNTAX_ERROR, message).at(character_position(text, error.location))
    })?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    Ok(tokens)
}

fn parse_tokens(mut tokens: Vec<TokenWithSpan>, text: &str) -> Result<Statement> {
    limits::check_shape(&tokens)?;
    if let Some(statement) = rewrite::whole_statement(&tokens)? {
        return Ok(statement);
    }
    if let Some(statement) = commands::carrier(&tokens)? {
        return Ok(statement);
    }
    if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
        let own = &text[byte_offset(text, first.span.start)..byte_offset(text, last.span.end)];
        if let Some(statement) = crate::catalog::ddl::syntax::carrier(own) {
            return Ok(statement);
        }
    }
    let notes = rewrite::rewrite(&mut tokens);
    let dialect = PostgreSqlDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(limits::PARSER_DEPTH).with_tokens_with_locations(tokens);
    let parsed = parser.parse_statement();
    let end = expect_end(&parser, text);
    let tokens = parser.into_tokens();
    let failed = match (parsed, end) {
        (Ok(mut statement), Ok(())) => {
            notes.apply(&mut statement);
            return rewrite::select_into(statement);
        }
        (Ok(_), Err(error)) => error,
        (Err(error), _) => to_sql_error(error, &tokens, text),
    };
    Err(match commands::unsupported_clause(&tokens) {
        Some(clause) if failed.state() == SqlState::SYNTAX_ERROR => SqlError::unsupported(clause),
        _ => failed,
    })
}

fn expect_end(parser: &Parser<'_>, text: &str) -> Result<()> {
    let next = parser.peek_token_ref();
    match next.token {
        Token::EOF => Ok(()),
        _ => Err(syntax_error_at(next, text)),
    }
}

fn syntax_error_at(token: &TokenWithSpan, text: &str) -> SqlError {
    let start = byte_offset(text, token.span.start);
    let end = byte_offset(text, token.span.end).max(start);
    let near = &text[start..end];
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{near}\""))
        .at(character_position(text, token.span.start))
}

/// The parser's errors are text only, with ` at Line: l, Column: c` at the end.
fn to_sql_error(error: ParserError, tokens: &[TokenWithSpan], text: &str) -> SqlError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return limits::too_deep(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let location = message.rsplit_once(" at Line: ").and_then(|(_, rest)| {
        let (line, column) = rest.split_once(", Column: ")?;
        Some(Location { line: line.parse().ok()?, column: column.trim().parse().ok()? })
    });
    if let Some(location) = location
        && let Some(token) = tokens.iter().find(|token| token.span.start == location)
    {
        return syntax_error_at(token, text);
    }
    if location.is_some() || message.contains("found: EOF") {
        return SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
            .at(text.trim_end().chars().count() as u32 + 1);
    }
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error: {message}"))
}
