//! What an expression is about beside a bridge's message: the envelope that leaves, or the verdict that a sender hears.

use std::borrow::Cow;

use envelope::{Envelope, Priority, Receipt, Rejection};

use crate::proof::{ATTRIBUTE, Text};

use super::{
    Op, Term,
    check::Type,
    compile::{Compiled, Compiler},
    frame::Frame,
    path::{Path, Step},
    value::{Evaluated, Value},
};

/// Which names stand beside `now` and `table()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A bridge's message: `payload`, `headers`, `address`, `principal`.
    Inbound,
    /// `envelope`, and its data as `payload`.
    Envelope,
    /// `receipt`.
    Receipt,
    /// `rejection`.
    Rejection,
}

/// What those names stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Inbound,
    Envelope(&'a Envelope),
    Receipt(&'a Receipt),
    Rejection(&'a Rejection),
}

/// An attribute of what an expression is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Id,
    Source,
    Type,
    Topic,
    Time,
    Expires,
    Schema,
    ContentType,
    Performative,
    Priority,
    Key,
    Classification,
    Residency,
    Conversation,
    InReplyTo,
    ReplyTo,
    Recipients,
    OriginId,
    OriginSource,
    ReceiptId,
    Duplicate,
    Kind,
    Detail,
    DecidedBy,
    Pointer,
}

/// Name, attribute, type, and whether it is always there.
type Row = (&'static str, Attribute, Type, bool);

const ENVELOPE: &[Row] = &[
    ("id", Attribute::Id, Type::Text, true),
    ("source", Attribute::Source, Type::Text, true),
    ("type", Attribute::Type, Type::Text, true),
    ("topic", Attribute::Topic, Type::Text, true),
    ("time", Attribute::Time, Type::Time, true),
    ("expires", Attribute::Expires, Type::Time, false),
    ("schema", Attribute::Schema, Type::Text, false),
    ("content_type", Attribute::ContentType, Type::Text, false),
    ("performative", Attribute::Performative, Type::Text, false),
    ("priority", Attribute::Priority, Type::Text, false),
    ("key", Attribute::Key, Type::Text, false),
    ("classification", Attribute::Classification, Type::Text, false),
    ("residency", Attribute::Residency, Type::List, true),
    ("conversation", Attribute::Conversation, Type::Text, false),
    ("inreplyto", Attribute::InReplyTo, Type::Text, false),
    ("replyto", Attribute::ReplyTo, Type::Text, false),
    ("recipients", Attribute::Recipients, Type::List, true),
    ("originid", Attribute::OriginId, Type::Text, false),
    ("originsource", Attribute::OriginSource, Type::Text, false),
];

const RECEIPT: &[Row] =
    &[("id", Attribute::ReceiptId, Type::Text, true), ("duplicate", Attribute::Duplicate, Type::Bool, true)];

const REJECTION: &[Row] = &[
    ("kind", Attribute::Kind, Type::Text, true),
    ("detail", Attribute::Detail, Type::Text, true),
    ("decided_by", Attribute::DecidedBy, Type::Text, true),
    ("pointer", Attribute::Pointer, Type::Text, false),
];

// === impl Subject ===

impl Subject {
    /// The names that are in scope whatever the file names itself.
    pub(super) const fn scope(self) -> &'static [&'static str] {
        match self {
            Self::Inbound => &["payload", "headers", "address", "principal", "now"],
            Self::Envelope => &["payload", "envelope", "now"],
            Self::Receipt => &["receipt", "now"],
            Self::Rejection => &["rejection", "now"],
        }
    }

    /// The name of what it is about, and its attributes.
    const fn rows(self) -> (&'static str, &'static [Row]) {
        match self {
            Self::Inbound => ("", &[]),
            Self::Envelope => ("envelope", ENVELOPE),
            Self::Receipt => ("receipt", RECEIPT),
            Self::Rejection => ("rejection", REJECTION),
        }
    }

    /// The names of the attributes; what a text template may use.
    pub(crate) fn names(self) -> (&'static str, impl Iterator<Item = &'static str>) {
        let (root, rows) = self.rows();
        (root, rows.iter().map(|row| row.0))
    }
}

// === impl Attribute ===

impl Attribute {
    pub(super) fn gives(self) -> Type {
        let mut rows = ENVELOPE.iter().chain(RECEIPT).chain(REJECTION);
        rows.find(|row| row.1 == self).map_or(Type::Any, |row| row.2)
    }

    /// Whether each that it is asked of has it.
    pub(super) fn is_always(self) -> bool {
        let mut rows = ENVELOPE.iter().chain(RECEIPT).chain(REJECTION);
        rows.find(|row| row.1 == self).is_some_and(|row| row.3)
    }

    /// What is known of its text.
    pub(super) fn text(self) -> Text {
        let fact = match self {
            Self::Id | Self::ReceiptId => "format:uuid",
            Self::Source
            | Self::Type
            | Self::Topic
            | Self::Performative
            | Self::Priority
            | Self::Key
            | Self::Classification
            | Self::Kind
            | Self::DecidedBy => ATTRIBUTE,
            // whatever a sender said
            _ => return Text::ANY,
        };
        Text { facts: [fact.into()].into(), ..Text::SOME }
    }

    /// As a file writes it.
    fn name(self) -> &'static str {
        let mut rows = ENVELOPE.iter().chain(RECEIPT).chain(REJECTION);
        rows.find(|row| row.1 == self).map_or("", |row| row.0)
    }
}

// === impl Compiler ===

impl Compiler<'_> {
    /// `envelope.topic` and its like. `None`: the root is no such name here.
    pub(super) fn about(&mut self, root: &str, steps: &[Step], span: (u32, u32)) -> Option<Compiled<Op>> {
        let (name, rows) = self.names.subject.rows();
        if name != root || name.is_empty() {
            return None;
        }
        let (key, rest) = match steps.split_first() {
            Some((Step::Key(key), rest)) => (&**key, rest),
            Some((Step::Index(_), _)) | None => ("", steps),
        };
        let Some((_, attribute, of, _)) = rows.iter().find(|row| row.0 == key) else {
            let known: Vec<_> = rows.iter().map(|row| row.0).collect();
            let all: Vec<_> = known.iter().map(|name| format!("{root}.{name}")).collect();
            let help = match yaml::nearest(key, &known) {
                Some(near) => format!("did you mean {root}.{near}? there are {}", all.join(", ")),
                None => format!("there are {}", all.join(", ")),
            };
            return Some(self.refuse_with_help(span, "unknown-name", format!("not an attribute of {root}"), help));
        };
        if rest.is_empty() {
            return Some(Some(Op::About(*attribute)));
        }
        if *of != Type::List {
            return Some(self.refuse(span, "unknown-name", format!("{root}.{key} is one value and has no members")));
        }
        let list = Term { op: Op::About(*attribute), span };
        Some(Some(Op::Member(Box::new(list), Path(rest.to_vec()))))
    }
}

// === impl About ===

impl<'a> About<'a> {
    /// `None`: it is not there.
    pub(super) fn value(self, attribute: Attribute) -> Option<Value<'a>> {
        match self {
            Self::Inbound => None,
            Self::Envelope(envelope) => of_envelope(envelope, attribute),
            Self::Receipt(receipt) => match attribute {
                Attribute::ReceiptId => Some(Value::Text(Cow::Owned(receipt.id.to_string()))),
                Attribute::Duplicate => Some(Value::Bool(receipt.duplicate)),
                _ => None,
            },
            Self::Rejection(rejection) => match attribute {
                Attribute::Kind => Some(borrowed(rejection.kind.as_str())),
                Attribute::Detail => Some(borrowed(&rejection.detail)),
                Attribute::DecidedBy => Some(borrowed(rejection.decided_by)),
                Attribute::Pointer => rejection.pointer.as_deref().map(borrowed),
                _ => None,
            },
        }
    }

    /// All attributes that are there, by name.
    pub(super) fn all(self) -> impl Iterator<Item = (&'static str, Value<'a>)> {
        let rows = match self {
            Self::Inbound => &[][..],
            Self::Envelope(_) => ENVELOPE,
            Self::Receipt(_) => RECEIPT,
            Self::Rejection(_) => REJECTION,
        };
        rows.iter().filter_map(move |row| Some((row.0, self.value(row.1)?)))
    }
}

fn of_envelope(envelope: &Envelope, attribute: Attribute) -> Option<Value<'_>> {
    let (conversation, origin) = (envelope.conversation.as_deref(), envelope.origin.as_deref());
    let text = match attribute {
        Attribute::Id => return Some(Value::Text(Cow::Owned(envelope.id.to_string()))),
        Attribute::Time => return Some(Value::Time(envelope.time)),
        Attribute::Expires => return envelope.expirytime.map(Value::Time),
        Attribute::Residency => {
            return Some(Value::List(envelope.residency.iter().map(|label| borrowed(label)).collect()));
        }
        Attribute::Recipients => {
            let recipients = conversation.map_or(&[][..], |conversation| &conversation.recipients);
            return Some(Value::List(recipients.iter().map(|name| borrowed(name)).collect()));
        }
        Attribute::Source => Some(&*envelope.source),
        Attribute::Type => Some(&*envelope.kind),
        Attribute::Topic => Some(envelope.subject.as_str()),
        Attribute::Schema => envelope.dataschema.as_deref(),
        Attribute::ContentType => envelope.datacontenttype.as_deref(),
        Attribute::Performative => envelope.performative.as_deref(),
        Attribute::Priority => envelope.priority.map(Priority::word),
        Attribute::Key => envelope.partitionkey.as_deref(),
        Attribute::Classification => envelope.classification.as_deref(),
        Attribute::Conversation => conversation.and_then(|of| of.id.as_deref()),
        Attribute::InReplyTo => conversation.and_then(|of| of.inreplyto.as_deref()),
        Attribute::ReplyTo => conversation.and_then(|of| of.replyto.as_deref()),
        Attribute::OriginId => origin.and_then(|of| of.id.as_deref()),
        Attribute::OriginSource => origin.and_then(|of| of.source.as_deref()),
        Attribute::ReceiptId | Attribute::Duplicate => None,
        Attribute::Kind | Attribute::Detail | Attribute::DecidedBy | Attribute::Pointer => None,
    };
    text.map(borrowed)
}

fn borrowed(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

// === impl Term ===

impl Term {
    pub(super) fn attribute<'a>(&self, attribute: Attribute, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let value = frame.scope.about.value(attribute);
        value.ok_or_else(|| self.fault(format!("attribute {:?} is missing", attribute.name())))
    }
}
