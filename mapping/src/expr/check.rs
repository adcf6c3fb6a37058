//! What can be said of an operation before a message comes: its type, and its value if nothing in it varies.

use super::{Literal, Op, Own, Term, parse::Problem, value::Scope};

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
enum Type {
    Any,
    Null,
    Bool,
    Number,
    Text,
}

/// Refuses what fails for every message and puts a literal in place of what is the same for every message.
pub(super) fn checked(term: Term) -> Result<Term, Problem> {
    let at = |of: &Term| of.span.0 as usize..of.span.1 as usize;
    if let Some((wrong, wanted)) = mismatch(&term.op) {
        let message = format!("expected {wanted}, found a {}", name(type_of(wrong)));
        return Err(Problem::new(at(wrong), "expression-type", message));
    }
    if let Some(value) = decided(&term.op) {
        return Ok(Term { op: Op::Literal(Literal::Bool(value)), span: term.span });
    }
    if matches!(term.op, Op::Literal(_)) || !constant(&term.op) {
        return Ok(term);
    }
    match term.literal(&Scope::NOTHING) {
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
        Wanted::Array => (&[], "an array"),
        Wanted::Text => (&[Type::Text, Type::Number, Type::Bool], "a string or a number"),
    };
    match wrong([term], allowed) {
        Some(found) => {
            let at = term.span.0 as usize..term.span.1 as usize;
            Err(Problem::new(at, "expression-type", format!("expected {says}, found a {}", name(type_of(found)))))
        }
        None => Ok(()),
    }
}

/// The first term that can't be of the type its operation takes, and what that takes.
fn mismatch(op: &Op) -> Option<(&Term, &'static str)> {
    match op {
        Op::Not(of) => wrong([&**of], &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Negate(of) => wrong([&**of], &[Type::Number]).map(|term| (term, "a number")),
        Op::And(sides) | Op::Or(sides) => wrong(&**sides, &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Conditional(parts) => wrong([&parts[0]], &[Type::Bool]).map(|term| (term, "true or false")),
        Op::Arithmetic(_, sides) => wrong(&**sides, &[Type::Number]).map(|term| (term, "a number")),
        Op::Sum(terms) => match sum_type(terms) {
            Type::Text => wrong(&**terms, &[Type::Text]).map(|term| (term, "a string, as the other terms")),
            Type::Number => wrong(&**terms, &[Type::Number]).map(|term| (term, "a number, as the other terms")),
            _ => wrong(&**terms, &[Type::Number, Type::Text]).map(|term| (term, "a number or a string")),
        },
        Op::Order(_, sides) => match type_of(&sides[0]) {
            Type::Text => wrong([&sides[1]], &[Type::Text]).map(|term| (term, "a string, as on the other side")),
            Type::Number => wrong([&sides[1]], &[Type::Number]).map(|term| (term, "a number, as on the other side")),
            _ => wrong(&**sides, &[Type::Number, Type::Text]).map(|term| (term, "a number or a string")),
        },
        Op::Size(of) => wrong([&**of], &[Type::Text]).map(|term| (term, "a string, an array or an object")),
        Op::InValue(sides) => wrong([&sides[1]], &[]).map(|term| (term, "a list, an array or an object")),
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
        | Op::Own(_)
        | Op::HasOwn(_)
        | Op::Equal { .. }
        | Op::InList(..) => None,
    }
}

fn wrong<'t>(terms: impl IntoIterator<Item = &'t Term>, allowed: &[Type]) -> Option<&'t Term> {
    terms.into_iter().find(|term| {
        let found = type_of(term);
        found != Type::Any && !allowed.contains(&found)
    })
}

fn type_of(term: &Term) -> Type {
    match &term.op {
        Op::Literal(Literal::Null) => Type::Null,
        Op::Literal(Literal::Bool(_)) => Type::Bool,
        Op::Literal(Literal::Int(_) | Literal::Double(_)) => Type::Number,
        Op::Literal(Literal::Text(_)) => Type::Text,
        Op::PayloadText | Op::Capture(_) | Op::Header(_) | Op::PrincipalId | Op::PrincipalDomain | Op::Now => {
            Type::Text
        }
        Op::Negate(_) | Op::Arithmetic(..) | Op::Size(_) => Type::Number,
        Op::HasPayload(_) | Op::HasHeader(_) | Op::HasOwn(_) | Op::Not(_) | Op::And(_) | Op::Or(_) => Type::Bool,
        Op::Equal { .. } | Op::Order(..) | Op::InList(..) | Op::InValue(_) => Type::Bool,
        Op::Sum(terms) => sum_type(terms),
        Op::Conditional(parts) => match (type_of(&parts[1]), type_of(&parts[2])) {
            (yes, no) if yes == no => yes,
            _ => Type::Any,
        },
        Op::Own(Own::Index) => Type::Number,
        Op::Own(Own::Let(..) | Own::Item(_)) | Op::Payload(_) => Type::Any,
    }
}

/// One term that is known tells the type of all.
fn sum_type(terms: &[Term]) -> Type {
    terms.iter().map(type_of).find(|of| matches!(of, Type::Text | Type::Number)).unwrap_or(Type::Any)
}

fn name(of: Type) -> &'static str {
    match of {
        Type::Any => "value",
        Type::Null => "null",
        Type::Bool => "boolean",
        Type::Number => "number",
        Type::Text => "string",
    }
}

/// Nothing in it depends on the message. Its parts have been through [`checked`]: what is constant is a literal.
fn constant(op: &Op) -> bool {
    let literal = |term: &Term| matches!(term.op, Op::Literal(_));
    match op {
        Op::Literal(_) => true,
        Op::Not(of) | Op::Negate(of) | Op::Size(of) => literal(of),
        Op::Sum(terms) => terms.iter().all(literal),
        Op::Arithmetic(_, sides) | Op::Order(_, sides) | Op::And(sides) | Op::Or(sides) => sides.iter().all(literal),
        Op::Equal { sides, .. } | Op::InValue(sides) => sides.iter().all(literal),
        Op::Conditional(parts) => parts.iter().all(literal),
        Op::InList(item, list) => literal(item) && list.iter().all(literal),
        Op::Payload(_) | Op::PayloadText | Op::Capture(_) | Op::Header(_) | Op::PrincipalId | Op::PrincipalDomain => {
            false
        }
        Op::Now | Op::HasPayload(_) | Op::HasHeader(_) | Op::Own(_) | Op::HasOwn(_) => false,
    }
}
