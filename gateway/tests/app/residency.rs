//! Data that may not be here is refused over every protocol, and nothing of it is kept.

use std::{fs, io, path::Path};

use gateway::drain::Drained;
use serde_json::json;

use tokio::time::timeout;

use super::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, post, second, web},
};

const MAPPING: &str = "mapping: notes
from: { bridge: web, address: \"POST /notes/{place}\" }
envelope: { topic: \"notes/${address.place}\", residency: \"${address.place}\" }
";

/// All that is in files below the folder, with what is no text left out.
pub(crate) fn all_kept(folder: &Path) -> String {
    let file = |entry: io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all_kept(&path),
            // a file that goes away meanwhile has nothing
            false => String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned(),
        }
    };
    fs::read_dir(folder).unwrap().map(file).collect()
}

/// Whether any file below the folder has these bytes.
pub(crate) fn is_kept(folder: &Path, what: &str) -> bool {
    all_kept(folder).contains(what)
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

/// Wherever it comes from: a request, a frame, MQTT of either version at any QoS, retained or left as a will.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_here_is_kept_nowhere_whatever_brings_it() {
    let site = Site::shipped();
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, websocket: { listen: 127.0.0.1:0 } } }\n";
    let listen = "http: { listen: 127.0.0.1:0";
    let config = site.config_text(floor).replace(listen, &format!("{listen}, websocket: {{ paths: [/notes/*] }}"));
    site.write("gateway.yaml", &config);
    for (name, bridge, address) in [
        ("posted", "web", "POST /notes/{place}"),
        ("framed", "web", "WEBSOCKET /notes/{place}"),
        ("published", "floor", "notes/{place}"),
    ] {
        let mapping = format!(
            "mapping: {name}\nfrom: {{ bridge: {bridge}, address: \"{address}\", decode: text }}\n\
             envelope: {{ topic: \"notes/${{address.place}}\", residency: \"${{address.place}}\" }}\n\
             keep: last\nkeep_denied: true\nunproven: dead-letter\n"
        );
        site.write(&format!("mappings/{name}.yaml"), &mapping);
    }
    let running = site.start().await;
    let (at, tcp, over_web) = (web(&running), bridge(&running, "floor"), second(&running, "floor"));
    let (mut kept, mut secret) = (Vec::new(), Vec::new());
    for (place, marks) in [("no", &mut kept), ("us", &mut secret)] {
        let path = format!("/notes/{place}");
        let mut mark = |way: &str| {
            marks.push(format!("mark-{place}-{way}."));
            marks[marks.len() - 1].clone()
        };
        post(at, &path, &mark("request")).await;
        Socket::open(at).await.publish(&path, &format!("\"{}\"", mark("publish"))).await;
        Socket::open_at(at, &path, None).await.unwrap().say(&mark("frame")).await;
        for version in [4, 5] {
            for (way, wire) in [("tcp", Wire::tcp(tcp).await), ("web", Wire::web_socket(over_web).await)] {
                let mut client = Client::over(wire, version, None).await.unwrap();
                for (qos, retain) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
                    let text = mark(&format!("{way}-{version}-{qos}-{retain}"));
                    client.publish_at(qos, retain, &path[1..], &text).await;
                }
            }
        }
        let will = mark("will");
        let client = Client::with_will(Wire::tcp(tcp).await, &format!("will-{place}"), &path[1..], &will).await;
        assert_eq!(
            is_kept(&site.data(), &will),
            place == "no",
            "a will that may be here is on disk while its client is"
        );
        drop(client);
    }
    let denied = json!({ "denied": 25 });
    let told = async {
        loop {
            let ledger = get(running.addresses().admin, "/ledger").await.json();
            if ledger["bridges"]["floor"]["rejected"] == denied && ledger["bridges"]["floor"]["accepted"] == 25 {
                return ledger;
            }
        }
    };
    let ledger = timeout(PATIENCE, told).await.expect("all that is published is stored or refused");
    assert_eq!(ledger["bridges"]["web"]["rejected"], json!({ "denied": 3 }), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
    let all = all_kept(&site.data());
    for mark in &kept {
        assert!(all.contains(mark), "{mark} is stored, so the search finds what is");
    }
    for mark in &secret {
        assert!(!all.contains(mark), "{mark}");
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
