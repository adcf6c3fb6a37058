//! What a keyed request was answered is answered again to its retry by a gateway that was killed in between.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{fs, thread};

use integration::{Gateway, Site, Subscriber, client};
use serde_json::{Value, json};

const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request }
reply:
  - within: 5s
    status: '${payload.refused ? 409 : 200}'
    headers: { x-agent: \"${payload.agent}\" }
    body: { text: \"${payload.text}\" }
";
const MAY_REPLY: &str = "permit (principal == Principal::\"anonymous\", action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n";

fn site() -> Site {
    let site = Site::shipped();
    site.write("mappings/asks.yaml", ASKS);
    site.write("policies/replies.cedar", MAY_REPLY);
    site
}

fn ask(site: &Site, key: &str, body: &str) -> client::Answer {
    client::Client::new().post(&site.url("/ask"), &[("idempotency-key", key)], body.as_bytes())
}

/// Answers the next request with this, in parts if there are several.
fn answer(agent: &mut Subscriber, payloads: &[Value]) {
    let asked = agent.message().expect("a request");
    for (n, payload) in payloads.iter().enumerate() {
        agent
            .send(&json!({ "op": "reply", "ref": "r", "to": asked["envelope"]["replyto"], "payload": payload,
                "inreplyto": asked["envelope"]["id"], "more": n + 1 < payloads.len() }))
            .unwrap();
        assert_eq!(agent.frame().unwrap()["op"], "filtered");
    }
    agent.ack(&asked).unwrap();
}

/// Asks, and is answered by an agent.
fn asked(site: &Site, agent: &mut Subscriber, key: &str, payloads: &[Value]) -> client::Answer {
    thread::scope(|scope| {
        let asks = scope.spawn(|| ask(site, key, "{}"));
        answer(agent, payloads);
        asks.join().unwrap()
    })
}

fn said(text: &str, refused: bool) -> Value {
    json!({ "agent": "ada", "text": text, "refused": refused })
}

#[test]
fn a_retry_hears_the_answer_of_the_first_after_the_gateway_was_killed() {
    let site = site();
    let gateway = Gateway::start(&site);
    let mut agent = Subscriber::open(site.http, &["market/#"], &json!("new"), None, 8).unwrap();
    let yes = asked(&site, &mut agent, "yes", &[said("17", false)]);
    let no = asked(&site, &mut agent, "no", &[said("sold out", true)]);
    let long = asked(&site, &mut agent, "long", &[said(&"x".repeat(70_000), false)]);
    let parts = asked(&site, &mut agent, "parts", &[said("1", false), said("2", false)]);
    assert_eq!([yes.status, no.status, long.status, parts.status], [200, 409, 200, 200], "{yes:?}");
    gateway.kill();

    let _gateway = Gateway::start(&site);
    for _ in 0..2 {
        for (key, first) in [("yes", &yes), ("no", &no)] {
            let retry = ask(&site, key, "{}");
            assert_eq!((retry.status, &retry.text), (first.status, &first.text), "{key}");
        }
    }
    for key in ["long", "parts"] {
        let retry = ask(&site, key, "{}");
        assert_eq!((retry.status, &retry.body["kind"]), (409, &json!("answered-elsewhere")), "{retry:?}");
        assert!(retry.text.contains("65536 bytes that are kept for a retry"), "{retry:?}");
    }
    let other = ask(&site, "yes", "{\"another\":1}");
    assert_eq!((other.status, &other.body["decided_by"]), (422, &json!("idempotency_key")), "{other:?}");

    // over a WebSocket the same key at the same address is the same message
    let mut socket = Subscriber::connect(site.http).unwrap();
    let publish = json!({ "op": "publish", "ref": "p", "address": "POST /ask", "key": "yes", "payload": {} });
    socket.send(&publish).unwrap();
    let (receipt, answer) = (socket.frame().unwrap(), socket.frame().unwrap());
    assert_eq!((&receipt["op"], &receipt["duplicate"]), (&json!("receipt"), &json!(true)), "{receipt}");
    assert_eq!((&answer["op"], &answer["payload"]["text"]), (&json!("answer"), &json!("17")), "{answer}");
    assert_eq!(answer["headers"]["x-agent"], "ada", "{answer}");

    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

#[test]
fn an_answer_that_finds_no_room_is_told_and_counted_and_nobody_is_asked_for_it_twice() {
    let site = site();
    let text = fs::read_to_string(site.config().join("gateway.yaml")).unwrap();
    let path = format!("path: {}", site.data().display());
    site.write("gateway.yaml", &text.replace(&path, &format!("{path}, keys: {{ most: 1 }}")));
    let gateway = Gateway::start(&site);
    let mut agent = Subscriber::open(site.http, &["market/#"], &json!("new"), None, 8).unwrap();
    let first = asked(&site, &mut agent, "first", &[said("17", false)]);
    let second = asked(&site, &mut agent, "second", &[said("18", false)]);
    assert_eq!([first.status, second.status], [200, 200], "{second:?}");
    assert_eq!(second.body["text"], "18");
    let lost = "openmesh_bridge_answers_not_kept_total{bridge=\"web\"} 1\n";
    let metrics = client::get(&site.admin_url("/metrics")).text;
    assert!(metrics.contains(lost), "{metrics}");
    let heard = ask(&site, "second", "{}");
    assert_eq!((heard.status, &heard.text), (200, &second.text), "it is in memory still");
    gateway.kill();

    let _gateway = Gateway::start(&site);
    let kept = ask(&site, "first", "{}");
    assert_eq!((kept.status, &kept.text), (200, &first.text));
    let retry = ask(&site, "second", "{}");
    assert_eq!((retry.status, &retry.body["kind"]), (504, &json!("not-settled")), "{retry:?}");
    assert!(retry.text.contains("is stored"), "{retry:?}");
    // what is stored is what was answered, each once
    let stored = client::get(&site.admin_url("/messages?topic=market/ask")).body;
    assert_eq!(stored["messages"].as_array().map(Vec::len), Some(2), "{stored:#}");
    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}
