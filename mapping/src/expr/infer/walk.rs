//! Paths: where they lead in a value of which only the type is known.

use crate::{
    expr::{
        Op, Own, Term,
        path::{Path, Step},
    },
    proof::{Bools, Held, Kinds, Number, Object, Type},
};

use super::{Doubt, Env, Inference, Inferred, bound, item};

/// Where a step leads.
enum Led {
    To(Type, Option<String>),
    /// Nowhere, for every message.
    Nowhere(&'static str, String, Option<String>),
}

// === impl Inference ===

impl Inference<'_> {
    pub(super) fn own(&mut self, own: &Own, term: &Term, env: &Env) -> Inferred {
        match own {
            Own::Index => Inferred::sure(Type::number(Number::ints(0.0, 1_000.0))),
            Own::Item(path) => self.walk(item(env), path, term),
            Own::Let(number, path) => self.walk(bound(env, *number), path, term),
        }
    }

    /// What the path leads to from a value.
    pub(super) fn walk(&mut self, from: Inferred, path: &Path, term: &Term) -> Inferred {
        let Inferred { of, doubts } = from;
        let (mut at, mut found) = (of, Inferred::sure(Type::NEVER).with(doubts));
        for step in &path.0 {
            if at.is_never() {
                break;
            }
            match led(&at, step) {
                Led::To(next, doubt) => {
                    let doubt: Option<Doubt> = doubt.map(|why| self.doubt(term, why));
                    found = found.with(doubt);
                    at = next;
                }
                Led::Nowhere(code, message, help) => {
                    self.nowhere(term, code, message, help);
                    at = Type::NEVER;
                }
            }
        }
        Inferred { of: at, ..found }
    }

    /// Whether the last step leads anywhere; those before it must.
    pub(super) fn has(&mut self, from: Inferred, path: &Path, term: &Term) -> Inferred {
        let Some((last, before)) = path.0.split_last() else { return from.map(|_| Type::BOOL) };
        let within = self.walk(from, &Path(before.to_vec()), term);
        if within.of.is_never() {
            return within;
        }
        let within = self.expect(term, within, Kinds::OBJECT.and(Kinds::LIST));
        let Step::Key(name) = last else { return within.map(|_| Type::BOOL) };
        let answer = match &within.of.object {
            None => Bools::NONE,
            Some(object) => match object.member(name) {
                Some((_, true)) => Bools::only(true),
                Some((_, false)) => Bools::BOTH,
                None => {
                    if !self.guards && !object.fields.contains_key(&**name) {
                        let (message, help) = unknown(object, name);
                        self.nowhere(term, "unknown-member", message, help);
                    }
                    Bools::only(false)
                }
            },
        };
        within.map(|_| Type::bools(answer))
    }

    pub(super) fn index(&mut self, sides: &[Term; 2], term: &Term, env: &Env) -> Inferred {
        let (of, by) = (self.term(&sides[0], env), self.term(&sides[1], env));
        let of = self.expect(&sides[0], of, Kinds::LIST.and(Kinds::OBJECT));
        let by = self.expect(&sides[1], by, Kinds::NUMBER.and(Kinds::TEXT));
        if of.of.is_never() || by.of.is_never() {
            return Inferred::sure(Type::NEVER).with(of.doubts).with(by.doubts);
        }
        let elements = of.of.list.as_ref().map_or(Type::NEVER, |list| list.items());
        let member = |object: &Object| match by.of.text.as_ref().and_then(|text| text.constant()) {
            Some(name) => object.member(name).map_or(Type::NEVER, |(of, _)| of),
            None => Type::ANY,
        };
        let members = of.of.object.as_ref().map_or(Type::NEVER, member);
        let doubt = self.doubt(term, "there may be no such element");
        Inferred::sure(elements.join(&members)).with(of.doubts).with(by.doubts).with([doubt])
    }

    fn nowhere(&mut self, term: &Term, code: &'static str, message: String, help: Option<String>) {
        let mut problem = crate::expr::Problem::new(term.span.0 as usize..term.span.1 as usize, code, message);
        problem.help = help;
        self.push(problem);
    }
}

fn led(at: &Type, step: &Step) -> Led {
    match step {
        Step::Key(name) => member(at, name),
        Step::Index(index) => element(at, *index),
    }
}

fn member(at: &Type, name: &str) -> Led {
    let other = at.kinds().without(Kinds::OBJECT);
    let Some(object) = &at.object else {
        return Led::Nowhere("never-fits", format!("member {name:?} is looked for in {}", super::article(other)), None);
    };
    match object.member(name) {
        None => {
            let (message, help) = unknown(object, name);
            Led::Nowhere("unknown-member", message, help)
        }
        Some((of, always)) => {
            let doubt = match (always, other == Kinds::NONE) {
                (true, true) => None,
                (false, true) => Some(format!("member {name:?} may be missing")),
                (_, false) => Some(format!("member {name:?} may be looked for in {}", super::article(other))),
            };
            Led::To(of, doubt)
        }
    }
}

fn element(at: &Type, index: usize) -> Led {
    let other = at.kinds().without(Kinds::LIST);
    let Some(list) = &at.list else {
        return Led::Nowhere("never-fits", format!("element {index} is looked for in {}", super::article(other)), None);
    };
    if index >= list.most {
        let message = format!("element {index} is never there: the array has at most {}", list.most);
        return Led::Nowhere("never-fits", message, None);
    }
    let doubt = match (index < list.least, other == Kinds::NONE) {
        (true, true) => None,
        (false, true) => Some(format!("element {index} may be missing")),
        (_, false) => Some(format!("element {index} may be looked for in {}", super::article(other))),
    };
    Led::To(list.items(), doubt)
}

/// What is said of a member that the schema does not have.
fn unknown(object: &Object, name: &str) -> (String, Option<String>) {
    let known: Vec<&str> =
        object.fields.iter().filter(|(_, field)| !field.of.is_never()).map(|(name, _)| &**name).collect();
    let shown: String = name.chars().take(64).collect();
    let help = match yaml::nearest(name, &known) {
        Some(near) => Some(format!("did you mean {near:?}?")),
        None if known.is_empty() => None,
        None => Some(format!("there are {}", known.join(", "))),
    };
    (format!("the schema has no member {shown:?} here"), help)
}

/// A value that is read by its place: what is known of it can be narrowed.
pub(super) struct Place<'t> {
    pub(super) root: Root,
    pub(super) path: &'t [Step],
}

/// Where a place begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Root {
    Payload,
    Item,
    Let(usize),
    Local(usize),
}

// === impl Place ===

impl<'t> Place<'t> {
    pub(super) fn of(term: &'t Term) -> Option<Self> {
        let (root, path) = match &term.op {
            Op::Payload(path) => (Root::Payload, &*path.0),
            Op::Own(Own::Item(path)) => (Root::Item, &*path.0),
            Op::Own(Own::Let(number, path)) => (Root::Let(*number), &*path.0),
            Op::Local(outward) => (Root::Local(*outward), &[][..]),
            Op::Member(of, path) => match of.op {
                Op::Local(outward) => (Root::Local(outward), &*path.0),
                _ => return None,
            },
            Op::Whole(of) => return Self::of(of),
            _ => return None,
        };
        Some(Self { root, path })
    }

    /// What `has` asks for.
    pub(super) fn asked(term: &'t Term) -> Option<Self> {
        let (root, path) = match &term.op {
            Op::HasPayload(path) => (Root::Payload, &*path.0),
            Op::HasOwn(Own::Item(path)) => (Root::Item, &*path.0),
            Op::HasOwn(Own::Let(number, path)) => (Root::Let(*number), &*path.0),
            Op::HasMember(of, path) => match of.op {
                Op::Local(outward) => (Root::Local(outward), &*path.0),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { root, path })
    }

    /// The environment with another type at the place; `None` if nothing is left there.
    pub(super) fn narrowed(&self, env: &Env, by: &dyn Fn(&Type) -> Type) -> Option<Env> {
        let mut env = env.clone();
        let locals = env.locals.len();
        let root = match self.root {
            Root::Payload => &mut env.payload,
            Root::Item => env.item.as_mut()?,
            Root::Let(number) => {
                let bound = env.lets.get_mut(number)?;
                // it was read, and had a value
                bound.doubts.clear();
                &mut bound.of
            }
            Root::Local(outward) => env.locals.get_mut(locals.checked_sub(outward + 1)?)?,
        };
        *root = at(root, self.path, by);
        (!root.is_never()).then_some(env)
    }
}

/// A value that has the path, with another type at its end.
fn at(of: &Type, path: &[Step], by: &dyn Fn(&Type) -> Type) -> Type {
    let Some((step, rest)) = path.split_first() else { return by(of) };
    match step {
        Step::Key(name) => {
            let Some(mut object) = of.object.clone() else { return Type::NEVER };
            let Some((member, _)) = object.member(name) else { return Type::NEVER };
            let member = at(&member, rest, by);
            if member.is_never() {
                return Type::NEVER;
            }
            object.fields.insert(Box::from(&**name), crate::proof::Field { of: member.into(), required: true });
            Type::object(object)
        }
        Step::Index(index) => match &of.list {
            Some(list) if *index < list.most => {
                let mut list = list.clone();
                list.least = list.least.max(index + 1);
                Type::list(list)
            }
            _ => Type::NEVER,
        },
    }
}

/// An object without the member.
pub(super) fn absent(of: &Type, name: &str) -> Type {
    let Some(mut object) = of.object.clone() else { return Type::NEVER };
    if matches!(object.member(name), Some((_, true))) {
        return Type::NEVER;
    }
    object.fields.insert(name.into(), crate::proof::Field { of: Type::NEVER.into(), required: false });
    Type::object(object)
}

/// A literal number as a schema would say it.
pub(super) fn known(value: f64) -> Type {
    Type::number(Number::one(value, Held::Source))
}
