//! Subscribing over a WebSocket: credit, settlement, names, and clients that do not read.

use std::time::Duration;

use bytes::Bytes;
use envelope::{RejectKind, Settlement, Start};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::client::{Ws, member};
use crate::{
    conformance::{Rig, delivery},
    http::HttpConfig,
};

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> (Rig, Ws) {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let rig = Rig::start(&config).await;
    let ws = Ws::connect(rig.address()).await;
    (rig, ws)
}

fn subscribe(reference: &str, credit: u32) -> String {
    format!(r#"{{"op":"subscribe","ref":"{reference}","filters":["telemetry/#"],"credit":{credit}}}"#)
}

fn ack(positions: std::ops::RangeInclusive<u64>) -> String {
    let positions: Vec<_> = positions.map(|position| format!("\"{position:016x}\"")).collect();
    format!(r#"{{"op":"ack","sub":"s","positions":[{}]}}"#, positions.join(","))
}

fn small(count: u64) -> impl Iterator<Item = envelope::Delivery> {
    (1..=count).map(|position| delivery(position, "telemetry/7", Bytes::from_static(b"{\"c\": 12.10}")))
}

#[tokio::test]
async fn a_subscriber_gets_cloud_events_within_its_credit() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.outlet.give(small(3));
    ws.send(subscribe("s", 2)).await;
    assert_eq!(ws.text().await, r#"{"op":"subscribed","sub":"s"}"#);
    for position in 1..=2 {
        let message = ws.text().await;
        assert_eq!(member(&message, "op").as_deref(), Some("message"));
        assert_eq!(member(&message, "position"), Some(format!("{position:016x}")));
        assert_eq!(member(&message, "redelivered").as_deref(), Some("false"));
        let envelope = member(&message, "envelope").unwrap();
        assert_eq!(member(&envelope, "specversion").as_deref(), Some("1.0"));
        assert_eq!(member(&envelope, "data").as_deref(), Some("{\"c\": 12.10}"));
    }
    ws.send(r#"{"op":"credit","sub":"s","more":1}"#).await;
    assert_eq!(member(&ws.text().await, "position").as_deref(), Some("0000000000000003"));
    ws.send(ack(1..=3)).await;
    rig.outlet.until(|state| state.settled.len() == 3).await;
    assert!(rig.outlet.state().settled.iter().all(|(_, settlement)| *settlement == Settlement::Delivered));
    rig.stop().await;
    assert_eq!(rig.outlet.state().gone_back, 0);
}

#[tokio::test]
async fn of_the_binary_subprotocol_payloads_come_and_go_as_they_are() {
    let (rig, _) = rig(|_| {}).await;
    let mut request = format!("ws://{}/mesh/v1/ws", rig.address()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "openmesh.v1.binary".parse().unwrap());
    let (stream, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "openmesh.v1.binary");
    let mut ws = Ws(stream);
    let frame = b"{\"op\":\"publish\",\"ref\":\"1\",\"address\":\"POST /a\"}\n\xff\0\n";
    ws.0.send(Message::binary(&frame[..])).await.unwrap();
    assert_eq!(member(&ws.text().await, "op").as_deref(), Some("receipt"));
    assert_eq!(rig.seen()[0][0].payload, &b"\xff\0\n"[..]);
    rig.outlet.give(small(1));
    ws.send(subscribe("s", 1)).await;
    ws.text().await;
    let Some(Message::Binary(message)) = ws.next().await else { panic!("no binary frame") };
    let end = message.iter().position(|byte| *byte == b'\n').unwrap();
    let head = std::str::from_utf8(&message[..end]).unwrap();
    assert_eq!(member(head, "position").as_deref(), Some("0000000000000001"));
    assert_eq!(member(&member(head, "envelope").unwrap(), "subject").as_deref(), Some("telemetry/7"));
    assert_eq!(member(&member(head, "envelope").unwrap(), "data"), None);
    assert_eq!(&message[end + 1..], b"{\"c\": 12.10}");
    rig.stop().await;
}

#[tokio::test]
async fn a_nack_brings_the_delivery_again_marked() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.outlet.give(small(1));
    ws.send(subscribe("s", 1)).await;
    ws.text().await;
    ws.text().await;
    ws.send(r#"{"op":"nack","sub":"s","positions":["0000000000000001"],"after_ms":20}"#).await;
    let again = ws.text().await;
    assert_eq!(member(&again, "redelivered").as_deref(), Some("true"));
    let settled = rig.outlet.state().settled;
    assert_eq!(settled[0].1, Settlement::Again { after: Duration::from_millis(20) });
    rig.stop().await;
    assert_eq!(rig.outlet.state().gone_back, 1);
}

#[tokio::test]
async fn start_and_durable_reach_the_outlet_and_names_are_the_principals_own() {
    let (rig, mut ws) = rig(|_| {}).await;
    ws.send(
        r#"{"op":"subscribe","ref":"s","filters":["a/+","b"],"start":{"after":"00ff"},"durable":"console","credit":7}"#,
    )
    .await;
    ws.text().await;
    let (principal, asked) = rig.outlet.state().opened.remove(0);
    assert_eq!(&*principal, "anonymous");
    assert_eq!(asked.durable.as_deref(), Some("ws:anonymous:console"));
    assert_eq!(asked.start, Start::After(envelope::Position(Bytes::from_static(&[0, 255]))));
    assert_eq!((asked.filters.len(), asked.credit), (2, 7));
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_subscription_is_an_error_and_its_name_is_free_again() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.outlet.forbid("secret/#");
    ws.send(r#"{"op":"subscribe","ref":"s","filters":["secret/#"],"credit":1}"#).await;
    let error = ws.text().await;
    assert_eq!((member(&error, "ref").as_deref(), member(&error, "kind").as_deref()), (Some("s"), Some("denied")));
    ws.send(subscribe("s", 1)).await;
    assert_eq!(member(&ws.text().await, "op").as_deref(), Some("subscribed"));
    rig.stop().await;
}

#[tokio::test]
async fn unsubscribing_gives_back_what_is_unsettled() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.outlet.give(small(2));
    ws.send(subscribe("s", 2)).await;
    for _ in 0..3 {
        ws.text().await;
    }
    ws.send(ack(1..=1)).await;
    ws.send(r#"{"op":"unsubscribe","sub":"s"}"#).await;
    assert_eq!(ws.text().await, r#"{"op":"closed","sub":"s","reason":"unsubscribed"}"#);
    let state = rig.outlet.state();
    assert_eq!((state.settled.len(), state.gone_back), (1, 1));
    ws.send(ack(2..=2)).await;
    assert_eq!(member(&ws.text().await, "kind").as_deref(), Some("no-subscription"));
    rig.stop().await;
}

#[tokio::test]
async fn over_its_limits_a_subscription_is_refused() {
    let (rig, mut ws) = rig(|config| {
        config.websocket.max_subscriptions = 2;
        config.websocket.max_credit = 10;
    })
    .await;
    for (frame, answer) in [
        (subscribe("a", 10), "subscribed"),
        (subscribe("a", 1), RejectKind::Conflict.as_str()),
        (subscribe("b", 11), "max_credit"),
        (r#"{"op":"credit","sub":"a","more":1}"#.to_owned(), "max_credit"),
        (subscribe("b", 1), "subscribed"),
        (subscribe("c", 1), "max_subscriptions"),
    ] {
        ws.send(frame.clone()).await;
        let text = ws.text().await;
        assert!(text.contains(answer), "{frame}: {text}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_the_limit_a_slot_is_free_as_soon_as_the_client_hears_of_an_end() {
    let (rig, mut ws) = rig(|config| config.websocket.max_subscriptions = 1).await;
    rig.outlet.forbid("secret/#");
    for round in 0..50 {
        let reference = round.to_string();
        ws.send(subscribe(&reference, 1)).await;
        assert_eq!(member(&ws.text().await, "op").as_deref(), Some("subscribed"), "{round}");
        ws.send(format!(r#"{{"op":"unsubscribe","sub":"{reference}"}}"#)).await;
        assert_eq!(member(&ws.text().await, "op").as_deref(), Some("closed"), "{round}");
        ws.send(r#"{"op":"subscribe","ref":"s","filters":["secret/#"],"credit":1}"#).await;
        assert_eq!(member(&ws.text().await, "kind").as_deref(), Some("denied"), "{round}");
    }
    rig.stop().await;
    assert_eq!(rig.outlet.state().ended, 50);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_is_cut_while_another_gets_everything() {
    const COUNT: u64 = 300;
    let (rig, mut deaf) = rig(|config| config.server.write_timeout = Duration::from_secs(1)).await;
    let body = Bytes::from(format!("\"{}\"", "x".repeat(65_536)));
    rig.outlet.give((1..=COUNT).map(|position| delivery(position, "telemetry/7", body.clone())));
    let mut reader = Ws::connect(rig.address()).await;
    deaf.send(subscribe("s", 1_000)).await;
    reader.send(subscribe("s", 1_000)).await;
    reader.text().await;
    for position in 1..=COUNT {
        let head = format!(r#"{{"op":"message","sub":"s","position":"{position:016x}""#);
        assert!(reader.text().await.starts_with(&head), "{position}");
    }
    reader.send(ack(1..=COUNT)).await;
    rig.outlet.until(|state| state.settled.len() as u64 == COUNT && state.ended == 1).await;
    assert_eq!(rig.outlet.state().gone_back as u64, COUNT, "what the deaf one did not settle goes back");
    drop(deaf);
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_acks_that_were_sent_are_settled() {
    let (rig, mut ws) = rig(|_| {}).await;
    rig.outlet.give(small(5));
    ws.send(subscribe("s", 10)).await;
    for _ in 0..6 {
        ws.text().await;
    }
    ws.send(ack(1..=5)).await;
    rig.outlet.until(|state| state.settled.len() == 5).await;
    rig.drain();
    assert_eq!(ws.closed().await.0, 1001);
    assert!(ws.0.next().await.is_none_or(|frame| frame.is_err()));
    rig.stop().await;
    assert_eq!(rig.outlet.state().gone_back, 0);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_does_not_hold_up_the_drain() {
    let (rig, mut deaf) = rig(|_| {}).await;
    let body = Bytes::from(format!("\"{}\"", "x".repeat(1 << 20)));
    rig.outlet.give((1..=50).map(|position| delivery(position, "telemetry/7", body.clone())));
    deaf.send(subscribe("s", 1_000)).await;
    rig.outlet.until(|state| state.opened.len() == 1).await;
    rig.stop().await;
    assert_eq!(rig.outlet.state().gone_back, 50);
}

#[tokio::test]
async fn a_connection_whose_principal_is_let_in_no_more_is_closed_with_the_reason() {
    let (rig, mut ws) = rig(|_| {}).await;
    ws.send(subscribe("s", 1)).await;
    ws.text().await;
    rig.revoke("somebody-else");
    rig.revoke("anonymous");
    assert_eq!(ws.closed().await, (1008, "the credentials were revoked or changed".to_owned()));
    rig.stop().await;
    assert_eq!(rig.outlet.state().gone_back, 0);
}
