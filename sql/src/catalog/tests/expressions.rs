//! What needs the binder: views, defaults and checks over rows, changes of type, CREATE TABLE AS.

use super::alter::{Data, pairs};
use super::*;

#[test]
fn defaults_and_checks_are_bound_when_they_are_made() {
    check(
        &mut Session::new(),
        &[
            ("create table t(a int default 'x')", "22P02 invalid input syntax for type integer: \"x\""),
            (
                "create table t(a int default true)",
                "42804 column \"a\" is of type integer but default expression is of type boolean (You will need to rewrite or cast the expression.)",
            ),
            ("create table t(a int check (b > 0))", "42703 column \"b\" does not exist"),
            ("create table t(a int check (a))", "42804 argument of CHECK must be type boolean, not type integer"),
            (
                "create table t(a int default 1 + 1, b text default 'x' || 'y', check (a > 0 or b is null))",
                "CREATE TABLE",
            ),
        ],
    );
}

#[test]
fn added_columns_take_their_default() {
    let mut data = Data::new(&["create table t(a int primary key, b text)"]);
    data.insert(pairs(3));
    data.check(&[
        ("alter table t add c numeric(5,2) not null default 1 + 0.5", "ALTER TABLE"),
        ("alter table t add d int default a", "0A000 cannot use column reference in DEFAULT expression"),
    ]);
    assert_eq!(data.rows(), ["0,v0,1.50", "1,v2,1.50", "2,v1,1.50"]);
    data.check(&[
        (
            "alter table t add constraint small check (a < 2)",
            "23514 check constraint \"small\" of relation \"t\" is violated by some row",
        ),
        ("alter table t add check (a < 3)", "ALTER TABLE"),
        ("alter table t alter b set default 7", "ALTER TABLE"),
        ("alter table t alter c set default 'x'", "22P02 invalid input syntax for type numeric: \"x\""),
    ]);
}

#[test]
fn types_change() {
    let mut data = Data::new(&["create table t(a int primary key, b text)", "create index i on t(b)"]);
    data.insert(pairs(3));
    data.check(&[
        ("alter table t alter a type bigint", "ALTER TABLE"),
        ("alter table t alter b type int", "42804 column \"b\" cannot be cast automatically to type integer (You might need to specify \"USING b::integer\".)"),
        ("alter table t alter b type int using length(b) + a::int", "ALTER TABLE"),
        ("alter table t alter a type text", "ALTER TABLE"),
    ]);
    assert_eq!(data.rows(), ["0,2", "1,3", "2,4"]);
    assert_eq!(describe(&data.session, "t"), "a text not null; b integer; t_pkey pk(a); i index(b)");
    data.check(&[
        ("alter table t alter a type varchar(3)", "ALTER TABLE"),
        ("alter table t alter a type varchar(10)", "ALTER TABLE"),
        ("alter table t alter b type boolean using b > 2", "ALTER TABLE"),
    ]);
    assert_eq!(data.rows(), ["0,f", "1,t", "2,t"]);
}

#[test]
fn views() {
    let mut session = Session::new();
    let query = |session: &Session, name: &str| {
        let catalog = session.catalog();
        let view = catalog.views().find(|view| view.name == name).cloned().unwrap();
        let columns: Vec<_> =
            view.columns.iter().map(|(name, data_type)| format!("{name} {}", data_type.name())).collect();
        format!("{} [{}]", view.query, columns.join(", "))
    };
    check(
        &mut session,
        &[
            ("create table t(a int primary key, b text)", "CREATE TABLE"),
            ("create view v as select * from t", "CREATE VIEW"),
            ("create view w(x, y) as select v.*, 1 from v where a > 0", "CREATE VIEW"),
            ("create view v as select 1", "42P07 relation \"v\" already exists"),
            ("create or replace view v as select a from t", "42P16 cannot drop columns from view"),
            ("create or replace view v as select a, b, a + 1 as c from t", "CREATE VIEW"),
            ("create view u as select nope from t", "42703 column \"nope\" does not exist"),
            ("create view u as select a, a from t", "42701 column \"a\" specified more than once"),
            ("create view u(p, q) as select a from t", "42601 CREATE VIEW specifies more column names than columns"),
            ("alter table t add z int", "ALTER TABLE"),
            ("alter table t rename to r", "ALTER TABLE"),
            (
                "alter table r drop b",
                "2BP01 cannot drop column b of table r because other objects depend on it (view v depends on column b of table r) (Use DROP ... CASCADE to drop the dependent objects too.)",
            ),
            (
                "alter table r alter b type varchar(3)",
                "0A000 cannot alter type of a column used by a view or rule (view v depends on column \"b\")",
            ),
            (
                "drop table r",
                "2BP01 cannot drop table r because other objects depend on it (view v depends on table r\nview w depends on view v) (Use DROP ... CASCADE to drop the dependent objects too.)",
            ),
        ],
    );
    assert_eq!(query(&session, "v"), "SELECT a, b, a + 1 AS c FROM public.r AS t [a integer, b text, c integer]");
    assert_eq!(
        query(&session, "w"),
        "SELECT v.a, v.b, 1 FROM public.v WHERE a > 0 [x integer, y text, ?column? integer]"
    );
    check(
        &mut session,
        &[
            ("alter view w rename column x to x2", "ALTER VIEW"),
            (
                "drop view v",
                "2BP01 cannot drop view v because other objects depend on it (view w depends on view v) (Use DROP ... CASCADE to drop the dependent objects too.)",
            ),
            (
                "drop table r cascade",
                "DROP TABLE [drop cascades to 2 other objects (drop cascades to view v\ndrop cascades to view w)]",
            ),
        ],
    );
    assert_eq!(session.catalog().views().count(), 0);
}

#[test]
fn tables_from_queries() {
    let mut data = Data::new(&["create table s(a int, b text)"]);
    data.check(&[
        ("create table t as select 1 as p, 'y' as q union all select 2, 'z'", "SELECT 2"),
        ("create table t as select 1", "42P07 relation \"t\" already exists"),
    ]);
    assert_eq!(data.rows(), ["1,y", "2,z"]);
    assert_eq!(describe(&data.session, "t"), "p integer; q text");
    data.insert(vec![vec![Datum::Int4(3), Datum::text("w")]]);
    assert_eq!(data.rows().len(), 3);
}
