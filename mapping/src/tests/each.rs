//! `each`.

use envelope::{Mapped, RejectKind};

use super::*;

const FILE: &str = "mapping: m
from: { bridge: web, address: \"POST /t/{line}\" }
each: payload.items
let: { site: payload.site, name: site + \"-\" + item.id, c: (item.f - 32) * 5 / 9 }
envelope:
  topic: t/${address.line}/${item.id}
  key: ${name}
  data: { c: \"${c}\", at: \"${index}\", tags: \"${item.tags}\" }
";

fn mapped(mappings: &Mappings, payload: impl Into<Vec<u8>>) -> Result<Mapped, Rejection> {
    match mappings.map(inbound("POST /t/7", payload)) {
        MapResult::Mapped(mapped) => Ok(mapped),
        MapResult::Refused(_, rejection) => Err(rejection),
        MapResult::Filtered(_) => panic!("filtered"),
    }
}

fn plain() -> Mappings {
    loaded(&format!("{LEAST}each: payload\n"))
}

#[test]
fn each_item_becomes_an_envelope_of_one_group() {
    let payload = r#"{"site":"oslo","items":[{"id":"a","f":50,"tags":[1]},{"id":"b","f":212,"tags":{"x":12.10}}]}"#;
    let mapped = mapped(&loaded(FILE), payload).unwrap();
    let Group::Many(items) = &mapped.group else { panic!("one") };
    let whole = mapped.identity.envelope_id(envelope::IdentityParts {
        domain: "plant-a",
        bridge: "web",
        principal: "press 7",
        route: "m",
    });
    let seen: Vec<_> = items
        .iter()
        .map(|e| (e.id.to_string(), e.subject.to_string(), e.partitionkey.clone().unwrap().to_string(), e.data.bytes()))
        .collect();
    assert_eq!(
        seen,
        [
            (format!("{whole}.0"), "t/7/a".to_owned(), "oslo-a".to_owned(), r#"{"c":10,"at":0,"tags":[1]}"#.into()),
            (
                format!("{whole}.1"),
                "t/7/b".to_owned(),
                "oslo-b".to_owned(),
                r#"{"c":100,"at":1,"tags":{"x":12.10}}"#.into()
            ),
        ]
    );
}

#[test]
fn without_data_the_item_goes_through_untouched_and_uncopied() {
    let message = inbound("POST /t/7", "[ {\"a\" : 12.10}, 1152921504606846977,\"x\" ]");
    let MapResult::Mapped(mapped) = plain().map(message.clone()) else { panic!("refused") };
    let items = mapped.group.as_slice();
    assert_eq!(
        items.iter().map(|e| e.data.bytes()).collect::<Vec<_>>(),
        ["{\"a\" : 12.10}", "1152921504606846977", "\"x\""]
    );
    assert_eq!(items[0].data.bytes().as_ptr(), message.payload[2..].as_ptr());
    assert_eq!(items[0].datacontenttype.as_deref(), Some("application/json"));
}

#[test]
fn nothing_to_go_through_is_filtered() {
    assert!(matches!(plain().map(inbound("POST /t/7", "[]")), MapResult::Filtered(route) if route.name() == "m"));
}

#[test]
fn at_most_1000_items_are_taken() {
    let array = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(mapped(&plain(), array(1_000)).unwrap().group.as_slice().len(), 1_000);
    let rejection = mapped(&plain(), array(1_001)).unwrap_err();
    assert_eq!((rejection.kind, &*rejection.detail), (RejectKind::TooLarge, "each: 1001 items, the limit is 1000"));
}

#[test]
fn items_that_are_too_large_together_are_refused() {
    let text =
        format!("{LEAST}each: payload.items\n").replace("t/${address.line}\"", "t\", data: [\"${payload.text}\"]");
    let payload =
        |items: usize| format!("{{\"text\":{:?},\"items\":[{}]}}", "x".repeat(1 << 20), vec!["1"; items].join(","));
    assert!(mapped(&loaded(&text), payload(7)).is_ok());
    let rejection = mapped(&loaded(&text), payload(9)).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::TooLarge);
    assert!(rejection.detail.contains("more than 8388608 bytes"), "{}", rejection.detail);
}

#[test]
fn one_item_that_can_not_be_refuses_the_message_and_is_named() {
    let rejection =
        mapped(&loaded(FILE), r#"{"site":"o","items":[{"id":"a","f":1,"tags":1},{"id":"b","f":"hot","tags":1}]}"#)
            .unwrap_err();
    assert_eq!(rejection.kind, RejectKind::Malformed);
    assert!(
        rejection.detail.starts_with("item 1: envelope.data.c: c: let.c: item.f: expected a number"),
        "{}",
        rejection.detail
    );
    assert_eq!(rejection.pointer.as_deref(), Some("/items/1"));
    let rejection = mapped(&loaded(FILE), r#"{"site":"o","items":[{"id":"a","f":1}]}"#).unwrap_err();
    assert_eq!(rejection.pointer.as_deref(), Some("/items/0/tags"));
    for payload in ["{\"site\":\"o\"}", "{\"items\":{}}", "{\"items\":\"x\"}", "{\"items\":null}", "[]"] {
        let rejection = mapped(&loaded(FILE), payload).unwrap_err();
        assert!(
            rejection.kind == RejectKind::Malformed && rejection.detail.starts_with("each: "),
            "{}",
            rejection.detail
        );
    }
}

#[test]
fn there_is_an_item_only_in_the_envelope_and_in_names() {
    let each = |lines: &str| errors(&[&format!("{LEAST}each: payload.items\n{lines}\n")]);
    assert!(each("when: item.a")[0].contains("there is no item here"));
    assert!(each("identity: index")[0].contains("there is no index here"));
    assert!(each("let: { a: b, b: item.a }\nwhen: a")[0].contains("made of the item"));
    assert!(errors(&[&with("", "  topic: ${item.a}")])[0].contains("there is no item here"));
    assert!(
        errors(&[&format!("{LEAST}each: size(payload)\n")])[0]
            .contains("expected an array of the payload, found a number")
    );
    assert!(errors(&[&format!("{LEAST}each: 7\n")])[0].contains("expected an array"));
}

#[test]
fn a_test_expects_the_items_in_order() {
    let test = |expect: &str| {
        let test = format!(
            "tests:\n  - name: a\n    given: {{ address: POST /t/7, payload: {{ site: o, items: [{{ id: a, f: 50, tags: 1 }}] }} }}\n    expect: {expect}\n"
        );
        outcomes(&loaded(&format!("{FILE}{test}")))[0].2.clone()
    };
    assert_eq!(test("{ items: [ { topic: t/7/a, key: o-a, data: { c: 10, at: 0, tags: 1 } } ] }"), Outcome::Passed);
    let Outcome::Failed(said) = test("{ items: [ { topic: t/7/b, data: { c: 11, at: 0, tags: 1 } } ] }") else {
        panic!()
    };
    assert_eq!(said, "items[0].topic: expected \"t/7/b\", got \"t/7/a\"\nitems[0].data.c: expected 11, got 10");
    assert_eq!(test("{ items: [] }"), Outcome::Failed("outcome: expected 0 items, got 1 items".to_owned()));
    assert_eq!(test("{ topic: t/7/a }"), Outcome::Failed("outcome: expected an envelope, got 1 items".to_owned()));
    let found = errors(&[&format!(
        "{FILE}tests: [ {{ name: a, given: {{ address: a }}, expect: {{ items: [ {{ colour: x }} ], topic: t }} }} ]\n"
    )]);
    assert!(
        found.iter().any(|e| e.contains("stands alone")) && found.iter().any(|e| e.contains("unknown key")),
        "{found:?}"
    );
}

#[test]
fn each_item_meets_the_schema_of_the_envelope_in_a_test() {
    let text = with("", "  topic: t\n  schema: telemetry/reading@v1.0.0")
        + "each: payload\nunproven: dead-letter\ntests:\n  - { name: a, given: { address: POST /t/7, payload: [{ celsius: 1 }, {}] }, expect: { rejected: \"item 1: data\" } }\n";
    assert_eq!(outcomes(&loaded(&text))[0].2, Outcome::Passed);
}

#[test]
fn rows_of_another_format_are_items_too() {
    let csv = loaded(&(with(", decode: csv", "  topic: t/${item.id}") + "each: payload\n"));
    let mapped = mapped(&csv, "id,f\na,1\nb,2\n").unwrap();
    let items: Vec<_> = mapped.group.as_slice().iter().map(|e| (e.subject.to_string(), e.data.bytes())).collect();
    assert_eq!(
        items,
        [("t/a".to_owned(), r#"{"id":"a","f":"1"}"#.into()), ("t/b".to_owned(), r#"{"id":"b","f":"2"}"#.into())]
    );
}
