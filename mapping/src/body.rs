//! `envelope.data`: a JSON value of the file with `${...}` in it, as bytes and gaps in the order they are written.

use envelope::json::{MAX_DEPTH, write_escaped, write_string};
use yaml::{Kind, Node, Problems};

use crate::{
    expr::{self, Expr, Fault, Names, Scope},
    template::{Part, Template},
};

/// The compiled `data`.
#[derive(Debug)]
pub(crate) struct Body(Box<[Step]>);

#[derive(Debug)]
enum Step {
    /// What is the same in every message.
    Bytes(Box<[u8]>),
    /// A value of any type.
    Value { expr: Expr, field: Box<str>, room: usize },
    /// A value inside a string.
    InString { expr: Expr, field: Box<str> },
}

/// Where and why no data could be made.
#[derive(Debug)]
pub(crate) struct BodyFault<'b> {
    pub(crate) field: &'b str,
    pub(crate) expr: &'b Expr,
    pub(crate) fault: Box<Fault>,
}

struct Builder<'b> {
    names: Names<'b>,
    problems: &'b Problems,
    steps: Vec<Step>,
    bytes: Vec<u8>,
}

// === impl Body ===

impl Body {
    /// Reports what is wrong with any expression in it, at its place.
    /// `field` is what errors call it.
    pub(crate) fn read(node: &Node, field: &str, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let before = problems.len();
        let mut builder = Builder { names, problems, steps: Vec::new(), bytes: Vec::new() };
        builder.value(node, &mut field.to_owned(), 0);
        builder.flush();
        (problems.len() == before).then(|| Self(builder.steps.into()))
    }

    /// The payload itself.
    pub(crate) fn payload(field: &str, names: Names<'_>) -> Option<Self> {
        let expr = expr::compile("payload", names).ok()?;
        Some(Self([Step::Value { expr, field: field.into(), room: MAX_DEPTH }].into()))
    }

    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        self.0.iter().any(|step| match step {
            Step::Bytes(_) => false,
            Step::Value { expr, .. } | Step::InString { expr, .. } => expr.uses().payload,
        })
    }

    /// Appends the JSON text.
    pub(crate) fn write(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<(), BodyFault<'_>> {
        for step in &self.0 {
            match step {
                Step::Bytes(bytes) => out.extend_from_slice(bytes),
                Step::Value { expr, field, room } => {
                    expr.write_json(scope, *room, out).map_err(|fault| BodyFault { field, expr, fault })?;
                }
                Step::InString { expr, field } => {
                    expr.write_in_string(scope, out).map_err(|fault| BodyFault { field, expr, fault })?;
                }
            }
        }
        Ok(())
    }
}

// === impl Builder ===

impl Builder<'_> {
    /// `field` is the path so far; it comes back as it went in.
    fn value(&mut self, node: &Node, field: &mut String, depth: usize) {
        match &node.kind {
            Kind::Null => self.bytes.extend_from_slice(b"null"),
            Kind::Bool(value) => self.bytes.extend_from_slice(if *value { b"true" } else { b"false" }),
            Kind::Integer(_, text) | Kind::Float(_, text) => self.bytes.extend_from_slice(text.as_bytes()),
            Kind::String(text) => {
                if let Some(template) = Template::compile(&text.value, node, self.names, self.problems) {
                    self.string(template, field, MAX_DEPTH - depth);
                }
            }
            Kind::List(items) => {
                self.bytes.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        self.bytes.push(b',');
                    }
                    self.within(item, &format!("[{n}]"), field, depth);
                }
                self.bytes.push(b']');
            }
            Kind::Map(entries) => {
                self.bytes.push(b'{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n > 0 {
                        self.bytes.push(b',');
                    }
                    if key.name.contains("${") {
                        let message = "an expression in a key is not supported yet";
                        self.problems.report(key.span, "not-supported", message);
                    }
                    write_string(&mut self.bytes, &key.name);
                    self.bytes.push(b':');
                    self.within(value, &format!(".{}", key.name), field, depth);
                }
                self.bytes.push(b'}');
            }
        }
    }

    fn within(&mut self, node: &Node, step: &str, field: &mut String, depth: usize) {
        let length = field.len();
        field.push_str(step);
        self.value(node, field, depth + 1);
        field.truncate(length);
    }

    fn string(&mut self, template: Template, field: &str, room: usize) {
        match template {
            Template::Literal(text) => write_string(&mut self.bytes, &text),
            Template::Whole(expr) => {
                self.flush();
                self.steps.push(Step::Value { expr, field: field.into(), room });
            }
            Template::Mixed(parts) => {
                self.bytes.push(b'"');
                for part in parts {
                    match part {
                        Part::Text(text) => write_escaped(&mut self.bytes, &text),
                        Part::Value(expr) => {
                            self.flush();
                            self.steps.push(Step::InString { expr, field: field.into() });
                        }
                    }
                }
                self.bytes.push(b'"');
            }
        }
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.steps.push(Step::Bytes(std::mem::take(&mut self.bytes).into()));
        }
    }
}
