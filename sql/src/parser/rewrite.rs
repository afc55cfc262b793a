//! Postgres syntax that sqlparser does not know, brought into a form that it does.
//!
//! Removed or replaced in the token stream: `ONLY` before a table (there is no inheritance, so it changes
//! nothing), `FOR NO KEY UPDATE` and `FOR KEY SHARE` (locked as UPDATE and SHARE), `ABORT`, boolean words
//! of COPY options, `RESET TIME ZONE`. Noted and put into fields of the tree that Postgres' own syntax
//! never fills: `OVERRIDING … VALUE` ([`overriding`]), `VACUUM`'s ANALYZE ([`vacuum_analyzes`]),
//! `CREATE UNLOGGED` ([`is_unlogged`]).

use sqlparser::ast::{
    Analyze, CopyOption, CreateTable, Expr, Ident, Insert, Query, SetExpr, Setting, Statement, UnaryOperator,
    VacuumStatement, Value, ValueWithSpan,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::error::{Result, SqlError, SqlState};

/// INSERT … OVERRIDING { SYSTEM | USER } VALUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Overriding {
    System,
    User,
}

const OVERRIDING: &str = "overriding";

/// The OVERRIDING clause of an INSERT.
pub fn overriding(insert: &Insert) -> Option<Overriding> {
    let setting = insert.settings.as_ref()?.iter().find(|setting| setting.key.value == OVERRIDING)?;
    match &setting.value {
        sqlparser::ast::Expr::Value(ValueWithSpan { value: Value::Boolean(true), .. }) => Some(Overriding::System),
        _ => Some(Overriding::User),
    }
}

/// The lower bound of a BETWEEN SYMMETRIC without its mark; `None` for a plain BETWEEN. The mark is the prefix operator
/// `!!`, which Postgres no longer has, at the bound's left edge.
pub fn symmetric(low: &Expr) -> Option<Expr> {
    match low {
        Expr::UnaryOp { op: UnaryOperator::PGPrefixFactorial, expr } => Some(Expr::clone(expr)),
        Expr::BinaryOp { left, op, right } => {
            let left = Box::new(symmetric(left)?);
            Some(Expr::BinaryOp { left, op: op.clone(), right: right.clone() })
        }
        Expr::Cast { kind, expr, data_type, array, format } => Some(Expr::Cast {
            kind: kind.clone(),
            expr: Box::new(symmetric(expr)?),
            data_type: data_type.clone(),
            array: *array,
            format: format.clone(),
        }),
        _ => None,
    }
}

/// Whether a CREATE TABLE was written as CREATE UNLOGGED TABLE.
pub fn is_unlogged(create: &CreateTable) -> bool {
    create.transient
}

/// Whether a VACUUM also asks for ANALYZE.
pub fn vacuum_analyzes(vacuum: &VacuumStatement) -> bool {
    vacuum.reindex
}

/// The ANALYZE of a VACUUM … ANALYZE.
pub fn analyze_of_vacuum(vacuum: &VacuumStatement) -> Statement {
    Statement::Analyze(Analyze {
        table_name: vacuum.table_name.clone(),
        partitions: None,
        for_columns: false,
        columns: Vec::new(),
        cache_metadata: false,
        noscan: false,
        compute_statistics: false,
        has_table_keyword: false,
    })
}

/// Whether COPY's FORCE_QUOTE was given as `*`.
pub fn copy_forces_all_quotes(option: &CopyOption) -> bool {
    matches!(option, CopyOption::ForceQuote(columns) if columns.len() == 1 && columns[0].value == "*")
}

/// What a rewrite took out of the tokens and has to go into the tree.
#[derive(Default)]
pub(super) struct Notes {
    overriding: Option<Overriding>,
    moves: bool,
    unlogged: bool,
}

impl Notes {
    pub(super) fn apply(&self, statement: &mut Statement) {
        if self.moves {
            super::cursor::mark_move(statement);
        }
        if let (true, Statement::CreateTable(create)) = (self.unlogged, &mut *statement) {
            create.transient = true;
        }
        let Some(overriding) = self.overriding else { return };
        let setting = Setting {
            key: Ident::new(OVERRIDING),
            value: sqlparser::ast::Expr::Value(Value::Boolean(overriding == Overriding::System).into()),
        };
        if let Some(insert) = insert_of(statement) {
            insert.settings = Some(vec![setting]);
        }
    }
}

fn insert_of(statement: &mut Statement) -> Option<&mut Insert> {
    match statement {
        Statement::Insert(insert) => Some(insert),
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => insert_of(statement),
        Statement::Query(query) => insert_of_query(query),
        _ => None,
    }
}

fn insert_of_query(query: &mut Query) -> Option<&mut Insert> {
    match query.body.as_mut() {
        SetExpr::Insert(statement) => insert_of(statement),
        _ => None,
    }
}

pub(super) fn keyword(token: Option<&TokenWithSpan>) -> Keyword {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

pub(super) fn is_word(token: Option<&TokenWithSpan>, text: &str) -> bool {
    matches!(token.map(|token| &token.token),
        Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

pub(super) fn word(text: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: text.to_owned(), quote_style: None, keyword })
}

/// Rewrites tokens in place.
pub(super) fn rewrite(tokens: &mut Vec<TokenWithSpan>) -> Notes {
    let mut notes = Notes { moves: super::cursor::write_out(tokens), ..Notes::default() };
    let first = keyword(tokens.first());
    if is_word(tokens.first(), "abort") {
        tokens[0].token = word("ROLLBACK", Keyword::ROLLBACK);
    }
    if first == Keyword::RESET && is_word(tokens.get(1), "time") && is_word(tokens.get(2), "zone") {
        tokens.remove(2);
        tokens[1].token = word("timezone", Keyword::TIMEZONE);
    }
    if first == Keyword::CREATE && is_word(tokens.get(1), "unlogged") {
        notes.unlogged = true;
        tokens.remove(1);
    }
    if first == Keyword::CREATE && keyword(tokens.get(1)) == Keyword::TABLE {
        if let [.., without, oids] = tokens.as_slice()
            && is_word(Some(without), "without")
            && is_word(Some(oids), "oids")
        {
            tokens.truncate(tokens.len() - 2);
        }
        name_columns_of_query(tokens);
    }
    let mut at = 0;
    while at < tokens.len() {
        match keyword(tokens.get(at)) {
            Keyword::NoKeyword
                if is_word(tokens.get(at), "overriding") && keyword(tokens.get(at + 2)) == Keyword::VALUE =>
            {
                notes.overriding = Some(match keyword(tokens.get(at + 1)) {
                    Keyword::SYSTEM => Overriding::System,
                    _ => Overriding::User,
                });
                tokens.drain(at..at + 3);
                continue;
            }
            Keyword::BETWEEN if is_word(tokens.get(at + 1), "symmetric") => {
                tokens[at + 1].token = Token::DoubleExclamationMark;
            }
            Keyword::BETWEEN if is_word(tokens.get(at + 1), "asymmetric") => {
                tokens.remove(at + 1);
            }
            Keyword::TABLE if begins_query(tokens, at) => {
                let span = tokens[at].span;
                let select = [word("SELECT", Keyword::SELECT), Token::Mul, word("FROM", Keyword::FROM)];
                tokens.splice(at..at + 1, select.map(|token| TokenWithSpan { token, span }));
            }
            Keyword::FOR if keyword(tokens.get(at + 1)) == Keyword::NO && is_word(tokens.get(at + 2), "key") => {
                tokens.drain(at + 1..at + 3);
            }
            Keyword::FOR if is_word(tokens.get(at + 1), "key") && is_word(tokens.get(at + 2), "share") => {
                tokens.remove(at + 1);
            }
            Keyword::FROM | Keyword::JOIN | Keyword::UPDATE | Keyword::TABLE
                if keyword(tokens.get(at + 1)) == Keyword::ONLY
                    && matches!(tokens.get(at + 2).map(|token| &token.token), Some(Token::Word(_))) =>
            {
                tokens.remove(at + 1);
            }
            Keyword::FREEZE | Keyword::HEADER if first == Keyword::COPY => {
                if let Some(next) = tokens.get_mut(at + 1) {
                    let truth = match &next.token {
                        Token::Word(word) if word.value.eq_ignore_ascii_case("on") => Some(true),
                        Token::Word(word) if word.value.eq_ignore_ascii_case("off") => Some(false),
                        Token::Word(word) if word.value.eq_ignore_ascii_case("match") => Some(true),
                        Token::Number(number, _) => Some(number != "0"),
                        _ => None,
                    };
                    match truth {
                        Some(true) => next.token = word("TRUE", Keyword::TRUE),
                        Some(false) => next.token = word("FALSE", Keyword::FALSE),
                        None => {}
                    }
                }
            }
            Keyword::FORCE_QUOTE if matches!(tokens.get(at + 1).map(|token| &token.token), Some(Token::Mul)) => {
                let span = tokens[at + 1].span;
                let star = Token::Word(Word { value: "*".into(), quote_style: Some('"'), keyword: Keyword::NoKeyword });
                let parts = [Token::LParen, star, Token::RParen].map(|token| TokenWithSpan { token, span });
                tokens.splice(at + 1..at + 2, parts);
            }
            _ => {}
        }
        at += 1;
    }
    notes
}

/// Whether a query may begin here, so that TABLE is the command.
fn begins_query(tokens: &[TokenWithSpan], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).and_then(|before| tokens.get(before)) else { return true };
    let opens = before.token == Token::LParen
        || matches!(
            keyword(Some(before)),
            Keyword::AS | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::ALL | Keyword::DISTINCT
        );
    opens && matches!(tokens.get(at + 1).map(|token| &token.token), Some(Token::Word(_)))
}

/// `CREATE TABLE t (a, b) AS query` is `CREATE TABLE t AS SELECT * FROM (query) AS t (a, b)`, and `WITH NO DATA` is
/// `LIMIT 0` of it.
fn name_columns_of_query(tokens: &mut Vec<TokenWithSpan>) {
    let Some(first) = tokens.iter().position(|token| keyword(Some(token)) == Keyword::AS) else { return };
    let span = tokens[first].span;
    let spanned = |token: Token| TokenWithSpan { token, span };
    let last = |words: &[&str], tokens: &[TokenWithSpan]| {
        tokens.len() > words.len()
            && tokens[tokens.len() - words.len()..].iter().zip(words).all(|(token, word)| is_word(Some(token), word))
    };
    let no_data = last(&["with", "no", "data"], tokens);
    if no_data {
        tokens.truncate(tokens.len() - 3);
    } else if last(&["with", "data"], tokens) {
        tokens.truncate(tokens.len() - 2);
    }
    // A list of names only: with types behind them it is no CREATE TABLE AS.
    let open = tokens[..first].iter().position(|token| token.token == Token::LParen);
    let names = open.filter(|open| {
        first - open > 2
            && tokens[first - 1].token == Token::RParen
            && tokens[open + 1..first - 1].iter().enumerate().all(|(at, token)| match &token.token {
                Token::Word(_) => at % 2 == 0,
                Token::Comma => at % 2 == 1,
                _ => false,
            })
    });
    if names.is_none() && !no_data {
        return;
    }
    let list: Vec<TokenWithSpan> = names.map_or(Vec::new(), |open| tokens.drain(open..first).collect());
    let query_at = first - list.len() + 1;
    let head = [word("SELECT", Keyword::SELECT), Token::Mul, word("FROM", Keyword::FROM), Token::LParen];
    tokens.splice(query_at..query_at, head.map(spanned));
    tokens.extend([Token::RParen, word("AS", Keyword::AS), word("query", Keyword::NoKeyword)].map(spanned));
    tokens.extend(list);
    if no_data {
        tokens.extend([word("LIMIT", Keyword::LIMIT), Token::Number("0".to_owned(), false)].map(spanned));
    }
}

/// `SELECT … INTO t` is `CREATE TABLE t AS SELECT …`.
pub(super) fn select_into(mut statement: Statement) -> Result<Statement> {
    let Statement::Query(query) = &mut statement else { return Ok(statement) };
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(statement) };
    let Some(into) = select.into.take() else { return Ok(statement) };
    let temporary = if into.temporary { "TEMPORARY " } else { "" };
    let text = format!("CREATE {temporary}TABLE {} AS SELECT 1", into.name);
    let created = super::parse(&text)?.pop().map(|parsed| parsed.ast);
    match (created, statement) {
        (Some(Statement::CreateTable(mut table)), Statement::Query(query)) => {
            table.query = Some(query);
            Ok(Statement::CreateTable(table))
        }
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in SELECT INTO")),
    }
}

/// Statements that sqlparser would read as another system's: VACUUM and ANALYZE with options.
pub(super) fn whole_statement(tokens: &[TokenWithSpan]) -> Result<Option<Statement>> {
    let first = keyword(tokens.first());
    if !matches!(first, Keyword::VACUUM | Keyword::ANALYZE) && !is_word(tokens.first(), "analyse") {
        return Ok(None);
    }
    let vacuum = first == Keyword::VACUUM;
    let (mut at, mut full, mut analyze) = (1, false, false);
    let mut option = |token: &TokenWithSpan| -> bool {
        let Token::Word(word) = &token.token else { return false };
        if word.quote_style.is_some() {
            return false;
        }
        match word.value.to_ascii_lowercase().as_str() {
            "full" => full = true,
            "analyze" | "analyse" => analyze = true,
            "verbose"
            | "freeze"
            | "skip_locked"
            | "disable_page_skipping"
            | "index_cleanup"
            | "process_toast"
            | "truncate"
            | "parallel" => {}
            _ => return false,
        }
        true
    };
    if matches!(tokens.get(1).map(|token| &token.token), Some(Token::LParen)) {
        at = 2;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match &token.token {
                Token::RParen => break,
                Token::Comma | Token::Number(..) => {}
                _ if is_word(Some(token), "on")
                    || is_word(Some(token), "off")
                    || is_word(Some(token), "true")
                    || is_word(Some(token), "false")
                    || is_word(Some(token), "auto")
                    || option(token) => {}
                other => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("unrecognized {} option \"{other}\"", if vacuum { "VACUUM" } else { "ANALYZE" }),
                    ));
                }
            }
        }
    } else {
        while tokens.get(at).is_some_and(&mut option) {
            at += 1;
        }
    }
    let mut rest = vec![TokenWithSpan::wrap(word("ANALYZE", Keyword::ANALYZE))];
    rest.extend_from_slice(&tokens[at..]);
    let mut depth = 0_i32;
    let mut several = false;
    for token in &rest {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Comma if depth == 0 => several = true,
            _ => {}
        }
    }
    if several {
        return Err(SqlError::unsupported("VACUUM or ANALYZE of several tables in one statement"));
    }
    let dialect = sqlparser::dialect::PostgreSqlDialect {};
    let mut parser = sqlparser::parser::Parser::new(&dialect).with_tokens_with_locations(rest);
    let Ok(Statement::Analyze(analyzed)) = parser.parse_statement() else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in VACUUM or ANALYZE"));
    };
    if parser.peek_token_ref().token != Token::EOF {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("syntax error at or near \"{}\"", parser.peek_token_ref().token),
        ));
    }
    if !vacuum {
        return Ok(Some(Statement::Analyze(analyzed)));
    }
    Ok(Some(Statement::Vacuum(VacuumStatement {
        full,
        sort_only: false,
        delete_only: false,
        reindex: analyze,
        recluster: false,
        table_name: analyzed.table_name,
        threshold: None,
        boost: false,
    })))
}
