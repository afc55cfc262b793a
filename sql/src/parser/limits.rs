//! How large and how deep a statement may be. The tree of an operator chain is as deep as the chain is
//! long, and trees are walked and freed by recursion: unbounded depth would overrun a thread's stack and
//! end the process, so it is refused while it is still a flat list of tokens.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Result, SqlError, SqlState};

/// Longest query string, bytes. Larger values come as parameters or by COPY.
pub const MAX_STATEMENT_BYTES: usize = 256 << 20;

/// Deepest nesting of parentheses, brackets and CASE.
pub const MAX_NESTING: usize = 100;

/// Longest chain of operators within one parenthesis level and list item.
pub const MAX_CHAIN: usize = 2_000;

/// Recursion limit handed to the parser: several levels for one parenthesis.
pub(super) const PARSER_DEPTH: usize = 4 * MAX_NESTING;

pub(super) fn check_length(text: &str) -> Result<()> {
    if text.len() > MAX_STATEMENT_BYTES {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "query string is too long")
            .with_detail(format!("It has {} bytes; at most {MAX_STATEMENT_BYTES} are allowed.", text.len())));
    }
    Ok(())
}

/// Checks nesting and chains.
pub(super) fn check_shape(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut chains: Vec<usize> = vec![0];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket => {
                if chains.len() > 1 {
                    chains.pop();
                }
            }
            Token::Comma => *chains.last_mut().expect("never empty") = 0,
            Token::Word(word) => match word.keyword {
                Keyword::CASE => chains.push(0),
                Keyword::END if chains.len() > 1 => _ = chains.pop(),
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    *chains.last_mut().expect("never empty") += 1;
                }
                _ => {}
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::EscapedStringLiteral(_) => {}
            _ => *chains.last_mut().expect("never empty") += 1,
        }
        if chains.len() > MAX_NESTING || chains.last().is_some_and(|length| *length > MAX_CHAIN) {
            return Err(too_deep());
        }
    }
    Ok(())
}

#[cold]
pub(crate) fn too_deep() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").with_hint(
        "The statement nests expressions or chains operators too deeply; use lists, arrays or parameters instead.",
    )
}
