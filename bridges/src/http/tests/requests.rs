//! What a request becomes and what it is answered with.

use bytes::Bytes;
use envelope::{Admission, Identity, RejectKind, Rejection};

use super::client::Client;
use crate::{conformance::Rig, http::HttpConfig};

async fn rig() -> (Rig, Client) {
    let rig = Rig::start(&HttpConfig::new("127.0.0.1:0".parse().unwrap())).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

#[tokio::test]
async fn a_stored_message_is_accepted_with_its_receipt() {
    let (rig, mut client) = rig().await;
    let answer = client.ask("POST /telemetry/7", "{}").await;
    assert_eq!((answer.status, answer.header("content-type")), (202, Some("application/json")));
    assert_eq!(answer.member("id").map(|id| id.len()), Some(36));
    assert_eq!(answer.member("position").as_deref(), Some("0000000000000001"));
    assert_eq!(answer.member("duplicate").as_deref(), Some("false"));
    rig.stop().await;
}

#[tokio::test]
async fn a_request_becomes_what_mappings_read() {
    let (rig, mut client) = rig().await;
    let head = "POST /caf%C3%A9/7?unit=F\nX-Line: 7\nAuthorization: Bearer plant\nCookie: secret\n\
                traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nIdempotency-Key: k1";
    assert_eq!(client.ask(head, "21.50").await.status, 202);
    let inbound = rig.seen().remove(0).remove(0);
    assert_eq!(&*inbound.address, "POST /café/7");
    assert_eq!(inbound.payload, Bytes::from("21.50"));
    assert_eq!(&*inbound.principal.id, "plant");
    assert_eq!(inbound.peer.map(|ip| ip.is_loopback()), Some(true));
    assert!(matches!(inbound.identity, Identity::Keyed { name, .. } if name == "key\0POST /café/7\0k1"));
    assert_eq!(inbound.trace.map(|trace| trace.trace_id()).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let names: Vec<_> = inbound.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-line", "traceparent", "idempotency-key", "query"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_filtered_message_is_accepted_and_says_so() {
    let (rig, mut client) = rig().await;
    rig.answer(|_| Ok(Admission::Filtered));
    let answer = client.ask("POST /a", "x").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"filtered":true}"#));
    rig.stop().await;
}

#[tokio::test]
async fn every_rejection_is_a_problem_with_the_status_of_the_table() {
    let (rig, mut client) = rig().await;
    for (kind, status, retry) in [
        (RejectKind::Unmapped, 404, false),
        (RejectKind::Malformed, 422, false),
        (RejectKind::TooLarge, 413, false),
        (RejectKind::Unauthenticated, 401, false),
        (RejectKind::Denied, 403, false),
        (RejectKind::Conflict, 409, false),
        (RejectKind::Overloaded, 503, true),
        (RejectKind::RateLimited, 429, true),
        (RejectKind::Behind, 503, true),
        (RejectKind::Unavailable, 503, true),
    ] {
        rig.answer(move |_| Err(Rejection::new(kind, "the_rule", "the detail").at("/a/b")));
        let returned = rig.counts().returned.len();
        let answer = client.ask("POST /a", "x").await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{kind}"
        );
        for (name, value) in [("kind", kind.as_str()), ("decided_by", "the_rule"), ("pointer", "/a/b")] {
            assert_eq!(answer.member(name).as_deref(), Some(value), "{kind}");
        }
        assert_eq!(answer.header("retry-after").is_some(), retry, "{kind}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{kind}");
        assert_eq!(rig.counts().returned.len() - returned, usize::from(retry), "{kind}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_policy_that_decided_is_named_in_place_of_its_layer() {
    let (rig, mut client) = rig().await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Denied, "access", "no").by_policy("night.cedar: no-orders")));
    let answer = client.ask("POST /a", "x").await;
    assert_eq!((answer.status, answer.member("decided_by").as_deref()), (403, Some("night.cedar: no-orders")));
    rig.stop().await;
}

#[tokio::test]
async fn two_credentials_are_none() {
    let (rig, mut client) = rig().await;
    for second in ["Bearer plant", "Bearer other", ""] {
        let head = format!("POST /a\nAuthorization: Bearer plant\nAuthorization: {second}");
        assert_eq!(client.ask(&head, "x").await.status, 401, "{second:?}");
    }
    assert_eq!(rig.counts().offered, 0);
    rig.stop().await;
}

#[tokio::test]
async fn headers_that_name_somebody_say_nothing_of_who_sent_them() {
    let (rig, mut client) = rig().await;
    let head = "POST /a\nX-Forwarded-User: root\nX-Remote-User: root\nRemote-User: root\nX-Forwarded-For: 192.0.2.1\n\
                X-Client-Cert: root\nX-API-Key: root\nCookie: session=root\nProxy-Authorization: Bearer root";
    assert_eq!(client.ask(head, "x").await.status, 202);
    let inbound = &rig.seen()[0][0];
    assert_eq!((&*inbound.principal.id, inbound.peer.map(|peer| peer.is_loopback())), ("anonymous", Some(true)));
    rig.stop().await;
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_in_the_ledger() {
    let (rig, mut client) = rig().await;
    let answer = client.ask("POST /a\nAuthorization: Bearer wrong", "x").await;
    assert_eq!((answer.status, answer.member("decided_by").as_deref()), (401, Some("authenticated")));
    assert!(answer.header("www-authenticate").is_some());
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused, counts.offered), (1, vec![RejectKind::Unauthenticated], 0));
    rig.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_one_payload() {
    let (rig, mut client) = rig().await;
    let host = rig.address();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).await;
    client.send("2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 202);
    assert_eq!(rig.seen()[0][0].payload, Bytes::from("abcde"));
    rig.stop().await;
}

#[tokio::test]
async fn an_empty_body_is_an_empty_payload() {
    let (rig, mut client) = rig().await;
    assert_eq!(client.ask("GET /a", "").await.status, 202);
    assert!(rig.seen()[0][0].payload.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn methods_that_publish_nothing_are_not_allowed() {
    let (rig, mut client) = rig().await;
    for method in ["HEAD", "OPTIONS", "TRACE"] {
        let mut client = Client::connect(rig.address()).await;
        client.request(&format!("{method} /a\nConnection: close"), "").await;
        let answer = client.answer_to_head(method == "HEAD").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("delete, get, patch, post, put")), "{method}");
    }
    assert_eq!(client.ask("POST /a", "x").await.status, 202);
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_gateways_own_paths_are_never_mapped() {
    let (rig, mut client) = rig().await;
    for path in ["/mesh/v1", "/mesh/v1/", "/mesh/v1/other", "/%6desh/v1/ws"] {
        let answer = client.ask(&format!("POST {path}"), "x").await;
        assert_eq!((answer.status, answer.member("kind").as_deref()), (404, Some("not-found")), "{path}");
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_path_with_two_readings_and_a_bad_key_are_bad_requests() {
    let (rig, mut client) = rig().await;
    for head in [
        "POST /a/../b",
        "POST /a//b",
        "POST /a%2Fb",
        "POST /a%00",
        "POST /%zz",
        "POST /%ff",
        "POST /a\nIdempotency-Key: two words",
    ] {
        let answer = client.ask(head, "").await;
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/problem+json")), "{head}");
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_half_way_is_still_accounted() {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    config.server.max_connections = 1;
    let rig = Rig::start(&config).await;
    rig.hold();
    rig.answer(|_| Err(Rejection::new(RejectKind::Unavailable, "store", "away")));
    let mut leaves = Client::connect(rig.address()).await;
    leaves.request("POST /a", "x").await;
    rig.until(|counts| counts.offered == 1).await;
    drop(leaves);
    // there is room for the next connection only once the first is gone
    let mut stays = Client::connect(rig.address()).await;
    stays.request("POST /a", "x").await;
    rig.until(|counts| counts.offered == 2).await;
    rig.release();
    assert_eq!(stays.answer().await.status, 503);
    rig.until(|counts| counts.returned == [RejectKind::Unavailable; 2]).await;
    assert_eq!(rig.counts().received, 2);
    rig.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (rig, mut client) = rig().await;
    for body in ["1", "2", "3"] {
        client.request("POST /a", body).await;
    }
    for position in 1..=3 {
        let answer = client.answer().await;
        assert_eq!(answer.member("position"), Some(format!("{position:016x}")));
    }
    rig.stop().await;
}
