//! What a mapping says of conversations, found again by queries; and what it makes answers of, for who waits for one.

use gateway::{Running, drain::Drained};
use serde_json::{Value, json};

use crate::support::{Answer, MAY_REPLY, Site, Socket, get, post, request, web};

const TALKS: &str = "mapping: talks
from: { bridge: web, address: POST /talks }
envelope:
  topic: talks
  performative: inform
  conversation: ${payload.of}
  recipients: ${payload.to}
  inreplyto: ${payload.answers}
";
const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request, conversation: \"talk-33\" }
reply:
  - within: 20s
    status: '${envelope.performative == \"refuse\" ? 409 : 200}'
    body: { price: \"${payload.price}\", said: \"${envelope.performative}\", by: \"${envelope.source}\" }
";
const ANSWERS: &str = "mapping: answers
from: { bridge: web, address: POST /answers }
envelope:
  topic: ${headers[\"replyto\"]}
  inreplyto: ${headers[\"inreplyto\"]}
  performative: '${has(headers[\"performative\"]) ? headers[\"performative\"] : \"inform\"}'
";
const EACH: &str = "mapping: several
from: { bridge: web, address: POST /several }
each: payload
envelope: { topic: '${headers[\"replyto\"]}', inreplyto: '${headers[\"inreplyto\"]}' }
";

fn subjects(page: &Value, member: &str) -> Vec<Value> {
    let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page:#}"));
    messages.iter().map(|message| message["envelope"]["data"][member].clone()).collect()
}

#[tokio::test]
async fn messages_are_found_by_their_conversation_and_by_whom_they_are_for() {
    let site = Site::shipped();
    site.write("mappings/talks.yaml", TALKS);
    // what answers an envelope is an action of its own
    let talk =
        "permit (principal == Principal::\"anonymous\", action == Action::\"reply\", resource in Topic::\"talks\");\n";
    site.write("policies/talks.cedar", talk);
    let running = site.start().await;
    let admin = running.addresses().admin;
    let id = "0192f0c4-7d3e-7a10-8000-000000000001";
    for (number, of, to, answers) in [
        (1, "talk-1", json!(["ada", "bob"]), ""),
        (2, "talk-2", json!("ada"), id),
        (3, "", json!([]), ""),
        (4, "talk-1", json!(null), ""),
    ] {
        let sent = json!({ "n": number, "of": of, "to": to, "answers": answers });
        assert_eq!(post(web(&running), "/talks", &sent.to_string()).await.status, 202);
    }
    for (query, found) in [
        ("conversation=talk-1", &[1, 4][..]),
        ("conversation=talk-2", &[2]),
        ("recipient=ada", &[1, 2]),
        ("recipient=bob&conversation=talk-1", &[1]),
        ("recipient=ad", &[]),
        ("topic=talks", &[1, 2, 3, 4]),
    ] {
        let page = get(admin, &format!("/messages?{query}")).await.json();
        assert_eq!(subjects(&page, "n"), found.iter().map(|n| json!(n)).collect::<Vec<_>>(), "{query}: {page:#}");
    }
    let page = get(admin, "/messages?conversation=talk-2").await.json();
    let envelope = &page["messages"][0]["envelope"];
    let said = [&envelope["conversation"], &envelope["inreplyto"], &envelope["recipients"]];
    assert_eq!(said, [&json!("talk-2"), &json!(id), &json!("ada")], "{envelope:#}");
    assert_eq!(running.drain().await, Drained::Clean);
}

/// One request that may be answered, and an agent that has read it.
async fn asked() -> (Running, tokio::task::JoinHandle<Answer>, Value, Site) {
    let site = Site::shipped();
    site.write("mappings/asks.yaml", ASKS);
    site.write("mappings/answers.yaml", ANSWERS);
    site.write("mappings/several.yaml", EACH);
    site.write("policies/replies.cedar", MAY_REPLY);
    let running = site.start().await;
    let at = web(&running);
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    let asks = tokio::spawn(async move { post(at, "/ask", r#"{"what":"copper"}"#).await });
    let asked = agent.envelope().await;
    assert_eq!(asked["conversation"], "talk-33", "{asked}");
    (running, asks, asked, site)
}

async fn answer(at: std::net::SocketAddr, path: &str, to: &str, id: &str, more: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\nreplyto: {to}\r\ninreplyto: {id}\r\n{more}"
    );
    request(at, &format!("{head}content-length: {length}\r\n\r\n{body}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_speaks_nothing_but_http_answers_by_a_mapping() {
    let (running, asks, asked, _site) = asked().await;
    let (at, price) = (web(&running), r#"{"price":17}"#);
    let (to, id) = (asked["replyto"].as_str().unwrap(), asked["id"].as_str().unwrap());
    let stray = "$mesh/reply/plant-a/00000000000000000000000000000000";
    let other = "0192f0c4-7d3e-7a10-8000-000000000001";
    for (path, to, id, more, status, why) in [
        ("/answers", stray, id, "", 403, "does not answer the envelope of this reply topic"),
        ("/answers", to, other, "", 403, "does not answer the envelope of this reply topic"),
        ("/answers", to, "m0", "", 422, "is no id of an envelope"),
        ("/answers", to, "", "", 422, "an answer says \\\"inreplyto\\\""),
        ("/answers", to, id, "performative: request\r\n", 422, "an answer is one of inform"),
        ("/answers", "$mesh/audit/refused", id, "", 422, "not allowed in what is put into a topic"),
    ] {
        let no = answer(at, path, to, id, more, price).await;
        assert_eq!(no.status, status, "{no:?}");
        assert!(no.text.contains(why), "{why}: {no:?}");
    }
    let several = answer(at, "/several", to, id, "", r#"[{"price":1},{"price":2}]"#).await;
    assert_eq!(several.status, 422);
    assert!(several.text.contains("an answer is one envelope, and \\\"each\\\" makes 2"), "{several:?}");

    let yes = answer(at, "/answers", to, id, "", price).await;
    assert_eq!((yes.status, yes.json()), (202, json!({ "filtered": true })), "{yes:?}");
    let told = asks.await.unwrap();
    let by = "mesh://plant-a/web/anonymous";
    assert_eq!((told.status, told.json()), (200, json!({ "price": 17, "said": "inform", "by": by })));
    let again = answer(at, "/answers", to, id, "", price).await;
    assert_eq!((again.status, &again.json()["decided_by"]), (409, &json!("reply")), "{again:?}");

    // nothing of all that is stored, and every message is accounted for
    let admin = running.addresses().admin;
    let stored = get(admin, "/messages?conversation=talk-33").await.json();
    assert_eq!(stored["messages"].as_array().unwrap().len(), 1, "{stored:#}");
    let ledger = get(admin, "/ledger").await.json();
    let answered = &ledger["bridges"]["web"]["routes"]["answers"];
    assert_eq!((&answered["filtered"], &answered["stored"]), (&json!(1), &json!(0)), "{ledger}");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_answers_nothing_that_its_sender_may_not_reply_to() {
    let (running, asks, asked, site) = asked().await;
    let at = web(&running);
    let (to, id) = (asked["replyto"].as_str().unwrap(), asked["id"].as_str().unwrap());
    site.write("policies/replies.cedar", "");
    running.reload().await;
    let no = answer(at, "/answers", to, id, "", r#"{"price":17}"#).await;
    assert_eq!((no.status, &no.json()["decided_by"]), (403, &json!("access")), "{no:?}");
    site.write("policies/replies.cedar", MAY_REPLY);
    running.reload().await;
    let refuses = answer(at, "/answers", to, id, "performative: refuse\r\n", r#"{"price":0}"#).await;
    assert_eq!(refuses.status, 202, "{refuses:?}");
    assert_eq!(asks.await.unwrap().status, 409);
    assert_eq!(running.drain().await, Drained::Clean);
}
