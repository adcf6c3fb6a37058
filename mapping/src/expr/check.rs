//! What can be said of an operation before a message comes: its type, and its value if nothing in it varies.

use super::{Literal, Op, Own, Term, frame::Frame, list::Macro, parse::Problem, value::Scope};

/// What the place of an expression takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// True or false.
    Condition,
    /// An array of the payload.
    Array,
    /// What can be written as text.
    Text,
}

/// The types a term may have. `Any`: only the message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Number,
    Text,
    Time,
    Duration,
    List,
    Map,
}

const TIMES: &[Type] = &[Type::Time, Type::Duration];
const ORDERED: &[Type] = &[Type::Number, Type::Text, Type::Time, Type::Duration];

/// Refuses what fails for every message and puts a literal in place of what is the same for every message.
pub(super) fn checked(term: Term) -> Result<Term, Problem> {
    let at = |of: &Term| of.span.0 as usize..of.span.1 as usize;
    if let Some((wrong, wanted)) = mismatch(&term.op) {
        let message = format!("expected {wanted}, found {}", with_article(type_of(wrong).name()));
        return Err(Problem::new(at(wrong), "expression-type", message));
    }
    if let Some(value) = decided(&term.op) {
        return Ok(Term { op: Op::Literal(Literal::Bool(value)), span: term.span });
    }
    if matches!(term.op, Op::Literal(_)) || !constant(&term) {
        return Ok(term);
    }
    match Frame::run(&Scope::NOTHING, |frame| term.literal(frame)) {
        Ok(Some(literal)) => Ok(Term { op: Op::Literal(literal), span: term.span }),
        Ok(None) => Ok(term),
        Err(fault) => Err(Problem::new(at(&term), "expression-value", fault.problem)),
    }
}

/// One side decides, whatever the other is.
fn decided(op: &Op) -> Option<bool> {
    let (sides, decides) = match op {
        Op::And(sides) => (sides, false),
        Op::Or(sides) => (sides, true),
        _ => return None,
    };
    let literal = |side: &Term| matches!(side.op, Op::Literal(Literal::Bool(value)) if value == decides);
    sides.iter().any(literal).then_some(decides)
}

/// Refuses an expression that is for no message what its place takes.
pub(super) fn wanted(term: &Term, wanted: Wanted) -> Result<(), Problem> {
    let (allowed, says): (&[Type], _) = match wanted {
        Wanted::Condition => (&[Type::Bool], "true or false"),
        Wanted::Array => (&[], "an array of the payload"),
        Wanted::Text => (&[Type::Text, Type::Number, Type::Bool, Type::Time, Type::Duration], "a string or a number"),
    };
    match wrong([term], allowed) {
        Some(found) => {
            let at = term.span.0 as usize..term.span.1 as usize;
            let message = format!("expected {says}, found {}", with_article(type_of(found).name()));
            Err(Problem::new(at, "expression-type", message))
        }
        None => Ok(()),
    }
}

/// The first term that can't be of the type its operation takes, and what that takes.
fn mismatch(op: &Op) -> Option<(&Term, &'static str)> {
    match op {
        Op::Not(of) => wrong([&**of], &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Negate(of) => wrong([&**of], &[Type::Number, Type::Duration]).map(|term| (term, "a number or a duration")),
        Op::And(sides) | Op::Or(sides) => wrong(&**sides, &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Conditional(parts) => wrong([&parts[0]], &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Arithmetic(_, sides) => wrong(&**sides, &[Type::Number]).map(|term| (term, "a number")),
        Op::Sum(terms) => match sum_type(terms) {
            Type::Text => wrong(&**terms, &[Type::Text]).map(|term| (term, "a string, as the other terms")),
            Type::Number => wrong(&**terms, &[Type::Number]).map(|term| (term, "a number, as the other terms")),
            Type::Time | Type::Duration => wrong(&**terms, TIMES).map(|term| (term, "a timestamp or a duration")),
            _ => wrong(&**terms, ORDERED).map(|term| (term, "a number or a string")),
        },
        Op::Order(_, sides) => match type_of(&sides[0]) {
            Type::Text => wrong([&sides[1]], &[Type::Text]).map(|term| (term, "a string, as on the other side")),
            Type::Number => wrong([&sides[1]], &[Type::Number]).map(|term| (term, "a number, as on the other side")),
            Type::Time => wrong([&sides[1]], &[Type::Time]).map(|term| (term, "a timestamp, as on the other side")),
            Type::Duration => {
                wrong([&sides[1]], &[Type::Duration]).map(|term| (term, "a duration, as on the other side"))
            }
            _ => wrong(&**sides, ORDERED).map(|term| (term, "a number or a string")),
        },
        Op::Since(sides) => wrong(&**sides, TIMES).map(|term| (term, "a timestamp or a duration")),
        Op::Size(of) => {
            wrong([&**of], &[Type::Text, Type::List, Type::Map]).map(|term| (term, "a string, an array or an object"))
        }
        Op::InValue(sides) => {
            wrong([&sides[1]], &[Type::List, Type::Map]).map(|term| (term, "a list, an array or an object"))
        }
        Op::Matches(of, _) => wrong([&**of], &[Type::Text]).map(|term| (term, "a string")),
        Op::Extreme(_, terms) => match &**terms {
            [one] => wrong([one], &[Type::Number, Type::List]).map(|term| (term, "a number or an array of numbers")),
            several => wrong(several, &[Type::Number]).map(|term| (term, "a number")),
        },
        Op::Each(each) => {
            let bool_body = !matches!(each.by, Macro::Map | Macro::SortBy);
            let (lists, says): (&[Type], _) = match each.by {
                Macro::SortBy => (&[Type::List], "an array"),
                _ => (&[Type::List, Type::Map], "an array or an object"),
            };
            let key = (each.by == Macro::SortBy).then_some(&each.body);
            wrong([&each.list], lists)
                .map(|term| (term, says))
                .or_else(|| wrong(key, ORDERED).map(|term| (term, "a number, a string, a timestamp or a duration")))
                .or_else(|| wrong(bool_body.then_some(&each.body), &[Type::Bool]).map(|term| (term, "true or false")))
        }
        Op::Member(of, _) | Op::HasMember(of, _) => {
            wrong([&**of], &[Type::List, Type::Map]).map(|term| (term, "an array or an object"))
        }
        Op::Index(sides) => wrong([&sides[0]], &[Type::List, Type::Map])
            .map(|term| (term, "an array or an object"))
            .or_else(|| wrong([&sides[1]], &[Type::Number, Type::Text]).map(|term| (term, "a number or a string"))),
        // looked at where it is compiled: the words name the function
        Op::Call(..) => None,
        Op::List(_) | Op::Map(_) | Op::Local(_) | Op::Table(_) | Op::Whole(_) => None,
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
        | Op::Equal { .. }
        | Op::InList(..) => None,
    }
}

pub(super) fn wrong<'t>(terms: impl IntoIterator<Item = &'t Term>, allowed: &[Type]) -> Option<&'t Term> {
    terms.into_iter().find(|term| {
        let found = type_of(term);
        found != Type::Any && !allowed.contains(&found)
    })
}

pub(super) fn type_of(term: &Term) -> Type {
    match &term.op {
        Op::Literal(Literal::Null) => Type::Null,
        Op::Literal(Literal::Bool(_)) => Type::Bool,
        Op::Literal(Literal::Int(_) | Literal::Double(_)) => Type::Number,
        Op::Literal(Literal::Text(_)) => Type::Text,
        Op::Literal(Literal::Time(_)) | Op::Now => Type::Time,
        Op::Literal(Literal::Duration(_)) => Type::Duration,
        Op::PayloadText | Op::Capture(_) | Op::Header(_) | Op::PrincipalId | Op::PrincipalDomain => Type::Text,
        Op::Negate(of) => {
            if type_of(of) == Type::Duration {
                Type::Duration
            } else {
                Type::Number
            }
        }
        Op::Since(sides) => match (type_of(&sides[0]), type_of(&sides[1])) {
            (Type::Time, Type::Time) | (Type::Duration, Type::Duration) => Type::Duration,
            (Type::Time, Type::Duration) => Type::Time,
            _ => Type::Any,
        },
        Op::Call(function, _) => function.gives(),
        Op::Table(lookup) => lookup.gives(),
        Op::About(attribute) => attribute.gives(),
        Op::List(_) => Type::List,
        Op::Map(_) => Type::Map,
        Op::Each(each) => match each.by {
            Macro::Map | Macro::Filter | Macro::SortBy => Type::List,
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::Bool,
        },
        Op::Arithmetic(..) | Op::Size(_) | Op::Extreme(..) | Op::Whole(_) => Type::Number,
        Op::Matches(..) | Op::HasMember(..) => Type::Bool,
        Op::HasPayload(_) | Op::HasHeader(_) | Op::HasOwn(_) | Op::HasAbout(_) => Type::Bool,
        Op::Not(_) | Op::And(_) | Op::Or(_) => Type::Bool,
        Op::Equal { .. } | Op::Order(..) | Op::InList(..) | Op::InValue(_) => Type::Bool,
        Op::Sum(terms) => sum_type(terms),
        Op::Conditional(parts) => match (type_of(&parts[1]), type_of(&parts[2])) {
            (yes, no) if yes == no => yes,
            _ => Type::Any,
        },
        Op::Own(Own::Index) => Type::Number,
        Op::Own(Own::Let(..) | Own::Item(_)) => Type::Any,
        Op::Payload(_) | Op::Local(_) | Op::Member(..) | Op::Index(_) => Type::Any,
    }
}

/// One term that is known tells the type of all; of times and durations, all together.
fn sum_type(terms: &[Term]) -> Type {
    let mut known = terms.iter().map(type_of).filter(|of| ORDERED.contains(of));
    match known.next() {
        Some(Type::Duration) if known.clone().any(|of| of == Type::Time) => Type::Time,
        Some(Type::Duration) if terms.iter().any(|term| type_of(term) == Type::Any) => Type::Duration,
        first => first.unwrap_or(Type::Any),
    }
}

/// One of them is known to be a time or a duration.
pub(super) fn is_time(terms: &[Term]) -> bool {
    terms.iter().any(|term| TIMES.contains(&type_of(term)))
}

// === impl Type ===

impl Type {
    /// What a person calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "value",
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Number => "number",
            Self::Text => "string",
            Self::Time => "timestamp",
            Self::Duration => "duration",
            Self::List => "array",
            Self::Map => "object",
        }
    }
}

/// `an array`, `a number`, `null`.
pub(super) fn with_article(name: &str) -> String {
    match name.as_bytes().first() {
        Some(b'a' | b'o') => format!("an {name}"),
        Some(b'n') if name.starts_with("null") || name.starts_with("nothing") => name.to_owned(),
        _ => format!("a {name}"),
    }
}

/// Nothing in it depends on the message. Its parts have been through [`checked`]: what is constant is a literal.
fn constant(term: &Term) -> bool {
    let parts = term.parts();
    match &term.op {
        Op::Literal(_) => true,
        // a body reads its variable
        Op::Each(_) | Op::Local(_) => false,
        Op::Table(lookup) if lookup.is_unknown() => false,
        Op::Payload(_) | Op::PayloadText | Op::Capture(_) | Op::Header(_) | Op::PrincipalId | Op::PrincipalDomain => {
            false
        }
        Op::Now | Op::HasPayload(_) | Op::HasHeader(_) | Op::Own(_) | Op::HasOwn(_) => false,
        Op::About(_) | Op::HasAbout(_) => false,
        _ => parts.iter().all(|part| matches!(part.op, Op::Literal(_))),
    }
}
