//! `envelope.data`: a JSON value of the file with `${...}` in it, as bytes and gaps in the order they are written.

use envelope::json::{MAX_DEPTH, write_escaped, write_string};
use yaml::{Key, Kind, Node, Problems, Span};

use crate::{
    expr::{self, Expr, Fault, Names, Scope},
    proof::{self, Bools, Text, Type},
    template::{Part, Template},
};

/// The compiled `data`.
#[derive(Debug)]
pub(crate) struct Body {
    steps: Box<[Step]>,
    shape: Box<Shape>,
}

/// What the data is made of, for the proof. Each part with its place; a step is one of the body's, by number.
#[derive(Debug)]
pub(crate) enum Shape {
    Literal {
        at: Span,
        of: Type,
    },
    /// A value of any type.
    Value {
        at: Span,
        step: usize,
    },
    /// Text and values in it.
    Text {
        at: Span,
        parts: Vec<Result<Box<str>, usize>>,
    },
    List {
        at: Span,
        items: Vec<Shape>,
    },
    Map {
        at: Span,
        members: Vec<(Box<str>, Shape)>,
    },
}

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
        let shape = builder.value(node, &mut field.to_owned(), 0);
        builder.flush();
        (problems.len() == before).then(|| Self { steps: builder.steps.into(), shape: Box::new(shape) })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The expression of a step.
    pub(crate) fn expr(&self, step: usize) -> Option<&Expr> {
        match self.steps.get(step)? {
            Step::Value { expr, .. } | Step::InString { expr, .. } => Some(expr),
            Step::Bytes(_) => None,
        }
    }

    /// Whether it is the payload and nothing else, and no part of the file.
    pub(crate) fn is_whole_payload(&self) -> bool {
        self.place().is_none()
    }

    /// Where it stands in the file, if it does.
    pub(crate) fn place(&self) -> Option<Span> {
        let (Shape::Literal { at, .. }
        | Shape::Value { at, .. }
        | Shape::Text { at, .. }
        | Shape::List { at, .. }
        | Shape::Map { at, .. }) = &*self.shape;
        Some(*at).filter(|at| at.end > 0)
    }

    /// All its expressions.
    pub(crate) fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.steps.iter_mut().filter_map(|step| match step {
            Step::Value { expr, .. } | Step::InString { expr, .. } => Some(expr),
            Step::Bytes(_) => None,
        })
    }

    /// The same, to be read.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        (0..self.steps.len()).filter_map(|step| self.expr(step))
    }

    /// The payload itself.
    pub(crate) fn payload(field: &str, names: Names<'_>) -> Option<Self> {
        let expr = expr::compile("payload", names).ok()?;
        let steps = [Step::Value { expr, field: field.into(), room: MAX_DEPTH }].into();
        let shape = Shape::Value { at: Span { start: 0, end: 0 }, step: 0 };
        Some(Self { steps, shape: Box::new(shape) })
    }

    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Bytes(_) => false,
            Step::Value { expr, .. } | Step::InString { expr, .. } => expr.uses().payload,
        })
    }

    /// Appends the JSON text.
    pub(crate) fn write(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<(), BodyFault<'_>> {
        for step in &self.steps {
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
    fn value(&mut self, node: &Node, field: &mut String, depth: usize) -> Shape {
        let at = node.span;
        let of = match &node.kind {
            Kind::Null => {
                self.bytes.extend_from_slice(b"null");
                Type::NULL
            }
            Kind::Bool(value) => {
                self.bytes.extend_from_slice(if *value { b"true" } else { b"false" });
                Type::bools(Bools::only(*value))
            }
            Kind::Integer(_, text) | Kind::Float(_, text) => {
                self.bytes.extend_from_slice(text.as_bytes());
                Type::number(proof::number_literal(text))
            }
            Kind::String(text) => {
                return match Template::compile(&text.value, node, self.names, self.problems) {
                    Some(template) => self.string(template, field, MAX_DEPTH - depth, at),
                    None => Shape::Literal { at, of: Type::TEXT },
                };
            }
            Kind::List(items) => return self.list(items, at, field, depth),
            Kind::Map(entries) => return self.map(entries, at, field, depth),
        };
        Shape::Literal { at, of }
    }

    fn list(&mut self, items: &[Node], at: Span, field: &mut String, depth: usize) -> Shape {
        let mut made = Vec::with_capacity(items.len());
        self.bytes.push(b'[');
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.bytes.push(b',');
            }
            made.push(self.within(item, &format!("[{n}]"), field, depth));
        }
        self.bytes.push(b']');
        Shape::List { at, items: made }
    }

    fn map(&mut self, entries: &[(Key, Node)], at: Span, field: &mut String, depth: usize) -> Shape {
        let mut members = Vec::with_capacity(entries.len());
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
            members.push((key.name.as_str().into(), self.within(value, &format!(".{}", key.name), field, depth)));
        }
        self.bytes.push(b'}');
        Shape::Map { at, members }
    }

    fn within(&mut self, node: &Node, step: &str, field: &mut String, depth: usize) -> Shape {
        let length = field.len();
        field.push_str(step);
        let shape = self.value(node, field, depth + 1);
        field.truncate(length);
        shape
    }

    fn string(&mut self, template: Template, field: &str, room: usize, at: Span) -> Shape {
        match template {
            Template::Literal(text) => {
                write_string(&mut self.bytes, &text);
                Shape::Literal { at, of: Type::text(Text::one(&text)) }
            }
            Template::Whole(expr) => {
                self.flush();
                self.steps.push(Step::Value { expr, field: field.into(), room });
                Shape::Value { at, step: self.steps.len() - 1 }
            }
            Template::Mixed(all) => {
                let mut parts = Vec::with_capacity(all.len());
                self.bytes.push(b'"');
                for part in all {
                    match part {
                        Part::Text(text) => {
                            write_escaped(&mut self.bytes, &text);
                            parts.push(Ok(text));
                        }
                        Part::Value(expr) => {
                            self.flush();
                            self.steps.push(Step::InString { expr, field: field.into() });
                            parts.push(Err(self.steps.len() - 1));
                        }
                    }
                }
                self.bytes.push(b'"');
                Shape::Text { at, parts }
            }
        }
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.steps.push(Step::Bytes(std::mem::take(&mut self.bytes).into()));
        }
    }
}
