//! What a pattern costs, and how long the texts may be that it looks at.
//!
//! The library's matching is linear in the text with the size of the pattern as factor once its cache does not do: `a[ab]{500}c`
//! over a megabyte takes seconds. The bound is put beside each pattern as its `maxLength`, which is looked at first; how large
//! a message may be in which there are many such texts is known from the costliest of them.

use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Map, Value, json};

/// Patterns of so many places are quick on any text: the states that they can be in fit the cache.
pub const QUICK: usize = 12;
/// How many places a pattern may be at while it looks at one text, at most: about a tenth of a second.
const MAX: usize = 4 << 20;
/// As many while it looks at all texts of a message.
const MAX_MESSAGE: usize = 16 * MAX;

/// Keywords whose value is a schema, or a list of them.
const SCHEMAS: [&str; 18] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];
/// Of those, and the rest: keywords whose value has a schema for each name.
const NAMED: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// At how many places in a pattern one character of a text may stand at once, at most. One that is no pattern has none.
pub fn places(pattern: &str) -> usize {
    regex_syntax::parse(pattern).map_or(0, |hir| of(&hir))
}

fn of(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.max(1));
            of(&repetition.sub).saturating_mul(times as usize)
        }
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(of).fold(0, usize::saturating_add),
    }
}

/// Why the library takes no such pattern; `None` if it does.
pub(crate) fn refused(pattern: &str, most: usize) -> Option<String> {
    match regex::RegexBuilder::new(pattern).size_limit(most).build() {
        Ok(_) => None,
        Err(regex::Error::CompiledTooBig(limit)) => {
            Some(format!("{} is too large: compiled it has more than {limit} bytes", shown(pattern)))
        }
        Err(error) => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Some(format!("{} is no pattern that runs in linear time: {last}", shown(pattern)))
        }
    }
}

fn shown(pattern: &str) -> String {
    const SHOWN: usize = 48;
    match pattern.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &pattern[..end]),
        None => format!("{pattern:?}"),
    }
}

/// Gives each costly pattern its bound; the places of the costliest, those that names are held to included.
pub(crate) fn bound(schema: &mut Value) -> usize {
    let Some(keywords) = schema.as_object_mut() else { return 0 };
    let mut most = 0;
    for (keyword, value) in keywords.iter_mut() {
        let below = match value {
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                let of_names = if keyword == "patternProperties" { costliest(named.keys()) } else { 0 };
                named.values_mut().map(bound).fold(of_names, usize::max)
            }
            Value::Array(several) if SCHEMAS.contains(&keyword.as_str()) => {
                several.iter_mut().map(bound).fold(0, usize::max)
            }
            one if SCHEMAS.contains(&keyword.as_str()) => bound(one),
            _ => 0,
        };
        most = most.max(below);
    }
    most.max(bound_here(keywords))
}

fn costliest<'p>(patterns: impl Iterator<Item = &'p String>) -> usize {
    patterns.map(|pattern| places(pattern)).filter(|places| *places > QUICK).max().unwrap_or(0)
}

/// How many bytes a message may have whose texts are looked at by a pattern of so many places; `None` for any.
pub(crate) fn most_bytes(places: usize) -> Option<usize> {
    MAX_MESSAGE.checked_div(places)
}

fn bound_here(keywords: &mut Map<String, Value>) -> usize {
    let places = keywords.get("pattern").and_then(Value::as_str).map_or(0, places);
    if places <= QUICK {
        return 0;
    }
    let most = MAX / places;
    let says = keywords.get("maxLength").and_then(Value::as_f64);
    if says.is_none_or(|says| says > most as f64) {
        keywords.insert("maxLength".to_owned(), json!(most));
    }
    places
}

#[cfg(test)]
mod tests {
    use envelope::Json;

    use super::*;
    use crate::Schema;

    #[test]
    fn a_pattern_has_as_many_places_as_characters_may_stand_at() {
        for (pattern, most) in
            [("", 0), ("^v-[0-9]+$", 3), ("a[ab]{500}c", 502), ("(x|yz)*", 3), ("(a{3,5}b?)+", 6), ("[", 0)]
        {
            assert_eq!(places(pattern), most, "{pattern}");
        }
    }

    #[test]
    fn only_patterns_are_bound_and_never_what_stands_there_as_a_value() {
        let costly = "[ab]{100}";
        let mut schema = json!({
            "pattern": costly,
            "const": { "pattern": costly },
            "properties": { "pattern": { "pattern": costly, "maxLength": 7 }, "const": { "pattern": costly } },
            "anyOf": [{ "items": { "pattern": "^[a-z]+$" } }, true],
        });
        bound(&mut schema);
        assert_eq!(schema["maxLength"], MAX / 100);
        assert_eq!(schema["const"], json!({ "pattern": costly }));
        assert_eq!(schema["properties"]["pattern"]["maxLength"], 7);
        assert_eq!(schema["properties"]["const"]["maxLength"], MAX / 100);
        assert_eq!(schema["anyOf"], json!([{ "items": { "pattern": "^[a-z]+$" } }, true]));
    }

    #[test]
    fn a_costly_pattern_looks_at_no_long_text() {
        let schema = Schema::compile("s", br#"{"pattern":"a[ab]{3000}c"}"#).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let text: String = (0..20_000).map(|_| if random.bool() { 'a' } else { 'b' }).collect();
        let violation = schema.check(&Json::parse(format!("\"{text}\"").into()).unwrap()).unwrap_err();
        assert!(violation.detail.contains("longer than 1397 characters"), "{violation:?}");
        let many = format!("[{}]", vec![format!("\"a{}c\"", "b".repeat(1_000)); 50].join(","));
        let schema_of_many = Schema::compile("s", br#"{"items":{"pattern":"a[ab]{3000}c"}}"#).unwrap();
        let violation = schema_of_many.check(&Json::parse(many.into()).unwrap()).unwrap_err();
        assert!(
            violation.detail.contains("50251 bytes") && violation.detail.contains("22354 at most"),
            "{violation:?}"
        );
        let names = Schema::compile("s", br#"{"patternProperties":{"a[ab]{3000}c":true}}"#).unwrap();
        let name = format!("{{\"{}\":1}}", "ab".repeat(12_000));
        assert!(names.check(&Json::parse(name.into()).unwrap()).is_err());
        let short = format!("\"a{}c\"", "b".repeat(1_000));
        assert!(schema.check(&Json::parse(short.into()).unwrap()).unwrap_err().detail.contains("does not match"));
    }
}
