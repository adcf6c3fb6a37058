//! Subscribers that come back to a position, and what they begin with, over server-sent events and WebSockets.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{PATIENCE, Site, Socket, get, post, web};

const MAPPING: &str = "mapping: note\nfrom: { bridge: web, address: \"POST /notes/{of}\", decode: json }\n\
     envelope: { topic: \"notes/${address.of}\" }\nkeep: last\n";

/// A stream of server-sent events.
struct Events {
    socket: TcpStream,
    seen: String,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    kind: String,
    id: String,
    data: String,
}

impl Events {
    async fn open(address: SocketAddr, query: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /mesh/v1/events?filter=notes/%23&{query} HTTP/1.1\r\nhost: {address}\r\n{last}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut events = Self { socket, seen: String::new() };
        assert!(events.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        events.until("retry: 2000\n\n").await;
        events
    }

    async fn until(&mut self, text: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.seen.find(text) {
                    return self.seen.drain(..at + text.len()).collect();
                }
                let mut bytes = [0; 4_096];
                let count = self.socket.read(&mut bytes).await.unwrap();
                assert!(count > 0, "ends before {text:?}: {}", self.seen);
                self.seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }

    async fn next(&mut self) -> Event {
        loop {
            let block: String = self.until("\n\n").await;
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            let event = Event { kind: field("event:"), id: field("id:"), data: field("data:") };
            // a heartbeat has none
            if !event.data.is_empty() {
                return event;
            }
        }
    }

    async fn values(&mut self, count: usize) -> Vec<(String, i64)> {
        let mut values = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            let envelope: Value = serde_json::from_str(&event.data).unwrap();
            values.push((event.kind, envelope["data"].as_i64().unwrap()));
        }
        values
    }
}

/// A site whose log keeps so many records.
fn site(records: u32) -> Site {
    let site = Site::shipped();
    site.remove("mappings");
    site.write("mappings/note.yaml", MAPPING);
    let text = site.config_text("").replace("data }", &format!("data, retention: {{ records: {records} }} }}"));
    assert!(text.contains("retention"), "{text}");
    site.write("gateway.yaml", &text);
    site
}

/// Stores numbers on one topic; their positions.
async fn note(address: SocketAddr, of: &str, values: std::ops::RangeInclusive<i64>) -> Vec<String> {
    let mut positions = Vec::new();
    for value in values {
        let answer = post(address, &format!("/notes/{of}"), &value.to_string()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        positions.push(answer.json()["position"].as_str().unwrap().to_owned());
    }
    positions
}

fn news(values: std::ops::RangeInclusive<i64>) -> Vec<(String, i64)> {
    values.map(|value| (String::new(), value)).collect()
}

#[tokio::test]
async fn a_durable_stream_gives_again_what_was_written_and_never_arrived() {
    let site = site(1_000);
    let running = site.start().await;
    let address = web(&running);
    let query = "durable=d&start=earliest";
    let positions = note(address, "a", 1..=3).await;
    let mut events = Events::open(address, query, None).await;
    assert_eq!(events.values(3).await, news(1..=3));
    drop(events);
    let mut events = Events::open(address, query, Some(&positions[0])).await;
    assert_eq!(events.values(2).await, news(2..=3), "it had the first");
    drop(events);
    drop(running.drain().await);
    let running = site.start().await;
    let mut events = Events::open(web(&running), query, Some(&positions[1])).await;
    note(web(&running), "a", 4..=4).await;
    assert_eq!(events.values(2).await, news(3..=4), "over a restart as well");
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

#[tokio::test]
async fn a_websocket_goes_on_behind_a_position_and_not_behind_one_of_another_gateway() {
    let (site, other) = (site(1_000), site(1_000));
    let (running, elsewhere) = (site.start().await, other.start().await);
    let positions = note(web(&running), "a", 1..=3).await;
    let foreign = note(web(&elsewhere), "a", 1..=3).await;
    let mut socket = Socket::open(web(&running)).await;
    let subscribe = |name: &str, after: &str| {
        json!({"op": "subscribe", "ref": name, "filters": ["notes/#"], "start": {"after": after}, "credit": 9})
            .to_string()
    };
    assert_eq!(socket.say(&subscribe("s", &positions[0])).await, json!({"op": "subscribed", "sub": "s"}));
    for value in 2..=3 {
        assert_eq!(socket.envelope().await["data"], value);
    }
    let refused = socket.say(&subscribe("t", &foreign[0])).await;
    assert_eq!((&refused["op"], &refused["status"]), (&json!("error"), &json!(409)), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("not one of this store"), "{refused}");
}

#[tokio::test]
async fn who_comes_back_behind_retention_hears_of_the_gap_over_both() {
    let site = site(2);
    let running = site.start().await;
    let address = web(&running);
    let positions = note(address, "a", 1..=6).await;
    let trimmed = async {
        while get(running.addresses().admin, "/ledger").await.json()["store"]["first_sequence"] != 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, trimmed).await.unwrap();
    let mut events = Events::open(address, "start=new", Some(&positions[1])).await;
    assert_eq!(events.next().await.kind, "gap");
    assert_eq!(events.values(2).await, news(5..=6));
    let mut socket = Socket::open(address).await;
    let subscribe =
        json!({"op": "subscribe", "ref": "s", "filters": ["#"], "start": {"after": positions[1]}, "credit": 9});
    assert_eq!(socket.say(&subscribe.to_string()).await, json!({"op": "subscribed", "sub": "s", "gap": true}));
    assert_eq!(socket.envelope().await["data"], 5);
}

#[tokio::test]
async fn last_values_that_a_subscription_begins_with_are_marked_and_news_are_not() {
    let site = site(1_000);
    let running = site.start().await;
    let address = web(&running);
    note(address, "a", 1..=2).await;
    note(address, "b", 3..=3).await;
    let mut socket = Socket::subscribe(address, "notes/#", "last", None).await;
    let mut events = Events::open(address, "start=last", None).await;
    let mark = |frame: &Value| (frame["last"].clone(), frame["envelope"]["data"].clone());
    for value in [2, 3] {
        assert_eq!(mark(&socket.frame("message").await), (json!(true), json!(value)));
    }
    let last = |value| ("last".to_owned(), value);
    assert_eq!(events.values(2).await, [last(2), last(3)]);
    note(address, "a", 4..=4).await;
    assert_eq!(mark(&socket.frame("message").await), (Value::Null, json!(4)));
    assert_eq!(events.values(1).await, news(4..=4));
}

/// Waits until a listener has cut a connection for this reason.
async fn until_cut(admin: SocketAddr, reason: &str) {
    let cut = async {
        loop {
            let metrics = get(admin, "/metrics").await.text;
            let counted =
                |line: &&str| line.starts_with("openmesh_bridge_connections_cut_total{") && line.contains(reason);
            if metrics.lines().find(counted).is_some_and(|line| !line.ends_with(" 0")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_subscriber_that_reads_nothing_or_is_gone_without_a_word_is_cut_and_counted() {
    let site = site(1_000);
    let limited = "http: { write_timeout: 1s, listen";
    let text = std::fs::read_to_string(site.config()).unwrap();
    site.write("gateway.yaml", &text.replace("http: { listen", limited));
    let running = site.start().await;
    let (address, admin) = (web(&running), running.addresses().admin);
    let gone = Events::open(address, "start=new", None).await;
    // from here on nothing reaches it, and nothing of its kernel's comes back
    let nothing = [socket2::SockFilter::new(6, 0, 0, 0)];
    socket2::SockRef::from(&gone.socket).attach_filter(&nothing).unwrap();
    until_cut(admin, "vanished").await;
    let mut deaf = Socket::subscribe(address, "notes/#", "earliest", None).await;
    assert_eq!(deaf.next().await["op"], "subscribed");
    let large = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..16 {
        assert_eq!(post(address, "/notes/a", &large).await.status, 202);
    }
    until_cut(admin, "unread").await;
    drop(deaf);
    assert_eq!(running.drain().await, gateway::drain::Drained::Clean);
}
