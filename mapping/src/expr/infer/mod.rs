//! What an expression may give, before a message is there: its type, and every reason why it may have no value.
//!
//! Types come from the input schema; `assume` narrows them by what a condition says. A value past the range of a number,
//! a time or a message's size refuses the message and is no doubt here: nothing but the message tells.

mod assume;
mod calls;
mod format;
mod math;
mod operations;
mod walk;
mod whole;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::proof::{Bools, Kinds, List, Number, Object, Text, Type};

use super::{Expr, Literal, Op, Own, Problem, Term, check::with_article, list::Macro};

/// What the names of an expression may be.
#[derive(Debug, Clone)]
pub(crate) struct Env {
    pub(crate) payload: Type,
    /// Within `each`.
    pub(crate) item: Option<Type>,
    /// The names under `let`, by number.
    pub(crate) lets: Vec<Inferred>,
    /// The variables of the macros around, the innermost last.
    locals: Vec<Type>,
}

/// What is known of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inferred {
    /// Every value that it may give. Nothing: it has none for any message.
    pub(crate) of: Type,
    /// Why it may have no value.
    pub(crate) doubts: Vec<Doubt>,
}

/// A reason why a part of an expression may have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// `payload.note: member "note" may be missing`
    pub(crate) why: String,
}

/// Infers the expressions of one file, and collects what is wrong with one.
#[derive(Debug)]
pub(crate) struct Inference<'t> {
    text: &'t str,
    /// What is false for every message may be what the expression is there to find out.
    guards: bool,
    pub(crate) errors: Vec<Problem>,
}

/// The most doubts that are kept of one expression.
const MAX_DOUBTS: usize = 16;
/// What has an order.
const ORDERED: Kinds = Kinds::NUMBER.and(Kinds::TEXT).and(Kinds::TIME).and(Kinds::DURATION);
/// The greatest count of elements or characters, as a number: a payload is far smaller.
const MAX_COUNT: f64 = 281_474_976_710_656.0;

// === impl Env ===

impl Env {
    pub(crate) const fn new(payload: Type) -> Self {
        Self { payload, item: None, lets: Vec::new(), locals: Vec::new() }
    }

    fn within(&self, local: Type) -> Self {
        let mut env = self.clone();
        env.locals.push(local);
        env
    }
}

// === impl Inferred ===

impl Inferred {
    pub(crate) const fn sure(of: Type) -> Self {
        Self { of, doubts: Vec::new() }
    }

    /// For what nothing is known of.
    pub(crate) const ANYTHING: Self = Self::sure(Type::ANY);

    fn never() -> Self {
        Self::sure(Type::NEVER)
    }

    fn with(mut self, doubts: impl IntoIterator<Item = Doubt>) -> Self {
        for doubt in doubts {
            if self.doubts.len() < MAX_DOUBTS && !self.doubts.contains(&doubt) {
                self.doubts.push(doubt);
            }
        }
        self
    }

    /// Adds a reason against the whole of an expression.
    pub(crate) fn doubt(&mut self, expr: &Expr, why: &str) {
        self.doubts.push(Doubt { why: format!("{}: {why}", expr.text()) });
    }

    fn map(self, with: impl FnOnce(Type) -> Type) -> Self {
        Self { of: with(self.of), doubts: self.doubts }
    }
}

// === impl Expr ===

impl Expr {
    /// Infers it, and says where a place that takes only some kinds may get another.
    pub(crate) fn infer(&self, env: &Env, wanted: Option<Kinds>) -> (Inferred, Vec<Problem>) {
        let mut inference = Inference { text: &self.text, guards: false, errors: Vec::new() };
        let inferred = inference.term(&self.root, env);
        let inferred = match wanted {
            Some(wanted) => inference.expect(&self.root, inferred, wanted),
            None => inferred,
        };
        (inferred, inference.errors)
    }

    /// The same for a name that decides whether a message is taken: what is never there may be asked for.
    pub(crate) fn infer_guard(&self, env: &Env) -> (Inferred, Vec<Problem>) {
        let mut inference = Inference { text: &self.text, guards: true, errors: Vec::new() };
        let inferred = inference.term(&self.root, env);
        (inferred, inference.errors)
    }

    /// What is known where it is true; else why that is never so.
    pub(crate) fn assumed(&self, env: &Env) -> Result<Env, Vec<Problem>> {
        let mut inference = Inference { text: &self.text, guards: true, errors: Vec::new() };
        let inferred = inference.term(&self.root, env);
        let narrowed = inference.assume(&self.root, true, env);
        match narrowed {
            Some(env) if inferred.of.bools.yes => Ok(env),
            _ => Err(inference.errors),
        }
    }

    /// Makes whole numbers of the payload whole in arithmetic, where its schema says that they are.
    pub(crate) fn mark_whole(&mut self, env: &Env) {
        let mut inference = Inference { text: &self.text, guards: true, errors: Vec::new() };
        inference.mark(&mut self.root, env);
    }
}

// === impl Inference ===

impl Inference<'_> {
    fn term(&mut self, term: &Term, env: &Env) -> Inferred {
        match &term.op {
            Op::Literal(literal) => Inferred::sure(literal.of()),
            Op::Payload(path) => self.walk(Inferred::sure(env.payload.clone()), path, term),
            Op::PayloadText | Op::PrincipalId | Op::PrincipalDomain => Inferred::sure(Type::TEXT),
            // a segment that is captured is not empty
            Op::Capture(_) => Inferred::sure(Type::text(Text::SOME)),
            Op::Header(name) => {
                Inferred::sure(Type::TEXT).with([self.doubt(term, format!("header {name:?} may be missing"))])
            }
            Op::Now => Inferred::sure(Type::TIME),
            Op::About(attribute) => self.about(*attribute, term),
            Op::HasAbout(_) => Inferred::sure(Type::BOOL),
            Op::Own(own) => self.own(own, term, env),
            Op::HasPayload(path) => self.has(Inferred::sure(env.payload.clone()), path, term),
            Op::HasHeader(_) => Inferred::sure(Type::BOOL),
            Op::HasOwn(Own::Index) => Inferred::sure(Type::bools(Bools::only(true))),
            Op::HasOwn(Own::Item(path)) => self.has(item(env), path, term),
            Op::HasOwn(Own::Let(number, path)) => self.has(bound(env, *number), path, term),
            Op::HasMember(of, path) => {
                let of = self.term(of, env);
                self.has(of, path, term)
            }
            Op::Member(of, path) => {
                let of = self.term(of, env);
                self.walk(of, path, term)
            }
            Op::Local(outward) => Inferred::sure(local(env, *outward)),
            Op::Index(sides) => self.index(sides, term, env),
            Op::Not(of) => {
                let inferred = self.term(of, env);
                let flip = |of: Type| Type::bools(Bools { yes: of.bools.no, no: of.bools.yes });
                self.expect(of, inferred, Kinds::BOOL).map(flip)
            }
            Op::And(sides) => self.either(sides, false, env),
            Op::Or(sides) => self.either(sides, true, env),
            Op::Conditional(parts) => self.conditional(parts, env),
            Op::Negate(of) => {
                let inferred = self.term(of, env);
                self.expect(of, inferred, Kinds::NUMBER.and(Kinds::DURATION))
                    .map(|of| Type { number: of.number.as_ref().map(Number::negate), ..of.of_kinds(Kinds::DURATION) })
            }
            Op::Whole(of) => {
                self.term(of, env).map(|of| Type { number: of.number.as_ref().map(Number::as_whole), ..of })
            }
            Op::Sum(terms) => self.sum(terms, term, env),
            Op::Arithmetic(by, sides) => self.arithmetic(*by, sides, term, env),
            Op::Equal { sides, negated } => self.equal(sides, *negated, term, env),
            Op::Order(_, sides) => self.order(sides, term, env),
            Op::InList(item, list) => self.in_list(item, list, term, env),
            Op::InValue(sides) => self.in_value(sides, env),
            Op::Size(of) => {
                let inferred = self.term(of, env);
                let wanted = Kinds::TEXT.and(Kinds::LIST).and(Kinds::OBJECT);
                self.expect(of, inferred, wanted).map(|of| size(&of))
            }
            Op::Since(sides) => self.since(sides, term, env),
            Op::Call(function, terms) => self.call(*function, terms, term, env),
            Op::Table(lookup) => self.lookup(lookup, term, env),
            Op::Matches(of, _) => {
                let inferred = self.term(of, env);
                self.expect(of, inferred, Kinds::TEXT).map(|_| Type::BOOL)
            }
            Op::Extreme(_, terms) => self.extreme(terms, env),
            Op::List(terms) => {
                let all: Vec<_> = terms.iter().map(|term| self.term(term, env)).collect();
                let of = all.iter().fold(Type::NEVER, |of, item| of.join(&item.of));
                let list = List { items: Some(Arc::new(of)), least: terms.len(), most: terms.len() };
                Inferred::sure(Type::list(list)).with(all.into_iter().flat_map(|item| item.doubts))
            }
            Op::Map(members) => {
                let all: Vec<_> = members.iter().map(|(name, term)| (name.clone(), self.term(term, env))).collect();
                let fields = all.iter().map(|(name, of)| (name.clone(), of.of.clone()));
                let object = Type::object(Object::closed(fields));
                Inferred::sure(object).with(all.into_iter().flat_map(|(_, of)| of.doubts))
            }
            Op::Each(each) => self.each(each.by, &each.list, &each.body, env),
        }
    }

    /// A macro: the body reads the element, of an object its key.
    fn each(&mut self, by: Macro, list: &Term, body: &Term, env: &Env) -> Inferred {
        let over = self.term(list, env);
        let wanted = if by == Macro::SortBy { Kinds::LIST } else { Kinds::LIST.and(Kinds::OBJECT) };
        let over = self.expect(list, over, wanted);
        let mut element = over.of.list.as_ref().map_or(Type::NEVER, List::items);
        if over.of.object.is_some() {
            element = element.join(&Type::TEXT);
        }
        let (least, most) = match (&over.of.list, &over.of.object) {
            (Some(list), None) => (list.least, list.most),
            _ => (0, usize::MAX),
        };
        if element.is_never() {
            // there are no elements
            return over.map(|_| match by {
                Macro::Map | Macro::Filter | Macro::SortBy => Type::list(List { items: None, least: 0, most: 0 }),
                Macro::All | Macro::Exists | Macro::ExistsOne => Type::BOOL,
            });
        }
        let within = env.within(element.clone());
        let made = self.term(body, &within);
        let made = match by {
            Macro::Map => made,
            Macro::SortBy => {
                let keys = self.expect(body, made, ORDERED);
                let kinds = keys.of.kinds().each().count();
                let doubt = (kinds > 1).then(|| self.doubt(body, "not all keys may be of one kind"));
                keys.with(doubt)
            }
            Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter => self.expect(body, made, Kinds::BOOL),
        };
        let of = match by {
            Macro::Map => Type::list(List { items: Some(Arc::new(made.of)), least, most }),
            Macro::SortBy => Type::list(List { items: Some(Arc::new(element)), least, most }),
            Macro::Filter => {
                let kept = self.assume(body, true, &within).and_then(|env| env.locals.last().cloned());
                Type::list(List { items: kept.map(Arc::new), least: 0, most })
            }
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::BOOL,
        };
        Inferred::sure(of).with(over.doubts).with(made.doubts)
    }

    /// What a place takes: a value of another kind is a doubt, one that is always of another an error.
    fn expect(&mut self, term: &Term, inferred: Inferred, wanted: Kinds) -> Inferred {
        let found = inferred.of.kinds();
        if found == Kinds::NONE {
            return inferred;
        }
        if !found.meets(wanted) {
            self.error(term, "never-fits", format!("expected {}, found {}", article(wanted), article(found)));
            return Inferred::never();
        }
        let other = found.without(wanted);
        let doubt = (other != Kinds::NONE).then(|| self.doubt(term, format!("may be {}", article(other))));
        Inferred { of: inferred.of.of_kinds(wanted), doubts: inferred.doubts }.with(doubt)
    }

    fn doubt(&self, term: &Term, why: impl std::fmt::Display) -> Doubt {
        Doubt { why: format!("{}: {why}", self.part(term)) }
    }

    fn error(&mut self, term: &Term, code: &'static str, message: String) {
        let problem = Problem::new(term.span.0 as usize..term.span.1 as usize, code, message);
        self.push(problem);
    }

    fn push(&mut self, problem: Problem) {
        if !self.errors.contains(&problem) {
            self.errors.push(problem);
        }
    }

    fn part(&self, term: &Term) -> &str {
        self.text.get(term.span.0 as usize..term.span.1 as usize).unwrap_or(self.text)
    }
}

fn article(kinds: Kinds) -> String {
    if kinds.each().count() > 3 {
        return "anything else".to_owned();
    }
    with_article(&kinds.to_string())
}

fn item(env: &Env) -> Inferred {
    Inferred::sure(env.item.clone().unwrap_or(Type::ANY))
}

fn bound(env: &Env, number: usize) -> Inferred {
    env.lets.get(number).cloned().unwrap_or(Inferred::ANYTHING)
}

fn local(env: &Env, outward: usize) -> Type {
    let place = env.locals.len().checked_sub(outward + 1);
    place.and_then(|place| env.locals.get(place)).cloned().unwrap_or(Type::ANY)
}

/// How many characters, elements or members.
fn size(of: &Type) -> Type {
    let texts = of.text.as_ref().map(|text| (text.least, text.most));
    let lists = of.list.as_ref().map(|list| (list.least, list.most));
    let objects = of.object.as_ref().map(|_| (0, usize::MAX));
    let all = [texts, lists, objects].into_iter().flatten();
    let all = all.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
    match all {
        Some((least, most)) => Type::number(Number::ints(least as f64, (most as f64).min(MAX_COUNT))),
        None => Type::NEVER,
    }
}

// === impl Literal ===

impl Literal {
    fn of(&self) -> Type {
        use crate::proof::Held;
        match self {
            Self::Null => Type::NULL,
            Self::Bool(value) => Type::bools(Bools::only(*value)),
            Self::Int(value) => Type::number(Number { whole: true, ..Number::one(*value as f64, Held::Int) }),
            Self::Double(value) => Type::number(Number::one(*value, Held::Double)),
            Self::Text(text) => Type::text(Text::one(text)),
            Self::Time(_) => Type::TIME,
            Self::Duration(_) => Type::DURATION,
        }
    }
}
