//! The main job, in process: a message comes in over HTTP, is stored, and comes out on a WebSocket.

use std::{fs, path::Path};

use futures_util::{SinkExt, StreamExt};
use gateway::{App, drain::Drained};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{connect_async, tungstenite};

use crate::support::{PATIENCE, Site, Socket, get, post, request, web};

const PATH: &str = "/telemetry/7/temperature";

#[tokio::test]
async fn a_reading_becomes_an_envelope_and_comes_out_on_a_websocket() {
    let site = Site::shipped();
    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), "telemetry/#", "earliest", None).await;
    let answer = post(web(&running), PATH, r#"{"f":50,"unit":"F"}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let envelope = socket.envelope().await;
    assert_eq!(envelope["id"], answer.json()["id"]);
    assert_eq!(envelope["subject"], "telemetry/7/temperature");
    assert_eq!(envelope["type"], "telemetry/reading@v1.0.0");
    assert_eq!(envelope["source"], "mesh://plant-a/web/anonymous");
    assert_eq!(envelope["data"]["celsius"].as_f64(), Some(10.0));
    assert_eq!(envelope["data"]["line"], "7");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_wrong_reading_is_refused_with_the_path_that_fails() {
    let site = Site::shipped();
    let running = site.start().await;
    let answer = post(web(&running), PATH, r#"{"f":"hot","unit":"F"}"#).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.head.to_lowercase().contains("content-type: application/problem+json"), "{answer:?}");
    assert!(answer.text.contains("/f"), "{answer:?}");
    let answer = post(web(&running), PATH, r#"{"unit":"F"}"#).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(post(web(&running), "/nowhere", "{}").await.status, 404);
}

#[tokio::test]
async fn the_second_shipped_mapping_passes_data_through_and_routes_by_it() {
    let site = Site::shipped();
    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), "telemetry/+/alarm", "earliest", None).await;
    for body in [r#"{"site":"oslo","state":"running"}"#, r#"{ "site": "oslo", "state": "fault", "hours": 12.10 }"#] {
        let answer = post(web(&running), "/machines/press-4/status", body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let envelope = socket.envelope().await;
    assert_eq!(envelope["subject"], "telemetry/press-4/alarm");
    assert_eq!(envelope["partitionkey"], "oslo/press-4");
    assert_eq!(envelope["data"]["state"], "fault");
}

#[tokio::test]
async fn without_anonymous_every_request_is_refused() {
    let site = Site::shipped();
    for policy in ["anonymous: false\n", "{}\n"] {
        site.write("policy.yaml", policy);
        let running = site.start().await;
        assert_eq!(post(web(&running), PATH, r#"{"f":50,"unit":"F"}"#).await.status, 401, "{policy}");
        let upgrade = connect_async(format!("ws://{}/mesh/v1/ws", web(&running))).await;
        let Err(tungstenite::Error::Http(answer)) = upgrade else { panic!("{policy}: {upgrade:?}") };
        assert_eq!(answer.status(), 401, "{policy}");
        assert_eq!(running.drain().await, Drained::Clean);
    }
}

#[tokio::test]
async fn a_retry_with_the_same_idempotency_key_is_a_duplicate() {
    let site = Site::shipped();
    let running = site.start().await;
    let address = web(&running);
    let body = r#"{"f":50,"unit":"F"}"#;
    let text = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nidempotency-key: k1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (first, second) = (request(address, &text).await, request(address, &text).await);
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json()["id"], second.json()["id"]);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["bridges"]["web"]["accepted"], 1, "{ledger:#}");
    assert_eq!(ledger["bridges"]["web"]["duplicate"], 1, "{ledger:#}");
}

#[tokio::test]
async fn one_payload_limit_holds_for_requests_and_frames_alike() {
    let site = Site::shipped();
    let limited = "http: { max_payload_bytes: 64, listen";
    site.write("gateway.yaml", &site.config_text("").replace("http: { listen", limited));
    let running = site.start().await;
    let address = web(&running);
    let mut socket = Socket::open(address).await;
    for (size, status) in [(64, 202), (65, 413)] {
        let body = format!("{:<size$}", r#"{"f":50,"unit":"F"}"#);
        let payload = format!(r#"{{"f":50,"unit":"F"{}}}"#, " ".repeat(size - 19));
        assert_eq!((body.len(), payload.len()), (size, size));
        let answer = post(address, PATH, &body).await;
        let frame = socket.publish(PATH, &payload).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 202 {
            assert_eq!(frame["op"], "receipt", "{frame}");
            continue;
        }
        for refused in [answer.json(), frame] {
            assert_eq!((&refused["kind"], &refused["status"]), (&"too-large".into(), &status.into()), "{refused}");
            assert_eq!(refused["decided_by"], "payload_limit", "{refused}");
        }
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    let web = &ledger["bridges"]["web"];
    assert_eq!((&web["accepted"], &web["rejected"]["too-large"]), (&2.into(), &2.into()), "{ledger:#}");
    assert_eq!((&ledger["balanced"], &web["in_flight"]), (&true.into(), &0.into()), "{ledger:#}");
}

#[tokio::test]
async fn a_durable_subscription_goes_on_after_a_restart_where_it_was() {
    let site = Site::shipped();
    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), "telemetry/#", "earliest", Some("d1")).await;
    post(web(&running), PATH, r#"{"f":50,"unit":"F"}"#).await;
    assert_eq!(socket.envelope().await["data"]["celsius"].as_f64(), Some(10.0));
    eventually_delivered(running.addresses().admin, 1).await;
    drop(socket);
    post(web(&running), PATH, r#"{"f":68,"unit":"F"}"#).await;
    assert_eq!(running.drain().await, Drained::Clean);

    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), "telemetry/#", "earliest", Some("d1")).await;
    assert_eq!(socket.envelope().await["data"]["celsius"].as_f64(), Some(20.0));
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

/// Waits until the ledger says that so many envelopes were delivered to durable subscriptions.
async fn eventually_delivered(admin: std::net::SocketAddr, count: u64) {
    let poll = async {
        loop {
            let ledger = get(admin, "/ledger").await.json();
            let subscriptions = ledger["subscriptions"].as_object().unwrap();
            let delivered: u64 = subscriptions.values().filter_map(|counts| counts["delivered"].as_u64()).sum();
            if delivered >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();
}

#[tokio::test]
async fn the_drain_answers_what_is_in_flight_and_keeps_it() {
    let site = Site::shipped();
    let running = site.start().await;
    let address = web(&running);
    let posts: Vec<_> = (0..32)
        .map(|n| tokio::spawn(async move { post(address, PATH, &format!(r#"{{"f":{n},"unit":"F"}}"#)).await }))
        .collect();
    let mut statuses = Vec::new();
    let mut posts = posts.into_iter();
    // One answer is there, so the others are on their way.
    statuses.push(posts.next().unwrap().await.unwrap().status);
    assert_eq!(running.drain().await, Drained::Clean);
    let mut stored = 1;
    for post in posts {
        // A connection that was not accepted before the drain has no answer; then the test's client panics.
        if post.await.is_ok_and(|answer| answer.status == 202) {
            stored += 1;
        }
    }
    assert_eq!(statuses, [202]);
    let running = site.start().await;
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert!(ledger["store"]["stored"].as_u64().unwrap() >= stored, "{ledger:#}");
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert_eq!(ledger["bridges"]["web"]["interrupted"], 0, "{ledger:#}");
}

#[tokio::test]
async fn a_body_that_never_arrives_does_not_hold_the_drain_up() {
    let site = Site::shipped();
    let running = site.start().await;
    let address = web(&running);
    let mut half = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n");
    half.write_all(head.as_bytes()).await.unwrap();
    // The answer to `expect` says that the request is being read.
    let mut answer = [0; 12];
    timeout(PATIENCE, half.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    assert_eq!(timeout(PATIENCE, running.drain()).await.unwrap(), Drained::Clean);
    let running = site.start().await;
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_bridge() {
    let site = Site::shipped();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.write(
        "gateway.yaml",
        &site.config_text("").replace("http: { listen: 127.0.0.1:0", &format!("http: {{ listen: {address}")),
    );
    let error = App::start(site.load().unwrap()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("bridge \"web\": can't listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn clients_of_the_first_fan_out_hear_what_they_know() {
    let site = Site::shipped();
    for file in ["messages-http.yaml", "messages-websocket.yaml"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/library").join(file);
        site.write(&format!("mappings/{file}"), &fs::read_to_string(shipped).unwrap());
    }
    let paths = "http: { websocket: { paths: [/MESSAGES] }, listen";
    site.write("gateway.yaml", &site.config_text("").replace("http: { listen", paths));
    let running = site.start().await;
    let address = web(&running);
    let mut mesh = Socket::subscribe(address, "messages/#", "earliest", None).await;
    let answer = post(address, "/MESSAGES", r#"{"message": "{\"topic\": \"alerts\", \"bar\": 12.10}"}"#).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"status":"Message received"}"#), "{answer:?}");
    assert!(answer.head.to_lowercase().contains("content-type: application/json"), "{answer:?}");
    let envelope = mesh.envelope().await;
    assert_eq!(
        (&envelope["subject"], &envelope["data"]["bar"]),
        (&"messages/alerts".into(), &json!(12.10)),
        "{envelope}"
    );
    for (body, status) in [
        (r#"{"message": "{\"topic\": "}"#, 400),
        (r#"{"message": "#, 400),
        (r#"{"message": "{\"bar\": 1}"}"#, 422),
        (r#"{"topic": "alerts"}"#, 422),
    ] {
        let answer = post(address, "/MESSAGES", body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}: {answer:?}");
    }
    let (mut feed, _) = connect_async(format!("ws://{address}/MESSAGES")).await.unwrap();
    for (frame, said) in [(r#"{"topic":"doors","open":true}"#, "status"), ("{", "error"), (r#"{"open":true}"#, "error")]
    {
        feed.send(tungstenite::Message::text(frame)).await.unwrap();
        let answer = timeout(PATIENCE, feed.next()).await.unwrap().unwrap().unwrap();
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert!(answer[said].is_string(), "{frame}: {answer}");
    }
    assert_eq!(mesh.envelope().await["data"]["open"], true);
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_last_value_is_read_waited_for_and_found_by_who_joins() {
    let site = Site::shipped();
    let doors = "mapping: doors\nfrom: { bridge: web, address: \"POST /doors/{door}\" }\n\
                 envelope: { topic: \"doors/${address.door}\", performative: inform }\nkeep: last\n\
                 tests:\n  - name: t\n    given: { address: POST /doors/1, payload: { open: true } }\n    \
                 expect: { topic: doors/1 }\n";
    site.write("mappings/doors.yaml", doors);
    let running = site.start().await;
    let address = web(&running);
    assert_eq!(get(address, "/mesh/v1/last/doors/1").await.status, 404);
    assert_eq!(post(address, "/doors/1", r#"{"open":true}"#).await.status, 202);
    let value = get(address, "/mesh/v1/last/doors/1").await;
    assert_eq!((value.status, &value.json()["data"]["open"]), (200, &true.into()), "{value:?}");
    let tag = value.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let ask = |more: &str| {
        format!(
            "GET /mesh/v1/last/doors/1 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nif-none-match: {tag}\r\n{more}\r\n"
        )
    };
    assert_eq!(request(address, &ask("")).await.status, 304);
    let (patient, hurried) = (ask("prefer: wait=20\r\n"), ask("prefer: wait=1\r\n"));
    assert_eq!(request(address, &hurried).await.status, 304);
    let (next, posted) = tokio::join!(request(address, &patient), post(address, "/doors/1", r#"{"open":false}"#));
    assert_eq!(posted.status, 202);
    assert_eq!((next.status, &next.json()["data"]["open"]), (200, &false.into()), "{next:?}");
    let mut joins = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /mesh/v1/events?filter=doors/%23&start=last HTTP/1.1\r\nhost: {address}\r\n\r\n");
    joins.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\"open\":false") {
        let mut bytes = [0; 1_024];
        let count = timeout(PATIENCE, joins.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(!seen.contains("\"open\":true"), "{seen}");
    let future = format!(
        "GET /mesh/v1/events?filter=doors/%23 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nlast-event-id: 00000000ffffffff\r\n\r\n"
    );
    assert_eq!(request(address, &future).await.status, 409);
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_key_is_used_for_one_message_only() {
    let site = Site::shipped();
    let running = site.start().await;
    let address = web(&running);
    let send = |body: &str| {
        let length = body.len();
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nidempotency-key: k1\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let first = request(address, &send(r#"{"f":50,"unit":"F"}"#)).await;
    let again = request(address, &send(r#"{"f":50,"unit":"F"}"#)).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert!(again.head.contains("idempotency-replayed: true"), "{again:?}");
    let other = request(address, &send(r#"{"f":51,"unit":"F"}"#)).await;
    assert_eq!((other.status, &other.json()["decided_by"]), (422, &"idempotency_key".into()), "{other:?}");
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert_eq!(ledger["bridges"]["web"]["rejected"]["malformed"], 1, "{ledger:#}");
}
