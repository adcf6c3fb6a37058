//! `ack`, `ack_within`, `keep`, `store`, `unproven` and `reply`.

use std::time::Duration;

use envelope::{AckPoint, Mapped, Mapper, Receipt, RejectKind, Reply, Route, Settled, Terms, Timestamp};

use super::{
    super::Abilities,
    sending::{able, errors_of, load_able},
    *,
};

const SENDS: &str = "mapping: out\nfrom: { topic: \"t/#\" }\nto: { bridge: out, address: a }\n";

fn file(lines: &str) -> String {
    format!("{LEAST}{lines}\n")
}

fn mapped(mappings: &Mappings, payload: &str) -> Mapped {
    match mappings.map(inbound("POST /t/7", payload)) {
        MapResult::Mapped(mapped) => mapped,
        other => panic!("{other:?}"),
    }
}

fn terms(lines: &str) -> Arc<Terms> {
    let mappings = load_able(&[&file(lines), SENDS]).unwrap_or_else(|errors| panic!("{errors}"));
    mapped(&mappings, "{}").terms
}

#[test]
fn a_message_carries_what_its_file_promises() {
    let plain = terms("");
    assert_eq!((plain.ack_within, plain.keep_last, plain.store), (Duration::from_secs(30), false, true));
    assert!(!plain.dead_letter_unproven && plain.reply.is_none());
    assert_eq!(terms("ack: delivered\nack_within: 5s").ack_within, Duration::from_secs(5));
    assert!(terms("keep: last").keep_last);
    assert!(terms("shed: latest").shed_latest && !plain.shed_latest);
    assert!(!terms("store: false\nack: received").store);
    assert!(terms("unproven: dead-letter").dead_letter_unproven);
    let mappings = load_able(&[&file("ack: delivered"), SENDS]).unwrap();
    assert_eq!(mapped(&mappings, "{}").ack, AckPoint::Delivered);
    assert!(mappings.terms(&Route::new("m", "x")).is_some() && mappings.terms(&Route::new("n", "x")).is_none());
}

#[test]
fn a_promise_that_nothing_can_keep_is_an_error_of_the_file() {
    for (lines, says) in [
        ("ack: delivered", "0.yaml:4:6 nobody-takes no mapping sends what goes to \"t/${address.line}\""),
        ("ack: consumer", "0.yaml:4:6 nobody-takes nobody is asked for an answer"),
        ("store: false\nack: received", "0.yaml:4:8 nobody-takes exactly one mapping must send"),
        ("store: false", "0.yaml:4:8 contradiction what is not stored is never durable"),
        ("store: false\nack: received\nkeep: last", "contradiction what is not stored can't be kept"),
        ("store: false\nack: received\nunproven: dead-letter", "can't be kept: \"unproven\" and \"store: false\""),
        ("store: false\nack: received\nkeep_denied: true", "can't be kept: \"keep_denied\" and \"store: false\""),
        ("ack_within: 5s", "0.yaml:4:1 contradiction \"ack_within\" says nothing beside"),
        ("ack: delivered\nack_within: 2h", "out-of-range"),
        ("keep: first", "not-one-of"),
        ("shed: oldest", "not-one-of"),
        ("unproven: drop", "not-one-of"),
        ("store: no", "wrong-type"),
    ] {
        let found = errors_of(&[&file(lines)]);
        assert!(found.iter().any(|error| error.contains(says)), "{lines}: {found:?}");
    }
    for key in [
        "ack: durable",
        "ack_within: 1s",
        "keep: last",
        "store: true",
        "unproven: dead-letter",
        "reply: { on: accepted }",
    ] {
        let text = format!("mapping: d\nfrom: {{ bridge: web, address: a }}\ndrop: true\n{key}\n");
        assert!(errors_of(&[&text])[0].contains("says nothing where \"drop\" is true"), "{key}");
    }
}

#[test]
fn what_is_taken_exactly_once_is_not_lost_in_a_crash() {
    let (schemas, tables) = (schemas(), tables());
    let load = |exactly_once, ack| {
        let bridges = [Bridge { exactly_once, ..Bridge::named("web") }];
        let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
        let context = Context { gateway, ..Context::new("plant-a", &bridges, &schemas, &tables) };
        let text = file(ack);
        load(&[Source { path: "0.yaml", text: &text }], &context).map(|_| ()).map_err(|errors| errors.to_string())
    };
    assert_eq!((load(false, "ack: received"), load(true, "ack: durable")), (Ok(()), Ok(())));
    let twice = load(true, "ack: delivered\nstore: false").unwrap_err();
    assert!(twice.contains("\"store: false\" it may be sent twice"), "{twice}");
    let refused = load(true, "ack: received").unwrap_err();
    for part in ["0.yaml:4:6", "bridge \"web\" takes messages exactly once", "max_qos: 1"] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn only_a_mapping_whose_topic_selects_it_takes_what_is_promised() {
    let delivered = |topic: &str, filter: &str| {
        let takes = LEAST.replace("t/${address.line}", topic) + "ack: delivered\n";
        load_able(&[&takes, &SENDS.replace("t/#", filter)]).is_ok()
    };
    for (topic, filter, taken) in [
        ("a/b", "a/b", true),
        ("a/b", "a/+", true),
        ("a/b", "#", true),
        ("a/${address.line}", "a/b", true),
        ("a/x-${address.line}/c", "a/b/c", true),
        ("${address.line}", "b", true),
        ("a/b", "a", false),
        ("a/b", "a/b/c", false),
        ("a/${address.line}", "b/+", false),
        ("a/${address.line}", "a/+/c", false),
    ] {
        assert_eq!(delivered(topic, filter), taken, "{topic} {filter}");
    }
    let pass = file("store: false\nack: received");
    assert!(load_able(&[&pass, SENDS]).is_ok());
    let two = errors_of(&[&pass, SENDS, &SENDS.replace("mapping: out", "mapping: two")]);
    assert!(
        two[0].contains("exactly one mapping must send what goes to \"t/${address.line}\": \"out\", \"two\""),
        "{two:?}"
    );
}

#[test]
fn an_old_command_is_never_kept() {
    let keep = |performative: &str| {
        errors_of(&[&LEAST
            .replace("t/${address.line}\"", &format!("t\"{performative}"))
            .replace("envelope", "keep: last\nenvelope")])
    };
    for performative in ["request", "propose", "cancel", "\"${payload.p}\""] {
        let found = keep(&format!(", performative: {performative}"));
        assert!(found[0].contains("keeps-a-command"), "{performative}: {found:?}");
    }
    for fine in ["performative: inform", "performative: request, expires: 5s", "key: k"] {
        let text = LEAST.replace("t/${address.line}\"", &format!("t\", {fine}")) + "keep: last\n";
        assert!(load_able(&[&text]).is_ok(), "{fine}");
    }
}

#[test]
fn a_command_is_never_dropped_for_the_next_one() {
    for performative in ["request", "cancel", "\"${payload.p}\""] {
        let text = LEAST.replace("t/${address.line}\"", &format!("t\", performative: {performative}, expires: 5s"));
        let found = errors_of(&[&(text + "shed: latest\n")]);
        assert!(found[0].contains("sheds-a-command"), "{performative}: {found:?}");
    }
    for later in ["ack: delivered", "ack: consumer\nreply: { within: 5s }", "reply: { within: 5s }"] {
        let found = errors_of(&[&(LEAST.to_owned() + "shed: latest\n" + later + "\n")]);
        assert!(found.iter().any(|error| error.contains("contradiction")), "{later}: {found:?}");
    }
}

#[test]
fn a_priority_is_a_word_of_the_file_or_of_the_message() {
    let with = |priority: &str| LEAST.replace("t/${address.line}\"", &format!("t\", priority: {priority}"));
    let of = |mappings: &Mappings, payload: &str| match mapped(mappings, payload).group {
        envelope::Group::One(envelope) => envelope.priority,
        envelope::Group::Many(_) => None,
    };
    assert_eq!(of(&load_able(&[&with("bulk")]).unwrap(), "{}"), Some(envelope::Priority::Bulk));
    let chosen = load_able(&[&with("\"${payload.p}\"")]).unwrap();
    assert_eq!(of(&chosen, r#"{"p":"command"}"#), Some(envelope::Priority::Command));
    let errors = errors_of(&[&with("urgent")]);
    assert!(errors[0].contains("\"urgent\" is no priority: command, event, telemetry, bulk"), "{errors:?}");
}

#[test]
fn what_the_gateway_can_not_do_is_never_silently_ignored() {
    for (lines, says) in [
        ("keep: last", "not available in this version"),
        ("store: false\nack: received", "not available in this version"),
        ("ack: delivered", "not available in this version"),
        ("ack: consumer", "not available in this version"),
        ("reply: { on: accepted, status: 200 }", "bridge \"web\" answers in its own words only"),
    ] {
        let found = errors(&[&file(lines)]);
        assert!(
            found.iter().any(|error| error.contains("not-available") && error.contains(says)),
            "{lines}: {found:?}"
        );
    }
    let sends = errors(&[&SENDS.replace("bridge: out", "bridge: web")]);
    assert!(sends[0].contains("not-available bridge \"web\" can't send"), "{sends:?}");
}

#[test]
fn an_answer_that_nobody_waits_for_is_an_error_of_the_file() {
    let (schemas, tables) = (schemas(), tables());
    let bridges = [Bridge { replies: true, ..Bridge::named("web") }];
    let load =
        |text: &str| load(&[Source { path: "m.yaml", text }], &Context::new("plant-a", &bridges, &schemas, &tables));
    let found = load(&file("reply: { within: 5s }")).map(|_| ()).unwrap_err().to_string();
    assert!(found.contains("not-available") && found.contains("nobody waits for an answer"), "{found}");
    assert!(load(&file("reply: { on: accepted, status: 201 }")).is_ok());
}

#[test]
fn a_type_that_is_asked_for_is_one_that_is_loaded_and_one_for_all_answers() {
    let kind = |lines: &str| terms(lines).reply.as_ref().unwrap().kind().map(ToString::to_string);
    assert_eq!(kind("reply: { within: 5s }"), None);
    let reading = "telemetry/reading@v1.0.0";
    assert_eq!(kind(&format!("reply: {{ within: 5s, schema: {reading} }}")).as_deref(), Some(reading));
    let two =
        format!("reply:\n  - {{ within: 5s, when: 'payload.celsius > 9' }}\n  - {{ within: 5s, schema: {reading} }}");
    assert_eq!(kind(&two).as_deref(), Some(reading));
    for (reply, says) in [
        ("reply: { within: 5s, schema: telemetry/readin@v1.0.0 }", reading),
        ("reply: { on: accepted, schema: telemetry/reading@v1.0.0 }", "there is no \"within\""),
        (
            "reply:\n  - { within: 5s, when: 'payload.f > 9', schema: floor-reading }\n  - { within: 5s, schema: telemetry/reading@v1.0.0 }",
            "an answer can't be of type \"floor-reading\" and",
        ),
    ] {
        let found = errors_of(&[&file(reply), SENDS]);
        assert!(found.iter().any(|error| error.contains(says)), "{reply}: {found:?}");
    }
}

const REPLIES: &str = "reply:
  - within: 5s
    when: envelope.performative == \"inform\"
    headers: { x-from: \"${envelope.source}\" }
    encode: xml
    body: { answer: \"${payload.n}\" }
  - within: 5s
    status: '${envelope.performative == \"failure\" ? 502 : 200}'
  - on: accepted
    status: 201
    headers: { location: \"/messages/${receipt.id}\" }
    body: { id: \"${receipt.id}\", again: \"${receipt.duplicate}\" }
  - on: refused
    when: rejection.kind == \"malformed\"
    status: 400
    encode: xml
    template: |
      <fault at=\"{{ rejection.pointer|default('') }}\">{{ rejection.detail }}</fault>
";

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.payload).unwrap()
}

#[test]
fn a_sender_is_told_what_the_file_says() {
    let mappings = able(&file(REPLIES));
    let (mapped, now) = (mapped(&mappings, "{}"), Timestamp::from_micros(0));
    let reply = mapped.terms.reply.as_ref().unwrap();
    let id = mapped.group.as_slice()[0].id;
    let accepted = reply
        .accepted(&Receipt { id, position: None, duplicate: true, settled: Settled::Now, reply: None }, now)
        .unwrap()
        .unwrap();
    assert_eq!((accepted.status, text(&accepted)), (Some(201), format!("{{\"id\":\"{id}\",\"again\":true}}").as_str()));
    assert_eq!(accepted.headers[0].1, format!("/messages/{id}"));
    let malformed = Rejection::new(RejectKind::Malformed, "mapping", "a < b").at("/x");
    let refused = reply.refused(&malformed, now).unwrap().unwrap();
    assert_eq!((refused.status, text(&refused)), (Some(400), "<fault at=\"/x\">a &lt; b</fault>\n"));
    assert_eq!(reply.refused(&Rejection::new(RejectKind::Overloaded, "x", "y"), now).unwrap(), None);
    assert_eq!(reply.within(), Some(Duration::from_secs(5)));
    let mut answer = mapped.group.as_slice()[0].clone();
    answer.performative = Some("inform".into());
    answer.data = envelope::Data::Opaque("{\"n\":7}".into());
    let answered = reply.answered(&answer, now).unwrap().unwrap();
    assert_eq!(answered.status, None);
    assert!(text(&answered).ends_with("<answer>7</answer>\n"), "{}", text(&answered));
    answer.performative = Some("failure".into());
    let failed = reply.answered(&answer, now).unwrap().unwrap();
    assert_eq!((failed.status, text(&failed)), (Some(502), "{\"n\":7}"));
    answer.performative = None;
    assert!(reply.answered(&answer, now).unwrap_err().detail.contains("attribute \"performative\" is missing"));
}

#[test]
fn a_reply_that_can_not_be_is_an_error_of_the_file() {
    for (reply, says) in [
        ("{ status: 200 }", "missing-key key \"within\" or \"on\" is missing"),
        ("{ within: 5s, on: accepted }", "contradiction either \"within\" or \"on\""),
        ("{ on: accepted, status: 404 }", "out-of-range 404 is out of range: 200 to 299"),
        ("{ on: refused, status: 200 }", "out-of-range 200 is out of range: 400 to 599"),
        ("{ on: later }", "not-one-of"),
        ("{ on: accepted, body: \"${payload.x}\" }", "there is no payload here"),
        ("{ on: accepted, body: \"${rejection.kind}\" }", "unknown name \"rejection\""),
        ("{ on: refused, body: \"${rejection.kin}\" }", "not an attribute of rejection"),
        ("{ on: refused, encode: xml }", "\"encode\" says nothing"),
        ("{ within: 0s }", "out-of-range"),
        ("{ on: accepted, status: \"a${receipt.id}\" }", "expected a status, or one expression for it"),
        ("{ on: accepted, template: \"{{ payload }}\" }", "unknown name \"payload\" in the template"),
        ("[]", "expected 1 to 16 replies"),
    ] {
        let found = errors_of(&[&file(&format!("reply: {reply}"))]);
        assert!(found.iter().any(|error| error.contains(says)), "{reply}: {found:?}");
    }
}

#[test]
fn a_test_in_the_file_expects_what_the_sender_is_told() {
    let test = |given: &str, expect: &str| {
        let tests =
            format!("tests: [ {{ name: a, given: {{ address: POST /t/7, {given} }}, expect: {{ {expect} }} }} ]");
        outcomes(&able(&file(&format!("{REPLIES}{tests}"))))[0].2.clone()
    };
    assert_eq!(test("payload: {}", "topic: t/7, reply: { status: 201 }"), Outcome::Passed);
    let answer = "payload: {}, answer: { performative: inform, payload: { n: 7 } }";
    let xml = "text: \"<?xml version=\\\"1.0\\\" encoding=\\\"utf-8\\\"?>\\n<answer>7</answer>\\n\"";
    assert_eq!(
        test(answer, &format!("reply: {{ {xml}, headers: {{ content-type: application/xml; charset=utf-8 }} }}")),
        Outcome::Passed
    );
    let refused = "rejected: malformed, reply: { status: 400, text: \"<fault at=\\\"\\\">payload is not valid JSON at byte 0 (line 1, column 1): expected a value</fault>\\n\" }";
    let Outcome::Failed(said) = test("text: nonsense", &refused.replace("status: 400", "status: 500")) else {
        panic!()
    };
    assert!(said.contains("reply.status: expected Some(500), got Some(400)"), "{said}");
    let none = outcomes(&able(&file(
        "tests: [ { name: a, given: { address: POST /t/7, payload: {} }, expect: { reply: { status: 201 } } } ]",
    )));
    assert_eq!(none[0].2, Outcome::Failed("reply: expected one, got the bridge's own words".to_owned()));
}
