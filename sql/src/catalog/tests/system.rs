//! System views: every row fits its declaration, and what psql asks about is there.

use super::*;
use crate::types::{BaseType, DataType, Row};

fn rows(session: &Session, schema: &str, name: &str) -> Vec<Row> {
    let catalog = session.catalog();
    let Some(Relation::System(view)) = catalog.relation(Some(schema), name, &[]) else { panic!("no view {name}") };
    let eval = EvalContext::detached();
    (view.rows)(&SystemContext { catalog: &catalog, store: &*session.store, eval: &eval }).unwrap()
}

fn fits(value: &Datum, data_type: DataType) -> bool {
    use BaseType::*;
    match value {
        Datum::Null => true,
        Datum::Array(array) => match data_type.base {
            AnyArray => true,
            _ => data_type.element().is_some_and(|element| element.same_type(array.element)),
        },
        _ if data_type.array => false,
        Datum::Bool(_) => data_type.base == Bool,
        Datum::Int2(_) => data_type.base == Int2,
        Datum::Int4(_) => data_type.base == Int4,
        Datum::Int8(_) => data_type.base == Int8,
        Datum::Float4(_) => data_type.base == Float4,
        Datum::Float8(_) => data_type.base == Float8,
        Datum::Text(_) => matches!(data_type.base, Text | Name | Varchar | InternalChar | PgNodeTree),
        Datum::Oid(_) => matches!(data_type.base, Oid | Regproc | Xid | Regtype),
        Datum::Timestamptz(_) => data_type.base == Timestamptz,
        Datum::Interval(_) => data_type.base == Interval,
        _ => false,
    }
}

fn sample() -> Session {
    let mut session = Session::new();
    run(
        &mut session,
        &[
            "create table t(id serial primary key, n numeric(10,2) default 1.5 check (n > 0), \"B c\" varchar(20), unique(n, id)) with (fillfactor=70)",
            "create table i(id int generated always as identity)",
            "create sequence s",
        ],
    );
    session
}

#[test]
fn every_value_fits_its_column() {
    let session = sample();
    let mut seen = std::collections::HashSet::new();
    for view in crate::catalog::system::views() {
        assert!(seen.insert(view.oid), "OID {} of {view:?} is taken", view.oid);
        for row in rows(&session, view.schema, view.name) {
            assert_eq!(row.len(), view.columns.len(), "{view:?}");
            for (value, (name, data_type)) in row.iter().zip(view.columns) {
                assert!(fits(value, *data_type), "{view:?}.{name} is {data_type:?}, not {value:?}");
            }
        }
    }
}

/// The wanted columns of the rows whose column equals a text, formatted.
fn look(session: &Session, name: &str, filter: (&str, &str), wanted: &[&str]) -> Vec<String> {
    let Some(Relation::System(view)) = session.catalog().relation(None, name, &[]) else { panic!("no view {name}") };
    let eval = EvalContext::detached();
    let at = |name: &str| view.columns.iter().position(|column| column.0 == name).unwrap();
    let text = |row: &Row, at: usize| match &row[at] {
        Datum::Null => "null".to_owned(),
        value => crate::types::text::to_string(value, view.columns[at].1, &eval),
    };
    let all = rows(session, view.schema, name);
    let found = all.iter().filter(|row| text(row, at(filter.0)) == filter.1);
    found.map(|row| wanted.iter().map(|name| text(row, at(name))).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn what_psql_asks_about() {
    let session = sample();
    let check = |view: &str, filter: (&str, &str), wanted: &[&str], expected: &[&str]| {
        assert_eq!(look(&session, view, filter, wanted), expected, "{view} with {filter:?}");
    };
    check(
        "pg_class",
        ("relname", "t"),
        &["relkind", "relchecks", "relhasindex", "reloptions"],
        &["r|1|t|{fillfactor=70}"],
    );
    check("pg_class", ("relname", "pg_class"), &["relkind", "oid"], &["r|1259"]);
    check(
        "pg_indexes",
        ("tablename", "t"),
        &["indexdef"],
        &[
            "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)",
            "CREATE UNIQUE INDEX t_n_id_key ON public.t USING btree (n, id)",
        ],
    );
    check("pg_type", ("typname", "_int4"), &["oid", "typelem", "typcategory", "typtype"], &["1007|23|A|b"]);
    check("pg_database", ("datistemplate", "f"), &["datname", "oid"], &["postgres|5"]);
    check("pg_roles", ("rolsuper", "t"), &["rolname", "oid"], &["postgres|10"]);
}

#[test]
fn definitions() {
    let session = sample();
    let catalog = session.catalog();
    let eval = EvalContext::detached();
    let call = |name: &str, args: &[Datum]| match functions::call(name, args, &catalog, &session.search_path, &eval)
        .unwrap()
    {
        Datum::Null => "null".to_owned(),
        Datum::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let Some(Relation::Table(table)) = catalog.relation(None, "t", &session.search_path) else { panic!("no table") };
    assert_eq!(call("pg_get_constraintdef", &[Datum::Oid(table.checks[0].oid)]), "CHECK ((n > 0))");
    assert_eq!(call("pg_get_constraintdef", &[Datum::Oid(table.indexes[0].constraint_oid)]), "UNIQUE (n, id)");
    assert_eq!(call("pg_table_is_visible", &[Datum::Oid(table.oid)]), "Bool(true)");
    assert_eq!(call("pg_get_serial_sequence", &[Datum::text("t"), Datum::text("id")]), "public.t_id_seq");
    assert_eq!(call("to_regclass", &[Datum::text("public.nope")]), "null");
    assert_eq!(call("has_table_privilege", &[Datum::text("t"), Datum::text("select, insert")]), "Bool(true)");
    assert_eq!(
        catalog.default_definition(&table.columns[0], &session.search_path).unwrap(),
        "nextval('t_id_seq'::regclass)"
    );
}
