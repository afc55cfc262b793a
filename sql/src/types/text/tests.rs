//! Input and output compared with PostgreSQL's, and round trips.

use super::*;
use crate::types::golden;

#[test]
fn text_is_read_and_printed_as_postgres_does() {
    let context = golden::context();
    golden::check(include_str!("../golden/text.tsv"), |fields| {
        let data_type = DataType::from_name(fields[0])?;
        // A literal is read without modifier, then cast.
        let value = parse(fields[1], data_type.bare(), &context)?;
        let value = super::super::cast::apply_modifier(value, data_type, true)?;
        Ok(Some(to_string(&value, data_type, &context)))
    });
}

#[test]
fn modifiers_refuse_long_text_on_input() {
    let context = golden::context();
    let check = |name: &str, text: &str, expected: Result<&str, &str>| {
        let data_type = DataType::from_name(name).expect("a type");
        let found = parse(text, data_type, &context).map(|value| to_string(&value, data_type, &context));
        assert_eq!(found.as_deref().map_err(|error| error.message()), expected, "{name} {text}");
    };
    check("varchar(3)", "abcd", Err("value too long for type character varying(3)"));
    check("varchar(3)", "abc  ", Ok("abc"));
    check("char(3)", "abcd", Err("value too long for type character(3)"));
    check("char(3)", "a", Ok("a  "));
    check("text", "a\0", Err("invalid byte sequence for encoding \"UTF8\": 0x00"));
}
