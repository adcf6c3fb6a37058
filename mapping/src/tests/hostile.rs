use envelope::RejectKind;
use proptest::prelude::*;

use super::*;

#[test]
fn hostile_files_are_refused_at_a_bounded_cost() {
    let large = format!("{LEAST}# {}", "x".repeat(10 << 20));
    assert!(errors(&[&large])[0].contains("limit is"));
    let deep = with("", &format!("  topic: t\n  data: {}1{}", "[".repeat(1_000), "]".repeat(1_000)));
    assert!(!errors(&[&deep]).is_empty());
    let anchors = with("", "  topic: t\n  data: { a: &a [1, 2], b: *a }");
    assert!(!errors(&[&anchors]).is_empty());
    let bomb = with("", &format!("  topic: t\n  data: \"${{{}}}\"", "(".repeat(100_000)));
    assert!(errors(&[&bomb])[0].contains("at most 2048 bytes"));
    let many = format!("{LEAST}{}", (0..10_000).map(|n| format!("k{n}: 1\n")).collect::<String>());
    assert!(errors(&[&many]).len() <= 300);
    for text in ["", "[]", "1", "mapping: [\n", "mapping: m\nmapping: m\n", "\0", "from: from\nenvelope: 7\ntests: 1\n"]
    {
        assert!(!errors(&[text]).is_empty(), "{text:?}");
    }
}

#[test]
fn hostile_payloads_are_malformed_with_their_place() {
    let mappings = loaded(LEAST);
    let refused = |payload: &[u8]| envelope(&mappings, inbound("POST /t/7", payload)).unwrap_err();
    let deep = "[".repeat(10_000);
    for (payload, says) in [
        (&b"{\"a\":1,\"a\":2}"[..], "duplicate key \"a\""),
        (deep.as_bytes(), "nested deeper than 128 levels"),
        (b"{\"a\":", "ends where"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "not valid JSON at byte 0"),
        (b"{} {}", "after the end"),
        (b"1e999", "out of range"),
    ] {
        let rejection = refused(payload);
        assert_eq!((rejection.kind, rejection.decided_by), (RejectKind::Malformed, "mapping.from.decode"));
        assert!(rejection.detail.contains(says), "{}", rejection.detail);
    }
    let text = loaded(&with(", decode: text", "  topic: t"));
    assert!(envelope(&text, inbound("POST /t/7", *b"ab\xff")).unwrap_err().detail.contains("not UTF-8 at byte 2"));
}

#[test]
fn a_sender_chooses_a_segment_of_a_topic_and_never_its_shape() {
    let mappings = loaded(&with("", "  topic: t/${payload.line}/x"));
    let topic = |line: &str| {
        let mut payload = b"{\"line\":".to_vec();
        envelope::json::write_string(&mut payload, line);
        payload.push(b'}');
        super::envelope(&mappings, inbound("POST /t/7", payload)).map(|e| e.subject.to_string())
    };
    for plain in ["7", "a.b.*.>", "räume", "100 %", "$share", "{x}", "${payload.line}"] {
        assert_eq!(topic(plain).unwrap(), format!("t/{plain}/x"));
    }
    for shape in ["", "a/b", "/", "+", "#", "a#", "a\0", "a\nb", "\u{85}"] {
        let rejection = topic(shape).unwrap_err();
        assert_eq!(rejection.kind, RejectKind::Malformed, "{shape:?}");
        assert_eq!(rejection.pointer.as_deref(), Some("/line"));
        assert!(rejection.detail.starts_with("envelope.topic: payload.line: "), "{}", rejection.detail);
    }
    assert!(topic(&"x".repeat(2_000)).unwrap_err().detail.contains("at most 1024 bytes"));
}

#[test]
fn a_reserved_topic_is_denied_when_a_message_makes_it() {
    let mappings = loaded(&with("", "  topic: ${address.line}/x"));
    let rejection = envelope(&mappings, inbound("POST /t/$mesh", "{}")).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::Denied);
}

#[test]
fn syntax_of_other_protocols_in_an_address_stays_in_its_segment() {
    let mappings = loaded(LEAST);
    assert_eq!(envelope(&mappings, inbound("POST /t/a.>", "{}")).unwrap().subject.as_str(), "t/a.>");
    assert_eq!(envelope(&mappings, inbound("POST /t/+", "{}")).unwrap_err().kind, RejectKind::Malformed);
    let deep = format!("POST /t/{}", ["x"; 1_000].join("/"));
    assert_eq!(envelope(&mappings, inbound(&deep, "{}")).unwrap_err().kind, RejectKind::Unmapped);
    assert!(envelope(&mappings, inbound(&deep, "{}")).unwrap_err().detail.len() < 400);
}

#[test]
fn attributes_are_bounded_and_have_no_control_characters() {
    let mappings = loaded(&with("", "  topic: t\n  key: ${payload}"));
    let key = |payload: String| envelope(&mappings, inbound("POST /t/7", payload)).map(|e| e.partitionkey.unwrap());
    assert_eq!(&*key("\"k\"".to_owned()).unwrap(), "k");
    assert_eq!(&*key("1e2".to_owned()).unwrap(), "1e2");
    for bad in [
        "\"\"".to_owned(),
        "\"\\u0000\"".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        format!("{:?}", "x".repeat(1_025)),
    ] {
        let rejection = key(bad).unwrap_err();
        assert_eq!(rejection.kind, RejectKind::Malformed);
        assert!(rejection.detail.starts_with("envelope.key: "), "{}", rejection.detail);
    }
    let word = loaded(&with("", "  topic: t\n  performative: ${payload}"));
    assert!(envelope(&word, inbound("POST /t/7", "\"query\"")).is_ok());
    assert!(envelope(&word, inbound("POST /t/7", "\"shout\"")).unwrap_err().detail.contains("no performative"));
}

#[test]
fn a_message_that_becomes_too_large_is_refused() {
    let copies = vec!["\"${payload}\""; 16].join(", ");
    let mappings = loaded(&with("", &format!("  topic: t\n  data: [{copies}]")));
    let rejection = envelope(&mappings, inbound("POST /t/7", format!("{:?}", "x".repeat(1 << 20)))).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::TooLarge);
}

proptest! {
    #[test]
    fn no_file_is_a_panic(text in "[-a-z0-9 :{}\\[\\]\"'$\n#&*!|>%@`,.+/]{0,200}") {
        let _ = load_all(&[&text]);
        let _ = load_all(&[&format!("{LEAST}{text}")]);
        let _ = load_all(&[&with("", &format!("  topic: t\n  data: {text}"))]);
    }

    #[test]
    fn whatever_is_made_is_json_that_reads_back(payload in "[\\[\\]{}:,\"\\\\a-c0-9.eE+-]{0,40}") {
        let mappings = loaded(&with("", "  topic: t\n  data: { a: \"${payload}\", b: [\"${payload}\"] }"));
        if let Ok(made) = envelope(&mappings, inbound("POST /t/7", payload.clone())) {
            let payload = payload.trim();
            let expected = format!("{{\"a\":{payload},\"b\":[{payload}]}}");
            prop_assert_eq!(made.data.as_slice(), expected.as_bytes());
            prop_assert!(made.data.json().is_ok());
        }
    }
}

#[test]
fn a_message_has_one_bound_on_its_steps_however_many_expressions_a_file_has() {
    let items = format!("[{}]", vec!["1"; 600].join(","));
    // each of them takes about 1,800,000 steps: one fits, two do not
    let quadratic = "${payload.all(a, payload.all(b, b > 0))}";
    let one = loaded(&with("", &format!("  topic: t\n  data: [\"{quadratic}\"]")));
    let made = envelope(&one, inbound("POST /t/7", items.clone()));
    let two = loaded(&with("", &format!("  topic: t\n  data: [\"{quadratic}\", \"{quadratic}\"]")));
    let rejection = envelope(&two, inbound("POST /t/7", items.clone())).unwrap_err();
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(rejection.kind, RejectKind::TooLarge);
    assert!(rejection.detail.contains("the message takes more than 2000000 steps"), "{}", rejection.detail);
    let condition = &quadratic[2..quadratic.len() - 1];
    let guard = with("", &format!("  topic: t\n  data: [\"{quadratic}\"]")) + &format!("when: '{condition}'\n");
    let guarded = envelope(&loaded(&guard), inbound("POST /t/7", items)).unwrap_err();
    assert_eq!(guarded.kind, RejectKind::TooLarge, "a condition and what follows it share the bound");
}

#[test]
fn each_item_that_reads_a_wide_payload_again_costs_steps() {
    let wide: String = (0..60_000).map(|n| format!("\"k{n}\":1,")).collect();
    let payload = format!("{{{wide}\"items\":[{}]}}", vec!["1"; 1_000].join(","));
    let text =
        format!("{LEAST}each: payload.items\n").replace("t/${address.line}\"", "t\", data: [\"${payload.k59999}\"]");
    let started = std::time::Instant::now();
    let MapResult::Refused(_, rejection) = loaded(&text).map(inbound("POST /t/7", payload)) else { panic!("mapped") };
    assert_eq!(rejection.kind, RejectKind::TooLarge, "{}", rejection.detail);
    assert!(started.elapsed().as_secs() < 30, "a bound that nothing but a hang reaches");
}

#[test]
fn files_of_bad_intent_are_refused_with_their_place() {
    let huge = "9".repeat(400);
    for (text, says) in [
        (with("", "  topic: t\n  data: ${1 / 0}"), "0.yaml:5:11 expression-value division by zero"),
        (with("", "  topic: t\n  data: ${9223372036854775808}"), "0.yaml:5:11 expression-number"),
        (with("", "  topic: t\n  data: ${9223372036854775807 + 1}"), "0.yaml:5:11 expression-value"),
        (with("", "  topic: t\n  data: ${1e999}"), "0.yaml:5:11 expression-number"),
        (with("", "  topic: t\n  data: ${0.0 / 0.0}"), "0.yaml:5:11 expression-value"),
        (with("", &format!("  topic: t\n  data: {huge}")), "0.yaml:5:9"),
        (with("", "  topic: t\n  data: .nan"), "0.yaml:5:9"),
        (with("", "  topic: t\n  data: .inf"), "0.yaml:5:9"),
        (with("", "  topic: t\n  data: '${payload.matches(\"(a+\")}'"), "0.yaml:5:28 expression-pattern"),
        (with("", "  topic: t\n  data: '${payload.matches(\"(?=a)b\")}'"), "expression-pattern"),
        (with("", "  topic: t\n  data: '${payload.matches(\"(a)\\\\1\")}'"), "expression-pattern"),
        (with("", "  topic: t\n  data: '${payload.matches(\"a{1000}{1000}{1000}\")}'"), "expression-pattern"),
        (with("", "  topic: t\n  data: '${payload.matches(payload)}'"), "must be known when the file is loaded"),
        (with("", "  topic: t") + "let: { a: b, b: a }\n", "cycle"),
        (with("", "  topic: t\n  <<: { key: x }"), "0.yaml:5:3"),
        (with("", "  topic: t\n  data: !!binary aGk="), "0.yaml:5:9"),
        (with("", "  topic: t\n  data: &a [1]"), "0.yaml:5:9"),
    ] {
        let found = errors(&[&text]);
        assert!(found.iter().any(|error| error.contains(says)), "{text}: {says}: {found:?}");
    }
}

#[test]
fn a_pattern_of_bad_intent_runs_in_time_linear_in_the_text() {
    let costly = loaded(&with("", "  topic: t\n  data: '${payload.matches(\"a[ab]{500}c\")}'"));
    let refused = envelope(&costly, inbound("POST /t/7", format!("\"{}\"", "ab".repeat(500_000)))).unwrap_err();
    assert!(refused.detail.contains("more than 2000000 steps"), "{refused}");
    let mappings = loaded(&with("", "  topic: t\n  data: '${payload.matches(\"^(a+)+$\")}'"));
    let text = format!("\"{}!\"", "a".repeat(1 << 18));
    let made = envelope(&mappings, inbound("POST /t/7", text)).unwrap();
    assert_eq!(made.data.as_slice(), b"false");
}

#[test]
fn lets_that_multiply_make_no_message_of_any_size() {
    let lets: String = (1..12).map(|n| format!("a{n}: '[a{0}, a{0}, a{0}, a{0}, a{0}, a{0}]', ", n - 1)).collect();
    let text = with("", "  topic: t\n  data: \"${a11}\"") + &format!("let: {{ a0: payload, {lets} }}\n");
    let rejection = envelope(&loaded(&text), inbound("POST /t/7", "\"xxxxxxxxxxxxxxxx\"")).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::TooLarge);
}
