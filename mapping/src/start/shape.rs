//! What values look like, as JSON Schema: types, members and which of them are always there.

use std::collections::BTreeMap;

use envelope::{
    Timestamp,
    json::{Node, View, write_string},
};

use crate::expr::is_rfc_3339;

/// The most members that are named.
const MAX_NAMED: usize = 256;

/// Everything that was seen at one place.
#[derive(Debug, Default)]
pub(super) struct Shape {
    seen: [bool; TYPES.len()],
    items: Option<Box<Shape>>,
    objects: usize,
    /// What every string so far was written as.
    format: Option<Written>,
    /// With how many of the objects have it.
    members: BTreeMap<String, (Shape, usize)>,
}

/// How a string is written, as far as nothing else is written so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    DateTime,
    Date,
    Uuid,
    Otherwise,
}

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

// === impl Shape ===

impl Shape {
    /// Sees one value more.
    pub(super) fn add(&mut self, node: Node<'_>) {
        let kind = match node.view() {
            View::Null => 0,
            View::Bool(_) => 1,
            View::Number(text) if text.contains(['.', 'e', 'E']) => 3,
            View::Number(_) => 2,
            View::String(text) => {
                let of = Written::of(text);
                self.format = if self.seen[4] { self.format.filter(|format| *format == of) } else { Some(of) };
                4
            }
            View::Array(items) => {
                let shape = self.items.get_or_insert_default();
                items.for_each(|item| shape.add(item));
                5
            }
            View::Object(members) => {
                self.objects += 1;
                for (name, value) in members {
                    if self.members.len() < MAX_NAMED || self.members.contains_key(name) {
                        let (shape, count) = self.members.entry(name.to_owned()).or_default();
                        shape.add(value);
                        *count += 1;
                    }
                }
                6
            }
        };
        self.seen[kind] = true;
    }

    /// Writes its keywords, without the braces around them.
    pub(super) fn write_keywords(&self, out: &mut Vec<u8>, depth: usize) {
        let whole_too = self.seen[3];
        let types = TYPES.iter().zip(self.seen).filter(|(name, seen)| *seen && !(whole_too && **name == "integer"));
        let types: Vec<_> = types.map(|(name, _)| format!("\"{name}\"")).collect();
        let separator = |out: &mut Vec<u8>| {
            out.extend_from_slice(b",\n");
            indent(out, depth);
        };
        match types.as_slice() {
            // an array without elements says nothing of them
            [] => return,
            [one] => out.extend_from_slice(format!("\"type\": {one}").as_bytes()),
            several => out.extend_from_slice(format!("\"type\": [{}]", several.join(", ")).as_bytes()),
        }
        if let Some(format) = self.format.and_then(Written::format) {
            separator(out);
            out.extend_from_slice(format!("\"format\": \"{format}\"").as_bytes());
        }
        if let Some(items) = self.items.as_ref().filter(|items| items.seen.contains(&true)) {
            separator(out);
            out.extend_from_slice(b"\"items\": ");
            items.write(out, depth);
        }
        if self.members.is_empty() {
            return;
        }
        separator(out);
        out.extend_from_slice(b"\"properties\": {\n");
        for (index, (name, (shape, _))) in self.members.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b",\n");
            }
            indent(out, depth + 1);
            write_string(out, name);
            out.extend_from_slice(b": ");
            shape.write(out, depth + 1);
        }
        out.push(b'\n');
        indent(out, depth);
        out.push(b'}');
        let always: Vec<_> = self.members.iter().filter(|(_, (_, count))| *count == self.objects).collect();
        if !always.is_empty() {
            separator(out);
            out.extend_from_slice(b"\"required\": [");
            for (index, (name, _)) in always.into_iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_string(out, name);
            }
            out.push(b']');
        }
    }

    fn write(&self, out: &mut Vec<u8>, depth: usize) {
        if !self.seen.contains(&true) {
            return out.extend_from_slice(b"true");
        }
        out.extend_from_slice(b"{\n");
        indent(out, depth + 1);
        self.write_keywords(out, depth + 1);
        out.push(b'\n');
        indent(out, depth);
        out.push(b'}');
    }
}

// === impl Written ===

impl Written {
    fn of(text: &str) -> Self {
        // `0` is a digit, `x` a hexadecimal one; anything else is itself
        let is = |shape: &str| {
            text.len() == shape.len()
                && text.bytes().zip(shape.bytes()).all(|(byte, of)| match of {
                    b'0' => byte.is_ascii_digit(),
                    b'x' => byte.is_ascii_hexdigit(),
                    of => byte == of,
                })
        };
        let date = text.get(..10).is_some_and(|date| Timestamp::parse(&format!("{date}T00:00:00Z")).is_some());
        match text.len() {
            10 if date && is("0000-00-00") => Self::Date,
            20.. if date && text.as_bytes()[10] == b'T' && is_rfc_3339(text) => Self::DateTime,
            36 if is("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") => Self::Uuid,
            _ => Self::Otherwise,
        }
    }

    /// As JSON Schema calls it.
    const fn format(self) -> Option<&'static str> {
        match self {
            Self::DateTime => Some("date-time"),
            Self::Date => Some("date"),
            Self::Uuid => Some("uuid"),
            Self::Otherwise => None,
        }
    }
}

fn indent(out: &mut Vec<u8>, depth: usize) {
    (0..depth).for_each(|_| out.extend_from_slice(b"  "));
}
