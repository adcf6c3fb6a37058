//! `when`, `let` and `identity`.

use envelope::RejectKind;

use super::*;

/// A file for `POST /t/{line}` with these further lines.
fn file(name: &str, lines: &str) -> String {
    LEAST.replace("mapping: m", &format!("mapping: {name}")).replace("t/${address.line}", name) + lines + "\n"
}

fn taken(mappings: &Mappings, payload: &str) -> Result<String, Rejection> {
    envelope(mappings, inbound("POST /t/7", payload)).map(|made| made.subject.to_string())
}

fn refused(mappings: &Mappings, payload: &str) -> (RejectKind, String) {
    let rejection = taken(mappings, payload).unwrap_err();
    (rejection.kind, rejection.detail)
}

#[test]
fn a_file_whose_guard_is_false_leaves_the_message_to_the_next() {
    let files = [
        file("hot", "when: payload.c > 50\norder: 1"),
        file("cold", "when: payload.c < 0\norder: 2"),
        file("rest", "order: 3"),
    ];
    let mappings = load_all(&files.each_ref().map(String::as_str)).unwrap();
    for (payload, by) in [("{\"c\":51}", "hot"), ("{\"c\":-1}", "cold"), ("{\"c\":5}", "rest")] {
        assert_eq!(taken(&mappings, payload).unwrap(), by);
    }
}

#[test]
fn a_more_specific_address_is_asked_before_a_general_one() {
    let exact = file("exact", "when: payload.exact").replace("{line}", "7");
    let mappings = load_all(&[&file("general", ""), &exact]).unwrap();
    assert_eq!(taken(&mappings, "{\"exact\":true}").unwrap(), "exact");
    assert_eq!(taken(&mappings, "{\"exact\":false}").unwrap(), "general");
}

#[test]
fn where_every_guard_is_false_the_answer_names_them() {
    let files = [file("a", "when: payload.n == 1\norder: 1"), file("b", "when: payload.n == 2\norder: 2")];
    let mappings = load_all(&[&files[0], &files[1]]).unwrap();
    let says = "no mapping takes address \"POST /t/7\" of bridge \"web\": \"when\" is false in \"a\", \"b\"";
    assert_eq!(refused(&mappings, "{\"n\":3}"), (RejectKind::Unmapped, says.to_owned()));
    let many: Vec<_> =
        (4..24).map(|n| file(&format!("m{}", n - 4), &format!("when: payload.n == {n}\norder: {n}"))).collect();
    let many = load_all(&many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert!(refused(&many, "{\"n\":3}").1.ends_with("\"m7\" and 12 more"));
}

#[test]
fn a_guard_without_a_value_is_malformed_and_not_false() {
    let mappings = load_all(&[&file("a", "when: payload.unit == \"F\""), &file("b", "order: 1")]).unwrap();
    let (kind, detail) = refused(&mappings, "{}");
    assert_eq!(
        (kind, &*detail),
        (RejectKind::Malformed, "when: payload.unit: member \"unit\" is missing in ${payload.unit == \"F\"}")
    );
    let asked =
        load_all(&[&file("a", "when: has(payload.unit) && payload.unit == \"F\""), &file("b", "order: 1")]).unwrap();
    assert_eq!(taken(&asked, "{}").unwrap(), "b");
    assert_eq!(refused(&loaded(&file("a", "when: payload")), "1").0, RejectKind::Malformed);
}

#[test]
fn a_guard_that_does_not_read_the_payload_lets_one_that_is_no_json_pass() {
    let text = file("text", "order: 1").replace("{line}\"", "{line}\", decode: text");
    let json = load_all(&[&file("json", "when: headers.etag == \"1\""), &text]).unwrap();
    assert_eq!(taken(&json, "no json").unwrap(), "text");
    let reads = load_all(&[&file("json", "let: { a: payload.a }\nwhen: a == 1"), &text]).unwrap();
    assert_eq!(refused(&reads, "no json").0, RejectKind::Malformed);
    assert_eq!(taken(&reads, "{\"a\":2}").unwrap(), "text");
}

#[test]
fn the_schema_is_for_what_the_guard_lets_in() {
    let strict =
        file("strict", "when: has(payload.f)").replace("{line}\"", "{line}\", schema: schemas/floor-reading.json");
    let mappings = load_all(&[&strict, &file("rest", "order: 1")]).unwrap();
    assert_eq!(taken(&mappings, "{}").unwrap(), "rest");
    assert_eq!(taken(&mappings, "{\"f\":1}").unwrap(), "strict");
    assert_eq!(refused(&mappings, "{\"f\":\"x\"}").0, RejectKind::Malformed);
}

#[test]
fn guards_that_say_nothing_are_refused() {
    for (guard, code, says) in [
        ("false", "unreachable", "false for every message"),
        ("1 > 2", "unreachable", "false for every message"),
        ("payload.a && false", "unreachable", "false for every message"),
        ("true", "unreachable", "true for every message"),
        ("payload.a || 1 < 2", "unreachable", "true for every message"),
        ("size(payload.a)", "expression-type", "expected true or false, found a number"),
        ("\"${payload.a}\"", "expression-syntax", "no \"${\""),
        ("payload.a ==", "expression-syntax", "unexpected end"),
        ("[1]", "wrong-type", "expected a string"),
        ("item.a", "unknown-name", "there is no item here"),
    ] {
        let found = errors(&[&file("m", &format!("when: {guard}"))]);
        assert!(found.len() == 1 && found[0].contains(code) && found[0].contains(says), "{guard}: {found:?}");
    }
}

#[test]
fn files_that_are_equal_are_an_error_with_guards_too() {
    let files = [file("a", "when: payload.a"), file("b", "when: payload.b")];
    assert!(errors(&[&files[0], &files[1]])[0].contains("same-address"));
}

#[test]
fn a_file_that_no_message_reaches_is_refused() {
    let general = file("general", "order: -1");
    let exact = file("exact", "").replace("{line}", "7");
    assert!(errors(&[&general, &exact])[0].contains("unreachable"));
    assert!(load_all(&[&file("general", ""), &exact]).is_ok());
    assert!(load_all(&[&general, &exact.replace("bridge: web", "bridge: floor")]).is_ok());
    assert!(load_all(&[&file("general", "order: -1\nwhen: payload.a"), &exact]).is_ok());
    let behind = |first: &str, second: &str| {
        load_all(&[
            &file("general", &format!("order: -1\nwhen: {first}")),
            &file("exact", &format!("when: {second}")).replace("{line}", "7"),
        ])
    };
    for (first, second) in [
        ("payload.a == 1", "payload.a   ==  1"),
        ("payload.a == 1", "1 == payload.a"),
        ("payload.a", "payload.b && payload.a"),
        ("payload.a || payload.b", "payload.b"),
        ("payload.a || payload.b", "payload.b || payload.a"),
        ("payload.u in ['F', 'C']", "payload.u == 'C' && payload.a > 2"),
        ("payload.u in ['F', 'C']", "payload.u in ['C']"),
        ("payload.u.matches('^a')", "payload.a && payload.u.matches('^a')"),
        ("table('lines.limit', payload.u) > 3", "table('lines.limit', payload.u) > 3"),
        ("payload.l.exists(x, x > 2)", "payload.l.exists(y, y > 2)"),
        ("double == 2\nlet: { double: payload.a * 2 }", "double == 2\nlet: { double: payload.a * 2 }"),
    ] {
        let errors = behind(first, second).map(|_| ()).expect_err(second).to_string();
        assert!(
            errors.contains("unreachable") && errors.contains("and this \"when\" lets in"),
            "{first}: {second}: {errors}"
        );
    }
    for (first, second) in [
        ("payload.a == 1", "payload.a == 2"),
        ("payload.a && payload.b", "payload.a"),
        ("payload.a", "payload.a || payload.b"),
        ("payload.u in ['F', 'C']", "payload.u in ['C', 'K']"),
        ("payload.u.matches('^a')", "payload.u.matches('^b')"),
        ("table('lines.limit', payload.u) > 3", "table('lines.floor', payload.u) > 0"),
        ("double == 2\nlet: { double: payload.a * 2 }", "double == 2\nlet: { double: payload.a * 3 }"),
    ] {
        behind(first, second).unwrap_or_else(|errors| panic!("{first}: {second}: {errors}"));
    }
    let other_format = file("exact", "when: payload.a").replace("{line}", "7").replace("/7\"", "/7\", decode: cbor");
    assert!(load_all(&[&file("general", "order: -1\nwhen: payload.a"), &other_format]).is_ok());
    let long = |name: &str| (0..90).map(|n| format!("payload.{name}{n}")).collect::<Vec<_>>();
    let (either, both) = (long("a").join(" || "), long("b").join(" && "));
    assert!(behind(&either, &both).is_ok(), "what would take long to find out is left");
    let slash = exact.replace("/t/7", "/t/");
    assert!(load_all(&[&general, &slash]).is_ok(), "a capture takes no empty segment");
}

#[test]
fn names_are_evaluated_in_the_order_that_they_need() {
    let text = with(
        "",
        "  topic: t/${line}\n  data: { c: \"${c}\", twice: \"${twice}\", who: \"${o.who}\", first: \"${o.l[0]}\", has: \"${has(o.no)}\", big: \"${big}\", all: \"${o}\" }",
    ) + "let: { twice: c * f, c: (payload.f - 32) * 5 / 9, f: 2, o: payload.o, line: \"'L' + address.line\", big: payload.big }\n";
    let made = envelope(
        &loaded(&text),
        inbound("POST /t/7", r#"{"f":50,"o":{"who":"x","l":[12.10]},"big":1152921504606846977}"#),
    )
    .unwrap();
    assert_eq!(made.subject.as_str(), "t/L7");
    let expected = r#"{"c":10,"twice":20,"who":"x","first":12.10,"has":false,"big":1152921504606846977,"all":{"who":"x","l":[12.10]}}"#;
    assert_eq!(String::from_utf8_lossy(made.data.as_slice()), expected);
}

#[test]
fn a_name_without_a_value_is_malformed_only_where_it_is_read() {
    let text =
        with("", "  topic: t\n  data: { x: \"${payload.on ? b : 'off'}\" }") + "let: { b: a + 1, a: payload.a.n }\n";
    let mappings = loaded(&text);
    assert!(taken(&mappings, "{\"on\":false}").is_ok());
    let (kind, detail) = refused(&mappings, "{\"on\":true}");
    assert_eq!(kind, RejectKind::Malformed);
    assert!(detail.starts_with("envelope.data.x: b: let.a: payload.a.n: member \"a\" is missing"), "{detail}");
}

#[test]
fn names_that_can_not_be_are_refused_with_their_place() {
    for (lets, says) in [
        ("{ a: b, b: c, c: a }", "\"a\" reads itself: a -> b -> c -> a"),
        ("{ a: a + 1 }", "\"a\" reads itself: a -> a"),
        ("{ payload: 1 }", "means something already"),
        ("{ item: 1 }", "means something already"),
        ("{ if: 1 }", "means something already"),
        ("{ 1a: 1 }", "no digit first"),
        ("{ a-b: 1 }", "no digit first"),
        ("{ a: item.x }", "there is no item here"),
        ("{ a: nowhere }", "unknown name \"nowhere\""),
        ("{ a: [1] }", "wrong-type"),
        ("[]", "wrong-type"),
    ] {
        let found = errors(&[&file("m", &format!("let: {lets}"))]);
        assert!(found.iter().any(|error| error.starts_with("0.yaml:4:") && error.contains(says)), "{lets}: {found:?}");
    }
    let misspelled = load_all(&[&file("m", "let: { price: payload.x, twice: pric * 2 }")]).map(|_| ()).unwrap_err();
    let shown = misspelled.to_string();
    assert!(shown.contains("help: did you mean price? in scope: payload, headers, address"), "{shown}");
    let many: String = (0..33).map(|n| format!("a{n}: 1, ")).collect();
    assert!(errors(&[&file("m", &format!("let: {{ {many} }}"))])[0].contains("at most 32 names"));
    let shown = load_all(&[&file("m", "let:\n  a: payload.x + nowhere")]).map(|_| ()).unwrap_err().to_string();
    assert!(shown.contains("  a: payload.x + nowhere\n   |                  ^^^^^^^"), "{shown}");
}

#[test]
fn doubling_names_make_no_message_of_any_size() {
    let lets: String = (1..32).map(|n| format!("a{n}: a{0} + a{0}, ", n - 1)).collect();
    let text = with("", "  topic: t\n  data: \"${a31}\"") + &format!("let: {{ a0: payload, {lets} }}\n");
    let rejection = envelope(&loaded(&text), inbound("POST /t/7", "\"xxxxxxxxxxxxxxxx\"")).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::TooLarge);
}

#[test]
fn the_identity_that_a_file_names_makes_a_retry_a_duplicate() {
    let mappings = loaded(&file("m", "identity: payload.id"));
    let mapped = |payload: &str, identity| match mappings.map(Inbound { identity, ..inbound("POST /t/7", payload) }) {
        MapResult::Mapped(mapped) => mapped,
        other => panic!("{other:?}"),
    };
    let first = mapped("{\"id\":\"A-17\"}", Identity::fresh());
    let again = mapped("{\"id\":\"A-17\", \"try\": 2}", Identity::fresh());
    let other = mapped("{\"id\":\"A-18\"}", Identity::fresh());
    assert_eq!(first.identity, Identity::Native("A-17".into()));
    assert_eq!(first.group.as_slice()[0].id, again.group.as_slice()[0].id);
    assert_ne!(first.group.as_slice()[0].id, other.group.as_slice()[0].id);
    assert_eq!(mapped("{\"id\":12.10}", Identity::fresh()).identity, Identity::Native("12.10".into()));
}

#[test]
fn an_identity_that_is_missing_or_empty_is_malformed() {
    let mappings = loaded(&file("m", "identity: payload.id"));
    for (payload, says) in [
        ("{}".to_owned(), "identity: payload.id: member \"id\" is missing"),
        ("{\"id\":\"\"}".to_owned(), "identity: payload.id: it is empty"),
        ("{\"id\":null}".to_owned(), "expected a string"),
        ("{\"id\":[]}".to_owned(), "expected a string"),
        (format!("{{\"id\":{:?}}}", "x".repeat(1_025)), "it has 1025 bytes, the limit is 1024"),
    ] {
        let (kind, detail) = refused(&mappings, &payload);
        assert!(kind == RejectKind::Malformed && detail.contains(says), "{detail}");
    }
}

#[test]
fn a_word_with_dashes_is_the_header_of_that_name() {
    let mappings = loaded(&file("m", "identity: message-id"));
    assert!(refused(&mappings, "{}").1.contains("header \"message-id\" is missing"));
    let headers: Arc<[(String, bytes::Bytes)]> = Arc::new([("message-id".to_owned(), "k".into())]);
    let MapResult::Mapped(mapped) = mappings.map(Inbound { headers, ..inbound("POST /t/7", "{}") }) else { panic!() };
    assert_eq!(mapped.identity, Identity::Native("k".into()));
}

#[test]
fn keys_that_say_nothing_beside_drop_are_refused() {
    let drop = "mapping: d\nfrom: { bridge: web, address: a }\ndrop: true\n";
    for key in ["each: payload.a", "identity: payload.a"] {
        assert!(errors(&[&format!("{drop}{key}\n")])[0].contains("contradiction"), "{key}");
    }
    let guarded = loaded(&format!("{drop}let: {{ n: payload.n }}\nwhen: n == 0\n"));
    assert!(matches!(guarded.map(inbound("a", "{\"n\":0}")), MapResult::Filtered(_)));
    assert!(matches!(guarded.map(inbound("a", "{\"n\":1}")), MapResult::Refused(None, _)));
}
