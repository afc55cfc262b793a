//! Round trips of the binary format over the golden values, some bytes by hand, and rejection.

use proptest::prelude::*;

use super::*;
use crate::types::golden;

#[test]
fn golden_values_come_back() {
    let context = golden::context();
    let mut count = 0;
    for line in include_str!("../golden/text.tsv").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let data_type = DataType::from_name(fields[0]).expect("a type").bare();
        let Ok(value) = text::parse(fields[1], data_type, &context) else { continue };
        let mut bytes = Vec::new();
        encode(&value, data_type, &context, &mut bytes);
        let back = decode(&bytes, data_type, &context).unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        let texts = [&value, &back].map(|value| text::to_string(value, data_type, &context));
        assert_eq!(texts[0], texts[1], "{fields:?}");
        count += 1;
    }
    assert!(count > 200, "{count} values");
}

#[test]
fn bytes_are_those_of_postgres() {
    let context = golden::context();
    golden::check(include_str!("../golden/binary.tsv"), |fields| {
        let data_type = DataType::from_name(fields[0])?;
        let value = text::parse(fields[1], data_type, &context)?;
        let mut bytes = Vec::new();
        encode(&value, data_type, &context, &mut bytes);
        Ok(Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    });
}

#[test]
fn malformed_bytes_are_refused() {
    let context = golden::context();
    let check = |data_type: DataType, bytes: &[u8]| {
        assert!(decode(bytes, data_type, &context).is_err(), "{data_type:?} {bytes:?}");
    };
    check(DataType::INT4, &[1, 2, 3]);
    check(DataType::TEXT, &[0xFF]);
    check(DataType::TEXT, &[0]);
    check(DataType::JSONB, &[2, b'1']);
    check(DataType::NUMERIC, &[0, 1, 0, 0, 0, 0, 0, 0]);
    check(DataType::NUMERIC, &[0, 1, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]);
    check(DataType::NUMERIC, &[0, 0, 0, 0, 0x12, 0, 0, 0]);
    check(DataType::INT4.to_array(), &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1]);
    check(DataType::TIME, &[0x7F; 8]);
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused_or_read(bytes: Vec<u8>, position in 0usize..1_000) {
        let info = &crate::types::TYPES[position % crate::types::TYPES.len()];
        let _ = decode(&bytes, DataType::new(info.base), &golden::context());
        let _ = decode(&bytes, DataType::array_of(info.base), &golden::context());
    }
}
