use envelope::AckPoint;

use super::*;

#[test]
fn a_mapping_shows_what_it_is() {
    let mappings = load_all(&[LEAST, "mapping: d\nfrom: { bridge: floor, address: a/b }\ndrop: true\n"]).unwrap();
    let routes: Vec<_> = mappings.routes().collect();
    assert_eq!((routes[0].route.name(), routes[0].bridge, routes[0].address), ("m", "web", "POST /t/{line}"));
    assert_eq!(
        (routes[0].topic, routes[0].ack, routes[0].file),
        (Some("t/${address.line}"), AckPoint::Durable, "0.yaml")
    );
    assert_eq!(routes[0].route.version().len(), 8);
    assert_eq!((routes[1].topic, routes[1].file), (None, "1.yaml"));
}

#[test]
fn the_version_changes_with_the_text() {
    let version = |text: &str| loaded(text).routes().next().unwrap().route.version().to_owned();
    assert_eq!(version(LEAST), version(LEAST));
    assert_ne!(version(LEAST), version(&format!("{LEAST}# more\n")));
}

#[test]
fn every_error_of_every_file_is_told_at_once_with_its_place() {
    let broken = "mapping: Bad Name
from: { bridge: webb, address: a/#, decode: yaml }
envelope:
  topic: ${payload.x +}
  performative: infrom
  schema: telemetry/readin@v1.0.0
  colour: red
  data: { a: \"${1 / 0}\", b: \"${nowhere}\", c: \"x${payload.y\" }
order: first
ack: sometimes
extra: 1
";
    let found = errors(&[broken, "mapping: x\n"]);
    let expected = [
        "0.yaml:1:10 name",
        "0.yaml:2:17 not-one-of",
        "0.yaml:2:34 address",
        "0.yaml:2:45 not-one-of",
        "0.yaml:4:23 expression-syntax unexpected end",
        "0.yaml:5:17 attribute",
        "0.yaml:6:11 not-one-of",
        "0.yaml:7:3 unknown-key",
        "0.yaml:8:17 expression-value division by zero",
        "0.yaml:8:32 unknown-name",
        "0.yaml:8:48 expression-syntax \"${\" without its \"}\"",
        "0.yaml:9:8 wrong-type",
        "0.yaml:10:6 not-one-of",
        "0.yaml:11:1 unknown-key",
        "1.yaml:1:1 missing-key key \"envelope\" is missing",
        "1.yaml:1:1 missing-key key \"from\" is missing",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        assert!(found.iter().any(|error| error.starts_with(expected)), "{expected} is not in {found:#?}");
    }
}

#[test]
fn an_error_in_an_expression_has_a_caret_below_it() {
    let text = with("", "  topic: t\n  data:\n    x: ${payload.f + foo}");
    let shown = load_all(&[&text]).map(|_| ()).unwrap_err().to_string();
    assert!(shown.contains("0.yaml:6:22: error[unknown-name]: unknown name \"foo\""), "{shown}");
    assert!(shown.contains("    x: ${payload.f + foo}\n   |                      ^^^\n"), "{shown}");
    assert!(shown.contains("= help: in scope: payload, headers, address, principal, now, table()"), "{shown}");
}

#[test]
fn what_is_unknown_comes_with_what_was_meant() {
    let help = |text: &str| {
        load_all(&[text])
            .map(|_| ())
            .unwrap_err()
            .iter()
            .map(|e| e.help.clone().unwrap_or_default())
            .collect::<String>()
    };
    assert!(help(&LEAST.replace("web", "wbe")).contains("did you mean \"web\"?"));
    assert!(help(&with("", "  topic: t\n  schema: telemetry/raeding@v1.0.0")).contains("\"telemetry/reading@v1.0.0\""));
    assert!(
        help(&with(", schema: schemas/floor-readin.json", "  topic: t")).contains("\"schemas/floor-reading.json\"")
    );
    assert!(help(&LEAST.replace("envelope:", "envelop:")).contains("did you mean \"envelope\"?"));
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    for key in ["protocol", "replyto", "replyby", "sequence", "qos"] {
        let found = errors(&[&with("", &format!("  topic: t\n  {key}: x"))]);
        assert!(found.len() == 1 && found[0].contains("not available in this version"), "{found:?}");
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let drop = "mapping: d\nfrom: { bridge: web, address: a }\ndrop: true\n";
    assert!(loaded(drop).routes().next().unwrap().topic.is_none());
    assert!(errors(&[&format!("{drop}ack: durable\n")])[0].contains("contradiction"));
    assert!(errors(&[&format!("{drop}envelope: {{ topic: t }}\n")])[0].contains("contradiction"));
    assert!(
        errors(&[&with(", decode: text, schema: schemas/floor-reading.json", "  topic: t")])[0]
            .contains("contradiction")
    );
}

#[test]
fn a_mapping_takes_what_another_takes_only_at_another_order() {
    let second =
        LEAST.replace("mapping: m", "mapping: n").replace("{line}", "{other}").replace("address.line", "address.other");
    let found = errors(&[LEAST, &second]);
    assert_eq!(found, ["1.yaml:2:31 same-address \"POST /t/{other}\" takes the same addresses as 0.yaml:2:31"]);
    let later = format!("{second}order: 1\n");
    assert!(errors(&[LEAST, &later])[0].starts_with("1.yaml:2:31 unreachable no message gets here: 0.yaml:2:31"));
    assert!(load_all(&[&format!("{LEAST}when: payload.a\n"), &later]).is_ok());
    assert!(load_all(&[LEAST, &second.replace("bridge: web", "bridge: floor")]).is_ok());
}

#[test]
fn a_name_is_used_once() {
    let second = LEAST.replace("/t/", "/u/");
    assert_eq!(errors(&[LEAST, &second]), ["1.yaml:1:10 same-name mapping \"m\" is already defined at 0.yaml:1:10"]);
}

#[test]
fn a_topic_that_is_wrong_for_every_message_is_refused() {
    for (topic, says) in [
        ("$mesh/audit", "reserved"),
        ("\"$mesh/${address.line}\"", "reserved"),
        ("a//b", "segment 2 is empty"),
        ("\"a/+\"", "not allowed"),
        ("\"\"", "not empty"),
    ] {
        let found = errors(&[&with("", &format!("  topic: {topic}"))]);
        assert!(found.len() == 1 && found[0].contains(says), "{topic}: {found:?}");
    }
}

#[test]
fn payloads_that_are_not_json_have_no_members() {
    assert!(
        errors(&[&with(", decode: text", "  topic: t\n  data: ${payload.x}")])[0]
            .contains("one string without members")
    );
    assert!(errors(&[&with(", decode: bytes", "  topic: t\n  key: ${payload}")])[0].contains("can't be read"));
}

#[test]
fn a_set_without_bridges_or_schemas_says_so() {
    let schemas = Schemas::default();
    let context = Context::new("d", &[], &schemas, Tables::none());
    let text = with("", "  topic: t\n  schema: x");
    let errors = load(&[Source { path: "a.yaml", text: &text }], &context).map(|_| ()).unwrap_err();
    let messages: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(messages, ["no bridges are configured", "no schemas are loaded"]);
}
