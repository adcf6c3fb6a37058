//! Publishing over a WebSocket: order, retry, bad frames, the drain.

use std::time::Duration;

use envelope::{Admission, Identity, RejectKind, Rejection};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message};

use super::client::{Ws, member};
use crate::{
    conformance::{HARD_TIMEOUT, Rig},
    http::HttpConfig,
};

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> (Rig, Ws) {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let rig = Rig::start(&config).await;
    let ws = Ws::connect(rig.address()).await;
    (rig, ws)
}

fn publish(reference: usize) -> String {
    format!(r#"{{"op":"publish","ref":"{reference}","address":"POST /a","payload":{reference}}}"#)
}

fn payloads(rig: &Rig) -> Vec<String> {
    let text = |inbound: &envelope::Inbound| String::from_utf8(inbound.payload.to_vec()).unwrap();
    rig.seen().iter().flatten().map(text).collect()
}

fn away() -> Rejection {
    Rejection::new(RejectKind::Unavailable, "store", "the store is away")
}

#[tokio::test]
async fn a_publish_frame_becomes_what_mappings_read() {
    let (rig, mut ws) = rig(|_| {}).await;
    ws.send(
        r#"{"op":"publish","ref":"a","address":"POST /caf%C3%A9?unit=F","headers":{"X-Line":"7","Cookie":"secret"},
            "payload":{"c": 12.10, "n": 1152921504606846977},"key":"k1"}"#,
    )
    .await;
    let receipt = ws.text().await;
    assert_eq!(member(&receipt, "op").as_deref(), Some("receipt"));
    assert_eq!(member(&receipt, "ref").as_deref(), Some("a"));
    assert_eq!(member(&receipt, "position").as_deref(), Some("0000000000000001"));
    let inbound = rig.seen().remove(0).remove(0);
    assert_eq!(&*inbound.address, "POST /café");
    assert_eq!(inbound.payload, r#"{"c": 12.10, "n": 1152921504606846977}"#);
    assert!(matches!(&inbound.identity, Identity::Keyed { name, .. } if name == "key\0POST /café\0k1"));
    let headers: Vec<_> = inbound.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["x-line", "query"]);
    rig.stop().await;
}

#[tokio::test]
async fn text_and_filtered_have_frames_of_their_own() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.answer(|_| Ok(Admission::Filtered));
    ws.send(r#"{"op":"publish","ref":"a","address":"PUT /a","text":"1\n2"}"#).await;
    assert_eq!(ws.text().await, r#"{"op":"filtered","ref":"a"}"#);
    assert_eq!(payloads(&rig), ["1\n2"]);
    rig.stop().await;
}

#[tokio::test]
async fn receipts_come_in_order_and_what_waits_travels_as_one_batch() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.hold();
    ws.send(publish(0)).await;
    rig.until(|counts| counts.offered == 1).await;
    for reference in 1..=200 {
        ws.0.feed(Message::text(publish(reference))).await.unwrap();
    }
    ws.0.flush().await.unwrap();
    rig.release();
    for reference in 0..=200 {
        assert_eq!(member(&ws.text().await, "ref"), Some(reference.to_string()));
    }
    let sizes: Vec<_> = rig.seen().iter().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| *size <= 64) && sizes.len() < 100, "{sizes:?}");
    assert_eq!(rig.counts().received, 201);
    rig.stop().await;
}

#[tokio::test]
async fn a_retry_keeps_the_order_and_is_no_second_message() {
    let (rig, mut ws) = rig(|_| {}).await;
    let mut refusals = 3;
    rig.answer(move |inbound| {
        if refusals > 0 && inbound.payload != "1" {
            // the stack's own rule: behind a Retry, everything of the lane waits
            refusals -= 1;
            return Err(away());
        }
        Ok(Admission::Filtered)
    });
    rig.hold();
    ws.send(publish(1)).await;
    rig.until(|counts| counts.offered == 1).await;
    for reference in 2..=4 {
        ws.send(publish(reference)).await;
    }
    rig.release();
    for reference in 1..=4 {
        assert_eq!(ws.text().await, format!(r#"{{"op":"filtered","ref":"{reference}"}}"#));
    }
    let counts = rig.counts();
    assert_eq!((counts.received, counts.returned.len()), (4, 0));
    let taken = payloads(&rig);
    assert_eq!(taken[taken.len() - 1], "4");
    rig.stop().await;
}

#[tokio::test]
async fn while_a_message_is_retried_nothing_is_read() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.answer(|_| Err(away()));
    ws.send(publish(1)).await;
    rig.until(|counts| counts.offered >= 1).await;
    ws.send(publish(2)).await;
    rig.until(|counts| counts.offered >= 4).await;
    assert!(payloads(&rig).iter().all(|payload| payload == "1"));
    assert_eq!(rig.counts().received, 1);
    rig.answer(|_| Ok(Admission::Filtered));
    for reference in 1..=2 {
        assert_eq!(member(&ws.text().await, "ref"), Some(reference.to_string()));
    }
    rig.stop().await;
}

#[tokio::test]
async fn after_retry_for_the_message_is_given_back_with_a_reason() {
    let (rig, mut ws) = rig(|config| config.websocket.retry_for = Duration::from_millis(60)).await;
    rig.answer(|_| Err(away()));
    ws.send(publish(1)).await;
    assert_eq!(ws.closed().await, (1013, "a message was not taken for too long: unavailable".to_owned()));
    rig.until(|counts| counts.returned == [RejectKind::Unavailable]).await;
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_what_is_under_retry_is_given_back() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.answer(|_| Err(away()));
    ws.send(publish(1)).await;
    rig.until(|counts| counts.offered >= 1).await;
    rig.drain();
    assert_eq!(ws.closed().await.0, 1001);
    rig.stop().await;
    assert_eq!(rig.counts().returned, [RejectKind::Unavailable]);
}

#[tokio::test]
async fn at_the_drain_what_is_in_flight_is_answered_before_the_close() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.hold();
    ws.send(publish(1)).await;
    rig.until(|counts| counts.offered == 1).await;
    rig.drain();
    rig.release();
    assert_eq!(member(&ws.text().await, "op").as_deref(), Some("receipt"));
    assert_eq!(ws.closed().await, (1001, "the gateway stops".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_half_way_is_still_accounted() {
    let (rig, mut ws) = rig(|config| config.websocket.ping_interval = Duration::from_millis(20)).await;
    rig.answer(|_| Err(away()));
    ws.send(publish(1)).await;
    rig.until(|counts| counts.offered >= 1).await;
    drop(ws);
    rig.until(|counts| counts.returned == [RejectKind::Unavailable]).await;
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_final_refusal_is_an_error_frame_and_the_lane_goes_on() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.answer(|inbound| match &inbound.payload[..] {
        b"1" => Err(Rejection::new(RejectKind::Malformed, "conformance", "no number").at("/celsius")),
        _ => Ok(Admission::Filtered),
    });
    ws.send(publish(1)).await;
    let error = ws.text().await;
    for (name, value) in [("op", "error"), ("ref", "1"), ("kind", "malformed"), ("pointer", "/celsius")] {
        assert_eq!(member(&error, name).as_deref(), Some(value));
    }
    ws.send(publish(2)).await;
    assert_eq!(ws.text().await, r#"{"op":"filtered","ref":"2"}"#);
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused.len()), (2, 0), "Account counts what the stack refuses");
    rig.stop().await;
}

#[tokio::test]
async fn a_bad_frame_is_an_error_frame_and_too_many_end_the_connection() {
    let (rig, mut ws) = rig(|_| {}).await;
    ws.send(r#"{"op":"publish","ref":"1","address":"POST /mesh/v1/ws","payload":1}"#).await;
    let error = ws.text().await;
    assert_eq!((member(&error, "ref").as_deref(), member(&error, "status").as_deref()), (Some("1"), Some("404")));
    ws.send(publish(2)).await;
    assert_eq!(member(&ws.text().await, "op").as_deref(), Some("receipt"));
    for _ in 0..16 {
        ws.send("{").await;
    }
    assert_eq!(ws.closed().await, (1008, "too many bad frames".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn binary_and_oversized_frames_end_the_connection_with_their_code() {
    let (rig, mut ws) = rig(|config| config.websocket.max_frame_bytes = 1_024).await;
    ws.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(ws.closed().await.0, 1003);
    let mut ws = Ws::connect(rig.address()).await;
    ws.send(" ".repeat(1_025)).await;
    assert_eq!(ws.closed().await.0, 1009);
    rig.stop().await;
}

#[tokio::test]
async fn pings_of_a_client_that_reads_nothing_fill_no_memory_and_do_not_hold_up_the_drain() {
    const FLOOD: usize = 64 << 20;
    let (rig, mut ws) = rig(|_| {}).await;
    ws.0.send(Message::Ping("1".into())).await.unwrap();
    assert_eq!(ws.0.next().await.unwrap().unwrap(), Message::Pong("1".into()));
    // below the WebSocket, nobody reads
    let MaybeTlsStream::Plain(mut tcp) = ws.0.into_inner() else { panic!("not plain TCP") };
    let ping: Vec<u8> = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let pings = ping.repeat(1_000);
    let mut sent = 0;
    while sent < FLOOD && timeout(Duration::from_secs(1), tcp.write_all(&pings)).await.is_ok() {
        sent += pings.len();
    }
    assert!(sent < FLOOD, "all was read, and answered into memory");
    rig.stop().await;
    drop(tcp);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_cut() {
    let (rig, ws) = rig(|config| config.websocket.ping_interval = Duration::from_millis(20)).await;
    // below the WebSocket, nobody answers
    let MaybeTlsStream::Plain(mut tcp) = ws.0.into_inner() else { panic!("not plain TCP") };
    let mut sent = Vec::new();
    timeout(HARD_TIMEOUT, tcp.read_to_end(&mut sent)).await.expect("the end in time").unwrap();
    assert!(String::from_utf8_lossy(&sent).contains("the client is silent"));
    rig.stop().await;
}
