//! What `check` says of an envelope beside its data.

use schema::{Schema, Schemas};

use super::*;
use crate::{Bridge, Context, Mappings, Source, Tables, load};

const ORDER: &str = r#"{"type":"object","required":["id","n","note","kind","class","at","items"],"additionalProperties":false,
    "properties":{"id":{"type":"string","pattern":"^[A-Z0-9-]{3,20}$"},"n":{"type":"integer","minimum":1,"maximum":9},
    "note":{"type":"string"},"kind":{"enum":["new","old"]},"class":{"enum":["event","bulk"]},"shop":{"type":"string"},
    "at":{"type":"string","format":"date-time"},"items":{"type":"array","items":{"type":"number"}}}}"#;

fn loaded(text: &str) -> Result<Mappings, yaml::Diagnostics> {
    let mut schemas = Schemas::default();
    for name in ["order", "order@v1.0.0"] {
        schemas.insert(Schema::compile(name, ORDER.as_bytes()).unwrap());
    }
    let bridges = [Bridge::named("web")];
    load(&[Source { path: "m.yaml", text }], &Context::new("d", &bridges, &schemas, Tables::none()))
}

fn file(before: &str, envelope: &str) -> String {
    format!(
        "mapping: m\nfrom: {{ bridge: web, address: \"a/{{x}}\", schema: schemas/order.json }}\n{before}envelope:\n{envelope}"
    )
}

/// All but the data.
fn head(before: &str, envelope: &str) -> Vec<String> {
    let mappings = loaded(&file(before, envelope)).unwrap_or_else(|errors| panic!("{errors}"));
    let route = mappings.routes().next().unwrap();
    let head = route.proofs.iter().filter(|proof| !proof.field.starts_with("envelope.data"));
    head.map(|proof| format!("{}: {}", proof.field, proof.verdict)).collect()
}

fn errors(before: &str, envelope: &str) -> Vec<String> {
    let errors = loaded(&file(before, envelope)).map(|_| ()).expect_err("loads");
    errors.iter().map(|e| format!("{}:{} {} {}", e.line, e.column, e.code, e.message)).collect()
}

#[test]
fn every_field_that_the_file_sets_has_its_line() {
    let found = head(
        "when: payload.n > 1\nidentity: payload.id\n",
        "  topic: orders/${payload.kind}/${payload.id}\n  performative: '${payload.n > 5 ? \"request\" : \"inform\"}'\n  \
         priority: ${payload.class}\n  key: ${payload.id}\n  residency: [no, \"${payload.kind}\"]\n  \
         classification: internal\n  expires: 30s\n  schema: order@v1.0.0\n",
    );
    let fields = [
        "when",
        "identity",
        "envelope.topic",
        "envelope.performative",
        "envelope.priority",
        "envelope.key",
        "envelope.residency",
        "envelope.classification",
        "envelope.schema",
        "envelope.expires",
    ];
    assert_eq!(found, fields.map(|field| format!("{field}: proven")));
}

#[test]
fn what_only_the_message_shows_is_said_of_each() {
    let found = head(
        "when: payload.shop != \"x\" && headers[\"x-a\"] == \"b\"\nidentity: payload.note\neach: payload.items\n",
        "  topic: orders/${payload.note}/${address.x}\n  performative: ${payload.note}\n  priority: '${payload.kind == \"new\" ? \"event\" : \"late\"}'\n  \
         key: ${payload.note}\n  residency: [\"${payload.note}\", \"${payload.at}\"]\n  classification: c-${payload.note}\n",
    );
    let starts = [
        "when: checked at run time: payload.shop: member \"shop\" may be missing; headers[\"x-a\"]: header \"x-a\" may be missing",
        "identity: checked at run time: payload.note: may be empty",
        "each: proven",
        "envelope.topic: checked at run time: payload.note: may be empty, or have characters that are not allowed in what is put \
         into a topic; address.x: may have characters that are not allowed in what is put into a topic",
        "envelope.performative: checked at run time: may be none of inform, query",
        "envelope.priority: checked at run time: may be \"late\", which is none of command, event, telemetry, bulk",
        "envelope.key: checked at run time: payload.note: may be empty or have control characters",
        "envelope.residency: checked at run time: payload.note: may be empty or have control characters",
        "envelope.classification: checked at run time: payload.note: may have control characters",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} is not {start}");
    }
}

#[test]
fn a_topic_takes_what_is_one_segment_and_begins_with_no_dollar() {
    let topic = |topic: &str| head("", &format!("  topic: '{topic}'\n")).remove(0);
    for proven in ["a/${payload.id}", "${payload.kind}", "${payload.id}/a", "a/${payload.n * 2}", "a/${now}", "a/b"] {
        assert_eq!(topic(proven), "envelope.topic: proven", "{proven}");
    }
    for (written, says) in [
        ("a/${payload.n}", "payload.n: a number may be spelt with '+', as 1e+2: not allowed in a topic"),
        ("a/${payload.at}", "payload.at: may have characters that are not allowed"),
        ("a/${payload.kind == \"new\" ? \"b/c\" : \"d\"}", "may be \"b/c\", which is not allowed there"),
        ("${payload.kind == \"new\" ? \"$mesh\" : \"d\"}/a", "may begin with '$', which is reserved"),
        ("a/${headers.x}", "header \"x\" may be missing"),
    ] {
        let found = topic(written);
        assert!(found.contains("checked at run time") && found.contains(says), "{written}: {found}");
    }
}

#[test]
fn what_never_fits_is_an_error_at_its_place() {
    for (envelope, says) in [
        (
            "  topic: 'a/${payload.kind == \"new\" ? \"b/c\" : \"d/e\"}'\n",
            "4:15 never-fits envelope.topic: this is \"b/c\"",
        ),
        (
            "  topic: t\n  priority: ${payload.kind}\n",
            "5:15 never-fits envelope.priority: this never is one of command",
        ),
        (
            "  topic: t\n  performative: x${payload.kind}\n",
            "5:20 never-fits envelope.performative: this never is one of",
        ),
        ("  topic: t\n  key: ${payload.ids}\n", "5:10 unknown-member"),
    ] {
        let found = errors("", envelope);
        assert!(found.len() == 1 && found[0].starts_with(says), "{envelope}: {found:?}");
    }
}

#[test]
fn what_is_dropped_has_only_its_condition() {
    let text = "mapping: m\nfrom: { bridge: web, address: a }\nwhen: payload.x == 1\ndrop: true\n";
    let mappings = loaded(text).unwrap();
    let route = mappings.routes().next().unwrap();
    let fields: Vec<_> = route.proofs.iter().map(|proof| &*proof.field).collect();
    assert_eq!(fields, ["when"]);
    assert!(matches!(route.proofs[0].verdict, Verdict::AtRunTime(_)));
}

#[test]
fn what_a_message_may_leave_out_is_proven_where_it_fits_or_is_empty() {
    let found = head(
        "",
        "  topic: t\n  conversation: ${payload.id}\n  inreplyto: ${payload.id}\n  recipients: [\"${payload.items}\", \"${payload.note}\"]\n  \
         originid: ${payload.kind}\n  originsource: \"/s/${payload.note}\"\n",
    );
    let expected = [
        "envelope.topic: proven",
        "envelope.conversation: proven",
        "envelope.inreplyto: checked at run time: payload.id: may be no id of an envelope",
        "envelope.recipients: checked at run time: payload.note: may have control characters",
        "envelope.originid: proven",
        "envelope.originsource: checked at run time: payload.note: may have control characters",
    ];
    assert_eq!(found, expected);
    for line in ["conversation: ${payload.items}", "inreplyto: ${payload.kind}", "recipients: ${payload}"] {
        let found = errors("", &format!("  topic: t\n  {line}\n"));
        assert!(found.len() == 1 && found[0].starts_with("5:"), "{line}: {found:?}");
    }
    let topic = head("", "  topic: ${payload.note}\n  inreplyto: ${payload.id}\n");
    assert!(topic[0].contains("may be no topic that answers are sent to"), "{topic:?}");
}
