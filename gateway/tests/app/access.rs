//! One table of who may do what, over every protocol there is: the answer is the same, and names what decided.

use std::{net::SocketAddr, sync::LazyLock};

use policy::{NewKey, StoredPassword, User, UsersFile};
use serde_json::{Value, json};
use yaml::Secret;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, post_as, second, web},
};

const TABLE: &str = include_str!("access.table");

const POLICY: &str =
    "access:\n  attributes: { limit: integer }\n  data: { amount: integer }\n  values: { ceiling: 500 }\n";

const PRESS: &str = r#"
@id("press") permit(principal in Role::"operator", action in Action::"send", resource in Topic::"plant");
@id("reads") permit(principal in Role::"operator", action == Action::"subscribe", resource in Topic::"plant");
@id("secret") forbid(principal, action, resource in Topic::"plant/secret");
"#;

const TRADE: &str = r#"
@id("rfp") permit(principal in Role::"buyer", action == Action::"publish", resource in Topic::"market")
    when { context.schema in Schema::"market/rfp" };
@id("reads") permit(principal in Role::"buyer", action == Action::"subscribe", resource in Topic::"market")
    when { context.schema in Schema::"market/rfp" };
@id("no-cancel") forbid(principal in Role::"buyer", action in Action::"send", resource)
    when { context.performative == Performative::"cancel" };
@id("spend") permit(principal, action in Action::"send", resource in Topic::"orders")
    when { context.data has amount && principal has limit && context.data.amount <= principal.limit };
@id("ceiling") forbid(principal, action in Action::"send", resource in Topic::"orders")
    when { context.data has amount && context.data.amount > context.ceiling };
@id("eve") forbid(principal == Principal::"eve", action, resource in Topic::"orders");
"#;

/// The `Authorization` of each of the table.
struct Credentials {
    file: UsersFile,
    ada: String,
    bob: String,
    eve: String,
}

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| {
    let mut file = UsersFile::default();
    let mut add = |name: &str, role: &str, limit: i64| {
        let mut user = User::default();
        user.roles = vec![role.into()];
        user.attributes = [("limit".into(), envelope::Attribute::Integer(limit))].into();
        if name == "bob" {
            let stored = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
            file.add_user(name, user.with_password(stored)).unwrap();
            return "Basic Ym9iOmNvcnJlY3QgaG9yc2U=".to_owned();
        }
        let key = NewKey::generate().unwrap();
        file.add_user(name, user).unwrap();
        file.add_key(name, &key, None).unwrap();
        format!("Bearer {}", key.key.expose())
    };
    let (ada, bob, eve) = (add("ada", "operator", 100), add("bob", "buyer", 400), add("eve", "nothing", 100));
    Credentials { file, ada, bob, eve }
});

pub(crate) fn authorization(who: &str) -> Option<&'static str> {
    match who {
        "ada" => Some(&CREDENTIALS.ada),
        "bob" => Some(&CREDENTIALS.bob),
        "eve" => Some(&CREDENTIALS.eve),
        "wrong" => Some("Bearer om_nobody_0000000000000000000000000000000000000000000000000000000000000000"),
        _ => None,
    }
}

/// With a bridge for MQTT, also over WebSocket, and messages as frames of a WebSocket.
fn config_text(site: &Site) -> String {
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, websocket: { listen: 127.0.0.1:0 } } }\n";
    let web = "http: { listen: 127.0.0.1:0";
    site.config_text(floor).replace(web, &format!("{web}, websocket: {{ paths: [/say/*] }}"))
}

pub(crate) fn site() -> Site {
    let site = Site::shipped();
    site.write("policy.yaml", POLICY);
    site.write("gateway.yaml", &config_text(&site));
    site.write("users.yaml", &CREDENTIALS.file.to_string());
    for (name, text) in [("press", PRESS), ("trade", TRADE), ("open", "")] {
        site.write(&format!("policies/{name}.cedar"), text);
    }
    for (name, performative, schema) in [
        ("inform", "inform", None),
        ("request", "request", None),
        ("cancel", "cancel", None),
        ("rfp", "inform", Some("market/rfp")),
        ("contract", "inform", Some("market/contract")),
    ] {
        let of = schema.map(|schema| format!("schema: {schema}@v1.0.0, ")).unwrap_or_default();
        // no sender picks its topic freely: a value is one segment of it
        for depth in 1..=3 {
            let names = &["a", "b", "c"][..depth];
            let path: String = names.iter().map(|name| format!("/{{{name}}}")).collect();
            let topic = names.iter().map(|name| format!("${{address.{name}}}")).collect::<Vec<_>>().join("/");
            for (way, bridge, address) in [
                ("web", "web", format!("POST /say/{name}{path}")),
                ("frames", "web", format!("WEBSOCKET /say/{name}{path}")),
                ("floor", "floor", format!("say/{name}{path}")),
            ] {
                let mapping = format!("say-{name}-{depth}-{way}");
                let text = format!(
                    "mapping: {mapping}\nfrom: {{ bridge: {bridge}, address: \"{address}\" }}\n\
                     envelope: {{ topic: \"{topic}\", performative: {performative}, {of}data: \"${{payload}}\" }}\n"
                );
                site.write(&format!("mappings/{mapping}.yaml"), &text);
            }
        }
        if let Some(schema) = schema {
            site.write(&format!("schemas/{schema}@v1.0.0.json"), "{}");
        }
    }
    site
}

/// As a path has it: ASCII, but for what is encoded already.
fn encoded(topic: &str) -> String {
    topic
        .bytes()
        .map(|byte| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// As an MQTT client writes what a path has.
fn decoded(topic: &str) -> String {
    let mut parts = topic.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        decoded.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        decoded += &part[2..];
    }
    decoded
}

/// What MQTT has in place of an `Authorization`.
pub(crate) fn user_of(who: &str) -> Option<(&'static str, &'static str)> {
    let key = |who| authorization(who).and_then(|value| value.strip_prefix("Bearer "));
    match who {
        "bob" => Some(("bob", "correct horse")),
        _ => key(who).map(|key| ("any", key)),
    }
}

/// How many messages were refused that came by MQTT.
async fn refused_by_floor(running: &gateway::Running) -> u64 {
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    ledger["bridges"]["floor"]["rejected"]["denied"].as_u64().unwrap_or(0)
}

/// What is said over MQTT, as it would be over HTTP. A 3.1.1 client hears of no message that it was refused, and of no
/// decider, so of those the ledger is asked, and who decided is taken from `decider`.
async fn over_mqtt(
    running: &gateway::Running,
    wire: Wire,
    version: u8,
    row: &[&str],
    decider: &str,
) -> (String, String) {
    let [who, does, by, topic, data] = *row else { panic!("{row:?}") };
    let Ok(mut client) = Client::over(wire, version, user_of(who)).await else {
        return ("401".to_owned(), "authentication".to_owned());
    };
    let before = refused_by_floor(running).await;
    let said = match does {
        "send" => client.publish(&format!("say/{by}/{}", decoded(topic)), data).await,
        _ => client.subscribe(topic).await,
    };
    let refused = match (version, does) {
        (4, "send") => refused_by_floor(running).await > before,
        _ => said.code >= 0x80,
    };
    match (refused, version) {
        (false, _) => ("ok".to_owned(), "-".to_owned()),
        (true, 4) => ("403".to_owned(), decider.to_owned()),
        (true, _) => {
            assert_eq!(said.code, 0x87, "{said:?}");
            let decided_by = said.reason.split(": ").next().unwrap_or_default();
            ("403".to_owned(), decided_by.to_owned())
        }
    }
}

/// Whether a stream of events begins, or what is said in its place.
async fn over_events(address: SocketAddr, authorization: Option<&str>, filter: &str) -> (String, String) {
    let credentials = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let filter = filter.replace('#', "%23").replace('+', "%2B");
    let head = format!("GET /mesh/v1/events?filter={filter} HTTP/1.1\r\nhost: {address}\r\n{credentials}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        // a stream has no end: its head is enough
        while !answer.starts_with(b"HTTP/1.1 200") || !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    match answer.starts_with("HTTP/1.1 200") {
        true => ("ok".to_owned(), "-".to_owned()),
        false => said(&serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()),
    }
}

/// What was answered, and who decided.
pub(crate) fn said(answer: &Value) -> (String, String) {
    match answer["status"].as_u64() {
        Some(status) => (status.to_string(), answer["decided_by"].as_str().unwrap_or_default().to_owned()),
        None => ("ok".to_owned(), "-".to_owned()),
    }
}

#[tokio::test]
async fn who_may_do_what_is_the_same_over_every_protocol_and_each_no_names_who_said_it() {
    let site = site();
    let running = site.start().await;
    let address = web(&running);
    let mut count = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let row: Vec<_> = line.split_whitespace().collect();
        let [who, does, by, topic, data, answer, decider] = row[..] else { panic!("{line}") };
        let expected = (answer.to_owned(), decider.to_owned());
        let authorization = authorization(who);
        let mut over = Vec::new();
        if does == "send" {
            let path = format!("/say/{by}/{}", encoded(topic));
            over.push(("HTTP", said(&post_as(address, authorization, &path, data).await.json())));
            over.push((
                "WebSocket",
                match Socket::open_as(address, authorization).await {
                    Ok(mut socket) => said(&socket.publish(&path, data).await),
                    // at the handshake, as over HTTP
                    Err(status) => (status.to_string(), "authentication".to_owned()),
                },
            ));
            over.push((
                "frames",
                match Socket::open_at(address, &path, authorization).await {
                    Ok(mut socket) => said(&socket.say(data).await),
                    // a path that is none is one at the handshake as well
                    Err(400) => ("400".to_owned(), "http".to_owned()),
                    Err(status) => (status.to_string(), "authentication".to_owned()),
                },
            ));
        } else {
            let mut socket = Socket::open_as(address, authorization).await.unwrap();
            socket.send(&json!({ "op": "subscribe", "ref": "s", "filters": [topic], "credit": 1 })).await;
            over.push(("WebSocket", said(&socket.next().await)));
            over.push(("server-sent events", over_events(address, authorization, topic).await));
        }
        // what a path can't have, a topic of MQTT can
        if decider != "http" {
            for version in [4, 5] {
                let wire = Wire::tcp(bridge(&running, "floor")).await;
                over.push(("MQTT over TCP", over_mqtt(&running, wire, version, &row[..5], decider).await));
                let wire = Wire::web_socket(second(&running, "floor")).await;
                over.push(("MQTT over WebSocket", over_mqtt(&running, wire, version, &row[..5], decider).await));
            }
        }
        for (protocol, said) in over {
            assert_eq!(said, expected, "over {protocol}: {line}");
        }
        count += 1;
    }
    assert!(count >= 40, "{count} cases");
}

#[tokio::test]
async fn a_wide_subscription_hands_out_only_what_its_subscriber_may_read() {
    let site = site();
    site.write("policies/post.cedar", "permit(principal == Principal::\"eve\", action in Action::\"send\", resource);");
    let running = site.start().await;
    let address = web(&running);
    let send = async |by: &str, topic: &str| {
        post_as(address, authorization("eve"), &format!("/say/{by}/{topic}"), "{}").await.status
    };
    let mut ada = Socket::open_as(address, authorization("ada")).await.unwrap();
    let mut bob = Socket::open_as(address, authorization("bob")).await.unwrap();
    for (socket, filter) in [(&mut ada, "plant/#"), (&mut bob, "market/#")] {
        socket.send(&json!({ "op": "subscribe", "ref": "s", "filters": [filter], "credit": 16 })).await;
        socket.frame("subscribed").await;
    }
    assert_eq!(send("inform", "plant/secret/1").await, 403, "nobody sends there");
    for (by, topic) in [("inform", "plant/1"), ("contract", "market/1"), ("rfp", "market/2"), ("inform", "plant/2")] {
        assert_eq!(send(by, topic).await, 202);
    }
    assert_eq!(
        (ada.envelope().await["subject"].clone(), ada.envelope().await["subject"].clone()),
        ("plant/1".into(), "plant/2".into())
    );
    assert_eq!(bob.envelope().await["subject"], "market/2", "the contract is not for bob");
}

#[tokio::test]
async fn a_reload_that_takes_a_right_ends_the_subscription_and_one_that_removes_a_key_the_connection() {
    let site = site();
    let running = site.start().await;
    let address = web(&running);
    let mut ada = Socket::open_as(address, authorization("ada")).await.unwrap();
    ada.send(&json!({ "op": "subscribe", "ref": "s", "filters": ["plant/#"], "credit": 16 })).await;
    ada.frame("subscribed").await;
    site.write(
        "policies/press.cedar",
        "@id(\"press\") permit(principal, action == Action::\"publish\", resource in Topic::\"plant\");",
    );
    running.reload().await;
    let closed = ada.frame("closed").await;
    assert_eq!((&closed["reason"], &closed["decided_by"]), (&json!("denied"), &json!("access")));
    assert_eq!(said(&ada.publish("/say/inform/plant/1", "{}").await).0, "ok", "it may still send");
    let mut without = CREDENTIALS.file.clone();
    without.remove_user("ada").unwrap();
    site.write("users.yaml", &without.to_string());
    running.reload().await;
    assert_eq!(ada.closed().await, (1008, "the credentials were revoked or changed".to_owned()));
}

#[tokio::test]
async fn policies_that_are_wrong_or_gone_change_nothing_and_are_told() {
    let site = site();
    site.write("gateway.yaml", &(config_text(&site) + "policies: policies/\n"));
    let running = site.start().await;
    let address = web(&running);
    let may = async || {
        let send = |who| post_as(address, who, "/say/inform/plant/1", "{}");
        let (ada, nobody) = (send(authorization("ada")), send(None));
        (ada.await.status, nobody.await.status)
    };
    assert_eq!(may().await, (202, 401));
    site.write("policies/more.cedar", "permit(principal, action, resource in Topics::\"plant\");");
    assert!(matches!(running.reload().await, gateway::Reloaded::Refused(_)));
    assert_eq!(may().await, (202, 401));
    let ready = super::support::get(running.addresses().admin, "/readyz").await;
    let said = ready.json()["configuration"].as_str().unwrap().to_owned();
    assert_eq!(ready.status, 200);
    assert!(said.starts_with("refused with ") && said.ends_with(", the one before is in force"), "{said}");
    site.remove("policies");
    assert!(matches!(running.reload().await, gateway::Reloaded::Refused(_)));
    assert_eq!(may().await, (202, 401));
    site.write("policies/none.cedar", "// nothing is permitted\n");
    assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
    assert_eq!(may().await, (403, 401));
    assert_eq!(super::support::get(running.addresses().admin, "/readyz").await.json(), json!({ "ready": true }));
}
