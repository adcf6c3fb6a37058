use super::*;

#[test]
fn a_format_is_declared_by_a_word_or_with_options() {
    for decode in [
        "cbor",
        "msgpack",
        "xml",
        "csv",
        "urlencoded",
        "{ csv: { delimiter: \";\", charset: latin-1 } }",
        "{ csv: { delimiter: \"\\t\" } }",
        "{ xml: { charset: utf-16le } }",
        "{ text: {} }",
        "{ urlencoded: { charset: windows-1252 } }",
    ] {
        loaded(&with(&format!(", decode: {decode}"), "  topic: t"));
    }
    for (decode, says) in [
        ("yaml", "expected one of \"json\", \"cbor\""),
        ("[csv]", "expected one of"),
        ("{}", "one format, with its options behind it"),
        ("{ csv: {}, xml: {} }", "one format, with its options behind it"),
        ("{ yaml: {} }", "expected one of xml, csv, urlencoded, text, found \"yaml\""),
        ("{ cbor: {} }", "\"cbor\" has no options; xml, csv, urlencoded, text have"),
        ("{ csv: { separator: x } }", "unknown key \"separator\""),
        ("{ text: { delimiter: \";\" } }", "unknown key \"delimiter\""),
        ("{ csv: { delimiter: \"::\" } }", "one character of ASCII"),
        ("{ csv: { delimiter: \"ä\" } }", "one character of ASCII"),
        ("{ text: { charset: ebcdic } }", "expected one of \"utf-8\", \"iso-8859-1\""),
        ("{ urlencoded: { charset: utf-16le } }", "form data is never in utf-16"),
    ] {
        let found = errors(&[&with(&format!(", decode: {decode}"), "  topic: t")]);
        assert!(found.len() == 1 && found[0].contains(says), "{decode}: {found:?}");
    }
}

#[test]
fn a_payload_of_any_format_is_checked_read_and_passed_on_as_it_came() {
    let from = ", decode: cbor, schema: schemas/floor-reading.json";
    let untouched = loaded(&with(from, "  topic: t/${payload.f}"));
    let made = envelope(&untouched, inbound("POST /t/7", *b"\xa1\x61f\x18\x32")).unwrap();
    assert_eq!(made.subject.as_str(), "t/50");
    assert_eq!(made.datacontenttype.as_deref(), Some("application/cbor"));
    assert_eq!(made.data.as_slice(), b"\xa1\x61f\x18\x32");
    let refused = envelope(&untouched, inbound("POST /t/7", *b"\xa1\x61f\x61x")).unwrap_err();
    assert_eq!((refused.decided_by, refused.pointer.as_deref()), ("mapping.from.schema", Some("/f")));
    let made = loaded(&with(", decode: csv", "  topic: t\n  data: ${payload[1].b}"));
    let made = envelope(&made, inbound("POST /t/7", *b"a,b\n1,2\n3,4\n")).unwrap();
    assert_eq!((made.data.as_slice(), made.datacontenttype.as_deref()), (&b"\"4\""[..], Some("application/json")));
}

#[test]
fn data_that_goes_through_in_another_format_conforms_to_no_schema() {
    let schema = "  topic: t\n  schema: telemetry/reading@v1.0.0";
    assert!(errors(&[&with(", decode: cbor", schema)])[0].contains("only JSON conforms to a schema"));
    loaded(&(with(", decode: cbor", &format!("{schema}\n  data: ${{payload}}")) + "unproven: dead-letter\n"));
}

#[test]
fn a_test_in_a_file_gives_text_in_the_declared_charset_or_bytes() {
    let file = |decode: &str, given: &str, data: &str| {
        let test = format!(
            "tests:\n  - name: t\n    given: {{ address: POST /t/7, {given} }}\n    expect: {{ data: {data} }}\n"
        );
        with(&format!(", decode: {decode}"), "  topic: t\n  data: ${payload}") + &test
    };
    for (decode, given, data) in [
        ("cbor", "base64: gwECAw==", "[1, 2, 3]"),
        ("{ csv: { charset: utf-16be, delimiter: \";\" } }", "text: \"a;b\\n1;ö\"", "[{ a: \"1\", b: ö }]"),
        ("{ text: { charset: latin-1 } }", "base64: 6Q==", "é"),
        ("xml", "text: \"<a><b>1</b></a>\"", "{ a: { b: \"1\" } }"),
    ] {
        let outcomes = outcomes(&loaded(&file(decode, given, data)));
        assert_eq!(outcomes[0].2, Outcome::Passed, "{decode}");
    }
    for (decode, given, says) in [
        ("{ text: { charset: latin-1 } }", "text: €", "text that iso-8859-1 has"),
        ("cbor", "base64: \"?\"", "base64 with padding"),
        ("cbor", "payload: {}", "what is not decoded as json is \"text\" or \"base64\""),
        ("json", "payload: {}, text: x", "either \"payload\" or \"text\""),
    ] {
        let found = errors(&[&file(decode, given, "1")]);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }
}
