//! Rate limits as HTTP and WebSocket clients meet them.

use std::time::Instant;

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use serde_json::json;

use super::{
    access::{authorization, site},
    mqtt::{Client, Wire},
    support::{Site, Socket, bridge, get, post, post_as, second, web},
};

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
async fn each_level_holds_says_which_it_is_and_what_it_counts() {
    for (limits, passing, by, unit) in [
        ("  address: { messages_per_second: 1, burst_messages: 3 }\n", 3, "peer_limit", "requests"),
        ("  domain: { messages_per_second: 1, burst_messages: 3 }\n", 3, "domain_limit", "requests"),
        ("  principal: { messages_per_second: 1, burst_messages: 3 }\n", 3, "principal_limit", "requests"),
        (
            "  topics: { \"telemetry/#\": { messages_per_second: 1, burst_messages: 3 } }\n",
            3,
            "topic_limit",
            "requests",
        ),
        // a reading has 22 bytes
        ("  domain: { bytes_per_second: 1, burst_bytes: 50 }\n", 2, "domain_limit", "content-bytes"),
        ("  principal: { bytes_per_second: 1, burst_bytes: 50 }\n", 2, "principal_limit", "content-bytes"),
        (
            "  domain: { messages_per_second: 1, burst_messages: 5 }\n  principal: { messages_per_second: 1, burst_messages: 4 }\n  \
             principals: { anonymous: { messages_per_second: 1, burst_messages: 9 } }\n",
            5,
            "domain_limit",
            "requests",
        ),
    ] {
        let site = limited(limits);
        let running = site.start().await;
        for n in 0..passing {
            let answer = post(web(&running), "/telemetry/7/temperature", READING).await;
            assert_eq!(answer.status, 202, "{limits} {n}: {answer:?}");
        }
        let answer = post(web(&running), "/telemetry/7/temperature", READING).await;
        assert_eq!((answer.status, &answer.json()["decided_by"]), (429, &json!(by)), "{limits}: {answer:?}");
        let policy = format!("\r\nratelimit-policy: \"{by}\";q=1;w=1;qu=\"{unit}\"");
        assert!(answer.head.contains(&policy) && answer.head.contains("\r\nretry-after: "), "{limits}: {answer:?}");
        // what was sent is known after a reload that changes something else
        site.write(
            "policies/more.cedar",
            "permit(principal, action == Action::\"subscribe\", resource in Topic::\"x\");",
        );
        assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
        assert_eq!(post(web(&running), "/telemetry/7/temperature", READING).await.status, 429, "{limits}");
        assert!(matches!(running.drain().await, gateway::drain::Drained::Clean));
    }
}

#[tokio::test]
async fn who_publishes_by_mqtt_over_the_rate_hears_yes_later_in_both_versions() {
    let site = limited("  topics: { \"say/#\": { messages_per_second: 10, burst_messages: 1 } }\n");
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, websocket: { listen: 127.0.0.1:0 } } }\n";
    site.write("gateway.yaml", &site.config_text(floor));
    let say = "mapping: say\nfrom: { bridge: floor, address: \"say/{what}\" }\nenvelope: { topic: \"say/${address.what}\" }\n";
    site.write("mappings/say.yaml", say);
    let running = site.start().await;
    for version in [4, 5] {
        for wire in [Wire::tcp(bridge(&running, "floor")).await, Wire::web_socket(second(&running, "floor")).await] {
            let mut client = Client::over(wire, version, None).await.unwrap();
            let began = Instant::now();
            for _ in 0..4 {
                assert_eq!(client.publish("say/a", "{}").await.code, 0);
            }
            assert!(began.elapsed().as_millis() >= 290, "three of four had to wait: {:?}", began.elapsed());
        }
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["bridges"]["floor"]["accepted"], 16, "{ledger}");
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

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_in_a_flood_are_told_to_wait_and_hold_nobody_up() {
    let running = site().start().await;
    let at = web(&running);
    let guess = |n: usize| async move {
        // bob, and a password of five digits
        let credentials = format!("Basic {}", STANDARD.encode(format!("bob:{n:05}")));
        post_as(at, Some(&credentials), "/say/inform/plant/press/7", "{}").await
    };
    let mut told = std::collections::BTreeMap::<u16, usize>::new();
    for round in 0..20 {
        let answers = futures_util::future::join_all((0..100).map(|n| guess(round * 100 + n))).await;
        for answer in &answers {
            *told.entry(answer.status).or_default() += 1;
            assert!(answer.status == 401 || answer.head.contains("\r\nretry-after: "), "{answer:?}");
        }
        // from the same address: a key is no guess
        assert_eq!(post_as(at, authorization("ada"), "/say/inform/plant/press/7", "{}").await.status, 202);
    }
    // a hash takes tens of milliseconds of a processor: no more of them than an address may try
    let tried = told.get(&401).copied().unwrap_or(0);
    assert!((1..60).contains(&tried), "{told:?}");
    assert_eq!(told.keys().filter(|status| ![401, 429, 503].contains(status)).count(), 0, "{told:?}");
}
