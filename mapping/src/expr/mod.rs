//! Expressions in the syntax of CEL (<https://cel.dev>), as plans of our own that borrow from the parsed payload.
//!
//! The `cel` crate parses; [`compile`] turns its syntax tree into a [`Term`], and `eval` runs that without building
//! values in between. Functions have the names of CEL's own extensions; macros run natively, so that each step of
//! them is counted and each fault has its place.

mod about;
mod call;
mod calls;
mod check;
mod clauses;
mod compile;
mod convert;
#[cfg(test)]
mod differential;
mod emit;
mod eval;
#[cfg(test)]
mod extension_tests;
mod frame;
mod function;
#[cfg(test)]
mod function_tests;
mod implied;
mod infer;
mod laid;
mod list;
mod lists;
mod lookup;
mod math;
mod names;
mod number;
mod own;
mod parse;
mod path;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;
mod zone;

pub(crate) use about::{About, Subject};
pub(crate) use check::Wanted;
pub(crate) use compile::{compile, compile_for};
pub(crate) use infer::{Env, Inferred};
pub(crate) use laid::about_to_laid;
pub(crate) use own::{Bound, Item, Let, OwnNames, Uses};
pub(crate) use parse::Problem;
pub(crate) use time::is_rfc_3339;
pub(crate) use value::{Fault, Scope, ScopePayload};

use std::cmp::Ordering;

use envelope::Timestamp;
use regex::Regex;
use yaml::Span;

use crate::table::Tables;

use about::Attribute;
use function::Function;
use list::Each;
use lookup::Lookup;
use own::Own;
use path::Path;
use time::Duration;

/// The longest expression, in bytes.
pub(crate) const MAX_EXPRESSION: usize = 2_048;
/// The most bytes one message may become.
pub(crate) const MAX_OUTPUT: usize = 8 << 20;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expr {
    text: Box<str>,
    root: Term,
    uses: Uses,
    /// Where it stands in its file.
    at: Span,
}

/// What an expression may name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'n> {
    /// What `payload` is.
    pub(crate) payload: PayloadKind,
    /// The captures of the address: name and segment, from 0. `None` if the address itself is wrong: any name passes
    /// then, so that one error does not hide in others.
    pub(crate) captures: Option<&'n [(Box<str>, usize)]>,
    /// What it is about: which further names there are.
    pub(crate) subject: Subject,
    /// What the file names itself.
    pub(crate) own: OwnNames<'n>,
    /// What `table()` looks up in.
    pub(crate) tables: &'n Tables,
}

/// What `payload` is in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    /// A JSON value with paths into it.
    Json,
    /// One string.
    Text,
    /// Nothing an expression can read.
    Bytes,
    /// There is none.
    Nothing,
}

/// An operation and where it stands in the expression's text.
#[derive(Debug)]
struct Term {
    op: Op,
    /// Byte offsets, end exclusive.
    span: (u32, u32),
}

#[derive(Debug, PartialEq)]
enum Op {
    Literal(Literal),
    Payload(Path),
    PayloadText,
    /// By the number of its segment, from 0.
    Capture(usize),
    Header(Box<str>),
    PrincipalId,
    PrincipalDomain,
    Now,
    HasPayload(Path),
    HasHeader(Box<str>),
    About(Attribute),
    HasAbout(Attribute),
    /// A name of the file's own.
    Own(Own),
    HasOwn(Own),
    Not(Box<Term>),
    Negate(Box<Term>),
    /// `a + b + c`, numbers or text; at least two terms.
    Sum(Box<[Term]>),
    Arithmetic(Arithmetic, Box<[Term; 2]>),
    Equal {
        sides: Box<[Term; 2]>,
        negated: bool,
    },
    Order(Order, Box<[Term; 2]>),
    And(Box<[Term; 2]>),
    Or(Box<[Term; 2]>),
    Conditional(Box<[Term; 3]>),
    InList(Box<Term>, Box<[Term]>),
    InValue(Box<[Term; 2]>),
    Size(Box<Term>),
    /// Two times, or a time and a duration: the first less the second.
    Since(Box<[Term; 2]>),
    Call(Function, Box<[Term]>),
    Matches(Box<Term>, Box<Pattern>),
    /// The greatest or the least of at least one term.
    Extreme(Ordering, Box<[Term]>),
    /// A number of the payload that its schema says is whole, as an operand.
    Whole(Box<Term>),
    List(Box<[Term]>),
    Map(Box<[(Box<str>, Term)]>),
    /// The variable of a macro: how many macros outward, from 0.
    Local(usize),
    Member(Box<Term>, Path),
    HasMember(Box<Term>, Path),
    Index(Box<[Term; 2]>),
    Each(Box<Each>),
    Table(Box<Lookup>),
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Time(Timestamp),
    Duration(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A pattern of `matches`.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    /// See [`schema::places`].
    pub(crate) places: usize,
}

// === impl Pattern ===

impl Pattern {
    /// How many bytes of a comparison a byte of the text costs.
    fn factor(&self) -> usize {
        // out of its cache the engine follows every place by itself
        if self.places > schema::QUICK { self.places.saturating_mul(12) } else { 8 }
    }
}

// === impl Expr ===

impl Expr {
    /// As the file writes it, without `${` and `}`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// True or false, if that is the same for every message.
    pub(crate) fn constant(&self) -> Option<bool> {
        match self.root.op {
            Op::Literal(Literal::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// The same, standing there in its file.
    pub(crate) fn standing(mut self, at: Span) -> Self {
        self.at = at;
        self
    }

    /// Where a part of it stands in its file; the whole where its text does not stand there as it is.
    pub(crate) fn place(&self, part: &std::ops::Range<usize>) -> Span {
        match self.at.end - self.at.start == self.text.len() {
            true => Span { start: self.at.start + part.start, end: self.at.start + part.end },
            false => self.at,
        }
    }

    /// A fault of the expression as a whole.
    pub(crate) fn fault(&self, problem: String) -> Box<Fault> {
        self.root.fault(problem)
    }

    /// What it makes is over [`MAX_OUTPUT`].
    pub(crate) fn too_large(&self) -> Box<Fault> {
        Fault::too_large(self.root.span)
    }

    /// The names of the headers that it reads, and the texts that stand in it.
    pub(crate) fn headers(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut names, mut words, mut rest) = (Vec::new(), Vec::new(), vec![&self.root]);
        while let Some(term) = rest.pop() {
            match &term.op {
                Op::Header(name) | Op::HasHeader(name) => names.push(&**name),
                Op::Literal(Literal::Text(text)) => words.push(&**text),
                _ => rest.extend(term.parts()),
            }
        }
        (names, words)
    }

    /// A string that does not depend on the message.
    pub(crate) fn literal_text(&self) -> Option<&str> {
        match &self.root.op {
            Op::Literal(Literal::Text(text)) => Some(text),
            _ => None,
        }
    }
}

// === impl Term ===

impl Term {
    /// The terms it is made of.
    fn parts(&self) -> Vec<&Term> {
        match &self.op {
            Op::Not(of) | Op::Negate(of) | Op::Size(of) | Op::Matches(of, _) | Op::Whole(of) => vec![of],
            Op::Member(of, _) | Op::HasMember(of, _) => vec![of],
            Op::Arithmetic(_, sides) | Op::Order(_, sides) | Op::And(sides) | Op::Or(sides) => sides.iter().collect(),
            Op::Equal { sides, .. } | Op::InValue(sides) | Op::Since(sides) | Op::Index(sides) => {
                sides.iter().collect()
            }
            Op::Conditional(parts) => parts.iter().collect(),
            Op::Sum(terms) | Op::Call(_, terms) | Op::Extreme(_, terms) | Op::List(terms) => terms.iter().collect(),
            Op::InList(item, list) => std::iter::once(&**item).chain(list).collect(),
            Op::Map(members) => members.iter().map(|(_, term)| term).collect(),
            Op::Each(each) => vec![&each.list, &each.body],
            Op::Table(lookup) => lookup.parts().collect(),
            Op::Literal(_)
            | Op::Payload(_)
            | Op::PayloadText
            | Op::Capture(_)
            | Op::Header(_)
            | Op::PrincipalId
            | Op::PrincipalDomain
            | Op::Now
            | Op::HasPayload(_)
            | Op::HasHeader(_)
            | Op::About(_)
            | Op::HasAbout(_)
            | Op::Own(_)
            | Op::HasOwn(_)
            | Op::Local(_) => Vec::new(),
        }
    }

    /// How many terms it has, itself included.
    fn count(&self) -> usize {
        1 + self.parts().into_iter().map(Term::count).sum::<usize>()
    }
}

// === impl Order ===

impl Order {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}
