//! Runs functions. Text is cut without copying where it is the message's own. What makes one type of another is in
//! `convert`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    MAX_OUTPUT, Term,
    frame::Frame,
    function::{Function, MAX_PARAMETERS},
    number::{Number, Rounding},
    text::{self, Text},
    value::{Evaluated, Fault, Value},
};

/// The values of a call, in order; `Null` where none was given, which no parameter that may be left out can be.
pub(super) struct Arguments<'t, 'f, 'a> {
    pub(super) terms: &'t [Term],
    values: [Value<'a>; MAX_PARAMETERS],
    pub(super) frame: &'t Frame<'f, 'a>,
    pub(super) call: &'t Term,
}

// === impl Term ===

impl Term {
    pub(super) fn call<'a>(
        &'a self,
        function: Function,
        terms: &'a [Term],
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Value<'a>> {
        let mut values = [const { Value::Null }; MAX_PARAMETERS];
        let mut bytes = 0;
        for (value, term) in values.iter_mut().zip(terms) {
            *value = term.eval(frame)?;
            bytes += value.bytes();
        }
        self.charge_bytes(frame, bytes)?;
        Arguments { terms, values, frame, call: self }.run(function)
    }
}

// === impl Arguments ===

impl<'a> Arguments<'_, '_, 'a> {
    fn run(mut self, function: Function) -> Evaluated<Value<'a>> {
        Ok(match function {
            Function::Contains => Value::Bool(self.text(0)?.contains(&*self.text(1)?)),
            Function::StartsWith => Value::Bool(self.text(0)?.starts_with(&*self.text(1)?)),
            Function::EndsWith => Value::Bool(self.text(0)?.ends_with(&*self.text(1)?)),
            Function::LowerAscii => {
                Value::Text(text::recased(self.text(0)?, u8::is_ascii_uppercase, str::make_ascii_lowercase))
            }
            Function::UpperAscii => {
                Value::Text(text::recased(self.text(0)?, u8::is_ascii_lowercase, str::make_ascii_uppercase))
            }
            Function::Trim => Value::Text(text::trimmed(self.text(0)?)),
            Function::Reverse => self.reversed()?,
            Function::Sort => self.sorted()?,
            Function::Distinct => self.distinct()?,
            Function::Slice => self.sliced()?,
            Function::Flatten => self.flattened()?,
            Function::Range => self.range()?,
            Function::CharAt => {
                let (text, at) = (self.text(0)?, self.index(1)?);
                self.cut(text, at, at.saturating_add(1), true)?
            }
            Function::Substring => {
                let (text, from) = (self.text(0)?, self.index(1)?);
                let to = if self.given(2) { self.index(2)? } else { text.chars().count() };
                self.cut(text, from, to, false)?
            }
            Function::IndexOf => {
                let (text, of) = (self.text(0)?, self.text(1)?);
                let from = if self.given(2) { self.index(2)? } else { 0 };
                count(self.known(text::index_of(&text, &of, from))?)
            }
            Function::LastIndexOf => {
                let (text, of) = (self.text(0)?, self.text(1)?);
                let to = if self.given(2) { Some(self.index(2)?) } else { None };
                count(self.known(text::last_index_of(&text, &of, to))?)
            }
            Function::Replace => {
                let (text, from, to) = (self.text(0)?, self.text(1)?, self.text(2)?);
                let limit = self.limit(3)?;
                match text::replaced(text, &from, &to, limit) {
                    Some(made) => self.made(made)?,
                    None => return Err(Fault::too_large(self.call.span)),
                }
            }
            Function::Split => {
                let (text, at, limit) = (self.text(0)?, self.text(1)?, self.limit(2)?);
                match text::split(text, &at, limit) {
                    Some(parts) => {
                        self.call.charge(self.frame, parts.len())?;
                        Value::List(parts)
                    }
                    None => return Err(self.call.too_many()),
                }
            }
            Function::Join => self.join()?,
            Function::Rounding(by) => self.rounded(by)?,
            Function::Math(by) => self.math(by)?,
            Function::Format => self.formatted()?,
            Function::Quote => {
                let text = self.text(0)?;
                self.made(text::quoted(&text).into())?
            }
            Function::Int => self.int()?,
            Function::Double => self.double()?,
            Function::Text => match self.take(0).into_text() {
                Ok(text) => Value::Text(text),
                Err(other) => return Err(self.terms[0].wrong_type("a string, a number, a boolean or a time", &other)),
            },
            Function::Bool => self.bool()?,
            Function::Timestamp => self.timestamp()?,
            Function::Duration => self.duration()?,
            Function::Field(field) => self.field(field)?,
            Function::Encode => {
                let text = self.text(0)?;
                self.made(STANDARD.encode(&*text).into())?
            }
            Function::Decode => self.decoded()?,
            Function::Hash => self.hash()?,
            Function::Uuid => self.uuid()?,
            Function::Redact => {
                let text = self.text(0)?;
                let last = if self.given(1) { self.index(1)? } else { 0 };
                self.made(text::redacted(&text, last).into())?
            }
            Function::ParseJson => self.parsed()?,
            Function::AsList => match self.take(0) {
                list if list.items().is_some() => list,
                one => Value::List([one].into()),
            },
        })
    }

    pub(super) fn given(&self, index: usize) -> bool {
        index < self.terms.len()
    }

    pub(super) fn take(&mut self, index: usize) -> Value<'a> {
        std::mem::replace(&mut self.values[index], Value::Null)
    }

    pub(super) fn put(&mut self, index: usize, value: Value<'a>) {
        self.values[index] = value;
    }

    pub(super) fn text(&mut self, index: usize) -> Evaluated<Text<'a>> {
        match self.take(index) {
            Value::Text(text) => Ok(text),
            other => Err(self.terms[index].wrong_type("a string", &other)),
        }
    }

    /// A whole number from 0.
    pub(super) fn index(&mut self, index: usize) -> Evaluated<usize> {
        let value = self.take(index);
        let Some(number) = value.exact() else {
            return Err(self.terms[index].wrong_type("a number", &value));
        };
        let whole = number.whole().and_then(|whole| usize::try_from(whole).ok());
        whole.ok_or_else(|| self.terms[index].fault("expected a whole number from 0"))
    }

    /// How often at most; none or -1: without end.
    fn limit(&mut self, index: usize) -> Evaluated<usize> {
        if !self.given(index) {
            return Ok(usize::MAX);
        }
        match self.values[index].exact().and_then(Number::whole) {
            Some(-1) => Ok(usize::MAX),
            _ => self.index(index),
        }
    }

    pub(super) fn known<T>(&self, of: Result<T, &'static str>) -> Evaluated<T> {
        of.map_err(|problem| self.call.fault(problem))
    }

    pub(super) fn made(&self, text: Text<'a>) -> Evaluated<Value<'a>> {
        if text.len() > MAX_OUTPUT {
            return Err(Fault::too_large(self.call.span));
        }
        self.call.charge_bytes(self.frame, text.len())?;
        Ok(Value::Text(text))
    }

    fn cut(&self, text: Text<'a>, from: usize, to: usize, one: bool) -> Evaluated<Value<'a>> {
        match text::cut(text, from, to) {
            Ok(text) => Ok(Value::Text(text)),
            // CEL: the character behind the last is an empty text
            Err(length) if one && from == length => Ok(Value::Text(Cow::Borrowed(""))),
            Err(length) => {
                let problem = match one {
                    true => format!("there is no character {from}, the text has {length}"),
                    false => format!("{from} to {to} is no part of a text of {length} characters"),
                };
                Err(self.call.fault(problem))
            }
        }
    }

    fn join(&mut self) -> Evaluated<Value<'a>> {
        let list = self.take(0);
        let between = if self.given(1) { self.text(1)? } else { Cow::Borrowed("") };
        let Some(items) = list.items() else {
            return Err(self.terms[0].wrong_type("an array of strings", &list));
        };
        let mut out = String::new();
        for (index, item) in items.enumerate() {
            let Value::Text(text) = item else {
                return Err(self.terms[0].wrong_type("an array of strings only", &item));
            };
            if index > 0 {
                out.push_str(&between);
            }
            out.push_str(&text);
            self.call.charge(self.frame, 1)?;
            if out.len() > MAX_OUTPUT {
                return Err(Fault::too_large(self.call.span));
            }
        }
        self.made(out.into())
    }

    /// A number of the payload keeps its spelling where its value stays.
    fn rounded(&mut self, by: Rounding) -> Evaluated<Value<'a>> {
        match self.take(0) {
            Value::Source(text) if by == Rounding::Abs => Ok(Value::Source(match text.strip_prefix('-') {
                Some(rest) => Cow::Owned(rest.to_owned()),
                None => text,
            })),
            Value::Source(text) if by != Rounding::Sign && text.parse::<i64>().is_ok() => Ok(Value::Source(text)),
            other => match other.number() {
                Some(number) => Ok(Value::Number(self.known(number.rounded(by))?)),
                None => Err(self.terms[0].wrong_type("a number", &other)),
            },
        }
    }
}

/// As CEL counts: -1 for what is not there.
fn count<'a>(found: Option<usize>) -> Value<'a> {
    Value::Number(Number::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}
