//! Numbers by their text: exact where a double is not.

use std::{
    borrow::Cow,
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use jsonschema::json::JsonNumber;

/// A number's source text, of RFC 8259's grammar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'a>(pub(crate) &'a str);

/// A number by value: `12.10`, `12.1` and `1.21e1` are the same one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    /// The digits, without leading and trailing zeros, with a point among them perhaps; empty for zero.
    digits: &'a str,
    /// The value is `0.digits` times ten to this power; 0 for zero.
    exponent: i64,
}

// === impl Number ===

impl<'a> Number<'a> {
    /// Its value.
    pub(crate) fn decimal(self) -> Decimal<'a> {
        let (negative, unsigned) = match self.0.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, self.0),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, saturating(exponent)),
            None => (unsigned, 0),
        };
        let skipped = |c: char| c == '0' || c == '.';
        let digits = mantissa.trim_matches(skipped);
        if digits.is_empty() {
            return Decimal { negative: false, digits: "", exponent: 0 };
        }
        // Where the first digit that counts stands, seen from the point.
        let point = mantissa.find('.').unwrap_or(mantissa.len());
        let first = mantissa.len() - mantissa.trim_start_matches(skipped).len();
        let places = if first < point { signed(point - first) } else { 1 - signed(first - point) };
        Decimal { negative, digits, exponent: exponent.saturating_add(places) }
    }
}

impl JsonNumber for Number<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(serde_json::from_str(self.0).unwrap_or_else(|_| 0.into()))
    }

    fn is_integer(&self) -> bool {
        !self.0.contains(['.', 'e', 'E']) || self.decimal().is_integer()
    }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// An exponent; one that no number in range has is as good as the largest.
fn saturating(text: &str) -> i64 {
    let bound = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    text.strip_prefix('+').unwrap_or(text).parse().unwrap_or(bound)
}

// === impl Decimal ===

impl Decimal<'_> {
    fn is_integer(&self) -> bool {
        let count = self.digits.bytes().filter(|b| *b != b'.').count();
        self.exponent >= signed(count)
    }

    fn plain(&self) -> impl Iterator<Item = u8> {
        self.digits.bytes().filter(|b| *b != b'.')
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative
            && self.exponent == other.exponent
            && self.plain().cmp(other.plain()) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl Hash for Decimal<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.negative, self.exponent).hash(state);
        self.plain().for_each(|digit| state.write_u8(digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(a: &str, b: &str) -> bool {
        Number(a).decimal() == Number(b).decimal()
    }

    #[test]
    fn one_value_has_many_spellings() {
        for (a, b) in [
            ("12.10", "12.1"),
            ("12.1", "1.21e1"),
            ("1e2", "100"),
            ("1E+2", "100.0"),
            ("0.001", "1e-3"),
            ("0.0010", "0.1e-2"),
            ("-0", "0"),
            ("0e99", "0.00"),
            ("100.001", "1.00001e2"),
            ("10", "1e1"),
        ] {
            assert!(equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn neighbours_that_one_double_stands_for_differ() {
        for (a, b) in [
            ("9007199254740993", "9007199254740992"),
            ("123456789012345678901234", "123456789012345678901235"),
            ("0.1", "0.10000000000000000001"),
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "0.01"),
            ("101", "11"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn an_integer_is_one_by_value() {
        for yes in ["0", "-3", "1.0", "1e2", "1.5e1", "9007199254740993", "0.0", "-0.0", "1200e-2"] {
            assert!(Number(yes).is_integer(), "{yes}");
        }
        for no in ["0.5", "1e-1", "1.25e1", "12345678901234567890.5", "1e-400"] {
            assert!(!Number(no).is_integer(), "{no}");
        }
    }
}
