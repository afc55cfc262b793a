//! Memcomparable keys: the order of the encoded bytes is the order of the values.
//!
//! ```text
//! key      = column*
//! column   = NULL marker | 0x01 value         markers: 0x00 NULLS FIRST, 0x02 NULLS LAST
//! value    = ascending form, every byte complemented when descending
//!
//! bool     1 byte, 0 or 1
//! integer  big endian with the sign bit flipped
//! float    IEEE bits, big endian; positive: sign bit flipped, negative: all bits; -0 as 0, one NaN, greatest
//! bytes    as they are, 0x00 written as 0x00 0xFF, ended by 0x00 0x00
//! numeric  class (0x01 -Infinity, 0x02 negative, 0x03 zero, 0x04 positive, 0x05 Infinity, 0x06 NaN);
//!          finite non-zero: exponent of base 100, then one byte per base-100 digit + 1, ended by 0x00;
//!          all after the class complemented when negative
//! exponent 0x80 + e for -60 <= e < 60; else 0xC0 (or 0x3F below) and e + 2^23 in 3 bytes
//! ```
//!
//! No value is a proper prefix of another of its type, so columns can be concatenated. Equal values have
//! equal bytes: `1.0` and `1.00` are one key, and the scale of a numeric (or the sign of a zero) cannot be
//! read back from it.

#[cfg(test)]
mod tests;

/// How a column is ordered in a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyOrder {
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

impl KeyOrder {
    /// ASC NULLS LAST, the default of SQL.
    pub const ASCENDING: KeyOrder = KeyOrder { descending: false, nulls_first: false };
    /// DESC NULLS FIRST, the default of DESC.
    pub const DESCENDING: KeyOrder = KeyOrder { descending: true, nulls_first: true };
}

/// The bytes are not a key of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed key: {0}")]
pub struct MalformedKey(pub &'static str);

const NULL_FIRST: u8 = 0x00;
const PRESENT: u8 = 0x01;
const NULL_LAST: u8 = 0x02;

/// Writes the columns of one key into a buffer of the caller.
pub struct KeyWriter<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> KeyWriter<'a> {
    /// Appends to `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// A NULL column.
    pub fn null(&mut self, order: KeyOrder) {
        self.buffer.push(if order.nulls_first { NULL_FIRST } else { NULL_LAST });
    }

    /// A column with a value, which `write` appends in ascending form.
    pub fn value(&mut self, order: KeyOrder, write: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.push(PRESENT);
        let start = self.buffer.len();
        write(self.buffer);
        if order.descending {
            complement(&mut self.buffer[start..]);
        }
    }
}

fn complement(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

/// Appends a bool.
pub fn put_bool(buffer: &mut Vec<u8>, value: bool) {
    buffer.push(value as u8);
}

/// Appends one byte.
pub fn put_u8(buffer: &mut Vec<u8>, value: u8) {
    buffer.push(value);
}

macro_rules! integers {
    ($($put:ident, $take:ident, $signed:ty, $unsigned:ty, $flip:expr);* $(;)?) => {
        $(
            #[doc = concat!("Appends an ", stringify!($signed), ".")]
            #[inline]
            pub fn $put(buffer: &mut Vec<u8>, value: $signed) {
                buffer.extend_from_slice(&((value as $unsigned) ^ $flip).to_be_bytes());
            }

            impl KeyReader<'_> {
                #[doc = concat!("Reads what [`", stringify!($put), "`] wrote.")]
                #[inline]
                pub fn $take(&mut self) -> Result<$signed, MalformedKey> {
                    let bytes = self.take_array()?;
                    Ok((<$unsigned>::from_be_bytes(bytes) ^ $flip) as $signed)
                }
            }
        )*
    };
}

integers! {
    put_i16, take_i16, i16, u16, 1 << 15;
    put_i32, take_i32, i32, u32, 1 << 31;
    put_i64, take_i64, i64, u64, 1 << 63;
    put_i128, take_i128, i128, u128, 1 << 127;
    put_u32, take_u32, u32, u32, 0;
    put_u64, take_u64, u64, u64, 0;
}

macro_rules! floats {
    ($($put:ident, $take:ident, $float:ty, $bits:ty);* $(;)?) => {
        $(
            #[doc = concat!("Appends an ", stringify!($float), ": -0 is 0, NaN is the greatest.")]
            pub fn $put(buffer: &mut Vec<u8>, value: $float) {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let value = if value.is_nan() { <$float>::NAN.abs() } else { value + 0.0 };
                let bits = value.to_bits();
                let ordered = if bits & SIGN == 0 { bits ^ SIGN } else { !bits };
                buffer.extend_from_slice(&ordered.to_be_bytes());
            }

            impl KeyReader<'_> {
                #[doc = concat!("Reads what [`", stringify!($put), "`] wrote.")]
                pub fn $take(&mut self) -> Result<$float, MalformedKey> {
                    const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                    let ordered = <$bits>::from_be_bytes(self.take_array()?);
                    let bits = if ordered & SIGN != 0 { ordered ^ SIGN } else { !ordered };
                    Ok(<$float>::from_bits(bits))
                }
            }
        )*
    };
}

floats! {
    put_f32, take_f32, f32, u32;
    put_f64, take_f64, f64, u64;
}

/// Appends bytes of any length, escaped and terminated.
pub fn put_bytes(buffer: &mut Vec<u8>, mut value: &[u8]) {
    buffer.reserve(value.len() + 2);
    while let Some(zero) = value.iter().position(|byte| *byte == 0) {
        buffer.extend_from_slice(&value[..zero]);
        buffer.extend_from_slice(&[0x00, 0xFF]);
        value = &value[zero + 1..];
    }
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(&[0x00, 0x00]);
}

/// Appends bytes whose number the type fixes (uuid), as they are.
pub fn put_fixed(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.extend_from_slice(value);
}

/// A decimal number as keys hold it. Digits are of base 100, most significant first, without zeros at
/// either end; the value is `0.d1 d2 d3 … × 100^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Decimal<'a> {
    NegativeInfinity,
    Zero,
    Finite { negative: bool, exponent: i32, digits: &'a [u8] },
    Infinity,
    NaN,
}

const CLASS_NEGATIVE_INFINITY: u8 = 1;
const CLASS_NEGATIVE: u8 = 2;
const CLASS_ZERO: u8 = 3;
const CLASS_POSITIVE: u8 = 4;
const CLASS_INFINITY: u8 = 5;
const CLASS_NAN: u8 = 6;
const EXPONENT_LONG: u8 = 0xC0;
const EXPONENT_LONG_NEGATIVE: u8 = 0x3F;
const EXPONENT_BIAS: i32 = 1 << 23;
/// Exponents in `-SHORT_EXPONENT..SHORT_EXPONENT` take one byte.
const SHORT_EXPONENT: i32 = 60;

/// Appends a decimal number. Panics when a digit is not of base 100 or zeros were left at an end: two
/// encodings of one value would be two keys.
pub fn put_decimal(buffer: &mut Vec<u8>, value: Decimal<'_>) {
    let (negative, exponent, digits) = match value {
        Decimal::NegativeInfinity => return buffer.push(CLASS_NEGATIVE_INFINITY),
        Decimal::Zero => return buffer.push(CLASS_ZERO),
        Decimal::Infinity => return buffer.push(CLASS_INFINITY),
        Decimal::NaN => return buffer.push(CLASS_NAN),
        Decimal::Finite { negative, exponent, digits } => (negative, exponent, digits),
    };
    let ends = (digits.first().copied().unwrap_or(0), digits.last().copied().unwrap_or(0));
    assert!(ends.0 != 0 && ends.1 != 0, "decimal digits {digits:?} are not normalised");
    buffer.push(if negative { CLASS_NEGATIVE } else { CLASS_POSITIVE });
    let start = buffer.len();
    if (-SHORT_EXPONENT..SHORT_EXPONENT).contains(&exponent) {
        buffer.push((0x80 + exponent) as u8);
    } else {
        buffer.push(if exponent > 0 { EXPONENT_LONG } else { EXPONENT_LONG_NEGATIVE });
        buffer.extend_from_slice(&((exponent + EXPONENT_BIAS) as u32).to_be_bytes()[1..]);
    }
    for digit in digits {
        assert!(*digit < 100, "decimal digit {digit} is not of base 100");
        buffer.push(digit + 1);
    }
    buffer.push(0);
    if negative {
        complement(&mut buffer[start..]);
    }
}

/// Reads the columns of one key.
///
/// A descending column is complemented into a scratch buffer first, so every `take_…` reads the ascending form.
pub struct KeyReader<'a> {
    input: &'a [u8],
    /// Every byte taken is complemented.
    descending: bool,
}

impl<'a> KeyReader<'a> {
    /// Reads from the start of `key`.
    pub fn new(key: &'a [u8]) -> Self {
        Self { input: key, descending: false }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.input
    }

    /// Begins a column; false when it is NULL. Otherwise the next `take_…` reads its value.
    pub fn begin(&mut self, order: KeyOrder) -> Result<bool, MalformedKey> {
        self.descending = false;
        match self.take_u8()? {
            PRESENT => {
                self.descending = order.descending;
                Ok(true)
            }
            marker if marker == if order.nulls_first { NULL_FIRST } else { NULL_LAST } => Ok(false),
            _ => Err(MalformedKey("unknown NULL marker")),
        }
    }

    /// Reads one byte.
    #[inline]
    pub fn take_u8(&mut self) -> Result<u8, MalformedKey> {
        let (first, rest) = self.input.split_first().ok_or(MalformedKey("ends early"))?;
        self.input = rest;
        Ok(if self.descending { !first } else { *first })
    }

    /// Reads a bool.
    pub fn take_bool(&mut self) -> Result<bool, MalformedKey> {
        match self.take_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MalformedKey("bool is neither 0 nor 1")),
        }
    }

    /// Reads bytes whose number the type fixes.
    #[inline]
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], MalformedKey> {
        let (head, rest) = self.input.split_first_chunk::<N>().ok_or(MalformedKey("ends early"))?;
        self.input = rest;
        let mut bytes = *head;
        if self.descending {
            complement(&mut bytes);
        }
        Ok(bytes)
    }

    /// Reads what [`put_bytes`] wrote and appends it to `out`.
    pub fn take_bytes(&mut self, out: &mut Vec<u8>) -> Result<(), MalformedKey> {
        loop {
            match self.take_u8()? {
                0 => match self.take_u8()? {
                    0x00 => return Ok(()),
                    0xFF => out.push(0),
                    _ => return Err(MalformedKey("unknown escape in bytes")),
                },
                byte => out.push(byte),
            }
        }
    }

    /// Reads what [`put_decimal`] wrote; its digits go to `digits`.
    pub fn take_decimal<'d>(&mut self, digits: &'d mut Vec<u8>) -> Result<Decimal<'d>, MalformedKey> {
        digits.clear();
        let negative = match self.take_u8()? {
            CLASS_NEGATIVE_INFINITY => return Ok(Decimal::NegativeInfinity),
            CLASS_ZERO => return Ok(Decimal::Zero),
            CLASS_INFINITY => return Ok(Decimal::Infinity),
            CLASS_NAN => return Ok(Decimal::NaN),
            CLASS_NEGATIVE => true,
            CLASS_POSITIVE => false,
            _ => return Err(MalformedKey("unknown numeric class")),
        };
        let outer = self.descending;
        self.descending ^= negative;
        let result = self.take_finite(digits);
        self.descending = outer;
        let exponent = result?;
        Ok(Decimal::Finite { negative, exponent, digits })
    }

    fn take_finite(&mut self, digits: &mut Vec<u8>) -> Result<i32, MalformedKey> {
        let exponent = match self.take_u8()? {
            long @ (EXPONENT_LONG | EXPONENT_LONG_NEGATIVE) => {
                let [a, b, c] = self.take_array()?;
                let exponent = i32::from_be_bytes([0, a, b, c]) - EXPONENT_BIAS;
                let expected =
                    if long == EXPONENT_LONG { exponent >= SHORT_EXPONENT } else { exponent < -SHORT_EXPONENT };
                if !expected {
                    return Err(MalformedKey("numeric exponent is not in its shortest form"));
                }
                exponent
            }
            short => {
                let exponent = i32::from(short) - 0x80;
                if !(-SHORT_EXPONENT..SHORT_EXPONENT).contains(&exponent) {
                    return Err(MalformedKey("numeric exponent out of range"));
                }
                exponent
            }
        };
        loop {
            match self.take_u8()? {
                0 => break,
                digit @ 1..=100 => digits.push(digit - 1),
                _ => return Err(MalformedKey("numeric digit out of range")),
            }
        }
        match (digits.first(), digits.last()) {
            (Some(first), Some(last)) if *first != 0 && *last != 0 => Ok(exponent),
            _ => Err(MalformedKey("numeric digits are not normalised")),
        }
    }
}
