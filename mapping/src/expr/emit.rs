//! Writes the value of an expression where it is wanted: into JSON or into text, without building it first.

use std::borrow::Cow;

use envelope::json::{MAX_DEPTH, Node, write_escaped, write_string};

use super::{
    Expr, MAX_OUTPUT, Op, Term,
    frame::Frame,
    value::{Evaluated, Fault, Scope, Value},
};

/// A buffer of UTF-8 that numbers can be formatted into.
struct Utf8<'o>(&'o mut Vec<u8>);

// === impl Expr ===

impl Expr {
    /// Appends the value as JSON. What a path leads to is copied as it stands in the payload. `room` is how many
    /// levels it may nest.
    pub(crate) fn write_json(&self, scope: &Scope<'_>, room: usize, out: &mut Vec<u8>) -> Result<(), Box<Fault>> {
        Frame::run(scope, |frame| self.root.write_json(frame, room, out))
    }

    /// The value as it reads in text: strings without quotes, numbers of the payload as they stand there.
    pub(crate) fn to_text<'a>(&'a self, scope: &Scope<'a>) -> Result<Cow<'a, str>, Box<Fault>> {
        Frame::run(scope, |frame| self.root.to_text(frame))
    }

    /// The value as texts: none of what is `null`, and if there may be `several`, one of each element of an array. Past `most`
    /// elements it is too large.
    pub(crate) fn to_texts<'a>(
        &'a self,
        scope: &Scope<'a>,
        several: bool,
        most: usize,
    ) -> Result<Vec<Cow<'a, str>>, Box<Fault>> {
        Frame::run(scope, |frame| {
            let value = self.root.eval(frame)?;
            let wrong = |other| self.root.wrong_type("a string, a number or a boolean inside text", &other);
            if several && let Some(items) = value.items() {
                let count = value.count().unwrap_or_default();
                if count > most {
                    let problem = format!("{count} elements, the limit is {most}");
                    return Err(Box::new(Fault { too_large: true, ..*self.root.fault(problem) }));
                }
                return items.map(|item| item.into_text().map_err(wrong)).collect();
            }
            match value {
                Value::Null => Ok(Vec::new()),
                value => Ok(vec![value.into_text().map_err(wrong)?]),
            }
        })
    }

    /// Appends the value as it reads inside a JSON string.
    pub(crate) fn write_in_string(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<(), Box<Fault>> {
        Frame::run(scope, |frame| self.root.write_in_string(frame, out))
    }

    /// True or false.
    pub(crate) fn test(&self, scope: &Scope<'_>) -> Result<bool, Box<Fault>> {
        Frame::run(scope, |frame| self.root.eval_bool(frame))
    }
}

// === impl Term ===

impl Term {
    fn write_json(&self, frame: &Frame<'_, '_>, room: usize, out: &mut Vec<u8>) -> Evaluated<()> {
        match &self.op {
            Op::Payload(path) => {
                let node = self.find(path, frame)?;
                self.write_node(node, room, out)?;
            }
            Op::Conditional(parts) => {
                let chosen = if parts[0].eval_bool(frame)? { &parts[1] } else { &parts[2] };
                return chosen.write_json(frame, room, out);
            }
            Op::Sum(terms) => {
                let (first, rest) = self.first_of_sum(terms, frame)?;
                let Value::Text(text) = first else {
                    let value = self.sum_values(first, rest, frame)?;
                    return self.write_value(&value, room, out);
                };
                out.push(b'"');
                write_escaped(out, &text);
                for term in rest {
                    write_escaped(out, &term.eval_text(frame)?);
                    self.bounded(out.len())?;
                }
                out.push(b'"');
            }
            _ => self.write_value(&self.eval(frame)?, room, out)?,
        }
        self.bounded(out.len())
    }

    fn write_value(&self, value: &Value<'_>, room: usize, out: &mut Vec<u8>) -> Evaluated<()> {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Number(number) => number.write(&mut Utf8(out)),
            Value::Source(text) => out.extend_from_slice(text.as_bytes()),
            Value::Text(text) => write_string(out, text),
            Value::Time(time) => write_string(out, &time.to_string()),
            Value::Duration(duration) => write_string(out, &duration.to_string()),
            Value::Container(node) => self.write_node(*node, room, out)?,
            Value::List(items) => {
                let room = room.checked_sub(1).ok_or_else(|| self.too_deep())?;
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write_value(item, room, out)?;
                }
                out.push(b']');
            }
            Value::Map(members) => {
                let room = room.checked_sub(1).ok_or_else(|| self.too_deep())?;
                out.push(b'{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(out, key);
                    out.push(b':');
                    self.write_value(member, room, out)?;
                }
                out.push(b'}');
            }
        }
        self.bounded(out.len())
    }

    fn write_node(&self, node: Node<'_>, room: usize, out: &mut Vec<u8>) -> Evaluated<()> {
        if !fits(node, room) {
            return Err(self.too_deep());
        }
        out.extend_from_slice(node.source().as_bytes());
        Ok(())
    }

    fn too_deep(&self) -> Box<Fault> {
        self.fault(format!("nested deeper than {MAX_DEPTH} levels where it is put"))
    }

    fn to_text<'a>(&'a self, frame: &Frame<'_, 'a>) -> Evaluated<Cow<'a, str>> {
        let value = self.eval(frame)?;
        value.into_text().map_err(|other| self.wrong_type("a string, a number or a boolean inside text", &other))
    }

    fn write_in_string(&self, frame: &Frame<'_, '_>, out: &mut Vec<u8>) -> Evaluated<()> {
        write_escaped(out, &self.to_text(frame)?);
        self.bounded(out.len())
    }

    fn bounded(&self, length: usize) -> Evaluated<()> {
        if length <= MAX_OUTPUT { Ok(()) } else { Err(Fault::too_large(self.span)) }
    }
}

/// What is written must be JSON that our own parser reads back: no deeper than it allows. A value of n bytes has at
/// most n / 2 levels, so only a long one is counted.
fn fits(node: Node<'_>, room: usize) -> bool {
    let source = node.source();
    if source.len() / 2 <= room || !matches!(source.as_bytes().first(), Some(b'{' | b'[')) {
        return true;
    }
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in source.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest <= room
}

// === impl Utf8 ===

impl std::fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
