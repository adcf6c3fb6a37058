//! Arrays, objects and what is done to each of their elements.

use std::{borrow::Cow, cmp::Ordering, rc::Rc};

use envelope::json::Name;

use super::{
    Term,
    frame::Frame,
    path::{Path, Step},
    value::{Evaluated, Fault, Value},
};

/// The most elements of an array that an expression makes.
pub(crate) const MAX_ELEMENTS: usize = 100_000;

/// A macro of CEL: an operation on each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    /// By a key that the body makes of each element.
    SortBy,
}

/// A macro with what it goes over.
#[derive(Debug, PartialEq)]
pub(super) struct Each {
    pub(super) by: Macro,
    pub(super) list: Term,
    /// Reads the element as the innermost variable.
    pub(super) body: Term,
    /// Steps that one element costs.
    pub(super) cost: usize,
}

// === impl Macro ===

impl Macro {
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("all", Self::All),
        ("exists", Self::Exists),
        ("exists_one", Self::ExistsOne),
        ("map", Self::Map),
        ("filter", Self::Filter),
        ("sortBy", Self::SortBy),
    ];
}

// === impl Term ===

impl Term {
    pub(super) fn each<'a>(&'a self, each: &'a Each, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let list = each.list.eval(frame)?;
        match &list {
            Value::Map(members) if each.by != Macro::SortBy => {
                self.over(each, members.iter().map(|(key, _)| Value::Text(key.clone())), frame)
            }
            Value::Container(node) => match (node.as_object(), list.items()) {
                (Some(members), _) if each.by != Macro::SortBy => {
                    self.over(each, members.map(|(key, _)| Value::Text(Cow::Borrowed(key))), frame)
                }
                (Some(_), _) => Err(each.list.wrong_type("an array", &list)),
                (None, items) => self.over(each, items.into_iter().flatten(), frame),
            },
            _ => match list.items() {
                Some(items) => self.over(each, items, frame),
                None if each.by == Macro::SortBy => Err(each.list.wrong_type("an array", &list)),
                None => Err(each.list.wrong_type("an array or an object", &list)),
            },
        }
    }

    fn over<'a>(
        &self,
        each: &'a Each,
        items: impl Iterator<Item = Value<'a>>,
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Value<'a>> {
        match each.by {
            Macro::All => self.decide(each, items, false, frame),
            Macro::Exists => self.decide(each, items, true, frame),
            Macro::ExistsOne => {
                let mut found = 0;
                for item in items {
                    self.charge(frame, each.cost)?;
                    found += usize::from(frame.within(item, |inner| each.body.eval_bool(inner))?);
                }
                Ok(Value::Bool(found == 1))
            }
            Macro::Map => {
                let mut made = Vec::new();
                for item in items {
                    self.charge(frame, each.cost)?;
                    self.push(&mut made, frame.within(item, |inner| each.body.eval(inner))?)?;
                }
                Ok(Value::List(made.into()))
            }
            Macro::SortBy => {
                let mut keyed = Vec::new();
                for item in items {
                    self.charge(frame, each.cost + item.bytes() / 64)?;
                    let key = frame.within(item.clone(), |inner| each.body.eval(inner))?;
                    self.push(&mut keyed, (key, item))?;
                }
                self.sorted_by_key(&mut keyed, &each.body, frame)?;
                Ok(Value::List(keyed.into_iter().map(|(_, item)| item).collect()))
            }
            Macro::Filter => {
                let mut made = Vec::new();
                for item in items {
                    self.charge(frame, each.cost + item.bytes() / 64)?;
                    if frame.within(item.clone(), |inner| each.body.eval_bool(inner))? {
                        self.push(&mut made, item)?;
                    }
                }
                Ok(Value::List(made.into()))
            }
        }
    }

    /// `all` and `exists`: an element that decides makes up for those without a value, as in `&&` and `||`.
    fn decide<'a>(
        &self,
        each: &'a Each,
        items: impl Iterator<Item = Value<'a>>,
        decides: bool,
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Value<'a>> {
        let mut fault = None;
        for item in items {
            self.charge(frame, each.cost)?;
            match frame.within(item, |inner| each.body.eval_bool(inner)) {
                Ok(value) if value == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        fault.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn push<T>(&self, made: &mut Vec<T>, value: T) -> Evaluated<()> {
        if made.len() == MAX_ELEMENTS {
            return Err(self.too_many());
        }
        made.push(value);
        Ok(())
    }

    pub(super) fn too_many(&self) -> Box<Fault> {
        let problem = format!("makes an array of more than {MAX_ELEMENTS} elements").into();
        Box::new(Fault { span: self.span, pointer: None, problem, too_large: true })
    }

    pub(super) fn list<'a>(&'a self, terms: &'a [Term], frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let items: Evaluated<Rc<[Value<'a>]>> = terms.iter().map(|term| term.eval(frame)).collect();
        items.map(Value::List)
    }

    pub(super) fn map<'a>(&'a self, members: &'a [(Box<str>, Term)], frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let members: Evaluated<_> =
            members.iter().map(|(key, term)| Ok((Cow::Borrowed(&**key), term.eval(frame)?))).collect();
        members.map(Value::Map)
    }

    /// What a path leads to in a value that is no part of the payload's own path.
    pub(super) fn walked<'a>(&self, from: Value<'a>, path: &Path, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        match self.walk(from, path, frame)? {
            Ok(value) => Ok(value),
            Err((step, within)) => Err(self.fault(path.0[step].missing_in(within))),
        }
    }

    /// Only the last step may lead nowhere, as in CEL.
    pub(super) fn has_walked<'a>(&self, from: Value<'a>, path: &Path, frame: &Frame<'_, 'a>) -> Evaluated<bool> {
        match self.walk(from, path, frame)? {
            Ok(_) => Ok(true),
            Err((step, "object")) if step + 1 == path.0.len() => Ok(false),
            Err((step, within)) => Err(self.fault(path.0[step].missing_in(within))),
        }
    }

    /// The step that leads nowhere, and the type it was looked for in.
    fn walk<'a>(
        &self,
        from: Value<'a>,
        path: &Path,
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Result<Value<'a>, (usize, &'static str)>> {
        let mut at = from;
        for (number, step) in path.0.iter().enumerate() {
            self.charge(frame, at.count().unwrap_or(0) / 4 + 1)?;
            match at.step(step) {
                Some(next) => at = next,
                None => return Ok(Err((number, at.type_name()))),
            }
        }
        Ok(Ok(at))
    }

    /// `of[index]` where only the message tells the index.
    pub(super) fn index<'a>(&'a self, sides: &'a [Term; 2], frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let (of, index) = (sides[0].eval(frame)?, sides[1].eval(frame)?);
        let step = match &index {
            Value::Text(key) => Step::Key(Name::new(&key[..])),
            other => match other.exact().map(|number| number.whole().and_then(|whole| usize::try_from(whole).ok())) {
                Some(Some(index)) => Step::Index(index),
                Some(None) => return Err(sides[1].fault("an index is a whole number from 0")),
                None => return Err(sides[1].wrong_type("a number or a string", other)),
            },
        };
        self.charge(frame, of.count().unwrap_or(0) / 4 + 1)?;
        of.step(&step).ok_or_else(|| self.fault(step.missing_in(of.type_name())))
    }

    /// The greatest or the least of several numbers, or of an array of them.
    pub(super) fn extreme<'a>(
        &'a self,
        wanted: Ordering,
        terms: &'a [Term],
        frame: &Frame<'_, 'a>,
    ) -> Evaluated<Value<'a>> {
        let mut best = None;
        if let [term] = terms {
            let list = term.eval(frame)?;
            if let Some(items) = list.items() {
                for item in items {
                    self.charge(frame, 1)?;
                    best = Some(term.better(wanted, best, item)?);
                }
                return best.ok_or_else(|| term.fault("an array without elements has neither a greatest nor a least"));
            }
            return term.better(wanted, None, list);
        }
        for term in terms {
            best = Some(term.better(wanted, best, term.eval(frame)?)?);
        }
        best.ok_or_else(|| self.fault("expected at least one number"))
    }

    fn better<'a>(&self, wanted: Ordering, best: Option<Value<'a>>, value: Value<'a>) -> Evaluated<Value<'a>> {
        if value.exact().is_none() {
            return Err(self.wrong_type("a number", &value));
        }
        Ok(match best {
            Some(best) if value.compare_numbers(&best) != Some(wanted) => best,
            _ => value,
        })
    }
}
