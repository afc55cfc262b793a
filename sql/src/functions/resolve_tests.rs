//! Which function a call means. Expectations are PostgreSQL 15's (`pg_typeof`, and its error messages).

use super::{common_type, resolve_aggregate, resolve_operator};
use crate::types::{BaseType, DataType};

const UNKNOWN: DataType = DataType::UNKNOWN;

#[test]
fn operators_resolve_to_the_result_type_of_postgres() {
    let text_array = DataType::array_of(BaseType::Text);
    let cases = [
        ("+", DataType::INT4, DataType::INT8, "bigint"),
        ("+", DataType::INT4, DataType::NUMERIC, "numeric"),
        ("+", DataType::INT8, DataType::FLOAT4, "double precision"),
        ("+", DataType::INT4, UNKNOWN, "integer"),
        ("-", DataType::DATE, DataType::DATE, "integer"),
        ("-", DataType::DATE, DataType::INTERVAL, "timestamp without time zone"),
        ("-", DataType::TIMESTAMPTZ, DataType::TIMESTAMP, "interval"),
        ("*", DataType::INTERVAL, DataType::INT4, "interval"),
        ("||", DataType::TEXT, DataType::INT4, "text"),
        ("||", UNKNOWN, UNKNOWN, "text"),
        ("||", DataType::VARCHAR, UNKNOWN, "text"),
        ("||", text_array, DataType::TEXT, "text[]"),
        ("=", DataType::VARCHAR, DataType::VARCHAR, "boolean"),
        ("=", DataType::INT4, DataType::OID, "boolean"),
        ("<", DataType::DATE, DataType::TIMESTAMPTZ, "boolean"),
        ("~~", DataType::BPCHAR, UNKNOWN, "boolean"),
        ("^", DataType::INT4, DataType::INT4, "double precision"),
        ("@>", text_array, text_array, "boolean"),
    ];
    for (symbol, left, right, wanted) in cases {
        let resolved = resolve_operator(symbol, Some(left), right)
            .unwrap_or_else(|error| panic!("{} {symbol} {}: {error}", left.name(), right.name()));
        assert_eq!(resolved.result.name(), wanted, "{} {symbol} {}", left.name(), right.name());
    }
}

#[test]
fn operators_that_do_not_fit_are_refused() {
    let cases = [
        ("+", DataType::TEXT, DataType::INT4, "42883", "operator does not exist: text + integer"),
        ("=", DataType::BOOL, DataType::INT4, "42883", "operator does not exist: boolean = integer"),
        ("+", UNKNOWN, UNKNOWN, "42725", "operator is not unique: unknown + unknown"),
        ("=", DataType::TEXT, DataType::INT4, "42883", "operator does not exist: text = integer"),
    ];
    for (symbol, left, right, state, message) in cases {
        let error = resolve_operator(symbol, Some(left), right).expect_err(message);
        assert_eq!((error.state().0, error.message()), (state, message));
    }
}

#[test]
fn aggregates_have_the_result_types_of_postgres() {
    let cases = [
        ("sum", DataType::INT4, "bigint"),
        ("sum", DataType::INT8, "numeric"),
        ("avg", DataType::INT2, "numeric"),
        ("avg", DataType::FLOAT4, "double precision"),
        ("min", DataType::VARCHAR, "text"),
        ("max", DataType::DATE, "date"),
        ("array_agg", DataType::INT4, "integer[]"),
        ("stddev", DataType::INT8, "numeric"),
        ("count", DataType::JSON, "bigint"),
    ];
    for (name, argument, wanted) in cases {
        let resolved = resolve_aggregate(name, &[argument]).expect("it is an aggregate").expect(name);
        assert_eq!(resolved.result.name(), wanted, "{name}({})", argument.name());
    }
    assert!(resolve_aggregate("lower", &[DataType::TEXT]).is_none());
}

#[test]
fn branches_come_to_a_common_type() {
    let cases = [
        (vec![DataType::INT4, DataType::INT8], "bigint"),
        (vec![DataType::INT4, UNKNOWN], "integer"),
        (vec![UNKNOWN, UNKNOWN], "text"),
        (vec![DataType::NUMERIC, DataType::INT4, DataType::FLOAT8], "double precision"),
        (vec![DataType::DATE, DataType::TIMESTAMPTZ], "timestamp with time zone"),
        (vec![DataType::VARCHAR, DataType::TEXT], "character varying"),
    ];
    for (types, wanted) in cases {
        assert_eq!(common_type(&types, "CASE").expect("they match").name(), wanted, "{types:?}");
    }
    let error = common_type(&[DataType::INT4, DataType::TEXT], "CASE").expect_err("they do not match");
    assert_eq!(error.message(), "CASE types integer and text cannot be matched");
}
