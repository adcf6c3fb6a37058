//! What a schema is held to here, and that our tree gives the answers of the validator's own.

mod differential;
mod hostile;

use bytes::Bytes;
use envelope::Json;

use crate::{Schema, Violation};

fn schema(text: &str) -> Schema {
    Schema::compile("test", text.as_bytes()).unwrap()
}

fn refused(text: &str) -> String {
    Schema::compile("test", text.as_bytes()).unwrap_err().detail
}

fn check(schema: &Schema, text: &str) -> Result<(), Violation> {
    schema.check(&Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

fn holds(schema_text: &str, yes: &[&str], no: &[&str]) {
    let schema = schema(schema_text);
    for text in yes {
        assert_eq!(check(&schema, text), Ok(()), "{schema_text} {text}");
    }
    for text in no {
        assert!(check(&schema, text).is_err(), "{schema_text} {text}");
    }
}

const READING: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["celsius", "line"],
    "additionalProperties": false,
    "properties": {
        "celsius": {"type": "number", "minimum": -273.15, "maximum": 2000},
        "line": {"type": "string", "minLength": 1, "maxLength": 32},
        "at": {"type": "string", "format": "date-time"}
    }
}"#;

#[test]
fn a_violation_says_where_and_what() {
    let schema = schema(READING);
    assert_eq!(check(&schema, r#"{"celsius": 12.10, "line": "7"}"#), Ok(()));
    let of = |text| check(&schema, text).map_err(|v| (v.pointer, v.detail));
    let expected = |pointer: &str, detail: &str| Err((pointer.to_owned(), detail.to_owned()));
    assert_eq!(of(r#"{"celsius": "hot", "line": "7"}"#), expected("/celsius", r#""hot" is not of type "number""#));
    assert_eq!(
        of(r#"{"celsius": -300.10, "line": "7"}"#),
        expected("/celsius", "-300.10 is less than the minimum of -273.15")
    );
    assert_eq!(of(r#"{"celsius": 1}"#), expected("", r#""line" is a required property"#));
    assert_eq!(of(r#"{"celsius": 1, "line": "7", "at": "noon"}"#), expected("/at", r#""noon" is not a "date-time""#));
}

#[test]
fn a_pointer_escapes_what_rfc_6901_says() {
    let schema = schema(r#"{"properties": {"a/b": {"properties": {"m~n": {"items": {"type": "null"}}}}}}"#);
    let violation = check(&schema, r#"{"a/b": {"m~n": [null, 7]}}"#).unwrap_err();
    assert_eq!(violation.pointer, "/a~1b/m~0n/1");
    assert_eq!(violation.detail, r#"7 is not of type "null""#);
}

#[test]
fn integers_past_2_to_the_53_are_exact() {
    holds(
        r#"{"const": 1152921504606846977}"#,
        &["1152921504606846977"],
        &["1152921504606846976", "1152921504606846978"],
    );
    holds(r#"{"enum": ["x", 9007199254740993]}"#, &["9007199254740993"], &["9007199254740992", "9007199254740994"]);
    holds(r#"{"maximum": 9007199254740992}"#, &["9007199254740992"], &["9007199254740993"]);
    holds(r#"{"exclusiveMinimum": 18446744073709551614}"#, &["18446744073709551615"], &["18446744073709551614"]);
    holds(
        r#"{"uniqueItems": true}"#,
        &["[9007199254740992, 9007199254740993]"],
        &["[9007199254740993, 9007199254740993.0]"],
    );
    holds(
        r#"{"type": "integer"}"#,
        &["123456789012345678901234567890", "1.0", "1e3"],
        &["12345678901234567890.5", "1e-3"],
    );
    holds(
        r#"{"const": 123456789012345678901234567890}"#,
        &["123456789012345678901234567890"],
        &["12345678901234567890"],
    );
}

#[test]
fn a_decimal_divides_as_it_is_written() {
    holds(r#"{"multipleOf": 0.1}"#, &["0.3", "1.1", "12.10", "0", "4.35e1"], &["0.35", "0.01", "1e-9"]);
    holds(r#"{"multipleOf": 0.01}"#, &["1070468.14", "0.07", "4.35"], &["4.355"]);
    holds(r#"{"multipleOf": 3}"#, &["9", "9.0", "9007199254740993"], &["10", "9007199254740992"]);
}

#[test]
fn elements_are_unique_by_meaning() {
    let few = r#"[1, "1", true, null, [1], {"a": 1, "b": 2}, 0.5]"#;
    holds(
        r#"{"uniqueItems": true}"#,
        &[few, "[]", "[0, false]", r#"["a", "A"]"#],
        &["[1, 1.0]", "[0.10, 1e-1]", "[-0, 0]"],
    );
    holds(
        r#"{"uniqueItems": true}"#,
        &[r#"[{"a": 1, "b": 2}, {"a": 2, "b": 1}]"#],
        &[r#"[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1e0}]"#, r#"["\u0061", "a"]"#],
    );
    let many =
        |last: &str| format!("[{}, {last}]", (0..100).map(|n| format!("{{\"n\": {n}}}")).collect::<Vec<_>>().join(","));
    holds(r#"{"uniqueItems": true}"#, &[&many("{}"), &many("50")], &[&many(r#"{"n": 5.0e1}"#), &many(r#"{"n": -0}"#)]);
}

#[test]
fn references_lead_into_the_document() {
    holds(
        r##"{"$ref": "#/$defs/line", "$defs": {"line": {"type": "string", "pattern": "^[0-9]+$"}}}"##,
        &[r#""7""#],
        &[r#""x""#, "7"],
    );
    holds(
        r##"{"$defs": {"a": {"$anchor": "here", "type": "integer"}}, "items": {"$ref": "#here"}}"##,
        &["[1]"],
        &["[1.5]"],
    );
}

#[test]
fn a_schema_may_recurse() {
    let tree = r##"{"type": "object", "required": ["n"], "additionalProperties": false,
        "properties": {"n": {"type": "integer"}, "below": {"type": "array", "items": {"$ref": "#"}}}}"##;
    holds(
        tree,
        &[r#"{"n": 1, "below": [{"n": 2, "below": []}, {"n": 3}]}"#],
        &[r#"{"n": 1, "below": [{"n": 2, "below": [{"n": "3"}]}]}"#],
    );
    let violation = check(&schema(tree), r#"{"n": 1, "below": [{"n": 2, "below": [{"n": "3"}]}]}"#).unwrap_err();
    assert_eq!(violation.pointer, "/below/0/below/0/n");
}

#[test]
fn formats_are_held_and_an_unknown_one_is_an_error_of_the_schema() {
    holds(
        r#"{"format": "date-time"}"#,
        &[r#""2026-11-23T10:00:00Z""#, "7"],
        &[r#""2026-11-23""#, r#""2026-13-23T10:00:00Z""#],
    );
    holds(r#"{"format": "ipv4"}"#, &[r#""10.0.0.1""#], &[r#""10.0.0.256""#]);
    holds(r#"{"format": "uuid"}"#, &[r#""0190163d-8694-739b-aea5-966c26f8ad91""#], &[r#""0190163d""#]);
    let detail = refused(r#"{"properties": {"at": {"format": "datetime"}}}"#);
    assert!(detail.contains("datetime") && detail.contains("/properties/at"), "{detail}");
}

#[test]
fn an_error_of_a_schema_says_where() {
    for (text, place, what) in [
        (r#"{"properties": {"n": {"type": "nummer"}}}"#, "/properties/n/type", "nummer"),
        (r#"{"properties": {"n": {"minimum": "3"}}}"#, "/properties/n/minimum", "\"3\""),
        (r#"{"items": {"pattern": "("}}"#, "/items/pattern", "("),
        (r##"{"items": {"$ref": "#/$defs/gone"}}"##, "", "gone"),
        (r#"{"type": "object", "type": "array"}"#, "line 1", "duplicate key"),
        (r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#, "/$schema", "draft-07"),
        ("[]", "", "[]"),
        ("", "line 1", "JSON"),
    ] {
        let detail = refused(text);
        assert!(detail.contains(place) && detail.contains(what), "{text}: {detail}");
    }
    assert_eq!(Schema::compile("a/b@v1.0.0", b"{").unwrap_err().name, "a/b@v1.0.0");
}

#[test]
fn nothing_is_fetched() {
    for reference in ["https://example.com/a.json", "http://127.0.0.1:1/a", "file:///etc/hostname", "other.json"] {
        let detail = refused(&format!(r#"{{"items": {{"$ref": "{reference}"}}}}"#));
        assert!(detail.contains(reference), "{detail}");
    }
}

#[test]
fn schemas_are_found_by_name() {
    let mut schemas = crate::Schemas::default();
    schemas.insert(Schema::compile("b@v1.0.0", b"true").unwrap());
    schemas.insert(Schema::compile("a@v1.0.0", b"false").unwrap());
    assert_eq!(schemas.names().collect::<Vec<_>>(), ["a@v1.0.0", "b@v1.0.0"]);
    assert_eq!(schemas.get("a@v1.0.0").map(|s| &**s.name()), Some("a@v1.0.0"));
    assert!(schemas.get("a").is_none());
}
