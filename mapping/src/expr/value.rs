//! What an expression reads, what it gives, and why it may give nothing.

use std::{borrow::Cow, cmp::Ordering};

use bytes::Bytes;
use envelope::{
    Timestamp,
    json::{Node, View},
};

use super::{Bound, Item, MAX_OUTPUT, number::Number};

/// What an expression reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) payload: ScopePayload<'a>,
    pub(crate) address: &'a str,
    pub(crate) headers: &'a [(String, Bytes)],
    pub(crate) principal_id: &'a str,
    pub(crate) principal_domain: &'a str,
    pub(crate) now: Timestamp,
    /// The values of the names under `let`, where a file has any.
    pub(crate) own: Option<&'a Bound<'a>>,
    /// Within `each`.
    pub(crate) item: Option<Item<'a>>,
}

/// The decoded payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScopePayload<'a> {
    Json(Node<'a>),
    Text(&'a str),
    Bytes,
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
    Source(&'a str),
    Text(Cow<'a, str>),
    /// An array or object of the payload.
    Container(Node<'a>),
}

// === impl Scope ===

impl Scope<'_> {
    /// For terms that read nothing.
    pub(super) const NOTHING: Self = Self {
        payload: ScopePayload::Bytes,
        address: "",
        headers: &[],
        principal_id: "",
        principal_domain: "",
        now: Timestamp::MAX,
        own: None,
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
            View::Number(text) => Self::Source(text),
            View::String(text) => Self::Text(Cow::Borrowed(text)),
            View::Array(_) | View::Object(_) => Self::Container(node),
        }
    }

    /// The same without a copy of its text.
    pub(super) fn borrowed(&'a self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) | Self::Source(_) => "number",
            Self::Text(_) => "string",
            Self::Container(node) => node.type_name(),
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
            (Self::Container(_), Value::Container(_)) => return None,
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Text(a), Value::Text(b)) => a == b,
            (a, b) => match (a.exact(), b.exact()) {
                (Some(a), Some(b)) => a.compare(b).is_some_and(Ordering::is_eq),
                _ => false,
            },
        })
    }
}
