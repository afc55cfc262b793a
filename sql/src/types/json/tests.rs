//! Order, containment and errors of documents; input and output are in the golden file of text.

use super::*;

#[test]
fn documents_order_as_in_postgres() {
    // Verified with PostgreSQL 15: ORDER BY over these gives this order.
    let ascending = [
        "[]",
        "null",
        "\"\"",
        "\"a\"",
        "\"b\"",
        "-1",
        "0",
        "1",
        "1.5",
        "10",
        "false",
        "true",
        "[null]",
        "[\"a\"]",
        "[1]",
        "[true]",
        "[[]]",
        "[{}]",
        "[1, 2]",
        "[1, 3]",
        "{}",
        "{\"a\": 1}",
        "{\"a\": 2}",
        "{\"b\": 1}",
        "{\"a\": 1, \"b\": 1}",
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            let order = compare(&parse_jsonb(a).unwrap(), &parse_jsonb(b).unwrap());
            assert_eq!(order, i.cmp(&j), "{a} and {b}");
        }
    }
}

#[test]
fn errors_say_where() {
    let check = |text: &str, detail: &str, context: &str| {
        let error = validate(text).unwrap_err();
        let fields = error.fields();
        assert_eq!((fields.detail.as_deref(), fields.context.as_deref()), (Some(detail), Some(context)), "{text}");
    };
    check("{\"a\" 1}", "Expected \":\", but found \"1\".", "JSON data, line 1: {\"a\" 1...");
    check("[1,\n2,\nx]", "Token \"x\" is invalid.", "JSON data, line 3: x...");
    check("[1", "The input string ended unexpectedly.", "JSON data, line 1: [1");
    check("", "The input string ended unexpectedly.", "JSON data, line 1: ");
    check("\"\\x\"", "Escape sequence \"\\x\" is invalid.", "JSON data, line 1: \"\\x...");
    check("1 2", "Expected end of input, but found \"2\".", "JSON data, line 1: 1 2");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(validate(&nested(MAX_DEPTH)).is_ok());
    assert!(validate(&nested(MAX_DEPTH + 2)).is_err());
    assert!(parse_jsonb(&nested(1_000_000)).is_err());
}
