//! Streams of 100,000 parts to readers that are slower than who sends: none is lost, and memory stays flat.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use integration::{Gateway, Site, Subscriber, client, eventually};
use serde_json::{Value, json};

const PARTS: u64 = 100_000;
/// What has no answer yet of who sends.
const WINDOW: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the gateway may take more than after the first fifth.
const MORE_KB: u64 = 32_768;

fn assert_balanced(site: &Site) {
    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

/// Publishes these parts in order, as fast as they are taken.
fn publishing(at: SocketAddr, parts: std::ops::Range<u64>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut publisher = Subscriber::connect(at).expect("a publisher");
        publisher.set_patience(PATIENCE);
        let end = parts.end;
        for part in parts.clone() {
            let payload = json!({"part": part, "of": "x".repeat(200)});
            let frame = json!({"op": "publish", "ref": "p", "address": "POST /stream", "payload": payload});
            publisher.send(&frame).expect("it is taken");
            let sent = part + 1 - parts.start;
            if sent.is_multiple_of(WINDOW) || part + 1 == end {
                for _ in 0..(sent - 1) % WINDOW + 1 {
                    let receipt = publisher.frame().expect("a receipt");
                    assert_eq!(receipt["op"], "receipt", "{receipt}");
                }
            }
        }
    })
}

#[test]
fn a_stream_to_a_slow_reader_is_whole_takes_no_memory_and_goes_on_at_its_offset() {
    let site = Site::shipped();
    site.write(
        "mappings/stream.yaml",
        "mapping: stream\nfrom: { bridge: web, address: POST /stream, decode: json }\nenvelope: { topic: camera/7 }\n",
    );
    let gateway = Gateway::start(&site);
    let open = |start: &Value| Subscriber::open(site.http, &["camera/7"], start, None, 64).expect("a reader");
    let mut reader = open(&json!("new"));
    publishing(site.http, 0..PARTS / 5).join().expect("the first fifth is stored");
    let before = gateway.resident_kb();
    let rest = publishing(site.http, PARTS / 5..PARTS);
    let mut most = 0;
    for part in 0..PARTS {
        let message = reader.message().expect("a part");
        assert_eq!(message["envelope"]["data"]["part"], part, "in order, and each once");
        assert_eq!(message["redelivered"], false);
        if part % 10_000 == 9_999 {
            most = most.max(gateway.resident_kb());
            // it leaves without a word, and comes back to where it was
            reader = open(&json!({"after": message["position"]}));
        } else {
            reader.ack(&message).expect("an ack");
        }
    }
    rest.join().expect("all is stored");
    let grown = most.saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < MORE_KB, "{grown} kB more");
    assert_balanced(&site);
}

#[test]
fn a_hundred_thousand_messages_go_past_viewers_that_read_nothing_and_are_cut() {
    let site = Site::shipped();
    site.configure("write_timeout: 2s, websocket: { ping_interval: 1s }", "");
    site.write(
        "mappings/stream.yaml",
        "mapping: stream\nfrom: { bridge: web, address: POST /stream, decode: json }\nenvelope: { topic: camera/7 }\n",
    );
    let gateway = Gateway::start(&site);
    publishing(site.http, 0..PARTS / 5).join().expect("what comes first is stored");
    let before = gateway.resident_kb();
    let socket = Subscriber::open(site.http, &["camera/7"], &json!("new"), None, 1_000).expect("a viewer");
    let mut events = TcpStream::connect(site.http).expect("a connection");
    let ask = format!("GET /mesh/v1/events?filter=camera/7 HTTP/1.1\r\nhost: {}\r\n\r\n", site.http);
    events.write_all(ask.as_bytes()).expect("to ask");
    let mut status = [0; 12];
    events.read_exact(&mut status).expect("a status");
    assert_eq!(&status, b"HTTP/1.1 200");
    publishing(site.http, PARTS / 5..PARTS / 5 + PARTS).join().expect("nobody who reads nothing holds it up");
    let grown = gateway.resident_kb().saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < MORE_KB, "{grown} kB more");
    let cut = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("openmesh_bridge_connections_cut_total"));
        let unread = lines.filter(|line| line.contains("reason=\"unread\""));
        unread.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    // of a WebSocket no more is on its way than its credit, which the kernel may hold: it is closed as one that is silent
    eventually("both are cut, and who did not take what there was is counted", PATIENCE, || {
        let metrics = client::get(&site.admin_url("/metrics")).text;
        let closed = metrics.contains("openmesh_bridge_websockets{bridge=\"web\"} 0\n");
        (cut(&metrics) >= 1 && closed).then_some(())
    });
    let log = fs::read_to_string(site.scratch("gateway.log")).expect("the log");
    let address = events.local_addr().expect("its address").to_string();
    assert!(log.lines().any(|line| line.contains(&address) && line.contains("cut")), "{address} is not named");
    drop((socket, events));
    assert_balanced(&site);
}

/// An agent that answers each request in so many parts.
fn answering(at: SocketAddr) -> JoinHandle<()> {
    let mut agent = Subscriber::open(at, &["market/#"], &json!("new"), None, 8).expect("an agent");
    agent.set_patience(PATIENCE);
    thread::spawn(move || {
        let asked = agent.message().expect("a request")["envelope"].clone();
        for part in 0..PARTS {
            let reply = json!({
                "op": "reply", "ref": "r", "to": asked["replyto"], "inreplyto": asked["id"], "payload": {"part": part},
                "more": part + 1 < PARTS,
            });
            agent.send(&reply).expect("it is taken");
            if (part + 1).is_multiple_of(WINDOW) || part + 1 == PARTS {
                for _ in 0..=part % WINDOW {
                    let said = agent.frame().expect("an answer");
                    assert_eq!(said["op"], "filtered", "{said}");
                }
            }
        }
    })
}

#[test]
fn an_answer_in_parts_to_a_slow_reader_is_whole_and_takes_no_memory() {
    let site = Site::shipped();
    site.write(
        "mappings/ask.yaml",
        "mapping: ask\nfrom: { bridge: web, address: POST /ask }\n\
         envelope: { topic: market/ask, performative: request }\nack: consumer\n\
         reply:\n  - within: 5m\n    body: { n: \"${payload.part}\" }\n",
    );
    site.write(
        "policies/replies.cedar",
        "permit (principal, action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n",
    );
    let gateway = Gateway::start(&site);
    let agent = answering(site.http);
    let before = gateway.resident_kb();
    let mut stream = TcpStream::connect(site.http).expect("the gateway");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let at = site.http;
    write!(stream, "POST /ask HTTP/1.1\r\nhost: {at}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}")
        .expect("to ask");
    let (mut lines, mut line) = (BufReader::with_capacity(1_024, stream), String::new());
    while line != "\r\n" {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a header") > 0, "it ends before the answer");
        assert!(!line.starts_with("HTTP/") || line.contains(" 200 "), "{line}");
    }
    let (mut heard, mut most) = (0, 0);
    loop {
        line.clear();
        lines.read_line(&mut line).expect("the length of a chunk");
        let length = usize::from_str_radix(line.trim(), 16).expect("a length");
        let mut chunk = vec![0; length + 2];
        lines.read_exact(&mut chunk).expect("a chunk");
        if length == 0 {
            break;
        }
        let text = std::str::from_utf8(&chunk[..length]).expect("text");
        for part in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            assert_eq!(part.expect("a part")["n"], heard, "in order, and each once");
            heard += 1;
            if heard % 10_000 == 0 {
                most = most.max(gateway.resident_kb());
            }
        }
    }
    assert_eq!(heard, PARTS);
    agent.join().expect("all parts are taken");
    let grown = most.saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < MORE_KB, "{grown} kB more");
    assert_balanced(&site);
}

#[test]
fn a_sealed_topic_takes_nothing_more_and_is_read_from_its_beginning_over_a_restart() {
    let site = Site::shipped();
    let gateway = Gateway::start(&site);
    let post = |number: u32| {
        let body = format!("{{\"f\":{number},\"unit\":\"F\"}}");
        client::post(&site.url("/telemetry/7/temperature"), &body)
    };
    assert!((0..3).all(|number| post(number).status == 202));
    site.write(
        "policies/sealed.cedar",
        "@id(\"sealed\")\nforbid (principal, action in Action::\"send\", resource in Topic::\"telemetry/7\");\n",
    );
    integration::eventually("it is sealed", PATIENCE, || (post(9).status == 403).then_some(()));
    assert_eq!(post(9).body["decided_by"], "sealed#sealed");
    gateway.kill();
    let _gateway = Gateway::start(&site);
    assert_eq!(post(9).status, 403);
    let mut reader = Subscriber::open(site.http, &["telemetry/7/#"], &json!("earliest"), None, 100).expect("a reader");
    for number in 0..3 {
        let message = reader.message().expect("what was there before");
        let celsius = message["envelope"]["data"]["celsius"].as_f64().expect("a number");
        assert!((celsius - (f64::from(number) - 32.0) * 5.0 / 9.0).abs() < 1e-9, "{message}");
    }
    assert_balanced(&site);
}
