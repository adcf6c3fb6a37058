//! The tree of a file: values with their places.

use std::ops::Range;

/// Byte offsets in the file's text, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Of the first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands; of a list or map from its first to its last entry or bracket.
    pub span: Span,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`, and no other word.
    Bool(bool),
    /// A whole number that fits 64 bits, and its source text, which is a JSON number.
    Integer(i64, Box<str>),
    /// Any other number, and its source text, which is a JSON number.
    Float(f64, Box<str>),
    /// Text.
    String(Text),
    /// The items, in order.
    List(Vec<Node>),
    /// The entries, in order; no two have the same key.
    Map(Vec<(Key, Node)>),
}

/// The key of a map's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// A string and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text it stands for.
    pub value: String,
    /// How it was written.
    pub style: Style,
    /// Where in the file `value` stands byte for byte, if it does.
    pub(crate) verbatim_at: Option<usize>,
}

/// How a string was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// A block: `|` or `>`.
    Block,
}

// === impl Span ===

impl Span {
    /// The place of its first byte, as an empty span.
    #[must_use]
    pub const fn first(self) -> Self {
        Self { start: self.start, end: self.start }
    }
}

// === impl Node ===

impl Node {
    /// The value of a map's key; `None` if there is none, or if this is no map. For reading without checking.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a string; `None` if this is none. For reading without checking.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(&text.value),
            _ => None,
        }
    }

    /// `null`, `~` or nothing at all.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The place of a byte range of this string's value, for a caret inside it. Falls back to the whole node where the
    /// value does not stand in the file as it is: blocks, escapes, strings over several lines.
    pub fn span_within(&self, range: Range<usize>) -> Span {
        match &self.kind {
            Kind::String(Text { value, verbatim_at: Some(at), .. }) if range.end <= value.len() => {
                Span { start: at + range.start.min(range.end), end: at + range.end }
            }
            _ => self.span,
        }
    }

    /// What a person calls it: `a string`, `an integer`, ...
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Integer(..) => "an integer",
            Kind::Float(..) => "a number",
            Kind::String(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}
