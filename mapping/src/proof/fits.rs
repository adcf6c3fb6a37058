//! Whether every value of a type conforms to a schema, and where not.
//!
//! Each keyword is looked at for the kinds that it is about. One that types say nothing of, such as `multipleOf` or
//! `not`, is no proof: it is checked at run time.

mod shape;

use std::borrow::Cow;

use envelope::{
    Json,
    json::{Node, write_string},
};
use schema::Schema;

use super::{
    json_schema::{self, Document},
    number::EXACT,
    text::Text,
    types::{Kinds, Type},
};

/// Why a value may not conform, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `.celsius`, `.lines[].sku`; empty for the whole.
    pub(crate) path: String,
    pub(crate) why: String,
    /// No value that there may be conforms.
    pub(crate) never: bool,
}

/// How many subschemas one proof looks at, each part of an `anyOf` and what it is compared with included; what is beyond is
/// checked at run time.
const MAX_STEPS: usize = 20_000;
/// How many findings back a new one is looked for.
const RECENT: usize = 64;
/// How deep; beyond, likewise.
const MAX_DEPTH: usize = 64;
/// What a timestamp is written with: `2026-11-23T10:00:00.000000Z`.
const TIME_LENGTH: usize = 27;

/// Keywords that say nothing of a value.
const ANNOTATIONS: [&str; 16] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
];

pub(super) struct Check<'s> {
    document: Document<'s>,
    found: Vec<Finding>,
    /// What is left of [`MAX_STEPS`].
    steps: usize,
    depth: usize,
}

// === impl Check ===

impl<'s> Check<'s> {
    /// Why values of the type may not conform to the whole schema; none: they all do.
    pub(super) fn run(of: &Type, document: Document<'s>) -> Vec<Finding> {
        let mut check = Self { document, found: Vec::new(), steps: MAX_STEPS, depth: 0 };
        check.schema(of, document.root(), &mut String::new());
        check.found
    }

    fn schema(&mut self, of: &Type, schema: Node<'s>, path: &mut String) {
        if of.is_never() {
            return;
        }
        if self.steps == 0 || self.depth > MAX_DEPTH {
            return self.doubt(path, "the schema is too large to be proven");
        }
        self.steps -= 1;
        let Some(keywords) = schema.as_object() else {
            if schema.as_bool() == Some(false) {
                self.never(path, "the schema allows no value here");
            }
            return;
        };
        self.depth += 1;
        let of = self.kinds(of, schema, path);
        for (name, value) in keywords {
            if !of.is_never() {
                self.keyword(name, value, schema, &of, path);
            }
        }
        self.depth -= 1;
    }

    /// What is left of the type once `type` has been asked.
    fn kinds<'t>(&mut self, of: &'t Type, schema: Node<'s>, path: &str) -> Cow<'t, Type> {
        let Some(types) = schema.get("type") else { return Cow::Borrowed(of) };
        let allowed = json_schema::kinds(types);
        let written = if allowed.meets(Kinds::TEXT) { Kinds::TIME.and(Kinds::DURATION) } else { Kinds::NONE };
        let other = of.kinds().without(allowed.and(written));
        let name = if json_schema::only_integers(types) && allowed == Kinds::NUMBER {
            "integer".to_owned()
        } else {
            allowed.to_string()
        };
        if other == of.kinds() {
            self.never(path, format!("the schema wants {name}, this is {other}"));
            return Cow::Owned(Type::NEVER);
        }
        if other != Kinds::NONE {
            let other = if other.each().count() > 3 { "anything else".to_owned() } else { other.to_string() };
            self.doubt(path, format!("the schema wants {name}, this may be {other}"));
        }
        let of = match other == Kinds::NONE {
            true => Cow::Borrowed(of),
            false => Cow::Owned(of.of_kinds(allowed.and(written))),
        };
        if let Some(number) = &of.number
            && json_schema::only_integers(types)
            && !number.whole
        {
            let fraction = number.only.as_ref().is_some_and(|all| all.iter().all(|n| n.fract() != 0.0));
            match fraction && of.kinds() == Kinds::NUMBER {
                true => self.never(path, "the schema wants integer, this has a fraction"),
                false => self.doubt(path, "the schema wants integer, this may have a fraction"),
            }
        }
        of
    }

    fn keyword(&mut self, name: &str, value: Node<'s>, schema: Node<'s>, of: &Type, path: &mut String) {
        match name {
            "type" | "then" | "else" => {}
            "required" | "properties" | "additionalProperties" => self.object(name, value, schema, of, path),
            "minProperties" | "maxProperties" => self.members(name, value, of, path),
            "items" | "prefixItems" | "minItems" | "maxItems" | "uniqueItems" => {
                self.list(name, value, schema, of, path);
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                self.number(name, value, of, path);
            }
            "minLength" | "maxLength" | "pattern" | "format" => self.text(name, value, of, path),
            "enum" | "const" => self.values(name, value, of, path),
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    self.schema(of, part, path);
                }
            }
            "anyOf" | "oneOf" => self.any_of(name, value, of, path),
            "$ref" => match value.as_str().and_then(|to| self.document.resolve(to)) {
                Some(to) => self.schema(of, to, path),
                None => self.doubt(path, "\"$ref\" leads out of what can be proven"),
            },
            "patternProperties"
            | "propertyNames"
            | "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedProperties"
                if of.object.is_none() => {}
            "contains" | "minContains" | "maxContains" | "unevaluatedItems" if of.list.is_none() => {}
            name if ANNOTATIONS.contains(&name) || name.starts_with("x-") => {}
            name => self.doubt(path, format!("{name:?} is checked at run time")),
        }
    }

    fn number(&mut self, keyword: &str, value: Node<'s>, of: &Type, path: &str) {
        let (Some(number), Some(text)) = (&of.number, value.as_number()) else { return };
        let bound: f64 = text.parse().unwrap_or(f64::NAN);
        let (proven, never) = match keyword {
            "minimum" => (number.low >= bound, number.high < bound),
            "exclusiveMinimum" => (number.low > bound, number.high < bound),
            "maximum" => (number.high <= bound, number.low > bound),
            "exclusiveMaximum" => (number.high < bound, number.low > bound),
            _ => (number.whole && bound == 1.0, false),
        };
        // beyond 2^53 a double stands for several numbers
        if bound.abs() < EXACT && proven {
            return;
        }
        let why = format!("the schema has {keyword:?}: {text}");
        if never && of.kinds() == Kinds::NUMBER { self.never(path, why) } else { self.doubt(path, why) }
    }

    fn text(&mut self, keyword: &str, value: Node<'s>, of: &Type, path: &str) {
        let count = json_schema::count(value);
        let texts = of.text.iter().cloned();
        let times = of.time.then(|| Text { least: TIME_LENGTH, most: TIME_LENGTH, ..fact("format:date-time") });
        let durations = of.duration.then_some(Text { least: 2, ..Text::ANY });
        for text in texts.chain(times).chain(durations) {
            let alone = of.kinds().each().count() == 1;
            match keyword {
                "minLength" => self.count(text.least, text.most, (count, None), alone, "characters", path),
                "maxLength" => self.count(text.least, text.most, (None, count), alone, "characters", path),
                _ => self.written(keyword, value, &text, path),
            }
        }
    }

    /// `pattern` or `format`.
    fn written(&mut self, keyword: &str, value: Node<'s>, text: &Text, path: &str) {
        let Some(word) = value.as_str() else { return };
        if text.facts.contains(format!("{keyword}:{word}").as_str()) {
            return;
        }
        let Some(only) = &text.only else {
            return self.doubt(path, format!("{keyword:?} {word:?} is checked at run time"));
        };
        let mut schema = format!("{{\"{keyword}\":").into_bytes();
        write_string(&mut schema, word);
        schema.push(b'}');
        let holds = |schema: &Schema, word: &str| {
            let mut json = Vec::new();
            write_string(&mut json, word);
            Json::parse(json.into()).is_ok_and(|json| schema.check(&json).is_ok())
        };
        match Schema::compile("", &schema) {
            Ok(schema) if only.iter().all(|word| holds(&schema, word)) => {}
            Ok(_) | Err(_) => self.doubt(path, format!("{keyword:?} {word:?} does not hold for all that it may be")),
        }
    }

    fn count(
        &mut self,
        least: usize,
        most: usize,
        bounds: (Option<usize>, Option<usize>),
        alone: bool,
        what: &str,
        path: &str,
    ) {
        let (proven, never, why) = match bounds {
            (Some(low), _) => (least >= low, most < low, format!("the schema wants at least {low} {what}")),
            (None, Some(high)) => (most <= high, least > high, format!("the schema wants at most {high} {what}")),
            (None, None) => return,
        };
        match (proven, never && alone) {
            (true, _) => {}
            (false, true) => self.never(path, why),
            (false, false) => self.doubt(path, why),
        }
    }

    /// `enum` and `const`: every value must be one of them.
    fn values(&mut self, keyword: &str, value: Node<'s>, of: &Type, path: &str) {
        let all: Vec<Node<'_>> = match keyword {
            "enum" => value.as_array().into_iter().flatten().collect(),
            _ => vec![value],
        };
        let allowed = all.iter().fold(Type::NEVER, |all, one| all.join(&json_schema::literal(*one)));
        let shown: String = value.source().chars().take(80).collect();
        if of.meet(&allowed).is_never() && !of.time && !of.duration {
            return self.never(path, format!("the schema has {keyword:?}: {shown}"));
        }
        if !among(of, &allowed) {
            self.doubt(path, format!("the schema has {keyword:?}: {shown}"));
        }
    }

    /// Each kind must conform to a part of its own: a value is of one.
    fn any_of(&mut self, keyword: &str, value: Node<'s>, of: &Type, path: &mut String) {
        let parts: Vec<_> = value.as_array().into_iter().flatten().collect();
        let mut never = true;
        for kind in of.kinds().each() {
            let of = match of.kinds() == kind {
                true => Cow::Borrowed(of),
                false => Cow::Owned(of.of_kinds(kind)),
            };
            let verdicts: Vec<_> = parts.iter().map(|part| self.apart(&of, *part, path)).collect();
            let fits = verdicts.iter().filter(|verdict| **verdict == Some(true)).count();
            let unknown = verdicts.iter().filter(|verdict| verdict.is_none()).count();
            never &= fits == 0 && unknown == 0;
            let proven = if keyword == "anyOf" { fits > 0 } else { fits == 1 && unknown == 0 };
            if !proven && (fits > 0 || unknown > 0) {
                self.doubt(path, format!("{keyword:?} is checked at run time for {kind}"));
            } else if !proven {
                self.doubt(path, format!("no part of {keyword:?} allows {kind}"));
            }
        }
        if never {
            self.never(path, format!("no part of {keyword:?} allows it"));
        }
    }

    /// Whether every value conforms to a part, or none; `None`: some may.
    fn apart(&mut self, of: &Type, part: Node<'s>, path: &mut String) -> Option<bool> {
        let before = std::mem::take(&mut self.found);
        self.schema(of, part, path);
        let found = std::mem::replace(&mut self.found, before);
        match found.as_slice() {
            [] => Some(true),
            found if found.iter().any(|found| found.never) => Some(false),
            _ if self.is_apart(of, part) => Some(false),
            _ => None,
        }
    }

    /// No value of the type conforms to a part.
    fn is_apart(&mut self, of: &Type, part: Node<'s>) -> bool {
        let admitted = self.document.part_admits(part, &mut self.steps);
        !of.time && !of.duration && of.is_apart(&admitted, &mut self.steps)
    }

    fn doubt(&mut self, path: &str, why: impl Into<String>) {
        self.add(Finding { path: path.to_owned(), why: why.into(), never: false });
    }

    fn never(&mut self, path: &str, why: impl Into<String>) {
        self.add(Finding { path: path.to_owned(), why: why.into(), never: true });
    }

    fn add(&mut self, finding: Finding) {
        if !self.found.iter().rev().take(RECENT).any(|known| *known == finding) {
            self.found.push(finding);
        }
    }
}

fn fact(fact: &str) -> Text {
    Text { facts: [fact.into()].into(), ..Text::ANY }
}

/// Every value of `of`, of which each kind is known one by one, is among the others.
fn among(of: &Type, allowed: &Type) -> bool {
    let bools = (!of.bools.yes || allowed.bools.yes) && (!of.bools.no || allowed.bools.no);
    let texts = of.text.as_ref().is_none_or(|text| match (&text.only, allowed.text.as_ref().map(|text| &text.only)) {
        (Some(only), Some(Some(allowed))) => only.is_subset(allowed),
        _ => false,
    });
    let numbers = of.number.as_ref().is_none_or(|number| {
        match (&number.only, allowed.number.as_ref().map(|number| &number.only)) {
            (Some(only), Some(Some(allowed))) => only.iter().all(|n| allowed.contains(n)),
            _ => false,
        }
    });
    let others = of.list.is_none() && of.object.is_none() && !of.time && !of.duration;
    (!of.null || allowed.null) && bools && texts && numbers && others
}
