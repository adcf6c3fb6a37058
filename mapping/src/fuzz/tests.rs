//! Made-up messages, in each format, and back again.

use schema::{Schema, Schemas};

use super::*;
use crate::{Bridge, Context, Source, Tables, load};

fn loaded(text: &str) -> Mappings {
    let mut schemas = Schemas::default();
    let input = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":1}}}"#;
    let output = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"number"}}}"#;
    schemas.insert(Schema::compile("in", input.as_bytes()).unwrap());
    schemas.insert(Schema::compile("out@v1.0.0", output.as_bytes()).unwrap());
    let bridges = [Bridge::named("web")];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    load(&[Source { path: "m.yaml", text }], &context).unwrap_or_else(|errors| panic!("{errors}"))
}

const PROVEN: &str = "mapping: m\nfrom: { bridge: web, address: \"POST /a/{x}\", schema: schemas/in.json }\n\
    envelope: { topic: \"t/${address.x}\", schema: out@v1.0.0, data: { n: \"${10 / payload.n}\" } }\n";

#[test]
fn what_is_proven_maps_and_what_does_not_conform_is_refused() {
    let results = loaded(PROVEN).fuzz(7, 400, |_| true);
    let [result] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!(result.failure, None);
    assert!(result.mapped > 300 && result.refused > 20, "{result:?}");
    assert_eq!(loaded(PROVEN).fuzz(7, 400, |_| true), results, "the same seed makes the same messages");
    assert_eq!(loaded(PROVEN).fuzz(7, 400, |name| name == "other"), []);
}

#[test]
fn a_promise_that_is_broken_is_shown_with_its_message() {
    let mut mappings = loaded(
        &PROVEN
            .replace("10 / payload.n", "10 / (payload.n - 1)")
            .replace("envelope:", "unproven: dead-letter\nenvelope:"),
    );
    assert_eq!(mappings.fuzz(7, 400, |_| true)[0].failure, None, "nothing was promised");
    mappings.all[0].proofs.iter_mut().for_each(|proof| proof.verdict = Verdict::Proven);
    let failure = mappings.fuzz(7, 400, |_| true)[0].failure.clone().unwrap();
    assert!(failure.why.contains("division by zero") && failure.address.starts_with("POST /a/"), "{failure:?}");
    assert_eq!(Json::parse(failure.payload.into()).unwrap().root().get("n").unwrap().source().parse(), Ok(1.0));
}

#[test]
fn headers_that_the_mapping_reads_are_made_up_from_what_it_names_and_what_its_tests_give() {
    let text = "mapping: m\nfrom: { bridge: web, address: a }\nwhen: headers[\"x-kind\"] == \"order\"\n\
        envelope: { topic: t, key: \"${headers[\'x-shop\']}\", data: { \"n\": \"${int(headers[\'x-n\'])}\" } }\ntests:\n  - name: one\n    \
        given: { address: a, headers: { x-kind: order, x-shop: oslo, x-n: \"17\" }, payload: {} }\n    expect: { topic: t }\n";
    let result = loaded(text).fuzz(5, 400, |_| true).remove(0);
    assert!(result.failure.is_none() && result.mapped > 100 && result.refused > 50, "{result:?}");
    let mut mappings = loaded(text);
    mappings.all[0].proofs.iter_mut().for_each(|proof| proof.verdict = Verdict::Proven);
    let failure = mappings.fuzz(5, 400, |_| true).remove(0).failure.unwrap();
    assert!(failure.why.contains(" is proven, and it was refused: "), "{failure:?}");
    assert!(failure.headers.len() < 3 || failure.headers.iter().any(|(_, value)| value != "17"), "{failure:?}");
}

#[test]
fn texts_are_made_up_too() {
    let text = "mapping: m\nfrom: { bridge: web, address: a, decode: text }\nenvelope: { topic: t, data: \"${payload.upperAscii()}\" }\n";
    let results = loaded(text).fuzz(1, 50, |_| true);
    assert_eq!((results[0].mapped, results[0].refused), (50, 0));
}

#[test]
fn without_a_schema_the_messages_are_like_those_of_the_tests() {
    let text = |data: &str| {
        format!(
            "mapping: m\nfrom: {{ bridge: web, address: a }}\nwhen: payload.unit == \"F\" && payload.readings.size() > 0\n\
             envelope: {{ topic: t, data: {{ v: \"${{{data}}}\" }} }}\ntests:\n  - name: one\n    \
             given: {{ address: a, payload: {{ unit: F, readings: [{{ n: 4 }}] }} }}\n    expect: {{ topic: t }}\n"
        )
    };
    let result = loaded(&text("payload.readings[0].n")).fuzz(5, 400, |_| true).remove(0);
    assert!(result.failure.is_none() && result.mapped > 100 && result.refused > 50, "{result:?}");
    let without = text("payload.readings[0].n").replace("unit: F, readings", "unit: C, reading");
    let result = loaded(&without).fuzz(5, 400, |_| true).remove(0);
    assert!(result.mapped < 20, "what the tests say is what is tried: {result:?}");
}

/// One with a schema of strings, in a format that has no other, and one that sends it back.
fn there_and_back(decode: &str, there: &str, back: &str) -> Vec<FuzzResult> {
    let mut schemas = Schemas::default();
    let pair = r#"{"type":"object","required":["a","b"],"properties":{"a":{"type":"string"},"b":{"type":"string"}},"additionalProperties":false}"#;
    let root = format!(
        r#"{{"type":"object","required":["order"],"properties":{{"order":{pair}}},"additionalProperties":false}}"#
    );
    let rows = format!(r#"{{"type":"array","minItems":1,"items":{pair}}}"#);
    let reading = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"number","minimum":-100,"maximum":100}},"additionalProperties":false}"#;
    for (name, text) in [("pair", pair), ("root", &*root), ("rows", &*rows), ("reading", reading)] {
        schemas.insert(Schema::compile(name, text.as_bytes()).unwrap());
    }
    let bridges = [Bridge { sends: true, ..Bridge::named("web") }];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    let there = format!("mapping: there\nfrom: {{ bridge: web, address: \"a/{{x}}\", decode: {decode}, {there}");
    let files = [Source { path: "there.yaml", text: &there }, Source { path: "back.yaml", text: back }];
    let files = if back.is_empty() { &files[..1] } else { &files };
    load(files, &context).unwrap_or_else(|errors| panic!("{errors}")).fuzz(3, 400, |_| true)
}

const BACK: &str =
    "mapping: back\nfrom: { topic: t/+ }\nto: { bridge: web, address: \"a/${envelope.topic.split('/')[1]}\"";

#[test]
fn every_format_is_made_up_by_its_schema() {
    for (decode, schema, data) in [
        ("cbor", "reading", "payload.n"),
        ("msgpack", "reading", "payload.n"),
        ("xml", "root", "payload.order.a"),
        ("csv", "rows", "payload[0].a"),
        ("{ csv: { delimiter: \";\", charset: utf-16le } }", "rows", "payload[0].a"),
        ("urlencoded", "pair", "payload.a"),
        ("{ urlencoded: { charset: latin-1 } }", "pair", "payload.a"),
    ] {
        let rest = format!(
            "schema: schemas/{schema}.json }}\nenvelope: {{ topic: \"t/${{address.x}}\", data: {{ v: \"${{{data}}}\" }} }}\n"
        );
        let results = there_and_back(decode, &rest, "");
        assert_eq!(results[0].failure, None, "{decode}");
        assert!(results[0].mapped > 200 && results[0].refused > 10, "{decode}: {results:?}");
    }
}

#[test]
fn what_goes_in_and_out_again_is_the_same_value() {
    let json =
        "schema: schemas/reading.json }\nenvelope: { topic: \"t/${address.x}\", data: { value: \"${payload.n}\" } }\n";
    let back = format!("{BACK}, body: {{ n: \"${{payload.value}}\" }} }}\n");
    let results = there_and_back("json", json, &back);
    assert_eq!((&results[0].failure, &*results[0].returned[0].0), (&None, "back"));
    assert_eq!(results[0].returned[0].1, results[0].mapped, "{results:?}");
    let xml = "schema: schemas/root.json }\nenvelope: { topic: \"t/${address.x}\", data: \"${payload.order}\" }\n";
    let back = format!("{BACK}, encode: xml, body: {{ order: \"${{payload}}\" }} }}\n");
    let results = there_and_back("xml", xml, &back);
    assert!(results[0].failure.is_none() && results[0].returned[0].1 > 200, "{results:?}");
}

#[test]
fn what_comes_out_as_another_value_is_a_finding() {
    let json =
        "schema: schemas/reading.json }\nenvelope: { topic: \"t/${address.x}\", data: { value: \"${payload.n}\" } }\n";
    let back = format!("{BACK}, body: {{ n: \"${{math.round(payload.value)}}\" }} }}\n");
    let results = there_and_back("json", json, &back);
    let failure = results[0].failure.clone().unwrap();
    assert!(failure.why.starts_with("\"back\" sends it to \"a/"), "{failure:?}");
    assert!(failure.why.contains("\"/n\": ") && failure.why.contains(" became "), "{failure:?}");
    assert_eq!(there_and_back("json", json, &back), results, "the same seed finds the same");
}

#[test]
fn what_sends_elsewhere_or_in_another_format_undoes_nothing() {
    let json = "schema: schemas/reading.json }\nenvelope: { topic: \"t/${address.x}\" }\n";
    let elsewhere = BACK.replace("\"a/", "\"b/") + ", body: { n: 0 } }\n";
    assert_eq!(there_and_back("json", json, &elsewhere)[0].returned, []);
    let format = format!("{BACK}, encode: cbor, body: {{ n: 0 }} }}\n");
    assert_eq!(there_and_back("json", json, &format)[0].returned, []);
    let other_topic = BACK.replace("t/+", "u/+") + ", body: { n: 0 } }\n";
    let results = there_and_back("json", json, &other_topic);
    assert_eq!((&results[0].failure, &results[0].returned), (&None, &vec![("back".to_owned(), 0)]));
}

#[test]
fn what_sends_gets_made_up_envelopes_of_its_topics_and_keeps_what_is_proven_of_it() {
    let mut schemas = Schemas::default();
    let input = r#"{"type":"object","required":["n","kind"],"properties":{"n":{"type":"integer","minimum":1,"maximum":9},
        "kind":{"enum":["a","b"]},"note":{"type":"string"}}}"#;
    schemas.insert(Schema::compile("in", input.as_bytes()).unwrap());
    let bridges = [Bridge { sends: true, ..Bridge::named("web") }];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    let loaded = |address: &str| {
        let text = format!(
            "mapping: m\nfrom: {{ topic: \"t/+/#\", schema: schemas/in.json }}\nwhen: payload.n > 2\nto: {{ bridge: web, \
             address: \"POST /{address}\", headers: {{ x-n: \"${{payload.n}}\" }}, body: {{ v: \"${{10 / payload.n}}\" }} }}\n"
        );
        load(&[Source { path: "m.yaml", text: &text }], &context).unwrap_or_else(|errors| panic!("{errors}"))
    };
    let result = loaded("${payload.kind}/${envelope.id}").fuzz(3, 400, |_| true).remove(0);
    assert!(result.failure.is_none() && result.mapped > 250 && result.refused > 20, "{result:?}");
    let result = loaded("${has(payload.note) ? payload.note : \'none\'}").fuzz(3, 400, |_| true).remove(0);
    assert!(result.failure.is_none() && result.refused > 60, "nothing was promised: {result:?}");
    let mut broken = loaded("${has(payload.note) ? payload.note : \'none\'}");
    broken.egress[0].proofs.iter_mut().for_each(|proof| proof.verdict = Verdict::Proven);
    let failure = broken.fuzz(3, 400, |_| true).remove(0).failure.unwrap();
    assert!(failure.why.starts_with("to.address is proven, and it was refused: "), "{failure:?}");
    assert!(failure.address.starts_with("t/"), "{failure:?}");
}
