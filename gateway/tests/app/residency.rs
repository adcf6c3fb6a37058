//! Data that may not be here is refused over every protocol, and nothing of it is kept.

use std::{fs, path::Path};

use gateway::drain::Drained;
use serde_json::json;

use super::support::{Site, Socket, get, post, web};

const MAPPING: &str = "mapping: notes
from: { bridge: web, address: \"POST /notes/{place}\" }
envelope: { topic: \"notes/${address.place}\", residency: \"${address.place}\" }
";

/// Whether any file below the folder has these bytes.
pub(crate) fn is_kept(folder: &Path, what: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_kept(&path, what),
            false => fs::read(&path).unwrap().windows(what.len()).any(|bytes| bytes == what.as_bytes()),
        }
    })
}

#[tokio::test]
async fn what_may_not_be_here_is_refused_with_the_reason_and_is_nowhere_in_the_data_folder() {
    let site = Site::shipped();
    site.write("mappings/notes.yaml", MAPPING);
    let running = site.start().await;
    let web = web(&running);
    assert_eq!(post(web, "/notes/no", r#"{"text": "kept-by-request"}"#).await.status, 202);
    let answer = post(web, "/notes/us", r#"{"text": "secret-by-request"}"#).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["kind"], &said["decided_by"]), (&json!("denied"), &json!("residency")));
    assert_eq!(said["detail"], "the data may be in us, and this gateway is in no, eu");

    let mut socket = Socket::open(web).await;
    assert_eq!(socket.publish("/notes/eu", r#"{"text": "kept-by-socket"}"#).await["op"], "receipt");
    let said = socket.publish("/notes/us", r#"{"text": "secret-by-socket"}"#).await;
    assert_eq!((&said["op"], &said["decided_by"]), (&json!("error"), &json!("residency")));
    drop(socket);

    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["bridges"]["web"]["rejected"], json!({ "denied": 2 }));
    assert_eq!(running.drain().await, Drained::Clean);
    for kept in ["kept-by-request", "kept-by-socket"] {
        assert!(is_kept(&site.data(), kept), "{kept} is stored, so the search finds what is");
    }
    for secret in ["secret-by-request", "secret-by-socket"] {
        assert!(!is_kept(&site.data(), secret), "{secret}");
    }
}

#[tokio::test]
async fn what_was_stored_is_not_sent_where_it_may_not_be_any_more() {
    let site = Site::shipped();
    site.write("mappings/notes.yaml", MAPPING);
    let running = site.start().await;
    assert_eq!(post(web(&running), "/notes/no", r#"{"text": "a"}"#).await.status, 202);
    site.write("policy.yaml", "anonymous: true\nresidency: { bridges: { web: [eu] } }\n");
    running.reload().await;
    assert_eq!(post(web(&running), "/notes/no", r#"{"text": "b"}"#).await.status, 403);
    assert_eq!(post(web(&running), "/notes/eu", r#"{"text": "c"}"#).await.status, 202);
    let mut socket = Socket::subscribe(web(&running), "notes/#", "earliest", Some("reader")).await;
    assert_eq!(socket.envelope().await["data"]["text"], "c");
    drop(socket);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["subscriptions"]["ws:anonymous:reader"]["refused"], json!({ "denied": 1 }), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[test]
fn a_bridge_that_is_not_there_is_nowhere() {
    let site = Site::shipped();
    site.write("policy.yaml", "anonymous: true\nresidency: { bridges: { wbe: [eu] } }\n");
    let error = site.load().unwrap_err();
    assert!(error.contains("error[unknown-bridge]") && error.contains("bridges: web"), "{error}");
}

/// What a mapping can make nothing of, refused before it has a label or was asked about.
#[tokio::test]
async fn of_what_could_not_be_mapped_and_may_not_be_sent_here_a_dead_letter_has_no_payload() {
    const UNPROVEN: &str = "schema: telemetry/reading@v1.0.0, data: { celsius: \"${payload.c}\", line: \"7\" }";
    let site = Site::shipped();
    for (name, envelope) in [
        ("plain", "topic: letters/plain"),
        ("placed", "topic: \"letters/${address.place}\", residency: \"${address.place}\""),
        ("chosen", "topic: \"letters/${payload.t}\""),
        ("tested", "topic: letters/tested, residency: \"${has(payload.us) ? \\\"us\\\" : \\\"no\\\"}\""),
    ] {
        let mapping = format!(
            "mapping: {name}\nfrom: {{ bridge: web, address: \"POST /{name}/{{place}}\" }}\n\
             envelope: {{ {envelope}, {UNPROVEN} }}\nunproven: dead-letter\n"
        );
        site.write(&format!("mappings/{name}.yaml"), &mapping);
    }
    let running = site.start().await;
    let web = web(&running);
    let offer = async |path: &str, secret: &str| {
        let refused = post(web, path, &format!("{secret}, and no JSON")).await;
        assert!(matches!(refused.status, 400 | 422), "{path}: {refused:?}");
    };
    offer("/plain/x", "kept-plain").await;
    offer("/placed/eu", "kept-placed").await;
    offer("/placed/us", "secret-placed").await;
    offer("/chosen/x", "secret-chosen").await;
    offer("/tested/x", "secret-tested").await;
    for (policy, more, secret) in [
        ("anonymous: true\nresidency: { default: us }\n", "", "secret-default"),
        ("anonymous: true\n", "forbid(principal, action, resource in Topic::\"letters\");", "secret-forbidden"),
        (
            "anonymous: true\naccess: { data: { c: integer } }\n",
            "forbid(principal, action == Action::\"publish\", resource) when { context.data has c && context.data.c > 5 };",
            "secret-amount",
        ),
    ] {
        site.write("policy.yaml", policy);
        site.write("policies/more.cedar", more);
        let reloaded = running.reload().await;
        assert!(matches!(reloaded, gateway::Reloaded::Changed(_)), "{policy}: {reloaded:?}");
        offer("/plain/x", secret).await;
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["store"]["dead_letters"], 8, "each has a letter: {ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
    for kept in ["kept-plain", "kept-placed"] {
        assert!(is_kept(&site.data(), kept), "{kept}");
    }
    for secret in ["placed", "chosen", "tested", "default", "forbidden", "amount"] {
        assert!(!is_kept(&site.data(), &format!("secret-{secret}")), "{secret}");
    }
}

#[tokio::test]
async fn what_access_denies_is_kept_where_its_mapping_says_so_and_what_residency_denies_never() {
    let site = Site::shipped();
    for (name, kept) in [("kept", "keep_denied: true\n"), ("plain", "")] {
        let mapping = format!(
            "mapping: {name}\nfrom: {{ bridge: web, address: \"POST /{name}/{{place}}\" }}\n\
             envelope: {{ topic: \"denied/{name}\", residency: \"${{address.place}}\" }}\n{kept}"
        );
        site.write(&format!("mappings/{name}.yaml"), &mapping);
    }
    site.write("policies/more.cedar", "forbid(principal, action in Action::\"send\", resource in Topic::\"denied\");");
    let running = site.start().await;
    let denied = async |path: &str, payload: &str| {
        let answer = post(web(&running), path, &format!("\"{payload}\"")).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    };
    denied("/kept/no", "letter-denied").await;
    denied("/plain/no", "secret-plain").await;
    denied("/kept/us", "secret-elsewhere").await;
    site.write("policies/more.cedar", "");
    assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
    denied("/kept/us", "secret-by-residency").await;
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["store"]["dead_letters"], 2, "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
    assert!(is_kept(&site.data(), "letter-denied"));
    for secret in ["secret-plain", "secret-elsewhere", "secret-by-residency"] {
        assert!(!is_kept(&site.data(), secret), "{secret}");
    }
}
