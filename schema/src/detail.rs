//! What a person is told: where, and what is wrong there, in a bounded number of characters.

use std::fmt::{self, Write};

use envelope::{Json, json::Node};
use jsonschema::ValidationError;

use crate::Violation;

/// The most characters of a detail.
pub(crate) const MAX_DETAIL: usize = 200;
/// The longest value that is quoted, in bytes.
const MAX_QUOTED: usize = 64;

/// Takes as many characters as there is room for, then refuses: the rest is not even written.
struct Bounded {
    text: String,
    room: usize,
}

/// What is wrong with a value.
pub(crate) fn violation(error: &ValidationError<'_>, json: &Json) -> Violation {
    let pointer = error.instance_path().as_str();
    let value = find(json.root(), pointer).map_or_else(|| "value".to_owned(), quote);
    Violation { pointer: pointer.to_owned(), detail: bounded(error.masked_with(value)) }
}

/// What is wrong with a schema.
pub(crate) fn of_schema(error: &ValidationError<'_>) -> String {
    bounded(format_args!("at {:?}: {error}", place_in_schema(error)))
}

/// What its meta-schema refuses is an instance there; what fails later is found by where the keyword stands.
pub(crate) fn place_in_schema<'e>(error: &'e ValidationError<'_>) -> &'e str {
    match error.instance_path().as_str() {
        "" => error.schema_path().as_str(),
        path => path,
    }
}

pub(crate) fn bounded(text: impl fmt::Display) -> String {
    let mut bounded = Bounded { text: String::new(), room: MAX_DETAIL };
    match write!(bounded, "{text}") {
        Ok(()) => bounded.text,
        Err(fmt::Error) => bounded.text.chars().take(MAX_DETAIL - 1).chain(['…']).collect(),
    }
}

/// A short value as it stands in the text, else its type.
fn quote(node: Node<'_>) -> String {
    match node.source() {
        source if source.len() <= MAX_QUOTED => source.to_owned(),
        source => format!("{} of {} bytes", node.type_name(), source.len()),
    }
}

/// The value at a JSON Pointer.
fn find<'a>(root: Node<'a>, pointer: &str) -> Option<Node<'a>> {
    pointer.split('/').skip(1).try_fold(root, |node, token| match node.as_array() {
        Some(mut items) => items.nth(token.parse().ok()?),
        None => node.get(&token.replace("~1", "/").replace("~0", "~")),
    })
}

// === impl Bounded ===

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}
