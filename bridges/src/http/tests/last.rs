//! Last values over real sockets.

use bytes::Bytes;
use envelope::Start;

use super::client::Client;
use crate::{
    conformance::{Rig, delivery},
    http::HttpConfig,
};

async fn rig() -> (Rig, Client) {
    let rig = Rig::start(&HttpConfig::new("127.0.0.1:0".parse().unwrap())).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

#[tokio::test]
async fn a_last_value_has_its_position_as_entity_tag() {
    let (rig, mut client) = rig().await;
    rig.outlet.give([
        delivery(1, "doors/1", Bytes::from_static(b"true")),
        delivery(2, "doors/1", Bytes::from_static(b"false")),
    ]);
    let answer = client.ask("GET /mesh/v1/last/doors/1", "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/cloudevents+json")));
    assert_eq!(answer.member("data").as_deref(), Some("false"));
    assert_eq!(answer.header("etag"), Some("\"0000000000000002\""));
    for tags in ["\"0000000000000002\"", "W/\"0000000000000002\"", "\"x\" , \"0000000000000002\"", "*"] {
        let known = client.ask(&format!("GET /mesh/v1/last/doors/1\nIf-None-Match: {tags}"), "").await;
        assert_eq!((known.status, known.body.as_str()), (304, ""), "{tags}");
        assert_eq!(known.header("etag"), Some("\"0000000000000002\""), "{tags}");
    }
    let other = client.ask("GET /mesh/v1/last/doors/1\nIf-None-Match: \"0000000000000001\"", "").await;
    assert_eq!(other.status, 200);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_there_or_not_for_the_client_is_refused() {
    let (rig, mut client) = rig().await;
    rig.outlet.forbid("secret");
    for (head, status, kind) in [
        ("GET /mesh/v1/last/doors/1", 404, "no-last-value"),
        ("GET /mesh/v1/last/secret", 403, "denied"),
        ("GET /mesh/v1/last/secret\nAuthorization: Bearer wrong", 401, "unauthenticated"),
        ("GET /mesh/v1/last/a/%23", 400, "bad-request"),
        ("POST /mesh/v1/last/a", 405, "method"),
    ] {
        let answer = client.ask(head, "").await;
        assert_eq!((answer.status, answer.member("kind").as_deref()), (status, Some(kind)), "{head}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn who_waits_hears_of_the_next_value_or_that_there_is_none() {
    let (rig, mut client) = rig().await;
    let waited = client.ask("GET /mesh/v1/last/doors/1\nPrefer: wait=1", "").await;
    assert_eq!((waited.status, waited.header("preference-applied")), (404, Some("wait=1")));
    rig.outlet.give([delivery(1, "doors/1", Bytes::from_static(b"true"))]);
    let known = "GET /mesh/v1/last/doors/1\nIf-None-Match: \"0000000000000001\"\nPrefer: wait=1";
    assert_eq!(client.ask(known, "").await.status, 304);
    assert_eq!(rig.outlet.state().opened[1].1.start, Start::Last);
    let at_once = client.ask("GET /mesh/v1/last/doors/1\nPrefer: wait=60", "").await;
    assert_eq!((at_once.status, at_once.header("preference-applied")), (200, None));
    rig.stop().await;
}

#[tokio::test]
async fn the_drain_waits_for_nobody_who_waits() {
    let (rig, mut client) = rig().await;
    client.request("GET /mesh/v1/last/doors/1\nPrefer: wait=60", "").await;
    rig.outlet.until(|state| state.opened.len() == 1).await;
    rig.drain();
    assert_eq!(client.answer().await.status, 404);
    rig.stop().await;
}
