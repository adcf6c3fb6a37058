use envelope::{AckPoint, MapResult, Mapped, RejectKind};

use super::*;

/// A mapping of one address, and the rest of the bridge one to one.
fn through(text: &str) -> Mappings {
    let (schemas, tables) = (schemas(), tables());
    let bridges = [Bridge { one_to_one: Some("floor/7"), ..Bridge::named("web") }, Bridge::named("floor")];
    let context = Context::new("plant-a", &bridges, &schemas, &tables);
    load(&[Source { path: "0.yaml", text }], &context).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mapped(message: Inbound) -> Mapped {
    match through(LEAST).map(message) {
        MapResult::Mapped(mapped) => mapped,
        other => panic!("{other:?}"),
    }
}

fn with_headers(headers: &[(&str, &[u8])], address: &str) -> Inbound {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec().into()));
    Inbound { headers: headers.collect(), ..inbound(address, [0xff, 0]) }
}

#[test]
fn what_no_mapping_takes_goes_through_below_the_prefix() {
    let mapped = mapped(with_headers(&[], "press/%/temp"));
    let envelope = &mapped.group.as_slice()[0];
    assert_eq!(envelope.subject.as_str(), "floor/7/press/%/temp");
    assert_eq!((mapped.route.name(), mapped.ack), ("one-to-one:web", AckPoint::Durable));
    assert_eq!((&*envelope.source, envelope.data.as_slice()), ("mesh://plant-a/web/press%207", &[0xff, 0][..]));
    assert_eq!(envelope.datacontenttype.as_deref(), Some("application/octet-stream"));
    assert_eq!((&*envelope.kind, &envelope.dataschema, &envelope.conversation), ("mesh/opaque@v1.0.0", &None, &None));
    let taken = through(LEAST).map(inbound("POST /t/7", "{}"));
    assert!(matches!(taken, MapResult::Mapped(mapped) if mapped.route.name() == "m"), "a mapping comes first");
    let refused = through(LEAST).map(inbound("POST /t/7", "no JSON"));
    assert!(matches!(refused, MapResult::Refused(Some(route), _) if route.name() == "m"), "and has the last word");
    let guarded = through(&(LEAST.to_owned() + "when: payload.f > 1\n")).map(inbound("POST /t/7", "{\"f\":0}"));
    assert!(matches!(guarded, MapResult::Mapped(mapped) if mapped.route.name() == "one-to-one:web"));
    let other = Inbound { bridge: "floor".into(), ..inbound("a", "{}") };
    assert!(matches!(through(LEAST).map(other), MapResult::Refused(None, no) if no.kind == RejectKind::Unmapped));
}

#[test]
fn what_the_sender_says_of_a_message_that_goes_through_is_in_its_envelope() {
    let headers: [(&str, &[u8]); 5] = [
        ("content-type", b"application/cbor"),
        ("message-expiry-interval", b"9"),
        ("payload-format-indicator", b"1"),
        ("response-topic", b"answers/1"),
        ("correlation-data", &[7, 255]),
    ];
    let said = |headers: &[(&str, &[u8])]| Inbound { payload: "text".into(), ..with_headers(headers, "a") };
    let envelope = mapped(said(&headers)).group.as_slice()[0].clone();
    assert_eq!(envelope.datacontenttype.as_deref(), Some("application/cbor"));
    assert_eq!(envelope.expirytime, Some(envelope.time.plus(std::time::Duration::from_secs(9))));
    let conversation = envelope.conversation.unwrap();
    assert_eq!(conversation.replyto.as_deref(), Some("floor/7/answers/1"));
    assert_eq!(
        (conversation.id.as_deref(), conversation.id_bytes().as_deref()),
        (Some("hex:07ff"), Some(&[7, 255][..]))
    );
    let text = mapped(said(&headers[2..3])).group.as_slice()[0].clone();
    assert_eq!(text.datacontenttype.as_deref(), Some("text/plain; charset=utf-8"));
}

#[test]
fn what_can_not_go_through_is_refused_with_its_reason() {
    let long = [b'x'; 2_000];
    for (message, kind, says) in [
        (inbound("$SYS/a", "x"), RejectKind::Denied, "reserved"),
        (inbound(&"a/".repeat(80), "x"), RejectKind::Malformed, "segment"),
        (with_headers(&[("correlation-data", &long)], "a"), RejectKind::TooLarge, "correlation data of 2000"),
        (with_headers(&[("content-type", b"a\nb")], "a"), RejectKind::Malformed, "content type"),
        (with_headers(&[("message-expiry-interval", b"soon")], "a"), RejectKind::Malformed, "expiry"),
        (with_headers(&[("response-topic", b"$mesh/x")], "a"), RejectKind::Denied, "reserved"),
        (with_headers(&[("payload-format-indicator", b"1")], "a"), RejectKind::Malformed, "from byte 0 on"),
    ] {
        let MapResult::Refused(Some(route), rejection) = through(LEAST).map(message) else { panic!("{says}") };
        assert_eq!((route.name(), rejection.kind), ("one-to-one:web", kind), "{says}");
        assert!(rejection.detail.contains(says), "{}", rejection.detail);
    }
}

#[test]
fn what_goes_through_is_listed() {
    let mappings = through(LEAST);
    let last = mappings.routes().last().unwrap();
    assert_eq!((last.route.name(), last.address, last.topic), ("one-to-one:web", "#", Some("floor/7/#")));
    assert_eq!(mappings.routes().len(), 2);
}
