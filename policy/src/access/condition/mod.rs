//! What a policy asks of a message, compiled: what of Cedar's language needs neither a clock nor a set of entities.
//!
//! Cedar takes microseconds to be asked about each message; comparing a field of its data with a limit takes nanoseconds.
//! What is not compiled, and whatever would be an error, is left to Cedar: where this answers, it answers as Cedar does,
//! and a property test holds it to that.

mod compile;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use envelope::{Attribute, Principal};

use super::{Action, request::above_schema, scope::is_below};

/// All that a policy says under `when` and `unless`.
#[derive(Debug)]
pub(super) struct Condition(Vec<Clause>);

#[derive(Debug)]
struct Clause {
    /// What it has to be: `false` under `unless`.
    holds: bool,
    body: Term,
}

#[derive(Debug)]
enum Term {
    Value(Attribute),
    Entity(Entity),
    Named(Named),
    /// Of the principal.
    Attribute(Arc<str>),
    HasAttribute(Arc<str>),
    /// Of the data, by its place among those that are declared.
    Field(usize),
    HasField(usize),
    /// `resource.name`
    Topic,
    Not(Box<Term>),
    And(Box<[Term; 2]>),
    Or(Box<[Term; 2]>),
    If(Box<[Term; 3]>),
    Equal(Box<[Term; 2]>),
    /// Of whole numbers.
    Compare(Order, Box<[Term; 2]>),
    Decimals(Order, Box<[Term; 2]>),
    Sum(Sum, Box<[Term; 2]>),
    Contains(Box<[Term; 2]>),
    Like(Box<Term>, Vec<Option<char>>),
    In(Named, Vec<Entity>),
}

/// What is an entity by being there.
#[derive(Debug, Clone, Copy)]
enum Named {
    Principal,
    Action,
    Resource,
    Schema,
    Performative,
    Bridge,
}

#[derive(Debug)]
struct Entity {
    kind: Box<str>,
    id: Box<str>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy)]
enum Sum {
    Add,
    Subtract,
    Multiply,
}

/// A message and who asks, as conditions see them.
#[derive(Debug, Clone, Copy)]
pub(super) struct World<'w> {
    pub(super) principal: &'w Principal,
    pub(super) action: Action,
    pub(super) topic: &'w str,
    pub(super) schema: &'w str,
    pub(super) performative: &'w str,
    pub(super) bridge: &'w str,
    /// Of the data, those that are declared, in their order.
    pub(super) fields: &'w [Option<Attribute>],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'v> {
    Boolean(bool),
    Integer(i64),
    Decimal(i64),
    Text(&'v str),
    List(&'v [Arc<str>]),
    Entity(&'v str, &'v str),
}

// === impl Condition ===

impl Condition {
    /// Whether it holds; `None` if Cedar has to be asked, which may say that it fails.
    pub(super) fn holds(&self, world: &World<'_>) -> Option<bool> {
        for Clause { holds, body } in &self.0 {
            if body.truth(world)? != *holds {
                return Some(false);
            }
        }
        Some(true)
    }
}

// === impl Term ===

impl Term {
    fn truth(&self, world: &World<'_>) -> Option<bool> {
        match self.value_in(world)? {
            Value::Boolean(value) => Some(value),
            _ => None,
        }
    }

    fn value_in<'v>(&'v self, world: &World<'v>) -> Option<Value<'v>> {
        let both = |terms: &'v [Self; 2]| Some((terms[0].value_in(world)?, terms[1].value_in(world)?));
        Some(Value::Boolean(match self {
            Self::Value(value) => return Some(value.into()),
            Self::Entity(entity) => return Some(Value::Entity(&entity.kind, &entity.id)),
            Self::Named(named) => return Some(named.entity(world)),
            Self::Attribute(name) => return attribute(world.principal, name),
            Self::Field(at) => return world.fields.get(*at)?.as_ref().map(Value::from),
            Self::Topic => return Some(Value::Text(world.topic)),
            Self::If(terms) => {
                let [condition, then, otherwise] = &**terms;
                return if condition.truth(world)? { then.value_in(world) } else { otherwise.value_in(world) };
            }
            Self::Sum(sum, terms) => {
                let (Value::Integer(left), Value::Integer(right)) = both(terms)? else { return None };
                return sum.of(left, right).map(Value::Integer);
            }
            Self::HasAttribute(name) => attribute(world.principal, name).is_some(),
            Self::HasField(at) => world.fields.get(*at)?.is_some(),
            Self::Not(term) => !term.truth(world)?,
            Self::And(terms) => terms[0].truth(world)? && terms[1].truth(world)?,
            Self::Or(terms) => terms[0].truth(world)? || terms[1].truth(world)?,
            Self::Equal(terms) => match both(terms)? {
                // as sets they may be equal in another order
                (Value::List(_), _) | (_, Value::List(_)) => return None,
                (left, right) => left == right,
            },
            Self::Compare(order, terms) => match both(terms)? {
                (Value::Integer(left), Value::Integer(right)) => order.holds(left, right),
                _ => return None,
            },
            Self::Decimals(order, terms) => match both(terms)? {
                (Value::Decimal(left), Value::Decimal(right)) => order.holds(left, right),
                _ => return None,
            },
            Self::Contains(terms) => match both(terms)? {
                (Value::List(texts), Value::Text(text)) => texts.iter().any(|own| **own == *text),
                _ => return None,
            },
            Self::Like(term, pattern) => match term.value_in(world)? {
                Value::Text(text) => is_like(text, pattern),
                _ => return None,
            },
            Self::In(named, entities) => entities.iter().any(|above| named.is_in(world, above)),
        }))
    }
}

// === impl Named ===

impl Named {
    fn entity<'w>(self, world: &World<'w>) -> Value<'w> {
        match self {
            Self::Principal => Value::Entity("Principal", &world.principal.id),
            Self::Action => Value::Entity("Action", world.action.word()),
            Self::Resource => Value::Entity("Topic", world.topic),
            Self::Schema => Value::Entity("Schema", world.schema),
            Self::Performative => Value::Entity("Performative", world.performative),
            Self::Bridge => Value::Entity("Bridge", world.bridge),
        }
    }

    /// It is that, or below it.
    fn is_in(self, world: &World<'_>, above: &Entity) -> bool {
        let (kind, id) = (&*above.kind, &*above.id);
        let below = match (self, kind) {
            (Self::Principal, "Role") => world.principal.has_role(id),
            (Self::Principal, "Domain") => *world.principal.domain == *id,
            (Self::Action, "Action") => id == Action::GROUP && world.action.sends(),
            (Self::Resource, "Topic") => is_below(world.topic, id),
            (Self::Schema, "Schema") => above_schema(world.schema).any(|name| name == id),
            _ => false,
        };
        below || self.entity(world) == Value::Entity(kind, id)
    }
}

// === impl Order ===

impl Order {
    fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
        }
    }
}

// === impl Sum ===

impl Sum {
    fn of(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
        }
    }
}

// === impl Value ===

impl<'v> From<&'v Attribute> for Value<'v> {
    fn from(value: &'v Attribute) -> Self {
        match value {
            Attribute::Boolean(value) => Self::Boolean(*value),
            Attribute::Integer(value) => Self::Integer(*value),
            Attribute::Decimal(value) => Self::Decimal(*value),
            Attribute::Text(text) => Self::Text(text),
            Attribute::List(texts) => Self::List(texts),
        }
    }
}

/// What is declared comes first, as `request` has it.
fn attribute<'p>(principal: &'p Principal, name: &str) -> Option<Value<'p>> {
    if let Some(value) = principal.attributes.get(name) {
        return Some(value.into());
    }
    match name {
        "domain" => Some(Value::Text(&principal.domain)),
        "proof" => Some(Value::Text(principal.proof.word())),
        "trust" => Some(Value::Integer(principal.trust.into())),
        "jurisdiction" => principal.jurisdiction.as_deref().map(Value::Text),
        _ => None,
    }
}

/// Goes back to the last wildcard only, so it takes no more than text times pattern.
fn is_like(text: &str, pattern: &[Option<char>]) -> bool {
    let (mut rest, mut at) = (text.chars(), 0);
    let mut wildcard: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        match (rest.next(), pattern.get(at)) {
            (_, Some(None)) => {
                rest = before.clone();
                at += 1;
                wildcard = Some((at, before));
            }
            (None, None) => return true,
            (None, Some(Some(_))) => return false,
            (Some(char), Some(Some(wanted))) if char == *wanted => at += 1,
            (Some(_), _) => {
                let Some((after, from)) = &mut wildcard else { return false };
                from.next();
                (rest, at) = (from.clone(), *after);
            }
        }
    }
}
