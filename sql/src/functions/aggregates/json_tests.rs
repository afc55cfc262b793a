//! What the aggregates print, verified with PostgreSQL 15.

use super::*;

#[test]
fn documents_are_those_of_postgres() {
    let context = EvalContext::detached();
    let check = |name: &str, rows: &[&[Datum]], expected: &str| {
        let function = AGGREGATES.iter().find(|function| function.name == name).expect("in the table");
        let mut state = (function.state)();
        rows.iter().for_each(|row| state.update(&context, row).expect("no error"));
        let result = state.finish(&context).expect("no error");
        assert_eq!(text::to_string(&result, function.result, &context), expected, "{name}");
    };
    let (one, word) = (Datum::Int4(1), Datum::text("a"));
    check("json_agg", &[], "");
    let (ones, words) = (std::slice::from_ref(&one), std::slice::from_ref(&word));
    check("json_agg", &[ones, &[Datum::Null], words], "[1, null, \"a\"]");
    check("jsonb_agg", &[ones, &[Datum::Null]], "[1, null]");
    check(
        "json_object_agg",
        &[&[word.clone(), one.clone()], &[one.clone(), Datum::Null]],
        "{ \"a\" : 1, \"1\" : null }",
    );
    check("jsonb_object_agg", &[&[word.clone(), one.clone()], &[word.clone(), Datum::Null]], "{\"a\": null}");
}
