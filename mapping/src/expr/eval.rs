//! Runs a plan over one message. Values borrow from the message; only a concatenation that is compared or measured
//! is built. What is written goes through `emit` instead.

use std::borrow::Cow;

use envelope::{
    Conversation,
    json::{Name, Node},
};

use super::{
    Literal, MAX_OUTPUT, Op, Term,
    frame::Frame,
    number::Number,
    path::{Path, Step},
    time,
    value::{Evaluated, Fault, ScopePayload, Value},
};
use crate::address::nth_segment;

/// MQTT 5.0, section 3.3.2.3.6.
const CORRELATION: &str = "correlation-data";
const INCOMPARABLE: &str = "arrays and objects can't be compared";

/// What is said where a payload is read that is none.
const NO_PAYLOAD: &str = "the message deletes a last value, and has no payload";

// === impl Term ===

impl Term {
    pub(super) fn eval<'a>(&'a self, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        match &self.op {
            Op::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(value) => Value::Number(Number::Int(*value)),
                Literal::Double(value) => Value::Number(Number::Double(*value)),
                Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
                Literal::Time(time) => Value::Time(*time),
                Literal::Duration(duration) => Value::Duration(*duration),
            }),
            Op::Payload(path) => self.find(path, frame).map(Value::of),
            Op::PayloadText => match frame.scope.payload {
                ScopePayload::Text(text) => Ok(Value::Text(Cow::Borrowed(text))),
                ScopePayload::Nothing => Err(self.fault(NO_PAYLOAD)),
                ScopePayload::Json(_) | ScopePayload::Bytes => Err(self.fault("the payload is no text")),
            },
            Op::Capture(segment) => match nth_segment(frame.scope.address, *segment) {
                Some(segment) => Ok(Value::Text(Cow::Borrowed(segment))),
                None => Err(self.fault("the address has no such segment")),
            },
            Op::Header(name) => self.header(name, frame).map(Value::Text),
            Op::PrincipalId => Ok(Value::Text(Cow::Borrowed(frame.scope.principal_id))),
            Op::PrincipalDomain => Ok(Value::Text(Cow::Borrowed(frame.scope.principal_domain))),
            Op::Now => Ok(Value::Time(frame.scope.now)),
            Op::About(attribute) => self.attribute(*attribute, frame),
            Op::Own(own) => self.own(own, frame),
            Op::Negate(of) => match of.eval(frame)? {
                Value::Duration(duration) => Ok(Value::Duration(duration.negated())),
                value => {
                    let number = value.number().ok_or_else(|| of.wrong_type("a number", &value))?;
                    number.negate().map(Value::Number).map_err(|problem| self.fault(problem))
                }
            },
            Op::Sum(terms) => self.sum(terms, frame),
            Op::Arithmetic(..) => self.eval_number(frame).map(Value::Number),
            Op::Conditional(parts) => {
                let chosen = if parts[0].eval_bool(frame)? { &parts[1] } else { &parts[2] };
                chosen.eval(frame)
            }
            Op::Size(of) => self.size(of, frame),
            Op::Since(sides) => self.since(sides, frame),
            Op::Call(function, terms) => self.call(*function, terms, frame),
            Op::Whole(of) => of.eval(frame).map(Value::whole),
            Op::Extreme(wanted, terms) => self.extreme(*wanted, terms, frame),
            Op::List(terms) => self.list(terms, frame),
            Op::Map(members) => self.map(members, frame),
            Op::Local(outward) => match frame.local(*outward) {
                Some(value) => {
                    self.charge_bytes(frame, value.bytes())?;
                    Ok(value.clone())
                }
                None => Err(self.fault("the variable has no value")),
            },
            Op::Member(of, path) => self.walked(of.eval(frame)?, path, frame),
            Op::Index(sides) => self.index(sides, frame),
            Op::Each(each) => self.each(each, frame),
            Op::Table(lookup) => self.look_up(lookup, frame),
            Op::HasPayload(_)
            | Op::HasHeader(_)
            | Op::HasMember(..)
            | Op::HasAbout(_)
            | Op::HasOwn(_)
            | Op::Matches(..)
            | Op::Not(_)
            | Op::Equal { .. }
            | Op::Order(..)
            | Op::And(_)
            | Op::Or(_)
            | Op::InList(..)
            | Op::InValue(_) => self.eval_bool(frame).map(Value::Bool),
        }
    }

    pub(super) fn eval_bool(&self, frame: &Frame<'_, '_>) -> Evaluated<bool> {
        match &self.op {
            Op::HasPayload(path) => self.has(path, frame),
            Op::HasHeader(name) => Ok(frame.scope.headers.iter().any(|(header, _)| **header == **name)),
            Op::Not(of) => of.eval_bool(frame).map(|value| !value),
            Op::Equal { sides, negated } => {
                let (left, right) = (sides[0].eval(frame)?, sides[1].eval(frame)?);
                self.charge_bytes(frame, left.bytes())?;
                match left.equals(&right) {
                    Some(equal) => Ok(equal != *negated),
                    None => Err(self.fault(INCOMPARABLE)),
                }
            }
            Op::Order(order, sides) => {
                let (left, right) = (sides[0].eval(frame)?, sides[1].eval(frame)?);
                self.charge_bytes(frame, left.bytes())?;
                let ordering = left.order(&right);
                ordering.map(|ordering| order.holds(ordering)).ok_or_else(|| {
                    let (left, right) = (left.type_name(), right.type_name());
                    self.fault(format!("a value of type {left} can't be ordered against one of type {right}"))
                })
            }
            Op::And(sides) => either(sides, false, frame),
            Op::Or(sides) => either(sides, true, frame),
            Op::InList(item, list) => {
                let item = item.eval(frame)?;
                let mut incomparable = false;
                for element in list {
                    match element.eval(frame)?.equals(&item) {
                        Some(true) => return Ok(true),
                        equal => incomparable |= equal.is_none(),
                    }
                }
                if incomparable {
                    return Err(self.fault(INCOMPARABLE));
                }
                Ok(false)
            }
            Op::InValue(sides) => self.in_value(sides, frame),
            Op::HasAbout(attribute) => Ok(frame.scope.about.value(*attribute).is_some()),
            Op::HasOwn(own) => self.has_own(own, frame),
            Op::HasMember(of, path) => self.has_walked(of.eval(frame)?, path, frame),
            Op::Matches(of, pattern) => {
                let text = of.eval_text(frame)?;
                self.charge_bytes(frame, text.len().saturating_mul(pattern.factor()))?;
                Ok(pattern.regex.is_match(&text))
            }
            _ => match self.eval(frame)? {
                Value::Bool(value) => Ok(value),
                other => Err(self.wrong_type("true or false", &other)),
            },
        }
    }

    pub(super) fn eval_number(&self, frame: &Frame<'_, '_>) -> Evaluated<Number> {
        match &self.op {
            Op::Literal(Literal::Int(value)) => Ok(Number::Int(*value)),
            Op::Arithmetic(by, sides) => {
                let (left, right) = (sides[0].eval_number(frame)?, sides[1].eval_number(frame)?);
                left.apply(*by, right).map_err(|problem| self.fault(problem))
            }
            _ => {
                let value = self.eval(frame)?;
                value.number().ok_or_else(|| self.wrong_type("a number", &value))
            }
        }
    }

    /// Its value as a literal, if it is one that a literal can be.
    pub(super) fn literal(&self, frame: &Frame<'_, '_>) -> Evaluated<Option<Literal>> {
        Ok(match self.eval(frame)? {
            Value::Null => Some(Literal::Null),
            Value::Bool(value) => Some(Literal::Bool(value)),
            Value::Number(Number::Int(value)) => Some(Literal::Int(value)),
            Value::Number(Number::Double(value)) => Some(Literal::Double(value)),
            Value::Text(text) => Some(Literal::Text(text.into_owned().into())),
            Value::Time(time) => Some(Literal::Time(time)),
            Value::Duration(duration) => Some(Literal::Duration(duration)),
            Value::Source(_) | Value::Container(_) | Value::List(_) | Value::Map(_) => None,
        })
    }

    /// The value at a path of the payload.
    pub(super) fn find<'a>(&self, path: &Path, frame: &Frame<'_, 'a>) -> Evaluated<Node<'a>> {
        let root = self.root(frame)?;
        if frame.repeats_payload() {
            self.charge(frame, path.cost(root))?;
        }
        path.find(root).map_err(|missing| {
            let mut fault = self.fault(missing.problem(path));
            fault.pointer = Some(path.pointer(missing.step + 1));
            fault
        })
    }

    fn root<'a>(&self, frame: &Frame<'_, 'a>) -> Evaluated<Node<'a>> {
        match frame.scope.payload {
            ScopePayload::Json(root) => Ok(root),
            ScopePayload::Nothing => Err(self.fault(NO_PAYLOAD)),
            ScopePayload::Text(_) | ScopePayload::Bytes => Err(self.fault("the payload is no JSON")),
        }
    }

    /// Only the last step may lead nowhere, as in CEL.
    fn has(&self, path: &Path, frame: &Frame<'_, '_>) -> Evaluated<bool> {
        let root = self.root(frame)?;
        if frame.repeats_payload() {
            self.charge(frame, path.cost(root))?;
        }
        match path.find(root) {
            Ok(_) => Ok(true),
            Err(missing) if missing.step + 1 == path.0.len() && missing.within.as_object().is_some() => Ok(false),
            Err(missing) => {
                let mut fault = self.fault(missing.problem(path));
                fault.pointer = Some(path.pointer(missing.step + 1));
                Err(fault)
            }
        }
    }

    fn header<'a>(&self, name: &str, frame: &Frame<'_, 'a>) -> Evaluated<Cow<'a, str>> {
        let Some((_, value)) = frame.scope.headers.iter().find(|(header, _)| header == name) else {
            return Err(self.fault(format!("header {name:?} is missing")));
        };
        match std::str::from_utf8(value) {
            // the one header that is bytes, which a conversation's id stands for
            _ if name == CORRELATION => Ok(Cow::Owned(Conversation::id_of(value).as_ref().to_owned())),
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => Err(self.fault(format!("header {name:?} is not UTF-8"))),
        }
    }

    fn sum<'a>(&'a self, terms: &'a [Term], frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let (first, rest) = self.first_of_sum(terms, frame)?;
        let Value::Text(text) = first else {
            return self.sum_values(first, rest, frame);
        };
        let mut out = text.into_owned();
        self.charge_bytes(frame, out.len())?;
        for term in rest {
            let text = term.eval_text(frame)?;
            self.charge_bytes(frame, text.len())?;
            out.push_str(&text);
            if out.len() > MAX_OUTPUT {
                return Err(Fault::too_large(self.span));
            }
        }
        Ok(Value::Text(Cow::Owned(out)))
    }

    /// The value of the first term, which is a number or text, and the other terms.
    pub(super) fn first_of_sum<'a>(
        &self,
        terms: &'a [Term],
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<(Value<'a>, &'a [Term])> {
        let Some((first, rest)) = terms.split_first() else {
            return Err(self.fault("a sum of nothing"));
        };
        match first.eval(frame)? {
            value @ (Value::Text(_) | Value::Number(_) | Value::Source(_)) => Ok((value, rest)),
            value @ (Value::Time(_) | Value::Duration(_)) => Ok((value, rest)),
            other => Err(first.wrong_type("a number or a string", &other)),
        }
    }

    /// Numbers, or a time and durations.
    pub(super) fn sum_values<'a>(
        &self,
        first: Value<'a>,
        rest: &'a [Term],
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Value<'a>> {
        if matches!(first, Value::Time(_) | Value::Duration(_)) {
            return rest.iter().try_fold(first, |sum, term| self.later(sum, term, frame));
        }
        let mut sum = first.number().ok_or_else(|| self.wrong_type("a number", &first))?;
        for term in rest {
            sum = sum.add(term.eval_number(frame)?).map_err(|problem| self.fault(problem))?;
        }
        Ok(Value::Number(sum))
    }

    fn later<'a>(&self, sum: Value<'a>, term: &'a Term, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let made = match (sum, term.eval(frame)?) {
            (Value::Time(a), Value::Duration(b)) | (Value::Duration(b), Value::Time(a)) => {
                time::plus(a, b).map(Value::Time)
            }
            (Value::Duration(a), Value::Duration(b)) => a.plus(b).map(Value::Duration),
            (_, other) => return Err(term.wrong_type("a duration", &other)),
        };
        made.map_err(|problem| self.fault(problem))
    }

    fn since<'a>(&'a self, sides: &'a [Term; 2], frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let made = match (sides[0].eval(frame)?, sides[1].eval(frame)?) {
            (Value::Time(a), Value::Time(b)) => Ok(Value::Duration(time::between(b, a))),
            (Value::Time(a), Value::Duration(b)) => time::plus(a, b.negated()).map(Value::Time),
            (Value::Duration(a), Value::Duration(b)) => a.plus(b.negated()).map(Value::Duration),
            (Value::Duration(_) | Value::Time(_), other) => {
                return Err(sides[1].wrong_type("a duration or a timestamp", &other));
            }
            (other, _) => return Err(sides[0].wrong_type("a timestamp or a duration", &other)),
        };
        made.map_err(|problem| self.fault(problem))
    }

    pub(super) fn eval_text<'a>(&'a self, frame: &Frame<'_, 'a>) -> Evaluated<Cow<'a, str>> {
        match self.eval(frame)? {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong_type("a string", &other)),
        }
    }

    fn in_value(&self, sides: &[Term; 2], frame: &Frame<'_, '_>) -> Evaluated<bool> {
        let (item, within) = (sides[0].eval(frame)?, sides[1].eval(frame)?);
        let Some(count) = within.count() else {
            return Err(sides[1].wrong_type("an array or an object", &within));
        };
        let source = if let Value::Container(node) = &within { node.source().len() } else { 0 };
        self.charge(frame, count)?;
        self.charge_bytes(frame, source)?;
        if let Some(items) = within.items() {
            let mut incomparable = false;
            for element in items {
                match element.equals(&item) {
                    Some(true) => return Ok(true),
                    equal => incomparable |= equal.is_none(),
                }
            }
            return if incomparable { Err(self.fault(INCOMPARABLE)) } else { Ok(false) };
        }
        match &item {
            Value::Text(key) => Ok(within.step(&Step::Key(Name::new(&key[..]))).is_some()),
            other => Err(sides[0].wrong_type("a string, to be looked for among an object's keys", other)),
        }
    }

    fn size<'a>(&'a self, of: &'a Term, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let value = of.eval(frame)?;
        let size = match &value {
            Value::Text(text) => {
                self.charge_bytes(frame, text.len())?;
                Some(text.chars().count())
            }
            other => other.count(),
        };
        let size = size.ok_or_else(|| of.wrong_type("a string, an array or an object", &value))?;
        // a payload is far below 2^63 bytes
        Ok(Value::Number(Number::Int(i64::try_from(size).unwrap_or(i64::MAX))))
    }

    pub(super) fn wrong_type(&self, wanted: &str, found: &Value<'_>) -> Box<Fault> {
        self.fault(format!("expected {wanted}, found a value of type {}", found.type_name()))
    }

    pub(super) fn fault(&self, problem: impl Into<Cow<'static, str>>) -> Box<Fault> {
        let pointer = match &self.op {
            Op::Payload(path) | Op::HasPayload(path) => Some(path.whole()),
            Op::Whole(of) => of.fault("").pointer,
            _ => None,
        };
        Box::new(Fault { span: self.span, pointer, problem: problem.into(), too_large: false })
    }
}

/// `&&` and `||` as CEL has them: a side that decides makes up for one that has no value.
fn either(sides: &[Term; 2], decides: bool, frame: &Frame<'_, '_>) -> Evaluated<bool> {
    let left = sides[0].eval_bool(frame);
    if matches!(left, Ok(value) if value == decides) {
        return Ok(decides);
    }
    match sides[1].eval_bool(frame) {
        Ok(value) if value == decides => Ok(decides),
        right => left.and(right),
    }
}
