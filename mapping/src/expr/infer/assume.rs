//! What is known where a condition is true, or false.
//!
//! Only for conditions that had a value: `&&` and `||` make up for a side without one, so of `a && b` being false
//! nothing is known of either.

use crate::{
    expr::{Literal, Op, Order, Term, path::Step},
    proof::{Bools, EXACT, Kinds, List, Number, Text, Type},
};

use super::{
    Env, Inference,
    walk::{Place, absent, known},
};

// === impl Inference ===

impl Inference<'_> {
    /// The environment where the term is as wanted; `None` if it never is.
    pub(super) fn assume(&mut self, term: &Term, wanted: bool, env: &Env) -> Option<Env> {
        match &term.op {
            Op::Literal(Literal::Bool(value)) => (*value == wanted).then(|| env.clone()),
            Op::Not(of) => self.assume(of, !wanted, env),
            Op::And(sides) => self.both(sides, true, wanted, env),
            Op::Or(sides) => self.both(sides, false, wanted, env),
            Op::HasPayload(_) | Op::HasOwn(_) | Op::HasMember(..) => asked(term, wanted, env),
            Op::Equal { sides, negated } => match (literal(&sides[0]), literal(&sides[1])) {
                (Some(value), _) => equal(&sides[1], &[value], wanted != *negated, env),
                (_, Some(value)) => equal(&sides[0], &[value], wanted != *negated, env),
                (None, None) => Some(env.clone()),
            },
            Op::InList(item, list) => {
                let values: Vec<_> = list.iter().filter_map(literal).collect();
                if values.len() < list.len() { Some(env.clone()) } else { equal(item, &values, wanted, env) }
            }
            Op::Order(order, sides) => match (literal(&sides[0]), literal(&sides[1])) {
                (Some(value), _) => ordered(&sides[1], order.turned(), value, wanted, env),
                (_, Some(value)) => ordered(&sides[0], *order, value, wanted, env),
                (None, None) => Some(env.clone()),
            },
            Op::Matches(of, pattern) => {
                let Some(place) = Place::of(of) else { return Some(env.clone()) };
                place.narrowed(env, &|of| {
                    let Some(mut text) = of.text.clone() else { return Type::NEVER };
                    if wanted && is_plain(pattern.regex.as_str()) {
                        text.facts.insert(format!("pattern:{}", pattern.regex.as_str()).into());
                    }
                    Type::text(text)
                })
            }
            _ => match Place::of(term) {
                Some(place) => {
                    let wanted = Type::bools(Bools::only(wanted));
                    place.narrowed(env, &|of| of.meet(&wanted))
                }
                None => Some(env.clone()),
            },
        }
    }

    /// Both sides as wanted, where that is what the whole says; else nothing is known.
    fn both(&mut self, sides: &[Term; 2], when: bool, wanted: bool, env: &Env) -> Option<Env> {
        if when == wanted {
            let env = self.assume(&sides[0], wanted, env)?;
            return self.assume(&sides[1], wanted, &env);
        }
        match (self.assume(&sides[0], wanted, env), self.assume(&sides[1], wanted, env)) {
            (Some(_), Some(_)) => Some(env.clone()),
            (one, None) | (None, one) => one,
        }
    }
}

fn literal(term: &Term) -> Option<&Literal> {
    match &term.op {
        Op::Literal(literal) => Some(literal),
        _ => None,
    }
}

fn asked(term: &Term, wanted: bool, env: &Env) -> Option<Env> {
    let Some(place) = Place::asked(term) else { return Some(env.clone()) };
    if wanted {
        return place.narrowed(env, &Type::clone);
    }
    match place.path.split_last() {
        Some((Step::Key(name), before)) => {
            Place { root: place.root, path: before }.narrowed(env, &|of| absent(of, name))
        }
        _ => Some(env.clone()),
    }
}

/// The term is one of the values, or none of them.
fn equal(term: &Term, values: &[&Literal], wanted: bool, env: &Env) -> Option<Env> {
    if let (Op::Size(of), [Literal::Int(count)], true) = (&term.op, values, wanted) {
        let env = sized(of, Order::GreaterOrEqual, *count, env)?;
        return sized(of, Order::LessOrEqual, *count, &env);
    }
    let Some(place) = Place::of(term) else { return Some(env.clone()) };
    place.narrowed(env, &|of| match wanted {
        true => values.iter().fold(Type::NEVER, |all, value| all.join(&taken(of, value))),
        false => values.iter().fold(of.clone(), |rest, value| without(&rest, value)),
    })
}

/// What of a type equals a literal.
fn taken(of: &Type, value: &Literal) -> Type {
    match value {
        Literal::Int(value) => number(of, *value as f64),
        Literal::Double(value) => number(of, *value),
        Literal::Time(_) => of.of_kinds(Kinds::TIME),
        Literal::Duration(_) => of.of_kinds(Kinds::DURATION),
        Literal::Null | Literal::Bool(_) | Literal::Text(_) => of.meet(&value.of()),
    }
}

fn number(of: &Type, value: f64) -> Type {
    let numbers = of.of_kinds(Kinds::NUMBER);
    if value.abs() < EXACT { numbers.meet(&known(value)) } else { numbers }
}

fn without(of: &Type, value: &Literal) -> Type {
    let mut rest = of.clone();
    match value {
        Literal::Null => rest.null = false,
        Literal::Bool(true) => rest.bools.yes = false,
        Literal::Bool(false) => rest.bools.no = false,
        Literal::Text(text) => rest.text = of.text.as_ref().and_then(|known| known.without(text)),
        Literal::Int(value) if (*value as f64).abs() < EXACT => {
            rest.number = of.number.as_ref().and_then(|known| known.without(*value as f64));
        }
        Literal::Double(value) if value.abs() < EXACT => {
            rest.number = of.number.as_ref().and_then(|known| known.without(*value));
        }
        Literal::Int(_) | Literal::Double(_) | Literal::Time(_) | Literal::Duration(_) => {}
    }
    rest
}

fn ordered(term: &Term, order: Order, value: &Literal, wanted: bool, env: &Env) -> Option<Env> {
    let order = if wanted { order } else { order.opposite() };
    if let (Op::Size(of), Literal::Int(count)) = (&term.op, value) {
        return sized(of, order, *count, env);
    }
    let Some(place) = Place::of(term) else { return Some(env.clone()) };
    let bound = match value {
        Literal::Int(value) => *value as f64,
        Literal::Double(value) => *value,
        Literal::Text(_) => return place.narrowed(env, &|of| of.of_kinds(Kinds::TEXT)),
        Literal::Time(_) => return place.narrowed(env, &|of| of.of_kinds(Kinds::TIME)),
        Literal::Duration(_) => return place.narrowed(env, &|of| of.of_kinds(Kinds::DURATION)),
        Literal::Null | Literal::Bool(_) => return Some(env.clone()),
    };
    // a comparison goes by every digit, so what is greater may still be the same double: bounds stay inclusive
    let nonzero = match order {
        Order::Less => bound <= 0.0,
        Order::LessOrEqual => bound < 0.0,
        Order::Greater => bound >= 0.0,
        Order::GreaterOrEqual => bound > 0.0,
    };
    let range = match order {
        Order::Less | Order::LessOrEqual => Number::between(f64::NEG_INFINITY, bound),
        Order::Greater | Order::GreaterOrEqual => Number::between(bound, f64::INFINITY),
    };
    let range = Type::number(Number { nonzero, ..range });
    place.narrowed(env, &|of| of.meet(&range))
}

/// `size(of)` is in that order to a number.
fn sized(of: &Term, order: Order, count: i64, env: &Env) -> Option<Env> {
    let Some(place) = Place::of(of) else { return Some(env.clone()) };
    let (least, most) = match order {
        Order::Less => (0, count.saturating_sub(1)),
        Order::LessOrEqual => (0, count),
        Order::Greater => (count.saturating_add(1), i64::MAX),
        Order::GreaterOrEqual => (count, i64::MAX),
    };
    let most = usize::try_from(most).ok()?;
    let most = if most as u64 == i64::MAX as u64 { usize::MAX } else { most };
    let least = usize::try_from(least).unwrap_or(0);
    place.narrowed(env, &|of| {
        let list = List { items: None, least, most };
        let text = Text { least, most, ..Text::ANY };
        let sized = Type { list: Some(list), text: Some(text), ..Type::ANY };
        of.of_kinds(Kinds::LIST.and(Kinds::TEXT).and(Kinds::OBJECT)).meet(&sized)
    })
}

/// A pattern that means the same to whoever reads it.
fn is_plain(pattern: &str) -> bool {
    pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"^$[]-_+*?{},:;()|/@# ".contains(&byte))
}

// === impl Order ===

impl Order {
    /// The sides the other way round.
    const fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// Where it does not hold.
    const fn opposite(self) -> Self {
        match self {
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }
}
