//! Whole numbers of the payload in arithmetic: whole where the input schema says `integer`, as CEL has it.
//!
//! A plain path still copies the text of the payload; only an operand becomes a number of 64 bits.

use crate::{
    expr::{Op, Term, number::Number, value::Value},
    proof::{Held, List, Type},
};

use super::{Env, Inference};

// === impl Inference ===

impl Inference<'_> {
    /// Marks each operand whose schema says that it is a whole number.
    pub(super) fn mark(&mut self, term: &mut Term, env: &Env) {
        match &mut term.op {
            Op::Arithmetic(_, sides) => self.mark_operands(&mut **sides, env),
            Op::Sum(terms) => self.mark_operands(terms, env),
            Op::Negate(of) => self.mark_operands(std::slice::from_mut(&mut **of), env),
            Op::Each(each) => {
                self.mark(&mut each.list, env);
                let over = self.term(&each.list, env).of;
                let element = over.list.as_ref().map_or(Type::TEXT, List::items);
                let element = if over.object.is_some() { element.join(&Type::TEXT) } else { element };
                self.mark(&mut each.body, &env.within(element));
            }
            _ => {
                for part in term.parts_mut() {
                    self.mark(part, env);
                }
            }
        }
    }

    fn mark_operands(&mut self, terms: &mut [Term], env: &Env) {
        for term in terms {
            self.mark(term, env);
            let number = self.term(term, env).of.number;
            if number.is_some_and(|number| number.whole && number.held == Held::Source) {
                let span = term.span;
                let of = std::mem::replace(term, Term { op: Op::Now, span });
                *term = Term { op: Op::Whole(Box::new(of)), span };
            }
        }
    }
}

// === impl Term ===

impl Term {
    /// The terms it is made of, as [`Term::parts`].
    fn parts_mut(&mut self) -> Vec<&mut Self> {
        match &mut self.op {
            Op::Not(of) | Op::Negate(of) | Op::Size(of) | Op::Matches(of, _) | Op::Whole(of) => vec![of],
            Op::Member(of, _) | Op::HasMember(of, _) => vec![of],
            Op::Arithmetic(_, sides) | Op::Order(_, sides) | Op::And(sides) | Op::Or(sides) => {
                sides.iter_mut().collect()
            }
            Op::Equal { sides, .. } | Op::InValue(sides) | Op::Since(sides) | Op::Index(sides) => {
                sides.iter_mut().collect()
            }
            Op::Conditional(parts) => parts.iter_mut().collect(),
            Op::Sum(terms) | Op::Call(_, terms) | Op::Extreme(_, terms) | Op::List(terms) => terms.iter_mut().collect(),
            Op::InList(item, list) => std::iter::once(&mut **item).chain(list.iter_mut()).collect(),
            Op::Map(members) => members.iter_mut().map(|(_, term)| term).collect(),
            Op::Each(each) => vec![&mut each.list, &mut each.body],
            Op::Table(lookup) => std::iter::once(&mut lookup.key).chain(&mut lookup.default).collect(),
            Op::Literal(_)
            | Op::Payload(_)
            | Op::PayloadText
            | Op::Capture(_)
            | Op::Header(_)
            | Op::PrincipalId
            | Op::PrincipalDomain
            | Op::Now
            | Op::About(_)
            | Op::HasAbout(_)
            | Op::HasPayload(_)
            | Op::HasHeader(_)
            | Op::Own(_)
            | Op::HasOwn(_)
            | Op::Local(_) => Vec::new(),
        }
    }
}

// === impl Value ===

impl Value<'_> {
    /// A number of the payload without a fraction as one of 64 bits, if it fits; any other value as it is.
    pub(in crate::expr) fn whole(self) -> Self {
        match &self {
            Self::Source(text) => match Number::exact_of_json(text) {
                whole @ Number::Int(_) => Self::Number(whole),
                Number::Double(value) => match Number::Double(value).whole() {
                    Some(whole) => Self::Number(Number::Int(whole)),
                    None => self,
                },
            },
            _ => self,
        }
    }
}
