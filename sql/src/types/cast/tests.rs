//! Conversions compared with PostgreSQL's.

use super::*;
use crate::types::{golden, text};

#[test]
fn values_convert_as_in_postgres() {
    let context = golden::context();
    golden::check(include_str!("../golden/cast.tsv"), |fields| {
        let (from, to) = (DataType::from_name(fields[0])?, DataType::from_name(fields[2])?);
        let value = text::parse(fields[1], from.bare(), &context)?;
        let value = apply_modifier(value, from, true)?;
        if !can_cast(from, to, CastContext::Explicit) {
            return Err(apply::cannot_cast(from, to));
        }
        let value = cast(&value, from, to, true, &context)?;
        Ok(Some(text::to_string(&value, to, &context)))
    });
}

#[test]
fn contexts_are_those_of_pg_cast() {
    use CastContext::*;
    let check = |from: &str, to: &str, expected: Option<CastContext>| {
        let data_type = |name| DataType::from_name(name).expect("a type");
        assert_eq!(cast_context(data_type(from), data_type(to)), expected, "{from} to {to}");
    };
    check("int4", "int8", Some(Implicit));
    check("int8", "int4", Some(Assignment));
    check("int4", "bool", Some(Explicit));
    check("int4", "text", Some(Assignment));
    check("text", "int4", Some(Explicit));
    check("text", "varchar", Some(Implicit));
    check("numeric", "float8", Some(Implicit));
    check("float8", "numeric", Some(Assignment));
    check("int4[]", "int8[]", Some(Implicit));
    check("int4[]", "text[]", Some(Assignment));
    check("text[]", "int4[]", Some(Explicit));
    check("int4", "date", None);
    check("int4", "int4[]", None);
    check("regclass", "oid", Some(Implicit));
    check("regclass", "regtype", None);
}
