//! Roots and bits: what they give, and for which numbers they have no value.

use crate::{
    expr::math::Math,
    proof::{Bools, EXACT, Held, Number, Type},
};

use super::calls::INTS;

/// Why a number of the right type may still be refused.
pub(super) fn refused(by: Math, types: &[Type]) -> Option<&'static str> {
    let number = |index: usize| types.get(index).and_then(|of| of.number.as_ref());
    let bits = |index: usize| number(index).is_none_or(is_bits);
    match by {
        Math::Sqrt => {
            number(0).is_some_and(|of| of.low < 0.0).then_some("may be negative, and has no square root then")
        }
        Math::IsNan | Math::IsInf | Math::IsFinite => None,
        Math::And | Math::Or | Math::Xor | Math::Not => {
            (!(bits(0) && bits(1))).then_some("may be no whole number of 64 bits")
        }
        Math::Left | Math::Right => {
            let places = number(1).is_none_or(|of| is_bits(of) && of.low >= 0.0);
            (!(bits(0) && places)).then_some("may be no whole number of 64 bits, or no number of places from 0")
        }
    }
}

/// Whether each is a whole number of 64 bits however it is spelt: past 2^53 the payload may write one with a fraction.
pub(super) fn is_bits(of: &Number) -> bool {
    let exact = of.low > -EXACT && of.high < EXACT;
    of.whole && (exact || of.held == Held::Int && of.low >= INTS.low && of.high <= INTS.high)
}

pub(super) fn gives(by: Math, types: &[Type]) -> Type {
    let number = |index: usize| types.get(index).and_then(|of| of.number.as_ref());
    let from_zero = |index: usize| number(index).filter(|of| is_bits(of) && of.low >= 0.0);
    match by {
        Math::IsNan | Math::IsInf => Type::bools(Bools::only(false)),
        Math::IsFinite => Type::bools(Bools::only(true)),
        Math::Sqrt => match number(0) {
            Some(of) => {
                let (low, high) = (of.low.max(0.0).sqrt(), of.high.max(0.0).sqrt());
                Type::number(Number { held: Held::Double, nonzero: low > 0.0, ..Number::between(low, high) })
            }
            None => Type::NEVER,
        },
        // no bit that is not in both
        Math::And => {
            let most = [0, 1].into_iter().filter_map(|index| from_zero(index).map(|of| of.high)).reduce(f64::min);
            Type::number(most.map_or(INTS, |most| Number::ints(0.0, most)))
        }
        Math::Right => Type::number(from_zero(0).map_or(INTS, |of| Number::ints(0.0, of.high))),
        Math::Or | Math::Xor | Math::Not | Math::Left => Type::number(INTS),
    }
}
