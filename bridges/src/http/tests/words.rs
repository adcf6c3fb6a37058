//! Answers in the words of a mapping, and WebSockets whose frames are messages.

use std::sync::Arc;

use envelope::{Admission, Identity, Receipt, RejectKind, Rejection, Reply, Settled};
use futures_util::SinkExt;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::client::{Client, Ws, member};
use crate::{conformance::Rig, http::HttpConfig};

fn words(status: Option<u16>, body: &'static str) -> Option<Box<Reply>> {
    let headers = [("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2"), ("content-length", "9999")];
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    Some(Box::new(Reply { status, headers: headers.into(), payload: body.into() }))
}

fn stored(reply: Option<Box<Reply>>) -> Admission {
    let parts = envelope::IdentityParts { domain: "test", bridge: "web", principal: "a", route: "r" };
    let id = Identity::fresh().envelope_id(parts);
    Admission::Stored(Receipt { id, position: None, duplicate: false, settled: Settled::Now, reply })
}

fn refused(kind: RejectKind, reply: Option<Box<Reply>>) -> Rejection {
    Rejection { reply, ..Rejection::new(kind, "mapping", "the bridge's own words") }
}

async fn rig() -> Rig {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    config.websocket.paths = vec!["/MESSAGES".to_owned(), "/feeds/*".to_owned()];
    Rig::start(&config).await
}

#[tokio::test]
async fn a_request_hears_what_the_mapping_says() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address()).await;
    for (status, heard) in [(Some(200), 200), (Some(201), 201), (None, 202)] {
        rig.answer(move |_| Ok(stored(words(status, "taken"))));
        let answer = client.ask("POST /a", "x").await;
        assert_eq!((answer.status, answer.body.as_str()), (heard, "taken"));
        assert_eq!((answer.header("content-type"), answer.header("content-length")), (Some("text/plain"), Some("5")));
        assert_eq!(answer.header("x-a"), Some("1"));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_never_told_as_one_that_is_final() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address()).await;
    for (kind, status, heard, later) in [
        (RejectKind::Malformed, Some(400), 400, false),
        (RejectKind::Malformed, None, 422, false),
        (RejectKind::Unavailable, Some(400), 503, true),
        (RejectKind::Unavailable, Some(502), 502, true),
        (RejectKind::RateLimited, Some(404), 429, true),
        (RejectKind::RateLimited, Some(503), 503, true),
    ] {
        rig.answer(move |_| Err(refused(kind, words(status, "no"))));
        let answer = client.ask("POST /a", "x").await;
        assert_eq!((answer.status, answer.body.as_str()), (heard, "no"), "{kind} {status:?}");
        assert_eq!(answer.header("retry-after").is_some(), later, "{kind}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_a_path_of_the_config_each_frame_is_a_message_and_is_answered() {
    let rig = rig().await;
    let url = format!("ws://{}/feeds/caf%C3%A9?unit=F", rig.address());
    let mut ws = Ws(connect_async(url).await.unwrap().0);
    rig.answer(|inbound| match &inbound.payload[..] {
        b"bad" => Err(refused(RejectKind::Malformed, words(Some(400), "no"))),
        b"own" => Err(refused(RejectKind::Malformed, None)),
        b"plain" => Ok(stored(None)),
        b"drop" => Ok(Admission::Filtered),
        _ => Ok(stored(words(Some(200), "yes"))),
    });
    for frame in ["one", "bad", "own", "plain", "drop"] {
        ws.send(frame).await;
    }
    ws.0.send(Message::binary(vec![0xff, 0])).await.unwrap();
    assert_eq!((ws.text().await, ws.text().await), ("yes".to_owned(), "no".to_owned()));
    assert_eq!(member(&ws.text().await, "kind").as_deref(), Some("malformed"));
    assert_eq!(member(&ws.text().await, "duplicate").as_deref(), Some("false"));
    assert_eq!((ws.text().await, ws.text().await), (r#"{"filtered":true}"#.to_owned(), "yes".to_owned()));
    let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
    let payloads: Vec<_> = seen.iter().map(|inbound| &inbound.payload[..]).collect();
    assert_eq!(payloads, [&b"one"[..], b"bad", b"own", b"plain", b"drop", &[0xff, 0]]);
    assert!(seen.iter().all(|inbound| &*inbound.address == "WEBSOCKET /feeds/café" && inbound.lane == seen[0].lane));
    let names: Vec<_> = seen[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["query"]);
    let mut ids: Vec<_> = seen.iter().map(|inbound| inbound.identity.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), seen.len());
    rig.stop().await;
}

#[tokio::test]
async fn no_other_path_is_upgraded_and_no_request_has_the_address_of_a_frame() {
    let rig = rig().await;
    for path in ["/messages", "/feeds", "/feeds/", "/other", "/MESSAGES/x"] {
        let upgrade = connect_async(format!("ws://{}{path}", rig.address())).await;
        let Err(tungstenite::Error::Http(answer)) = upgrade else { panic!("{path}: {upgrade:?}") };
        assert_eq!(answer.status(), 202, "{path}: a message as any other");
    }
    let mut client = Client::connect(rig.address()).await;
    assert_eq!(client.ask("WEBSOCKET /MESSAGES", "{}").await.status, 405);
    let without_key = client.ask("GET /MESSAGES\nUpgrade: websocket\nConnection: upgrade", "").await;
    assert_eq!((without_key.status, without_key.member("kind").as_deref()), (400, Some("not-a-websocket")));
    assert_eq!(client.ask("GET /MESSAGES", "").await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn a_mapping_whose_words_are_no_text_answers_in_binary() {
    let rig = rig().await;
    let mut ws = Ws(connect_async(format!("ws://{}/MESSAGES", rig.address())).await.unwrap().0);
    rig.answer(|_| {
        let reply = Reply { status: None, headers: Arc::new([]), payload: vec![0xff].into() };
        Ok(stored(Some(Box::new(reply))))
    });
    ws.send("x").await;
    assert_eq!(ws.next().await, Some(Message::binary(vec![0xff])));
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_names_a_subprotocol_hears_which_one_it_is() {
    let rig = rig().await;
    for (path, offered, chosen) in [
        ("/mesh/v1/ws", "openmesh.v1.json", Some("openmesh.v1.json")),
        ("/mesh/v1/ws", "mqtt, openmesh.v1.json", Some("openmesh.v1.json")),
        ("/MESSAGES", "cloudevents.json", Some("cloudevents.json")),
        ("/MESSAGES", "openmesh.v1.json", None),
        ("/mesh/v1/ws", "cloudevents.json", None),
    ] {
        let mut client = Client::connect(rig.address()).await;
        let head = format!(
            "GET {path}\nConnection: upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: {offered}"
        );
        let answer = client.ask(&head, "").await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, chosen), "{path} {offered}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn frames_of_the_subprotocol_of_events_are_events_in_structured_mode() {
    let rig = rig().await;
    let mut request = format!("ws://{}/MESSAGES", rig.address()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "cloudevents.json".parse().unwrap());
    let mut ws = Ws(connect_async(request).await.unwrap().0);
    ws.send("{}").await;
    ws.text().await;
    let inbound = rig.seen().remove(0).remove(0);
    let headers: Vec<_> = inbound.headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    assert_eq!(headers, [("content-type", &b"application/cloudevents+json"[..])]);
    rig.stop().await;
}
