//! Strings of a mapping file with `${...}` in them. `$${` stands for a literal `${`.

use yaml::{Node, Problems};

use crate::expr::{self, Expr, Fault, MAX_OUTPUT, Names, Scope, Uses};

/// A string of the file, compiled.
#[derive(Debug)]
pub(crate) enum Template {
    /// Without `${...}`.
    Literal(Box<str>),
    /// One `${...}` and nothing else: it keeps its type.
    Whole(Expr),
    /// Text with values in it.
    Mixed(Box<[Part]>),
}

/// A piece of text.
#[derive(Debug)]
pub(crate) enum Part {
    /// As it is.
    Text(Box<str>),
    /// A value to be put here.
    Value(Expr),
}

/// A fault and the expression it is in.
pub(crate) type InExpr<'t> = (&'t Expr, Box<Fault>);

// === impl Template ===

impl Template {
    /// Stands for a value in [`Self::shape`]: no file has it.
    pub(crate) const ANY: char = '\u{1}';

    /// Reports what is wrong with any expression in it, at its place.
    pub(crate) fn read(node: &Node, names: Names<'_>, problems: &Problems) -> Option<Self> {
        Self::compile(node.string(problems)?, node, names, problems)
    }

    /// The same for a string that was read already.
    pub(crate) fn compile(text: &str, node: &Node, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let before = problems.len();
        let (mut parts, mut literal, mut at) = (Vec::new(), String::new(), 0);
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            literal.push_str(&text[at..dollar]);
            if text[dollar..].starts_with("$${") {
                literal.push_str("${");
                at = dollar + 3;
                continue;
            }
            if !text[dollar..].starts_with("${") {
                literal.push('$');
                at = dollar + 1;
                continue;
            }
            let start = dollar + 2;
            let Some(length) = closing_brace(&text[start..]) else {
                problems.report(node.span_within(dollar..text.len()), "expression-syntax", "\"${\" without its \"}\"");
                return None;
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            match expr::compile(&text[start..start + length], names) {
                Ok(expr) => parts.push(Part::Value(expr.standing(node.span_within(start..start + length)))),
                Err(found) => report(found, start, node, problems),
            }
            at = start + length + 1;
        }
        literal.push_str(&text[at..]);
        if problems.len() > before {
            return None;
        }
        Some(Self::of(parts, literal))
    }

    fn of(mut parts: Vec<Part>, literal: String) -> Self {
        if parts.is_empty() {
            return Self::Literal(literal.into());
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        match <[Part; 1]>::try_from(parts) {
            Ok([Part::Value(expr)]) => match expr.literal_text() {
                Some(text) => Self::Literal(text.into()),
                None => Self::Whole(expr),
            },
            Ok([Part::Text(text)]) => Self::Literal(text),
            Err(parts) => Self::Mixed(parts.into()),
        }
    }

    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        self.any(|expr| expr.uses().payload)
    }

    /// Whether it needs neither the payload nor any name that the file makes of it.
    pub(crate) fn needs_no_payload(&self) -> bool {
        !self.any(|expr| expr.uses() != Uses::default())
    }

    fn any(&self, is: impl Fn(&Expr) -> bool) -> bool {
        self.exprs().any(is)
    }

    /// All its expressions.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let (whole, parts) = match self {
            Self::Literal(_) => (None, &[][..]),
            Self::Whole(expr) => (Some(expr), &[][..]),
            Self::Mixed(parts) => (None, &**parts),
        };
        whole.into_iter().chain(parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(expr) => Some(expr),
        }))
    }

    /// The same, for the proof.
    pub(crate) fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Whole(expr) => vec![expr],
            Self::Mixed(parts) => parts
                .iter_mut()
                .filter_map(|part| match part {
                    Part::Text(_) => None,
                    Part::Value(expr) => Some(expr),
                })
                .collect(),
        }
    }

    /// The text, if it is the same for every message.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Whole(_) | Self::Mixed(_) => None,
        }
    }

    /// The text with [`Self::ANY`] for each value that is put into it.
    pub(crate) fn shape(&self) -> String {
        match self {
            Self::Literal(text) => text.to_string(),
            Self::Whole(_) => Self::ANY.to_string(),
            Self::Mixed(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.to_string(),
                    Part::Value(_) => Self::ANY.to_string(),
                })
                .collect(),
        }
    }

    /// Appends the text. Each value that is put into it passes `check` first; what it says is wrong with it is the
    /// fault's problem.
    pub(crate) fn write<'t>(
        &'t self,
        scope: &Scope<'_>,
        out: &mut String,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), InExpr<'t>> {
        let value = |expr: &'t Expr, out: &mut String| {
            let text = expr.to_text(scope).map_err(|fault| (expr, fault))?;
            check(&text).map_err(|problem| (expr, expr.fault(problem)))?;
            out.push_str(&text);
            if out.len() <= MAX_OUTPUT { Ok(()) } else { Err((expr, expr.too_large())) }
        };
        match self {
            Self::Literal(text) => out.push_str(text),
            Self::Whole(expr) => value(expr, out)?,
            Self::Mixed(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Value(expr) => value(expr, out)?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Each problem at its place in the string, of which the expression begins at byte `start`.
pub(crate) fn report(found: Vec<expr::Problem>, start: usize, node: &Node, problems: &Problems) {
    for problem in found {
        let at = node.span_within(start + problem.at.start..start + problem.at.end);
        match problem.help {
            Some(help) => problems.report_with_help(at, problem.code, problem.message, help),
            None => problems.report(at, problem.code, problem.message),
        }
    }
}

/// Bytes before the `}` that ends an expression: braces of maps and whatever stands in strings do not.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut open, mut quote, mut escaped) = (0_usize, None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(end), _) if byte == end => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => open += 1,
            (None, b'}') if open == 0 => return Some(at),
            (None, b'}') => open -= 1,
            (None, _) => {}
        }
    }
    None
}
