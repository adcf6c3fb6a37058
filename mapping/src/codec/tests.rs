//! The codecs against other people's encoders, and against what nobody should send.

mod binary;
mod charsets;
mod texts;

use bytes::Bytes;
use envelope::{Json, RejectKind};

use super::*;

/// What `payload` is in the tree, as JSON text.
fn decoded(codec: Codec, payload: impl AsRef<[u8]>) -> Result<String, String> {
    match codec.decode(&Bytes::copy_from_slice(payload.as_ref())) {
        Ok(decoded) => Ok(decoded.tree().unwrap().as_str().to_owned()),
        Err(rejection) => {
            assert!(matches!(rejection.kind, RejectKind::Malformed | RejectKind::TooLarge));
            assert_eq!(rejection.decided_by, "mapping.from.decode");
            Err(rejection.detail.to_string())
        }
    }
}

/// The tree that `payload` becomes, read by another JSON parser.
fn value(codec: Codec, payload: impl AsRef<[u8]>) -> serde_json::Value {
    serde_json::from_str(&decoded(codec, payload).unwrap()).unwrap()
}

#[track_caller]
fn refused(codec: Codec, payload: impl AsRef<[u8]>, says: &str) {
    let detail = decoded(codec, payload).unwrap_err();
    assert!(detail.contains(says), "{detail}");
}

#[test]
fn every_format_says_what_it_is() {
    let latin = Charset::Latin1;
    for (codec, says) in [
        (Codec::Json, "application/json"),
        (Codec::Cbor, "application/cbor"),
        (Codec::MsgPack, "application/msgpack"),
        (Codec::Xml(latin), "application/xml; charset=iso-8859-1"),
        (Codec::Csv(latin, b';'), "text/csv; charset=iso-8859-1"),
        (Codec::UrlEncoded(latin), "application/x-www-form-urlencoded"),
        (Codec::Text(Charset::Utf8), "text/plain; charset=utf-8"),
        (Codec::Bytes, "application/octet-stream"),
    ] {
        assert_eq!(codec.content_type(), says);
    }
}

#[test]
fn what_grows_without_measure_is_too_large() {
    // 100 columns of 1 kB names, rows of 100 bytes
    let mut csv = (0..100).map(|n| format!("{n:01000}")).collect::<Vec<_>>().join(",");
    csv += &format!("\n{}", ",".repeat(99)).repeat(1_000);
    let rejection = Codec::Csv(Charset::Utf8, b',').decode(&csv.into()).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::TooLarge);
    assert!(rejection.detail.contains("is over 3"), "{}", rejection.detail);
    let most = Codec::Text(Charset::Utf8).decode(&Bytes::from(vec![b'x'; 9 << 20])).map(|_| ());
    assert!(most.is_ok(), "text is not copied");
    let mut long = vec![0x5a];
    long.extend(u32::to_be_bytes(7 << 20));
    long.extend(vec![0; 7 << 20]);
    refused(Codec::Cbor, long, "over 8388608 bytes when decoded from CBOR");
}

#[test]
fn each_is_read_as_the_same_tree_as_json() {
    let json = r#"{"a":[1,"x",true,null,{"b":-2.5}]}"#;
    let tree: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut cbor = Vec::new();
    ciborium::into_writer(&tree, &mut cbor).unwrap();
    let msgpack = rmp_serde::to_vec(&tree).unwrap();
    assert_eq!(decoded(Codec::Cbor, cbor).unwrap(), json);
    assert_eq!(decoded(Codec::MsgPack, msgpack).unwrap(), json);
    let json = Json::parse(Bytes::from_static(json.as_bytes())).unwrap();
    assert_eq!(json.root().get("a").unwrap().as_array().unwrap().len(), 5);
}
