//! `"%s of %.2f".format([...])`, as CEL's strings extension has it: `%s %d %f %e %b %x %X %o`, a precision before `f` and `e`,
//! and `%%` for a percent sign.

use std::{borrow::Cow, fmt::Write};

use super::{
    MAX_OUTPUT, Op,
    call::Arguments,
    number::Number,
    value::{Evaluated, Fault, Value},
};

/// What one `%` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clause {
    Text,
    Decimal,
    /// So many digits behind the point.
    Fixed(usize),
    /// The same.
    Scientific(usize),
    Binary,
    Hex {
        upper: bool,
    },
    Octal,
}

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    /// The next value.
    Value(Clause),
}

/// Digits behind the point where the clause does not say.
const PRECISION: usize = 6;
/// The most of them.
const MAX_PRECISION: usize = 100;

/// The pieces of a format, one by one; the error is what is wrong with one.
pub(super) fn pieces(format: &str) -> impl Iterator<Item = Result<Piece<'_>, String>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(clause) = rest.strip_prefix('%') else {
            let (text, behind) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
            rest = behind;
            return Some(Ok(Piece::Text(text)));
        };
        let read = match clause.strip_prefix('%') {
            Some(behind) => Ok((Piece::Text("%"), behind)),
            None => Clause::read(clause).map(|(clause, behind)| (Piece::Value(clause), behind)),
        };
        Some(read.map(|(piece, behind)| {
            rest = behind;
            piece
        }))
    })
    .scan(false, |ended, piece| {
        // what stands behind an error is not looked at
        let before = std::mem::replace(ended, piece.is_err());
        (!before).then_some(piece)
    })
}

// === impl Clause ===

impl Clause {
    /// What stands behind a `%`.
    fn read(text: &str) -> Result<(Self, &str), String> {
        let (precision, text) = match text.strip_prefix('.') {
            None => (PRECISION, text),
            Some(text) => {
                let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
                let precision = digits.parse().ok().filter(|precision| *precision <= MAX_PRECISION);
                let wrong = || format!("a precision is a number from 0 to {MAX_PRECISION}, found {digits:.16?}");
                (precision.ok_or_else(wrong)?, rest)
            }
        };
        let mut chars = text.chars();
        let clause = match chars.next() {
            Some('s') => Self::Text,
            Some('d') => Self::Decimal,
            Some('f') => Self::Fixed(precision),
            Some('e') => Self::Scientific(precision),
            Some('b') => Self::Binary,
            Some('x') => Self::Hex { upper: false },
            Some('X') => Self::Hex { upper: true },
            Some('o') => Self::Octal,
            Some(other) => {
                return Err(format!("%{other} is no clause: there are %s, %d, %f, %e, %b, %x, %X, %o and %%"));
            }
            None => return Err("a format ends with a clause that is not complete: a percent sign is %%".to_owned()),
        };
        Ok((clause, chars.as_str()))
    }

    /// What it takes.
    pub(super) const fn takes(self) -> &'static str {
        match self {
            Self::Text => "any value",
            Self::Decimal | Self::Fixed(_) | Self::Scientific(_) => "a number",
            Self::Binary => "a whole number or a boolean",
            Self::Hex { .. } => "a whole number or a string",
            Self::Octal => "a whole number",
        }
    }

    /// Appends a value; gives back one that it does not take.
    fn write(self, value: &Value<'_>, out: &mut String) -> Result<(), ()> {
        let number = value.exact();
        let whole = number.and_then(Number::whole);
        // writing to memory can't fail
        let _ = match (self, value, number, whole) {
            (Self::Text, ..) => return Err(()),
            (Self::Decimal, _, _, Some(whole)) => write!(out, "{whole}"),
            // a whole number past 64 bits keeps every digit
            (Self::Decimal, Value::Source(text), ..) if !text.contains(['e', 'E']) => write!(out, "{text}"),
            (Self::Decimal, _, Some(number), _) => write!(out, "{}", number.as_f64()),
            (Self::Fixed(precision), _, Some(number), _) => write!(out, "{:.precision$}", number.as_f64()),
            (Self::Scientific(precision), _, Some(number), _) => scientific(number.as_f64(), precision, out),
            (Self::Binary, Value::Bool(value), ..) => write!(out, "{}", u8::from(*value)),
            (Self::Binary, _, _, Some(whole)) => write!(out, "{}{:b}", sign(whole), whole.unsigned_abs()),
            (Self::Octal, _, _, Some(whole)) => write!(out, "{}{:o}", sign(whole), whole.unsigned_abs()),
            (Self::Hex { upper: false }, _, _, Some(whole)) => write!(out, "{}{:x}", sign(whole), whole.unsigned_abs()),
            (Self::Hex { upper: true }, _, _, Some(whole)) => write!(out, "{}{:X}", sign(whole), whole.unsigned_abs()),
            (Self::Hex { upper: false }, Value::Text(text), ..) => {
                text.bytes().try_for_each(|b| write!(out, "{b:02x}"))
            }
            (Self::Hex { upper: true }, Value::Text(text), ..) => text.bytes().try_for_each(|b| write!(out, "{b:02X}")),
            (Self::Decimal | Self::Fixed(_) | Self::Scientific(_), ..) => return Err(()),
            (Self::Binary | Self::Octal | Self::Hex { .. }, ..) => return Err(()),
        };
        Ok(())
    }
}

/// The exponent has a sign and at least two digits.
fn scientific(of: f64, precision: usize, out: &mut String) -> std::fmt::Result {
    let text = format!("{of:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    write!(out, "{digits}e{sign}{exponent:0>2}")
}

const fn sign(of: i64) -> &'static str {
    if of < 0 { "-" } else { "" }
}

// === impl Arguments ===

impl<'a> Arguments<'_, '_, 'a> {
    pub(super) fn formatted(&mut self) -> Evaluated<Value<'a>> {
        let format = self.text(0)?;
        let list = self.take(1);
        let Some(mut items) = list.items() else { return Err(self.terms[1].wrong_type("an array", &list)) };
        let mut out = String::with_capacity(format.len());
        let mut asked = 0;
        for piece in pieces(&format) {
            match piece {
                Err(problem) => return Err(self.terms[0].fault(problem)),
                Ok(Piece::Text(text)) => out.push_str(text),
                Ok(Piece::Value(clause)) => {
                    asked += 1;
                    let Some(item) = items.next() else {
                        let given = list.count().unwrap_or(0);
                        let problem = format!("the format asks for value {asked}, the array has {given}");
                        return Err(self.call.fault(problem));
                    };
                    self.clause(clause, asked - 1, item, &mut out)?;
                }
            }
            self.within_bounds(&out)?;
        }
        self.made(out.into())
    }

    /// `number`: of the value, from 0.
    fn clause(&self, clause: Clause, number: usize, item: Value<'a>, out: &mut String) -> Evaluated<()> {
        self.call.charge_bytes(self.frame, item.bytes())?;
        if clause == Clause::Text {
            return self.spelt(item, out);
        }
        let term = match &self.terms[1].op {
            Op::List(values) => values.get(number).unwrap_or(&self.terms[1]),
            _ => &self.terms[1],
        };
        clause.write(&item, out).map_err(|()| term.wrong_type(clause.takes(), &item))
    }

    /// `%s`: as it reads in text; arrays and objects with what is in them, members in the order of their names.
    fn spelt(&self, value: Value<'a>, out: &mut String) -> Evaluated<()> {
        self.call.charge_bytes(self.frame, value.bytes())?;
        self.within_bounds(out)?;
        if let Some(items) = value.items() {
            out.push('[');
            for (number, item) in items.enumerate() {
                out.push_str(if number > 0 { ", " } else { "" });
                self.spelt(item, out)?;
            }
            out.push(']');
            return Ok(());
        }
        let mut members: Vec<(Cow<'a, str>, Value<'a>)> = match &value {
            Value::Map(members) => members.to_vec(),
            Value::Container(node) => {
                let members = node.as_object().into_iter().flatten();
                members.map(|(name, member)| (Cow::Borrowed(name), Value::of(member))).collect()
            }
            Value::Null => {
                out.push_str("null");
                return Ok(());
            }
            Value::Number(Number::Double(value)) => {
                // writing to memory can't fail
                let _ = write!(out, "{value}");
                return Ok(());
            }
            _ => match value.into_text() {
                Ok(text) => {
                    out.push_str(&text);
                    return Ok(());
                }
                Err(other) => return Err(self.terms[1].wrong_type(Clause::Text.takes(), &other)),
            },
        };
        self.call.charge(self.frame, members.len() * 2)?;
        members.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        for (number, (name, member)) in members.into_iter().enumerate() {
            out.push_str(if number > 0 { ", " } else { "" });
            out.push_str(&name);
            out.push_str(": ");
            self.spelt(member, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn within_bounds(&self, out: &str) -> Evaluated<()> {
        if out.len() > MAX_OUTPUT { Err(Fault::too_large(self.call.span)) } else { Ok(()) }
    }
}
