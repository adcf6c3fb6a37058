//! Names that a mapping file gives itself: what stands under `let`, and within `each` the `item` and its `index`.
//!
//! Names under `let` are evaluated before the expressions that read them, each after those it reads itself. One that has
//! no value is a fault only where it is read.

use envelope::json::Node;

use super::{
    Expr, MAX_OUTPUT, Op, Term,
    frame::Frame,
    number::Number,
    path::{Missing, Path},
    value::{Evaluated, Fault, Scope, Value},
};

/// The file's own names, while its expressions are compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnNames<'n> {
    /// The names under `let`.
    pub(crate) lets: &'n [Box<str>],
    /// Those that can't be used here, a bit for each: they are made of the item, and here is none.
    pub(crate) hidden: u64,
    /// Whether there is an item.
    pub(crate) item: bool,
}

/// What an expression reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// The names under `let`, a bit for each.
    pub(crate) lets: u64,
    /// `item` or `index`.
    pub(crate) item: bool,
    /// The payload.
    pub(crate) payload: bool,
}

/// A name of the file's own in an expression.
#[derive(Debug, PartialEq)]
pub(super) enum Own {
    Let(usize, Path),
    Item(Path),
    Index,
}

/// A name under `let` and what it stands for.
#[derive(Debug)]
pub(crate) struct Let {
    pub(crate) name: Box<str>,
    pub(crate) expr: Expr,
    /// What it reads, itself or through other names.
    pub(crate) uses: Uses,
}

/// The value of a name under `let` for one message.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    number: usize,
    value: Evaluated<Value<'a>>,
    /// Bytes of text made for it and those before.
    made: usize,
    before: Option<&'a Bound<'a>>,
}

/// An element of the array that `each` goes through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) node: Node<'a>,
    /// From 0.
    pub(crate) number: usize,
    /// JSON Pointer to the array, if it is a plain path into the payload.
    pub(crate) array: Option<&'a str>,
}

// === impl OwnNames ===

impl OwnNames<'_> {
    /// None at all.
    pub(crate) const NONE: Self = Self { lets: &[], hidden: 0, item: false };
}

// === impl Own ===

impl Own {
    /// It is a path into something, which `has` can ask for.
    pub(super) fn has_steps(&self) -> bool {
        match self {
            Self::Let(_, path) | Self::Item(path) => !path.0.is_empty(),
            Self::Index => false,
        }
    }
}

// === impl Let ===

impl Let {
    /// Runs `then` with values for the names of these numbers, each of which reads only those before it.
    pub(crate) fn bind<T>(
        all: &[Self],
        numbers: &[usize],
        scope: &Scope<'_>,
        then: &mut dyn FnMut(&Scope<'_>) -> T,
    ) -> T {
        let Some((number, rest)) = numbers.split_first() else { return then(scope) };
        let made = scope.own.map_or(0, |before| before.made);
        let bound = all[*number].bound(*number, made, scope);
        Self::bind(all, rest, &Scope { own: Some(&bound), ..*scope }, then)
    }

    fn bound<'a>(&'a self, number: usize, made: usize, scope: &Scope<'a>) -> Bound<'a> {
        let value = Frame::run(scope, |frame| self.expr.root.eval(frame));
        let made = made + value.as_ref().map_or(0, Value::made);
        let value = if made > MAX_OUTPUT { Err(self.expr.too_large()) } else { value };
        Bound { number, value: value.map_err(|fault| self.fault(fault)), made, before: scope.own }
    }

    /// Says which name and which part of it has no value; the first that fails says it for all that read it.
    fn fault(&self, fault: Box<Fault>) -> Box<Fault> {
        if fault.problem.starts_with("let.") {
            return fault;
        }
        let text = self.expr.text();
        let part = text.get(fault.span.0 as usize..fault.span.1 as usize).unwrap_or(text);
        let problem = format!("let.{}: {part}: {}", self.name, fault.problem).into();
        Box::new(Fault { problem, ..*fault })
    }
}

// === impl Expr ===

impl Expr {
    /// What it reads itself.
    pub(crate) fn uses(&self) -> Uses {
        self.uses
    }

    /// The array it gives, as a value of the payload.
    pub(crate) fn to_array<'a>(&'a self, scope: &Scope<'a>) -> Result<Node<'a>, Box<Fault>> {
        let value = Frame::run(scope, |frame| self.root.eval(frame))?;
        match value {
            Value::Container(node) if node.as_array().is_some() => Ok(node),
            other => Err(self.root.wrong_type("an array of the payload", &other)),
        }
    }

    /// JSON Pointer to what it gives, if it is a plain path into the payload.
    pub(crate) fn pointer(&self) -> Option<String> {
        match &self.root.op {
            Op::Payload(path) => Some(path.whole()),
            _ => None,
        }
    }
}

// === impl Term ===

impl Term {
    pub(super) fn own<'a>(&'a self, own: &'a Own, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        match own {
            // there are at most 1,000 items
            Own::Index => self.item(frame.scope).map(|item| Value::Number(Number::Int(item.number as i64))),
            Own::Item(path) => {
                let item = self.item(frame.scope)?;
                if frame.repeats() {
                    self.charge(frame, path.cost(item.node))?;
                }
                path.find(item.node).map(Value::of).map_err(|missing| self.missing_in(item, path, missing))
            }
            Own::Let(number, path) => self.walked(self.bound(*number, frame.scope)?, path, frame),
        }
    }

    /// Only the last step may lead nowhere, as in CEL.
    pub(super) fn has_own<'a>(&'a self, own: &'a Own, frame: &Frame<'_, 'a>) -> Evaluated<bool> {
        match own {
            Own::Index => Ok(true),
            Own::Item(path) => {
                let item = self.item(frame.scope)?;
                if frame.repeats() {
                    self.charge(frame, path.cost(item.node))?;
                }
                match path.find(item.node) {
                    Ok(_) => Ok(true),
                    Err(missing) if missing.step + 1 == path.0.len() && missing.within.as_object().is_some() => {
                        Ok(false)
                    }
                    Err(missing) => Err(self.missing_in(item, path, missing)),
                }
            }
            Own::Let(number, path) => self.has_walked(self.bound(*number, frame.scope)?, path, frame),
        }
    }

    fn item<'a>(&self, scope: &Scope<'a>) -> Evaluated<Item<'a>> {
        scope.item.ok_or_else(|| self.fault("there is no item here"))
    }

    fn missing_in(&self, item: Item<'_>, path: &Path, missing: Missing<'_>) -> Box<Fault> {
        let mut fault = self.fault(missing.problem(path));
        fault.pointer = item.array.map(|array| format!("{array}/{}{}", item.number, path.pointer(missing.step + 1)));
        fault
    }

    fn bound<'a>(&self, number: usize, scope: &Scope<'a>) -> Evaluated<Value<'a>> {
        let mut at = scope.own;
        while let Some(bound) = at {
            if bound.number == number {
                return match &bound.value {
                    Ok(value) => Ok(value.borrowed()),
                    Err(fault) => Err(Box::new(Fault { span: self.span, ..(**fault).clone() })),
                };
            }
            at = bound.before;
        }
        Err(self.fault("there is no such value here"))
    }
}
