//! `store: false`: through a whole gateway to a webhook, and never on disk.

use gateway::{Running, drain::Drained};
use serde_json::{Value, json};

use crate::{
    receiver::Hook,
    sends::{alert, keyed, site},
    support::{PATIENCE, Site, get, post, web},
};

fn passing(hook: &Hook, promise: &str) -> Site {
    let site = site(hook, "");
    let text = format!(
        "mapping: alerts\nfrom: {{ bridge: web, address: \"POST /alerts/{{place}}\" }}\n\
         envelope: {{ topic: \"alerts/${{address.place}}\", performative: inform, key: \"${{address.place}}\" }}\n\
         store: false\n{promise}\n"
    );
    site.write("mappings/alerts.yaml", &text);
    site
}

async fn ledger(running: &Running) -> Value {
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["violations"], json!([]), "{ledger}");
    ledger
}

/// Whether any file below the folder has the text.
fn found_below(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found_below(&path, text),
            false => std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_sent_in_order_counted_and_on_disk_nowhere() {
    let hook = Hook::start().await;
    let site = passing(&hook, "ack: received");
    let running = site.start().await;
    hook.answers(&[503]);
    for n in 0..5 {
        let answer = post(web(&running), "/alerts/a", &format!("\"secret-payload-{n}\"")).await;
        assert_eq!((answer.status, &answer.json()["position"]), (202, &Value::Null), "{answer:?}");
    }
    let posts = hook.until(6).await;
    let sent: Vec<_> = posts[1..].iter().map(|post| post.body.as_str()).collect();
    let expected: Vec<_> = (0..5).map(|n| format!("\"secret-payload-{n}\"")).collect();
    assert_eq!(sent, expected, "in order, though the first was tried twice");
    let route = ledger(&running).await["bridges"]["web"]["routes"]["alerts"].clone();
    assert_eq!((&route["passed"], &route["accepted"], &route["stored"]), (&json!(5), &json!(0), &json!(0)), "{route}");
    assert_eq!(running.drain().await, Drained::Clean);
    assert!(!found_below(&site.data(), "secret-payload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_what_is_not_stored_hears_what_its_taker_says() {
    let hook = Hook::start().await;
    let running = passing(&hook, "ack: delivered\nack_within: 20s").start().await;
    hook.answers(&[503, 200, 400]);
    assert_eq!(post(web(&running), "/alerts/a", "1").await.status, 202);
    assert_eq!(hook.count(), 2, "yes is said when it is taken, and not before");
    let refused = post(web(&running), "/alerts/a", "2").await;
    assert_eq!((refused.status, &refused.json()["kind"]), (502, &json!("not-delivered")), "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("is not stored"), "{refused:?}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_again_while_it_is_held_is_sent_once() {
    let hook = Hook::start().await;
    let running = passing(&hook, "ack: delivered\nack_within: 300ms").start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
    let late = keyed(&running, "k1", "/alerts/a", "1").await;
    assert_eq!((late.status, &late.json()["kind"]), (504, &json!("not-settled")), "{late:?}");
    assert!(late.json()["detail"].as_str().unwrap().contains("send it again"), "{late:?}");
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            let again = keyed(&running, "k1", "/alerts/a", "1").await;
            if again.status != 504 {
                return again;
            }
        }
    });
    let again = again.await.unwrap();
    assert_eq!(again.status, 202, "{again:?}");
    assert!(again.head.contains("idempotency-replayed: true"), "{again:?}");
    assert_eq!(hook.count(), 2, "one that was refused, and one that was taken");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_refused_and_a_drain_sends_what_nobody_else_has() {
    let hook = Hook::start().await;
    let running = passing(&hook, "ack: received").start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n");
    alert(&running, "a", "1").await;
    let (mut taken, body) = (1, format!("\"{}\"", "x".repeat(100_000)));
    let refused = loop {
        let answer = post(web(&running), "/alerts/a", &body).await;
        match answer.status {
            202 => taken += 1,
            _ => break answer,
        }
        assert!(taken < 1_024, "the queue is bounded in bytes");
    };
    assert_eq!((refused.status, &refused.json()["kind"]), (503, &json!("overloaded")), "{refused:?}");
    assert_eq!(running.drain().await, Drained::Clean);
    assert_eq!(hook.count(), taken + 1, "the first was tried twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_goes_leaves_its_senders_to_try_again() {
    let hook = Hook::start().await;
    let site = passing(&hook, "ack: received");
    let running = site.start().await;
    alert(&running, "a", "1").await;
    hook.until(1).await;
    site.write(
        "mappings/tells.yaml",
        "mapping: tells\nfrom: { topic: other/# }\nto: { bridge: chat, address: POST /x }\n",
    );
    let refused = running.reload().await;
    assert!(format!("{refused:?}").contains("Refused"), "nobody would send it: {refused:?}");
    alert(&running, "a", "2").await;
    assert_eq!(hook.until(2).await[1].body, "2");
    assert_eq!(running.drain().await, Drained::Clean);
}
