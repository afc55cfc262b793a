//! Types that name objects of the catalog: regclass, regtype and the like.

use std::fmt::Write;

use super::numbers::parse_oid;
use crate::error::{Result, SqlError, SqlState};
use crate::functions::EvalContext;
use crate::types::{BaseType, DataType};

pub(super) fn parse_object(text: &str, base: BaseType, context: &EvalContext) -> Result<u32> {
    let trimmed = text.trim();
    if trimmed == "-" {
        return Ok(0);
    }
    if trimmed.starts_with(|c: char| c.is_ascii_digit()) && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_oid(trimmed, "oid");
    }
    match base {
        BaseType::Regtype => DataType::from_name(trimmed).map(DataType::oid),
        BaseType::Regclass => context.session.relation_oid(trimmed)?.ok_or_else(|| {
            let message = format!("relation \"{trimmed}\" does not exist");
            SqlError::new(SqlState::UNDEFINED_TABLE, message)
        }),
        _ => Err(SqlError::unsupported(format!("{} input by name", base.info().name))),
    }
}

pub(super) fn format_object(oid: u32, base: BaseType, context: &EvalContext, out: &mut String) {
    let name = match base {
        BaseType::Regclass | BaseType::Regtype | BaseType::Regproc | BaseType::Regnamespace | BaseType::Regrole
            if oid == 0 =>
        {
            Some("-".into())
        }
        BaseType::Regclass => context.session.relation_name(oid),
        BaseType::Regtype => DataType::from_oid(oid).map(DataType::name),
        _ => None,
    };
    match name {
        Some(name) => out.push_str(&name),
        None => {
            let _ = write!(out, "{oid}");
        }
    }
}

/// What `format_type(oid, typmod)` answers.
pub fn format_type_oid(oid: u32, modifier: i32) -> String {
    match DataType::from_oid(oid) {
        Some(data_type) => data_type.with_modifier(modifier).full_name(),
        None if oid == 0 => "-".into(),
        None => "???".into(),
    }
}

/// The identifier as SQL must write it: quoted where it is not plain lower case, or a reserved word.
pub fn quote_identifier(name: &str) -> String {
    let plain_start = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if plain_start && name.bytes().all(plain) && RESERVED.binary_search(&name).is_err() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Keywords that quote_ident quotes: all but the unreserved ones.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];
