//! FETCH and MOVE in all the forms that Postgres reads: the direction and the word before the cursor's name
//! may be left out, and MOVE, which sqlparser does not know, is a FETCH that gives no rows.

use sqlparser::ast::{Ident, ObjectName, Statement};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::{is_word, keyword, word};

/// What a FETCH that stands for MOVE reads INTO; no client can write this name.
const MOVE: &str = "\0move";

/// Whether a FETCH was written as MOVE.
pub fn is_move(fetch: &Statement) -> bool {
    let Statement::Fetch { into: Some(ObjectName(parts)), .. } = fetch else { return false };
    parts.iter().any(|part| part.as_ident().is_some_and(|ident| ident.value == MOVE))
}

/// Marks a parsed FETCH as a MOVE.
pub(super) fn mark_move(statement: &mut Statement) {
    if let Statement::Fetch { into, .. } = statement {
        *into = Some(ObjectName::from(vec![Ident::new(MOVE)]));
    }
}

/// Writes a FETCH or MOVE out in full; true for MOVE.
pub(super) fn write_out(tokens: &mut Vec<TokenWithSpan>) -> bool {
    let moves = is_word(tokens.first(), "move");
    if !moves && keyword(tokens.first()) != Keyword::FETCH {
        return false;
    }
    let span = tokens[0].span;
    let at = |token: Token| TokenWithSpan { token, span };
    tokens[0].token = word("FETCH", Keyword::FETCH);
    let is_link = |token: Option<&TokenWithSpan>| matches!(keyword(token), Keyword::FROM | Keyword::IN);
    let Some(last) = tokens.iter().rposition(|token| matches!(token.token, Token::Word(_))).filter(|last| *last > 0)
    else {
        return moves;
    };
    let mut link = last;
    if last >= 2 && is_link(tokens.get(last - 1)) {
        link = last - 1;
    } else if !tokens.iter().any(|token| is_link(Some(token))) {
        tokens.insert(last, at(word("FROM", Keyword::FROM)));
    } else if is_link(tokens.get(1)) {
        link = 1;
    }
    // `tokens[1..link]` is the direction.
    match (link, keyword(tokens.get(1))) {
        (1, _) => tokens.insert(1, at(word("NEXT", Keyword::NEXT))),
        (2, Keyword::FORWARD | Keyword::BACKWARD) => tokens.insert(2, at(Token::Number("1".to_owned(), false))),
        _ => {}
    }
    moves
}
