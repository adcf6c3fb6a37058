//! Stored messages, looked for by the admin API.

use policy::{NewKey, User, UsersFile};
use serde_json::Value;

use crate::support::{Answer, Site, get, post, request, web};

async fn ask(admin: std::net::SocketAddr, path: &str, key: Option<&str>) -> Answer {
    let credentials = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n{credentials}connection: close\r\n\r\n");
    request(admin, &head).await
}

fn lines(page: &Value) -> Vec<String> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["envelope"]["subject"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn messages_are_found_by_what_they_are_and_in_pages() {
    let running = Site::shipped().start().await;
    let admin = running.addresses().admin;
    let mut receipts = Vec::new();
    for line in [7, 8, 7, 9] {
        let sent = post(web(&running), &format!("/telemetry/{line}/temperature"), r#"{"f":50,"unit":"F"}"#).await;
        receipts.push(sent.json());
    }
    let page = get(admin, "/messages?sender=anonymous&topic=telemetry/%23&limit=3").await.json();
    assert_eq!(lines(&page).len(), 3, "{page:#}");
    assert_eq!(page["messages"][1]["position"], receipts[1]["position"], "{page:#}");
    let first = &page["messages"][0];
    assert_eq!((&first["bridge"], &first["mapping"]), (&"web".into(), &"plant-temperature".into()), "{page:#}");
    let cursor = page["next"].as_str().unwrap();
    let rest =
        get(admin, &format!("/messages?sender=anonymous&topic=telemetry/%23&limit=3&cursor={cursor}")).await.json();
    assert_eq!(rest["messages"][0]["envelope"]["id"], receipts[3]["id"], "{rest:#}");
    assert!(rest["next"].is_null(), "{rest:#}");
    let one = get(admin, &format!("/messages?id={}", receipts[2]["id"].as_str().unwrap())).await.json();
    assert_eq!(lines(&one), lines(&page)[..1], "{one:#}");
    assert_eq!(get(admin, "/messages?to=2001-01-01T00:00:00Z").await.json()["messages"], Value::Array(Vec::new()));
    let wrong = get(admin, "/messages?limit=0").await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert!(wrong.text.contains("from 1 to 1000"), "{wrong:?}");
}

#[tokio::test]
async fn a_message_is_shown_digit_for_digit() {
    let site = Site::shipped();
    let mapping = "mapping: raw\nfrom: { bridge: web, address: POST /raw }\nenvelope:\n  topic: raw\n  \
                   schema: telemetry/reading@v1.0.0\n  data: { celsius: \"${payload.c}\", line: \"7\" }\n\
                   unproven: dead-letter\n";
    site.write("mappings/raw.yaml", mapping);
    let running = site.start().await;
    assert_eq!(post(web(&running), "/raw", r#"{"c":12.10}"#).await.status, 202);
    let page = get(running.addresses().admin, "/messages?topic=raw").await;
    assert!(page.text.contains("\"data\":{\"celsius\":12.10,"), "{page:?}");
}

#[tokio::test]
async fn nobody_finds_what_it_may_not_read() {
    let site = Site::shipped();
    let (mut users, reader, other) = (UsersFile::default(), NewKey::generate().unwrap(), NewKey::generate().unwrap());
    for (name, key) in [("reader", &reader), ("other", &other)] {
        let mut user = User::default();
        user.roles = vec!["operator".into()];
        users.add_user(name, user).unwrap();
        users.add_key(name, key, None).unwrap();
    }
    site.write("users.yaml", &users.to_string());
    let running = site.start().await;
    let admin = running.addresses().admin;
    post(web(&running), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await;
    post(web(&running), "/telemetry/8/temperature", r#"{"f":50,"unit":"F"}"#).await;
    let topic = lines(&get(admin, "/messages?topic=telemetry/%23").await.json()).remove(0);
    // From now on one principal may read one topic.
    site.write(
        "policies/open.cedar",
        &format!(
            "@id(\"one\")\n\
             permit (principal == Principal::\"reader\", action == Action::\"subscribe\", resource in Topic::\"{topic}\");\n\
             @id(\"looks\")\npermit (principal, action == Action::\"view\", resource);\n"
        ),
    );
    let reloaded = running.reload().await;
    assert!(matches!(reloaded, gateway::Reloaded::Changed(_)), "{reloaded:?}");
    let key = |key: &NewKey| key.key.expose().to_string();
    let page = ask(admin, "/messages?topic=telemetry/%23", Some(&key(&reader))).await.json();
    assert_eq!(lines(&page), [topic], "{page:#}");
    for asks in [Some(key(&other)), None] {
        let page = ask(admin, "/messages", asks.as_deref()).await.json();
        assert_eq!(page["messages"], Value::Array(Vec::new()), "{page:#}");
    }
    let unknown = ask(admin, "/messages", Some("om_nobody_x")).await;
    assert_eq!(unknown.status, 401, "{unknown:?}");
}
