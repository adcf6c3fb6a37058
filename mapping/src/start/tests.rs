use proptest::prelude::*;
use schema::Schemas;

use super::*;
use crate::{Bridge, Context, Outcome, Source, Tables, load};

fn started(payload: &[u8], decode: Option<&str>) -> Started {
    let payload = Bytes::copy_from_slice(payload);
    let sample = Sample { name: "first", bridge: "web", address: "POST /first/{line}", decode, payload: &payload };
    start(sample).unwrap()
}

/// The mapping loads together with its schema, and its test passes.
fn holds(payload: &[u8], decode: Option<&str>) -> Started {
    let started = started(payload, decode);
    let mut schemas = Schemas::default();
    if let Some(schema) = &started.schema {
        let compiled = schema::Schema::compile("first", schema.as_bytes());
        schemas.insert(compiled.unwrap_or_else(|error| panic!("{error:?}\n{schema}")));
    }
    let (bridges, tables) = ([Bridge::named("web")], Tables::default());
    let context = Context::new("plant-a", &bridges, &schemas, &tables);
    let loaded = load(&[Source { path: "first.yaml", text: &started.mapping }], &context);
    let mappings = loaded.unwrap_or_else(|errors| panic!("{errors}\n{}", started.mapping));
    for result in mappings.run_tests() {
        assert_eq!(result.outcome, Outcome::Passed, "{}", started.mapping);
    }
    started
}

#[test]
fn an_object_is_taken_over_member_by_member() {
    let made = holds(br#"{"site": "oslo", "f": 12.10, "unit": null, "two words": [1, 2.5], "in": {"a": true}}"#, None);
    assert!(made.mapping.contains("decode: json"), "{}", made.mapping);
    assert!(made.mapping.contains(r#""f": "${payload.f}""#), "{}", made.mapping);
    assert!(made.mapping.contains(r#"${payload[\"two words\"]}"#), "{}", made.mapping);
    let schema = made.schema.unwrap();
    assert!(schema.contains(r#""required": ["f", "in", "site", "two words", "unit"]"#), "{schema}");
    assert!(schema.contains(r#""type": "number""#) && !schema.contains("integer"), "{schema}");
}

#[test]
fn a_string_keeps_the_format_that_it_is_written_in_wherever_it_stands() {
    let made = holds(
        br#"[{"at": "2026-11-23T10:00:00+01:00", "day": "2026-11-23", "id": "0d5c6f0e-8a54-4c0f-9c3a-2b1d4e5f6a7b", "odd": "2026-02-30", "mixed": "2026-11-23"},
            {"at": "1969-07-20T20:17:40.5Z", "day": "2024-02-29", "id": "0D5C6F0E-8A54-4C0F-9C3A-2B1D4E5F6A7B", "odd": "a", "mixed": "soon"}]"#,
        None,
    );
    let schema = made.schema.unwrap();
    let compact: String = schema.split_whitespace().collect();
    for says in [r#""day":{"type":"string","format":"date"}"#, r#""id":{"type":"string","format":"uuid"}"#] {
        assert!(compact.contains(says), "{schema}");
    }
    assert!(
        compact.contains(r#""odd":{"type":"string"}"#) && compact.contains(r#""mixed":{"type":"string"}"#),
        "{schema}"
    );
    let one = holds(br#"{"at": "2026-11-23T10:00:00+01:00"}"#, None).schema.unwrap();
    assert!(one.contains(r#""format": "date-time""#), "{one}");
}

#[test]
fn members_that_are_not_taken_over_are_said() {
    let members: Vec<_> = (0..70).map(|number| format!("\"m{number}\": {number}")).collect();
    let made = holds(format!("{{{}}}", members.join(",")).as_bytes(), None);
    assert!(made.mapping.contains("# 6 more members of the sample are not taken over"), "{}", made.mapping);
}

#[test]
fn rows_become_envelopes_each_with_what_all_of_them_have() {
    let made = holds(br#"[{"id": 1, "note": "a"}, {"id": 2}]"#, None);
    assert!(made.mapping.contains("each: payload") && made.mapping.contains("${item.id}"), "{}", made.mapping);
    assert!(!made.mapping.contains("item.note"), "{}", made.mapping);
    let csv = holds(b"sku;pieces\na-1;7\nb-2;0\n", None);
    assert!(csv.mapping.contains(r#"decode: { csv: { delimiter: ";" } }"#), "{}", csv.mapping);
}

#[test]
fn the_format_is_guessed_by_the_content_or_said() {
    for (payload, decode) in [
        (&b"<order number=\"7\"><line>a</line></order>"[..], "decode: xml"),
        (b"a,b\n1,2\n", "decode: csv"),
        (b"name=A&mail=b%40c", "decode: urlencoded"),
        (b"all is well", "decode: text"),
        (b"7", "decode: text"),
        (b"", "decode: text"),
        (b"\xff\x00\x01", "decode: bytes"),
        (b"[]", "decode: json"),
        (b"{}", "decode: json"),
    ] {
        let made = holds(payload, None);
        assert!(made.mapping.contains(decode), "{decode}: {}", made.mapping);
    }
    let said = holds(b"\xa1\x61a\x01", Some("cbor"));
    assert!(said.mapping.contains("decode: cbor") && said.mapping.contains("base64: "), "{}", said.mapping);
    let payload = Bytes::from_static(b"no json");
    let sample = Sample { name: "n", bridge: "web", address: "POST /n", decode: Some("json"), payload: &payload };
    assert!(start(sample).is_err());
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-1e9..1e9_f64).prop_map(|value| value.to_string()),
        "[ -~äß€]{0,8}".prop_map(|text| quoted(&text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::btree_map("[a-z @.$-]{1,6}", inner, 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_json_it_was_made_from_it_loads_and_passes_its_own_test(value in value()) {
        holds(value.as_bytes(), Some("json"));
    }
}
