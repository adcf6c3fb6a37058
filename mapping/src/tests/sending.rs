//! Mapping files with `to`.

use envelope::{Delivery, EgressMapper, Lane, Outbound, Position, Qos, RejectKind, Timestamp, Topic};

use super::*;
use crate::Abilities;

const ALERT: &str = "mapping: chat
from: { topic: \"alerts/+/fault\" }
when: payload.level > 1
let: { plant: 'envelope.topic.split(\"/\")[1]' }
to:
  bridge: out
  address: POST /hooks/${plant}
  headers: { X-Level: \"${payload.level}\", x-id: \"${envelope.id}\" }
  key: ${plant}
  qos: at-least-once
  retain: true
  body: { text: \"${plant}: ${payload.what}\", at: \"${envelope.time}\" }
";

/// With a bridge that sends and replies, and a gateway that can do all that files may ask.
pub(super) fn load_able(texts: &[&str]) -> Result<Mappings, yaml::Diagnostics> {
    let paths: Vec<String> = (0..texts.len()).map(|n| format!("{n}.yaml")).collect();
    let files: Vec<_> = paths.iter().zip(texts).map(|(path, text)| Source { path, text }).collect();
    let (schemas, tables) = (schemas(), tables());
    let bridges = [
        Bridge { replies: true, ..Bridge::named("web") },
        Bridge { sends: true, ..Bridge::named("out") },
        Bridge::named("floor"),
    ];
    let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
    load(&files, &Context { gateway, ..Context::new("plant-a", &bridges, &schemas, &tables) })
}

pub(super) fn able(text: &str) -> Mappings {
    load_able(&[text]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every error as `line:column code message`.
pub(super) fn errors_of(texts: &[&str]) -> Vec<String> {
    let errors = load_able(texts).map(|_| ()).expect_err("loads");
    errors.iter().map(|e| format!("{}:{}:{} {} {}", e.path, e.line, e.column, e.code, e.message)).collect()
}

fn delivery(topic: &str, payload: &str) -> Delivery {
    let plain = loaded("mapping: m\nfrom: { bridge: web, address: a }\nenvelope: { topic: t, performative: inform }\n");
    let mut envelope = envelope(&plain, inbound("a", payload)).unwrap();
    envelope.subject = Topic::new(topic).unwrap();
    Delivery { lane: Lane(9), ..Delivery::new(Position("1".into()), envelope) }
}

fn sent(mappings: &Mappings, delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
    let route = mappings.senders().next().unwrap().route.clone();
    EgressMapper::map(mappings, &route, delivery)
}

#[test]
fn of_what_deletes_a_last_value_nothing_is_made_where_its_data_is_read() {
    let text = |decode: &str, body: &str| {
        format!("mapping: out\nfrom: {{ topic: a{decode} }}\nto: {{ bridge: out, address: POST /x{body} }}\n")
    };
    let mut deletes = delivery("a", "{}");
    deletes.envelope.data = envelope::Data::Opaque(bytes::Bytes::new());
    deletes.retained = true;
    assert!(sent(&able(&text("", ", body: { n: \"${payload.n}\" }")), &deletes).unwrap().is_none());
    let sent = sent(&able(&text(", decode: bytes", "")), &deletes).unwrap().unwrap();
    assert!(sent.payload.is_empty());
}

/// With a bridge whose subscribers see what there is.
fn load_shown(texts: &[&str]) -> Result<Mappings, yaml::Diagnostics> {
    let paths: Vec<String> = (0..texts.len()).map(|n| format!("{n}.yaml")).collect();
    let files: Vec<_> = paths.iter().zip(texts).map(|(path, text)| Source { path, text }).collect();
    let (schemas, tables) = (schemas(), tables());
    let bridges = [Bridge::named("web"), Bridge { shows: true, ..Bridge::named("floor") }];
    let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
    load(&files, &Context { gateway, ..Context::new("plant-a", &bridges, &schemas, &tables) })
}

const SHOWS: &str = "mapping: show\nfrom: { topic: \"t/#\" }\nto: { bridge: floor, address: \"plant/${payload.line}/temp\", qos: at-least-once, body: { n: 1 } }\n";

#[test]
fn what_subscribers_of_a_bridge_see_is_made_and_not_sent() {
    let mappings = load_shown(&[SHOWS]).unwrap();
    assert!(mappings.senders().all(|sender| sender.shown));
    let shown = EgressMapper::shown(&mappings, "floor");
    let address: Vec<_> = shown[0].address.iter().map(Option::as_deref).collect();
    assert_eq!((shown[0].route.name(), shown[0].topic.as_str(), shown[0].qos), ("show", "t/#", Some(Qos::AtLeastOnce)));
    assert_eq!(address, [Some("plant"), None, Some("temp")]);
    assert!(EgressMapper::shown(&mappings, "web").is_empty());
    let mut own = delivery("t/7", "{\"line\":\"7\"}");
    own.envelope.source = "mesh://plant-a/floor/ada".into();
    let seen = sent(&mappings, &own).unwrap().unwrap();
    assert_eq!(
        (&*seen.address, &seen.payload[..]),
        ("plant/7/temp", &b"{\"n\":1}"[..]),
        "nothing comes back by being seen"
    );
}

#[test]
fn nobody_takes_what_is_only_seen_and_what_says_how_to_send_says_nothing() {
    let errors = |texts: &[&str]| load_shown(texts).map(|_| ()).unwrap_err().to_string();
    let delivered = errors(&[&(LEAST.to_owned() + "ack: delivered\n"), SHOWS]);
    assert!(delivered.contains("nobody-takes"), "{delivered}");
    let passed = LEAST.to_owned() + "ack: received\nstore: false\n";
    let sends = "mapping: out\nfrom: { topic: \"t/#\" }\nto: { bridge: web, address: x }\n".to_owned();
    let unseen = errors(&[&passed, SHOWS, &sends]);
    assert!(unseen.contains("\"show\" shows what goes to") && unseen.contains("who get what is stored"), "{unseen}");
    for key in ["key: a", "retain: true", "echo: true"] {
        let said = errors(&[&SHOWS.replace("qos: at-least-once", key)]);
        let name = key.split(':').next().unwrap();
        assert!(said.contains(&format!("{name:?} says nothing where subscribers see")), "{said}");
    }
    assert!(errors(&[&SHOWS.replace("bridge: floor", "bridge: web")]).contains("these can: floor"));
}

fn header<'o>(outbound: &'o Outbound, name: &str) -> Option<&'o [u8]> {
    outbound.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
}

/// What a payload becomes by these further keys of `to`.
fn written(to: &str, payload: &str) -> Result<Vec<u8>, String> {
    let text = format!("mapping: m\nfrom: {{ topic: \"#\" }}\nto:\n  bridge: out\n  address: a\n{to}\n");
    let mappings = load_able(&[&text]).map_err(|errors| errors.to_string())?;
    let made = sent(&mappings, &delivery("t", payload)).map_err(|rejection| rejection.to_string())?;
    Ok(made.unwrap().payload.to_vec())
}

#[test]
fn an_envelope_becomes_what_the_file_says() {
    let mappings = able(ALERT);
    let given = delivery("alerts/oslo/fault", "{\"level\":2,\"what\":\"hot\"}");
    let outbound = sent(&mappings, &given).unwrap().unwrap();
    assert_eq!((&*outbound.address, outbound.key.as_deref()), ("POST /hooks/oslo", Some("oslo")));
    assert_eq!((outbound.qos, outbound.lane), (Some(Qos::AtLeastOnce), Lane(9)));
    assert!(outbound.retain);
    assert_eq!(header(&outbound, "x-level"), Some(&b"2"[..]));
    assert_eq!(header(&outbound, "x-id"), Some(given.envelope.id.to_string().as_bytes()));
    assert_eq!(header(&outbound, "content-type"), Some(&b"application/json"[..]));
    assert_eq!(&outbound.payload[..], br#"{"text":"oslo: hot","at":"1970-01-01T00:00:00.000000Z"}"#);
    assert!(sent(&mappings, &delivery("alerts/oslo/fault", "{\"level\":1}")).unwrap().is_none());
    let rejection = sent(&mappings, &delivery("alerts/oslo/fault", "{}")).unwrap_err();
    assert_eq!((rejection.kind, rejection.pointer.as_deref()), (RejectKind::Malformed, Some("/level")));
    let info = mappings.senders().next().unwrap();
    assert_eq!((info.topic.as_str(), info.bridge, info.address), ("alerts/+/fault", "out", "POST /hooks/${plant}"));
    assert_eq!(info.when, Some("payload.level > 1"));
    let other = envelope::Route::new("other", "1");
    assert_eq!(EgressMapper::map(&mappings, &other, &given).unwrap_err().kind, RejectKind::Unmapped);
}

#[test]
fn without_a_body_the_data_goes_through_untouched_and_unread() {
    let text = "mapping: m\nfrom: { topic: \"#\", decode: bytes }\nto: { bridge: out, address: \"q/${envelope.topic.replace('/', '.')}\" }\n";
    let given = delivery("a/b", "{ \"a\" : 12.10 }");
    let outbound = sent(&able(text), &given).unwrap().unwrap();
    assert_eq!((&*outbound.address, &outbound.payload[..]), ("q/a.b", &b"{ \"a\" : 12.10 }"[..]));
    assert_eq!(outbound.payload.as_ptr(), given.envelope.data.as_slice().as_ptr());
    assert_eq!(header(&outbound, "content-type"), Some(&b"application/json"[..]));
    assert_eq!((outbound.key, outbound.qos, outbound.retain), (None, None, false));
}

#[test]
fn what_is_sent_is_in_the_declared_format() {
    let payload = r#"{"n":1,"who":"Ida & Ole"}"#;
    assert_eq!(written("  encode: cbor", r#"{"n":1}"#).unwrap(), b"\xa1\x61n\x01");
    let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<o n=\"1\">Ida &amp; Ole</o>\n";
    let body = "  encode: xml\n  body: { o: { \"@n\": \"${payload.n}\", \"#text\": \"${payload.who}\" } }";
    assert_eq!(written(body, payload).unwrap(), xml.as_bytes());
    let latin = "  encode: { text: { charset: latin-1 } }\n  body: \"é ${payload.who}\"";
    assert_eq!(written(latin, payload).unwrap(), b"\xe9 Ida & Ole");
    assert_eq!(written("  encode: urlencoded", payload).unwrap(), b"n=1&who=Ida+%26+Ole");
    let csv = "  encode: csv\n  body: ['${payload}', { n: 2, who: x }]";
    assert_eq!(written(csv, payload).unwrap(), b"n,who\r\n1,Ida & Ole\r\n2,x\r\n");
    assert_eq!(written("  body: ${payload.n}", payload).unwrap(), b"1");
    let said = written("  encode: xml", "{\"a b\":1}").unwrap_err();
    assert_eq!(said, "malformed by mapping: encode: as XML at \"/a b\": \"a b\" is no name of an element");
}

#[test]
fn a_template_lays_out_text_for_the_format() {
    let xml = "  encode: xml\n  template: |\n    <order>\n      {% for l in payload.lines %}\n      <line sku=\"{{ l.sku }}\">{{ l.n }}</line>\n      {% endfor %}\n    </order>";
    let made = written(xml, r#"{"lines":[{"sku":"<a>","n":1},{"sku":"\"b\"","n":2}]}"#).unwrap();
    let expected = "<order>\n  <line sku=\"&lt;a&gt;\">1</line>\n  <line sku=\"&quot;b&quot;\">2</line>\n</order>\n";
    assert_eq!(String::from_utf8(made).unwrap(), expected);
    let text = "  template: \"{{ envelope.topic }} {{ payload.n }}\\n\"";
    assert_eq!(written(text, "{\"n\":1}").unwrap(), b"t 1\n");
    let json = "  encode: json\n  template: '{\"a\":\"{{ payload.a }}\"}'";
    assert_eq!(written(json, r#"{"a":"x\",\"b\":1,\"c\":\""}"#).unwrap(), br#"{"a":"x\",\"b\":1,\"c\":\""}"#);
    assert_eq!(written("  encode: csv\n  template: \"a\\n{{ payload }}\\n\"", "\"x,y\"").unwrap(), b"a\n\"x,y\"\n");
    let broken = written("  encode: xml\n  template: \"<a>{{ payload }}</b>\"", "1").unwrap_err();
    assert!(broken.contains("template: what it lays out: payload is not valid XML"), "{broken}");
    let field = written("  template: \"{{ envelope.topik }}\"", "1").unwrap_err();
    assert!(field.contains("unknown name \"envelope.topik\" in the template") && field.contains("did you mean topic?"));
    let file = written("  template: \"{% include '/etc/passwd' %}\"", "1").unwrap_err();
    assert!(file.contains("error[template]: unknown statement include"), "{file}");
    assert!(written("  encode: cbor\n  template: a", "1").unwrap_err().contains("contradiction"));
    assert!(written("  body: a\n  template: a", "1").unwrap_err().contains("either \"body\" or \"template\""));
}

#[test]
fn who_sent_an_envelope_chooses_no_address() {
    let text = "mapping: m\nfrom: { topic: \"#\" }\nto: { bridge: out, address: \"POST /a/${payload.x}\" }\n";
    let mappings = able(text);
    let at = |payload: &str| sent(&mappings, &delivery("t", payload)).map(|made| made.unwrap().address.to_string());
    assert_eq!(at(r#"{"x":"räume-7.b"}"#).unwrap(), "POST /a/räume-7.b");
    for hostile in ["a/b", "a?b", "a#b", "a b", "a\\nb", "%2e", "..", ".", "", "user@host", "a:b", "a&b=c"] {
        let rejection = at(&format!("{{\"x\":\"{hostile}\"}}")).unwrap_err();
        assert!(rejection.detail.contains("not allowed in"), "{hostile}: {}", rejection.detail);
    }
    let long = at(&format!("{{\"x\":{:?}}}", "x".repeat(2_048))).unwrap_err();
    assert!(long.detail.contains("at most 2048 bytes"), "{}", long.detail);
    let header =
        "mapping: m\nfrom: { topic: \"#\" }\nto: { bridge: out, address: a, headers: { x: \"${payload}\" } }\n";
    let split = sent(&able(header), &delivery("t", "\"a\\r\\nb: c\"")).unwrap_err();
    assert!(split.detail.contains("'\\r' is not allowed in a header"), "{}", split.detail);
}

#[test]
fn what_can_not_be_sent_is_an_error_of_the_file() {
    let of = |from: &str, to: &str, more: &str| {
        errors_of(&[&format!(
            "mapping: m\nfrom: {{ topic: \"a/#\"{from} }}\nto: {{ bridge: out, address: a{to} }}\n{more}"
        )])
    };
    for (found, says) in [
        (of("", "", "order: 1\n"), "0.yaml:4:1 contradiction \"order\" says nothing in a mapping that sends"),
        (of("", "", "ack: durable\n"), "\"ack\" says nothing in a mapping that sends"),
        (of("", "", "reply: { on: accepted }\n"), "\"reply\" says nothing in a mapping that sends"),
        (of("", "", "each: payload\n"), "\"each\" says nothing in a mapping that sends"),
        (of("", "", "when: headers.a == \"b\"\n"), "there is no headers here"),
        (of("", "", "when: envelope.key\n"), "expected true or false, found a string"),
        (of(", bridge: web", "", ""), "contradiction \"bridge\" says nothing"),
        (of("", ", qos: twice", ""), "not-one-of expected one of \"at-most-once\""),
        (of("", ", headers: { \"a b\": c }", ""), "\"a b\" is no name of a header"),
        (of("", ", headers: { a: b, A: c }", ""), "\"A\" is no name of a header, or is there twice"),
        (of("", ", headers: { a: \"b\\nc\" }", ""), "'\\n' is not allowed in a header"),
        (of("", ", body: \"${payload.a.b.c + address.x}\"", ""), "there is no address here"),
        (of("", ", body: \"${envelope.topik}\"", ""), "not an attribute of envelope"),
        (of("", ", body: \"${envelope.topic.x}\"", ""), "is one value and has no members"),
        (of("", ", encode: yaml", ""), "not-one-of"),
        (of(", decode: bytes", ", encode: xml", ""), "\"encode\" says nothing without something to write"),
        (of("", ", colour: red", ""), "unknown-key"),
    ] {
        assert!(found.iter().any(|error| error.contains(says)), "{says}: {found:?}");
    }
    assert!(
        errors_of(&["mapping: m\nfrom: { topic: \"a/#/b\" }\nto: { bridge: out, address: a }\n"])[0].contains("topic")
    );
    assert!(
        errors_of(&["mapping: m\nfrom: { topic: $mesh/a }\nto: { bridge: out, address: a }\n"])[0].contains("reserved")
    );
    assert!(errors_of(&["mapping: m\nfrom: { topic: a }\n"])[0].contains("key \"to\" is missing"));
    let unable = "mapping: m\nfrom: { topic: a }\nto: { bridge: floor, address: a }\n";
    assert!(errors_of(&[unable])[0].contains("0.yaml:3:15 not-available bridge \"floor\" can't send"));
    assert!(errors_of(&[LEAST, &ALERT.replace("mapping: chat", "mapping: m")])[0].contains("same-name"));
}

#[test]
fn every_attribute_of_an_envelope_can_be_read_or_asked_for() {
    let body = "  body: ['${envelope.source}', '${envelope.type}', '${envelope.residency}', '${envelope.performative}', '${has(envelope.key)}', '${size(envelope.residency)}', '${envelope.residency[0]}']";
    let text = format!("mapping: m\nfrom: {{ topic: \"#\" }}\nto:\n  bridge: out\n  address: a\n{body}\n");
    let mut given = delivery("t", "1");
    given.envelope.residency = vec!["no".into(), "eu".into()];
    let made = sent(&able(&text), &given).unwrap().unwrap();
    let expected = r#"["mesh://plant-a/web/press%207","mesh/opaque@v1.0.0",["no","eu"],"inform",false,2,"no"]"#;
    assert_eq!(String::from_utf8_lossy(&made.payload), expected);
    let missing = text.replace("${envelope.source}", "${envelope.key}");
    let rejection = sent(&able(&missing), &given).unwrap_err();
    assert!(rejection.detail.contains("attribute \"key\" is missing"), "{}", rejection.detail);
    let _ = Timestamp::now();
}

#[test]
fn a_file_that_sends_has_tests_too() {
    let test = |given: &str, expect: &str| {
        let text = format!("{ALERT}tests: [ {{ name: a, given: {{ {given} }}, expect: {{ {expect} }} }} ]\n");
        outcomes(&able(&text))[0].2.clone()
    };
    let given = "topic: alerts/oslo/fault, key: k, payload: { level: 2, what: hot }";
    let all = "address: POST /hooks/oslo, key: oslo, qos: at-least-once, retain: true, headers: { X-Level: \"2\" }, payload: { text: \"oslo: hot\", at: \"1970-01-01T00:00:00.000000Z\" }";
    assert_eq!(test(given, all), Outcome::Passed);
    let Outcome::Failed(said) =
        test(given, "address: x, qos: exactly-once, retain: false, headers: { x-level: \"3\", y: z }, text: no")
    else {
        panic!()
    };
    for line in [
        "address: expected \"x\", got \"POST /hooks/oslo\"",
        "qos: ",
        "retain: ",
        "headers.x-level: expected \"3\", got \"2\"",
        "headers.y: expected \"z\", got nothing",
        "text: expected \"no\"",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(test("topic: alerts/oslo/fault, payload: { level: 0 }", "filtered: true"), Outcome::Passed);
    assert_eq!(test("topic: alerts/oslo/fault, payload: {}", "rejected: malformed"), Outcome::Passed);
    let Outcome::Failed(said) = test("topic: alerts/oslo, payload: {}", "filtered: true") else { panic!() };
    assert!(said.contains("topic: expected one that alerts/+/fault selects"), "{said}");
    assert!(matches!(test(given, "filtered: true"), Outcome::Failed(_)));
}
