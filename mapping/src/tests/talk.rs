//! Whom an envelope answers, is for and comes from, and what makes it an answer.

use envelope::{Conversation, Origin, RejectKind};

use super::{sending::able, *};

const ID: &str = "0192f0c4-7d3e-7a10-8000-000000000001";

/// What a payload becomes by these lines of the envelope.
fn talk(lines: &str, payload: &str) -> Result<Envelope, Rejection> {
    envelope(&loaded(&with("", &format!("  topic: t\n{lines}"))), inbound("POST /t/7", payload))
}

fn said(lines: &str, payload: &str) -> Conversation {
    *talk(lines, payload).unwrap().conversation.unwrap()
}

fn refused(lines: &str, payload: &str) -> (RejectKind, String) {
    let no = talk(lines, payload).unwrap_err();
    (no.kind, no.detail)
}

#[test]
fn a_mapping_says_which_conversation_what_it_answers_and_for_whom() {
    let lines =
        "  conversation: talk-${payload.n}\n  inreplyto: ${payload.id}\n  recipients: [ada, \"${payload.to}\"]\n";
    let of = said(lines, &format!(r#"{{"n": 33, "id": "{ID}", "to": ["bob", "ada", "eve"]}}"#));
    assert_eq!((of.id.as_deref(), of.inreplyto.as_deref()), (Some("talk-33"), Some(ID)));
    assert_eq!(of.recipients.iter().map(|name| &**name).collect::<Vec<_>>(), ["ada", "bob", "eve"], "each once");
    assert_eq!((of.protocol, of.replyto, of.replyby), (None, None, None));
}

#[test]
fn what_is_empty_or_null_is_left_out() {
    let lines = "  conversation: ${payload.c}\n  inreplyto: ${payload.i}\n  recipients: ${payload.r}\n  \
                 originid: ${payload.o}\n  originsource: ${payload.o}\n";
    for payload in [r#"{"c": "", "i": "", "r": "", "o": ""}"#, r#"{"c": null, "i": null, "r": [], "o": null}"#] {
        let envelope = talk(lines, payload).unwrap();
        assert_eq!((envelope.conversation, envelope.origin), (None, None), "{payload}");
    }
    let envelope = talk(lines, r#"{"c": "", "i": null, "r": "", "o": "A-1"}"#).unwrap();
    let origin = Origin { id: Some("A-1".into()), source: Some("A-1".into()) };
    assert_eq!((envelope.conversation, envelope.origin), (None, Some(Box::new(origin))));
}

#[test]
fn what_is_too_long_too_many_or_no_id_is_refused_with_its_field() {
    let long = |bytes: usize| format!(r#"{{"x": "{}"}}"#, "a".repeat(bytes));
    assert_eq!(said("  conversation: ${payload.x}\n", &long(1_024)).id.unwrap().len(), 1_024);
    let too_long = "envelope.conversation: an attribute has at most 1024 bytes, this has 1025";
    assert_eq!(refused("  conversation: ${payload.x}\n", &long(1_025)), (RejectKind::TooLarge, too_long.into()));
    assert_eq!(said("  recipients: ${payload.x}\n", &long(256)).recipients.len(), 1);
    let too_long = "envelope.recipients: a recipient has at most 256 bytes, this has 257";
    assert_eq!(refused("  recipients: ${payload.x}\n", &long(257)), (RejectKind::TooLarge, too_long.into()));

    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("\"agent-{n}\"")).collect();
        format!(r#"{{"x": [{}], "y": "one more"}}"#, names.join(","))
    };
    assert_eq!(said("  recipients: ${payload.x}\n", &names(64)).recipients.len(), 64);
    let (kind, detail) = refused("  recipients: ${payload.x}\n", &names(65));
    assert_eq!(kind, RejectKind::TooLarge);
    assert!(detail.contains("65 elements, the limit is 64"), "{detail}");
    let more = "envelope.recipients: more than 64 recipients, which is the limit";
    let both = refused("  recipients: [\"${payload.x}\", \"${payload.y}\"]\n", &names(64));
    assert_eq!(both, (RejectKind::TooLarge, more.into()));

    for (lines, payload, why) in [
        ("  inreplyto: ${payload.x}\n", r#"{"x": "m0"}"#, "envelope.inreplyto: \"m0\" is no id of an envelope"),
        (
            "  conversation: ${payload.x}\n",
            r#"{"x": "a\nb"}"#,
            "envelope.conversation: '\\n' is not allowed in an attribute",
        ),
        ("  recipients: ${payload.x}\n", r#"{"x": [{"a": 1}]}"#, "expected a string, a number or a boolean"),
        ("  conversation: ${payload.x}\n", r#"{"x": ["a"]}"#, "expected a string, a number or a boolean"),
        ("  originid: ${payload.y}\n", r#"{"x": 1}"#, "envelope.originid: payload.y: member \"y\" is missing"),
    ] {
        let (kind, detail) = refused(lines, payload);
        assert_eq!(kind, RejectKind::Malformed);
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn what_a_file_says_itself_is_checked_when_it_is_loaded() {
    for (line, why) in [
        ("inreplyto: m0", "attribute \"m0\" is no id of an envelope"),
        ("conversation: \"\"", "attribute an attribute is not empty"),
        ("recipients: []", "out-of-range expected 1 to 64 recipients, found 0"),
        ("originid: \"a\\nb\"", "attribute '\\n' is not allowed in an attribute"),
        ("recipients: ${payloa.x}", "unknown-name"),
        ("recipients: { a: b }", "expected"),
    ] {
        let found = errors(&[&with("", &format!("  topic: t\n  {line}"))]);
        assert!(found.len() == 1 && found[0].starts_with("0.yaml:5:") && found[0].contains(why), "{line}: {found:?}");
    }
}

#[test]
fn correlation_data_is_the_id_of_a_conversation_whatever_its_bytes_are() {
    let mappings = loaded(&with("", "  topic: t\n  conversation: ${headers[\"correlation-data\"]}"));
    for (bytes, id) in [(&b"talk-33"[..], "talk-33"), (b"\xff\x00", "hex:ff00"), (b"hex:00", "hex:6865783a3030")] {
        let headers = Arc::new([("correlation-data".to_owned(), bytes.to_vec().into())]);
        let made = envelope(&mappings, Inbound { headers, ..inbound("POST /t/7", "{}") }).unwrap();
        let conversation = made.conversation.unwrap();
        assert_eq!((conversation.id.as_deref(), conversation.id_bytes().as_deref()), (Some(id), Some(bytes)));
    }
}

#[test]
fn an_answer_is_addressed_by_what_its_request_said() {
    let topic = "$mesh/reply/plant-a/00ff";
    let whole = with("", "  topic: ${payload.to}\n  inreplyto: ${payload.id}");
    let parts = with("", "  topic: $mesh/reply/${payload.domain}/${payload.tag}\n  inreplyto: ${payload.id}");
    let payload = format!(r#"{{"to": "{topic}", "domain": "plant-a", "tag": "00ff", "id": "{ID}"}}"#);
    for file in [&whole, &parts] {
        assert_eq!(envelope(&loaded(file), inbound("POST /t/7", &*payload)).unwrap().subject.as_str(), topic);
    }
    // any other topic is shaped by the file alone
    for to in ["$mesh/audit/refused", "$mesh/replies/x", "a/b", "$mesh/reply/+/x", "$mesh/reply/#", "$mesh", "/"] {
        let payload = format!(r#"{{"to": "{to}", "id": "{ID}"}}"#);
        let no = envelope(&loaded(&whole), inbound("POST /t/7", payload)).unwrap_err();
        assert!(matches!(no.kind, RejectKind::Malformed | RejectKind::Denied), "{to}: {no}");
    }
    let hostile = format!(r#"{{"domain": "a/b", "tag": "x", "id": "{ID}"}}"#);
    assert!(envelope(&loaded(&parts), inbound("POST /t/7", hostile)).is_err());
    let plain = format!(r#"{{"to": "orders", "id": "{ID}"}}"#);
    assert_eq!(envelope(&loaded(&whole), inbound("POST /t/7", plain)).unwrap().subject.as_str(), "orders");
}

#[test]
fn without_inreplyto_no_topic_is_one_for_answers() {
    for topic in ["$mesh/reply/${address.line}/x", "$mesh/reply/a/b"] {
        let found = errors(&[&with("", &format!("  topic: {topic}"))]);
        assert!(found.len() == 1 && found[0].contains("a topic that begins with '$' is reserved"), "{found:?}");
    }
    let fixed = errors(&[&with("", "  topic: $mesh/reply/a/b\n  inreplyto: ${payload.id}")]);
    assert!(fixed[0].contains("reserved"), "{fixed:?}");
    let whole = loaded(&with("", "  topic: ${payload.to}"));
    assert!(envelope(&whole, inbound("POST /t/7", r#"{"to": "$mesh/reply/plant-a/00ff"}"#)).is_err());
}

#[test]
fn what_says_nothing_of_an_answer_is_an_error_of_the_file() {
    let file = with("", "  topic: $mesh/reply/${payload.domain}/${payload.tag}\n  inreplyto: ${payload.id}");
    for line in
        ["each: payload.items", "ack: durable", "keep: last", "store: false\nack: received", "identity: payload.id"]
    {
        let key = line.split(':').next().unwrap();
        let found = errors(&[&format!("{file}{line}\n")]);
        let expected = format!("contradiction {key:?} says nothing of an answer");
        assert!(found.iter().any(|error| error.contains(&expected)), "{line}: {found:?}");
    }
}

#[test]
fn tests_in_a_file_give_and_expect_them() {
    let file = with(
        "",
        "  topic: t\n  conversation: ${payload.c}\n  inreplyto: ${payload.i}\n  recipients: ${payload.r}\n  originid: o-1\n  \
         originsource: /s",
    );
    let given = format!("given: {{ address: POST /t/7, payload: {{ c: talk, i: {ID}, r: [a, b] }} }}");
    let tests = |expect: &str| format!("{file}tests:\n  - name: x\n    {given}\n    expect: {expect}\n");
    let all = format!("{{ conversation: talk, inreplyto: {ID}, recipients: [a, b], originid: o-1, originsource: /s }}");
    assert_eq!(outcomes(&loaded(&tests(&all)))[0].2, Outcome::Passed);
    for wrong in
        ["{ conversation: tal }", "{ recipients: [a] }", "{ inreplyto: x }", "{ originid: o }", "{ originsource: s }"]
    {
        assert!(matches!(outcomes(&loaded(&tests(wrong)))[0].2, Outcome::Failed(_)), "{wrong}");
    }

    let sends = "mapping: m\nfrom: { topic: \"t/#\" }\nto:\n  bridge: out\n  address: POST /x\n  body: { to: \"${envelope.recipients}\", of: \
                 \"${has(envelope.conversation) ? envelope.conversation : 'none'}\", n: \"${size(envelope.recipients)}\" }\n";
    let sent = |given: &str, expect: &str| {
        format!(
            "{sends}tests:\n  - name: x\n    given: {{ topic: t/1, payload: 1{given} }}\n    expect: {{ payload: {expect} }}\n"
        )
    };
    for (given, expect) in [
        (", recipients: [a, b], conversation: talk", "{ to: [a, b], of: talk, n: 2 }"),
        (", recipients: a", "{ to: [a], of: none, n: 1 }"),
        ("", "{ to: [], of: none, n: 0 }"),
    ] {
        assert_eq!(outcomes(&able(&sent(given, expect)))[0].2, Outcome::Passed, "{given}");
    }
}
