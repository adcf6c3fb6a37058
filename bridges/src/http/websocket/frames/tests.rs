use super::*;

const VALID: [&str; 8] = [
    r#"{"op":"publish","ref":"1","address":"POST /a?q=1","headers":{"X-A":"é"},"payload":{"c":12.10},"key":"k"}"#,
    r#"{"op":"publish","ref":"1","address":"DELETE /a%20b","text":"plain\n"}"#,
    r#"{"op":"subscribe","ref":"s","filters":["a/+","b/#"],"start":"earliest","durable":"d-1","credit":8}"#,
    r#"{"op":"subscribe","ref":"s","filters":["a"],"start":{"after":"00ff"},"credit":1}"#,
    r#"{"op":"ack","sub":"s","positions":["01","02"]}"#,
    r#"{"op":"nack","sub":"s","positions":["01"],"after_ms":10}"#,
    r#"{"op":"credit","sub":"s","more":4294967295}"#,
    r#"{"op":"unsubscribe","sub":"s"}"#,
];

fn read(text: &str) -> Read<ClientFrame> {
    parse(&Frame { bytes: Bytes::copy_from_slice(text.as_bytes()), binary: false })
}

fn binary(bytes: &'static [u8]) -> Read<ClientFrame> {
    parse(&Frame { bytes: bytes.into(), binary: true })
}

#[test]
fn every_op_is_read() {
    for text in VALID {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text));
    }
}

#[test]
fn a_subscription_begins_where_its_frame_says() {
    let start = |start: &str| {
        let frame = format!(r#"{{"op":"subscribe","ref":"s","filters":["a"],"start":{start},"credit":1}}"#);
        match read(&frame) {
            Ok(ClientFrame::Subscribe(wish)) => Ok(wish.start),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad.problem.detail().to_owned()),
        }
    };
    let time = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
    assert_eq!(start(r#"{"time":"2026-01-31T12:00:00Z"}"#), Ok(Start::Time(time)));
    assert_eq!((start(r#""last""#), start(r#""new""#)), (Ok(Start::Last), Ok(Start::New)));
    for wrong in ["7", "{}", r#"{"time":"noon"}"#, r#"{"time":7}"#, r#"{"after":"00","time":"2026-01-31T12:00:00Z"}"#] {
        assert!(start(wrong).unwrap_err().starts_with("start is \"new\""), "{wrong}");
    }
}

#[test]
fn a_payload_shares_the_frames_memory_and_keeps_its_text() {
    let frame = Bytes::from_static(VALID[0].as_bytes());
    let Ok(ClientFrame::Publish { draft, .. }) = parse(&Frame { bytes: frame.clone(), binary: false }) else {
        panic!("no publish frame")
    };
    assert_eq!(draft.payload, "{\"c\":12.10}");
    assert!(frame.as_ptr_range().contains(&draft.payload.as_ptr()));
}

#[test]
fn behind_the_line_of_a_binary_frame_is_its_payload() {
    let frame = b"{\"op\":\"publish\",\"ref\":\"1\",\"address\":\"POST /a\"}\n\n\xff{\0";
    let Ok(ClientFrame::Publish { draft, .. }) = binary(frame) else { panic!("no publish frame") };
    assert_eq!(draft.payload, &b"\n\xff{\0"[..]);
    let reply = b"{\"op\":\"reply\",\"ref\":\"1\",\"to\":\"$mesh/reply/g/1\"}\n";
    let Ok(ClientFrame::Publish { draft, .. }) = binary(reply) else { panic!("no reply frame") };
    assert_eq!((draft.payload.len(), &draft.headers[0].1[..]), (0, &b"application/octet-stream"[..]));
    assert!(binary(b"{\"op\":\"unsubscribe\",\"sub\":\"s\"}\n").is_ok());
    for (frame, says) in [
        (&b"{\"op\":\"unsubscribe\",\"sub\":\"s\"}"[..], "a line of JSON, a line feed and a payload"),
        (b"{\"op\":\"unsubscribe\",\"sub\":\"s\"}\nx", "there is a payload behind op \"unsubscribe\", which has none"),
        (
            b"{\"op\":\"publish\",\"ref\":\"1\",\"address\":\"POST /a\",\"payload\":1}\n1",
            "the payload of a binary publish frame stands behind it",
        ),
    ] {
        let detail = binary(frame).unwrap_err().problem.detail().to_owned();
        assert!(detail.contains(says), "{detail}");
    }
}

#[test]
fn what_is_wrong_is_named_with_the_clients_ref() {
    for (text, reference, detail) in [
        ("", None, "not valid JSON"),
        ("[1]", None, "a frame is a JSON object, not array"),
        (r#"{"ref":"r"}"#, Some("r"), "\"op\" is missing"),
        (r#"{"op":"pubish","ref":"r"}"#, Some("r"), "unknown op \"pubish\"; ops: ack"),
        (r#"{"op":"publish","ref":"r","adress":"POST /a"}"#, Some("r"), "unknown member \"adress\""),
        (r#"{"op":"publish","ref":"r","payload":1}"#, Some("r"), "\"address\" is missing"),
        (r#"{"op":"publish","ref":7,"address":"POST /a","payload":1}"#, None, "\"ref\" is no string"),
        (r#"{"op":"publish","ref":"","address":"POST /a","payload":1}"#, Some(""), "1 to 128 bytes"),
        (r#"{"op":"publish","ref":"r","address":"/a","payload":1}"#, Some("r"), "no \"METHOD /path\""),
        (r#"{"op":"publish","ref":"r","address":"GET /a/../b","payload":1}"#, Some("r"), "segment \"..\""),
        (r#"{"op":"publish","ref":"r","address":"HEAD /a","payload":1}"#, Some("r"), "HEAD publishes nothing"),
        (r#"{"op":"publish","ref":"r","address":"POST /a"}"#, Some("r"), "either \"payload\" or \"text\""),
        (r#"{"op":"publish","ref":"r","address":"POST /a","payload":1,"text":"1"}"#, Some("r"), "either"),
        (r#"{"op":"publish","ref":"r","address":"POST /a","text":1}"#, Some("r"), "\"text\" is no string"),
        (r#"{"op":"publish","ref":"r","address":"POST /a","payload":1,"key":""}"#, Some("r"), "idempotency key"),
        (r#"{"op":"publish","ref":"r","address":"POST /a","payload":1,"headers":{"a b":"1"}}"#, Some("r"), "\"a b\""),
        (r#"{"op":"publish","ref":"r","address":"POST /a","payload":1,"headers":{"a":"\r\n"}}"#, Some("r"), "\"a\""),
        (r#"{"op":"publish","ref":"r","address":"POST /a","payload":{"a":1,"a":2}}"#, None, "duplicate key"),
        (r#"{"op":"subscribe","ref":"r","filters":[],"credit":1}"#, Some("r"), "list of 1 to 64"),
        (r#"{"op":"subscribe","ref":"r","filters":["a/#/b"],"credit":1}"#, Some("r"), "filters: "),
        (r#"{"op":"subscribe","ref":"r","filters":["a"]}"#, Some("r"), "\"credit\" is missing or 0"),
        (r#"{"op":"subscribe","ref":"r","filters":["a"],"credit":0}"#, Some("r"), "\"credit\" is missing or 0"),
        (r#"{"op":"subscribe","ref":"r","filters":["a"],"credit":1,"start":"old"}"#, Some("r"), "start is \"new\""),
        (r#"{"op":"subscribe","ref":"r","filters":["a"],"credit":1,"durable":"a:b"}"#, Some("r"), "a durable name"),
        (r#"{"op":"ack","sub":"s","positions":["0"]}"#, Some("s"), "\"0\" is no position"),
        (r#"{"op":"ack","sub":"s","positions":["zz"]}"#, Some("s"), "\"zz\" is no position"),
        (r#"{"op":"nack","sub":"s","positions":["00"],"after_ms":3600001}"#, Some("s"), "limit of 3600000"),
        (r#"{"op":"credit","sub":"s","more":-1}"#, Some("s"), "no whole number"),
        (r#"{"op":"credit","sub":"s","more":1.5}"#, Some("s"), "no whole number"),
    ] {
        let bad = read(text).unwrap_err();
        assert_eq!(bad.reference.as_deref(), reference, "{text}");
        assert!(bad.problem.detail().contains(detail), "{text}: {}", bad.problem.detail());
    }
}

#[test]
fn a_publish_has_as_many_headers_as_a_request_may_have() {
    let with = |count: usize| {
        let headers: Vec<_> = (0..count).map(|n| format!(r#""x-{n}":"""#)).collect();
        read(&format!(
            r#"{{"op":"publish","ref":"r","address":"POST /a","payload":1,"headers":{{{}}}}}"#,
            headers.join(",")
        ))
    };
    assert!(with(MAX_HEADERS).is_ok());
    assert_eq!(with(MAX_HEADERS + 1).unwrap_err().problem.detail(), "101 headers, limit is 100");
}

#[test]
fn a_trace_state_that_is_not_ascii_and_empty_names_of_an_event_are_none() {
    let headers = r#"{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"é=1",
                      "ce-source":"/plant","ce-id":""}"#;
    let text = format!(r#"{{"op":"publish","ref":"r","address":"POST /a","payload":1,"headers":{headers}}}"#);
    let Ok(ClientFrame::Publish { draft, .. }) = read(&text) else { panic!("no publish frame") };
    assert_eq!(draft.trace.unwrap().tracestate(), None);
    assert!(matches!(draft.identity, envelope::Identity::Fresh(_)));
}

#[test]
fn a_durable_name_is_the_principals_own() {
    let Ok(ClientFrame::Subscribe(wish)) = read(VALID[2]) else { panic!("no subscribe frame") };
    assert_eq!(wish.durable_of("plant").as_deref(), Some("ws:plant:d-1"));
    assert_eq!(wish.durable_of("plant:d-1%").as_deref(), Some("ws:plant%3Ad-1%25:d-1"));
}

#[test]
fn mutated_frames_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..40_000 {
        let mut text = VALID[round % VALID.len()].as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            match random.u8(..3) {
                0 => text[at] = random.u8(..),
                1 => drop(text.remove(at)),
                _ => text.insert(at, *random.choice(b"{}[]\",:\\%/ 0").unwrap_or(&b' ')),
            }
        }
        let _ = parse(&Frame { bytes: text.into(), binary: round % 2 == 0 });
    }
}
