//! What is proven of each field of the data, and what is an error because it is not.
//!
//! The rest of an envelope is in `head`, what is sent or answered in `sent`.

use std::fmt;

use envelope::json::Node;
use yaml::Span;

use crate::{
    body::{Body, Shape},
    expr::Env,
};

use super::{
    Proof,
    fits::{Check, Finding},
    json_schema::Document,
    text::Text,
    types::{Kinds, List, Object, Type},
};

/// What is known at load of a field: of the data, of the rest of the envelope, of what is sent or answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProof {
    /// As the file has it: `envelope.topic`, `envelope.data.celsius`.
    pub field: String,
    /// What is known.
    pub verdict: Verdict,
}

/// What is known at load of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// For every message that `from.schema` lets in it has a value, and that conforms to the envelope's schema or fits
    /// its place. Only a number, time or size out of range refuses a message.
    Proven,
    /// For every message it has a value; there is no schema that says which.
    Given,
    /// A message is refused if it does not turn out well: why it may not.
    AtRunTime(Vec<String>),
}

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::Given => f.write_str("always there, held to no schema"),
            Self::AtRunTime(why) => write!(f, "checked at run time: {}", why.join("; ")),
        }
    }
}

/// A field, while its proof is made.
struct Row {
    field: String,
    /// As findings name it: `.lines[].sku`.
    path: String,
    at: Span,
    /// The schema requires it.
    required: bool,
    /// It holds others.
    container: bool,
    doubts: Vec<String>,
}

/// The most reasons that an error names.
const MAX_SHOWN: usize = 3;
/// The most doubts that are kept of a field.
const MAX_DOUBTS: usize = 64;
/// How many references lead to a part.
const MAX_REFERENCES: usize = 16;

struct Rows<'r, 's> {
    proof: &'r Proof<'r>,
    document: Option<Document<'s>>,
    data: Option<&'r Body>,
    env: &'r Env,
    all: Vec<Row>,
}

/// What data is made of.
pub(super) struct Made<'m, 's> {
    /// As the file has it.
    pub(super) field: &'m str,
    /// `None`: a payload goes through.
    pub(super) body: Option<&'m Body>,
    pub(super) through: &'m Type,
    /// The schema that it must conform to.
    pub(super) root: Option<Node<'s>>,
    /// It is known to conform.
    pub(super) conforms: bool,
}

/// Every field of the data, or the data itself where the payload goes through; and the type of the whole.
pub(super) fn fields(proof: &Proof<'_>, made: Made<'_, '_>, env: &Env) -> (Vec<FieldProof>, Type) {
    let Made { field, body: data, through, root, conforms } = made;
    let document = root.map(Document::of);
    let mut rows = Rows { proof, document, data, env, all: Vec::new() };
    let before = proof.problems.len();
    let of = match data {
        Some(body) => rows.shape(body.shape(), &root.into_iter().collect::<Vec<_>>(), true, field, ""),
        None => {
            rows.row(field, "", proof.given.envelope, true, false);
            through.clone()
        }
    };
    if proof.problems.len() > before {
        return (Vec::new(), Type::NEVER);
    }
    if let Some(document) = document.filter(|_| !conforms) {
        for finding in Check::run(&of, document) {
            rows.found(finding);
        }
        rows.unproven();
    }
    let known = if root.is_some() { Verdict::Proven } else { Verdict::Given };
    let shown = rows.all.into_iter().filter(|row| !row.container || !row.doubts.is_empty());
    let field = |row: Row| FieldProof {
        field: row.field,
        verdict: if row.doubts.is_empty() { known.clone() } else { Verdict::AtRunTime(row.doubts) },
    };
    (shown.map(field).collect(), of)
}

// === impl Rows ===

impl<'s> Rows<'_, 's> {
    fn row(&mut self, field: &str, path: &str, at: Span, required: bool, container: bool) -> &mut Row {
        let row = Row { field: field.to_owned(), path: path.to_owned(), at, required, container, doubts: Vec::new() };
        self.all.push(row);
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    /// The type of a part of the data, and a row for it and each part of it. `schemas`: what it must conform to.
    fn shape(&mut self, shape: &Shape, schemas: &[Node<'s>], required: bool, field: &str, path: &str) -> Type {
        match shape {
            Shape::Literal { at, of } => {
                self.row(field, path, *at, required, false);
                of.clone()
            }
            Shape::Value { at, step } => {
                let Some(expr) = self.data.and_then(|body| body.expr(*step)) else { return Type::ANY };
                let (inferred, errors) = expr.infer(self.env, None);
                self.proof.report(expr, errors);
                let row = self.row(field, path, *at, required, false);
                row.doubts.extend(inferred.doubts.into_iter().map(|doubt| doubt.why));
                inferred.of
            }
            Shape::Text { at, parts } => {
                let mut of = Text::one("");
                let mut doubts = Vec::new();
                for part in parts {
                    let part = match part {
                        Ok(literal) => Text::one(literal),
                        Err(step) => {
                            let Some(expr) = self.data.and_then(|body| body.expr(*step)) else { continue };
                            let (inferred, errors) = expr.infer(self.env, Some(Kinds::WRITABLE));
                            self.proof.report(expr, errors);
                            doubts.extend(inferred.doubts.into_iter().map(|doubt| doubt.why));
                            written(&inferred.of)
                        }
                    };
                    of = of.then(&part);
                }
                self.row(field, path, *at, required, false).doubts = doubts;
                Type::text(of)
            }
            Shape::List { at, items } => {
                self.row(field, path, *at, required, true);
                let mut of = Type::NEVER;
                for (number, item) in items.iter().enumerate() {
                    let (field, path) = (format!("{field}[{number}]"), format!("{path}[]"));
                    let parts = self.element(schemas, number);
                    of = of.join(&self.shape(item, &parts, required, &field, &path));
                }
                Type::list(List { items: Some(of.into()), least: items.len(), most: items.len() })
            }
            Shape::Map { at, members } => {
                self.row(field, path, *at, required, true);
                let mut made = Vec::new();
                for (name, member) in members {
                    let (parts, needed) = self.member(schemas, name);
                    let (field, path) = (format!("{field}.{name}"), format!("{path}.{name}"));
                    made.push((name.clone(), self.shape(member, &parts, required && needed, &field, &path)));
                }
                Type::object(Object::closed(made))
            }
        }
    }

    /// The schemas of a member, and whether one of its object's requires it.
    fn member(&self, schemas: &[Node<'s>], name: &str) -> (Vec<Node<'s>>, bool) {
        let all = self.all_of(schemas);
        let requires = |schema: &Node<'s>| {
            let mut names = schema.get("required").and_then(|of| of.as_array()).into_iter().flatten();
            names.any(|required| required.as_str() == Some(name))
        };
        let parts = all.iter().filter_map(|schema| schema.get("properties")?.get(name)).collect();
        (parts, all.iter().any(requires))
    }

    /// The schemas of an element, by its number from 0.
    fn element(&self, schemas: &[Node<'s>], number: usize) -> Vec<Node<'s>> {
        let of = |schema: &Node<'s>| match schema.get("prefixItems").and_then(|first| first.as_array()) {
            Some(mut first) => first.nth(number).or_else(|| schema.get("items")),
            None => schema.get("items"),
        };
        self.all_of(schemas).iter().filter_map(of).collect()
    }

    /// The schemas and all that `$ref` and `allOf` add to them.
    fn all_of(&self, schemas: &[Node<'s>]) -> Vec<Node<'s>> {
        let mut all = schemas.to_vec();
        let mut next = 0;
        while let Some(schema) = all.get(next).copied().filter(|_| next < MAX_REFERENCES) {
            let reference = schema.get("$ref").and_then(|to| self.document?.resolve(to.as_str()?));
            all.extend(reference);
            all.extend(schema.get("allOf").and_then(|of| of.as_array()).into_iter().flatten());
            next += 1;
        }
        all
    }

    /// Puts a finding to the field that it is about.
    fn found(&mut self, finding: Finding) {
        let within = |row: &Row| match finding.path.strip_prefix(row.path.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        let Some(row) = self.all.iter_mut().filter(|row| within(row)).max_by_key(|row| row.path.len()) else {
            return;
        };
        let rest = &finding.path[row.path.len()..];
        let why =
            if rest.is_empty() { finding.why } else { format!("{}: {}", rest.trim_start_matches('.'), finding.why) };
        if finding.never {
            let code = if why.ends_with("is missing") { "missing-member" } else { "never-fits" };
            self.proof.problems.report(row.at, code, format!("{}: {why}", row.field));
        } else if row.doubts.len() < MAX_DOUBTS && !row.doubts.contains(&why) {
            row.doubts.push(why);
        }
    }

    /// What the schema requires is proven, unless the file says that it need not be.
    fn unproven(&self) {
        if self.proof.given.unproven {
            return;
        }
        for row in self.all.iter().filter(|row| row.required && !row.doubts.is_empty()) {
            let mut why = row.doubts.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join("; ");
            if row.doubts.len() > MAX_SHOWN {
                why = format!("{why}; and {} more", row.doubts.len() - MAX_SHOWN);
            }
            let message = format!("{} is required and not proven: {why}", row.field);
            let help = "say it in \"from.schema\", or let such messages be refused: \"unproven: dead-letter\"";
            self.proof.problems.report_with_help(row.at, "unproven", message, help);
        }
    }
}

/// What a value becomes within a text.
pub(super) fn written(of: &Type) -> Text {
    if of.number.is_some() || of.time || of.duration {
        return Text::ANY;
    }
    let words = [(of.bools.yes, "true"), (of.bools.no, "false")];
    let words = words.into_iter().filter(|(may, _)| *may).map(|(_, word)| Text::one(word));
    of.text.iter().cloned().chain(words).reduce(|a, b| a.join(&b)).unwrap_or(Text::ANY)
}
