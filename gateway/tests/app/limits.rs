//! Rate limits as HTTP and WebSocket clients meet them.

use std::time::Instant;

use serde_json::json;

use super::support::{Site, Socket, get, post, web};

const READING: &str = r#"{"f": 50, "unit": "F"}"#;

fn limited(limits: &str) -> Site {
    let site = Site::shipped();
    site.write("policy.yaml", &format!("anonymous: true\nlimits:\n{limits}"));
    site
}

#[tokio::test]
async fn a_request_over_the_rate_is_a_429_that_says_when_to_come_again() {
    let site = limited("  principals: { anonymous: { messages_per_second: 1, burst_messages: 2 } }\n");
    let running = site.start().await;
    for _ in 0..2 {
        assert_eq!(post(web(&running), "/telemetry/7/temperature", READING).await.status, 202);
    }
    let answer = post(web(&running), "/telemetry/7/temperature", READING).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["kind"], &said["decided_by"]), (&json!("rate-limited"), &json!("principal_limit")));
    for line in [
        "\r\nretry-after: 1",
        "\r\nratelimit-policy: \"principal_limit\";q=1;w=1;qu=\"requests\"",
        "\r\nratelimit: \"principal_limit\";r=0;t=1",
    ] {
        assert!(answer.head.contains(line), "{}", answer.head);
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["bridges"]["web"]["returned"], json!({ "rate-limited": 1 }));
    assert_eq!(ledger["balanced"], true);
    assert!(matches!(running.drain().await, gateway::drain::Drained::Clean));
}

#[tokio::test]
async fn a_websocket_over_the_rate_hears_no_error_but_its_read_pauses() {
    let site = limited("  principal: { messages_per_second: 10, burst_messages: 1 }\n");
    let running = site.start().await;
    let mut socket = Socket::open(web(&running)).await;
    let began = Instant::now();
    for _ in 0..4 {
        let answer = socket.publish("/telemetry/7/temperature", READING).await;
        assert_eq!(answer["op"], "receipt", "{answer}");
    }
    assert!(began.elapsed().as_millis() >= 290, "three of four had to wait for 100 ms each: {:?}", began.elapsed());
    drop(socket);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["bridges"]["web"]["accepted"], 4);
    assert!(matches!(running.drain().await, gateway::drain::Drained::Clean));
}

#[tokio::test]
async fn a_subscriber_over_its_rate_gets_everything_later() {
    let site = limited("  receive: { messages_per_second: 10, burst_messages: 1 }\n");
    let running = site.start().await;
    for _ in 0..4 {
        assert_eq!(post(web(&running), "/telemetry/7/temperature", READING).await.status, 202);
    }
    let mut socket = Socket::subscribe(web(&running), "telemetry/#", "earliest", Some("slow")).await;
    for _ in 0..4 {
        assert_eq!(socket.envelope().await["subject"], "telemetry/7/temperature");
    }
    assert!(matches!(running.drain().await, gateway::drain::Drained::Clean));
}
