//! `format`: whether each of its values is what its clause takes.

use crate::{
    expr::{
        Literal, Op, Term,
        clauses::{Clause, Piece, pieces},
    },
    proof::{Kinds, List, Type},
};

use super::{Doubt, Env, Inference, math::is_bits};

// === impl Inference ===

impl Inference<'_> {
    /// Why a message may be refused here, and how many characters the text has at least.
    pub(super) fn format(&mut self, terms: &[Term], list: &Type, env: &Env) -> (Vec<Doubt>, usize) {
        let [format, values] = terms else { return (Vec::new(), 0) };
        let Op::Literal(Literal::Text(text)) = &format.op else {
            return (vec![self.doubt(format, "may be no format of these values")], 0);
        };
        let (mut clauses, mut least, mut doubts) = (Vec::new(), 0, Vec::new());
        for piece in pieces(text).flatten() {
            match piece {
                Piece::Text(text) => least += text.chars().count(),
                Piece::Value(clause) => clauses.push(clause),
            }
        }
        if let Op::List(elements) = &values.op {
            for (clause, element) in clauses.iter().zip(elements) {
                let inferred = self.term(element, env);
                let inferred = self.expect(element, inferred, clause.kinds());
                let unfit = clause.unfit(&inferred.of).map(|why| self.doubt(element, why));
                doubts.extend(inferred.doubts.into_iter().chain(unfit));
            }
            return (doubts, least);
        }
        let list = list.list.clone().unwrap_or(List::ANY);
        if list.least < clauses.len() {
            doubts.push(self.doubt(values, format!("may have fewer values than the {} of the format", clauses.len())));
        }
        let items = list.items();
        let other = clauses.iter().find(|clause| items.kinds().without(clause.kinds()) != Kinds::NONE);
        if let Some(clause) = other {
            doubts.push(self.doubt(values, format!("a value may not be {}", clause.takes())));
        } else if let Some(why) = clauses.iter().find_map(|clause| clause.unfit(&items)) {
            doubts.push(self.doubt(values, why));
        }
        (doubts, least)
    }
}

// === impl Clause ===

impl Clause {
    const fn kinds(self) -> Kinds {
        match self {
            Self::Text => Kinds::TEXT
                .and(Kinds::NUMBER)
                .and(Kinds::BOOL)
                .and(Kinds::NULL)
                .and(Kinds::LIST)
                .and(Kinds::OBJECT)
                .and(Kinds::TIME)
                .and(Kinds::DURATION),
            Self::Decimal | Self::Fixed(_) | Self::Scientific(_) | Self::Octal => Kinds::NUMBER,
            Self::Binary => Kinds::NUMBER.and(Kinds::BOOL),
            Self::Hex { .. } => Kinds::NUMBER.and(Kinds::TEXT),
        }
    }

    /// Why a value of the right kind may be refused.
    fn unfit(self, of: &Type) -> Option<&'static str> {
        let whole = matches!(self, Self::Binary | Self::Hex { .. } | Self::Octal);
        let unfit = whole && of.number.as_ref().is_some_and(|number| !is_bits(number));
        unfit.then_some("may be no whole number of 64 bits")
    }
}
