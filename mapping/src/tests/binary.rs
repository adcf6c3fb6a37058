//! Data that is no JSON: in base64 in the payload, or bytes that only their sender can tell what they are.

use envelope::RejectKind;

use super::*;

fn made(lines: &str, payload: &str) -> Result<Envelope, Rejection> {
    envelope(&loaded(&with("", &format!("  topic: t\n{lines}"))), inbound("POST /t/7", payload))
}

const BOTH: &str = "  data_base64: ${payload.bytes}\n  content_type: ${payload.kind}\n";

#[test]
fn data_in_base64_is_the_bytes_that_were_meant() {
    let envelope = made(BOTH, r#"{"bytes": "/9j/", "kind": "image/jpeg"}"#).unwrap();
    assert_eq!(envelope.data.as_slice(), b"\xff\xd8\xff");
    assert_eq!(envelope.datacontenttype.as_deref(), Some("image/jpeg"));
    for nothing in [r#"{"bytes": "", "kind": ""}"#, r#"{"bytes": null, "kind": null}"#] {
        let envelope = made(BOTH, nothing).unwrap();
        assert_eq!(envelope.data.as_slice(), b"");
        assert_eq!(envelope.datacontenttype.as_deref(), Some("application/octet-stream"));
    }
}

#[test]
fn what_is_no_base64_or_no_content_type_is_refused() {
    for (payload, why) in [
        (r#"{"bytes": "/9j", "kind": "a/b"}"#, "envelope.data_base64: no base64 (RFC 4648, padded)"),
        (r#"{"bytes": "a b=", "kind": "a/b"}"#, "envelope.data_base64: no base64"),
        (r#"{"bytes": {"a": 1}, "kind": "a/b"}"#, "expected a string"),
        (r#"{"bytes": "", "kind": "a\r\nb"}"#, "envelope.content_type: '\\r' is not allowed in an attribute"),
    ] {
        let no = made(BOTH, payload).unwrap_err();
        assert_eq!(no.kind, RejectKind::Malformed);
        assert!(no.detail.contains(why), "{no}");
    }
}

#[test]
fn bytes_are_either_made_or_something_else() {
    for (lines, at, why) in [
        ("  data_base64: ${payload.a}\n  data: 1", "6:3", "either \"data_base64\", which are bytes, or \"data\""),
        ("  data_base64: ${payload.a}\n  schema: telemetry/reading@v1.0.0", "6:3", "or \"schema\""),
        ("  content_type: text/plain\n  data: 1", "6:3", "\"content_type\" says nothing of data that is made here"),
    ] {
        let found = errors(&[&with("", &format!("  topic: t\n{lines}"))]);
        assert!(found.len() == 1 && found[0].contains(why), "{at} {found:?}");
    }
}

#[test]
fn bytes_that_nobody_read_are_what_their_sender_says() {
    let said = |from: &str, lines: &str, content_type: Option<&'static str>| {
        let headers = content_type.map(|said| ("content-type".to_owned(), said.into())).into_iter().collect();
        let message = Inbound { headers, ..inbound("POST /t/7", "{}") };
        envelope(&loaded(&with(from, &format!("  topic: t{lines}"))), message).unwrap().datacontenttype.unwrap()
    };
    let bytes = ", decode: bytes";
    assert_eq!(&*said(bytes, "", Some("image/jpeg")), "image/jpeg");
    assert_eq!(&*said(bytes, "", None), "application/octet-stream");
    assert_eq!(&*said(bytes, "\n  content_type: text/x-log", Some("image/jpeg")), "text/x-log");
    // what was read is what it was read as
    assert_eq!(&*said("", "", Some("image/jpeg")), "application/json");
    let long = Box::leak("a".repeat(1_025).into_boxed_str());
    let message = Inbound {
        headers: Arc::new([("content-type".to_owned(), long.as_bytes().to_vec().into())]),
        ..inbound("POST /t/7", "{}")
    };
    assert!(envelope(&loaded(&with(bytes, "  topic: t")), message).is_err());
}
