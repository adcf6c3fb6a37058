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

/// What `math.*` does to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Abs,
    Sign,
    Ceil,
    Floor,
    /// Halves away from zero.
    Round,
    Trunc,
}

/// The largest whole number below which every whole number is a double: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// 2^63.
const LIMIT: f64 = 9_223_372_036_854_775_808.0;

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

    /// Its value, if it is a whole number of 64 bits.
    pub(super) fn whole(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Double(value) if whole(value) => Some(value as i64),
            Self::Double(_) => None,
        }
    }

    /// Without its fraction.
    pub(super) fn truncated(self) -> Result<i64, &'static str> {
        match self {
            Self::Int(value) => Ok(value),
            Self::Double(value) if (-LIMIT..LIMIT).contains(&value) => Ok(value as i64),
            Self::Double(_) => Err("the number is out of the range of 64 bits"),
        }
    }

    /// `abs`, `sign` and the ways to round.
    pub(super) fn rounded(self, by: Rounding) -> Result<Self, &'static str> {
        Ok(match (self, by) {
            (Self::Int(value), Rounding::Abs) => Self::Int(value.checked_abs().ok_or(OVERFLOW)?),
            (Self::Int(value), Rounding::Sign) => Self::Int(value.signum()),
            (Self::Int(value), _) => Self::Int(value),
            (Self::Double(value), Rounding::Abs) => Self::Double(value.abs()),
            (Self::Double(value), Rounding::Sign) => Self::Double(if value == 0.0 { 0.0 } else { value.signum() }),
            (Self::Double(value), Rounding::Ceil) => Self::Double(value.ceil()),
            (Self::Double(value), Rounding::Floor) => Self::Double(value.floor()),
            (Self::Double(value), Rounding::Round) => Self::Double(value.round()),
            (Self::Double(value), Rounding::Trunc) => Self::Double(value.trunc()),
        })
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

/// A number in text: digits, fraction, exponent; no `inf`, no `nan`, nothing out of range.
pub(super) fn double_of_text(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

/// Two numbers of RFC 8259's grammar by their decimal value, whatever their length.
pub(super) fn compare_decimals(a: &str, b: &str) -> Ordering {
    let (a, b) = (Decimal::of(a), Decimal::of(b));
    match (a.sign(), b.sign()) {
        (1, 1) => a.compare_magnitude(&b),
        (-1, -1) => b.compare_magnitude(&a),
        (a, b) => a.cmp(&b),
    }
}

/// `0.digits * 10^exponent`, where the first and the last digit are not 0.
struct Decimal<'t> {
    negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

// === impl Decimal ===

impl<'t> Decimal<'t> {
    fn of(text: &'t str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let zero = |digit: &u8| *digit == b'0';
        // an exponent past 64 bits is past every double: it stands for an endless one
        let endless = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let mut exponent =
            exponent.trim_start_matches('+').parse().unwrap_or(endless).clamp(i64::MIN / 2, i64::MAX / 2);
        let mut whole = whole.as_bytes();
        let mut fraction = fraction.as_bytes();
        fraction = &fraction[..fraction.iter().rposition(|digit| !zero(digit)).map_or(0, |at| at + 1)];
        whole = &whole[whole.iter().position(|digit| !zero(digit)).unwrap_or(whole.len())..];
        exponent += whole.len() as i64;
        if whole.is_empty() {
            let zeros = fraction.iter().take_while(|digit| zero(digit)).count();
            fraction = &fraction[zeros..];
            exponent -= zeros as i64;
        }
        if fraction.is_empty() {
            whole = &whole[..whole.iter().rposition(|digit| !zero(digit)).map_or(0, |at| at + 1)];
        }
        Self { negative, whole, fraction, exponent }
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_magnitude(&self, other: &Self) -> Ordering {
        let digits = |of: &Self| of.whole.iter().chain(of.fraction).copied().collect::<Vec<_>>();
        self.exponent.cmp(&other.exponent).then_with(|| digits(self).cmp(&digits(other)))
    }
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

    #[test]
    fn decimals_compare_by_every_digit() {
        for (a, b, ordering) in [
            ("18446744073709551615", "18446744073709551614", Ordering::Greater),
            ("-18446744073709551615", "-18446744073709551614", Ordering::Less),
            ("12.10", "12.1", Ordering::Equal),
            ("1e2", "100.00", Ordering::Equal),
            ("1E+2", "0.001e5", Ordering::Equal),
            ("0.1000000000000000000001", "0.1", Ordering::Greater),
            ("-0", "0.0e7", Ordering::Equal),
            ("-1", "0", Ordering::Less),
            ("9", "10", Ordering::Less),
            ("1e-99999999999999999999", "1e-1", Ordering::Less),
            ("100", "1000", Ordering::Less),
            ("1.05", "1.5", Ordering::Less),
        ] {
            assert_eq!(compare_decimals(a, b), ordering, "{a} {b}");
            assert_eq!(compare_decimals(b, a), ordering.reverse(), "{b} {a}");
        }
    }
}
