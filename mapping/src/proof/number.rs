//! Numbers: between which, whole or not, and what they are while an expression runs.
//!
//! Bounds are doubles. Where a number is none, they hold for the double next to it: rounding keeps order, so bounds
//! reckoned with the operation itself hold for all between them.

/// A set of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    /// The least, inclusive.
    pub(crate) low: f64,
    /// The greatest, inclusive.
    pub(crate) high: f64,
    /// Without a fraction, by value.
    pub(crate) whole: bool,
    /// Not 0, by value.
    pub(crate) nonzero: bool,
    /// Exactly these, in order.
    pub(crate) only: Option<Vec<f64>>,
    /// What it is while an expression runs.
    pub(crate) held: Held,
}

/// How a number is held while an expression runs; `/` depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// The text of the payload: a double in arithmetic.
    Source,
    /// A whole number of 64 bits.
    Int,
    Double,
    /// One or the other.
    Mixed,
}

/// Doubles up to here tell neighbouring whole numbers apart: 2^53.
pub(crate) const EXACT: f64 = 9_007_199_254_740_992.0;
/// Whole numbers of 64 bits are below: 2^63.
const LIMIT: f64 = 9_223_372_036_854_775_808.0;
/// The most numbers that are known one by one.
const MAX_KNOWN: usize = 256;

// === impl Number ===

impl Number {
    /// Any of JSON.
    pub(crate) const ANY: Self = Self {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        whole: false,
        nonzero: false,
        only: None,
        held: Held::Source,
    };

    /// Whole numbers of 64 bits from one to another, inclusive.
    pub(crate) const fn ints(low: f64, high: f64) -> Self {
        Self { low, high, whole: true, nonzero: low > 0.0 || high < 0.0, only: None, held: Held::Int }
    }

    /// One number. Beyond 2^53 only where it is about.
    pub(crate) fn one(value: f64, held: Held) -> Self {
        let known = value.abs() < EXACT;
        Self {
            low: value,
            high: value,
            whole: known && value.fract() == 0.0,
            nonzero: value != 0.0,
            only: known.then(|| vec![value]),
            held,
        }
    }

    fn held(self, held: Held) -> Self {
        Self { held, ..self }
    }

    pub(crate) fn between(low: f64, high: f64) -> Self {
        Self { low, high, nonzero: low > 0.0 || high < 0.0, ..Self::ANY }
    }

    pub(crate) fn join(&self, other: &Self) -> Self {
        let only = match (&self.only, &other.only) {
            (Some(a), Some(b)) => {
                let mut all = [a.as_slice(), b].concat();
                all.sort_by(f64::total_cmp);
                all.dedup();
                Some(all).filter(|all| all.len() <= MAX_KNOWN)
            }
            _ => None,
        };
        let held = match (self.held, other.held) {
            (a, b) if a == b => a,
            (Held::Source, Held::Int) | (Held::Int, Held::Source) if self.whole && other.whole => Held::Source,
            _ => Held::Mixed,
        };
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            whole: self.whole && other.whole,
            nonzero: self.nonzero && other.nonzero,
            only,
            held,
        }
    }

    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        let (whole, nonzero) = (self.whole || other.whole, self.nonzero || other.nonzero);
        // what a schema says of a value is said of one of the payload
        let held = if self.held == Held::Source { other.held } else { self.held };
        let only = match (&self.only, &other.only) {
            (Some(a), Some(b)) => Some(a.iter().copied().filter(|a| b.contains(a)).collect()),
            (one, None) | (None, one) => one.clone(),
        };
        let Some(only) = only else {
            return (low <= high).then_some(Self { low, high, whole, nonzero, only, held });
        };
        let fits = |n: &f64| *n >= low && *n <= high && !(whole && n.fract() != 0.0) && !(nonzero && *n == 0.0);
        let only: Vec<f64> = only.into_iter().filter(fits).collect();
        Some(Self { low: *only.first()?, high: *only.last()?, whole, nonzero, only: Some(only), held })
    }

    /// Without one number, where the rest is known.
    pub(crate) fn without(&self, value: f64) -> Option<Self> {
        let nonzero = self.nonzero || value == 0.0;
        let Some(only) = &self.only else { return Some(Self { nonzero, ..self.clone() }) };
        let rest: Vec<f64> = only.iter().copied().filter(|known| *known != value).collect();
        Some(Self { low: *rest.first()?, high: *rest.last()?, nonzero, only: Some(rest), ..self.clone() })
    }

    /// As `Whole` makes it of a number of the payload: of 64 bits if it fits.
    pub(crate) fn as_whole(&self) -> Self {
        let fits = self.whole && self.low > -LIMIT && self.high < LIMIT;
        self.clone().held(if fits { Held::Int } else { Held::Mixed })
    }

    /// 0 is none of them.
    pub(crate) fn is_nonzero(&self) -> bool {
        self.nonzero || self.low > 0.0 || self.high < 0.0
    }

    fn result(low: f64, high: f64, whole: bool, held: Held) -> Self {
        let (low, high) =
            (if low.is_nan() { f64::NEG_INFINITY } else { low }, if high.is_nan() { f64::INFINITY } else { high });
        Self { whole, held, nonzero: false, ..Self::between(low, high) }
    }

    /// The one that a result of both is held as.
    fn mixed(&self, other: &Self) -> Held {
        match (self.held, other.held) {
            (Held::Int, Held::Int) => Held::Int,
            (Held::Double | Held::Source, _) | (_, Held::Double | Held::Source) => Held::Double,
            _ => Held::Mixed,
        }
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        let whole = self.whole && other.whole;
        Self::result(self.low + other.low, self.high + other.high, whole, self.mixed(other))
    }

    pub(crate) fn negate(&self) -> Self {
        let held = if self.held == Held::Source { Held::Double } else { self.held };
        Self { nonzero: self.nonzero, ..Self::result(-self.high, -self.low, self.whole, held) }
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        Self { held: self.mixed(other), ..self.add(&other.negate()) }
    }

    pub(crate) fn multiply(&self, other: &Self) -> Self {
        // a bound without end stands for all that is finite
        let times = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let (low, high) = self.corners(other, times);
        Self::result(low, high, self.whole && other.whole, self.mixed(other))
    }

    /// Where `other` is not 0.
    pub(crate) fn divide(&self, other: &Self) -> Self {
        let held = self.mixed(other);
        let apart = other.low > 0.0 || other.high < 0.0;
        let endless = self.low.is_infinite() && other.low.is_infinite();
        if !apart || endless {
            return Self::result(f64::NEG_INFINITY, f64::INFINITY, held == Held::Int, held);
        }
        let by = |a: f64, b: f64| if a == 0.0 || b.is_infinite() { 0.0 } else { a / b };
        let (low, high) = self.corners(other, by);
        if held == Held::Double {
            return Self::result(low, high, false, held);
        }
        // of whole numbers it is rounded toward 0
        let low = if low > 0.0 { low.floor() } else { low };
        let high = if high < 0.0 { high.ceil() } else { high };
        Self::result(low, high, held == Held::Int, held)
    }

    /// Where `other` is not 0 and both are whole: nearer to 0 than either of them, and of the sign of `self`.
    pub(crate) fn remainder(&self, other: &Self) -> Self {
        let most = other.low.abs().max(other.high.abs()).floor();
        // past 2^53 the next whole number below is the same double
        let most = if most <= EXACT { (most - 1.0).max(0.0) } else { most };
        let low = if self.low >= 0.0 { 0.0 } else { self.low.max(-most) };
        let high = if self.high <= 0.0 { 0.0 } else { self.high.min(most) };
        Self::result(low, high, true, self.mixed(other))
    }

    fn corners(&self, other: &Self, by: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let all =
            [by(self.low, other.low), by(self.low, other.high), by(self.high, other.low), by(self.high, other.high)];
        if all.iter().any(|value| value.is_nan()) {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        (all.into_iter().fold(f64::INFINITY, f64::min), all.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_what_lies_between() {
        let fahrenheit = Number::between(-459.67, f64::INFINITY);
        let celsius = fahrenheit
            .subtract(&Number::one(32.0, Held::Int))
            .multiply(&Number::one(5.0, Held::Int))
            .divide(&Number::one(9.0, Held::Int));
        assert_eq!((celsius.low, celsius.high), ((-459.67 - 32.0) * 5.0 / 9.0, f64::INFINITY));
        assert_eq!(celsius.held, Held::Double);
    }

    #[test]
    fn whole_numbers_divide_toward_zero() {
        let of = |low, high| Number::ints(low, high);
        let made = of(7.0, 9.0).divide(&of(2.0, 2.0));
        assert_eq!((made.low, made.high, made.whole), (3.0, 4.5, true));
        let made = of(-9.0, -7.0).divide(&of(2.0, 2.0));
        assert_eq!((made.low, made.high), (-4.5, -3.0));
        assert!(of(1.0, 2.0).divide(&of(-1.0, 1.0)).low.is_infinite());
    }

    #[test]
    fn a_remainder_is_nearer_to_0_than_what_it_is_of() {
        let of = |a: &Number, b: (f64, f64)| {
            let made = a.remainder(&Number::ints(b.0, b.1));
            (made.low, made.high, made.whole)
        };
        assert_eq!(of(&Number::ints(0.0, 1_000.0), (7.0, 7.0)), (0.0, 6.0, true));
        assert_eq!(of(&Number::ints(-1_000.0, 1_000.0), (-7.0, 3.0)), (-6.0, 6.0, true));
        assert_eq!(of(&Number::ints(-3.0, 4.0), (7.0, 7.0)), (-3.0, 4.0, true));
        assert_eq!(of(&Number::ints(-9.0, -1.0), (1.0, 1.0)), (0.0, 0.0, true));
        assert_eq!(of(&Number::ANY, (2.0, 7.0)), (-6.0, 6.0, true));
        assert_eq!(of(&Number::ints(0.0, 1e19), (1.0, 1e18)), (0.0, 1e18, true));
    }

    #[test]
    fn a_bound_without_end_times_nothing_is_nothing() {
        let made = Number::ANY.multiply(&Number::one(0.0, Held::Int));
        assert_eq!((made.low, made.high), (0.0, 0.0));
    }
}
