//! CREATE TABLE and DROP TABLE.

use super::{Session, check, describe, run};

fn describes(statement: &str, expected: &str) {
    let mut session = Session::new();
    run(&mut session, &[statement]);
    let expected = expected.replace("SEQ", &session.catalog().sequences().next().map_or(0, |s| s.oid).to_string());
    assert_eq!(describe(&session, "t"), expected, "for {statement}");
}

#[test]
fn columns_and_constraints() {
    describes("create table t(a int, b text not null default 'x')", "a integer; b text not null default 'x'");
    describes(
        "create table t(id serial primary key, v numeric(10,2), unique(v, id))",
        "id integer not null default nextval('SEQ'::regclass); v numeric(10,2); t_pkey pk(id); t_v_id_key unique(v,id)",
    );
    describes(
        "create table t(id bigint generated always as identity (start with 10), c char(3) check (c > 'a'), check (c <> 'b'))",
        "id bigint not null always; c character(3); t_c_check check(c > 'a'); t_c_check1 check(c <> 'b')",
    );
    describes(
        "create table t(a int constraint positive check (a > 0), constraint k primary key (a)) with (fillfactor=70)",
        "a integer not null; k pk(a); positive check(a > 0)",
    );
    describes("create table t(a int, \"B c\" varchar(5))", "a integer; B c character varying(5)");
}

#[test]
fn errors_of_create_table() {
    check(
        &mut Session::new(),
        &[
            ("create table t(a int)", "CREATE TABLE"),
            ("create table t(a int)", "42P07 relation \"t\" already exists"),
            ("create table if not exists t(a int)", "CREATE TABLE [relation \"t\" already exists, skipping]"),
            ("create table u(a int, a int)", "42701 column \"a\" specified more than once"),
            ("create table u(a nope)", "42704 type \"nope\" does not exist"),
            ("create table s.u(a int)", "3F000 schema \"s\" does not exist"),
            (
                "create table u(a int primary key, b int primary key)",
                "42P16 multiple primary keys for table \"u\" are not allowed",
            ),
            ("create table u(a int, unique(b))", "42703 column \"b\" named in key does not exist"),
            ("create table u(a int, unique(a, a))", "42701 column \"a\" appears twice in key"),
            (
                "create table u(a int null not null)",
                "42601 conflicting NULL/NOT NULL declarations for column \"a\" of table \"u\"",
            ),
            (
                "create table u(a int references t (b))",
                "42703 column \"b\" referenced in foreign key constraint does not exist",
            ),
            ("create temp table u(a int)", "0A000 a temporary table is not supported"),
            (
                "create table pg_catalog.u(a int)",
                "42501 permission denied to create \"pg_catalog.u\" (System catalog modifications are currently disallowed.)",
            ),
            (
                "create table u(a int) with (fillfactor=5)",
                "22023 value 5 out of bounds for option \"fillfactor\" (Valid values are between \"10\" and \"100\".)",
            ),
            ("create table u(a int) with (nope=5)", "22023 unrecognized parameter \"nope\""),
            (
                "create table u(a text generated always as identity)",
                "22023 identity column type must be smallint, integer, or bigint",
            ),
            (
                "create table u(a json primary key)",
                "42704 data type json has no default operator class for access method \"btree\" (You must specify an operator class for the index or define a default operator class for the data type.)",
            ),
        ],
    );
}

#[test]
fn like_copies_columns() {
    let mut session = Session::new();
    run(
        &mut session,
        &["create table s(a int default 1, b text not null)", "create table t(like s including defaults)"],
    );
    assert_eq!(describe(&session, "t"), "a integer default 1; b text not null");
}

#[test]
fn ddl_is_transactional() {
    let mut session = Session::new();
    run(&mut session, &["begin", "create table a(x int)", "savepoint", "create table t(y int)"]);
    assert_eq!(describe(&session, "t"), "y integer");
    run(&mut session, &["rollback to"]);
    assert_eq!((describe(&session, "t"), describe(&session, "a")), ("t: none".into(), "x integer".into()));
    assert_eq!(session.show("create table a(x int)"), "42P07 relation \"a\" already exists");
    assert_eq!(describe(&session, "a"), "x integer");
    let other = Session::over(session.store.clone(), session.manager.clone());
    assert_eq!(describe(&other, "a"), "a: none");
    run(&mut session, &["commit"]);
    assert_eq!((describe(&other, "a"), describe(&other, "t")), ("x integer".into(), "t: none".into()));
    run(&mut session, &["begin", "drop table a"]);
    assert_eq!((describe(&session, "a"), describe(&other, "a")), ("a: none".into(), "x integer".into()));
    run(&mut session, &["rollback"]);
    assert_eq!(describe(&session, "a"), "x integer");
}

#[test]
fn drop_and_dependents() {
    let mut session = Session::new();
    run(
        &mut session,
        &["create table t(id serial)", "create sequence q", "create table u(a int default nextval('q'))"],
    );
    check(
        &mut session,
        &[
            ("drop table nope", "42P01 table \"nope\" does not exist"),
            ("drop table if exists nope", "DROP TABLE [table \"nope\" does not exist, skipping]"),
            ("drop view t", "42809 \"t\" is not a view (Use DROP TABLE to remove a table.)"),
            (
                "drop sequence q",
                "2BP01 cannot drop sequence q because other objects depend on it (default value for column a of table u depends on sequence q) (Use DROP ... CASCADE to drop the dependent objects too.)",
            ),
            ("drop sequence q cascade", "DROP SEQUENCE [drop cascades to default value for column a of table u]"),
            ("drop table t, u", "DROP TABLE"),
        ],
    );
    assert_eq!(session.catalog().sequences().count(), 0);
}

#[test]
fn a_reopened_store_has_the_same_catalog() {
    let mut session = Session::new();
    run(&mut session, &["create table t(id serial primary key, n numeric(5,1) default 1.5 check (n > 0), unique (n))"]);
    let expected = describe(&session, "t");
    let manager = std::sync::Arc::new(super::CatalogManager::open(session.store.clone()).unwrap());
    let again = Session::over(session.store.clone(), manager);
    assert_eq!(describe(&again, "t"), expected);
    let oids: Vec<_> = (0..100).map(|_| again.manager.allocate_oid().unwrap()).collect();
    let known = session.catalog();
    assert!(oids.iter().all(|oid| known.relation_by_oid(*oid).is_none()));
}
