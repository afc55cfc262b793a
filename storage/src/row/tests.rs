//! Round trip, partial decode and rejection of rows.

use proptest::prelude::*;

use super::*;

type Column = (ColumnWidth, Option<Vec<u8>>);

fn column() -> impl Strategy<Value = Column> {
    let fixed = (0u8..17).prop_flat_map(|width| {
        let bytes = proptest::collection::vec(any::<u8>(), usize::from(width));
        proptest::option::of(bytes).prop_map(move |bytes| (ColumnWidth::Fixed(width), bytes))
    });
    let variable = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    prop_oneof![fixed, variable.prop_map(|bytes| (ColumnWidth::Variable, bytes))]
}

fn encode(layout: &RowLayout, columns: &[Column]) -> Vec<u8> {
    let mut encoder = RowEncoder::new();
    encoder.begin();
    for (_, value) in columns {
        match value {
            None => encoder.push_null(layout),
            Some(value) => encoder.push(layout, |buffer| buffer.extend_from_slice(value)),
        }
    }
    let mut row = Vec::new();
    encoder.finish(&mut row);
    row
}

fn layout(columns: &[Column]) -> RowLayout {
    RowLayout::new(columns.iter().map(|column| column.0))
}

fn check(columns: &[Column], stored: usize) {
    let layout = layout(columns);
    let row = encode(&layout, &columns[..stored]);
    let reader = RowReader::new(&layout, &row).unwrap();
    assert_eq!(reader.columns(), stored);
    for (index, (_, value)) in columns.iter().enumerate().rev() {
        let expected = match value {
            _ if index >= stored => Field::Absent,
            None => Field::Null,
            Some(value) => Field::Value(value),
        };
        assert_eq!(reader.field(index), Ok(expected), "column {index} of {columns:?}");
    }
    for length in 0..row.len() {
        assert!(RowReader::new(&layout, &row[..length]).is_err(), "a row cut to {length} bytes was read");
    }
}

proptest! {
    #[test]
    fn rows_come_back(columns in proptest::collection::vec(column(), 0..20), part in 0.0..=1.0f64) {
        check(&columns, (columns.len() as f64 * part) as usize);
    }

    #[test]
    fn hostile_bytes_are_refused_or_read(columns in proptest::collection::vec(column(), 0..9), mut row: Vec<u8>, head in 0u8..6) {
        let layout = layout(&columns);
        if let Some(first) = row.first_mut() {
            *first = VERSION << 4 | head;
        }
        if let Some(second) = row.get_mut(1) {
            *second %= 10;
        }
        if let Some(third) = row.get_mut(2) {
            *third = 0;
        }
        if let Ok(reader) = RowReader::new(&layout, &row) {
            for index in 0..columns.len() {
                let _ = reader.field(index);
            }
        }
    }
}

#[test]
fn wide_values_come_back() {
    let value = |bytes| (ColumnWidth::Variable, Some(vec![7; bytes]));
    check(&[value(255)], 1);
    check(&[value(256), (ColumnWidth::Fixed(4), Some(vec![1, 2, 3, 4]))], 2);
    let columns = [value(0), value(65_535), value(1), (ColumnWidth::Variable, None), value(3)];
    let layout = layout(&columns);
    let row = encode(&layout, &columns);
    let reader = RowReader::new(&layout, &row).unwrap();
    assert_eq!(reader.field(4), Ok(Field::Value(&[7, 7, 7])));
    assert_eq!(reader.field(3), Ok(Field::Null));
}

#[test]
fn malformed_rows_are_refused() {
    let layout = RowLayout::new([ColumnWidth::Fixed(2), ColumnWidth::Variable]);
    for row in [
        &[][..],
        &[0x10],
        &[0x20, 2, 0, 1, 1, 0],
        &[0x16, 2, 0, 1, 1, 0],
        &[0x10, 3, 0, 1, 1, 0],
        &[0x10, 2, 0, 1, 1, 1],
    ] {
        assert!(RowReader::new(&layout, row).is_err(), "{row:?} was read");
    }
    assert!(RowReader::new(&layout, &[0x10, 2, 0, 1, 1, 0]).is_ok());
}
