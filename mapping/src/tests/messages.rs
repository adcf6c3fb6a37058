use std::time::Duration;

use envelope::{AckPoint, Data, RejectKind, Timestamp, TraceContext};

use super::*;

#[test]
fn an_envelope_says_where_it_comes_from_and_what_it_is() {
    let text = with(
        ", schema: schemas/floor-reading.json",
        "  topic: t/${address.line}\n  performative: inform\n  schema: telemetry/reading@v1.0.0\n  key: ${principal.id}/${headers.etag}\n  residency: [\"no\", \"${payload.where}\"]\n  classification: internal\n  expires: 30s\n  data: { celsius: \"${(payload.f - 32) * 5 / 9}\", line: \"line ${address.line}\" }",
    );
    let mappings = loaded(&format!("{text}ack: received\n"));
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
    let message = Inbound { trace: trace.clone(), ..inbound("POST /t/7", r#"{"f":50,"where":"eu"}"#) };
    let MapResult::Mapped(mapped) = mappings.map(message.clone()) else { panic!("refused") };
    assert_eq!(
        (mapped.ack, mapped.lane, &*mapped.bridge, mapped.route.name()),
        (AckPoint::Received, Lane(3), "web", "m")
    );
    let envelope = &mapped.group.as_slice()[0];
    assert_eq!(envelope.subject.as_str(), "t/7");
    assert_eq!(&*envelope.source, "mesh://plant-a/web/press%207");
    assert_eq!(&*envelope.kind, "telemetry/reading@v1.0.0");
    assert_eq!(envelope.dataschema.as_deref(), Some("mesh://plant-a/schemas/telemetry/reading@v1.0.0"));
    assert_eq!(envelope.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(envelope.performative.as_deref(), Some("inform"));
    assert_eq!(envelope.partitionkey.as_deref(), Some("press 7/7"));
    assert_eq!(envelope.residency.iter().map(|label| &**label).collect::<Vec<_>>(), ["no", "eu"]);
    assert_eq!(envelope.classification.as_deref(), Some("internal"));
    assert_eq!(envelope.time, Timestamp::from_micros(0));
    assert_eq!(envelope.expirytime, Some(Timestamp::from_micros(0).plus(Duration::from_secs(30))));
    assert_eq!(envelope.data.as_slice(), br#"{"celsius":10,"line":"line 7"}"#);
    assert!(envelope.hops.is_empty());
    let child = envelope.trace.clone().unwrap();
    assert_eq!(child.trace_id(), trace.clone().unwrap().trace_id());
    assert_ne!(Some(child), trace);
    let MapResult::Mapped(again) = mappings.map(message) else { panic!("refused") };
    assert_eq!(again.group.as_slice()[0].id, envelope.id);
}

#[test]
fn an_envelope_has_passed_what_its_message_passed() {
    let message = Inbound { hops: vec!["far".into(), "near".into()], ..inbound("POST /t/7", "{}") };
    let made = envelope(&loaded(&with("", "  topic: t")), message).unwrap();
    assert_eq!(made.hops, ["far".into(), "near".into()]);
}

#[test]
fn without_data_the_payload_goes_through_untouched() {
    let payload = "{ \"a\" : 12.10, \"b\":1152921504606846977}";
    let json = loaded(&with("", "  topic: t"));
    let message = inbound("POST /t/7", payload);
    let made = envelope(&json, message.clone()).unwrap();
    assert!(matches!(&made.data, Data::Json(_)));
    assert_eq!(made.data.bytes().as_ptr(), message.payload.as_ptr());
    assert_eq!((&*made.kind, made.dataschema), ("mesh/opaque@v1.0.0", None));
    let text = envelope(&loaded(&with(", decode: text", "  topic: t")), inbound("POST /t/7", "grüß")).unwrap();
    assert_eq!(text.datacontenttype.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(text.data.as_slice(), "grüß".as_bytes());
    let bytes = envelope(&loaded(&with(", decode: bytes", "  topic: t")), inbound("POST /t/7", [0xff, 0])).unwrap();
    assert_eq!(bytes.datacontenttype.as_deref(), Some("application/octet-stream"));
    assert_eq!(bytes.data.as_slice(), [0xff, 0]);
}

#[test]
fn a_text_payload_is_a_string() {
    let mappings =
        loaded(&with(", decode: text", "  topic: t\n  data: { said: \"${payload}\", length: \"${size(payload)}\" }"));
    let made = envelope(&mappings, inbound("POST /t/7", "a \"b\"\n")).unwrap();
    assert_eq!(made.data.as_slice(), br#"{"said":"a \"b\"\n","length":6}"#);
    assert_eq!(made.datacontenttype.as_deref(), Some("application/json"));
}

#[test]
fn data_keeps_the_order_types_and_numbers_of_the_file() {
    let made = data("{ b: [1, 2.50, null, true, \"x\\\"y\"], a: {}, e: 1e3, \"ключ\": \"$${no} $5\" }", "{}").unwrap();
    assert_eq!(made, r#"{"b":[1,2.50,null,true,"x\"y"],"a":{},"e":1e3,"ключ":"${no} $5"}"#);
    assert_eq!(data("\"${payload}\"", "[1, 2]").unwrap(), "[1, 2]");
    assert_eq!(data("\"<${payload.a}|${payload.b}>\"", r#"{"a":12.10,"b":"\""}"#).unwrap(), r#""<12.10|\">""#);
}

#[test]
fn a_refusal_names_the_field_the_expression_and_the_place() {
    let rejection = data("{ celsius: \"${(payload.f - 32) * 5 / 9}\" }", r#"{"f":"hot"}"#).unwrap_err();
    assert_eq!((rejection.kind, rejection.decided_by), (RejectKind::Malformed, "mapping"));
    assert_eq!(rejection.pointer.as_deref(), Some("/f"));
    let expected = "envelope.data.celsius: payload.f: expected a number, found a value of type string in ${(payload.f - 32) * 5 / 9}";
    assert_eq!(rejection.detail, expected);
    let rejection = data("{ a: [ { b: \"x ${payload.q}\" } ] }", r#"{"q":[]}"#).unwrap_err();
    assert!(rejection.detail.starts_with("envelope.data.a[0].b: payload.q: expected a string, a number or a boolean"));
}

#[test]
fn the_input_schema_is_enforced_before_the_plan_runs() {
    let mappings = loaded(&with(", schema: schemas/floor-reading.json", "  topic: ${payload.nowhere}"));
    let rejection = envelope(&mappings, inbound("POST /t/7", r#"{"f":"hot"}"#)).unwrap_err();
    assert_eq!((rejection.kind, rejection.decided_by), (RejectKind::Malformed, "mapping.from.schema"));
    assert_eq!(rejection.pointer.as_deref(), Some("/f"));
}

#[test]
fn a_dropped_message_is_filtered_and_still_meets_its_schema() {
    let drop = "mapping: d\nfrom: { bridge: web, address: a, schema: schemas/floor-reading.json }\ndrop: true\n";
    let mappings = loaded(drop);
    assert!(matches!(mappings.map(inbound("a", r#"{"f":1}"#)), MapResult::Filtered(route) if route.name() == "d"));
    assert!(matches!(mappings.map(inbound("a", "{}")), MapResult::Refused(Some(_), _)));
    let without = loaded("mapping: d\nfrom: { bridge: web, address: a }\ndrop: true\n");
    assert!(matches!(without.map(inbound("a", "not json")), MapResult::Filtered(_)));
}

#[test]
fn an_empty_message_with_retain_deletes_a_last_value_whatever_its_mapping_decodes() {
    let empty = || Inbound { retain: true, ..inbound("POST /t/7", "") };
    for (from, made) in [
        ("", "  topic: t/${address.line}"),
        (
            ", schema: schemas/floor-reading.json",
            "  topic: t/${address.line}\n  schema: telemetry/reading@v1.0.0\n  data: { celsius: \"${payload.f}\" }",
        ),
        (", decode: cbor", "  topic: t/${address.line}\n  data: \"${payload}\""),
        (", decode: xml", "  topic: t/${address.line}"),
        (", decode: text", "  topic: t/${address.line}\n  data: \"${payload}\""),
        (", decode: bytes", "  topic: t/${address.line}"),
    ] {
        let mappings = loaded(&with(from, made));
        let MapResult::Mapped(mapped) = mappings.map(empty()) else { panic!("{from}") };
        let envelope = &mapped.group.as_slice()[0];
        assert!(mapped.retain && envelope.data.as_slice().is_empty(), "{from}");
        assert_eq!(envelope.subject.as_str(), "t/7");
        let plain = mappings.map(Inbound { retain: false, ..empty() });
        assert_eq!(
            matches!(plain, MapResult::Mapped(_)),
            ["text", "bytes"].iter().any(|of| from.ends_with(of)),
            "{from}"
        );
    }
    let dropped = loaded(
        "mapping: d\nfrom: { bridge: web, address: \"POST /t/7\", schema: schemas/floor-reading.json }\ndrop: true\n",
    );
    assert!(matches!(dropped.map(empty()), MapResult::Filtered(_)));
}

#[test]
fn what_a_message_that_deletes_a_last_value_is_to_be_read_for_is_said() {
    let refused = |text: &str| match loaded(text).map(Inbound { retain: true, ..inbound("POST /t/7", "") }) {
        MapResult::Refused(Some(_), rejection) => rejection.detail,
        other => panic!("{other:?}"),
    };
    let detail = refused(&with("", "  topic: t/${payload.line}"));
    assert!(detail.contains("envelope.topic: payload.line: the message deletes a last value"), "{detail}");
    for (key, says) in [
        ("when: payload.f > 1", "when: payload.f > 1 reads the payload, and a message that deletes"),
        ("each: payload.items", "each: payload.items reads the payload"),
        ("let: { line: payload.line }", "line"),
    ] {
        let topic = if key.starts_with("let") { "t/${line}" } else { "t" };
        let detail = refused(&(with("", &format!("  topic: {topic}")) + key + "\n"));
        assert!(detail.contains(says), "{detail}");
    }
    let unread = loaded(&(with("", "  topic: t\n  data: { line: \"${line}\" }") + "let: { line: payload.line }\n"));
    assert!(envelope(&unread, Inbound { retain: true, ..inbound("POST /t/7", "") }).is_ok());
}

#[test]
fn who_hears_nothing_is_not_waited_for_but_where_its_message_is_known_again() {
    let ack_of = |mappings: &Mappings, message: Inbound| match mappings.map(message) {
        MapResult::Mapped(mapped) => mapped.ack,
        other => panic!("{other:?}"),
    };
    let unheard = || Inbound { unacknowledged: true, ..inbound("POST /t/7", r#"{"f":1}"#) };
    let plain = with("", "  topic: t/${address.line}");
    let mappings = loaded(&plain);
    assert_eq!(ack_of(&mappings, inbound("POST /t/7", r#"{"f":1}"#)), AckPoint::Durable);
    assert_eq!(ack_of(&mappings, unheard()), AckPoint::Received);
    assert_eq!(ack_of(&mappings, Inbound { retain: true, ..unheard() }), AckPoint::Durable);
    let named = loaded(&(plain + "identity: payload.f\n"));
    assert_eq!(ack_of(&named, unheard()), AckPoint::Durable);
}

#[test]
fn an_address_that_nothing_takes_is_unmapped() {
    let mappings = loaded(LEAST);
    for (bridge, address) in [("web", "GET /t/7"), ("floor", "POST /t/7"), ("web", "")] {
        let message = Inbound { bridge: bridge.into(), ..inbound(address, "{}") };
        let MapResult::Refused(None, rejection) = mappings.map(message) else { panic!("taken") };
        assert_eq!(rejection.kind, RejectKind::Unmapped);
    }
}

#[test]
fn tests_in_the_file_pass_and_say_what_differs() {
    let text = with(
        ", schema: schemas/floor-reading.json",
        "  topic: t/${address.line}\n  schema: telemetry/reading@v1.0.0\n  data: { celsius: \"${payload.f / 3}\", big: \"${payload.big}\", at: \"${now}\" }",
    ) + r#"tests:
  - name: passes
    given: { address: POST /t/7, payload: { f: 1, big: 1152921504606846977 }, headers: { ETag: x }, principal: p }
    expect: { topic: t/7, type: telemetry/reading@v1.0.0, data: { celsius: { near: 0.333333333333 }, big: 1152921504606846977, at: "1970-01-01T00:00:00.000000Z" } }
  - name: differs
    given: { address: POST /t/7, payload: { f: 1, big: 1152921504606846977 } }
    expect: { topic: t/8, performative: inform, data: { celsius: 1, big: 1152921504606846976, more: 1 } }
  - name: is refused by kind
    given: { address: POST /t/7, payload: {} }
    expect: { rejected: malformed }
  - name: is refused in other words
    given: { address: POST /t/7, text: "{" }
    expect: { rejected: too cold }
  - name: is not filtered
    given: { address: POST /u/7 }
    expect: { filtered: true }
"#;
    let found = outcomes(&loaded(&text));
    let lines: Vec<_> = found.iter().map(|(_, line, _)| *line).collect();
    assert_eq!(lines, [8, 11, 14, 17, 20]);
    assert_eq!(found[0].2, Outcome::Passed);
    let Outcome::Failed(differences) = &found[1].2 else { panic!("passed") };
    let differences: Vec<_> = differences.lines().collect();
    assert_eq!(
        differences,
        [
            "topic: expected \"t/8\", got \"t/7\"",
            "performative: expected \"inform\", got nothing",
            "data.celsius: expected 1, got 0.3333333333333333",
            "data.big: expected 1152921504606846976, got 1152921504606846977",
            "data.more: expected 1, got nothing",
            "data.at: expected nothing, got \"1970-01-01T00:00:00.000000Z\"",
        ]
    );
    assert_eq!(found[2].2, Outcome::Passed);
    assert!(
        matches!(&found[3].2, Outcome::Failed(text) if text.starts_with("rejected: expected \"too cold\", got malformed by mapping.from.decode"))
    );
    assert!(
        matches!(&found[4].2, Outcome::Failed(text) if text.starts_with("outcome: expected filtered, got rejected: unmapped"))
    );
}

#[test]
fn a_test_meets_the_schema_of_the_envelope_too() {
    let text = with("", "  topic: t\n  schema: telemetry/reading@v1.0.0\n  data: { celsius: \"${payload.c}\" }")
        + "unproven: dead-letter\ntests:\n  - { name: a, given: { address: POST /t/7, payload: { c: cold } }, expect: { topic: t } }\n";
    let found = outcomes(&loaded(&text));
    assert!(
        matches!(&found[0].2, Outcome::Failed(text) if text.contains("got rejected: malformed by conformance")),
        "{found:?}"
    );
}

#[test]
fn a_test_fails_if_another_mapping_takes_its_address() {
    let first = LEAST.to_owned()
        + "tests:\n  - { name: a, given: { address: POST /t/7, payload: {} }, expect: { topic: t/7 } }\n";
    let second = LEAST.replace("mapping: m", "mapping: n").replace("{line}", "7").replace("${address.line}", "7");
    let found = outcomes(&load_all(&[&first, &second]).unwrap());
    assert!(
        matches!(&found[0].2, Outcome::Failed(text) if text == "mapping: expected \"m\", got taken by \"n\""),
        "{found:?}"
    );
}

#[test]
fn tests_that_say_nothing_clear_are_refused() {
    let test = |test: &str| errors(&[&format!("{LEAST}tests:\n  - {test}\n")]);
    assert!(
        test("{ name: a, given: { address: a, payload: 1, text: x }, expect: { topic: t } }")[0].contains("either")
    );
    assert!(
        test("{ name: a, given: { address: a }, expect: { filtered: true, topic: t } }")[0].contains("stands alone")
    );
    assert!(test("{ name: a, given: { address: a }, expect: { filtered: false } }")[0].contains("expected true"));
    assert!(
        test("{ name: a, given: { address: a }, expect: { data: { x: { near: y } } } }")[0].contains("a number behind")
    );
    assert!(test("{ name: a, given: { adress: a }, expect: { topic: t } }").len() == 2);
    assert!(test("{ given: { address: a }, expect: { colour: t } }").len() == 2);
}
