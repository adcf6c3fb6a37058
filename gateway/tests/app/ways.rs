//! Every way out of the gateway, and the ways in that it opens itself: nothing denied passes any of them. What is looked
//! for is looked for in the bytes on the wire.

use std::{collections::BTreeSet, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use gateway::{Running, drain::Drained};
use policy::{NewKey, User, UsersFile};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use crate::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, post, request, second, web},
};

/// What is stored: where, by which mapping, and how it is recognised. The last of each half ends what a reader hears.
const STORED: [(&str, &str, &str); 6] = [
    ("plain", "plant/1", "mark-press"),
    ("plain", "plant/secret", "mark-secret"),
    ("contract", "market/1", "mark-contract"),
    ("rfp", "market/2", "mark-proposal"),
    ("plain", "plant/9", "mark-end"),
    ("rfp", "market/9", "mark-end"),
];

/// Who reads, what of, and all that it may have of that.
const READERS: [(&str, &str, &[&str]); 3] = [
    ("ada", "plant/#", &["mark-press", "mark-end"]),
    ("bob", "market/#", &["mark-proposal", "mark-end"]),
    ("eve", "#", &[]),
];

const POLICIES: &str = r#"
permit(principal == Principal::"anonymous", action in Action::"send", resource);
permit(principal in Role::"press", action == Action::"subscribe", resource in Topic::"plant");
forbid(principal, action == Action::"subscribe", resource in Topic::"plant/secret");
permit(principal == Principal::"bob", action == Action::"subscribe", resource in Topic::"market")
    when { context.schema in Schema::"market/rfp" };
"#;

fn site() -> (Site, Vec<(&'static str, String)>) {
    let site = Site::shipped();
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, websocket: { listen: 127.0.0.1:0 } } }\n";
    site.write("gateway.yaml", &site.config_text(floor));
    for (name, kind) in
        [("plain", ""), ("rfp", "schema: market/rfp@v1.0.0, "), ("contract", "schema: market/contract@v1.0.0, ")]
    {
        let mapping = format!(
            "mapping: {name}\nfrom: {{ bridge: web, address: \"POST /{name}/{{a}}/{{b}}\" }}\n\
             envelope: {{ topic: \"${{address.a}}/${{address.b}}\", {kind}data: \"${{payload}}\" }}\nkeep: last\n"
        );
        site.write(&format!("mappings/{name}.yaml"), &mapping);
    }
    for schema in ["rfp", "contract"] {
        site.write(&format!("schemas/market/{schema}@v1.0.0.json"), "{}");
    }
    site.write("policies/open.cedar", POLICIES);
    let (mut users, mut keys) = (UsersFile::default(), Vec::new());
    for (name, roles) in [("ada", &["press", "viewer"][..]), ("bob", &["viewer"]), ("eve", &["viewer"])] {
        let (mut user, key) = (User::default(), NewKey::generate().unwrap());
        user.roles = roles.iter().map(|role| (*role).into()).collect();
        users.add_user(name, user).unwrap();
        users.add_key(name, &key, None).unwrap();
        keys.push((name, key.key.expose().to_owned()));
    }
    site.write("users.yaml", &users.to_string());
    (site, keys)
}

/// Sends all of it; where the first is.
async fn send_all(running: &Running) -> String {
    let mut positions = Vec::new();
    for (by, topic, mark) in STORED {
        let answer = post(web(running), &format!("/{by}/{topic}"), &format!("{{\"mark\": \"{mark}\"}}")).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        positions.push(answer.json()["position"].as_str().unwrap().to_owned());
    }
    positions.remove(0)
}

/// The marks in a text.
fn marks(text: &str) -> BTreeSet<&'static str> {
    STORED.into_iter().map(|(_, _, mark)| mark).filter(|mark| text.contains(mark)).collect()
}

fn head(method: &str, path: &str, at: SocketAddr, key: &str, more: &str) -> String {
    let path = path.replace('#', "%23");
    format!("{method} {path} HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {key}\r\n{more}connection: close\r\n\r\n")
}

/// All that a WebSocket subscription hands out, up to the end mark; of one that is refused nothing.
async fn by_web_socket(at: SocketAddr, key: &str, filter: &str, more: Value) -> String {
    let mut socket = Socket::open_as(at, Some(&format!("Bearer {key}"))).await.unwrap();
    let mut ask = json!({ "op": "subscribe", "ref": "s", "filters": [filter], "credit": 64 });
    ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    socket.send(&ask).await;
    let mut heard = String::new();
    loop {
        let frame = socket.next().await;
        heard += &frame.to_string();
        if frame["op"] == "error" || heard.contains("mark-end") {
            return heard;
        }
    }
}

/// The same of a stream of events.
async fn by_events(at: SocketAddr, key: &str, filter: &str, start: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let path = format!("/mesh/v1/events?filter={filter}{start}");
    stream.write_all(head("GET", &path, at, key, more).as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&heard).contains("mark-end") && stream.read_buf(&mut heard).await.unwrap() > 0 {}
    };
    timeout(PATIENCE, read).await.unwrap();
    String::from_utf8(heard).unwrap()
}

/// The same of an MQTT subscription: what is retained, but for one that is shared, and what is published while it is open.
async fn by_mqtt(wire: Wire, version: u8, key: &str, filter: &str, running: &Running) -> String {
    let mut client = Client::over(wire, version, Some(("any", key))).await.unwrap();
    if client.subscribe(filter).await.code >= 0x80 {
        return String::new();
    }
    let mut heard = String::new();
    for retained in [true, false] {
        if !retained {
            send_all(running).await;
        } else if filter.starts_with("$share/") {
            continue;
        }
        heard += "; ";
        while !heard.ends_with("mark-end\"}") {
            heard += &String::from_utf8_lossy(&client.hear().await);
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_out_hands_out_what_its_reader_may_not_read() {
    let (site, keys) = site();
    let running = site.start().await;
    let (at, admin) = (web(&running), running.addresses().admin);
    let first = send_all(&running).await;
    for ((name, key), (reader, filter, may)) in keys.iter().zip(READERS) {
        assert_eq!(*name, reader);
        let may: BTreeSet<_> = may.iter().copied().collect();
        let behind: BTreeSet<_> = may.iter().copied().filter(|mark| *mark != "mark-press").collect();
        let durable = json!({ "start": "earliest", "durable": "all" });
        let mut ways = vec![
            ("earliest", by_web_socket(at, key, filter, json!({ "start": "earliest" })).await, &may),
            ("last", by_web_socket(at, key, filter, json!({ "start": "last" })).await, &may),
            ("durable", by_web_socket(at, key, filter, durable.clone()).await, &may),
            ("durable, again", by_web_socket(at, key, filter, durable).await, &may),
            ("events", by_events(at, key, filter, "&start=earliest", "").await, &may),
            ("last events", by_events(at, key, filter, "&start=last", "").await, &may),
            ("events behind", by_events(at, key, filter, "", &format!("last-event-id: {first}\r\n")).await, &behind),
        ];
        let mut last = String::new();
        for (_, topic, _) in STORED {
            last += &request(at, &head("GET", &format!("/mesh/v1/last/{topic}"), at, key, "")).await.text;
        }
        let page = request(admin, &head("GET", "/messages?limit=1000", admin, key, "")).await;
        assert_eq!(page.status, 200, "{page:?}");
        // of all topics, whatever the filter is
        ways.extend([("last values", last, &may), ("messages", page.text, &may)]);
        for version in [4, 5] {
            let (tcp, web) =
                (Wire::tcp(bridge(&running, "floor")).await, Wire::web_socket(second(&running, "floor")).await);
            ways.push(("MQTT", by_mqtt(tcp, version, key, filter, &running).await, &may));
            ways.push(("MQTT over WebSocket", by_mqtt(web, version, key, filter, &running).await, &may));
            let shared = format!("$share/{name}-{version}/{filter}");
            let tcp = Wire::tcp(bridge(&running, "floor")).await;
            ways.push(("MQTT, shared", by_mqtt(tcp, version, key, &shared, &running).await, &may));
        }
        for (way, heard, may) in ways {
            assert_eq!(marks(&heard), *may, "{name} by {way}: {heard}");
        }
    }
    // who presents nothing: the policies let it send, and read nothing
    for (way, heard) in [
        ("messages", get(admin, "/messages").await.text),
        ("a last value", get(at, "/mesh/v1/last/plant/1").await.text),
        ("events", get(at, "/mesh/v1/events?filter=plant/%23&start=earliest").await.text),
    ] {
        assert!(marks(&heard).is_empty(), "{way}: {heard}");
    }
    assert_eq!(running.drain().await, Drained::Clean);
}

/// A broker of MQTT 3.1.1 that is sent what a mapping sends, and that publishes these topics once it is subscribed to.
pub(crate) async fn broker(publishes: &'static [(&'static str, &'static str)]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serve = async move {
        let (mut heard, mut connections) = (String::new(), tokio::task::JoinSet::new());
        let (tell, mut told) = tokio::sync::mpsc::channel(64);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn(converse(accepted.unwrap().0, publishes, tell.clone()));
                }
                Some(packet) = told.recv() => {
                    heard += &String::from_utf8_lossy(&packet);
                    if heard.contains("mark-end") {
                        return heard;
                    }
                }
            }
        }
    };
    (at, tokio::spawn(serve))
}

async fn converse(mut stream: TcpStream, publishes: &[(&str, &str)], tell: tokio::sync::mpsc::Sender<Vec<u8>>) {
    loop {
        let Ok(first) = stream.read_u8().await else { return };
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let mut answer = match first >> 4 {
            1 => vec![0x20, 2, 0, 0],
            3 => {
                let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                vec![0x40, 2, body[id], body[id + 1]]
            }
            8 => vec![0x90, 3, body[0], body[1], 1],
            12 => vec![0xD0, 0],
            _ => Vec::new(),
        };
        if first >> 4 == 8 {
            for (topic, text) in publishes {
                let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
                let body = [&length[..], topic.as_bytes(), text.as_bytes()].concat();
                answer.extend([0x30, u8::try_from(body.len()).unwrap()]);
                answer.extend(body);
            }
        }
        if first >> 4 == 3 {
            tell.send(body).await.unwrap();
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A feed that says these and then nothing.
async fn feed(says: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = accept_async(stream).await.unwrap();
            for text in says {
                socket.send(Message::text(*text)).await.unwrap();
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_and_goes_to_remote_peers_is_held_to_the_policies_of_their_bridges() {
    let (site, _) = site();
    let (broker, sent) =
        broker(&[("in/secret", "{\"mark\": \"in-secret-broker\"}"), ("in/7", "{\"mark\": \"in-broker\"}")]).await;
    let feed =
        feed(&["{\"to\": \"secret\", \"mark\": \"in-secret-feed\"}", "{\"to\": \"7\", \"mark\": \"in-feed\"}"]).await;
    let bridges = format!(
        "  remote: {{ mqtt_client: {{ servers: [\"mqtt://{broker}\"], version: v3.1.1 }} }}\n  \
         feed: {{ websocket_client: {{ url: \"ws://{feed}/\" }} }}\n"
    );
    site.write("gateway.yaml", &site.config_text(&bridges));
    for (name, mapping) in [
        (
            "in",
            "from: { bridge: remote, address: \"in/{to}\" }\nenvelope: { topic: \"remote/${address.to}\", data: \"${payload}\" }\n",
        ),
        (
            "fed",
            "from: { bridge: feed, address: message }\nenvelope: { topic: \"feed/${payload.to}\", data: \"${payload}\" }\n",
        ),
        ("out", "from: { topic: \"plant/#\" }\nto: { bridge: remote, address: out }\n"),
    ] {
        site.write(&format!("mappings/{name}.yaml"), &format!("mapping: {name}\n{mapping}"));
    }
    let bridges = r#"
permit(principal == Principal::"$bridge:remote", action in Action::"send", resource in Topic::"remote");
permit(principal == Principal::"$bridge:feed", action in Action::"send", resource in Topic::"feed");
permit(principal == Principal::"$bridge:remote", action == Action::"subscribe", resource in Topic::"plant");
@id("kept") forbid(principal, action in Action::"send", resource in Topic::"remote/secret");
@id("kept-too") forbid(principal, action in Action::"send", resource in Topic::"feed/secret");
"#;
    site.write("policies/bridges.cedar", bridges);
    let running = site.start().await;
    send_all(&running).await;
    let sent = timeout(PATIENCE, sent).await.unwrap().unwrap();
    assert_eq!(marks(&sent), ["mark-end", "mark-press"].into(), "{sent}");
    let told = async {
        loop {
            let ledger = get(running.addresses().admin, "/ledger").await.json();
            let of = |bridge: &str| {
                (ledger["bridges"][bridge]["accepted"].clone(), ledger["bridges"][bridge]["rejected"].clone())
            };
            let expected = (json!(1), json!({ "denied": 1 }));
            if (of("remote"), of("feed")) == (expected.clone(), expected) {
                return ledger;
            }
        }
    };
    let ledger = timeout(PATIENCE, told).await.expect("one of each is stored, and one refused");
    assert_eq!(ledger["subscriptions"]["mapping:out"]["refused"], json!({ "denied": 1 }), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
    for (what, is) in [("in-broker", true), ("in-feed", true), ("in-secret-broker", false), ("in-secret-feed", false)] {
        assert_eq!(crate::residency::is_kept(&site.data(), what), is, "{what}");
    }
}
