//! What an expression reads, what it gives, and why it may give nothing.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, rc::Rc};

use bytes::Bytes;
use envelope::{
    Timestamp,
    json::{Items, Node, View},
};

use super::{
    About, Bound, Item, MAX_OUTPUT,
    number::{self, Number},
    path::Step,
    time::Duration,
};

/// What an expression reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) payload: ScopePayload<'a>,
    pub(crate) address: &'a str,
    pub(crate) headers: &'a [(String, Bytes)],
    pub(crate) principal_id: &'a str,
    pub(crate) principal_domain: &'a str,
    pub(crate) now: Timestamp,
    /// What it is about beside the payload.
    pub(crate) about: About<'a>,
    /// The values of the names under `let`, where a file has any.
    pub(crate) own: Option<&'a Bound<'a>>,
    /// The steps that were taken over the message so far.
    pub(crate) steps: Option<&'a Cell<usize>>,
    /// Within `each`.
    pub(crate) item: Option<Item<'a>>,
}

/// The decoded payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScopePayload<'a> {
    Json(Node<'a>),
    Text(&'a str),
    Bytes,
    /// There is none: the message deletes a last value.
    Nothing,
}

/// Why an expression has no value for this message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The part of the expression, as byte offsets, end exclusive.
    pub(crate) span: (u32, u32),
    /// JSON Pointer to the place in the payload, if it is about one.
    pub(crate) pointer: Option<String>,
    /// For the sender.
    pub(crate) problem: Cow<'static, str>,
    /// It is about size, not about meaning.
    pub(crate) too_large: bool,
}

pub(super) type Evaluated<T> = Result<T, Box<Fault>>;

#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    /// A number of the payload, as its text.
    Source(Cow<'a, str>),
    Text(Cow<'a, str>),
    Time(Timestamp),
    Duration(Duration),
    /// An array or object of the payload.
    Container(Node<'a>),
    /// An array that the expression made.
    List(Rc<[Value<'a>]>),
    /// An object that the expression made; no key is there twice.
    Map(Rc<[Member<'a>]>),
}

/// A key and its value.
pub(super) type Member<'a> = (Cow<'a, str>, Value<'a>);

// === impl Scope ===

impl Scope<'_> {
    /// For terms that read nothing.
    pub(crate) const NOTHING: Self = Self {
        payload: ScopePayload::Bytes,
        address: "",
        headers: &[],
        principal_id: "",
        principal_domain: "",
        now: Timestamp::MAX,
        about: About::Inbound,
        own: None,
        steps: None,
        item: None,
    };
}

// === impl Fault ===

impl Fault {
    pub(super) fn too_large(span: (u32, u32)) -> Box<Self> {
        let problem = format!("makes more than {MAX_OUTPUT} bytes").into();
        Box::new(Self { span, pointer: None, problem, too_large: true })
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    pub(super) fn of(node: Node<'a>) -> Self {
        match node.view() {
            View::Null => Self::Null,
            View::Bool(value) => Self::Bool(value),
            View::Number(text) => Self::Source(Cow::Borrowed(text)),
            View::String(text) => Self::Text(Cow::Borrowed(text)),
            View::Array(_) | View::Object(_) => Self::Container(node),
        }
    }

    /// The same without a copy of its text.
    pub(super) fn borrowed(&'a self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Cow::Borrowed(text)),
            Self::Source(text) => Self::Source(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) | Self::Source(_) => "number",
            Self::Text(_) => "string",
            Self::Time(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::Container(node) => node.type_name(),
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// As arithmetic takes it.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Source(text) => Some(Number::of_json(text)),
            _ => None,
        }
    }

    /// As comparison takes it.
    pub(super) fn exact(&self) -> Option<Number> {
        match self {
            Self::Source(text) => Some(Number::exact_of_json(text)),
            other => other.number(),
        }
    }

    /// `None`: arrays and objects are not compared.
    pub(super) fn equals(&self, other: &Value<'_>) -> Option<bool> {
        Some(match (self, other) {
            (a, b) if a.is_container() && b.is_container() => return None,
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Text(a), Value::Text(b)) => a == b,
            (Self::Time(a), Value::Time(b)) => a == b,
            (Self::Duration(a), Value::Duration(b)) => a == b,
            (a, b) => a.compare_numbers(b).is_some_and(Ordering::is_eq),
        })
    }

    /// `None`: the two have no order.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (a, b) => a.compare_numbers(b),
        }
    }

    /// By value. Two numbers of the payload are compared digit by digit: identifiers past 64 bits stay apart.
    pub(super) fn compare_numbers(&self, other: &Value<'_>) -> Option<Ordering> {
        let (a, b) = (self.exact()?, other.exact()?);
        match (self, other, a, b) {
            (_, _, Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (Self::Source(a), Value::Source(b), _, _) => Some(number::compare_decimals(a, b)),
            (Self::Source(a), _, _, Number::Int(b)) => Some(number::compare_decimals(a, &b.to_string())),
            (_, Value::Source(b), Number::Int(a), _) => Some(number::compare_decimals(&a.to_string(), b)),
            (_, _, a, b) => a.compare(b),
        }
    }

    pub(super) fn is_container(&self) -> bool {
        matches!(self, Self::Container(_) | Self::List(_) | Self::Map(_))
    }

    /// How much text it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Source(text) => text.len(),
            _ => 0,
        }
    }

    /// As it reads in text; gives back what does not.
    pub(super) fn into_text(self) -> Result<Cow<'a, str>, Self> {
        Ok(match self {
            Self::Text(text) | Self::Source(text) => text,
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Number(number) => {
                let mut out = String::new();
                number.write(&mut out);
                Cow::Owned(out)
            }
            Self::Time(time) => Cow::Owned(time.to_string()),
            Self::Duration(duration) => Cow::Owned(duration.to_string()),
            other => return Err(other),
        })
    }

    /// How many bytes were made for it.
    pub(super) fn made(&self) -> usize {
        let each = size_of::<Self>();
        match self {
            Self::Text(Cow::Owned(text)) | Self::Source(Cow::Owned(text)) => text.len(),
            Self::List(items) => items.iter().map(|item| each + item.made()).sum(),
            Self::Map(members) => members.iter().map(|(key, value)| key.len() + each + value.made()).sum(),
            _ => 0,
        }
    }

    /// The elements of an array.
    pub(super) fn items(&self) -> Option<Elements<'_, 'a>> {
        match self {
            Self::Container(node) => node.as_array().map(Elements::Payload),
            Self::List(items) => Some(Elements::Made(items.iter())),
            _ => None,
        }
    }

    /// How many elements or members it has.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::Container(node) => {
                node.as_array().map(|items| items.len()).or_else(|| node.as_object().map(|members| members.len()))
            }
            Self::List(items) => Some(items.len()),
            Self::Map(members) => Some(members.len()),
            _ => None,
        }
    }

    /// The member or element that a step leads to.
    pub(super) fn step(&self, step: &Step) -> Option<Value<'a>> {
        match (self, step) {
            (Self::Container(node), Step::Key(key)) => node.member(key).map(Value::of),
            (Self::Container(node), Step::Index(index)) => node.item(*index).map(Value::of),
            (Self::Map(members), Step::Key(key)) => {
                members.iter().find(|(name, _)| **name == **key).map(|(_, value)| value.clone())
            }
            (Self::List(items), Step::Index(index)) => items.get(*index).cloned(),
            _ => None,
        }
    }

    /// A copy of a value of another text.
    pub(super) fn copied(node: Node<'_>) -> Self {
        match node.view() {
            View::Null => Self::Null,
            View::Bool(value) => Self::Bool(value),
            View::Number(text) => Self::Source(Cow::Owned(text.to_owned())),
            View::String(text) => Self::Text(Cow::Owned(text.to_owned())),
            View::Array(items) => Self::List(items.map(Self::copied).collect()),
            View::Object(members) => {
                Self::Map(members.map(|(key, value)| (Cow::Owned(key.to_owned()), Self::copied(value))).collect())
            }
        }
    }
}

/// The elements of an array, wherever it is from.
#[derive(Debug)]
pub(super) enum Elements<'v, 'a> {
    Payload(Items<'a>),
    Made(std::slice::Iter<'v, Value<'a>>),
}

// === impl Elements ===

impl<'a> Iterator for Elements<'_, 'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Self::Payload(items) => items.next().map(Value::of),
            Self::Made(items) => items.next().cloned(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Payload(items) => items.size_hint(),
            Self::Made(items) => items.size_hint(),
        }
    }
}
