//! ALTER TABLE and CREATE INDEX over rows: what they check, and that every tree agrees with the rows after.

use super::*;
use crate::store::{Direction, KeyRange, StatementOutcome};
use crate::table::{TableAccess, WriteContext};
use crate::types::Row;

/// A session whose table `t` has rows.
pub(super) struct Data {
    pub session: Session,
}

impl Data {
    pub fn new(script: &[&str]) -> Self {
        let mut session = Session::new();
        run(&mut session, script);
        Self { session }
    }

    fn table(&self) -> Arc<Table> {
        match self.session.catalog().relation(None, "t", &self.session.search_path) {
            Some(Relation::Table(table)) => table,
            other => panic!("t is {other:?}"),
        }
    }

    pub fn insert(&self, rows: Vec<Row>) {
        let access = TableAccess::new(&self.table());
        let store = &*self.session.store;
        let transaction = store.begin(TransactionOptions::default(), Arc::new(Interrupt::default())).unwrap();
        let eval = EvalContext::detached();
        transaction.begin_statement().unwrap();
        let context = WriteContext { transaction: &*transaction, store, row_ids: &self.session.row_ids, eval: &eval };
        rows.iter().for_each(|row| drop(access.insert(context, row).unwrap()));
        transaction.end_statement(StatementOutcome::Keep);
        transaction.commit().unwrap();
    }

    /// Rows in key order as text, after a check that every index has exactly an entry for each.
    pub fn rows(&self) -> Vec<String> {
        let table = self.table();
        let access = TableAccess::new(&table);
        let store = &*self.session.store;
        let transaction = store.begin(TransactionOptions::default(), Arc::new(Interrupt::default())).unwrap();
        transaction.begin_statement().unwrap();
        let scan = |tree| {
            let mut cursor = transaction.scan(tree, KeyRange::ALL, Direction::Forward).unwrap();
            let mut found = Vec::new();
            while cursor.advance().unwrap() {
                found.push((cursor.key().to_vec(), cursor.value().to_vec()));
            }
            found
        };
        let (mut shown, mut entries) = (Vec::new(), vec![Vec::new(); table.indexes.len()]);
        for (key, value) in scan(table.tree) {
            let mut row = Row::new();
            access.codec().decode_all(&value, &mut row).unwrap();
            let mut own = Vec::new();
            assert!(!access.primary_key(&row, &mut own).unwrap() || own == key, "row under another row's key");
            for (index, entries) in access.indexes().iter().zip(&mut entries) {
                let mut entry = Vec::new();
                let exclusive = index.entry_key(&row, &key, &mut entry).unwrap();
                entries.push((entry, if exclusive { key.clone() } else { Vec::new() }));
            }
            let live = table.live_columns().map(|(at, _)| match &row[at] {
                Datum::Null => "null".to_owned(),
                value => crate::types::text::to_string(value, table.columns[at].data_type, &EvalContext::detached()),
            });
            shown.push(live.collect::<Vec<_>>().join(","));
        }
        for (index, mut entries) in access.indexes().iter().zip(entries) {
            entries.sort();
            assert_eq!(scan(index.tree()), entries, "index {}", index.index().name);
        }
        shown
    }

    pub fn check(&mut self, script: &[(&str, &str)]) {
        super::check(&mut self.session, script);
    }
}

pub(super) fn pairs(count: i32) -> Vec<Row> {
    (0..count).map(|at| vec![Datum::Int4((at * 7919) % count), Datum::text(format!("v{}", at % 10))]).collect()
}

#[test]
fn an_index_is_built_over_rows() {
    let mut data = Data::new(&["create table t(a int, b text)"]);
    // Beyond the memory for sorting: runs are merged.
    data.insert(pairs(3000));
    data.check(&[
        ("create index on t(b, a desc)", "CREATE INDEX"),
        ("create unique index u on t(a)", "CREATE INDEX"),
        (
            "create unique index on t(b)",
            "23505 could not create unique index \"t_b_idx\" (Key (b)=(v0) is duplicated.)",
        ),
        ("create index if not exists u on t(b)", "CREATE INDEX [relation \"u\" already exists, skipping]"),
        ("create index u on t(b)", "42P07 relation \"u\" already exists"),
        ("create index on t((a + 1))", "0A000 an index on an expression is not supported"),
        ("create index on t(a) where a > 1", "0A000 a partial index (WHERE) is not supported"),
        ("create index concurrently c on t using btree (a nulls first)", "CREATE INDEX"),
        ("alter index c rename to d", "ALTER INDEX"),
        ("drop index d", "DROP INDEX"),
        ("drop index d", "42704 index \"d\" does not exist"),
    ]);
    assert_eq!(data.rows().len(), 3000);
    assert_eq!(describe(&data.session, "t"), "a integer; b text; t_b_a_idx index(b,a); u unique index(a)");
}

#[test]
fn keys_come_and_go() {
    let mut data = Data::new(&["create table t(a int, b text)", "create index i on t(b)"]);
    data.insert(pairs(2000));
    data.check(&[
        ("alter table t add primary key (a)", "ALTER TABLE"),
        ("alter table t add primary key (b)", "42P16 multiple primary keys for table \"t\" are not allowed"),
        ("alter table t add unique (b)", "23505 could not create unique index \"t_b_key\" (Key (b)=(v0) is duplicated.)"),
        ("alter table t add constraint ab unique (b, a)", "ALTER TABLE"),
        ("drop index ab", "2BP01 cannot drop index ab because constraint ab on table t requires it (You can drop constraint ab on table t instead.)"),
    ]);
    let rows = data.rows();
    assert_eq!((rows.len(), rows[0].split(',').next(), rows[1999].split(',').next()), (2000, Some("0"), Some("1999")));
    data.check(&[
        ("alter table t drop constraint t_pkey", "ALTER TABLE"),
        ("alter table t drop constraint t_pkey", "42704 constraint \"t_pkey\" of relation \"t\" does not exist"),
        (
            "alter table t drop constraint if exists t_pkey",
            "ALTER TABLE [constraint \"t_pkey\" of relation \"t\" does not exist, skipping]",
        ),
        ("alter table t rename constraint ab to ba", "ALTER TABLE"),
        ("alter table t alter a drop not null", "ALTER TABLE"),
    ]);
    assert_eq!(data.rows().len(), 2000);
    data.insert(vec![vec![Datum::Null, Datum::text("x")], vec![Datum::Int4(1), Datum::text("y")]]);
    data.check(&[
        ("alter table t add primary key (a)", "23502 column \"a\" of relation \"t\" contains null values"),
        ("alter table t alter a set not null", "23502 column \"a\" of relation \"t\" contains null values"),
    ]);
    assert_eq!(describe(&data.session, "t"), "a integer; b text; i index(b); ba unique(b,a)");
    assert_eq!(data.rows().len(), 2002);
}

#[test]
fn columns_come_and_go() {
    let mut data =
        Data::new(&["create table t(a int primary key, b text, c int check (c > 0))", "create index i on t(b)"]);
    data.insert(vec![vec![Datum::Int4(1), Datum::text("x"), Datum::Int4(5)]]);
    data.check(&[
        ("alter table t add d text", "ALTER TABLE"),
        ("alter table t add d text", "42701 column \"d\" of relation \"t\" already exists"),
        (
            "alter table t add if not exists d text",
            "ALTER TABLE [column \"d\" of relation \"t\" already exists, skipping]",
        ),
        ("alter table t add e int not null", "23502 column \"e\" of relation \"t\" contains null values"),
        ("alter table t rename c to \"C\"", "ALTER TABLE"),
        ("alter table t rename b to \"C\"", "42701 column \"C\" of relation \"t\" already exists"),
        ("alter table t drop nope", "42703 column \"nope\" of relation \"t\" does not exist"),
        ("alter table t drop b", "ALTER TABLE"),
    ]);
    assert_eq!(
        describe(&data.session, "t"),
        "a integer not null; C integer; d text; t_pkey pk(a); t_c_check check(\"C\" > 0)"
    );
    assert_eq!(data.rows(), ["1,5,null"]);
    data.check(&[("alter table t drop \"C\", drop a", "ALTER TABLE"), ("alter table t rename to u", "ALTER TABLE")]);
    assert_eq!(describe(&data.session, "u"), "d text");
    data.check(&[("alter table u rename to t", "ALTER TABLE")]);
    assert_eq!(data.rows(), ["null"]);
}

#[test]
fn a_failed_step_leaves_nothing_of_the_statement() {
    let mut data = Data::new(&["create table t(a int, b text)"]);
    data.insert(pairs(10));
    let before = describe(&data.session, "t");
    data.check(&[
        ("begin", "BEGIN"),
        (
            "alter table t add primary key (a), drop constraint nope",
            "42704 constraint \"nope\" of relation \"t\" does not exist",
        ),
    ]);
    assert_eq!(describe(&data.session, "t"), before);
    data.check(&[("alter table t add primary key (a)", "ALTER TABLE"), ("rollback", "ROLLBACK")]);
    assert_eq!((describe(&data.session, "t"), data.rows().len()), (before, 10));
}

#[test]
fn truncate_empties_and_restarts() {
    let mut data = Data::new(&["create table t(a serial primary key, b text)", "create index i on t(b)"]);
    data.insert(pairs(10));
    data.check(&[
        ("truncate table t restart identity", "TRUNCATE TABLE"),
        ("truncate nope", "42P01 relation \"nope\" does not exist"),
    ]);
    assert!(data.rows().is_empty());
    data.insert(pairs(5));
    assert_eq!(data.rows().len(), 5);
}

#[test]
fn row_ids_go_on_after_a_rewrite() {
    let mut data = Data::new(&["create table t(a int primary key, b text)"]);
    data.insert(pairs(20));
    data.check(&[("alter table t drop constraint t_pkey", "ALTER TABLE")]);
    data.insert(pairs(20));
    assert_eq!(data.rows().len(), 40);
}

#[test]
fn analyze_samples() {
    let mut data = Data::new(&["create table t(a int primary key, b text)", "create table e(x int)"]);
    data.insert(pairs(2000));
    data.check(&[
        ("analyze t", "ANALYZE"),
        ("analyze", "ANALYZE"),
        ("analyze nope", "42P01 relation \"nope\" does not exist"),
    ]);
    let table = data.table();
    let statistics = table.statistics.as_ref().unwrap();
    assert_eq!(
        (statistics.rows, statistics.columns[0].distinct, statistics.columns[1].distinct),
        (2000.0, 2000.0, 10.0)
    );
    assert_eq!((statistics.columns[0].common.len(), statistics.columns[0].histogram.len()), (0, 101));
    assert_eq!((statistics.columns[1].common.len(), statistics.columns[1].common[0].1), (10, 0.1));
    assert!(statistics.row_bytes > 0.0);
    data.check(&[("drop table t", "DROP TABLE")]);
}

#[test]
fn rows_in_the_order_of_a_new_key_are_copied_as_they_are() {
    let mut data = Data::new(&["create table t(a int, b text)"]);
    data.insert((0..3000).map(|at| vec![Datum::Int4(at), Datum::text(format!("v{at}"))]).collect());
    // Rows stored before the column was there.
    data.check(&[("alter table t add column c int default 7", "ALTER TABLE")]);
    let before = data.rows();
    data.check(&[("alter table t add primary key (a)", "ALTER TABLE")]);
    assert_eq!(data.rows(), before);
    assert_eq!(before[1], "1,v1,7");
    data.check(&[
        ("alter table t drop constraint t_pkey", "ALTER TABLE"),
        (
            "alter table t add primary key (c)",
            "23505 could not create unique index \"t_pkey\" (Key (c)=(7) is duplicated.)",
        ),
        ("alter table t add primary key (c, a)", "ALTER TABLE"),
    ]);
    assert_eq!(data.rows(), before);
    data.check(&[("alter table t drop constraint t_pkey", "ALTER TABLE")]);
    data.insert(vec![vec![Datum::Null, Datum::Null, Datum::Int4(1)]]);
    data.check(&[("alter table t add primary key (b)", "23502 column \"b\" of relation \"t\" contains null values")]);
}
