//! Postgres' DDL that the SQL parser does not know: roles, databases, ALTER SEQUENCE, GRANT and some ALTERs.
//!
//! The parser asks [`carrier`] first. A statement that is ours travels on as a `PRAGMA` node with its text
//! inside (no Postgres statement becomes one), and is read here when it is run. `Words` is all the grammar
//! needs: every statement is a head and a list of clauses.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Statement, Value};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::error::{Result, SqlError, SqlState};

/// Name of the carrying node.
const CARRIER: &str = "alluvium_ddl";

/// The statement of this text, if it is one of ours.
pub fn carrier(text: &str) -> Option<Statement> {
    let first = text.split(|char: char| !char.is_ascii_alphabetic()).next().unwrap_or_default();
    let verbs = ["create", "alter", "drop", "comment", "grant", "revoke"];
    if !verbs.iter().any(|verb| first.eq_ignore_ascii_case(verb)) {
        return None;
    }
    let words = Words::new(text).ok()?;
    if !is_ours(&words) {
        return None;
    }
    Some(Statement::Pragma {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(CARRIER))]),
        value: Some(Value::SingleQuotedString(text.to_owned()).into()),
        is_eq: false,
    })
}

/// The text in a carrying node.
pub(super) fn carried(statement: &Statement) -> Option<&str> {
    let Statement::Pragma { name, value: Some(value), .. } = statement else { return None };
    match &value.value {
        Value::SingleQuotedString(text) if name.to_string() == CARRIER => Some(text),
        _ => None,
    }
}

/// The command tag of a carried statement's first words, for read-only refusals and logs.
pub(super) fn head(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase()
}

fn is_ours(words: &Words) -> bool {
    let kinds = ["role", "user", "group", "database", "sequence"];
    let second = |list: &[&str]| list.iter().any(|word| words.is_at(1, word));
    match () {
        () if words.is_at(0, "create") => second(&kinds),
        () if words.is_at(0, "alter") && second(&["table"]) => {
            words.contains(&["set", "schema"])
                || words.contains(&["drop", "identity"])
                || words.contains(&["set", "generated"])
                || words.contains(&["set", "statistics"])
                || words.contains(&["set", "storage"])
        }
        () if words.is_at(0, "alter") => second(&kinds) || second(&["view", "index"]),
        () if words.is_at(0, "drop") => second(&["role", "user", "group", "database"]),
        () if words.is_at(0, "comment") => words.is_at(2, "constraint"),
        () => words.is_at(0, "grant") || words.is_at(0, "revoke"),
    }
}

/// The tokens of a statement, read one by one.
pub(super) struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    pub fn new(text: &str) -> Result<Self> {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize();
        let mut tokens = tokens.map_err(|error| SqlError::new(SqlState::SYNTAX_ERROR, error.message))?;
        tokens.retain(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon));
        Ok(Self { tokens, at: 0 })
    }

    fn is_at(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(Word { value, quote_style: None, .. }))
            if value.eq_ignore_ascii_case(word))
    }

    fn contains(&self, words: &[&str]) -> bool {
        (0..self.tokens.len()).any(|at| words.iter().enumerate().all(|(next, word)| self.is_at(at + next, word)))
    }

    pub fn is_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Whether the next word is this keyword, which stays.
    pub fn peek(&self, word: &str) -> bool {
        self.is_at(self.at, word)
    }

    /// Takes keywords when all of them come next.
    pub fn take(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(next, word)| self.is_at(self.at + next, word));
        if found {
            self.at += words.len();
        }
        found
    }

    /// Takes one of several keywords.
    pub fn take_any<'w>(&mut self, words: &[&'w str]) -> Option<&'w str> {
        words.iter().find(|word| self.take(&[word])).copied()
    }

    /// Takes keywords, or 42601.
    pub fn expect(&mut self, words: &[&str]) -> Result<()> {
        words.iter().try_for_each(|word| if self.take(&[word]) { Ok(()) } else { Err(self.error()) })
    }

    pub fn expect_end(&self) -> Result<()> {
        if self.is_end() { Ok(()) } else { Err(self.error()) }
    }

    /// Takes a punctuation mark.
    pub fn take_token(&mut self, token: &Token) -> bool {
        let found = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(found);
        found
    }

    /// The next name, folded unless quoted.
    pub fn name(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                let mut name = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                super::work::truncate_name(&mut name);
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.error()),
        }
    }

    /// A dotted name.
    pub fn qualified(&mut self) -> Result<ObjectName> {
        let mut parts = Vec::new();
        loop {
            parts.push(ObjectNamePart::Identifier(Ident::with_quote('"', self.name()?)));
            if !self.take_token(&Token::Period) {
                return Ok(ObjectName(parts));
            }
        }
    }

    /// Names with commas between.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A signed integer.
    pub fn integer(&mut self) -> Result<i64> {
        let start = self.at;
        let negative = self.take_token(&Token::Minus);
        if !negative {
            self.take_token(&Token::Plus);
        }
        match self.tokens.get(self.at) {
            Some(Token::Number(text, _)) => {
                let signed = if negative { format!("-{text}") } else { text.clone() };
                self.at += 1;
                signed.parse().map_err(|_| {
                    let message = format!("value \"{signed}\" is out of range for type bigint");
                    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
                })
            }
            _ => {
                self.at = start;
                Err(self.error())
            }
        }
    }

    /// Whether a number comes next.
    pub fn peeks_number(&self) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Number(..) | Token::Minus | Token::Plus))
    }

    /// A string literal.
    pub fn string(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.error()),
        }
    }

    /// The value of a setting: words, strings and numbers with commas between, as text.
    pub fn setting(&mut self) -> Result<String> {
        let values = self.list(|words| match words.tokens.get(words.at) {
            Some(Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)) => words.string(),
            Some(Token::Number(..) | Token::Minus) => {
                let negative = words.take_token(&Token::Minus);
                match words.tokens.get(words.at) {
                    Some(Token::Number(text, _)) => {
                        let text = if negative { format!("-{text}") } else { text.clone() };
                        words.at += 1;
                        Ok(text)
                    }
                    _ => Err(words.error()),
                }
            }
            _ => words.name(),
        })?;
        Ok(values.join(", "))
    }

    /// 42601 at the next token.
    pub fn error(&self) -> SqlError {
        let message = match self.tokens.get(self.at) {
            Some(token) => format!("syntax error at or near \"{token}\""),
            None => "syntax error at end of input".to_owned(),
        };
        SqlError::new(SqlState::SYNTAX_ERROR, message)
    }
}
