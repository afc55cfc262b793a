//! Order, round trip and rejection of keys.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

const ORDERS: [KeyOrder; 4] = [
    KeyOrder { descending: false, nulls_first: false },
    KeyOrder { descending: false, nulls_first: true },
    KeyOrder { descending: true, nulls_first: false },
    KeyOrder { descending: true, nulls_first: true },
];

fn encode<T: Copy>(order: KeyOrder, value: Option<T>, put: impl Fn(&mut Vec<u8>, T)) -> Vec<u8> {
    let mut key = Vec::new();
    let mut writer = KeyWriter::new(&mut key);
    match value {
        None => writer.null(order),
        Some(value) => writer.value(order, |buffer| put(buffer, value)),
    }
    key
}

/// Bytes order as values, in each direction and with NULLs at either end; a suffix never matters.
fn check<T: Copy + std::fmt::Debug>(
    a: Option<T>,
    b: Option<T>,
    put: impl Fn(&mut Vec<u8>, T),
    compare: impl Fn(T, T) -> Ordering,
) {
    for order in ORDERS {
        let mut keys = (encode(order, a, &put), encode(order, b, &put));
        let expected = match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => {
                if order.nulls_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Some(_), None) => {
                if order.nulls_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Some(a), Some(b)) if order.descending => compare(b, a),
            (Some(a), Some(b)) => compare(a, b),
        };
        assert_eq!(keys.0.cmp(&keys.1), expected, "{a:?} and {b:?} in {order:?}");
        keys.0.push(0xFF);
        keys.1.push(0x00);
        if expected != Ordering::Equal {
            assert_eq!(keys.0.cmp(&keys.1), expected, "{a:?} and {b:?} in {order:?} with suffixes");
        }
    }
}

fn float_order(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).expect("no NaN"),
        (a, b) => a.cmp(&b),
    }
}

#[derive(Clone, Copy, Debug)]
struct Scaled {
    mantissa: i64,
    hundreds: i32,
}

fn put_scaled(buffer: &mut Vec<u8>, value: Scaled) {
    if value.mantissa == 0 {
        return put_decimal(buffer, Decimal::Zero);
    }
    let mut rest = value.mantissa.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 {
        digits.insert(0, (rest % 100) as u8);
        rest /= 100;
    }
    let exponent = digits.len() as i32 + value.hundreds;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    put_decimal(buffer, Decimal::Finite { negative: value.mantissa < 0, exponent, digits: &digits });
}

fn scaled_order(a: Scaled, b: Scaled) -> Ordering {
    let wide = |value: Scaled| i128::from(value.mantissa) * 100i128.pow((value.hundreds + 4) as u32);
    wide(a).cmp(&wide(b))
}

proptest! {
    #[test]
    fn integers_order(a: Option<i64>, b: Option<i64>) {
        check(a, b, put_i64, |a, b| a.cmp(&b));
        check(a.map(|v| v as i32), b.map(|v| v as i32), put_i32, |a, b| a.cmp(&b));
        check(a.map(|v| v as i16), b.map(|v| v as i16), put_i16, |a, b| a.cmp(&b));
        check(a.map(|v| v as u32), b.map(|v| v as u32), put_u32, |a, b| a.cmp(&b));
    }

    #[test]
    fn floats_order(a: Option<f64>, b: Option<f64>) {
        check(a, b, put_f64, float_order);
        let narrow = |v: f64| v as f32;
        check(a.map(narrow), b.map(narrow), put_f32, |a, b| float_order(a.into(), b.into()));
    }

    #[test]
    fn bytes_order(a in proptest::collection::vec(0u8..3, 0..6), b in proptest::collection::vec(0u8..3, 0..6)) {
        check(Some(a.as_slice()), Some(b.as_slice()), put_bytes, |a, b| a.cmp(b));
    }

    #[test]
    fn decimals_order(a in -100_000i64..100_000, b in -100_000i64..100_000, x in -4i32..4, y in -4i32..4) {
        let (a, b) = (Scaled { mantissa: a, hundreds: x }, Scaled { mantissa: b, hundreds: y });
        check(Some(a), Some(b), put_scaled, scaled_order);
    }

    #[test]
    fn columns_come_back(number: i64, bytes: Vec<u8>, float: f64, decimal: i64, descending: bool) {
        let order = KeyOrder { descending, nulls_first: false };
        let mut key = Vec::new();
        let mut writer = KeyWriter::new(&mut key);
        writer.value(order, |buffer| put_i64(buffer, number));
        writer.value(order, |buffer| put_bytes(buffer, &bytes));
        writer.null(order);
        writer.value(order, |buffer| put_f64(buffer, float));
        writer.value(order, |buffer| put_scaled(buffer, Scaled { mantissa: decimal, hundreds: -2 }));
        let mut reader = KeyReader::new(&key);
        prop_assert!(reader.begin(order).unwrap());
        prop_assert_eq!(reader.take_i64(), Ok(number));
        prop_assert!(reader.begin(order).unwrap());
        let mut taken = Vec::new();
        reader.take_bytes(&mut taken).unwrap();
        prop_assert_eq!(taken, bytes);
        prop_assert!(!reader.begin(order).unwrap());
        prop_assert!(reader.begin(order).unwrap());
        let back = reader.take_f64().unwrap();
        prop_assert!(back == float || back.is_nan() && float.is_nan());
        prop_assert!(reader.begin(order).unwrap());
        let mut digits = Vec::new();
        let decoded = reader.take_decimal(&mut digits).unwrap();
        let mut again = Vec::new();
        put_decimal(&mut again, decoded);
        let mut expected = Vec::new();
        put_scaled(&mut expected, Scaled { mantissa: decimal, hundreds: -2 });
        prop_assert_eq!(again, expected);
        prop_assert!(reader.rest().is_empty());
    }

    #[test]
    fn hostile_bytes_are_refused_or_read(key: Vec<u8>, descending: bool, nulls_first: bool) {
        let order = KeyOrder { descending, nulls_first };
        let mut reader = KeyReader::new(&key);
        while let Ok(present) = reader.begin(order) {
            let mut out = Vec::new();
            if present && reader.take_decimal(&mut out).is_err() && reader.take_bytes(&mut Vec::new()).is_err() {
                break;
            }
        }
    }
}

#[test]
fn special_values_order() {
    let floats = [f64::NEG_INFINITY, -1e300, -1.0, -f64::MIN_POSITIVE, 0.0, 1e-9, 1.0, f64::INFINITY, f64::NAN];
    for pair in floats.windows(2) {
        check(Some(pair[0]), Some(pair[1]), put_f64, float_order);
    }
    check(Some(-0.0), Some(0.0), put_f64, float_order);
    check(Some(f64::NAN), Some(-f64::NAN), put_f64, float_order);
    let finite = |negative, exponent, digits: &'static [u8]| Decimal::Finite { negative, exponent, digits };
    let decimals = [
        Decimal::NegativeInfinity,
        finite(true, 65_000, &[1]),
        finite(true, 60, &[1]),
        finite(true, 59, &[1]),
        finite(true, 1, &[1, 1]),
        finite(true, 1, &[1]),
        finite(true, -61, &[1]),
        finite(true, -8_000, &[1]),
        Decimal::Zero,
        finite(false, -8_000, &[1]),
        finite(false, -61, &[1]),
        finite(false, -60, &[99]),
        finite(false, 1, &[1]),
        finite(false, 1, &[1, 0, 1]),
        finite(false, 1, &[1, 1]),
        finite(false, 59, &[1]),
        finite(false, 60, &[1]),
        finite(false, 65_000, &[1]),
        Decimal::Infinity,
        Decimal::NaN,
    ];
    for (i, a) in decimals.iter().enumerate() {
        for (j, b) in decimals.iter().enumerate() {
            check(Some((i, *a)), Some((j, *b)), |buffer, v| put_decimal(buffer, v.1), |a, b| a.0.cmp(&b.0));
        }
        let mut key = Vec::new();
        put_decimal(&mut key, *a);
        assert_eq!(KeyReader::new(&key).take_decimal(&mut Vec::new()), Ok(*a));
    }
}

#[test]
fn malformed_keys_are_refused() {
    fn check<T>(key: &[u8], read: impl Fn(&mut KeyReader<'_>) -> Result<T, MalformedKey>) {
        assert!(read(&mut KeyReader::new(key)).is_err(), "{key:?} was read");
    }
    check(&[], |reader| reader.begin(KeyOrder::ASCENDING));
    check(&[0], |reader| reader.begin(KeyOrder::ASCENDING));
    check(&[3], |reader| reader.begin(KeyOrder::ASCENDING));
    check(&[1, 2, 3], |reader| reader.take_i32());
    check(&[2], |reader| reader.take_bool());
    check(b"abc", |reader| reader.take_bytes(&mut Vec::new()));
    check(b"abc\0", |reader| reader.take_bytes(&mut Vec::new()));
    check(b"abc\0\x01", |reader| reader.take_bytes(&mut Vec::new()));
    for key in
        [&[7][..], &[4], &[4, 0x80], &[4, 0x80, 0], &[4, 0x80, 1, 0], &[4, 0x80, 102, 0], &[4, 0xC0, 0x80, 0, 1, 2, 0]]
    {
        check(key, |reader| reader.take_decimal(&mut Vec::new()).map(|_| ()));
    }
}
