//! Roots, bits, and what a number is, by the names of CEL's math extension. How numbers are rounded is in `number`.

use super::{
    call::Arguments,
    number::Number,
    value::{Evaluated, Value},
};

/// What `math.*` makes of one number or two, but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Math {
    Sqrt,
    /// No number here ever is.
    IsNan,
    /// Nor this.
    IsInf,
    IsFinite,
    And,
    Or,
    Xor,
    Not,
    Left,
    Right,
}

// === impl Arguments ===

impl<'a> Arguments<'_, '_, 'a> {
    pub(super) fn math(&mut self, by: Math) -> Evaluated<Value<'a>> {
        let bits = match by {
            Math::Sqrt => {
                let of = self.number(0)?.as_f64();
                if of < 0.0 {
                    return Err(self.terms[0].fault("a negative number has no square root"));
                }
                return Ok(Value::Number(Number::Double(of.sqrt())));
            }
            Math::IsNan | Math::IsInf | Math::IsFinite => {
                self.number(0)?;
                return Ok(Value::Bool(by == Math::IsFinite));
            }
            Math::And => self.bits(0)? & self.bits(1)?,
            Math::Or => self.bits(0)? | self.bits(1)?,
            Math::Xor => self.bits(0)? ^ self.bits(1)?,
            Math::Not => !self.bits(0)?,
            Math::Left => self.shifted(u64::checked_shl)?,
            Math::Right => self.shifted(u64::checked_shr)?,
        };
        Ok(Value::Number(Number::Int(bits)))
    }

    fn number(&mut self, index: usize) -> Evaluated<Number> {
        let value = self.take(index);
        value.exact().ok_or_else(|| self.terms[index].wrong_type("a number", &value))
    }

    /// A whole number of 64 bits, negative ones in two's complement.
    fn bits(&mut self, index: usize) -> Evaluated<i64> {
        let whole = self.number(index)?.whole();
        whole.ok_or_else(|| self.terms[index].fault("expected a whole number of 64 bits"))
    }

    /// As CEL does: zeros come in from either side, and past 64 places nothing is left.
    fn shifted(&mut self, by: fn(u64, u32) -> Option<u64>) -> Evaluated<i64> {
        let of = self.bits(0)?.cast_unsigned();
        let places = self.index(1)?;
        let made = u32::try_from(places).ok().and_then(|places| by(of, places));
        Ok(made.unwrap_or(0).cast_signed())
    }
}
