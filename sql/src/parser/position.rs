//! Lines and columns → byte offsets and Postgres' character positions. Only used on the way to an error
//! message or to cut a statement out of its text, so a walk over the text is cheap enough.

use sqlparser::tokenizer::Location;

/// Byte offset of a location; the text's end when it lies beyond it.
pub fn byte_offset(text: &str, location: Location) -> usize {
    if location.line == 1 && text.is_ascii() {
        return (location.column.saturating_sub(1) as usize).min(text.len());
    }
    walk(text, location).0
}

/// 1-based character position of a location, as ErrorResponse's `P` field wants it.
pub fn character_position(text: &str, location: Location) -> u32 {
    walk(text, location).1
}

fn walk(text: &str, location: Location) -> (usize, u32) {
    let (mut line, mut column, mut position) = (1, 1, 1);
    for (offset, character) in text.char_indices() {
        if line == location.line && column == location.column || line > location.line {
            return (offset, position);
        }
        position += 1;
        if character == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    (text.len(), position)
}
