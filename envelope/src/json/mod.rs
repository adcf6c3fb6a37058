//! JSON (RFC 8259), parsed once into a read-only tree that mapping, schemas and policy all read.
//!
//! One parser for everybody: with two of them, `{"amount":1,"amount":1000000}` can be checked as one amount and booked
//! as the other. Stricter than the RFC where it leaves room: duplicate keys, more than [`MAX_DEPTH`] levels and numbers
//! outside IEEE 754 double range are malformed. Numbers and strings keep their source text, so `12.10` stays `12.10`.

mod lex;
mod parse;
mod slot;
mod tree;
mod write;

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

pub use slot::Name;
pub use tree::{Items, Members, Node, View};
pub use write::{write_escaped, write_string};

/// The deepest nesting that is read; 128 levels pass.
pub const MAX_DEPTH: usize = 128;
/// The longest text that is read, in bytes: 256 MiB.
pub const MAX_BYTES: usize = 1 << 28;

/// A whole JSON text and its tree. The tree points into the text: nothing but unescaped strings is copied.
#[derive(Clone)]
pub struct Json {
    text: ByteString,
    slots: Vec<slot::Slot>,
    unescaped: Vec<Box<str>>,
}

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {offset} (line {line}, column {column}): {problem}")]
pub struct JsonError {
    /// Byte offset, from 0.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Ends too early, or is no JSON at this place.
    #[error("{0}")]
    Syntax(&'static str),
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Over [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Over [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Two members of one object have the same name.
    #[error("duplicate key {0:?}")]
    DuplicateKey(String),
    /// Not within the range of an IEEE 754 double.
    #[error("number out of range")]
    NumberRange,
}

// === impl Json ===

impl Json {
    /// Parses a whole text.
    pub fn parse(text: Bytes) -> Result<Self, JsonError> {
        let text = ByteString::try_from(text.clone()).map_err(|_| {
            let valid = std::str::from_utf8(&text).err().map_or(0, |e| e.valid_up_to());
            JsonError::new(&text, valid, Problem::NotUtf8)
        })?;
        let (slots, unescaped) = parse::parse(&text)?;
        Ok(Self { text, slots, unescaped })
    }

    /// The top value.
    pub fn root(&self) -> Node<'_> {
        Node::root(self)
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text it was parsed from; shares memory.
    pub fn bytes(&self) -> Bytes {
        self.text.as_bytes().clone()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.text.len())
    }
}

impl PartialEq for Json {
    /// By text, not by meaning.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

// === impl JsonError ===

impl JsonError {
    fn new(text: &[u8], offset: usize, problem: Problem) -> Self {
        let before = &text[..offset.min(text.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
        Self { offset, line, column, problem }
    }
}

#[cfg(test)]
mod tests;
