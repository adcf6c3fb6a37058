//! Oversized, slow, foreign and hostile: each has a bounded cost and a clear answer.

use std::time::Duration;

use envelope::RejectKind;
use tokio_tungstenite::{connect_async, tungstenite};

use super::client::{Client, Ws};
use crate::{BridgeConfig, BridgeError, conformance::Rig, http::HttpConfig};

fn config() -> HttpConfig {
    HttpConfig::new("127.0.0.1:0".parse().unwrap())
}

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> (Rig, Client) {
    let mut config = config();
    change(&mut config);
    let rig = Rig::start(&config).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

#[tokio::test]
async fn a_payload_at_the_limit_passes_and_one_over_it_is_too_large() {
    let (rig, mut client) = rig(|config| config.max_payload_bytes = 8).await;
    assert_eq!(client.ask("POST /a", "12345678").await.status, 202);
    let answer = client.ask("POST /a", "123456789").await;
    assert_eq!((answer.status, answer.member("decided_by").as_deref()), (413, Some("payload_limit")));
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused, counts.offered), (2, vec![RejectKind::TooLarge], 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_chunked_payload_over_the_limit_is_too_large_before_its_end() {
    let (rig, mut client) = rig(|config| config.max_payload_bytes = 8).await;
    let host = rig.address();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")).await;
    client.send("5\r\nabcde\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(rig.counts().refused, [RejectKind::TooLarge]);
    rig.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out_and_is_no_message() {
    let (rig, mut client) = rig(|config| config.body_timeout = Duration::from_millis(50)).await;
    let host = rig.address();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nab")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.member("decided_by").as_deref()), (408, Some("body_timeout")));
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_truncated_body_is_no_message() {
    let (rig, mut client) = rig(|_| {}).await;
    let host = rig.address();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nab")).await;
    drop(client);
    rig.stop().await;
    assert_eq!(rig.counts().received, 0);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_and_an_idle_connection_are_closed() {
    let (rig, mut client) = rig(|config| config.server.header_timeout = Duration::from_millis(50)).await;
    client.send("POST /a HTTP/1.1\r\nHost:").await;
    assert!(client.is_closed().await);
    let mut idle = Client::connect(rig.address()).await;
    assert!(idle.is_closed().await);
    rig.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let (rig, mut client) = rig(|config| config.server.max_header_bytes = 1_024).await;
    let answer = client.ask(&format!("POST /a\nX-Long: {}", "a".repeat(2_000)), "").await;
    assert_eq!(answer.status, 431);
    let mut many = Client::connect(rig.address()).await;
    let headers: String = (0..200).map(|n| format!("\nx{n}: 1")).collect();
    assert_eq!(many.ask(&format!("POST /a{headers}"), "").await.status, 431);
    rig.stop().await;
}

#[tokio::test]
async fn shapes_that_smuggle_are_bad_requests() {
    let (rig, _) = rig(|_| {}).await;
    let host = rig.address();
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Bad Name: 1",
        "X: 1\r\n folded: 2",
    ] {
        let mut client = Client::connect(rig.address()).await;
        client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\nabc")).await;
        assert_eq!(client.answer().await.status, 400, "{headers}");
        assert!(client.is_closed().await, "{headers}");
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn chunked_wins_over_a_length_and_the_connection_is_not_reused() {
    let (rig, mut client) = rig(|_| {}).await;
    let host = rig.address();
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked";
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\n{both}\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /smuggled")).await;
    let answer = client.answer().await;
    if answer.status == 202 {
        assert_eq!(rig.seen()[0][0].payload, "x");
    } else {
        assert_eq!(answer.status, 400);
    }
    drop(client);
    rig.stop().await;
    assert!(rig.counts().received <= 1);
}

#[tokio::test]
async fn a_foreign_host_and_origin_are_refused_on_every_path() {
    let (rig, _) = rig(|_| {}).await;
    let own = rig.address();
    for path in ["/a", "/mesh/v1/ws", "/mesh/v1/other"] {
        for (headers, status) in [
            ("Host: evil.example".to_owned(), 421),
            (format!("Host: {own}\r\nOrigin: https://evil.example"), 403),
            (format!("Host: {own}\r\nOrigin: null"), 403),
            (format!("Host: {own}\r\nSec-Fetch-Site: cross-site"), 403),
            ("X-No-Host: 1".to_owned(), 400),
        ] {
            let mut client = Client::connect(own).await;
            client.send(format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{path} {headers}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_websocket_from_a_foreign_page_or_with_wrong_credentials_is_refused() {
    use tungstenite::{Error, client::IntoClientRequest};

    let (rig, _) = rig(|_| {}).await;
    for (header, value, status) in [("origin", "https://evil.example", 403), ("authorization", "Bearer wrong", 401)] {
        let mut request = format!("ws://{}/mesh/v1/ws", rig.address()).into_client_request().unwrap();
        request.headers_mut().insert(header, value.parse().unwrap());
        match connect_async(request).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused.len()), (0, 0), "an upgrade is no message");
    rig.stop().await;
}

#[tokio::test]
async fn no_connection_over_the_limit_is_accepted_and_the_busy_one_goes_on() {
    let (rig, mut busy) = rig(|config| config.server.max_connections = 3).await;
    assert_eq!(busy.ask("POST /a", "x").await.status, 202);
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(Client::connect(rig.address()).await);
    }
    let mut over = Client::connect(rig.address()).await;
    over.request("POST /over", "x").await;
    for _ in 0..20 {
        assert_eq!(busy.ask("POST /a", "x").await.status, 202);
    }
    assert!(rig.seen().iter().flatten().all(|inbound| &*inbound.address == "POST /a"));
    idle.pop();
    assert_eq!(over.answer().await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn with_no_bytes_left_a_request_is_told_to_come_again() {
    let (rig, mut client) = rig(|_| {}).await;
    let all = rig.fill();
    let answer = client.ask("POST /a", "x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(rig.counts().received, 0);
    drop(all);
    assert_eq!(client.ask("POST /a", "x").await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_writes_a_large_body_hears_why_it_is_refused() {
    let (rig, mut client) = rig(|_| {}).await;
    let large = "x".repeat(6 << 20);
    for (head, status) in [("POST /a//b", 400), ("POST /a\nIdempotency-Key: two words", 400), ("POST /a", 413)] {
        assert_eq!(client.ask(head, &large).await.status, status, "{head}");
    }
    let all = rig.fill();
    assert_eq!(client.ask("POST /a", &large[..1 << 20]).await.status, 503);
    drop(all);
    assert_eq!(client.ask("POST /a", "x").await.status, 202, "the connection goes on");
    rig.stop().await;
}

#[tokio::test]
async fn who_still_writes_hears_why_also_of_an_endpoint_and_of_a_host_that_is_none() {
    let (rig, mut client) = rig(|_| {}).await;
    let large = "x".repeat(6 << 20);
    let foreign = "POST /a\nOrigin: https://evil.example";
    for (head, status) in [
        (foreign, 403),
        ("POST /mesh/v1/last/a", 405),
        ("DELETE /mesh/v1/events", 405),
        ("PUT /mesh/v1/ws", 405),
        ("POST /mesh/v1/nothing", 404),
    ] {
        assert_eq!(client.ask(head, &large).await.status, status, "{head}");
    }
    assert_eq!(client.ask("POST /a", "x").await.status, 202, "the connection goes on");
    rig.stop().await;
}

#[tokio::test]
async fn an_absolute_target_is_read_by_its_path_and_held_to_its_host() {
    let (rig, mut client) = rig(|_| {}).await;
    let own = rig.address();
    for (target, host, status) in [
        (format!("http://{own}/a"), own.to_string(), 202),
        ("http://evil.example/a".to_owned(), own.to_string(), 421),
        (format!("http://user@{own}/a"), own.to_string(), 421),
        (format!("http://{own}/a"), "evil.example".to_owned(), 421),
        (format!("http://{own}/mesh/v1/other"), own.to_string(), 404),
    ] {
        client.send(format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{target} {host}");
    }
    assert_eq!(&*rig.seen()[0][0].address, "POST /a");
    rig.stop().await;
}

#[tokio::test]
async fn http_1_0_needs_a_host_as_well() {
    let (rig, _) = rig(|_| {}).await;
    let own = rig.address();
    for (headers, status) in [(format!("Host: {own}\r\n"), 202), (String::new(), 400)] {
        let mut client = Client::connect(own).await;
        client.send(format!("POST /a HTTP/1.0\r\n{headers}Content-Length: 1\r\n\r\nx")).await;
        assert_eq!(client.answer().await.status, status);
        assert!(client.is_closed().await);
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_an_idle_connection_closes_and_no_new_one_opens() {
    let (rig, mut client) = rig(|_| {}).await;
    assert_eq!(client.ask("POST /a", "x").await.status, 202);
    rig.stop().await;
    assert!(client.is_closed().await);
    assert!(tokio::net::TcpStream::connect(rig.address()).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_or_off_loopback_is_found_before_start() {
    let (rig, _) = rig(|_| {}).await;
    let mut taken = HttpConfig::new(rig.address()).build("web").source.unwrap();
    assert!(matches!(taken.bind().await, Err(BridgeError::Bind { address, .. }) if address == rig.address()));
    let mut open = HttpConfig::new("0.0.0.0:0".parse().unwrap()).build("web").source.unwrap();
    assert!(matches!(open.bind().await, Err(BridgeError::PlainText(_))));
    rig.stop().await;
}

#[tokio::test]
async fn a_websocket_keeps_its_slot() {
    let (rig, client) = rig(|config| config.server.max_connections = 1).await;
    drop(client);
    let ws = Ws::connect(rig.address()).await;
    let mut next = Client::connect(rig.address()).await;
    next.request("POST /a", "x").await;
    let early = tokio::time::timeout(Duration::from_millis(50), next.stream.readable()).await;
    assert!(early.is_err(), "nobody answers while the slot is taken");
    drop(ws);
    assert_eq!(next.answer().await.status, 202);
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_a_body_that_has_not_arrived_is_not_waited_for() {
    let (rig, mut client) = rig(|_| {}).await;
    assert_eq!(client.ask("POST /a", "x").await.status, 202);
    let host = rig.address();
    client.send(format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nab")).await;
    rig.until_in_flight().await;
    rig.stop().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.member("kind").as_deref()), (503, Some("draining")));
    assert_eq!(rig.counts().received, 1);
}
