//! The rows of the catalog tree: round trips and damage.

use super::super::object::{Object, ObjectKey, ObjectKind, decode_row};
use super::*;
use crate::types::DataType;

fn check_round_trip(object: Object) {
    let key = object.key(5);
    assert_eq!(ObjectKey::decode(&key.encode()).unwrap(), key);
    let bytes = object.encode().unwrap();
    let again = decode_row(key, &bytes).unwrap();
    assert_eq!(format!("{again:?}"), format!("{object:?}"));
    for cut in [0, 1, 4, bytes.len() - 1] {
        assert!(decode_row(key, &bytes[..cut]).is_err(), "{cut} bytes of {object:?} were taken");
    }
    let mut other_version = bytes.to_vec();
    other_version[0] += 1;
    assert!(decode_row(key, &other_version).is_err());
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode_row(key, &longer).is_err());
}

#[test]
fn every_kind_comes_back() {
    let tree = storage::TreeId(storage::PageNo(77));
    check_round_trip(Object::Counters(tree));
    check_round_trip(Object::Role(Role::superuser(10, "postgres")));
    check_round_trip(Object::Database(Database::new(5, "postgres", 10)));
    check_round_trip(Object::Schema(Schema { oid: 2200, name: "public".into(), owner: 10 }));
    check_round_trip(Object::Comment { class: 1259, object: 20_000, sub: 2, text: "it's \"so\"\n".into() });
    let mut column = Column::new("b", DataType::INT4);
    column.missing = Datum::Int4(-7);
    let mut table = Table::new(20_000, 2200, "t", vec![Column::new("a", DataType::TEXT), column], tree);
    table.checks.push(Check { oid: 20_001, name: "c".into(), expression: "a > 'x'".into() });
    table.privileges.push(Grant { grantee: 0, grantor: 10, privileges: vec![(Privilege::Select, true)] });
    check_round_trip(Object::Table(table));
    let text = ColumnStatistics {
        data_type: DataType::TEXT,
        null_fraction: 0.1,
        distinct: 3.0,
        common: vec![(Datum::text("é"), 0.5), (Datum::Null, 0.25)],
        histogram: vec![Datum::text("a"), Datum::text("")],
    };
    check_round_trip(Object::Statistics(20_000, TableStatistics { rows: 1e9, row_bytes: 33.3, columns: vec![text] }));
}

#[test]
fn damaged_keys_are_refused() {
    for bytes in [&[][..], &[0], &[1, 0, 0], &[250, 0, 0, 0, 0, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(ObjectKey::decode(bytes).is_err(), "{bytes:?} was taken as a key");
    }
    let key = ObjectKey::new(ObjectKind::Table, 5, 1);
    assert_eq!(decode_row(key, b"\x01\x00\x00\x00\x02{}").unwrap_err().state().0, "XX001");
}
