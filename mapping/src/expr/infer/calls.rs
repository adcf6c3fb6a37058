//! Functions: what they give, and for which arguments they have no value.

use crate::{
    expr::{
        Term,
        about::Attribute,
        check::Type as Declared,
        convert::is_hash,
        function::{Function, Signature},
        list::MAX_ELEMENTS,
        lookup::Lookup,
        number::Rounding,
        time::{self, Duration, Field},
    },
    proof::{Bools, Held, Kinds, List, Number, Text, Type},
};

use super::{Env, Inference, Inferred};

/// The seconds of the times there are: from 1970 to 9999.
const SECONDS: f64 = 253_402_300_800.0;
pub(super) const INTS: Number = Number::ints(i64::MIN as f64, i64::MAX as f64);
/// An index: a payload is far smaller.
const MAX_INDEX: f64 = 281_474_976_710_656.0;

// === impl Inference ===

impl Inference<'_> {
    pub(super) fn call(&mut self, function: Function, terms: &[Term], call: &Term, env: &Env) -> Inferred {
        let takes = Signature::of(function).map_or(&[][..], |signature| signature.takes);
        let given: Vec<_> = terms
            .iter()
            .enumerate()
            .map(|(number, term)| {
                let inferred = self.term(term, env);
                match takes.get(number) {
                    Some(types) if !types.is_empty() => self.expect(term, inferred, kinds(types)),
                    _ => inferred,
                }
            })
            .collect();
        let types: Vec<Type> = given.iter().map(|one| one.of.clone()).collect();
        let doubts: Vec<_> = given.into_iter().flat_map(|one| one.doubts).collect();
        if types.iter().any(Type::is_never) {
            return Inferred::never().with(doubts);
        }
        if function == Function::Format {
            let list = types.get(1).cloned().unwrap_or(Type::ANY);
            let (refused, least) = self.format(terms, &list, env);
            let text = Text { least, ..Text::ANY };
            return Inferred::sure(Type::text(text)).with(doubts).with(refused);
        }
        let refused = self.refused(function, terms, &types, call);
        Inferred::sure(gives(function, &types)).with(doubts).with(refused)
    }

    /// An attribute of what the expression is about.
    pub(super) fn about(&self, attribute: Attribute, term: &Term) -> Inferred {
        let of = match attribute.gives() {
            Declared::Text => Type::text(attribute.text()),
            Declared::Time => Type::TIME,
            Declared::Bool => Type::BOOL,
            Declared::List => Type::list(List::of(Type::TEXT)),
            _ => Type::ANY,
        };
        let missing = (!attribute.is_always()).then(|| self.doubt(term, "may be missing"));
        Inferred::sure(of).with(missing)
    }

    /// A cell of the column; a key that the table does not have is a doubt unless there is a default.
    pub(super) fn lookup(&mut self, of: &Lookup, term: &Term, env: &Env) -> Inferred {
        let key = self.term(&of.key, env);
        let key = self.expect(&of.key, key, of.takes());
        let missing = match (&of.default, of.has_all(&key.of)) {
            (Some(_), _) | (None, true) => None,
            (None, false) => Some(self.doubt(term, "the table may not have the key")),
        };
        let mut found = Inferred::sure(of.cells()).with(key.doubts).with(missing);
        if let Some(default) = &of.default {
            let default = self.term(default, env);
            found.of = found.of.join(&default.of);
            found = found.with(default.doubts);
        }
        found
    }

    /// Why a value of the right types may still be refused.
    fn refused(&self, function: Function, terms: &[Term], types: &[Type], call: &Term) -> Option<super::Doubt> {
        let first = types.first()?;
        let text = |number: usize| types.get(number).and_then(|of| of.text.as_ref());
        let every = |passes: fn(&str) -> bool| {
            text(0).is_none_or(|text| text.only.as_ref().is_some_and(|only| only.iter().all(|word| passes(word))))
        };
        let index = |number: usize| types.get(number).and_then(|of| of.number.as_ref());
        let why = match function {
            Function::CharAt => {
                let least = text(0).map_or(0, |text| text.least);
                let within = index(1).is_some_and(|at| at.whole && at.low >= 0.0 && at.high <= least as f64);
                (!within).then_some("there may be no such character")
            }
            Function::Substring => {
                let least = text(0).map_or(0, |text| text.least) as f64;
                let (from, to) = (index(1), index(2));
                let within = from.is_some_and(|at| at.whole && at.low >= 0.0 && at.high <= least);
                let ordered =
                    to.is_none_or(|to| to.whole && to.high <= least && from.is_some_and(|from| from.high <= to.low));
                (!(within && ordered)).then_some("the text may be shorter")
            }
            Function::IndexOf | Function::LastIndexOf => {
                let least = text(0).map_or(0, |text| text.least) as f64;
                let within = index(2).is_none_or(|at| at.whole && at.low >= 0.0 && at.high <= least);
                (!within).then_some("the text may be shorter")
            }
            Function::Replace | Function::Split => {
                let limit = index(if function == Function::Split { 2 } else { 3 });
                let whole = limit.is_none_or(|limit| limit.whole && limit.low >= -1.0);
                (!whole).then_some("the number of times may be no whole number from 0")
            }
            Function::Join => {
                let items = first.list.as_ref().map_or(Type::TEXT, List::items);
                (items.kinds() != Kinds::TEXT && !items.is_never()).then_some("not all elements may be strings")
            }
            Function::Int => (!every(|word| word.trim().parse::<i64>().is_ok())).then_some("may be no whole number"),
            Function::Double => {
                let number = |word: &str| crate::expr::number::double_of_text(word.trim()).is_some();
                (!every(number)).then_some("may be no number")
            }
            Function::Bool => {
                let word = |word: &str| {
                    ["true", "True", "TRUE", "t", "1", "false", "False", "FALSE", "f", "0"].contains(&word)
                };
                (!every(word)).then_some("may be neither \"true\" nor \"false\"")
            }
            Function::Timestamp => {
                let written = text(0).is_some_and(|text| text.facts.contains("format:date-time"));
                let known = written || every(|word| time::parse(word).is_ok());
                let whole = first.number.as_ref().is_none_or(|number| number.whole);
                (!(known && whole)).then_some("may be no RFC 3339 timestamp, nor whole seconds")
            }
            Function::Duration => {
                (!every(|word| Duration::parse(word).is_some())).then_some("may be no duration, as in 90s")
            }
            Function::Field(field) => {
                let date = !matches!(field, Field::Hours | Field::Minutes | Field::Seconds | Field::Milliseconds);
                (date && first.duration).then_some("a duration has no date")
            }
            Function::Decode => Some("may be no base64 of a text"),
            Function::Hash => (!every(is_hash)).then_some("may be no name of a hash"),
            Function::Redact => {
                let whole = index(1).is_none_or(|last| last.whole && last.low >= 0.0);
                (!whole).then_some("the number of characters may be no whole number from 0")
            }
            Function::ParseJson => Some("may be no JSON"),
            Function::Sort => {
                let kinds = items(first).kinds();
                let one = [Kinds::NONE, Kinds::NUMBER, Kinds::TEXT, Kinds::TIME, Kinds::DURATION].contains(&kinds);
                (!one).then_some("not all elements may be of one kind that has an order")
            }
            Function::Distinct => {
                let compared = !items(first).kinds().meets(Kinds::LIST.and(Kinds::OBJECT));
                (!compared).then_some("there may be arrays or objects, which are not compared")
            }
            Function::Slice => {
                let least = first.list.as_ref().map_or(0, |list| list.least) as f64;
                let within = index(1).zip(index(2)).is_some_and(|(from, to)| {
                    from.whole && to.whole && from.low >= 0.0 && from.high <= to.low && to.high <= least
                });
                (!within).then_some("the array may be shorter")
            }
            Function::Flatten | Function::Range => {
                let count = index(if function == Function::Range { 0 } else { 1 });
                let whole = count.is_none_or(|count| count.whole && count.low >= 0.0);
                (!whole).then_some("the number may be no whole number from 0")
            }
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::LowerAscii
            | Function::UpperAscii
            | Function::Trim
            | Function::Reverse
            | Function::Rounding(_)
            | Function::Text
            | Function::AsList
            | Function::Uuid
            | Function::Quote
            | Function::Format
            | Function::Encode => None,
            Function::Math(by) => super::math::refused(by, types),
        };
        let at = terms.first().filter(|_| matches!(function, Function::Int | Function::Double | Function::Timestamp));
        why.map(|why| self.doubt(at.unwrap_or(call), why))
    }
}

fn kinds(types: &[Declared]) -> Kinds {
    let kind = |of: &Declared| match of {
        Declared::Any => Type::ANY.kinds().and(Kinds::TIME).and(Kinds::DURATION),
        Declared::Null => Kinds::NULL,
        Declared::Bool => Kinds::BOOL,
        Declared::Number => Kinds::NUMBER,
        Declared::Text => Kinds::TEXT,
        Declared::Time => Kinds::TIME,
        Declared::Duration => Kinds::DURATION,
        Declared::List => Kinds::LIST,
        Declared::Map => Kinds::OBJECT,
    };
    types.iter().map(kind).fold(Kinds::NONE, Kinds::and)
}

fn gives(function: Function, types: &[Type]) -> Type {
    let text = types.first().and_then(|of| of.text.as_ref());
    let most = text.map_or(usize::MAX, |text| text.most);
    let of_length = |least, most| Type::text(Text { least, most, ..Text::ANY });
    match function {
        Function::Contains | Function::StartsWith | Function::EndsWith => Type::BOOL,
        Function::LowerAscii => recased(text, str::to_ascii_lowercase),
        Function::UpperAscii => recased(text, str::to_ascii_uppercase),
        Function::Trim | Function::Substring => of_length(0, most),
        Function::Reverse => {
            let reversed = of_length(text.map_or(0, |text| text.least), most);
            let text = if text.is_some() { reversed } else { Type::NEVER };
            types.first().map_or(Type::NEVER, |of| text.join(&of.of_kinds(Kinds::LIST)))
        }
        Function::Redact => of_length(text.map_or(0, |text| text.least), most),
        Function::Sort => types.first().map_or(Type::NEVER, |of| of.of_kinds(Kinds::LIST)),
        Function::Distinct => match types.first().and_then(|of| of.list.clone()) {
            Some(list) => Type::list(List { least: list.least.min(1), ..list }),
            None => Type::NEVER,
        },
        Function::Slice => match types.first().and_then(|of| of.list.clone()) {
            Some(list) => Type::list(List { least: 0, ..list }),
            None => Type::NEVER,
        },
        Function::Flatten => match types {
            [of] => {
                let of = items(of);
                let inner = of.list.as_ref().map_or(Type::NEVER, List::items);
                Type::list(List::of(of.of_kinds(of.kinds().without(Kinds::LIST)).join(&inner)))
            }
            _ => Type::list(List::ANY),
        },
        Function::Range => {
            let items = Type::number(Number::ints(0.0, MAX_ELEMENTS as f64));
            Type::list(List { most: MAX_ELEMENTS, ..List::of(items) })
        }
        Function::CharAt => of_length(0, 1),
        Function::IndexOf | Function::LastIndexOf => Type::number(Number::ints(-1.0, MAX_INDEX)),
        Function::Replace | Function::Join | Function::Encode | Function::Decode => Type::TEXT,
        Function::Text => match types.first() {
            Some(of) if of.kinds() == Kinds::TEXT => of.clone(),
            _ => of_length(0, usize::MAX),
        },
        Function::Split => Type::list(List::of(Type::TEXT)),
        Function::Rounding(by) => {
            types.first().and_then(|of| of.number.as_ref()).map_or(Type::NEVER, |of| rounded(of, by))
        }
        Function::Int => Type::number(match types.first() {
            Some(Type { number: Some(of), text: None, time: false, .. })
                if of.low > INTS.low && of.high < INTS.high =>
            {
                Number::ints(of.low.trunc(), of.high.trunc())
            }
            _ => INTS,
        }),
        Function::Double => Type::number(match types.first() {
            Some(Type { number: Some(of), text: None, .. }) => {
                Number { held: Held::Double, only: None, nonzero: false, ..of.clone() }
            }
            _ => Number { held: Held::Double, ..Number::ANY },
        }),
        Function::Bool => match types.first() {
            Some(of) if of.kinds() == Kinds::BOOL => of.clone(),
            _ => Type::bools(Bools::BOTH),
        },
        Function::Timestamp => Type::TIME,
        Function::Duration => Type::DURATION,
        Function::Field(field) => Type::number(match (field, types.first()) {
            (Field::Year, _) => Number::ints(1970.0, 9999.0),
            (Field::Month, _) => Number::ints(0.0, 11.0),
            (Field::Date, _) => Number::ints(1.0, 31.0),
            (Field::DayOfMonth, _) => Number::ints(0.0, 30.0),
            (Field::DayOfYear, _) => Number::ints(0.0, 365.0),
            (Field::Weekday, _) => Number::ints(0.0, 6.0),
            (_, Some(of)) if of.duration => Number::ints(-SECONDS * 1_000.0, SECONDS * 1_000.0),
            (Field::Hours, _) => Number::ints(0.0, 23.0),
            (Field::Minutes | Field::Seconds, _) => Number::ints(0.0, 59.0),
            (Field::Milliseconds, _) => Number::ints(0.0, 999.0),
        }),
        Function::Hash => of_length(64, 128),
        Function::Math(by) => super::math::gives(by, types),
        Function::Quote => of_length(2, usize::MAX),
        Function::Format => Type::TEXT,
        Function::Uuid => of_length(36, 36),
        Function::AsList => {
            let of = types.first().cloned().unwrap_or(Type::ANY);
            let one = of.of_kinds(of.kinds().without(Kinds::LIST));
            let one = List { items: Some(one.into()), least: 1, most: 1 };
            let one = if of.kinds() == Kinds::LIST { Type::NEVER } else { Type::list(one) };
            one.join(&of.of_kinds(Kinds::LIST))
        }
        Function::ParseJson => Type::ANY,
    }
}

/// What the elements of an array may be.
fn items(of: &Type) -> Type {
    of.list.as_ref().map_or(Type::NEVER, List::items)
}

fn recased(text: Option<&Text>, by: fn(&str) -> String) -> Type {
    let Some(text) = text else { return Type::TEXT };
    let cased = text.only.as_ref().map(|only| only.iter().map(|word| by(word)).collect::<Vec<_>>());
    let known = cased.and_then(|words| Text::of(words.iter().map(String::as_str)));
    Type::text(known.unwrap_or(Text { least: text.least, most: text.most, ..Text::ANY }))
}

fn rounded(of: &Number, by: Rounding) -> Type {
    let plain = Number { only: None, nonzero: false, ..of.clone() };
    let held = if of.held == Held::Int { Held::Int } else { Held::Mixed };
    let (low, high) = (of.low, of.high);
    Type::number(match by {
        Rounding::Abs => {
            let least = if low <= 0.0 && high >= 0.0 { 0.0 } else { low.abs().min(high.abs()) };
            Number { low: least, high: low.abs().max(high.abs()), ..plain }
        }
        Rounding::Sign => Number { low: -1.0, high: 1.0, whole: true, held, ..plain },
        Rounding::Ceil => Number { low: low.ceil(), high: high.ceil(), whole: true, held, ..plain },
        Rounding::Floor => Number { low: low.floor(), high: high.floor(), whole: true, held, ..plain },
        Rounding::Round => Number { low: low.round(), high: high.round(), whole: true, held, ..plain },
        Rounding::Trunc => Number { low: low.trunc(), high: high.trunc(), whole: true, held, ..plain },
    })
}
