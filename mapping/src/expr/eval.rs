//! Runs a plan over one message. Values borrow from the message; only a concatenation that is compared or measured
//! is built. What is written goes through `emit` instead.

use std::borrow::Cow;

use envelope::json::Node;

use super::{
    Literal, MAX_OUTPUT, Op, Term,
    number::Number,
    path::Path,
    value::{Evaluated, Fault, Scope, ScopePayload, Value},
};

// === impl Term ===

impl Term {
    pub(super) fn eval<'a>(&'a self, scope: &Scope<'a>) -> Evaluated<Value<'a>> {
        match &self.op {
            Op::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(value) => Value::Number(Number::Int(*value)),
                Literal::Double(value) => Value::Number(Number::Double(*value)),
                Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
            }),
            Op::Payload(path) => self.find(path, scope).map(Value::of),
            Op::PayloadText => match scope.payload {
                ScopePayload::Text(text) => Ok(Value::Text(Cow::Borrowed(text))),
                ScopePayload::Json(_) | ScopePayload::Bytes => Err(self.fault("the payload is no text")),
            },
            Op::Capture(segment) => match scope.address.split('/').nth(*segment) {
                Some(segment) => Ok(Value::Text(Cow::Borrowed(segment))),
                None => Err(self.fault("the address has no such segment")),
            },
            Op::Header(name) => self.header(name, scope).map(|text| Value::Text(Cow::Borrowed(text))),
            Op::PrincipalId => Ok(Value::Text(Cow::Borrowed(scope.principal_id))),
            Op::PrincipalDomain => Ok(Value::Text(Cow::Borrowed(scope.principal_domain))),
            Op::Now => Ok(Value::Text(Cow::Owned(scope.now.to_string()))),
            Op::Own(own) => self.own(own, scope),
            Op::Negate(of) => {
                let number = of.eval_number(scope)?;
                number.negate().map(Value::Number).map_err(|problem| self.fault(problem))
            }
            Op::Sum(terms) => self.sum(terms, scope),
            Op::Arithmetic(..) => self.eval_number(scope).map(Value::Number),
            Op::Conditional(parts) => {
                let chosen = if parts[0].eval_bool(scope)? { &parts[1] } else { &parts[2] };
                chosen.eval(scope)
            }
            Op::Size(of) => self.size(of, scope),
            Op::HasPayload(_)
            | Op::HasHeader(_)
            | Op::HasOwn(_)
            | Op::Not(_)
            | Op::Equal { .. }
            | Op::Order(..)
            | Op::And(_)
            | Op::Or(_)
            | Op::InList(..)
            | Op::InValue(_) => self.eval_bool(scope).map(Value::Bool),
        }
    }

    pub(super) fn eval_bool(&self, scope: &Scope<'_>) -> Evaluated<bool> {
        match &self.op {
            Op::HasPayload(path) => self.has(path, scope),
            Op::HasHeader(name) => Ok(scope.headers.iter().any(|(header, _)| **header == **name)),
            Op::HasOwn(own) => self.has_own(own, scope),
            Op::Not(of) => of.eval_bool(scope).map(|value| !value),
            Op::Equal { sides, negated } => {
                let (left, right) = (sides[0].eval(scope)?, sides[1].eval(scope)?);
                match left.equals(&right) {
                    Some(equal) => Ok(equal != *negated),
                    None => Err(self.fault("arrays and objects can't be compared")),
                }
            }
            Op::Order(order, sides) => {
                let (left, right) = (sides[0].eval(scope)?, sides[1].eval(scope)?);
                let ordering = match (&left, &right) {
                    (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
                    _ => left.exact().zip(right.exact()).and_then(|(a, b)| a.compare(b)),
                };
                ordering.map(|ordering| order.holds(ordering)).ok_or_else(|| {
                    let (left, right) = (left.type_name(), right.type_name());
                    self.fault(format!("a value of type {left} can't be ordered against one of type {right}"))
                })
            }
            Op::And(sides) => either(sides, false, scope),
            Op::Or(sides) => either(sides, true, scope),
            Op::InList(item, list) => {
                let item = item.eval(scope)?;
                for element in list {
                    if element.eval(scope)?.equals(&item) == Some(true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Op::InValue(sides) => self.in_value(sides, scope),
            _ => match self.eval(scope)? {
                Value::Bool(value) => Ok(value),
                other => Err(self.wrong_type("true or false", &other)),
            },
        }
    }

    pub(super) fn eval_number(&self, scope: &Scope<'_>) -> Evaluated<Number> {
        match &self.op {
            Op::Literal(Literal::Int(value)) => Ok(Number::Int(*value)),
            Op::Arithmetic(by, sides) => {
                let (left, right) = (sides[0].eval_number(scope)?, sides[1].eval_number(scope)?);
                left.apply(*by, right).map_err(|problem| self.fault(problem))
            }
            _ => {
                let value = self.eval(scope)?;
                value.number().ok_or_else(|| self.wrong_type("a number", &value))
            }
        }
    }

    /// Its value as a literal, if it is one that a literal can be.
    pub(super) fn literal(&self, scope: &Scope<'_>) -> Evaluated<Option<Literal>> {
        Ok(match self.eval(scope)? {
            Value::Null => Some(Literal::Null),
            Value::Bool(value) => Some(Literal::Bool(value)),
            Value::Number(Number::Int(value)) => Some(Literal::Int(value)),
            Value::Number(Number::Double(value)) => Some(Literal::Double(value)),
            Value::Text(text) => Some(Literal::Text(text.into_owned().into())),
            Value::Source(_) | Value::Container(_) => None,
        })
    }

    /// The value at a path of the payload.
    pub(super) fn find<'a>(&self, path: &Path, scope: &Scope<'a>) -> Evaluated<Node<'a>> {
        let ScopePayload::Json(root) = scope.payload else {
            return Err(self.fault("the payload is no JSON"));
        };
        path.find(root).map_err(|missing| {
            let mut fault = self.fault(missing.problem(path));
            fault.pointer = Some(path.pointer(missing.step + 1));
            fault
        })
    }

    /// Only the last step may lead nowhere, as in CEL.
    fn has(&self, path: &Path, scope: &Scope<'_>) -> Evaluated<bool> {
        let ScopePayload::Json(root) = scope.payload else {
            return Err(self.fault("the payload is no JSON"));
        };
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

    fn header<'a>(&self, name: &str, scope: &Scope<'a>) -> Evaluated<&'a str> {
        let Some((_, value)) = scope.headers.iter().find(|(header, _)| header == name) else {
            return Err(self.fault(format!("header {name:?} is missing")));
        };
        std::str::from_utf8(value).map_err(|_| self.fault(format!("header {name:?} is not UTF-8")))
    }

    fn sum<'a>(&'a self, terms: &'a [Term], scope: &Scope<'a>) -> Evaluated<Value<'a>> {
        let (first, rest) = self.first_of_sum(terms, scope)?;
        let Value::Text(text) = first else {
            return self.sum_numbers(&first, rest, scope).map(Value::Number);
        };
        let mut out = text.into_owned();
        for term in rest {
            out.push_str(&term.eval_text(scope)?);
            if out.len() > MAX_OUTPUT {
                return Err(Fault::too_large(self.span));
            }
        }
        Ok(Value::Text(Cow::Owned(out)))
    }

    /// The value of the first term, which is a number or text, and the other terms.
    pub(super) fn first_of_sum<'a>(&self, terms: &'a [Term], scope: &Scope<'a>) -> Evaluated<(Value<'a>, &'a [Term])> {
        let Some((first, rest)) = terms.split_first() else {
            return Err(self.fault("a sum of nothing"));
        };
        match first.eval(scope)? {
            value @ (Value::Text(_) | Value::Number(_) | Value::Source(_)) => Ok((value, rest)),
            other => Err(first.wrong_type("a number or a string", &other)),
        }
    }

    pub(super) fn sum_numbers(&self, first: &Value<'_>, rest: &[Term], scope: &Scope<'_>) -> Evaluated<Number> {
        let mut sum = first.number().ok_or_else(|| self.wrong_type("a number", first))?;
        for term in rest {
            sum = sum.add(term.eval_number(scope)?).map_err(|problem| self.fault(problem))?;
        }
        Ok(sum)
    }

    pub(super) fn eval_text<'a>(&'a self, scope: &Scope<'a>) -> Evaluated<Cow<'a, str>> {
        match self.eval(scope)? {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong_type("a string", &other)),
        }
    }

    fn in_value(&self, sides: &[Term; 2], scope: &Scope<'_>) -> Evaluated<bool> {
        let (item, within) = (sides[0].eval(scope)?, sides[1].eval(scope)?);
        let Value::Container(node) = within else {
            return Err(sides[1].wrong_type("an array or an object", &within));
        };
        if let Some(mut items) = node.as_array() {
            return Ok(items.any(|element| Value::of(element).equals(&item) == Some(true)));
        }
        match &item {
            Value::Text(key) => Ok(node.get(key).is_some()),
            other => Err(sides[0].wrong_type("a string, to be looked for among an object's keys", other)),
        }
    }

    fn size<'a>(&'a self, of: &'a Term, scope: &Scope<'a>) -> Evaluated<Value<'a>> {
        let value = of.eval(scope)?;
        let size = match &value {
            Value::Text(text) => text.chars().count(),
            Value::Container(node) => match (node.as_array(), node.as_object()) {
                (Some(items), _) => items.len(),
                (None, members) => members.map_or(0, |members| members.len()),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Source(_) => {
                return Err(of.wrong_type("a string, an array or an object", &value));
            }
        };
        // a payload is far below 2^63 bytes
        Ok(Value::Number(Number::Int(i64::try_from(size).unwrap_or(i64::MAX))))
    }

    pub(super) fn wrong_type(&self, wanted: &str, found: &Value<'_>) -> Box<Fault> {
        self.fault(format!("expected {wanted}, found a value of type {}", found.type_name()))
    }

    pub(super) fn fault(&self, problem: impl Into<Cow<'static, str>>) -> Box<Fault> {
        let pointer = match &self.op {
            Op::Payload(path) | Op::HasPayload(path) => Some(path.whole()),
            _ => None,
        };
        Box::new(Fault { span: self.span, pointer, problem: problem.into(), too_large: false })
    }
}

/// `&&` and `||` as CEL has them: a side that decides makes up for one that has no value.
fn either(sides: &[Term; 2], decides: bool, scope: &Scope<'_>) -> Evaluated<bool> {
    let left = sides[0].eval_bool(scope);
    if matches!(left, Ok(value) if value == decides) {
        return Ok(decides);
    }
    match sides[1].eval_bool(scope) {
        Ok(value) if value == decides => Ok(decides),
        right => left.and(right),
    }
}
