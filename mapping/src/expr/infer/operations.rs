//! Operators: what they give of what they take.

use crate::{
    expr::{Arithmetic, Literal, Op, Order, Term, check::with_article},
    proof::{Bools, Kinds, Number, Text, Type},
};

use super::{Env, Inference, Inferred};

const TIMES: Kinds = Kinds::TIME.and(Kinds::DURATION);

// === impl Inference ===

impl Inference<'_> {
    /// `&&` and `||`: the second side is read where the first does not decide.
    pub(super) fn either(&mut self, sides: &[Term; 2], decides: bool, env: &Env) -> Inferred {
        let left = self.term(&sides[0], env);
        let left = self.expect(&sides[0], left, Kinds::BOOL);
        // a side without a value does not decide: the other is then read without knowing anything of it
        let assumed = if left.doubts.is_empty() { self.assume(&sides[0], !decides, env) } else { Some(env.clone()) };
        let Some(narrowed) = assumed.filter(|_| if decides { left.of.bools.no } else { left.of.bools.yes }) else {
            return left;
        };
        let right = self.term(&sides[1], &narrowed);
        let right = self.expect(&sides[1], right, Kinds::BOOL);
        let (a, b) = (left.of.bools, right.of.bools);
        let of = match decides {
            false => Bools { yes: a.yes && b.yes, no: a.no || b.no },
            true => Bools { yes: a.yes || b.yes, no: a.no && b.no },
        };
        Inferred::sure(Type::bools(of)).with(left.doubts).with(right.doubts)
    }

    pub(super) fn conditional(&mut self, parts: &[Term; 3], env: &Env) -> Inferred {
        let condition = self.term(&parts[0], env);
        let condition = self.expect(&parts[0], condition, Kinds::BOOL);
        let (yes, no) = (self.assume(&parts[0], true, env), self.assume(&parts[0], false, env));
        let yes = yes.filter(|_| condition.of.bools.yes).map(|env| self.term(&parts[1], &env));
        let no = no.filter(|_| condition.of.bools.no).map(|env| self.term(&parts[2], &env));
        let mut made = Inferred::sure(Type::NEVER).with(condition.doubts);
        for branch in [yes, no].into_iter().flatten() {
            made.of = made.of.join(&branch.of);
            made = made.with(branch.doubts);
        }
        made
    }

    /// Text, numbers, or times: one kind of them all.
    pub(super) fn sum(&mut self, terms: &[Term], term: &Term, env: &Env) -> Inferred {
        let addends = Kinds::TEXT.and(Kinds::NUMBER).and(TIMES);
        let all: Vec<_> = terms
            .iter()
            .map(|term| {
                let inferred = self.term(term, env);
                self.expect(term, inferred, addends)
            })
            .collect();
        if all.iter().any(|one| one.of.is_never()) {
            return Inferred::never().with(all.into_iter().flat_map(|one| one.doubts));
        }
        let possible = |kinds: Kinds| all.iter().all(|one| one.of.kinds().meets(kinds));
        let mut of = Type::NEVER;
        if possible(Kinds::TEXT) {
            let texts = all.iter().filter_map(|one| one.of.text.clone());
            of.text = texts.reduce(|a, b| a.then(&b));
        }
        if possible(Kinds::NUMBER) {
            let numbers = all.iter().filter_map(|one| one.of.number.clone());
            of.number = numbers.reduce(|a, b| a.add(&b));
        }
        if possible(TIMES) {
            // one time among durations makes a time
            of.time = all.iter().any(|one| one.of.time);
            of.duration = all.iter().all(|one| one.of.duration);
        }
        if of.is_never() {
            let found: Vec<_> = all.iter().map(|one| one.of.kinds().to_string()).collect();
            self.error(term, "never-fits", format!("can't be added: {}", found.join(" + ")));
        }
        let kinds = of.kinds();
        let single = [Kinds::TEXT, Kinds::NUMBER, TIMES].into_iter().filter(|kind| kinds.meets(*kind)).count() < 2;
        let outside = |one: &Inferred| {
            let same = [Kinds::TEXT, Kinds::NUMBER, TIMES].into_iter().find(|kind| kinds.meets(*kind));
            same.is_some_and(|same| one.of.kinds().without(same) != Kinds::NONE)
        };
        let two_times = kinds.meets(TIMES) && all.iter().filter(|one| one.of.time).count() > 1;
        let doubt = (!single || two_times || all.iter().any(outside))
            .then(|| self.doubt(term, "what is added may be of different types"));
        Inferred::sure(of).with(all.into_iter().flat_map(|one| one.doubts)).with(doubt)
    }

    pub(super) fn arithmetic(&mut self, by: Arithmetic, sides: &[Term; 2], term: &Term, env: &Env) -> Inferred {
        let [a, b] = [&sides[0], &sides[1]].map(|side| {
            let inferred = self.term(side, env);
            self.expect(side, inferred, Kinds::NUMBER)
        });
        let (Some(left), Some(right)) = (&a.of.number, &b.of.number) else {
            return Inferred::never().with(a.doubts).with(b.doubts);
        };
        let divides = matches!(by, Arithmetic::Divide | Arithmetic::Remainder);
        let zero = (divides && !right.is_nonzero()).then(|| self.doubt(&sides[1], "may be 0"));
        let whole = (by == Arithmetic::Remainder && !(left.whole && right.whole))
            .then(|| self.doubt(term, "% takes whole numbers, and these may have a fraction"));
        let of = match by {
            Arithmetic::Subtract => left.subtract(right),
            Arithmetic::Multiply => left.multiply(right),
            Arithmetic::Divide => left.divide(right),
            Arithmetic::Remainder => left.remainder(right),
        };
        Inferred::sure(Type::number(of)).with(a.doubts).with(b.doubts).with(zero).with(whole)
    }

    pub(super) fn equal(&mut self, sides: &[Term; 2], negated: bool, term: &Term, env: &Env) -> Inferred {
        let [a, b] = [&sides[0], &sides[1]].map(|side| self.term(side, env));
        if a.of.is_never() || b.of.is_never() {
            return Inferred::never().with(a.doubts).with(b.doubts);
        }
        for (one, other, at) in [(&a, &sides[1], &sides[0]), (&b, &sides[0], &sides[1])] {
            if let Op::Literal(Literal::Text(text)) = &other.op {
                self.known_word(one, text, at, other);
            }
        }
        let same = same(&a.of, &b.of);
        let same = if negated { Bools { yes: same.no, no: same.yes } } else { same };
        let containers = Kinds::LIST.and(Kinds::OBJECT);
        let doubt = (a.of.kinds().meets(containers) && b.of.kinds().meets(containers))
            .then(|| self.doubt(term, "arrays and objects can't be compared"));
        Inferred::sure(Type::bools(same)).with(a.doubts).with(b.doubts).with(doubt)
    }

    /// A word that is compared with one that is never it, of a few that it may be.
    fn known_word(&mut self, one: &Inferred, text: &str, of: &Term, at: &Term) {
        let Some(Text { only: Some(only), .. }) = &one.of.text else { return };
        if self.guards || only.contains(text) || one.of.kinds() != Kinds::TEXT {
            return;
        }
        let known: Vec<&str> = only.iter().map(|word| &**word).collect();
        let message = format!("{} is never {text:?}", self.part(of));
        let mut problem = crate::expr::Problem::new(at.span.0 as usize..at.span.1 as usize, "never-true", message);
        problem.help = Some(match yaml::nearest(text, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it is one of {}", known.join(", ")),
        });
        self.push(problem);
    }

    pub(super) fn order(&mut self, sides: &[Term; 2], term: &Term, env: &Env) -> Inferred {
        let ordered = Kinds::TEXT.and(Kinds::NUMBER).and(TIMES);
        let [a, b] = [&sides[0], &sides[1]].map(|side| {
            let inferred = self.term(side, env);
            self.expect(side, inferred, ordered)
        });
        let (left, right) = (a.of.kinds(), b.of.kinds());
        if left == Kinds::NONE || right == Kinds::NONE {
            return Inferred::never().with(a.doubts).with(b.doubts);
        }
        if !left.meets(right) {
            self.error(term, "never-fits", format!("{} can't be ordered against {}", named(left), named(right)));
            return Inferred::never();
        }
        let several = left != right || left.each().count() > 1;
        let doubt =
            several.then(|| self.doubt(term, format!("{} may be ordered against {}", named(left), named(right))));
        let of = match (&term.op, &a.of.number, &b.of.number, several) {
            (Op::Order(order, _), Some(a), Some(b), false) => ordering(*order, a, b),
            _ => Bools::BOTH,
        };
        Inferred::sure(Type::bools(of)).with(a.doubts).with(b.doubts).with(doubt)
    }

    pub(super) fn in_list(&mut self, item: &Term, list: &[Term], term: &Term, env: &Env) -> Inferred {
        let of = self.term(item, env);
        let all: Vec<_> = list.iter().map(|term| self.term(term, env)).collect();
        if of.of.is_never() {
            return of;
        }
        for (element, at) in all.iter().zip(list) {
            if let (Op::Literal(Literal::Text(text)), false) = (&at.op, element.of.is_never()) {
                self.known_word(&of, text, item, at);
            }
        }
        let yes = all.iter().any(|element| same(&of.of, &element.of).yes);
        let no = !all.iter().any(|element| !same(&of.of, &element.of).no);
        let containers = Kinds::LIST.and(Kinds::OBJECT);
        let compared = of.of.kinds().meets(containers) && all.iter().any(|one| one.of.kinds().meets(containers));
        let doubt = compared.then(|| self.doubt(term, "arrays and objects can't be compared"));
        let doubts = all.into_iter().flat_map(|one| one.doubts);
        Inferred::sure(Type::bools(Bools { yes, no })).with(of.doubts).with(doubts).with(doubt)
    }

    pub(super) fn in_value(&mut self, sides: &[Term; 2], env: &Env) -> Inferred {
        let (item, within) = (self.term(&sides[0], env), self.term(&sides[1], env));
        let containers = Kinds::LIST.and(Kinds::OBJECT);
        let within = self.expect(&sides[1], within, containers);
        if item.of.is_never() || within.of.is_never() {
            return Inferred::never().with(item.doubts).with(within.doubts);
        }
        let key = within.of.object.is_some() && item.of.kinds() != Kinds::TEXT;
        let key = key.then(|| self.doubt(&sides[0], "may be no string, to be looked for among an object's keys"));
        let nested = within.of.list.as_ref().is_some_and(|list| list.items().kinds().meets(containers));
        let compared = (nested && item.of.kinds().meets(containers))
            .then(|| self.doubt(&sides[0], "arrays and objects can't be compared"));
        Inferred::sure(Type::BOOL).with(item.doubts).with(within.doubts).with(key).with(compared)
    }

    pub(super) fn since(&mut self, sides: &[Term; 2], term: &Term, env: &Env) -> Inferred {
        let [a, b] = [&sides[0], &sides[1]].map(|side| {
            let inferred = self.term(side, env);
            self.expect(side, inferred, TIMES)
        });
        let duration = a.of.time && b.of.time || a.of.duration && b.of.duration;
        let of = Type { time: a.of.time && b.of.duration, duration, ..Type::NEVER };
        let doubt = (a.of.duration && b.of.time).then(|| self.doubt(term, "a timestamp may be taken from a duration"));
        Inferred::sure(of).with(a.doubts).with(b.doubts).with(doubt)
    }

    pub(super) fn extreme(&mut self, terms: &[Term], env: &Env) -> Inferred {
        if let [one] = terms {
            let inferred = self.term(one, env);
            let inferred = self.expect(one, inferred, Kinds::NUMBER.and(Kinds::LIST));
            let Some(list) = inferred.of.list.clone() else { return inferred };
            let items = self.expect(one, Inferred::sure(list.items()), Kinds::NUMBER);
            let empty = (list.least == 0).then(|| self.doubt(one, "the array may be empty"));
            let of = items.of.join(&inferred.of.of_kinds(Kinds::NUMBER));
            return Inferred::sure(of).with(inferred.doubts).with(items.doubts).with(empty);
        }
        let all: Vec<_> = terms
            .iter()
            .map(|term| {
                let inferred = self.term(term, env);
                self.expect(term, inferred, Kinds::NUMBER)
            })
            .collect();
        let of = all.iter().fold(Type::NEVER, |of, one| of.join(&one.of));
        Inferred::sure(of).with(all.into_iter().flat_map(|one| one.doubts))
    }
}

/// Whether a value of one may equal a value of the other, and whether it may not.
fn same(a: &Type, b: &Type) -> Bools {
    let shared = a.meet(b);
    let one = |of: &Type| match of.kinds() {
        Kinds::NULL => true,
        Kinds::BOOL => of.bools != Bools::BOTH,
        Kinds::TEXT => of.text.as_ref().is_some_and(|text| text.constant().is_some()),
        Kinds::NUMBER => of.number.as_ref().is_some_and(|number| matches!(number.only.as_deref(), Some([_]))),
        _ => false,
    };
    Bools { yes: !shared.is_never(), no: !(one(a) && one(b) && !shared.is_never()) }
}

fn ordering(order: Order, a: &Number, b: &Number) -> Bools {
    // bounds are of the nearest double, so at the same double either is possible
    let (less, greater) = (a.high < b.low, a.low > b.high);
    match order {
        Order::Less | Order::LessOrEqual => Bools { yes: !greater, no: !less },
        Order::Greater | Order::GreaterOrEqual => Bools { yes: !less, no: !greater },
    }
}

fn named(kinds: Kinds) -> String {
    with_article(&kinds.to_string())
}
