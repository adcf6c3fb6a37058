//! What `check` says of what a mapping sends.

use schema::{Schema, Schemas};

use super::*;
use crate::{Abilities, Bridge, Context, Mappings, Source, Tables, load};

const ORDER: &str = r#"{"type":"object","required":["id","qty","note","kind","lines"],"additionalProperties":false,
    "properties":{"id":{"type":"string","pattern":"^[A-Z0-9-]{3,20}$"},"qty":{"type":"integer","minimum":1,"maximum":9},
    "note":{"type":"string"},"kind":{"enum":["new","old"]},"at":{"type":"string","format":"date-time"},
    "lines":{"type":"array","minItems":1,"items":{"type":"object","required":["sku","n"],
    "properties":{"sku":{"type":"string"},"n":{"type":"integer"}},"additionalProperties":false}}}}"#;

fn loaded(text: &str) -> Result<Mappings, yaml::Diagnostics> {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("order", ORDER.as_bytes()).unwrap());
    let bridges = [Bridge { replies: true, ..Bridge::named("web") }, Bridge { sends: true, ..Bridge::named("out") }];
    let gateway = Abilities { later_acks: true, ..Abilities::default() };
    let context = Context { gateway, ..Context::new("d", &bridges, &schemas, Tables::none()) };
    load(&[Source { path: "m.yaml", text }], &context)
}

fn sending(more: &str) -> String {
    format!("mapping: m\nfrom: {{ topic: orders/+, schema: schemas/order.json }}\n{more}")
}

fn shown(proofs: &[FieldProof]) -> Vec<String> {
    proofs.iter().map(|proof| format!("{}: {}", proof.field, proof.verdict)).collect()
}

/// Of each part of what such a file sends.
fn parts(more: &str) -> Vec<String> {
    let mappings = loaded(&sending(more)).unwrap_or_else(|errors| panic!("{errors}"));
    let sender = mappings.senders().next().unwrap();
    shown(sender.proofs)
}

fn replies(more: &str) -> Vec<String> {
    let text = format!("mapping: m\nfrom: {{ bridge: web, address: a }}\nenvelope: {{ topic: t }}\n{more}");
    let mappings = loaded(&text).unwrap_or_else(|errors| panic!("{errors}"));
    shown(mappings.routes().next().unwrap().replies)
}

fn errors(text: &str) -> Vec<String> {
    let errors = loaded(text).map(|_| ()).expect_err("loads");
    let shown = |e: &yaml::Diagnostic| {
        format!("{}:{} {} {} {}", e.line, e.column, e.code, e.message, e.help.clone().unwrap_or_default())
    };
    errors.iter().map(shown).collect()
}

#[test]
fn each_part_of_what_is_sent_is_proven_by_the_schema_of_the_data() {
    let found = parts(
        "to:\n  bridge: out\n  address: POST /${payload.kind}/${payload.id}/${envelope.id}\n  key: ${envelope.topic}\n  \
         headers: { x-kind: \"${payload.kind}\", x-fixed: a }\n  body: { n: \"${payload.qty * 2}\", of: 1 }\n",
    );
    let expected = ["to.address: proven", "to.key: proven", "to.headers.x-kind: proven"];
    assert_eq!(found[..3], expected);
    assert_eq!(
        found[3..],
        ["to.body.n: always there, held to no schema", "to.body.of: always there, held to no schema"]
    );
}

#[test]
fn what_only_the_message_shows_is_said_of_each_part() {
    let found = parts(
        "to:\n  bridge: out\n  address: POST /${payload.note}/${payload.qty}\n  key: ${payload.note}\n  \
         headers: { x-at: \"${payload.at}\", x-note: \"${payload.note}\" }\n  body: { at: \"${payload.at}\" }\n",
    );
    let starts = [
        "to.address: checked at run time: payload.note: may have characters that are not allowed in what is put into an \
         address; payload.qty: a number may be spelt with '+'",
        "to.key: checked at run time: payload.note: may be empty or have control characters",
        "to.headers.x-at: checked at run time: payload.at: member \"at\" may be missing",
        "to.headers.x-note: checked at run time: payload.note: may have control characters",
        "to.body.at: checked at run time: payload.at: member \"at\" may be missing",
    ];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} is not {start}");
    }
}

#[test]
fn what_when_says_holds_in_what_is_sent() {
    let to = "to: { bridge: out, address: \"POST /${payload.note}\", headers: { x-at: \"${payload.at}\" } }\n";
    let found = parts(&format!("when: has(payload.at) && payload.note in [\"a\", \"b\"]\n{to}"));
    assert_eq!(found, ["when: proven", "to.address: proven", "to.headers.x-at: proven"]);
    let found = parts(&format!("when: has(payload.at) && payload.note.matches(\"^[a-z]+$\")\n{to}"));
    assert_eq!(found, ["when: proven", "to.address: proven", "to.headers.x-at: proven"]);
    let unanchored = parts(&format!("when: has(payload.at) && payload.note.matches(\"[a-z]+\")\n{to}"));
    assert!(unanchored[1].starts_with("to.address: checked at run time"), "{unanchored:?}");
}

#[test]
fn names_that_the_schema_does_not_have_are_errors_wherever_they_stand() {
    let found = errors(&sending(
        "to:\n  bridge: out\n  address: POST /${payload.kinds}\n  key: ${payload.ids}\n  headers: { x: \"${payload.notes}\" }\n  \
         body: { n: \"${payload.qtys}\" }\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|error| error.contains("unknown-member") && error.contains("did you mean")), "{found:?}");
    let found = errors(&sending(
        "to:\n  bridge: out\n  address: a\n  encode: text\n  template: |\n    hello {{ payload.nots }}\n",
    ));
    assert!(found[0].starts_with("8:5 unknown-member") && found[0].contains("did you mean"), "{found:?}");
}

#[test]
fn a_template_says_what_it_reads_that_may_be_missing() {
    let found = parts(
        "to:\n  bridge: out\n  address: a\n  template: \"{{ payload.at }} {{ payload.id }} {{ envelope.topic }}\"\n",
    );
    let says = "to.template: checked at run time: payload.at: member \"at\" may be missing; what a template lays out";
    assert!(found.len() == 1 && found[0].starts_with(says), "{found:?}");
}

#[test]
fn a_format_that_can_never_say_the_body_is_an_error() {
    let to = |encode: &str, body: &str| {
        sending(&format!("to: {{ bridge: out, address: a, encode: {encode}, body: {body} }}\n"))
    };
    for (encode, body, says) in [
        ("csv", "{ a: 1 }", "csv is made of an array of objects, and this is always object"),
        ("urlencoded", "[1]", "form data is made of an object"),
        ("xml", "\"${payload.note}\"", "xml is made of an object with one member"),
        ("text", "{ a: 1 }", "text is made of one value"),
        ("bytes", "1", "bytes are given as a text in base64"),
    ] {
        let found = errors(&to(encode, body));
        assert!(found.len() == 1 && found[0].contains("never-fits") && found[0].contains(says), "{encode}: {found:?}");
    }
}

#[test]
fn a_format_that_may_not_be_able_to_say_the_body_is_checked_at_run_time() {
    let encode = |encode: &str, body: &str| {
        let found = parts(&format!("to: {{ bridge: out, address: a, encode: {encode}, body: {body} }}\n"));
        found.into_iter().filter(|part| part.starts_with("to.encode")).collect::<Vec<_>>()
    };
    assert_eq!(encode("csv", "\"${payload.lines}\""), [""; 0], "each row has the same members");
    assert_eq!(encode("urlencoded", "{ a: \"${payload.id}\", b: [1, x] }"), [""; 0]);
    assert_eq!(encode("text", "\"${payload.note}\""), [""; 0]);
    let found = encode("urlencoded", "{ a: \"${payload.lines}\" }");
    assert!(found[0].contains("may not be able to say it"), "{found:?}");
    let found = encode("{ text: { charset: latin-1 } }", "\"${payload.note}\"");
    assert!(found[0].contains("may not have all of its characters"), "{found:?}");
}

#[test]
fn a_condition_that_no_envelope_fulfils_is_an_error_where_a_mapping_sends() {
    let to = "to: { bridge: out, address: a }\n";
    let found = errors(&sending(&format!("when: payload.kind == \"news\"\n{to}")));
    assert!(found[0].starts_with("3:") && found[0].contains("never-true"), "{found:?}");
    let found = errors(&sending(&format!("when: 1 > 2\n{to}")));
    assert!(found[0].contains("unreachable is false for every message"), "{found:?}");
}

#[test]
fn the_parts_of_replies_are_proven_each() {
    let found = replies(
        "reply:\n  - { on: accepted, status: 201, headers: { x-id: \"${receipt.id}\" }, body: { id: \"${receipt.id}\" } }\n  \
         - { on: refused, status: \"${rejection.kind == 'denied' ? 403 : 422}\", headers: { x-why: \"${rejection.detail}\" } }\n",
    );
    assert_eq!(found[..2], ["reply[0].headers.x-id: proven", "reply[0].body.id: always there, held to no schema"]);
    assert_eq!(found[2], "reply[1].status: proven");
    assert!(found[3].starts_with("reply[1].headers.x-why: checked at run time: rejection.detail: may have control"));
    let found = replies("reply: { within: 5s, status: \"${payload.status}\" }\n");
    assert!(found[0].starts_with("reply.status: checked at run time: "), "{found:?}");
}

#[test]
fn replies_that_are_never_sent_or_have_a_status_of_the_wrong_kind_are_errors() {
    let reply =
        |of: &str| format!("mapping: m\nfrom: {{ bridge: web, address: a }}\nenvelope: {{ topic: t }}\nreply:\n{of}");
    for (of, place, says) in [
        (
            "  { on: accepted, status: \"${receipt.duplicate ? 404 : 409}\" }\n",
            "5:",
            "never-fits reply.status: a status is",
        ),
        ("  { on: accepted, status: \"${receipt.duplicate}\" }\n", "5:", "never-fits expected a number or string"),
        (
            "  - { on: accepted, status: 201 }\n  - { on: accepted, status: 202 }\n",
            "6:",
            "unreachable no message gets here",
        ),
        ("  { on: refused, when: 'size(rejection.kind) < 0', status: 404 }\n", "5:", "never-true"),
    ] {
        let found = errors(&reply(of));
        assert!(found.len() == 1 && found[0].starts_with(place) && found[0].contains(says), "{of}: {found:?}");
    }
    assert!(
        loaded(&reply(
            "  - { on: accepted, when: receipt.duplicate, status: 200 }\n  - { on: accepted, status: 201 }\n"
        ))
        .is_ok()
    );
}
