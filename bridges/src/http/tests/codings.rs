//! gzip and zstd over real sockets, in and out.

use std::io::{Read, Write};

use bytes::Bytes;
use envelope::{Identity, RejectKind};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use super::client::{Answer, Client};
use crate::{
    conformance::{Rig, delivery},
    http::HttpConfig,
};

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> (Rig, Client) {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let rig = Rig::start(&config).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Posts an encoded body; `headers` are further ones, a line each.
async fn post(client: &mut Client, address: &str, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n\r\n")).await;
    client.send(body).await;
    client.answer().await
}

/// What the client reads once it has undone the coding.
fn decoded(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    match answer.header("content-encoding") {
        Some("gzip") => drop(GzDecoder::new(&answer.bytes[..]).read_to_end(&mut out).unwrap()),
        Some("zstd") => out = zstd::decode_all(&answer.bytes[..]).unwrap(),
        Some(other) => panic!("{other}"),
        None => out.clone_from(&answer.bytes),
    }
    out
}

#[tokio::test]
async fn an_encoded_body_is_the_message_that_is_in_it() {
    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address().to_string();
    let text = r#"{"f":50,"unit":"F"}"#;
    for (coding, body) in
        [("gzip", gzip(text.as_bytes())), ("x-gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))]
    {
        assert_eq!(
            post(&mut client, &own, &format!("Content-Encoding: {coding}"), &body).await.status,
            202,
            "{coding}"
        );
    }
    // without its length, in two chunks
    let (body, head) = (gzip(text.as_bytes()), "Content-Encoding: gzip\r\nTransfer-Encoding: chunked");
    let (begun, rest) = body.split_at(12);
    client.send(format!("POST /a HTTP/1.1\r\nHost: {own}\r\n{head}\r\n\r\nc\r\n")).await;
    client.send(begun).await;
    client.send(format!("\r\n{:x}\r\n", rest.len())).await;
    client.send([rest, b"\r\n0\r\n\r\n"].concat()).await;
    assert_eq!(client.answer().await.status, 202);
    for batch in rig.seen() {
        assert_eq!(batch[0].payload, text);
        assert!(batch[0].headers.iter().all(|(name, _)| name != "content-encoding"), "the payload is encoded no more");
    }
    assert_eq!(rig.counts().received, 4);
    rig.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_what_is_in_the_body_however_it_is_encoded() {
    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address().to_string();
    for (coding, body) in
        [("identity", b"1".to_vec()), ("gzip", gzip(b"1")), ("zstd", zstd(b"1")), ("gzip", gzip(b"2"))]
    {
        let headers = format!("Idempotency-Key: k\r\nContent-Encoding: {coding}");
        assert_eq!(post(&mut client, &own, &headers, &body).await.status, 202);
    }
    let prints: Vec<_> = rig
        .seen()
        .iter()
        .map(|batch| match &batch[0].identity {
            Identity::Keyed { print, .. } => *print,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(prints[0] == prints[1] && prints[1] == prints[2] && prints[2] != prints[3], "{prints:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_bomb_is_too_large_and_nobody_else_notices() {
    let (rig, mut client) = rig(|config| config.max_payload_bytes = 65_536).await;
    let own = rig.address().to_string();
    let bomb = vec![0; 32 << 20];
    let mut other = Client::connect(rig.address()).await;
    for (coding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        assert!(body.len() < 65_536, "a bomb is small");
        let answer = post(&mut client, &own, &format!("Content-Encoding: {coding}"), &body).await;
        assert_eq!((answer.status, answer.member("decided_by").as_deref()), (413, Some("payload_limit")), "{coding}");
        assert_eq!(other.ask("POST /a", "{}").await.status, 202);
        assert!(rig.is_empty());
    }
    // one byte over, and one that is as large as it may be and can't be made smaller
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(65_537).collect();
    assert_eq!(post(&mut client, &own, "Content-Encoding: gzip", &gzip(&noise)).await.status, 413);
    assert_eq!(post(&mut client, &own, "Content-Encoding: gzip", &gzip(&noise[1..])).await.status, 202);
    assert_eq!(rig.counts().refused, [RejectKind::TooLarge; 3]);
    rig.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_its_coding_says_is_malformed() {
    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address().to_string();
    let whole = gzip(b"{\"f\": 50}");
    let bodies = [
        ("gzip", Vec::new()),
        ("gzip", b"{\"f\": 50}".to_vec()),
        ("gzip", whole[..whole.len() - 3].to_vec()),
        ("gzip", [&whole[..], b"behind"].concat()),
        ("gzip", zstd(b"x")),
        ("zstd", gzip(b"x")),
        ("zstd", Vec::new()),
    ];
    let count = bodies.len();
    for (coding, body) in bodies {
        let answer = post(&mut client, &own, &format!("Content-Encoding: {coding}"), &body).await;
        let found = (answer.status, answer.member("decided_by"));
        assert_eq!(found, (422, Some("content_encoding".to_owned())), "{coding} {body:?}");
    }
    let counts = rig.counts();
    assert_eq!(
        (counts.received, counts.refused, counts.offered),
        (count as u64, vec![RejectKind::Malformed; count], 0)
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_unknown_coding_and_more_than_one_are_told_what_there_is() {
    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address().to_string();
    for headers in
        ["Content-Encoding: br", "Content-Encoding: gzip, gzip", "Content-Encoding: gzip\r\nContent-Encoding: zstd"]
    {
        let answer = post(&mut client, &own, headers, &gzip(&gzip(b"x"))).await;
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("gzip, zstd")), "{headers}");
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_in_a_body_counts_among_the_bytes_in_flight() {
    let (rig, mut client) = rig(|config| config.max_payload_bytes = 16 << 20).await;
    let own = rig.address().to_string();
    // the rig has 4 MiB: the body has room, what is in it has not
    let body = gzip(&vec![0; 8 << 20]);
    let answer = post(&mut client, &own, "Content-Encoding: gzip", &body).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!((rig.counts().received, rig.is_empty()), (0, true));
    rig.hold();
    let body = gzip(&vec![0; 1 << 20]);
    let asked = post(&mut client, &own, "Content-Encoding: gzip", &body);
    let held = async {
        rig.until(|counts| counts.offered == 1).await;
        let held = !rig.is_empty() && rig.fill().is_none();
        rig.release();
        held
    };
    let (answer, held) = tokio::join!(asked, held);
    assert_eq!((answer.status, held), (202, true));
    rig.stop().await;
}

#[tokio::test]
async fn a_large_answer_is_encoded_as_the_client_likes_it() {
    let (rig, mut client) = rig(|_| {}).await;
    let value = format!("\"{}\"", "abc ".repeat(2_000));
    rig.outlet
        .give([delivery(1, "large", Bytes::from(value.clone())), delivery(2, "small", Bytes::from_static(b"true"))]);
    let plain = client.ask("GET /mesh/v1/last/large", "").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("zstd;q=0.2, gzip;q=0.3", Some("gzip")),
        ("gzip;q=0", None),
        ("br", None),
    ] {
        let answer = client.ask(&format!("GET /mesh/v1/last/large\nAccept-Encoding: {accept}"), "").await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{accept}");
        assert_eq!(decoded(&answer), plain.bytes, "{accept}");
        assert_eq!(
            (answer.header("vary"), answer.header("content-type")),
            (Some("accept-encoding"), Some("application/cloudevents+json"))
        );
        if let (Some(_), Some(tag)) = (coding, answer.header("etag")) {
            assert!(answer.bytes.len() < plain.bytes.len() / 10);
            assert_eq!(tag, "w/\"0000000000000001\"", "other bytes, the same value");
            let again = format!("GET /mesh/v1/last/large\nIf-None-Match: {}", tag.to_uppercase());
            assert_eq!(client.ask(&again, "").await.status, 304);
        }
    }
    let small = client.ask("GET /mesh/v1/last/small\nAccept-Encoding: gzip", "").await;
    assert_eq!((small.header("content-encoding"), small.header("vary")), (None, None));
    let must = client.ask("GET /mesh/v1/last/small\nAccept-Encoding: gzip, identity;q=0", "").await;
    assert_eq!(must.header("content-encoding"), Some("gzip"));
    assert_eq!(decoded(&must), small.bytes);
    rig.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_that_can_be_sent_is_told_before_anything_is_done() {
    let (rig, mut client) = rig(|_| {}).await;
    for accept in ["identity;q=0", "*;q=0", "br, identity;q=0"] {
        let answer = client.ask(&format!("POST /a\nAccept-Encoding: {accept}"), "{}").await;
        assert_eq!((answer.status, answer.member("decided_by").as_deref()), (406, Some("accept_encoding")), "{accept}");
    }
    assert_eq!(rig.counts().received, 0);
    let events = client.ask("GET /mesh/v1/events?filter=a\nAccept-Encoding: gzip, identity;q=0", "").await;
    assert!(!decoded(&events).is_empty());
    assert_eq!((events.status, rig.outlet.state().opened.len()), (406, 0));
    rig.stop().await;
}

#[tokio::test]
async fn events_are_sent_as_they_are() {
    use tokio::io::AsyncReadExt;

    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address();
    client
        .send(format!("GET /mesh/v1/events?filter=a HTTP/1.1\r\nHost: {own}\r\nAccept-Encoding: gzip, zstd\r\n\r\n"))
        .await;
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = client.stream.read_buf(&mut head);
        assert!(tokio::time::timeout(crate::conformance::HARD_TIMEOUT, read).await.expect("in time").unwrap() > 0);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.contains("text/event-stream") && !head.contains("content-encoding"), "{head}");
    drop(client);
    rig.stop().await;
}
