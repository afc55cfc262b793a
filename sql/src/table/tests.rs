//! Rows and row ids.

use std::sync::Arc;

use storage::TreeId;

use super::{MAX_KEY_BYTES, RowIds, TableAccess};
use crate::catalog::{Column, PrimaryKey, Table};
use crate::error::SqlState;
use crate::store::Store;
use crate::testing::MemoryStore;
use crate::types::{DataType, Datum, Row};

fn table(columns: Vec<Column>) -> Arc<Table> {
    let mut table = Table::new(1, 2200, "t", columns, TreeId::default());
    table.primary_key = Some(PrimaryKey { oid: 2, constraint_oid: 3, name: "t_pkey".to_owned(), columns: vec![0] });
    Arc::new(table)
}

#[test]
fn rows_outlive_changes_of_their_table() {
    let old = table(vec![Column::new("a", DataType::INT4), Column::new("b", DataType::TEXT)]);
    let bytes = TableAccess::new(&old).encode(&[Datum::Int4(1), Datum::text("one")]).expect("encodes");
    let mut added = Column::new("c", DataType::INT8);
    added.missing = Datum::Int8(7);
    let mut dropped = Column::new("b", DataType::TEXT);
    dropped.dropped = true;
    let new = TableAccess::new(&table(vec![Column::new("a", DataType::INT4), dropped, added]));
    let mut row = Row::new();
    new.codec().decode(&bytes, &[2, 0], &mut row).expect("decodes");
    assert_eq!(row, vec![Datum::Int8(7), Datum::Int4(1)]);
    // Dropped columns are stored as NULL from then on.
    let bytes = new.encode(&[Datum::Int4(1), Datum::text("gone"), Datum::Null]).expect("encodes");
    let mut row = Row::new();
    new.codec().decode_all(&bytes, &mut row).expect("decodes");
    assert_eq!(row, vec![Datum::Int4(1), Datum::Null, Datum::Null]);
    assert_eq!(new.codec().decode_all(b"junk", &mut row).expect_err("damaged").state(), SqlState::DATA_CORRUPTED);
}

#[test]
fn keys_have_a_longest() {
    let access = TableAccess::new(&table(vec![Column::new("a", DataType::TEXT)]));
    let mut key = Vec::new();
    access.primary_key(&[Datum::text("x".repeat(MAX_KEY_BYTES - 3))], &mut key).expect("fits");
    assert_eq!(key.len(), MAX_KEY_BYTES);
    let error = access.primary_key(&[Datum::text("x".repeat(MAX_KEY_BYTES))], &mut key).expect_err("too long");
    assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
}

#[test]
fn row_ids_go_on_behind_the_last_key() {
    let store = MemoryStore::new();
    let tree = TreeId(storage::PageNo(77));
    store.put_immediate(tree, &41u64.to_be_bytes(), bytes::Bytes::from_static(b"row")).expect("put");
    let ids = RowIds::default();
    assert_eq!(ids.allocate(&store, tree).expect("id"), 42);
    assert_eq!(ids.allocate(&store, tree).expect("id"), 43);
    assert_eq!(ids.allocate(&store, TreeId(storage::PageNo(78))).expect("id"), 1);
}
