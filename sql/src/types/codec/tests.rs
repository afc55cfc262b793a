//! Round trips, order of keys against [`Datum::compare`], and rejection, for every type.

use proptest::prelude::*;
use storage::key::{KeyOrder, KeyReader};

use super::*;
use crate::types::{TYPES, golden, text};

/// Every value of the golden file that its type accepts.
fn golden_values() -> Vec<(DataType, Datum)> {
    let context = golden::context();
    let lines = include_str!("../golden/text.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let data_type = DataType::from_name(fields[0]).expect("a type").bare();
            text::parse(fields[1], data_type, &context).ok().map(|value| (data_type, value))
        })
        .collect()
}

fn shown(value: &Datum, data_type: DataType) -> String {
    text::to_string(value, data_type, &golden::context())
}

const ORDERS: [KeyOrder; 4] = [
    KeyOrder { descending: false, nulls_first: false },
    KeyOrder { descending: false, nulls_first: true },
    KeyOrder { descending: true, nulls_first: false },
    KeyOrder { descending: true, nulls_first: true },
];

fn key_of(value: &Datum, data_type: DataType, order: KeyOrder) -> Result<Vec<u8>, SqlError> {
    let mut key = Vec::new();
    encode_key(value, data_type, order, &mut key).map(|()| key)
}

/// The order of two keys is that of their values, in each direction; NULL stands at its end.
fn check_order(data_type: DataType, a: &Datum, b: &Datum) {
    for order in ORDERS {
        let (Ok(x), Ok(y)) = (key_of(a, data_type, order), key_of(b, data_type, order)) else { return };
        let ascending = a.compare(b);
        let expected = if order.descending { ascending.reverse() } else { ascending };
        let values = (shown(a, data_type), shown(b, data_type));
        assert_eq!(x.cmp(&y), expected, "{values:?} of type {} in {order:?}", data_type.name());
        let null = key_of(&Datum::Null, data_type, order).expect("NULL has a key in every type");
        assert_eq!(null < x, order.nulls_first, "NULL and {} in {order:?}", values.0);
    }
}

#[test]
fn rows_keep_values_exactly() {
    for (data_type, value) in golden_values() {
        let mut bytes = Vec::new();
        encode_value(&value, &mut bytes);
        let back = decode_value(data_type, &bytes).expect("just encoded");
        assert_eq!(shown(&back, data_type), shown(&value, data_type), "{}", data_type.name());
        if let storage::row::ColumnWidth::Fixed(width) = column_width(data_type) {
            assert_eq!(bytes.len(), usize::from(width), "{}", data_type.name());
        }
    }
}

#[test]
fn keys_order_as_values() {
    let values = golden_values();
    for (data_type, a) in &values {
        for (_, b) in values.iter().filter(|(other, _)| other == data_type) {
            check_order(*data_type, a, b);
        }
    }
}

#[test]
fn keys_give_back_equal_values() {
    for (data_type, value) in golden_values() {
        for order in ORDERS {
            let Ok(mut key) = key_of(&value, data_type, order) else { continue };
            key.push(7);
            let mut reader = KeyReader::new(&key);
            let back = decode_key(&mut reader, data_type, order).expect("just encoded");
            assert_eq!(reader.rest(), [7], "{}", data_type.name());
            assert_eq!(back, value, "{} of type {}", shown(&value, data_type), data_type.name());
            if key_is_exact(data_type) {
                assert_eq!(shown(&back, data_type), shown(&value, data_type));
            }
        }
    }
}

#[test]
fn equal_values_hash_alike() {
    use std::hash::BuildHasher;
    let hasher = foldhash::fast::FixedState::default();
    let values = golden_values();
    for (data_type, a) in &values {
        for (_, b) in values.iter().filter(|(other, b)| other == data_type && a == b) {
            let hashes = (hasher.hash_one(a), hasher.hash_one(b));
            assert_eq!(hashes.0, hashes.1, "{} and {}", shown(a, *data_type), shown(b, *data_type));
        }
    }
}

fn numeric() -> impl Strategy<Value = Datum> {
    let digits = (any::<i128>(), 0u32..39, 0u16..30);
    digits.prop_map(|(mantissa, shift, scale)| {
        Datum::Numeric(crate::types::Numeric::new(mantissa / 10i128.checked_pow(shift).unwrap_or(1), scale))
    })
}

fn interval() -> impl Strategy<Value = Datum> {
    (-100i32..100, -4_000i32..4_000, -400_000_000_000i64..400_000_000_000).prop_map(|(months, days, microseconds)| {
        Datum::Interval(std::sync::Arc::new(crate::types::Interval { months, days, microseconds }))
    })
}

fn jsonb() -> impl Strategy<Value = Datum> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        (-30i32..30).prop_map(|value| format!("{}.{}", value / 3, value.unsigned_abs() % 3)),
        "[ab]{0,2}".prop_map(|text| format!("{text:?}")),
    ];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(("[ab]{1,2}", inner), 0..3).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    });
    nested.prop_map(|text| {
        Datum::Jsonb(std::sync::Arc::new(crate::types::json::parse_jsonb(&text).expect("valid by construction")))
    })
}

proptest! {
    #[test]
    fn numerics_order_and_come_back(a in numeric(), b in numeric()) {
        check_order(DataType::NUMERIC, &a, &b);
        let mut bytes = Vec::new();
        encode_value(&a, &mut bytes);
        let back = decode_value(DataType::NUMERIC, &bytes).unwrap();
        prop_assert_eq!(shown(&back, DataType::NUMERIC), shown(&a, DataType::NUMERIC));
    }

    #[test]
    fn intervals_order(a in interval(), b in interval()) {
        check_order(DataType::INTERVAL, &a, &b);
    }

    #[test]
    fn documents_order_and_come_back(a in jsonb(), b in jsonb()) {
        check_order(DataType::JSONB, &a, &b);
        let mut bytes = Vec::new();
        encode_value(&a, &mut bytes);
        let back = decode_value(DataType::JSONB, &bytes).unwrap();
        prop_assert_eq!(shown(&back, DataType::JSONB), shown(&a, DataType::JSONB));
    }

    #[test]
    fn hostile_bytes_are_refused_or_read(bytes: Vec<u8>, position in 0usize..1_000, descending: bool, array: bool) {
        let base = TYPES[position % TYPES.len()].base;
        let data_type = if array { DataType::array_of(base) } else { DataType::new(base) };
        let _ = decode_value(data_type, &bytes);
        let mut key = vec![1];
        key.extend_from_slice(&bytes);
        let _ = decode_key(&mut KeyReader::new(&key), data_type, KeyOrder { descending, nulls_first: false });
    }
}
