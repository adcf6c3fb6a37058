//! Mappings that send, through a whole gateway to a webhook.

use std::fs;

use gateway::{Reloaded, Running, drain::Drained};
use serde_json::{Value, json};

use crate::{
    receiver::Hook,
    support::{Answer, PATIENCE, Site, Socket, get, post, request, web},
};

/// What takes alerts in.
const ALERTS: &str = "mapping: alerts
from: { bridge: web, address: \"POST /alerts/{place}\" }
envelope: { topic: \"alerts/${address.place}\", performative: inform, key: \"${address.place}\" }
";
/// What sends them.
const TELLS: &str = "mapping: tells
from: { topic: alerts/# }
to: { bridge: chat, address: POST /hook }
";
pub(crate) const ALLOWS: &str =
    "permit (principal == Principal::\"$bridge:chat\", action == Action::\"subscribe\", resource);\n";

/// A gateway with a bridge `chat` that posts to the hook.
pub(crate) fn site(hook: &Hook, more: &str) -> Site {
    let site = Site::shipped();
    let chat = format!(
        "  chat: {{ webhook: {{ url: \"{}\", plain_text: true, allow_private: [127.0.0.1]{more} }} }}\n",
        hook.url()
    );
    site.write("gateway.yaml", &site.config_text(&chat));
    site.write("mappings/alerts.yaml", ALERTS);
    site.write("mappings/tells.yaml", TELLS);
    site.write("policies/chat.cedar", ALLOWS);
    site
}

/// The counts of a mapping's subscription, once they are so.
pub(crate) async fn counts(running: &Running, mapping: &str, so: impl Fn(&Value) -> bool) -> Value {
    let admin = running.addresses().admin;
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let ledger = get(admin, "/ledger").await.json();
            assert_eq!(ledger["violations"], json!([]), "{ledger}");
            let counts = ledger["subscriptions"][format!("mapping:{mapping}")].clone();
            if so(&counts) {
                return counts;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("the counts of {mapping} never are so"))
}

/// A publish with this idempotency key.
pub(crate) async fn keyed(running: &gateway::Running, key: &str, path: &str, body: &str) -> Answer {
    let (at, length) = (web(running), body.len());
    let head = format!("POST {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\nidempotency-key: {key}");
    request(at, &format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}")).await
}

pub(crate) async fn alert(running: &Running, place: &str, body: &str) {
    let answer = post(web(running), &format!("/alerts/{place}"), body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_alert_to_chat_posts_what_is_urgent_and_nothing_else() {
    let hook = Hook::start().await;
    let site = site(&hook, ", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/library/alert-to-chat.yaml");
    site.write("mappings/tells.yaml", &fs::read_to_string(library).unwrap());
    let running = site.start().await;
    alert(&running, "boiler-1", r#"{"severity":"low","what":"x"}"#).await;
    alert(&running, "boiler-2", r#"{"severity":"critical","what":"pressure is 12 bar"}"#).await;
    let posts = hook.until(1).await;
    let body: Value = serde_json::from_str(&posts[0].body).unwrap();
    assert_eq!(body["text"], "*CRITICAL* at boiler-2: pressure is 12 bar");
    assert!(posts[0].head.starts_with("POST /hooks/alerts HTTP/1.1"), "{}", posts[0].head);
    assert_eq!(posts[0].header("webhook-id"), posts[0].header("x-event-id"));
    assert!(posts[0].header("webhook-signature").starts_with("v1,"));
    let counts = counts(&running, "alert-to-chat", |counts| counts["pending"] == 0).await;
    assert_eq!((&counts["matched"], &counts["delivered"], &counts["left_out"]), (&json!(2), &json!(1), &json!(1)));
    let routes = get(running.addresses().admin, "/routes").await.json();
    let shown = &routes["sends"][0];
    assert_eq!((&shown["mapping"], &shown["bridge"]), (&json!("alert-to-chat"), &json!("chat")));
    assert_eq!((&shown["now"]["state"], &shown["now"]["unsettled"]), (&json!("sending"), &json!(0)));
    let metrics = get(running.addresses().admin, "/metrics").await.text;
    let told = |stage: &str| {
        format!("openmesh_egress_messages_total{{bridge=\"chat\",route=\"alert-to-chat\",stage=\"{stage}\"}} 1")
    };
    for stage in ["delivered", "not-sent"] {
        assert!(metrics.contains(&told(stage)), "{stage}: {metrics}");
    }
    assert_eq!(running.drain().await, Drained::Clean);
    assert_eq!(hook.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_now_is_sent_again_in_order_and_what_is_refused_is_a_dead_letter() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    let running = site.start().await;
    hook.answers(&[503, 429, 200, 400, 200]);
    for n in 1..=3 {
        alert(&running, "a", &n.to_string()).await;
    }
    let posts = hook.until(5).await;
    let bodies: Vec<_> = posts.iter().map(|post| &*post.body).collect();
    assert_eq!(bodies, ["1", "1", "1", "2", "3"]);
    assert_eq!(posts[0].header("webhook-id"), posts[2].header("webhook-id"));
    let counts = counts(&running, "tells", |counts| counts["pending"] == 0).await;
    assert_eq!((&counts["delivered"], &counts["dead_lettered"]), (&json!(2), &json!({ "malformed": 1 })));
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_one_place_does_not_wait_for_another() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    site.write("mappings/tells.yaml", &TELLS.replace("POST /hook", "\"POST /${envelope.key}\""));
    let running = site.start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n");
    alert(&running, "stuck", "1").await;
    hook.until(1).await;
    alert(&running, "stuck", "2").await;
    alert(&running, "free", "3").await;
    let posts = hook.until(2).await;
    assert_eq!(posts[1].body, "3");
    let counts = counts(&running, "tells", |counts| counts["delivered"] == 1).await;
    assert_eq!(counts["pending"], 2);
    let routes = get(running.addresses().admin, "/routes").await.json();
    assert_eq!(routes["sends"][0]["now"]["state"], "failing", "{routes}");
    assert_eq!(running.drain().await, Drained::Clean, "what can't be sent now does not hold up the end");
    assert_eq!(hook.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_before_the_end_is_sent_after_the_next_start() {
    let hook = Hook::start().await;
    let (at, site) = (hook.at, site(&hook, ""));
    drop(hook);
    let running = site.start().await;
    for n in 1..=3 {
        alert(&running, "a", &n.to_string()).await;
    }
    assert_eq!(running.drain().await, Drained::Clean);
    let hook = Hook::at(at).await;
    let running = site.start().await;
    alert(&running, "a", "4").await;
    let posts = hook.until(4).await;
    let bodies: Vec<_> = posts.iter().map(|post| &*post.body).collect();
    assert_eq!(bodies, ["1", "2", "3", "4"]);
    counts(&running, "tells", |counts| counts["delivered"] == 4).await;
    assert_eq!(running.drain().await, Drained::Clean);
    assert_eq!(hook.count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_taken_away_is_parked_and_goes_on_where_it_was() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    let running = site.start().await;
    alert(&running, "a", "1").await;
    hook.until(1).await;
    fs::remove_file(site.config().with_file_name("mappings/tells.yaml")).unwrap();
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    let parked =
        async { while get(running.addresses().admin, "/routes").await.json()["parked"] != json!(["tells"]) {} };
    tokio::time::timeout(PATIENCE, parked).await.unwrap();
    alert(&running, "a", "2").await;
    site.write("mappings/tells.yaml", &TELLS.replace("/hook", "/other"));
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    let posts = hook.until(2).await;
    assert_eq!((&*posts[1].body, posts[1].head.starts_with("POST /other ")), ("2", true));
    // another topic: the position stays, and what is stored from there on is matched anew
    site.write("mappings/tells.yaml", &TELLS.replace("alerts/#", "alerts/b"));
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    alert(&running, "a", "3").await;
    alert(&running, "b", "4").await;
    assert_eq!(hook.until(3).await[2].body, "4");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_a_reload_brings_misses_nothing_of_its_epoch() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    fs::remove_file(site.config().with_file_name("mappings/tells.yaml")).unwrap();
    let running = site.start().await;
    alert(&running, "a", "\"before\"").await;
    site.write("mappings/tells.yaml", TELLS);
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    alert(&running, "a", "\"behind\"").await;
    assert_eq!(hook.until(1).await[0].body, "\"behind\"");
    assert_eq!(running.drain().await, Drained::Clean);
    assert_eq!(hook.count(), 1);
}

#[tokio::test]
async fn what_policy_does_not_let_a_bridge_read_is_an_error_of_the_files() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    site.remove("policies");
    site.write("policies/all.cedar", "permit (principal == Principal::\"anonymous\", action, resource);\n");
    let said = site.load().unwrap_err();
    assert!(said.contains("error[not-permitted]") && said.contains("Principal::\"$bridge:chat\""), "{said}");
}

#[tokio::test]
async fn check_says_what_a_bridge_that_only_sends_does() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_openmesh"))
        .args(["check", "--config"])
        .arg(site.config())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("bridge chat: sends\n  in order: what has the same key; yes is said by: a status of"),
        "{said}"
    );
    assert!(said.contains("mapping tells: alerts/#  ->  chat POST /hook"), "{said}");
}

#[tokio::test]
async fn an_address_that_the_bridge_can_not_send_to_is_an_error_with_its_place() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    site.write("mappings/tells.yaml", &TELLS.replace("POST /hook", "GET /hook"));
    let said = site.load().unwrap_err();
    assert!(said.contains("tells.yaml:3:30: error[address]: the method is one of"), "{said}");
    site.write("mappings/tells.yaml", &TELLS.replace("bridge: chat", "bridge: web"));
    assert!(site.load().unwrap_err().contains("error[not-available]: bridge \"web\" can't send"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_that_is_in_hand_expires_the_next_one_is_sent_all_the_same() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    let items = "mapping: many
from: { bridge: web, address: POST /many }
each: payload.items
envelope: { topic: alerts/many, performative: inform, key: same, expires: 1s }
";
    site.write("mappings/many.yaml", items);
    let running = site.start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n");
    // more than a mapping has in hand at a time, behind one that is not taken before it expires
    for _ in 0..2 {
        let items = json!({ "items": vec![1; 700] }).to_string();
        assert_eq!(post(web(&running), "/many", &items).await.status, 202);
    }
    hook.until(1).await;
    alert(&running, "a", "1").await;
    let posts = hook.until(2).await;
    assert_eq!(posts[1].body, "1");
    let counts = counts(&running, "tells", |counts| counts["pending"] == 0).await;
    assert_eq!((&counts["delivered"], &counts["expired"]), (&json!(1), &json!(1_400)));
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_keeps_from_a_webhook_is_never_posted_and_on_record_with_who_decided() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    let labelled =
        ALERTS.replace("performative: inform", "performative: inform, residency: [no, \"${address.place}\"]");
    site.write("mappings/alerts.yaml", &labelled);
    site.write("policy.yaml", "anonymous: true\nresidency: { bridges: { chat: [us, se] } }\n");
    let forbids =
        "@id(\"not-there\") forbid (principal, action == Action::\"subscribe\", resource in Topic::\"alerts/se\");";
    site.write("policies/chat.cedar", &format!("{ALLOWS}{forbids}\n"));
    let running = site.start().await;
    for (place, body) in [("eu", "1"), ("se", "2"), ("us", "3")] {
        alert(&running, place, body).await;
    }
    assert_eq!(hook.until(1).await[0].body, "3");
    let counts = counts(&running, "tells", |counts| counts["pending"] == 0).await;
    assert_eq!((&counts["delivered"], &counts["refused"]), (&json!(1), &json!({ "denied": 2 })));
    assert_eq!(hook.count(), 1);
    let mut reader = Socket::subscribe(web(&running), "$mesh/audit/#", "earliest", None).await;
    for decided_by in ["residency", "chat#not-there"] {
        let record = reader.envelope().await;
        assert_eq!(record["subject"], "$mesh/audit/refused/chat", "{record}");
        assert_eq!((&record["data"]["stage"], &record["data"]["decided_by"]), (&json!("egress"), &json!(decided_by)));
    }
    drop(reader);
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_its_schema_since_it_was_stored_is_not_posted() {
    let hook = Hook::start().await;
    let site = site(&hook, "");
    site.write("schemas/alert@v1.0.0.json", "{}");
    let typed =
        ALERTS.replace("performative: inform", "performative: inform, schema: alert@v1.0.0, data: \"${payload}\"");
    site.write("mappings/alerts.yaml", &format!("{typed}unproven: dead-letter\n"));
    let running = site.start().await;
    hook.answers_with("HTTP/1.1 503 x\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n");
    alert(&running, "a", "{\"n\":1}").await;
    hook.until(1).await;
    alert(&running, "a", "{\"n\":\"two\"}").await;
    site.write("schemas/alert@v1.0.0.json", "{\"properties\":{\"n\":{\"type\":\"integer\"}}}");
    let reloaded = running.reload().await;
    assert!(matches!(reloaded, Reloaded::Changed(_)), "{reloaded:?}");
    let counts = counts(&running, "tells", |counts| counts["pending"] == 0).await;
    assert_eq!((&counts["delivered"], &counts["refused"]), (&json!(1), &json!({ "malformed": 1 })), "{counts}");
    assert!(hook.until(2).await.iter().all(|post| post.body == "{\"n\":1}"));
    assert_eq!(running.drain().await, Drained::Clean);
}
