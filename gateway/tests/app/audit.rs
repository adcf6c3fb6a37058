//! The audit trail as its readers find it: the reserved topics `$mesh/audit/...`.

use gateway::drain::Drained;
use serde_json::{Value, json};

use super::support::{Site, Socket, get, post, request, web};

const TRAIL: &str = "$mesh/audit/#";

/// The next records, by who decided.
async fn decided(reader: &mut Socket, count: usize) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let envelope = reader.envelope().await;
        all.push((envelope["subject"].as_str().unwrap().to_owned(), envelope["data"].clone()));
    }
    all
}

#[tokio::test]
async fn a_refusal_is_on_record_whoever_decided_and_no_payload_is() {
    let site = Site::shipped();
    let text =
        site.config_text("").replace("listen: 127.0.0.1:0 } }\n", "listen: 127.0.0.1:0, max_payload_bytes: 64 } }\n");
    site.write("gateway.yaml", &text);
    let running = site.start().await;
    let web = web(&running);
    assert_eq!(post(web, "/telemetry/7/temperature", r#"{"f": "s3cr3t", "unit": "F"}"#).await.status, 422);
    assert_eq!(post(web, "/nowhere", "s3cr3t").await.status, 404);
    assert_eq!(post(web, "/telemetry/7/temperature", &"s3cr3t".repeat(20)).await.status, 413);
    let head = format!("POST /a HTTP/1.1\r\nhost: {web}\r\nconnection: close\r\nauthorization: Bearer s3cr3t");
    assert_eq!(request(web, &format!("{head}\r\ncontent-length: 0\r\n\r\n")).await.status, 401);

    let mut reader = Socket::subscribe(web, TRAIL, "earliest", None).await;
    let records = decided(&mut reader, 4).await;
    let stages: Vec<_> = records.iter().map(|(_, data)| (data["stage"].clone(), data["kind"].clone())).collect();
    let expected =
        [("ingress", "malformed"), ("ingress", "unmapped"), ("bridge", "too-large"), ("bridge", "unauthenticated")];
    assert_eq!(stages, expected.map(|(stage, kind)| (json!(stage), json!(kind))));
    for (topic, data) in &records {
        assert_eq!(topic, "$mesh/audit/refused/web");
        assert_eq!((&data["event"], &data["peer"]), (&json!("refused"), &json!("127.0.0.1")));
        assert!(!data.to_string().contains("s3cr3t"), "{data}");
    }
    assert_eq!((&records[0].1["principal"], &records[0].1["pointer"]), (&json!("anonymous"), &json!("/f")));
    drop(reader);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(ledger["bridges"]["web"]["rejected"].as_object().unwrap().len(), 4, "each is counted as well");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_subscription_and_a_last_value_that_are_denied_are_on_record() {
    let site = Site::shipped();
    site.write(
        "policies/secret.cedar",
        "@id(\"secret\") forbid(principal, action == Action::\"subscribe\", resource in Topic::\"secret\");",
    );
    let running = site.start().await;
    let web = web(&running);
    let mut socket = Socket::open(web).await;
    socket.send(&json!({ "op": "subscribe", "ref": "s", "filters": ["secret/#"], "credit": 1 })).await;
    assert_eq!(socket.next().await["decided_by"], "secret#secret");
    assert!(matches!(get(web, "/mesh/v1/last/secret/a").await.status, 403 | 404));
    let mut reader = Socket::subscribe(web, TRAIL, "earliest", None).await;
    for (topic, data) in decided(&mut reader, 2).await {
        assert_eq!(topic, "$mesh/audit/refused/web");
        assert_eq!((&data["stage"], &data["kind"]), (&json!("egress"), &json!("denied")));
        assert_eq!((&data["decided_by"], &data["principal"]), (&json!("secret#secret"), &json!("anonymous")));
    }
    drop((socket, reader));
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_wildcard_never_reaches_the_trail() {
    let site = Site::shipped();
    let running = site.start().await;
    assert_eq!(post(web(&running), "/nowhere", "x").await.status, 404);
    let mut reader = Socket::subscribe(web(&running), TRAIL, "earliest", None).await;
    reader.envelope().await;
    assert_eq!(post(web(&running), "/telemetry/7/temperature", r#"{"f": 50, "unit": "F"}"#).await.status, 202);
    let mut everything = Socket::subscribe(web(&running), "#", "earliest", None).await;
    assert_eq!(everything.envelope().await["subject"], "telemetry/7/temperature");
    drop((reader, everything));
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test]
async fn changes_of_the_gateway_are_on_record_and_those_that_were_refused() {
    let site = Site::shipped();
    let running = site.start().await;
    site.write("policy.yaml", "anonymous: true\nlimits: { principal: { messages_per_second: 100 } }\n");
    running.reload().await;
    site.write("policy.yaml", "anonymous: perhaps\n");
    running.reload().await;
    let mut reader = Socket::subscribe(web(&running), "$mesh/audit/admin", "earliest", None).await;
    let records = decided(&mut reader, 2).await;
    assert_eq!(records[0].1["outcome"], "epoch 2 is in force");
    assert_eq!(records[1].1["outcome"], "refused with 1 errors, epoch 2 stays");
    assert!(records.iter().all(|(_, data)| data["event"] == "admin" && data["what"] == "reload"), "{records:?}");
    drop(reader);
    assert_eq!(running.drain().await, Drained::Clean);
}
