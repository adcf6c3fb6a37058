//! Text templates, for bodies that no format describes: `template` of what a mapping sends.
//!
//! In the syntax of Jinja, by `minijinja`, and closed in: a template includes, imports and loads nothing, calls nothing but
//! the filters that are listed here, and each of its steps and bytes costs fuel. What it puts in is escaped as the
//! format wants it. It only lays out: what is to be calculated stands under `let`.

mod calls;
mod escape;
#[cfg(test)]
mod tests;

use std::{io, sync::LazyLock};

use envelope::{RejectKind, Rejection};
use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, filters, syntax::SyntaxConfig, tests as checks,
};
use yaml::{Node, Problems};

use crate::{
    codec::Codec,
    expr::{self, Expr, MAX_OUTPUT, Names, PayloadKind, Scope},
    plan::refusal,
};

/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 65_536;
/// What one message may cost: an instruction or 64 bytes are 1.
const FUEL: u64 = 1_000_000;
/// The deepest nesting of loops and conditions.
const MAX_NESTING: usize = 64;
const NAME: &str = "template";

/// A compiled template.
#[derive(Debug)]
pub(crate) struct TextTemplate {
    environment: Environment<'static>,
    variables: Box<[Variable]>,
    /// What it reads of them by a plain path, for the proof.
    paths: Box<[Expr]>,
}

/// A name that the template uses, and what it stands for.
#[derive(Debug)]
enum Variable {
    /// `payload`, `now` or a name under `let`.
    Value(Box<str>, Expr),
    /// What the message is about: `envelope`, `receipt`, `rejection`.
    About(&'static str),
}

/// What is written, up to [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

// === impl TextTemplate ===

impl TextTemplate {
    /// Reports what is wrong with it: its syntax, names that are not in scope, filters that are not there.
    pub(crate) fn read(node: &Node, codec: Codec, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let text = node.string(problems)?;
        if text.len() > MAX_TEMPLATE {
            let message = format!("a template has at most {MAX_TEMPLATE} bytes, this has {}", text.len());
            problems.report(node.span, "template", message);
            return None;
        }
        if matches!(codec, Codec::Cbor | Codec::MsgPack | Codec::Bytes) {
            let message = format!("a template lays out text, and {} is none: say \"body\"", codec.name());
            problems.report(node.span, "contradiction", message);
            return None;
        }
        let mut environment = BASE.clone();
        environment.set_formatter(move |out, _, value| escape::write(out, value, codec));
        if let Err(error) = environment.add_template_owned(NAME, text.to_owned()) {
            let at = error.range().map_or(node.span, |range| node.span_within(range));
            problems.report(at, "template", said(&error));
            return None;
        }
        let before = problems.len();
        for (range, problem) in calls::unknown(text) {
            let help = format!("there are {}", calls::known());
            problems.report_with_help(node.span_within(range), "template", problem, help);
        }
        let variables = variables(&environment, node, names, problems)?;
        let paths = paths(&environment, node, names);
        (problems.len() == before).then_some(Self { environment, variables, paths })
    }

    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        self.variables.iter().any(|variable| match variable {
            Variable::Value(_, expr) => expr.uses().payload,
            Variable::About(_) => false,
        })
    }

    /// What it reads: names and plain paths. What a loop reads of its items is not among them.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &Expr> {
        let values = self.variables.iter().filter_map(|variable| match variable {
            Variable::Value(_, expr) => Some(expr),
            Variable::About(_) => None,
        });
        values.chain(&self.paths)
    }

    /// The text of one message.
    pub(crate) fn lay(&self, scope: &Scope<'_>) -> Result<String, Rejection> {
        let mut context = std::collections::BTreeMap::new();
        for variable in &self.variables {
            let (name, value) = match variable {
                Variable::Value(name, expr) => {
                    (&**name, expr.to_laid(scope).map_err(|fault| refusal(NAME, expr, *fault))?)
                }
                Variable::About(name) => (*name, expr::about_to_laid(scope)),
            };
            context.insert(name, value);
        }
        let mut out = Bounded(Vec::with_capacity(256));
        let laid = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(Value::from(context), &mut out).map(|_| ()));
        if let Err(error) = laid {
            let too_large = matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure);
            let kind = if too_large { RejectKind::TooLarge } else { RejectKind::Malformed };
            let line = error.line().map(|line| format!(" line {line}")).unwrap_or_default();
            return Err(Rejection::new(kind, "mapping", format!("{NAME}:{line}: {}", said(&error))));
        }
        String::from_utf8(out.0).map_err(|_| Rejection::new(RejectKind::Malformed, "mapping", "template: not UTF-8"))
    }
}

/// Nothing but what a template may use.
static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // ours escapes whatever a template says of it
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("format".into()));
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_NESTING);
    // a tag on a line of its own leaves no line
    if let Ok(syntax) =
        SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true).build()
    {
        environment.set_syntax(syntax);
    }
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("default", filters::default);
    environment.add_filter("length", filters::length);
    environment.add_filter("join", filters::join);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("round", filters::round);
    environment.add_test("defined", checks::is_defined);
    environment.add_test("undefined", checks::is_undefined);
    environment.add_test("none", checks::is_none);
    environment
});

/// The names that the template uses, each with what it stands for here.
fn variables(
    environment: &Environment<'static>,
    node: &Node,
    names: Names<'_>,
    problems: &Problems,
) -> Option<Box<[Variable]>> {
    let template = environment.get_template(NAME).ok()?;
    let (about, attributes) = names.subject.names();
    let attributes: Vec<_> = attributes.collect();
    let mut known: Vec<&str> = vec!["now"];
    known.extend((names.payload != PayloadKind::Nothing).then_some("payload"));
    known.extend((!about.is_empty()).then_some(about));
    known.extend(names.own.lets.iter().map(|name| &**name));
    let mut used: Vec<_> = template.undeclared_variables(false).into_iter().collect();
    used.sort();
    let before = problems.len();
    let mut found = Vec::new();
    for name in used {
        if !known.contains(&name.as_str()) {
            unknown(node, &name, &known, problems);
        } else if name == about {
            found.push(Variable::About(about));
        } else {
            match expr::compile(&name, names) {
                Ok(expr) => found.push(Variable::Value(name.into(), expr)),
                Err(wrong) => wrong.into_iter().for_each(|wrong| {
                    problems.report(node.span, wrong.code, format!("in the template: {}", wrong.message));
                }),
            }
        }
    }
    let mut nested: Vec<_> = template.undeclared_variables(true).into_iter().collect();
    nested.sort();
    for path in &nested {
        let Some((root, rest)) = path.split_once('.') else { continue };
        let attribute = rest.split('.').next().unwrap_or(rest);
        if root == about && !attributes.contains(&attribute) {
            unknown(node, path, &attributes, problems);
        }
    }
    (problems.len() == before).then(|| found.into())
}

/// The paths into `payload`, `envelope` and the like, as expressions at their places. One that is none of CEL's is no more
/// than not proven.
fn paths(environment: &Environment<'static>, node: &Node, names: Names<'_>) -> Box<[Expr]> {
    let Ok(template) = environment.get_template(NAME) else { return Box::default() };
    let mut all: Vec<_> = template.undeclared_variables(true).into_iter().filter(|path| path.contains('.')).collect();
    all.sort();
    let compiled = all.iter().filter_map(|path| {
        let at = node.as_str().and_then(|text| text.find(path.as_str()));
        let at = at.map_or(node.span, |start| node.span_within(start..start + path.len()));
        expr::compile(path, names).ok().map(|expr| expr.standing(at))
    });
    compiled.collect()
}

/// At its first place in the template, if it stands there as it is.
fn unknown(node: &Node, name: &str, known: &[&str], problems: &Problems) {
    let place = node.as_str().and_then(|text| text.find(name));
    let at = place.map_or(node.span, |start| node.span_within(start..start + name.len()));
    let last = name.rsplit('.').next().unwrap_or(name);
    let help = match yaml::nearest(last, known) {
        Some(near) => format!("did you mean {near}? there are {}", known.join(", ")),
        None => format!("there are {}", known.join(", ")),
    };
    let shown: String = name.chars().take(64).collect();
    problems.report_with_help(at, "unknown-name", format!("unknown name {shown:?} in the template"), help);
}

/// Without the name that the engine gives to the template.
fn said(error: &minijinja::Error) -> String {
    match error.detail() {
        _ if error.kind() == ErrorKind::OutOfFuel => format!("takes more than {FUEL} steps"),
        _ if error.kind() == ErrorKind::WriteFailure => format!("makes more than {MAX_OUTPUT} bytes"),
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

// === impl Bounded ===

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("makes more than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
