//! Dead letters and durable subscriptions, in an operator's hands: by the admin API and by the built binary.

use std::{net::SocketAddr, process::Command};

use gateway::Running;
use policy::{NewKey, User, UsersFile};
use serde_json::{Value, json};

use crate::support::{Answer, Site, Socket, get, post, post_as, request, web};

const TOPIC: &str = "telemetry/#";

/// A gateway that gives up after two deliveries, an operator's key, and a letter of what nobody took.
async fn with_a_letter() -> (Site, Running, String) {
    let site = Site::shipped();
    let (mut users, key) = (UsersFile::default(), NewKey::generate().unwrap());
    let mut operator = User::default();
    operator.roles = vec!["operator".into()];
    users.add_user("ada", operator).unwrap();
    users.add_key("ada", &key, None).unwrap();
    site.write("users.yaml", &users.to_string());
    let text = site.config_text("").replace("embedded: {", "embedded: { max_deliveries: 2,");
    assert!(text.contains("max_deliveries"), "{text}");
    site.write("gateway.yaml", &text);
    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), TOPIC, "earliest", Some("s")).await;
    post(web(&running), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await;
    for _ in 0..2 {
        let message = socket.frame("message").await;
        socket.send(&json!({ "op": "nack", "sub": "s", "positions": [message["position"]] })).await;
    }
    let given_up =
        async { while get(running.addresses().admin, "/ledger").await.json()["store"]["dead_letters"] != 1 {} };
    tokio::time::timeout(crate::support::PATIENCE, given_up).await.unwrap();
    (site, running, format!("Bearer {}", key.key.expose()))
}

async fn ask(admin: SocketAddr, method: &str, path: &str, authorization: Option<&str>) -> Answer {
    let credentials = authorization.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{credentials}connection: close\r\n\r\n");
    request(admin, &head).await
}

#[tokio::test]
async fn only_an_operator_sees_letters_and_replays_and_drops_them() {
    let (_site, running, operator) = with_a_letter().await;
    let admin = running.addresses().admin;
    for (method, path) in [
        ("GET", "/dead-letters"),
        ("GET", "/dead-letters/1"),
        ("POST", "/dead-letters/1/replay"),
        ("DELETE", "/dead-letters/1"),
        ("DELETE", "/subscriptions/s"),
    ] {
        assert_eq!(ask(admin, method, path, None).await.status, 401, "{method} {path}");
    }
    let page = ask(admin, "GET", "/dead-letters?after=0&most=5", Some(&operator)).await.json();
    let letter = &page["letters"][0];
    assert_eq!((letter["id"].as_u64(), letter["kind"].as_str()), (Some(1), Some("unavailable")), "{page:#}");
    assert_eq!(
        (&letter["topic"], &letter["mapping"]),
        (&json!("telemetry/7/temperature"), &json!("plant-temperature"))
    );
    assert!(letter.get("envelope").is_none(), "a list has no data: {page:#}");
    assert_eq!(ask(admin, "GET", "/dead-letters?most=0", Some(&operator)).await.status, 400);
    let whole = ask(admin, "GET", "/dead-letters/1", Some(&operator)).await.json();
    assert_eq!(whole["envelope"]["data"]["celsius"], 10, "{whole:#}");
    assert_eq!(ask(admin, "GET", "/dead-letters/2", Some(&operator)).await.status, 404);
    assert_eq!(post_as(admin, Some(&operator), "/dead-letters/1/replay", "").await.status, 200);
    assert_eq!(ask(admin, "DELETE", "/dead-letters/1", Some(&operator)).await.status, 404, "it is pending again");
    let ledger = get(admin, "/ledger").await.json();
    assert_eq!((ledger["balanced"].as_bool(), ledger["store"]["dead_letters"].as_u64()), (Some(true), Some(0)));
}

fn openmesh(admin: SocketAddr, key: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_openmesh"))
        .args(arguments)
        .args(["--url", &format!("http://{admin}"), "--key-file", key])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_it_too() {
    let (site, running, operator) = with_a_letter().await;
    let admin = running.addresses().admin;
    site.write("key", operator.strip_prefix("Bearer ").unwrap());
    let path = site.config().parent().unwrap().join("key").display().to_string();
    let run = |arguments: &'static [&'static str]| {
        let path = path.clone();
        async move { tokio::task::spawn_blocking(move || openmesh(admin, &path, arguments)).await.unwrap() }
    };
    let (done, said) = run(&["deadletter", "list"]).await;
    assert!(done && said.contains("unavailable  plant-temperature  anonymous  envelope"), "{said}");
    let (done, said) = run(&["deadletter", "show", "1"]).await;
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert!(done && shown["envelope"]["data"]["line"] == "7", "{said}");
    let (done, said) = run(&["deadletter", "replay", "1", "7"]).await;
    assert!(!done && said.contains("1 is delivered again") && said.contains("there is no dead letter 7"), "{said}");
    let (done, said) = run(&["subscription", "list"]).await;
    let name = said.split_whitespace().next().unwrap_or_default().to_owned();
    assert!(done && name.ends_with("s") && said.contains("pending"), "{said}");
    let dropped = tokio::task::spawn_blocking(move || openmesh(admin, &path, &["subscription", "drop", &name]));
    let (done, said) = dropped.await.unwrap();
    assert!(done, "{said}");
    assert!(get(admin, "/subscriptions").await.json()["subscriptions"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn a_mapping_that_says_so_keeps_what_does_not_conform_as_it_came() {
    let (site, running, operator) = with_a_letter().await;
    let mapping = "mapping: unproven\nfrom: { bridge: web, address: \"POST /unproven/{line}\" }\n\
                   envelope:\n  topic: telemetry/unproven\n  schema: telemetry/reading@v1.0.0\n  \
                   data: { celsius: \"${payload.c}\", line: \"${address.line}\" }\nunproven: dead-letter\n";
    site.write("mappings/unproven.yaml", mapping);
    assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
    let admin = running.addresses().admin;
    assert_eq!(post(web(&running), "/unproven/7", r#"{"c":12}"#).await.status, 202);
    let refused = post(web(&running), "/unproven/7", r#"{"c":"hot"}"#).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    // Once the sender has heard so, the letter is there.
    let page = ask(admin, "GET", "/dead-letters?after=1", Some(&operator)).await.json();
    let letter = &page["letters"][0];
    assert_eq!((&letter["what"], &letter["mapping"]), (&json!("message"), &json!("unproven")), "{page:#}");
    assert_eq!(letter["address"], "POST /unproven/7");
    let whole = ask(admin, "GET", "/dead-letters/2", Some(&operator)).await.json();
    assert_eq!(whole["payload_base64"], "eyJjIjoiaG90In0=", "{whole:#}");
    let refused = post_as(admin, Some(&operator), "/dead-letters/2/replay", "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
}
