//! Schemas and values of bad intent: a bounded cost and a clear answer.

use super::{check, holds, refused, schema};
use crate::detail::MAX_DETAIL;

#[test]
fn a_pattern_that_would_backtrack_runs_in_linear_time() {
    let text = format!("\"{}!\"", "a".repeat(100_000));
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(.*a){20}$", "(x+x+)+y"] {
        assert!(check(&schema(&format!(r#"{{"pattern": "{pattern}"}}"#)), &text).is_err(), "{pattern}");
    }
}

#[test]
fn a_pattern_that_no_linear_engine_runs_is_an_error_of_the_schema() {
    for pattern in [r"^(a)\\1$", "(?=a)b", "(?<!a)b", "((a{1000}){1000}){1000}"] {
        let detail = refused(&format!(r#"{{"properties": {{"x": {{"pattern": "{pattern}"}}}}}}"#));
        assert!(detail.contains("/properties/x/pattern"), "{detail}");
    }
}

#[test]
fn a_reference_that_only_leads_to_itself_ends() {
    let ends = |text: &str, value: &str| drop(check(&schema(text), value));
    ends(r##"{"$ref": "#"}"##, "7");
    ends(r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}"##, "{}");
    ends(
        r##"{"propertyNames": {"$ref": "#/$defs/a"}, "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}"##,
        r#"{"a": 1, "": 2}"#,
    );
}

#[test]
fn the_deepest_value_is_walked_on_a_small_stack() {
    let deep = |n: usize, inner: &str| format!("{}{inner}{}", "[".repeat(n), "]".repeat(n));
    let walk = move || {
        let nested = schema(
            r##"{"anyOf": [{"type": "array", "items": {"$ref": "#"}, "uniqueItems": true}, {"type": "null"}]}"##,
        );
        assert_eq!(check(&nested, &deep(127, "null")), Ok(()));
        assert!(check(&nested, &deep(127, "7")).is_err());
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(walk).unwrap().join().unwrap();
}

#[test]
fn a_deep_schema_is_refused_and_not_a_crash() {
    let deep = format!("{}true{}", r#"{"items":"#.repeat(10_000), "}".repeat(10_000));
    assert!(refused(&deep).contains("nested deeper"));
}

#[test]
fn a_detail_is_short_and_a_large_value_is_not_quoted() {
    let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(1 << 20));
    let violation = check(&schema(r#"{"properties": {"a": {"type": "number"}}}"#), &large).unwrap_err();
    assert_eq!(violation.detail, r#"string of 1048578 bytes is not of type "number""#);

    let long = format!(r#"{{"const": "{}"}}"#, "ä".repeat(1_000));
    let violation = check(&schema(&long), "7").unwrap_err();
    assert_eq!(violation.detail.chars().count(), MAX_DETAIL);
    assert!(violation.detail.ends_with('…'), "{}", violation.detail);

    let name = format!(r#"{{"{}": 1}}"#, "n".repeat(10_000));
    let violation = check(&schema(r#"{"propertyNames": {"maxLength": 3}}"#), &name).unwrap_err();
    assert!(violation.detail.chars().count() <= MAX_DETAIL);
}

#[test]
fn every_keyword_that_refuses_has_a_detail() {
    for (text, no) in [
        (r#"{"type": ["string", "null"]}"#, "7"),
        (r#"{"enum": [1, 2, 3, 4, 5]}"#, "7"),
        (r#"{"not": {}}"#, "7"),
        (r#"{"oneOf": [true, true]}"#, "7"),
        (r#"{"oneOf": [false]}"#, "7"),
        (r#"{"if": true, "then": false}"#, "7"),
        (r#"{"contains": false}"#, "[7]"),
        (r#"{"prefixItems": [true], "items": false}"#, "[1, 2]"),
        (r#"{"unevaluatedItems": false}"#, "[1]"),
        (r#"{"unevaluatedProperties": false}"#, r#"{"a": 1}"#),
        (r#"{"dependentRequired": {"a": ["b"]}}"#, r#"{"a": 1}"#),
        (r#"{"minProperties": 1}"#, "{}"),
        (r#"{"maxItems": 0}"#, "[1]"),
        (r#"{"patternProperties": {"^a": false}}"#, r#"{"a": 1}"#),
        ("false", "7"),
    ] {
        let violation = check(&schema(text), no).unwrap_err();
        assert!(!violation.detail.is_empty(), "{text}");
    }
}

#[test]
fn keys_with_syntax_of_pointers_in_them_do_not_confuse() {
    holds(
        r#"{"properties": {"": {"properties": {"0": {"type": "null"}}}}}"#,
        &[r#"{"": {"0": null}}"#],
        &[r#"{"": {"0": 1}}"#],
    );
}

#[test]
fn a_pattern_that_is_refused_says_why_and_where() {
    for (schema, says) in [
        (
            r#"{"properties":{"a":{"pattern":"a{1000}{1000}"}}}"#,
            "at \"/properties/a/pattern\": \"a{1000}{1000}\" is too large: compiled it has more than 1048576 bytes",
        ),
        (r#"{"pattern":"(?=a)b"}"#, "at \"/pattern\": \"(?=a)b\" is no pattern that runs in linear time: look-around"),
        (r#"{"pattern":"["}"#, "\"[\" is no pattern that runs in linear time: unclosed character class"),
        (r#"{"patternProperties":{"^a$":true,"b{999}{999}":true}}"#, "\"b{999}{999}\" is too large"),
    ] {
        let detail = refused(schema);
        assert!(detail.contains(says), "{schema}: {detail}");
    }
}
