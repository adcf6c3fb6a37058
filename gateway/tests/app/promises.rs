//! Promises beyond the store: `ack: delivered`, `ack: consumer` and answers, through a whole gateway.

use gateway::drain::Drained;
use policy::{NewKey, User, UsersFile};
use serde_json::{Value, json};

use crate::{
    receiver::Hook,
    sends::{counts, keyed, site},
    support::{MAY_REPLY, Site, Socket, get, post, post_as, web},
};

const DELIVERED: &str = "mapping: alerts
from: { bridge: web, address: \"POST /alerts/{place}\" }
envelope: { topic: \"alerts/${address.place}\", performative: inform, key: \"${address.place}\" }
ack: delivered
ack_within: ";
const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request }
ack: consumer
reply:
  - within: 5s
    status: '${envelope.performative == \"refuse\" ? 409 : 200}'
    body: { price: \"${payload.price}\", said: \"${envelope.performative}\" }
";

fn delivered(hook: &Hook, within: &str) -> Site {
    let site = site(hook, "");
    site.write("mappings/alerts.yaml", &format!("{DELIVERED}{within}\n"));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_hears_yes_when_a_peer_took_it_and_not_before() {
    let hook = Hook::start().await;
    let running = delivered(&hook, "20s").start().await;
    hook.answers(&[503, 503]);
    let answer = post(web(&running), "/alerts/a", "1").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(hook.count(), 3, "it was refused twice and then taken");
    counts(&running, "tells", |counts| counts["delivered"] == 1).await;
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_hears_that_nobody_took_it() {
    let hook = Hook::start().await;
    let running = delivered(&hook, "20s").start().await;
    hook.answers(&[400]);
    let answer = post(web(&running), "/alerts/a", "1").await;
    assert_eq!((answer.status, &answer.json()["kind"]), (502, &json!("not-delivered")), "{answer:?}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_time_the_sender_hears_that_it_is_stored_and_a_retry_waits_for_the_same_message() {
    let hook = Hook::start().await;
    let site = delivered(&hook, "200ms");
    let running = site.start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n");
    let late = keyed(&running, "k1", "/alerts/a", "1").await;
    assert_eq!((late.status, &late.json()["kind"]), (504, &json!("not-settled")), "{late:?}");
    assert!(late.json()["detail"].as_str().unwrap().contains("is stored, not yet delivered"), "{late:?}");
    assert_eq!(keyed(&running, "k1", "/alerts/a", "1").await.status, 504, "it is not delivered yet");
    assert_eq!(running.drain().await, Drained::Clean);

    // the next start sends it, and then the store knows
    let running = site.start().await;
    hook.until(2).await;
    counts(&running, "tells", |counts| counts["delivered"] == 1).await;
    let known = keyed(&running, "k1", "/alerts/a", "1").await;
    assert_eq!(known.status, 202, "{known:?}");
    assert_eq!(hook.count(), 2, "a duplicate is not sent again");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_can_not_say_is_never_told_as_a_yes() {
    let hook = Hook::start().await;
    let site = delivered(&hook, "300ms");
    let running = site.start().await;
    hook.answers(&[400]);
    assert_eq!(keyed(&running, "k1", "/alerts/a", "1").await.status, 502);
    assert_eq!(running.drain().await, Drained::Clean);
    let running = site.start().await;
    let again = keyed(&running, "k1", "/alerts/a", "1").await;
    assert!(again.status >= 500, "{again:?}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_goes_on_while_a_message_of_it_is_waited_for() {
    let hook = Hook::start().await;
    let running = delivered(&hook, "20s").start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n");
    let mut socket = Socket::open(web(&running)).await;
    let frame = |reference: &str, place: &str| json!({ "op": "publish", "ref": reference, "address": format!("POST /alerts/{place}"), "payload": 1 });
    socket.send(&frame("slow", "a")).await;
    hook.until(1).await;
    socket.send(&frame("fast", "b")).await;
    let first = socket.next().await;
    assert_eq!((&first["op"], &first["ref"]), (&json!("receipt"), &json!("fast")), "{first}");
    let second = socket.next().await;
    assert_eq!((&second["op"], &second["ref"]), (&json!("receipt"), &json!("slow")), "{second}");
    drop(socket);
    assert_eq!(running.drain().await, Drained::Clean);
}

fn asking(within: &str) -> Site {
    let site = Site::shipped();
    site.write("mappings/asks.yaml", &ASKS.replace("5s", within));
    site.write("policies/replies.cedar", MAY_REPLY);
    site
}

fn answer_to(asked: &Value, performative: &str, price: u32) -> Value {
    json!({ "op": "reply", "ref": "r", "to": asked["replyto"], "inreplyto": asked["id"], "performative": performative,
        "payload": { "price": price } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_by_an_agent_and_the_first_answer_counts() {
    let running = asking("20s").start().await;
    let at = web(&running);
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    let asks = tokio::spawn(async move { post(at, "/ask", r#"{"what":"copper"}"#).await });
    let asked = agent.envelope().await;
    assert!(asked["replyto"].as_str().unwrap().starts_with("$mesh/reply/plant-a/"), "{asked}");
    assert!(asked["replyby"].is_string(), "{asked}");

    let mut forged = answer_to(&asked, "inform", 1);
    forged["to"] = "$mesh/reply/plant-a/00000000000000000000000000000000".into();
    agent.send(&forged).await;
    let refused = agent.next().await;
    assert_eq!((&refused["op"], &refused["kind"]), (&json!("error"), &json!("denied")), "{refused}");

    agent.send(&answer_to(&asked, "inform", 17)).await;
    assert_eq!(agent.next().await["op"], "filtered");
    let answer = asks.await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({ "price": 17, "said": "inform" })));

    agent.send(&answer_to(&asked, "inform", 18)).await;
    let second = agent.next().await;
    assert_eq!((&second["op"], &second["kind"]), (&json!("error"), &json!("conflict")), "{second}");
    drop(agent);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_what_was_asked_for_is_refused_and_on_record_and_the_request_goes_on() {
    let site = asking("20s");
    site.write(
        "schemas/market/quote@v1.0.0.json",
        r#"{"required": ["price"], "properties": {"price": {"type": "integer"}}}"#,
    );
    site.write("mappings/asks.yaml", &ASKS.replace("within: 5s", "within: 20s\n    schema: market/quote@v1.0.0"));
    let running = site.start().await;
    let at = web(&running);
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    let asks = tokio::spawn(async move { post(at, "/ask", r#"{"what":"copper"}"#).await });
    let asked = agent.envelope().await;
    let with = |member: &str, value: Value| {
        let mut answer = answer_to(&asked, "inform", 17);
        answer[member] = value;
        answer
    };
    for (answer, why) in [
        (with("payload", json!({ "price": "much" })), "\"much\" is not of type"),
        (with("payload", json!({})), "price"),
        (with("type", json!("telemetry/reading@v1.0.0")), "an answer of type \"market/quote@v1.0.0\" was asked for"),
        (with("protocol", json!("urn:contract-net@1")), "no package of protocol"),
    ] {
        agent.send(&answer).await;
        let said = agent.next().await;
        assert_eq!((&said["kind"], &said["decided_by"]), (&json!("malformed"), &json!("conformance")), "{said}");
        assert!(said["detail"].as_str().unwrap().contains(why), "{said}");
    }
    agent.send(&with("type", json!("market/quote@v1.0.0"))).await;
    assert_eq!(agent.next().await["op"], "filtered");
    let answer = asks.await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({ "price": 17, "said": "inform" })));
    let mut reader = Socket::subscribe(at, "$mesh/audit/#", "earliest", None).await;
    for _ in 0..4 {
        let record = reader.envelope().await;
        assert_eq!(
            (&record["data"]["decided_by"], &record["data"]["route"]),
            (&json!("conformance"), &json!("$reply"))
        );
    }
    drop((agent, reader));
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!((&ledger["balanced"], &ledger["store"]["dead_letters"]), (&json!(true), &json!(0)), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_not_come_here_or_go_to_who_asked_is_refused_and_on_record() {
    let site = asking("20s");
    let asks = ASKS.replace("performative: request", "performative: request, residency: [no, eu, us]");
    site.write("mappings/asks.yaml", &asks);
    let (mut users, mut keys) = (UsersFile::default(), Vec::new());
    for (name, place) in [("far", "us"), ("near", "no"), ("here", "eu"), ("asker", "eu")] {
        let (mut user, key) = (User::default(), NewKey::generate().unwrap());
        user.jurisdiction = Some(place.into());
        users.add_user(name, user).unwrap();
        users.add_key(name, &key, None).unwrap();
        keys.push(format!("Bearer {}", key.key.expose()));
    }
    site.write("users.yaml", &users.to_string());
    site.write(
        "policies/agents.cedar",
        "permit(principal, action, resource in Topic::\"market\");\n\
         permit(principal, action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n\
         permit(principal, action == Action::\"subscribe\", resource in Topic::\"$mesh/audit\");",
    );
    let running = site.start().await;
    let at = web(&running);
    let mut agents = Vec::new();
    for key in &keys[..3] {
        let mut agent = Socket::open_as(at, Some(key)).await.unwrap();
        agent.send(&json!({ "op": "subscribe", "ref": "s", "filters": ["market/#"], "credit": 9 })).await;
        agent.frame("subscribed").await;
        agents.push(agent);
    }
    let asker = keys[3].clone();
    let asks = tokio::spawn(async move { post_as(at, Some(&asker), "/ask", "{}").await });
    for (agent, why) in agents.iter_mut().zip(["this gateway is in no, eu", "the receiver is in eu", ""]) {
        let asked = agent.envelope().await;
        agent.send(&answer_to(&asked, "inform", 17)).await;
        let said = agent.next().await;
        if why.is_empty() {
            assert_eq!(said["op"], "filtered", "{said}");
            continue;
        }
        assert_eq!((&said["kind"], &said["decided_by"]), (&json!("denied"), &json!("residency")), "{said}");
        assert!(said["detail"].as_str().unwrap().contains(why), "{said}");
    }
    assert_eq!(asks.await.unwrap().status, 200);
    let mut reader = Socket::subscribe(at, "$mesh/audit/#", "earliest", None).await;
    for who in ["far", "near"] {
        let record = reader.envelope().await;
        assert_eq!((&record["data"]["decided_by"], &record["data"]["principal"]), (&json!("residency"), &json!(who)));
    }
    drop((agents, reader));
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_in_time_is_a_504_and_what_comes_late_is_refused() {
    let running = asking("300ms").start().await;
    let at = web(&running);
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    let answer = post(at, "/ask", "{}").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    let asked = agent.envelope().await;
    agent.send(&answer_to(&asked, "inform", 17)).await;
    let late = agent.next().await;
    assert_eq!((&late["op"], &late["kind"]), (&json!("error"), &json!("conflict")), "{late}");
    drop(agent);
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_may_not_reply_is_refused_and_the_request_goes_on() {
    let site = asking("20s");
    site.write("policies/replies.cedar", "");
    let running = site.start().await;
    let at = web(&running);
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    let asks = tokio::spawn(async move { post(at, "/ask", "{}").await });
    let asked = agent.envelope().await;
    agent.send(&answer_to(&asked, "inform", 17)).await;
    let refused = agent.next().await;
    assert_eq!((&refused["op"], &refused["kind"]), (&json!("error"), &json!("denied")), "{refused}");
    site.write("policies/replies.cedar", MAY_REPLY);
    running.reload().await;
    agent.send(&answer_to(&asked, "refuse", 0)).await;
    assert_eq!(agent.next().await["op"], "filtered");
    let answer = asks.await.unwrap();
    assert_eq!((answer.status, &answer.json()["said"]), (409, &json!("refuse")));
    drop(agent);
    assert_eq!(running.drain().await, Drained::Clean);
}
