//! What the golden files of functions do not reach: sizes around 128 bits, hashes, limits.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Numeric {
    Numeric::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn mantissas_leave_and_enter_128_bits() {
    let check = |left: &str, operation: fn(&Numeric, &Numeric) -> Result<Numeric>, right: &str, expected: &str| {
        let result = operation(&parse(left), &parse(right)).expect("no error");
        assert_eq!(result.to_string(), expected, "{left} and {right}");
    };
    let max = "170141183460469231731687303715884105727";
    check(max, Numeric::add, "1", "170141183460469231731687303715884105728");
    check("170141183460469231731687303715884105728", Numeric::sub, "1", max);
    check("-170141183460469231731687303715884105728", Numeric::sub, "1", "-170141183460469231731687303715884105729");
    check(max, Numeric::mul, "10", "1701411834604692317316873037158841057270");
    check(max, Numeric::rem, "0.0000000001", "0.0000000000");
    check("-170141183460469231731687303715884105728", Numeric::rem, "-1", "0");
    check(max, Numeric::div, max, "1.00000000000000000000");
}

#[test]
fn limits_are_those_of_the_type() {
    assert!(Numeric::parse(&"9".repeat(131_072)).is_ok());
    assert_eq!(Numeric::parse(&"9".repeat(131_073)).unwrap_err().state(), SqlState::NUMERIC_VALUE_OUT_OF_RANGE);
    let wide = parse("1e131071");
    assert_eq!(wide.mul(&parse("10")).unwrap_err().message(), "value overflows numeric format");
    assert_eq!(parse("1e-16383").mul(&parse("0.1")).unwrap().scale(), Some(MAX_SCALE));
}

proptest! {
    #[test]
    fn fast_and_big_paths_agree(a: i64, x in 0u16..12, b: i64, y in 0u16..12) {
        let (left, right) = (Numeric::new(a.into(), x), Numeric::new(b.into(), y));
        // The same values with mantissas far beyond 128 bits.
        let widen = |value: &Numeric| value.rescale_up(value.scale().unwrap() + 40);
        let (wide_left, wide_right) = (widen(&left), widen(&right));
        prop_assert_eq!(left.cmp(&right), wide_left.cmp(&wide_right));
        prop_assert_eq!(left.add(&right).unwrap(), wide_left.add(&wide_right).unwrap());
        prop_assert_eq!(left.sub(&right).unwrap(), wide_left.sub(&wide_right).unwrap());
        prop_assert_eq!(left.mul(&right).unwrap(), wide_left.mul(&wide_right).unwrap());
        prop_assert_eq!(left.round(3), wide_left.round(3));
        prop_assert_eq!(left.floor(), wide_left.floor());
        if b != 0 {
            prop_assert_eq!(left.rem(&right).unwrap(), wide_left.rem(&wide_right).unwrap());
            let (quotient, wide) = (left.div(&right).unwrap(), wide_left.div(&wide_right).unwrap());
            prop_assert_eq!(&quotient, &wide.round(quotient.scale().unwrap().into()));
        }
        prop_assert_eq!(left.to_f64(), wide_left.to_f64());
    }

    #[test]
    fn text_comes_back(mantissa: i128, scale in 0u16..60) {
        let value = Numeric::new(mantissa, scale);
        let back = parse(&value.to_string());
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(back.scale(), value.scale());
    }

    #[test]
    fn squares_have_their_roots(root in 0i64..1_000_000_000) {
        let square = Numeric::from(root).mul(&root.into()).unwrap();
        prop_assert_eq!(square.sqrt().unwrap(), Numeric::from(root));
    }
}
