//! Numbers: arithmetic that never wraps, comparison that never rounds, and how a number is written.
//!
//! A JSON number is a double in arithmetic (RFC 8259, section 6); a literal without fraction is a 64-bit integer. The
//! two mix: an operation on both is one on doubles. Comparison is exact over all of them.

use std::{cmp::Ordering, fmt::Write};

use super::Arithmetic;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
}

/// The largest whole number below which every whole number is a double: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

// === impl Number ===

impl Number {
    /// A JSON number as arithmetic takes it. The text is of RFC 8259's grammar.
    pub(super) fn of_json(text: &str) -> Self {
        Self::Double(text.parse().unwrap_or(f64::NAN))
    }

    /// A JSON number as comparison takes it: whole numbers of 64 bits stay exact.
    pub(super) fn exact_of_json(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::of_json(text), Self::Int)
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    pub(super) fn add(self, other: Self) -> Result<Self, &'static str> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.checked_add(b).map(Self::Int).ok_or(OVERFLOW),
            _ => finite(self.as_f64() + other.as_f64()),
        }
    }

    pub(super) fn negate(self) -> Result<Self, &'static str> {
        match self {
            Self::Int(value) => value.checked_neg().map(Self::Int).ok_or(OVERFLOW),
            Self::Double(value) => Ok(Self::Double(-value)),
        }
    }

    pub(super) fn apply(self, by: Arithmetic, other: Self) -> Result<Self, &'static str> {
        let (Self::Int(a), Self::Int(b)) = (self, other) else {
            return apply_doubles(self.as_f64(), by, other.as_f64());
        };
        let result = match by {
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide | Arithmetic::Remainder if b == 0 => return Err(BY_ZERO),
            Arithmetic::Divide => a.checked_div(b),
            Arithmetic::Remainder => a.checked_rem(b),
        };
        result.map(Self::Int).ok_or(OVERFLOW)
    }

    /// By value, not by representation; `None` never happens, because no number here is NaN.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(&b),
            (Self::Int(a), Self::Double(b)) => compare_mixed(a, b),
            (Self::Double(a), Self::Int(b)) => compare_mixed(b, a).map(Ordering::reverse),
        }
    }

    /// Appends it as JSON: the shortest text that reads back as the same double, whole numbers without a fraction.
    pub(super) fn write(self, out: &mut impl Write) {
        // writing to memory can't fail
        let _ = match self {
            Self::Int(value) => write!(out, "{value}"),
            Self::Double(value) if value == 0.0 || (1e-7..1e21).contains(&value.abs()) => write!(out, "{value}"),
            Self::Double(value) => write!(out, "{value:e}"),
        };
    }
}

const OVERFLOW: &str = "the result is out of range";
const BY_ZERO: &str = "division by zero";

fn apply_doubles(a: f64, by: Arithmetic, b: f64) -> Result<Number, &'static str> {
    let divides = matches!(by, Arithmetic::Divide | Arithmetic::Remainder);
    if divides && b == 0.0 {
        return Err(BY_ZERO);
    }
    match by {
        Arithmetic::Subtract => finite(a - b),
        Arithmetic::Multiply => finite(a * b),
        Arithmetic::Divide => finite(a / b),
        Arithmetic::Remainder if whole(a) && whole(b) => finite(a % b),
        Arithmetic::Remainder => Err("% takes whole numbers below 2^53"),
    }
}

fn whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < EXACT
}

fn finite(value: f64) -> Result<Number, &'static str> {
    if value.is_finite() { Ok(Number::Double(value)) } else { Err(OVERFLOW) }
}

/// Exact: an integer is not rounded to a double.
fn compare_mixed(a: i64, b: f64) -> Option<Ordering> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    if b.is_nan() {
        return None;
    }
    if b >= LIMIT {
        return Some(Ordering::Less);
    }
    if b < -LIMIT {
        return Some(Ordering::Greater);
    }
    // within range, so the cast only drops the fraction
    let truncated = b as i64;
    Some(a.cmp(&truncated).then_with(|| 0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: Number) -> String {
        let mut out = String::new();
        number.write(&mut out);
        out
    }

    #[test]
    fn a_number_is_written_as_short_as_it_reads_back() {
        for (value, text) in [
            (10.0, "10"),
            (0.1 + 0.2, "0.30000000000000004"),
            (-0.0, "-0"),
            (1e21, "1e21"),
            (1.5e-9, "1.5e-9"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
            (1e20, "100000000000000000000"),
        ] {
            assert_eq!(written(Number::Double(value)), text);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
        assert_eq!(written(Number::Int(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn an_integer_and_a_double_compare_without_rounding() {
        let next = Number::Int(9_007_199_254_740_993);
        assert_eq!(next.compare(Number::Double(EXACT)), Some(Ordering::Greater));
        assert_eq!(Number::Double(EXACT).compare(next), Some(Ordering::Less));
        assert_eq!(Number::Int(i64::MAX).compare(Number::Double(9.3e18)), Some(Ordering::Less));
        assert_eq!(Number::Int(i64::MIN).compare(Number::Double(-9.3e18)), Some(Ordering::Greater));
        assert_eq!(Number::Int(1).compare(Number::Double(1.5)), Some(Ordering::Less));
        assert_eq!(Number::Int(-1).compare(Number::Double(-1.5)), Some(Ordering::Greater));
        assert_eq!(Number::Int(2).compare(Number::Double(2.0)), Some(Ordering::Equal));
    }

    #[test]
    fn nothing_wraps_and_nothing_becomes_infinite() {
        assert_eq!(Number::Int(i64::MAX).add(Number::Int(1)), Err(OVERFLOW));
        assert_eq!(Number::Int(i64::MIN).negate(), Err(OVERFLOW));
        assert_eq!(Number::Int(i64::MIN).apply(Arithmetic::Divide, Number::Int(-1)), Err(OVERFLOW));
        assert_eq!(Number::Int(i64::MIN).apply(Arithmetic::Remainder, Number::Int(-1)), Err(OVERFLOW));
        assert_eq!(Number::Int(1).apply(Arithmetic::Remainder, Number::Int(0)), Err(BY_ZERO));
        assert_eq!(Number::Double(1.0).apply(Arithmetic::Divide, Number::Double(-0.0)), Err(BY_ZERO));
        assert_eq!(Number::Double(f64::MAX).apply(Arithmetic::Multiply, Number::Int(2)), Err(OVERFLOW));
        assert!(Number::Double(1.5).apply(Arithmetic::Remainder, Number::Int(2)).is_err());
        assert_eq!(Number::Double(7.0).apply(Arithmetic::Remainder, Number::Int(4)), Ok(Number::Double(3.0)));
    }
}
