//! Calls in the syntax tree: which function or macro is meant, and whether its arguments can ever fit.

use std::cmp::Ordering;

use cel::common::ast::{CallExpr, EntryExpr, Expr as Syntax, IdedExpr, LiteralValue, MapExpr};
use regex::RegexBuilder;

use super::{
    Literal, Op, Term, check,
    clauses::{Piece, pieces},
    compile::{Compiled, Compiler},
    function::{Function, NAMESPACES, OTHERS, SIGNATURES, Signature},
    list::{Each, Macro},
    zone::{WANTED, Zone},
};

/// A compiled pattern's most bytes.
const MAX_PATTERN: usize = 1 << 20;
/// A pattern's deepest nesting.
const MAX_PATTERN_NESTING: u32 = 64;

// === impl Compiler ===

impl Compiler<'_> {
    pub(super) fn function(&mut self, call: &CallExpr, span: (u32, u32)) -> Compiled {
        let (name, target) = self.named(call);
        let by = Macro::NAMES.iter().find(|(macro_name, _)| target.is_some() && *macro_name == name);
        if let Some((_, by)) = by {
            return self.each(*by, target?, call, span);
        }
        let op = match (name.as_str(), target.is_some()) {
            ("matches", _) => return self.matches(target.into_iter().chain(&call.args).collect(), span),
            ("table", false) => self.lookup(call, span)?,
            ("math.greatest", _) => Op::Extreme(Ordering::Greater, self.several(call, span)?),
            ("math.least", _) => Op::Extreme(Ordering::Less, self.several(call, span)?),
            (name, method) => match Signature::find(name, method) {
                Some(signature) => self.fitting(signature, target, call, span)?,
                None => return self.unknown(name, method, span),
            },
        };
        Some(Term { op, span })
    }

    /// The name with its namespace, and the value a method stands behind.
    fn named<'s>(&self, call: &'s CallExpr) -> (String, Option<&'s IdedExpr>) {
        match call.target.as_deref() {
            Some(IdedExpr { expr: Syntax::Ident(space), .. })
                if NAMESPACES.contains(&space.as_str())
                    && !self.locals.contains(space)
                    && !self.names.own.lets.iter().any(|name| **name == **space) =>
            {
                (format!("{space}.{}", call.func_name), None)
            }
            target => (call.func_name.clone(), target),
        }
    }

    fn fitting(
        &mut self,
        signature: &'static Signature,
        target: Option<&IdedExpr>,
        call: &CallExpr,
        span: (u32, u32),
    ) -> Compiled<Op> {
        let given: Vec<_> = target.into_iter().chain(&call.args).collect();
        if !(signature.least..=signature.takes.len()).contains(&given.len()) {
            let message = format!("expected {}", signature.usage());
            return self.refuse(span, "expression-call", message);
        }
        let terms: Vec<_> = given.into_iter().map(|syntax| self.term(syntax)).collect();
        let terms: Box<[Term]> = terms.into_iter().collect::<Option<_>>()?;
        for (term, types) in terms.iter().zip(signature.takes) {
            if !types.is_empty() && check::wrong([term], types).is_some() {
                let wanted: Vec<_> = types.iter().map(|of| check::with_article(of.name())).collect();
                let found = check::with_article(check::type_of(term).name());
                let message = format!("{} takes {} here, found {found}", signature.name, wanted.join(" or "));
                return self.refuse(term.span, "expression-type", message);
            }
        }
        if signature.function == Function::Format {
            self.format(&terms, span)?;
        }
        if let (Function::Field(_), Some(zone)) = (signature.function, terms.get(1)) {
            self.zone(zone)?;
        }
        Some(Op::Call(signature.function, terms))
    }

    /// A format that is known now is looked at now, and so is how many values it asks for.
    fn format(&mut self, terms: &[Term], span: (u32, u32)) -> Compiled<()> {
        let Some(Term { op: Op::Literal(Literal::Text(text)), span: at }) = terms.first() else { return Some(()) };
        let mut asked = 0;
        for piece in pieces(text) {
            match piece {
                Ok(Piece::Text(_)) => {}
                Ok(Piece::Value(_)) => asked += 1,
                Err(problem) => return self.refuse(*at, "expression-format", problem),
            }
        }
        match terms.get(1).map(|list| &list.op) {
            Some(Op::List(values)) if values.len() < asked => {
                let message = format!("the format asks for {asked} values, the array has {}", values.len());
                self.refuse(span, "expression-format", message)
            }
            _ => Some(()),
        }
    }

    /// A time zone that is known now is looked for now.
    fn zone(&mut self, term: &Term) -> Compiled<()> {
        match &term.op {
            Op::Literal(Literal::Text(text)) if Zone::parse(text).is_none() => {
                self.refuse(term.span, "expression-zone", format!("{text:?} is {WANTED}"))
            }
            _ => Some(()),
        }
    }

    fn several(&mut self, call: &CallExpr, span: (u32, u32)) -> Compiled<Box<[Term]>> {
        if call.args.is_empty() {
            return self.refuse(span, "expression-call", "expected at least one number, or an array of numbers");
        }
        self.terms(&call.args)
    }

    /// The pattern is compiled here, once; it runs in time linear in the text.
    fn matches(&mut self, given: Vec<&IdedExpr>, span: (u32, u32)) -> Compiled {
        let [of, pattern] = given.as_slice() else {
            return self.refuse(span, "expression-call", "expected string.matches(\"pattern\")");
        };
        let (of, pattern) = (self.term(of), self.term(pattern)?);
        let Op::Literal(Literal::Text(text)) = &pattern.op else {
            let message = "the pattern must be known when the file is loaded: a literal";
            return self.refuse(pattern.span, "expression-pattern", message);
        };
        let built = RegexBuilder::new(text).size_limit(MAX_PATTERN).nest_limit(MAX_PATTERN_NESTING).build();
        match built {
            Ok(regex) => {
                let pattern = super::Pattern { places: schema::places(text), regex };
                Some(Term { op: Op::Matches(Box::new(of?), Box::new(pattern)), span })
            }
            Err(regex::Error::CompiledTooBig(limit)) => {
                let message = format!("the compiled pattern has more than {limit} bytes");
                self.refuse(pattern.span, "expression-pattern", message)
            }
            Err(error) => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.refuse(pattern.span, "expression-pattern", format!("no pattern of RE2's syntax: {last}"))
            }
        }
    }

    /// `list.map(x, body)`
    fn each(&mut self, by: Macro, list: &IdedExpr, call: &CallExpr, span: (u32, u32)) -> Compiled {
        let [IdedExpr { expr: Syntax::Ident(variable), .. }, body] = call.args.as_slice() else {
            let message = format!("expected list.{0}(x, ...), where x is a name for the element", call.func_name);
            return self.refuse(span, "expression-call", message);
        };
        let list = self.term(list);
        self.locals.push(variable.clone());
        let body = self.term(body);
        self.locals.pop();
        let (list, body) = (list?, body?);
        let cost = body.count();
        Some(Term { op: Op::Each(Box::new(Each { by, list, body, cost })), span })
    }

    /// `{"key": value}`
    pub(super) fn map(&mut self, map: &MapExpr, span: (u32, u32)) -> Compiled {
        let mut members: Vec<(Box<str>, Term)> = Vec::new();
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return self.refuse(span, "expression-syntax", "not an expression");
            };
            let place = self.place(&entry.key);
            let Syntax::Literal(LiteralValue::String(key)) = &entry.key.expr else {
                return self.refuse(place, "expression-key", "the key of a member is a string literal");
            };
            if members.iter().any(|(name, _)| **name == *key.inner()) {
                return self.refuse(place, "expression-key", format!("the key {:?} is there twice", key.inner()));
            }
            let value = self.term(&entry.value)?;
            members.push((key.inner().into(), value));
        }
        Some(Term { op: Op::Map(members.into()), span })
    }

    fn unknown<T>(&mut self, name: &str, method: bool, span: (u32, u32)) -> Compiled<T> {
        if name == "has" {
            return self.refuse(span, "expression-call", "has takes a path, as in has(payload.unit)");
        }
        let shown: String = name.chars().take(64).collect();
        let (message, help) = match (Signature::find(name, !method), method) {
            (Some(signature), _) => {
                (format!("{shown} is written another way"), format!("expected {}", signature.usage()))
            }
            (None, _) => {
                let known: Vec<_> = SIGNATURES.iter().map(|of| of.name).chain(OTHERS.iter().copied()).collect();
                let help = match yaml::nearest(name, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("there are {}", known.join(", ")),
                };
                (format!("unknown function {shown}"), help)
            }
        };
        self.refuse_with_help(span, "unknown-function", message, help)
    }
}
